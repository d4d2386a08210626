"""Lines of access logs that are written in C: the same bytes as in Python."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib import import_module
from time import time
from types import ModuleType
from typing import Any

import pytest

from slardar.http1.record import DecisionNote, RequestRecord
from slardar.http1.tls import TlsFacts
from slardar.http1.tracing import TraceContext
from slardar.observers import lines
from slardar.observers.lines import JsonLines, NativeJsonLines
from tests.http1.native import LINES, build, load
from tests.observers.kit import record_of

pytestmark = pytest.mark.real

#: Bytes of a line before its time, and up to the end of it.
_BEFORE = len('{"time":"')
_TIME = _BEFORE + len("2001-09-09T01:46:40.123Z")

#: Texts that need no escape, and those that do or that are none.
_PLAIN = [b"", b"a", b"ab", b"abc", b"curl/8", b"~ !#[]^`{|}", b"x" * 8, b"y" * 17, b"z" * 300]
_ODD = [b'"', b"\\", b"\x00", b"\x1f", b"\x7f", b"\x80", b"\xff", "é€".encode(), b"\xc2\x85"]


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The extension: that of the package, or a new one where the package has none."""
    if lines._LineWriter is not None:
        return import_module(LINES)
    return load(build(tmp_path_factory.mktemp("native"), LINES), LINES)


