"""A tree in a real Consul that is killed, restored, slow, split or refuses: nothing ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, task, threads  # noqa: TID251

from slardar.errors import StoreError
from slardar.stores import consul_tree
from slardar.stores.consul import from_place, read_place
from slardar.stores.consul_tree import ConsulTree
from slardar.stores.tree import Content, Entry, LostRaceError, NotWrittenError, Write
from slardar.testing.stores import change_of
from tests.certificates import Authority
from tests.consul_agent import ConsulAgent, ConsulCluster
from tests.integration.programs import free_port
from tests.stores.proxy import Proxy
from tests.txconsul.test_hostile import Server

pytestmark = pytest.mark.real

ROOT = "root-of-the-tests"
PATIENCE = 30.0


class Followed:
    """A tree, and what its watch tells."""

    def __init__(self, url: str, token: str = "") -> None:
        self.tree = ConsulTree(read_place(url, token), reactor)
        self.told: list[Content] = []
        self.reasons: list[str] = []

    async def start(self) -> None:
        """Read, and watch from there."""
        self.tree.watch(await self.tree.read(), self.told.append, self.reasons.append)

    async def holds(self, **wanted: bytes) -> None:
        """Wait until just these values are told."""
        await until(lambda: self.told and values(self.told[-1]) == wanted, lambda: self.told[-1:])


def values(content: Content) -> dict[str, bytes]:
    """The values by key."""
    return {key: one.value for key, one in content.entries.items()}


async def until(condition: Callable[[], Any], shown: Callable[[], Any] = lambda: "") -> None:
    """Wait until it is true."""
    end = reactor.seconds() + PATIENCE
    while not condition():
        assert reactor.seconds() < end, f"it does not come true: {shown()}"
        await task.deferLater(reactor, 0.01)


@pytest_twisted.async_yield_fixture
async def follow() -> AsyncIterator[Callable[..., Followed]]:
    """Makes trees, which are closed after the test."""
    made: list[Followed] = []

    def make(url: str, token: str = "") -> Followed:
        made.append(Followed(url, token))
        return made[-1]

    yield make
    for one in made:
        await one.tree.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ConsulAgent]]:
    """Starts agents of the test's own."""
    agents: list[ConsulAgent] = []

    def make(**options: Any) -> ConsulAgent:
        agents.append(ConsulAgent(tmp_path / f"c{len(agents)}", **options))
        return agents[-1]

    yield make
    for agent in agents:
        agent.end()


@pytest_twisted.async_yield_fixture
async def proxy(consul: ConsulAgent) -> AsyncIterator[Proxy]:
    """A way to the agent of all tests."""
    made = Proxy(consul.port)
    await made.heal()
    yield made
    await made.cut()


@pytest_twisted.ensureDeferred
async def test_killed_and_started_again(start: Any, follow: Any) -> None:
    """The reason is told while it is away, and the content when it is back."""
    agent = start(persistent=True)
    agent.put("c/a", "1")
    followed = follow(f"http://{agent.address}/c/")
    await followed.start()
    agent.kill()
    await until(lambda: followed.reasons)
    assert f"Consul at 127.0.0.1:{agent.port}: " in followed.reasons[0]
    with pytest.raises(NotWrittenError, match="Connection was refused"):
        await followed.tree.write([Write("a", b"2")])
    followed.told.clear()
    await threads.deferToThread(agent.start)
    await followed.holds(a=b"1")
    index = await followed.tree.write([Write("a", b"2", followed.told[-1].entries["a"].index)])
    await followed.holds(a=b"2")
    assert followed.told[-1].entries["a"].index == index


@pytest_twisted.ensureDeferred
async def test_started_again_without_its_state(start: Any, follow: Any) -> None:
    """That it is empty is told as it is: somebody else decides what to make of it."""
    agent = start()
    agent.put("c/a", "1")
    followed = follow(f"http://{agent.address}/c/")
    await followed.start()
    await threads.deferToThread(agent.restart)
    await followed.holds()
    assert followed.reasons
    agent.put("c/a", "2")
    await followed.holds(a=b"2")


