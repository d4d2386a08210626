"""Configurations of nginx and HAProxy, served by them and by slardar: the answers are the same."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from click.testing import CliRunner

from slardar.cli import main
from tests.integration.conftest import Start
from tests.integration.programs import CHECKOUT, PATIENCE, Backends, Program, Slardar, free_port

pytestmark = pytest.mark.real

FILES = CHECKOUT / "tests" / "migration"
#: Servers of the files: from port 9001 on.
SERVERS = 30


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Servers that answer with their names, the path and the Host."""
    program = Backends(tmp_path_factory.mktemp("servers"), SERVERS)
    try:
        yield program.ports
    finally:
        program.end()


def localised(folder: Path, ports: list[int], port: int) -> None:
    """Write the real ports into the files of a folder."""
    for file in folder.rglob("*.c*f*"):
        if file.is_file():
            text = re.sub(
                r"(?<=:)90(\d\d)\b", lambda at: str(ports[int(at[1]) - 1]), file.read_text()
            )
            file.write_text(text.replace(":8080", f":{port}"))


def imported(*words: str) -> str:
    """What ``slardar import`` lists on stderr."""
    found = CliRunner().invoke(main, ["import", *words])
    assert found.exit_code == 0, found.output
    return found.stderr


class Asker:
    """Makes requests on one connection."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def __call__(self, host: str, path: str) -> tuple[int, str]:
        """The status of a reply, and its body if a server has answered."""
        self._connection.request("GET", path, headers={"Host": host})
        reply = self._connection.getresponse()
        body = reply.read().decode()
        return reply.status, body if " serves " in body else ""

    def end(self) -> None:
        """Close the connection, as the fixture ``start`` asks for."""
        self._connection.close()


def wait_for_port(program: Program, port: int) -> None:
    """Wait until somebody listens there."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
            return
        except ConnectionRefusedError:
            assert not program.has_ended, program.output


def without_server(found: tuple[int, str], ports: list[int], groups: dict[int, str]) -> object:
    """The same answer with the group of the server for its address."""
    status, body = found

    def group(at: re.Match[str]) -> str:
        return groups.get(ports.index(int(at[1])) + 9001, at[0])

    return status, re.sub(r"127\.0\.0\.1:(\d+)(?= serves)", group, body)


HOSTS = [
    *("www.example.com", "example.com", "WWW.Example.com", "api.example.com", "shop.example.com"),
    *("tenants.example.com", "a.tenants.example.com", "a.b.tenants.example.com"),
    *("a.eu.tenants.example.com", "eu.tenants.example.com", "chat.example.com", "unknown.example"),
]
PATHS = [
    *("/", "/index.html", "/static/", "/static/a.css", "/static/a.js", "/static/images/a.js"),
    *("/static/images/x?y=1", "/download", "/download.js", "/download/scripts/a.js", "/downloads"),
    *("/download/scripts", "/a.js", "/a.jsx", "/A.JS", "/blog/2024/a.html", "/blog/2024/a.HTM"),
    *("/blog/24/a.html", "/search", "/search/", "/search?q=1", "/v2/", "/v2/a", "/v2/login"),
    *("/v2/login/a.js", "/v2", "/cart", "/cart/1", "/orders", "/billing?x=/cart", "/direct"),
    *("/reports", "/reports/slow", "/reports/slower", "/reports/fast"),
]
#: What is not taken over: it gets 502.
LEFT = {
    ("www.example.com", "/files/a"),
    ("www.example.com", "/old/a"),
    ("api.example.com", "/admin/x"),
}
#: Servers of an upstream among which nginx and slardar choose in their own ways.
GROUPS = {
    **dict.fromkeys((9005, 9006), "images"),
    **dict.fromkeys((9009, 9010), "api"),
    **dict.fromkeys((9014, 9015), "login"),
    **dict.fromkeys((9016, 9017), "search"),
}


