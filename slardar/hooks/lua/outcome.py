"""What a call of a Lua script leads to besides the changes of its request."""

from __future__ import annotations

from typing import Final

from slardar.hooks.headers import Headers
from slardar.hooks.objects import HookAnswer, HookRequest

__all__ = ["ADDED", "Outcome", "by_name"]

#: The key in a request's context for the headers that are set on the server's reply.
ADDED: Final = "lua.reply_headers"


class Outcome:
    """What one call leads to.  It is made when the script first does something of the kind."""

    __slots__ = (
        "answer",
        "body_read",
        "body_set",
        "broken",
        "emptied",
        "ended",
        "lines",
        "message",
        "own",
        "reply",
        "said",
        "size",
        "status",
    )

    def __init__(self) -> None:
        #: The status that the script has set, or 0, and the message for an error page.
        self.status = 0
        self.message = ""
        #: The pieces of the body that the script has said, ``None`` before the first, and
        #: their bytes.
        self.said: list[bytes] | None = None
        self.size = 0
        #: The headers that the script has set for the reply.
        self.reply: Headers | None = None
        #: The script has ended with ``exit`` or the like.  ``answer`` is what the client gets,
        #: if it does not follow from the fields above.
        self.ended = False
        self.answer: HookAnswer | None = None
        #: The script has called ``read_body``, so it may see the body of the request.
        self.body_read = False
        #: The script has replaced the body of the request.
        self.body_set = False
        #: What a function of slardar raised, which is a bug: the call fails.
        self.broken: str | None = None
        #: The script has written an empty query, which differs from no query.
        self.emptied = False
        #: The number of lines that the script has logged.
        self.lines = 0
        #: The variables that the script has defined itself.
        self.own: dict[str, str] = {}

    def finish(self, request: HookRequest) -> None:
        """End a call that went well: its answer, if it has one, becomes the request's."""
        reply = self.reply
        if not self.ended and self.said is None:
            if reply is not None:
                _keep_for_reply(request, reply)
            return
        answer = self._made() if self.answer is None else self.answer
        if reply is not None:
            if answer.headers and answer.status // 100 == 3:
                reply.remove("location")
            answer.headers = reply.lines + answer.headers
        request.answer = answer

    def _made(self) -> HookAnswer:
        """Make the answer from what the script said, or from a status alone."""
        status = self.status or 200
        if self.said is None:
            # As in nginx, an error gets a page, and another status gets no body.
            if 400 <= status < 600:
                return HookAnswer(status, self.message)
            return HookAnswer(status)
        answer = HookAnswer(status, None, b"" if status in (204, 304) else b"".join(self.said))
        if self.reply is None or self.reply.get("content-type") is None:
            answer.headers.append(b"Content-Type: text/plain")
        return answer


def _keep_for_reply(request: HookRequest, headers: Headers) -> None:
    known = request.context.get(ADDED)
    # All hooks of the request share the context, so anything may be there.
    if not isinstance(known, Headers):
        request.context[ADDED] = headers
        return
    for name, values in by_name(headers).items():
        known.set(name, values)


def by_name(headers: Headers) -> dict[str, list[str]]:
    """The values of each header, by its name as it was written."""
    found: dict[str, list[str]] = {}
    for name, value in headers.items():
        found.setdefault(name, []).append(value)
    return found
