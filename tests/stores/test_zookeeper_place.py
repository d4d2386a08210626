"""What may stand behind ``zookeeper:`` in a store's URL."""

from __future__ import annotations

import sys

import pytest

from slardar.errors import ConfigError
from slardar.plugins import open_store
from slardar.stores.shared import SharedStore
from slardar.stores.zookeeper import tree_at


@pytest.mark.parametrize(
    ("place", "hosts", "root"),
    [
        ("127.0.0.1:2181/slardar", "127.0.0.1:2181", "/slardar"),
        ("a.example:1,[::1]:65535/a/b/", "a.example:1,[::1]:65535", "/a/b"),
        ("a:2181/slardar?timeout=2.5", "a:2181", "/slardar"),
    ],
)
def test_place_that_is_taken(place: str, hosts: str, root: str) -> None:
    """Nothing is opened for it."""
    assert isinstance(open_store(f"zookeeper:{place}", None), SharedStore)
    assert repr(tree_at(place, None)) == f"<{root} in ZooKeeper at {hosts}>"


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("", "HOST:PORT,HOST:PORT/PATH"),
        ("a/slardar", "HOST:PORT"),
        ("a..b:1/slardar", "HOST:PORT"),
        ("a:0/slardar", "HOST:PORT"),
        ("a:65536/slardar", "HOST:PORT"),
        ("a:1,/slardar", "HOST:PORT"),
        ("a:1;b:1/slardar", "HOST:PORT"),
        ("//a:1/slardar", "HOST:PORT"),
        ("a:1", "a path such as /slardar"),
        ("a:1/", "a path such as /slardar"),
        ("a:1/a//b", "a path such as /slardar"),
        ("a:1/a/../b", "a path such as /slardar"),
        ("a:1/\x01", "a path such as /slardar"),
        ("a:1/zookeeper/x", "a path such as /slardar"),
        ("a:1/a?x=1", 'no option but timeout, got "x"'),
        ("a:1/a?timeout=", 'timeout: expected seconds from 1 to 60, got ""'),
        ("a:1/a?timeout=0.5", "seconds from 1 to 60"),
        ("a:1/a?timeout=nan", "seconds from 1 to 60"),
        ("a:1/a?timeout=1&timeout=x", "seconds from 1 to 60"),
    ],
)
def test_place_that_is_refused(place: str, problem: str) -> None:
    """With one line that says what was expected."""
    with pytest.raises(ConfigError) as caught:
        open_store(f"zookeeper:{place}", None)
    (line,) = caught.value.problems
    assert line.startswith("store: zookeeper: ")
    assert problem in line
    assert line.isprintable()


def test_password_is_not_in_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the environment; no message shows it."""
    for place in ("ops:secret@a:1/slardar", "a:1,ops:secret@b:1/slardar"):
        with pytest.raises(ConfigError, match="in ZOOKEEPER_AUTH, not in the URL") as caught:
            tree_at(place, None)
        assert "secret" not in str(caught.value)
    for wrong in ("secret", "secret:", ":secret", ":"):
        monkeypatch.setenv("ZOOKEEPER_AUTH", wrong)
        with pytest.raises(ConfigError, match="ZOOKEEPER_AUTH: expected USER:PASSWORD") as caught:
            tree_at("a:1/slardar", None)
        assert "secret" not in str(caught.value)
    monkeypatch.setenv("ZOOKEEPER_AUTH", "ops:sec:ret")
    assert "sec" not in repr(tree_at("a:1/slardar", None))


def test_kazoo_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the extra that installs it."""
    for name in list(sys.modules):
        if name.startswith(("kazoo", "slardar.stores.zookeeper_")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kazoo", None)
    with pytest.raises(ConfigError) as caught:
        open_store("zookeeper:127.0.0.1:2181/slardar", None)
    line = "this needs the package kazoo: pip install 'txslardar[zookeeper]'"
    assert caught.value.problems == (f"store: zookeeper: {line}",)
