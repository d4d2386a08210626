"""One server behind the proxies: ``python server.py NAME HOST PORT SECONDS``.

It answers every request after ``SECONDS``.  ``GET /mode/slow`` makes it take ten times as long,
``GET /mode/errors`` makes it answer half of the requests with 500, drawn by lot, and
``GET /mode/good`` ends both.  ``/health`` is always answered well and at once.

It imports nothing of the benchmarks, so that it starts quickly, also in another network
namespace.
"""

from __future__ import annotations

import heapq
import itertools
import random
import selectors
import socket
import sys
import time

SLOWER = 10
ERROR_SHARE = 0.5


class Server:
    """One process, one thread; a reply that waits delays no other."""

    def __init__(self, name: str, host: str, port: int, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._mode = "good"
        # The same replies fail under every proxy.
        self._lot = random.Random(4711)
        self._listener = socket.create_server((host, port), backlog=1024)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._received: dict[socket.socket, bytes] = {}
        #: Replies that wait: when, a number that keeps their order, where to, and what.
        self._waiting: list[tuple[float, int, socket.socket, bytes]] = []
        self._numbers = itertools.count()

    def serve(self) -> None:
        """Serve until the process ends."""
        while True:
            timeout = None
            if self._waiting:
                timeout = max(0.0, self._waiting[0][0] - time.monotonic())
            for key, _events in self._selector.select(timeout):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._read(key.fileobj)
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                _, _, sock, reply = heapq.heappop(self._waiting)
                self._send(sock, reply)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received[sock] = b""
        self._selector.register(sock, selectors.EVENT_READ)

    def _read(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(sock)
            return
        data = self._received[sock] + data
        while b"\r\n\r\n" in data:
            head, _, rest = data.partition(b"\r\n\r\n")
            length = _length(head)
            if len(rest) < length:
                break
            data = rest[length:]
            self._answer(sock, head)
        self._received[sock] = data

    def _answer(self, sock: socket.socket, head: bytes) -> None:
        target = head.split(b" ", 2)[1]
        seconds, status = 0.0, "200 OK"
        if target.startswith(b"/mode/"):
            self._mode = target.rpartition(b"/")[2].decode()
        elif target != b"/health":
            seconds = self._seconds * (SLOWER if self._mode == "slow" else 1)
            if self._mode == "errors" and self._lot.random() < ERROR_SHARE:
                status = "500 Internal Server Error"
        text = f"HTTP/1.1 {status}\r\nX-Served-By: {self._name}\r\nContent-Length: 3\r\n\r\nok\n"
        entry = (time.monotonic() + seconds, next(self._numbers), sock, text.encode())
        heapq.heappush(self._waiting, entry)

    def _send(self, sock: socket.socket, reply: bytes) -> None:
        if sock in self._received:
            try:
                sock.sendall(reply)
            except OSError:
                self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        del self._received[sock]
        sock.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


if __name__ == "__main__":
    Server(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])).serve()
