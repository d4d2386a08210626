"""Upstreams, servers and routes as users write them, and the messages about mistakes."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slardar.errors import ConfigError, NotFoundError
from slardar.model.names import check_name, normal_host, parse_server_key, split_host_port
from slardar.model.parse import (
    merge_upstream,
    parse_dyups,
    parse_routes,
    parse_upstream,
    patch_server,
)
from slardar.model.routes import Route
from slardar.model.server import ProbeOptions
from tests.fake_plugins import FakePlugins

S = {"host": "127.0.0.1", "port": 80}


def problems(call: Any, *arguments: Any) -> list[str]:
    """The lines of the ConfigError that a call must raise."""
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    for line in caught.value.problems:
        assert "\n" not in line
    return list(caught.value.problems)


def wrong(**keys: Any) -> list[str]:
    """The mistakes in an upstream of one good server and these keys."""
    return problems(parse_upstream, "a", {"servers": [S], **keys}, "upstreams.a")


def test_defaults_are_the_contracts() -> None:
    """An upstream of one server has lua-resty-checkups' values for all other keys."""
    upstream = parse_upstream("a", {"servers": [S]}, "x")
    (server,) = upstream.servers
    assert (server.host, server.port, server.key) == ("127.0.0.1", 80, "127.0.0.1:80")
    assert (server.weight, server.max_fails, server.fail_timeout) == (1, 0, 10)
    assert (server.backup, server.state, server.max_conns, server.tls) == (False, "up", 0, None)
    assert (upstream.enable, upstream.probe.typ, upstream.sensibility) == (True, "general", 1)
    assert (upstream.protected, upstream.mode, upstream.mode_opts) == (True, "wrr", {})
    assert (upstream.tries, upstream.try_timeout) == (None, 0)
    assert upstream.connect_timeout is upstream.send_timeout is upstream.read_timeout is None
    assert (upstream.keepalive, upstream.failed_statuses) == (100, frozenset())
    assert upstream.probe.http_query is None
    assert upstream.retry_on == {"connect", "error", "timeout", "status", "http_502"}
    assert not upstream.named


def test_every_key_is_taken() -> None:
    """Each documented key ends up where it belongs."""
    server = {**S, "weight": 0, "max_fails": 2, "fail_timeout": 0.5, "state": "drain"}
    body = {
        "servers": [{**server, "max_conns": 7, "tls": False}],
        "enable": False,
        "typ": "http",
        "http_opts": {"query": "GET / HTTP/1.0\r\n\r\n", "statuses": {"502": False, "500": True}},
        "sensibility": 3,
        "protected": False,
        "mode": "hash",
        "mode_opts": {"x": [1, {"y": None}]},
        "try": 4,
        "try_timeout": 1.5,
        "timeout": 1,
        "send_timeout": 2,
        "read_timeout": 3,
        "keepalive": 0,
        "retry_on": ["connect", "http_503", "non_idempotent"],
        "tls": False,
        "slow_start": 0,
        "outlier": None,
    }
    upstream = parse_upstream("a", body, "x")
    (read,) = upstream.servers
    assert (read.weight, read.max_fails, read.fail_timeout) == (0, 2, 0.5)
    assert (read.state, read.max_conns) == ("drain", 7)
    assert (upstream.enable, upstream.probe.typ, upstream.sensibility) == (False, "http", 3)
    assert upstream.probe.http_query == b"GET / HTTP/1.0\r\n\r\n"
    assert upstream.failed_statuses == {502}
    assert (upstream.protected, upstream.mode) == (False, "hash")
    assert upstream.mode_opts == {"x": [1, {"y": None}]}
    assert (upstream.tries, upstream.try_timeout, upstream.keepalive) == (4, 1.5, 0)
    assert upstream.connect_timeout == 1
    assert (upstream.send_timeout, upstream.read_timeout) == (2, 3)
    assert upstream.retry_on == {"connect", "http_503", "non_idempotent"}


