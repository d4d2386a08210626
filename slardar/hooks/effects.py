"""From the proxy's requests and replies to what hooks see, and back.

The only place that knows both: :mod:`slardar.hooks.objects` has no reference to the
proxy's objects, and what a hook did reaches them here, once it has ended well.
"""

from __future__ import annotations

from typing import Any

from slardar.hooks.objects import HookAnswer, HookRequest, HookResponse
from slardar.http1.bodies import SeenBody
from slardar.http1.heads import CHUNKED
from slardar.http1.own_replies import NO_REPLY, error_reply, phrase, status_line
from slardar.http1.reply import Reply
from slardar.http1.request import Request, normal_host

__all__ = ["apply_reply", "apply_request", "make_reply", "seen_reply", "seen_request"]


def seen_request(
    request: Request,
    context: dict[str, Any] | None,
    upstream: str | None = None,
    body: SeenBody | None = None,
    route: Any = None,
) -> HookRequest:
    """What hooks see of ``request``; ``context`` is theirs for as long as it lasts,
    ``upstream`` what those before have chosen, ``body`` what was waited for, and
    ``route(host, path)`` the upstream without a hook's choice."""
    own = None
    if (
        body is not None
        or request.forwarded_for is not None
        or request.forwarded_proto is not None
        or request.forwarded_host is not None
        or request.request_id is not None
    ):
        own = _own_of(request, body)
    seen = HookRequest(
        request.raw_method,
        request.raw_uri,
        request.head_lines(),
        own,
        request.authority,
        request.address,
        "http" if request.scheme == b"http" else request.scheme.decode("ascii"),
        request.minor,
        context,
        request.head,
        route,
    )
    if upstream is not None or request.hash_key is not None or request.cluster_key is not None:
        seen.begin_with(upstream, request.hash_key, request.cluster_key)
    if request.length:
        seen.take_body(body)
    return seen


def _own_of(request: Request, body: SeenBody | None) -> dict[str, bytes]:
    """The headers that a hook may write and that the proxy writes to the server.

    A body that was waited for has a length, even if the client sent it in chunks.
    """
    own: dict[str, bytes] = {}
    if request.authority:
        own["host"] = request.authority
    if body is not None and body.data is not None and request.length != CHUNKED:
        own["content-length"] = b"%d" % request.length
    if request.forwarded_for is not None:
        own["x-forwarded-for"] = request.forwarded_for
    if request.forwarded_proto is not None:
        own["x-forwarded-proto"] = request.forwarded_proto
    if request.forwarded_host is not None:
        own["x-forwarded-host"] = request.forwarded_host
    if request.request_id is not None:
        own["x-request-id"] = request.request_id
    return own


def apply_request(seen: HookRequest, request: Request) -> None:
    """Make ``request`` what a hook has made of it."""
    written = seen.written
    if seen.headers_changed:
        headers = seen.headers
        request.replace_head_lines(headers.give())
        if headers.own_changed:
            _apply_own(headers.own, request)
    if seen.uri_changed:
        request.raw_uri = seen.uri.encode("ascii")
    if written:
        if "method" in written:
            request.raw_method = seen.raw_method
        if "hash_key" in written:
            request.hash_key = seen.hash_key
        if "cluster_key" in written:
            request.cluster_key = seen.cluster_key
        if "body" in written:
            request.length = len(seen.body)
            # The client's own body is not waited for any more.
            request.expects = False


def _apply_own(own: dict[str, bytes], request: Request) -> None:
    """The headers that the proxy writes itself."""
    # An empty one is none: the proxy writes its own.
    request.forwarded_for = own.get("x-forwarded-for") or None
    request.forwarded_proto = own.get("x-forwarded-proto") or None
    request.forwarded_host = own.get("x-forwarded-host") or None
    request.request_id = own.get("x-request-id") or None
    authority = own.get("host", b"")
    if authority != request.authority:
        # The server is told which host the client asked for, as ever.
        request.forwarded_host = request.forwarded_host or request.authority or None
        request.authority = authority
        request.host = normal_host(authority)


def make_reply(answer: HookAnswer, accept: str | None) -> tuple[Reply, bytes]:
    """Head and body of what a hook answered; ``accept`` chooses the form of an error."""
    status = answer.status
    if status == NO_REPLY:
        return Reply(status, []), b""
    if answer.message is not None:
        code = answer.code
        # Programs look at the code, so that one is always JSON.
        reply, body = error_reply(
            status, answer.message or phrase(status), None if code else accept, code
        )
    else:
        body = answer.body
        reply = Reply(status, [status_line(status)])
        reply.length = reply.declared = len(body)
        reply.keep_alive = True
    reply.add_header_lines(answer.headers)
    if status in (204, 304):
        reply.declared = -1
    return reply, body


def seen_reply(reply: Reply, error: str | None = None) -> HookResponse:
    """What hooks see of a server's reply, or of one of ours and why that was made."""
    own: dict[str, bytes] = {}
    if reply.declared >= 0:
        own["content-length"] = b"%d" % reply.declared
    elif reply.length == CHUNKED:
        own["transfer-encoding"] = b"chunked"
    return HookResponse(reply.client_status(), reply.head_lines(), own, reply.head, error)


def apply_reply(seen: HookResponse, reply: Reply) -> None:
    """Make the head of ``reply`` what a hook has made of it.

    ``reply.status`` stays what the server sent: that is what its health is judged by.
    """
    if seen.headers_changed:
        reply.replace_head_lines(seen.headers.give())
    if "status" in seen.written:
        reply.set_status_line(status_line(seen.status))
        if seen.status == 204:
            # It has no body, and so no length (RFC 9110 8.6).
            reply.declared = -1
