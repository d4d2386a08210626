"""Hooks in the data plane: where requests go, the counters, and real sockets."""

from __future__ import annotations

import gc
import json
import socket
import time
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer

from slardar.balancers.wrr import WeightedRoundRobin
from slardar.config import Hooks, Limits, Settings, Timeouts
from slardar.dataplane.proxy import DataPlane
from slardar.dataplane.router import Router
from slardar.errors import ConfigError, NotReadyError
from slardar.hooks.engine import ScriptError
from slardar.hooks.loaded import mark_of
from slardar.hooks.runner import Hooked, Runner
from slardar.http1.interfaces import (
    ChannelBase,
    ChannelProtocol,
    HookedRequest,
    HooksBase,
    Step,
)
from slardar.model.hook import Hook
from slardar.model.live import Live
from slardar.model.parse import parse_routes, parse_upstream
from slardar.model.snapshot import Choice, Snapshot
from tests.dataplane.kit import HandReactor, logged
from tests.dataplane.test_proxy import Refused, Site, request, upstream
from tests.hooks.kit import Action, FakeEngine, code, hook, hooks, reply_of, request_of
from tests.integration.sockets import Connection, Origin, Served, in_thread, reply, wait_for

A = "script.a"


def engine_of(plane: DataPlane, actions: Mapping[str, Action]) -> FakeEngine:
    """Let a plane run hooks on an engine of the test."""
    engine = FakeEngine(actions=actions)

    def make_runner(settings: Hooks) -> Runner:
        return Runner(settings, lambda: 0.0, engines=lambda *_: engine)

    plane._plane_hooks.make_runner = make_runner
    return engine


