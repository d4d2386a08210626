"""Files, sockets and syslog behind access logs: no line is lost, cut or mixed."""

from __future__ import annotations

import os
import re
import resource
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slardar.errors import ConfigError
from slardar.model.access_log import AccessLog
from slardar.observers import sinks
from slardar.observers.sinks import FileSink, Sink, StdoutSink, check_files, sink_for

LINES = b"".join(b"line %03d\n" % number for number in range(100))


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """A disk with room for files of so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_all(sink: Sink, data: bytes) -> None:
    while data:
        data = data[sink.write(data) :]


def test_lines_are_appended(tmp_path: Path) -> None:
    """Behind what is there, in a file that the group may read."""
    path = tmp_path / "a.log"
    mask = os.umask(0)
    try:
        for _ in range(2):
            sink = sink_for(AccessLog(f"file:{path}"))
            assert sink.write(LINES) == len(LINES)
            sink.close()
    finally:
        os.umask(mask)
    assert path.read_bytes() == LINES * 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_file_takes_many_lines_at_once(tmp_path: Path) -> None:
    """More than a line may have: after each write the thread waits for the requests."""
    sink = FileSink(str(tmp_path / "a.log"))
    data = LINES * (500_000 // len(LINES))
    assert sink.write(LINES) == len(LINES)
    assert len(data) < sink.most
    assert sink.write(data) == len(data)
    assert sink.max_line == 65536
    sink.close()


def test_path_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of the folder does not move the log."""
    monkeypatch.chdir(tmp_path)
    sink = FileSink("a.log")
    monkeypatch.chdir("/")
    sink.write(LINES)
    sink.close()
    assert (tmp_path / "a.log").read_bytes() == LINES


def test_reopening_follows_the_name(tmp_path: Path) -> None:
    """The old file keeps what was written before."""
    path, moved = tmp_path / "a.log", tmp_path / "a.log.1"
    sink = FileSink(str(path))
    sink.write(b"one\n")
    path.rename(moved)
    sink.write(b"two\n")
    sink.reopen()
    sink.write(b"three\n")
    sink.close()
    assert (moved.read_bytes(), path.read_bytes()) == (b"one\ntwo\n", b"three\n")


def test_file_that_cannot_be_opened_anew_is_used_on(tmp_path: Path) -> None:
    """No line is lost because a folder is gone."""
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = FileSink(str(folder / "a.log"))
    sink.write(b"one\n")
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        sink.reopen()
    sink.write(b"two\n")
    sink.close()
    assert (tmp_path / "moved" / "a.log").read_bytes() == b"one\ntwo\n"


def test_process_that_is_about_to_end_looks_for_itself(tmp_path: Path) -> None:
    """Nobody tells it any more that the file was moved."""
    path = tmp_path / "a.log"
    sink = FileSink(str(path))
    sink.write(b"one\n")
    sink.watch()
    sink.write(b"two\n")
    path.rename(tmp_path / "a.log.1")
    sink.write(b"three\n")
    sink.close()
    assert (tmp_path / "a.log.1").read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"


@pytest.mark.parametrize("room", [0, 1, 8, 9, 13, 450, 899])
def test_full_disk_cuts_no_line(tmp_path: Path, room: int) -> None:
    """When there is room again, the line goes on where it was cut."""
    path = tmp_path / "a.log"
    sink = FileSink(str(path))
    sink.write(b"first\n")
    done = 0
    with full_at(6 + room):
        for _ in range(3):
            try:
                done += sink.write(LINES[done:])
            except OSError:
                pass
    assert done == room // 9 * 9
    assert len(path.read_bytes()) == 6 + room
    write_all(sink, LINES[done:])
    sink.close()
    assert path.read_bytes() == b"first\n" + LINES


def test_line_that_was_cut_is_ended_if_others_have_written(tmp_path: Path) -> None:
    """Then it is written once more as a whole."""
    path = tmp_path / "a.log"
    sink = FileSink(str(path))
    with full_at(4), pytest.raises(OSError, match="File too large"):
        sink.write(b"one line\n")
    with path.open("ab") as other:
        other.write(b"of another process\n")
    write_all(sink, b"one line\ntwo\n")
    sink.close()
    assert path.read_bytes().splitlines() == [
        b"one of another process",
        b"",
        b"one line",
        b"two",
    ]


def test_line_of_a_process_that_was_killed_is_ended(tmp_path: Path) -> None:
    """What is written next begins a line."""
    path = tmp_path / "a.log"
    path.write_bytes(b"whole\ncut he")
    sink = FileSink(str(path))
    sink.write(b"next\n")
    sink.close()
    assert path.read_bytes() == b"whole\ncut he\nnext\n"


