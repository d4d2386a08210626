"""Servers behind slardar: backends that can be stopped one by one, and one for WebSockets."""

from __future__ import annotations

import base64
import hashlib
import selectors
import signal
import socket
import threading
from pathlib import Path
from typing import Any

from benchmarks.backends import SMALL_BODY
from benchmarks.folder import fill
from benchmarks.processes import LOOPBACK, Program, find_program, free_port

__all__ = ["Backend", "Echo", "frame", "unmask"]

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Backend:
    """One nginx on one port, which answers ``/who`` with its port.

    :raise RuntimeError: if nginx is not installed or does not start.
    """

    def __init__(self, folder: Path, cores: frozenset[int]) -> None:
        program = find_program("nginx")
        if program is None:
            raise RuntimeError("nginx, which serves as the backends, is not installed")
        self.port = free_port()
        self.folder = folder / f"backend-{self.port}"
        self.folder.mkdir()
        values = {"port": self.port, "small_body": SMALL_BODY}
        fill(("soak-backend.conf",), self.folder, values)
        command = (program, "-e", "stderr", "-c", str(self.folder / "soak-backend.conf"))
        self._program = Program("nginx", command, cores, self.folder)
        try:
            self._program.wait_for_port(self.port)
        except BaseException:
            self.stop()
            raise

    @property
    def name(self) -> bytes:
        """The body of its replies."""
        return str(self.port).encode()

    def stop(self) -> None:
        """Stop it as an operator does: at once, even if clients are connected."""
        self._program.stop(signal.SIGTERM)


def frame(text: bytes, mask: bytes = b"") -> bytes:
    """A WebSocket text frame (RFC 6455, 5.2) of at most 125 bytes; clients need a mask."""
    head = bytes((0x81, len(text) | (0x80 if mask else 0)))
    return head + mask + (xor(text, mask) if mask else text)


def xor(text: bytes, mask: bytes) -> bytes:
    """``text`` masked or unmasked with ``mask``."""
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(text))


def unmask(data: bytes) -> tuple[bytes, bytes] | None:
    """The text of the first whole masked frame, and the bytes after the frame."""
    if len(data) < 6:
        return None
    size = data[1] & 0x7F
    if len(data) < 6 + size:
        return None
    return xor(data[6 : 6 + size], data[2:6]), data[6 + size :]


class Echo:
    """A WebSocket server in a thread, which sends every text back."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0), backlog=2048)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, wakes = socket.socketpair()
        self._woken = wakes
        self._selector.register(wakes, selectors.EVENT_READ)
        self._buffers: dict[socket.socket, bytes] = {}
        self._upgraded: set[socket.socket] = set()
        #: The number of tunnels that the other side has ended.
        self.ended = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, *_: Any) -> None:
        self._wake.send(b".")
        self._thread.join(20)
        for sock in (self._listener, self._wake, self._woken, *self._buffers):
            sock.close()
        self._selector.close()

    def _serve(self) -> None:
        while True:
            for key, _events in self._selector.select():
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._read(key.fileobj)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        # Texts are short: the kernel takes them at once.
        sock.settimeout(5)
        self._buffers[sock] = b""
        self._selector.register(sock, selectors.EVENT_READ)

    def _read(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.ended += sock in self._upgraded
            self._upgraded.discard(sock)
            self._selector.unregister(sock)
            del self._buffers[sock]
            sock.close()
            return
        rest = self._buffers[sock] + data
        if sock not in self._upgraded:
            if b"\r\n\r\n" not in rest:
                self._buffers[sock] = rest
                return
            head, _, rest = rest.partition(b"\r\n\r\n")
            sock.sendall(self._switch(head))
            self._upgraded.add(sock)
        while found := unmask(rest):
            text, rest = found
            sock.sendall(frame(text))
        self._buffers[sock] = rest

    @staticmethod
    def _switch(head: bytes) -> bytes:
        key = b""
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"sec-websocket-key":
                key = value.strip()
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
