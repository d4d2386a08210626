"""What is ZooKeeper's own: folders, users, sessions, threads, and servers that break."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from pathlib import Path
from struct import pack
from typing import Any
from unittest.mock import Mock

import pytest
import pytest_twisted
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionDropped, NoAuthError
from kazoo.protocol.serialization import Sync, Transaction
from kazoo.protocol.states import KazooState
from twisted.internet import reactor as running  # noqa: TID251
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, globalLogPublisher

from slardar.errors import StoreError
from slardar.stores import zookeeper_thread
from slardar.stores.tree import Content, Entry, LostRaceError, Write
from slardar.stores.zookeeper_plan import GUARD
from slardar.stores.zookeeper_session import Session
from slardar.stores.zookeeper_thread import LONGEST, Batch, KazooThread, Request
from slardar.stores.zookeeper_tree import ZooKeeperTree
from tests.integration.programs import Program, free_port
from tests.stores.zookeeper_server import ZooKeeper

pytestmark = pytest.mark.real

ROOTS = count(1)
#: Seconds within which whatever a test waits for must come.
PATIENCE = 20.0
reactor: Any = running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeper]:
    started = ZooKeeper(tmp_path_factory.mktemp("zookeeper"))
    yield started
    started.end()


@pytest.fixture
def other(server: ZooKeeper) -> Iterator[Any]:
    """Another program's client."""
    client = server.client()
    yield client
    client.stop()
    client.close()


class Trees:
    """Trees at one place, which are closed after the test."""

    def __init__(self, server: ZooKeeper) -> None:
        self.hosts = f"127.0.0.1:{server.port}"
        self.root = f"/{next(ROOTS)}/slardar"
        self.made: list[ZooKeeperTree] = []

    def make(self, kind: type[ZooKeeperTree] = ZooKeeperTree, **options: Any) -> ZooKeeperTree:
        tree = kind(options.pop("hosts", self.hosts), self.root, reactor, **options)
        self.made.append(tree)
        return tree


@pytest.fixture
def trees(server: ZooKeeper) -> Iterator[Trees]:
    made = Trees(server)
    yield made
    pytest_twisted.blockon(gatherResults([tree.close() for tree in made.made]))
    assert kazoos() == []


def kazoos() -> list[str]:
    """The threads of slardar's clients."""
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if "slardar-zookeeper" in name]


async def until(condition: Callable[[], Any], what: Callable[[], object] = str) -> None:
    """Wait for a condition."""
    end = reactor.seconds() + PATIENCE
    while not condition():
        assert reactor.seconds() < end, what()
        await deferLater(reactor, 0.005, lambda: None)


def values(content: Content) -> dict[str, bytes]:
    return {key: entry.value for key, entry in content.entries.items()}


class Told:
    """What a watch has told, in order."""

    def __init__(self, tree: ZooKeeperTree, seen: Content) -> None:
        self.contents: list[Content] = []
        self.reasons: list[str] = []
        tree.watch(seen, self.contents.append, self.reasons.append)

    async def content(self, wanted: dict[str, bytes]) -> Content:
        """Wait until a content with these values is the last that was told."""
        await until(
            lambda: self.contents and values(self.contents[-1]) == wanted,
            lambda: (self.contents[-1:], self.reasons),
        )
        return self.contents[-1]

    async def reason(self, words: str) -> None:
        """Wait for a failure with these words."""
        await until(lambda: any(words in one for one in self.reasons), lambda: self.reasons)


# Nodes.


@pytest_twisted.ensureDeferred
async def test_folder_is_no_key(trees: Trees, other: Any) -> None:
    """A node without data, whoever made it; with data it is one, and below it may be others."""
    tree = trees.make()
    other.create(f"{trees.root}/upstreams/a", b"1", makepath=True)
    other.create(f"{trees.root}/lua/modules.x", b"", makepath=True)
    other.create(f"{trees.root}/upstreams/a/below", b"2")
    told = Told(tree, await tree.read())
    assert values(await tree.read()) == {"upstreams/a": b"1", "upstreams/a/below": b"2"}
    other.set(f"{trees.root}/lua", b"3")
    other.set(f"{trees.root}/upstreams/a", b"")
    await told.content({"lua": b"3", "upstreams/a/below": b"2"})
    other.delete(f"{trees.root}/upstreams", recursive=True)
    await told.content({"lua": b"3"})


