"""Heads that are read and written in C: the same ones as in Python, and as fast as they are meant.

The tests of heads run here once more, in both forms at a time.  ``SLARDAR_HEADS=1000000`` tries
so many changed heads of each kind instead of 20,000.
"""

from __future__ import annotations

import itertools
import os
import random
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from slardar.hooks import headers, objects
from slardar.http1 import client, heads, https, passing, record, reply, request, scan, writer
from slardar.http1.heads import BadMessage
from slardar.http1.reply import Reply, read_reply
from slardar.http1.request import Request, read_request
from slardar.http1.retry import is_idempotent
from slardar.testing.playbook import Playbook
from tests.http1 import mutations, test_heads, test_writer
from tests.http1.lines import GET, OK
from tests.http1.mutations import check_reply, check_request, described, joined
from tests.http1.native import build, load

pytestmark = pytest.mark.real

# The tests of heads are tests of this file, too.
for tests in (test_heads, test_writer):
    globals().update({name: test for name, test in vars(tests).items() if name[:5] == "test_"})

#: What each module takes from slardar.http1.scan, and under which name.
TAKEN = {
    "scan_request": (request, "_scan"),
    "scan_reply": (reply, "_scan"),
    "write_request": (writer, "_write_request"),
    "write_reply": (client, "_write_reply"),
    "count_lines": (headers, "_count_lines"),
    "find_values": (headers, "_find_values"),
    "put_lines": (headers, "_put_lines"),
}
#: What several modules take.
FINDS = {passing: "find_value", record: "find_value", https: "find_value", headers: "_find_value"}


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The extension: that of the package, or a new one where the package has none."""
    if scan.scan_request is not scan._scan_request:
        return import_module("slardar.http1.native")
    return load(build(tmp_path_factory.mktemp("native")))


@pytest.fixture(autouse=True)
def natively(native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package reads and writes with the extension, and each head is read in both forms."""
    for name, (module, own_name) in TAKEN.items():
        if getattr(module, own_name) is not getattr(native, name):
            monkeypatch.setattr(module, own_name, getattr(native, name))
    for module, own_name in FINDS.items():
        if getattr(module, own_name) is not native.find_value:
            monkeypatch.setattr(module, own_name, native.find_value)
    if objects._put_lines is not native.put_lines:
        monkeypatch.setattr(objects, "_put_lines", native.put_lines)
    for tests in (test_heads, test_writer):
        monkeypatch.setattr(tests, "parse_request", both_requests)
        monkeypatch.setattr(tests, "parse_reply", both_replies)


def both_requests(head: bytes, max_headers: int = 100, max_url: int = 8192) -> Request:
    """The request of both forms."""
    fast = read_request(head, 1 << 20, max_headers, max_url)
    try:
        slow = request.parse_request(head, max_headers, max_url)
    except BadMessage:
        assert fast is None
        raise
    if fast is None:
        return slow
    assert described(fast) == described(slow)
    again = read_request(head, 1 << 20, max_headers, max_url)
    assert again is not None
    return again


def both_replies(head: bytes, raw_method: bytes) -> Reply:
    """The reply of both forms."""
    fast = read_reply(head, raw_method)
    try:
        slow = reply.parse_reply(head, raw_method)
    except BadMessage:
        assert fast is None
        raise
    if fast is None:
        return slow
    fast.head = head
    assert described(fast) == described(slow)
    again = read_reply(head, raw_method)
    assert again is not None
    return again


BROWSER = joined(
    b"GET /a/b?c=d HTTP/1.1",
    [
        b"Host: www.example.com:8080",
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0",
        b"Accept: text/html,application/xhtml+xml,*/*;q=0.8",
        b"Accept-Encoding: gzip, deflate, br",
        b"Cookie: session=0123456789abcdef",
        b"Connection: keep-alive",
    ],
)
SERVER = joined(
    b"HTTP/1.1 200 OK",
    [
        b"Server: nginx/1.22.1",
        b"Content-Type: text/plain",
        b"Content-Length: 5",
        b"Connection: keep-alive",
        b'ETag: "5f-1"',
    ],
)