def test_several_processes_append_whole_lines(tmp_path: Path) -> None:
    """Here they are several open files, which is the same to the kernel."""
    path = str(tmp_path / "a.log")

    def write(letter: bytes) -> None:
        sink = FileSink(path)
        for _ in range(40):
            write_all(sink, (letter * 999 + b"\n") * 60)
        sink.close()

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    lines = Path(path).read_bytes().splitlines()
    assert sorted(lines) == sorted([letter * 999 for letter in (b"a", b"b", b"c")] * 2400)


def test_lines_into_a_pipe_are_small_enough_not_to_mix(tmp_path: Path) -> None:
    """The kernel takes 4,096 bytes as a whole; a terminal, a pipe and a named pipe."""
    ours, theirs = os.pipe()
    try:
        out = StdoutSink(theirs)
        assert out.most == out.max_line == 4096
        assert out.write(b"to the pipe\n") == 12
        out.reopen()
        out.watch()
        out.close()
        os.write(theirs, b"still open")
        assert os.read(ours, 100) == b"to the pipe\nstill open"
    finally:
        os.close(ours)
        os.close(theirs)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    named = FileSink(str(fifo))
    assert named.max_line == 4096
    assert named.write(b"nobody reads\n") == 13  # and nobody waits for a reader
    named.close()


def test_pipe_that_does_not_block_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is cut or lost while its reader does not read."""
    monkeypatch.setattr(sinks, "_SEND", 0.01)
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    try:
        out = StdoutSink(theirs)
        sent = write_until_full(out, LINES)
        got = os.read(ours, 1 << 20)
        rest = LINES
        while rest:
            rest = rest[out.write(rest) :]
        os.close(theirs)
        while data := os.read(ours, 1 << 20):
            got += data
        # A write of so few bytes is taken as a whole or not at all.
        assert got == LINES * (sent // len(LINES) + 1)
    finally:
        os.close(ours)


def test_files_are_looked_at_before_the_start(tmp_path: Path) -> None:
    """A file that is not there is made; every mistake is named."""
    good = AccessLog(f"file:{tmp_path}/a.log")
    check_files([good, AccessLog("stdout"), AccessLog("udp:127.0.0.1:9")])
    assert (tmp_path / "a.log").read_bytes() == b""
    with pytest.raises(ConfigError) as caught:
        check_files([good, AccessLog(f"file:{tmp_path}/no/a.log"), AccessLog(f"file:{tmp_path}")])
    assert caught.value.problems == (
        f"access_log: file:{tmp_path}/no/a.log: No such file or directory",
        f"access_log: file:{tmp_path}: Is a directory",
    )


# Sockets.

#: RFC 5424's head, with the facility local7 and the severity info.
HEAD = (
    rb"<190>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 \S+ slardar %d access - " % os.getpid()
)


def listening(path: Path | None = None) -> socket.socket:
    if path is None:
        return socket.create_server(("127.0.0.1", 0))
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def place_of(server: socket.socket) -> str:
    name = server.getsockname()
    return f"unix:{name}" if isinstance(name, str) else f"tcp:127.0.0.1:{name[1]}"


def write_until_full(sink: Sink, data: bytes) -> int:
    """How many bytes it took before it took no more."""
    sent = 0
    while True:
        try:
            sent += sink.write(data)
        except TimeoutError:
            return sent


def read_all(sock: socket.socket) -> bytes:
    sock.settimeout(20)
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


@pytest.fixture(params=["tcp", "unix"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """What a collector listens on."""
    with listening(tmp_path / "sock" if request.param == "unix" else None) as found:
        found.settimeout(20)
        yield found


@pytest.mark.real
def test_stream_gets_a_line_each(server: socket.socket) -> None:
    """As the original's logger socket did."""
    sink = sink_for(AccessLog(place_of(server)))
    assert sink.write(LINES) == len(LINES)
    assert sink.write(LINES) == len(LINES)
    sink.close()
    client, _ = server.accept()
    with client:
        assert read_all(client) == LINES * 2


@pytest.mark.real
def test_syslog_over_a_stream_counts_octets(server: socket.socket) -> None:
    """RFC 6587, 3.4.1."""
    sink = sink_for(AccessLog(place_of(server), syslog=True))
    sink.write(LINES[:18])
    sink.close()
    client, _ = server.accept()
    with client:
        data = read_all(client)
    for line in (b"line 000", b"line 001"):
        size, _, data = data.partition(b" ")
        assert re.fullmatch(HEAD + line, data[: int(size)])
        data = data[int(size) :]
    assert data == b""


