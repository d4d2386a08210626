"""Lines of access logs: what they say, and that no value can forge one."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime, timezone
from typing import Any

import pytest

from slardar.http1.record import HEDGED, DecisionNote, RequestRecord
from slardar.http1.tracing import TraceContext
from slardar.model.access_log import FIELDS
from slardar.observers.lines import BEGIN, Lines, lines_for
from tests.observers.kit import record_of

JSON = lines_for("json", "worker-0", 65536)
COMBINED = lines_for("combined", "worker-0", 65536)


def written(lines: Lines, *records: RequestRecord) -> bytes:
    """The lines of requests that have ended."""
    return lines.lines([lines.values(record, record.ended) for record in records])


def parsed(record: RequestRecord, lines: Lines = JSON) -> dict[str, Any]:
    """The one line of a record."""
    (line,) = written(lines, record).splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_json_has_every_field_in_its_order() -> None:
    """The values of a request that a server has answered."""
    record = record_of()
    record.hook, record.error = "lua/script.a.test", "broken"
    record.decision = DecisionNote("0-ab")
    found = parsed(record)
    assert list(found) == [name for name in FIELDS if name != "event"]
    when = datetime.fromisoformat(found.pop("time").replace("Z", "+00:00"))
    assert when.tzinfo == timezone.utc
    assert abs(when.timestamp() - time.time()) < 5
    assert found == {
        "client": "192.0.2.7",
        "method": "GET",
        "host": "a.test",
        "uri": "/a?b",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes_in": record.bytes_in,
        "bytes_out": 300,
        "seconds": 0.25,
        "upstream": "a.test",
        "server": "10.0.0.1:80",
        "attempts": 1,
        "connect_seconds": 0.001,
        "first_byte_seconds": 0.2,
        "request_id": "id-1",
        "trace_id": None,
        "span_id": None,
        "decision_id": "0-ab",
        "hook": "lua/script.a.test",
        "error": "broken",
        "user_agent": "curl/8",
        "referer": "http://r.test/",
        "tls": None,
        "worker": "worker-0",
    }


def test_trace_is_told() -> None:
    """Its id, and that of the request's own span."""
    record = record_of()
    record.trace = TraceContext(b"a" * 32, b"b" * 16, b"", True)
    found = parsed(record)
    assert (found["trace_id"], found["span_id"]) == ("a" * 32, "b" * 16)


def test_time_is_that_of_the_end() -> None:
    """In milliseconds, also where a second begins."""
    for ended in (1e9 - 0.0001, 1e9, 1e9 + 0.9999, 1e9 + 1.0):
        shown = JSON._time(ended)
        assert re.fullmatch(r"2001-09-09T\d\d:\d\d:\d\d\.\d\d\dZ", shown)
        when = datetime.fromisoformat(shown.replace("Z", "+00:00")).timestamp()
        assert ended - 0.0011 < when <= ended


def test_bytes_that_are_no_request() -> None:
    """The line says who sent them, and why they were refused."""
    record = RequestRecord(b"192.0.2.7", None, 1.0)
    record.ended, record.status, record.error = 1.0, 400, "the request is malformed"
    found = parsed(record)
    nothing = {name for name, value in found.items() if value is None}
    assert nothing == {
        *("method", "host", "uri", "protocol", "upstream", "server", "connect_seconds"),
        *("first_byte_seconds", "request_id", "decision_id", "hook", "user_agent", "referer"),
        *("trace_id", "span_id", "tls"),
    }  # fmt: skip
    assert (found["client"], found["status"], found["attempts"]) == ("192.0.2.7", 400, 0)
    assert found["error"] == "the request is malformed"
    (line,) = written(COMBINED, record).splitlines()
    assert re.fullmatch(rb'192\.0\.2\.7 - - \[[^]]+\] "-" 400 0 "-" "-"', line)


def test_attempt_that_was_forestalled_is_not_the_server() -> None:
    """The server is the one whose reply came first, although both count."""
    record = record_of()
    record.attempt("10.0.0.2:80", record.started).failure = HEDGED
    found = parsed(record)
    assert (found["server"], found["attempts"], found["first_byte_seconds"]) == (
        "10.0.0.1:80",
        2,
        0.2,
    )
    for attempt in record.attempts:
        attempt.failure = HEDGED
    assert parsed(record)["server"] == "10.0.0.2:80"


def test_connection_that_was_used_before_needed_no_time() -> None:
    """There is no value, which is something else than 0."""
    record = record_of()
    record.attempts[0].connected = 0.0
    assert parsed(record)["connect_seconds"] is None


@pytest.mark.parametrize("name", [b"User-Agent", b"user-agent", b"USER-AGENT"])
def test_case_of_a_header_does_not_matter(name: bytes) -> None:
    """The first one counts, and no header whose name only begins in the same way."""
    headers = b"User-Agents: no\r\nUser: no\r\n%b: yes\r\n%b: no\r\n" % (name, name)
    assert parsed(record_of(headers=headers))["user_agent"] == "yes"
    assert parsed(record_of(headers=headers))["referer"] is None


def test_combined_is_apaches() -> None:
    """What reads Apache's logs reads these."""
    (line,) = written(COMBINED, record_of()).decode().splitlines()
    found = re.fullmatch(
        r"(\S+) (\S+) (\S+) \[([^]]+)\] "
        r'"(.*?)" (\d+) (\d+) "(.*?)" "(.*?)"',
        line,
    )
    assert found is not None
    client, _, _, when, request, status, size, referer, agent = found.groups()
    assert (client, request, status, size) == ("192.0.2.7", "GET /a?b HTTP/1.1", "200", "300")
    assert (referer, agent) == ("http://r.test/", "curl/8")
    ended = datetime.strptime(when, "%d/%b/%Y:%H:%M:%S %z").timestamp()
    assert abs(ended - time.time()) < 5


