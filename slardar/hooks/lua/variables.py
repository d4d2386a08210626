"""ngx.var: the variables of nginx, read from the request."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_to_bytes

from slardar.hooks.lua.crossing import bytes_of, text_of
from slardar.hooks.objects import HookRequest
from slardar.hooks.tls import HookTls

__all__ = ["PREFIXES", "VARIABLES", "Reader", "normal_path"]

#: Returns the value of a variable for a request, or ``None`` if it has none.
Reader = Callable[[HookRequest], str | None]


def normal_path(path: str) -> str:
    """The path as nginx's ``$uri``: decoded, without ``.``, ``..`` and doubled slashes."""
    if "%" in path:
        path = text_of(unquote_to_bytes(bytes_of(path)))
    if "//" not in path and "/." not in path:
        return path
    kept: list[str] = []
    parts = path.split("/")
    last = parts[-1]
    for part in parts[1:]:
        if part == "..":
            if kept:
                kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    folder = last in ("", ".", "..") and kept
    return "/" + "/".join(kept) + ("/" if folder else "")


def _query(request: HookRequest) -> str | None:
    return request.query_string or None


def _raw_host(request: HookRequest) -> str | None:
    return request.headers.get("host")  # type: ignore[no-any-return]


def _forwarded(request: HookRequest) -> str:
    known = request.headers.get("x-forwarded-for")
    return f"{known}, {request.peer}" if known else request.peer


def _binary_address(request: HookRequest) -> str | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return text_of(socket.inet_pton(family, request.client))
        except (OSError, ValueError):
            continue
    return None


def _request_id(request: HookRequest) -> str:
    known = request.headers.get("x-request-id")
    if known is None:
        known = request.context.get("lua.request_id")
        # All hooks of the request share the context, so anything may be there.
        if not isinstance(known, str) or not known.isascii():
            known = request.context["lua.request_id"] = os.urandom(16).hex()
    return known  # type: ignore[no-any-return]


def _chosen(value: str | None) -> str | None:
    """A hook's choice as a text for Lua: a hook in Python may choose any characters."""
    return None if value is None else value.encode("utf-8", "replace").decode("latin-1")


def _iso_time(request: HookRequest) -> str:
    text = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return f"{text[:-2]}:{text[-2:]}"


def _header(name: str) -> Reader:
    def read(request: HookRequest) -> str | None:
        values = request.headers.get_all(name)
        return ", ".join(values) if values else None

    return read


def _tls(read: Callable[[HookTls], str | None]) -> Reader:
    """A variable of the client's TLS: none without TLS, and none for an empty text."""

    def find(request: HookRequest) -> str | None:
        tls = request.tls
        return _chosen((None if tls is None else read(tls)) or None)

    return find


def _of_certificate(name: str) -> Reader:
    return _tls(lambda tls: None if tls.client_cert is None else getattr(tls.client_cert, name))


#: The variables by name.
VARIABLES: Final[dict[str, Reader]] = {
    "args": _query,
    "binary_remote_addr": _binary_address,
    "cluster_key": lambda request: _chosen(
        request.cluster_key
        if request.cluster_key is None or isinstance(request.cluster_key, str)
        else ",".join(request.cluster_key)
    ),
    "content_length": _header("content-length"),
    "content_type": _header("content-type"),
    "document_uri": lambda request: normal_path(request.path),
    "hash_key": lambda request: _chosen(request.hash_key),
    "host": lambda request: request.host,
    "hostname": lambda request: socket.gethostname(),
    "http_host": _raw_host,
    "https": lambda request: "on" if request.scheme == "https" else "",
    "is_args": lambda request: "?" if request.query_string else "",
    "msec": lambda request: f"{time.time():.3f}",
    "proxy_add_x_forwarded_for": _forwarded,
    "query_string": _query,
    "realip_remote_addr": lambda request: request.peer,
    "remote_addr": lambda request: request.client,
    # ``request`` and ``request_uri`` tell what the client sent, even if a hook has changed it.
    "request": lambda request: request.sent_line,
    "request_id": _request_id,
    "request_method": lambda request: request.method,
    "request_uri": lambda request: request.sent_uri,
    "scheme": lambda request: request.scheme,
    "server_name": lambda request: request.host,
    "server_protocol": lambda request: f"HTTP/1.{request.minor}",
    "ssl_cipher": _tls(lambda tls: tls.cipher),
    "ssl_client_fingerprint": _of_certificate("sha1"),
    "ssl_client_i_dn": _of_certificate("issuer"),
    "ssl_client_s_dn": _of_certificate("subject"),
    "ssl_client_serial": _of_certificate("serial"),
    # A certificate that cannot be verified ends the handshake, so none is "FAILED".
    "ssl_client_verify": _tls(lambda tls: "NONE" if tls.client_cert is None else "SUCCESS"),
    "ssl_protocol": _tls(lambda tls: tls.version),
    "ssl_server_name": _tls(lambda tls: tls.sni),
    "time_iso8601": _iso_time,
    "time_local": lambda request: time.strftime("%d/%b/%Y:%H:%M:%S %z"),
    "upstream": lambda request: _chosen(request.upstream),
    "uri": lambda request: normal_path(request.path),
}


def _argument(request: HookRequest, name: str) -> str | None:
    """The value of the first field of the query with this name in any case, as sent."""
    for field in request.query_string.split("&"):
        key, equals, value = field.partition("=")
        if equals and key.lower() == name:
            return value
    return None


def _http(request: HookRequest, name: str) -> str | None:
    values = request.headers.get_all(name.replace("_", "-"))
    if not values:
        return None
    return ("; " if name == "cookie" else ", ").join(values)


def _cookie(request: HookRequest, name: str) -> str | None:
    for line in request.headers.get_all("cookie"):
        for pair in line.split(";"):
            key, equals, value = pair.strip(" \t").partition("=")
            if equals and key.lower() == name:
                return value
    return None


#: The variables whose names begin with one of these.  A function takes the rest of the name,
#: in lower case.
PREFIXES: Final[dict[str, Callable[[HookRequest, str], str | None]]] = {
    "arg_": _argument,
    "cookie_": _cookie,
    "http_": _http,
}