def test_statuses_may_be_numbers_as_in_yaml() -> None:
    """YAML's ``{502: false}`` has a number for a key."""
    upstream = parse_upstream(
        "a", {"servers": [S], "http_opts": {"statuses": {502: False, 404: True}}}, "x"
    )
    assert upstream.failed_statuses == {502}
    assert upstream.source["http_opts"] == {"statuses": {"502": False, "404": True}}


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"keepalive": -1}, ".keepalive: expected an integer from 0 to 1000000000, got -1"),
        ({"keepalive": True}, ".keepalive: expected an integer from 0 to 1000000000, got true"),
        ({"keepalive": 1.5}, ".keepalive: expected an integer from 0 to 1000000000, got 1.5"),
        ({"sensibility": 0}, ".sensibility: expected an integer from 1 to 1000000000, got 0"),
        ({"try": 0}, ".try: expected an integer from 1 to 1000000000, got 0"),
        ({"try_timeout": -1}, ".try_timeout: expected a number of seconds from 0 to"),
        ({"timeout": 0}, ".timeout: expected a number of seconds above 0"),
        ({"read_timeout": "5"}, ".read_timeout: expected a number of seconds above 0"),
        ({"send_timeout": True}, ".send_timeout: expected a number of seconds above 0"),
        ({"read_timeout": float("nan")}, ".read_timeout: expected a number of seconds above 0"),
        ({"read_timeout": float("inf")}, ".read_timeout: expected a number of seconds above 0"),
        ({"timeout": 10**30}, ".timeout: expected a number of seconds above 0"),
        ({"enable": 1}, ".enable: expected true or false, got 1"),
        ({"protected": "yes"}, '.protected: expected true or false, got "yes"'),
        ({"typ": 5}, ".typ: expected a string, got 5"),
        ({"mode": 3}, ".mode: expected a string, got 3"),
        ({"mode_opts": []}, ".mode_opts: expected an object, got []"),
        ({"mode_opts": None}, ".mode_opts: expected an object, got null"),
        ({"http_opts": []}, ".http_opts: expected an object, got []"),
        ({"http_opts": {"query": 1}}, ".http_opts.query: expected a string or null, got 1"),
        ({"http_opts": {"statuses": []}}, ".http_opts.statuses: expected an object, got []"),
        (
            {"http_opts": {"statuses": {"502": 0}}},
            ".http_opts.statuses.502: expected true or false, got 0",
        ),
        (
            {"http_opts": {"statuses": {"5o2": False}}},
            '.http_opts.statuses: expected an HTTP status, got "5o2"',
        ),
        ({"http_opts": {"querry": "x"}}, '.http_opts.querry: unknown key (did you mean "query"?)'),
        ({"retry_on": "connect"}, '.retry_on: expected a list of strings, got "connect"'),
        ({"retry_on": ["connect", 5]}, ".retry_on[1]: expected a string, got 5"),
        ({"retry_on": ["http_999"]}, ".retry_on[0]: expected connect, error, timeout, status"),
        ({"tls": {"key": "k"}}, ".tls.cert: is missing: the key belongs to a certificate"),
        ({"outlier": {"x": 1}}, ".outlier.x: unknown key"),
        ({"outlier": True}, ".outlier: expected an object, got true"),
        ({"outlier": {"errors": 2}}, ".outlier.errors: expected a number from 0 to 1, got 2"),
        ({"outlier": {"latency": 0.5}}, ".outlier.latency: expected 0 or more than 1, got 0.5"),
        ({"outlier": {"min_requests": 0}}, ".outlier.min_requests: expected an integer from 1"),
        ({"outlier": {"window": 0}}, ".outlier.window: expected a number of seconds above 0"),
        ({"outlier": {"eject": 0}}, ".outlier.eject: expected a number of seconds above 0"),
        ({"tls": 5}, ".tls: expected true, false or an object, got 5"),
        ({"keepaliv": 5}, '.keepaliv: unknown key (did you mean "keepalive"?)'),
        ({"trys": 5}, '.trys: unknown key (did you mean "try"?)'),
        ({"zzz": 5}, ".zzz: unknown key"),
        ({"a\nb": 5}, '["a\\nb"]: unknown key'),
        ({"mode_opts": {"x": float("nan")}}, ".mode_opts.x: expected a value that JSON can hold"),
        ({"mode_opts": {"x": "\ud800"}}, ".mode_opts.x: expected a value that JSON can hold"),
        ({"mode_opts": {"x": 1 << 65}}, ".mode_opts.x: expected a value that JSON can hold"),
        ({"mode_opts": {"x": 10**5000}}, ".mode_opts.x: expected a value that JSON can hold"),
        ({"mode_opts": {"x": {(1, 2): 3}}}, ".mode_opts.x[[1, 2]]: expected a string as key"),
        (
            {"mode_opts": {"x": [datetime.date(2024, 1, 1)]}},
            ".mode_opts.x[0]: expected a value that JSON can hold, got date",
        ),
    ],
)
def test_wrong_key_is_one_line(keys: dict[str, Any], line: str) -> None:
    """Each wrong value gives one line, with its path and the expected value."""
    (found,) = wrong(**keys)
    assert found.startswith("upstreams.a" + line)


