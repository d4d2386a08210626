"""Calls of py-consul, asked of a real Consul, with Deferreds."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from consul import ACLPermissionDenied, Check, ConsulException
from consul.exceptions import BadRequest, ClientError
from twisted.internet import defer, reactor  # noqa: TID251

from slardar.txconsul import Consul
from tests.consul_agent import ConsulAgent

pytestmark = pytest.mark.real

ROOT = "root-of-the-tests"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulAgent]:
    """An agent with ACLs."""
    made = ConsulAgent(tmp_path_factory.mktemp("consul") / "one", token=ROOT)
    yield made
    made.end()


@pytest_twisted.async_yield_fixture
async def client(agent: ConsulAgent) -> AsyncIterator[Any]:
    """A client that may do everything."""
    made = Consul(reactor, "127.0.0.1", agent.port, ROOT)
    yield made
    await made.close()


def operation(verb: str, key: str, value: bytes = b"", **more: Any) -> dict[str, Any]:
    """One operation of a transaction."""
    text = base64.b64encode(value).decode()
    return {"KV": {"Verb": verb, "Key": key, "Value": text, **more}}


async def keys(one: Any) -> None:
    """Keys are written, read, compared, listed and removed."""
    assert await one.kv.put("e/a", "1") is True
    assert await one.kv.put("e/ü b?#%", b"\x00\xff") is True
    index, found = await one.kv.get("e/a")
    assert (found["Value"], int(index)) == (b"1", found["ModifyIndex"])
    assert await one.kv.put("e/a", "2", cas=0) is False
    assert await one.kv.put("e/a", "2", cas=found["ModifyIndex"]) is True
    _, every = await one.kv.get("e/", recurse=True)
    assert {row["Key"]: row["Value"] for row in every} == {"e/a": b"2", "e/ü b?#%": b"\x00\xff"}
    _, names = await one.kv.get("e/", keys=True)
    assert names == ["e/a", "e/ü b?#%"]
    assert await one.kv.put("e/empty", None) is True
    assert (await one.kv.get("e/empty"))[1]["Value"] is None
    assert await one.kv.delete("e/", recurse=True) is True
    assert (await one.kv.get("e/a"))[1] is None


async def transactions(one: Any) -> None:
    """All operations or none; the token is sent, which py-consul itself forgets here."""
    done = await one.txn.put([operation("set", "t/a", b"1"), operation("set", "t/b", b"2")])
    assert [row["KV"]["Key"] for row in done["Results"]] == ["t/a", "t/b"]
    with pytest.raises(ClientError, match="index is stale"):
        await one.txn.put([operation("set", "t/c"), operation("cas", "t/a", Index=1)])
    assert (await one.kv.get("t/c"))[1] is None


async def services(one: Any) -> None:
    """A service is registered, found in catalogue and health, put into maintenance, removed."""
    check = Check.ttl("10m")
    assert await one.agent.service.register(
        "web", "web-1", address="10.0.0.1", port=80, tags=["v1"], check=check
    )
    assert "web-1" in await one.agent.services()
    assert await one.agent.check.ttl_pass("service:web-1")
    index, found = await one.health.service("web", passing=True)
    while not found:
        index, found = await one.health.service("web", passing=True, index=index, wait="5s")
    assert (found[0]["Service"]["Address"], found[0]["Service"]["Tags"]) == ("10.0.0.1", ["v1"])
    assert "web" in (await one.catalog.services())[1]
    assert (await one.catalog.service("web"))[1][0]["ServiceID"] == "web-1"
    assert [row["CheckID"] for row in (await one.health.checks("web"))[1]] == ["service:web-1"]
    assert await one.agent.service.maintenance("web-1", True, reason="a b")
    assert await one.agent.service.deregister("web-1")
    node = (await one.catalog.nodes())[1][0]["Node"]
    assert (await one.catalog.node(node))[1]["Node"]["Address"] == "127.0.0.1"
    assert await one.catalog.datacenters() == ["dc1"]


async def sessions(one: Any) -> None:
    """A session is made, holds a key, and is destroyed."""
    session = await one.session.create("s", ttl=10)
    assert await one.kv.put("s/lock", "mine", acquire=session) is True
    assert (await one.kv.get("s/lock"))[1]["Session"] == session
    assert (await one.session.info(session))[1]["Name"] == "s"
    assert (await one.session.renew(session))["ID"] == session
    assert await one.session.destroy(session) is True


async def events(one: Any) -> None:
    """An event is fired and listed."""
    fired = await one.event.fire("deploy", "body")
    index, found = await one.event.list("deploy")
    while not found:
        index, found = await one.event.list("deploy", index=index, wait="5s")
    assert (found[-1]["ID"], found[-1]["Payload"]) == (fired["ID"], b"body")


async def state_of_the_cluster(one: Any) -> None:
    """Who leads, and who the agent is."""
    leader = await one.status.leader()
    assert await one.status.peers() == [leader]
    assert (await one.agent.self())["Config"]["Server"] is True
    assert [row["Status"] for row in await one.agent.members()] == [1]


async def snapshots(one: Any) -> None:
    """A snapshot is bytes, and brings back what was there."""
    await one.kv.put("n/a", "1")
    saved = await one.snapshot.save()
    assert saved.startswith(b"\x1f\x8b")
    await one.kv.put("n/a", "2")
    assert await one.snapshot.restore(saved) is True
    assert (await one.kv.get("n/a"))[1]["Value"] == b"1"


async def tokens(one: Any) -> None:
    """Policies and tokens are made; a token of a call goes before the client's."""
    policy = await one.acl.policy.create("reads", rules={"key_prefix": {"p/": {"policy": "read"}}})
    made = await one.acl.token.create(policies_name=["reads"])
    assert policy["ID"] in [row["ID"] for row in made["Policies"]]
    with pytest.raises(ACLPermissionDenied, match=r"^Permission denied$"):
        await one.kv.put("p/a", "1", token=made["SecretID"])
    await one.kv.put("p/a", "1")
    assert (await one.kv.get("p/a", token=made["SecretID"]))[1]["Value"] == b"1"
    assert await one.acl.token.delete(made["AccessorID"]) is True
    with pytest.raises(ACLPermissionDenied, match="ACL not found"):
        await one.kv.get("p/a", token=made["SecretID"])


