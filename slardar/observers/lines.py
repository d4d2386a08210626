"""Lines of access logs: what the record of a request says, as JSON or as text.

No value can forge a line, end a field or reach a terminal: JSON escapes by its own rules,
text escapes as nginx does (``\\xHH``).  Bytes that are no UTF-8 are shown as ``\\xHH`` in
both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import gmtime, localtime, strftime, time
from typing import Any, Final

import msgspec

from slardar.http1.record import HEDGED, AttemptRecord, RequestRecord
from slardar.http1.request import Request
from slardar.model.access_log import COMBINED, FIELDS, template_parts

__all__ = [
    "BEGIN",
    "END",
    "PROGRESS",
    "JsonLines",
    "Lines",
    "NativeJsonLines",
    "TextLines",
    "lines_for",
    "safe_json",
]

#: What a line about a tunnel or a long request is about.
BEGIN: Final = "begin"
PROGRESS: Final = "progress"
END: Final = "end"

_NAMES: Final[list[str]] = [name for name in FIELDS if name != "event"]
#: The fields of a line, and those of a line that is about an event.
_Line: Final[Any] = msgspec.defstruct("Line", [(name, object) for name in _NAMES], gc=False)
_Event: Final[Any] = msgspec.defstruct("Event", [(name, object) for name in FIELDS], gc=False)

_json: Final[Any] = msgspec.json.Encoder()
_MILLISECONDS: Final[list[str]] = [f"{number:03d}Z" for number in range(1000)]
#: Characters beyond JSON's own escapes that end a line for some readers, that terminals
#: act on, or that hide or turn round what stands beside them.
_RISKY_IN_JSON: Final = re.compile(
    "[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
#: What :func:`_text` makes of bytes that are no UTF-8.  (mypyc takes no such characters in
#: text.)
_BYTES: Final = re.compile(f"[{chr(0xDC80)}-{chr(0xDCFF)}]")
_RISKY_IN_TEXT: Final = re.compile(r"[^ !#-\[\]-~]")
#: Characters of a value in a line that would be too long: the first number with which it
#: is not.
_CUTS: Final = (4096, 1024, 256, 64, 16)
#: Lines that are encoded at once.
_BATCH: Final = 32


def _native() -> Any:
    """The class that writes lines in C; ``None`` where it was not built."""
    try:
        from slardar.observers import native
    except ImportError:
        return None
    return native.LineWriter


_LineWriter: Final[Any] = _native()


class Lines:
    """Makes lines of records.

    ``worker`` is the name of the worker, ``max_line`` the bytes of a line at most, with its
    end: longer ones have their longest values cut, which ends them with ``...``.
    """

    def __init__(self, worker: str, max_line: int) -> None:
        self._worker: str = worker
        self._max_line: int = max_line
        self._second: int = -1
        self._date: str = ""
        #: The values of lines that are not made yet.
        self._pending: list[Any] = []
        #: The lines that :meth:`take` takes.
        self.waiting: int = 0
        #: Whether a line can say that it is about an event.
        self.has_events: bool = True

    def add(self, record: RequestRecord) -> bool:
        """Add the line of a request that has ended; True if it is time to :meth:`take` lines.

        Nothing of the record is needed any more.
        """
        self._pending.append(self.values(record, record.ended))
        self.waiting += 1
        return self.waiting >= _BATCH

    def take(self) -> bytes:
        """The lines that were added since the call before, each with its line end."""
        pending, self._pending = self._pending, []
        self.waiting = 0
        return self.lines(pending)

    def lines(self, values: list[Any]) -> bytes:
        """The lines that have these :meth:`values`, each with its line end."""
        data = self._encode(values)
        return data if len(data) <= self._max_line else self._bounded(data, values)

    def event(self, record: RequestRecord, event: str, now: float) -> bytes:
        """The line of a tunnel or a long request, of which ``event`` tells now.

        ``now`` is in monotonic seconds.
        """
        values = self.values(record, now)
        return self.lines([_Event(*[getattr(values, name) for name in _NAMES], event)])

    def _encode(self, values: list[Any]) -> bytes:
        raise NotImplementedError

    def _bounded(self, data: bytes, values: list[Any]) -> bytes:
        """``data``, the lines of ``values``, without lines that are too long."""
        lines = data.splitlines(True)
        for index, line in enumerate(lines):
            if len(line) > self._max_line:
                lines[index] = self._shorter(values[index])
        return b"".join(lines)

    def _shorter(self, values: Any) -> bytes:
        for cut in _CUTS:
            for name in values.__struct_fields__:
                value = getattr(values, name)
                if isinstance(value, str) and len(value) > cut:
                    setattr(values, name, value[: cut - 3] + "...")
            line = self._encode([values])
            if len(line) <= self._max_line:
                return line
        return b""

    def values(self, record: RequestRecord, now: float) -> Any:
        """The values of a line about a request that ends now, or that goes on.

        ``now`` is in monotonic seconds.  Nothing of the record is needed any more.
        """
        server, connect, first_byte = _last_try(record)
        protocol, request_id, tls = _asked(record.request)
        user_agent = record.get_header(b"user-agent")
        referer = record.get_header(b"referer")
        trace = record.trace
        return _Line(
            self._time(time()),
            _text(record.client),
            _text(record.method) if record.method else None,
            record.host or None,
            _text(record.uri) if record.uri else None,
            protocol,
            record.status,
            record.bytes_in,
            record.bytes_out,
            _seconds(now - record.started),
            record.upstream or None,
            server,
            record.tries,
            None if connect is None else _seconds(connect),
            None if first_byte is None else _seconds(first_byte),
            None if request_id is None else _text(request_id),
            None if trace is None else trace.trace_id.decode("ascii"),
            None if trace is None else trace.span_id.decode("ascii"),
            None if record.decision is None else record.decision.id,
            record.hook or None,
            record.error or None,
            None if user_agent is None else _text(user_agent),
            None if referer is None else _text(referer),
            tls,
            self._worker,
        )

    def _time(self, epoch: float) -> str:
        second = int(epoch)
        if second != self._second:
            self._second = second
            self._date = strftime("%Y-%m-%dT%H:%M:%S.", gmtime(second))
        return self._date + _MILLISECONDS[int((epoch - second) * 1000.0)]


class JsonLines(Lines):
    """One JSON object a line, with every field in its order; null for what there is not."""

    def _encode(self, values: list[Any]) -> bytes:
        try:
            data: bytes = _json.encode_lines(values)
        except UnicodeEncodeError:
            for one in values:
                _clean(one)
            data = _json.encode_lines(values)
        return safe_json(data)


class NativeJsonLines(JsonLines):
    """The same lines, nearly all of which are written in C (:mod:`slardar.observers.native`).

    Those that it leaves are made as by :class:`JsonLines`, and all stay in their order: either
    there are written lines, or values of lines that are not made yet, behind what is set aside.
    """

    def __init__(self, worker: str, max_line: int) -> None:
        super().__init__(worker, max_line)
        writer: Any = _LineWriter(max_line, worker)
        self._write: Callable[..., int] = writer.write
        self._take_written: Callable[[], bytes] = writer.take
        #: There are written lines.
        self._has_written: bool = False
        #: Lines from before.
        self._aside: list[bytes] = []

    def add(self, record: RequestRecord) -> bool:
        server, connect, first_byte = _last_try(record)
        protocol, request_id, tls = _asked(record.request)
        trace = record.trace
        written = self._write(
            record.client,
            record.method,
            record.host,
            record.uri,
            protocol,
            record.status,
            record.bytes_in,
            record.bytes_out,
            record.ended - record.started,
            record.upstream,
            server,
            record.tries,
            connect,
            first_byte,
            request_id,
            None if trace is None else trace.trace_id,
            None if trace is None else trace.span_id,
            None if record.decision is None else record.decision.id,
            record.hook,
            record.error,
            record.block(),
            tls,
        )
        if not written:
            self._set_aside()
            return super().add(record)
        if not self._has_written:
            if self._pending:
                # They came before.
                self._aside.append(self.lines(self._pending))
                self._pending = []
            self._has_written = True
        self.waiting += 1
        return written > 1

    def take(self) -> bytes:
        self._set_aside()
        if self._pending:
            self._aside.append(super().take())
        aside, self._aside = self._aside, []
        self.waiting = 0
        return aside[0] if len(aside) == 1 else b"".join(aside)

    def _set_aside(self) -> None:
        if self._has_written:
            self._has_written = False
            self._aside.append(self._take_written())


class TextLines(Lines):
    """Lines by a template with ``{field}``; ``-`` for what there is not."""

    def __init__(self, worker: str, max_line: int, template: str) -> None:
        super().__init__(worker, max_line)
        self._parts: list[tuple[str, str]] = template_parts(template)
        self.has_events = any(name == "event" for _, name in self._parts)

    def _encode(self, values: list[Any]) -> bytes:
        pieces: list[str] = []
        for one in values:
            for literal, name in self._parts:
                pieces.append(literal)
                if name:
                    pieces.append(_plain(getattr(one, name, None)))
            pieces.append("\n")
        return "".join(pieces).encode()


class CombinedLines(TextLines):
    """Apache's combined format, with the time in the machine's zone as Apache has it."""

    def __init__(self, worker: str, max_line: int) -> None:
        super().__init__(
            worker,
            max_line,
            '{client} - - {time} "{method} {uri} {protocol}" {status} {bytes_out} '
            '"{referer}" "{user_agent}"',
        )

    def _time(self, epoch: float) -> str:
        second = int(epoch)
        if second != self._second:
            self._second = second
            # The names of months are English in the C locale, which Python starts with.
            self._date = strftime("[%d/%b/%Y:%H:%M:%S %z]", localtime(second))
        return self._date

    def _encode(self, values: list[Any]) -> bytes:
        data = super()._encode(values)
        # A request without a usable head.
        return data.replace(b' "- - -" ', b' "-" ')


def safe_json(data: bytes) -> bytes:
    """JSON in which characters are escaped that JSON itself lets pass, and that may end a
    line, or do something to a terminal or to the eyes of a person."""
    if data.isascii() and b"\x7f" not in data:
        return data
    return _RISKY_IN_JSON.sub(_json_escape, data.decode()).encode()


def lines_for(format_: str, worker: str, max_line: int) -> Lines:
    """What makes lines of the format of an access log."""
    if format_ == "json":
        return (JsonLines if _LineWriter is None else NativeJsonLines)(worker, max_line)
    if format_ == COMBINED:
        return CombinedLines(worker, max_line)
    return TextLines(worker, max_line, format_)


def _last_attempt(attempts: list[AttemptRecord]) -> AttemptRecord:
    """The last one that no other one has forestalled, if there is one."""
    for index in range(len(attempts) - 1, -1, -1):
        if attempts[index].failure != HEDGED:
            return attempts[index]
    return attempts[len(attempts) - 1]


def _last_try(record: RequestRecord) -> tuple[str | None, float | None, float | None]:
    """The server, the seconds for a new connection, and those until the first byte."""
    tries = record.tries
    if not tries:
        return None, None, None
    attempt = record.first if tries == 1 else _last_attempt(record.attempts)
    return (
        attempt.server,
        attempt.connected - attempt.started if attempt.connected else None,
        attempt.first_byte - record.started if attempt.first_byte else None,
    )


def _asked(request: Request | None) -> tuple[str | None, bytes | None, str | None]:
    """The protocol, the request's id, and the version of TLS."""
    if request is None:
        return None, None, None
    return (
        "HTTP/1.1" if request.minor else "HTTP/1.0",
        request.request_id,
        None if request.tls is None else request.tls.version,
    )


def _seconds(seconds: float) -> float:
    """Microseconds are enough, and have fewer digits."""
    return int(seconds * 1000000.0 + 0.5) / 1000000.0


def _text(raw: bytes) -> str:
    """The text of bytes from a client; those that are no UTF-8 become halves of surrogates."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape")


def _json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _clean(values: Any) -> None:
    """Show halves of surrogates, which UTF-8 has not: those that stand for a byte as the byte."""
    for name in values.__struct_fields__:
        value = getattr(values, name)
        if isinstance(value, str):
            value = _BYTES.sub(_byte, value)
            setattr(values, name, value.encode("utf-8", "backslashreplace").decode())


def _byte(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]) - 0xDC00:02x}"


def _plain(value: Any) -> str:
    """A value in a line of text."""
    if value is None:
        return "-"
    if isinstance(value, str):
        if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
            return value
        return _RISKY_IN_TEXT.sub(_text_escape, value)
    if isinstance(value, float):
        return f"{value:.6f}"
    return str(value)


def _text_escape(found: re.Match[str]) -> str:
    char = found[0]
    errors = "surrogateescape" if _BYTES.match(char) else "backslashreplace"
    return "".join([f"\\x{byte:02X}" for byte in char.encode("utf-8", errors)])
