"""Shows the proxy's requests and replies to hooks, and applies what hooks change.

Hooks see objects of :mod:`slardar.hooks.objects`, which have no reference to the proxy's
objects, but for the facts of TLS, which nobody changes.  Only this module knows both kinds.  It
applies the changes of a hook once the hook has ended well.
"""

from __future__ import annotations

from typing import Any

from slardar.hooks.objects import HookAnswer, HookRequest, HookResponse
from slardar.http1.bodies import SeenBody
from slardar.http1.heads import CHUNKED
from slardar.http1.own_replies import NO_REPLY, error_reply, phrase, status_line
from slardar.http1.reply import Reply
from slardar.http1.request import Request, Told, normal_host

__all__ = ["apply_reply", "apply_request", "make_reply", "seen_reply", "seen_request"]


def seen_request(
    request: Request,
    context: dict[str, Any] | None,
    upstream: str | None = None,
    body: SeenBody | None = None,
    route: Any = None,
) -> HookRequest:
    """Make the object that hooks see of ``request``.

    ``context`` is shared by the hooks of the request.  ``upstream`` is the choice of earlier
    hooks.  ``body`` is the body if it was waited for.  ``route(host, path)`` returns the
    upstream that the request goes to if no hook chooses one.
    """
    own = None
    if body is not None or request.told is not None:
        own = _own_of(request, body)
    seen = HookRequest(
        request.raw_method,
        request.raw_uri,
        request.block(),
        own,
        request.authority,
        request.address,
        "http" if request.scheme == b"http" else request.scheme.decode("ascii"),
        request.minor,
        context,
        request.head,
        route,
        request.peer,
        request.tls,
        request.request_id,
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
    """Apply to ``request`` what a hook has changed in ``seen``."""
    written = seen.written
    if seen.headers_changed:
        request.replace_block(seen.block)
        if seen.own_changed:
            _apply_own(seen.headers.own, request)
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
            # The body of the client is not needed any more, so no 100 asks for it.
            request.expects = False


def _apply_own(own: dict[str, bytes], request: Request) -> None:
    """Apply the headers that the proxy writes itself."""
    # In place of an empty value the proxy writes its own.
    request.forwarded_for = own.get("x-forwarded-for") or None
    request.forwarded_proto = own.get("x-forwarded-proto") or None
    request.forwarded_host = own.get("x-forwarded-host") or None
    request.request_id = own.get("x-request-id") or None
    told = request.told
    if told is None:
        told = request.told = Told(False)
    authority = own.get("host", b"")
    if authority != request.authority:
        # X-Forwarded-Host still tells the server which host the client asked for.
        request.forwarded_host = request.forwarded_host or request.authority or None
        if told.authority is None:
            told.authority = request.authority
        request.authority = authority
        request.host = normal_host(authority)


def make_reply(answer: HookAnswer, accept: str | None) -> tuple[Reply, bytes]:
    """Make head and body of a hook's answer; ``accept`` chooses the form of an error."""
    status = answer.status
    if status == NO_REPLY:
        return Reply(status, []), b""
    if answer.message is not None:
        code = answer.code
        # An error with a code is always JSON, since programs look at the code.
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
    """Make the object that hooks see of ``reply``.

    ``error`` says why slardar made the reply; ``None`` if a server made it.
    """
    own: dict[str, bytes] = {}
    if reply.declared >= 0:
        own["content-length"] = b"%d" % reply.declared
    elif reply.length == CHUNKED:
        own["transfer-encoding"] = b"chunked"
    return HookResponse(reply.client_status(), reply.block(), own, reply.head, error)


def apply_reply(seen: HookResponse, reply: Reply) -> None:
    """Apply to the head of ``reply`` what a hook has changed in ``seen``.

    ``reply.status`` stays the server's status, by which the server's health is judged.
    """
    if seen.headers_changed:
        reply.replace_block(seen.headers.block)
    if "status" in seen.written:
        reply.set_status_line(status_line(seen.status))
        if seen.status == 204:
            # A 204 has no body, and so no length (RFC 9110 8.6).
            reply.declared = -1
