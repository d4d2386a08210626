"""What a client makes of agents that are slow, broken, hostile or gone, and of several agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from consul import ConsulException, Timeout
from OpenSSL import SSL
from twisted.internet import defer, protocol, reactor, task  # noqa: TID251
from twisted.internet.ssl import CertificateOptions
from twisted.logger import globalLogPublisher

from slardar.txconsul import (
    AgentError,
    BrokenAnswerError,
    ClosedError,
    Consul,
    NoAnswerError,
    UnreachableError,
)
from tests.certificates import Authority, Hung
from tests.integration.programs import free_port

pytestmark = pytest.mark.real

TOKEN = "a-secret-of-the-tests"
GOOD = b"HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: 4\r\n\r\ntrue"


class Server(protocol.Factory):
    """Answers each request with the bytes of ``answers``, in turn; the last one again and again.

    ``None`` is no answer; after an answer that ends with ``CUT`` the connection is closed.
    """

    CUT = b"<cut>"

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        #: The heads and bodies that came, and the connections that are open.
        self.requests: list[bytes] = []
        self.open: list[protocol.Protocol] = []
        self.accepted = 0
        self._port: Any = None

    def listen(self, tls: Any = None) -> int:
        """Listen, and tell the port."""
        if tls is None:
            self._port = reactor.listenTCP(0, self, interface="127.0.0.1")
        else:
            self._port = reactor.listenSSL(0, self, tls, interface="127.0.0.1")
        return self._port.getHost().port

    def buildProtocol(self, _address: object) -> protocol.Protocol:
        self.accepted += 1
        return _Connection(self)

    async def end(self) -> None:
        """Listen no more, and close all connections."""
        await defer.maybeDeferred(self._port.stopListening)
        for one in list(self.open):
            one.transport.abortConnection()
        await until(lambda: not self.open)


class _Connection(protocol.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._bytes = b""

    def connectionMade(self) -> None:
        self._server.open.append(self)

    def dataReceived(self, data: bytes) -> None:
        self._bytes += data
        head, end, body = self._bytes.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not end or len(body) < int(length or 0):
            return
        self._bytes = b""
        server = self._server
        server.requests.append(head + end + body)
        answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        if answer is not None:
            self.transport.write(answer.removesuffix(Server.CUT))
            if answer.endswith(Server.CUT):
                self.transport.loseConnection()

    def connectionLost(self, reason: object = None) -> None:
        self._server.open.remove(self)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until it is true."""
    for _ in range(4000):
        if condition():
            return
        await task.deferLater(reactor, 0.005)
    raise AssertionError("it does not come true")


@pytest_twisted.async_yield_fixture
async def serve() -> AsyncIterator[Callable[..., tuple[Server, int]]]:
    """Starts servers, which end with the test."""
    servers: list[Server] = []

    def start(*answers: bytes | None, tls: Any = None) -> tuple[Server, int]:
        servers.append(Server(*answers))
        return servers[-1], servers[-1].listen(tls)

    yield start
    for server in servers:
        await server.end()


@pytest_twisted.async_yield_fixture
async def connect() -> AsyncIterator[Callable[..., Any]]:
    """Makes clients, which are closed with the test; the first port is that of the first agent."""
    clients: list[Any] = []

    def make(*ports: int, **more: Any) -> Any:
        agents = [("127.0.0.1", port) for port in ports[1:]]
        options = {"timeout": 20.0, "token": TOKEN, "agents": agents, **more}
        clients.append(Consul(reactor, "127.0.0.1", ports[0], **options))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


