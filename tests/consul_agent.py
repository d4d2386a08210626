"""Real Consul agents for tests: servers on ports of the kernel's choice, ended by id.

``scripts/fetch_consul`` gets the program; the environment's ``CONSUL`` names another one.  The
fixture ``consul`` of ``conftest.py`` is one agent for all tests of a module.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.programs import CHECKOUT, PATIENCE, Program

__all__ = ["Answer", "ConsulAgent", "ConsulCluster", "consul_program"]

_FETCHED = CHECKOUT / ".venv" / "consul"


def consul_program() -> str:
    """The path of Consul's program; a test that asks is skipped where there is none."""
    named = os.environ.get("CONSUL")
    path = Path(named) if named else _FETCHED / "usr/bin/consul"
    if not os.access(path, os.X_OK):
        reason = _FETCHED / "missing"
        pytest.skip(
            reason.read_text().strip()
            if not named and reason.exists()
            else f"consul is missing: there is no {path}; scripts/fetch_consul gets it"
        )
    return str(path)


class Answer(NamedTuple):
    """What an agent has answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class ConsulAgent:
    """A Consul server.  It answers, and it has elected a leader, once it is made.

    Without ``persistent`` it keeps its state in memory and is ready in 0.2 s; with it, it
    keeps the state in its folder, and is ready in 2 s.  With a ``token``, ACLs are on,
    nothing is allowed without a token, and this one may do everything.  With ``tls``, the files of
    an authority, a certificate and its key, it speaks HTTPS on :attr:`https_port` to whom the
    authority knows.  ``extra`` are keys of Consul's configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        persistent: bool = False,
        token: str = "",
        tls: tuple[Path, Path, Path] | None = None,
        **extra: Any,
    ) -> None:
        self.folder = folder
        self.tls = tls
        self.token = token
        self.persistent = persistent
        self._extra = extra
        folder.mkdir(parents=True, exist_ok=True)
        self._program: Program | None = None
        self._choose_ports()
        for attempt in range(5):
            try:
                self.start()
                return
            except AssertionError:
                # Somebody else has taken one of the ports meanwhile.
                if attempt == 4 or "address already in use" not in self.output:
                    raise
                self._choose_ports()

    def _choose_ports(self) -> None:
        self.port, self.serf_port, self.server_port, self.https_port = _free_ports(4)

    @property
    def address(self) -> str:
        """Where HTTP is spoken, as ``HOST:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """What the program has said since it was started last."""
        return "" if self._program is None else self._program.output

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._program is not None
        return self._program.pid

    @property
    def has_ended(self) -> bool:
        """Whether its process is gone."""
        return self._program is None or self._program.has_ended

    def start(self, wait: bool = True) -> None:
        """Start it with the state that it has, and with ``wait`` wait for a leader."""
        configuration: dict[str, Any] = {
            "server": True,
            "bootstrap_expect": 1,
            "data_dir": str(self.folder / "data"),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "node_name": self.folder.name,
            "ports": {
                "http": self.port,
                "server": self.server_port,
                "serf_lan": self.serf_port,
                "serf_wan": -1,
                "dns": -1,
                "grpc": -1,
            },
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
            "leave_on_terminate": False,
            "skip_leave_on_interrupt": True,
        }
        if not self.persistent:
            del configuration["bootstrap_expect"]
        if self.token:
            configuration["acl"] = {
                "enabled": True,
                "default_policy": "deny",
                # So that a revoked token is refused at once.
                "token_ttl": "0s",
                "policy_ttl": "0s",
                "tokens": {"master": self.token, "agent": self.token},
            }
        if self.tls is not None:
            files = map(str, self.tls)
            configuration.update(zip(("ca_file", "cert_file", "key_file"), files, strict=True))
            configuration["verify_incoming_https"] = True
            configuration["ports"]["https"] = self.https_port
        configuration.update(self._extra)
        (self.folder / "agent.json").write_text(json.dumps(configuration))
        command = [consul_program(), "agent", "-config-file", str(self.folder / "agent.json")]
        if not self.persistent:
            command.append("-dev")
        self._program = Program(command, self.folder)
        if wait:
            try:
                self.wait_for_leader()
            except BaseException:
                self.end()
                raise

    def wait_for_leader(self) -> None:
        """Wait until it answers, writes and allows what the token allows."""
        assert self._program is not None
        end = time.monotonic() + PATIENCE
        while True:
            try:
                if self.request("PUT", "/v1/kv/ready", b"yes").body.strip() == b"true":
                    return
            except OSError:
                assert not self._program.has_ended, f"consul has ended:\n{self.output}"
            assert time.monotonic() < end, f"consul elects no leader:\n{self.output}"
            time.sleep(0.02)  # noqa: TID251

    def kill(self) -> None:
        """End it as a failure of power would."""
        assert self._program is not None
        self._program.signal(signal.SIGKILL)
        self._program.end()

    def pause(self) -> None:
        """Let it answer nothing, and keep its connections."""
        assert self._program is not None
        self._program.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after :meth:`pause`."""
        assert self._program is not None
        self._program.signal(signal.SIGCONT)

    def restart(self, *, empty: bool = False) -> None:
        """Kill it, and start it on its ports with the state that it had, or with none.

        One that is not persistent always comes back with none.
        """
        self.kill()
        if empty:
            shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.start()

    def end(self) -> None:
        """End it; again and again it does nothing."""
        if self._program is not None:
            self._program.signal(signal.SIGCONT)
            self._program.end()

    def request(
        self, method: str, path: str, body: bytes | str | None = None, token: str | None = None
    ) -> Answer:
        """Ask it something, with its own token unless another is given; it blocks."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        token = self.token if token is None else token
        try:
            headers = {"X-Consul-Token": token} if token else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers.items()), answer.read())
        finally:
            connection.close()

    def put(self, key: str, value: bytes | str) -> None:
        """Write a key; it blocks."""
        answer = self.request("PUT", f"/v1/kv/{key}", value)
        assert answer.body.strip() == b"true", answer

    def delete(self, key: str) -> None:
        """Remove a key; it blocks."""
        assert self.request("DELETE", f"/v1/kv/{key}").status == 200

    def new_token(self, rules: str) -> tuple[str, str]:
        """A token for which these ACL rules hold, and its name for :meth:`revoke`; it blocks."""
        name = f"p{time.monotonic_ns()}"
        policy = {"Name": name, "Rules": rules}
        assert self.request("PUT", "/v1/acl/policy", json.dumps(policy)).status == 200
        made = self.request("PUT", "/v1/acl/token", json.dumps({"Policies": [{"Name": name}]})).json
        return made["SecretID"], made["AccessorID"]

    def revoke(self, accessor: str) -> None:
        """Make a token worthless; it blocks."""
        assert self.request("DELETE", f"/v1/acl/token/{accessor}").status == 200


class ConsulCluster:
    """Several Consul servers that elect a leader; all answer once it is made."""

    def __init__(self, folder: Path, size: int = 3) -> None:
        self.agents: list[ConsulAgent] = []
        ports = _free_ports(3 * size)
        join = [f"127.0.0.1:{port}" for port in ports[size : 2 * size]]
        try:
            for number in range(size):
                agent = _Member(folder / f"s{number}", ports[number::size], size, join)
                self.agents.append(agent)
            for agent in self.agents:
                agent.wait_for_leader()
        except BaseException:
            self.end()
            raise

    def leader(self) -> ConsulAgent:
        """The agent that leads now, once all that run agree; it blocks."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            said = set()
            running = [agent for agent in self.agents if not agent.has_ended]
            for agent in running:
                try:
                    said.add(agent.request("GET", "/v1/status/leader").json)
                except OSError:
                    continue
            for agent in running:
                if said == {f"127.0.0.1:{agent.server_port}"}:
                    return agent
            time.sleep(0.05)  # noqa: TID251
        raise AssertionError("the servers agree on no leader")

    def end(self) -> None:
        """End all of them."""
        for agent in self.agents:
            agent.end()


class _Member(ConsulAgent):
    """One server of a cluster, whose ports are known to the others before it starts."""

    def __init__(self, folder: Path, ports: Sequence[int], size: int, join: Sequence[str]) -> None:
        self._ports = ports
        super().__init__(folder, persistent=True, bootstrap_expect=size, retry_join=list(join))

    def _choose_ports(self) -> None:
        self.port, self.serf_port, self.server_port = self._ports

    def start(self, wait: bool = False) -> None:
        """Start it, and wait for nobody: there is no leader before the others are there."""
        super().start(wait)


def _free_ports(number: int) -> list[int]:
    """Ports that nobody uses for TCP or UDP."""
    held: list[socket.socket] = []
    ports: list[int] = []
    try:
        while len(ports) < number:
            stream = socket.socket()
            held.append(stream)
            stream.bind(("127.0.0.1", 0))
            port = stream.getsockname()[1]
            datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            held.append(datagrams)
            try:
                datagrams.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    finally:
        for one in held:
            one.close()
    return ports
