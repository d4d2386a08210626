"""Certificates by ACME on the real program, from the real Pebble."""

from __future__ import annotations

import json
import signal
import socket
import ssl
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509

from slardar.model.acme import Order
from slardar.stores.layout import pack, quoted
from tests.integration.conftest import Start
from tests.integration.pebble import Pebble
from tests.integration.programs import PATIENCE, Slardar, free_port
from tests.integration.test_workers import until
from tests.integration.upgrades import Upgraded
from tests.stores.etcd_server import Etcd


def write(folder: Path, pebble: Pebble, *hosts: str) -> None:
    """Write the file of a slardar with certificates of ``pebble`` for ``hosts``."""
    acme = {
        "hosts": hosts,
        "email": "ops@example.com",
        "directory": pebble.directory,
        "ca": pebble.ca,
    }
    settings = {"tls": {"acme": acme}, "health": {"enabled": False}}
    (folder / "slardar.yaml").write_text(json.dumps(settings))


class Node(Slardar):
    """slardar with the names ``hosts``, for which ``pebble`` gives certificates.

    ``http`` and ``tls`` are the ports of its listeners, if it has them.
    """

    def __init__(
        self,
        folder: Path,
        pebble: Pebble,
        *hosts: str,
        http: int = 0,
        tls: int = 0,
        workers: int = 0,
        store: str = "sqlite:slardar.db",
    ) -> None:
        folder.mkdir()
        self.folder, self.tls, self.pebble = folder, tls, pebble
        self.write(*hosts)
        self.options = ["--config", "slardar.yaml", "--store", store, "--workers", str(workers)]
        if http:
            self.options += ["--listen", f"tcp:{http}:interface=127.0.0.1"]
        if tls:
            self.options += ["--listen", f"tls:{tls}:interface=127.0.0.1"]
        super().__init__(folder, *self.options)

    def write(self, *hosts: str) -> None:
        """Write its file."""
        write(self.folder, self.pebble, *hosts)

    def states(self) -> dict[str, Any]:
        """What the status says of its certificates."""
        found: dict[str, Any] = self.call("GET", "/status")[1].get("acme", {})
        return found

    def until_all_are(self, status: str = "ok") -> dict[str, Any]:
        """Wait until all its certificates are in this state."""
        found: dict[str, Any] = {}

        def are() -> bool:
            found.clear()
            found.update(self.states())
            return bool(found) and {one["status"] for one in found.values()} == {status}

        try:
            until(are, f"all are {status}")
        except AssertionError:
            raise AssertionError(f"{found}\n{self.output}\n{self.pebble.output}") from None
        return found

    def certificate(self, host: str) -> x509.Certificate:
        """The certificate that clients see, which the CA has signed."""
        context = ssl.create_default_context(cadata=self.pebble.root())
        with (
            socket.create_connection(("127.0.0.1", self.tls), PATIENCE) as sock,
            context.wrap_socket(sock, server_hostname=host) as secure,
        ):
            return x509.load_der_x509_certificate(secure.getpeercert(True) or b"")


class Again(Node):
    """A node that was started before, with the same file, store and options."""

    def __init__(self, before: Node) -> None:
        self.folder, self.tls, self.pebble = before.folder, before.tls, before.pebble
        self.options = before.options
        Slardar.__init__(self, before.folder, *before.options)


@pytest.fixture
def ports() -> tuple[int, int]:
    """Where slardar listens, and where the CA comes to."""
    return free_port(), free_port()


Ports = tuple[int, int]


def test_certificates_by_http(tmp_path: Path, start: Start, ports: Ports) -> None:
    """Every worker answers the CA and serves the certificates.  No key can be seen anywhere."""
    http, tls = ports
    pebble = start(Pebble(tmp_path / "ca", http=http, PEBBLE_WFE_NONCEREJECT="20")).ready()
    names = ("a.example", "b.example")
    words: dict[str, Any] = {"http": http, "tls": tls, "workers": 2}
    node = start(Node(tmp_path / "a", pebble, *names, **words)).ready()
    states = node.until_all_are("ok")
    assert set(states) == set(names)
    for name in names:
        assert node.certificate(name)
    assert [one["from"] for one in node.call("GET", "/certificates")[1]] == ["acme", "acme"]
    for path in ("/status", "/history", "/certificates"):
        assert "PRIVATE" not in json.dumps(node.call("GET", path)[1])
    assert "PRIVATE" not in node.output
    assert (pebble.orders, pebble.accounts) == (2, 1)


