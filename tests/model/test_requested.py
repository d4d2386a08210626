"""A Host means the same in every spelling."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slardar.errors import ConfigError
from slardar.http1.request import normal_host
from slardar.model.hook import Code, Hook, check_new_hook_name, parse_hook, written
from slardar.model.names import requested_host, usual_ipv6
from slardar.model.parse import parse_routes, parse_upstream
from slardar.model.snapshot import Snapshot

LABELS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,8}", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
SERVERS = {"servers": [{"host": "127.0.0.1", "port": 80}]}


def spelled(host: str, dotted: bool, capitals: bool) -> str:
    return (host.upper() if capitals else host) + ("." if dotted else "")


def snapshot(*names: str, routes: object = ()) -> Snapshot:
    upstreams = {name: parse_upstream(name, SERVERS, "x") for name in names}
    return Snapshot.build(1, upstreams, parse_routes(list(routes), "routes"), None)  # type: ignore[call-overload]


@given(
    HOSTS, st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["", ":8"])
)
def test_every_spelling_is_met_by_every_spelling(
    host: str, dotted: bool, capitals: bool, asked_dotted: bool, asked_capitals: bool, port: str
) -> None:
    """Names of upstreams, wildcards, routes and hooks may have capitals, and a dot at the end."""
    name = spelled(host, dotted, capitals)
    asked = normal_host((spelled(host, asked_dotted, asked_capitals) + port).encode())
    assert snapshot(name).route(asked, "/") == name
    assert snapshot(f"*.{name}").route(f"www.{asked}", "/") == f"*.{name}"
    assert snapshot(f"*.{name}").route(asked, "/") is None
    for of_host, to in ((name, asked), (f"*.{name}", f"www.{asked}")):
        routed = snapshot(routes=[{"host": of_host, "upstream": "u"}])
        assert routed.route(to, "/") == "u"
        assert routed.route("other", "/") is None or to == "other"
    assert Hook("python", f"script.{name}").host == asked


ADDRESSES = st.integers(0, 2**128 - 1) | st.integers(0xFFFF << 32, (0xFFFF << 32) + 2**32 - 1)


@given(ADDRESSES.map(ipaddress.IPv6Address), st.booleans(), st.booleans())
def test_every_spelling_of_an_ipv6_address(
    address: ipaddress.IPv6Address, exploded: bool, capitals: bool
) -> None:
    """It may be in brackets, as in a Host, or without, as in the name of a hook."""
    text = address.exploded if exploded else str(address)
    text = text.upper() if capitals else text
    assert requested_host(text) == normal_host(f"[{text}]:80".encode()) == usual_ipv6(str(address))
    name = f"script.{text}"
    check_new_hook_name("python", name)
    assert Hook("python", name).host == usual_ipv6(str(address))


@pytest.mark.parametrize("names", [("a.b", "a.b."), ("a.b.", "a.b"), ("A.b", "a.b.", "a.b")])
def test_the_name_as_requests_have_it_wins(names: tuple[str, ...]) -> None:
    """The order of the names does not matter."""
    assert snapshot(*names).route("a.b", "/") == "a.b"
    wild = snapshot(*(f"*.{name}" for name in names))
    assert wild.route("x.a.b", "/") == "*.a.b"
    one = snapshot(names[0])
    for name in names[1:]:
        one = one.with_upstream(parse_upstream(name, SERVERS, "x"))
    for name in names:
        if name != "a.b":
            one = one.without_upstream(name)
    assert one.route("a.b", "/") == "a.b"


def test_nothing_is_no_host() -> None:
    """A request without a Host does not match a name of dots."""
    for name in (".", "..", "*..", "*."):
        try:
            served = snapshot(name)
        except ConfigError:
            continue
        assert served.route("", "/") is None


@pytest.mark.parametrize(
    "name",
    ["script.a:80", "script.www.example.com:8080", "script.WWW.example.com.:1", "script.a:b",
     "script.::1:::", "script.1:2", "script..a", "script.a..b", "script.."],
)  # fmt: skip
def test_script_that_no_request_meets_is_refused_when_it_is_new(name: str) -> None:
    """A store that has such a script keeps it."""
    with pytest.raises(ConfigError, match=r"^name: expected script\.HOST with") as error:
        check_new_hook_name("python", name)
    assert "\n" not in str(error.value)
    kept = Hook("python", name, Code.of("def on_request(request): pass", 1.0))
    assert parse_hook(kept.path, written(kept)) == kept


@pytest.mark.parametrize("name", ["script.*", "script.a.", "script.A", "modules.a", "script.::1"])
def test_others_are_as_they_were(name: str) -> None:
    """Other names are kept as they are written."""
    check_new_hook_name("lua", name)
    assert Hook("lua", name).name == name
