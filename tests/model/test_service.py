"""Services: what an operator writes of them, and the upstreams that they make."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.errors import ConfigError
from slardar.model.consul_query import ConsulQuery
from slardar.model.kubernetes_query import KubernetesQuery
from slardar.model.parse import parse_upstream
from slardar.model.reader import ANY_KEY
from slardar.model.service import Listed, levels_of, merge_service, parse_service
from slardar.model.shown import HIDDEN, hidden
from tests.fake_plugins import FakePlugins

NAME = "_http._tcp.web.example"
WHERE = "services.web"
NOWHERE = (
    ': expected "dns_service" or "consul_service" or "docker_service" or "kubernetes_service", '
    "which says where the servers come from"
)
ONE, TWO, THREE = (Listed(f"10.0.0.{last}", 80, last) for last in (1, 2, 3))


def body(**keys: Any) -> dict[str, Any]:
    """A service as a user writes it."""
    return {"dns_service": NAME, **keys}


def written(one: Listed, **keys: Any) -> dict[str, Any]:
    """A server of an upstream as it is shown."""
    shown = {"host": one.host, "port": one.port, "weight": one.weight}
    return {**shown, "max_fails": 0, "fail_timeout": 10, **keys}


def test_upstream_has_the_keys_and_the_listed_servers() -> None:
    """One level is a list of servers, several are a cluster; the digest tells them apart."""
    keys = {"mode": "hash", "read_timeout": 5, "protected": False, "x_owner": "ops"}
    service = parse_service("web", body(**keys), WHERE)
    assert service.origin == ("dns_service", NAME)
    flat = service.upstream(((ONE, TWO),))
    assert flat.source == {"servers": [written(ONE), written(TWO)], **keys}
    assert (flat.name, flat.mode, flat.protected) == ("web", "hash", False)
    steep = service.upstream(((ONE,), (TWO, THREE)))
    cluster = [{"servers": [written(ONE)]}, {"servers": [written(TWO), written(THREE)]}]
    assert steep.source == {"cluster": cluster, **keys}
    assert levels_of(steep) == ((ONE,), (TWO, THREE))
    assert flat.digest != steep.digest == service.upstream(levels_of(steep)).digest


def test_upstream_without_a_server() -> None:
    """It has no level, which no upstream that a user writes may have."""
    service = parse_service("web", body(mode="hash"), WHERE)
    found = service.upstream(())
    assert (found.levels, found.source) == ((), {"servers": [], "mode": "hash"})
    assert levels_of(found) == ()
    with pytest.raises(ConfigError, match="expected at least one server"):
        parse_upstream("web", found.source, "upstreams.web")


def test_keys_of_every_server() -> None:
    """They are those that no catalogue says."""
    server = {"max_fails": 3, "fail_timeout": 7.5, "max_conns": 9, "x_note": 1}
    service = parse_service("web", body(server=server), WHERE)
    (found,) = service.upstream(((ONE,),)).servers
    assert (found.max_fails, found.fail_timeout, found.max_conns) == (3, 7.5, 9)
    assert found.weight == 1


@pytest.mark.parametrize(
    ("wrong", "lines"),
    [
        (5, [': expected an object such as {"dns_service": "_http._tcp.web.example"}, got 5']),
        ({}, [NOWHERE]),
        ({"dns_service": None}, [NOWHERE]),
        ({"tag": "v1"}, [NOWHERE]),
        (body(dns_service=5), [".dns_service: expected a string, got 5"]),
        (body(dns_service="a b"), [".dns_service: expected a DNS name such as"]),
        (body(dns_service="10.0.0.1"), [".dns_service: expected a DNS name such as"]),
        (body(dns_service="::1"), [".dns_service: expected a DNS name such as"]),
        (
            body(consul_service="web"),
            [": expected one of dns_service and consul_service, and not both"],
        ),
        (
            body(tag="v1", near="_agent"),
            [".tag: belongs to consul_service", ".near: belongs to consul_service"],
        ),
        ({"consul_service": ""}, [".consul_service: expected a name of a service without /"]),
        ({"consul_service": "a/b"}, [".consul_service: expected a name of a service without /"]),
        ({"consul_service": ".."}, [".consul_service: expected a name of a service without /"]),
        (
            {"consul_service": "web", "tag": "", "dc": "", "near": "a\nb", "passing": 1},
            [".passing: expected"],
        ),
        (
            {"consul_service": "web", "tag": "", "dc": "", "near": "a\nb"},
            [".dc: expected 1 to", ".near: expected 1 to", ".tag: expected 1 to 255 printable"],
        ),
        ({"consul_service": "web", "tag": ["a", ""]}, [".tag[1]: expected 1 to 255 printable"]),
        ({"consul_service": "web", "tag": 5}, [".tag: expected a tag or a list of tags, got 5"]),
        (
            {"consul_service": "web", "consul": "10.0.0.1:8500"},
            [".consul: expected http://HOST:PORT, or https://, with more HOST:PORT after commas"],
        ),
        (
            {"consul_service": "web", "consul": "http://a:b@10.0.0.1:8500"},
            [".consul: expected http://HOST:PORT, or https://, with more HOST:PORT after commas"],
        ),
        (body(port=80, url="x"), [".port: belongs to kubernetes", ".url: belongs to kubernetes"]),
        ({"docker_service": ""}, [".docker_service: expected 1 to 255 printable characters"]),
        ({"docker_service": 5}, [".docker_service: expected a string, got 5"]),
        ({"docker_service": "web", "port": 80}, [".port: belongs to kubernetes_service"]),
        ({"kubernetes_service": "web"}, [".kubernetes_service: expected NAMESPACE/NAME, got"]),
        ({"kubernetes_service": "a/b/c"}, [".kubernetes_service: expected NAMESPACE/NAME, got"]),
        ({"kubernetes_service": "A/b"}, [".kubernetes_service: expected NAMESPACE/NAME, got"]),
        *(
            ({"kubernetes_service": "a/b", "port": port}, [".port: expected a port's number or"])
            for port in (0, 65536, True, 1.5, "", "a b", "0", "99999", "HTTP", "\u00b2", "\u0663")
        ),
        *(
            ({"kubernetes_service": "a/b", "url": url}, [".url: expected https://HOST:PORT or"])
            for url in (
                "",
                "a:1",
                "ftp://a:1",
                "http://a:b",
                "http://u@a:1",
                "http://a/b",
                "http://::1",
            )
        ),
        (
            body(servers=[], cluster=[]),
            [
                ".servers: expected nothing: a service's servers are looked up",
                ".cluster: expected nothing: a service's servers are looked up",
            ],
        ),
        (body(empty_grace=-1), [".empty_grace: expected a number of seconds from 0"]),
        (body(server={"weight": 5}), [".server.weight: unknown key"]),
        (body(server={"max_fails": "x"}), [".server.max_fails: expected an integer from 0"]),
        (body(server={"x_note": {1, 2}}), [".server: expected what JSON can hold"]),
        (body(mod="hash"), ['.mod: unknown key (did you mean "mode"?)']),
        (body(mode="lost", timeout=0), [".timeout: expected", ".mode: no balancer lost"]),
    ],
)
def test_mistakes_of_a_service(wrong: Any, lines: list[str]) -> None:
    """Each is one line with its place, those of the upstream's keys too."""

    def check_mode(mode: str, mode_opts: Any, where: str) -> None:
        if mode == "lost":
            raise ConfigError(f"{where}.mode: no balancer {mode}")

    with pytest.raises(ConfigError) as caught:
        parse_service("web", wrong, WHERE, FakePlugins(check_mode))
    found = caught.value.problems
    assert len(found) == len(lines)
    for line, wanted in zip(found, lines, strict=True):
        assert line.startswith(WHERE + wanted)


