"""The configuration of one moment: where it leads requests, and how it changes."""

from __future__ import annotations

import time

import pytest

from slardar.model.hook import Code, Hook
from slardar.model.parse import parse_routes, parse_upstream
from slardar.model.server import Upstream
from slardar.model.service import parse_service
from slardar.model.snapshot import Route, Snapshot


def upstream(name: str, port: int = 80) -> Upstream:
    """An upstream of one server."""
    return parse_upstream(name, {"servers": [{"host": "127.0.0.1", "port": port}]}, name)


def snapshot(*names: str, routes: tuple[Route, ...] = (), default: str | None = None) -> Snapshot:
    """Version 1, with these upstreams."""
    return Snapshot.build(1, {name: upstream(name) for name in names}, routes, default)


def test_exact_name_then_longest_wildcard_then_default() -> None:
    """This is the documented order."""
    found = snapshot("www.abc.com", "*.abc.com", "*.b.abc.com", default="other")
    assert found.route("www.abc.com", "/") == "www.abc.com"
    assert found.route("x.abc.com", "/") == "*.abc.com"
    assert found.route("x.b.abc.com", "/") == "*.b.abc.com"
    assert found.route("y.x.b.abc.com", "/") == "*.b.abc.com"
    assert found.route("b.abc.com", "/") == "*.abc.com"
    assert found.route("abc.org", "/") == "other"
    assert snapshot("a").route("b", "/") is None


@pytest.mark.parametrize("host", ["abc.com", "", ".", "xabc.com", "abc.com.", "com", "*.abc.com"])
def test_wildcard_does_not_match(host: str) -> None:
    """It matches neither the bare domain nor another domain with the same end; ``*.abc.com``
    is no host, though ``*`` may stand in the wildcard's place as any label."""
    expected = "*.abc.com" if host == "*.abc.com" else None
    assert snapshot("*.abc.com").route(host, "/") == expected


def test_wildcard_needs_a_label() -> None:
    """A host that begins with a dot has an empty label."""
    assert snapshot("*.abc.com").route(".abc.com", "/") is None
    route = snapshot("a", routes=(Route("a", "*.abc.com"),))
    assert route.route(".abc.com", "/") is None
    assert route.route("x.abc.com", "/") == "a"


def hidden(name: str) -> Upstream:
    """An upstream that is not public."""
    servers = [{"host": "127.0.0.1", "port": 80}]
    return parse_upstream(name, {"servers": servers, "public": False}, name)


def test_upstream_that_is_not_public_is_no_host() -> None:
    """Neither its name, nor its wildcard, nor the default leads there; a route does."""
    names = ("a.b", "*.a.b", "*.b", "A.C")
    found = snapshot(*names)
    expected = {"a.b": "a.b", "x.a.b": "*.a.b", "x.b": "*.b", "a.c": "A.C"}
    assert {host: found.route(host, "/") for host in expected} == expected
    assert found.host_is_name
    for name in ("a.b", "*.a.b", "A.C"):
        found = found.with_upstream(hidden(name))
    assert not found.host_is_name
    less = {"a.b": "*.b", "x.a.b": "*.b", "x.b": "*.b", "a.c": None}
    assert {host: found.route(host, "/") for host in less} == less
    assert found.with_hooks({}).route("x.a.b", "/") == "*.b"
    routed = found.with_routes((Route("a.b", "r"),))
    assert (routed.route("r", "/"), routed.route("a.b", "/")) == ("a.b", "*.b")
    # The upstream becomes public, and is removed.
    for name in ("a.b", "*.a.b", "A.C"):
        found = found.with_upstream(upstream(name))
    assert {host: found.route(host, "/") for host in expected} == expected
    assert found.host_is_name
    gone = found.with_upstream(hidden("a.b")).without_upstream("a.b")
    assert (gone.host_is_name, gone.route("a.b", "/")) == (True, "*.b")
    default = Snapshot.build(1, {"a": hidden("a")}, (), "a")
    assert (default.route("a", "/"), default.route("b", "/")) == (None, None)
    assert default.with_upstream(upstream("a")).route("b", "/") == "a"


