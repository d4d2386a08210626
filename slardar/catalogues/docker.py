"""Services in Docker: containers with the label ``slardar.upstream`` are the servers.

Containers are listed when slardar begins, after every event that concerns them, and anew every
minute, as a stream of events that is silent may be dead.  All services share one stream.  Nothing
but ``GET /version``, ``/events`` and ``/containers/json`` is ever sent.
"""

# Twisted's endpoints have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from msgspec import Struct, field
from twisted.internet import defer
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import deferLater
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from slardar.catalogues.base import Catalogue, Failed, Report
from slardar.catalogues.containers import Container, listing_of
from slardar.catalogues.http import TIMEOUT, Answer, AskError, Ended, Source, decoded
from slardar.catalogues.pace import Pace
from slardar.model.names import host_port, split_host_port
from slardar.model.service import Origin
from slardar.quiet import QuietPool
from slardar.repeated import Lookups, Schedule

__all__ = ["DEFAULT_HOST", "GATHER", "ROUND", "DockerCatalogue"]

#: Where Docker listens, unless ``DOCKER_HOST`` says it.
DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
#: Seconds after which a new stream of events takes the place of one, and containers are listed.
ROUND: Final = 60.0
#: Seconds for which events are gathered before containers are listed; more in a storm, once
#: they have been listed so often.
GATHER: Final = 0.02
_LONGEST: Final = 0.5
_BURST: Final = 5
#: Seconds after an event at which containers are listed again: Docker tells of a pause before its
#: list shows it, and a busy disk makes that long.
SETTLE: Final = (0.25, 2.0)
#: Versions of the API: the oldest that filters by health, and the newest this was read against.
_OLDEST: Final = (1, 25)
_NEWEST: Final = (1, 41)
#: Events after which containers are listed; others, such as those of health checks, come often.
_EVENTS: Final = ("start", "die", "destroy", "pause", "unpause", "health_status", "update")
#: Containers that serve; one that is starting does not yet.
_WANTED: Final = {
    "label": ["slardar.upstream"],
    "status": ["running"],
    "health": ["healthy", "none"],
}


class _Version(Struct, rename="pascal"):
    api_version: str
    min_api_version: str = field(name="MinAPIVersion", default="1.12")


class _Event(Struct, rename="pascal"):
    action: str = ""