class Answered(Refused):
    """Writes down what hooks answered, too."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[int, bytes]] = []

    def answer(self, reply: Any, body: bytes) -> None:
        self.answers.append((reply.status, body))


class HookSite(Site):
    """A site with hooks."""

    def __init__(self, hand: HandReactor, **actions: Action) -> None:
        super().__init__(hand)
        self.engine = engine_of(
            self.plane, {name.replace("__", ":"): one for name, one in actions.items()}
        )

    def hook(self, *some: Hook) -> Any:
        """Run these hooks as well from now on."""
        self.snapshot = self.snapshot.with_hooks(hooks(*some))
        return self.plane.apply(self.snapshot, [])

    def unhook(self) -> None:
        """Run no hooks."""
        self.snapshot = self.snapshot.with_hooks(dict.fromkeys(self.snapshot.hooks))
        self.plane.apply(self.snapshot, [])

    def goes_to(self, host: str, on: str | None = None) -> Any:
        """The upstream of a request, or how it is refused or answered."""
        downstream = Answered()
        if on is None:
            exchange = self.plane.begin(downstream, request(host))
        else:
            exchange = self.plane.begin_on(on, downstream, request(host))
        if exchange is None:
            return (downstream.refusals or downstream.answers)[0]
        self.plane.exchanges -= 1
        return exchange.selection.name


def chooses(**values: Any) -> Action:
    """A hook that sets attributes of the request."""

    def action(request: Any, _: Any) -> None:
        for name, value in values.items():
            setattr(request, name, value)

    return action


@pytest.fixture
def sites(hand: HandReactor) -> Iterator[Any]:
    """Makes sites that end with the test."""
    made: list[HookSite] = []

    def make(**actions: Action) -> HookSite:
        site = HookSite(hand, **actions)
        site.plane.start()
        site.put(upstream("a", "10.0.0.1"), upstream("b", "10.0.0.2"))
        made.append(site)
        return site

    yield make
    for site in made:
        site.plane._poller.stop()


# Where a request goes.


def test_plane_without_hooks_has_none(sites: Any) -> None:
    """Nothing is made for hooks, also after the last hook is removed."""
    site = sites()
    assert site.plane.hooks is None
    assert site.plane._plane_hooks.runner is None
    site.hook(hook("modules.x", "ex"))
    assert site.plane.hooks is None
    site.hook(hook(A, "nothing"))
    assert site.plane.hooks is not None
    site.unhook()
    assert site.plane.hooks is None
    assert site.goes_to("a") == "a"


def test_hook_chooses_the_upstream(sites: Any) -> None:
    """The choice wins over Host, routes, and the upstream that a downstream names."""
    site = sites(choose=chooses(upstream="b"))
    site.hook(hook(A, "choose"))
    assert site.goes_to("a") == "b"
    assert site.goes_to("a", on="a") == "b"
    routes = parse_routes([{"host": "a", "upstream": "a"}], "routes")
    site.snapshot = site.snapshot.with_routes(routes)
    site.plane.apply(site.snapshot, [])
    assert site.goes_to("a") == "b"


def test_hook_changes_the_host(sites: Any) -> None:
    """The new Host decides with routes; an upstream that a downstream names stays."""
    site = sites(move=chooses(host="b"))
    site.hook(hook("script.*", "move"))
    assert site.goes_to("a") == "b"
    assert site.goes_to("a", on="a") == "a"
    routes = parse_routes([{"host": "b", "upstream": "a"}], "routes")
    site.snapshot = site.snapshot.with_routes(routes)
    site.plane.apply(site.snapshot, [])
    assert site.goes_to("b") == "a"
    assert site.goes_to("c") == "a"


def test_hook_changes_the_path(sites: Any) -> None:
    """Routes use the new path."""
    site = sites(move=chooses(path="/b/x"))
    site.hook(hook("script.*", "move"))
    routes = parse_routes([{"host": "a", "path": "/b/", "upstream": "b"}], "routes")
    site.snapshot = site.snapshot.with_routes(routes)
    site.plane.apply(site.snapshot, [])
    assert site.goes_to("a") == "b"


def test_upstream_that_there_is_not(sites: Any) -> None:
    """It is a 502 as without hooks, and no request is under way."""
    site = sites(choose=chooses(upstream="none\ud800"), move=chooses(host="none"))
    site.hook(hook(A, "choose"), hook("script.b", "move"))
    assert site.goes_to("a") == (502, "no upstream 'none\\ud800'")
    assert site.goes_to("b") == (502, "no upstream for host 'none'")
    assert site.goes_to("c") == (502, "no upstream for host 'c'")
    assert site.plane.exchanges == 0
    assert site.plane.requests == 3


def test_keys_reach_the_selection(sites: Any) -> None:
    """The keys for the hash balancers and for named clusters."""
    site = sites(keys=chooses(hash_key="é\ud800", cluster_key=("dc2",)))
    servers = {"dc1": {"servers": [{"host": "10.0.0.1", "port": 1}]},
               "dc2": {"servers": [{"host": "10.0.0.2", "port": 2}]}}  # fmt: skip
    site.put(parse_upstream("c", {"cluster": servers}, "c"))
    site.hook(hook("script.c", "keys"))
    exchange = site.plane.begin(Answered(), request("c"))
    peer = exchange.selection.pick(exchange.request, [])
    assert peer.port == 2
    assert exchange.request.hash_key == "é\ud800"
    site.plane.exchanges -= 1


def test_answer_is_counted(sites: Any) -> None:
    """It counts as a request, and as one that was answered without a server."""
    site = sites(no=lambda request, _: request.reject(403, "no"))
    site.hook(hook(A, "no"))
    status, body = site.goes_to("a")
    assert (status, json.loads(body)["msg"]) == (403, "no")
    assert site.goes_to("b") == "b"
    statistics = site.plane.statistics()
    assert (statistics["requests"], statistics["refused"], statistics["active"]) == (2, 1, 0)


def test_reply_is_shown_where_it_is_wanted(sites: Any) -> None:
    """A script without on_response costs nothing for replies."""
    site = sites()
    site.hook(hook(A, "reply:look"), hook("script.b", "nothing"))
    exchange = site.plane.begin(Answered(), request("a"))
    assert isinstance(exchange.hooked, Hooked)
    assert site.plane.begin(Answered(), request("b")).hooked is None
    assert site.plane.begin_on("b", Answered(), request("c")).hooked is None
    site.plane.exchanges = 0


# Changes.


def test_hooks_are_taken_when_they_change(sites: Any) -> None:
    """They are not loaded again when something else changes."""
    site = sites()
    site.hook(hook(A, "one"))
    runner = site.plane.hooks
    loads = []
    taking = site.plane._plane_hooks.take
    site.plane._plane_hooks.take = lambda hooks: loads.append(1) or taking(hooks)
    site.put(upstream("c", "10.0.0.3"))
    site.remove("c")
    assert loads == []
    site.hook(hook("script.b", "two"))
    assert loads == [1]
    assert site.plane.hooks is runner


def test_refused_change_leaves_the_hooks(sites: Any, monkeypatch: Any) -> None:
    """A change is taken whole or not at all."""
    site = sites()
    site.goes_to("a")
    site.hook(hook(A, "one"))
    before = site.plane._snapshot
    failures: list[Any] = []
    wrong = site.snapshot.with_upstream(upstream("a", "10.0.0.9", mode_opts={"x": 1}))
    wrong = wrong.with_hooks(hooks(hook(A, "two")))
    site.plane.apply(wrong, ["a"]).addErrback(failures.append)
    assert failures[0].check(ConfigError)
    assert site.plane._snapshot is before
    site.goes_to("a")
    assert site.engine.calls == [(A, "one")]


def test_check_and_suspend_and_count(sites: Any) -> None:
    """The control channel calls these on a plane in its own process."""
    site = sites()
    assert succeeded(site.plane.check_hook("python", A, "modules.b modules.a", None)) == (
        "modules.a", "modules.b",
    )  # fmt: skip
    refused: list[Any] = []
    site.plane.check_hook("python", A, "wrong", None).addErrback(refused.append)
    assert refused[0].check(ScriptError)
    assert site.plane.hooks is None
    version = code("one")
    site.hook(hook(A, version))
    site.goes_to("a")
    tally = site.plane.hook_tally()
    assert tally.totals(f"python/{A}", mark_of(f"python/{A}", version)).stats.calls == 1
    with logged():
        site.plane.suspend_hook(mark_of(f"python/{A}", version))
    assert site.goes_to("a")[0] == 500
    (report,) = site.plane.hook_reports()
    assert report.state == "suspended"


def test_plane_without_hooks_has_nothing_to_report(sites: Any) -> None:
    """The calls raise no error."""
    site = sites()
    assert list(site.plane.hook_reports()) == []
    assert site.plane.hook_tally().totals("python/x", 1).stats.calls == 0


def succeeded(deferred: defer.Deferred[Any]) -> Any:
    """The result of a Deferred that has fired."""
    found: list[Any] = []
    deferred.addCallback(found.append)
    return found[0]


# The classes, compiled or not.


def test_runner_is_what_the_request_path_calls() -> None:
    """Its classes derive from those of the request path, which may be compiled."""
    engine = FakeEngine(actions={"no": lambda request, _: request.reject(403)})
    runner = Runner(Hooks(), lambda: 0.0, engines=lambda *_: engine)
    runner.load(hooks(hook("script.*", "no reply:x")))
    assert isinstance(runner, HooksBase)
    hooked = runner.request(request_of())
    assert isinstance(hooked, HookedRequest)
    assert hooked.answer is not None
    assert (hooked.answer.status, hooked.upstream, hooked.sees_reply) == (403, None, False)
    assert hooked.body.startswith(b"{")
    bare = HookedRequest()
    assert (bare.answer, bare.body, bare.upstream, bare.sees_reply) == (None, b"", None, False)
    with pytest.raises(NotImplementedError):
        bare.reply(reply_of())
    with pytest.raises(NotImplementedError):
        HooksBase().request(request_of())


def test_hooked_request_is_freed_with_its_exchange() -> None:
    """So a version that was replaced is closed in time."""
    engine = FakeEngine()
    runner = Runner(Hooks(), lambda: 0.0, engines=lambda *_: engine)
    runner.load(hooks(hook("script.*", "reply:x")))
    hooked: Any = runner.request(request_of())
    hooked.reply(reply_of())
    script = weakref.ref(engine.loaded.pop())
    runner.load({})
    assert script() is not None
    del hooked
    gc.collect()
    assert script() is None


def test_router_asks_its_hooks() -> None:
    """Any object of the interface will do."""

    class Own(HooksBase):
        def request(self, request: Any) -> HookedRequest | None:
            if request.host == "free":
                return None
            hooked = HookedRequest()
            hooked.upstream = "chosen"
            return hooked

    class Plane(Router):
        def choose(self, request: Any) -> Choice:
            asked.append(request.host)
            return Choice(None)

        def first_use(self, name: str) -> Any:
            asked.append(name)
            return None

    from slardar.http1.interfaces import Clock

    asked: list[str] = []
    plane = Plane(Clock(0.0))
    plane.hooks = Own()
    for host in ("free", "other"):
        assert plane.begin(Answered(), request(host)) is None
    assert asked == ["free", "chosen"]


class Putting(ChannelBase):
    """A channel within a batch."""

    def __init__(self) -> None:
        super().__init__(ChannelProtocol(), False)
        self.steps: list[Step] = []

    def put_off(self, step: Step, key: str = "") -> bool:
        self.steps.append(step)
        return True


class Waiting(Answered):
    """Takes its exchange, unless it has gone."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = False
        self.exchanges: list[Any] = []

    def waits_for(self, request: Any) -> bool:
        return not self.gone

    def begun(self, exchange: Any) -> None:
        self.exchanges.append(exchange)