@pytest_twisted.ensureDeferred
async def test_restored_to_an_older_index(start: Any, follow: Any) -> None:
    """What is there again is told, by the watch that was waiting for more."""
    agent = start()
    agent.put("c/a", "1")
    agent.put("c/b", "1")
    saved = agent.request("GET", "/v1/snapshot").body
    agent.put("c/a", "2")
    agent.delete("c/b")
    followed = follow(f"http://{agent.address}/c/")
    await followed.start()
    assert agent.request("PUT", "/v1/snapshot", saved).status == 200
    await followed.holds(a=b"1", b=b"1")
    agent.put("c/a", "3")
    await followed.holds(a=b"3", b=b"1")


@pytest_twisted.ensureDeferred
async def test_tokens_without_permission(start: Any, follow: Any, tmp_path: Path) -> None:
    """Wrong, without permission, revoked or none: the reason is told without the token, and no
    place is taken for empty.  A new token in the file is taken by itself."""
    agent = start(token=ROOT)
    agent.put("c/a", "1")
    reads, _ = agent.new_token('key_prefix "c/" { policy = "read" }')
    other, _ = agent.new_token('key_prefix "d/" { policy = "write" }')
    url = f"http://{agent.address}/c/?wait=1s"
    wrong = "22222222-2222-2222-2222-222222222222"
    for token, said in (
        (wrong, "403 ACL not found"),
        (other, "403 Permission denied"),
        ("", "403"),
    ):
        with pytest.raises(StoreError, match=said) as caught:
            await follow(url, token).tree.read()
        assert not token or token not in str(caught.value)
    for token in (reads, other):
        with pytest.raises(NotWrittenError, match="denied: the token may not write here"):
            await follow(url, token).tree.write([Write("a", b"2")])
    file = tmp_path / "token"
    with pytest.raises(StoreError, match=f"^{file}: No such file or directory$"):
        await follow(f"{url}&token_file={file}").tree.read()
    writes, accessor = agent.new_token('key_prefix "c/" { policy = "write" }')
    file.write_text(f"{writes}\n")
    followed = follow(f"{url}&token_file={file}")
    await followed.start()
    await followed.tree.write([Write("a", b"2")])
    await followed.holds(a=b"2")
    agent.revoke(accessor)
    await until(lambda: followed.reasons)
    assert "403 ACL not found" in followed.reasons[0]
    assert writes not in followed.reasons[0]
    followed.told.clear()
    file.write_text(reads)
    await followed.holds(a=b"2")