@pytest.mark.parametrize(
    ("server", "line"),
    [
        ({}, [".host: is missing", ".port: is missing"]),
        ({"host": "a"}, [".port: is missing"]),
        ("127.0.0.1:80", [': expected an object, got "127.0.0.1:80"']),
        (None, [": expected an object, got null"]),
        ({**S, "port": "80"}, ['.port: expected an integer from 1 to 65535, got "80"']),
        ({**S, "port": 0}, [".port: expected an integer from 1 to 65535, got 0"]),
        ({**S, "port": 65536}, [".port: expected an integer from 1 to 65535, got 65536"]),
        ({**S, "port": True}, [".port: expected an integer from 1 to 65535, got true"]),
        ({**S, "host": 1}, [".host: expected a string, got 1"]),
        ({**S, "host": ""}, ['.host: expected an address or a DNS name, got ""']),
        ({**S, "host": "a b"}, ['.host: expected an address or a DNS name, got "a b"']),
        ({**S, "host": "a:80"}, ['.host: expected an address or a DNS name, got "a:80"']),
        ({**S, "host": "a\r\nX: y"}, [".host: expected an address or a DNS name, got"]),
        ({**S, "weight": True}, [".weight: expected an integer from 0 to 1000000000, got true"]),
        (
            {**S, "weight": 1000000001},
            [".weight: expected an integer from 0 to 1000000000, got 1000000001"],
        ),
        ({**S, "weight": -1}, [".weight: expected an integer from 0 to 1000000000, got -1"]),
        ({**S, "max_fails": None}, [".max_fails: expected an integer from 0"]),
        ({**S, "fail_timeout": "10s"}, [".fail_timeout: expected a number of seconds"]),
        ({**S, "backup": 1}, [".backup: expected true or false, got 1"]),
        ({**S, "state": "off"}, ['.state: expected one of up, drain, down, got "off"']),
        ({**S, "max_conns": 10**12}, [".max_conns: expected an integer from 0"]),
        ({**S, "tls": {"alpn": [""]}}, [".tls.alpn[0]: expected 1 to 255 ASCII characters"]),
        ({**S, "wieght": 1}, ['.wieght: unknown key (did you mean "weight"?)']),
    ],
)
def test_wrong_server_is_refused_in_a_list_and_in_levels(server: Any, line: list[str]) -> None:
    """The path names the server's place in both forms."""
    good = {"host": "10.0.0.1", "port": 1}
    for body, path in [
        ({"servers": [good, server]}, "x.servers[1]"),
        ({"cluster": [{"servers": [good]}, {"servers": [server]}]}, "x.cluster[1].servers[0]"),
        ({"cluster": {"dc1": {"servers": [server]}}}, "x.cluster.dc1.servers[0]"),
    ]:
        found = problems(parse_upstream, "a", body, "x")
        assert len(found) == len(line)
        for one, wanted in zip(found, line, strict=True):
            assert one.startswith(path + wanted)


def test_all_mistakes_are_listed_at_once() -> None:
    """Ten mistakes of all kinds give ten lines."""

    def check_mode(mode: str, options: Mapping[str, Any], where: str) -> None:
        raise ConfigError(f"{where}.mode: expected another")

    def check_probe(options: ProbeOptions, where: str) -> None:
        raise ConfigError(f"{where}.typ: expected another")

    body = {
        "servers": [{"host": "a", "port": 0, "weight": -1}, {"host": "b"}, S],
        "keepaliv": 1,
        "try": "x",
        "mode_opts": {"x": float("inf")},
        "sensibility": False,
    }
    found = problems(parse_upstream, "a b", body, "x", FakePlugins(check_mode, check_probe))
    places = [line.partition(": ")[0] for line in found]
    assert sorted(places) == [
        "x",
        "x.keepaliv",
        "x.mode",
        "x.mode_opts.x",
        "x.sensibility",
        "x.servers[0].port",
        "x.servers[0].weight",
        "x.servers[1].port",
        "x.try",
        "x.typ",
    ]
    good = {"servers": [S], "try_timeout": 5}
    assert problems(parse_upstream, "a b", good, "x", FakePlugins(check_mode))[1:] == [
        "x.mode: expected another"
    ]


def _set(*path: Any) -> Callable[[Any], None]:
    """Puts the last of ``path`` where the others lead."""
    *way, key, value = path

    def put(body: Any) -> None:
        for step in way:
            body = body[step]
        body[key] = value

    return put


#: Mistakes of every kind, by the path in their message.
MISTAKES = {
    "x.servers[0].host": _set("servers", 0, "host", "a b"),
    "x.servers[1].port": _set("servers", 1, "port", 0),
    "x.servers[2].port": lambda body: body["servers"][2].pop("port"),
    "x.servers[2].host": _set("servers", 2, "host", "127.1"),
    "x.servers[3].tls.verfy": _set("servers", 3, "tls", {"verfy": True}),
    "x.servers[3].weight": _set("servers", 3, "weight", "heavy"),
    "x.servers[4]": _set("servers", 4, {"host": "EQUAL.example", "port": 7}),
    "x.servers[6]": _set("servers", 6, "10.0.0.1:80"),
    "x.typ": _set("typ", 5),
    "x.typo": _set("typo", 1),
    "x.retry_on[0]": _set("retry_on", ["http_700"]),
    "x.slow_start": _set("slow_start", -5),
    "x.tls.ca": _set("tls", {"ca": ""}),
    "x.mode": _set("mode", 5),
    "x.mode_opts": _set("mode_opts", []),
    "x.http_opts.statuses": _set("http_opts", {"statuses": {"99": False}}),
}