def test_hooks_wait_for_their_part_of_the_batch(sites: Any) -> None:
    """A request begins when hooks have seen it, if it is still wanted then; a request for a
    host without hooks does not wait."""
    site = sites(choose=chooses(upstream="b"), no=lambda request, _: request.reject(403))
    site.hook(hook(A, "choose"), hook("script.c", "no"))
    channel = Putting()
    goes, gone, answered = Waiting(), Waiting(), Waiting()
    for downstream, host in ((goes, "a"), (gone, "a"), (answered, "c")):
        assert site.plane.begin(downstream, request(host), channel) is None
    gone.gone = True
    assert site.engine.calls == []
    for step in channel.steps:
        step.look()
    assert len(site.engine.calls) == 3
    assert goes.exchanges == answered.answers == []
    for step in channel.steps:
        step.go_on()
    assert [exchange.selection.name for exchange in goes.exchanges] == ["b"]
    assert [status for status, _ in answered.answers] == [403]
    assert gone.exchanges == answered.exchanges == []
    assert site.plane.exchanges == 1
    assert site.plane.begin(Waiting(), request("b"), channel) is not None
    site.plane.exchanges = 0
    # Hooks that are removed by then see no request.
    site.plane.begin(goes, request("a"), channel)
    site.unhook()
    channel.steps[-1].look()
    channel.steps[-1].go_on()
    assert [exchange.selection.name for exchange in goes.exchanges] == ["b", "a"]
    site.plane.exchanges = 0


