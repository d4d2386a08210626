"""Imports of random files: nothing is lost in silence, and routes do what locations do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slardar.migration.draft import Draft
from slardar.migration.haproxy import import_haproxy
from slardar.migration.haproxy_words import OWN as HAPROXY_OWN
from slardar.migration.nginx import import_nginx
from slardar.migration.nginx_locations import Location, rules_of
from slardar.migration.nginx_words import OFF, OWN, OWN_OF_UPSTREAMS
from slardar.migration.statement import Statement
from slardar.model.parse import parse_routes

steady = settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

#: Directives by the block in which they may stand.  @ is a number that no other line has, and what
#: follows the bar is found in the configuration if the directive is taken over.
ANYWHERE = [
    *("proxy_read_timeout @s|@", "proxy_connect_timeout @s|@", "proxy_send_timeout @s|@"),
    *("proxy_next_upstream error http_503|http_503", "proxy_next_upstream_timeout @s|@"),
    *("proxy_next_upstream_tries @|@", "proxy_set_header Host $host|", "proxy_set_header X-@ a"),
    *("proxy_ssl_verify on|", "proxy_ssl_name n@.test|n@", "client_max_body_size @|@"),
    *("keepalive_timeout @|@", "client_body_timeout @|@", "send_timeout @|@", "deny 10.0.0.@"),
    *(
        "add_header X-@ a",
        "gzip on",
        "gzip off",
        "access_log off",
        "access_log /log/@",
        "root /srv/@",
    ),
    *("error_page 50@ /x", "auth_basic off", "auth_basic x@", "limit_rate @", "expires @s"),
    *("no_such_directive @", "another_unknown", "proxy_buffering off", "proxy_cache c@"),
    *("proxy_redirect off", "proxy_redirect default", "sendfile on", "tcp_nodelay on"),
]
HTTP = [
    *ANYWHERE,
    *(
        "log_format f@ x",
        "limit_req_zone $a zone=z@:1m rate=1r/s",
        "set_real_ip_from 10.9.@.0/24|10.9.@.",
    ),
    *("resolver 10.0.0.@", "server_names_hash_bucket_size @", "map $a $b { default @; }"),
    *("map $http_upgrade $connection_upgrade { default upgrade; }|", "types { text/@ a; }|"),
    *("large_client_header_buffers 2 @|@", "ssl_protocols TLSv1.2 TLSv1.3|", "real_ip_header X-@"),
]
SERVER = [
    *ANYWHERE,
    *("listen 127.0.0.1:@|@", "listen [::1]:@ ssl|@", "listen unix:/run/@|/run/@", "listen name:@"),
    *(
        "server_name n@.test|n@",
        "server_name *.n@.test|n@",
        "server_name ~n@",
        "server_name .n@.test|n@",
    ),
    *(
        "return 40@",
        "return 301 https://$host$request_uri",
        "rewrite ^/@ /x",
        "set $a @",
        "http2 on",
    ),
    *(
        "ssl_certificate c@.pem",
        "if ($a = @) { return 403; }",
        "if ($host = a@) { return 301 https://$host$request_uri; }",
    ),
    *("set_real_ip_from 10.8.@.0/24|10.8.@.", "listen 127.0.0.1:@ http2|@", "real_ip_header X-@"),
]
LOCATION = [
    *ANYWHERE,
    *(
        "proxy_pass http://up1|",
        "proxy_pass http://10.1.0.1:@|@",
        "proxy_pass https://10.1.0.1:@|@",
    ),
    *(
        "proxy_pass http://up2/|",
        "proxy_pass http://$a@",
        "proxy_pass http://unix:/run/@:",
        "internal",
    ),
    *(
        "proxy_pass http://up1/x@",
        "return 20@",
        "rewrite ^/@ /x",
        "fastcgi_pass 10.2.0.@",
        "alias /srv/@",
    ),
    *("limit_except GET { deny all; }", "if ($a = @) { return 403; }", "try_files a@ b"),
]
UPSTREAM = [
    *(
        "server 10.3.0.1:@ weight=2|@",
        "server 10.3.0.2:@ max_fails=0 fail_timeout=3s|@",
        "server s@.test|s@",
    ),
    *(
        "server unix:/run/@",
        "server 10.3.0.3:@ backup|@",
        "server 10.3.0.4:@ down|@",
        "least_conn|",
    ),
    *(
        "server 10.3.0.5:@ odd=1",
        "ip_hash|",
        "hash $request_uri consistent|",
        "hash $cookie_a@",
        "random|",
    ),
    *(
        "keepalive @|@",
        "zone z@ 64k",
        "sticky cookie a@",
        "keepalive_timeout @",
        "unknown_balancer @",
    ),
]
PATTERNS = ["/", "/a", "/a/", "= /a", "^~ /b/", "~ ^/c[0-9]", "~* \\.x$", "/b/c", "@name"]


class File:
    """A file that is being written, one directive in each line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        #: By line: what the line says, what is found if it is taken over, and the lines around it.
        self.expected: dict[int, tuple[str, str | None, tuple[int, ...]]] = {}

    def add(self, text: str, found: str | None = None, around: tuple[int, ...] = ()) -> int:
        """Add a line.  Returns its number, which is also in the place of each ``@``."""
        number = len(self.lines) + 1
        unique = str(1000 + number)
        self.lines.append(re.sub(r"@(?!name)", unique, text))
        if found is not None or around or text != "}":
            told = None if found is None else re.sub("@", unique, found)
            self.expected[number] = self.lines[-1], told, around
        return number

    def put(self, choice: str, around: tuple[int, ...]) -> None:
        """Add a directive of one of the lists."""
        text, bar, found = choice.partition("|")
        self.add(text if text.endswith("}") else f"{text};", found if bar else None, around)


