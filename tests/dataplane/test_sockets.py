"""Endpoint strings become listening sockets."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.error import CannotListenError
from twisted.python import systemd

from slardar.dataplane import sockets
from slardar.dataplane.sockets import Opened, open_sockets
from slardar.errors import ConfigError

pytestmark = pytest.mark.real

LOCAL = "tcp:0:interface=127.0.0.1"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is taken here stays taken, so nothing waits for it."""
    monkeypatch.setattr(sockets, "_PATIENCE", 0.1)


@pytest.fixture
def opened() -> Iterator[list[Opened]]:
    """Sockets that are closed after the test."""
    found: list[Opened] = []
    yield found
    for one in found:
        one.close()


def port_of(one: Opened) -> int:
    """The port of its first socket."""
    port: int = one.sockets[0].getsockname()[1]
    return port


def test_tcp_sockets_share_one_port(opened: list[Opened]) -> None:
    """The kernel picks the port once; each socket gets connections."""
    one = open_sockets(LOCAL, 3)
    opened.append(one)
    assert len(one.sockets) == 3
    assert {sock.getsockname() for sock in one.sockets} == {("127.0.0.1", port_of(one))}
    assert one.place == f"tcp 127.0.0.1:{port_of(one)}"
    reached = set()
    deadline = time.monotonic() + 20
    while len(reached) < 3:
        assert time.monotonic() < deadline
        with socket.create_connection(("127.0.0.1", port_of(one)), timeout=10):
            for sock in one.sockets:
                try:
                    sock.accept()[0].close()
                except BlockingIOError:
                    continue
                reached.add(sock)


@pytest.mark.parametrize("first", [1, 3])
@pytest.mark.parametrize("second", [1, 3])
def test_port_is_not_shared_with_a_stranger(opened: list[Opened], first: int, second: int) -> None:
    """It is not shared although the same user has it and SO_REUSEPORT would allow it."""
    one = open_sockets(LOCAL, first)
    opened.append(one)
    port = port_of(one)
    with pytest.raises(CannotListenError) as caught:
        open_sockets(f"tcp:{port}:interface=127.0.0.1", second)
    assert caught.value.socketError.errno == errno.EADDRINUSE
    assert str(port) in str(caught.value)
    one.close()
    opened.append(open_sockets(f"tcp:{port}:interface=127.0.0.1", second))


def test_port_that_is_about_to_be_free_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of a killed director close it a moment after the director's end."""
    monkeypatch.setattr(sockets, "_PATIENCE", 10.0)
    one = open_sockets(LOCAL, 2)
    port = port_of(one)
    pauses = []

    def pause(*arguments: object) -> None:
        pauses.append(arguments)
        one.close()

    monkeypatch.setattr(sockets.select, "select", pause)
    open_sockets(f"tcp:{port}:interface=127.0.0.1", 2).close()
    assert len(pauses) == 1


def test_ipv6(opened: list[Opened]) -> None:
    """``tcp6:``, and ``tcp:`` on an IPv6 interface, mean the same."""
    for endpoint in ("tcp6:0:interface=\\:\\:1", "tcp:0:interface=\\:\\:1"):
        one = open_sockets(endpoint, 2)
        opened.append(one)
        assert one.place == f"tcp [::1]:{port_of(one)}"
        socket.create_connection(("::1", port_of(one)), timeout=10).close()


def test_unix_socket_is_one_with_its_mode(tmp_path: Path, opened: list[Opened]) -> None:
    """There is one socket, whatever number is asked for; its file and lock are removed with it."""
    path = tmp_path / "s.sock"
    one = open_sockets(f"unix:{path}:mode=620", 4)
    opened.append(one)
    assert len(one.sockets) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o620
    assert one.place == f"unix {path}"
    one.close()
    one.close()
    assert list(tmp_path.iterdir()) == []


def test_unix_socket_without_lock(tmp_path: Path) -> None:
    """``lockfile=0`` makes no lock file."""
    path = tmp_path / "s.sock"
    one = open_sockets(f"unix:{path}:lockfile=0")
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.sock"]
    one.close()