def test_capitals_in_a_name_do_not_matter() -> None:
    """Hosts are in lower case; a name in lower case wins."""
    assert snapshot("WWW.Abc.com").route("www.abc.com", "/") == "WWW.Abc.com"
    assert snapshot("*.Abc.COM").route("x.abc.com", "/") == "*.Abc.COM"
    assert snapshot("A", "a").route("a", "/") == "a"


@pytest.mark.parametrize("names", [("Ab", "AB", "aB"), ("*.Ab", "*.AB", "*.aB"), ("*.AB", "*.ab")])
def test_names_that_differ_in_capitals_only_have_one_winner(names: tuple[str, ...]) -> None:
    """The winner does not depend on the order in which they came, or on changes in between."""
    host = "ab" if names[0][0] != "*" else "x.ab"
    expected = snapshot(*names).route(host, "/")
    assert expected == snapshot(*reversed(names)).route(host, "/")
    grown = snapshot()
    for name in names:
        grown = grown.with_upstream(upstream(name))
    assert grown.route(host, "/") == expected
    assert expected is not None
    assert grown.without_upstream(expected).with_upstream(upstream(expected)).route(
        host, "/"
    ) == expected  # fmt: skip
    if "*.ab" in names:
        assert expected == "*.ab"


def test_routes_come_first_and_the_first_wins() -> None:
    """This holds for host, prefix and pattern, alone and together."""
    routes = parse_routes(
        [
            {"host": "WWW.abc.com", "path": "/foo/", "upstream": "foo"},
            {"host": "*.abc.com", "path_regex": r"^/begin/(a|b)/.*\.action$", "upstream": "bar"},
            {"path": "/any", "upstream": "any"},
            {"path_regex": "needle", "upstream": "needle"},
            {"host": "all.org", "upstream": "all"},
            {"host": "all.org", "upstream": "never"},
        ],
        "routes",
    )
    found = snapshot("www.abc.com", routes=routes, default="other")
    assert found.route("www.abc.com", "/foo/x") == "foo"
    assert found.route("www.abc.com", "/foo") == "www.abc.com"
    assert found.route("x.abc.com", "/begin/a/1.action") == "bar"
    assert found.route("abc.com", "/begin/a/1.action") == "other"
    assert found.route("x.abc.com", "/begin/c/1.action") == "other"
    assert found.route("x.abc.com", "/begin/a/1.action?") == "other"
    assert found.route("www.abc.com", "/anything") == "any"
    assert found.route("www.abc.com", "/a/needle/b") == "needle"
    assert found.route("all.org", "/") == "all"


def test_routes_are_compiled_once() -> None:
    """However many there are: re itself caches 512 patterns, and then begins anew."""
    routes = tuple(Route(f"u{index}", path_regex=f"^/{index}$") for index in range(2000))
    found = snapshot(routes=routes)
    start = time.process_time()
    assert found.route("x", "/1999") == "u1999"
    assert time.process_time() - start < 0.1  # compiling them takes half a second


def test_changes_make_new_versions_and_leave_the_old() -> None:
    """Each next snapshot counts one up; earlier ones answer as before."""
    first = snapshot("a", "*.b")
    second = first.with_upstream(upstream("c"))
    third = second.without_upstream("*.b")
    fourth = third.with_routes((Route("c", path="/"),))
    assert [s.version for s in (first, second, third, fourth)] == [1, 2, 3, 4]
    assert [sorted(s.upstreams) for s in (first, second, third, fourth)] == [
        ["*.b", "a"],
        ["*.b", "a", "c"],
        ["a", "c"],
        ["a", "c"],
    ]
    assert [s.route("x.b", "/") for s in (first, second, third)] == ["*.b", "*.b", None]
    assert fourth.route("x.b", "/") == "c"
    assert repr(fourth) == "<Snapshot 4 of 2 upstreams>"


