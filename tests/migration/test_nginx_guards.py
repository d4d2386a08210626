"""What nginx keeps back goes nowhere, whatever keeps it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slardar.migration.draft import NOWHERE
from tests.migration.test_nginx import OURS, PASS, SECURE, TO_HTTPS, VERIFY, chosen, maker, server


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """See :func:`maker`."""
    return maker(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "around",
    ["deny all;", "auth_basic x;", "auth_request /a;", "if ($a) { return 403; }", "rewrite a b;"],
)
def test_guard_around_a_location(made: Any, around: str) -> None:
    """It holds for locations in it, unless they have their own."""
    found = made(
        server(
            f"{around} {PASS} location /open {{ auth_basic off; auth_request off; allow all;"
            " proxy_pass http://up; }"
        )
    )
    upstreams = {route["path"]: route["upstream"] for route in found.routes if "host" in route}
    assert upstreams["/"] == "not-taken-over"
    closed = around.startswith(("if", "rewrite"))
    assert upstreams["/open"] == ("not-taken-over" if closed else "up")


def test_expression_that_python_cannot_read(made: Any) -> None:
    """Nobody can say which requests it is for, so it closes what comes after it."""
    for inside in ("proxy_pass http://up;", "deny all;"):
        found = made(
            server(
                f"location = /x {{ proxy_pass http://up; }}\nlocation ~ \\h {{ {inside} }}\n{PASS}"
            )
        )
        routes = [route for route in found.routes if route.get("path_regex") != "%"]
        assert [(route.get("path"), route["upstream"]) for route in routes[:2]] == [
            (None, "up"),
            ("/", NOWHERE),
        ]
        assert "nginx.conf:4: location ~ \\h: route[0].path_regex: expected a regular" in found.left
        assert "nginx.conf:4: location ~ \\h: all requests that no route before it" in found.differs


@pytest.mark.parametrize(
    ("inside", "path", "upstream"),
    [
        # Of what is in a location, the expressions come first.
        ("location / { P location ~ /\\.git { deny all; } }", "/.git/config", NOWHERE),
        ("location / { P location ~ /\\.git { deny all; } }", "/a", "up"),
        ("location /x/ { P location ~ y { return 403; } } location / { P }", "/x/y", NOWHERE),
        ("location /x/ { P location ~ y { return 403; } } location / { P }", "/y", "up"),
        ("location ^~ /x { P location ~ y { internal; } } location / { P }", "/xy", NOWHERE),
        ("location /x { P location /x/y { location ~* Z { } } P } location / { P }", "/x", "up"),
        ("location /x { P location /x/y { location ~* Z { } P } }", "/x/y/z", NOWHERE),
        # Of an expression with others in it, nothing is passed on.
        ("location ~ ^/x { P location ~ y { deny all; } } location / { P }", "/x", NOWHERE),
    ],
)
def test_location_in_another(made: Any, inside: str, path: str, upstream: str) -> None:
    """Guards in it keep back what they kept back before, and it alone."""
    found = made(server(inside.replace(" P ", " proxy_pass http://up; ")))
    assert chosen(found, "a.test", path) == upstream


@pytest.mark.parametrize("where", ["http", "server", "location"])
@pytest.mark.parametrize(
    ("line", "is_open"),
    [
        # Nobody knows them, or they are guards.
        *((line, False) for line in ("auth_oidc on", "testcookie on", "limit_req zone=a")),
        *((line, False) for line in ("limit_conn a 1", "ssl_crl a.pem", "access_by_lua_file a")),
        *((line, False) for line in ("modsecurity on", "proxy_method GET", "deny 10.0.0.1")),
        *((line, False) for line in ('proxy_set_header X-User ""', "ssl_reject_handshake on")),
        *((line, False) for line in ("auth_jwt a token=$b", "allow 10.0.0.1; deny all")),
        # These are listed and keep nothing back, or mean nothing here.
        *((line, True) for line in ("testcookie off", "gzip on", "add_header A b", "set $a b")),
        *((line, True) for line in ("limit_req_status 429", "brotli_types a", "sendfile on")),
        *((line, True) for line in ("allow all", "valid_referers none", "log_by_lua_file a")),
        *((line, True) for line in ('proxy_set_header Accept-Encoding ""',)),
        *((line, True) for line in ("fastcgi_read_timeout 1s", "proxy_cache_lock on")),
    ],
)
def test_whatever_is_not_known_closes(made: Any, where: str, line: str, is_open: bool) -> None:
    """Wherever it stands: its requests go nowhere."""
    at = {"http": "", "server": "", "location": "", where: f"{line};"}
    found = made(
        f"events {{ odd 1; }}\nodd 2;\nhttp {{ {at['http']} upstream up {{"
        f" server 10.0.0.1; odd 3; }} server {{ server_name a.test; {at['server']}"
        f" location / {{ {at['location']} proxy_pass http://up; }} }} }}"
    )
    assert chosen(found, "a.test", "/x") == ("up" if is_open else NOWHERE)
    means_nothing = line in ("sendfile on", "testcookie off", "allow all")
    assert means_nothing or line.rpartition("; ")[2] in found.left


@pytest.mark.parametrize(
    ("guarded", "other", "left", "why"),
    [
        # One that listens on this machine alone, or in a private network.
        ("listen 127.0.0.1:81; P", "listen 80;", NOWHERE, "listens on 127.0.0.1:81 alone"),
        ("listen [::1]:81; P", "listen 80;", NOWHERE, "listens on [::1]:81 alone"),
        ("listen [::ffff:127.0.0.1]:81; P", "listen 80;", NOWHERE, "127.0.0.1]:81 alone"),
        ("listen unix:/run/a; P", "listen 80;", NOWHERE, "listens on unix:/run/a alone"),
        ("listen 127.0.0.1:80; P", "listen 80;", NOWHERE, "listens on 127.0.0.1:80 alone"),
        ("listen 10.0.0.1:80; P", "listen 80;", NOWHERE, "listens on 10.0.0.1:80 alone"),
        ("listen 127.0.0.1:81; P", "listen 10.0.0.1:80;", NOWHERE, "127.0.0.1:81 alone"),
        ("listen eth0:81; P", "listen 80;", NOWHERE, "nobody knows here where it listens"),
        ("listen 127.0.0.1:81; P", "listen 127.0.0.1:82;", "up", ""),
        ("listen 127.0.0.1:81; listen 80; P", "listen 80;", "up", ""),
        # One that asks for certificates of clients.
        (f"{SECURE} {VERIFY} P", "listen 80;", NOWHERE, "without TLS ask for no certificates"),
        (f"{SECURE} {VERIFY} listen 80; P", "listen 80;", "up", ""),
        (f"{SECURE} ssl_verify_client on; P", SECURE.format("b"), NOWHERE, "with a ca"),
        (f"{SECURE} ssl_verify_client optional_no_ca; P", "listen 80;", NOWHERE, "with a ca"),
        (f"{SECURE} {VERIFY} P", SECURE.format("a"), NOWHERE, "its certificate is that of servers"),
        (
            f"listen 443 ssl; {VERIFY} P",
            SECURE.format("b"),
            NOWHERE,
            "certificate is not taken over",
        ),
        (f"{SECURE} {VERIFY} P", SECURE.format("b"), "up", ""),
        (f"{SECURE} {VERIFY} ssl_crl a.pem; P", SECURE.format("b"), NOWHERE, "ssl_crl a.pem may"),
        (f"{SECURE} {VERIFY} ssl_ocsp on; P", SECURE.format("b"), NOWHERE, "ssl_ocsp on may keep"),
    ],
)
def test_server_that_listeners_guard(
    made: Any, guarded: str, other: str, left: str, why: str
) -> None:
    """Its requests go nowhere if slardar's endpoints would let in whom nginx keeps out."""
    inside = guarded.replace(" P", f" {PASS}").replace("{0}", "a")
    found = made(
        f"{OURS} server {{ server_name b.test; {other} location / {{ proxy_pass http://other; }}"
        " }\n"
        f"server {{ server_name a.test; {inside} }}"
    )
    assert chosen(found, "a.test", "/x") == left
    assert chosen(found, "b.test", "/x") == "other"
    assert why in found.left
    assert (why != "") == ("get 502" in found.left)


