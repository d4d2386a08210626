"""A store, a data plane and an HTTP client for tests of the control channel."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace
from twisted.internet import defer
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from slardar.config import Metrics, Settings, parse_settings
from slardar.control.actions import Actions
from slardar.control.http import make_site
from slardar.dataplane.decision import Candidate, Decision, LevelDecision, Preview
from slardar.dataplane.explanation import DecisionTold, Explanation, explanation_of
from slardar.errors import ConfigError, ConflictError
from slardar.health.verdicts import Extra, Heartbeat, Verdict
from slardar.hooks.engine import ScriptError
from slardar.hooks.notices import Checked
from slardar.hooks.report import HookTally
from slardar.http1.request import parse_request
from slardar.interfaces import IPlane, IStore
from slardar.model.change import Change, Recorded, Revision, StoredState
from slardar.model.live import ServerLive
from slardar.model.snapshot import Snapshot
from slardar.observers.counted import Counted
from slardar.observers.exposition import Facts
from slardar.observers.totals import Totals
from slardar.stores.history import History
from slardar.stores.written import encode
from tests.fake_plugins import FakePlugins

__all__ = [
    "NOW",
    "PLUGINS",
    "FakePlane",
    "FakeStore",
    "Reply",
    "WebClient",
    "error_of",
    "make_actions",
    "result_of",
    "upstream",
]

#: The time of every test, in epoch seconds.
NOW = 1_700_000_000.0


def result_of(deferred: defer.Deferred[Any]) -> Any:
    """The result of a Deferred that has fired; raises the exception if it has failed."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    assert found, "the Deferred has not fired"
    if hasattr(found[0], "raiseException"):
        found[0].raiseException()
    return found[0]


def error_of(deferred: defer.Deferred[Any], kind: type[Exception]) -> str:
    """The message of the exception with which a Deferred has failed."""
    try:
        result = result_of(deferred)
    except kind as error:
        return str(error)
    raise AssertionError(f"expected {kind.__name__}, got {result!r}")


def check_mode(mode: str, mode_opts: Mapping[str, Any], where: str) -> None:
    """Accepts two balancers without options, and no others."""
    if mode not in ("wrr", "hash"):
        raise ConfigError(f"{where}.mode: no balancer {mode}")


#: The plugins of the configurations here.
PLUGINS = FakePlugins(check_mode)


def upstream(*ports: int, **rest: Any) -> dict[str, Any]:
    """An upstream of servers on local ports, as a user writes it."""
    return {"servers": [{"host": "127.0.0.1", "port": port} for port in ports], **rest}


@implementer(IStore)
class FakeStore:
    """Starts with a given state; a test may make it fail, or hold its answers back."""

    def __init__(self, state: StoredState | None = None) -> None:
        #: Its revision is a word that grows by a character with each commit, so that no test
        #: can take it for the version.
        self.state = replace(state or StoredState(), revision="r")
        #: What was committed; what the file says is apart.
        self.changes: list[Change] = []
        self.said: list[Change] = []
        self.past = History(self.state.version)
        self.error: Exception | None = None
        #: If this is a list, commits wait in it until a test calls one.
        self.held: list[Any] | None = None

    def open(self) -> defer.Deferred[Any]:
        return defer.fail(self.error) if self.error else defer.succeed(self.state)

    def commit(
        self, expected: Revision, changes: Sequence[Change], version: int
    ) -> defer.Deferred[Revision]:
        done: defer.Deferred[Revision] = defer.Deferred()

        def write() -> None:
            if self.error is not None:
                done.errback(self.error)
            elif expected != self.state.revision:
                done.errback(ConflictError(f"the store is at revision {self.state.revision}"))
            else:
                of_file = [one for one in changes if one.kind == "file" and one.name]
                self.said += of_file
                self.changes += [one for one in changes if one not in of_file]
                self.past.add(version, [(one, encode(one)) for one in changes])
                self.state = self.state.after(changes, version, f"{self.state.revision}+")
                done.callback(self.state.revision)

        if self.held is None:
            write()
        else:
            self.held.append(write)
        return done

    def keep_history(self, versions: int) -> None:
        self.past.keep = versions

    def history(self, before: int | None, limit: int) -> defer.Deferred[list[Recorded]]:
        return (
            defer.fail(self.error) if self.error else defer.execute(self.past.page, before, limit)
        )

    def state_at(self, version: int) -> defer.Deferred[StoredState]:
        return defer.fail(self.error) if self.error else defer.execute(self.past.state_at, version)

    def close(self) -> defer.Deferred[None]:
        return defer.succeed(None)


