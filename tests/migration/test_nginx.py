"""What becomes of nginx's directives."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slardar.errors import ConfigError
from slardar.migration.draft import NOWHERE, Draft
from slardar.migration.nginx import import_nginx
from slardar.migration.nginx_locations import REWRITTEN
from slardar.model.parse import parse_routes


class Made:
    """The result of an import."""

    def __init__(self, draft: Draft) -> None:
        self.plain: dict[str, Any] = draft.plain()
        self.left = "\n".join(map(str, draft.left))
        self.differs = "\n".join(map(str, draft.differs))
        self.upstreams = self.plain["upstreams"]
        #: Without those for paths that nginx would rewrite first.
        self.routes = [
            route for route in self.plain["routes"] if route.get("path_regex") != REWRITTEN
        ]


def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Made]:
    """Imports a text as ``nginx.conf`` of the folder in which it works."""
    monkeypatch.chdir(tmp_path)

    def make(text: str) -> Made:
        Path("nginx.conf").write_text(text)
        return Made(import_nginx("nginx.conf"))

    return make


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """See :func:`maker`."""
    return maker(tmp_path, monkeypatch)


def server(inside: str, upstream: str = "server 10.0.0.1;") -> str:
    """A file with one server, whose text this is, and one upstream, ``up``."""
    return f"upstream up {{ {upstream} }}\nserver {{ server_name a.test;\n{inside}\n}}"


def chosen(found: Made, host: str, path: str) -> str | None:
    """The upstream to which the routes send a request."""
    routes = parse_routes(found.plain["routes"], "routes")
    return next((one.upstream for one in routes if one.matcher()(host, path)), None)


OTHER = "expected nginx's configuration; for HAProxy use --from haproxy"
PASS = "location / { proxy_set_header Host $host; proxy_pass http://up; }"


def test_servers_of_an_upstream(made: Any) -> None:
    """nginx's default of ``max_fails`` is 1, and its default port 80."""
    found = made(
        server(
            PASS,
            "server 10.0.0.1 weight=5 max_fails=0 fail_timeout=1m;"
            "server b.internal:81 backup resolve; server [::1]:8080 down max_conns=7;"
            "server unix:/x; server 10.0.0.9 slow_start=30s odd=1;",
        )
    )
    assert found.upstreams["up"] == {
        "servers": [
            {"host": "10.0.0.1", "port": 80, "max_fails": 0, "weight": 5, "fail_timeout": 60},
            {"host": "b.internal", "port": 81, "max_fails": 1, "backup": True},
            {"host": "::1", "port": 8080, "max_fails": 1, "state": "down", "max_conns": 7},
            {"host": "10.0.0.9", "port": 80, "max_fails": 1},
        ],
        "slow_start": 30,
        "retry_on": ["connect", "error", "timeout"],
        "public": False,
    }
    assert "nginx.conf:1: server unix:/x: " in found.left
    assert "nginx.conf:1: server 10.0.0.9 odd=1: " in found.left


@pytest.mark.parametrize(
    ("text", "body", "told"),
    [
        ("least_conn;", {"mode": "least_conn"}, ""),
        ("ip_hash;", {"mode": "ip_hash"}, "first three bytes"),
        ("hash $request_uri consistent;", {"mode": "url_hash", "mode_opts": {"query": True}}, ""),
        ("hash $uri consistent;", {"mode": "url_hash"}, ""),
        ("hash $remote_addr;", {"mode": "ip_hash"}, "keys get other servers"),
        ("hash $cookie_user consistent;", {"mode": "hash"}, "request.hash_key"),
        ("random two least_conn;", {"mode": "p2c"}, ""),
        ("random;", {"mode": "random"}, ""),
        ("keepalive 7;", {"keepalive": 7}, ""),
        ("zone a 64k;", {}, ""),
    ],
)
def test_balancers(made: Any, text: str, body: dict[str, Any], told: str) -> None:
    found = made(server(PASS, f"{text} server 10.0.0.1;"))
    known = {key: found.upstreams["up"].get(key) for key in ("mode", "mode_opts", "keepalive")}
    assert {key: value for key, value in known.items() if value is not None} == body
    assert told in found.left + found.differs
    assert bool(told) == (text[:-1] in found.left + found.differs)