@st.composite
def nginx_files(draw: st.DrawFn) -> File:
    """A file of nginx."""
    file = File()
    http = file.add("http {", "")

    def some(choices: list[str], around: tuple[int, ...], most: int) -> None:
        for choice in draw(st.lists(st.sampled_from(choices), max_size=most)):
            file.put(choice, around)

    some(HTTP, (http,), 5)
    for name in ("up1", "up2"):
        block = file.add(f"upstream {name} {{", "", (http,))
        some(UPSTREAM, (http, block), 4)
        file.lines.append("}")
    for _ in range(draw(st.integers(1, 3))):
        server = file.add("server {", "", (http,))
        some(SERVER, (http, server), 6)
        for pattern in draw(st.lists(st.sampled_from(PATTERNS), max_size=3, unique=True)):
            around = (http, server)
            block = file.add(f"location {pattern} {{", None if pattern == "@name" else "", around)
            some(LOCATION, (*around, block), 4)
            file.lines.append("}")
        file.lines.append("}")
    file.lines.append("}")
    return file


def lost(draft: Draft, file: File, own: frozenset[str]) -> list[str]:
    """The lines that are neither taken over, nor without a meaning, nor listed."""
    plain = json.dumps(draft.plain())
    listed = {line for one in draft.left for line in one.lines}
    told = listed | {line for one in draft.differs for line in one.lines}
    missing = []
    for number, (text, found, around) in file.expected.items():
        name = text.partition(";")[0].split()[0]
        means_nothing = name in own or (name in OFF and text.endswith(" off;"))
        is_told = number in told or any(line in listed for line in around)
        if not is_told and not means_nothing and (found is None or found not in plain):
            missing.append(f"{number}: {text}")
    return missing


@steady
@given(nginx_files())
def test_nothing_of_nginx_is_lost(tmp_path: Path, file: File) -> None:
    """Whatever stands where: slardar takes the configuration, and it has the line's value, or the
    line is listed, or it means nothing here."""
    path = tmp_path / "nginx.conf"
    path.write_text("\n".join(file.lines))
    draft = import_nginx(str(path))
    assert lost(draft, file, OWN | OWN_OF_UPSTREAMS) == [], draft.yaml() + path.read_text()


