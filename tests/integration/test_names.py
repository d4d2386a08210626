"""Names of servers whose lookup takes long or fails, or whose addresses change: twistd, real
sockets and name servers."""

from __future__ import annotations

import http.client
import http.server
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import threads

from tests.integration.conftest import Start
from tests.integration.programs import CHECKOUT, Nginx, Slardar
from tests.integration.sockets import in_thread, wait_for
from tests.nameserver import NameServer, address

#: Seconds within which a change is answered for any name; the data plane waits for a lookup
#: for at most 0.15 s.
AT_ONCE = 1.0
#: Code that Python runs first: the name servers of the test.
FILES = """
from slardar import resolvconf

resolvconf.RESOLV_CONF, resolvconf.HOSTS = "{0}/resolv.conf", "{0}/hosts"
"""
#: Besides, slow names, and one that is found.
NAMES = """
import os, socket, time

real = socket.getaddrinfo

def look_up(host, *arguments, **options):
    if host.endswith(".example"):
        with open("lookups", "a") as file:
            file.write(f"{os.getpid()} {host}\\n")
    if host.endswith(".stuck.example"):
        time.sleep(60)
    if host == "hangs.example":
        time.sleep(2)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")
    if host == "slow.example":
        time.sleep(0.7)
    if host.endswith(".example"):
        host = "127.0.0.1"
    return real(host, *arguments, **options)

socket.getaddrinfo = look_up
"""


def machine(folder: Path, code: str = "") -> str:
    """A path of modules for a program that finds its name servers in ``folder``, and runs
    ``code`` first."""
    (folder / "sitecustomize.py").write_text(FILES.format(folder) + code)
    return f"{folder}:{CHECKOUT}"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx that answers yes."""
    server = Nginx(tmp_path_factory.mktemp("n") / "nginx", 'location / { return 200 "yes"; }')
    yield server
    server.end()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_names_delay_no_change(tmp_path: Path, start: Start, backend: Nginx, workers: str) -> None:
    """A change with a name that hangs is answered at once, and the known servers serve; a name
    that is found at once serves the next request, and a slow name the requests that wait
    for it."""
    path = machine(tmp_path, NAMES)
    words = ("--workers", workers, "--store", "memory:", "--amp", "unix:a.sock")
    slardar: Slardar = start(Slardar(tmp_path / "slardar", *words, PYTHONPATH=path)).ready()

    def put(name: str, *hosts: str) -> float:
        servers = [{"host": host, "port": backend.port} for host in hosts]
        began = time.monotonic()
        assert slardar.call("PUT", f"/upstream/{name}", {"servers": servers})[0] == 200
        return time.monotonic() - began

    # The usual time of a call, on this machine and now.
    usual = max(put("known", "127.0.0.1") for _ in range(3))
    assert put("quick", "quick.example") < AT_ONCE + usual
    assert slardar.get("quick") == (200, "yes")
    assert put("mixed", "hangs.example", "127.0.0.1") < AT_ONCE + usual
    for _ in range(6):
        assert slardar.get("mixed") == (200, "yes")
    # The server got no request, so it has not failed.
    (servers,) = slardar.call("GET", "/status")[1]["cls:mixed"]
    assert [server["fail_num"] for server in servers] == [0, 0]
    assert put("slow", "slow.example") < AT_ONCE + usual
    replies: list[tuple[int, str]] = []
    threads = [
        threading.Thread(target=lambda: replies.append(slardar.get("slow"))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    # Other upstreams do not wait meanwhile.
    assert slardar.get("known") == (200, "yes")
    for thread in threads:
        thread.join()
    assert replies == [(200, "yes")] * 5
    assert put("gone", "hangs.example") < AT_ONCE + usual
    assert slardar.get("gone")[0] == 502
    # One process asks, whoever serves.
    lookups = (tmp_path / "slardar" / "lookups").read_text().split("\n")[:-1]
    assert {line.split()[0] for line in lookups} == {str(slardar.pid)}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_names_delay_no_stop(tmp_path: Path, start: Start, backend: Nginx, workers: str) -> None:
    """slardar ends although the system's resolver hangs with some names and others wait for it."""
    path = machine(tmp_path, NAMES)
    words = ("--workers", workers, "--store", "memory:", "--amp", "unix:a.sock")
    slardar: Slardar = start(Slardar(tmp_path / "slardar", *words, PYTHONPATH=path)).ready()
    hosts = [f"n{number}.stuck.example" for number in range(40)]
    servers = [{"host": host, "port": backend.port} for host in ("127.0.0.1", *hosts)]
    assert slardar.call("PUT", "/upstream/web", {"servers": servers})[0] == 200
    lookups = tmp_path / "slardar" / "lookups"
    wait_for(lambda: lookups.exists() and lookups.read_text().count("stuck") >= 10)
    assert slardar.get("web") == (200, "yes")
    slardar.signal(signal.SIGTERM)
    assert slardar.wait(20) == -signal.SIGTERM


