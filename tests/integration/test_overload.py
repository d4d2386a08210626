"""slardar without descriptors: more clients and servers than it may have open files.

The limit is a real one, of the processes themselves.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import PATIENCE, TWISTD, Nginx, Program, Slardar
from tests.integration.test_workers import until

#: The limit of open files of a process; the director of two workers needs some 25.
LIMIT = 64
LAUNCHER = """
import os, resource, sys

limit = int(sys.argv[1])
# The hard one too, to which slardar would raise the soft one.
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
os.execv(sys.argv[2], sys.argv[2:])
"""
#: Seconds over which the use of the processor is measured.
MEASURED = 1.5


class Cramped(Slardar):
    """slardar whose processes may have few files open."""

    def __init__(self, folder: Path, workers: str, *options: str) -> None:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", LAUNCHER, str(LIMIT), *TWISTD, "--nodaemon", "slardar"]
        command += ["--workers", workers, "--listen", "tcp:0:interface=127.0.0.1"]
        command += ["--control", "tcp:0:interface=127.0.0.1", *options]
        Program.__init__(self, command, folder)

    def processes(self) -> list[int]:
        """The processes that serve requests."""
        workers = self.call("GET", "/status")[1]["workers"]
        return [about["pid"] for about in workers.values()]


class Crowd:
    """Many clients, each of which keeps its connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stack = ExitStack()
        self.clients: list[socket.socket] = []

    def join(self, count: int) -> list[socket.socket]:
        """Connect so many more clients, which the kernel may hold in its queue."""
        new = []
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
            self._stack.enter_context(client)
            new.append(client)
        self.clients += new
        return new

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes the sockets that a test opens."""
    with ExitStack() as found:
        yield found


def ask(client: socket.socket, host: str = "a") -> None:
    """Send a request."""
    client.sendall(b"GET /who HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())


def readable(clients: list[socket.socket]) -> list[socket.socket]:
    """The clients for which bytes have arrived."""
    poll = select.poll()
    by_number = {client.fileno(): client for client in clients}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(0)]


def next_of(waiting: list[socket.socket]) -> list[socket.socket]:
    """The clients that are served next."""
    until(lambda: readable(waiting), "some of those who wait are served")
    return readable(waiting)


def status(client: socket.socket) -> int:
    """The status of the next reply, which is read whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        assert part, f"ended early: {data!r}"
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    match = re.search(rb"(?i)content-length: (\d+)", head)
    assert match is not None, head
    while len(body) < int(match[1]):
        part = client.recv(65536)
        assert part, f"ended early: {data!r}"
        body += part
    return int(head[9:12])


