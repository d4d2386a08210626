"""One worker process, as the director sees it: started, told things, watched, ended."""

# Twisted's processes have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import defer
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, LogLevel

from slardar.notify import PRIVATE
from slardar.workers import messages
from slardar.workers.commands import FIRST_SOCKET, LINK, MARK, OUTPUT, Link, OneLink
from slardar.workers.log_lines import LineReader
from slardar.workers.marks import Mark, Noted, make_mark
from slardar.workers.messages import Done, FromWorker

__all__ = ["ANSWER", "SPARE", "START", "WorkerGone", "WorkerProcess", "spawn"]

#: Seconds within which a worker must begin, or load a whole configuration.  One of 10,000
#: upstreams takes a second or two on a busy machine.
START = 30.0
#: The number of a spare worker, which waits for a place.
SPARE = -1
#: Seconds within which a worker must confirm a change, unless it makes progress.
ANSWER = 5.0
#: Seconds without an answer and without progress, after which a worker is taken to hang.
SILENCE = 2.0
#: Seconds between two looks at a worker that is late with an answer and makes progress.
_AGAIN = 1.0
#: A call of a hook hangs after so many budgets of CPU time.  The budget's own timer ends a
#: call before one and a half.
_BUDGETS = 2.0
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
#: Seconds that a worker that hangs gets to write where it hangs.
_LAST_WORDS = 0.2
#: Seconds after the end of a process within which everything that it sent arrives.
_LAST_BYTES = 0.5
#: Bytes of a worker's message, at most.  A report has 1,000 servers at most.
_MAX_MESSAGE = 16 * 2**20
#: Signals that end a process because its code has crashed.
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)
#: Environment variables that a process that serves requests must not have.
_SECRET = ("CONSUL_HTTP_TOKEN", *PRIVATE)

_STDOUT = 1

_PING = messages.encode(messages.Ping())

_log = Logger("slardar.workers")


class WorkerGone(Exception):
    """The worker ended before it could answer."""


