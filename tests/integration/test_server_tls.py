"""TLS to servers: retries and blame over real sockets, and the real program before real servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from slardar.config import Limits, Timeouts
from tests.certificates import Authority
from tests.integration.programs import HAProxy, Nginx, Program, Slardar, curl, free_port
from tests.integration.sockets import Connection, Origin, Served, in_thread, reply, wait_for
from tests.integration.test_workers import until

# In this process, with servers that misbehave.


@pytest_twisted.async_yield_fixture
async def served() -> AsyncIterator[Served]:
    """A data plane with a short time for connections."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    served = Served(reactor, Limits(), Timeouts(connect=0.5, read=2))
    await served.begin("tcp:0:interface=127.0.0.1")
    yield served
    await served.end()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs the servers' certificates."""
    return Authority(tmp_path)


class Origins:
    """Servers with TLS that end with the test."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.made: list[Origin] = []

    def make(self, name: str = "origin", names: tuple[str, ...] = ("up",), **issued: Any) -> Origin:
        """A server whose certificate is for these names."""
        origin = Origin(name=name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.authority.issue(f"{name}-{len(self.made)}", names, **issued))
        origin._context = context
        self.made.append(origin)
        return origin

    @property
    def tls(self) -> dict[str, Any]:
        """The upstream's key for them."""
        return {"ca": self.authority.file.read_text()}


@pytest.fixture
def origins(authority: Authority) -> Iterator[Origins]:
    """Makes servers."""
    found = Origins(authority)
    yield found
    for one in found.made:
        one.stop()


def silent(connection: Connection) -> None:
    """Says nothing to a hello."""
    connection.rest()


def http(connection: Connection) -> None:
    """Speaks HTTP to whoever comes."""
    connection.fill()
    connection.send(reply(b"what?", 400))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("kind", ["expired", "mismatch", "silent", "http", "refused"])
@in_thread
def test_failed_handshake_is_tried_elsewhere(
    served: Served, origins: Origins, kind: str, method: str
) -> None:
    """Whatever the method: nothing of the request was sent.  The server is told to be the cause."""
    issued: dict[str, Any] = {
        "expired": {"ends": timedelta(minutes=-1)},
        "mismatch": {"names": ("other",)},
    }.get(kind, {})
    bad, good = origins.make("bad", **issued), origins.make("good")
    if kind == "silent":
        bad._context, bad.script = None, silent
    elif kind == "http":
        bad._context, bad.script = None, http
    elif kind == "refused":
        assert bad._context is not None
        bad._context.verify_mode = ssl.CERT_REQUIRED
        bad._context.load_verify_locations(origins.authority.file)
    server = {**bad.server, "max_fails": 1, "fail_timeout": 60}
    served.put("up", servers=[server, good.server], tls=origins.tls)
    for _ in range(3):
        with served.client() as client:
            client.ask("/", "up", method, *(["Content-Length: 2"] if method == "POST" else []))
            if method == "POST":
                client.send(b"hi")
            got = client.reply()
            assert (got.status, got.body) == (200, b"good")
    assert bad.paths == []
    live = served.live_of(bad)
    assert live.status == "err"
    says = {
        "expired": "certificate has expired",
        "mismatch": "hostname mismatch, certificate is not valid for 'up'",
        "silent": "handshake timed out",
        "http": "it speaks no TLS",
        # What comes first, the alert or the reset behind it, is the kernel's to say.
        "refused": "",
    }[kind]
    assert says in live.msg
    bad.errors.clear()


@in_thread
def test_name_of_a_stranger_blames_no_server(served: Served, origins: Origins) -> None:
    """Else any client could take a server away from all others, with a Host."""
    server = origins.make()
    served.put(
        "up",
        servers=[{**server.server, "max_fails": 1, "fail_timeout": 60}],
        tls=origins.tls,
        protected=False,
    )
    served.snapshot = served.snapshot.with_default("up")
    served.run(served.plane.apply, served.snapshot, [])
    for _ in range(3):
        with served.client() as client:
            got = client.get("/", "evil.example")
            assert got.status == 502
            assert "not valid for 'evil.example'" in json.loads(got.body)["msg"]
    assert served.live_of(server).fails == 0
    with served.client() as client:
        assert client.get("/").body == b"origin"
    # With its own name it is to blame.
    assert server._context is not None
    other = origins.authority.issue("another", ("another",))
    server._context.load_cert_chain(*other)
    served.run(lambda: served.pool(server).drop_idle())
    served.run(lambda: served.pool(server)._terms._sessions.clear())
    with served.client() as client:
        assert client.get("/").status == 502
    assert served.live_of(server).status == "err"


