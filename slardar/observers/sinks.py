"""Where lines of access logs go: files, standard output, syslog and collectors.

Every method may block, so only the thread of an :class:`~slardar.observers.outlets.Outlet`
calls them.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timezone

from slardar.errors import ConfigError
from slardar.model.access_log import AccessLog, Destination, destination_of

__all__ = [
    "DatagramSink",
    "FileSink",
    "Sink",
    "StdoutSink",
    "StreamSink",
    "check_files",
    "check_writable",
    "problems_of_files",
    "sink_for",
]

#: Bytes of one write, and of a line, at most.
MAX_WRITE = 65536
#: Bytes of one write to a file, at most.  After each write the thread waits for the interpreter,
#: which the requests have.
_MAX_FILE_WRITE = 524288
#: Bytes that a pipe takes as a whole or not at all, on Linux (PIPE_BUF): lines of several
#: processes do not mix.
_ATOMIC = 4096
#: Bytes of a datagram's line: rsyslog takes messages of 8 KiB by default.
_MAX_DATAGRAM = 7936
#: Seconds for a connection, and for one attempt to send; then the caller looks around.
_CONNECT = 5.0
_SEND = 1.0
#: Seconds after which a peer counts as gone that acknowledges nothing.
_SILENCE = 30
#: Seconds between two pieces of one write, at most, unless the disk is slow.
_MOMENT = 0.02
#: Facility local7 and severity info, as nginx has them.
_PRIORITY = 23 * 8 + 6
#: May be read by the group, as Debian's logs of web servers are.
_MODE = 0o640


class Sink:
    """Takes lines."""

    #: Bytes of one write at most, and of a line with its end.
    most = MAX_WRITE
    max_line = MAX_WRITE

    def __init__(self) -> None:
        #: Lines that were given up.
        self.lost = 0

    def write(self, data: bytes) -> int:
        """Write whole lines, and answer how many bytes of them are done with: at least one
        line.

        Raises OSError if nothing could be written, and TimeoutError if the other side takes
        nothing now.  The next call begins with the first line that is not done with.
        """
        raise NotImplementedError

    def reopen(self) -> None:
        """Begin anew, for the file was moved away.  Raises OSError if that is not possible;
        what was open is used on."""

    def watch(self) -> None:
        """Nobody will call :meth:`reopen` any more: look out for the move."""

    def close(self) -> None:
        """No more lines come."""


class FileSink(Sink):
    """Appends to a file, which other processes append to as well."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = os.path.abspath(path)
        self._fd: int | None = None
        self._watches = False
        #: Of a line that was written in part: the bytes that were, and the file's size then.
        self._cut: tuple[int, int] | None = None
        try:
            self._look(os.stat(self._path))
        except OSError:
            pass  # there is none yet

    def write(self, data: bytes) -> int:
        if self._watches and self._has_moved():
            self.reopen()
        if self._fd is None:
            self._fd = self._open()
        fd = self._fd
        done = self._mend(fd)
        try:
            while done < len(data):
                done += self._write(fd, data[done:] if done else data)
        except OSError:
            whole = data.rfind(b"\n", 0, done) + 1
            if done > whole:
                self._cut = (done - whole, os.fstat(fd).st_size)
            if not whole:
                raise
            return whole
        return done

    def _write(self, fd: int, data: bytes) -> int:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            # Somebody has made standard output non-blocking.
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            if not poll.poll(_SEND * 1000):
                raise TimeoutError("its reader takes nothing") from None
            return 0

    def _mend(self, fd: int) -> int:
        """Bytes of the first line that are in the file already."""
        if self._cut is None:
            return 0
        written, size = self._cut
        if os.fstat(fd).st_size == size:
            self._cut = None
            return written
        # Others have written behind it: end it, and write the line once more.
        os.write(fd, b"\n")
        self._cut = None
        return 0

    def reopen(self) -> None:
        fd = self._open()
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._cut = fd, None

    def watch(self) -> None:
        self._watches = True

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        fd, can_read = _open_file(self._path, os.O_CREAT)
        about = os.fstat(fd)
        self._look(about)
        if can_read and stat.S_ISREG(about.st_mode) and _ends_within_a_line(fd):
            # A process was killed, or the disk was full, within the line.
            os.write(fd, b"\n")
        return fd

    def _look(self, about: os.stat_result) -> None:
        if stat.S_ISREG(about.st_mode):
            self.most, self.max_line = _MAX_FILE_WRITE, MAX_WRITE
        else:
            self.most = self.max_line = _ATOMIC

    def _has_moved(self) -> bool:
        if self._fd is None:
            return False
        try:
            there = os.stat(self._path)
        except OSError:
            return True
        ours = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)


class StdoutSink(FileSink):
    """Writes to a descriptor that is open, and stays open."""

    def __init__(self, fd: int) -> None:
        super().__init__(os.devnull)
        self._fd = fd
        self._look(os.fstat(fd))

    def reopen(self) -> None:
        pass

    def watch(self) -> None:
        pass

    def close(self) -> None:
        self._fd = None


