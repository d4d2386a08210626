"""etcd's keys as a tree, with a real etcd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from slardar.errors import StoreError
from slardar.stores.etcd import EtcdTree, tree_at
from slardar.stores.etcd_client import Gateway
from slardar.stores.etcd_exchange import Member
from slardar.stores.tree import LostRaceError, Write
from tests.integration.programs import free_port
from tests.stores.etcd_server import Etcd, HttpProxy, Told, reactor, until

pytestmark = pytest.mark.real

#: A path for each test, so that all can use one etcd.
_paths = (f"/t{n}" for n in count())


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """An etcd that no test breaks."""
    server = Etcd(tmp_path_factory.mktemp("etcd")).ready()
    yield server
    server.end()


class Place:
    """A new path in an etcd, and trees there."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.path = next(_paths)
        self.trees: list[EtcdTree] = []

    def tree(self, *ports: int, options: str = "") -> EtcdTree:
        """A tree, through these ports if any are given."""
        hosts = ",".join(f"127.0.0.1:{one}" for one in ports or (self.etcd.port,))
        tree = tree_at(f"http://{hosts}{self.path}/{options}", reactor)
        self.trees.append(tree)
        return tree

    def wary(self, port: int) -> EtcdTree:
        """A tree that looks every 0.1 s whether its watch misses anything."""
        gateway = Gateway([Member("127.0.0.1", port)], reactor)
        tree = EtcdTree(gateway, f"{self.path}/".encode(), reactor, (0.1, 0.1), 0.1)
        self.trees.append(tree)
        return tree

    def put(self, key: str, value: bytes | str) -> int:
        """Write a key from outside."""
        return self.etcd.put(f"{self.path}/{key}", value)

    def remove(self, key: str) -> int:
        """Remove a key from outside."""
        return self.etcd.remove(f"{self.path}/{key}")


@pytest.fixture
def place(etcd: Etcd) -> Iterator[Place]:
    """A place of its own for a test; its trees are closed after it."""
    made = Place(etcd)
    yield made
    for tree in made.trees:
        pytest_twisted.blockon(tree.close())


@pytest.fixture
def proxy(etcd: Etcd) -> Iterator[HttpProxy]:
    """A proxy in front of etcd."""
    made = HttpProxy(etcd.port)
    pytest_twisted.blockon(ensureDeferred(made.heal()))
    yield made
    pytest_twisted.blockon(ensureDeferred(made.cut()))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[list[Etcd]]:
    """The servers of one test, which may break them; they are ended after it."""
    servers: list[Etcd] = []
    yield servers
    for one in servers:
        one.end()


async def retried(call: Callable[[], Deferred[Any]]) -> None:
    """Wait until a call works: an election may be under way."""
    for _ in range(50):
        try:
            await call()
        except StoreError:
            await deferLater(reactor, 0.1, lambda: None)
        else:
            return
    await call()


# Reading and writing.


@pytest_twisted.ensureDeferred
async def test_what_is_written_is_read(place: Place) -> None:
    """Entries have the index that write has answered; others' keys are not seen."""
    tree = place.tree()
    assert not (await tree.read()).entries
    place.etcd.put(f"{place.path}x/a", "not ours")
    place.etcd.put(f"{place.path}/", "the place itself")
    first = await tree.write([Write("a", b"1", 0), Write("b/c", b"\x00\xff", 0), Write("e", b"")])
    second = await tree.write([Write("a", b"2", first), Write("b/c", None, first)])
    content = await tree.read()
    assert {key: (one.value, one.index) for key, one in content.entries.items()} == {
        "a": (b"2", second),
        "e": (b"", first),
    }
    assert first < second <= content.index


@pytest_twisted.ensureDeferred
async def test_lost_race_writes_nothing(place: Place) -> None:
    """One key that is not as expected keeps the others from being written."""
    tree = place.tree()
    index = await tree.write([Write("a", b"1"), Write("b", b"1")])
    place.put("a", "theirs")
    for expected in (index, 0):
        with pytest.raises(LostRaceError, match="somebody else has written meanwhile"):
            await tree.write([Write("a", b"2", expected), Write("b", b"2", index)])
    with pytest.raises(LostRaceError):
        await tree.write([Write("c", None, index)])
    entries = (await tree.read()).entries
    assert {key: one.value for key, one in entries.items()} == {"a": b"theirs", "b": b"1"}