@pytest.mark.parametrize(
    "head",
    [
        GET,
        BROWSER,
        b"GET / HTTP/1.0\r\n\r\n",
        joined(b"GET / HTTP/1.0", [b"Host: app", b"Connection: Keep-Alive"]),
        joined(b"GET / HTTP/1.1", [b"Host: app", b"Connection: close"]),
        joined(b"POST /in HTTP/1.1", [b"Host: app", b"Content-Length: 5"]),
        joined(b"POST /in HTTP/1.1", [b"Host: app", b"Transfer-Encoding: chunked"]),
        joined(b"PUT / HTTP/1.1", [b"Host: app", b"Content-Length: 0", b"Expect: 100-continue"]),
        joined(b"GET / HTTP/1.1", [b"Host: a", b"Connection: Upgrade", b"Upgrade: websocket"]),
        joined(b"GET / HTTP/1.1", [b"Host:\ta\t", b"X-Forwarded-For: 1.1.1.1", b"TE: trailers"]),
        joined(b"GET / HTTP/1.1", [b"Host: a", b"X-Request-Id: x", b"X-Real-IP: 1.1.1.1"]),
        joined(
            b"GET / HTTP/1.1", [b"Host: a", b"X: \xe9\tx", b"Connection: X, close", b"Proxy: x"]
        ),
        joined(b"OPTIONS /x HTTP/1.1", [b"Host: [::1]:80", b"X_Forwarded_For: 6.6.6.6"]),
    ],
)
def test_usual_requests_are_read_fast(head: bytes) -> None:
    """They are not left to the Python form, and nothing behind a head makes a difference."""
    for behind in (b"", b"hello", GET, b"\r\n", b"\0"):
        assert check_request(head, behind)


@pytest.mark.parametrize(
    ("head", "method"),
    [
        (OK, b"GET"),
        (SERVER, b"GET"),
        (SERVER, b"HEAD"),
        (joined(b"HTTP/1.0 200 OK", [b"Connection: keep-alive", b"Content-Length: 5"]), b"GET"),
        (joined(b"HTTP/1.1 404 Nowhere", [b"Transfer-Encoding: chunked"]), b"GET"),
        (joined(b"HTTP/1.1 200 ", [b"Connection: close"]), b"GET"),
        (joined(b"HTTP/1.1 204 No Content", []), b"GET"),
        (joined(b"HTTP/1.1 304 Not Modified", [b"Content-Length: 5"]), b"GET"),
        (joined(b"HTTP/1.1 103 Early Hints", [b"Link: x"]), b"GET"),
        (joined(b"HTTP/1.1 426 X", [b"Upgrade: a/1", b"Connection: Upgrade, X", b"X: y"]), b"GET"),
    ],
)
def test_usual_replies_are_read_fast(head: bytes, method: bytes) -> None:
    """They are not left to the Python form, and nothing behind a head makes a difference."""
    head = head[: head.index(b"\r\n\r\n") + 4]
    for behind in (b"", b"hello", SERVER, b"\r\n", b"\0"):
        assert check_reply(head, method, behind)


def test_each_byte_at_each_place() -> None:
    """A head with any one byte changed is read as the Python form reads it, or left to that."""
    for head, check in (
        (b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", check_request),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n", check_reply),
        # Its path, names and values are longer than what is looked at together.
        (
            b"GET /orders/search/4711?page=1 HTTP/1.1\r\nA-Name-Of-Many-Words: and a long value\r\n"
            b"Host: a.long.name.of.a.host.example\r\nTransfer-Encoding: chunked\r\n\r\n",
            check_request,
        ),
    ):
        fast = 0
        for at, code in itertools.product(range(len(head)), range(256)):
            changed = head[:at] + bytes((code,)) + head[at + 1 :]
            fast += check(changed[: (changed + b"\r\n\r\n").index(b"\r\n\r\n") + 4])
        assert fast > 1000


