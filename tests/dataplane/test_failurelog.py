"""Failures: lines of the log, replies to clients, and what hooks see."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.logger import formatEvent

from slardar.config import Limits, Timeouts
from slardar.dataplane.failurelog import BugLog, HealthLog, RefusalLog
from slardar.events import Event, Health
from slardar.health.verdicts import Ejection, Heartbeat, Status
from slardar.model.parse import parse_routes
from tests.dataplane.kit import logged
from tests.hooks.kit import hook, hooks
from tests.integration.sockets import Connection, Origin, Served, in_thread, reply, wait_for

pytestmark = pytest.mark.real


@pytest_twisted.async_yield_fixture
async def served() -> AsyncIterator[Served]:
    """A data plane that serves."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    served = Served(reactor, Limits(), Timeouts())
    await served.begin("tcp:0:interface=127.0.0.1")
    yield served
    # Their budget's timer would tick on.
    served.plane._plane_hooks.get_runner().load({})
    await served.end()


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A server that answers."""
    made = Origin()
    yield made
    made.stop()


@pytest.fixture
def silent() -> Iterator[Origin]:
    """A server that takes requests and does not reply."""
    made = Origin(lambda connection: connection.sock.recv(1 << 20) and connection.rest() and None)
    yield made
    made.stop()


@pytest.fixture
def closed() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def lines_of(events: list[dict[str, Any]]) -> list[str]:
    """The lines that the data plane has logged."""
    return [formatEvent(one) for one in events if one.get("log_namespace") == "slardar.dataplane"]


def servers(*ports: int, **more: Any) -> list[dict[str, Any]]:
    """Servers on local ports."""
    return [{"host": "127.0.0.1", "port": port, **more} for port in ports]


# The texts of refusals.


@in_thread
def test_502_names_upstream_server_and_reason(served: Served, closed: int) -> None:
    """The log has one line and a count of the others; the body has them, too."""
    served.put("up", servers=servers(closed))
    with logged() as events, served.client() as client:
        for _ in range(5):
            got = client.get("/")
            assert got.status == 502
            assert json.loads(got.body) == {
                "status": 502,
                "msg": "Connection refused",
                "upstream": "up",
                "server": f"127.0.0.1:{closed}",
            }
        page = client.get("/", "up", "Accept: text/html").body.decode()
        assert f"<p>Connection refused, upstream up, server 127.0.0.1:{closed}</p>" in page
        where = f"upstream up, server 127.0.0.1:{closed}: Connection refused"
        assert lines_of(events) == [f"502 for a request: {where}"]
        served.run(served.plane._refusals.flush)
        assert lines_of(events)[1:] == [f"502 for 5 more requests within 10 s: {where}"]


@in_thread
def test_504_and_503(served: Served, silent: Origin) -> None:
    """They name the silent server; or the upstream alone if no server was picked."""
    served.put("up", servers=servers(silent.port, max_conns=1), read_timeout=0.3)
    with logged() as events, served.client() as client, served.client() as other:
        client.ask("/")
        wait_for(lambda: silent.connections)
        got = other.get("/")
        assert got.status == 503
        assert json.loads(got.body)["upstream"] == "up"
        assert "server" not in json.loads(got.body)
        got = client.reply()
        assert (got.status, json.loads(got.body)["server"]) == (504, f"127.0.0.1:{silent.port}")
        assert lines_of(events) == [
            "503 for a request: upstream up: every server of upstream up has its limit of"
            " connections",
            f"504 for a request: upstream up, server 127.0.0.1:{silent.port}:"
            " the server did not reply in time",
        ]


@in_thread
def test_last_server_is_named_where_several_failed(served: Served, closed: int) -> None:
    """It is named with its own reason."""
    odd = Origin(lambda connection: connection.request() and connection.send(b"nonsense\r\n\r\n"))
    levels = [{"servers": servers(closed)}, {"servers": [odd.server]}]
    served.put("up", cluster=levels)
    with logged(), served.client() as client:
        found = json.loads(client.get("/").body)
    odd.stop()
    assert found["server"] == f"127.0.0.1:{odd.port}"
    assert found["msg"] != "Connection refused"


@in_thread
def test_no_upstream_is_one_kind(served: Served) -> None:
    """Requests for many unknown hosts cannot hide other kinds."""
    with logged() as events, served.client() as client:
        for number in range(300):
            assert client.get("/", f"host{number}.test").status == 502
        assert lines_of(events) == ["502 for a request: no upstream for host 'host0.test'"]
        served.run(served.plane._refusals.flush)
        assert lines_of(events)[1:] == ["502 for 299 more requests within 10 s: no upstream"]


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7", ""]
)
@in_thread
def test_others_are_told_no_names(served: Served, closed: int, header: str) -> None:
    """These clients come through another proxy on this machine, or from another machine."""
    served.put("up", servers=servers(closed))
    if not header:
        # A client of another machine, as far as the data plane can see.
        for listener in served.plane._clients.listeners:
            accepted = listener._accepted
            listener._accepted = lambda sock, _, accepted=accepted: accepted(sock, b"203.0.113.7")
    with logged() as events, served.client() as client:
        got = client.get("/", "up", *([header] if header else []))
        assert json.loads(got.body) == {
            "status": 502,
            "msg": "the request could not be passed on",
        }
        # The log has the reason all the same.
        assert "Connection refused" in lines_of(events)[0]
        # Every client may know what is wrong with its own request.
        client.send(
            b"POST / HTTP/1.1\r\nHost: up\r\nTransfer-Encoding: chunked\r\n%b\r\nzz\r\n"
            % (header.encode() + b"\r\n" if header else b"")
        )
        assert b"chunk" in client.reply().body


# Bounds.


@pytest.mark.real(False)
def test_a_kind_is_one_line_in_ten_seconds() -> None:
    """Then comes a line with the number of the others, and the ten seconds begin anew."""
    clock = Clock()
    log = RefusalLog(clock.callLater)
    with logged() as events:
        for _ in range(1000):
            log.note(502, "refused", "a", "s:1")
        log.note(504, "late", "a", "s:1")
        assert len(lines_of(events)) == 2
        clock.advance(10)
        assert lines_of(events)[2:] == [
            "502 for 999 more requests within 10 s: upstream a, server s:1: refused"
        ]
        clock.advance(100)
        log.note(502, "refused", "a", "s:1")
        assert len(lines_of(events)) == 4
        log.flush()
        assert len(lines_of(events)) == 4
    assert clock.getDelayedCalls() == []


@pytest.mark.real(False)
def test_kinds_are_bounded() -> None:
    """A thousand servers at once give a hundred lines and one."""
    clock = Clock()
    log = RefusalLog(clock.callLater)
    with logged() as events:
        for _ in range(3):
            for number in range(1000):
                log.note(502, "refused", "a", f"s:{number}")
        assert len(log._more) == 100
        clock.advance(10)
    lines = lines_of(events)
    assert len(lines) == 201
    assert lines[-1] == (
        "2700 more requests were answered with 502, 503 or 504 within 10 s, for other reasons"
    )


@pytest.mark.real(False)
def test_lines_about_servers_are_bounded() -> None:
    """At most twenty a second; the next line counts the missing ones."""
    now = [0.0]
    log = HealthLog(lambda: now[0])
    with logged() as events:
        for number in range(1000):
            log.took("a", "::1", number, 1.0, "refused")
        now[0] = 1.0
        log.took("a", "::1", 5, 0.0, "")
    lines = lines_of(events)
    assert len(lines) == 22
    assert lines[0] == "upstream a: server [::1]:0 is out of service: refused"
    assert lines[-2:] == [
        "980 more servers went out of service or came back",
        "upstream a: server [::1]:5 is back in service",
    ]


def test_requests_and_heartbeats_together() -> None:
    """A server goes out with the first of them, and is back with the last."""
    log = HealthLog(lambda: 0.0)

    def heartbeat(status: Status, port: int = 1) -> Heartbeat:
        return Heartbeat("a", "h", port, status, 1.0, "no answer")

    with logged() as events:
        log.checked(heartbeat("ok"))
        log.checked(heartbeat("unstable"))
        log.checked(heartbeat("err"))
        log.checked(heartbeat("err"))
        log.took("a", "h", 1, 5.0, "refused")
        log.checked(heartbeat("ok"))
        log.took("a", "h", 1, 5.0, "refused")
        log.took("a", "h", 1, 0.0, "")
        log.checked(heartbeat("ok"))
        log.took("a", "h", 1, 5.0, "refused")
        log.checked(heartbeat("err"))
        log.took("a", "h", 1, 0.0, "")
        log.checked(heartbeat("unchecked"))
        # What another process has logged is not logged here.
        log.know_checked(heartbeat("err", 2))
        log.know_checked(heartbeat("ok", 3))
        log.checked(heartbeat("err", 2))
        log.checked(heartbeat("ok", 2))
        log.checked(heartbeat("ok", 3))
        log.checked(heartbeat("err", 4))
        log.forget("a", [("h", 4)])
        log.checked(heartbeat("ok", 4))
    assert lines_of(events) == [
        "upstream a: server h:1 is out of service: heartbeats: no answer",
        "upstream a: server h:1 is back in service",
        "upstream a: server h:1 is out of service: refused",
        "upstream a: server h:1 is back in service",
        "upstream a: server h:2 is back in service",
        "upstream a: server h:4 is out of service: heartbeats: no answer",
    ]


def test_changes_of_a_status_are_published() -> None:
    """Each once: the worse of what requests and heartbeats say.  No line of the log is needed for
    it, so there is no limit to them."""
    events: list[Event] = []
    log = HealthLog(lambda: 0.0, events.append)

    def heartbeat(status: Status, port: int = 1) -> None:
        log.checked(Heartbeat("a", "::1", port, status, 1.0, "no answer"))

    def told() -> list[tuple[Any, ...]]:
        found = [(one.server, one.status, one.reason) for one in events if isinstance(one, Health)]
        events.clear()
        return found

    for _ in range(2):
        heartbeat("ok")
        heartbeat("unstable")
        heartbeat("err")
        log.took("a", "::1", 1, 5.0, "refused")
        heartbeat("ok")
    where = "[::1]:1"
    no_answer = "heartbeats: no answer"
    assert told() == [
        (where, "ok", ""),
        (where, "unstable", no_answer),
        (where, "err", no_answer),
    ]
    log.took("a", "::1", 1, 0.0, "")
    heartbeat("unchecked")
    log.took("a", "::1", 1, 5.0, "refused")
    log.took("a", "::1", 1, 0.0, "")
    assert told() == [
        (where, "ok", ""),
        (where, "unchecked", ""),
        (where, "err", "refused"),
        (where, "unchecked", ""),
    ]
    log.know("a", "::1", 2)
    log.know_checked(Heartbeat("a", "::1", 3, "ok", 1.0, ""))
    log.took("a", "::1", 2, 5.0, "refused")
    heartbeat("ok", 3)
    assert told() == []
    log.took("a", "::1", 2, 0.0, "")
    log.forget("a", [("::1", 3)])
    heartbeat("ok", 3)
    assert told() == [("[::1]:2", "ok", ""), ("[::1]:3", "ok", "")]
    log.ejected(Ejection("a", "::1", 3, 30.0, 1, "5 of 9 requests failed"))
    assert events == [Health("a", "[::1]:3", "err", "5 of 9 requests failed", 30.0)]
    events.clear()
    for port in range(1, 1000):
        log.took("b", "h", port, 5.0, "refused")
    assert len(events) == 999


# Servers.


@in_thread
def test_server_that_goes_out_and_comes_back_is_logged(served: Served, origin: Origin) -> None:
    """Each has one line, however often the server is tried in between."""
    works = [False]

    def script(connection: Connection) -> None:
        while works[0] and connection.request() is not None:
            connection.send(reply(b"works"))

    weak = Origin(script)
    rules = {"max_fails": 1, "fail_timeout": 0.02}
    served.put("up", servers=[{**weak.server, **rules}, origin.server])
    live = served.live_of(weak)
    with logged() as events, served.client() as client:

        def failed_often() -> bool:
            assert client.get("/").body == b"origin"
            return live.failures >= 3

        wait_for(failed_often)
        works[0] = True
        wait_for(lambda: client.get("/").body == b"works")
    weak.stop()
    where = f"upstream up: server 127.0.0.1:{weak.port}"
    out, *back = lines_of(events)
    assert out.startswith(f"{where} is out of service: ")
    assert back == [f"{where} is back in service"]


# Hooks.

RESPONSE = """
def on_response(request, response):
    response.headers["X-Seen"] = f"{response.status} {request.upstream} {response.error}"
    if response.error is not None:
        response.status = 599