def test_settings_of_a_location(made: Any) -> None:
    """What is written around it holds, too.  Where two locations have other settings, they have an
    upstream each."""
    found = made(
        "proxy_read_timeout 5s; proxy_next_upstream error http_503 non_idempotent;\n"
        + server(
            "proxy_connect_timeout 500ms; proxy_next_upstream_tries 2; location / { proxy_pass"
            " http://up; }\nlocation /slow { proxy_pass http://up; proxy_read_timeout 5m; }"
        )
    )
    assert found.upstreams["up"]["read_timeout"] == 5
    assert found.upstreams["up"]["timeout"] == 0.5
    assert found.upstreams["up"]["try"] == 2
    assert found.upstreams["up"]["retry_on"] == ["connect", "error", "http_503", "non_idempotent"]
    assert found.upstreams["up-2"] == {**found.upstreams["up"], "read_timeout": 300}
    assert found.routes[:2] == [
        {"host": "a.test", "path": "/slow", "upstream": "up-2"},
        {"host": "a.test", "path": "/", "upstream": "up"},
    ]
    assert "proxy_pass http://up: with other settings" in found.differs
    assert "servers get the client's Host, and not up" in found.differs


def test_tls_to_servers(made: Any) -> None:
    """nginx verifies only if it is told to, and has the server's own name then."""
    found = made(
        server(
            "location / { proxy_pass https://10.0.0.1; proxy_ssl_verify on;"
            " proxy_ssl_trusted_certificate ca.pem; }\nlocation /b { proxy_pass https://b.test; }"
        )
    )
    ca = str(Path("ca.pem").absolute())
    assert found.upstreams["10.0.0.1"]["tls"] == {
        "verify": True,
        "ca": ca,
        "server_name": "10.0.0.1",
    }
    assert found.upstreams["b.test"]["servers"] == [{"host": "b.test", "port": 443}]
    assert found.upstreams["b.test"]["tls"] == {"verify": False}


@pytest.mark.parametrize(
    ("inside", "why"),
    [
        ("proxy_pass http://up/y;", "a hook can change the path"),
        ("proxy_pass http://$host;", "a hook can choose the upstream"),
        ("proxy_pass http://unix:/x:;", "there is no upstream"),
        ("proxy_pass http://up; deny 10.0.0.0/8;", "deny 10.0.0.0/8 may keep requests back"),
        ("deny all;", "deny all may keep requests back"),
        ("root /srv; deny all; proxy_pass http://up;", "deny all may keep requests back"),
        ("deny all; proxy_pass http://up/x;", "deny all may keep requests back"),
        ("proxy_pass http://up; auth_basic x;", "auth_basic x may keep requests back"),
        ("proxy_pass http://up; rewrite a b;", "rewrite a b may keep requests back"),
        ("proxy_pass http://up; if ($a = b) { return 403; }", "if $a = b may keep requests back"),
        ("proxy_pass http://up; return 403;", "a hook can answer"),
        ("root /srv;", "slardar serves no files"),
        ("fastcgi_pass 10.0.0.1:9000;", "slardar speaks HTTP/1.1 to servers"),
        ("", "it passes no request on"),
    ],
)
def test_location_that_is_not_only_passed_on(made: Any, inside: str, why: str) -> None:
    """Its requests go nowhere, and nowhere else."""
    found = made(server(f"location /x {{ {inside} }}\n{PASS}"))
    assert found.routes[:2] == [
        {"host": "a.test", "path": "/x", "upstream": "not-taken-over"},
        {"host": "a.test", "path": "/", "upstream": "up"},
    ]
    (line,) = [
        one for one in found.left.split("\n") if one.startswith("nginx.conf:3: location /x: ")
    ]
    assert "requests for it get 502: " in line
    assert why in line


@pytest.mark.parametrize(
    "line",
    [
        *("proxy_next_upstream_tries x", "proxy_next_upstream_timeout x", "proxy_read_timeout x"),
        *("client_max_body_size x", "proxy_next_upstream odd", "client_body_timeout 0"),
    ],
)
def test_value_that_is_none(made: Any, line: str) -> None:
    """It is listed."""
    assert f"nginx.conf:3: {line}: " in made(server(f"{line}; {PASS}")).left


