"""What a call of a Lua script comes to besides what it does to its request."""

from __future__ import annotations

from typing import Final

from slardar.hooks.headers import Headers
from slardar.hooks.objects import HookAnswer, HookRequest

__all__ = ["ADDED", "Outcome", "by_name"]

#: Where a request's context has the headers for the server's reply.
ADDED: Final = "lua.reply_headers"


class Outcome:
    """One call's; made when a script first does something of that kind."""

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
        #: The status that it has set, or 0; and what an error page says of it.
        self.status = 0
        self.message = ""
        #: What it has said, once it has, and its bytes.
        self.said: list[bytes] | None = None
        self.size = 0
        #: Headers for the reply.
        self.reply: Headers | None = None
        #: It has ended with ``exit`` or the like, and the answer if that is known by then.
        self.ended = False
        self.answer: HookAnswer | None = None
        #: It has asked for the body of the request, and so has it.
        self.body_read = False
        #: It has put another one in its place.
        self.body_set = False
        #: What a function of ours raised, which is a mistake of ours: the call fails.
        self.broken: str | None = None
        #: It has written an empty query, which is not the same as none.
        self.emptied = False
        #: Lines that it has logged.
        self.lines = 0
        #: Variables of its own.
        self.own: dict[str, str] = {}

    def finish(self, request: HookRequest) -> None:
        """The call has ended well: its answer, if there is one, becomes the request's."""
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
        """The answer of what was said, or of a status alone."""
        status = self.status or 200
        if self.said is None:
            # As nginx: an error page, and nothing for a status that is none of HTTP's.
            if 400 <= status < 600:
                return HookAnswer(status, self.message)
            return HookAnswer(status)
        answer = HookAnswer(status, None, b"" if status in (204, 304) else b"".join(self.said))
        if self.reply is None or self.reply.get("content-type") is None:
            answer.headers.append(b"Content-Type: text/plain")
        return answer


def _keep_for_reply(request: HookRequest, headers: Headers) -> None:
    known = request.context.get(ADDED)
    # The context is everybody's, so anything may be there.
    if not isinstance(known, Headers):
        request.context[ADDED] = headers
        return
    for name, values in by_name(headers).items():
        known.set(name, values)


def by_name(headers: Headers) -> dict[str, list[str]]:
    """The values of each header, by the names as they were written."""
    found: dict[str, list[str]] = {}
    for name, value in headers.items():
        found.setdefault(name, []).append(value)
    return found
