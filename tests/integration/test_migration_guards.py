"""What nginx and HAProxy keep back, imported: slardar lets none of it through.

Each row is a configuration.  The program itself says what it does with each request; the routes of
the import have to do the same, or lead nowhere.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from http.client import HTTPConnection
from pathlib import Path

import pytest

from slardar.migration.draft import NOWHERE, Draft
from slardar.migration.haproxy import import_haproxy
from slardar.migration.nginx import import_nginx
from slardar.migration.nginx_locations import REWRITTEN
from slardar.model.parse import parse_routes
from tests.integration.conftest import Start
from tests.integration.programs import PATIENCE, HAProxy, Program, free_port

pytestmark = pytest.mark.real

PATHS = [
    *("/", "/b", "/x", "/x/y", "/x/y/z", "/x/y.css", "/x/z.css", "/a.css", "/.git/config", "/GIT"),
    *(
        "/admin",
        "/admin/x",
        "/ADMIN",
        "/ad%20min",
        "/ad%20min/x",
        "/%C3%A9",
        "/%c3%a9/x",
        "/%C3%A8",
    ),
    *("/%61dmin", "//admin", "/./admin", "/x/../admin", "/x/%2e%2e/admin", "/admin%2Fx", "/x//y"),
    *("/%2fadmin", "/%2e%67it", "/x%2Fy", "/a/.git", "/%20", "/a%20b", "/a?x=/admin"),
]
#: A server's text, where P passes requests on to ``up`` and Q to ``more``.
NGINX = [
    r"location / { P location ~ /\.git { deny all; } }",
    "location / { P } location ~ css { Q } location /x/ { P location ~ y { return 403; } }",
    "location ^~ /x/ { P location ~ css { deny all; } } location ~ css { Q } location / { P }",
    "location / { P location /x/y { deny all; } location ~* GIT { Q } }",
    "location /x { P location /x/y/z { deny all; } } location /x/y { Q } location / { P }",
    'location "/ad min" { deny all; } location / { P }',
    "location /é { deny all; } location / { P }",
    "location = /admin { return 403; } location / { P }",
    "location /admin { auth_basic a; auth_basic_user_file none; P } location / { Q }",
    'location ~ "d m" { deny all; } location ~ ^/.$ { deny all; } location / { P }',
    "location /x { P } location /x/y { Q }",
    "location / { limit_except POST { deny all; } P }",
    "deny all; location / { P } location /x { allow all; Q }",
    "location / { P location ~ ^/x { Q } location ~ y { deny all; } }",
    "location / { P } location ~ ^/(?!admin|x) { deny all; }",
    r"location / { P } location ~* \.(css|GIT)$ { deny all; }",
]
#: Those of which nobody knows here for which requests they are: all goes nowhere.
NGINX_CLOSED = [
    "location / { P } if ($request_uri ~ admin) { return 403; }",
    "location / { limit_conn zone 9; P }",
    "location / { P location ~ ^/ { Q location ~ y { deny all; } } }",
]
#: The same for the lines of HAProxy's frontends, whose backends are ``up``, ``more`` and ``no``.
HAPROXY = [
    "http-request deny if { path_beg /admin }\ndefault_backend up",
    "http-request deny if { path,lower -m beg /admin }\ndefault_backend up",
    "http-request deny if { path_beg -i /Admin }\ndefault_backend up",
    "acl x path_sub git\nuse_backend more if x\ndefault_backend up",
    "http-request deny if { path_beg /x } { path_end .css } or { path_beg /x }\ndefault_backend up",
    "use_backend no if { method GET } { path_beg /admin }\ndefault_backend up",
    "default_backend no",
]
HAPROXY_CLOSED = [
    "http-request deny if { path,url_dec -m beg /admin }\ndefault_backend up",
    "http-request deny if { url_sub admin }\ndefault_backend up",
    "acl bad src 127.0.0.0/8\nuse_backend no if bad or { hdr_sub(User-Agent) x }\n"
    "default_backend up",
    "acl api path_beg /x\nuse_backend no if !api\ndefault_backend up",
    "http-request set-header Host b.test\nuse_backend no if { hdr(host) b.test }\n"
    "default_backend up",
]


def ask(port: int, host: str, paths: Iterable[str]) -> dict[str, str]:
    """The upstream that answers for each path, or NOWHERE.

    A path without the slash at its end, which nginx adds by itself, is left out.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    found = {}
    for path in paths:
        connection.request("GET", path, headers={"Host": host})
        reply = connection.getresponse()
        body = reply.read().decode()
        if reply.status != 301:
            found[path] = body if reply.status == 200 else NOWHERE
    connection.close()
    return found