@given(st.sets(st.sampled_from(sorted(MISTAKES)), min_size=1))
@example(set(MISTAKES))
def test_no_mistake_hides_another(names: set[str]) -> None:
    """Mistakes made together all give their own lines, and no others."""
    body = {
        "servers": [
            *({"host": f"10.0.0.{number}", "port": 80} for number in range(5)),
            {"host": "equal.example", "port": 7},
            {"host": "10.0.0.9", "port": 80},
        ]
    }
    for name in names:
        MISTAKES[name](body)
    for written in (body, {"cluster": {"c": {"servers": body["servers"]}}}):
        wanted = {name.replace("x.servers[4]", "x.servers[5]") for name in names}
        if "cluster" in written:
            wanted = {name.replace("x.", "x.cluster.c.") for name in wanted if "servers" in name}
        if wanted:
            found = problems(parse_upstream, "a", written, "x")
            assert {line.partition(": ")[0] for line in found} == wanted


def test_no_mistake_of_a_route_hides_another() -> None:
    """This holds within one route and across several."""
    body = [
        {"host": "a b", "path": "x", "path_regex": "(", "upstream": 5},
        {"hots": "a", "path": "y"},
    ]
    found = problems(parse_routes, body, "routes")
    assert [line.partition(": ")[0] for line in found] == [
        "routes[0].upstream",
        "routes[0]",
        "routes[0].path",
        "routes[0].path_regex",
        "routes[0].host",
        "routes[1].hots",
        "routes[1].upstream",
        "routes[1].path",
    ]


def test_balancer_is_asked_with_mode_options_and_path() -> None:
    """``check_mode`` gets the values with which the upstream will be served."""
    asked: list[Any] = []
    plugins = FakePlugins(lambda *arguments: asked.append(arguments))
    body = {"servers": [S], "mode": "hash", "mode_opts": {"k": 1}}
    parse_upstream("a", body, "x", plugins)
    assert asked == [("hash", {"k": 1}, "x")]


def test_probe_is_asked_with_what_it_may_read() -> None:
    """``check_probe`` gets the value that heartbeats will use."""
    asked: list[Any] = []
    plugins = FakePlugins(check_probe=lambda *arguments: asked.append(arguments))
    body = {
        "servers": [S],
        "typ": "mysql",
        "http_opts": {"query": "GET / HTTP/1.0\r\n\r\n", "statuses": {"502": False, "200": True}},
        "name": "shop",
        "user": "monitor",
        "pass": "secret",
    }
    upstream = parse_upstream("a", body, "x", plugins)
    options = ProbeOptions(
        typ="mysql",
        host="a",
        http_query=b"GET / HTTP/1.0\r\n\r\n",
        failed_statuses=frozenset({502}),
        name="shop",
        user="monitor",
        password="secret",
    )
    assert asked == [(options, "x")]
    assert upstream.probe == options


@pytest.mark.parametrize(("key", "asked"), [("typ", ["mode"]), ("mode", ["probe"])])
def test_name_that_is_no_string_is_not_looked_for(key: str, asked: list[str]) -> None:
    """It gets one line, and the other plugin is checked all the same."""
    found: list[str] = []
    plugins = FakePlugins(lambda *_: found.append("mode"), lambda *_: found.append("probe"))
    (line,) = problems(parse_upstream, "a", {"servers": [S], key: 5}, "x", plugins)
    assert line.startswith(f"x.{key}: expected ")
    assert found == asked


@pytest.mark.parametrize("body", [None, [], "x", 5, True])
def test_upstream_is_an_object(body: Any) -> None:
    """Anything else is refused as a whole."""
    (line,) = problems(parse_upstream, "a", body, "x")
    assert line.startswith("x: expected an object, got ")


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({}, 'x: expected "servers" or "cluster", and not both'),
        ({"mode": "wrr"}, 'x: expected "servers" or "cluster", and not both'),
        (
            {"servers": [S], "cluster": [{"servers": [S]}]},
            'x: expected "servers" or "cluster", and not both',
        ),
        ({"servers": []}, "x.servers: expected at least one server"),
        ({"servers": {}}, "x.servers: expected a list, got {}"),
        ({"cluster": []}, "x.cluster: expected at least one level"),
        ({"cluster": {}}, "x.cluster: expected at least one level"),
        ({"cluster": None}, "x.cluster: expected a list or an object of levels, got null"),
        ({"cluster": [{}]}, "x.cluster[0].servers: is missing"),
        ({"cluster": [{"servers": []}]}, "x.cluster[0].servers: expected at least one server"),
        (
            {"cluster": [{"servers": [S], "try": 0}]},
            "x.cluster[0].try: expected an integer from 1 to 1000000000, got 0",
        ),
        (
            {"cluster": {"d c": {"servers": [S], "tyr": 1}}},
            'x.cluster["d c"].tyr: unknown key (did you mean "try"?)',
        ),
    ],
)
def test_servers_or_levels_there_must_be(body: dict[str, Any], line: str) -> None:
    """There must be exactly one of the two, and it must not be empty."""
    assert problems(parse_upstream, "a", body, "x") == [line]