@implementer(IPlane)
class FakePlane:
    """Records what it gets; a test may make it fail, or hold its answers back."""

    def __init__(self) -> None:
        self.applied: list[tuple[Snapshot, list[str]]] = []
        self.settings: list[Settings] = []
        self.reopened = 0
        self.live: dict[str, dict[str, ServerLive]] = {}
        self.names: dict[str, Any] = {}
        self.error: Exception | None = None
        self.held: list[Any] | None = None
        #: For how many seconds it was asked to time servers.
        self.timed = 0.0
        #: The hooks that it was asked to check: names, and the modules to load each with.
        self.checked: list[tuple[str, Mapping[str, str] | None]] = []
        self.tally = HookTally()
        self.upstream_counts: dict[str, dict[str, int]] = {}
        #: The control channel uses no listener of the plane.
        self.opened: list[Any] = []
        metrics = Metrics()
        self.totals = Totals(metrics.buckets, metrics.added_buckets)
        #: What it was asked to explain, and what it knows of decisions.
        self.questions: list[tuple[bytes, str]] = []
        self.decisions: dict[str, DecisionTold] = {}
        #: The stored hooks that it was asked to check.
        self.stored: dict[Any, Any] = {}

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that is served now."""
        return self.applied[-1][0]

    def listen(self, endpoint: str, sockets: Sequence[Any] = ()) -> defer.Deferred[str]:
        return defer.succeed(endpoint)

    def own(self) -> None:
        """Nothing was handed over."""

    def start(self) -> defer.Deferred[None]:
        return defer.succeed(None)

    def stop(self, within: float | None = None, grace: float | None = None) -> defer.Deferred[None]:
        return defer.succeed(None)

    def hurry(self, within: float) -> None:
        """Nothing is under way."""

    def set_health(self, verdicts: Iterable[Verdict]) -> None:
        """No server is ever out of service."""

    def known_health(self) -> Iterator[Verdict]:
        return iter(())

    def collect(self) -> Iterator[None]:
        return iter(())

    def take_counted(self, counted: Counted) -> None:
        self.totals.take(counted, self.snapshot)

    def time_servers(self, seconds: float) -> None:
        self.timed = seconds

    def facts(self) -> Facts:
        return Facts({"tcp:8080": 1}, {}, {"alive": 1}, 0, 0, lambda *_: (True, 0))

    def set_checked(self, verdicts: Iterable[Heartbeat]) -> None:
        """Nor do heartbeats say so."""

    def set_extras(self, extras: Iterable[Extra]) -> None:
        """No server is ejected here."""

    def hint(self, upstream: str, host: str, port: int, value: str) -> None:
        """Nobody is believed here."""

    def known_extras(self) -> Iterator[Extra]:
        """None is."""
        return iter(())

    def known_checked(self) -> Iterator[Heartbeat]:
        return iter(())

    def apply(self, snapshot: Snapshot, changed: Collection[str]) -> defer.Deferred[Any]:
        if self.error is not None:
            raise self.error
        self.applied.append((snapshot, list(changed)))
        done: defer.Deferred[Any] = defer.Deferred()
        answer = {"workers": {"worker-0": snapshot.version}}
        if self.held is None:
            done.callback(answer)
        else:
            self.held.append(lambda: done.callback(answer))
        return done

    def take_settings(self, settings: Settings) -> defer.Deferred[None]:
        self.settings.append(settings)
        return defer.succeed(None)

    def take_keyring(self, keyring: Any) -> defer.Deferred[None]:
        return defer.succeed(None)

    def take_tickets(self, keys: Any) -> defer.Deferred[None]:
        return defer.succeed(None)

    def reopen_logs(self) -> None:
        self.reopened += 1

    def check_hook(
        self,
        language: str,
        name: str,
        code: str,
        modules: Mapping[str, str] | None,
        settings: Mapping[str, str] | None = None,
    ) -> defer.Deferred[tuple[str, ...]]:
        """Code names modules with ``use NAME``, and is refused if it contains ``wrong``; with
        ``fails`` in it, or in a module, it cannot be loaded, and with ``reads-NAME`` only if there
        is such a setting."""
        self.checked.append((name, modules))
        requires = tuple(word for word in code.split() if word.startswith("modules."))
        if "wrong" in code:
            return defer.fail(ScriptError(f"{name}: line 1: expected better code"))
        if modules is not None:
            read = [word[6:] for word in code.split() if word.startswith("reads-")]
            if any(word not in (settings or {}) for word in read):
                return defer.fail(ScriptError(f"{name}: line 1: there is no such setting"))
            for module in requires:
                if module not in modules:
                    return defer.fail(ScriptError(f"{name}: module {module} is not active"))
            if "fails" in code or any("fails" in modules[module] for module in requires):
                return defer.fail(ScriptError(f"{name}: line 1: it fails"))
        warnings = (
            ("line 1: ngx.sleep is not available in hooks: \u00e9",) if "warns" in code else ()
        )
        return defer.succeed(Checked.of(requires, warnings))

    def check_stored(self, hooks: Mapping[Any, Any]) -> defer.Deferred[None]:
        self.stored = dict(hooks)
        return defer.succeed(None)

    def explain(self, head: bytes, client: str) -> defer.Deferred[Explanation]:
        """As a plane without hooks and balancers: the upstream, and its first server."""
        self.questions.append((head, client))
        request = parse_request(head)
        choice = self.snapshot.choose(request.host, request.path)
        upstream = None if choice.upstream is None else self.snapshot.upstreams.get(choice.upstream)
        preview = None
        if upstream is not None:
            server = upstream.servers[0]
            one = Candidate(server.key, "ok", server.weight, 0, "")
            preview = Preview((LevelDecision("", True, (one,), "0"),), server.key, False, None)
        decision = Decision(choice, "wrr", preview, "" if preview else "no upstream")
        return defer.succeed(explanation_of(decision, request, (), None, 0, "worker-0", None))

    def decision(self, decision_id: str) -> defer.Deferred[DecisionTold | None]:
        return defer.succeed(self.decisions.get(decision_id))

    def hook_tally(self) -> HookTally:
        return self.tally

    def counts(self, upstream: str) -> Mapping[str, int]:
        return self.upstream_counts.get(upstream, {})

    def peers(self, upstream: str) -> Mapping[str, ServerLive]:
        return self.live.get(upstream, {})

    def statistics(self) -> Mapping[str, Any]:
        return {
            "requests": 7,
            "connections": 2,
            "config_timer": {"worker-0": "alive"},
            "workers": {"worker-0": {"pid": 5}},
            "names": self.names,
        }


def make_actions(store: Any, plane: FakePlane, **settings: Any) -> Actions:
    """Operations that have been started, with these settings of the file."""
    actions = Actions(parse_settings(settings), store, plane, PLUGINS, lambda: NOW)
    result_of(actions.start())
    return actions


class Reply(NamedTuple):
    """A reply as a client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


