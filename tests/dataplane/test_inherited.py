"""Listening sockets that another process has handed over."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from slardar.dataplane.inherited import Inherited, adopt_sockets
from slardar.dataplane.sockets import Opened, open_sockets

pytestmark = pytest.mark.real

LOCAL = "tcp:0:interface=127.0.0.1"


def handed_over(opened: Opened) -> list[socket.socket]:
    """The sockets as the other process has them."""
    return [sock.dup() for sock in opened.sockets]


def listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


@pytest.fixture
def kept() -> Iterator[list[Opened]]:
    """Sockets that are closed after the test."""
    found: list[Opened] = []
    yield found
    for one in found:
        one.close()


def adopted(kept: list[Opened], endpoint: str, before: int, after: int) -> Inherited:
    """Sockets that were opened for ``before`` listeners, taken over for ``after``."""
    kept.append(open_sockets(endpoint, before))
    found = adopt_sockets(endpoint, handed_over(kept[0]), after)
    kept.append(found)
    return found


@pytest.mark.parametrize(
    ("before", "after", "number"), [(1, 1, 1), (2, 2, 2), (3, 1, 3), (3, 2, 3), (1, 3, 1)]
)
def test_all_of_them_are_used(kept: list[Opened], before: int, after: int, number: int) -> None:
    """This holds for fewer listeners than sockets; a socket that cannot be shared stays one."""
    found = adopted(kept, LOCAL, before, after)
    assert len(found.sockets) == number
    assert all(map(listens, found.sockets))
    assert not any(sock.getblocking() for sock in found.sockets)
    assert found.place == kept[0].place
    assert found.endpoint == LOCAL


def test_those_that_are_added_listen_when_there_is_no_way_back(kept: list[Opened]) -> None:
    """Until then no connection reaches the added sockets, and they may be closed."""
    found = adopted(kept, LOCAL, 2, 4)
    assert [listens(sock) for sock in found.sockets] == [True, True, False, False]
    assert len({sock.getsockname() for sock in found.sockets}) == 1
    found.own()
    assert all(map(listens, found.sockets))
    found.own()


def test_socket_of_somebody_else_is_shared(
    kept: list[Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who may not open more sockets, since root opened them, shares the existing ones."""

    def refused(*_: object, **__: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("slardar.dataplane.inherited.bound", refused)
    assert len(adopted(kept, LOCAL, 2, 4).sockets) == 2


@pytest.mark.parametrize("lock", ["", ":lockfile=0"])
def test_file_of_a_unix_socket_is_the_last_holders(
    tmp_path: Path, kept: list[Opened], lock: str
) -> None:
    """Neither a new process that fails nor an old one that leaves removes it."""
    path = tmp_path / "x.sock"
    endpoint = f"unix:{path}{lock}"
    link = Path(f"{path}.lock")
    old = open_sockets(endpoint, 2)
    kept.append(old)
    fails = adopt_sockets(endpoint, handed_over(old), 2)
    assert len(fails.sockets) == 1
    assert fails.is_elsewhere
    fails.close()
    assert path.exists()
    new = adopt_sockets(endpoint, handed_over(old), 2)
    kept.append(new)
    if not lock:
        # Pretend that another process has made it.
        link.unlink()
        link.symlink_to("1")
    new.own()
    assert not new.is_elsewhere
    old.leave()
    old.close()
    assert old.is_elsewhere
    assert path.exists()
    assert link.is_symlink() == (not lock)
    if not lock:
        assert os.readlink(link) == str(os.getpid())
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    new.close()
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_gone_is_not_missed(tmp_path: Path, kept: list[Opened]) -> None:
    """It may be gone before it is taken over, or be another file when it is to be removed."""
    path = tmp_path / "x.sock"
    old = open_sockets(f"unix:{path}")
    kept.append(old)
    one, other = (adopt_sockets(f"unix:{path}", handed_over(old), 1) for _ in range(2))
    old.leave()
    one.own()
    path.unlink()
    other.own()
    path.touch()
    one.close()
    other.close()
    assert path.exists()


def test_abstract_name_has_no_file(kept: list[Opened]) -> None:
    """The name ends with its last socket."""
    found = adopted(kept, f"unix:\0slardar-test-{os.getpid()}", 1, 2)
    found.own()
    assert len(found.sockets) == 1
    assert all(map(listens, found.sockets))