def test_certificate_of_several_servers(made: Any) -> None:
    """All of those are closed that ask clients for what not all of them ask for."""
    found = made(
        f"{OURS} server {{ server_name a.test; {SECURE.format('a')} {VERIFY} {PASS} }}\n"
        f"server {{ server_name b.test; {SECURE.format('a')} {VERIFY} {PASS} }}"
        f"server {{ server_name c.test; {SECURE.format('a')} {PASS} }}"
        f"server {{ server_name d.test; {SECURE.format('d')} {VERIFY} {PASS} }}"
    )
    upstreams = {name: chosen(found, f"{name}.test", "/") for name in "abcd"}
    assert upstreams == {"a": NOWHERE, "b": NOWHERE, "c": "up", "d": "up"}
    assert ["client" in pair for pair in found.plain["tls"]["certificates"]] == [False, True]


def test_certificates_of_clients_for_unknown_names(made: Any) -> None:
    """A server that asks for them is the default one only where all endpoints ask for them."""
    guarded = f"server {{ server_name a.test; {SECURE.format('a')} {VERIFY} {PASS} }}\n"
    found = made(f"{OURS} {guarded}")
    assert chosen(found, "x.test", "/") == "up"
    assert found.plain["tls"]["client"]["verify"] == "require"
    for more in (
        f"server {{ server_name b.test; {SECURE.format('b')} {PASS} }}",
        f"server {{ server_name a.test; listen 80; {TO_HTTPS} }}",
    ):
        found = made(f"{OURS} {guarded} {more}")
        assert chosen(found, "x.test", "/") == NOWHERE
        assert chosen(found, "a.test", "/") == "up"
        assert "ssl_verify_client: for the names in its certificate alone" in found.differs