def test_changes_share_what_stays_the_same() -> None:
    """Unchanged upstreams, and tables that a change does not concern, are the same objects."""
    first = snapshot("a", "*.b", "C", routes=(Route("a", path_regex="x"),), default="a")
    second = first.with_upstream(upstream("d"))
    third = second.without_upstream("d")
    for later in (second, third):
        assert later.upstreams["a"] is first.upstreams["a"]
        assert later.routes is first.routes
        assert later.default_upstream == "a"
        for name in ("_folded", "_wildcards", "_matchers"):
            assert getattr(later, name) is getattr(first, name)
    routed = third.with_routes(())
    assert routed._upstreams is third._upstreams
    assert routed.route("x.b", "/") == "*.b"


def test_other_version_is_another_object() -> None:
    """Whoever holds the one before keeps it as it is; all but the number is the same."""
    hook = Hook("python", "script.a", Code.of("pass", 1.0))
    routes = parse_routes([{"path": "/x", "upstream": "a"}], "routes")
    before = snapshot("a", "*.b", "C", routes=routes, default="a").with_hooks({hook.key: hook})
    after = before.with_upstream(hidden("d")).at_version(9)
    assert (before.version, after.version) == (2, 9)
    again = after.at_version(3)
    assert (after.version, again.version) == (9, 3)
    assert again.fingerprint == after.fingerprint != before.fingerprint
    assert again.hooks is after.hooks
    for host, path in [("any", "/x"), ("y.b", "/"), ("c", "/"), ("d", "/")]:
        assert again.route(host, path) == after.route(host, path) is not None


def test_what_is_given_out_cannot_be_written() -> None:
    """Neither the table nor an upstream in it can be changed."""
    found = snapshot("a")
    with pytest.raises(TypeError):
        found.upstreams["b"] = upstream("b")  # type: ignore[index]
    with pytest.raises(AttributeError):
        found.upstreams["a"].mode = "hash"  # type: ignore[misc]
    given, code = {"a": upstream("a")}, hook("script.a", "x")
    hooks = {code.key: code}
    built = Snapshot.build(1, given, (), None, hooks)
    given.clear()
    hooks.clear()
    assert (list(built.upstreams), list(built.hooks)) == (["a"], [code.key])
    for one in (built, built.with_hooks({})):
        with pytest.raises(TypeError):
            one.hooks[code.key] = code  # type: ignore[index]


def test_snapshot_is_frozen() -> None:
    """None of its fields can be assigned or deleted, and no other can be added."""
    found = snapshot("a")
    assert "version" in found.__struct_fields__
    for name in (*found.__struct_fields__, "upstreams", "fingerprint", "more"):
        with pytest.raises(AttributeError):
            setattr(found, name, None)
        with pytest.raises(AttributeError):
            delattr(found, name)
    assert found.version == 1


def test_default_is_changed() -> None:
    """In a new version, which leaves the one before as it was."""
    first = snapshot("a", "b", default="a")
    second = first.with_default("b")
    assert (first.route("x", "/"), second.route("x", "/")) == ("a", "b")
    assert (first.version, second.version) == (1, 2)
    assert first.with_default(None).route("x", "/") is None


def test_unknown_upstream_cannot_be_removed() -> None:
    """It raises KeyError, as a dict does."""
    with pytest.raises(KeyError):
        snapshot("a").without_upstream("b")


def test_fingerprint_is_of_the_configuration_not_of_the_way_to_it() -> None:
    """It depends on upstreams, routes and default, but not on order and versions."""
    route = Route("a", path="/")
    direct = snapshot("a", "b", routes=(route,), default="a")
    around = Snapshot.build(70, {}, (), "a").with_upstream(upstream("b", 1))
    around = around.with_upstream(upstream("x")).with_upstream(upstream("b"))
    around = around.with_routes((route,)).without_upstream("x").with_upstream(upstream("a"))
    assert around.fingerprint == direct.fingerprint
    assert len(direct.fingerprint) == 64
    others = [
        direct.with_upstream(upstream("b", 81)),
        direct.without_upstream("b"),
        direct.with_routes(()),
        direct.with_routes((route, Route("b", path="/"))),
        snapshot("a", "b", routes=(route,)),
        snapshot("a", "b", routes=(route,), default="b"),
    ]
    assert len({direct.fingerprint, *(other.fingerprint for other in others)}) == 7