def routed(draft: Draft, host: str, paths: Iterable[str]) -> dict[str, str]:
    """The upstream to which routes lead for each path, or NOWHERE."""
    routes = [
        (one.matcher(), one.upstream) for one in parse_routes(draft.plain()["routes"], "routes")
    ]
    return {
        path: next((to for matches, to in routes if matches(host, path.partition("?")[0])), NOWHERE)
        for path in paths
    }


def check(ours: dict[str, str], theirs: dict[str, str], is_closed: bool, row: str) -> None:
    """Whether routes do what the program does, or lead nowhere if the row ``is_closed``."""
    opened = {path: to for path, to in ours.items() if to not in (theirs.get(path, to), NOWHERE)}
    assert opened == {}, row
    kept = {path for path, to in ours.items() if to == NOWHERE != theirs.get(path, to)}
    if is_closed:
        assert set(ours.values()) == {NOWHERE}, row
    else:
        assert {path for path in kept if not re.search(REWRITTEN, path)} == set(), row


def test_nginx(tmp_path: Path, start: Start) -> None:
    """A server for each row."""
    path = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert path is not None, "nginx is needed: make test installs it"
    port, ports = free_port(), [free_port(), free_port()]
    servers = [
        f"server {{ listen 127.0.0.1:{port}; server_name r{number}.test; {text} }}"
        for number, text in enumerate([*NGINX, *NGINX_CLOSED])
    ]
    servers = [
        re.sub(
            r"\b([PQ])(?= )", lambda at: f"proxy_pass http://{('up', 'more')[at[1] == 'Q']};", one
        )
        for one in servers
    ]
    ups = "".join(
        f"upstream {name} {{ server 127.0.0.1:{at}; }}\n"
        for name, at in zip(("up", "more"), ports, strict=True)
    )
    answers = "".join(
        f"server {{ listen 127.0.0.1:{at}; return 200 {name}; }}\n"
        for name, at in zip(("up", "more"), ports, strict=True)
    )
    head = "limit_conn_zone $server_name zone=zone:1m;\naccess_log off;\n"
    temporary = "".join(
        f"{name}_temp_path {name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = tmp_path / "nginx.conf"
    every = "\n".join(servers)
    config.write_text(
        "daemon off; master_process off; pid nginx.pid; error_log stderr notice;\n"
        f"events {{}}\nhttp {{ {head}{temporary}{ups}{answers}{every} }}"
    )
    program = start(
        Program([path, "-p", str(tmp_path), "-e", "stderr", "-c", str(config)], tmp_path)
    )
    program.wait_for(r"using the .* event method")
    for number, text in enumerate([*NGINX, *NGINX_CLOSED]):
        one = tmp_path / f"row{number}.conf"
        one.write_text(f"{head}{ups}{servers[number]}")
        host = f"r{number}.test"
        ours, theirs = routed(import_nginx(str(one)), host, PATHS), ask(port, host, PATHS)
        check(ours, theirs, text in NGINX_CLOSED, text)


def test_haproxy(tmp_path: Path, start: Start) -> None:
    """A frontend for each row."""
    head = "defaults\nmode http\ntimeout client 30s\ntimeout connect 5s\ntimeout server 30s\n"
    fronts = [
        f"frontend f{number}\nbind fd@{number}\n{text}\n"
        for number, text in enumerate([*HAPROXY, *HAPROXY_CLOSED])
    ]
    answers = "".join(
        f"backend {name}\nhttp-request return status 200 content-type text/plain string {name}\n"
        for name in ("up", "more")
    )
    no = "backend no\nhttp-request deny\n"
    program: HAProxy = start(
        HAProxy(tmp_path / "haproxy", f"{head}{''.join(fronts)}{answers}{no}", len(fronts))
    )
    for number, text in enumerate([*HAPROXY, *HAPROXY_CLOSED]):
        one = tmp_path / f"row{number}.cfg"
        front = fronts[number].replace(f"fd@{number}", ":8080")
        ups = "".join(f"backend {name}\nserver s 127.0.0.1:1\n" for name in ("up", "more"))
        one.write_text(f"{head}{front}{ups}{no}server s 127.0.0.1:1\n")
        theirs = ask(program.ports[number], "a.test", PATHS)
        check(
            routed(import_haproxy(str(one)), "a.test", PATHS), theirs, text in HAPROXY_CLOSED, text
        )