@pytest_twisted.ensureDeferred
async def test_limits_are_those_that_etcd_takes(place: Place) -> None:
    """As many keys and bytes as the tree says; more is one clear line, and not sent."""
    tree = place.tree()
    each = tree.max_bytes // tree.max_writes
    names = [f"{n:03}" + "k" * 250 for n in range(tree.max_writes)]
    await tree.write([Write(name, b"v" * (each - len(name)), 0) for name in names])
    await tree.write([Write("a" * 1000, b"v" * tree.max_value, 0)])
    assert len((await tree.read()).entries) == tree.max_writes + 1
    with pytest.raises(StoreError, match=r"1700\d{3} bytes at a time are too many for etcd"):
        await tree.write([Write("b", b"v" * 1_700_000)])
    with pytest.raises(StoreError, match="129 keys at a time are too many"):
        await tree.write([Write(f"{n}", b"") for n in range(129)])
    with pytest.raises(StoreError, match=r"duplicate key given in txn request$"):
        await tree.write([Write("b", b"1"), Write("b", b"2")])
    assert "b" not in (await tree.read()).entries


@pytest_twisted.ensureDeferred
async def test_large_tree_is_read_in_pages(
    place: Place, monkeypatch: pytest.MonkeyPatch, proxy: HttpProxy
) -> None:
    """5,000 keys within 2 s; pages that are too large are asked for again, smaller."""
    tree = place.tree(proxy.port)
    for start in range(0, 5000, 125):
        await tree.write([Write(f"k{n:04}", b"v" * 200) for n in range(start, start + 125)])
    del proxy.paths[:]
    began = reactor.seconds()
    content = await tree.read()
    assert reactor.seconds() - began < 2
    assert len(proxy.paths) == 10
    assert list(content.entries) == [f"k{n:04}" for n in range(5000)]
    monkeypatch.setattr("slardar.stores.etcd_client.MAX_ANSWER", 100_000)
    assert await tree.read() == content
    monkeypatch.setattr("slardar.stores.etcd_client.MAX_ANSWER", 200)
    with pytest.raises(StoreError, match=r"its answer is larger than 200 bytes$"):
        await tree.read()


# The watch.


@pytest_twisted.ensureDeferred
async def test_watch_tells_of_every_change(place: Place) -> None:
    """What one transaction has written comes at once, and what has not changed is the object
    that was there before."""
    tree = place.tree()
    await tree.write([Write("a", b"1"), Write("b", b"1")])
    seen = await tree.read()
    told = Told(tree, seen)
    place.put("c", "1")
    await told.until(a="1", b="1", c="1")
    index = await tree.write([Write("a", None), Write("c", b"2"), Write("d", b"\xff")])
    await told.until(b="1", c="2", d=b"\xff")
    assert len(told.contents) == 3
    assert told.contents[-1].index == index
    assert told.contents[-1].entries["b"] is seen.entries["b"]
    assert not told.reasons


@pytest_twisted.ensureDeferred
async def test_watch_begins_with_what_was_written_since(place: Place) -> None:
    """Nothing is lost between read and watch, and what was compacted meanwhile is read anew."""
    tree = place.tree()
    await tree.write([Write("a", b"1"), Write("b", b"1")])
    seen = await tree.read()
    place.put("a", "2")
    told = Told(tree, seen)
    await told.until(a="2", b="1")
    await tree.close()
    place.remove("a")
    place.etcd.compact(place.put("c", "1"))
    later = Told(tree, seen)
    await later.until(b="1", c="1")
    assert later.contents[-1].entries["b"] is seen.entries["b"]
    assert not later.reasons
    assert len(told.contents) == 2


@pytest_twisted.ensureDeferred
async def test_watch_that_is_cut_goes_on(place: Place, proxy: HttpProxy) -> None:
    """From the last revision, without reading all keys again, and without a word of failure."""
    tree = place.tree(proxy.port)
    told = Told(tree, await tree.read())
    place.put("a", "1")
    await told.until(a="1")
    for n in range(3):
        await proxy.answered("/v3/watch")
        del proxy.paths[:]
        await proxy.break_off("/v3/watch")
        place.put("a", f"cut {n}")
        await told.until(a=f"cut {n}")
        await until(lambda: "/v3/kv/range" in proxy.paths)
        assert proxy.paths == ["/v3/watch", "/v3/kv/range"]
    assert len(told.contents) == 5
    assert not told.reasons


