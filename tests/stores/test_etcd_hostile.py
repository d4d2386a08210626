"""What a tree makes of an etcd that lies, rambles or falls silent: without sockets, in no time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from slardar.errors import StoreError
from slardar.stores.etcd import EtcdTree
from slardar.stores.etcd_client import Credentials, Gateway
from slardar.stores.etcd_exchange import Member
from slardar.stores.tree import Content, Entry, LostRaceError, Write
from tests.stores.etcd_server import base64

SEEN = Content(5, {"a": Entry(b"1", 5)})


class Wire(StringTransport):
    """One connection, seen from the server."""

    protocol: Any

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.member = member
        self.is_open = True

    @property
    def path(self) -> str:
        """The call that was made."""
        return self.value().split(b" ")[1].decode()

    @property
    def body(self) -> Any:
        """What the call said."""
        return json.loads(self.value().partition(b"\r\n\r\n")[2])

    @property
    def token(self) -> str:
        """The token that came with it, if any."""
        for line in self.value().split(b"\r\n"):
            if line.lower().startswith(b"authorization: "):
                return line.partition(b": ")[2].decode()
        return ""

    def send(self, data: bytes) -> None:
        """Raw bytes to the client."""
        if self.is_open:
            self.protocol.dataReceived(data)

    def answer(self, body: object, status: str = "200 OK") -> None:
        """A whole answer: bytes, or something to be JSON."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send(
            b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(text)) + text
        )

    def begin(self, revision: int = 5) -> None:
        """The beginning of a watch."""
        self.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        self.tell(created=True, header={"revision": str(revision)})

    def tell(self, **result: Any) -> None:
        """One result of a watch."""
        result.setdefault("header", {"revision": "9"})
        self.send(json.dumps({"result": result}).encode() + b"\n")

    def end(self) -> None:
        """The server closes the connection."""
        self._gone(ConnectionDone())

    def abortConnection(self) -> None:
        self._gone(ConnectionAborted())

    def loseConnection(self) -> None:
        self._gone(ConnectionDone())

    def _gone(self, reason: Exception) -> None:
        if self.is_open:
            self.is_open = False
            self.protocol.connectionLost(Failure(reason))


class Fake:
    """A tree whose etcd is the test."""

    def __init__(self, *members: str, credentials: Credentials | None = None) -> None:
        self.clock = Clock()
        #: All connections, in order.
        self.wires: list[Wire] = []
        #: Hosts that refuse connections.
        self.down: set[str] = set()
        hosts = [Member(host, 2379) for host in members or ("etcd",)]
        gateway = Gateway(
            hosts, self.clock, credentials, connect=lambda member: Place(self, member)
        )
        self.tree = EtcdTree(gateway, b"/s/", self.clock)
        self.contents: list[Content] = []
        self.reasons: list[str] = []

    @property
    def last(self) -> Wire:
        """The newest connection, which must be open."""
        assert self.wires[-1].is_open
        return self.wires[-1]

    @property
    def open(self) -> list[Wire]:
        """The connections that are open."""
        return [one for one in self.wires if one.is_open]

    def watch(self) -> Wire:
        """A watch that has begun."""
        self.tree.watch(SEEN, self.contents.append, self.reasons.append)
        self.last.begin()
        return self.last

    def reason(self, answer: Deferred[Any]) -> str:
        """Why a call has failed."""
        errors: list[Any] = []
        answer.addErrback(errors.append)
        assert errors, "it has not failed"
        assert errors[0].check(StoreError), errors[0]
        text = str(errors[0].value)
        assert "\n" not in text
        assert len(text) < 300
        return text


class Place:
    """The endpoint of a member."""

    def __init__(self, fake: Fake, member: Member) -> None:
        self.fake = fake
        self.member = member

    def connect(self, factory: Any) -> Deferred[Any]:
        """A new connection, at once."""
        if self.member.host in self.fake.down:
            return fail(ConnectionRefusedError())
        wire = Wire(self.member)
        wire.protocol = factory.buildProtocol(None)
        self.fake.wires.append(wire)
        wire.protocol.makeConnection(wire)
        return succeed(wire.protocol)


@pytest.fixture
def fake() -> Iterator[Fake]:
    """An etcd with one member; the tree is closed after the test."""
    made = Fake()
    yield made
    made.tree.close()
    assert not made.open
    assert not made.clock.getDelayedCalls()


def key(name: str, value: str = "", revision: object = 6) -> dict[str, Any]:
    """A key in the gateway's JSON."""
    return {"key": base64(f"/s/{name}"), "value": base64(value), "mod_revision": str(revision)}


