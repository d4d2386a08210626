"""The failover benchmark's own parts: what is sent to a server, what failed, and who has won."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.failover.contenders import CONTENDERS, SETTINGS
from benchmarks.failover.faults import FAULTS, play
from benchmarks.failover.figures import Outcome, again_after, judge, out_after, outcome
from benchmarks.failover.ground import NAMES, Namespace, NotAllowed, Server, Servers
from benchmarks.failover.load import Answer, Load, Sample, read_answer
from benchmarks.failover.report import markdown
from benchmarks.failover.watch import Packets, Watch, requests_among
from benchmarks.folder import CONFIGS, fill
from benchmarks.processes import Cores
from benchmarks.soak.clients import until

HERE, THERE = "198.18.0.1", "198.18.0.2"
SYN, RST, ACK, PSH = 0x02, 0x04, 0x10, 0x08


def frame(source: str, target: str, ports: tuple[int, int], flags: int, *data: object) -> bytes:
    """One packet: a sequence number and a payload may follow."""
    sequence, payload = (*data, *(0, b"")[len(data) :])
    assert isinstance(sequence, int)
    assert isinstance(payload, bytes)
    tcp = struct.pack("!HHIIBBHHH", *ports, sequence, 0, 5 << 4, flags, 0, 0, 0)
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    return b"\0" * 12 + b"\x08\x00\x45" + b"\0" * 8 + b"\x06\0\0" + addresses + tcp + payload


class Wire:
    """The packets between a proxy and the server."""

    def __init__(self) -> None:
        self.packets = Packets(THERE)

    def opens(self, at: float, port: int, sequence: int = 1) -> None:
        """The proxy begins a connection."""
        self.packets.note(frame(HERE, THERE, (port, 80), SYN, sequence), at)

    def accepts(self, port: int) -> None:
        """The server takes it."""
        self.packets.note(frame(THERE, HERE, (80, port), SYN | ACK), 0.0)

    def refuses(self, port: int) -> None:
        """The server's kernel refuses it."""
        self.packets.note(frame(THERE, HERE, (80, port), RST | ACK), 0.0)

    def sends(self, at: float, port: int, text: str, sequence: int = 2) -> None:
        """The proxy sends something on it."""
        self.packets.note(frame(HERE, THERE, (port, 80), PSH | ACK, sequence, text.encode()), at)


def test_requests_are_counted_and_heartbeats_are_not() -> None:
    """A request is known by its path; what the kernel repeats is one request."""
    wire = Wire()
    wire.opens(1.0, 5000)
    wire.accepts(5000)
    wire.sends(1.0, 5000, "GET /job/1 HTTP/1.1\r\n")
    wire.sends(1.3, 5000, "GET /job/1 HTTP/1.1\r\n")
    wire.sends(1.5, 5000, "POST /job/2 HTTP/1.1\r\n", 50)
    wire.sends(1.6, 5000, "GET /health HTTP/1.1\r\n", 100)
    wire.packets.note(frame(THERE, HERE, (80, 5000), PSH | ACK, 1, b"GET /job/"), 1.7)
    wire.packets.note(b"\0" * 12 + b"\x86\xdd" + b"\0" * 60, 1.8)
    assert requests_among(wire.packets) == [1.0, 1.5]


def test_connections_that_fail_close_together_are_requests() -> None:
    """Heartbeats fail one by one; a repeated SYN is no second connection, a new one is."""
    wire = Wire()
    for at, port in ((1.0, 5000), (1.1, 5001), (2.0, 5002), (3.0, 5003)):
        wire.opens(at, port)
        wire.refuses(port)
    wire.opens(4.0, 5010)
    wire.opens(4.1, 5010)
    wire.opens(5.0, 5011)
    wire.opens(5.1, 5011, sequence=9)
    assert wire.packets.failed_connections == [1.0, 1.1, 2.0, 3.0, 4.0, 5.0, 5.1]
    assert requests_among(wire.packets) == [1.0, 1.1, 5.0, 5.1]


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        ([], 0.0),
        ([9.0, 10.4], 0.4),
        # It has come back within the fault, and was out all the same.
        ([10.1, 10.2, 15.0], 0.2),
        ([10 + turn * 0.4 for turn in range(26)], None),
        # The gap reaches the end of the fault.
        ([10 + turn * 0.4 for turn in range(22)], pytest.approx(8.4)),
    ],
)
def test_a_server_is_out_at_the_first_gap(sent: list[float], seconds: float | None) -> None:
    assert out_after(sent, 10.0, 20.0) == (seconds if seconds is None else pytest.approx(seconds))


def sample(begun: float, server: str = "b", failure: str = "", is_get: bool = True) -> Sample:
    """A request that took a tenth of a second."""
    return Sample(begun, 0.1, is_get, server, failure)


