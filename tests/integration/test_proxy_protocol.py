"""PROXY protocol with real programs on both sides: HAProxy, nginx, curl, and another slardar."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slardar.http1.proxy_header import Ends, header_of
from tests.integration.conftest import Start
from tests.integration.programs import FileServer, HAProxy, Nginx, Slardar, curl, free_port
from tests.integration.sockets import Client, Connection, Origin, reply
from tests.integration.test_workers import Team, until
from tests.integration.upgrades import Clients, Upgraded

#: Clients' addresses; load balancers connect from 127.0.0.1.
CLIENT = "127.0.0.9"
BEHIND = ("--listen", "haproxy:tcp:0:interface=127.0.0.1")

_BACKEND = """
frontend f{number}
    bind fd@{number}
    default_backend b{number}
backend b{number}
    server s 127.0.0.1:{port} {words}
"""


def behind(program: Slardar) -> int:
    """The port of its listener for load balancers."""
    found = program.wait_for(r"requests on tcp 127\.0\.0\.1:(\d+) \(PROXY protocol\)")
    return int(found[1])


def ask_as(client: str, port: int, path: str = "/host", *words: str, host: str = "a") -> str:
    """What a client with this address gets."""
    status, body = curl(
        f"http://127.0.0.1:{port}{path}", "--interface", client, "-H", f"Host: {host}", *words
    )
    assert status == 200, (status, body)
    return body.strip()


# slardar behind a load balancer.


def test_haproxy_tells_the_clients(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """In both versions, with TLVs and a checksum of its own, through workers; its health checks
    are connections of its own."""
    log = tmp_path / "access.log"
    site = start(
        Team(tmp_path / "slardar", *BEHIND, "--config", _logging(tmp_path, log, nginx))
    ).ready()
    port = behind(site)
    ways = [
        "send-proxy check inter 100",
        "send-proxy-v2 check inter 100",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id check inter 100",
    ]
    text = "".join(
        _BACKEND.format(number=number, port=port, words=words) for number, words in enumerate(ways)
    )
    text = text.replace("bind fd@2", "bind fd@2\n    unique-id-format %{+X}o%ci:%cp", 1)
    front = start(HAProxy(tmp_path / "haproxy", text, len(ways)))
    for way in front.ports:
        assert ask_as(CLIENT, way) == f"a {CLIENT}"
        assert ask_as(CLIENT, way, "/host", "-d", "x" * 20_000) == f"a {CLIENT}"
    until(lambda: log.exists() and len(log.read_text().splitlines()) >= 6, "it is logged")
    assert {json.loads(line)["client"] for line in log.read_text().splitlines()} == {CLIENT}
    # A health check connects, says LOCAL, and leaves.
    until(lambda: _checks(front) >= len(ways), "HAProxy has checked")
    assert "was closed" not in site.output
    assert "slardar_refused_total{" not in curl(f"http://127.0.0.1:{site.control}/metrics")[1]


def _logging(folder: Path, log: Path, nginx: Nginx) -> str:
    """A file with an access log and one upstream."""
    host, _, port = nginx.address.partition(":")
    file = folder / "slardar.yaml"
    file.write_text(
        json.dumps(
            {
                "access_log": {"to": f"file:{log}", "format": "json"},
                "upstreams": {
                    "a": {"servers": [{"host": host, "port": int(port)}], "enable": False}
                },
            }
        )
    )
    return str(file)


def _checks(front: HAProxy) -> int:
    """How many backends of HAProxy have had a good check."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(10)
        asking.connect(f"{front.folder}/stats")
        asking.sendall(b"show stat\n")
        text = b""
        while data := asking.recv(65536):
            text += data
    lines = [line.split(",") for line in text.decode().splitlines() if ",s," in line]
    return sum("L4OK" in line or "L7OK" in line for line in lines)


