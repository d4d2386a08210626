"""Trace contexts: which trace a request belongs to, and what its server is told of that.

The headers are those of W3C Trace Context, level 1 (https://www.w3.org/TR/trace-context-1/):
``traceparent`` says which trace a request is part of and which span it was sent by,
``tracestate`` has what tracing systems add.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

__all__ = ["TraceContext", "Tracer", "read_traceparent"]

#: ``version "-" trace-id "-" parent-id "-" trace-flags`` (3.2), and what a later version may
#: have behind another dash.  Hexadecimal digits are lower case only.
_FORM: Final = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.DOTALL
)
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16

#: Random bytes that are asked for at a time: a call for each request takes longer than the
#: rest of the work.
_BLOCK: Final = 4096


class TraceContext:
    """The place of one request in its trace.  Ids are hexadecimal digits."""

    __slots__ = ("parent_id", "sampled", "span_id", "trace_id")

    def __init__(self, trace_id: bytes, span_id: bytes, parent_id: bytes, sampled: bool) -> None:
        #: 32 digits, shared by all spans of the trace.
        self.trace_id: bytes = trace_id
        #: 16 digits: the request's own span in slardar.
        self.span_id: bytes = span_id
        #: The span of the client; empty where the trace begins here.
        self.parent_id: bytes = parent_id
        #: Whether the trace is to be recorded, as slardar has decided.
        self.sampled: bool = sampled

    def __repr__(self) -> str:
        return f"<TraceContext {self.trace_id!r} {self.span_id!r} {self.parent_id!r}>"


class Tracer:
    """Makes the trace contexts of requests.

    ``share`` is the share of the requests that are sampled, drawn by lot, from 0 to 1.
    ``random(size)`` gives random bytes.
    """

    __slots__ = ("_at", "_digits", "_limit", "_random")

    def __init__(self, share: float, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random: Callable[[int], bytes] = random
        #: Random digits, and how many of them are used.
        self._digits: bytes = b""
        self._at: int = 0
        #: A request is sampled if 32 random bits are less.
        self._limit: float = share * 4294967296.0

    def follow(self, lines: list[bytes]) -> TraceContext:
        """The context of a request with these header lines (see ``Request.lines``).

        Call it once for a request: the lines get its ``traceparent`` in place of any other.
        A client's valid one is followed, and its ``tracestate`` stays.  Any other trace
        begins here, without ``tracestate``: without a valid ``traceparent`` it belongs to
        nothing.  The client's sampled flag is not heeded, for nobody vouches for clients.
        """
        parents = 0
        value = b""
        has_state = False
        for line in lines:
            if line and line[0] | 32 == 116:  # "t"
                if line[:12].lower() == b"traceparent:":
                    parents += 1
                    value = line[12:]
                elif line[:11].lower() == b"tracestate:":
                    has_state = True
        found: tuple[bytes, bytes] | None = None
        if parents:
            # Two are none: nobody can tell which one a server would believe.
            if parents == 1:
                found = read_traceparent(value.strip(b" \t"))
            _drop(lines, b"traceparent:")
        if found is None:
            if has_state:
                _drop(lines, b"tracestate:")
            trace_id = self._id(32, _NO_TRACE)
            parent_id = b""
        else:
            trace_id, parent_id = found
        span_id = self._id(16, _NO_SPAN)
        limit = self._limit
        # The digits are random anyway.
        sampled = limit >= 4294967296.0 or (limit > 0.0 and int(span_id[:8], 16) < limit)
        lines.append(
            b"traceparent: 00-" + trace_id + b"-" + span_id + (b"-01" if sampled else b"-00")
        )
        return TraceContext(trace_id, span_id, parent_id, sampled)

    def _id(self, size: int, forbidden: bytes) -> bytes:
        """So many random digits that are not all 0."""
        while True:
            end = self._at + size
            if end > len(self._digits):
                self._digits = self._random(_BLOCK).hex().encode("ascii")
                end = size
            self._at = end
            found = self._digits[end - size : end]
            if found != forbidden:
                return found


def read_traceparent(value: bytes) -> tuple[bytes, bytes] | None:
    """Trace id and parent id of a header's value; ``None`` if it is not valid.

    A version that is not known yet is read as the known one, and may have more behind it
    (3.2.4).
    """
    match = _FORM.fullmatch(value)
    if match is None:
        return None
    version, trace_id, parent_id, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if trace_id == _NO_TRACE or parent_id == _NO_SPAN:
        return None
    return trace_id, parent_id


def _drop(lines: list[bytes], name: bytes) -> None:
    """Remove the lines of a header; ``name`` is in lower case, with its colon."""
    size = len(name)
    lines[:] = [line for line in lines if line[:size].lower() != name]