def processor_seconds(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def assert_calm(pids: list[int]) -> None:
    """Assert that the processes do not spin: each uses little of a core."""
    before = [processor_seconds(pid) for pid in pids]
    select.select((), (), (), MEASURED)  # the time that is measured, not a wait
    used = [processor_seconds(pid) - was for pid, was in zip(pids, before, strict=True)]
    assert max(used) < MEASURED * 0.3, used


def complaints(slardar: Slardar) -> list[str]:
    """The seconds of the log's lines that a process could not accept, with the process."""
    pattern = r"^(\S+T[\d:]+)\S* \[[^]]*\] (\S*: )?cannot accept connections: Too many open files"
    return [match[0] for match in re.finditer(pattern, slardar.output, re.MULTILINE)]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_more_clients_than_descriptors(
    tmp_path: Path, start: Start, nginx: Nginx, stack: ExitStack, workers: str
) -> None:
    """Accepted clients are served again and again, and no other is accepted at their cost; the
    others wait without using the processor, and are served when the first have left.  The
    log says how many clients have room."""
    slardar = start(Cramped(tmp_path, workers, "--upstream", f"a={nginx.address}")).ready()
    found = slardar.wait_for(r"limits\.connections: (\d+) clients at most instead of 10000")
    room = int(found[1]) * max(1, int(workers))
    # Heartbeats have an eighth of them in the one process that there is.
    assert 5 < int(found[1]) <= LIMIT // 2
    pids = slardar.processes()
    crowd = Crowd(slardar.port)
    stack.callback(crowd.close)
    for client in crowd.join(120):
        ask(client)
    inside: list[socket.socket] = []

    def are_in() -> bool:
        inside[:] = readable(crowd.clients)
        return len(inside) >= room

    until(are_in, "all that there is room for are served")
    assert {status(client) for client in inside} == {200}
    assert_calm([slardar.pid, *pids])
    assert readable(crowd.clients) == []
    for _ in range(3):
        for client in inside:
            ask(client)
        assert {status(client) for client in inside} == {200}

    # In turns, as many as have room.
    waiting = [client for client in crowd.clients if client not in inside]
    while waiting:
        for client in inside:
            client.close()
        inside = next_of(waiting)
        assert {status(client) for client in inside} == {200}
        waiting = [client for client in waiting if client not in inside]
    assert slardar.processes() == pids
    assert "Traceback" not in slardar.output
    assert slardar.stop() in (0, -signal.SIGTERM)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_no_descriptor_for_a_connection_to_a_server(
    tmp_path: Path, start: Start, nginx: Nginx, stack: ExitStack, workers: str
) -> None:
    """Idle connections to many servers use all descriptors.  This costs one request, whose
    client learns the reason, and no server's failure is counted.  The idle connections are
    closed, and the next request is served."""
    names = [f"u{number}" for number in range(60)]
    options = [word for name in names for word in ("--upstream", f"{name}={nginx.address}")]
    slardar = start(Cramped(tmp_path, workers, *options)).ready()
    (pid,) = slardar.processes()
    crowd = Crowd(slardar.port)
    stack.callback(crowd.close)
    (client,) = crowd.join(1)
    statuses = []
    for name in names:
        ask(client, name)
        statuses.append(status(client))
    assert statuses.count(503) == 1, statuses
    assert statuses.count(200) == len(names) - 1
    open_files = len(os.listdir(f"/proc/{pid}/fd"))
    assert open_files < LIMIT
    (refused,) = [name for name, one in zip(names, statuses, strict=True) if one == 503]
    ask(client, refused)
    assert status(client) == 200
    _, about = slardar.call("GET", "/status")
    for name in names:
        assert about[f"cls:{name}"][0][0]["status"] in ("ok", "unchecked")
        assert about[f"cls:{name}"][0][0]["fail_num"] == 0
    assert_calm([slardar.pid, pid])
    assert slardar.stop() in (0, -signal.SIGTERM)


def test_no_descriptor_for_a_client(
    tmp_path: Path, start: Start, nginx: Nginx, stack: ExitStack
) -> None:
    """Calls of the control channel, in the same process, may take the descriptors that were
    counted for clients, which then wait.  The log has this once a second, it uses no
    processor time, and it ends with the shortage."""
    slardar = start(Cramped(tmp_path, "0", "--upstream", f"a={nginx.address}")).ready()
    callers = Crowd(slardar.control)
    stack.callback(callers.close)
    callers.join(LIMIT)
    crowd = Crowd(slardar.port)
    stack.callback(crowd.close)
    # Twisted keeps one, to accept callers with whom it has to send away.
    until(lambda: len(os.listdir(f"/proc/{slardar.pid}/fd")) >= LIMIT - 1, "all are taken")
    clients = crowd.join(5)
    for client in clients:
        ask(client)
    slardar.wait_for("cannot accept connections: Too many open files")
    assert_calm([slardar.pid])
    said = complaints(slardar)
    until(lambda: len(complaints(slardar)) > len(said), "it is said again")
    callers.close()
    # A client may be accepted a moment before there is a descriptor for its server.
    assert {status(client) for client in clients} <= {200, 503}
    for client in clients:
        ask(client)
    assert {status(client) for client in clients} == {200}
    said = complaints(slardar)
    assert 2 <= len(said) == len(set(said)), said
    assert slardar.stop() in (0, -signal.SIGTERM)
