"""The answers of the HTTP control channel, and the status of each error."""

# twisted.web's functions have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from twisted.web import http

from slardar.control.auth import RefusedError
from slardar.control.changes import ApplyError, MovedError
from slardar.control.conditions import PreconditionError
from slardar.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    NotReadyError,
    SlardarError,
    StoreError,
)

__all__ = ["JsonReply", "error_reply", "refuse", "takes_gzip", "to_json", "zipped"]

_STATUSES: Mapping[type[SlardarError], int] = {
    ConfigError: 400,
    NotFoundError: 404,
    ConflictError: 409,
    PreconditionError: 412,
    ApplyError: 500,
    NotReadyError: 503,
    StoreError: 503,
}

#: Bytes that are compressed in one step.
_ZIPPED = 1 << 17
#: Level 1 takes a third of the time of 6, the default, and leaves a third more.
_LEVEL = 1


class JsonReply(Struct):
    """An answer of the control channel, ready to be sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every reply, then its own."""
        common = {
            "Server": "slardar",
            "Date": http.datetimeToString().decode(),
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        headers = {**common, **self.headers}
        if self.status == 304:
            # It would be the length of what is left out.
            del headers["Content-Length"]
        return [(name.encode(), value.encode()) for name, value in headers.items()]


def to_json(value: Any) -> bytes:
    """JSON on one line, spaced for a person to read."""
    return msgspec.json.format(msgspec.json.encode(value), indent=0) + b"\n"


def takes_gzip(accepted: Iterable[str]) -> bool:
    """Whether the values of ``Accept-Encoding`` name gzip, and not with the weight 0."""
    for one in ",".join(accepted).split(","):
        name, _, weight = one.partition(";")
        if name.strip().lower() == "gzip":
            return not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight, re.IGNORECASE)
    return False


def zipped(body: bytes) -> Iterator[bytes]:
    """A body in the format of gzip, with about a millisecond of work in each step."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
    for start in range(0, len(body), _ZIPPED):
        yield packer.compress(body[start : start + _ZIPPED])
    yield packer.flush()


def error_reply(status: int, message: str, headers: Mapping[str, str] | None = None) -> JsonReply:
    """The reply for an error, with its status and one line that says why."""
    return JsonReply(status, to_json({"status": status, "msg": message}), headers or {})


def refuse(error: SlardarError) -> JsonReply:
    """The reply for an error that a call has raised."""
    if isinstance(error, RefusedError):
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
        if error.wait:
            headers["Retry-After"] = str(math.ceil(error.wait))
        return error_reply(error.status, str(error), headers)
    if isinstance(error, MovedError):
        return error_reply(503, str(error), {"Retry-After": "1"})
    for kind in type(error).__mro__:
        if kind in _STATUSES:
            return error_reply(_STATUSES[kind], str(error))
    return error_reply(500, str(error))
