"""The errors that a hook may exit with: upyun/slardar's ``errno`` table.

A hook calls ``request.exit(errno.EXIT_TRY_CODE)`` in Python, or
``slardar.exit(errno.EXIT_TRY_CODE)`` in Lua.  The client gets the status, the code in
``X-Error-Code``, and a JSON body with the status, the message and the code.  In Lua, a
code that is a plain status (``errno.HTTP_FORBIDDEN`` is 403) makes a plain error, as in
upyun/slardar.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["ERRNOS", "UNKNOWN", "Errno", "errno_of", "make_errno"]


class Errno:
    """One error: its ``code``, whose first three digits are the HTTP status, and its text
    ``msg``."""

    __slots__ = ("code", "httpcode", "msg")

    def __init__(self, code: int, msg: str) -> None:
        self.code: Final = code
        self.httpcode: Final = int(str(code)[:3])
        self.msg: Final = msg

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Errno) and other.code == self.code

    def __hash__(self) -> int:
        return hash(self.code)

    def __repr__(self) -> str:
        return f"<Errno {self.code} {self.msg}>"


def make_errno(code: object, msg: object) -> Errno:
    """Make an error that a hook defines itself, such as 40301001.

    The first three digits of ``code`` must be a status from 200 to 599, or the code must
    be 0 (no error).  ``msg`` must be one line of at most 1,000 characters.  Raises
    ValueError otherwise.
    """
    if type(code) is not int or code < 0 or code >= 10**15:
        raise ValueError("expected an error code, an integer such as 403 or 40301001")
    if code and not 200 <= int(str(code)[:3]) <= 599:
        raise ValueError(f"expected an error code whose first three digits are a status: {code}")
    if not isinstance(msg, str) or len(msg) > 1000 or not msg.isprintable():
        raise ValueError("expected one line of at most 1,000 characters for the error")
    return Errno(code, msg)


#: The errors by name; ``OK`` ends a hook and lets the request go on.
ERRNOS: Final[Mapping[str, Errno]] = {
    "OK": Errno(0, "ok"),
    "HTTP_OK": Errno(200, "ok"),
    "HTTP_NOT_MODIFIED": Errno(304, "not modified"),
    "HTTP_BAD_REQUEST": Errno(400, "bad request"),
    "HTTP_UNAUTHORIZED": Errno(401, "unauthorized"),
    "HTTP_FORBIDDEN": Errno(403, "forbidden"),
    "HTTP_NOT_FOUND": Errno(404, "not found"),
    "HTTP_NOT_ALLOWED": Errno(405, "method not allowed"),
    "HTTP_PRECONDITION": Errno(412, "precondition failed"),
    "HTTP_MEDIA_TYPE_ERR": Errno(415, "media type error"),
    "HTTP_TOO_MANY_REQS": Errno(429, "too many requests"),
    "HTTP_SERVICE_UNAVAILABLE": Errno(503, "service unavailable"),
    "EXIT_TRY_CODE": Errno(40099999, "exit try code"),
    "UNKNOWN_ERR": Errno(50300000, "unknown error"),
}

#: The error that stands for every error that is not in the table.
UNKNOWN: Final = ERRNOS["UNKNOWN_ERR"]

_BY_CODE: Final[dict[int, Errno]] = {error.code: error for error in ERRNOS.values()}


def errno_of(code: object) -> Errno | None:
    """The error of the table with this code, or ``None``; ``code`` is an integer or its digits."""
    # Only exact types are looked up: hashing a value that a hook made may never end.
    if type(code) is str and len(code) <= 15 and code.isascii() and code.isdigit():
        code = int(code)
    return _BY_CODE.get(code) if type(code) is int else None
