"""May a request be sent again?  The one place that decides it.

RFC 9110 9.2.2: a request may be repeated without asking if its method is
idempotent, or if none of it can have reached a server.  Repeating any other request
may charge a card twice.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from slardar.http1.heads import GET

__all__ = ["CONNECT", "ERROR", "STATUS", "TIMEOUT", "is_idempotent", "may_retry"]

#: The kinds of failure, with the names of ``retry_on``: no connection could be made;
#: the connection broke or the reply was no HTTP; the server took too long; the reply's
#: status is one that ``http_opts.statuses`` maps to false.
CONNECT: Final = "connect"
ERROR: Final = "error"
TIMEOUT: Final = "timeout"
STATUS: Final = "status"

_IDEMPOTENT: Final = frozenset((GET, b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


def is_idempotent(raw_method: bytes) -> bool:
    """Whether to do it twice is as good as to do it once (RFC 9110 9.2.2)."""
    # Most are this object, and to find that out takes no look at its bytes.
    return raw_method is GET or raw_method in _IDEMPOTENT


def may_retry(
    raw_method: bytes,
    kind: str,
    retry_on: Collection[str],
    *,
    sent: bool,
    replayable: bool,
    replied: bool,
    status: int = 0,
) -> bool:
    """Whether a failed attempt may be followed by another one.

    ``sent``: a byte of the request was handed to the kernel.  ``replayable``: every byte
    that was read of the body is still kept.  ``replied``: a byte of the reply went out to
    the client.  The caller limits the number of attempts and their time.
    """
    if replied or not replayable:
        return False
    if sent and not is_idempotent(raw_method) and "non_idempotent" not in retry_on:
        return False
    return kind in retry_on or f"http_{status}" in retry_on