@in_thread
def test_two_upstreams_share_no_connection(served: Served, origins: Origins) -> None:
    """With different settings of ``tls``, at the same address."""
    server = origins.make(names=("one", "two"))
    served.put("one", server, tls=origins.tls)
    served.put("two", server, tls={"verify": False})
    for name in ("one", "two", "one", "two"):
        with served.client() as client:
            assert client.get("/", name).status == 200
    assert sorted(len(one.requests) for one in server.connections) == [2, 2]


@in_thread
def test_hosts_share_no_connection(served: Served, origins: Origins) -> None:
    """Each is verified, and the server is asked for it."""
    server = origins.make(names=("a.up", "b.up"))
    asked = []
    assert server._context is not None
    server._context.sni_callback = lambda _sock, name, _context: asked.append(name)
    served.put("*.up", server, tls=origins.tls)
    for host, status in (("a.up", 200), ("b.up:80", 200), ("c.up", 502), ("a.up", 200)):
        with served.client() as client:
            assert client.get("/", host).status == status
    assert asked == ["a.up", "b.up", "c.up"]
    # The port of the Host is no part of the name; the header passes unchanged.
    assert [len(one.requests) for one in server.connections] == [2, 1, 0]


@in_thread
def test_change_of_tls_fails_no_request(served: Served, origins: Origins) -> None:
    """Idle connections are closed, busy ones finish."""
    server = origins.make()
    gate = threading.Event()

    def gated(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            if "/wait" in request[0]:
                gate.wait(20)
            connection.send(reply())

    server.script = gated
    served.put("up", server, tls=origins.tls)
    with served.client() as busy, served.client() as client:
        busy.ask("/wait")
        wait_for(lambda: "/wait" in server.paths)
        assert client.get("/").status == 200
        served.put("up", server, tls={**origins.tls, "server_name": "up"})
        wait_for(lambda: server.open_connections == 1)
        assert client.get("/").status == 200
        gate.set()
        assert busy.reply().status == 200
        wait_for(lambda: server.open_connections == 1)
    assert [one.requests for one in server.connections] == [["/wait"], ["/"], ["/"]]


@in_thread
def test_reply_that_was_cut_is_not_whole(served: Served, origins: Origins) -> None:
    """Where only the end of the connection is its end, TLS must have said that end."""
    server = origins.make()

    def cut(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it")
        connection.sock.shutdown(socket.SHUT_WR)
        connection.sock.recv(1)

    def said(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it")
        connection.sock.unwrap()  # type: ignore[attr-defined]

    served.put("up", server, tls=origins.tls)
    server.script = said
    with served.client() as client:
        assert client.get("/").body == b"all of it"
    server.script = cut
    with served.client() as client:
        client.ask("/")
        status, headers = client.head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        with pytest.raises((AssertionError, ConnectionResetError)):
            client.chunks()


# The real program.


class Site:
    """slardar, and what its servers need."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.authority = Authority(folder)
        self.upstreams: dict[str, Any] = {}

    def nginx(self, name: str = "nginx", text: str = "", **issued: Any) -> dict[str, Any]:
        """nginx with TLS: its entry in an upstream."""
        cert, key = self.authority.issue(f"{name}-cert", ("a.example", "b.example"), **issued)
        port = free_port()
        server = f"""listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};
            keepalive_requests 1; {text}
            location / {{ return 200 "$ssl_session_reused $ssl_server_name $ssl_client_s_dn $scheme
$http_x_forwarded_proto $host"; }}"""
        self.stack.callback(Nginx(self.folder / name, server).end)
        return {"host": "127.0.0.1", "port": port}

    def start(self, *options: str, **settings: Any) -> Slardar:
        """slardar with these upstreams."""
        settings = {"upstreams": self.upstreams, "health": {"interval": 0.2}, **settings}
        settings["access_log"] = {"to": f"file:{self.folder}/access.log"}
        (self.folder / "slardar.yaml").write_text(json.dumps(settings))
        program = Slardar(self.folder, "--config", "slardar.yaml", *options)
        self.stack.callback(program.end)
        return program.ready()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that is not started yet."""
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def test_nginx_as_a_server(site: Site) -> None:
    """Sessions resume in each worker, the client's certificate is shown, headers are as ever."""
    cert, key = site.authority.issue("alice", ("alice",))
    ca = str(site.authority.file)
    server = site.nginx(text=f"ssl_verify_client on; ssl_client_certificate {ca};")
    tls = {"ca": ca, "cert": str(cert), "key": str(key)}
    site.upstreams["a.example"] = {"servers": [server], "tls": tls}
    program = site.start("--workers", "2", "--store", "sqlite:s.db")
    found = []
    for _ in range(12):
        status, body = program.get("a.example")
        assert status == 200
        reused, name, *rest = body.split()
        assert (name, rest) == ("a.example", ["CN=alice", "https", "http", "a.example"])
        found.append(reused)
    # One full handshake in each worker at most.
    assert found.count(".") <= 2
    assert found.count("r") >= 10
    answer = json.dumps(program.call("GET", "/upstreams")) + program.output
    assert "PRIVATE" not in answer
    assert key.read_text().splitlines()[1] not in answer
    assert program.call("GET", "/upstream/a.example")[1]["tls"] == tls


def test_openssl_and_haproxy_as_servers(site: Site) -> None:
    """``openssl s_server`` ends its replies with the connection; HAProxy wants a PROXY header."""
    cert, key = site.authority.issue("s", ("a.example",))
    openssl, port = shutil.which("openssl"), free_port()
    assert openssl is not None
    command = [openssl, "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(cert)]
    made = Program([*command, "-key", str(key), "-www"], site.folder)
    site.stack.callback(made.end)
    made.wait_for("ACCEPT")
    both = site.folder / "both.pem"
    both.write_text(cert.read_text() + key.read_text())
    haproxy = HAProxy(
        site.folder / "haproxy",
        f"""frontend f
    mode http
    bind fd@{{0}} ssl crt {both} accept-proxy alpn h2,http/1.1
    http-request return status 200 content-type text/plain lf-string "%[src] %[ssl_fc_sni]"
""".replace("{0}", "0"),
    )
    site.stack.callback(haproxy.end)
    tls = {"ca": str(site.authority.file), "server_name": "a.example"}
    site.upstreams = {
        "openssl": {"servers": [{"host": "127.0.0.1", "port": port}], "tls": tls},
        "haproxy": {
            "servers": [{"host": "127.0.0.1", "port": haproxy.ports[0]}],
            "tls": tls,
            "proxy_protocol": 2,
        },
    }
    program = site.start("--store", "memory:")
    status, body = program.get("openssl")
    assert status == 200
    assert "Verify return code" in body or "s_server" in body
    assert program.get("haproxy") == (200, "127.0.0.1 a.example")
    until(
        lambda: (
            {
                one["status"]
                for name in site.upstreams
                for level in program.call("GET", "/status")[1][f"cls:{name}"]
                for one in level
            }
            == {"ok"}
        ),
        "heartbeats succeed",
    )


def test_reason_is_told_everywhere(site: Site) -> None:
    """By heartbeats and requests: in the status, the log, the access log and the metrics."""
    ca = str(site.authority.file)
    server = site.nginx(ends=timedelta(minutes=-1))
    for name, enable in (("a.example", True), ("b.example", False)):
        site.upstreams[name] = {
            "servers": [server],
            "enable": enable,
            "tls": {"ca": ca},
        }
    program = site.start("--store", "memory:")

    def told(name: str) -> str:
        return str(program.call("GET", "/status")[1][f"cls:{name}"][0][0]["msg"])

    until(lambda: told("a.example") == "TLS: certificate has expired", "the heartbeat fails")
    status, body = program.get("b.example")
    assert status == 502
    assert json.loads(body)["msg"] == "TLS: certificate has expired"
    assert told("b.example") == "TLS: certificate has expired"
    assert "the TLS handshake failed: TLS: certificate has expired" in program.output
    log = site.folder / "access.log"
    until(lambda: log.exists() and "certificate has expired" in log.read_text(), "it is logged")
    _, metrics = curl(f"http://127.0.0.1:{program.control}/metrics")
    server_key = f"127.0.0.1:{server['port']}"
    wanted = (
        f'slardar_server_failures_total{{upstream="b.example",server="{server_key}",kind="tls"}} 1'
    )
    assert wanted in metrics


def test_new_ca_with_hup(site: Site, tmp_path: Path) -> None:
    """For upstreams of the file and of the store, and no request fails meanwhile."""
    ca = site.folder / "bundle.pem"
    shutil.copy(site.authority.file, ca)
    server = site.nginx()
    body = {"servers": [server], "tls": {"ca": str(ca)}, "enable": False}
    site.upstreams["a.example"] = body
    site.upstreams["c.example"] = {**body, "tls": {"verify": False}}
    program = site.start("--store", "memory:", "--workers", "1")
    # Who does not verify is told so, once.
    assert program.output.count("upstreams.c.example: tls without verify") == 1
    assert program.call("PUT", "/upstream/b.example", body)[0] == 200
    assert [program.get(name)[0] for name in ("a.example", "b.example")] == [200, 200]
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other").file
    for file, status in ((other, 502), (site.authority.file, 200)):
        ca.write_bytes(file.read_bytes())
        before = program.output.count("is served")
        program.signal(signal.SIGHUP)
        until(lambda before=before: program.output.count("is served") > before, "read again")
        found = [program.get(name)[0] for name in ("a.example", "b.example")]
        assert found == [status, status]
    # A file that cannot be read changes nothing.
    ca.write_text("broken")
    program.signal(signal.SIGHUP)
    program.wait_for(r"not read again: .*upstreams\.a\.example\.tls\.ca: expected certificates")
    assert [program.get(name)[0] for name in ("a.example", "b.example")] == [200, 200]
    # A change that names it is refused with one line.
    assert program.get("c.example")[0] == 200
    assert program.output.count("tls without verify") == 1
    status, answer = program.call("PUT", "/upstream/d.example", body)
    assert status == 400
    assert answer["msg"].startswith("upstreams.d.example.tls.ca: expected certificates of CAs")
    status, answer = program.call(
        "PATCH", f"/upstream/b.example/127.0.0.1:{server['port']}", {"tls": {"cert": "/none.pem"}}
    )
    assert status == 400
    assert "cannot read /none.pem" in answer["msg"]


def test_file_that_is_away_at_the_start(site: Site) -> None:
    """An upstream of the store is left out until ``HUP`` finds the file."""
    ca = site.folder / "bundle.pem"
    shutil.copy(site.authority.file, ca)
    body = {"servers": [site.nginx()], "tls": {"ca": str(ca)}, "enable": False}
    first = site.start("--store", "sqlite:s.db")
    assert first.call("PUT", "/upstream/a.example", body)[0] == 200
    first.end()
    os.rename(ca, site.folder / "away.pem")
    program = site.start("--store", "sqlite:s.db")
    program.wait_for(r"stored and left out: upstreams\.a\.example\.tls\.ca: cannot read")
    assert program.get("a.example")[0] == 502
    os.rename(site.folder / "away.pem", ca)
    program.signal(signal.SIGHUP)
    until(lambda: program.get("a.example")[0] == 200, "it is served")


def test_server_that_renegotiates(site: Site) -> None:
    """It is told that nothing is renegotiated, with which this one ends."""
    cert, key = site.authority.issue("s", ("a.example",))
    openssl, port = shutil.which("openssl"), free_port()
    assert openssl is not None
    command = [openssl, "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(cert)]
    command += ["-key", str(key), "-tls1_2"]
    site.upstreams["a.example"] = {
        "servers": [{"host": "127.0.0.1", "port": port}],
        "tls": {"ca": str(site.authority.file)},
        "enable": False,
    }
    made = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert made.stdin is not None
    assert made.stdout is not None

    try:
        assert any("ACCEPT" in line for line in made.stdout)
        program = site.start("--store", "memory:")
        found: list[tuple[int, str]] = []
        asking = threading.Thread(target=lambda: found.append(program.get("a.example")))
        asking.start()
        assert any("Host: a.example" in line for line in made.stdout)
        # OpenSSL's command for it.
        made.stdin.write("R\n")
        made.stdin.flush()
        asking.join(30)
        assert [status for status, _ in found] == [502]
        assert "TLS: " in found[0][1]
    finally:
        made.kill()
        made.wait()
        made.stdin.close()
        made.stdout.close()
