"""Trace contexts: which headers are followed, and what a server gets."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.http1.tracing import Tracer, read_traceparent
from slardar.testing.playbook import Playbook
from tests.http1.lines import OK, get, post_chunked
from tests.http1.test_hooks import runner

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00f067aa0ba902b7"
VALID = f"00-{TRACE.decode()}-{PARENT.decode()}-01"


def of(form: str) -> bytes:
    """A header's value; ``T`` stands for the trace id, ``P`` for the parent id."""
    return form.encode().replace(b"T", TRACE).replace(b"P", PARENT)


@pytest.mark.parametrize(
    "form",
    [
        "00-T-P-01",
        "00-T-P-00",
        # Flags that are not known yet.
        "00-T-P-ff",
        "01-T-P-01",
        "cc-T-P-01",
        "fe-T-P-01-",
        "cc-T-P-01-what-the-future-will-be-like",
    ],
)
def test_valid_values_are_followed(form: str) -> None:
    """Whatever the flags, and also those of a version that is not known yet."""
    assert read_traceparent(of(form)) == (TRACE, PARENT)


@pytest.mark.parametrize(
    "form",
    [
        "",
        "00",
        "T",
        "-T-P-01",
        "0-T-P-01",
        "000-T-P-01",
        ".0-T-P-01",
        "0x-T-P-01",
        "0A-T-P-01",
        "FF-T-P-01",
        "ff-T-P-01",
        "ff-T-P-01-more",
        # Version 00 has these four fields and no more.
        "00-T-P-01-",
        "00-T-P-01-more",
        "00-T-P-01.",
        "00-T-P-010",
        "00-T-P-1",
        "00-T-P-",
        "00-T-P",
        "00-T-P-0A",
        "00-T-P-.1",
        "00-T--01",
        "00--P-01",
        "00-Ta-P-01",
        "00-T-Pa-01",
        "00-T-P-01, 00-T-P-01",
        "00_T_P_01",
        "00 -T-P-01",
        # A later version, too, has them in these places.
        "cc-T-P-01.what-the-future-will-not-be-like",
        "cc-T-P-011",
        "cc-T-P-1",
        "cc-T-P",
        "00-4bf92f3577b34da6a3ce929d0e0e473-P-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473.-P-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-P-01",
        "00-00000000000000000000000000000000-P-01",
        "00-T-00f067aa0ba902b-01",
        "00-T-00F067AA0BA902B7-01",
        "00-T-0000000000000000-01",
        "cc-00000000000000000000000000000000-P-01",
    ],
)
def test_others_are_not_valid(form: str) -> None:
    """What has another length, upper case, zeros only, or other fields."""
    assert read_traceparent(of(form)) is None


def test_bytes_of_any_kind_are_not_valid() -> None:
    """They are no digits, and raise nothing."""
    assert read_traceparent(b"00-" + b"\xb2" * 32 + b"-" + PARENT + b"-01") is None
    assert read_traceparent(of("00-T-P-01\n")) is None


def traced(*headers: str, share: float = 1.0, hook: Any = None) -> tuple[list[bytes], Playbook]:
    """The lines that a server gets of a request with these headers; the play is over."""
    play = Playbook()
    play.host.tracer = Tracer(share)
    if hook is not None:
        play.host.hooks = runner(hook)
    play.client_sends(get("/", *headers))
    lines = play.origin_gets().split(b"\r\n")
    play.origin_sends(OK)
    play.finish()
    return lines, play


def named(lines: list[bytes], name: bytes) -> list[bytes]:
    """The values of a header, whatever its case."""
    return [line.partition(b": ")[2] for line in lines if line.lower().startswith(name + b":")]


def only(lines: list[bytes]) -> list[bytes]:
    """The fields of the one ``traceparent``."""
    (value,) = named(lines, b"traceparent")
    assert read_traceparent(value) is not None
    return value.split(b"-")


