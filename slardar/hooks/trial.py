"""Runs one hook for one request without a proxy, for ``slardar try``.

The runner, the engines and the limits are those of a worker.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from slardar.config import Hooks
from slardar.errors import ConfigError
from slardar.hooks.engine import ScriptError
from slardar.hooks.loaded import Loaded
from slardar.hooks.runner import Runner
from slardar.http1.bodies import SeenBody
from slardar.http1.forwarded import came_from
from slardar.http1.framing import ChunkedDecoder
from slardar.http1.heads import CHUNKED, BadMessage
from slardar.http1.own_replies import NO_REPLY
from slardar.http1.reply import Reply, parse_reply
from slardar.http1.request import Request, parse_request
from slardar.http1.tls import TlsFacts
from slardar.model.hook import Code, Hook
from slardar.model.networks import Networks

__all__ = ["Trial", "changes_of", "read_body", "read_reply", "read_request", "shown_request"]

#: The most bytes of a body that are shown.
_MAX_SHOWN = 2000


def _head(data: bytes, where: str) -> tuple[bytes, bytes]:
    """Split a message, whose lines may end in LF alone, into head and body."""
    data = data.lstrip(b"\r\n")
    match = re.search(rb"\r?\n\r?\n", data)
    head, body = (data, b"") if match is None else (data[: match.start()], data[match.end() :])
    if not head.strip():
        raise ConfigError(f"{where}: expected an HTTP message, got nothing")
    return b"\r\n".join(head.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")) + b"\r\n\r\n", body


def read_request(
    data: bytes,
    where: str,
    client: str = "127.0.0.1",
    trusted: Iterable[str] = (),
    tls: TlsFacts | None = None,
) -> Request:
    """Read the request in a file.

    ``client`` is the address of whoever is connected, ``trusted`` are the networks that are
    believed, and ``tls`` is what is known of the client's TLS
    (:func:`slardar.http1.told_tls.told_tls`), if it speaks TLS.  Raises ConfigError for a
    request that a listener refuses.
    """
    head, body = _head(data, where)
    first, rest = head.split(b"\r\n", 1)
    if first.count(b" ") == 1:
        # People leave the version out when they write a request by hand.
        head = first + b" HTTP/1.1\r\n" + rest
    try:
        request = parse_request(head)
    except BadMessage as error:
        raise ConfigError(f"{where}: {error.message}") from None
    if body.strip() and not request.length:
        request.length = len(body)
    if tls is not None:
        request.scheme = b"https"
        request.take_tls(tls)
    try:
        came_from(request, client.encode("ascii"), Networks(trusted))
    except UnicodeEncodeError:
        raise ConfigError(f"client: expected an address, got {client!r}") from None
    except ValueError as error:
        raise ConfigError(f"trusted: expected a network such as 10.0.0.0/8: {error}") from None
    return request


def read_body(data: bytes, where: str, request: Request) -> bytes:
    """Read the body of the request in a file, and set the length of ``request``.

    If the head gives the length, a newline that an editor put behind the body is left out.
    Raises ConfigError for a malformed chunk.
    """
    _, body = _head(data, where)
    if request.length == CHUNKED:
        decoder = ChunkedDecoder(400)
        try:
            body = b"".join(decoder.feed(body))
        except BadMessage as error:
            raise ConfigError(f"{where}: {error.message}") from None
    else:
        body = body[: request.length]
    request.length = len(body)
    return body


def read_reply(data: bytes, where: str, request: Request) -> Reply:
    """Read the reply in a file.  Raises ConfigError for a reply that would become a 502."""
    head, _ = _head(data, where)
    try:
        return parse_reply(head, request.raw_method)
    except BadMessage as error:
        raise ConfigError(f"{where}: {error.message}") from None


class Trial:
    """One loaded hook.  Raises ScriptError if the hook cannot be loaded.

    ``values`` are the settings that it reads, as JSON texts by name.
    """

    def __init__(
        self,
        language: str,
        name: str,
        code: str,
        modules: Mapping[str, str],
        settings: Hooks | None = None,
        values: Mapping[str, str] | None = None,
    ) -> None:
        self._failures: list[str] = []
        self._lines: list[str] = []
        self._observer: Any = self._observe
        self._settings = settings or Hooks()
        self._runner = Runner(self._settings, time.monotonic, self._failed)
        self._runner.take_settings(values or {})
        self._runner.check(language, name, code, modules)
        script = Hook(language, name, Code.of(code, 0.0))  # type: ignore[arg-type]
        hooks = {script.key: script}
        for module, text in modules.items():
            hook = Hook(language, module, Code.of(text, 0.0))  # type: ignore[arg-type]
            hooks[hook.key] = hook
        if not script.is_script:
            raise ScriptError(f"{name}: expected a script, for a module does nothing by itself")
        self._runner.load(hooks)

    def _failed(self, loaded: Loaded) -> None:
        self._failures.append(loaded.path)

    def run(
        self, request: Request, reply: Reply | None = None, body: bytes = b""
    ) -> dict[str, Any]:
        """Run the hook for a request with its body, and for the server's reply.

        Returns what the hook did, as ``slardar try`` prints it.
        """
        before = shown_request(request)
        self._failures.clear()
        self._lines.clear()
        globalLogPublisher.addObserver(self._observer)
        began = time.perf_counter_ns()
        try:
            if self._runner.reads_body(request):
                known = body if len(body) <= self._settings.body else None
                hooked = self._runner.request_with(request, SeenBody(known), None)
            else:
                hooked = self._runner.request(request)
            outcome: dict[str, Any] = {"outcome": "continues"}
            if hooked is not None and hooked.answer is not None:
                outcome = _answered(hooked.answer, hooked.body)
            else:
                after = shown_request(request)
                outcome.update(
                    upstream=None if hooked is None else hooked.upstream,
                    hash_key=request.hash_key,
                    cluster_key=request.cluster_key,
                    request=after,
                    changes=changes_of(before, after),
                )
                if hooked is not None and hooked.new_body is not None:
                    outcome["body"] = hooked.new_body[:_MAX_SHOWN].decode("utf-8", "replace")
                if reply is not None:
                    outcome.update(self._reply(hooked, reply))
        finally:
            globalLogPublisher.removeObserver(self._observer)
        outcome["microseconds"] = round((time.perf_counter_ns() - began) / 1000, 1)
        if self._failures:
            outcome = {
                "outcome": "failed",
                "error": next((line for line in reversed(self._lines)), "the hook failed"),
                "microseconds": outcome["microseconds"],
            }
        outcome["log"] = self._lines[: -1 if self._failures else None]
        return outcome

    def _reply(self, hooked: Any, reply: Reply) -> dict[str, Any]:
        before = shown_reply(reply)
        instead = hooked.reply(reply) if hooked is not None and hooked.sees_reply else None
        if instead is not None:
            return _answered(*instead)
        after = shown_reply(reply)
        return {"reply": after, "reply_changes": changes_of(before, after)}

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "slardar.hooks":
            level = getattr(event.get("log_level"), "name", "info")
            self._lines.append(f"{level}: {formatEvent(event)}")


def _answered(reply: Reply, body: bytes) -> dict[str, Any]:
    if reply.status == NO_REPLY:
        return {"outcome": "closed"}
    text = shown_reply(reply) + "\n\n" + body[:_MAX_SHOWN].decode("utf-8", "replace")
    return {"outcome": "answered", "status": reply.status, "reply": text.rstrip("\n")}


def shown_request(request: Request) -> str:
    """The head of a request for people to read, without what slardar adds for the server."""
    lines = [
        f"{request.method} {request.raw_uri.decode('latin-1')} HTTP/1.{request.minor}",
        f"Host: {request.authority.decode('latin-1')}",
    ]
    lines += [line.decode("latin-1") for line in request.head_lines()[1:]]
    for name, value in (
        ("X-Forwarded-For", request.forwarded_for),
        ("X-Forwarded-Proto", request.forwarded_proto),
        ("X-Forwarded-Host", request.forwarded_host),
        ("X-Request-Id", request.request_id),
    ):
        if value is not None:
            lines.append(f"{name}: {value.decode('latin-1')}")
    return "\n".join(lines)


def shown_reply(reply: Reply) -> str:
    """The head of a reply for people to read."""
    return "\n".join(line.decode("latin-1") for line in reply.head_lines())


def changes_of(before: str, after: str) -> list[str]:
    """The lines that are gone (``-``) and the lines that are new (``+``)."""
    return [
        line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[:1] in "+-"
    ]
