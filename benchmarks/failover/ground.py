"""The servers behind the proxies, one of which breaks, and the network that one of them has."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.processes import LOOPBACK, Program, find_program, free_port

__all__ = ["NAMES", "VICTIM", "Namespace", "NotAllowed", "Server", "Servers"]

NAMES = ("a", "b", "c", "d")
#: The server that breaks.
VICTIM = "a"
#: Seconds that a server takes for a reply.
REPLY_SECONDS = 0.02
#: The port of the server that has a network of its own.
_PORT = 8000
_DROP = """\
table ip failover {
    chain input {
        type filter hook input priority 0; policy drop;
    }
}
"""


class NotAllowed(Exception):
    """This machine does not allow a network namespace; the text says why."""


class Namespace:
    """A network of its own for one server, joined to this one by a pair of virtual interfaces.

    Its addresses are of 198.18.0.0/15, which is reserved for benchmarks (RFC 2544).

    :raise NotAllowed: if it cannot be made.
    """

    def __init__(self) -> None:
        number = os.getpid()
        self.name = f"slardar-{number}"
        #: The interface on this side.
        self.link = f"slb{number}"
        block = number % 2**15 * 4
        network = f"198.{18 + (block >> 16)}.{block >> 8 & 255}"
        here = f"{network}.{block % 256 + 1}/30"
        self.host = f"{network}.{block % 256 + 2}"
        inside = ("ip", "-n", self.name)
        far = f"{self.link}i"
        commands = (
            ("ip", "netns", "add", self.name),
            ("ip", "link", "add", self.link, "type", "veth", "peer", "name", far),
            ("ip", "link", "set", far, "netns", self.name),
            ("ip", "addr", "add", here, "dev", self.link),
            ("ip", "link", "set", self.link, "up"),
            (*inside, "link", "set", "lo", "up"),
            (*inside, "addr", "add", f"{self.host}/30", "dev", far),
            (*inside, "link", "set", far, "up"),
        )
        try:
            for command in commands:
                _run(command)
        except NotAllowed:
            self.remove()
            raise

    def command(self, *words: str) -> tuple[str, ...]:
        """The command that runs ``words`` in this namespace, as the same process."""
        return (_program("ip"), "netns", "exec", self.name, *words)

    def drop(self) -> None:
        """Drop every packet that arrives, without an answer.

        :raise NotAllowed: if no such rule can be set.
        """
        _run(("ip", "netns", "exec", self.name, _program("nft"), "-f", "-"), _DROP)

    def drop_no_more(self) -> None:
        """Let the packets through again."""
        _run(("ip", "netns", "exec", self.name, _program("nft"), "delete", "table", "failover"))

    def remove(self) -> None:
        """Remove what was made; the interfaces go with the namespace."""
        for command in (("ip", "link", "del", self.link), ("ip", "netns", "del", self.name)):
            try:
                _run(command)
            except NotAllowed:
                # It was not made.
                pass


def _program(name: str) -> str:
    found = find_program(name)
    if found is None:
        raise NotAllowed(f"the program {name} is not installed")
    return found


def _run(command: tuple[str, ...], text: str = "") -> None:
    ran = subprocess.run(
        [_program(command[0]), *command[1:]],
        input=text,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    if ran.returncode:
        raise NotAllowed(f"{' '.join(command[:3])}: {ran.stderr.strip() or 'failed'}")


class Server:
    """One server, and all that can be done to it.  It runs once it is made."""

    def __init__(
        self, name: str, folder: Path, cores: frozenset[int], namespace: Namespace | None = None
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.host = LOOPBACK if namespace is None else namespace.host
        self.port = free_port() if namespace is None else _PORT
        self._folder = folder
        self._cores = cores
        script = Path(__file__).with_name("server.py")
        arguments = (name, self.host, f"{self.port}", f"{REPLY_SECONDS}")
        # Without what is installed, Python starts in a fraction of the time.
        self._command: tuple[str, ...] = (sys.executable, "-I", "-S", f"{script}", *arguments)
        if namespace is not None:
            self._command = namespace.command(*self._command)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._program = Program(f"server-{self.name}", self._command, self._cores, self._folder)
        try:
            self._program.wait_for_port(self.port, host=self.host)
        except BaseException:
            self._program.stop()
            raise

    def stop(self) -> None:
        """End it, whatever its state."""
        self._program.stop()

    def kill(self) -> None:
        """Kill it with SIGKILL: its connections are reset, and its port refuses."""
        self._program.kill()

    def freeze(self) -> None:
        """Stop it with SIGSTOP: the kernel still accepts connections and data for it."""
        self._program.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self._program.thaw()

    def vanish(self) -> None:
        """Drop every packet to it."""
        assert self.namespace is not None
        self.namespace.drop()

    def appear(self) -> None:
        """Let packets through again."""
        assert self.namespace is not None
        self.namespace.drop_no_more()

    def be_slow(self) -> None:
        """Take ten times as long for a reply."""
        self._set_mode("slow")

    def be_wrong(self) -> None:
        """Answer half of the requests with 500."""
        self._set_mode("errors")

    def be_good(self) -> None:
        """Answer as always."""
        self._set_mode("good")

    def _set_mode(self, mode: str) -> None:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request("GET", f"/mode/{mode}")
            connection.getresponse().read()
        finally:
            connection.close()


class Servers:
    """Four equal servers.  The one that breaks has a namespace, where one is allowed."""

    def __init__(self, folder: Path, cores: frozenset[int], namespace: Namespace | None) -> None:
        self._servers: dict[str, Server] = {}
        try:
            for name in NAMES:
                own = namespace if name == VICTIM else None
                self._servers[name] = Server(name, folder, cores, own)
        except BaseException:
            self.stop()
            raise

    @property
    def victim(self) -> Server:
        """The server that breaks."""
        return self._servers[VICTIM]

    @property
    def places(self) -> Mapping[str, object]:
        """Where they are, for the proxies' configurations."""
        values: dict[str, object] = {}
        for name, server in self._servers.items():
            values[f"host_{name}"], values[f"port_{name}"] = server.host, server.port
        return values

    def stop(self) -> None:
        """End all of them."""
        for server in self._servers.values():
            server.stop()
