"""What becomes of HAProxy's keywords."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slardar.errors import ConfigError
from slardar.migration.draft import NOWHERE
from slardar.migration.haproxy import import_haproxy
from slardar.migration.haproxy_file import read_haproxy
from tests.migration.test_nginx import Made, chosen


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a text as ``haproxy.cfg`` of the folder in which it works."""
    monkeypatch.chdir(tmp_path)

    def make(text: str) -> Made:
        Path("haproxy.cfg").write_text(text)
        return Made(import_haproxy("haproxy.cfg"))

    return make


def front(lines: str) -> str:
    """A file with a frontend, whose lines these are, and the backends ``a`` and ``b``."""
    return (
        f"defaults\nmode http\nfrontend www\n{lines}\nbackend a\nserver s 10.0.0.1:80\n"
        "backend b\nserver s 10.0.0.2:80\n"
    )


def back(lines: str, around: str = "") -> str:
    """A file with the backend ``a``, whose lines these are."""
    return f"defaults\nmode http\n{around}\nbackend a\n{lines}\n"


@pytest.mark.parametrize(
    ("rules", "routes"),
    [
        ("default_backend a", [{"path": "/"}]),
        (
            "acl x hdr(host) -i A.test b.test.\nuse_backend a if x",
            [{"host": "a.test"}, {"host": "b.test"}],
        ),
        ("acl x req.hdr(Host),lower a.test\nuse_backend a if x", [{"host": "a.test"}]),
        ("acl x hdr_end(host) -i .a.test\nuse_backend a if x", [{"host": "*.a.test"}]),
        ("acl x hdr(host) -m end .a.test\nuse_backend a if x", [{"host": "*.a.test"}]),
        (
            "acl x path_beg /a /b\nacl x path_end .c\nuse_backend a if x",
            [{"path": "/a"}, {"path": "/b"}, {"path_regex": "\\.c$"}],
        ),
        (
            "acl x hdr(host) a.test\nacl y path_beg /a\nuse_backend a if x y or { path /z }",
            [{"host": "a.test", "path": "/a"}, {"path_regex": "^/z$"}],
        ),
        ("use_backend a if { path_beg -i /A }", [{"path_regex": "(?i:^/A)"}]),
        ("use_backend a if { path_dir img }", [{"path_regex": "(?:^|/)img(?:/|$)"}]),
        ("use_backend a if { path_sub x.y }", [{"path_regex": "x\\.y"}]),
        ("use_backend a if { path_reg ^/[0-9]+/ }", [{"path_regex": "^/[0-9]+/"}]),
        ("use_backend a if { path,lower -m beg /a }", [{"path_regex": "(?i:^/a)"}]),
        ("use_backend a if { url_beg /a }", [{"path": "/a"}]),
        ("use_backend a if TRUE", [{"path": "/"}]),
    ],
)
def test_conditions(made: Any, rules: str, routes: list[dict[str, str]]) -> None:
    found = made(front(rules))
    assert found.routes == [{**route, "upstream": "a"} for route in routes]
    assert found.left == ""


@pytest.mark.parametrize(
    ("condition", "closed"),
    [
        *(
            (condition, [{"path": "/"}])
            for condition in (
                *("unless { path /a }", "if !{ path /a }", "if { src 10.0.0.0/8 }", "if unknown"),
                *("if { hdr(host) -f hosts.txt }", "if { hdr_end(host) a.test }", "if { path }"),
                *("if { hdr_beg(host) www. }", "if { hdr(host),map(x) a }", "if { method GET }"),
                *("if { hdr_sub(User-Agent) bot }", "if { path,url_dec -m beg /a }", "if"),
                *("if { path_beg /${A} }", "if { hdr(host) *.a.test }", "if { path_reg /$A }"),
                *("if { path_beg a }", "if { path,upper -m beg /A }", "if { path,lower /A }"),
                *(
                    "if { url_sub a }",
                    "if { url_reg a }",
                    "if { path -m len 3 }",
                    "if { path_reg ( }",
                ),
            )
        ),
        # What is known of it counts.
        ("if { path_beg /a } { path_end .b }", [{"path": "/a"}]),
        ("if { path_beg /a } !{ src 10.0.0.0/8 }", [{"path": "/a"}]),
        ("if { path_beg /a } unknown or { path_beg /b }", [{"path": "/a"}, {"path": "/b"}]),
        ("if { hdr(host) a.test } { hdr(host) b.test }", []),
    ],
)
def test_condition_that_no_route_has(
    made: Any, condition: str, closed: list[dict[str, str]]
) -> None:
    """Whatever requests may meet it go nowhere: the backend may be what keeps them back."""
    found = made(front(f"use_backend a {condition}\ndefault_backend b"))
    assert f"haproxy.cfg:4: use_backend a {condition}: " in found.left
    assert found.routes[-1] == {"path": "/", "upstream": "b"}
    assert found.routes[:-1] == [{**route, "upstream": NOWHERE} for route in closed]


