"""The soak's own parts: a soak whose clients miss failures proves nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks.backends import SMALL_BODY
from benchmarks.soak.clients import SMALL, Crowd, Failure, get
from benchmarks.soak.origins import frame, unmask
from benchmarks.soak.report import markdown
from benchmarks.soak.row import FULL, Row, percentile

pytestmark = pytest.mark.real

GOOD = f"HTTP/1.1 200 OK\r\nContent-Length: {len(SMALL_BODY)}\r\n\r\n{SMALL_BODY}".encode()
#: Gives the reply to a request by connection and request number, or None to close instead.
Script = Callable[[int, int], "bytes | None"]


class Liar:
    """A server that sends the bytes that a test wants."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connections = 0
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                requests = 0
                while sock.recv(4096):
                    answer = self._script(connections, requests)
                    if answer is None:
                        break
                    sock.sendall(answer)
                    requests += 1
                    if answer != GOOD:
                        break
            connections += 1

    def stop(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)


@pytest.fixture
def liar() -> Iterator[Callable[[Script], Liar]]:
    """Makes servers, and stops them."""
    made: list[Liar] = []

    def make(script: Script) -> Liar:
        made.append(Liar(script))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (None, "closed"),
        (GOOD[:10], "closed"),
        (GOOD[:-1], "short body"),
        (GOOD + b"x", "long body"),
        (GOOD.replace(b"4711", b"4712"), "wrong body"),
        (GOOD.replace(b"200 OK", b"502 No"), "status 502"),
        (GOOD.replace(b"200 OK", b"206 No"), "status 206"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no length"),
        (b"nonsense is it all\r\n\r\n", "no status line"),
    ],
)
def test_client_names_what_failed(
    liar: Callable[[Script], Liar], answer: bytes | None, kind: str
) -> None:
    """Each kind of wrong reply is a failure with its own name."""
    server = liar(lambda connection, request: answer)
    with pytest.raises(Failure) as caught:
        get(server.port, SMALL)
    assert caught.value.kind == kind


def test_client_tells_a_refused_connection() -> None:
    """Nobody listens on the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(Failure) as caught:
            get(probe.getsockname()[1], SMALL)
    assert caught.value.kind == "refused"


def test_crowd_counts_requests_into_closing_connections_apart(
    liar: Callable[[Script], Liar],
) -> None:
    """A kept connection that ends without a byte is counted as one, and the retry succeeds."""
    server = liar(lambda connection, request: GOOD if request < 2 or connection else None)
    with Crowd(server.port, (SMALL,), keeping=1, fresh=0, pause=0.001) as crowd:
        crowd.more(5)
    assert (crowd.failed, crowd.closing) == (0, 1)
    assert crowd.said() == ["into a closing connection, closed: after b''"]


def test_crowd_counts_failures(liar: Callable[[Script], Liar]) -> None:
    """A request that fails on a new connection is not sent again."""
    server = liar(lambda connection, request: GOOD[:-1])
    with Crowd(server.port, (SMALL,), keeping=1, fresh=0, pause=0.001) as crowd:
        crowd.more(3)
    assert crowd.failed >= 3
    assert (crowd.good, set(crowd.kinds)) == (0, {"short body"})
    assert crowd.kinds["short body"] == crowd.failed


@pytest.mark.real(False)
def test_frames() -> None:
    """A masked text is read back, with any bytes after it; half a frame is not read."""
    data = frame(b"some text", b"\x01\x02\x03\x04")
    assert unmask(data + b"more") == (b"some text", b"more")
    assert unmask(data[:-1]) is None
    assert frame(b"ok") == b"\x81\x02ok"


@pytest.mark.real(False)
def test_percentile() -> None:
    """It is one of the values, and the largest one at the end."""
    values = [float(value) for value in range(1, 301)]
    assert percentile(values, 50) == 150
    assert percentile(values, 99) == 297
    assert percentile([7.0], 99) == 7


@pytest.mark.real(False)
def test_scale_leaves_limits_alone() -> None:
    """A scaled run does less, and is equally strict."""
    tenth = FULL.times(0.1)
    assert (tenth.signals, tenth.change_seconds, tenth.memory_changes) == (1, 6.0, 1000)
    assert (tenth.growth, tenth.call_ms, tenth.back, tenth.tunnels) == (5.0, 20.0, 1.0, 1000)


@pytest.mark.real(False)
def test_report_tells_each_verdict() -> None:
    """The verdicts are met, missed and only reported; figures without a target are not counted."""
    rows = [
        Row("a", "0", "0", True, ["a note"]),
        Row("b", "0", "3"),
        Row("c", "none", "1.5 times", None),
    ]
    text = markdown(rows, {"CPU": "some"})
    assert "1 of 2 figures are met." in text
    assert "| a | 0 | 0 | met |" in text
    assert "| b | 0 | 3 | **missed** |" in text
    assert "| c | none | 1.5 times | reported |" in text
    assert "- a note" in text
    assert "| CPU | some |" in text
