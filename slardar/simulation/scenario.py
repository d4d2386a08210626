"""What is simulated, as a user writes it: an upstream, its servers, the load, and failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from slardar import plugins
from slardar.config import Health
from slardar.errors import ConfigError
from slardar.model.parse import parse_upstream
from slardar.model.reader import Problems, read, shown
from slardar.model.server import Upstream
from slardar.model.yaml_file import read_file

__all__ = ["Behaviour", "Change", "Load", "Scenario", "read_scenario"]

Seconds = Annotated[float, Meta(ge=0, le=1e6)]
Share = Annotated[float, Meta(ge=0, le=1)]
#: A value of the header: no other could be sent.
Hint = Annotated[str, Meta(pattern=r"^[!-~ ]*\Z", max_length=200)]
#: The name of the server that stands for all that are not named.
ALL = "*"


class Behaviour(Struct, forbid_unknown_fields=True, frozen=True):
    """How a server serves."""

    #: Seconds that it works on a request, on average, and how they differ: not at all, or as
    #: in a queue of the textbook.
    time: Seconds = 0.02
    spread: Literal["constant", "exponential"] = "exponential"
    #: Requests that it works on at one time; more wait within it.  0: no limit.
    capacity: Annotated[int, Meta(ge=0)] = 0
    #: The share of its replies that are 500.
    errors: Share = 0.0
    #: What it says in ``X-Slardar-Hint``, in each reply.
    hint: Hint = ""
    #: With so many requests in it, it says ``full`` in its replies.  0: it never does.
    full_at: Annotated[int, Meta(ge=0)] = 0
    #: After it was ``dead``, it takes so many times as long for a request at first, and falls
    #: evenly to ``time`` within ``warm_up`` seconds.
    cold: Annotated[float, Meta(ge=1, le=1e6)] = 1.0
    warm_up: Seconds = 0.0


class Change(Struct, forbid_unknown_fields=True, frozen=True):
    """What happens to a server at a time.

    ``dead`` refuses connections and breaks those that are open.  ``silent`` takes requests, and
    accepts no connection, without a word.  ``up`` is neither.  A change of ``slow`` (a factor
    of its time), ``errors`` or ``hint`` leaves the rest as it is.
    """

    at: Seconds
    server: str
    state: Literal["up", "dead", "silent"] | None = None
    slow: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    errors: Share | None = None
    hint: Hint | None = None


class Load(Struct, forbid_unknown_fields=True, frozen=True):
    """The requests, where no access log has them: ``rate`` a second, at times of their own."""

    rate: Annotated[float, Meta(gt=0, le=1e6)] = 100.0
    seconds: Annotated[float, Meta(gt=0, le=1e6)] = 60.0
    #: How many paths and clients there are; each is as likely as any other.
    paths: Annotated[int, Meta(ge=1)] = 10000
    clients: Annotated[int, Meta(ge=1)] = 1000
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    #: Bytes of the body of each ``POST``, ``PUT`` and ``PATCH``, those of an access log too.
    body: Annotated[int, Meta(ge=0, le=10**9)] = 0


class _File(Struct, forbid_unknown_fields=True):
    upstream: dict[str, Any]
    servers: dict[str, Behaviour] = {}
    load: Load = Load()
    failures: tuple[Change, ...] = ()
    #: The settings of heartbeats.
    health: Health = Health()
    #: Workers, which tell each other what they learn of servers.
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    #: Seconds that a connection takes to be made.
    connect: Seconds = 0.001


class Scenario:
    """A scenario that has been checked."""

    def __init__(self, upstream: Upstream, file: _File) -> None:
        self.upstream = upstream
        self.load = file.load
        self.connect = file.connect
        self.health = file.health
        self.workers = file.workers
        self.changes = file.failures
        self._behaviours = file.servers

    def behaviour(self, key: str) -> Behaviour:
        """How the server ``host:port`` serves at the beginning."""
        found = self._behaviours.get(key) or self._behaviours.get(ALL)
        return Behaviour() if found is None else found


def read_scenario(path: str, mode: str | None = None) -> Scenario:
    """The scenario in a YAML file; ``mode`` is used instead of its upstream's.

    Raises ConfigError.
    """
    plain = read_file(path)
    expected = ", ".join(_File.__struct_fields__)
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{path}: expected an object of {expected}, got {shown(plain)}")
    problems = Problems()
    file = read(_File, plain, "", problems)
    if any(key not in _File.__struct_fields__ for key in plain):
        problems.lines.append(f"the keys are {expected}")
    if file is None or problems.lines:
        raise ConfigError([f"{path}: {line}" for line in problems.lines])
    body = dict(file.upstream)
    if mode is not None:
        body["mode"] = mode
        body.pop("mode_opts", None)
    upstream = parse_upstream("simulated", body, "upstream", plugins)
    known = {server.key for server in upstream.servers}
    named = {ALL: "", **dict.fromkeys(file.servers, "servers")}
    named.update((change.server, "failures") for change in file.failures)
    for key, where in named.items():
        if key not in known and (key != ALL or where == "failures"):
            raise ConfigError(f"{where}: the upstream has no server {key!r}")
    return Scenario(upstream, file)