DEEP = b"[" * 100_000

WRONG_ANSWERS = [
    b"",
    b"garbage",
    b"\xff\xfe",
    b"[]",
    b"null",
    b"{}",
    DEEP,
    b'{"header": ' + DEEP,
    b'{"header": {}, "unknown": ' + DEEP,
    {"header": {"revision": "x"}},
    {"header": {"revision": "-1"}},
    {"header": {"revision": "1" * 400}},
    {"header": {"revision": 1e300}},
    {"header": {"revision": "9"}, "kvs": {}},
    {"header": {"revision": "9"}, "kvs": [{}]},
    {"header": {"revision": "9"}, "kvs": [{"key": "?"}]},
    {"header": {"revision": "9"}, "kvs": [{"key": 1}]},
    # A key that nobody has asked for, the same one twice, none of this revision.
    {"header": {"revision": "9"}, "kvs": [{"key": base64("/t/a"), "mod_revision": "1"}]},
    {"header": {"revision": "9"}, "kvs": [key("a"), key("a")]},
    {"header": {"revision": "9"}, "kvs": [key("b"), key("a")]},
    {"header": {"revision": "9"}, "kvs": [key("a", revision=10)]},
    {"header": {"revision": "9"}, "kvs": [key("a", revision=0)]},
]


@pytest.mark.parametrize("answer", WRONG_ANSWERS)
def test_answer_that_makes_no_sense(fake: Fake, answer: object) -> None:
    """It is one line of an error, and the connection is closed."""
    call = fake.tree.read()
    fake.last.answer(answer)
    assert fake.reason(call).startswith("etcd http://etcd:2379: ")
    assert not fake.open


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        ("500 Oops", b"x" * 100_000, "HTTP status 500"),
        ("404 Not Found", b"Not Found", "HTTP status 404"),
        ("301 Moved", b"", "HTTP status 301"),
        ("400 Bad", {"error": "a\nb\x00\u202e", "code": 3}, "a b??"),
        ("400 Bad", {"message": "m" * 10_000, "code": 3}, "m" * 197 + "..."),
        ("503 Busy", {"error": {"message": "busy"}}, "busy"),
        ("400 Bad", {"error": 5, "code": "x"}, "HTTP status 400"),
        ("400 Bad", DEEP, "HTTP status 400"),
    ],
)
def test_error_is_shown_on_one_line(fake: Fake, status: str, body: object, reason: str) -> None:
    """Whatever the server has put into it."""
    call = fake.tree.read()
    fake.last.answer(body, status)
    assert fake.reason(call) == f"etcd http://etcd:2379: {reason}"


def test_answer_has_bounds(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes, in the head and in time; a server that sends a byte now and then included."""
    monkeypatch.setattr("slardar.stores.etcd_client.MAX_ANSWER", 1000)
    monkeypatch.setattr("slardar.stores.etcd_keys.PAGE", 1)
    call = fake.tree.read()
    fake.last.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"x" * 1001)
    assert fake.reason(call) == "etcd http://etcd:2379: its answer is larger than 1000 bytes"
    call = fake.tree.read()
    fake.last.send(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000)
    fake.reason(call)
    call = fake.tree.read()
    fake.clock.advance(5.1)
    assert fake.reason(call) == "etcd http://etcd:2379: no answer within 5 s"
    call = fake.tree.read()
    fake.last.send(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
    for _ in range(70):
        if fake.open:
            fake.last.send(b" ")
            fake.clock.advance(1)
    assert fake.reason(call) == "etcd http://etcd:2379: no answer within 5 s"


def test_endless_tree_has_an_end(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may always say that there is more."""
    monkeypatch.setattr("slardar.stores.etcd_keys.MAX_TREE", 100_000)
    call = fake.tree.read()
    for n in range(1000):
        if fake.open:
            page = [key(f"{n:04}", "v" * 1000)]
            fake.last.answer({"header": {"revision": "9"}, "kvs": page, "more": True})
    assert fake.reason(call) == "etcd http://etcd:2379: more than 100000 bytes of keys"
    assert len(fake.wires) < 150


def test_cookies_and_redirects_are_not_followed(fake: Fake) -> None:
    """The call goes to no other place, and takes nothing with it."""
    call = fake.tree.read()
    head = b"HTTP/1.1 307 Go\r\nLocation: http://other/\r\nSet-Cookie: a=b\r\n"
    fake.last.send(head + b"Content-Length: 0\r\n\r\n")
    assert fake.reason(call) == "etcd http://etcd:2379: HTTP status 307"
    fake.tree.read().addErrback(lambda failure: None)
    assert b"ookie" not in fake.last.value()
    assert len(fake.wires) == 2


# Writes.


def lose(wire: Wire) -> None:
    """The connection ends without an answer."""
    wire.end()


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (lose, "Connection was closed cleanly; nobody knows whether it was done"),
        (
            lambda wire: wire.answer(
                {"error": "etcdserver: request timed out", "code": 14}, "503 x"
            ),
            "etcdserver: request timed out; nobody knows whether it was done",
        ),
        (
            lambda wire: wire.answer(b"{", "200 OK"),
            "its answer makes no sense: Input data was truncated; nobody knows whether it was done",
        ),
        (
            lambda wire: wire.answer({"error": "etcdserver: mvcc: no space", "code": 8}, "429 x"),
            "etcdserver: mvcc: no space",
        ),
    ],
)
def test_write_is_never_made_again(happens: Callable[[Wire], None], reason: str) -> None:
    """If it may have been made, not even at another member."""
    fake = Fake("a", "b", credentials=Credentials("joe", "secret"))
    call = fake.tree.write([Write("a", b"1")])
    fake.last.answer({"token": "t"})
    assert fake.last.path == "/v3/kv/txn"
    happens(fake.last)
    assert fake.reason(call) == f"etcd http://a:2379: {reason}"
    assert [one.path for one in fake.wires] == ["/v3/auth/authenticate", "/v3/kv/txn"]


