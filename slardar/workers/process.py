"""One worker process, as the director sees it: started, spoken to, watched, ended."""

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
from slardar.workers.commands import FIRST_SOCKET, LINK, MARK, Link, OneLink
from slardar.workers.log_lines import LineReader
from slardar.workers.marks import Mark, Noted, make_mark
from slardar.workers.messages import Done, FromWorker

__all__ = ["ANSWER", "SPARE", "START", "WorkerGone", "WorkerProcess", "spawn"]

#: Seconds within which a worker must have begun, or taken a whole configuration: one of
#: 10,000 upstreams takes a second or two on a busy machine.
START = 30.0
#: The number of a worker that waits for a place.
SPARE = -1
#: Seconds within which it must confirm a change, unless it is seen to go on.
ANSWER = 5.0
#: Seconds without an answer and without a sign that it goes on, after which it is taken
#: to hang.
SILENCE = 2.0
#: Seconds between two looks at one that goes on and is late with an answer.
_AGAIN = 1.0
#: CPU time of a call of a hook after which it hangs, in budgets: the budget's own timer
#: ends it before one and a half.
_BUDGETS = 2.0
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
#: Seconds that one that hangs has to say where.
_LAST_WORDS = 0.2
#: Seconds after the end of a process within which all it had sent has come.
_LAST_BYTES = 0.5
#: Bytes of one message of a worker; its reports are of at most 1,000 servers.
_MAX_MESSAGE = 16 * 2**20
#: Signals by which a process ends that has done what no process may.
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)
#: Variables that are no business of a process that serves requests.
_SECRET = ("CONSUL_HTTP_TOKEN", *PRIVATE)

_PING = messages.encode(messages.Ping())

_log = Logger("slardar.workers")


class WorkerGone(Exception):
    """The worker ended before it could answer."""


class WorkerProcess(ProcessProtocol):
    """One worker.  ``took(process, message)`` gets what it says; ``ended(process,
    reason)`` is called once, when the process has gone and all it had sent was taken."""

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
        self.born: float = reactor.seconds()
        #: When it began to serve, in the reactor's seconds; ``None`` before.
        self.ready_at: float | None = None
        #: The snapshot it was sent last (``None``: not known what it serves).
        self.sent: Any = None
        self.link = Link(self._received, self._link_lost, _MAX_MESSAGE)
        self._asked: float | None = None
        #: Large messages it is busy with.
        self._loading = 0
        self._doomed = False
        self._reason: str | None = None
        #: How many sockets it was started with.
        self.inherited = 0
        #: Where it notes which hook is running; and, once it has ended, which one that was,
        #: and whether it crashed or hung in that very call.
        self.mark: Mark | None = None
        self.last_mark = 0
        self.hung = False
        #: Seconds of CPU time that a call of a hook may take.
        self.budget = 1.0
        #: What it had noted when it was last seen to go on, when that was (the reactor's
        #: seconds), and the CPU time that it had used by then.
        self._noted = Noted()
        self._went_on: float = self.born
        self._used = 0.0
        #: The call in which it hung, once it is killed for that.
        self._hung_in: Noted | None = None
        self.take_place(number)

    def take_place(self, number: int) -> None:
        """It is the worker of this number; a spare one (:data:`SPARE`) before it is one."""
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
        """Send what takes long to take, a whole configuration."""
        self._loading += 1

        def loaded(result: Any) -> Any:
            self._loading -= 1
            self._asked = None
            return result

        return self.tell(data, START).addBoth(loaded)

    def tell(self, data: bytes, within: float | None = ANSWER) -> defer.Deferred[Done]:
        """Send a message; fires with the answer, and fails with WorkerGone.

        A worker that does not answer in time, or not in a way that can be understood,
        is killed.  One that is seen to go on has more time, about :data:`START` at most.
        ``within`` ``None``: it has all the time it wants.
        """
        answer = self.link.send(data)
        if within is not None:
            asked = self._reactor.seconds()
            overdue: Any = None
            # Looks and no time of day: the director may have been held up itself, and the
            # answer be there already.
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
        """Look whether it goes on; called twice a second.

        It does if it answers, if its reactor comes round, or if it begins other calls of
        hooks.  ``late``: the director itself was held up since the last call, so its own
        time is no measure.
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
        """Whether it was seen to go on within the last :data:`SILENCE` seconds."""
        noted = self._read()
        if noted != self._noted:
            self._noted = noted
            self._went_on = now
            self._used = self._cpu_time()
        return noted != Noted() and now - self._went_on < SILENCE

    def _read(self) -> Noted:
        return Noted() if self.mark is None else self.mark.read()

    def _endless_call(self) -> Noted | None:
        """The one call of a hook that has run past its budget since the worker was last
        seen to go on; ``None`` if it is none."""
        noted = self._read()
        if not noted.running or noted != self._noted:
            return None
        # The time of day is no measure: the worker may have been stopped, or got no CPU.
        return noted if self._cpu_time() - self._used >= _BUDGETS * self.budget else None

    def _cpu_time(self) -> float:
        """Seconds of CPU time that its main thread has used; 0 if that cannot be told."""
        try:
            with open(f"/proc/{self.pid}/task/{self.pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            return (int(fields[11]) + int(fields[12])) * _TICK
        except (OSError, IndexError, ValueError):
            return 0.0

    def _pong(self, answer: Done) -> None:
        self._asked = None

    def memory(self) -> int:
        """The bytes of its own that it has in use; 0 if that cannot be told."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:
                fields = file.read().split()
            return (int(fields[1]) - int(fields[2])) * resource.getpagesize()
        except (OSError, IndexError, ValueError):
            return 0

    def kill(self, reason: str, hangs: bool = False) -> None:
        """End it by force."""
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
            # It says where, and needs no reactor for that.
            self._signal(signal.SIGUSR1)
            self._reactor.callLater(_LAST_WORDS, self._signal, signal.SIGKILL)
        else:
            self._signal(signal.SIGKILL)

    def dismiss(self) -> None:
        """End it by force, without a word: it has never served."""
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
            # It may be about to end by itself.
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
            # Its last report may still be on the way.
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
    """Start a worker on these listening sockets.  Raises OSError if it cannot be."""
    process = WorkerProcess(reactor, number, took, ended)
    process.inherited = len(sockets)
    environment = {name: value for name, value in os.environ.items() if name not in _SECRET}
    # What can be imported here, a user's balancer for one, can be there, and no more: not
    # what lies in the working directory, unless that is on the path here (Python 3.10
    # has no way to leave it out).
    environment["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    environment["PYTHONSAFEPATH"] = "1"
    ours, theirs = socket.socketpair()
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
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
