"""How much a client may send, and for how long; real sockets come last."""

from __future__ import annotations

import gc
import http.client
import json
import socket
import weakref
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor  # noqa: TID251 - real sockets need the real one
from twisted.internet.address import UNIXAddress
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from slardar.config import Control
from slardar.control import http as control_http
from slardar.control import room
from slardar.control.actions import Actions
from slardar.control.guesses import MAX_WRONG
from slardar.control.http import MAX_BODY, make_site
from tests.control.fakes import FakePlane, FakeStore, WebClient, make_actions, upstream


@pytest.fixture
def actions() -> Actions:
    return make_actions(FakeStore(), FakePlane(), upstreams={"file": upstream(8001)})


@pytest.fixture
def client(actions: Actions) -> WebClient:
    return WebClient(actions)


def head(client: WebClient, *lines: str) -> None:
    """Send the head of a request that has a body."""
    text = "\r\n".join(["PUT /upstream/a HTTP/1.1", "Host: localhost", *lines, "", ""])
    client.send(text.encode())


def assert_refused(client: WebClient, status: int) -> None:
    """Assert that the call was answered, the connection lingers, and then is closed."""
    reply = client.received()
    assert reply is not None
    assert (reply.status, reply.json["status"]) == (status, status)
    assert reply.headers["Connection"] == "close"
    assert not client.transport.disconnecting
    client.clock.advance(5)
    assert client.transport.disconnecting


def test_body_of_the_limit_is_taken(client: WebClient) -> None:
    """One byte more is refused, see below."""
    body = b"[" + b" " * (MAX_BODY - 2) + b"]"
    assert client.call("PUT", "/routes", body).status == 200


def test_announced_body_over_the_limit_is_refused_at_once(client: WebClient) -> None:
    """It is refused before a byte of it is sent, and without a 100."""
    head(client, f"Content-Length: {MAX_BODY + 1}", "Expect: 100-continue")
    assert b"100 Continue" not in client.transport.value()
    assert_refused(client, 413)


def test_chunked_body_is_refused_while_it_arrives(client: WebClient) -> None:
    """No byte of it is kept, and the rest is dropped."""
    head(client, "Transfer-Encoding: chunked")
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for _ in range(MAX_BODY // 65536):
        client.send(chunk)
        assert client.received() is None
    client.send(b"1\r\nx\r\n")
    request = client.channel.requests[0]
    assert request._body == b""
    client.send(chunk * 3)
    assert request._body == b""
    assert_refused(client, 413)


def test_refused_body_that_ends_closes_the_connection(client: WebClient) -> None:
    """When the body is complete, the connection need not linger; no second answer is sent."""
    head(client, "Content-Length: 4", "Origin: http://evil.com")
    reply = client.received()
    assert reply is not None
    assert reply.status == 403
    client.send(b"1234GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert client.transport.disconnecting
    assert client.received() is None


def test_malformed_body_after_a_refusal_is_not_answered(client: WebClient) -> None:
    """There is one answer, and then the connection ends."""
    head(client, "Transfer-Encoding: chunked", "Origin: http://evil.com")
    client.send(b"zz\r\n")
    reply = client.received()
    assert reply is not None
    assert reply.status == 403
    assert client.received() is None
    assert client.transport.disconnecting


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_body_of_a_stranger_is_not_kept(actions: Actions, framing: str) -> None:
    """Without a valid token no memory is used."""
    client = WebClient(actions, tokens=[{"name": "a", "sha256": "0" * 64, "role": "admin"}])
    head(client, framing)
    client.send(b"5\r\nxxxxx\r\n")
    assert client.channel.requests[0]._body == b""
    assert_refused(client, 401)


def test_expected_body_is_asked_for(client: WebClient) -> None:
    """A caller with access gets a 100."""
    head(client, "Content-Length: 2", "Expect: 100-continue")
    assert client.transport.value() == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n", 400),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 4000, 400),
        (b"GET /" + b"a" * 20000, 431),
    ],
)
def test_malformed_head_is_refused_in_json(client: WebClient, data: bytes, status: int) -> None:
    """A head is bounded in lines and bytes, and the connection is closed."""
    client.send(data)
    reply = client.received()
    assert reply is not None
    assert (reply.status, reply.json["status"]) == (status, status)
    assert client.transport.disconnecting
    assert client.received() is None