def test_write_that_was_not_made_goes_to_the_next_member() -> None:
    """Where no connection is made, and where a member has no leader."""
    fake = Fake("a", "b", "c")
    fake.down = {"a"}
    call = fake.tree.write([Write("a", b"1", 0)])
    assert fake.last.member.host == "b"
    fake.last.answer({"error": "etcdserver: no leader", "code": 14}, "503 Unavailable")
    assert fake.last.member.host == "c"
    answers: list[int] = []
    call.addCallback(answers.append)
    fake.last.answer({"header": {"revision": "7"}, "succeeded": True})
    assert answers == [7]
    # The member that has answered is asked first from now on.
    call = fake.tree.write([Write("a", b"1", 0)])
    assert fake.last.member.host == "c"
    fake.last.answer({"header": {"revision": "7"}})
    errors: list[Any] = []
    call.addErrback(errors.append)
    assert errors[0].check(LostRaceError)


def test_all_members_that_fail_are_named() -> None:
    """Each with its reason."""
    fake = Fake("a", "b")
    fake.down = {"a"}
    call = fake.tree.read()
    fake.last.answer(b"", "503 Busy")
    assert fake.reason(call) == (
        "etcd http://a:2379: Connection was refused by other side;"
        " etcd http://b:2379: HTTP status 503"
    )


# Tokens.


def test_token_that_etcd_does_not_know() -> None:
    """Some versions close the connection: a read is made again with a new token, and before a
    write that comes after a pause a read shows whether the token still holds."""
    fake = Fake(credentials=Credentials("joe", "secret"))
    call = fake.tree.read()
    assert fake.last.body == {"name": "joe", "password": "secret"}
    fake.last.answer({"token": "one"})
    assert fake.last.token == "one"
    fake.last.answer({"header": {"revision": "9"}})
    assert call.result == Content(9, {})
    call = fake.tree.read()
    assert fake.last.token == "one"
    fake.last.end()
    assert fake.last.path == "/v3/auth/authenticate"
    assert not fake.last.token
    fake.last.answer({"token": "two"})
    assert fake.last.token == "two"
    fake.last.answer({"header": {"revision": "9"}})
    assert call.result == Content(9, {})
    fake.clock.advance(31)
    written = fake.tree.write([Write("a", b"1")])
    assert fake.last.path == "/v3/kv/range"
    fake.last.end()
    fake.last.answer({"token": "three"})
    assert (fake.last.path, fake.last.token) == ("/v3/kv/range", "three")
    fake.last.answer({"header": {"revision": "9"}})
    assert (fake.last.path, fake.last.token) == ("/v3/kv/txn", "three")
    fake.last.answer({"header": {"revision": "10"}, "succeeded": True})
    assert written.result == 10