def test_nginx_of_twenty_upstreams(tmp_path: Path, ports: list[int], start: Start) -> None:
    """The file is imported with all that it includes, and slardar gives the answers of nginx, by
    the same servers in the same order where they are served in turn."""
    folder = tmp_path / "nginx"
    shutil.copytree(FILES / "nginx", folder)
    port = free_port()
    localised(folder, ports, port)
    path = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert path is not None, "nginx is needed: make test installs it"
    quiet = "daemon off; master_process off;"
    nginx = start(
        Program(
            [path, "-p", str(folder), "-e", "stderr", "-c", f"{folder}/nginx.conf", "-g", quiet],
            folder,
        )
    )
    nginx.wait_for(r"using the .* event method")
    listed = imported(f"{folder}/nginx.conf", "-o", f"{tmp_path}/slardar.yaml")
    slardar = start(Slardar(tmp_path, "--config", "slardar.yaml", "--store", "memory:")).ready()
    theirs_at, ours_at = start(Asker(port)), start(Asker(slardar.port))
    assert len(slardar.call("GET", "/upstreams")[1]) >= 20
    for host in HOSTS:
        for path in PATHS:
            theirs = without_server(theirs_at(host, path), ports, GROUPS)
            if theirs[0] == 301:
                # The end of a prefix is missing, which nginx adds; this is listed.
                assert re.search(rf"nginx sends {path} to {path}/ by itself", listed)
                continue
            if host == "shop.example.com" and theirs == (404, ""):
                # No location: nginx looks for a file.
                theirs = (502, "")
            ours = without_server(ours_at(host, path), ports, GROUPS)
            assert ours == theirs, (host, path)
    for host, path in LEFT:
        assert ours_at(host, path) == (502, ""), path
    for line in (
        r"20-www\.conf:29: location /files/: requests for it get 502: slardar serves no files",
        r"20-www\.conf:32: location /old/: requests for it get 502: rewrite ",
        r"20-www\.conf:\d+: location /admin: requests for it get 502: deny all ",
        r"30-others\.conf:\d+: add_header X-Chat yes: ",
        r"nginx\.conf:23: gzip on: ",
    ):
        assert re.search(line, listed), f"{line} in\n{listed}"


def test_haproxy(tmp_path: Path, ports: list[int], start: Start) -> None:
    """The same for HAProxy's common subset."""
    folder = tmp_path / "haproxy"
    shutil.copytree(FILES / "haproxy", folder)
    port = free_port()
    localised(folder, ports, port)
    path = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert path is not None, "haproxy is needed: make test installs it"
    wait_for_port(start(Program([path, "-db", "-f", f"{folder}/haproxy.cfg"], folder)), port)
    listed = imported(
        "--from", "haproxy", f"{folder}/haproxy.cfg", "-o", f"{tmp_path}/slardar.yaml"
    )
    slardar = start(Slardar(tmp_path, "--config", "slardar.yaml", "--store", "memory:")).ready()
    theirs_at, ours_at = start(Asker(port)), start(Asker(slardar.port))
    hosts = [
        *("www.example.com", "api.example.com", "API2.example.com", "a.example.org", "example.org"),
    ]
    paths = [
        *("/", "/static/a", "/static", "/img/x?y=1", "/a.css", "/a.css?x", "/x.jsx", "/robots.txt"),
        *("/Robots.TXT", "/v2/a", "/v2", "/2024/a", "/20/a", "/admin", "/admin/x", "/a/admin"),
    ]
    groups = dict.fromkeys((9001, 9002), "web")
    for host in hosts:
        for path in paths:
            theirs = without_server(theirs_at(host, path), ports, groups)
            # What was refused by a rule is not passed on.
            theirs = (502, "") if theirs == (403, "") else theirs
            ours = without_server(ours_at(host, path), ports, groups)
            assert ours == theirs, (host, path)
    assert re.search(r"haproxy\.cfg:\d+: http-request deny if { path_beg /admin }: ", listed)
    assert re.search(r"haproxy\.cfg:\d+: http-request set-header X-Via haproxy: ", listed)
    assert re.search(r"haproxy\.cfg:\d+: cookie SRV insert: ", listed)
