"""Where a control channel listens."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor  # noqa: TID251
from twisted.internet.protocol import Factory, Protocol

from slardar.control.port import ControlPort
from slardar.dataplane.sockets import open_sockets

pytestmark = pytest.mark.real


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("handed_over", [False, True])
async def test_the_file_of_a_unix_socket_keeps_its_mode(tmp_path: Path, handed_over: bool) -> None:
    """Who may not write to it may not call.  It is put right if somebody has changed it."""
    path = tmp_path / "control.sock"
    endpoint = f"unix:{path}:mode=600"
    port = ControlPort(reactor, "amp", "control.amp", endpoint, Factory.forProtocol(Protocol))
    if handed_over:
        port.take(open_sockets(endpoint).sockets)
        port.own()
        path.chmod(0o666)
    else:
        port.open()
    port.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await port.stop()
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_an_abstract_name(tmp_path: Path) -> None:
    """It has no file that could have a mode."""
    port = ControlPort(
        reactor, "amp", "control.amp", f"unix:\0{tmp_path}", Factory.forProtocol(Protocol)
    )
    port.open()
    port.start()
    assert port.place
    await port.stop()


@pytest_twisted.ensureDeferred
async def test_a_socket_of_systemd(tmp_path: Path) -> None:
    """Its unit says which mode the file has."""
    path = tmp_path / "control.sock"
    given = open_sockets(f"unix:{path}:mode=620")
    endpoint = f"systemd:domain=UNIX:name={path.name}"
    port = ControlPort(reactor, "amp", "control.amp", endpoint, Factory.forProtocol(Protocol))
    port.take(given.sockets)
    port.own()
    port.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o620
    await port.stop()