@pytest.mark.parametrize("token", ["", "a\r\nX: y", "\u00e9", "x" * 9000])
def test_token_that_cannot_be_sent(token: str) -> None:
    """It is refused, and not shown."""
    fake = Fake(credentials=Credentials("joe", "secret"))
    call = fake.tree.read()
    for _ in range(2):
        if fake.open:
            fake.last.answer({"token": token})
    assert fake.reason(call) == "etcd http://etcd:2379: its token cannot be used"


# The watch.

WRONG_LINES = [
    b"garbage\n",
    DEEP + b"\n",
    b"{}\n",
    b'{"result": {"header": {}, "events": [{"kv": {"key": "?"}}]}}\n',
    b'{"result": {"header": {}, "events": [{"type": "NEW", "kv": {"key": "L3MvYQ=="}}]}}\n',
    b'{"result": {"header": {}, "events": [{"kv": {"key": "L3QvYQ==", "mod_revision": "7"}}]}}\n',
    b'{"result": {"header": {}, "canceled": true, "cancel_reason": "no\\nmore"}}\n',
]


@pytest.mark.parametrize("line", WRONG_LINES)
def test_watch_that_makes_no_sense_is_begun_anew(fake: Fake, line: bytes) -> None:
    """After a pause, with all keys read; the reason is told."""
    wire = fake.watch()
    wire.send(line)
    assert not wire.is_open
    assert len(fake.reasons) == 1
    assert fake.reasons[0].startswith("etcd http://etcd:2379: ")
    assert "\n" not in fake.reasons[0]
    fake.clock.advance(0.1)
    assert fake.last.path == "/v3/kv/range"
    fake.last.answer({"header": {"revision": "5"}, "kvs": [key("a", "1", 5)]})
    assert fake.contents == [SEEN]
    assert fake.contents[0].entries["a"] is SEEN.entries["a"]
    assert fake.last.path == "/v3/watch"
    assert fake.last.body["create_request"]["start_revision"] == 6


@pytest.mark.parametrize("error", [{"message": "etcdserver: no leader"}, "x", [], {"message": 1}])
def test_watch_that_a_member_ends_goes_on_at_another(error: object) -> None:
    """Without a word of failure, and without reading all keys."""
    fake = Fake("a", "b")
    fake.watch().send(json.dumps({"error": error}).encode() + b"\n")
    fake.clock.advance(0.1)
    assert (fake.last.path, fake.last.member.host) == ("/v3/watch", "a")
    fake.last.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    fake.last.send(json.dumps({"error": error}).encode() + b"\n")
    assert (fake.last.path, fake.last.member.host) == ("/v3/watch", "b")
    fake.last.begin()
    assert not fake.reasons
    fake.tree.close()


def test_watch_leaves_a_member_that_hangs() -> None:
    """The check finds it out: another member answers."""
    fake = Fake("a", "b")
    first = fake.watch()
    fake.clock.advance(60)
    assert (fake.last.path, fake.last.member.host) == ("/v3/kv/range", "a")
    fake.clock.advance(5.1)
    assert (fake.last.path, fake.last.member.host) == ("/v3/kv/range", "b")
    fake.last.answer({"header": {"revision": "9"}, "kvs": [key("a", "", 5)], "count": "1"})
    assert not first.is_open
    fake.clock.advance(0.1)
    assert (fake.last.path, fake.last.member.host) == ("/v3/watch", "b")
    assert not fake.reasons
    fake.tree.close()


def test_changes_that_come_together_are_told_once(fake: Fake) -> None:
    """A storm costs few changes; what came before a mistake is told, too."""
    wire = fake.watch()
    lines = b""
    for n in range(6, 1006):
        result = {"header": {"revision": f"{n}"}, "events": [{"kv": key("a", f"{n}", n)}]}
        lines += json.dumps({"result": result}).encode() + b"\n"
    for start in range(0, len(lines), 65536):
        wire.send(lines[start : start + 65536])
    assert fake.contents[-1] == Content(1005, {"a": Entry(b"1005", 1005)})
    assert len(fake.contents) < 5
    del fake.contents[:]
    wire.send(lines.splitlines()[-1].replace(b"1005", b"1006") + b"\ngarbage\n")
    assert [one.index for one in fake.contents] == [1006]
    assert len(fake.reasons) == 1