def test_curl_speaks_it_and_others_get_nothing(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """A plain request on that endpoint is counted and logged; a plain endpoint beside it serves
    plain requests, and no header."""
    site = start(Team(tmp_path, *BEHIND, "--upstream", f"a={nginx.address}")).ready()
    port = behind(site)
    assert site.port != port
    assert ask_as(CLIENT, port, "/host", "--haproxy-protocol") == f"a {CLIENT}"
    with Client(("127.0.0.1", port)) as client:
        for byte in header_of(2, Ends("2001:db8::7", 1, "::1", 2), b"2001:db8::7"):
            client.send(bytes([byte]))
        assert client.get("/host", "a").body == b"a 2001:db8::7\n"
        assert client.get("/host", "a").body == b"a 2001:db8::7\n"
    with Client(("127.0.0.1", port)) as client:
        client.ask("/host", "a")
        client.wait_closed()
    site.wait_for(r"a connection from 127\.0\.0\.1 to haproxy:tcp:0:\S* was closed: the conn")
    wanted = 'slardar_refused_total{reason="no_proxy_header"} 1'
    metrics = f"http://127.0.0.1:{site.control}/metrics"
    until(lambda: wanted in curl(metrics)[1], "it is counted")
    assert site.get("a", "/host") == (200, "a 127.0.0.1\n")
    with Client(("127.0.0.1", site.port)) as client:
        client.send(header_of(1, Ends(CLIENT, 1, CLIENT, 2), CLIENT.encode()))
        client.ask("/host", "a")
        assert client.reply().status in (400, 501)


def test_upgrade_keeps_the_endpoint(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """The successor expects the header on the sockets that were handed over, and not on those
    beside them; no request fails meanwhile."""
    site = start(Upgraded(tmp_path, *BEHIND, "--upstream", f"a={nginx.address}")).ready()
    port = behind(site)
    front = start(
        HAProxy(tmp_path / "haproxy", _BACKEND.format(number=0, port=port, words="send-proxy-v2"))
    )
    plain = site.port
    with Clients(site) as clients:
        site.port = front.ports[0]
        clients.more(50)
        site.upgrade()
        clients.more(50)
    assert clients.failures == []
    assert ask_as(CLIENT, front.ports[0]) == f"a {CLIENT}"
    assert ask_as(CLIENT, plain) == f"a {CLIENT}"
    with Client(("127.0.0.1", port)) as client:
        client.ask("/host", "a")
        client.wait_closed()


# Servers that are told the clients.

_TELLER = """
frontend f
    mode http
    bind fd@0 accept-proxy
    http-request return status 200 content-type text/plain lf-string "%ci:%cp"
"""


def body(port: int, **keys: Any) -> dict[str, Any]:
    """An upstream with one server."""
    return {"servers": [{"host": "127.0.0.1", "port": port}], **keys}


def config(path: Path, **upstreams: dict[str, Any]) -> tuple[str, str]:
    """The options for a file with these upstreams."""
    path.write_text(json.dumps({"upstreams": upstreams, "health": {"interval": 0.2}}))
    return ("--config", str(path))


def test_haproxy_is_told_the_clients(tmp_path: Path, start: Start) -> None:
    """Address and port of each, in both versions, however many connections are kept; heartbeats
    get their replies too."""
    back = start(HAProxy(tmp_path / "haproxy", _TELLER))
    beats = {"typ": "http", "http_opts": {"query": "GET / HTTP/1.0\r\n\r\n"}}
    options = config(
        tmp_path / "slardar.yaml",
        v1=body(back.ports[0], proxy_protocol=1, **beats),
        v2=body(back.ports[0], proxy_protocol=2, **beats),
    )
    site = start(Team(tmp_path / "slardar", *options)).ready()
    for name in ("v1", "v2"):
        clients = [Client(("127.0.0.1", site.port)) for _ in range(6)]
        for _ in range(3):
            for client in clients:
                host, port = client.sock.getsockname()
                assert client.get("/", name).body.decode() == f"{host}:{port}"
        for client in clients:
            client.close()
    told = ask_as(CLIENT, site.port, "/", host="v2")
    assert told.partition(":")[0] == CLIENT

    def are_ok() -> bool:
        status = site.status()
        return {status[f"cls:{name}"][0][0]["status"] for name in ("v1", "v2")} == {"ok"}

    until(are_ok, "heartbeats are good")


_NGINX = """
    listen 127.0.0.1:{port} proxy_protocol;
    location / {{
        return 200 "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr\\n";
    }}
"""


def test_nginx_is_told_the_clients(tmp_path: Path, start: Start) -> None:
    """By a change at run time, too: before it nginx refuses every connection."""
    told = free_port()
    start(Nginx(tmp_path / "nginx", _NGINX.format(port=told)))
    before = body(told, enable=False)
    site = start(Team(tmp_path / "slardar", *config(tmp_path / "slardar.yaml", a=before))).ready()
    with Client(("127.0.0.1", site.port)) as client:
        assert client.get("/", "a").status in (400, 502)
        host, port = client.sock.getsockname()
        for version in (1, 2):
            changed = {**before, "proxy_protocol": version}
            assert site.call("PUT", "/upstream/a", changed)[0] == 200
            wanted = f"{host}:{port} 127.0.0.1\n".encode()
            assert [client.get("/", "a").body for _ in range(3)] == [wanted] * 3
        code, answer = site.call("PUT", "/upstream/a", {**before, "proxy_protocol": 3})
        assert code == 400
        assert "proxy_protocol: expected 0, 1 or 2" in answer["msg"]


def heard(connection: Connection) -> None:
    """Keep the header of a connection as the first of its requests; then answer with it."""
    line = b""
    while not line.endswith(b"\r\n"):
        line += connection.exactly(1)
    connection.requests.append(line.decode())
    while (request := connection.head()) is not None:
        if "upgrade" in request[1]:
            connection.send(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            connection.send(line)
            while data := connection.sock.recv(1000):
                connection.send(data)
            return
        connection.send(reply(line))


@pytest.fixture
def hearing() -> Iterator[Origin]:
    """A server that expects a header of version 1."""
    origin = Origin(heard)
    yield origin
    origin.stop()


def test_every_connection_has_the_header_of_its_request(
    tmp_path: Path, start: Start, hearing: Origin
) -> None:
    """A retry, a tunnel and a heartbeat have theirs; a client's own address and port come from
    the header that it sent through another load balancer."""
    origin = hearing
    dead = socket.create_server(("127.0.0.1", 0))
    gone = int(dead.getsockname()[1])
    dead.close()
    servers = [{"host": "127.0.0.1", "port": gone}, origin.server]
    options = config(tmp_path / "slardar.yaml", a={"servers": servers, "proxy_protocol": 1})
    site = start(Team(tmp_path / "slardar", *BEHIND, *options, count=1)).ready()
    header = header_of(2, Ends("192.0.2.7", 4660, "198.51.100.1", 443), b"192.0.2.7")
    wanted = b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n"
    with Client(("127.0.0.1", behind(site))) as client:
        client.send(header)
        for _ in range(4):
            assert client.get("/", "a").body == wanted
    other = header_of(1, Ends("192.0.2.7", 4661, "198.51.100.1", 443), b"192.0.2.7")
    with Client(("127.0.0.1", behind(site))) as client:
        client.send(other)
        client.ask("/", "a", "GET", "Connection: Upgrade", "Upgrade: echo")
        assert client.head()[0] == 101
        assert client.exactly(len(other)) == other
        client.send(b"hello")
        assert client.exactly(5) == b"hello"
    own = f"PROXY TCP4 127.0.0.1 127.0.0.1 %d {site.port}\r\n"
    with Client(("127.0.0.1", site.port)) as client:
        assert client.get("/", "a").body.decode() == own % client.sock.getsockname()[1]

    def headers() -> list[str]:
        return [line for one in origin.connections for line in one.requests[:1]]

    until(lambda: "PROXY UNKNOWN\r\n" in headers(), "a heartbeat comes")
    # Four requests of one client, one connection.
    assert [line.encode() for line in headers()].count(wanted) == 1
    assert origin.errors == []


def test_chain_of_two(tmp_path: Path, start: Start, files: FileServer) -> None:
    """One slardar tells the other one: what it logs is the client of the first."""
    log = tmp_path / "access.log"
    file = tmp_path / "far.yaml"
    host, _, port = files.address.partition(":")
    file.write_text(
        json.dumps(
            {
                "access_log": {"to": f"file:{log}", "format": "json"},
                "upstreams": {"a": {"servers": [{"host": host, "port": int(port)}]}},
            }
        )
    )
    far = start(Slardar(tmp_path / "far", *BEHIND, "--config", str(file))).ready()
    options = config(tmp_path / "near.yaml", a=body(behind(far), proxy_protocol=2))
    near = start(Slardar(tmp_path / "near", *options)).ready()
    assert ask_as(CLIENT, near.port, "/who") == "http.server"
    until(lambda: log.exists() and log.read_text(), "it is logged")
    assert json.loads(log.read_text().splitlines()[0])["client"] == CLIENT
    assert "was closed" not in far.output