def test_no_server_is_named_twice() -> None:
    """A list must not name it twice, also not in two spellings of its host."""
    twice = [{"host": "ABC.example", "port": 1}, {"host": "abc.example", "port": 1}]
    assert problems(parse_upstream, "a", {"servers": twice}, "x") == [
        "x.servers[1]: abc.example:1 is named twice"
    ]
    v6 = [{"host": "[::1]", "port": 1}, {"host": "0::1", "port": 1}, {"host": "::1", "port": 2}]
    assert problems(parse_upstream, "a", {"servers": v6}, "x") == [
        "x.servers[1]: [0::1]:1 is named twice"
    ]
    backup = {"servers": [S, {**S, "backup": True}]}
    assert problems(parse_upstream, "a", backup, "x") == [
        "x.servers[1]: 127.0.0.1:80 is named twice"
    ]
    levels = {"cluster": [{"servers": [S]}, {"servers": [S, S]}]}
    assert problems(parse_upstream, "a", levels, "x") == [
        "x.cluster[1].servers[1]: 127.0.0.1:80 is named twice"
    ]


@pytest.mark.parametrize(
    "cluster",
    [[{"servers": [S]}, {"servers": [S]}], {"dc1": {"servers": [S]}, "dc2": {"servers": [S]}}],
)
def test_server_may_be_in_several_levels(cluster: Any) -> None:
    """As in lua-resty-checkups; a change of the server reaches every level."""
    upstream = parse_upstream("a", {"cluster": cluster}, "x")
    assert [len(level.servers) for level in upstream.levels] == [1, 1]
    body = {"weight": 10**9, "state": "drain"}
    changed = patch_server(upstream, "127.0.0.1", 80, body, "x")
    assert [(one.weight, one.state) for one in changed.servers] == [(10**9, "drain")] * 2
    assert parse_upstream("a", changed.source, "x") == changed
    assert problems(patch_server, upstream, "127.0.0.1", 80, {"weight": 10**9 + 1}, "x") == [
        "x.weight: expected an integer from 0 to 1000000000, got 1000000001"
    ]


def test_backups_are_a_level_of_their_own() -> None:
    """They come after the others; if all are backups, they are the first level."""
    backup = {"host": "b", "port": 2, "backup": True}
    upstream = parse_upstream("a", {"servers": [backup, S]}, "x")
    assert [[server.key for server in level.servers] for level in upstream.levels] == [
        ["127.0.0.1:80"],
        ["b:2"],
    ]
    alone = parse_upstream("a", {"servers": [backup]}, "x")
    assert [[server.key for server in level.servers] for level in alone.levels] == [["b:2"]]


def test_levels_keep_their_order_names_and_tries() -> None:
    """A list has no names; an object's clusters have theirs."""
    listed = parse_upstream(
        "a",
        {"cluster": [{"servers": [S], "try": 2}, {"servers": [{"host": "b", "port": 1}]}]},
        "x",
    )
    assert [(level.name, level.tries) for level in listed.levels] == [(None, 2), (None, None)]
    assert not listed.named
    body = {"cluster": {"dc2": {"servers": [S]}, "dc1": {"servers": [{"host": "b", "port": 1}]}}}
    named = parse_upstream("a", body, "x")
    assert [level.name for level in named.levels] == ["dc2", "dc1"]
    assert named.named


def test_source_is_a_copy_with_the_usual_keys_shown() -> None:
    """GET always shows weight, max_fails and fail_timeout, and no other default."""
    body = {"servers": [{"port": 80, "host": "[2001:DB8::1]", "backup": True}], "mode": "hash"}
    before = json.dumps(body)
    upstream = parse_upstream("a", MappingProxyType(body), "x")
    shown = {"host": "2001:db8::1", "port": 80, "weight": 1, "max_fails": 0, "fail_timeout": 10}
    assert upstream.source == {"servers": [{**shown, "backup": True}], "mode": "hash"}
    assert list(upstream.source["servers"][0])[:5] == list(shown)
    assert upstream.servers[0].key == "[2001:db8::1]:80"
    assert json.dumps(body) == before
    again = parse_upstream("a", upstream.source, "x")
    assert again == upstream


def test_digest_follows_meaning_not_order() -> None:
    """The order of keys, or a default that GET shows, does not change it; values do."""
    one = parse_upstream("a", {"servers": [S], "mode": "hash", "try": 2}, "x")
    same = parse_upstream("a", {"try": 2, "mode": "hash", "servers": [{**S, "weight": 1}]}, "x")
    assert one.digest == same.digest
    assert one.digest != parse_upstream("b", one.source, "x").digest
    assert one.digest != parse_upstream("a", {**one.source, "try": 3}, "x").digest
    dc1, dc2 = {"servers": [S]}, {"servers": [{"host": "b", "port": 1}]}
    forth = parse_upstream("a", {"cluster": {"dc1": dc1, "dc2": dc2}}, "x")
    back = parse_upstream("a", {"cluster": {"dc2": dc2, "dc1": dc1}}, "x")
    assert forth.digest != back.digest  # tried in another order