@pytest.mark.parametrize("is_last", [False, True])
def test_names_that_are_almost_special(is_last: bool) -> None:
    """Each special name with any byte of it in another case or changed by one bit, and with one
    byte more and less, at the end of what is read and before other lines."""
    more = [] if is_last else [b"X-Another-Header: of some length"]
    for table, first, check in (
        (heads.OF_REQUEST, b"GET / HTTP/1.1\r\nHost: a", check_request),
        (heads.OF_REPLY, b"HTTP/1.1 200 OK", check_reply),
    ):
        for name in table:
            changes = [
                name[:at] + bytes((name[at] ^ 1 << bit,)) + name[at + 1 :]
                for at, bit in itertools.product(range(len(name)), range(8))
            ]
            for changed in (name, name.upper(), name[1:], name[:-1], name + b"x", *changes):
                check(joined(first, [changed + b": 1", *more]))


def test_parts_of_heads_are_no_heads() -> None:
    """What is not whole is left to the Python form, wherever it ends."""
    for end in range(len(BROWSER)):
        assert read_request(BROWSER[:end]) is None
    for end in range(len(SERVER)):
        assert read_reply(SERVER[:end], b"GET") is None


def test_limits() -> None:
    """At each limit the head is read; past it the Python form says which one it is."""
    size, count, target = len(BROWSER), 6, len(b"/a/b?c=d")
    assert read_request(BROWSER, size, count, target) is not None
    for limits in ((size - 1, count, target), (size, count - 1, target), (size, count, target - 1)):
        assert read_request(BROWSER, *limits) is None
    assert read_reply(SERVER, b"GET", len(SERVER), 5) is not None
    assert read_reply(SERVER, b"GET", len(SERVER) - 1, 5) is None
    assert read_reply(SERVER, b"GET", len(SERVER), 4) is None


def test_more_than_there_is_room_for() -> None:
    """Heads in many pieces, or with many special headers, are left to the Python form."""
    for count, is_read in ((30, True), (40, False)):
        lines = [b"X: y", b"Keep-Alive: 5"] * count
        assert check_request(joined(b"GET / HTTP/1.1", [b"Host: a", *lines])) == is_read
        assert check_reply(joined(b"HTTP/1.1 200 OK", lines)) == is_read
        lines = [b"X-Forwarded-For: 1.1.1.1"] * count
        assert check_request(joined(b"GET / HTTP/1.1", [b"Host: a", *lines])) == is_read
        lines = [b"Upgrade: x"] * count
        assert check_reply(joined(b"HTTP/1.1 200 OK", lines)) == is_read


def test_every_special_header_is_known() -> None:
    """Each name of the tables, in any case, means the same in both forms."""
    for table, read in (
        (heads.OF_REQUEST, lambda line: check_request(joined(b"GET / HTTP/1.0", [b"X: y", line]))),
        (heads.OF_REPLY, lambda line: check_reply(joined(b"HTTP/1.1 200 OK", [b"X: y", line]))),
    ):
        for name in table:
            for spelled in (name, name.swapcase(), name + b"-x", b"x" + name, name[:-1]):
                is_read = read(spelled + b": 5")
                meaning = table.get(spelled.lower())
                assert is_read == (meaning not in (heads.CODING, heads.EXPECT, heads.EXPLAIN))


@pytest.mark.parametrize(
    ("seeds", "check", "least"),
    [
        (mutations.REQUESTS, check_request, 0.3),
        (mutations.REPLIES, check_reply, 0.4),
    ],
)
def test_changed_heads(seeds: list[bytes], check: Any, least: float) -> None:
    """What is read fast is what the Python form accepts, with all fields the same."""
    count = int(os.environ.get("SLARDAR_HEADS", "20000"))
    seed = 1 if count == 20000 else random.randrange(1 << 32)
    fast = 0
    for head in itertools.islice(mutations.heads(seeds, seed), count):
        try:
            fast += check(head)
        except (AssertionError, BadMessage) as error:
            pytest.fail(f"{head!r} (of {seed}): {error!r}")
    assert fast > least * count