@pytest.mark.parametrize(
    ("rule", "routes"),
    [
        ("http-request deny if { path_beg /x }", [{"path": "/x"}]),
        ("http-request deny deny_status 429 if { path_beg /x }", [{"path": "/x"}]),
        # What it does not apply to is closed, too: the rest of the condition is not known.
        ("http-request deny if { path_beg /x } !{ src 10.0.0.0/8 }", [{"path": "/x"}]),
        ("http-request deny unless { src 10.0.0.0/8 }", [{"path": "/"}]),
        ("http-request auth realm x", [{"path": "/"}]),
        ("http-request set-path /y if { hdr(host) a.test }", [{"host": "a.test"}]),
        ("http-request lua.guard if { path_beg /x }", [{"path": "/x"}]),
        ("http-request odd", [{"path": "/"}]),
        ("http-request del-header X-User if { path_beg /x }", [{"path": "/x"}]),
        ("http-request del-header X-User", [{"path": "/"}]),
        ("http-request del-header x -m beg", [{"path": "/"}]),
        ("http-response deny if { path_beg /x }", [{"path": "/x"}]),
        ("http-request set-header Host b.test", [{"path": "/"}]),
        ("http-request deny if { path,lower -m beg /x }", [{"path_regex": "(?i:^/x)"}]),
        ("http-request deny if { path,url_dec -m beg /x }", [{"path": "/"}]),
        ("http-request deny if { url_sub union }", [{"path": "/"}]),
        ("filter odd", [{"path": "/"}]),
        ("odd if { path_beg /x }", [{"path": "/x"}]),
        ("redirect location / if { path /x }", [{"path_regex": "^/x$"}]),
        ("tcp-request connection reject if { src 10.0.0.0/8 }", [{"path": "/"}]),
    ],
)
def test_rule_that_keeps_requests_back(made: Any, rule: str, routes: list[dict[str, str]]) -> None:
    """It comes before all backends, wherever it stands, and its requests get 502."""
    found = made(front(f"default_backend b\nuse_backend a if {{ path /x }}\n{rule}"))
    first = [{**route, "upstream": "not-taken-over"} for route in routes]
    assert found.routes[: len(first)] == first
    assert f"haproxy.cfg:6: {rule}: it may keep requests back" in found.left


@pytest.mark.parametrize(
    "rule",
    [
        *("http-request set-header X-A b", "http-request set-var(txn.a) path", "option httplog"),
        *("http-request track-sc0 src", "http-response set-header X-A b", "timeout tunnel 1s"),
        *("tcp-request inspect-delay 5s", "tcp-request content accept if HTTP", "filter spoe a"),
        *(
            "http-request del-header Proxy if { path /x }",
            "http-request del-header X-Forwarded-For",
        ),
        *("stick-table type ip size 1", "no option httpclose", "http-request allow if { path /x }"),
        *("compression algo gzip", "errorfile 503 /x", "monitor-uri /x", "acl c src 10.0.0.1"),
    ],
)
def test_rule_that_keeps_nothing_back(made: Any, rule: str) -> None:
    """It closes nothing, in a frontend, its defaults or a backend."""
    for text in (
        front(f"{rule}\ndefault_backend b"),
        f"{front('default_backend b')}{rule}\n",
        front("default_backend b").replace("frontend", f"{rule}\nfrontend"),
    ):
        assert made(text).routes == [{"path": "/", "upstream": "b"}]


def test_filters_are_told(made: Any) -> None:
    assert "filter spoe a: slardar has no filters" in made(front("filter spoe a")).left


def test_defaults_that_keep_requests_back(made: Any) -> None:
    """Rules of the defaults are for every section, but for those that name others."""
    text = front("default_backend b").replace("frontend www", "http-request odd\nfrontend www")
    assert chosen(made(text), "a.test", "/") == NOWHERE
    text = (
        "defaults one\nmode http\nhttp-request odd\ndefaults two\nmode http\n"
        "frontend www from {0}\ndefault_backend b\nbackend b from {0}\nserver s 10.0.0.1:80\n"
    )
    assert chosen(made(text.format("one")), "a.test", "/") == NOWHERE
    assert chosen(made(text.format("two")), "a.test", "/") == "b"