class WorkerProcess(ProcessProtocol):
    """One worker process.

    ``took(process, message)`` is called with each message that the worker sends by itself;
    ``ended(process, reason)`` once, when the process has ended and all its messages have
    been taken.
    """

    def __init__(
        self,
        reactor: Any,
        number: int,
        took: Callable[[WorkerProcess, FromWorker], None],
        ended: Callable[[WorkerProcess, str], None],
    ) -> None:
        self._reactor = reactor
        self._took = took
        self._ended = ended
        self.pid = 0
        #: When it was started, in the reactor's seconds.
        self.born: float = reactor.seconds()
        #: When it began to serve, in the reactor's seconds; ``None`` before.
        self.ready_at: float | None = None
        #: The snapshot that it was sent last; ``None`` if it is not known what it serves.
        self.sent: Any = None
        self.link = Link(self._received, self._link_lost, _MAX_MESSAGE)
        #: When it was asked for a sign of life that it has not given yet.
        self._asked: float | None = None
        #: How many whole configurations it is busy with.
        self._loading = 0
        #: It has been killed.
        self._doomed = False
        #: How it has ended; ``None`` before.
        self._reason: str | None = None
        #: How many sockets it was started with.
        self.inherited = 0
        #: Where it notes which hook it runs.
        self.mark: Mark | None = None
        #: Known when it has ended: the hook that it was running (0: none), and whether it
        #: crashed or hung in that call.
        self.last_mark = 0
        self.hung = False
        #: Seconds of CPU time that a call of a hook may take.
        self.budget = 1.0
        #: When it last made progress, in the reactor's seconds; what it had noted then, and
        #: the CPU time that it had used.
        self._went_on: float = self.born
        self._noted = Noted()
        self._used = 0.0
        #: What it had noted when it was killed because a call of a hook hung.
        self._hung_in: Noted | None = None
        self.take_place(number)

    def take_place(self, number: int) -> None:
        """Make it the worker of this number, or the spare worker (:data:`SPARE`)."""
        self.number = number
        self.name = f"worker-{number}" if number != SPARE else "spare worker"
        seconds = self._reactor.seconds
        self._output = {
            1: LineReader(self.name, LogLevel.info, seconds, _log),
            2: LineReader(self.name, LogLevel.warn, seconds, _log),
        }

    def __repr__(self) -> str:
        return f"<{self.name} pid={self.pid}>"

    # To the worker.

    def load(self, data: bytes) -> defer.Deferred[Done]:
        """Send a whole configuration, which takes the worker long; else as :meth:`tell`."""
        self._loading += 1

        def loaded(result: Any) -> Any:
            self._loading -= 1
            self._asked = None
            return result

        return self.tell(data, START).addBoth(loaded)

    def tell(self, data: bytes, within: float | None = ANSWER) -> defer.Deferred[Done]:
        """Send a message; fires with the answer, or fails with WorkerGone.

        A worker is killed if it has not answered after ``within`` seconds (``None``: no
        limit), or if its answer cannot be understood.  A worker that makes progress has
        more time, about :data:`START` at most.
        """
        answer = self.link.send(data)
        if within is not None:
            asked = self._reactor.seconds()
            overdue: Any = None
            # Looks are counted, not seconds: if the director itself was held up, seconds
            # have passed though the answer may be there already.
            looks = round((START - within) / _AGAIN) + 1

            def look() -> None:
                nonlocal overdue, looks
                looks -= 1
                if looks >= 0 and self._goes_on(self._reactor.seconds()):
                    overdue = self._reactor.callLater(_AGAIN, look)
                else:
                    self._overdue(self._reactor.seconds() - asked)

            overdue = self._reactor.callLater(within, look)

            def in_time(result: Any) -> Any:
                if overdue.active():
                    overdue.cancel()
                return result

            answer.addBoth(in_time)
        return answer.addCallbacks(self._answered, self._no_answer)

    def _answered(self, data: bytes) -> Done:
        try:
            return messages.decode_answer(data)
        except ValueError as error:
            self.kill(str(error))
            raise WorkerGone from None

    def _no_answer(self, failure: Any) -> Done:
        if not self.link.is_lost:
            self.kill("it answered with an error")
        raise WorkerGone

    def _overdue(self, within: float) -> None:
        self._hung_in = self._endless_call()
        self.kill(f"it did not do in {within:g} s what it was told")

    def check(self, late: bool) -> None:
        """Kill the worker if it hangs; called twice a second.

        It does not hang while it answers, while its reactor makes turns, or while it begins
        further calls of hooks.  ``late``: the director itself was held up since the call
        before, so the seconds that have passed say nothing of the worker.
        """
        now = self._reactor.seconds()
        goes_on = self._goes_on(now)
        if late:
            self._went_on = now
        if self.ready_at is None or self._loading or self._doomed:
            return
        if self._asked is None:
            self._asked = now
            self.tell(_PING, None).addCallbacks(self._pong, lambda _gone: None)
        elif late:
            self._asked = now
        elif now - self._asked >= SILENCE and not goes_on:
            self.kill(f"it did not answer for {SILENCE:g} s", hangs=True)

    def _goes_on(self, now: float) -> bool:
        """Whether it has made progress within the last :data:`SILENCE` seconds."""
        noted = self._read()
        if noted != self._noted:
            self._noted = noted
            self._went_on = now
            self._used = self._cpu_time()
        return noted != Noted() and now - self._went_on < SILENCE

    def _read(self) -> Noted:
        return Noted() if self.mark is None else self.mark.read()

    def _endless_call(self) -> Noted | None:
        """The call of a hook that has run far past its budget; ``None`` if there is none."""
        noted = self._read()
        if not noted.running or noted != self._noted:
            return None
        # CPU time, not time: the worker may have been stopped, or have got no CPU.
        return noted if self._cpu_time() - self._used >= _BUDGETS * self.budget else None

    def _cpu_time(self) -> float:
        """Seconds of CPU time that its main thread has used; 0 if they are not known."""
        try:
            with open(f"/proc/{self.pid}/task/{self.pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            return (int(fields[11]) + int(fields[12])) * _TICK
        except (OSError, IndexError, ValueError):
            return 0.0

    def _pong(self, answer: Done) -> None:
        self._asked = None

    def memory(self) -> int:
        """Bytes of memory that it shares with nobody; 0 if they are not known."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:
                fields = file.read().split()
            return (int(fields[1]) - int(fields[2])) * resource.getpagesize()
        except (OSError, IndexError, ValueError):
            return 0

    def kill(self, reason: str, hangs: bool = False) -> None:
        """End the process by force; ``reason`` is for the log.  ``hangs``: it first writes to
        the log where it hangs."""
        if self._doomed or self._reason is not None:
            return
        self._doomed = True
        _log.error(
            "{worker} (pid {pid}) is killed: {reason}",
            worker=self.name,
            pid=self.pid,
            reason=reason,
        )
        if hangs:
            self._hung_in = self._endless_call()
            # faulthandler writes the stack, which needs no reactor.
            self._signal(signal.SIGUSR1)
            self._reactor.callLater(_LAST_WORDS, self._signal, signal.SIGKILL)
        else:
            self._signal(signal.SIGKILL)

    def dismiss(self) -> None:
        """End a worker that has never served by force, and log nothing."""
        self._doomed = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        try:
            if self.transport is not None:
                self.transport.signalProcess(number)
        except ProcessExitedAlready:
            pass

    # From the worker.

    def _received(self, data: bytes) -> bytes:
        try:
            message = messages.decode_from_worker(data)
        except ValueError as error:
            self.kill(str(error))
        else:
            if not self._doomed:
                self._took(self, message)
        return b""

    def _link_lost(self) -> None:
        if self._reason is None:
            # The process may be about to end by itself.
            self._reactor.callLater(_LAST_BYTES, self.kill, "it closed the link")
        else:
            self._ended(self, self._reason)

    # Twisted's.

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.pid = self.transport.pid

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803
        self._output[childFD].data(data)

    def processExited(self, reason: Any) -> None:
        status = reason.value
        if self.mark is not None:
            noted = self.mark.read()
            self.last_mark = noted.running
            self.hung = self._hung_in == noted
            self.mark.close()
            self.mark = None
        if status.signal is not None:
            self.hung = self.hung or status.signal in _CRASHES
            self._reason = f"ended by signal {status.signal}"
        else:
            self._reason = f"ended with exit code {status.exitCode}"
        if self.link.is_lost:
            self._ended(self, self._reason)
        else:
            # The worker's last report may still be on its way.
            self._reactor.callLater(_LAST_BYTES, self.link.close)

    def processEnded(self, reason: Any) -> None:
        for output in self._output.values():
            output.ended()


def spawn(
    reactor: Any,
    number: int,
    sockets: Sequence[socket.socket],
    took: Callable[[WorkerProcess, FromWorker], None],
    ended: Callable[[WorkerProcess, str], None],
) -> WorkerProcess:
    """Start a worker with these listening sockets; the rest as :class:`WorkerProcess`.

    Raises OSError if it cannot be started.
    """
    process = WorkerProcess(reactor, number, took, ended)
    process.inherited = len(sockets)
    environment = {name: value for name, value in os.environ.items() if name not in _SECRET}
    # A worker imports what the director can import, a user's balancer for example, and
    # nothing else.  The working directory is on a worker's path only if it is on the
    # director's (Python 3.10 ignores PYTHONSAFEPATH, and has it there always).
    environment["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    environment["PYTHONSAFEPATH"] = "1"
    ours, theirs = socket.socketpair()
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        mark = make_mark()
        process.mark = Mark(mark)
        ours.setblocking(False)
        descriptors: dict[int, Any] = {
            0: nothing,
            1: "r",
            2: "r",
            LINK: theirs.fileno(),
            MARK: mark,
            OUTPUT: _STDOUT if _is_open(_STDOUT) else nothing,
        }
        for offset, sock in enumerate(sockets):
            descriptors[FIRST_SOCKET + offset] = sock.fileno()
        reactor.spawnProcess(
            process,
            sys.executable,
            [sys.executable, "-m", "slardar.workers.worker"],
            env=environment,
            childFDs=descriptors,
        )
        reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, OneLink(process.link))
    except BaseException:
        if process.mark is not None:
            process.mark.close()
        raise
    finally:
        ours.close()
        theirs.close()
        os.close(nothing)
    return process


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