class DockerCatalogue(Catalogue):
    """See the module.

    ``host`` is as in ``DOCKER_HOST``, which is the default; ``draw()`` is a number from 0 to 1.
    """

    def __init__(
        self,
        reactor: Any,
        host: str | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self._draw = draw
        self._host = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self._followed: dict[str, Callable[[Report], None]] = {}
        #: What is known of all containers, and where their host is; ``None`` before the first
        #: list, and while Docker cannot be asked.
        self._known: tuple[Mapping[str, list[Container]], str] | None = None
        self._schedule = Schedule()
        self._pace = Pace(4 * GATHER, _LONGEST, _BURST)
        self._rounds = Lookups(reactor, self._begin, self._ended, str, lambda: False)

    def follow(self, origin: Origin, told: Callable[[Report], None]) -> None:
        """See :meth:`Catalogue.follow`."""
        self._followed[origin[1]] = told
        if self._known is not None:
            self._tell(origin[1])
        self._rounds.begin("")

    def unfollow(self, origin: Origin) -> None:
        """See :meth:`Catalogue.unfollow`."""
        del self._followed[origin[1]]
        if not self._followed:
            self._known = None
            self._rounds.end("")

    def stop(self) -> None:
        """See :meth:`Catalogue.stop`."""
        self._followed = {}
        self._rounds.stop()

    def _begin(self, _name: str) -> defer.Deferred[str]:
        return defer.Deferred.fromCoroutine(self._round())

    def _ended(self, _name: str, reason: str) -> float:
        """A round has ended.  Returns the seconds until the next one."""
        if not reason:
            return 0.0
        self._known = None
        for told in list(self._followed.values()):
            told(Failed(reason))
        return self._schedule.bad(reason) * (1.0 - 0.5 * self._draw())

    async def _round(self) -> str:
        """Hear events for a while, and list the containers after each.  Returns why that is not
        possible any more; empty if its time is over."""
        until = self._reactor.seconds() + ROUND * (1.0 - 0.1 * self._draw())
        # Services that are followed together are told together, of a failure too.
        await deferLater(self._reactor, 0)
        try:
            source, base, address = _place(self._reactor, self._host)
            base = f"{base}/v{_version(await source.get(f'{base}/version'))}"
            # Before the first list, so that no event is missed.
            events = await source.open(_url(f"{base}/events", type=["container"], event=_EVENTS))
            again: list[float] = []
            try:
                while True:
                    text = await source.get(_url(f"{base}/containers/json", **_WANTED))
                    self._take(decoded(text, list[Container]), address)
                    if await self._heard(events, min([until, *again])):
                        again = [self._reactor.seconds() + delay for delay in SETTLE]
                    elif not again:
                        return ""
                    else:
                        del again[0]
            finally:
                events.close()
        except Ended:
            return f"{self._host}: the stream of events has ended"
        except AskError as error:
            return f"{self._host}: {error}"

    async def _heard(self, events: Answer, until: float) -> bool:
        """Wait for an event that matters, and for those that come with it.  Returns whether there
        was one before ``until``."""
        matters = False
        while not matters:
            line = await events.line(until)
            if line is None:
                return False
            matters = decoded(line, _Event).action.partition(":")[0] in _EVENTS
        await deferLater(self._reactor, max(GATHER, self._pace.delay(self._reactor.seconds())))
        while await events.line(0) is not None:
            pass
        return True

    def _take(self, containers: list[Container], address: str) -> None:
        self._schedule.good(0, 0)
        by_label: dict[str, list[Container]] = {}
        for one in containers:
            by_label.setdefault((one.labels or {}).get("slardar.upstream", ""), []).append(one)
        self._known = by_label, address
        for name in list(self._followed):
            self._tell(name)

    def _tell(self, name: str) -> None:
        if self._known is not None and name in self._followed:
            by_label, address = self._known
            self._followed[name](listing_of(by_label.get(name, ()), address))


@implementer(IAgentEndpointFactory)
class _Socket:
    """Connects to a UNIX socket, whatever the URL."""

    def __init__(self, reactor: Any, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def endpointForURI(self, uri: URI) -> UNIXClientEndpoint:
        """Where a URL is."""
        return UNIXClientEndpoint(self._reactor, self._path, TIMEOUT)


def _place(reactor: Any, host: str) -> tuple[Source, str, str]:
    """What asks Docker, how its URLs begin, and the address of its host.  Raises AskError."""
    pool = QuietPool(reactor, persistent=False)
    kind, _, rest = host.partition(":")
    if kind == "unix" and rest.startswith("/"):
        path = "/" + rest.lstrip("/")
        agent = Agent.usingEndpointFactory(reactor, _Socket(reactor, path), pool)
        return Source(reactor, agent), "http://docker", "127.0.0.1"
    found = split_host_port(rest.removeprefix("//").removesuffix("/"))
    if kind not in ("tcp", "http") or found is None:
        raise AskError("DOCKER_HOST: expected unix://PATH or tcp://HOST:PORT")
    if os.environ.get("DOCKER_TLS_VERIFY"):
        raise AskError("DOCKER_TLS_VERIFY: Docker is not asked over TLS")
    return (
        Source(reactor, Agent(reactor, connectTimeout=TIMEOUT, pool=pool)),
        f"http://{host_port(*found)}",
        found[0],
    )


def _version(text: bytes) -> str:
    """The version of the API to use.  Raises AskError."""
    said = decoded(text, _Version)
    newest, oldest = map(_numbers, (said.api_version, said.min_api_version))
    if newest < _OLDEST:
        raise AskError(f"its API is {said.api_version}, and 1.25 is needed")
    return ".".join(map(str, max(oldest, min(newest, _NEWEST))))


def _numbers(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", text)
    if found is None:
        raise AskError("it does not say the version of its API")
    return int(found[1]), int(found[2])


def _url(place: str, **filters: Any) -> str:
    return f"{place}?{urlencode({'filters': msgspec.json.encode(filters).decode()})}"