@pytest.mark.parametrize(
    "line",
    [
        f"traceparent: {VALID}",
        f"Traceparent:{VALID}",
        f"TRACEPARENT: \t{VALID}\t ",
    ],
)
def test_trace_of_a_client_goes_on(line: str) -> None:
    """The trace id stays, the parent is slardar's span, and what systems have added passes."""
    lines, play = traced(line, "Tracestate: a=1,b=2", "TraceState: c=3", "TE: trailers", "Tea: x")
    version, trace_id, parent_id, flags = only(lines)
    assert (version, trace_id, flags) == (b"00", TRACE, b"01")
    assert parent_id != PARENT
    assert named(lines, b"tracestate") == [b"a=1,b=2", b"c=3"]
    assert named(lines, b"tea") == [b"x"]
    (record,) = play.records
    trace = record.trace
    assert trace is not None
    assert (trace.trace_id, trace.span_id, trace.parent_id) == (TRACE, parent_id, PARENT)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (f"traceparent: {VALID.upper()}",),
        ("traceparent:",),
        (f"traceparent: {VALID}", f"TraceParent: {VALID}"),
        (f"traceparent: {VALID}", "traceparent: x"),
        (f"traceparent: {VALID}, {VALID}",),
        # A header of this one connection.
        (f"traceparent: {VALID}", "Connection: traceparent"),
    ],
)
def test_other_requests_begin_a_trace(headers: tuple[str, ...]) -> None:
    """With an id of its own, and without anything that was added to another one."""
    lines, play = traced("Before: 1", *headers, "tracestate: a=1", "TraceState: b=2", "After: 2")
    _, trace_id, span_id, _ = only(lines)
    assert trace_id != TRACE
    assert named(lines, b"tracestate") == []
    assert (named(lines, b"before"), named(lines, b"after")) == ([b"1"], [b"2"])
    (record,) = play.records
    assert record.trace is not None
    assert (record.trace.trace_id, record.trace.span_id) == (trace_id, span_id)
    assert record.trace.parent_id == b""


def test_off_is_off(play: Playbook) -> None:
    """What a client sends passes, valid or not, and the record has nothing."""
    sent = ("traceparent: x", f"Traceparent: {VALID}", "tracestate: a")
    play.client_sends(get("/", *sent))
    got = play.origin_gets()
    assert [line in got for line in map(str.encode, sent)] == [True] * 3
    play.origin_sends(OK)
    assert play.records[0].trace is None


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
def test_sampled_flag_of_a_client_is_not_believed(flags: str) -> None:
    """The lot alone decides, and no flag but that one is passed on."""
    header = f"traceparent: {VALID[:-2]}{flags}"
    for share, expected in ((1.0, b"01"), (0.0, b"00")):
        lines, play = traced(header, share=share)
        assert only(lines)[3] == expected
        assert play.records[0].trace is not None
        assert play.records[0].trace.sampled is (share == 1.0)


def test_share_is_that_of_all_requests() -> None:
    """Also where all of them come from one trace."""
    tracer = Tracer(0.25)
    line = b"traceparent: " + VALID.encode()
    sampled = sum(tracer.follow([b"", line]).sampled for _ in range(8000))
    # Ten standard deviations.
    assert abs(sampled - 2000) < 390


def test_retries_have_the_same_context() -> None:
    """A request has one span, however many servers it is tried on."""
    play = Playbook(2)
    play.host.tracer = Tracer(1.0)
    play.client_sends(get("/", f"traceparent: {VALID}"))
    first = only(play.origin_gets().split(b"\r\n"))
    play.origin_breaks()
    assert only(play.origin_gets().split(b"\r\n")) == first
    play.origin_sends(OK)
    play.finish()
    assert play.records[0].tries == 2


def test_hook_chooses_the_trace_and_makes_no_second_one() -> None:
    """Hooks see what the client sent; the header is written after the last of them."""
    seen: list[Any] = []

    def change(request: Any, _: Any) -> None:
        seen.append(request.headers["traceparent"])
        request.headers["TraceParent"] = VALID

    lines, _ = traced("traceparent: x", hook=change)
    assert seen == ["x"]
    assert only(lines)[1] == TRACE


def test_hook_that_removes_the_header_begins_a_trace() -> None:
    """It need not know of the other header."""

    def change(request: Any, _: Any) -> None:
        del request.headers["traceparent"]

    lines, _ = traced(f"traceparent: {VALID}", "tracestate: a=1", hook=change)
    assert only(lines)[1] != TRACE
    assert named(lines, b"tracestate") == []


def test_headers_are_no_trailers(play: Playbook) -> None:
    """A server might take a trailer for a header, and have two."""
    play.client_sends(post_chunked() + b"0\r\nTraceparent: x\r\ntracestate: y\r\nX-Sum: 5\r\n\r\n")
    assert play.origin_gets().endswith(b"0\r\nX-Sum: 5\r\n\r\n")
    play.origin_sends(OK)


def test_ids_are_never_zeros_only() -> None:
    """Such ids are not valid: others are drawn."""
    blocks = [bytes(4096), b"\x01" * 4096]
    trace = Tracer(1.0, lambda size: blocks.pop(0)).follow([b""])
    assert (trace.trace_id, trace.span_id) == (b"01" * 16, b"01" * 8)


def test_ids_differ() -> None:
    """Over many blocks of random bytes, and between two processes' tracers."""
    contexts = [tracer.follow([b""]) for tracer in (Tracer(1.0), Tracer(1.0)) for _ in range(2000)]
    assert len({one.trace_id for one in contexts}) == 4000
    assert len({one.span_id for one in contexts}) == 4000