@pytest.mark.parametrize("make", [dict, list])
def test_depth_is_bounded(make: type) -> None:
    """Neither a deep nor an endless value takes the process down."""
    deep: Any = 1
    for _ in range(40):
        deep = {"k": deep} if make is dict else [deep]
    (line,) = wrong(mode_opts={"x": deep})
    assert "expected at most 32 objects and lists" in line
    for _ in range(100_000):
        deep = {"k": deep} if make is dict else [deep]
    (line,) = wrong(mode_opts={"x": deep})
    assert "expected at most 32 objects and lists" in line
    while isinstance(deep, (dict, list)):  # or freeing it would go as deep
        deep = deep["k"] if make is dict else deep[0]
    endless: Any = make()
    if make is dict:
        endless["k"] = endless
    else:
        endless.append(endless)
    (line,) = wrong(mode_opts={"x": endless})
    assert "expected at most 32 objects and lists" in line


# Names.


@pytest.mark.parametrize("name", ["a", "www.example.com", "*.example.com", "A-_.9", "x" * 255])
def test_good_names(name: str) -> None:
    """Letters, digits, minus, underscore and dot, and a wildcard's beginning."""
    check_name(name)


@pytest.mark.parametrize(
    "name", ["", "*", "*.", "a*", "*.*.a", "a b", "a\n", "a/b", "ä", "a:80", "x" * 256]
)
def test_bad_names(name: str) -> None:
    """Everything else is refused in one line."""
    (line,) = problems(check_name, name, "here")
    assert line.startswith("here: expected a name of letters")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a:80", ("a", 80)),
        ("A.B:1", ("a.b", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[::FFFF:a00:4]:80", ("::ffff:10.0.0.4", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        ("1.2.3.4:080", ("1.2.3.4", 80)),
        ("::1:80", None),
        ("[1.2.3.4]:80", None),
        ("[a]:80", None),
        ("a", None),
        ("a:", None),
        (":80", None),
        ("a:0", None),
        ("a:65536", None),
        ("a:8\u0660", None),
        ("a:+80", None),
        ("a:80 ", None),
        ("", None),
    ],
)
def test_host_and_port(text: str, found: tuple[str, int] | None) -> None:
    """An IPv6 address needs its brackets, a port its digits."""
    assert split_host_port(text) == found
    if found is None:
        (line,) = problems(parse_server_key, text, "here")
        assert line.startswith("here: expected HOST:PORT, got ")
    else:
        assert parse_server_key(text, "here") == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a", ("a", 80)),
        ("a:1", ("a", 1)),
        ("[::1]", ("::1", 80)),
        ("[::1]:1", ("::1", 1)),
        ("::1", None),
        ("a:", None),
        ("a:0", None),
        ("a:x", None),
        ("", None),
    ],
)
def test_port_that_may_be_missing(text: str, found: tuple[str, int] | None) -> None:
    """A wrong one is wrong all the same."""
    assert split_host_port(text, 80) == found


@pytest.mark.parametrize(
    "host", ["1.2.3.256", "1.2.3", "127.1", "0x7f.1", "01.2.3.4", "1.2.3.4.5", "2130706433"]
)
def test_mistyped_address_is_no_name(host: str) -> None:
    """Names that getaddrinfo would read as an address are refused."""
    assert normal_host(host) is None


@pytest.mark.parametrize(
    "host", ["a..b", "-a", "a-", ".", "a.", "x" * 64, ".".join(["x" * 63] * 4), "::1%", "::1%a b"]
)
def test_odd_names(host: str) -> None:
    """Labels have 1 to 63 characters, names 253; one dot at the end means the root."""
    assert normal_host(host) == ("a." if host == "a." else None)


# Changes.


def test_post_with_servers_keeps_the_keys_it_leaves_out() -> None:
    """As in lua-resty-checkups: keys that the body leaves out stay."""
    current = parse_upstream("a", {"servers": [S], "mode": "hash", "try": 2}, "x")
    new = merge_upstream(current, "a", {"servers": [{"host": "b", "port": 1}], "try": 3}, "x")
    assert [server.key for server in new.servers] == ["b:1"]
    assert (new.mode, new.tries) == ("hash", 3)
    kept = merge_upstream(current, "a", {"keepalive": 5}, "x")
    assert (kept.servers, kept.keepalive) == (current.servers, 5)
    assert merge_upstream(None, "a", {"servers": [S]}, "x").servers == current.servers