class StreamSink(Sink):
    """A connection to a collector, which gets a line each; or, with ``syslog``, messages
    whose octets are counted."""

    def __init__(self, connect: Callable[[], socket.socket], syslog: bool) -> None:
        super().__init__()
        self._connect = connect
        self._syslog = syslog
        self._socket: socket.socket | None = None
        #: What this connection has not taken of a line, or message, that it has begun.
        self._rest = b""

    def write(self, data: bytes) -> int:
        if self._socket is not None and _has_ended(self._socket):
            self.close()
        if self._socket is None:
            self._socket = self._connect()
            self._socket.settimeout(_SEND)
        lines = data.splitlines(True)
        framed = self._framed(lines) if self._syslog else lines.copy()
        begun, self._rest = self._rest, b""
        if begun:
            framed[0] = begun
        whole = memoryview(b"".join(framed))
        sent = 0
        try:
            while sent < len(whole):
                sent += self._socket.send(whole[sent:])
        except OSError as error:
            done = 0
            for line, piece in zip(lines, framed, strict=True):
                if sent < len(piece):
                    if sent or piece is begun:
                        self._rest = piece[sent:]
                    break
                sent -= len(piece)
                done += len(line)
            if not isinstance(error, TimeoutError):
                self.close()
            if not done:
                raise
            return done
        return len(data)

    def _framed(self, lines: list[bytes]) -> list[bytes]:
        head = syslog_head()
        return [b"%d %b%b" % (len(head) + len(line) - 1, head, line[:-1]) for line in lines]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        # The next connection gets the line as a whole.
        self._rest = b""


class DatagramSink(Sink):
    """Sends each line as a message of syslog."""

    max_line = _MAX_DATAGRAM

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        super().__init__()
        self._connect = connect
        self._socket: socket.socket | None = None

    def write(self, data: bytes) -> int:
        if self._socket is None:
            self._socket = self._connect()
            self._socket.settimeout(_SEND)
        head = syslog_head()
        done = 0
        for line in data.splitlines(True):
            try:
                self._send(head + line[:-1])
            except OSError as error:
                if not isinstance(error, TimeoutError):
                    self.close()
                if not done:
                    raise
                return done
            done += len(line)
        return done

    def _send(self, message: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.send(message)
        except ConnectionRefusedError:
            if self._socket.family == socket.AF_UNIX:
                raise
            # Of UDP it tells that nobody took the message before.
            self.lost += 1
            self._socket.send(message)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self.lost += 1

    def reopen(self) -> None:
        # Its name may lead to another address by now.
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def sink_for(log: AccessLog, stdout: int = 1) -> Sink:
    """Where the lines of an access log go; ``stdout`` is the descriptor of standard output.

    Opens nothing.
    """
    to = destination_of(log.to)
    if to.kind == "file":
        return FileSink(to.path)
    if to.kind == "stdout":
        return StdoutSink(stdout)
    if to.is_datagram:
        return DatagramSink(lambda: _connected(to, socket.SOCK_DGRAM))
    return StreamSink(lambda: _connected(to, socket.SOCK_STREAM), log.syslog)


def _ends_within_a_line(fd: int) -> bool:
    size = os.fstat(fd).st_size
    if not size or os.pread(fd, 1, size - 1) == b"\n":
        return False
    # Another process may be writing this line.
    threading.Event().wait(_MOMENT)
    return os.fstat(fd).st_size == size


def check_files(logs: Iterable[AccessLog]) -> None:
    """Raises ConfigError if this process cannot write to the files of access logs.

    A file that is not there is made.  It blocks.
    """
    problems = []
    for log in logs:
        to = destination_of(log.to)
        if to.kind == "file":
            sink = FileSink(to.path)
            try:
                sink.reopen()
            except OSError as error:
                problems.append(f"access_log: {log.to}: {error.strerror}")
            sink.close()
    if problems:
        raise ConfigError(problems)


def problems_of_files(logs: Iterable[AccessLog], folder: str = ".") -> list[str]:
    """A line for each access log to whose file this process cannot write.

    Relative names begin at ``folder``.  No file is made or changed.  It blocks.
    """
    problems = []
    for log in logs:
        to = destination_of(log.to)
        if to.kind == "file":
            try:
                check_writable(os.path.join(folder, to.path))
            except OSError as error:
                problems.append(f"access_log: {log.to}: {error.strerror}")
    return problems


def check_writable(path: str) -> None:
    """Raises OSError if this process could not open ``path`` to write; makes nothing."""
    try:
        os.close(_open_file(path)[0])
    except FileNotFoundError:
        # The file would be made, behind links where its name is one.
        above = os.path.dirname(os.path.realpath(path))
        if not os.path.isdir(above):
            raise
        if not os.access(above, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None


def _open_file(path: str, more: int = 0) -> tuple[int, bool]:
    """Open a file to append to it; whether it can be read, too.  ``more`` are flags.

    Never waits: a pipe that only takes writing needs a reader, and is an OSError without.
    """
    flags = os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | more
    try:
        # Read and write: a named pipe without a reader does not block then.
        return os.open(path, flags | os.O_RDWR, _MODE), True
    except PermissionError:
        fd = os.open(path, flags | os.O_WRONLY | os.O_NONBLOCK, _MODE)
        os.set_blocking(fd, True)
        return fd, False


def syslog_head() -> bytes:
    """What comes before the text of a message of syslog (RFC 5424, section 6)."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    name = socket.gethostname()[:255] or "-"
    return f"<{_PRIORITY}>1 {now} {name} slardar {os.getpid()} access - ".encode()


def _connected(to: Destination, kind: socket.SocketKind) -> socket.socket:
    if to.path:
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            sock.settimeout(_CONNECT)
            sock.connect(to.path)
        except BaseException:
            sock.close()
            raise
        return sock
    if kind == socket.SOCK_STREAM:
        sock = socket.create_connection((to.host, to.port), _CONNECT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE * 1000)
        return sock
    family, _, _, _, address = socket.getaddrinfo(to.host, to.port, type=kind)[0]
    sock = socket.socket(family, kind)
    sock.connect(address)
    return sock


def _has_ended(sock: socket.socket) -> bool:
    """Whether a collector, which has nothing to say, has closed the connection."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        return not sock.recv(4096)
    except OSError:
        return True