def test_name_of_a_service_is_that_of_an_upstream() -> None:
    """The same names are taken."""
    parse_service("*.example.com", body(), WHERE)
    with pytest.raises(ConfigError, match="expected a name of letters"):
        parse_service("a b", body(), WHERE)


@pytest.mark.parametrize(
    ("keys", "origin"),
    [
        ({}, ()),
        ({"passing": True, "dc": None, "tag": []}, ()),
        ({"tag": "v2"}, ("tag=v2",)),
        ({"tag": ["v2", "b=c", "v2"]}, ("tag=b=c", "tag=v2")),
        (
            {"passing": False, "dc": "east", "near": "_agent", "consul": "http://a:1,[::1]:2"},
            ("passing=false", "dc=east", "near=_agent", "consul=http://a:1,[::1]:2"),
        ),
    ],
)
def test_question_to_consul(keys: dict[str, Any], origin: tuple[str, ...]) -> None:
    """The origin says all of it, and nothing that is usual; no key of it is the upstream's."""
    service = parse_service("web", {"consul_service": "Web", "mode": "hash", **keys}, WHERE)
    assert service.origin == ("consul_service", "Web", *origin)
    assert ConsulQuery.of(service.origin).origin == service.origin
    assert service.upstream(()).source == {"servers": [], "mode": "hash"}