def test_post_with_cluster_replaces_the_whole() -> None:
    """A later POST with servers removes the levels again."""
    current = parse_upstream("a", {"servers": [S], "mode": "hash"}, "x")
    levels = merge_upstream(current, "a", {"cluster": [{"servers": [S]}], "try": 2}, "x")
    assert (levels.mode, levels.tries) == ("wrr", 2)
    flat = merge_upstream(levels, "a", {"servers": [S]}, "x")
    assert set(flat.source) == {"servers", "try"}


def test_wrong_post_leaves_all_as_it_was() -> None:
    """The current upstream does not change, whatever the body holds."""
    current = parse_upstream("a", {"servers": [S], "mode_opts": {"x": [1]}}, "x")
    before = json.dumps(current.source)
    assert problems(merge_upstream, current, "a", {"try": 0, "servers": [{}]}, "x")
    assert problems(merge_upstream, current, "a", [], "x") == ["x: expected an object, got []"]
    assert json.dumps(current.source) == before


def test_patch_changes_one_server() -> None:
    """Other servers and other keys stay; the former upstream does not change."""
    body = {"servers": [S, {"host": "::1", "port": 80, "max_fails": 3}], "mode": "hash"}
    current = parse_upstream("a", body, "x")
    before = json.dumps(current.source)
    new = patch_server(current, "::1", 80, {"weight": 5, "state": "drain"}, "y")
    assert json.dumps(current.source) == before
    first, second = new.servers
    assert first == current.servers[0]
    assert (second.weight, second.state, second.max_fails) == (5, "drain", 3)
    assert new.source["servers"][1]["weight"] == 5
    assert new.mode == "hash"
    assert new.digest != current.digest


def test_patch_reaches_every_level() -> None:
    """The server is found in every cluster that has it."""
    dc1, dc2 = {"servers": [S]}, {"servers": [{"host": "b", "port": 1}]}
    current = parse_upstream("a", {"cluster": {"dc1": dc1, "dc2": dc2}}, "x")
    new = patch_server(current, "b", 1, {"weight": 9}, "y")
    assert [server.weight for server in new.servers] == [1, 9]


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ({}, ['y: expected an object such as {"weight": 5}, got {}']),
        ([], ['y: expected an object such as {"weight": 5}, got []']),
        (None, ['y: expected an object such as {"weight": 5}, got null']),
        (
            {"weight": -1, "sate": "up", "port": 81},
            [
                "y.port: a server's port cannot be changed; add another one",
                "y.weight: expected an integer from 0 to 1000000000, got -1",
                'y.sate: unknown key (did you mean "state"?)',
            ],
        ),
        ({"host": "b"}, ["y.host: a server's host cannot be changed; add another one"]),
        ({"weight": None}, ["y.weight: expected an integer from 0 to 1000000000, got null"]),
        ({"fail_timeout": float("nan")}, ["y.fail_timeout: expected a number of seconds from 0"]),
        ({"tls": {"x": float("nan")}}, ["y.tls.x: unknown key"]),
    ],
)
def test_wrong_patch_leaves_all_as_it_was(body: Any, lines: list[str]) -> None:
    """Every mistake is named, and the upstream does not change."""
    current = parse_upstream("a", {"servers": [S]}, "x")
    before = json.dumps(current.source)
    found = problems(patch_server, current, "127.0.0.1", 80, body, "y")
    assert len(found) == len(lines)
    for one, wanted in zip(found, lines, strict=True):
        assert one.startswith(wanted)
    assert json.dumps(current.source) == before


def test_patch_of_an_unknown_server() -> None:
    """PATCH does not make a server; POST does."""
    current = parse_upstream("a", {"servers": [S]}, "x")
    with pytest.raises(NotFoundError, match=r"upstream a has no server 127\.0\.0\.1:81"):
        patch_server(current, "127.0.0.1", 81, {"weight": 1}, "y")


# dyups.


