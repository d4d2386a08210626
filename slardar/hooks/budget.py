"""What one call of a hook may use: CPU time, and memory for large values.

Python cannot stop a function from outside, but a signal's handler runs between two of its
instructions and may raise.  So an interval timer of CPU time ticks (``ITIMER_VIRTUAL``),
and its handler raises :class:`OutOfBudget` once the call under way has had its time, and
again at each further tick until it has ended.  A tick costs a few microseconds, comes at
most five times a budget, and only while some hook is loaded and the process is busy; a
call makes no system call.

Where the exception may come out is decided by the frame that the tick has interrupted:
never in :meth:`Budget.run` itself, so nothing of it can come out before, between or
after, and never while code runs that is not a hook's or made for hooks (another signal's
handler, a finalizer, a logger).  This module must stay interpreted: compiled code has no
frames to look at.
"""

from __future__ import annotations

import atexit
import signal
from collections.abc import Callable
from sys import exc_info
from time import monotonic
from types import FrameType
from typing import Any, Final, TypeVar

from slardar.errors import ConfigError
from slardar.hooks.cputime import CpuClock

__all__ = ["MAX_MEMORY", "NOTICED", "Budget", "OutOfBudget", "OutOfMemory", "charge", "check"]

#: Bytes that the large values made in one call may have together, freed ones included.
#: Small ones are bounded by the time that it takes to make them.
MAX_MEMORY: Final = 32 << 20

#: Whether the memory of the process is to be looked at after the call under way
#: (:mod:`slardar.hooks.memory`): a tick has come, or it has made much.
NOTICED: Final = [False]
_MUCH: Final = 1 << 20

#: Ticks in one budget: a call is stopped after one budget at the earliest and one and a
#: fifth at the latest, plus what the kernel's own clock adds (4 ms at 250 Hz).
_TICKS: Final = 5

#: The name that the globals of a hook's code carry.
HOOK_NAME: Final = "slardar hook"
#: Packages whose Python code may be interrupted: it is bounded, or keeps no state.
_INTERRUPTIBLE: Final = frozenset(
    (
        "base64",
        "codecs",
        "encodings",
        "functools",
        "hmac",
        "ipaddress",
        "json",
        "random",
        "re",
        "re2",
        "urllib",
    )
)

_OURS: Final = (
    "slardar.hooks.budget",
    "slardar.hooks.errno",
    "slardar.hooks.headers",
    "slardar.hooks.objects",
    "slardar.hooks.python.",
)

_Result = TypeVar("_Result")


class OutOfBudget(BaseException):
    """A call has used its time; no hook can name or catch it."""


class OutOfMemory(OutOfBudget):
    """A call has made too many large values."""


class _Call:
    """What is known of the one call under way; calls are never nested."""

    __slots__ = ("began", "over", "running", "seconds", "stale", "used")

    def __init__(self) -> None:
        self.running = False
        #: What it has used up, once it has; it is about to end.
        self.over: type[OutOfBudget] | None = None
        #: When it began, by the monotonic clock.
        self.began = 0.0
        self.seconds = 0.0
        #: Bytes of large values.
        self.used = 0
        #: From when on the CPU's clock is to be read again.
        self.stale = 0.0


_call: Final = _Call()
_clock: Final = CpuClock()
#: The budgets of those that have started and not stopped.
_in_use: Final[list[float]] = []


def charge(size: int) -> None:
    """Count a value of so many bytes.  Raises OutOfMemory past MAX_MEMORY."""
    used = _call.used + size
    if used > MAX_MEMORY and _call.running:
        _call.over = OutOfMemory
        raise OutOfMemory
    if used > _MUCH:
        NOTICED[0] = True
    _call.used = used


def check() -> None:
    """Raises OutOfBudget if the call under way should have ended.

    For where a tick may have gone by unheard, and for ``finally``, whose body must not
    run on when the time is up.
    """
    if _call.over is not None and _call.running:
        raise _call.over