@pytest.mark.parametrize(
    ("line", "endpoints"),
    [
        (
            "bind :443 ssl crt a.pem ca-file c:a.pem verify required",
            ["tls:443:verify=require:ca={}/c\\:a.pem"],
        ),
        ("bind :443 ssl crt a.pem ca-file c.pem", ["tls:443"]),
        # What may keep clients back there is not known, so nobody comes there.
        ("bind :443 ssl crt a.pem verify required", []),
        ("bind :443 ssl crt a.pem verify odd ca-file c.pem", []),
        ("bind :443 ssl crt a.pem ca-file c.pem verify required crl-file d.pem", []),
        ("bind :80 interface eth1", []),
    ],
)
def test_bind_that_keeps_clients_back(made: Any, line: str, endpoints: list[str]) -> None:
    found = made(front(f"{line}\nbind :81\ndefault_backend a"))
    assert found.plain["listen"] == [*(one.format(Path.cwd()) for one in endpoints), "tcp:81"]
    assert ("nothing listens there" in found.left) == (not endpoints)


@pytest.mark.parametrize(
    ("bind", "other", "is_open"),
    [
        ("bind :443 ssl crt a.pem", "bind :80", True),
        ("bind 127.0.0.1:81", "bind :80", False),
        ("bind 127.0.0.1:81", "bind 127.0.0.1:80", True),
        ("bind :443 ssl crt a.pem ca-file c.pem verify required", "bind :80", False),
    ],
)
def test_frontend_without_routes(made: Any, bind: str, other: str, is_open: bool) -> None:
    """Its listeners would lead to the routes of another one, if clients may have these there."""
    found = made(
        front(f"{bind}\ndefault_backend a")
        + f"frontend more\n{other}\nredirect scheme https if !{{ ssl_fc }}\n"
    )
    assert len(found.plain["listen"]) == (2 if is_open else 1)
    assert ("frontend more: nothing listens there" in found.left) != is_open


def test_condition_that_nothing_meets_in_a_frontend_without_routes(made: Any) -> None:
    rule = "use_backend a if { hdr(host) a.test } { hdr(host) b.test }"
    assert f"haproxy.cfg:4: {rule}: no request can meet" in made(front(rule)).left


def test_host_with_a_port(made: Any) -> None:
    """HAProxy compares it, and routes do not; this is told."""
    found = made(
        front("acl x hdr(host) a.test\nuse_backend a if x\nuse_backend b if { hdr(host) b }")
    )
    assert "haproxy.cfg:4,6: hdr(host): HAProxy compares a port in Host" in found.differs
    found = made(front("acl x hdr(host),field(1,:) a.test\nuse_backend a if x"))
    assert "compares a port" not in found.differs


def test_backend_that_keeps_requests_back(made: Any) -> None:
    found = made(
        "defaults\nmode http\nfrontend www\ndefault_backend a\nbackend a\nserver s 10.0.0.1:80\n"
        "http-request deny if { src 10.0.0.0/8 }"
    )
    assert found.routes == [{"path": "/", "upstream": "not-taken-over"}]
    assert "default_backend a: its requests get 502: http-request deny" in found.left


def test_servers(made: Any) -> None:
    """With what ``default-server`` says, and time in milliseconds."""
    found = made(
        back(
            "default-server inter 500 fall 4 maxconn 9\n"
            "server a 10.0.0.1:80 check weight 7\n"
            "server b [::1]:81 check backup disabled slowstart 10s\n"
            "server c unix@/run/x check\nserver d :80\nserver e 10.0.0.2:80 check cookie e odd\n"
            "timeout queue 2s"
        )
    )
    assert found.upstreams["a"] == {
        "servers": [
            {"host": "10.0.0.1", "port": 80, "max_conns": 9, "weight": 7},
            {"host": "::1", "port": 81, "max_conns": 9, "backup": True, "state": "down"},
            {"host": "10.0.0.2", "port": 80, "max_conns": 9},
        ],
        "interval": 0.5,
        "sensibility": 4,
        "rise": 2,
        "queue": {"size": 10000, "timeout": 2},
        "slow_start": 10,
        "retry_on": ["connect"],
        "public": False,
    }
    for line in (
        "server c unix@/run/x check: ",
        "server d :80: ",
        "server odd: ",
        "server cookie e",
    ):
        assert line in found.left


def test_checks(made: Any) -> None:
    found = made(
        back(
            "option httpchk\nhttp-check send meth GET uri /up ver HTTP/1.1 hdr Host a.test\n"
            "http-check expect status 200\nserver a 10.0.0.1:80 check"
        )
    )
    opts = found.upstreams["a"]["http_opts"]
    assert found.upstreams["a"]["typ"] == "http"
    assert opts["query"] == "GET /up HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
    assert opts["statuses"]["503"] is False
    assert "http-check expect status 200: " in found.left
    assert made(back("server a 10.0.0.1:80")).upstreams["a"]["enable"] is False