def test_dyups_text_becomes_servers() -> None:
    """All known parameters of nginx's server line are understood."""
    text = """
        server 127.0.0.1:8089 weight=2 max_fails=1 fail_timeout=10s backup;
        server [::1]:8088 fail_timeout=1m max_conns=3 down;server a.example;
    """
    body = parse_dyups(text, "body")
    assert body == {
        "servers": [
            {
                "host": "127.0.0.1",
                "port": 8089,
                "weight": 2,
                "max_fails": 1,
                "fail_timeout": 10,
                "backup": True,
            },
            {"host": "::1", "port": 8088, "fail_timeout": 60, "max_conns": 3, "state": "down"},
            {"host": "a.example", "port": 80},
        ]
    }
    assert len(parse_upstream("a", body, "x").servers) == 3


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), ("500ms", 0.5), ("2000ms", 2), ("1h", 3600), ("1d", 86400)]
)
def test_dyups_times_are_nginxs(value: str, seconds: float) -> None:
    """A number with a unit, or seconds without one."""
    (server,) = parse_dyups(f"server a:1 fail_timeout={value}", "body")["servers"]
    assert server["fail_timeout"] == seconds


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["body: expected server HOST:PORT; ..."]),
        (" ; ;\n", ["body: expected server HOST:PORT; ..."]),
        ("hello", ['body[0]: expected server HOST:PORT, got "hello"']),
        ("server", ['body[0]: expected server HOST:PORT, got "server"']),
        ("server a:1;upstream x", ['body[1]: expected server HOST:PORT, got "upstream x"']),
        ("server unix:/x", ['body[0]: expected server HOST:PORT, got "server unix:/x"']),
        ("server ::1", ['body[0]: expected server HOST:PORT, got "server ::1"']),
        (
            "server a:1 weight=x slow_start=5s; server b:99999",
            [
                "body[0]: expected weight=N, max_fails=N, fail_timeout=TIME, max_conns=N, "
                'backup or down, got "weight=x"',
                "body[0]: expected weight=N, max_fails=N, fail_timeout=TIME, max_conns=N, "
                'backup or down, got "slow_start=5s"',
                'body[1]: expected server HOST:PORT, got "server b:99999"',
            ],
        ),
        ("server a:1 weight=٣", ["body[0]: expected weight=N"]),
        ("server a:1 weight=-1", ["body[0]: expected weight=N"]),
        ("server a:1 fail_timeout=1y", ["body[0]: expected weight=N"]),
    ],
)
def test_wrong_dyups_text(text: str, lines: list[str]) -> None:
    """Each mistake names its statement."""
    found = problems(parse_dyups, text, "body")
    assert len(found) == len(lines)
    for one, wanted in zip(found, lines, strict=True):
        assert one.startswith(wanted)


# Routes.


def test_routes_of_the_contract() -> None:
    """They are read in order, and may name an upstream that does not exist yet."""
    pattern = r"^/begin/(a|b)/.*\.action$"
    routes = parse_routes(
        [
            {"host": "www.abc.com", "path": "/foo/", "upstream": "foo"},
            {"host": "www.abc.com", "path_regex": pattern, "upstream": "bar"},
        ],
        "routes",
    )
    assert routes == (
        Route("foo", "www.abc.com", "/foo/"),
        Route("bar", "www.abc.com", path_regex=pattern),
    )
    assert parse_routes([], "routes") == ()


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({}, ": expected a list of routes, got {}"),
        (None, ": expected a list of routes, got null"),
        ("/", ': expected a list of routes, got "/"'),
        (["/"], '[0]: expected an object, got "/"'),
        ([{"path": "/"}], "[0].upstream: is missing"),
        ([{"upstream": "a", "pth": "/"}], '[0].pth: unknown key (did you mean "path"?)'),
        ([{"upstream": "a b"}], "[0].upstream: expected a name of letters"),
        ([{"upstream": "a", "host": "a:80"}], "[0].host: expected a name of letters"),
        ([{"upstream": "a", "host": "*"}], "[0].host: expected a name of letters"),
        ([{"upstream": "a", "path": "foo"}], "[0].path: expected a path that begins with /"),
        ([{"upstream": "a", "path": 5}], "[0].path: expected a string or null, got 5"),
        (
            [{"upstream": "a", "path": "/", "path_regex": "x"}],
            '[0]: expected "path" or "path_regex", not both',
        ),
        ([{"upstream": "a", "path_regex": "("}], "[0].path_regex: expected a regular expression:"),
        ([{"upstream": "a", "path_regex": "[[a]"}], "[0].path_regex: expected a regular"),
        (
            [{"upstream": "a", "path_regex": "a{99999999999999}"}],
            "[0].path_regex: expected a regular",
        ),
    ],
)
def test_wrong_routes(body: Any, line: str) -> None:
    """Each mistake is one line with the route's place."""
    (found,) = problems(parse_routes, body, "routes")
    assert found.startswith("routes" + line)


def test_all_wrong_routes_are_listed() -> None:
    """A mistake in one route does not hide mistakes in the next."""
    body = [{"upstream": "a b", "host": "x y"}, {}, {"upstream": "ok"}, {"upstream": 3}]
    places = [line.partition(":")[0] for line in problems(parse_routes, body, "routes")]
    assert places == [
        "routes[0].host",
        "routes[0].upstream",
        "routes[1].upstream",
        "routes[3].upstream",
    ]


def test_retry_budget() -> None:
    """Its keys have defaults of their own, and null is no limit; mistakes have their places."""

    def parsed(**keys: Any) -> Any:
        return parse_upstream("a", {"servers": [S], **keys}, "upstreams.a").retry_budget

    assert (parsed().share, parsed().min) == (0.2, 10)
    assert parsed(retry_budget={"min": 3, "x_why": "few"}) == parsed(retry_budget={"min": 3})
    assert parsed(retry_budget=None) is None
    assert wrong(retry_budget={"share": -1, "most": 3}) == [
        "upstreams.a.retry_budget.share: expected a number from 0 to 100, got -1",
        "upstreams.a.retry_budget.most: unknown key",
    ]
    (line,) = wrong(retry_budget=5)
    assert line == "upstreams.a.retry_budget: expected an object, got 5"