"""


@in_thread
def test_hooks_see_replies_of_ours(served: Served, origin: Origin, closed: int) -> None:
    """Real hooks see them, in both languages, and servers' replies, too."""
    served.put("up", origin)
    served.put("broken", servers=servers(closed))
    lua = 'ngx.header["X-Lua"] = ngx.var.upstream or "none"'
    served.snapshot = served.snapshot.with_hooks(
        hooks(hook("script.*", RESPONSE), hook("lua/script.*", lua))
    )
    served.run(served.plane.apply, served.snapshot, [])
    with logged(), served.client() as client:
        for host, status, seen, upstream in (
            ("up", 200, "200 up None", "up"),
            ("broken", 599, "502 broken Connection refused", "broken"),
            ("none", 599, "502 None no upstream for host 'none'", "none"),
        ):
            got = client.get("/", host)
            assert got.status == status
            assert got.headers["x-seen"] == seen
            assert got.headers["x-lua"] == upstream


# Where a request goes.

WHERE = """
def on_request(request):
    before = request.upstream
    if "host" in request.query:
        request.host = request.query.get("host")
    if "path" in request.query:
        request.path = request.query.get("path")
    if "to" in request.query:
        request.upstream = request.query.get("to") or None
    request.headers["X-Where"] = f"{before} {request.upstream}"

def on_response(request, response):
    response.headers["X-Went"] = str(request.upstream)
"""


