"""Listening sockets from Twisted's endpoint strings, without a reactor.

The strings mean what Twisted documents: its own parser reads them, and the endpoint
that it makes is asked to listen on an object that only makes sockets.  Whoever opens
the sockets may hand them to other processes; nothing watches them here.
"""

# Twisted's endpoints and lock files have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.python.lockfile import FilesystemLock

from slardar.errors import ConfigError
from slardar.model.listener import ListenerSpec

__all__ = [
    "BACKLOG",
    "EndpointNote",
    "Opened",
    "bound",
    "clean_unix",
    "listening_place",
    "open_sockets",
]

#: Connections that wait in the kernel to be accepted; nginx has 511, and Linux cuts
#: it to net.core.somaxconn.
BACKLOG = 4096
#: Seconds for which a port that is taken is asked for again: the workers of a process
#: that was killed let go of theirs a moment after it.
_PATIENCE = 1.0
#: Seconds between two attempts.
_PAUSE = 0.05
#: Endpoints whose plain socket is all there is to them; another one's work (TLS)
#: would be left out.
_PLAIN = (
    AdoptedStreamServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
)


class Opened:
    """The listening sockets of one endpoint, and what is left behind without them."""

    def __init__(
        self, sockets: list[socket.socket], clean: Callable[[], None], endpoint: str = ""
    ) -> None:
        #: One a listener; a single one if the endpoint can have no more.
        self.sockets = sockets
        #: What it was opened for.
        self.endpoint = endpoint
        #: The listener of the data plane that it is for, if it is for one.
        self.listener: ListenerSpec | None = None
        #: For a person, as :func:`listening_place` says it.
        self.place = listening_place(sockets[0])
        self._clean = clean
        #: Another process has them too, and what they leave behind is that one's to remove.
        self.is_elsewhere = False

    def own(self) -> None:
        """They are this process's alone: nothing to do for what was opened here."""

    def leave(self) -> None:
        """Another process has taken them over, and goes on with them."""
        self.is_elsewhere = True
        self._clean = _nothing

    def close(self) -> None:
        """Close them, and remove the file of a unix socket that was made here.

        May be called again, without effect.
        """
        sockets, self.sockets = self.sockets, []
        for sock in sockets:
            sock.close()
        if sockets:
            self._clean()


def open_sockets(endpoint: str, count: int = 1) -> Opened:
    """Listen on an endpoint string, with ``count`` sockets if it is a TCP port.

    The kernel spreads connections evenly over them (SO_REUSEPORT).  A unix socket, or
    one that systemd passed, is one whatever ``count`` is.

    Blocks for up to a second while a port is taken: for the start only.  Raises
    ConfigError for what is no such endpoint and CannotListenError if it is not to be
    had; nothing is left open then.
    """
    maker = _Maker(count)
    try:
        server = serverFromString(maker, endpoint)
    except (IndexError, KeyError) as error:
        if not endpoint.startswith("systemd:"):
            raise _not_an_endpoint(endpoint, error) from None
        raise ConfigError(f"listen: systemd has passed no socket for {endpoint!r}") from None
    except Exception as error:
        raise _not_an_endpoint(endpoint, error) from None
    if not isinstance(server, _PLAIN):
        raise ConfigError(f"listen: expected tcp:, tcp6:, unix: or systemd:, got {endpoint!r}")
    failures: list[BaseException] = []
    # All of them listen at once; the Deferred is how they tell that they could not.
    server.listen(Factory()).addErrback(lambda failure: failures.append(failure.value))
    if failures:
        raise failures[0]
    assert maker.opened is not None
    maker.opened.endpoint = endpoint
    return maker.opened


def listening_place(sock: socket.socket) -> str:
    """Where a socket listens: ``tcp 127.0.0.1:8080``, ``unix /run/x.sock``."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        # A name in the abstract namespace is bytes that begin with NUL.
        return f"unix {name}" if isinstance(name, str) else f"unix @{name[1:].decode('latin-1')}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"tcp {host}:{name[1]}"


def _not_an_endpoint(endpoint: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"listen: expected a Twisted endpoint such as tcp:8080, got {endpoint!r} ({error})"
    )


class EndpointNote:
    """What endpoints take for a reactor: it opens nothing and notes what they would."""

    def __init__(self) -> None:
        #: Of a TCP endpoint.
        self.port: int | None = None
        #: Of a unix one, the mode of the file, and whether Twisted's lock is to stand beside it.
        self.path: str | None = None
        self.mode = 0
        self.has_lock = False
        self.backlog = 1

    def listenTCP(self, port: int, factory: Any, backlog: int, interface: str) -> None:
        self.port, self.backlog = port, backlog

    def listenUNIX(
        self,
        address: str,
        factory: Any,
        backlog: int,
        mode: int,
        wantPID: bool,  # noqa: N803
    ) -> None:
        self.path, self.mode, self.has_lock = os.fsdecode(address), mode, bool(wantPID)
        self.backlog = backlog


class _Maker:
    """What endpoints take for a reactor: it listens, and does nothing more."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.opened: Opened | None = None

    def listenTCP(self, port: int, factory: Any, backlog: int, interface: str) -> None:
        self.opened = _open_tcp(port, interface, self._count)

    def listenUNIX(
        self,
        address: str,
        factory: Any,
        backlog: int,
        mode: int,
        wantPID: bool,  # noqa: N803
    ) -> None:
        self.opened = _open_unix(address, mode, wantPID)

    def adoptStreamPort(self, fd: int, family: int, factory: Any) -> None:
        self.opened = _adopt(fd, family)


