"""Blocking sockets for tests of the data plane: scripted servers, clients, and a data
plane that serves in this process while the test's script runs in a thread."""

from __future__ import annotations

import functools
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest_twisted
from twisted.internet import threads

from slardar.balancers.wrr import WeightedRoundRobin
from slardar.config import Control, Limits, Settings, Timeouts
from slardar.dataplane.proxy import DataPlane
from slardar.model.live import Live, ServerLive
from slardar.model.parse import parse_upstream
from slardar.model.snapshot import Snapshot
from slardar.model.tls import Keyring, Pair
from tests.certificates import Authority

__all__ = ["Client", "Origin", "Reply", "Served", "Wire", "in_thread", "reply", "wait_for"]

#: Seconds within which a condition must come true, also on a busy machine.
PATIENCE = 20.0


def wait_for(condition: Callable[[], Any], what: str = "it") -> None:
    """Wait until ``condition()`` is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen in time"
        threading.Event().wait(0.005)


def in_thread(test: Callable[..., None]) -> Any:
    """Run a test's script in a thread, so that it may block while the reactor serves."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> Any:
        return threads.deferToThread(test, *arguments, **named)

    return pytest_twisted.inlineCallbacks(_waiting(run))


def _waiting(run: Callable[..., Any]) -> Any:
    @functools.wraps(run)
    def steps(*arguments: Any, **named: Any) -> Any:
        yield run(*arguments, **named)

    return steps


class Reply(NamedTuple):
    """A whole reply."""

    status: int
    headers: dict[str, str]
    body: bytes


def reply(body: bytes = b"ok", status: int = 200, *lines: str) -> bytes:
    """The bytes of a reply with this body."""
    head = "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *lines])
    return head.encode() + b"\r\n\r\n" + body


