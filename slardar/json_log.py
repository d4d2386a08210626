"""slardar's own log as JSON: one object a line, for programs that read logs.

An object has ``time``, ``level``, ``namespace`` and ``message``, then the values in the
message by their names (``fields``), and a ``traceback`` where there is one.

A worker sends its log to the director (:mod:`slardar.workers.log_lines`), so an event of a
worker's is written down twice: by :func:`packed` on its way, and by :class:`JsonLog`.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

from slardar.observers.lines import safe_json

__all__ = ["PACKED", "JsonLog", "Packed", "packed", "unpacked"]

#: The key under which the event of a worker's line has what the worker has packed.  A line
#: with ``None`` there is a part of the event before.
PACKED = "slardar_packed"

#: Characters of a value at most.  (A value that a person can read is far shorter.)
_MAX_VALUE = 1000
#: Keys that Twisted adds to events, which are no fields.
_TWISTEDS = frozenset((PACKED, "time", "system", "isError", "format", "failure", "why"))
_Field = str | int | float | bool | None


class Packed(Struct, array_like=True, frozen=True):
    """An event on its way from a worker, which is not trusted."""

    namespace: Annotated[str, Meta(max_length=200)]
    message: Annotated[str, Meta(max_length=4096)]
    fields: Annotated[dict[Annotated[str, Meta(max_length=100)], _Field], Meta(max_length=50)]
    traceback: Annotated[str, Meta(max_length=4096)] | None = None


class _Line(Struct, omit_defaults=True):
    time: str
    level: str
    namespace: str
    message: str
    fields: dict[str, Any] = {}
    traceback: str | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Packed)


def packed(event: LogEvent) -> bytes:
    """The event as :func:`unpacked` reads it, in one line without its end."""
    about = Packed(_namespace(event), _message(event), _fields(event), _traceback(event))
    return safe_json(_encoder.encode(about))


def unpacked(data: bytes) -> Packed:
    """What :func:`packed` has made.  Raises ValueError for anything else."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


@implementer(ILogObserver)
class JsonLog:
    """Writes events to ``out`` as they come."""

    def __init__(self, out: Any) -> None:
        self._out = out

    def __call__(self, event: LogEvent) -> None:
        about = event.get(PACKED, self)
        if about is None:
            return
        moment = datetime.fromtimestamp(event.get("log_time", 0.0), timezone.utc)
        level = event.get("log_level") or LogLevel.info
        when = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if isinstance(about, Packed):
            fields = {"worker": str(event.get("worker", "")), **about.fields}
            line = _Line(when, level.name, about.namespace, about.message, fields, about.traceback)
        else:
            line = _Line(
                when, level.name, _namespace(event), _message(event), _fields(event),
                _traceback(event),
            )  # fmt: skip
        self._out.write(safe_json(_encoder.encode(line) + b"\n").decode())
        self._out.flush()


def _namespace(event: LogEvent) -> str:
    name = _text(event.get("log_namespace", "-"))
    # Twisted's name for messages of its older interface.
    return "twisted" if name == "log_legacy" else name


def _message(event: LogEvent) -> str:
    return _text(formatEvent(event))


def _traceback(event: LogEvent) -> str | None:
    failure = event.get("log_failure")
    return None if failure is None else _text(failure.getTraceback())


def _fields(event: LogEvent) -> dict[str, Any]:
    return {
        _text(key): _field(value)
        for key, value in event.items()
        if not key.startswith("log_") and key not in _TWISTEDS
        # Twisted's own "message" is a tuple.
        if not isinstance(value, tuple)
    }


def _field(value: object) -> _Field:
    """A value as JSON has it; others as the message shows them."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int) and abs(value) <= 2**53:
        return value
    try:
        return _text(str(value))[:_MAX_VALUE]
    except Exception:
        return f"<{type(value).__name__}>"


def _text(value: object) -> str:
    """A text that UTF-8 can hold."""
    return str(value).encode("utf-8", "backslashreplace").decode()