def test_name_of_an_agent_delays_no_stop(tmp_path: Path, start: Start) -> None:
    """slardar ends although the name of Consul's agent is being looked up."""
    path = machine(tmp_path, NAMES)
    words = ("--store", "memory:", "--amp", "unix:a.sock")
    agent = "http://consul.stuck.example:8500"
    program = Slardar(tmp_path / "slardar", *words, PYTHONPATH=path, CONSUL_HTTP_ADDR=agent)
    slardar: Slardar = start(program).ready()
    assert slardar.call("PUT", "/service/web", {"consul_service": "web"})[0] == 200
    lookups = tmp_path / "slardar" / "lookups"
    wait_for(lambda: lookups.exists() and "consul.stuck.example" in lookups.read_text())
    slardar.signal(signal.SIGTERM)
    assert slardar.wait(20) == -signal.SIGTERM


class Backend(http.server.ThreadingHTTPServer):
    """Answers with its address, and counts its connections."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), Answer)
        self.open = 0
        self.lock = threading.Lock()

    def count(self, change: int) -> None:
        with self.lock:
            self.open += change


class Answer(http.server.BaseHTTPRequestHandler):
    """One connection of a :class:`Backend`."""

    protocol_version = "HTTP/1.1"
    server: Backend

    def setup(self) -> None:
        super().setup()
        self.server.count(1)

    def finish(self) -> None:
        super().finish()
        self.server.count(-1)

    def do_GET(self) -> None:
        body = str(self.server.server_address[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: the test looks at what clients get."""


@contextmanager
def backends(*hosts: str) -> Iterator[list[Backend]]:
    """Servers at these addresses, all on one port."""
    with ExitStack() as stack:
        servers: list[Backend] = []
        for host in hosts:
            port = servers[0].server_address[1] if servers else 0
            servers.append(stack.enter_context(Backend(host, int(port))))
            threading.Thread(target=servers[-1].serve_forever, args=(0.05,)).start()
            stack.callback(servers[-1].shutdown)
        yield servers


class Load:
    """Clients that ask again and again, and keep their connections."""

    def __init__(self, slardar: Slardar, count: int) -> None:
        self._port = slardar.port
        self._over = threading.Event()
        self.wrong: list[str] = []
        #: How often each backend has answered.
        self.answers: dict[str, int] = {}
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self._over.wait(0.002):
            try:
                connection.request("GET", "/", headers={"Host": "web"})
                reply = connection.getresponse()
                body = reply.read().decode()
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(repr(error))
                return
            if reply.status != 200:
                self.wrong.append(f"{reply.status} {body}")
            self.answers[body] = self.answers.get(body, 0) + 1
        connection.close()

    def seen(self) -> set[str]:
        """The backends that answer from now on, for some requests."""
        self.answers = {}
        wait_for(lambda: sum(self.answers.values()) > 60 or self.wrong)
        return set(self.answers)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@in_thread
def test_addresses_follow_dns_under_load(tmp_path: Path, start: Start) -> None:
    """All addresses of a name are used.  One that leaves the answer gets no new request, and
    its connections are closed; while no name server answers, the last addresses serve and
    the status says so; a new ``resolv.conf`` is used.  No request fails meanwhile."""
    from twisted.internet import reactor  # noqa: TID251

    def on_reactor(function: Any, *arguments: Any) -> Any:
        return threads.blockingCallFromThread(reactor, function, *arguments)

    one, two, three = (f"127.0.0.{last}" for last in (1, 2, 3))
    first, second = (on_reactor(NameServer, reactor) for _ in range(2))

    def use(server: NameServer, *hosts: str) -> None:
        server.zone["web.example"] = [address("web.example", host, 1) for host in hosts]
        (tmp_path / "resolv.conf").write_text(
            f"nameserver [{server.host}]:{server.port}\noptions timeout:1 attempts:1\n"
        )

    use(first, one, two)
    words = ("--workers", "2", "--store", "memory:")
    program = Slardar(tmp_path / "slardar", *words, PYTHONPATH=machine(tmp_path))
    slardar: Slardar = start(program).ready()

    def shown() -> dict[str, Any]:
        ((server,),) = slardar.call("GET", "/status")[1]["cls:web"]
        found: dict[str, Any] = server
        return found

    with backends(one, two, three) as servers:
        port = servers[0].server_address[1]
        body = {"servers": [{"host": "web.example", "port": port}]}
        assert slardar.call("PUT", "/upstream/web", body)[0] == 200
        load = Load(slardar, 4)
        try:
            assert load.seen() == {one, two}
            assert min(load.answers.values()) > 15
            use(first, two, three)
            wait_for(lambda: load.seen() == {two, three}, "the new address")
            wait_for(lambda: not servers[0].open, "the end of the connections")
            assert (shown()["addresses"], "lookup" in shown()) == ([two, three], False)
            on_reactor(first.stop)
            # A question that was under way when the name server stopped "gave no answer".
            wait_for(
                lambda: "127.0.0.1 cannot be asked" in shown().get("lookup", {"msg": ""})["msg"],
                "the failure",
            )
            assert shown()["addresses"] == [two, three]
            assert load.seen() == {two, three}
            use(second, one)
            wait_for(lambda: load.seen() == {one}, "the new name server")
            assert "lookup" not in shown()
        finally:
            load.stop()
        assert load.wrong == []
        assert slardar.stop() is not None
    on_reactor(second.stop)