# Real bytes.


@pytest_twisted.async_yield_fixture
async def served() -> AsyncIterator[Served]:
    """A data plane that serves."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    served = Served(reactor, Limits(), Timeouts())
    await served.begin("tcp:0:interface=127.0.0.1")
    yield served
    await served.end()


@pytest.fixture
def origins() -> Iterator[list[Origin]]:
    """Servers that end with the test."""
    made: list[Origin] = []
    yield made
    for one in made:
        one.stop()


def run_hooks(served: Served, *some: Hook, **actions: Action) -> FakeEngine:
    """Run these hooks from now on."""
    engine = engine_of(
        served.plane, {name.replace("__", ":"): one for name, one in actions.items()}
    )
    served.snapshot = served.snapshot.with_hooks(hooks(*some))
    served.run(served.plane.apply, served.snapshot, [])
    return engine


POST = b"POST /no HTTP/1.1\r\nHost: up\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.real
@in_thread
def test_answers_over_a_socket(served: Served, origins: list[Origin]) -> None:
    """They are in order with a server's replies on one connection, with bodies."""
    origins.append(Origin())
    served.put("up", *origins)
    run_hooks(
        served,
        hook("script.up", "no"),
        no=lambda request, _: request.reject(403) if request.path == "/no" else None,
    )
    with served.client() as client:
        for _ in range(3):
            client.ask("/no")
            assert client.reply().status == 403
            client.send(POST)
            assert client.reply().status == 403
            assert client.get("/yes").body == b"origin"
        client.send(POST + b"GET /yes HTTP/1.1\r\nHost: up\r\n\r\n" + POST)
        assert [client.reply().status for _ in range(3)] == [403, 200, 403]
    assert served.statistic("refused") == 8
    assert served.statistic("requests") == 12
    assert len(origins[0].connections) == 1