@pytest.mark.parametrize("value", [b"", b"\0", b"\0\0", b"\0a", b"a\0"])
@pytest_twisted.ensureDeferred
async def test_value_without_characters_is_a_value(trees: Trees, other: Any, value: bytes) -> None:
    """An empty one gets a zero byte, so that its node is no folder."""
    tree = trees.make()
    await tree.write([Write("a", value)])
    assert values(await trees.make().read()) == {"a": value}
    data, _stat = other.get(f"{trees.root}/a")
    assert data == (value if value.strip(b"\0") else value + b"\0")


@pytest_twisted.ensureDeferred
async def test_folders_stay(trees: Trees, other: Any) -> None:
    """Those that a write has made; the tree's own, too."""
    tree = trees.make()
    await tree.write([Write("a/b/c", b"1")])
    await tree.write([Write("a/b/c", None)])
    assert other.get_children(f"{trees.root}/a") == ["b"]
    assert await tree.write([Write("a/b/c", None)])
    # A key may be removed, and one be made below it, at once.
    await tree.write([Write("a", b"1")])
    await tree.write([Write("d", b"1")])
    await tree.write([Write("d", None), Write("d/e", b"2"), Write("a", None)])
    assert values(await tree.read()) == {"d/e": b"2"}


@pytest.mark.parametrize("key", ["", "a//b", "/a", "a/", ".", "a/..", "\x01", "\ud800", "\ue000"])
@pytest_twisted.ensureDeferred
async def test_key_that_zookeeper_does_not_take(trees: Trees, key: str) -> None:
    """It is refused with a line, before anything is sent."""
    tree = trees.make()
    with pytest.raises(StoreError, match=r"^[ -~]*: ZooKeeper takes no such key$"):
        await tree.write([Write("good", b""), Write(key, b"")])
    assert kazoos() == []


@pytest_twisted.ensureDeferred
async def test_request_that_zookeeper_does_not_take(trees: Trees) -> None:
    """ZooKeeper would close the connection, and nobody would know what was written."""
    tree = trees.make()
    with pytest.raises(StoreError, match=r"^a: ZooKeeper takes 900000 bytes, not 900001$"):
        await tree.write([Write("a", b"x" * 900_001)])
    with pytest.raises(StoreError, match=r"cannot write 2 keys at once: .* at most 1000000$"):
        await tree.write([Write("a", b"x" * 600_000), Write("b", b"x" * 600_000)])
    assert values(await tree.read()) == {}


# Races.


class Interrupted(ZooKeeperTree):
    """Somebody else does something between the look at the nodes and the transaction."""

    interrupt: Callable[[], Any] = staticmethod(lambda: None)
    commits = 0

    def _commit(self, session: Session, request: Transaction) -> Deferred[list[Any]]:
        self.commits += 1
        self.interrupt()
        return super()._commit(session, request)


@pytest.mark.parametrize("value", [b"lost", None])
@pytest_twisted.ensureDeferred
async def test_node_that_was_made_anew_is_another(
    trees: Trees, other: Any, value: bytes | None
) -> None:
    """Though its version is the expected one again."""
    tree: Any = trees.make(Interrupted)
    path = f"{trees.root}/a"
    other.create(path, b"1", makepath=True)
    index = (await tree.read()).entries["a"].index

    def make_anew() -> None:
        tree.interrupt = lambda: None
        other.delete(path)
        other.create(path, b"2")

    tree.interrupt = make_anew
    with pytest.raises(LostRaceError):
        await tree.write([Write("b", b"lost", 0), Write("a", value, index)])
    assert values(await tree.read()) == {"a": b"2"}
    assert other.get(path)[1].version == 0


@pytest_twisted.ensureDeferred
async def test_folder_that_became_a_key_is_a_lost_race(trees: Trees, other: Any) -> None:
    """For a writer that expects no key."""
    tree: Any = trees.make(Interrupted)
    other.create(f"{trees.root}/a/b", b"1", makepath=True)
    tree.interrupt = lambda: other.set(f"{trees.root}/a", b"2")
    with pytest.raises(LostRaceError):
        await tree.write([Write("a", b"lost", 0)])
    assert values(await tree.read()) == {"a": b"2", "a/b": b"1"}


