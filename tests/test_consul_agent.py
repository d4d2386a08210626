"""The agents that other tests start are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.consul_agent import ConsulAgent, ConsulCluster, consul_program

pytestmark = pytest.mark.real


def test_answers(consul: ConsulAgent) -> None:
    """It keeps what is written."""
    consul.put("a/b", "one")
    answer = consul.request("GET", "/v1/kv/a/b?raw")
    assert (answer.status, answer.body) == (200, b"one")
    consul.delete("a/b")
    assert consul.request("GET", "/v1/kv/a/b").status == 404


@pytest.mark.parametrize("persistent", [True, False])
def test_a_persistent_one_keeps_its_state(tmp_path: Path, persistent: bool) -> None:
    """A killed agent comes back on its ports, with its state or with none."""
    agent = ConsulAgent(tmp_path / "one", persistent=persistent)
    try:
        agent.put("a", "one")
        pid, address = agent.pid, agent.address
        agent.restart()
        answer = agent.request("GET", "/v1/kv/a?raw")
        assert (answer.status, answer.body) == ((200, b"one") if persistent else (404, b""))
        assert (agent.address, agent.pid != pid) == (address, True)
    finally:
        agent.end()


def test_tokens(tmp_path: Path) -> None:
    """A token may do what its rules say, until it is revoked."""
    agent = ConsulAgent(tmp_path / "one", token="root")
    try:
        token, accessor = agent.new_token('key_prefix "a/" { policy = "write" }')
        assert agent.request("PUT", "/v1/kv/a/b", "1", token).status == 200
        assert agent.request("PUT", "/v1/kv/b", "1", token).status == 403
        assert agent.request("PUT", "/v1/kv/a/b", "1", "").status == 403
        agent.revoke(accessor)
        assert agent.request("PUT", "/v1/kv/a/b", "1", token).status == 403
    finally:
        agent.end()


def test_another_leads_when_one_is_killed(tmp_path: Path) -> None:
    """Two of three elect a leader."""
    cluster = ConsulCluster(tmp_path)
    try:
        first = cluster.leader()
        cluster.agents[0].put("a", "one")
        first.kill()
        second = cluster.leader()
        assert second is not first
        second.wait_for_leader()
        assert second.request("GET", "/v1/kv/a?raw").body == b"one"
    finally:
        cluster.end()


def test_skips_where_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason names the file that was looked for."""
    monkeypatch.setenv("CONSUL", str(tmp_path / "none"))
    with pytest.raises(pytest.skip.Exception, match=r"consul is missing: there is no .*none"):
        consul_program()