def head(*lines: str, status: str = "200 OK") -> bytes:
    """The head of an answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


BROKEN = [
    (
        "controls",
        head("Content-Length: 9", status="500 No") + b"\x1b[31m\r\n\x00!",
        ConsulException,
        "",
    ),
    ("echo in head", f"{TOKEN} \x1b[31m\r\n\r\n".encode() + Server.CUT, BrokenAnswerError, ""),
    ("closed", Server.CUT, BrokenAnswerError, "closed"),
    ("garbage", b"\x16\x03\x01\x00garbage\r\n\r\n" + Server.CUT, BrokenAnswerError, ""),
    ("cut head", b"HTTP/1.1 200 OK\r\nX-Con" + Server.CUT, BrokenAnswerError, ""),
    ("cut body", head("Content-Length: 9") + b"[1" + Server.CUT, BrokenAnswerError, ""),
    (
        "cut chunk",
        head("Transfer-Encoding: chunked") + b"9\r\n[1" + Server.CUT,
        BrokenAnswerError,
        "",
    ),
    ("bad chunk", head("Transfer-Encoding: chunked") + b"zz\r\n[1\r\n", BrokenAnswerError, ""),
    ("endless", head() + b"true" + Server.CUT, BrokenAnswerError, ""),
    ("elsewhere", head("Location: http://127.0.0.1:1/", status="307 T"), BrokenAnswerError, "307"),
    ("huge", head("Content-Length: 1001"), BrokenAnswerError, "more than 1000 bytes"),
    (
        "growing",
        head("Transfer-Encoding: chunked") + b"800\r\n" + b"x" * 2048,
        BrokenAnswerError,
        "more than 1000 bytes",
    ),
    (
        "an endless head",
        b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 5000,
        BrokenAnswerError,
        "more than 1000 bytes",
    ),
    (
        "a chunk of extensions",
        head("Transfer-Encoding: chunked") + b"1;" + b"x" * 80000,
        BrokenAnswerError,
        "",
    ),
    (
        "endless trailers",
        head("Transfer-Encoding: chunked") + b"0\r\n" + b"X-More: and more\r\n" * 5000,
        BrokenAnswerError,
        "",
    ),
    ("no JSON", head("Content-Length: 2") + b"{]", ConsulException, "Failed to decode JSON"),
    ("other JSON", head("Content-Length: 1", "X-Consul-Index: 1") + b"5", ConsulException, ""),
    ("no index", head("Content-Length: 2") + b"[]", ConsulException, "Missing index"),
    (
        "the token",
        head(f"Content-Length: {len(TOKEN)}", status="500 No") + TOKEN.encode(),
        ConsulException,
        "500 (the token)",
    ),
    (
        "a long error",
        head("Content-Length: 900", status="500 No") + b"x" * 900,
        ConsulException,
        "500 xxx",
    ),
]


@pytest.mark.parametrize(
    ("answer", "kind", "said"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
@pytest_twisted.ensureDeferred
async def test_broken_answers(
    serve: Any, connect: Any, answer: bytes, kind: type[Exception], said: str
) -> None:
    """Each is an error of one line, soon, which has no token; the connection is not used again."""
    server, port = serve(answer)
    client = connect(port, max_body=1000)
    with pytest.raises(kind) as caught:
        await client.kv.get("a", recurse=True)
    text = str(caught.value)
    assert said in text
    assert TOKEN not in text + repr(caught.value)
    assert text.isprintable()
    assert len(text) <= 500
    assert f"X-Consul-Token: {TOKEN}".encode() in server.requests[0]
    if kind is BrokenAnswerError:
        assert f"127.0.0.1:{port}" in text
        await until(lambda: not server.open)


@pytest.mark.parametrize("answer", [None, head("Content-Length: 9") + b"[1"], ids=["mute", "slow"])
@pytest_twisted.ensureDeferred
async def test_answers_that_do_not_end(serve: Any, connect: Any, answer: bytes | None) -> None:
    """The whole answer must be there in time; then the connection is closed."""
    server, port = serve(answer)
    client = connect(port, timeout=0.1)
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.1 seconds") as caught:
        await client.kv.get("a")
    assert isinstance(caught.value, Timeout)
    await until(lambda: not server.open)
    with pytest.raises(NoAnswerError, match=r"within 0\.05 seconds"):
        await client.kv.get("a", connections_timeout=0.05)
    # The wait of a blocking query, and Consul's sixteenth of it, come on top.
    with pytest.raises(NoAnswerError, match=r"within 0\.3125 seconds"):
        await client.kv.get("a", index=1, wait="200ms")


@pytest.mark.parametrize("answer", [None, head("Content-Length: 9") + b"[1"], ids=["mute", "slow"])
@pytest_twisted.ensureDeferred
async def test_cancelled_query_closes_its_connection(
    serve: Any, connect: Any, answer: bytes | None
) -> None:
    """At once, whatever has come of the answer; nobody else is asked."""
    server, port = serve(answer)
    other, other_port = serve(GOOD)
    client = connect(port, other_port)
    asked = client.kv.get("a", index=1)
    await until(lambda: server.requests)
    asked.cancel()
    with pytest.raises(defer.CancelledError):
        await asked
    await until(lambda: not server.open)
    assert other.accepted == 0


@pytest_twisted.ensureDeferred
async def test_connections_are_kept(serve: Any, connect: Any) -> None:
    """Calls in turn use one connection; no more questions at a time than the limit says."""
    server, port = serve(GOOD)
    client = connect(port)
    logged: list[Any] = []
    globalLogPublisher.addObserver(logged.append)
    for _ in range(3):
        await client.kv.put("a", "1")
    globalLogPublisher.removeObserver(logged.append)
    assert logged == []
    assert (server.accepted, len(server.requests)) == (1, 3)
    mute, mute_port = serve(None)
    client = connect(mute_port, limit=2)
    asked = [client.kv.put("a", "1") for _ in range(4)]
    query = client.kv.get("a", index=1)
    await until(lambda: len(mute.requests) == 3)
    assert not query.called
    asked[3].cancel()
    asked[0].cancel()
    await until(lambda: len(mute.requests) == 4)
    await client.close()
    for one in (*asked, query):
        with pytest.raises(defer.CancelledError):
            await one
    await until(lambda: not mute.open)
    with pytest.raises(ClosedError, match="the client is closed"):
        await client.kv.get("a")


@pytest_twisted.ensureDeferred
async def test_read_goes_to_the_next_agent(serve: Any, connect: Any) -> None:
    """When one is gone, cut or without a leader; the one that answers is asked first then."""
    cut, cut_port = serve(Server.CUT)
    leaderless, leaderless_port = serve(
        head("Content-Length: 17", status="500 No") + b"No cluster leader"
    )
    good, good_port = serve(GOOD)
    client = connect(free_port(), cut_port, leaderless_port, good_port)
    for _ in range(2):
        assert await client.status.leader() is True
    assert [one.accepted for one in (cut, leaderless, good)] == [1, 1, 1]


@pytest_twisted.ensureDeferred
async def test_failed_agent_is_asked_again_after_its_rest(serve: Any, connect: Any) -> None:
    """It is left alone for a while, unless all others have failed, too."""
    first, first_port = serve(Server.CUT, GOOD)
    second, second_port = serve(GOOD, Server.CUT)
    client = connect(first_port, second_port, rest=1000.0)
    assert await client.status.leader() is True
    assert await client.status.leader() is True
    assert (len(first.requests), len(second.requests)) == (2, 2)


@pytest_twisted.ensureDeferred
async def test_blocking_query_is_asked_elsewhere_without_its_index(
    serve: Any, connect: Any
) -> None:
    """What changed while there was no connection is told at once, not with the next change."""
    first, first_port = serve(Server.CUT)
    second, second_port = serve(head("Content-Length: 2", "X-Consul-Index: 3") + b"[]")
    client = connect(first_port, second_port)
    assert await client.kv.get("a/", index=9, wait="1m", recurse=True) == ("3", [])
    assert b"/v1/kv/a/?index=9&wait=1m&recurse=1 " in first.requests[0]
    assert b"/v1/kv/a/?recurse=1 " in second.requests[0]


@pytest.mark.parametrize("call", ["put", "delete", "txn"])
@pytest_twisted.ensureDeferred
async def test_write_is_never_repeated(serve: Any, connect: Any, call: str) -> None:
    """Once a byte of it may have been sent; before, the next agent is asked."""
    cut, cut_port = serve(Server.CUT)
    good, good_port = serve(GOOD)

    def write(client: Any) -> Any:
        if call == "txn":
            return client.txn.put([])
        return client.kv.put("a", "1") if call == "put" else client.kv.delete("a")

    with pytest.raises(BrokenAnswerError) as caught:
        await write(connect(cut_port, good_port))
    assert caught.value.may_be_done
    assert (len(cut.requests), len(good.requests)) == (1, 0)
    assert await write(connect(free_port(), good_port)) is True
    # A kept connection that the agent closes: Twisted's pool would send a removal again.
    server, port = serve(GOOD, Server.CUT)
    client = connect(port)
    assert await write(client) is True
    with pytest.raises(BrokenAnswerError):
        await write(client)
    assert (len(server.requests), server.accepted) == (2, 1)


@pytest_twisted.ensureDeferred
async def test_write_is_refused_by_the_agent_that_was_asked(serve: Any, connect: Any) -> None:
    """An answer is an answer: no other agent is asked to write."""
    _, port = serve(head("Content-Length: 2", status="500 No") + b"no")
    good, good_port = serve(GOOD)
    with pytest.raises(ConsulException, match="500 no"):
        await connect(port, good_port).kv.put("a", "1")
    assert good.accepted == 0


@pytest_twisted.ensureDeferred
async def test_nobody_is_there(connect: Any) -> None:
    """The message names every agent; nothing was sent."""
    ports = [free_port() for _ in range(2)]
    for call in (lambda one: one.kv.put("a", "1"), lambda one: one.kv.get("a")):
        with pytest.raises(UnreachableError) as caught:
            await call(connect(*ports))
        assert not caught.value.may_be_done
        for port in ports:
            assert f"127.0.0.1:{port}: Connection was refused" in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_name_that_does_not_exist() -> None:
    """It is an agent that is not there."""
    client = Consul(reactor, "agent.invalid", 8500)
    with pytest.raises(AgentError, match=r"agent\.invalid:8500: DNS lookup failed"):
        await client.kv.get("a")
    await client.close()


def has_keepalive(port: int) -> bool:
    """Whether the kernel looks after the connection from this port: its timer is that of probes."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}") and fields[3] == "01":
            return fields[5].startswith("02:")
    return False


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest_twisted.ensureDeferred
async def test_silent_connection_is_probed(
    serve: Any, connect: Any, tmp_path: Path, scheme: str
) -> None:
    """A blocking query would wait for minutes on a connection whose other end has vanished."""
    server, port = serve(None, tls=own_tls(Authority(tmp_path)) if scheme == "https" else None)
    asked = connect(port, scheme=scheme, verify=False).kv.get("a", index=1)
    await until(lambda: server.requests)
    peer = server.open[0].transport.getPeer().port
    await until(lambda: has_keepalive(peer))
    asked.cancel()
    with pytest.raises(defer.CancelledError):
        await asked