def show(connection: Connection) -> None:
    """Answer with the value that the hook has found."""
    while (asked := connection.request()) is not None:
        connection.send(reply(asked[1].get("x-where", "").encode()))


@in_thread
def test_hook_reads_where_a_request_goes(served: Served) -> None:
    """It reads the upstream by routes and Host, and the upstream that it has chosen itself."""
    origin = Origin(show)
    for name in ("up", "other", "*.wild.test"):
        served.put(name, origin)
    routes = parse_routes([{"host": "up", "path": "/r/", "upstream": "other"}], "routes")
    served.snapshot = served.snapshot.with_routes(routes).with_hooks(hooks(hook("script.*", WHERE)))
    served.run(served.plane.apply, served.snapshot, [])
    cases = (
        ("up", "/", "up up", "up"), ("up", "/r/x", "other other", "other"),
        ("a.wild.test", "/", "*.wild.test *.wild.test", "*.wild.test"),
        ("up", "/?host=other", "up other", "other"), ("up", "/?path=/r/y", "up other", "other"),
        ("up", "/?to=other", "up other", "other"), ("other", "/?to=", "other other", "other"),
        ("none", "/?to=up", "None up", "up"),
    )  # fmt: skip
    with served.client() as client:
        for host, path, where, went in cases:
            got = client.get(path, host)
            assert (got.body.decode(), got.headers["x-went"]) == (where, went), (host, path)
        with logged():
            got = client.get("/", "none")
        assert (got.status, got.headers["x-went"]) == (502, "None")
    origin.stop()


def meet(bugs: BugLog, error: Exception, times: int, text: str = "error on {channel}") -> None:
    """Requests meet a bug."""
    for _ in range(times):
        try:
            raise error
        except Exception:
            bugs.note(text, channel=7)


def test_bug_that_every_request_meets_is_logged_once_a_minute() -> None:
    """With the number of times since; another bug has lines of its own."""
    clock = Clock()
    bugs = BugLog(clock.seconds)
    with logged() as events:
        meet(bugs, ValueError("a"), 1000)
        meet(bugs, KeyError("b"), 1000)
        meet(bugs, KeyError("b"), 10, "another text")
        clock.advance(61)
        meet(bugs, ValueError("a"), 10)
    assert [formatEvent(event) for event in events] == [
        "error on 7",
        "error on 7",
        "another text",
        "error on 7 (999 more since the last time)",
    ]
    assert all(event["log_failure"] is not None for event in events)


def test_bugs_without_end_take_no_memory_without_end() -> None:
    """However many texts there are."""
    bugs = BugLog(Clock().seconds)
    with logged():
        for number in range(300):
            meet(bugs, ValueError(), 1, f"text {number}")
    assert len(bugs._known) <= 100
