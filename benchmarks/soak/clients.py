"""Clients on plain sockets that say exactly what failed, and repeat nothing in secret."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.backends import SMALL_BODY
from benchmarks.processes import LOOPBACK

__all__ = [
    "LARGE",
    "SMALL",
    "Connection",
    "Crowd",
    "Failure",
    "Reply",
    "Wanted",
    "get",
    "nap",
    "until",
]

#: Seconds for each step of a request.
TIMEOUT = 20.0
#: The number of failures whose texts are kept.
KEPT = 20


class Failure(Exception):
    """A request failed; the text says why."""

    def __init__(self, kind: str, detail: object = "", unanswered: bool = False) -> None:
        super().__init__(f"{kind}: {detail}" if detail != "" else kind)
        self.kind = kind
        #: Whether the connection ended before the first byte of a reply.
        self.unanswered = unanswered


@dataclass(frozen=True)
class Reply:
    """A whole reply; ``closes`` if the connection ends with it."""

    status: int
    body: bytes
    closes: bool


class Connection:
    """One connection to slardar.

    :raise Failure: if it cannot be made.
    """

    def __init__(self, port: int) -> None:
        self.asked = 0
        try:
            self.sock = socket.create_connection((LOOPBACK, port), TIMEOUT)
        except ConnectionRefusedError as error:
            raise Failure("refused", error) from error
        except OSError as error:
            raise Failure("not connected", error) from error
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self.sock.close()

    def get(self, host: str, path: str) -> Reply:
        """Send a GET, and read the whole reply.

        :raise Failure: if no whole reply comes.
        """
        self.asked += 1
        data = b""
        try:
            self.sock.sendall(
                f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: soak\r\n\r\n".encode()
            )
            while b"\r\n\r\n" not in data:
                more = self.sock.recv(65536)
                if not more:
                    raise Failure("closed", f"after {data[:60]!r}", unanswered=not data)
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            return self._rest(head, body)
        except TimeoutError as error:
            raise Failure("timed out", f"after {data[:60]!r}") from error
        except OSError as error:
            raise Failure("reset", f"{error} after {data[:60]!r}", unanswered=not data) from error

    def _rest(self, head: bytes, body: bytes) -> Reply:
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if words[0] != "HTTP/1.1" or not words[1].isdigit():
            raise Failure("no status line", first)
        headers = {name.lower(): value.strip() for name, _, value in _pairs(lines)}
        if not headers.get("content-length", "").isdigit():
            raise Failure("no length", first)
        length = int(headers["content-length"])
        parts, have = [body], len(body)
        while have < length:
            more = self.sock.recv(262144)
            if not more:
                raise Failure("short body", f"{have} of {length} bytes")
            parts.append(more)
            have += len(more)
        if have > length:
            raise Failure("long body", f"{have} bytes where {length} were announced")
        return Reply(int(words[1]), b"".join(parts), headers.get("connection") == "close")


def _pairs(lines: Sequence[str]) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in lines]


@dataclass(frozen=True)
class Wanted:
    """A request, and its correct bodies; the status must be 200."""

    host: str
    path: str
    bodies: tuple[bytes, ...]

    def check(self, reply: Reply) -> Reply:
        """Return the reply.

        :raise Failure: if it is not correct.
        """
        if reply.status != 200:
            raise Failure(f"status {reply.status}", reply.body[:200])
        if reply.body not in self.bodies:
            raise Failure("wrong body", f"{len(reply.body)} bytes, {reply.body[:60]!r}")
        return reply


SMALL = Wanted("bench.example.com", "/small/soak", (SMALL_BODY.encode(),))
LARGE = Wanted("bench.example.com", "/64k/soak", (bytes(range(256)) * 256,))


def get(port: int, wanted: Wanted) -> Reply:
    """The correct reply to a request on a new connection.

    :raise Failure: if none comes.
    """
    connection = Connection(port)
    try:
        return wanted.check(connection.get(wanted.host, wanted.path))
    finally:
        connection.close()


class Crowd:
    """Clients in threads: some keep their connections, others never do.

    They ask for ``wanted`` in turn.  ``pause`` is seconds between two requests of a client,
    so that wrk, the proxy and the backends have the machine.

    If a request on a kept connection gets no byte of a reply, the connection was closing.
    The request is counted as such, and sent once more on a new connection.  If it fails
    there, or fails in any other way, it counts as failed.
    """

    def __init__(
        self,
        port: int,
        wanted: Sequence[Wanted] = (SMALL, SMALL, SMALL, LARGE),
        keeping: int = 4,
        fresh: int = 2,
        pause: float = 0.01,
    ) -> None:
        self._port = port
        self._wanted = wanted
        self._pause = pause
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.good = 0
        self.failed = 0
        self.closing = 0
        self.kinds: Counter[str] = Counter()
        #: The first failures, each with the moment it happened.
        self.failures: list[tuple[float, str]] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number < keeping,), daemon=True)
            for number in range(keeping + fresh)
        ]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT)

    def wait(self, seconds: float) -> None:
        """Let the clients go on for ``seconds``."""
        self._stopped.wait(seconds)

    def more(self, count: int) -> None:
        """Wait until ``count`` more requests have succeeded or failed.

        :raise RuntimeError: if they take longer than a minute.
        """
        goal = self.good + self.failed + count
        until(lambda: self.good + self.failed >= goal, f"{count} requests end", 60.0)

    def _run(self, keeps: bool) -> None:
        connection: Connection | None = None
        turn = 0
        while not self._stopped.wait(self._pause):
            wanted = self._wanted[turn % len(self._wanted)]
            turn += 1
            connection = self._ask(connection, wanted)
            if connection is not None and not keeps:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _ask(self, connection: Connection | None, wanted: Wanted) -> Connection | None:
        """Make one request; returns the connection if it can be kept."""
        while True:
            kept = connection is not None
            try:
                connection = connection or Connection(self._port)
                reply = wanted.check(connection.get(wanted.host, wanted.path))
            except Failure as failure:
                if connection is not None:
                    connection.close()
                    connection = None
                if kept and failure.unanswered:
                    with self._lock:
                        self.closing += 1
                        self._keep(f"into a closing connection, {failure}")
                    continue
                with self._lock:
                    self.failed += 1
                    self.kinds[failure.kind] += 1
                    self._keep(str(failure))
                return None
            with self._lock:
                self.good += 1
            if reply.closes:
                connection.close()
                return None
            return connection

    def _keep(self, text: str) -> None:
        if len(self.failures) < KEPT:
            self.failures.append((time.monotonic(), text))

    def said(self) -> list[str]:
        """The failures, for the report."""
        return [text for _, text in self.failures]


def until(is_so: Callable[[], Any], what: str, seconds: float = 30.0) -> float:
    """Wait until ``is_so`` is true; returns the seconds that it took.

    :raise RuntimeError: if it is not true within ``seconds``.
    """
    begin = time.monotonic()
    pause = threading.Event()
    while not is_so():
        if time.monotonic() - begin > seconds:
            raise RuntimeError(f"not within {seconds:g} s: {what}")
        pause.wait(0.005)
    return time.monotonic() - begin


def nap(seconds: float) -> None:
    """Sleep, so that other threads and processes work."""
    threading.Event().wait(seconds)