@pytest_twisted.ensureDeferred
async def test_write_beside_others_is_made(trees: Trees, other: Any) -> None:
    """Nodes that others make or remove in the folder make no lost race."""
    tree: Any = trees.make(Interrupted)
    index = await tree.write([Write("a", b"1"), Write("c", b"1")])
    names = iter("xyz")

    def make() -> None:
        for name in names:
            other.create(f"{trees.root}/{name}", b"2")
            break

    tree.interrupt = make
    await tree.write([Write("a", b"2", index), Write("x", b"1"), Write("c", None)])
    assert tree.commits == 5
    assert values(await tree.read()) == {"a": b"2", "x": b"1", "y": b"2", "z": b"2"}
    assert not [name for name in other.get_children(trees.root) if GUARD in name]


@pytest_twisted.ensureDeferred
async def test_writer_that_is_always_late_gives_up(trees: Trees, other: Any) -> None:
    """After some tries, with a line; nothing is written."""
    tree: Any = trees.make(Interrupted)
    index = await tree.write([Write("a", b"1")])
    tree.interrupt = lambda: other.create(f"{trees.root}/b", b"", sequence=True)
    with pytest.raises(StoreError, match=r"others write all the time; nothing is written$"):
        await tree.write([Write("a", b"lost", index)])
    assert values(await tree.read()) == {"a": b"1"}


@pytest_twisted.ensureDeferred
async def test_storm_is_told_in_a_few_contents(trees: Trees, other: Any) -> None:
    """Each with the newest values, whether they come together or one after the other."""
    tree, writer = trees.make(), trees.make()
    await writer.write([Write("same", b"1")])
    seen = await tree.read()
    told = Told(tree, seen)
    for number in range(500):
        other.create_async(f"{trees.root}/s{number}", b"1")
    await until(lambda: told.contents and len(told.contents[-1].entries) == 501)
    assert len(told.contents) < 50
    assert told.contents[-1].entries["same"] is seen.entries["same"]
    told.contents.clear()
    begun = reactor.seconds()
    for number in range(100):
        await writer.write([Write("same", b"%d" % number)])
    await until(lambda: told.contents[-1].entries["same"].value == b"99")
    assert len(told.contents) <= (reactor.seconds() - begun) / 0.03 + 2


@pytest_twisted.ensureDeferred
async def test_watch_goes_on_from_what_was_seen(trees: Trees) -> None:
    """Also from a content out of another life; its objects are kept where nothing has changed."""
    tree = trees.make()
    index = await tree.write([Write("a", b"1"), Write("b", b"1")])
    told = Told(tree, Content(1, {"a": (known := Entry(b"1", index))}))
    content = await told.content({"a": b"1", "b": b"1"})
    assert content.entries["a"] is known


# Users.


@pytest_twisted.ensureDeferred
async def test_nodes_belong_to_the_user(trees: Trees, other: Any) -> None:
    """Others may neither read nor write them; the reason is told, and no password."""
    owner, stranger = trees.make(auth="ops:secret"), trees.make(auth="else:hidden")
    nobody = trees.make()
    await owner.write([Write("a", b"1")])
    assert values(await owner.read()) == {"a": b"1"}
    with pytest.raises(NoAuthError):
        other.get(f"{trees.root}/a")
    for tree, who in ((stranger, "for the user of ZOOKEEPER_AUTH"), (nobody, "without .*")):
        told = Told(tree, Content(0, {}))
        for call in (tree.read(), tree.write([Write("b", b"1")])):
            with pytest.raises(StoreError, match=f": not allowed {who}$") as raised:
                await call
            assert "secret" not in str(raised.value)
            assert "hidden" not in str(raised.value)
        await told.reason("not allowed")
    assert values(await owner.read()) == {"a": b"1"}


# Servers that break.


@pytest_twisted.ensureDeferred
async def test_expired_session_is_another_session(trees: Trees, server: ZooKeeper) -> None:
    """All is read anew, what has not changed is the same, and the watch goes on."""
    tree, writer = trees.make(), trees.make()
    await writer.write([Write("a", b"1")])
    seen = await tree.read()
    told = Told(tree, seen)
    client: Any = tree._session.live.client  # type: ignore[union-attr]
    identity = client.client_id
    # ZooKeeper expires a session that its client closes over another connection.
    twin = KazooClient(f"127.0.0.1:{server.port}", client_id=identity)
    twin.start()
    twin.stop()
    twin.close()
    await until(lambda: told.reasons)
    content = await told.content({"a": b"1"})
    assert content.entries["a"] is seen.entries["a"]
    assert client.client_id[0] != identity[0]
    await writer.write([Write("a", b"2")])
    await told.content({"a": b"2"})
    await tree.write([Write("a", b"3")])