def test_statuses_have_their_phrases(actions: Actions) -> None:
    """Also those that twisted.web does not know."""
    client = WebClient(actions, tokens=[{"name": "a", "sha256": "0" * 64, "role": "admin"}])
    for _ in range(MAX_WRONG):
        assert client.call("GET", "/status", Authorization="Bearer wrong").status == 401
    client.request("GET", "/status", Authorization="Bearer wrong")
    assert client.transport.value().startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    other = WebClient(actions)
    other.send(b"GET /" + b"a" * 20000)
    assert other.transport.value().startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


def test_malformed_chunk_is_refused(client: WebClient) -> None:
    """No byte of it may become a second request."""
    head(client, "Transfer-Encoding: chunked")
    client.send(b"zz\r\n")
    reply = client.received()
    assert reply is not None
    assert reply.status == 400
    assert client.transport.disconnecting


def test_reply_that_cannot_be_sent_ends_the_connection(
    client: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours must not leave a client waiting for ever."""
    monkeypatch.setattr(control_http.JsonReply, "all_headers", lambda self: 1 / 0)
    client.request("GET", "/status")
    assert client.received() is None
    assert client.transport.disconnecting


def test_idle_connection_is_closed(client: WebClient) -> None:
    """It is closed after 10 s without a first request, and after 15 s without another one."""
    client.clock.advance(9)
    for _ in range(2):
        assert client.call("GET", "/status").status == 200
        client.clock.advance(14)
    assert not client.transport.disconnecting
    client.clock.advance(1)
    assert client.transport.disconnecting


def test_slow_bytes_give_no_time(client: WebClient) -> None:
    """A head must be complete after 10 s, and its body 60 s later."""
    client.send(b"PUT /routes HTTP/1.1\r\n")
    client.clock.advance(9)
    client.send(b"Host: localhost\r\nContent-Length: 100\r\n\r\n")
    for _ in range(5):
        client.clock.advance(10)
        client.send(b" ")
    assert not client.transport.disconnecting
    client.clock.advance(10)
    assert client.transport.disconnecting


def test_slow_head_is_cut_off(client: WebClient) -> None:
    """It does not matter how its bytes are spread."""
    for _ in range(10):
        assert not client.transport.disconnecting
        client.send(b"G")
        client.clock.advance(1)
    assert client.transport.disconnecting


def test_client_that_does_not_read_is_cut_off(client: WebClient) -> None:
    """A connection that cannot be closed in 5 s is reset."""
    client.clock.advance(10)
    assert client.transport.disconnecting
    assert not client.transport.aborted
    client.clock.advance(5)
    assert client.transport.aborted
    client.channel.connectionLost(Failure(ConnectionError()))
    assert client.clock.getDelayedCalls() == []


def test_call_under_way_is_not_timed_out() -> None:
    """A slow data plane does not close the connection."""
    plane = FakePlane()
    client = WebClient(make_actions(FakeStore(), plane))
    plane.held = []
    client.request("PUT", "/upstream/a", upstream(1))
    client.clock.advance(600)
    plane.held.pop()()
    reply = client.received()
    assert reply is not None
    assert reply.status == 200


def test_http_10_gets_an_answer_and_an_end(client: WebClient) -> None:
    """It needs no Host."""
    client.send(b"GET /routes HTTP/1.0\r\n\r\n")
    reply = client.received()
    assert reply is not None
    assert reply.body == b"[]\n"
    assert client.transport.disconnecting


def test_pipelined_calls_are_answered_in_order(client: WebClient) -> None:
    """The second call sees the change of the first."""
    body = b'[{"upstream": "file"}]'
    client.send(
        b"PUT /routes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 22\r\n\r\n"
        + body
        + b"GET /routes HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    replies = [client.received(), client.received()]
    assert [reply and reply.body for reply in replies] == [b'{"status": 200}\n', body + b"\n"]


def test_any_name_is_taken_over_a_unix_socket(actions: Actions) -> None:
    """No browser can reach it."""
    client = WebClient(actions, UNIXAddress("/run/slardar.sock"))
    assert client.call("GET", "/status", Host="slardar").status == 200


# Room.


class Crowd:
    """Connections to one channel; callers with the token ``t`` may call, and all may wait."""

    TOKENS = ({"name": "a", "sha256": sha256(b"t").hexdigest(), "role": "admin"},)

    def __init__(self) -> None:
        self.plane = FakePlane()
        self.actions = make_actions(FakeStore(), self.plane)
        self.site: Any = None

    def come(self) -> WebClient:
        """Make one more connection, a second after the one before."""
        client = WebClient(self.actions, site=self.site, tokens=list(self.TOKENS))
        if self.site is None:
            self.site, self.clock = client.site, client.clock
        self.clock.advance(1)
        return client

    def idle(self) -> WebClient:
        client = self.come()
        assert client.call("GET", "/routes", Authorization="Bearer t").status == 200
        return client

    def refused(self) -> WebClient:
        client = self.come()
        assert client.call("GET", "/routes").status == 401
        return client

    def sending(self, body: bytes = b"") -> WebClient:
        client = self.come()
        head(client, f"Content-Length: {MAX_BODY}", "Authorization: Bearer t")
        client.send(body)
        return client

    def reading(self) -> WebClient:
        client = self.come()
        client.transport.stalls = True
        assert client.call("GET", "/routes", Authorization="Bearer t").status == 200
        return client

    def busy(self) -> WebClient:
        client = self.come()
        if self.plane.held is None:
            self.plane.held = []
        body = upstream(1)
        client.request("PUT", "/upstream/a", body, Authorization="Bearer t")
        return client


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    monkeypatch.setattr(room, "MAX_CONNECTIONS", 5)
    return Crowd()


def gone(*clients: WebClient) -> list[bool]:
    return [client.transport.aborted for client in clients]


def test_whoever_is_missed_least_makes_room(crowd: Crowd) -> None:
    """Strangers go first, then idle callers, then callers whose body or reply is not complete;
    within each group the one that has been in it for longest."""
    busy, sending, idle = crowd.busy(), crowd.sending(), crowd.idle()
    silent, refused = crowd.come(), crowd.refused()
    order = [busy, sending, idle, silent, refused]
    newcomers = []
    for leaves in (silent, refused):
        newcomers.append(crowd.idle())
        assert gone(*order).count(True) == len(newcomers)
        assert leaves.transport.aborted
    # An older idle connection goes before a newer one, and a body before a reply.
    crowd.reading()
    assert idle.transport.aborted
    for newcomer in newcomers:
        crowd.reading()
        assert newcomer.transport.aborted
    crowd.reading()
    assert sending.transport.aborted
    assert not busy.transport.aborted


def test_calls_under_way_keep_their_places(crowd: Crowd) -> None:
    """If all others are calls under way, a new connection is refused; later it is accepted
    again."""
    busy = [crowd.busy() for _ in range(5)]
    assert crowd.site.buildProtocol(None) is None
    assert gone(*busy) == [False] * 5
    assert crowd.plane.held
    for answer in crowd.plane.held:
        answer()
        crowd.clock.advance(1)
    crowd.idle()
    assert gone(*busy) == [True, False, False, False, False]


def test_one_that_was_sent_away_is_counted_no_more(crowd: Crowd) -> None:
    """Its connection ends a turn later, when another has its place."""
    clients = [crowd.come() for _ in range(9)]
    assert gone(*clients) == [True] * 4 + [False] * 5
    for client in clients[:4]:
        client.channel.connectionLost(Failure(ConnectionError()))
    crowd.come()
    assert gone(*clients) == [True] * 5 + [False] * 4


def test_bodies_are_bounded_together(actions: Actions, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slowest body is given up with ``Retry-After``; a short body succeeds meanwhile."""
    monkeypatch.setattr(room, "MAX_BODIES", 250)
    crowd = Crowd()
    slow = [crowd.sending(b"x" * 100) for _ in range(2)]
    assert crowd.idle().received() is None
    body = b"[" + b" " * 98 + b"]"
    done = crowd.come().call("PUT", "/routes", body, Authorization="Bearer t")
    assert done.status == 200
    reply = slow[0].received()
    assert reply is not None
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    assert reply.headers["Connection"] == "close"
    assert slow[0].channel.requests[0]._body == b""
    assert slow[1].received() is None
    # The body that was given up makes room for 150 bytes and no more.
    slow[1].send(b"x" * 150)
    assert slow[1].received() is None
    slow[1].send(b"x")
    reply = slow[1].received()
    assert reply is not None
    assert reply.status == 503


def test_body_of_a_call_under_way_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts until the call is answered, even if its caller has gone."""
    monkeypatch.setattr(room, "MAX_BODIES", 100)
    crowd = Crowd()
    busy = crowd.busy()
    held = len(json.dumps(upstream(1)))
    busy.channel.connectionLost(Failure(ConnectionError()))
    late = crowd.sending(b"x" * (101 - held))
    reply = late.received()
    assert reply is not None
    assert reply.status == 503
    assert crowd.plane.held
    crowd.plane.held.pop()()
    assert crowd.sending(b"x" * 100).received() is None


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_aborted_body_is_let_go_at_once(actions: Actions, framing: str) -> None:
    """It does not wait for garbage collection, which does not know how many bytes it holds."""
    gc.collect()
    gc.disable()
    try:
        client = WebClient(actions)
        if framing == "length":
            head(client, f"Content-Length: {MAX_BODY}")
            client.send(b"x" * 1_000_000)
        else:
            head(client, "Transfer-Encoding: chunked")
            client.send(b"fffff\r\n" + b"x" * 1_000_000)
        request = client.channel.requests[0]
        assert len(request._body) == 1_000_000
        client.channel.connectionLost(Failure(ConnectionError()))
        assert request._body == b""
        assert client.channel.room._body_bytes == 0
    finally:
        gc.enable()


def test_replies_nobody_reads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that calls and does not read gets no more replies; of several such clients the
    oldest is closed."""
    monkeypatch.setattr(room, "MAX_REPLIES", 10)
    crowd = Crowd()
    first = crowd.reading()
    first.request("GET", "/routes", Authorization="Bearer t")
    assert first.received() is None
    first.transport.stalls = False
    first.channel.resumeProducing()
    reply = first.received()
    assert reply is not None
    assert reply.status == 200
    # Each holds three bytes.
    rivals = [crowd.reading() for _ in range(3)]
    assert gone(first, *rivals) == [False, False, False, False]
    rivals.append(crowd.reading())
    assert gone(first, *rivals) == [False, True, False, False, False]


@pytest.mark.parametrize("state", ["come", "idle", "refused", "sending", "reading", "busy"])
def test_connection_that_ends_is_let_go_at_once(crowd: Crowd, state: str) -> None:
    """Its transport goes, too: an unread reply may hold megabytes, which garbage collection
    does not count."""
    gc.collect()
    gc.disable()
    try:
        client = getattr(crowd, state)()
        # A second call has been read and waits for the one under way.
        client.request("GET", "/routes", Authorization="Bearer t")
        channel, client.channel = client.channel, None
        channel.connectionLost(Failure(ConnectionError()))
        client.transport.unregisterProducer()
        if state == "busy":
            # The call goes on, and learns of it last.
            assert crowd.plane.held
            crowd.plane.held.pop()()
        gone = weakref.ref(channel)
        del channel
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("state", ["come", "idle", "refused", "sending"])
def test_half_closed_connection_is_closed(crowd: Crowd, state: str) -> None:
    """No call that had begun to arrive will be completed."""
    client = getattr(crowd, state)()
    client.channel.readConnectionLost()
    assert client.transport.disconnecting


def test_client_that_half_closes_gets_its_reply(crowd: Crowd) -> None:
    """It gets all its replies, and then the end."""
    client = crowd.busy()
    client.request("GET", "/routes", Authorization="Bearer t")
    client.channel.readConnectionLost()
    assert not client.transport.disconnecting
    assert crowd.plane.held
    crowd.plane.held.pop()()
    replies = [client.received(), client.received()]
    assert [reply and reply.status for reply in replies] == [200, 200]
    assert client.transport.disconnecting


def test_half_closed_client_reads_on(crowd: Crowd) -> None:
    """It may take its replies slowly, and is closed when it has taken all."""
    client = crowd.reading()
    client.request("GET", "/routes", Authorization="Bearer t")
    client.channel.readConnectionLost()
    assert not client.transport.disconnecting
    client.channel.resumeProducing()
    reply = client.received()
    assert reply is not None
    assert reply.status == 200
    assert client.transport.disconnecting


def test_slow_reader_has_time(crowd: Crowd) -> None:
    """It has 60 s for the reply; then it is an idle connection like others."""
    client = crowd.reading()
    crowd.clock.advance(58)
    client.channel.resumeProducing()
    crowd.clock.advance(14)
    assert not client.transport.disconnecting
    assert client.call("GET", "/routes", Authorization="Bearer t", Connection="close")
    crowd.clock.advance(59)
    assert not client.transport.aborted
    crowd.clock.advance(1)
    assert client.transport.aborted


def test_reader_is_told_before_its_body(actions: Actions) -> None:
    """A forbidden change is refused by its head; a short body is read and dropped, and the
    connection goes on."""
    token = {"name": "a", "sha256": sha256(b"t").hexdigest(), "role": "read"}
    client = WebClient(actions, tokens=[token])
    head(client, "Content-Length: 30", "Authorization: Bearer t")
    reply = client.received()
    assert reply is not None
    assert (reply.status, "Connection" in reply.headers) == (403, False)
    client.send(b"x" * 29)
    assert client.channel.requests[0]._body == b""
    client.send(b"x")
    assert client.call("GET", "/routes", Authorization="Bearer t").status == 200
    head(client, f"Content-Length: {MAX_BODY}", "Authorization: Bearer t")
    assert_refused(client, 403)


@pytest.mark.parametrize("how", ["Transfer-Encoding: chunked", "Expect: 100-continue"])
def test_reader_with_an_uncertain_body_is_sent_away(actions: Actions, how: str) -> None:
    """A client that waits for a 100 may send its next request instead of the body."""
    token = {"name": "a", "sha256": sha256(b"t").hexdigest(), "role": "read"}
    client = WebClient(actions, tokens=[token])
    length = ("Content-Length: 5",) if how.startswith("Expect") else ()
    head(client, how, "Authorization: Bearer t", *length)
    assert_refused(client, 403)


def test_end_of_listening_lets_calls_finish(actions: Actions) -> None:
    """Idle connections are closed at once, busy ones after their replies."""
    plane = FakePlane()
    actions = make_actions(FakeStore(), plane)
    idle = WebClient(actions)
    busy = WebClient(actions, site=idle.site)
    plane.held = []
    busy.request("PUT", "/upstream/a", upstream(1))
    idle.site.doStart()
    idle.site.doStop()
    assert idle.transport.disconnecting
    assert not busy.transport.disconnecting
    plane.held.pop()()
    reply = busy.received()
    assert reply is not None
    assert reply.status == 200
    assert busy.transport.disconnecting


# Real sockets.


class UnixConnection(http.client.HTTPConnection):
    """http.client over a unix socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def call(connection: http.client.HTTPConnection, *words: Any) -> tuple[int, bytes]:
    """One call; blocks."""
    connection.request(*words)
    reply = connection.getresponse()
    return reply.status, reply.read()


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_calls_over_real_sockets(actions: Actions, tmp_path: Path) -> None:
    """TCP and unix connections are kept alive; a client that sends too much can read the
    reason."""
    path = tmp_path / "control.sock"
    ports = []
    for endpoint in ("tcp:0:interface=127.0.0.1", f"unix:{path}:mode=600"):
        site = make_site(actions, Control(), reactor)
        ports.append(await serverFromString(reactor, endpoint).listen(site))
    tcp = http.client.HTTPConnection("127.0.0.1", ports[0].getHost().port, timeout=30)
    unix = UnixConnection(str(path), timeout=30)
    try:
        for connection in (tcp, unix):
            done = await deferToThread(call, connection, "PUT", "/routes", b"[]")
            assert done == (200, b'{"status": 200}\n')
            done = await deferToThread(call, connection, "GET", "/routes")
            assert done == (200, b"[]\n")
        status, body = await deferToThread(call, tcp, "PUT", "/routes", b" " * (MAX_BODY + 1))
        assert status == 413, body
    finally:
        tcp.close()
        unix.close()
        for port in ports:
            await port.stopListening()