@pytest.mark.parametrize(
    "body",
    [
        b"\x1b[31m\r\nversion 7 " + ROOT.encode() * 40,
        b"x" * 290 + ROOT.encode(),
        b'{"Errors": [{"OpIndex": 0, "What": "\\u001b[31m' + ROOT.encode() + b'"}]}',
    ],
)
@pytest.mark.parametrize("status", [b"500 No", b"403 No", b"409 No", b"200 OK"])
@pytest_twisted.ensureDeferred
async def test_what_consul_says_is_one_line_without_the_token(
    follow: Any, body: bytes, status: bytes
) -> None:
    """Also if it repeats the token, or wants to write to the terminal."""
    server = Server(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
    tree = follow(f"http://127.0.0.1:{server.listen()}/c/", ROOT).tree
    try:
        for asked in (tree.read, lambda: tree.write([Write("a", b"2")])):
            with pytest.raises((StoreError, LostRaceError)) as caught:
                await asked()
            text = str(caught.value)
            assert text.isprintable()
            # No part of it, either.
            assert ROOT[:8] not in text
        assert ROOT.encode() in server.requests[0]
    finally:
        await server.end()


@pytest_twisted.ensureDeferred
async def test_slow_consul(
    consul: ConsulAgent, proxy: Proxy, follow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow one is waited for; one that is too slow is an error, and changes are told later."""
    monkeypatch.setattr(consul_tree, "_TIMEOUT", 1.0)
    followed = follow(f"http://127.0.0.1:{proxy.port}/slow/?wait=1s")
    proxy.delay = 0.05
    await followed.start()
    await followed.tree.write([Write("a", b"1", 0)])
    await followed.holds(a=b"1")
    assert not followed.reasons
    proxy.delay = 1.1
    with pytest.raises(StoreError, match="no answer within 1 seconds") as caught:
        await followed.tree.write([Write("a", b"2")])
    assert not isinstance(caught.value, NotWrittenError)
    proxy.delay = 0
    consul.put("slow/a", "3")
    await followed.holds(a=b"3")


@pytest_twisted.ensureDeferred
async def test_one_agent_of_several_is_down(consul: ConsulAgent, proxy: Proxy, follow: Any) -> None:
    """Nobody notices: not at the start, and not when it breaks under a watch."""
    agents = f"127.0.0.1:{free_port()},127.0.0.1:{proxy.port},{consul.address}"
    followed = follow(f"http://{agents}/several/")
    await followed.start()
    await followed.tree.write([Write("a", b"1", 0)])
    await followed.holds(a=b"1")
    assert proxy.accepted
    await proxy.cut()
    await followed.tree.write([Write("a", b"2")])
    consul.put("several/b", "1")
    await followed.holds(a=b"2", b=b"1")
    assert not followed.reasons


@pytest_twisted.ensureDeferred
async def test_another_server_is_elected(tmp_path: Path, follow: Any) -> None:
    """Of three servers the one that leads is killed: what is written then is told, and the tree
    can be written again."""
    cluster = await threads.deferToThread(ConsulCluster, tmp_path)
    try:
        leader = await threads.deferToThread(cluster.leader)
        leader.put("c/a", "1")
        # The one that leads is asked first.
        agents = sorted(cluster.agents, key=lambda agent: agent is not leader)
        place = ",".join(agent.address for agent in agents)
        followed = follow(f"http://{place}/c/")
        loose = follow(f"http://{place}/c/?stale=1")
        await followed.start()
        await loose.start()
        leader.kill()
        second = await threads.deferToThread(cluster.leader)
        assert second is not leader
        await threads.deferToThread(second.wait_for_leader)
        second.put("c/b", "1")
        await followed.holds(a=b"1", b=b"1")
        await loose.holds(a=b"1", b=b"1")
        await followed.tree.write([Write("b", b"2", followed.told[-1].entries["b"].index)])
        await loose.holds(a=b"1", b=b"2")
    finally:
        cluster.end()


@pytest_twisted.ensureDeferred
async def test_deletes_and_renames(consul: ConsulAgent, follow: Any) -> None:
    """By whatever means: one key, all below a folder, or another name for a value."""
    followed = follow(f"http://{consul.address}/moves/")
    await followed.start()
    for key in ("a", "b/c", "b/d"):
        consul.put(f"moves/{key}", "1")
    await followed.holds(**{"a": b"1", "b/c": b"1", "b/d": b"1"})
    consul.request("DELETE", "/v1/kv/moves/b/?recurse")
    await followed.holds(a=b"1")
    rename = [Write("new", b"1", 0), Write("a", None, followed.told[-1].entries["a"].index)]
    await followed.tree.write(rename)
    await followed.holds(new=b"1")
    with pytest.raises(LostRaceError):
        await followed.tree.write(rename)
    consul.request("DELETE", "/v1/kv/moves/?recurse")
    await followed.holds()


@pytest_twisted.ensureDeferred
async def test_size_of_a_value(consul: ConsulAgent, follow: Any) -> None:
    """512 KB are written, with check-and-set, too; a byte more is an error that names the key."""
    followed = follow(f"http://{consul.address}/sizes/")
    tree = followed.tree
    largest = b"x" * 512 * 1024
    index = await tree.write([Write("upstreams/a b?", largest, 0)])
    assert (await tree.read()).entries["upstreams/a b?"] == Entry(largest, index)
    with pytest.raises(LostRaceError):
        await tree.write([Write("upstreams/a b?", b"y" + largest[1:], 0)])
    with pytest.raises(StoreError, match=r"at most 524288 bytes: sizes/big would have 524289"):
        await tree.write([Write("big", largest + b"x")])
    with pytest.raises(StoreError, match="64 operations and 524288 bytes at once"):
        await tree.write([Write("a", largest), Write("b", b"1")])
    assert list((await tree.read()).entries) == ["upstreams/a b?"]
    store = from_place(f"http://{consul.address}/sizes2/", reactor)
    state = await store.open()
    change = change_of("big", {"servers": [], "note": "x" * 512 * 1024})
    with pytest.raises(StoreError, match=r"upstreams\.big: sizes2/upstreams/big would have"):
        await store.commit(state.revision, [change], 1)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_write_that_is_made_is_not_said_to_be_none(
    consul: ConsulAgent, follow: Any, tmp_path: Path
) -> None:
    """What fails after it does not take it back: here nobody may ask for its index."""
    file = tmp_path / "token"
    file.write_text("any")
    followed = follow(f"http://{consul.address}/made/?token_file={file}")
    tree = followed.tree
    await tree.write([Write("a", b"1")])
    for write, wanted in (
        (Write("a", None), {}),
        (Write("a", b"x" * tree.max_value), {"a": b"x" * tree.max_value}),
    ):
        file.write_text("any")
        made = tree.write([write])
        file.unlink()
        with pytest.raises(StoreError, match="No such file") as caught:
            await made
        assert not isinstance(caught.value, NotWrittenError)
        file.write_text("any")
        assert values(await tree.read()) == wanted


@pytest_twisted.ensureDeferred
async def test_two_stores_see_each_other(consul: ConsulAgent) -> None:
    """What is committed to one is told by the other; so is a key that somebody writes by hand."""
    stores = [from_place(f"http://{consul.address}/config/two/", reactor) for _ in range(2)]
    states = [await store.open() for store in stores]
    told: list[Any] = []
    reasons: list[str] = []
    stores[1].watch(told.append, reasons.append)
    body = {"servers": [{"host": "127.0.0.1", "port": 1}]}
    await stores[0].commit(states[0].revision, [change_of("a", body)], 1)
    await until(lambda: told and told[-1].upstreams == {"a": body})
    consul.put("config/two/upstreams/b", '{"servers": []}')
    await until(lambda: set(told[-1].upstreams) == {"a", "b"})
    assert (told[-1].version, reasons) == (1, [])
    for store in stores:
        await store.close()


@pytest_twisted.ensureDeferred
async def test_tls(start: Any, follow: Any, tmp_path: Path) -> None:
    """The agent's certificate is checked, and slardar's is shown."""
    authority = Authority(tmp_path)
    agent = start(tls=(authority.file, *authority.issue("agent")))
    cert, key = authority.issue("slardar", ("slardar",))
    place = f"https://127.0.0.1:{agent.https_port}/c/?ca={authority.file}"
    followed = follow(f"{place}&cert={cert}&key={key}")
    await followed.start()
    await followed.tree.write([Write("a", b"1", 0)])
    await followed.holds(a=b"1")
    with pytest.raises(StoreError, match="TLS: "):
        await follow(place).tree.read()
    other = Authority(tmp_path, "other").file
    with pytest.raises(StoreError, match="TLS: certificate verify failed"):
        await follow(f"https://127.0.0.1:{agent.https_port}/c/?ca={other}").tree.read()


@pytest_twisted.ensureDeferred
async def test_file_of_tls_that_is_missing(follow: Any) -> None:
    """It is an error of the store, which names the file."""
    with pytest.raises(StoreError, match=r"/nowhere/ca\.pem: No such file or directory"):
        await follow("https://127.0.0.1:1/c/?ca=/nowhere/ca.pem").tree.read()