@pytest.mark.parametrize(
    ("line", "why"),
    [
        *((f"server {one};", "no host and port") for one in ("127.0.0.1:99999", "a:b", "$host:80")),
        ("server unix:/x;", "servers on unix sockets"),
        ("server 10.0.0.1 max_fails=-1;", "server 10.0.0.1 max_fails=-1: no such value here"),
        ("server 10.0.0.1 odd=1;", "server 10.0.0.1 odd=1: no such setting"),
    ],
)
def test_reason_for_a_server(made: Any, line: str, why: str) -> None:
    """The reason is the true one."""
    (found,) = made(server(PASS, f"server 10.0.0.9; {line}")).left.split("\n")
    assert why in found


def test_reasons_for_directives(made: Any) -> None:
    """What is in a location that is closed is told, and sizes are no sizes."""
    found = made(
        server(
            "location / { satisfy any; allow 10.0.0.1; deny all; valid_referers none;"
            " client_max_body_size 99999999999999g; proxy_pass http://up; }"
        )
    )
    for line in ("satisfy any: a hook", "allow 10.0.0.1: a hook", "valid_referers none: a hook"):
        assert f"nginx.conf:3: {line}" in found.left
    assert "client_max_body_size 99999999999999g: no size that slardar can have" in found.left
    assert "location /: requests for it get 502: deny all may keep" in found.left


@pytest.mark.real
def test_thousands_of_servers(made: Any) -> None:
    """They take their time only once each, and a remark on all of them is short."""
    text = "".join(
        f"upstream u{number} {{ server 10.0.0.1:{number + 1}; }}\nserver {{ server_name"
        f" n{number}.test; gzip on; location / {{ proxy_set_header Host $host;"
        f" proxy_pass http://u{number}; }} }}\n"
        for number in range(3000)
    )
    began = time.process_time()
    found = made(text)
    assert time.process_time() - began < 5
    assert chosen(found, "n2999.test", "/") == "u2999"
    lines = "2,4,6,8,10,12,14,16,18,20 and 2,990 more"
    assert found.left.startswith(f"nginx.conf:{lines}: gzip on: ")


def test_uri_part_that_changes_nothing(made: Any) -> None:
    found = made(server("location /a/ { proxy_pass http://up/a/; }"))
    assert found.routes[0] == {"host": "a.test", "path": "/a/", "upstream": "up"}


def test_order_of_names(made: Any) -> None:
    """Exact names come first, then the longest wildcard, then the default server."""
    pass_to = "location / {{ proxy_pass http://10.0.0.{}; }}"
    found = made(
        f"server {{ server_name *.test; {pass_to.format(1)} }}\n"
        f"server {{ server_name *.b.test .C.test; {pass_to.format(2)} }}\n"
        f"server {{ listen 80 default_server; server_name _; {pass_to.format(3)} }}\n"
        "server { server_name a.b.test ~^x www.*; location /y { proxy_pass http://10.0.0.4; } }"
    )
    assert found.routes == [
        {"host": "c.test", "path": "/", "upstream": "10.0.0.2"},
        {"host": "a.b.test", "path": "/y", "upstream": "10.0.0.4"},
        {"host": "a.b.test", "upstream": "not-taken-over"},
        {"host": "*.b.test", "path": "/", "upstream": "10.0.0.2"},
        {"host": "*.c.test", "path": "/", "upstream": "10.0.0.2"},
        {"host": "*.test", "path": "/", "upstream": "10.0.0.1"},
        {"path": "/", "upstream": "not-taken-over"},
    ]
    assert "nginx.conf:4: server_name ~^x: " in found.left
    assert (
        "nginx.conf:3: server: requests for names that no server has get 502: server_name ~^x at"
        " nginx.conf:4 may be for them" in found.left
    )
    assert "nginx.conf:4: server_name www.*: " in found.left


@pytest.mark.parametrize(
    ("listen", "endpoints"),
    [
        ("", ["tcp:80"]),
        ("listen 8080;", ["tcp:8080"]),
        ("listen 127.0.0.1:8080 backlog=5;", ["tcp:8080:interface=127.0.0.1"]),
        ("listen 80; listen [::]:80;", ["tcp6:80"]),
        ("listen [::1]:80;", ["tcp6:80:interface=\\:\\:1"]),
        ("listen [::FFFF:a00:4]:80;", ["tcp6:80:interface=\\:\\:ffff\\:10.0.0.4"]),
        ("listen 443 ssl proxy_protocol;", ["haproxy:tls:443"]),
        ("listen unix:/run/x.sock;", ["unix:/run/x.sock"]),
        ("listen 80; listen 127.0.0.1:80;", ["tcp:80"]),
    ],
)
def test_listeners(made: Any, listen: str, endpoints: list[str]) -> None:
    assert made(server(f"{listen} {PASS}")).plain["listen"] == endpoints