@pytest.mark.real
@in_thread
def test_many_requests_at_once(served: Served, origins: list[Origin]) -> None:
    """Requests that arrive together on several connections each get their own answer, in
    order; a client that breaks off does not affect the others."""
    origins.append(Origin())
    served.put("up", *origins)
    run_hooks(
        served,
        hook("script.up", "no"),
        no=lambda request, _: request.reject(403) if request.path == "/no" else None,
    )
    order = [path == "/no" for path in ("/no", "/yes", "/no", "/no", "/yes") * 20]
    with ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(
                b"".join(
                    b"GET /%s HTTP/1.1\r\nHost: up\r\n\r\n" % (b"no" if no else b"yes")
                    for no in order
                )
            )
            if number % 5 == 0:
                client.reset()
        for number, client in enumerate(clients):
            if number % 5:
                statuses = [client.reply().status for _ in order]
                assert statuses == [403 if no else 200 for no in order]
    wait_for(lambda: served.statistic("active") == 0)


@pytest.mark.real
@in_thread
def test_body_that_is_coming_is_read_over(served: Served, origins: list[Origin]) -> None:
    """The client gets the answer and no reset, whatever it still sends."""
    origins.append(Origin())
    served.put("up", *origins)
    run_hooks(served, hook("script.up", "no"), no=lambda request, _: request.reject(413))
    with served.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: up\r\nContent-Length: 500000\r\n\r\n")
        answer = client.reply()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        client.send(b"x" * 500_000)
        client.sock.shutdown(socket.SHUT_WR)
        client.wait_closed()
    assert origins[0].connections == []


@pytest.mark.real
@pytest.mark.parametrize("turn", [0.0, 10.0])
@pytest.mark.parametrize("ending", ["stays", "half-closes", "next"])
@in_thread
def test_bodies_wait_for_slow_hooks(
    served: Served, origins: list[Origin], ending: str, turn: float
) -> None:
    """While hooks of others run, a client may send anything: its body is passed on whole in
    its turn, its end is no mistake, and its next request is answered."""
    # So large that the client has to wait; if it ends its side, all is read before.
    body = bytes(range(256)) * (400 if ending != "half-closes" else 4)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (body[:700], body[700:]))
    heads = {
        b"Content-Length: %d" % len(body): body,
        b"Transfer-Encoding: chunked": chunks + b"0\r\n\r\n",
    }

    def echo(connection: Connection) -> None:
        while (asked := connection.request()) is not None:
            connection.send(reply(asked[2]))

    def slow(request: Any, _: Any) -> None:
        # The other clients' requests are in the queue meanwhile.
        end = time.monotonic() + 0.005
        while time.monotonic() < end:
            pass

    origins.append(Origin(echo))
    served.put("up", *origins)
    run_hooks(served, hook("script.up", "slow reply:slow"), slow=slow, reply__slow=slow)
    served.plane._poller.turn = turn
    with ExitStack() as stack:
        clients = []
        for number in range(12):
            client = stack.enter_context(served.client())
            framing = list(heads)[number % 2]
            client.send(b"POST / HTTP/1.1\r\nHost: up\r\n%b\r\n\r\n" % framing)
            clients.append((client, heads[framing]))
        for client, data in clients:
            client.send(data)
            if ending == "next":
                client.ask("/")
            if ending == "half-closes":
                client.sock.shutdown(socket.SHUT_WR)
        for client, _ in clients:
            answer = client.reply()
            assert (answer.status, answer.body == body) == (200, True)
            if ending == "next":
                assert client.reply().body == b""
            if ending == "half-closes":
                client.wait_closed()
    wait_for(lambda: served.statistic("active") == 0)


@pytest.mark.real
@in_thread
def test_444_over_a_socket(served: Served, origins: list[Origin]) -> None:
    """No byte is sent."""
    run_hooks(served, hook("script.up", "no"), no=lambda request, _: request.reject(444))
    with served.client() as client:
        client.ask("/")
        client.wait_closed()
        assert client.rest() == b""