@pytest.mark.real
@pytest.mark.parametrize("syslog", [False, True])
def test_collector_that_does_not_read(
    server: socket.socket, syslog: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sink says so, and goes on where it was cut once the collector reads."""
    monkeypatch.setattr(sinks, "_SEND", 0.05)
    sink = sink_for(AccessLog(place_of(server), syslog=syslog))
    line = b"x" * 100_000 + b"\n"
    sent = write_until_full(sink, line * 3)
    client, _ = server.accept()
    got: list[bytes] = []
    with client:
        reader = threading.Thread(target=lambda: got.append(read_all(client)))
        reader.start()
        rest = line * 3
        while rest:
            try:
                rest = rest[sink.write(rest) :]
            except TimeoutError:
                pass
        sink.close()
        reader.join(20)
    whole = got[0]
    count = sent // len(line) + 3
    if syslog:
        for _ in range(count):
            size, _, whole = whole.partition(b" ")
            assert re.fullmatch(HEAD + b"x{100000}", whole[: int(size)])
            whole = whole[int(size) :]
        assert whole == b""
    else:
        assert whole == line * count


@pytest.mark.real
def test_collector_that_goes_and_comes_back(server: socket.socket) -> None:
    """Its end is seen before the next line, which goes to the next connection."""
    sink = sink_for(AccessLog(place_of(server)))
    sink.write(b"one\n")
    client, _ = server.accept()
    assert client.recv(100) == b"one\n"
    client.close()
    sink.write(b"two\n")
    client, _ = server.accept()
    with client:
        assert client.recv(100) == b"two\n"
    name = server.getsockname()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        sink.write(b"three\n")
    if isinstance(name, str):
        os.unlink(name)
        again = listening(Path(name))
    else:
        again = socket.create_server(name, reuse_port=False)
    with again:
        again.settimeout(20)
        assert sink.write(b"three\n") == 6
        client, _ = again.accept()
        with client:
            assert client.recv(100) == b"three\n"
    sink.close()


@pytest.mark.real
def test_connection_that_breaks_within_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next connection gets the line as a whole."""
    monkeypatch.setattr(sinks, "_SEND", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        sink = sink_for(AccessLog(place_of(server)))
        long = b"x" * 20_000_000 + b"\n"
        with pytest.raises(TimeoutError):
            sink.write(long + b"next\n")
        client, _ = server.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        got: list[bytes] = []

        def read() -> None:
            client, _ = server.accept()
            with client:
                got.append(read_all(client))

        reader = threading.Thread(target=read)
        reader.start()
        rest = long + b"next\n"
        while rest:
            try:
                rest = rest[sink.write(rest) :]
            except OSError:
                pass
        sink.close()
        reader.join(20)
        assert got == [long + b"next\n"]


@pytest.mark.real
@pytest.mark.parametrize("kind", ["udp", "unixgram"])
def test_datagram_is_a_message_of_syslog(kind: str, tmp_path: Path) -> None:
    """Each line is one."""
    family = socket.AF_INET if kind == "udp" else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.settimeout(20)
        if kind == "udp":
            server.bind(("127.0.0.1", 0))
            to = f"udp:127.0.0.1:{server.getsockname()[1]}"
        else:
            server.bind(str(tmp_path / "sock"))
            to = f"unixgram:{tmp_path}/sock"
        sink = sink_for(AccessLog(to))
        assert sink.write(b"one\ntwo\n") == 8
        for line in (b"one", b"two"):
            assert re.fullmatch(HEAD + line, server.recv(1000))
        sink.reopen()
        sink.write(b"three\n")
        assert re.fullmatch(HEAD + b"three", server.recv(1000))
        sink.close()


@pytest.mark.real
def test_udp_without_a_reader_counts_what_was_refused() -> None:
    """Nobody else would tell."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    sink = sink_for(AccessLog(f"udp:127.0.0.1:{port}"))
    for _ in range(10):
        sink.write(b"one\n")
    assert 1 <= sink.lost <= 10
    sink.close()


@pytest.mark.real
def test_unixgram_that_is_full_or_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines wait while the reader does not read, and while there is none."""
    monkeypatch.setattr(sinks, "_SEND", 0.05)
    path = tmp_path / "sock"
    sink = sink_for(AccessLog(f"unixgram:{path}"))
    with pytest.raises(FileNotFoundError):
        sink.write(b"one\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(20)
        sent = write_until_full(sink, b"one\n")
        for _ in range(sent // 4):
            assert server.recv(1000).endswith(b" one")
        assert sink.write(b"two\n") == 4
    with pytest.raises(ConnectionError):
        sink.write(b"three\n")
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(20)
        assert sink.write(b"three\n") == 6
        assert server.recv(1000).endswith(b" three")
    sink.close()


@pytest.mark.real
def test_datagram_that_is_too_large_is_given_up(tmp_path: Path) -> None:
    """Waiting would not help; the others go."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        sink = sink_for(AccessLog(f"unixgram:{path}"))
        data = b"x" * 10_000_000 + b"\nnext\n"
        assert sink.write(data) == len(data)
        assert sink.lost == 1
        assert server.recv(1000).endswith(b" next")
        sink.close()