@pytest.mark.parametrize("answer", [head("Content-Length: 9") + b"[1", GOOD], ids=["slow", "idle"])
@pytest_twisted.ensureDeferred
async def test_agent_that_does_not_end_tls(connect: Any, tmp_path: Path, answer: bytes) -> None:
    """The connection is cut all the same, when a query is cancelled or the client is closed."""
    agent = Hung(Authority(tmp_path), answer)
    client = connect(agent.port, scheme="https", verify=False)
    asked = client.kv.put("a", "1")
    if answer == GOOD:
        await asked
        await client.close()
    else:
        await task.deferLater(reactor, 0.2)
        asked.cancel()
        with pytest.raises(defer.CancelledError):
            await asked
    await until(lambda: agent.is_over)
    agent.thread.join()


def own_tls(
    authority: Authority, names: tuple[str, ...] = ("127.0.0.1",), asks: bool = False
) -> CertificateOptions:
    """TLS of a server with a certificate for these names, which may ask for the client's."""
    options = CertificateOptions()
    context = options.getContext()
    certificate, key = map(str, authority.issue(names[0], names))
    context.use_certificate_chain_file(certificate)
    context.use_privatekey_file(key)
    if asks:
        context.load_verify_locations(str(authority.file))
        wanted = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        context.set_verify(wanted, lambda *arguments: bool(arguments[-1]))
    return options


