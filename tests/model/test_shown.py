"""An upstream in answers, and what it means when an answer is sent back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.errors import ConfigError
from slardar.model.parse import merge_upstream, parse_upstream
from slardar.model.server import Upstream
from slardar.model.shown import HIDDEN, with_cluster, without_password


def server(port: int, **rest: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, **rest}


def answer(upstream: Upstream) -> dict[str, Any]:
    """The answer that a client reads."""
    found: dict[str, Any] = json.loads(json.dumps(with_cluster(without_password(upstream))))
    return found


def merged(current: Upstream | None, body: Any) -> Upstream:
    return merge_upstream(current, "a", body, "x")


def test_servers_stand_in_both_places() -> None:
    """``cluster`` has the levels in the order in which they are tried: the backups are the
    second one."""
    first, second, backup = server(1), server(2), server(3, backup=True)
    upstream = parse_upstream("a", {"servers": [first, backup, second], "try": 2}, "x")
    shown = answer(upstream)
    assert list(shown) == ["servers", "cluster", "try"]
    ports = [[one["port"] for one in level["servers"]] for level in shown["cluster"]]
    assert ports == [[1, 2], [3]]
    assert shown["cluster"][0]["servers"][0] == shown["servers"][0]
    levels = {"cluster": [{"servers": [first]}]}
    assert "servers" not in answer(parse_upstream("a", levels, "x"))


ports = st.integers(1, 9)
servers = st.lists(
    st.fixed_dictionaries(
        {"host": st.sampled_from(["10.0.0.1", "h", "::1", "[::1]", "H"]), "port": ports},
        optional={"weight": st.integers(0, 9), "backup": st.booleans(), "x_a": st.none()},
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda one: (one["host"].strip("[]").lower(), one["port"]),
)
levels = st.fixed_dictionaries({"servers": servers}, optional={"try": st.just(2)})
bodies = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["", "hash"]),
        "pass": st.sampled_from(["secret", "", None]),
        "x_note": st.lists(st.integers(), max_size=2),
        "mode_opts": st.just({"x_why": 1}),
    },
)
upstreams = st.tuples(
    bodies,
    st.fixed_dictionaries({"servers": servers})
    | st.fixed_dictionaries({"cluster": st.lists(levels, min_size=1, max_size=1)})
    | st.fixed_dictionaries({"cluster": levels.map(lambda level: {"x_dc": level})}),
).map(lambda parts: {**parts[0], **parts[1]})


@settings(derandomize=True, deadline=None, database=None)
@given(upstreams)
def test_answer_can_be_sent_back(body: dict[str, Any]) -> None:
    """An upstream stays equal, to the last key, when its answer is sent back."""
    upstream = merged(None, body)
    again = merged(upstream, answer(upstream))
    assert again == upstream
    assert again.digest == upstream.digest


def test_either_place_may_be_edited() -> None:
    """The unedited place does not count; if both were edited, the call is refused."""
    current = parse_upstream("a", {"servers": [server(1)], "mode": "hash", "try": 2}, "x")
    body = answer(current)
    body["servers"].append(server(2))
    assert [one.port for one in merged(current, body).servers] == [1, 2]
    body = answer(current)
    body["cluster"][0]["servers"].append(server(2))
    del body["mode"]
    edited = merged(current, body)
    assert [one.port for one in edited.servers] == [1, 2]
    # A body with cluster replaces the whole upstream.
    assert (edited.mode, edited.tries) == ("wrr", 2)
    body["servers"].append(server(3))
    with pytest.raises(ConfigError, match='"servers" or "cluster", and not both'):
        merged(current, body)


def test_one_answer_makes_another_upstream() -> None:
    """An answer can be sent under another name, without a former upstream."""
    shown = answer(parse_upstream("b", {"servers": [server(1), server(2, backup=True)]}, "x"))
    copy = merged(None, shown)
    assert [[one.port for one in level.servers] for level in copy.levels] == [[1], [2]]


@pytest.mark.parametrize("odd", [None, 5, "x", {}, [5], [{"servers": 5}], [{}]])
def test_odd_places_are_refused(odd: Any) -> None:
    """A wrong value in either place raises ConfigError and nothing else."""
    current = parse_upstream("a", {"servers": [server(1)]}, "x")
    for body in ({"servers": odd, "cluster": odd}, {"servers": [server(2)], "cluster": odd}):
        for known in (current, None):
            with pytest.raises(ConfigError):
                merged(known, body)


# Passwords.


def test_password_is_kept_and_not_shown() -> None:
    """The mask stands for the password when it comes back, and a new password replaces it."""
    body = {"servers": [server(1)], "typ": "mysql", "name": "db", "user": "me", "pass": "secret"}
    upstream = merged(None, body)
    assert upstream.source["pass"] == "secret"
    shown = answer(upstream)
    assert (shown["name"], shown["user"], shown["pass"]) == ("db", "me", HIDDEN)
    assert merged(upstream, shown).source["pass"] == "secret"
    assert merged(upstream, {"mode": "hash"}).source["pass"] == "secret"
    assert merged(upstream, {"mode": "hash", "pass": HIDDEN}).source["pass"] == "secret"
    assert merged(upstream, {**shown, "pass": "new"}).source["pass"] == "new"
    assert merged(upstream, {"pass": ""}).source["pass"] == ""
    assert "pass" not in merged(upstream, {"cluster": shown["cluster"]}).source


@pytest.mark.parametrize("known", [None, {}, {"pass": None}])
def test_mask_is_no_password(known: dict[str, Any] | None) -> None:
    """If no password is known, the mask would become the password itself."""
    current = None
    if known is not None:
        current = parse_upstream("a", {"servers": [server(1)], **known}, "x")
    line = "x.pass: expected the password, got what stands for one in answers"
    with pytest.raises(ConfigError) as caught:
        merged(current, {"servers": [server(1)], "pass": HIDDEN})
    assert caught.value.problems == (line,)
    with pytest.raises(ConfigError) as caught:
        parse_upstream("a", {"servers": [server(1)], "pass": HIDDEN}, "x")
    assert caught.value.problems == (line,)


def test_secret_of_a_balancer_is_kept_and_not_shown() -> None:
    """As for a password: the mask stands for ``mode_opts.secret`` when it comes back."""
    secret = "0123456789abcdef"
    body = {"servers": [server(1)], "mode": "sticky", "mode_opts": {"secret": secret}}
    upstream = merged(None, body)
    shown = answer(upstream)
    assert shown["mode_opts"] == {"secret": HIDDEN}
    assert merged(upstream, shown).mode_opts == {"secret": secret}
    options = {"secret": HIDDEN, "cookie": "c"}
    assert merged(upstream, {"mode_opts": options}).mode_opts == {"secret": secret, "cookie": "c"}
    with pytest.raises(ConfigError, match=r"x\.mode_opts\.secret: expected the secret, got what"):
        merged(None, {"servers": [server(1)], "mode_opts": options})