class Wire:
    """One connection that is read by blocking calls; the base of both sides."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def recv(self, size: int) -> bytes:
        """The next bytes, at most so many; no bytes at the end."""
        return self.sock.recv(size)

    def fill(self) -> bool:
        """Read more bytes; False at the end."""
        data = self.recv(262144)
        self._buffer += data
        return bool(data)

    def line_block(self) -> bytes | None:
        """The lines up to the next empty one; ``None`` at an end before the first byte."""
        while b"\r\n\r\n" not in self._buffer:
            if not self.fill():
                assert not self._buffer, f"ended within a head: {self._buffer!r}"
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        parts, missing = [self._buffer[:size]], size - len(self._buffer[:size])
        self._buffer = self._buffer[size:]
        while missing:
            data = self.recv(min(missing, 262144))
            assert data, f"ended {missing} bytes early"
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def chunks(self) -> bytes:
        """A chunked body."""
        parts = []
        while True:
            while b"\r\n" not in self._buffer:
                assert self.fill(), "ended within a chunked body"
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            size = int(line, 16)
            parts.append(self.exactly(size))
            assert self.exactly(2) == b"\r\n"
            if not size:
                return b"".join(parts)

    def rest(self) -> bytes:
        """All bytes until the end."""
        parts = [self._buffer]
        self._buffer = b""
        while data := self.recv(262144):
            parts.append(data)
        return b"".join(parts)

    def body(self, headers: Mapping[str, str], until_close: bool) -> bytes:
        """The body that these headers announce."""
        if "chunked" in headers.get("transfer-encoding", ""):
            return self.chunks()
        if "content-length" in headers:
            return self.exactly(int(headers["content-length"]))
        return self.rest() if until_close else b""

    def is_open(self) -> bool:
        """Whether the peer has not ended or reset the connection."""
        if not select.select([self.sock], [], [], 0)[0]:
            return True
        try:
            return self.sock.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False

    def wait_closed(self) -> None:
        """Wait for the peer's end or reset."""
        try:
            assert self.recv(1) == b""
        except ConnectionResetError:
            pass

    def end(self) -> None:
        """End this side, and read on."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()


def _headers(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, {name.lower(): value.strip() for name, _, value in pairs}


class Client(Wire):
    """A client's connection."""

    def __init__(self, address: Any, receive_buffer: int = 0) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if not isinstance(address, str) and ":" in address[0]:
            family = socket.AF_INET6
        sock = socket.socket(family)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        super().__init__(sock)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, path: str = "/", host: str = "up", method: str = "GET", *lines: str) -> None:
        """Send a request without a body."""
        head = [f"{method} {path} HTTP/1.1", f"Host: {host}", *lines]
        self.send("\r\n".join(head).encode() + b"\r\n\r\n")

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next reply."""
        block = self.line_block()
        assert block is not None, "the connection ended without a reply"
        first, headers = _headers(block)
        return int(first.split(" ")[1]), headers

    def is_answered(self) -> bool:
        """Whether some of a reply has come."""
        return bool(self._buffer or select.select([self.sock], [], [], 0)[0])

    def reply(self, silent: bool = False) -> Reply:
        """The next whole reply; ``silent`` if it has no body."""
        status, headers = self.head()
        return Reply(status, headers, b"" if silent else self.body(headers, True))

    def get(self, path: str = "/", host: str = "up", *lines: str) -> Reply:
        """The whole reply to a GET."""
        self.ask(path, host, "GET", *lines)
        return self.reply()


class TlsClient(Client):
    """A client's connection with TLS; its handshake begins with the first bytes.

    One thread may read while another one writes.  OpenSSL allows one call at a time for each
    connection, and ``ssl`` holds no lock for it before Python 3.13.
    """

    def __init__(self, address: Any, receive_buffer: int, context: ssl.SSLContext) -> None:
        super().__init__(address, receive_buffer)
        self.sock: Any = context.wrap_socket(
            self.sock, server_hostname="localhost", do_handshake_on_connect=False
        )
        self.sock.settimeout(0)
        self._lock = threading.Lock()

    def _call(self, call: Callable[[Any], Any], argument: Any) -> Any:
        """What the call returns once the socket is ready for it."""
        while True:
            try:
                with self._lock:
                    return call(argument)
            except ssl.SSLWantReadError:
                ready = select.select([self.sock], [], [], PATIENCE)
            except ssl.SSLWantWriteError:
                ready = select.select([], [self.sock], [], PATIENCE)
            if not any(ready):
                raise TimeoutError

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._call(self.sock.send, rest) :]
        except ssl.SSLError as error:
            raise BrokenPipeError from error

    def recv(self, size: int) -> bytes:
        got: bytes = self._call(self.sock.recv, size)
        return got

    def end(self) -> None:
        # Without a word of TLS, as many clients do; ssl would read no more after it.
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def is_open(self) -> bool:
        try:
            self._buffer += self.sock.recv(262144)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            pass
        return False

    def is_answered(self) -> bool:
        if not self._buffer:
            self.is_open()
        return bool(self._buffer)


class Connection(Wire):
    """One connection that a server has accepted."""

    def __init__(self, sock: socket.socket, origin: Origin) -> None:
        super().__init__(sock)
        self.origin = origin
        self.requests: list[str] = []
        self.ended = False

    def head(self) -> tuple[str, dict[str, str]] | None:
        """First line and headers of the next request; ``None`` at the end."""
        try:
            block = self.line_block()
        except (ConnectionResetError, TimeoutError):
            return None
        if block is None:
            return None
        first, headers = _headers(block)
        path = first.split(" ")[1]
        self.requests.append(path)
        self.origin.paths.append(path)
        return first, headers

    def request(self) -> tuple[str, dict[str, str], bytes] | None:
        """The next whole request."""
        head = self.head()
        return None if head is None else (*head, self.body(head[1], False))


Script = Callable[[Connection], None]


def answer_all(connection: Connection) -> None:
    """Answer every request with the server's name, and keep the connection."""
    while connection.request() is not None:
        connection.send(reply(connection.origin.name.encode()))