@pytest_twisted.ensureDeferred
async def test_watch_that_goes_silent_is_begun_again(place: Place, proxy: HttpProxy) -> None:
    """A proxy that has forgotten a connection costs a change some time, and no more."""
    tree = place.wary(proxy.port)
    told = Told(tree, await tree.read())
    place.put("a", "1")
    place.put("b", "1")
    await told.until(a="1", b="1")
    await proxy.silence("/v3/watch")
    place.put("a", "2")
    await told.until(a="2", b="1")
    await proxy.silence("/v3/watch")
    place.remove("b")
    await told.until(a="2")
    assert not told.reasons


@pytest_twisted.ensureDeferred
async def test_check_finds_nothing_where_nothing_is_missed(place: Place, proxy: HttpProxy) -> None:
    """The watch stays, and others may compact what it has seen."""
    tree = place.wary(proxy.port)
    await tree.write([Write("a", b"1"), Write("b", b"1")])
    told = Told(tree, await tree.read())
    await until(lambda: "/v3/watch" in proxy.paths)
    del proxy.paths[:]
    for n in range(20):
        place.put("a", str(n))
        place.etcd.put("/elsewhere", str(n))
        await told.until(a=str(n), b="1")
    place.remove("b")
    place.etcd.compact(place.etcd.put("/elsewhere", "last"))
    checks = len(proxy.paths) + 3
    await until(lambda: len(proxy.paths) >= checks)
    assert "/v3/watch" not in proxy.paths
    await proxy.break_off("/v3/watch")
    place.put("c", "1")
    await told.until(a="19", c="1")
    assert not told.reasons


@pytest_twisted.ensureDeferred
async def test_watch_comes_through_a_slow_connection(place: Place, proxy: HttpProxy) -> None:
    """A value in many small pieces is one change."""
    tree = place.tree(proxy.port)
    told = Told(tree, await tree.read())
    await until(lambda: "/v3/watch" in proxy.paths)
    proxy.speed = 3000
    place.put("a", b"v" * 100_000)
    place.put("b", b"w" * 10)
    await told.until(a=b"v" * 100_000, b=b"w" * 10)
    assert all(set(one.entries) in (set(), {"a"}, {"a", "b"}) for one in told.contents)


@pytest_twisted.ensureDeferred
async def test_many_large_values_at_once_are_told(place: Place) -> None:
    """etcd splits them; each content that is told is complete for its revision."""
    tree = place.tree()
    seen = await tree.read()
    for n in range(6):
        place.put(f"k{n}", b"%d" % n * 1_000_000)
    told = Told(tree, seen)
    await until(lambda: len(told.values) == 6)
    assert told.values == {f"k{n}": b"%d" % n * 1_000_000 for n in range(6)}
    for content in told.contents[1:]:
        assert list(content.entries) == [f"k{n}" for n in range(len(content.entries))]


# etcd that cannot be asked.


@pytest_twisted.ensureDeferred
async def test_etcd_that_says_nothing_is_told(place: Place, proxy: HttpProxy) -> None:
    """Calls fail in time, in one line; the watch tells so, and that all is well again."""
    tree = place.tree(proxy.port, options="?timeout=0.2")
    seen = await tree.read()
    proxy.swallows = lambda path: True
    message = f"etcd http://127.0.0.1:{proxy.port}: no answer within 0.2 s"
    with pytest.raises(StoreError) as caught:
        await tree.read()
    assert str(caught.value) == message
    with pytest.raises(StoreError) as caught:
        await tree.write([Write("a", b"1")])
    assert str(caught.value) == f"{message}; nobody knows whether it was done"
    told = Told(tree, seen)
    await until(lambda: len(told.reasons) >= 2)
    assert set(told.reasons) == {message}
    assert len(told.contents) == 1
    proxy.swallows = lambda path: False
    await until(lambda: len(told.contents) == 2)
    assert told.contents[1].entries == {}