def test_lines_have_bounds(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without an end, and fragments without an end."""
    monkeypatch.setattr("slardar.stores.etcd_stream.MAX_LINE", 1000)
    monkeypatch.setattr("slardar.stores.etcd_stream.MAX_GATHERED", 2000)
    wire = fake.watch()
    for _ in range(12):
        wire.send(b"x" * 100)
    assert fake.reasons == ["etcd http://etcd:2379: a line of a watch is longer than 1000 bytes"]
    fake.clock.advance(0.1)
    fake.last.answer({"header": {"revision": "5"}})
    wire = fake.last
    wire.begin()
    for _ in range(30):
        wire.tell(fragment=True, events=[{"kv": key("b", "v" * 50)}])
    assert fake.reasons[1:] == ["etcd http://etcd:2379: it tells of more than 2000 bytes at a time"]
    assert len(fake.contents) == 1


def test_fragments_are_one_change(fake: Fake) -> None:
    """However the bytes come."""
    wire = fake.watch()
    events: list[dict[str, Any]] = [
        {"kv": key("b", "2")},
        {"kv": key("c", "3")},
        {"type": "DELETE", "kv": {"key": base64("/s/a"), "mod_revision": "6"}},
    ]
    whole = b""
    for n, event in enumerate(events):
        result = {"header": {"revision": "6"}, "fragment": n < 2, "events": [event]}
        whole += json.dumps({"result": result}).encode() + b"\n"
    for byte in whole[:-1]:
        wire.send(bytes((byte,)))
    assert not fake.contents
    wire.send(b"\n")
    assert fake.contents == [Content(6, {"b": Entry(b"2", 6), "c": Entry(b"3", 6)})]
    # What is known is not told again.
    wire.tell(events=[events[0]])
    assert len(fake.contents) == 1
    assert not fake.reasons


def test_member_that_is_behind_is_not_believed(fake: Fake) -> None:
    """A watch that begins at an older revision may be that of a state that was restored."""
    fake.tree.watch(SEEN, fake.contents.append, fake.reasons.append)
    fake.last.begin(revision=4)
    fake.clock.advance(0.1)
    assert fake.last.path == "/v3/kv/range"
    fake.last.answer({"header": {"revision": "4"}, "kvs": [key("a", "0", 3)]})
    assert fake.contents == [Content(4, {"a": Entry(b"0", 3)})]
    assert fake.last.body["create_request"]["start_revision"] == 5
    assert not fake.reasons


@pytest.mark.parametrize("down", [True, False])
def test_tree_may_be_closed_by_who_is_told(fake: Fake, down: bool) -> None:
    """In the middle of whatever the watch does."""

    def close(what: object) -> None:
        told.append(what)
        fake.tree.close()

    told: list[object] = []
    fake.tree.watch(SEEN, close, close if down else fake.reasons.append)
    fake.last.answer(b"", "503 Busy")
    if not down:
        fake.clock.advance(0.1)
        fake.last.answer({"header": {"revision": "5"}})
    fake.clock.advance(60)
    assert len(told) == 1
    assert not fake.open


def test_pauses_grow(fake: Fake) -> None:
    """Up to 15 s, with jitter; a watch that is cut again and again does not spin."""
    fake.down = {"etcd"}
    fake.tree.watch(SEEN, fake.contents.append, fake.reasons.append)
    times = []
    for _ in range(6000):
        before = len(fake.reasons)
        fake.clock.advance(0.01)
        if len(fake.reasons) > before:
            times.append(fake.clock.seconds())
    assert 8 <= len(times) <= 16
    assert times[0] <= 0.11
    assert times[-1] - times[-2] <= 15.02
    fake.down.clear()
    fake.clock.advance(15)
    fake.last.answer({"header": {"revision": "5"}})
    count = len(fake.wires)
    for _ in range(60):
        for wire in fake.open:
            if wire.path == "/v3/watch":
                wire.begin()
                wire.end()
        fake.clock.advance(1)
    assert len(fake.wires) - count < 20


def test_idle_watch_asks_little(fake: Fake) -> None:
    """At most two requests a minute, and a new watch when nothing is told for 21 minutes."""
    watches = [fake.watch()]
    for _ in range(3 * 3600):
        for wire in fake.open:
            if wire.path == "/v3/kv/range":
                wire.answer({"header": {"revision": "50"}, "kvs": [key("a", "", 5)], "count": "1"})
            elif wire not in watches:
                # What was seen by then need not be told again, and may be compacted.
                assert wire.body["create_request"]["start_revision"] == 51
                watches.append(wire)
                wire.begin(50)
        fake.clock.advance(1)
    minutes = 3 * 60
    assert minutes <= len(fake.wires) <= 1.7 * minutes
    assert len(watches) == 1 + minutes // 22
    assert not fake.reasons
    assert not fake.contents