def test_tls_and_proxy_protocol(made: Any) -> None:
    found = made(
        back(
            "server a 10.0.0.1:443 ssl verify none send-proxy-v2\n"
            "server b 10.0.0.2:443 ssl ca-file ca.pem sni str(b.test) send-proxy-v2\n"
            "server c 10.0.0.3:443 ssl verify required sni req.hdr(host) send-proxy-v2"
        )
    )
    first, second, third = (one["tls"] for one in found.upstreams["a"]["servers"])
    assert first == {"verify": False}
    assert second == {"verify": True, "ca": f"{Path.cwd()}/ca.pem", "server_name": "b.test"}
    assert third == {"verify": True}
    assert found.upstreams["a"]["proxy_protocol"] == 2


@pytest.mark.parametrize(
    ("balance", "mode", "told"),
    [
        ("roundrobin", "wrr", False),
        ("leastconn", "least_conn", False),
        ("source", "ip_hash", True),
        ("uri whole", "url_hash", True),
        ("random", "p2c", False),
        ("random(1)", "random", False),
        ("hdr(X-User)", "hash", True),
        ("first", None, True),
    ],
)
def test_balancers(made: Any, balance: str, mode: str | None, told: bool) -> None:
    found = made(back(f"balance {balance}\nserver a 10.0.0.1:80"))
    assert found.upstreams["a"].get("mode") == mode
    assert (f"balance {balance}: " in found.left + found.differs) == told


def test_binds(made: Any) -> None:
    found = made(
        "global\ncrt-base /etc/ssl\n"
        + front(
            "bind *:80,127.0.0.1:81 accept-proxy\nbind [::]:443 ssl crt a.pem ssl-min-ver TLSv1.3"
            " alpn h2,http/1.1\nbind /run/x.sock\nbind name:80\nhttp-request redirect scheme https"
            " code 301 unless { ssl_fc }\ndefault_backend a"
        )
    )
    assert found.plain["listen"] == [
        "haproxy:tcp:80",
        "haproxy:tcp:81:interface=127.0.0.1",
        "tls6:443",
        "unix:/run/x.sock",
    ]
    assert found.plain["tls"] == {
        "min_version": "1.3",
        "certificates": [{"cert": "/etc/ssl/a.pem"}],
        "redirect": True,
    }
    assert "bind name:80: " in found.left
    assert "bind alpn h2,http/1.1: slardar speaks HTTP/1.1" in found.left


def test_frontends_with_other_routes(made: Any) -> None:
    """Only those of the first are taken; one that has the same is merged."""
    found = made(
        front("bind :80\ndefault_backend a")
        + "frontend tls\nbind :81\ndefault_backend a\nfrontend more\nbind :82\ndefault_backend b\n"
    )
    assert found.plain["listen"] == ["tcp:80", "tcp:81"]
    assert found.routes == [{"path": "/", "upstream": "a"}]
    assert "haproxy.cfg:13: frontend more: routes do not look at the port" in found.left
    more = "frontend more\nbind :82\nuse_backend gone if { path /x }\n"
    left = made(front("bind :80\ndefault_backend a") + more).left
    assert "frontend more: " in left
    assert "502" not in left


def test_tcp_is_listed(made: Any) -> None:
    """Without ``mode`` it is TCP."""
    found = made("listen db\nbind :3306\nserver a 10.0.0.1:3306\n")
    assert found.plain == {"upstreams": {}, "routes": []}
    assert "haproxy.cfg:1: listen db: slardar balances HTTP only" in found.left


@pytest.mark.parametrize(
    "line", ["retries x", "timeout connect x", "timeout server 0", "maxconn x"]
)
def test_value_that_is_none(made: Any, line: str) -> None:
    """It is listed."""
    found = made(back(f"{line}\nserver a 10.0.0.1:80"))
    assert f"haproxy.cfg:5: {line}: " in found.left


def test_words(tmp_path: Path) -> None:
    """Quotes, escapes and comments, as HAProxy reads them."""
    path = tmp_path / "haproxy.cfg"
    path.write_text('global # x\n a\\ b \'c \\d\' "e\\"f" # g\n no option httplog x\n log h#i\n')
    (section,) = read_haproxy(str(path))
    assert section.block is not None
    words = [[one.name, *one.args] for one in section.block]
    assert words == [["a b", "c \\d", 'e"f'], ["no option httplog", "x"], ["log", "h"]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("global\n log 'x", "haproxy.cfg:2: a quote does not end"),
        ("log x", "haproxy.cfg:1: expected a section"),
        *(
            (f"defaults\n{line}", f"haproxy.cfg:2: {line}: something is missing")
            for line in ("timeout client", "maxconn", "use_backend", "bind", "retries")
        ),
        ("listen a\nserver b", "haproxy.cfg:2: server: something is missing"),
    ],
)
def test_file_that_is_none(made: Any, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"^{why}"):
        made(text)