@pytest.mark.real
@in_thread
def test_large_replies_with_hooks(served: Served, origins: list[Origin]) -> None:
    """Large replies go from socket to socket unless a hook needs them: with changed heads,
    with an unwanted body, and with the next request after them."""
    body = b"0123456789abcdef" * 65536

    def script(connection: Connection) -> None:
        while (asked := connection.request()) is not None:
            chunked = asked[0].split(" ")[1] == "/chunked"
            assert asked[0].startswith("GET ")
            assert asked[1]["x-hook"] == "1"
            if chunked:
                connection.send(
                    b"HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                for start in range(0, len(body), 60_000):
                    piece = body[start : start + 60_000]
                    connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                connection.send(b"0\r\n\r\n")
            else:
                connection.send(reply(body, 200, "Server: x"))

    def ask(request: Any, _: Any) -> None:
        request.method = "GET"
        request.headers["X-Hook"] = "1"

    def change(request: Any, response: Any) -> None:
        response.status = 203
        response.headers.remove("Server")

    origins.append(Origin(script))
    served.put("up", *origins)
    run_hooks(served, hook("script.up", "ask reply:change"), ask=ask, reply__change=change)
    with served.client() as client:
        for path in ("/", "/chunked"):
            client.ask(path)
            answer = client.reply()
            assert (answer.status, answer.body == body) == (203, True)
            assert "server" not in answer.headers
            client.ask(path, "up", "HEAD")
            answer = client.reply(silent=True)
            assert (answer.status, answer.body) == (203, b"")
        assert client.get("/").body == body
    assert len(origins[0].connections) == 1


@pytest.mark.real
@in_thread
def test_replaced_replies_over_a_socket(served: Served, origins: list[Origin]) -> None:
    """Each costs the server's connection, and changes no counter."""
    origins.append(Origin(lambda connection: answer_large(connection)))
    served.put("up", *origins)

    def replace(request: Any, response: Any) -> None:
        request.respond(200, "instead")

    run_hooks(served, hook("script.up", "reply:replace"), reply__replace=replace)
    with served.client() as client:
        for _ in range(3):
            assert client.get("/").body == b"instead"
    assert len(origins[0].connections) == 3
    live = served.live_of(origins[0])
    assert (live.requests, live.active, live.failures, live.status) == (3, 0, 0, "ok")
    assert served.statistic("active") == 0


def answer_large(connection: Connection) -> None:
    """Send a reply that fits into no buffer; the proxy does not want it."""
    while connection.request() is not None:
        try:
            connection.send(reply(b"x" * 20_000_000))
        except OSError:
            return


@pytest.mark.real
@in_thread
def test_server_comes_back_by_a_reply_that_is_replaced(
    served: Served, origins: list[Origin]
) -> None:
    """The server has replied, so it is back in service."""
    origins.append(Origin())
    served.put("up", *origins)
    run_hooks(
        served,
        hook("script.up", "reply:replace"),
        reply__replace=lambda request, response: request.respond(200, "instead"),
    )
    live = served.live_of(origins[0])
    live.fails, live.status = 1, "err"
    with served.client() as client:
        assert client.get("/").body == b"instead"
    assert (live.fails, live.status) == (0, "ok")


def test_snapshot_without_hooks_is_the_usual() -> None:
    """It has an empty table of hooks."""
    assert Snapshot.build(1, {}, (), None).hooks == {}


# Another process checks code, if one can be started.


def test_code_is_looked_at_here_where_no_process_can_be_started(hand: HandReactor) -> None:
    """In a program whose reactor starts no processes, this process checks code, and refuses as
    usual."""
    plane = DataPlane(hand, Settings(), Live(), lambda mode: WeightedRoundRobin)
    good = "def on_request(request):\n    pass\n"
    with logged():
        assert succeeded(plane.check_hook("python", A, good, {})) == ()
        refused: list[Any] = []
        plane.check_hook("python", A, "x y", None).addErrback(refused.append)
        assert refused[0].check(ScriptError)
        assert succeeded(plane.check_stored({})) is None
        # Where there has been one, code has no way to the process that serves.
        assert plane._plane_hooks.checker is not None
        plane._plane_hooks.checker.has_answered = True
        plane.check_hook("python", A, good, {}).addErrback(refused.append)
        assert refused[1].check(NotReadyError)