@pytest_twisted.ensureDeferred
async def test_server_that_hangs(trees: Trees, server: ZooKeeper) -> None:
    """A call fails in time, also where others follow; the reason is told, also to a tree that asks
    nothing, and all is well once it goes on.  The reactor is never blocked, and a tree can be
    closed meanwhile."""
    tree, silent, busy = (trees.make(timeout=1) for _ in range(3))
    await busy.read()
    index = await tree.write([Write("a", b"1")])
    told, idle = Told(tree, await tree.read()), Told(silent, await silent.read())
    closing = trees.make()
    await closing.read()
    turns: list[float] = [reactor.seconds()]
    server.signal(signal.SIGSTOP)
    try:
        writing = tree.write([Write("a", b"2", index)])
        ending, begun = closing.close(), reactor.seconds()
        failures: list[Any] = []
        refused: list[Any] = []
        ends: list[float] = []
        writing.addErrback(failures.append)
        ending.addCallback(lambda _: ends.append(reactor.seconds()))
        while not (ends and failures and idle.reasons and refused):
            # kazoo sends no ping to a server to which it sends something else.
            busy.write([Write("b", b"1")]).addErrback(refused.append)
            await deferLater(reactor, 0.01, lambda: None)
            turns.append(reactor.seconds())
            assert turns[-1] < begun + PATIENCE
        assert ends[0] < begun + 2.5
        assert refused[0].getErrorMessage().endswith("no answer within 1 s")
        assert failures[0].check(StoreError)
        assert "no answer" in failures[0].getErrorMessage()
        await told.reason("no answer")
    finally:
        server.signal(signal.SIGCONT)
    await until(lambda: told.contents and idle.contents)
    assert max(b - a for a, b in pairwise(turns)) < 0.5
    assert values(told.contents[-1])["a"] in (b"1", b"2")
    await tree.write([Write("a", b"3")])
    await idle.content({"a": b"3"})


@pytest_twisted.ensureDeferred
async def test_server_that_lost_its_data(trees: Trees, server: ZooKeeper) -> None:
    """Its numbers begin anew, so it takes no session that has seen more; there are new ones."""
    tree = trees.make()
    index = await tree.write([Write("a", b"1")])
    told = Told(tree, await tree.read())
    server.kill()
    shutil.rmtree(server.folder / "data")
    server.begin_again()
    await told.content({})
    assert told.contents[-1].index < index
    await tree.write([Write("a", b"2", 0)])
    await told.content({"a": b"2"})


@pytest_twisted.ensureDeferred
async def test_server_that_is_killed_under_writes(trees: Trees, server: ZooKeeper) -> None:
    """Each write is answered, and made at most once."""
    tree = trees.make()
    await tree.write([Write("a", b"0")])
    before = (await tree.read()).entries["a"].index
    answers = [tree.write([Write(f"k{number}", b"1")]) for number in range(200)]
    await answers[0]
    made: list[int] = []
    lost: list[int] = []
    for number, answer in enumerate(answers):
        answer.addCallback(lambda _, number=number: made.append(number))
        answer.addErrback(
            lambda failure, number=number: (failure.trap(StoreError), lost.append(number))
        )
    server.kill()
    await until(lambda: len(made) + len(lost) == len(answers))
    server.begin_again()
    told = Told(tree, Content(0, {}))
    await until(lambda: told.contents)
    entries = told.contents[-1].entries
    assert entries["a"].index == before
    assert {f"k{number}" for number in made} <= set(entries)


@pytest_twisted.ensureDeferred
async def test_one_of_several_servers_is_enough(trees: Trees, server: ZooKeeper) -> None:
    """Whichever is tried first."""
    hosts = f"127.0.0.1:{free_port()},{trees.hosts},[::1]:{free_port()}"
    for _ in range(3):
        tree = trees.make(hosts=hosts)
        await until(lambda: True)
        assert values(await tree.read()) == {}