def test_a_server_is_used_again_at_its_first_good_reply() -> None:
    """Not at one that began before the end, and not at a bad one."""
    samples = [sample(1.9, "a"), sample(2.1, "a", "status 500"), sample(2.2), sample(2.5, "a")]
    assert again_after(samples, "a", 2.0) == pytest.approx(0.5)
    assert again_after(samples[:3], "a", 2.0) is None


def test_an_outcome_counts_what_the_fault_has_met() -> None:
    """Also what was under way when it began: a server that is killed has such requests."""
    samples = [
        sample(0.5, failure="status 503"),
        sample(0.95, failure="reset"),
        sample(1.2, failure="reset", is_get=False),
        Sample(1.3, 0.4, True, "b", ""),
        sample(2.4, failure="closed"),
        sample(2.5, "a"),
    ]
    found = outcome("nginx", "kill", "a", samples, [0.9, 1.1, 1.2, 2.6], (1.0, 2.0))
    assert (found.requests, found.gets_failed, found.posts_failed) == (5, 2, 1)
    assert found.reasons == {"reset": 2, "closed": 1}
    assert (found.p50_ms, found.p99_ms) == (pytest.approx(100), pytest.approx(400))
    assert (found.out, found.again) == (pytest.approx(0.2), pytest.approx(0.5))
    assert found.sent == 2
    assert outcome("nginx", "kill", "a", samples, None, (1.0, 2.0)).sent is None


def ended(proxy: str, fault: str, failed: int, sent: int | None = 7) -> Outcome:
    """The outcome of a proxy through which ``failed`` GETs failed."""
    reasons = {"status 502": failed} if failed else {}
    return Outcome(proxy, fault, None, 1.0, sent, 2000, failed, 0, reasons, 20.0, 30.0)


@pytest.mark.parametrize(
    ("fault", "own", "others", "verdict"),
    [
        ("stop", 2, (3, 2), ("≤ 2", True)),
        ("stop", 3, (9, 2), ("≤ 2", False)),
        ("stop", 3, (), ("the fewest of the others", None)),
        ("stop", None, (1,), ("the fewest of the others", None)),
        # These must not fail, whatever becomes of the others.
        ("kill", 1, (5, 5), ("0", False)),
        ("flap", 0, (), ("0", True)),
        ("slow", None, (0,), ("0", None)),
    ],
)
def test_slardar_is_judged_by_the_best_of_the_others(
    fault: str, own: int | None, others: tuple[int, ...], verdict: tuple[str, bool | None]
) -> None:
    outcomes = [ended(name, fault, failed) for name, failed in zip("xyz", others, strict=False)]
    outcomes.append(ended("z", "errors", 0))
    if own is not None:
        outcomes.append(ended("slardar", fault, own))
    assert judge(fault, "slardar", outcomes) == verdict


def test_the_report_has_every_line_and_says_what_is_left_out() -> None:
    outcomes = [ended("slardar", "kill", 0), ended("nginx", "kill", 4, sent=None)]
    text = markdown(outcomes, {"Kernel": "6.1"}, 240, 1.5, ["Packets to it dropped: not allowed."])
    assert "| Killed with SIGKILL | 0 | 0 in 2,000 requests | met |" in text
    assert "| Half of its replies 500 | the fewest of the others | not measured |" in text
    assert "| **slardar** | never | 1.0 | 0 | 0 | 7 | 20.0 | 30.0 |" in text
    assert "| nginx | - | 1.0 | 4 | 0 | - | 20.0 | 30.0 |" in text
    assert "- nginx: 4 status 502" in text
    assert "- Packets to it dropped: not allowed." in text
    assert "| Kernel | 6.1 |" in text


