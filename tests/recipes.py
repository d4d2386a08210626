"""What each hook of the cookbook must do, in either language."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, NamedTuple

__all__ = ["RECIPES", "Case"]


class Case(NamedTuple):
    """One request and what must become of it.

    ``headers`` names headers that the server must get with these values, ``None`` for one
    that it must not; ``reply`` the same of the client's reply.  ``only`` is for what one
    of the languages cannot do.
    """

    request: str
    status: int | None = None
    headers: dict[str, str | None] = {}  # noqa: RUF012
    reply: dict[str, str | None] = {}  # noqa: RUF012
    uri: str | None = None
    host: str | None = None
    upstream: str | None = None
    hash_key: str | None = None
    cluster_key: Any = None
    client: str = "203.0.113.7"
    server: str = "HTTP/1.1 200 OK\nContent-Type: text/html\nServer: secret\nContent-Length: 0"
    only: str | None = None


def _get(path: str = "/", *headers: str, host: str = "www.example.com", method: str = "GET") -> str:
    return "\n".join((f"{method} {path} HTTP/1.1", f"Host: {host}", *headers))


def _signed(path: str, expires: int) -> str:
    text = f"{path}\n{expires}".encode()
    sign = hmac.new(b"change me", text, hashlib.sha1).hexdigest()
    return f"{path}?page=1&expires={expires}&sign={sign}"


FAR = 4_000_000_000
ORIGIN = "Origin: https://app.example.com"
FOREIGN = "Origin: https://evil.example.net"

RECIPES: dict[str, list[Case]] = {
    "auth_token": [
        Case(
            _get("/", "Authorization: Bearer letmein"),
            headers={"X-User": "ops", "Authorization": None},
        ),
        Case(
            _get("/", "Authorization: Bearer letmeout"), 401, reply={"WWW-Authenticate": "Bearer"}
        ),
        Case(_get("/", "Authorization: Basic letmein"), 401),
        Case(_get("/"), 401),
    ],
    "signed_url": [
        Case(_get(_signed("/files/a.zip", FAR)), uri="/files/a.zip?page=1"),
        Case(_get(_signed("/files/a.zip", FAR).replace("a.zip", "b.zip")), 403),
        Case(_get(_signed("/files/a.zip", 1_000_000_000)), 410),
        Case(_get("/files/a.zip"), 410),
    ],
    "canary_cookie": [
        Case(_get("/", "Cookie: a=b; canary=1"), upstream="new.www.example.com"),
        Case(_get("/", "Cookie: canary=0")),
        Case(_get("/")),
    ],
    "ab_test": [
        Case(_get("/", "Cookie: ab=b"), headers={"X-Variant": "b"}, reply={"Set-Cookie": None}),
        Case(
            _get("/", "User-Agent: x7"),
            headers={"X-Variant": "a"},
            reply={"Set-Cookie": "ab=a; Path=/; Max-Age=2592000"},
        ),
    ],
    "tenant": [
        Case(_get(host="acme.example.com"), headers={"X-Tenant": "acme"}),
        Case(_get("/", "X-Tenant: acme", host="other.example.com"), headers={"X-Tenant": "other"}),
        Case(_get("/", "X-Tenant: acme"), headers={"X-Tenant": None}),
        Case(_get("/", "X-Tenant: acme", host="a.b.example.com"), headers={"X-Tenant": None}),
    ],
    "methods": [
        Case(_get(method="DELETE"), 405, reply={"Allow": "GET, HEAD, OPTIONS, POST"}),
        Case(_get(method="PUT"), 405),
        Case(_get(method="POST")),
    ],
    "anti_leech": [
        Case(_get("/a.JPG", "Referer: https://evil.example.net/x"), 403),
        Case(_get("/a.jpg", "Referer: https://notexample.com/"), 403),
        Case(_get("/a.jpg?x=1", "Referer: https://www.example.com/page")),
        Case(_get("/a.jpg", "Referer: https://example.org:8443/")),
        Case(_get("/a.jpg")),
        Case(_get("/page", "Referer: https://evil.example.net/")),
    ],
    "body_size": [
        Case(_get("/", "Content-Length: 65537", method="POST"), 413),
        Case(_get("/", "Content-Length: 65536", method="POST")),
        Case(_get("/upload/x", "Content-Length: 65537", method="POST")),
        Case(_get("/upload/x", "Content-Length: 104857601", method="POST"), 413),
        Case(_get("/", "Transfer-Encoding: chunked", method="POST"), 411),
        Case(_get("/")),
    ],
    "cors": [
        Case(
            _get("/", ORIGIN),
            reply={"Access-Control-Allow-Origin": "https://app.example.com", "Vary": "Origin"},
        ),
        Case(_get("/", FOREIGN), reply={"Access-Control-Allow-Origin": None}),
        Case(
            _get("/", ORIGIN, "Access-Control-Request-Method: PUT", method="OPTIONS"),
            204,
            reply={
                "Access-Control-Allow-Origin": "https://app.example.com",
                "Access-Control-Max-Age": "600",
            },
        ),
        Case(_get("/", FOREIGN, "Access-Control-Request-Method: PUT", method="OPTIONS")),
    ],
    "redirect_map": [
        Case(_get("/old?a=b"), 301, reply={"Location": "/new?a=b"}),
        Case(_get("/shop"), 301, reply={"Location": "https://shop.example.com/"}),
        Case(_get("/older"), uri="/older"),
    ],
    "maintenance": [
        Case(_get(), 503, reply={"Retry-After": "300", "Content-Type": "text/html; charset=utf-8"}),
        Case(_get(), client="192.0.2.10"),
        Case(_get("/health")),
    ],
    "header_scrub": [
        Case(
            _get("/", "X-User: root", "x-admin: 1", "X-Other: stays"),
            headers={"X-User": None, "X-Admin": None, "X-Other": "stays"},
        ),
        Case(_get(), reply={"Server": None}, only="python"),
    ],
    "geo": [
        Case(_get(), client="192.0.2.77", headers={"X-Country": "DE"}),
        Case(_get(), client="198.51.100.1", headers={"X-Country": "FR"}),
        Case(_get(), client="2001:db8::1", headers={"X-Country": "JP"}),
        Case(_get("/", "X-Country: DE"), client="192.0.3.1", headers={"X-Country": "ZZ"}),
    ],
    "bots": [
        Case(_get("/", "User-Agent: Mozilla/5.0 (compatible; AhrefsBot/7.0)"), 403),
        Case(_get("/"), 403),
        Case(_get("/robots.txt", "User-Agent: scrapy"), uri="/robots.txt"),
        Case(_get("/", "User-Agent: Mozilla/5.0 Firefox/128.0")),
    ],
    "path_rewrite": [
        Case(_get("/v1/users/7?a=b"), uri="/users/7?a=b&api=1"),
        Case(_get("/v2/users"), uri="/users?api=2"),
        Case(_get("/blog/post?a=b"), uri="/post?a=b", host="blog.example.com"),
        Case(_get("/blog"), uri="/", host="blog.example.com"),
        Case(_get("/blogger"), uri="/blogger", host="www.example.com"),
    ],
    "sticky_key": [
        Case(_get("/", "Cookie: session=abc"), hash_key="abc"),
        Case(_get("/"), hash_key="203.0.113.7"),
    ],
    "cluster": [
        Case(_get("/", "X-Country: DE"), cluster_key=("fra", "nyc")),
        Case(_get("/", "X-Country: JP"), cluster_key=("nyc", "fra")),
        Case(_get("/", "X-Country: US", method="POST"), cluster_key="fra"),
    ],
    "allow_list": [
        Case(_get("/admin/users"), 403),
        Case(_get("/admin/users"), client="10.1.2.3"),
        Case(_get("/admin/users"), client="192.0.2.200"),
        Case(_get("/admin/users"), 403, client="192.0.2.100"),
        Case(_get("/"), uri="/"),
    ],
    "request_id": [
        Case(_get("/", "X-Request-Id: abcdef-123"), headers={"X-Client-Request-Id": "abcdef-123"}),
        Case(_get("/", "X-Request-Id: a b"), headers={"X-Client-Request-Id": None}),
    ],
    "response_headers": [
        Case(
            _get("/static/a.css"),
            reply={
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "public, max-age=31536000, immutable",
            },
        ),
        Case(
            _get("/"),
            reply={"Strict-Transport-Security": "max-age=31536000", "Cache-Control": None},
        ),
        Case(_get("/"), reply={"X-Frame-Options": "DENY"}, only="python"),
    ],
}