class Origin:
    """A server on a port that the kernel chose; each connection runs ``script``."""

    def __init__(
        self,
        script: Script = answer_all,
        name: str = "origin",
        host: str = "127.0.0.1",
        authority: Authority | None = None,
    ) -> None:
        #: With an authority, which signs its certificate, it is spoken to over TLS.
        self.tls: dict[str, Any] | None = None
        self._context: ssl.SSLContext | None = None
        if authority is not None:
            self.tls = {"ca": authority.file.read_text(), "server_name": host}
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*authority.issue(host.replace(":", "-"), (host,)))
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, 0), family=family, backlog=1024)
        self.host = host
        self.port: int = self.listener.getsockname()[1]
        self.name = name
        self.script = script
        #: Exceptions of scripts; a test that leaves one here fails.
        self.errors: list[BaseException] = []
        self.connections: list[Connection] = []
        self.paths: list[str] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def server(self) -> dict[str, Any]:
        """Its entry in an upstream."""
        found: dict[str, Any] = {"host": self.host, "port": self.port}
        return found if self.tls is None else {**found, "tls": self.tls}

    @property
    def open_connections(self) -> int:
        """The number of connections whose script still runs."""
        return sum(1 for connection in self.connections if not connection.ended)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            connection = Connection(sock, self)
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            if self._context is not None:
                # A reset would take with it what waits behind tickets for sessions.
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.sock = self._context.wrap_socket(connection.sock, server_side=True)
            with connection.sock:
                self.script(connection)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the proxy has left, as it may
        except BaseException as error:
            self.errors.append(error)
        finally:
            connection.ended = True

    def stop(self) -> None:
        """Stop listening, close open connections, and raise the first error."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self._accepting.join(PATIENCE)
        cut = [connection for connection in self.connections if not connection.ended]
        for connection in cut:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(PATIENCE)
        errors = [error for error in self.errors if not isinstance(error, OSError)]
        if not cut and errors:
            raise errors[0]


class Served:
    """A data plane on the reactor, controlled from the test's thread.

    With a folder, in which certificates are made, its clients come with TLS.
    """

    def __init__(
        self,
        reactor: Any,
        limits: Limits,
        timeouts: Timeouts,
        control: Control | None = None,
        folder: Path | None = None,
    ) -> None:
        self.reactor = reactor
        self.live = Live()
        settings = Settings(limits=limits, timeouts=timeouts, control=control or Control())
        self.plane = DataPlane(reactor, settings, self.live, lambda mode: WeightedRoundRobin)
        self.snapshot = Snapshot.build(0, {}, (), None)
        self.address: Any = None
        self._stopping: Any = None
        self._clients: list[Client] = []
        self._authority = None if folder is None else Authority(folder)
        self._context: ssl.SSLContext | None = None

    async def begin(self, endpoint: str) -> None:
        """Serve."""
        if self._authority is not None:
            endpoint = endpoint.replace("tcp", "tls")
            cert, key = (path.read_text() for path in self._authority.issue("x", ("localhost",)))
            await self.plane.take_keyring(Keyring((Pair("x", cert, key, ("localhost",), "ec", 0),)))
            self._context = self._authority.client()
        await self.plane.listen(endpoint)
        name = self.plane._clients.listeners[0].sock.getsockname()
        self.address = name if isinstance(name, str) else name[:2]
        self.plane.start()

    async def end(self) -> None:
        """Stop, if the test has not, and close connections that it left open."""
        for client in self._clients:
            client.close()
        if self._stopping is None:
            self.plane._drain_timeout = 0.0
            await self.plane.stop()

    def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in the reactor's thread, from the test's thread."""
        return threads.blockingCallFromThread(self.reactor, call, *arguments)

    def put(self, name: str = "up", *origins: Origin, **body: Any) -> None:
        """Serve an upstream with these servers from now on."""
        if origins:
            body["servers"] = [origin.server for origin in origins]
        upstream = parse_upstream(name, body, name)
        self.snapshot = self.snapshot.with_upstream(upstream)
        self.run(self.plane.apply, self.snapshot, [name])

    def remove(self, name: str = "up") -> None:
        """Remove an upstream."""
        self.snapshot = self.snapshot.without_upstream(name)
        self.run(self.plane.apply, self.snapshot, [name])

    def start_stop(self) -> None:
        """Begin to stop; :meth:`finish_stop` waits for the end."""

        def begin() -> None:
            self._stopping = self.plane.stop()

        self.run(begin)

    def finish_stop(self) -> None:
        """Wait until the plane has stopped."""
        self.run(lambda: self._stopping)

    def client(self, receive_buffer: int = 0) -> Client:
        """A new connection to it."""
        if self._context is None:
            client = Client(self.address, receive_buffer)
        else:
            client = TlsClient(self.address, receive_buffer, self._context)
        self._clients.append(client)
        return client

    def curl_words(self, path: str) -> list[str]:
        """The URL of a path for curl, behind the words that it needs."""
        host, port = self.address
        if self._authority is None:
            return [f"http://{host}:{port}{path}"]
        words = ["--cacert", str(self._authority.file), "--resolve", f"localhost:{port}:{host}"]
        return [*words, f"https://localhost:{port}{path}"]

    @property
    def has_tls(self) -> bool:
        """Whether clients come with TLS."""
        return self._authority is not None

    def pool(self, origin: Origin, name: str = "up") -> Any:
        """The pool of one server."""
        return self.plane._upstreams.pools[name][origin.host, origin.port]

    def live_of(self, origin: Origin, name: str = "up") -> ServerLive:
        """The live state of one server."""
        return self.live.server(name, origin.host, origin.port)

    def held(self) -> int:
        """The bytes that wait to be sent, on all channels together."""

        def count() -> int:
            channels = self.plane._poller._channels
            return sum(len(getattr(channel, "_out", None) or b"") for channel in channels)

        return int(self.run(count))

    def statistic(self, name: str) -> int:
        """One of its counters."""
        return int(self.plane.statistics()[name])