@pytest.mark.parametrize(
    ("keys", "origin"),
    [
        ({"docker_service": "Web é"}, ("docker_service", "Web é")),
        ({"kubernetes_service": "a/b"}, ("kubernetes_service", "a/b")),
        (
            {"kubernetes_service": "a/b", "port": 80, "url": "https://[::1]:6443/"},
            ("kubernetes_service", "a/b", "port=80", "url=https://[::1]:6443"),
        ),
        (
            {"kubernetes_service": "a/b", "port": "http", "url": "http://api.example"},
            ("kubernetes_service", "a/b", "port=http", "url=http://api.example"),
        ),
    ],
)
def test_origin_in_docker_and_kubernetes(keys: dict[str, Any], origin: tuple[str, ...]) -> None:
    """It says all of the question, and no key of it is the upstream's."""
    service = parse_service("web", {"mode": "hash", **keys}, WHERE)
    assert service.origin == origin
    assert service.upstream(()).source == {"servers": [], "mode": "hash"}
    if origin[0] == "kubernetes_service":
        assert KubernetesQuery.of(origin).origin == origin


def test_what_the_catalogue_says_of_a_server() -> None:
    """It wins over what the service says of every server; what it leaves out is the service's."""
    service = parse_service("web", body(server={"max_fails": 3, "max_conns": 9}), WHERE)
    listed = Listed("10.0.0.1", 80, 5, "drain", max_fails=0, fail_timeout=2.5)
    levels = ((listed, Listed("10.0.0.2", 80)),)
    upstream = service.upstream(levels)
    one, two = upstream.servers
    assert (one.weight, one.state, one.max_fails, one.fail_timeout) == (5, "drain", 0, 2.5)
    assert (one.max_conns, two.max_fails, two.max_conns) == (9, 3, 9)
    assert levels_of(upstream, service.each_server) == levels
    # Where the service is edited, what the catalogue has said stays.
    edited = parse_service("web", body(server={"max_fails": 7}), WHERE)
    found = edited.upstream(levels_of(upstream, service.each_server)).servers
    assert [server.max_fails for server in found] == [0, 7]


@pytest.mark.parametrize(
    "key", ["dns_service", "consul_service", "docker_service", "kubernetes_service"]
)
def test_upstream_has_no_key_of_services(key: str) -> None:
    """The message says where it belongs."""
    servers = {"servers": [{"host": "10.0.0.1", "port": 80}]}
    with pytest.raises(ConfigError) as caught:
        parse_upstream("web", {**servers, key: NAME}, "upstreams.web")
    (line,) = caught.value.problems
    assert line.startswith(f"upstreams.web.{key}: belongs to a service")


def test_change_replaces_the_whole() -> None:
    """Except what an answer hides, and unknown keys that the store has."""
    secret = {"mode": "sticky", "mode_opts": {"secret": "s" * 32}, "pass": "word", "user": "u"}
    known = parse_service("web", body(**secret, odd=1), WHERE, None, ANY_KEY)
    shown = hidden(known.source)
    assert (shown["pass"], shown["mode_opts"]) == (HIDDEN, {"secret": HIDDEN})
    assert merge_service(known, "web", shown, WHERE).source == known.source
    assert merge_service(known, "web", body(), WHERE).source == body()
    for lost in (None, parse_service("web", body(), WHERE)):
        with pytest.raises(ConfigError, match=r"services\.web\.pass: expected the password"):
            merge_service(lost, "web", body(**{"pass": HIDDEN}), WHERE)
    with pytest.raises(ConfigError, match=r"services\.web\.even: unknown key"):
        merge_service(known, "web", body(even=1), WHERE)