@pytest.mark.parametrize("lock", ["0", "1"])
def test_unix_socket_in_use_is_left_alone(tmp_path: Path, opened: list[Opened], lock: str) -> None:
    """The socket in use goes on; the second start fails."""
    endpoint = f"unix:{tmp_path / 's.sock'}:lockfile={lock}"
    opened.append(open_sockets(endpoint))
    with pytest.raises(CannotListenError):
        open_sockets(endpoint)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s.sock"))
        opened[0].sockets[0].accept()[0].close()


@pytest.mark.parametrize("holder", [2**22 - 3, os.getpid()], ids=["nobody", "itself"])
def test_unix_socket_left_behind_is_replaced(
    tmp_path: Path, opened: list[Opened], holder: int
) -> None:
    """Another process may have the process id in the lock: in a container it is often our own."""
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    os.symlink(str(holder), f"{path}.lock")
    opened.append(open_sockets(f"unix:{path}"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A wrong path costs nobody a file."""
    path = tmp_path / "notes"
    path.write_text("mine")
    with pytest.raises(CannotListenError):
        open_sockets(f"unix:{path}")
    assert path.read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes"]


def test_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    """The process that made the file removes it."""
    path = tmp_path / "s.sock"
    one = open_sockets(f"unix:{path}:lockfile=0")
    path.unlink()
    other = open_sockets(f"unix:{path}:lockfile=0")
    one.close()
    assert path.exists()
    other.close()
    assert not path.exists()


class Passed:
    """The sockets that systemd has passed to this process, as Twisted's parser sees them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **named: int) -> None:
        from twisted.internet import endpoints
        from twisted.internet.interfaces import IStreamServerEndpointStringParser
        from twisted.plugin import getPlugins

        fds = systemd.ListenFDs(list(named.values()), list(named))
        for parser in getPlugins(IStreamServerEndpointStringParser):
            if isinstance(parser, endpoints._SystemdParser):
                monkeypatch.setattr(parser, "_sddaemon", fds)


def test_socket_of_systemd_is_taken_over(
    monkeypatch: pytest.MonkeyPatch, opened: list[Opened]
) -> None:
    """It is found by name or index, and there is one, whatever number is asked for."""
    for key in ("name=web", "index=0"):
        with socket.socket() as passed:
            passed.bind(("127.0.0.1", 0))
            passed.listen()
            address = passed.getsockname()
            Passed(monkeypatch, web=os.dup(passed.fileno()))
        one = open_sockets(f"systemd:domain=INET:{key}", 3)
        opened.append(one)
        assert len(one.sockets) == 1
        assert not os.get_inheritable(one.sockets[0].fileno())
        with socket.create_connection(address, timeout=10):
            one.sockets[0].setblocking(True)
            one.sockets[0].accept()[0].close()


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("systemd:domain=INET:index=5", "systemd has passed no socket for"),
        ("systemd:domain=INET:name=other", "systemd has passed no socket for"),
        ("systemd:domain=INET6:name=web", "a listening stream socket of AF_INET6"),
        ("systemd:domain=INET:name=deaf", "a listening stream socket of AF_INET"),
        ("systemd:domain=INET:name=file", "is no socket"),
    ],
)
def test_what_systemd_has_not_passed_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, endpoint: str, said: str
) -> None:
    """The message is one line with the reason."""
    with socket.socket() as web, socket.socket() as deaf, (tmp_path / "f").open("w") as file:
        web.bind(("127.0.0.1", 0))
        web.listen()
        fds = {"web": web.fileno(), "deaf": deaf.fileno(), "file": file.fileno()}
        Passed(monkeypatch, **{name: os.dup(fd) for name, fd in fds.items()})
        with pytest.raises(ConfigError, match=said) as caught:
            open_sockets(endpoint)
    assert "\n" not in str(caught.value)


@pytest.mark.real(False)
@pytest.mark.parametrize(
    "endpoint", ["", "tcp", "tcp:x", "nothing:80", "tcp:80:port=81", "fd:3", "ssl:443", "8080"]
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    """The message is one line with the endpoint."""
    with pytest.raises(ConfigError, match=r"^listen: expected") as caught:
        open_sockets(endpoint)
    assert repr(endpoint) in str(caught.value)
    assert "\n" not in str(caught.value)