async def refusals(one: Any) -> None:
    """What Consul refuses is an error of py-consul's, with Consul's words."""
    with pytest.raises(BadRequest, match="Invalid wait time"):
        await one.kv.get("r/a", index=1, wait="soon")
    with pytest.raises(ConsulException, match="No path to datacenter"):
        await one.kv.get("r/a", dc="nowhere")
    with pytest.raises(ClientError, match="413 Request body"):
        await one.kv.put("r/a", b"x" * (512 * 1024 + 1))
    assert await one.kv.put("r/a", b"x" * 512 * 1024) is True


@pytest.mark.parametrize(
    "calls",
    [
        keys,
        transactions,
        services,
        sessions,
        events,
        state_of_the_cluster,
        snapshots,
        tokens,
        refusals,
    ],
    ids=lambda calls: calls.__name__,
)
@pytest_twisted.ensureDeferred
async def test_calls(client: Any, calls: Callable[[Any], Awaitable[None]]) -> None:
    """They do what py-consul's documentation says."""
    await calls(client)


@pytest_twisted.ensureDeferred
async def test_blocking_query_waits_for_a_change(client: Any, agent: ConsulAgent) -> None:
    """It fires when the key is written, and the queries of others do not wait for it."""
    await client.kv.put("b/a", "1")
    index, _ = await client.kv.get("b/a")
    waiting = [client.kv.get("b/a", index=index, wait="1m") for _ in range(40)]
    assert (await client.kv.get("b/a"))[0] == index
    assert not any(one.called for one in waiting)
    await client.kv.put("b/a", "2")
    for _, found in await defer.gatherResults(waiting):
        assert found["Value"] == b"2"


@pytest_twisted.ensureDeferred
async def test_token_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, agent: ConsulAgent, tmp_path: Path
) -> None:
    """``CONSUL_HTTP_TOKEN`` is taken where no token is given; one that is given goes before it."""
    monkeypatch.setenv("CONSUL_HTTP_ADDR", f"127.0.0.1:{agent.port}")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", ROOT)
    one = Consul(reactor)
    assert await one.kv.put("v/a", "1") is True
    other = Consul(reactor, token="wrong")
    with pytest.raises(ACLPermissionDenied, match="ACL not found"):
        await other.kv.put("v/a", "1")
    await defer.gatherResults([one.close(), other.close()])
