"""Properties of trace contexts: whatever a client sends, a server gets one valid header."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slardar.http1.tracing import Tracer, read_traceparent

HEX = st.text("0123456789abcdef", min_size=1, max_size=34)
FORM = st.builds(lambda *parts: "-".join(parts).encode(), HEX, HEX, HEX, HEX)
GOOD = st.builds(
    lambda version, trace, parent, flags: (
        b"%02x-%032x-%016x-%02x" % (version, trace, parent, flags)
    ),
    st.integers(0, 254),
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.integers(0, 255),
)
VALUE = st.one_of(GOOD, FORM, st.binary(max_size=60))
NAME = st.sampled_from([b"traceparent", b"TraceParent", b"tracestate", b"Tracestate", b"t", b"tea"])
LINES = st.lists(st.builds(lambda name, value: name + b": " + value, NAME, VALUE), max_size=5)


def values(lines: list[bytes], name: bytes) -> list[bytes]:
    return [line[len(name) + 2 :] for line in lines if line.lower().startswith(name + b":")]


@given(LINES, st.floats(0, 1))
def test_one_valid_header_goes_out(lines: list[bytes], share: float) -> None:
    """Its trace is the client's only if the client has sent one valid header; everything else
    stays as it is."""
    after = [b"", *lines]
    trace = Tracer(share).follow(after)
    (value,) = values(after, b"traceparent")
    assert value == b"00-%b-%b-%02d" % (trace.trace_id, trace.span_id, trace.sampled)
    assert read_traceparent(value) == (trace.trace_id, trace.span_id)
    sent = values(lines, b"traceparent")
    followed = read_traceparent(sent[0].strip(b" \t")) if len(sent) == 1 else None
    states = values(lines, b"tracestate")
    if followed is None:
        assert trace.parent_id == b""
        assert trace.trace_id not in [one[3:35] for one in sent]
        states = []
    else:
        assert (trace.trace_id, trace.parent_id) == followed
    assert values(after, b"tracestate") == states
    others = [line for line in lines if not line.lower().startswith(b"trace")]
    assert [line for line in after[1:] if not line.lower().startswith(b"trace")] == others


@given(GOOD)
def test_good_values_are_read(value: bytes) -> None:
    """Whatever their version and flags."""
    assert read_traceparent(value) == (value[3:35], value[36:52])


@given(st.binary(max_size=80))
def test_what_is_read_is_well_formed(value: bytes) -> None:
    """Of any bytes."""
    found = read_traceparent(value)
    if found is not None:
        assert len(found[0]) == 32
        assert int(found[0], 16)
        assert len(found[1]) == 16
        assert int(found[1], 16)