# TCP.


def _open_tcp(port: int, interface: str, count: int) -> Opened:
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    sockets: list[socket.socket] = []
    try:
        address = _address(port, interface, family)
        # First without SO_REUSEPORT, which would let a second slardar of the same user
        # share the port in silence.
        sockets.append(_bound_in_time(family, address))
        if count > 1:
            address = sockets[0].getsockname()
            sockets.pop().close()
            for _ in range(count):
                sockets.append(bound(family, address, shared=True))
        for sock in sockets:
            sock.listen(BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise CannotListenError(interface, port, error) from None
    return Opened(sockets, _nothing)


def _address(port: int, interface: str, family: int) -> Any:
    if family == socket.AF_INET:
        return (interface, port)
    # With its scope: fe80::1%eth0.
    found = socket.getaddrinfo(
        interface, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    return found[0][4]


def _bound_in_time(family: int, address: Any) -> socket.socket:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return bound(family, address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise
            select.select((), (), (), _PAUSE)


def bound(family: int, address: Any, shared: bool = False) -> socket.socket:
    """A TCP socket that does not listen yet; ``shared``: with SO_REUSEPORT, so that others
    of the same user may have the same address.  Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


# Unix sockets.


def _open_unix(path: str, mode: int, with_lock: bool) -> Opened:
    name = os.fsdecode(path)
    if name.startswith("\0"):
        return _open_abstract(name)
    lock = FilesystemLock(f"{name}.lock") if with_lock else None
    if lock is not None and not _lock(lock, name):
        raise CannotListenError(None, name, OSError("another process has its lock"))
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if _is_left_behind(name):
            os.unlink(name)
        sock.bind(name)
        os.chmod(name, mode)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if lock is not None:
            lock.unlock()
        raise CannotListenError(None, name, error) from None
    return Opened([sock], clean_unix(name, lock))


def clean_unix(name: str, lock: FilesystemLock | None) -> Callable[[], None]:
    """What removes a unix socket's file, which is there now, and its lock."""
    made = os.stat(name)

    def clean() -> None:
        try:
            now = os.stat(name)
            # Somebody may have put another one in its place.
            if not os.path.samestat(now, made):
                return
            os.unlink(name)
        except FileNotFoundError:
            pass  # Twisted's ports remove it themselves
        except OSError:
            return  # the right to remove it is gone (twistd --uid)
        if lock is not None:
            try:
                lock.unlock()
            except (OSError, ValueError):
                pass

    return clean


def _open_abstract(name: str) -> Opened:
    """A name that is no file: it has no mode, and ends with its socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(name)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise CannotListenError(None, f"@{name[1:]}", error) from None
    return Opened([sock], _nothing)


def _lock(lock: FilesystemLock, name: str) -> bool:
    """Take Twisted's lock of a unix socket.

    It names its holder by pid, and after a crash that number may belong to somebody
    else (in a container, always: to us).  The socket tells better whether it is held.
    """
    if lock.lock():
        return True
    if os.path.exists(name) and not _is_left_behind(name):
        return False
    try:
        os.unlink(lock.name)
    except OSError:
        return False
    return bool(lock.lock())


def _is_left_behind(name: str) -> bool:
    """Whether there is a socket by this name that nobody listens on."""
    try:
        if not stat.S_ISSOCK(os.stat(name).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(name)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False  # a queue that is full, or not ours to know
    return False


# systemd's.


def _adopt(fd: int, family: int) -> Opened:
    try:
        sock = socket.socket(fileno=os.dup(fd))
    except OSError as error:
        raise ConfigError(
            f"listen: systemd's descriptor {fd} is no socket ({error.strerror})"
        ) from None
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.family != family or sock.type != socket.SOCK_STREAM or not listens:
        sock.close()
        raise ConfigError(
            f"listen: expected a listening stream socket of {socket.AddressFamily(family).name} "
            f"from systemd as descriptor {fd}"
        )
    os.set_inheritable(sock.fileno(), False)
    sock.setblocking(False)
    return Opened([sock], _nothing)


def _nothing() -> None:
    """Nothing to remove."""