def test_lost_lines_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The property can fail: without the sweep at the end, lines are lost."""
    monkeypatch.setattr(Draft, "sweep", lambda *_: None)
    file = File()
    file.put("gzip on", ())
    path = tmp_path / "nginx.conf"
    path.write_text("\n".join(file.lines))
    assert lost(import_nginx(str(path)), file, OWN) == ["1: gzip on;"]


FRONT = [
    *(
        "bind 127.0.0.1:@|@",
        "bind 127.0.0.1:@ ssl crt c@.pem|@",
        "bind 127.0.0.1:@ accept-proxy name a|@",
    ),
    *(
        "bind name:@",
        "acl a hdr(host) -i h@.test|h@",
        "acl b path_beg /p@|p@",
        "acl c src 10.0.0.@",
        "maxconn @|@",
    ),
    *(
        "acl a hdr_end(host) .h@.test|h@",
        "acl b path_reg ^/r@|r@",
        "use_backend web if a|web",
        "use_backend web if a b|web",
    ),
    *(
        "use_backend api unless a",
        "use_backend api if { path_end .p@ }|p@",
        "use_backend gone if b",
    ),
    *(
        "use_backend api if { hdr(host) h@.test } { path /q@ }|q@",
        "http-request deny if { path_beg /d@ }",
    ),
    *(
        "http-request set-header X-@ a",
        "timeout client @s|@",
        "timeout http-request @s|@",
        "option httplog",
    ),
    *(
        "redirect scheme https if !{ ssl_fc }",
        "http-request redirect location /@",
        "unknown_keyword @",
    ),
    *(
        "default_backend web|",
        "capture request header a len @",
        "compression algo gzip",
        "log global",
    ),
    *("stick-table type ip size @", "errorfile 503 /e@", "http-request deny if c"),
]
BACK = [
    *(
        "server a@ 10.1.0.1:@ check weight 3|@",
        "server a@ 10.1.0.2:@ ssl verify none|@",
        "server a@ unix@/x",
    ),
    *(
        "server a@ 10.1.0.3:@ cookie a odd",
        "balance leastconn|",
        "balance url_param a@",
        "balance uri whole|",
    ),
    *(
        "cookie SRV insert",
        "option httpchk GET /h@",
        "http-check expect status 20@",
        "timeout server @s|@",
    ),
    *(
        "retries 2|",
        "retry-on conn-failure 503|",
        "retry-on odd",
        "http-request set-path /@",
        "fullconn @",
    ),
    *("timeout tunnel @s", "option forwardfor", "server-template a@ 3 b:80", "another_unknown @"),
    *(
        "default-server inter 2s|",
        "timeout queue @s|@",
        "timeout connect @s|@",
        "option allbackups|",
    ),
]


@st.composite
def haproxy_files(draw: st.DrawFn) -> File:
    """A file of HAProxy."""
    file = File()

    def section(text: str, choices: list[str], most: int) -> None:
        head = file.add(text, "")
        for choice in draw(st.lists(st.sampled_from(choices), max_size=most)):
            line, bar, found = choice.partition("|")
            file.add(line, found if bar else None, (head,))

    section(
        "global", ["daemon", "maxconn @|@", "log stdout local@", "lua-load x@", "tune.unknown @"], 3
    )
    section("defaults", ["timeout connect @s|@", "option httplog", "mode tcp", "retries 3|"], 2)
    file.add("mode http", "", ())
    section("frontend www", FRONT, 8)
    section("backend web", BACK, 6)
    section("backend api", BACK, 4)
    section("listen more", [*FRONT, *BACK], 4)
    return file


@steady
@given(haproxy_files())
def test_nothing_of_haproxy_is_lost(tmp_path: Path, file: File) -> None:
    """The same for HAProxy's file."""
    path = tmp_path / "haproxy.cfg"
    path.write_text("\n".join(file.lines))
    draft = import_haproxy(str(path))
    own = frozenset({*HAPROXY_OWN, "option"})
    assert lost(draft, file, own) == [], draft.yaml() + path.read_text()