@pytest_twisted.ensureDeferred
async def test_close_ends_everything_at_once(place: Place, proxy: HttpProxy) -> None:
    """Calls that wait fail, no connection stays, and nothing is told any more.  After that the
    tree can be used again."""
    tree = place.tree(proxy.port)
    told = Told(tree, await tree.read())
    await until(lambda: "/v3/watch" in proxy.paths)
    proxy.swallows = lambda path: path != "/v3/watch"
    calls: list[Deferred[Any]] = [tree.read(), tree.write([Write("a", b"1")])]
    await until(lambda: len(proxy.fronts) == 3)
    await tree.close()
    for call in calls:
        with pytest.raises(StoreError, match=r"closed$"):
            await call
    await until(lambda: not proxy.connections)
    await tree.close()
    place.put("a", "2")
    proxy.swallows = lambda path: False
    assert (await tree.read()).entries["a"].value == b"2"
    assert len(told.contents) == 1
    assert not told.reasons


@pytest_twisted.ensureDeferred
async def test_etcd_is_killed_and_comes_back(place: Place, own: list[Etcd], tmp_path: Path) -> None:
    """With what it has on the disk, or empty: each is told as soon as it can be asked."""
    place.etcd = etcd = Etcd(tmp_path / "own").ready()
    own.append(etcd)
    tree = place.tree()
    place.put("b", "1")
    place.put("a", "1")
    told = Told(tree, await tree.read())
    etcd.kill()
    await until(lambda: told.reasons)
    assert told.reasons[0].endswith("Connection was refused by other side: 111: Connection refused")
    for call in (tree.read(), tree.write([Write("a", b"2")])):
        with pytest.raises(StoreError, match=r"Connection refused$"):
            await call
    place.etcd = etcd = etcd.again()
    own.append(etcd)
    await until(lambda: len(told.contents) == 2)
    assert told.contents[1].entries == told.contents[0].entries
    index = await tree.write([Write("a", b"2", told.contents[0].entries["a"].index)])
    await told.until(a="2", b="1")
    etcd.kill()
    (etcd.folder / "one").rename(etcd.folder / "old")
    place.etcd = etcd = etcd.again()
    own.append(etcd)
    await told.until()
    assert told.contents[-1].index < index
    place.put("c", "1")
    await told.until(c="1")


@pytest_twisted.ensureDeferred
async def test_snapshot_of_an_older_state_is_noticed(
    place: Place, own: list[Etcd], proxy: HttpProxy, tmp_path: Path
) -> None:
    """Even if etcd is back before anybody has missed it."""
    older = Etcd(tmp_path / "older").ready()
    own.append(older)
    older.put(f"{place.path}/a", "old")
    for n in range(3):
        place.put("a", str(n))
    tree = place.tree(proxy.port)
    told = Told(tree, await tree.read())
    await proxy.answered("/v3/watch")
    proxy.target = older.port
    await proxy.break_off("/v3/watch")
    await told.until(a="old")
    assert not told.reasons


@pytest_twisted.ensureDeferred
async def test_members_are_asked_in_turn(place: Place, own: list[Etcd], tmp_path: Path) -> None:
    """One of three may go; where two are gone, the third says that it has no leader."""
    peers = [(name, free_port()) for name in "abc"]
    own += [Etcd(tmp_path / "cluster", name=name, peers=peers) for name, _ in peers]
    for one in own:
        one.ready()
    a, b, c = own[:3]
    place.etcd = c
    tree = place.tree(a.port, b.port, c.port, options="?timeout=2")
    told = Told(tree, await tree.read())
    await tree.write([Write("a", b"1", 0)])
    await told.until(a="1")
    a.kill()
    await retried(lambda: tree.write([Write("b", b"1")]))
    await told.until(a="1", b="1")
    b.kill()
    await until(lambda: told.reasons)
    await until(lambda: "etcdserver: no leader" in told.reasons[-1], lambda: str(told.reasons))
    with pytest.raises(StoreError):
        await tree.write([Write("c", b"1")])
    own.append(a.again())
    await retried(lambda: tree.write([Write("c", b"1")]))
    await told.until(a="1", b="1", c="1")