@pytest.mark.parametrize(
    ("path", "upstream"),
    [
        *((path, NOWHERE) for path in ("//admin", "/./admin", "/x/../admin", "/%61dmin", "/a%2fb")),
        *((path, NOWHERE) for path in ("/x/..", "/%2E/x", "/ad%20min", "/ad%20min/x", "/%C3%a9")),
        *((path, NOWHERE) for path in ("/admin", "/a+b", "/a%2Bb", "/a%2bb", "/%25")),
        *((path, "up") for path in ("/x", "/a%20b", "/.well-known/x", "/a..b", "/%C3%A8", "/x%2B")),
    ],
)
def test_spellings_of_a_path(made: Any, path: str, upstream: str) -> None:
    """What is kept back cannot be had by another spelling of its path."""
    found = made(
        server(
            'location "/ad min" { deny all; } location /\u00e9 { deny all; } location /a+b { return'
            " 403; } location = /% { deny all; } location /admin { deny all; }"
            f" {PASS}"
        )
    )
    assert chosen(found, "a.test", path) == upstream
    assert "paths that nginx would rewrite first" in found.differs


@pytest.mark.parametrize(
    ("pattern", "kept", "passed"),
    [
        ('~ "^/a b$"', ["/a%20b"], ["/ab"]),
        ("~* ^/\u00e9x", ["/%c3%A9X"], ["/%C3%A8x"]),
        (r"~ ^/a\sb", ["/a%20b", "/a%09b"], ["/axb", "/a%2Bb"]),
        ("~ ^/a.b$", ["/axb", "/a%20b", "/a%C3b"], ["/ab", "/a%20%20b"]),
        ("~ ^/[^a]b$", ["/%a1b", "/xb"], ["/ab"]),
        ("~ ^/[^a]*b$", ["/%c3%a1b", "/xxb"], ["/aab"]),
        ("~ ^/[^/]+/b$", ["/a%20%aa/b"], ["/a/a/b"]),
        ('~ "^/(?<n>[@:])x{2}$"', ["/@xx", "/%40xx", "/%3axx"], ["/@x", "/xx"]),
        (r"~ ^/a\+b|^/c", ["/a+b", "/a%2Bb", "/c"], ["/aab"]),
        (r"~ /\.(?:git|svn)", ["/.git/config", "/x/.svn"], ["/git", "/x%20y"]),
        # Nobody knows here what these say of escapes.
        ("~ ^/[\u00e9]", ["/%C3%A9", "/%20"], ["/a"]),
        ("~ ^/a(?!b)", ["/ac", "/%20"], ["/ab"]),
        (r"~ \bx", ["/x", "/%20"], ["/yx"]),
    ],
)
def test_spellings_of_an_expression(
    made: Any, pattern: str, kept: list[str], passed: list[str]
) -> None:
    """It is searched for in what a path means."""
    found = made(server(f"location {pattern} {{ deny all; }} {PASS}"))
    assert {path: chosen(found, "a.test", path) for path in kept} == dict.fromkeys(kept, NOWHERE)
    assert {path: chosen(found, "a.test", path) for path in passed} == dict.fromkeys(passed, "up")
    assert ("paths with an escape (%XX) get 502" in found.differs) == ("/%20" in kept)


def test_spellings_where_all_is_open(made: Any) -> None:
    """They are not looked at, as they may only lead to another upstream that is open."""
    found = made(server(f'location "/a b" {{ proxy_pass http://10.0.0.2; }} {PASS}'))
    assert chosen(found, "a.test", "/a%20b/c") == "10.0.0.2"
    assert chosen(found, "a.test", "//x") == "up"
