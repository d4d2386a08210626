"""The agents that other tests start are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.consul_agent import ConsulAgent, consul_program

pytestmark = pytest.mark.real


def test_answers(consul: ConsulAgent) -> None:
    """It keeps what is written."""
    consul.put("a/b", "one")
    answer = consul.request("GET", "/v1/kv/a/b?raw")
    assert (answer.status, answer.body) == (200, b"one")
    consul.delete("a/b")
    assert consul.request("GET", "/v1/kv/a/b").status == 404


def test_comes_back_empty(tmp_path: Path) -> None:
    """A killed agent is on its ports again, and without its state if that was in memory."""
    agent = ConsulAgent(tmp_path / "one")
    try:
        agent.put("a", "one")
        pid, address = agent.pid, agent.address
        agent.restart()
        assert agent.request("GET", "/v1/kv/a?raw").status == 404
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


def test_skips_where_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason names the file that was looked for."""
    monkeypatch.setenv("CONSUL", str(tmp_path / "none"))
    with pytest.raises(pytest.skip.Exception, match=r"consul is missing: there is no .*none"):
        consul_program()