@pytest_twisted.ensureDeferred
async def test_tls(serve: Any, connect: Any, tmp_path: Path) -> None:
    """Only agents with a certificate of the authority are believed, and only for their name."""
    authority = Authority(tmp_path)
    other = Authority(tmp_path, "other")

    def served(names: tuple[str, ...], asks: bool = False) -> int:
        return serve(GOOD, tls=own_tls(authority, names, asks))[1]

    port = served(("127.0.0.1",))
    ca = str(authority.file)
    assert await connect(port, scheme="https", verify=ca).kv.put("a", "1") is True
    assert await connect(port, scheme="https", verify=False).kv.put("a", "1") is True
    for verify in (True, str(other.file)):
        with pytest.raises(UnreachableError, match="TLS: certificate verify failed"):
            await connect(port, scheme="https", verify=verify).kv.put("a", "1")
    wrong = served(("127.0.0.2", "consul.example"))
    with pytest.raises(UnreachableError, match="the certificate is for another name"):
        await connect(wrong, scheme="https", verify=ca).kv.put("a", "1")
    # Another agent of the cluster whose certificate is right is asked instead.
    both = connect(wrong, port, scheme="https", verify=ca)
    assert await both.kv.put("a", "1") is True
    asking = served(("127.0.0.1",), asks=True)
    pair = tuple(map(str, authority.issue("client", ("client",))))
    assert await connect(asking, scheme="https", verify=ca, cert=pair).kv.put("a", "1") is True
    one = tmp_path / "both.pem"
    one.write_bytes(b"".join(Path(path).read_bytes() for path in pair))
    assert await connect(asking, scheme="https", verify=ca, cert=str(one)).kv.put("a", "1") is True
    with pytest.raises(BrokenAnswerError, match="TLS: "):
        await connect(asking, scheme="https", verify=ca).kv.put("a", "1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"verify": "/nowhere/ca.pem"}, "/nowhere/ca.pem: No such file or directory"),
        ({"verify": __file__}, "expected certificates in PEM"),
        ({"cert": "/nowhere/a.pem"}, "/nowhere/a.pem: No such file or directory"),
    ],
)
@pytest.mark.real(False)
def test_files_of_tls_are_read_at_once(options: dict[str, Any], said: str) -> None:
    """A file that is missing or something else is an error that names it."""
    with pytest.raises(ValueError, match=said):
        Consul(reactor, scheme="https", **options)