def test_template_has_the_fields_and_the_text_between() -> None:
    """A field without a value is a hyphen, seconds have six digits."""
    lines = lines_for("{{{client}}} {seconds} é {hook} {attempts}|{event}", "w", 65536)
    data = written(lines, record_of(), record_of())
    assert data.decode() == "{192.0.2.7} 0.250000 é - 1|-\n" * 2


HOSTILE = [
    b'quote " backslash \\ end',
    b"tab\there",
    b"\xc3\xa9t\xc3\xa9",
    b"not utf-8 \xff\xfe\xc3",
    b"half of a surrogate \xed\xa0\x80",
    b"CSI in UTF-8 \xc2\x9b31m, NEL \xc2\x85, line \xe2\x80\xa8 paragraph \xe2\x80\xa9",
    b"turned round \xe2\x80\xae, nothing \xe2\x80\x8b, mark \xef\xbb\xbf",
    b"\xf0\x9f\x90\x8d",
    b'{"status":200}',
    b"{status} %s $status \\n \\u000a",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("format_", ["json", "combined", '{time} "{user_agent}" "{referer}"'])
def test_hostile_headers_forge_nothing(value: bytes, format_: str) -> None:
    """One line of printable characters, whatever a header holds."""
    headers = b"User-Agent: %b\r\nReferer: %b\r\n" % (value, value)
    lines = lines_for(format_, "worker-0", 65536)
    data = written(lines, record_of(headers=headers), record_of())
    text = data.decode("utf-8")
    assert text.count("\n") == 2
    # Where any reader would see the end of a line, and what a terminal acts on.
    assert len(text.splitlines()) == 2
    assert all(char.isprintable() for line in text.split("\n") for char in line)
    if format_ == "json":
        first, second = map(json.loads, text.splitlines())
        assert first["user_agent"] == first["referer"] == value.decode("utf-8", "backslashreplace")
        assert second["user_agent"] == "curl/8"
    else:
        assert text.isascii()
        assert len(re.findall(r'(?<!\\)"', text)) == (12 if format_ == "combined" else 8)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\xff\xc3", r"\xFF\xC3"),
        (b"\xc3\xa9", r"\xC3\xA9"),
        (rb"\xff", r"\x5Cxff"),
        (b'"\tx', r"\x22\x09x"),
    ],
)
def test_text_shows_bytes_as_nginx_does(value: bytes, shown: str) -> None:
    """Each byte that is escaped is ``\\xHH`` once, and a backslash of the client's is none of
    them."""
    record = record_of(headers=b"User-Agent: %b\r\n" % value)
    assert written(lines_for("{user_agent}", "w", 65536), record).decode() == shown + "\n"


#: Control characters and escapes of terminals: no client can send them, but a hook, an
#: error or a request of twisted.web's may have them.
CONTROL = "".join(map(chr, range(32))) + "\x7f\x1b[31m\r\n\ud800"


@pytest.mark.parametrize("format_", ["json", "combined", "{error} {uri} {hook}"])
def test_control_characters_forge_nothing(format_: str) -> None:
    """They are escaped wherever they come from."""
    record = record_of()
    record.error = record.hook = record.upstream = record.host = CONTROL
    record.uri = record.method = record.client = CONTROL.encode("utf-8", "surrogatepass")
    text = written(lines_for(format_, "worker-0", 65536), record).decode("utf-8")
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    if format_ == "json":
        assert json.loads(text)["error"] == CONTROL.replace("\ud800", "\\ud800")


@pytest.mark.parametrize("format_", ["json", "combined", "{uri} {user_agent} {status}"])
@pytest.mark.parametrize("most", [512, 4096, 65536])
def test_line_is_never_too_long(format_: str, most: int) -> None:
    """Long values are cut, and the others stay."""
    lines = lines_for(format_, "worker-0", most)
    long = record_of(b"/" + b"u" * 8000, b"User-Agent: " + b"\xff" * 32000 + b"\r\n")
    data = written(lines, record_of(), long, record_of())
    first, middle, last = data.splitlines(keepends=True)
    assert first[40:] == last[40:]  # but for the time
    assert len(middle) <= most
    assert b"..." in middle
    assert b"200" in middle
    if format_ == "json":
        assert json.loads(middle)["host"] == "a.test"


def test_line_about_a_tunnel_says_so() -> None:
    """It has one field more, and the time of the event."""
    record = record_of()
    now, record.ended = record.ended, 0.0
    found = json.loads(JSON.event(record, BEGIN, now))
    assert list(found) == list(FIELDS)
    assert (found["event"], found["seconds"]) == ("begin", 0.25)
    lines = lines_for("{uri} {event}", "w", 65536)
    assert lines.event(record, BEGIN, now) == b"/a?b begin\n"


def test_formats_that_cannot_tell_of_events() -> None:
    """In Apache's format another line would count as another request."""
    known = {format_: lines_for(format_, "w", 65536).has_events
             for format_ in ("json", "combined", "{uri}", "{event} {uri}")}  # fmt: skip
    assert known == {"json": True, "combined": False, "{uri}": False, "{event} {uri}": True}