def test_fingerprint_depends_on_the_order_of_routes() -> None:
    """The first match wins, so another order is another configuration."""
    one, two = Route("a", path="/"), Route("b", path="/")
    assert snapshot(routes=(one, two)).fingerprint != snapshot(routes=(two, one)).fingerprint


def test_change_among_ten_thousand_upstreams_takes_less_than_a_millisecond() -> None:
    """The best of many tries counts, so that a busy machine does not fail it."""
    one = upstream("u")
    names = [f"u{index}.example.com" for index in range(10_000)]
    big = Snapshot.build(1, dict.fromkeys(names, one), (), None)
    best = 1.0
    for _ in range(30):
        start = time.perf_counter()
        big.with_upstream(one).without_upstream("u5.example.com").with_routes(())
        best = min(best, time.perf_counter() - start)
    assert best < 0.001


def hook(name: str, text: str) -> Hook:
    """A hook in service."""
    return Hook("python", name, Code.of(text, 1.0))


def test_hooks_are_the_same_object_until_one_changes() -> None:
    """By this a worker sees that it has no hook to load."""
    first = snapshot("a").with_hooks({("python", "script.a"): hook("script.a", "x")})
    later = first.with_upstream(upstream("b")).without_upstream("a").with_routes(())
    assert later.hooks is first.hooks
    assert Snapshot.build(9, {}, (), None, first.hooks).hooks is first.hooks
    assert later.with_hooks({}).hooks is not first.hooks
    assert snapshot("a").hooks == {}


def test_hooks_are_changed_and_removed() -> None:
    """The new version has the change; the one before stays as it was."""
    one, two = hook("script.a", "x"), hook("modules.b", "y")
    first = snapshot("a").with_hooks({one.key: one, two.key: two})
    second = first.with_hooks({one.key: hook("script.a", "z"), two.key: None, ("lua", "no"): None})
    assert (first.version, second.version) == (2, 3)
    assert set(first.hooks) == {one.key, two.key}
    assert list(second.hooks) == [one.key]
    assert second.hooks[one.key].active != one.active
    assert second.route("a", "/") == "a"


def test_fingerprint_knows_the_hooks() -> None:
    """Their order does not matter; without hooks it is the former fingerprint."""
    one, two = hook("script.a", "x"), hook("script.b", "y")
    bare = snapshot("a")
    there = bare.with_hooks({one.key: one}).with_hooks({two.key: two})
    assert there.fingerprint == bare.with_hooks({two.key: two, one.key: one}).fingerprint
    assert len({bare.fingerprint, there.fingerprint,
                bare.with_hooks({one.key: one}).fingerprint,
                there.with_hooks({one.key: hook("script.a", "z")}).fingerprint}) == 4  # fmt: skip
    assert there.with_hooks({one.key: None, two.key: None}).fingerprint == bare.fingerprint


def test_services_and_their_upstreams_come_and_go_together() -> None:
    """Equal services make equal fingerprints, whatever their order; without services it is the
    former fingerprint."""
    one, two = (
        parse_service(name, {"dns_service": "s.example"}, f"services.{name}") for name in "ab"
    )
    bare = snapshot("c")
    found = bare.with_service(one, upstream("a")).with_service(two, upstream("b"))
    assert (found.version, list(found.upstreams)) == (3, ["c", "a", "b"])
    assert (found.services, bare.services) == ({"a": one, "b": two}, {})
    assert found.with_routes(()).services is found.services
    other = bare.with_service(two, upstream("b")).with_service(one, upstream("a"))
    assert other.fingerprint == found.fingerprint
    plain = bare.with_upstream(upstream("a")).with_upstream(upstream("b"))
    moved = parse_service("b", {"dns_service": "t.example"}, "services.b")
    others = [
        plain,
        bare.with_service(one, upstream("a")),
        found.with_service(moved, upstream("b")),
    ]
    assert len({found.fingerprint, *(one.fingerprint for one in others)}) == 4
    gone = found.without_service("a").without_service("b")
    assert (gone.upstreams, gone.services) == (bare.upstreams, {})
    assert gone.fingerprint == bare.fingerprint