def test_hosts_are_kept(native: ModuleType) -> None:
    """A Host that came before is the same object, and never another one's, long ones included."""
    hosts = [b"%d.a-name-that-begins-alike.test" % number for number in range(300)]
    hosts += [b"a-name-that-begins-alike-%d.test" % number for number in range(300)]
    hosts += [b"a" * size for size in (1, 15, 16, 17, 254, 255, 256, 4000)]
    hosts += [host.swapcase() for host in hosts]
    for host in hosts:
        head = joined(b"GET / HTTP/1.1", [b"Host: " + host])
        first, second = native.scan_request(head)[5], native.scan_request(head)[5]
        assert first == second == host
        assert (first is second) == (len(host) <= 255)


def test_methods_are_known_objects(native: ModuleType) -> None:
    """So that the commonest one is found without a look at its bytes; a copy is one as well."""
    for method in heads.METHODS:
        assert native.scan_request(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")[1] is method
    copy = bytes(bytearray(heads.GET))
    assert copy is not heads.GET
    assert is_idempotent(copy)
    assert not is_idempotent(b"POST")


def test_one_request_id_is_read(native: ModuleType) -> None:
    """Several make one list, and an empty one is none: that is left to the Python form."""
    for values, is_read in (([b"x y"], True), ([b"x", b"y"], False), ([b""], False)):
        lines = [b"Host: a", *(b"X-Request-Id:\t" + value + b" " for value in values)]
        found = native.scan_request(joined(b"GET / HTTP/1.1", lines))
        assert (found is not None and found[6] == values[0]) == is_read


def test_written_heads(native: ModuleType) -> None:
    """Both forms write the same bytes."""
    dice = random.Random(1)
    for _ in range(300):
        pieces = [dice.randbytes(dice.choice((0, 1, 7, 300))) for _ in range(9)]
        assert native.write_request(*pieces) == scan._write_request(*pieces)
        block, more, body, *_ = pieces
        for length in (-3, -2, -1, 0, 5, dice.randrange(1 << 63), 2**63 - 1, 2**63, 2**64 - 1):
            for size in {0, len(body) // 2, len(body)}:
                reply = (block, length, more, body, size)
                assert native.write_reply(*reply) == scan._write_reply(*reply)
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match="within its bytes"):
            native.write_reply(b"", 0, b"", b"body", wrong)


def test_values_are_found(native: ModuleType) -> None:
    """Both forms find the same value in any block, and the first one of several."""
    block = b"\r\nHost: no\r\nX-Ab:\t1 \r\nx-aB: 2\r\nX:\r\nX-Abc: 3\r\nY:4"
    found = {name: native.find_value(block, name) for name in (b"x-ab", b"x", b"x-abc", b"y", b"z")}
    assert found == {b"x-ab": b"1", b"x": b"", b"x-abc": b"3", b"y": b"4", b"z": None}
    assert native.find_value(b"HTTP/1.1 200 x: 1\r\nX: 2", b"x") == b"2"
    dice = random.Random(1)
    for _ in range(3000):
        parts = b"\r\n|\r|\n|x|X|-|:| |\t|ab|\xe9|@|`".split(b"|")
        block = b"".join(dice.choices(parts, k=dice.randint(0, 30)))
        name = dice.choice((b"x", b"x-ab", b"ab", b"xx", b"`"))
        assert native.find_value(block, name) == scan._find_value(block, name), (block, name)
    for end in range(len(block)):
        native.find_value(block[:end], b"y")


def test_lines_are_put(native: ModuleType) -> None:
    """Both forms put the same lines into any block, refuse the same ones, and count alike."""
    block = b"HTTP/1.1 200 x: 1\r\nX: 1\r\nXY: 2\r\nx:3\r\nZ: 4"
    put = native.put_lines
    assert put(block, b"x", b"\r\nX: 5", 9, 99) == (b"HTTP/1.1 200 x: 1\r\nX: 5\r\nXY: 2\r\nZ: 4")
    assert put(block, b"n", b"\r\nN: 5\r\nn: 6", 9, 99) == block + b"\r\nN: 5\r\nn: 6"
    assert put(block, b"x", b"", 9, 99) == b"HTTP/1.1 200 x: 1\r\nXY: 2\r\nZ: 4"
    assert put(b"", b"x", b"\r\nX: 1", 1, 6) == b"\r\nX: 1"
    assert put(b"", b"x", b"\r\nX: 1", 0, 6) is put(b"", b"x", b"\r\nX: 1", 1, 5) is None
    assert native.find_values(block, b"x") == [b"1", b"3"]
    assert (native.count_lines(block), native.count_lines(b"")) == (4, 0)
    dice = random.Random(2)
    parts = b"\r\n|\r\n|\r\nx:|\r|\n|x|X|-|:| |\t|ab|\xe9|`".split(b"|")
    refused = 0
    for _ in range(5000):
        block, made = (b"".join(dice.choices(parts, k=dice.randint(0, 30))) for _ in range(2))
        made = made and b"\r\n" + made
        name = dice.choice((b"x", b"x-ab", b"ab", b"xx", b"`", b""))
        what = (block, name, made, dice.choice((5, 10, 99)), dice.choice((20, 50, 999)))
        found = put(*what)
        assert found == scan._put_lines(*what), what
        refused += found is None
        assert native.find_values(block, name) == scan._find_values(block, name), what
        assert native.count_lines(block) == scan._count_lines(block), block
    assert 500 < refused < 4500


def test_other_types_are_refused(native: ModuleType) -> None:
    """Only bytes are read and written: others could change while they are."""
    for wrong in (None, "x", bytearray(GET), memoryview(GET)):
        with pytest.raises(TypeError):
            native.scan_request(wrong)
        with pytest.raises(TypeError):
            native.scan_reply(wrong)
        with pytest.raises(TypeError):
            native.find_value(wrong, b"x")
        with pytest.raises(TypeError):
            native.find_value(b"x", wrong)
        with pytest.raises(TypeError):
            native.find_values(wrong, b"x")
        with pytest.raises(TypeError):
            native.find_values(b"x", wrong)
        with pytest.raises(TypeError):
            native.count_lines(wrong)
        for place in range(3):
            texts: list[Any] = [b"x", b"x", b"x"]
            texts[place] = wrong
            with pytest.raises(TypeError):
                native.put_lines(*texts, 9, 99)
        for place in range(9):
            with pytest.raises(TypeError):
                native.write_request(*[b"x"] * place, wrong, *[b"x"] * (8 - place))
        for place in (0, 2, 3):
            pieces: list[Any] = [b"x", 5, b"x", b"x", 0]
            pieces[place] = wrong
            with pytest.raises(TypeError):
                native.write_reply(*pieces)


def test_play() -> None:
    """A request and its reply go through, read and written in C, and never become lists."""
    play = Playbook()
    play.client_sends(BROWSER)
    sent = play.origin_gets()
    assert sent.startswith(b"GET /a/b?c=d HTTP/1.1\r\nHost: www.example.com:8080\r\nUser-Agent: ")
    assert b"\r\nConnection" not in sent
    play.origin_sends(SERVER + b"hello")
    assert play.client_gets() == (
        b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nContent-Type: text/plain\r\n"
        b'ETag: "5f-1"\r\nContent-Length: 5\r\n\r\nhello'
    )
    (asked,) = play.host.began
    assert isinstance(asked.given_lines(), bytes)
    (record,) = play.host.observer.records
    assert record.get_header(b"user-agent").startswith(b"Mozilla/5.0 ")
    assert record.lines[1:] == BROWSER[:-4].split(b"\r\n")[2:-1]
    play.finish()
