"""Replies that slardar makes itself: errors, as JSON or as a small HTML page."""

from __future__ import annotations

import html
import json
from http import HTTPStatus

from slardar.http1.reply import Reply

__all__ = ["NO_REPLY", "challenge_reply", "error_reply", "phrase", "status_line"]

#: Stands for "send no reply, close the connection" (nginx's ``return 444``).
NO_REPLY = 444

_PAGE = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{status} {phrase}</title></head>
<body><h1>{status} {phrase}</h1><p>{message}</p></body>
</html>
"""

_EXTRA = {
    421: "Misdirected Request",
    499: "Client Closed Request",
}


def phrase(status: int) -> str:
    """The reason phrase of a status; a made-up status gets ``Error``."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return _EXTRA.get(status, "Error")


def status_line(status: int) -> bytes:
    """The status line, without its CRLF."""
    return b"HTTP/1.1 %d %b" % (status, phrase(status).encode("ascii"))


def error_reply(
    status: int,
    message: str,
    accept: str | None = None,
    code: int | None = None,
    **where: str,
) -> tuple[Reply, bytes]:
    """Head and body of an error.

    The body is JSON (``{"status": 502, "msg": ...}``) unless ``accept`` prefers HTML, as a
    browser's does.  ``code``, which a hook's exit gives, becomes ``X-Error-Code``.
    ``where`` adds fields such as ``upstream="app"`` beside the message.
    """
    reply = Reply(status, [status_line(status)])
    if _prefers_html(accept):
        body = _PAGE.format(
            status=status,
            phrase=phrase(status),
            message=html.escape(", ".join((message, *(f"{k} {v}" for k, v in where.items())))),
        ).encode()
        kind = b"text/html; charset=utf-8"
    else:
        content: dict[str, int | str] = {"status": status, "msg": message, **where}
        if code is not None:
            content["code"] = code
        body = json.dumps(content).encode() + b"\n"
        kind = b"application/json"
    reply.add_header_lines([b"Content-Type: " + kind])
    if code is not None:
        reply.add_header_lines([b"X-Error-Code: %d" % code])
    reply.length = reply.declared = len(body)
    reply.keep_alive = True
    return reply, body


def challenge_reply(text: bytes) -> Reply:
    """The head of the answer to a CA that asks by HTTP-01 (RFC 8555 8.3); ``text`` is its body."""
    reply = Reply(200, [status_line(200), b"Content-Type: application/octet-stream"])
    reply.length = reply.declared = len(text)
    reply.keep_alive = True
    return reply


def _prefers_html(accept: str | None) -> bool:
    """Whether Accept names ``text/html``, and not after ``application/json``.

    Weights are not compared: every browser lists types in the order of their weights,
    and an error page is not worth more work.
    """
    if accept is None:
        return False
    accept = accept.lower()
    page, data = accept.find("text/html"), accept.find("application/json")
    return page >= 0 and (data < 0 or page < data)