@pytest_twisted.ensureDeferred
async def test_no_server_is_told_soon(trees: Trees) -> None:
    """A start does not wait for the timeout; and the log is not filled with it."""
    lines: list[Any] = []

    def note(event: Any) -> None:
        if event["log_namespace"].startswith("slardar.stores.zookeeper"):
            lines.append(event)

    globalLogPublisher.addObserver(note)
    try:
        longest, zookeeper_thread.LONGEST = zookeeper_thread.LONGEST, 0.01
        tree = trees.make(hosts=f"127.0.0.1:{free_port()}")
        begun = reactor.seconds()
        with pytest.raises(StoreError, match=r"^ZooKeeper at 127\S*: Connection refused$"):
            await tree.read()
        assert reactor.seconds() < begun + 2
        told = Told(tree, Content(0, {}))
        await until(lambda: len(told.reasons) > 15)
        assert 0 < len(lines) <= 10
    finally:
        zookeeper_thread.LONGEST = longest
        globalLogPublisher.removeObserver(note)


class OldServer(Protocol):
    """A ZooKeeper before 3.6: it knows no such watch, and closes the connection."""

    def connectionMade(self) -> None:
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        while len(self._data) >= 4:
            size = 4 + int.from_bytes(self._data[:4], "big")
            if len(self._data) < size:
                return
            request, self._data = self._data[4:size], self._data[size:]
            if request[:4] == b"\0\0\0\0":
                self._answer(pack("!iiq i16s?", 0, 5000, 1, 16, b"", False))
                continue
            number, kind = request[:4], int.from_bytes(request[4:8], "big")
            if kind == Sync.type:
                self._answer(number + pack("!qi", 1, 0) + pack("!i1s", 1, b"/"))
            else:
                self._answer(number + pack("!qi", 1, -6))
                self.transport.loseConnection()  # type: ignore[union-attr]
                return

    def _answer(self, body: bytes) -> None:
        self.transport.write(pack("!i", len(body)) + body)  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_old_server_is_refused(trees: Trees) -> None:
    """With a line that says why."""
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await endpoint.listen(Factory.forProtocol(OldServer))
    try:
        tree = trees.make(hosts=f"127.0.0.1:{port.getHost().port}")
        told = Told(tree, Content(0, {}))
        await told.reason("it is older than 3.6, so it has no recursive watch")
        await tree.close()
    finally:
        await port.stopListening()


def test_connections_that_do_not_last_are_made_more_and_more_slowly() -> None:
    """kazoo alone would wait a tenth of a second each time."""
    thread = KazooThread(Mock(numbers=count(1)), "127.0.0.1:1", 5, None)
    delays = []
    for _ in range(12):
        thread._state(KazooState.CONNECTED)
        delays.append(thread.delay())
    assert delays[:2] == [0, 0]
    assert 0 < delays[2] < 0.5 < delays[5] < 3.5
    assert LONGEST / 2 <= delays[-1] <= LONGEST


# Threads.


@pytest_twisted.ensureDeferred
async def test_thread_ends_with_the_tree(trees: Trees, server: ZooKeeper) -> None:
    """There is one of it while the tree is used, whether or not there is a server."""
    for hosts in (trees.hosts, f"127.0.0.1:{free_port()}"):
        tree = trees.make(hosts=hosts)
        assert kazoos() == []
        Told(tree, Content(0, {}))
        assert kazoos() == ["slardar-zookeeper"]
        await tree.close()
        assert kazoos() == []