@pytest.fixture(autouse=True)
def natively(native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package writes with the extension."""
    if lines._LineWriter is not native.LineWriter:
        monkeypatch.setattr(lines, "_LineWriter", native.LineWriter)


def both(*records: RequestRecord, most: int = 65536) -> tuple[bytes, bool]:
    """The lines of the records, the same ones from both forms, and whether C has written the
    last one."""
    fast, slow = NativeJsonLines("worker-0", most), JsonLines("worker-0", most)
    for record in records:
        fast.add(record)
        slow.add(record)
    is_written = fast._has_written
    assert fast.waiting == len(records)
    data, expected = fast.take(), slow.take()
    assert timeless(data) == timeless(expected)
    assert fast.waiting == slow.waiting == 0
    assert fast.take() == b""
    return data, is_written


def timeless(data: bytes) -> list[bytes]:
    return [line[_TIME:] for line in data.splitlines(True)]


def set_text(name: str) -> Callable[[RequestRecord, bytes], None]:
    """Sets an attribute of a record that is text or bytes."""

    def set_one(record: RequestRecord, value: bytes) -> None:
        is_text = isinstance(getattr(record, name), str)
        setattr(record, name, value.decode("utf-8", "surrogateescape") if is_text else value)

    return set_one


def set_header(header: bytes) -> Callable[[RequestRecord, bytes], None]:
    def set_one(record: RequestRecord, value: bytes) -> None:
        record._lines = b"\r\nAccept: */*\r\n%b: \t%b \r\nX: y" % (header, value)

    return set_one


def set_id(record: RequestRecord, value: bytes) -> None:
    assert record.request is not None
    record.request.request_id = value


def set_server(record: RequestRecord, value: bytes) -> None:
    record.first.server = value.decode("utf-8", "surrogateescape")


def set_decision(record: RequestRecord, value: bytes) -> None:
    record.decision = DecisionNote(value.decode("utf-8", "surrogateescape"))


#: How each text of a line is set.
TEXTS = {
    **{name: set_text(name)
       for name in ("client", "method", "host", "uri", "upstream", "hook", "error")},
    "user_agent": set_header(b"User-Agent"),
    "referer": set_header(b"rEFERER"),
    "request_id": set_id,
    "server": set_server,
    "decision_id": set_decision,
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_each_text(name: str) -> None:
    """C writes plain ones, and leaves one with an odd byte, wherever in the text it stands."""
    record = record_of()
    for value in _PLAIN:
        TEXTS[name](record, value)
        assert both(record)[1], value
    for odd in _ODD:
        for size in (0, 1, 2, 3, 4, 6, 7, 8, 9, 15, 16, 23, 100):
            for place in {0, size // 2, size}:
                value = b"x" * place + odd + b"x" * (size - place)
                TEXTS[name](record, value)
                assert not both(record)[1], value


def test_every_byte() -> None:
    """C writes those that both JSON and terminals take as they are, and no other."""
    record = record_of()
    for code in range(256):
        for pattern in (b"%c", b"1234%c", b"%c234567", b"1234567%c", b"12%c45678", b"12345678%c"):
            value = pattern % code
            record.uri = value
            is_plain = 32 <= code < 127 and value.find(b'"') < 0 and value.find(b"\\") < 0
            assert both(record)[1] == is_plain, value


#: Seconds whose microseconds are written, and those that are left.
WRITTEN = [0.0, 4e-7, 1e-5, 9.9e-5, 1e-4, 1.1e-4, 0.1, 0.25, 1.0, 1.5, 10.0, 1e6, 999999999.5]
LEFT = [1e-6, 9e-6, 1e9, 1e20, -1e-3, -5.0]


def test_seconds() -> None:
    """Shown as Python's form shows them; an exponent, and what cannot be, are left."""
    record = record_of()
    record.started = 0.0
    dice = random.Random(1)
    some = [dice.randrange(10, 10 ** dice.randint(2, 15)) / 1e6 for _ in range(3000)]
    some += [1e-5 + dice.random() * 10.0 ** dice.randint(-4, 8) for _ in range(3000)]
    for seconds in (*WRITTEN, *some):
        record.ended = seconds
        assert both(record)[1], seconds
    for seconds in LEFT:
        record.ended = seconds
        assert not both(record)[1], seconds


def test_times_of_an_attempt() -> None:
    """Those that there are not are null."""
    record = record_of()
    first, started = record.first, record.started
    for connected in (0.0, started, started + 0.01):
        for first_byte in (0.0, started, started + 1.5):
            first.connected, first.first_byte = connected, first_byte
            assert both(record)[1]


def test_numbers() -> None:
    """Of any size that there is; negative ones are left."""
    record = record_of()
    for number in (0, 1, 9, 10, 200, 999, 65536, 2**31, 2**32, 10**18, 2**63 - 1):
        record.status = record.bytes_in = record.bytes_out = number
        assert both(record)[1]
    for name in ("status", "bytes_in", "bytes_out"):
        before = getattr(record, name)
        setattr(record, name, -1)
        assert not both(record)[1]
        setattr(record, name, before)


def test_what_a_request_may_have() -> None:
    """TLS, a trace, several attempts, none, HTTP/1.0, lines that a hook has split, no head."""
    record = record_of()
    request = record.request
    assert request is not None
    request.tls = TlsFacts("TLSv1.3", "a.test", b"", None)
    record.trace = TraceContext(b"a" * 32, b"b" * 16, b"", True)
    request.minor = 0
    assert both(record)[1]
    assert b"curl/8" in both(record)[0]
    record.lines.append(b"X: y")
    assert both(record)[1]
    record.attempt("10.0.0.2:80", record.started).first_byte = record.ended
    assert both(record)[1]
    nothing = RequestRecord(b"192.0.2.7", None, 1.0)
    nothing.ended = 1.0
    assert both(nothing)[1]
    refused = record_of()
    refused.tries, refused.upstream, refused.host = 0, "", ""
    assert both(refused)[1]


def test_many_records() -> None:
    """Whatever values come together."""
    dice = random.Random(3)
    written = 0
    for _ in range(1000):
        record = record_of(seconds=10 ** dice.uniform(-7, 5))
        for name in dice.sample(list(TEXTS), dice.randint(0, 4)):
            size = int(10 ** dice.uniform(0, 3))
            value = bytes(dice.choices(b"abc/:.-_~ 0123456789", k=size))
            if not dice.randrange(8):
                value = value[: size // 2] + dice.choice(_ODD) + value[size // 2 :]
            TEXTS[name](record, value)
        record.status = dice.choice((0, 200, 404, 599))
        record.bytes_in, record.bytes_out = dice.randrange(1 << 40), dice.randrange(1 << 20)
        written += both(record, most=dice.choice((600, 4096, 65536)))[1]
    assert 500 < written < 900


def test_time() -> None:
    """It is the one at which a request ends, in milliseconds, also where a second begins."""
    fast, slow = NativeJsonLines("w", 65536), JsonLines("w", 65536)
    record = record_of()
    before = began = slow._time(time())
    while before[:19] == began[:19]:
        fast.add(record)
        after = slow._time(time())
        assert before <= fast.take()[_BEFORE:_TIME].decode() <= after
        before = after


#: The arguments of ``LineWriter.write``.
ARGUMENTS: list[Any] = [
    *(b"192.0.2.7", b"GET", "a.b", b"/x", "HTTP/1.1", 200, 1, 2, 0.5, "up", "s:1", 1, 0.1, 0.2),
    *(b"id", b"t", b"s", "d", "h", "e", b"\r\nuser-agent: ua\r\nreferer: r", "TLSv1.3"),
]


def test_line_has_its_bytes(native: ModuleType) -> None:
    """One that is a byte longer is left, whatever it is that does not fit."""
    writer = native.LineWriter(65536, "worker-0")
    assert writer.write(*ARGUMENTS) == 1
    line = writer.take()
    for size in range(-1, len(line)):
        writer = native.LineWriter(size, "worker-0")
        assert writer.write(*ARGUMENTS) == 0
        assert writer.take() == b""
    writer = native.LineWriter(len(line), "worker-0")
    assert writer.write(*ARGUMENTS) == 1
    assert writer.take()[_TIME:] == line[_TIME:]


def test_room(native: ModuleType) -> None:
    """A line that has none behind the others is left, and the others are there."""
    writer = native.LineWriter(65536, "worker-0")
    some = ARGUMENTS.copy()
    written = 0
    while True:
        some[3] = b"/" * (1000 + written)
        answer = writer.write(*some)
        if not answer:
            break
        written += 1
    assert answer == 0
    assert written > 10
    data = writer.take()
    assert data.count(b"\n") == written
    # Only the others have kept it from being written.
    assert writer.write(*some) == 1


def test_lines_keep_their_order() -> None:
    """Written lines and those that are left, whichever comes first, and however many."""
    dice = random.Random(2)
    for _ in range(60):
        records = []
        for number in range(dice.randint(1, 60)):
            agent = dice.choice((b"plain", b"plain", b"\xff", b"u" * 3000))
            records.append(record_of(b"/%d" % number, b"User-Agent: %b\r\n" % agent))
        both(*records)


@pytest.mark.parametrize("most", [512, 4096, 65536])
def test_long_lines(most: int) -> None:
    """They are left, and cut as in Python."""
    for size in (10, 300, 3000, 60000, 70000):
        both(record_of(), record_of(headers=b"User-Agent: %b\r\n" % (b"u" * size)), most=most)


def test_batch_ends() -> None:
    """Before the room does, and after so many lines that are left."""
    fast = NativeJsonLines("worker-0", 65536)
    record = record_of()
    added = 1
    while not fast.add(record):
        added += 1
    assert len(fast.take().splitlines()) == added
    assert 10 < added < 200
    record.error = "é"
    assert [fast.add(record) for _ in range(32)] == [False] * 31 + [True]


def test_other_types_are_refused(native: ModuleType) -> None:
    """An error is raised, and nothing is written."""
    writer = native.LineWriter(65536, "worker-0")
    for place in range(len(ARGUMENTS)):
        for wrong in (object(), [], bytearray(b"x")):
            with pytest.raises(TypeError):
                writer.write(*ARGUMENTS[:place], wrong, *ARGUMENTS[place + 1 :])
    for wrong in ((0, None), (0, b"w"), ("w", "w")):
        with pytest.raises(TypeError):
            native.LineWriter(*wrong)
    assert writer.take() == b""