class Transport(StringTransport):
    """A connection in memory that records how it ended."""

    aborted = False
    #: Whether the client does not read, so that too many bytes wait for it.
    stalls = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.stalls and self.producer is not None:
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


class WebClient:
    """One connection to the control channel, in memory."""

    def __init__(
        self, actions: Actions, host: Any = None, *, site: Any = None, **control: Any
    ) -> None:
        self.clock = Clock()
        settings = parse_settings({"control": control})
        self.site = site or make_site(actions, settings.control, self.clock)
        host = host or IPv4Address("TCP", "127.0.0.1", 1995)
        self.transport = Transport(host, host)
        self.channel = self.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Send bytes to the server."""
        self.channel.dataReceived(data)

    def received(self) -> Reply | None:
        """The next reply, if one is complete; a 100 is skipped."""
        data = self.transport.value()
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            return None
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(text.split(": ", 1) for text in lines)
        length = int(headers.get("Content-Length", "0"))
        body = rest[:length]
        assert len(body) == length, "a reply is cut short"
        self.transport.clear()
        self.transport.write(rest[length:])
        return Reply(int(line.split(" ")[1]), headers, body)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """One whole call; ``body`` is bytes, or a value for JSON.

        Headers are named with underscores; ``Host`` is this machine's if not given.
        """
        self.request(method, path, body, **headers)
        reply = self.received()
        assert reply is not None, "no reply"
        return reply

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> None:
        """Send a call without expecting its reply."""
        data = b""
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers.setdefault("Content_Length", str(len(data)))
        headers.setdefault("Host", "127.0.0.1:1995")
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + data)