@pytest_twisted.ensureDeferred
async def test_kazoo_that_gives_up_is_begun_anew(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends its thread."""
    tree = trees.make()
    await tree.write([Write("a", b"1")])
    told = Told(tree, await tree.read())
    live: Any = tree._session.live  # type: ignore[union-attr]
    monkeypatch.setattr(live.client._connection, "_read_socket", lambda _: 1 / 0)
    await told.reason("ZeroDivisionError")
    await told.content({"a": b"1"})
    assert tree._session.live is not live  # type: ignore[union-attr]
    await tree.write([Write("a", b"2")])
    await told.content({"a": b"2"})


def test_request_of_an_earlier_connection_is_never_sent() -> None:
    """It waits in kazoo's queue if the connection ends at the wrong moment."""
    live = Mock(number=2)
    request = Request(Sync("/"), live, 2, Batch(1), 0)
    assert request.serialize()
    live.number = 3
    with pytest.raises(ConnectionDropped):
        request.serialize()


@pytest_twisted.ensureDeferred
async def test_calls_in_a_row_end_with_the_tree(trees: Trees) -> None:
    """Those that were called before are answered; none of them begins anew."""
    tree = trees.make()
    await tree.write([Write("a", b"1")])
    reads = [tree.read() for _ in range(5)]
    write = tree.write([Write("a", b"2")])
    Told(tree, Content(0, {}))
    closings = [tree.close(), tree.close()]
    for closing in closings:
        await closing
        assert all(call.called for call in (*reads, write))
    assert kazoos() == []
    assert values(await reads[-1])["a"] in (b"1", b"2")
    assert values(await tree.read()) == {"a": b"2"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Cannot resolve a.example: .*not known"),
        (UnicodeError("label too long"), "UnicodeError: label too long"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_name_that_cannot_be_looked_up(
    trees: Trees, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    """The reason is told soon, and again, whether or not kazoo survives it."""
    monkeypatch.setattr(socket, "getaddrinfo", Mock(side_effect=error))
    tree = trees.make(hosts="a.example:1")
    told = Told(tree, Content(0, {}))
    begun = reactor.seconds()
    with pytest.raises(StoreError, match=f"^ZooKeeper at a.example:1: {reason}$"):
        await tree.read()
    assert reactor.seconds() < begun + 3
    await until(lambda: len(told.reasons) > 2)
    await tree.close()


def test_connection_that_is_not_accepted() -> None:
    """It ends in time with a reason, and at once when the tree is closed."""
    handler = KazooThread(Mock(numbers=count(1)), "127.0.0.1:1", 5, None).handler
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        with socket.create_connection(listening.getsockname()):
            begun = time.monotonic()
            with pytest.raises(OSError, match="Connection timed out"):
                handler.create_connection(listening.getsockname(), 0.1)
            timer = threading.Timer(0.1, handler.abort)
            timer.start()
            with pytest.raises(OSError, match=r"^(?!.*timed out)"):
                handler.create_connection(listening.getsockname(), PATIENCE)
            assert time.monotonic() < begun + PATIENCE / 2
            timer.join()
            with pytest.raises(OSError, match="canceled"):
                handler.create_connection(listening.getsockname(), PATIENCE)


SCRIPT = """
import sys
from twisted.internet import reactor
from slardar.stores.tree import Content
from slardar.stores.zookeeper_tree import ZooKeeperTree

tree = ZooKeeperTree(sys.argv[1], "/slardar", reactor)
failed = lambda reason: print("failed", reason, flush=True)
reactor.callWhenRunning(tree.watch, Content(0, {}), print, failed)
reactor.callLater(float(sys.argv[2]), reactor.stop)
reactor.run()
print("stopped", flush=True)
"""


def test_process_ends_while_zookeeper_is_away(tmp_path: Path) -> None:
    """Though nobody has closed the tree."""
    hosts = f"127.0.0.1:{free_port()}"
    program = Program([sys.executable, "-c", SCRIPT, hosts, "0.3"], tmp_path)
    try:
        program.wait_for("^failed ZooKeeper at .*: Connection refused$")
        program.wait_for("^stopped$")
        assert program.wait(5) == 0, program.output
        assert "Traceback" not in program.output
    finally:
        program.end()


@pytest_twisted.ensureDeferred
async def test_mistake_of_slardar_is_not_the_end_of_the_watch(trees: Trees) -> None:
    """It is logged and told, and the content is told again."""
    tree = trees.make()
    seen = await tree.read()
    told: list[dict[str, bytes]] = []
    reasons: list[str] = []

    def changed(content: Content) -> None:
        told.append(values(content))
        if len(told) == 1:
            raise AssertionError("a mistake")

    with capturedLogs() as logged:
        tree.watch(seen, changed, reasons.append)
        await trees.make().write([Write("a", b"1")])
        await until(lambda: len(told) == 2)
    assert told == [{"a": b"1"}] * 2
    (reason,) = reasons
    assert reason.endswith("AssertionError: a mistake")
    assert any("log_failure" in event for event in logged)
