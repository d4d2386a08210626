"""One server is added to an upstream, or removed from it."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.errors import ConfigError, ConflictError, NotFoundError
from slardar.model.membership import ANYWHERE, Place, add_server, remove_server
from slardar.model.parse import parse_upstream
from slardar.model.reader import ANY_KEY
from slardar.model.server import Upstream


def server(port: int, **rest: Any) -> dict[str, Any]:
    return {"host": "10.0.0.1", "port": port, **rest}


def made(body: dict[str, Any]) -> Upstream:
    return parse_upstream("a", body, "upstreams.a")


def ports(upstream: Upstream) -> list[list[int]]:
    """The ports of the servers, level by level."""
    return [[one.port for one in level.servers] for level in upstream.levels]


FLAT = made({"servers": [server(1), server(2, backup=True)], "mode": "hash", "x_n": 1})
LEVELS = made(
    {"cluster": [{"servers": [server(1), server(2)], "try": 1}, {"servers": [server(3)]}]}
)
NAMED = made({"cluster": {"dc1": {"servers": [server(1)]}, "dc2": {"servers": [server(3)]}}})
ONE = made({"cluster": [{"servers": [server(1)]}]})


def test_server_is_added_at_the_end() -> None:
    """It has the keys of the body and the usual ones; the other servers stay."""
    upstream = add_server(FLAT, "10.0.0.1", 5, {"weight": 7, "x_rack": 3}, "w")
    assert ports(upstream) == [[1, 5], [2]]
    shown = upstream.source["servers"][-1]
    assert shown == {**server(5), "weight": 7, "max_fails": 0, "fail_timeout": 10, "x_rack": 3}
    assert (upstream.mode, upstream.source["x_n"]) == ("hash", 1)
    assert ports(add_server(FLAT, "10.0.0.1", 5, {"backup": True}, "w")) == [[1], [2, 5]]
    assert ports(add_server(FLAT, "::1", 5, server(5, host="::1"), "w"))[0] == [1, 5]
    assert ports(FLAT) == [[1], [2]]


@pytest.mark.parametrize(
    ("upstream", "place", "found"),
    [
        (LEVELS, Place(level="0"), [[1, 2, 5], [3]]),
        (LEVELS, Place(level="1"), [[1, 2], [3, 5]]),
        (NAMED, Place(cluster="dc2"), [[1], [3, 5]]),
        (ONE, ANYWHERE, [[1, 5]]),
        (ONE, Place(level="0"), [[1, 5]]),
    ],
)
def test_server_is_added_where_it_is_said(
    upstream: Upstream, place: Place, found: list[list[int]]
) -> None:
    """It is added to the named level or cluster, which may be left out if there is only one."""
    changed = add_server(upstream, "10.0.0.1", 5, {}, "w", place)
    assert ports(changed) == found
    assert changed.levels[0].tries == upstream.levels[0].tries
    assert changed.named == upstream.named


@pytest.mark.parametrize(
    ("upstream", "place", "message"),
    [
        (
            LEVELS,
            ANYWHERE,
            "w: expected the parameter level=NUMBER, for there are level 0, ",
        ),
        (NAMED, ANYWHERE, "w: expected the parameter cluster=NAME, for there are cluster dc1, clu"),
        (LEVELS, Place(level="2"), 'level: expected one of 0, 1, got "2"'),
        (LEVELS, Place(level="-1"), 'level: expected one of 0, 1, got "-1"'),
        (LEVELS, Place(level=""), 'level: expected one of 0, 1, got ""'),
        (NAMED, Place(cluster="dc3"), 'cluster: expected one of dc1, dc2, got "dc3"'),
        (NAMED, Place(level="0"), "upstream a has clusters, and no levels"),
        (LEVELS, Place(cluster="dc1"), "upstream a has levels, and no clusters with names"),
        (LEVELS, Place("0", "dc1"), "upstream a has levels, and no clusters with names"),
        (FLAT, Place(level="0"), "upstream a has one list of servers"),
        (FLAT, Place(cluster=""), "upstream a has one list of servers"),
    ],
)
def test_place_that_there_is_not(upstream: Upstream, place: Place, message: str) -> None:
    """The message names the place and the existing ones; a removal needs no place."""
    with pytest.raises(ConfigError) as caught:
        add_server(upstream, "10.0.0.1", 5, {}, "w", place)
    assert str(caught.value).startswith(message)
    if place is not ANYWHERE:
        with pytest.raises(ConfigError):
            remove_server(upstream, "10.0.0.1", 1, place)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ([], 'w: expected an object such as {"weight": 5}, got []'),
        (None, 'w: expected an object such as {"weight": 5}, got null'),
        ({"wieght": 1}, 'w.wieght: unknown key (did you mean "weight"?)'),
        ({"weight": -1}, "w.weight: expected an integer from 0 to "),
        ({"host": "b"}, 'w.host: expected "10.0.0.1" or nothing'),
        ({"port": 6}, "w.port: expected 5 or nothing"),
        ({"tls": {"cert": ""}}, "upstreams.a.servers[2].tls.cert: expected the path of a file"),
    ],
)
def test_wrong_server_is_not_added(body: object, line: str) -> None:
    """Messages name the place in the call."""
    with pytest.raises(ConfigError) as caught:
        add_server(FLAT, "10.0.0.1", 5, body, "w")
    (found,) = caught.value.problems
    assert found.startswith(line)


def test_server_that_is_there_is_not_added() -> None:
    """A change needs another call, so nobody sets a weight by accident."""
    for port in (1, 2):
        with pytest.raises(ConflictError, match=rf"has the server 10\.0\.0\.1:{port} already"):
            add_server(FLAT, "10.0.0.1", port, {"weight": 9}, "w")
    with pytest.raises(ConflictError, match="level 1 of upstream a has"):
        add_server(LEVELS, "10.0.0.1", 3, {}, "w", Place(level="1"))


@pytest.mark.parametrize(
    ("upstream", "port", "place", "found"),
    [
        (FLAT, 2, ANYWHERE, [[1]]),
        (FLAT, 1, ANYWHERE, [[2]]),
        (LEVELS, 1, ANYWHERE, [[2], [3]]),
        (LEVELS, 2, Place(level="0"), [[1], [3]]),
    ],
)
def test_server_is_removed(
    upstream: Upstream, port: int, place: Place, found: list[list[int]]
) -> None:
    """It is removed from every list that has it, or from the named place."""
    assert ports(remove_server(upstream, "10.0.0.1", port, place)) == found


def test_last_server_stays() -> None:
    """No list of servers can be empty; the whole upstream can be removed."""
    alone = remove_server(FLAT, "10.0.0.1", 1)
    for upstream, port in ((alone, 2), (ONE, 1), (LEVELS, 3), (NAMED, 1)):
        with pytest.raises(ConflictError, match=r"last server of .* cannot be empty"):
            remove_server(upstream, "10.0.0.1", port)


@pytest.mark.parametrize(
    ("port", "place"), [(9, ANYWHERE), (3, Place(level="0")), (1, Place(level="1"))]
)
def test_server_that_is_not_there_is_not_removed(port: int, place: Place) -> None:
    """This also holds for a server of another level."""
    with pytest.raises(NotFoundError, match=rf"has no server 10\.0\.0\.1:{port}"):
        remove_server(LEVELS, "10.0.0.1", port, place)


def test_odd_keys_of_a_store_stay() -> None:
    """Unknown keys in a store do not prevent a change."""
    body = {"servers": [server(1, odd=1), server(2)], "odd": 2}
    upstream = parse_upstream("a", body, "upstreams.a", passes=ANY_KEY)
    assert add_server(upstream, "b", 1, {}, "w").source["odd"] == 2
    assert len(remove_server(upstream, "10.0.0.1", 2).unknown) == 2