# Locations.

PIECES = st.lists(st.sampled_from(["a", "b", "/", ".x"]), max_size=4).map("".join)
EXPRESSIONS = ["a", "^/a", r"\.x$", "B", "^/b.*a", "/a/(?<n>b)", "b{2}"]
#: A location: modifier, pattern, and those in it.
Tree = tuple[str, str, list[Any]]


@st.composite
def levels(draw: st.DrawFn, around: str = "/", depth: int = 2) -> list[Tree]:
    """Locations within one whose prefix is ``around``."""
    found: dict[tuple[bool, str], Tree] = {}
    for _ in range(draw(st.integers(0, 8 if around == "/" else 3))):
        modifier = draw(st.sampled_from(["", "", "=", "^~", "~", "~*"]))
        if modifier[:1] == "~":
            text = draw(st.sampled_from(EXPRESSIONS))
            found[True, modifier + text] = modifier, text, []
            continue
        pattern = around + draw(PIECES)
        inner = draw(levels(pattern, depth - 1)) if modifier != "=" and depth else []
        # nginx takes one prefix of a text, beside an exact one.
        found[False, f"{modifier == '='}{pattern}"] = (modifier, pattern, inner)
    return list(found.values())


def chosen_by_nginx(level: list[Tree], path: str) -> tuple[bool, Tree | None]:
    """What ``ngx_http_core_find_location`` finds: whether that is all, and the location."""
    best: Tree | None = None
    for one in level:
        modifier, pattern, _ = one
        if modifier == "=" and pattern == path:
            return True, one
        fits = modifier in ("", "^~") and path.startswith(pattern)
        if fits and (best is None or len(pattern) > len(best[1])):
            best = one
    found = best
    if best is not None:
        ends, within = chosen_by_nginx(best[2], path)
        found = within or best
        if ends:
            return True, found
    if best is None or best[0] != "^~":
        for one in level:
            flags = re.IGNORECASE if one[0] == "~*" else 0
            if one[0][:1] == "~" and re.search(one[1].replace("?<", "?P<"), path, flags):
                return True, one
    return False, found


def all_of(level: list[Tree]) -> list[Tree]:
    """All locations, also those in others."""
    return [each for one in level for each in (one, *all_of(one[2]))]


@settings(steady, max_examples=120)
@given(levels(), st.lists(PIECES.map("/{}".format), min_size=1, max_size=20))
def test_routes_do_what_locations_do(level: list[Tree], paths: list[str]) -> None:
    """The first route that matches is for the location that nginx chooses."""
    every = all_of(level)

    def made(one: Tree) -> Location:
        number = next(at for at, other in enumerate(every) if other is one)
        statement = Statement("location", [], "", 0)
        return Location(*one[:2], f"u{number}", statement, tuple(map(made, one[2])))

    plain: list[dict[str, Any]] = []
    for rule in rules_of([made(one) for one in level]):
        keys = {"path": rule.path, "path_regex": rule.path_regex}
        plain.append(
            {"upstream": rule.upstream, **{k: v for k, v in keys.items() if v is not None}}
        )
    routes = [(route.matcher(), route.upstream) for route in parse_routes(plain, "routes")]
    for path in [*paths, *(one[1] for one in every if one[0][:1] != "~")]:
        ours = next((upstream for matches, upstream in routes if matches("h", path)), None)
        _, theirs = chosen_by_nginx(level, path)
        number = next((f"u{at}" for at, one in enumerate(every) if one is theirs), None)
        assert ours == number, (path, plain)