class Recorded:
    """A server that only says what was done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def __getattr__(self, action: str) -> Callable[[], None]:
        assert callable(getattr(Server, action)), "every step is a method of a server"
        return lambda: self.done.append(action)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_undone(name: str) -> None:
    """The server is as before at the end: the next proxy must meet the same one."""
    undone = {
        "kill": "start",
        "freeze": "thaw",
        "vanish": "appear",
        "be_slow": "be_good",
        "be_wrong": "be_good",
    }
    server = Recorded()
    begin, end = play(FAULTS[name], server, 0.0)  # type: ignore[arg-type]
    assert begin <= end
    assert server.done[1::2] == [undone[action] for action in server.done[::2]]
    moments = [moment for moment, _ in FAULTS[name].steps]
    assert (moments[0], moments[-1]) == (0.0, 10.0)
    assert moments == sorted(moments)


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_is_told_of_every_server(name: str, tmp_path: Path) -> None:
    proxy = CONTENDERS[name]
    places: dict[str, object] = {"port": 8080}
    for number, server in enumerate(NAMES):
        places[f"host_{server}"], places[f"port_{server}"] = f"10.9.8.{number}", 7000 + number
    fill(proxy.configs, tmp_path, places)
    text = "".join((tmp_path / config).read_text() for config in proxy.configs)
    for number in range(len(NAMES)):
        assert f"10.9.8.{number}" in text
        assert f"{7000 + number}" in text
    assert name in SETTINGS
    assert any(proxy.configs[0] in word for word in proxy.command)
    assert all((CONFIGS / config).exists() for config in proxy.configs)


@pytest.mark.parametrize(
    ("data", "at_end", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Served-By: a\r\n\r\nok\n", False, (200, "a")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", False, None),
        (b"HTTP/1.1 200 OK\r\nContent-Le", False, None),
        (b"HTTP/1.1 502 Bad\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n", False, None),
        (b"HTTP/1.1 502 Bad\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", False, (502, "")),
        (b"HTTP/1.0 503 No\r\n\r\n<html>", False, None),
        (b"HTTP/1.0 503 No\r\n\r\n<html>", True, (503, "")),
        (b"", True, None),
    ],
)
def test_a_reply_is_read_once_it_is_whole(
    data: bytes, at_end: bool, answer: tuple[int, str] | None
) -> None:
    found = read_answer(data, at_end)
    if answer is None:
        assert found is None
    else:
        assert found == Answer(*answer, closes=at_end)


class Stalling:
    """A proxy that answers at once, but stands still for a while after ``before`` requests."""

    def __init__(self, before: int, seconds: float) -> None:
        self._before, self._seconds = before, seconds
        self._count = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            while sock.recv(4096):
                with self._lock:
                    self._count += 1
                    if self._count == self._before:
                        threading.Event().wait(self._seconds)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.mark.real
def test_a_proxy_that_stands_still_makes_all_requests_late_that_came_meanwhile() -> None:
    """A load that waited for it would see one late request: the others would not have begun."""
    proxy = Stalling(10, 0.5)
    load = Load(proxy.port, 100.0)
    load.start()
    try:
        until(lambda: len(load.samples) >= 65, "the load goes on")
    finally:
        load.stop()
        proxy.stop()
    assert not any(one.failure for one in load.samples)
    assert sum(one.seconds > 0.1 for one in load.samples) >= 30
    begun = sorted(one.begun for one in load.samples)
    gaps = [later - earlier for earlier, later in pairwise(begun)]
    assert gaps == pytest.approx([0.01] * len(gaps))
    assert 1 <= sum(not one.is_get for one in load.samples) <= len(load.samples) // 4


@pytest.mark.real
def test_the_load_says_why_requests_fail() -> None:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    load = Load(port, 100.0)
    load.start()
    try:
        until(lambda: len(load.samples) >= 3, "requests fail")
    finally:
        load.stop()
    assert {one.failure for one in load.samples} == {"refused"}


def test_a_load_that_breaks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its requests have not failed; there are none."""
    monkeypatch.setattr("benchmarks.failover.load.POST_SHARE", None)
    load = Load(1, 100.0)
    load.start()
    load.stop()
    assert isinstance(load.error, TypeError)
    assert load.samples == []


def ask(server: Server, path: str) -> bytes:
    """What a server answers on a new connection."""
    with socket.create_connection((server.host, server.port), 0.5) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return sock.recv(4096)


@pytest.mark.real
def test_servers_break_and_recover_as_they_are_told(tmp_path: Path) -> None:
    servers = Servers(tmp_path, Cores().load, None)
    try:
        victim = servers.victim
        assert b"X-Served-By: a\r\n" in ask(victim, "/job/1")
        victim.be_wrong()
        statuses = {ask(victim, "/job/1").split()[1] for _ in range(20)}
        assert statuses == {b"200", b"500"}
        assert {ask(victim, "/health").split()[1] for _ in range(20)} == {b"200"}
        victim.be_slow()
        begin = time.monotonic()
        assert b" 200 " in ask(victim, "/job/1")
        assert time.monotonic() - begin >= 0.2
        victim.kill()
        with pytest.raises(ConnectionRefusedError):
            ask(victim, "/job/1")
        victim.start()
        victim.freeze()
        with pytest.raises(TimeoutError):
            ask(victim, "/job/1")
        victim.thaw()
        assert b" 200 " in ask(victim, "/job/1")
    finally:
        servers.stop()


@pytest.mark.real
def test_a_server_in_a_network_of_its_own_can_be_cut_off_and_is_watched(tmp_path: Path) -> None:
    try:
        namespace = Namespace()
    except NotAllowed as error:
        pytest.skip(f"no network namespace: {error}")
    try:
        server = Server("a", tmp_path, Cores().load, namespace)
        watch = Watch(namespace)
        try:
            assert b"X-Served-By: a\r\n" in ask(server, "/job/1")
            ask(server, "/health")
            server.vanish()
            with pytest.raises(TimeoutError):
                ask(server, "/job/1")
            server.appear()
            assert b" 200 " in ask(server, "/job/2")
            server.kill()
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    ask(server, "/job/3")
            until(lambda: len(watch.packets.failed_connections) == 3, "all packets are read")
        finally:
            watch.stop()
            server.stop()
    finally:
        namespace.remove()
    assert len(watch.packets.requests) == 2
    with pytest.raises(OSError, match="interface"):
        socket.if_nametoindex(namespace.link)