def _tick(signum: int, frame: FrameType | None) -> None:
    NOTICED[0] = True
    if not _call.running:
        return
    if _clock.used(_call.began) >= _call.seconds:
        if _call.over is None:
            _call.over = OutOfBudget
        if _may_raise(frame):
            raise _call.over


def _may_raise(frame: FrameType | None) -> bool:
    """Whether everything between this frame and ``run`` may be interrupted."""
    depth = 0
    while frame is not None and frame.f_code is not _RUN and frame.f_code is not _RUN_WITH:
        module: str = frame.f_globals.get("__name__", "")
        if (
            module != HOOK_NAME
            and not module.startswith(_OURS)
            and module.partition(".")[0] not in _INTERRUPTIBLE
        ):
            return False
        frame = frame.f_back
        depth += 1
    return depth > 0 and frame is not None


class Budget:
    """CPU time for each call that it runs: ``seconds``, more than 0.

    There is one timer a process, whose tick is a fifth of the smallest budget in use.
    Raises ConfigError outside of the main thread, where no signal's handler can run.
    """

    __slots__ = ("_started", "seconds")

    def __init__(self, seconds: float) -> None:
        if not 0 < seconds < 3600:
            raise ConfigError(f"hooks.budget: expected more than 0 seconds, got {seconds!r}")
        self.seconds = seconds
        self._started = 0
        try:
            # It stays for good: a tick that is still under way when the timer stops
            # would end the process otherwise.
            signal.signal(signal.SIGVTALRM, _tick)
            signal.siginterrupt(signal.SIGVTALRM, False)
        except ValueError:
            raise ConfigError(
                "hooks: Python hooks need the main thread, expected none in this one"
            ) from None

    def start(self) -> None:
        """Let the timer tick; counted, so that each start needs a stop."""
        self._started += 1
        _in_use.append(self.seconds)
        _set_timer()

    def stop(self) -> None:
        """The other end of :meth:`start`; with the last one the timer rests."""
        if self._started:
            self._started -= 1
            _in_use.remove(self.seconds)
            _set_timer()

    def run(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Call ``function`` within the budget.

        Raises OutOfBudget, and whatever the function raises; never out of anything but
        this call.
        """
        call = _call
        began = monotonic()
        if began >= call.stale:
            call.stale = _clock.read(began)
        call.seconds = self.seconds
        call.began = began
        call.used = 0
        call.over = None
        call.running = True
        try:
            return function(*arguments)
        finally:
            call.running = False
            if monotonic() - began >= call.seconds:
                _check_end()

    def run_with(self, function: Callable[..., _Result], argument: Any) -> _Result:
        """The same, faster, with one argument."""
        # A copy, for a call in between, or arguments that are packed, cost as much as it.
        call = _call
        began = monotonic()
        if began >= call.stale:
            call.stale = _clock.read(began)
        call.seconds = self.seconds
        call.began = began
        call.used = 0
        call.over = None
        call.running = True
        try:
            return function(argument)
        finally:
            call.running = False
            if monotonic() - began >= call.seconds:
                _check_end()


#: The frames of these are where the exception ends.
_RUN: Final = Budget.run.__code__
_RUN_WITH: Final = Budget.run_with.__code__


def _check_end() -> None:
    """At the end of a call that took long by the wall.  Raises OutOfBudget if it was long
    by the CPU too, whether it has returned or raised something else."""
    error = exc_info()[1]
    if isinstance(error, OutOfBudget):
        return
    if _call.over is None and _clock.used(_call.began) >= _call.seconds:
        _call.over = OutOfBudget
    if _call.over is not None:
        # Where that was raised is where the time was used.
        raise _call.over().with_traceback(getattr(error, "__traceback__", None)) from None


def _set_timer() -> None:
    tick = min(_in_use) / _TICKS if _in_use else 0.0
    if signal.getitimer(signal.ITIMER_VIRTUAL)[1] != tick:
        signal.setitimer(signal.ITIMER_VIRTUAL, tick, tick)


@atexit.register
def _rest() -> None:
    # Python gives up its handlers before the process ends, and a tick would then end it.
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