def test_tls_to_clients(made: Any) -> None:
    """Certificates, versions, clients' certificates, and the way from http to https."""
    found = made(
        "server { listen 80 default_server; return 301 https://$host$request_uri; }\n"
        + server(
            "listen 443 ssl; ssl_certificate a.pem; ssl_certificate_key a.key;"
            " ssl_protocols TLSv1.1 TLSv1.2 TLSv1.3; ssl_verify_client on;"
            f" ssl_client_certificate ca.pem; {PASS}"
        )
    )
    folder = Path.cwd()
    assert found.plain["tls"] == {
        "client": {"verify": "require", "ca": f"{folder}/ca.pem"},
        "certificates": [{"cert": f"{folder}/a.pem", "key": f"{folder}/a.key"}],
        "min_version": "1.2",
        "default": "a.test",
        "redirect": True,
    }
    assert "ssl_protocols TLSv1.1: slardar does not speak it" in found.left
    assert "nginx.conf:1: return 301 https://$host$request_uri: tls.redirect: 308" in found.differs


def test_certbots_redirect(made: Any) -> None:
    found = made(
        "server { if ($host = a.test) { return 301 https://$host$request_uri; }\n"
        "listen 80; server_name a.test; return 404; }\n"
        + server(f"listen 443 ssl; ssl_certificate a.pem; ssl_certificate_key a.key; {PASS}")
    )
    assert found.plain["tls"]["redirect"] is True
    assert found.routes[0] == {"host": "a.test", "path": "/", "upstream": "up"}
    assert "return 404" in found.left


def test_redirect_that_others_do_not_have(made: Any) -> None:
    """``tls.redirect`` would send names to https that nginx serves without TLS."""
    found = made(
        "server { server_name a.test; return 301 https://$host$request_uri; }\n"
        "server { server_name b.test; listen 80; listen 443 ssl; ssl_certificate b.pem;"
        f" ssl_certificate_key b.key; {PASS} }}\nupstream up {{ server 10.0.0.1; }}"
    )
    assert "redirect" not in found.plain["tls"]
    assert "nginx.conf:1: return 301 " in found.left


SECURE = "listen 443 ssl; ssl_certificate {0}.pem; ssl_certificate_key {0}.key; "
OURS = "upstream up { server 10.0.0.1; } upstream other { server 10.0.0.2; }"
VERIFY = "ssl_client_certificate ca.pem; ssl_verify_client on; "
TO_HTTPS = "location / { return 301 https://$host$request_uri; }"


def test_redirect_with_locations(made: Any) -> None:
    """What certbot's users write: the challenge is answered, all else is sent to https."""
    found = made(
        f"{OURS} server {{ listen 80; server_name a.test; {TO_HTTPS}\n"
        "location ^~ /.well-known/acme-challenge/ { proxy_pass http://other; } }\n"
        f"server {{ server_name a.test; {SECURE.format('a')} {PASS} }}"
    )
    assert found.plain["tls"]["redirect"] is True
    assert found.plain["listen"] == ["tcp:80", "tls:443"]
    assert chosen(found, "a.test", "/.well-known/acme-challenge/x") == "other"
    assert chosen(found, "a.test", "/x") == "up"
    assert chosen(found, "b.test", "/x") == "up"
    assert "502" not in found.left
    assert (
        "nginx.conf:2: location ^~ /.well-known/acme-challenge/: tls.redirect sends"
        in found.differs
    )


def test_redirect_with_files(made: Any) -> None:
    """Files of challenges are not served: slardar has its own way."""
    found = made(
        f"{OURS} server {{ listen 80 default_server; {TO_HTTPS} location"
        " /.well-known/acme-challenge/ { root /var/www; }"
        " location /health { proxy_pass http://other; } }\n"
        f"server {{ server_name a.test; {SECURE.format('a')} {PASS} }}"
    )
    assert chosen(found, "a.test", "/.well-known/acme-challenge/x") == NOWHERE
    assert "requests for it get 502: tls.acme fetches certificates by itself" in found.left
    assert chosen(found, "a.test", "/health") == "other"
    assert chosen(found, "a.test", "/x") == "up"


