"""A steady load that waits for nobody: request N begins at its moment, whatever became of others.

A time is measured from the moment at which the request should have begun.  So a proxy that
stands still makes all requests late that came meanwhile, and not only the one that it held.
"""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from benchmarks.check import HOST
from benchmarks.processes import LOOPBACK

__all__ = ["Answer", "Load", "Sample", "read_answer"]

#: Seconds after which a client gives up.
TIMEOUT = 5.0
#: The share of POSTs.
POST_SHARE = 0.1
#: By these words requests are told from heartbeats.
GET = "GET /job/{number} HTTP/1.1\r\nHost: {host}\r\n\r\n"
POST = "POST /job/{number} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6\r\n\r\nhello\n"


@dataclass(frozen=True)
class Sample:
    """One request."""

    #: When it should have begun, by the monotonic clock.
    begun: float
    #: From then to the end of the reply, or to the failure.
    seconds: float
    is_get: bool
    #: The server that answered, as far as there was one.
    server: str
    #: Why it failed; empty if it did not.
    failure: str


@dataclass(frozen=True)
class Answer:
    """A whole reply."""

    status: int
    server: str
    closes: bool


def read_answer(data: bytes, at_end: bool) -> Answer | None:
    """The reply that ``data`` is, or None while it is not complete.

    ``at_end``: the connection has ended, so no more will come.
    """
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    closes = headers.get("connection", "").lower() == "close"
    if "content-length" in headers:
        complete = len(body) >= int(headers["content-length"])
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        complete = body.endswith(b"0\r\n\r\n")
    else:
        complete = closes = at_end
    if not complete:
        return None
    return Answer(int(first.split(" ")[1]), headers.get("x-served-by", ""), closes)


@dataclass
class _Request:
    begun: float
    data: bytes
    is_get: bool
    over: bool = False


@dataclass
class _Client:
    """A connection, and the request on it."""

    sock: socket.socket
    request: _Request | None = None
    received: bytes = b""
    connected: bool = False


@dataclass
class Load:
    """``rate`` requests a second to a local port, from a thread, until :meth:`stop`.

    Connections are kept; a request that finds none idle opens one.
    """

    port: int
    rate: float
    #: The requests that have ended, in the order of their ends.
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lot = random.Random(1)
        self._idle: list[_Client] = []
        #: Requests under way, the oldest first.
        self._under_way: deque[tuple[_Request, _Client]] = deque()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

        #: What has ended the thread, if it is not :meth:`stop`.
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no more requests, and wait for the end of those that have begun."""
        self._stopped.set()
        self._thread.join(2 * TIMEOUT)

    def _run(self) -> None:
        try:
            self._send_all()
        except BaseException as error:
            # A load that has ended unseen would look like one without failures.
            self.error = error

    def _send_all(self) -> None:
        began = time.monotonic()
        number = 0
        while not self._stopped.is_set() or self._under_way:
            due = began + number / self.rate
            if not self._stopped.is_set() and due <= time.monotonic():
                self._begin(number, due)
                number += 1
                continue
            # Not longer than this, to see that it is to stop.
            wait = min(0.05, max(0.0, due - time.monotonic()))
            for key, _events in self._selector.select(wait):
                self._ready(key.data)
            self._give_up()
        for client in self._idle:
            client.sock.close()
        self._selector.close()

    def _begin(self, number: int, due: float) -> None:
        # By lot: every tenth one would go to the same servers always.
        is_get = self._lot.random() >= POST_SHARE
        data = (GET if is_get else POST).format(number=number, host=HOST).encode()
        request = _Request(due, data, is_get)
        client = self._idle.pop() if self._idle else self._connect()
        client.request, client.received = request, b""
        self._under_way.append((request, client))
        if client.connected:
            self._send(client)

    def _connect(self) -> _Client:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex((LOOPBACK, self.port))
        client = _Client(sock)
        self._selector.register(sock, selectors.EVENT_WRITE, client)
        return client

    def _ready(self, client: _Client) -> None:
        if not client.connected:
            error = client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._failed(client, "refused")
                return
            client.connected = True
            self._selector.modify(client.sock, selectors.EVENT_READ, client)
            self._send(client)
            return
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self._failed(client, "reset")
            return
        client.received += data
        if client.request is None:
            # The proxy closes an idle connection.
            self._idle.remove(client)
            self._close(client)
            return
        answer = read_answer(client.received, not data)
        if answer is not None:
            failure = "" if answer.status == 200 else f"status {answer.status}"
            self._over(client, answer.server, failure)
            if answer.closes or not data:
                self._close(client)
            else:
                self._idle.append(client)
        elif not data:
            self._failed(client, "closed")

    def _send(self, client: _Client) -> None:
        assert client.request is not None
        try:
            client.sock.send(client.request.data)
        except OSError:
            self._failed(client, "reset")

    def _failed(self, client: _Client, failure: str) -> None:
        if client.request is None:
            self._idle.remove(client)
        else:
            self._over(client, "", failure)
        self._close(client)

    def _over(self, client: _Client, server: str, failure: str) -> None:
        request = client.request
        assert request is not None
        request.over, client.request = True, None
        seconds = time.monotonic() - request.begun
        self.samples.append(Sample(request.begun, seconds, request.is_get, server, failure))

    def _close(self, client: _Client) -> None:
        self._selector.unregister(client.sock)
        client.sock.close()

    def _give_up(self) -> None:
        """End the requests whose clients have no more patience, and forget those that are over."""
        while self._under_way:
            request, client = self._under_way[0]
            if not request.over:
                if time.monotonic() < request.begun + TIMEOUT:
                    return
                self._failed(client, "timed out")
            self._under_way.popleft()