def test_certificate_by_handshake(tmp_path: Path, start: Start, ports: Ports) -> None:
    """Where nothing comes to port 80, as the first try has shown.  HUP brings another name, and
    the events tell of both."""
    pebble = start(Pebble(tmp_path / "ca", tls=ports[1])).ready()
    node = start(Node(tmp_path / "a", pebble, "a.example", tls=ports[1])).ready()
    node.until_all_are("ok")
    assert "a.example: http-01 has failed: connection: " in node.output
    assert pebble.orders == 2
    node.write("a.example", "b.example")
    node.signal(signal.SIGHUP)
    until(lambda: "b.example" in node.states(), "the name is taken")
    node.until_all_are("ok")
    for name in ("a.example", "b.example"):
        assert node.certificate(name).not_valid_after_utc > datetime.now(timezone.utc)


def test_one_of_two_nodes_orders(tmp_path: Path, start: Start, ports: Ports) -> None:
    """And the CA comes to both of them: once without and once with TLS."""
    etcd = start(Etcd(tmp_path / "etcd").ready())
    store = f"etcd:{etcd.url}/slardar/?timeout=1"
    pebble = start(Pebble(tmp_path / "ca", http=ports[0])).ready()
    one = start(Node(tmp_path / "a", pebble, "a.example", http=ports[0], store=store)).ready()
    one.until_all_are("ok")
    # This one answers nobody: it orders, and the first one answers.
    names = ("a.example", "b.example", "c.example")
    other = start(Node(tmp_path / "b", pebble, *names, tls=ports[1], store=store)).ready()
    other.until_all_are("ok")
    for name in names:
        assert other.certificate(name)
    assert (pebble.orders, pebble.accounts) == (3, 1)


def test_node_that_is_killed_in_an_order(tmp_path: Path, start: Start, ports: Ports) -> None:
    """Its order can be taken when it has lapsed; so can it by the node itself."""
    etcd = start(Etcd(tmp_path / "etcd").ready())
    store = f"etcd:{etcd.url}/slardar/?timeout=1"
    pebble = start(Pebble(tmp_path / "ca", http=ports[0])).ready()
    pebble.signal(signal.SIGSTOP)
    words: dict[str, Any] = {"http": ports[0], "tls": ports[1], "store": store}
    node = start(Node(tmp_path / "a", pebble, "a.example", **words)).ready()
    state = node.until_all_are("ordering")["a.example"]
    node.signal(signal.SIGKILL)
    node.wait()
    pebble.signal(signal.SIGCONT)
    lapsed = pack(msgspec.json.encode(Order(state["node"], 1.0, 2.0)))
    etcd.put(f"/slardar/.slardar/acme/{quoted('order/a.example')}", lapsed)
    node = start(Again(node)).ready()
    node.until_all_are("ok")
    assert node.certificate("a.example")
    assert pebble.orders == 1


def test_upgrade_in_an_order(tmp_path: Path, start: Start, ports: Ports) -> None:
    """The process before lets go of the order, and the next one begins with it at once."""
    pebble = start(Pebble(tmp_path / "ca", http=ports[0])).ready()
    pebble.signal(signal.SIGSTOP)
    write(tmp_path, pebble, "a.example")
    listen = [f"tcp:{ports[0]}:interface=127.0.0.1", f"tls:{ports[1]}:interface=127.0.0.1"]
    options = [word for one in listen for word in ("--listen", one)]
    program = Upgraded(tmp_path, "--config", "slardar.yaml", *options, count=0)
    start(program).ready()

    def status() -> Any:
        return program.status().get("acme", {}).get("a.example", {}).get("status")

    until(lambda: status() == "ordering", "it orders")
    program.upgrade()
    until(lambda: status() == "ordering", "the new process orders")
    pebble.signal(signal.SIGCONT)
    until(lambda: status() == "ok", "there is a certificate")
    assert pebble.accounts == 1