def test_one_setting_for_all(made: Any) -> None:
    """The largest value counts; nginx's limit of a body is a mebibyte."""
    found = made(
        f"client_header_timeout 9s;\n{server(PASS)}\nserver {{ server_name b.test;"
        " client_header_timeout 7s; client_max_body_size 2m; location / { proxy_pass http://up; } }"
    )
    assert found.plain["limits"] == {"body": 2097152}
    assert found.plain["timeouts"] == {"client_header": 9}
    assert "client_header_timeout 7s: slardar has one timeouts.client_header" in found.left
    assert "client_max_body_size 2m: for all names" in found.differs
    assert made(server(PASS)).plain["limits"] == {"body": 1048576}


def test_process_and_trust(made: Any) -> None:
    found = made(
        "worker_processes 3; events { worker_connections 99; } http { set_real_ip_from 10.0.0.0/8;"
        " real_ip_header X-Forwarded-For; large_client_header_buffers 4 16k; }"
    )
    assert found.plain["workers"] == 3
    assert found.plain["trusted"] == ["10.0.0.0/8"]
    assert found.plain["limits"]["connections"] == 99
    assert (found.plain["limits"]["url"], found.plain["limits"]["head"]) == (16384, 65536)
    assert found.left == ""


def test_other_ports(made: Any) -> None:
    """Routes do not look at the port, so a name has the routes of its first server."""
    found = made(
        f"{server(PASS)}\nserver {{ listen 81; server_name a.test;"
        " location / { proxy_pass http://10.0.0.2; } }"
    )
    assert found.routes[0]["upstream"] == "up"
    assert (
        "nginx.conf:5: server_name a.test: the server at nginx.conf:2 has this name" in found.left
    )
    assert "slardar serves all names on all of its endpoints" in found.differs


def test_includes(made: Any) -> None:
    """Files that are included are told by their names, also behind an ``include``."""
    Path("more").mkdir()
    Path("more/b.conf").write_text("gzip on;\n\nserver { server_name b.test; }")
    Path("proxy.conf").write_text("odd_one 1;")
    found = made("http {\ninclude more/*.conf;\ngzip_vary on;\ninclude proxy.conf; }")
    assert "more/b.conf:1: gzip on: " in found.left
    assert "nginx.conf:3: gzip_vary on: " in found.left
    assert "proxy.conf:1: odd_one 1: slardar has nothing of this kind" in found.left


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("server {", 'nginx.conf:1: unexpected end of file, expecting "}"'),
        ("include none.conf;", "nginx.conf:1: "),
        (
            "upstream a { server; }",
            'nginx.conf:1: invalid number of arguments in "server" directive',
        ),
        ("user a;\n\nserver { listen 80;", 'nginx.conf:3: unexpected end of file, expecting "}"'),
        ("user a;\n\npid", 'nginx.conf:3: unexpected end of file, expecting ";" or "}"'),
        ("# a\nglobal\n daemon\nlisten a\n bind :80", f"nginx.conf:2: {OTHER}"),
        ("-----BEGIN CERTIFICATE-----\nabc\n", f"nginx.conf:1: {OTHER}"),
        *(
            (
                "a {" * depth + "}" * depth,
                "nginx.conf: it includes itself, or its blocks are too deep",
            )
            for depth in (1000, 2000)
        ),
        ("server { listen; }", 'nginx.conf:1: invalid number of arguments in "listen" directive'),
    ],
)
def test_file_that_is_none(made: Any, text: str, why: str) -> None:
    with pytest.raises(ConfigError) as error:
        made(text)
    assert error.value.problems[0].startswith(why)


def test_include_of_itself(made: Any) -> None:
    with pytest.raises(ConfigError, match=r"^nginx\.conf: it includes itself"):
        made("http { include nginx.conf; }")


def test_no_file() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        import_nginx("/nowhere/nginx.conf")


def test_without_crossplane(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    monkeypatch.setitem(sys.modules, "crossplane", None)
    with pytest.raises(ConfigError, match=r"^reading nginx.conf needs .* 'txslardar\[import\]'$"):
        made("")
