"""A store that lives elsewhere and is away, or has lost its content: the real Consul, real
processes, real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.book import DOCS, blocks, commands
from tests.consul_agent import ConsulAgent
from tests.demo import agrees
from tests.integration.conftest import Start
from tests.integration.programs import FileServer, curl
from tests.integration.test_normal import pattern
from tests.integration.test_workers import is_running, until
from tests.integration.upgrades import Clients, Upgraded
from tests.stores.etcd_server import Etcd

PREFIX = "config/slardar"
#: What the page shows of a value that cannot be used, and of a store that is away.
(LEFT_OUT,) = blocks(DOCS / "stores.md", "text")
(PAGE,) = [text for text in blocks(DOCS / "stores.md", "console") if '"stale"' in text]

MakeConsul = Callable[..., ConsulAgent]


@pytest.fixture
def make_consul(tmp_path: Path) -> Iterator[MakeConsul]:
    """Makes Consul agents, and ends them."""
    agents: list[ConsulAgent] = []

    def make(**options: Any) -> ConsulAgent:
        agents.append(ConsulAgent(tmp_path / f"consul{len(agents)}", **options))
        return agents[-1]

    yield make
    for agent in agents:
        agent.end()


def in_consul(agent: ConsulAgent) -> str:
    """The URL of a store there."""
    return f"consul:http://{agent.address}/{PREFIX}/"


class Node(Upgraded):
    """slardar with a store that lives elsewhere."""

    def __init__(self, folder: Path, place: str, token: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.place = place
        words = ["--store", self.place, "--amp", "unix:amp.sock:mode=600"]
        super().__init__(folder, *words, count=0, CONSUL_HTTP_TOKEN=token)

    def power_off(self) -> None:
        """End it as a failure of power would."""
        os.kill(self.current, signal.SIGKILL)
        until(lambda: not is_running(self.current), "it is gone")
        # Where nobody waits for the process, its id stays in use.
        (self.folder / "twistd.pid").unlink()

    @property
    def store(self) -> dict[str, Any]:
        """What the status says of the store."""
        found: dict[str, Any] = self.status()["store"]
        return found

    def is_(self, status: str) -> bool:
        return bool(self.store["status"] == status)

    def await_(self, status: str) -> None:
        """Wait until the store has this status."""
        until(lambda: self.is_(status), f"the store is {status}")

    def serves(self, host: str) -> bool:
        return self.get(host, "/who") == (200, "http.server\n")

    def metric(self) -> float:
        _, text = curl(f"http://127.0.0.1:{self.control}/metrics")
        (line,) = [one for one in text.splitlines() if one.startswith("slardar_store_stale_s")]
        return float(line.split()[1])

    def change(self, name: str, body: Any) -> tuple[int, str, float]:
        """Set an upstream; returns the status, the message and the seconds it took."""
        began = time.monotonic()
        status, answer = self.call("PUT", f"/upstream/{name}", body)
        return status, answer.get("msg", ""), time.monotonic() - began


def served_by(files: FileServer) -> dict[str, Any]:
    """An upstream that answers ``/who``."""
    return {"servers": [{"host": "127.0.0.1", "port": files.port}], "enable": False}


def test_consul_is_killed_under_load(
    tmp_path: Path, start: Start, files: FileServer, make_consul: MakeConsul
) -> None:
    """No request fails; changes are refused at once; an upgrade and a restart serve what was
    served; what has changed meanwhile is served when Consul is back."""
    consul = make_consul(persistent=True)
    node = start(Node(tmp_path / "node", in_consul(consul))).ready()
    body = served_by(files)
    assert node.change("a", body)[0] == 200
    assert node.change("b", body)[0] == 200
    assert node.metric() == 0
    consul.put(f"{PREFIX}/upstreams/www.example.com", "no JSON")
    node.wait_for(pattern(LEFT_OUT.replace("…", "...")))
    consul.delete(f"{PREFIX}/upstreams/www.example.com")
    until(lambda: "failed" not in node.status(), "the broken key is gone")
    with Clients(node) as clients:
        clients.more(50)
        consul.kill()
        node.await_("stale")
        status, message, seconds = node.change("c", body)
        assert (status, seconds < 2) == (503, True)
        assert "the store is away" in message
        assert node.call("DELETE", "/upstream/a")[0] == 503
        clients.more(50)
        (command,) = commands(PAGE)
        expected = command.answer.replace("8500", str(consul.port))
        url = f"http://127.0.0.1:{node.control}/status"
        until(lambda: agrees(expected, curl(url)[1]), f"the status is {expected}")
        assert node.metric() > 0
        node.upgrade()
        clients.more(50)
    assert clients.failures == []
    node.await_("stale")
    age = node.store["age"]
    # As a failure of power: nothing is written at the end.
    node.power_off()
    again = start(Node(tmp_path / "node", in_consul(consul))).ready()
    assert again.serves("a")
    assert again.serves("b")
    assert again.is_("stale")
    assert again.store["age"] > age
    assert again.change("c", body)[0] == 503
    with Clients(again) as clients:
        consul.start()
        consul.put(f"{PREFIX}/upstreams/new", json.dumps(body))
        again.await_("ok")
        until(lambda: again.serves("new"), "what others have written is served")
        assert again.change("c", body)[0] == 200
        clients.more(50)
    assert clients.failures == []
    assert again.serves("c")
    assert again.metric() == 0
    assert again.stop() in (0, -signal.SIGTERM)


def test_consul_has_lost_its_state(
    tmp_path: Path, start: Start, files: FileServer, make_consul: MakeConsul
) -> None:
    """Two nodes hold what they serve, also one that is restarted; one gives Consul its content back
    from its copy.  A loss that is meant is taken on one node, and the other follows."""
    consul = make_consul()
    one = start(Node(tmp_path / "one", in_consul(consul))).ready()
    two = start(Node(tmp_path / "two", in_consul(consul))).ready()
    body = served_by(files)
    for name in "abc":
        assert one.change(name, body)[0] == 200
    until(lambda: two.serves("c"), "the other node serves it")
    with Clients(one) as clients, Clients(two) as others:
        consul.restart()
        for node in (one, two):
            node.await_("held")
        status, message, _ = one.change("d", body)
        assert status == 409
        assert "POST /store/accept" in message
        assert two.stop() in (0, -signal.SIGTERM)
        others.__exit__()
        two = start(Node(tmp_path / "two", in_consul(consul))).ready()
        two.await_("held")
        assert two.serves("a")
        command = [Path(sys.executable).with_name("slardar"), "store", "copy"]
        command += ["sqlite:slardar-store-copy.db", one.place]
        done = subprocess.run(
            command, cwd=tmp_path / "one", capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "3 upstreams" in done.stdout
        for node in (one, two):
            node.await_("ok")
        assert one.change("d", body)[0] == 200
        until(lambda: two.serves("d"), "the other node serves it")
        clients.more(20)
    assert clients.failures == []
    assert one.status()["fingerprint"] == two.status()["fingerprint"]
    consul.request("DELETE", f"/v1/kv/{PREFIX}/?recurse")
    for node in (one, two):
        node.await_("held")
    assert one.serves("a")
    assert one.call("POST", "/store/accept")[0] == 200
    assert one.get("a", "/who")[0] == 502
    until(lambda: two.get("a", "/who")[0] == 502, "the other node follows")
    two.await_("ok")
    assert two.change("e", body)[0] == 200
    until(lambda: one.serves("e"), "the other node serves it")


def test_token_is_revoked(
    tmp_path: Path, start: Start, files: FileServer, make_consul: MakeConsul
) -> None:
    """It is a store that is away, also for a node that starts with it."""
    consul = make_consul(token="8c0ab2a6-7a5c-4a3d-b1a5-000000000001")
    rules = f'key_prefix "{PREFIX}/" {{ policy = "write" }}'
    token, accessor = consul.new_token(rules)
    node = start(Node(tmp_path / "node", in_consul(consul), token)).ready()
    assert node.change("a", served_by(files))[0] == 200
    consul.revoke(accessor)
    # Whoever asks is refused; a question that waits is answered when something changes.
    consul.put(f"{PREFIX}/upstreams/b", json.dumps(served_by(files)))
    node.await_("stale")
    assert "ACL" in node.store["reason"] or "403" in node.store["reason"]
    assert token not in json.dumps(node.status())
    assert node.change("c", served_by(files))[0] == 503
    node.stop()
    again = start(Node(tmp_path / "node", in_consul(consul), token)).ready()
    assert again.serves("a")
    assert again.is_("stale")
    again.stop()
    token, _ = consul.new_token(rules)
    third = start(Node(tmp_path / "node", in_consul(consul), token)).ready()
    assert third.is_("ok")
    assert third.serves("b")


def test_etcd_is_killed_and_comes_back_empty(
    tmp_path: Path, start: Start, files: FileServer
) -> None:
    """The same with a store of another kind: away, a restart meanwhile, back, and emptied."""
    etcd = start(Etcd(tmp_path / "etcd")).ready()
    place = f"etcd:{etcd.url}/slardar/"
    node = start(Node(tmp_path / "node", place)).ready()
    body = served_by(files)
    for name in "ab":
        assert node.change(name, body)[0] == 200
    with Clients(node) as clients:
        etcd.kill()
        node.await_("stale")
        assert node.change("c", body)[0] == 503
        clients.more(20)
    assert clients.failures == []
    node.stop()
    again = start(Node(tmp_path / "node", place)).ready()
    assert again.serves("a")
    assert again.is_("stale")
    etcd = start(etcd.again())
    etcd.put("/slardar/upstreams/new", json.dumps(body))
    again.await_("ok")
    until(lambda: again.serves("new"), "what others have written is served")
    assert again.change("c", body)[0] == 200
    etcd.kill()
    again.await_("stale")
    shutil.rmtree(etcd.folder / "one")
    start(etcd.again())
    again.await_("held")
    assert again.serves("c")
    assert again.change("d", body)[0] == 409
    assert again.call("POST", "/store/accept")[0] == 200
    assert again.get("c", "/who")[0] == 502
