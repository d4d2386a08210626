"""What one call of a hook may use: CPU time, and memory for large values.

Python cannot stop a function from outside, but the handler of a signal runs between two
instructions of the function and may raise.  So an interval timer of CPU time ticks
(``ITIMER_VIRTUAL``).  Once the call under way has used its time, the timer's handler
raises :class:`OutOfBudget`, and raises it again at each further tick until the call has
ended.  A tick costs a few microseconds.  Ticks come at most five times a budget, and only
while a hook is loaded and the process is busy.  A call makes no system call.

The handler looks at the frames that the tick has interrupted before it raises.  It never
raises in :meth:`Budget.run` itself, so the exception cannot escape before, between or
after calls.  It raises in the code of hooks and of the modules that are listed below, and
never in other code (the handler of another signal, a finalizer, a logger).  This module must
stay interpreted: compiled code has no frames to look at.
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

#: Bytes of all large values that one call makes, including those that it frees again.
#: Small values are bounded by the time that it takes to make them.
MAX_MEMORY: Final = 32 << 20

#: Whether somebody must look at the memory of the process after the call under way
#: (:mod:`slardar.hooks.memory`): a tick has come, or the call has made more than
#: :data:`_MUCH` bytes of large values.
NOTICED: Final = [False]
_MUCH: Final = 1 << 20

#: Ticks in one budget.  A call is stopped after 1 budget at the earliest and after 1.2
#: budgets at the latest, plus the resolution of the kernel's clock (4 ms at 250 Hz).
_TICKS: Final = 5

#: The name that the globals of a hook's code carry.
HOOK_NAME: Final = "slardar hook"
#: Packages whose Python code may be interrupted: the code is bounded, or keeps no state.
_INTERRUPTIBLE: Final = frozenset(
    (
        "abc",
        "base64",
        "codecs",
        "collections",
        "encodings",
        "functools",
        "hashlib",
        "hmac",
        "ipaddress",
        "json",
        "random",
        "re",
        "re2",
        "urllib",
    )
)

#: How the names of slardar's modules begin for which the same holds.
_OURS: Final = (
    "slardar.hooks.budget",
    "slardar.hooks.errno",
    "slardar.hooks.expressions",
    "slardar.hooks.headers",
    "slardar.hooks.objects",
    "slardar.hooks.python.",
    "slardar.hooks.settings",
    "slardar.http1.passing",
    "slardar.http1.request",
    "slardar.http1.scan",
    "slardar.model.names",
)

_Result = TypeVar("_Result")


class OutOfBudget(BaseException):
    """A call has used its CPU time.  No hook can name or catch this exception."""


class OutOfMemory(OutOfBudget):
    """A call has made too many large values."""


class _Call:
    """The state of the one call under way; calls are never nested."""

    __slots__ = ("began", "over", "running", "seconds", "stale", "used")

    def __init__(self) -> None:
        self.running = False
        #: The exception that ends the call, once it has used up its time or its memory.
        self.over: type[OutOfBudget] | None = None
        #: When the call began, by the monotonic clock.
        self.began = 0.0
        #: The CPU time that the call may take.
        self.seconds = 0.0
        #: Bytes of large values that the call has made.
        self.used = 0
        #: A call that begins at this time or later reads the CPU's clock again.
        self.stale = 0.0


_call: Final = _Call()
_clock: Final = CpuClock()
#: The seconds of each budget that has started and not stopped.
_in_use: Final[list[float]] = []


def charge(size: int) -> None:
    """Count a large value of ``size`` bytes.

    Raises OutOfMemory if the call under way has made more than :data:`MAX_MEMORY`.
    """
    used = _call.used + size
    if used > MAX_MEMORY and _call.running:
        _call.over = OutOfMemory
        raise OutOfMemory
    if used > _MUCH:
        NOTICED[0] = True
    _call.used = used


def check() -> None:
    """Raise OutOfBudget if the call under way should have ended.

    For code after which a tick may have passed without effect, and for ``finally``, whose
    body must not run on when the time is used up.
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
    """Whether every frame from ``frame`` up to :meth:`Budget.run` may be interrupted."""
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
    """Limits each call that it runs to ``seconds`` of CPU time, which must be more than 0.

    A process has one timer, whose tick is a fifth of the smallest budget in use.
    Raises ConfigError outside the main thread, where no handler of a signal can run.
    """

    __slots__ = ("_started", "seconds")

    def __init__(self, seconds: float) -> None:
        if not 0 < seconds < 3600:
            raise ConfigError(f"hooks.budget: expected more than 0 seconds, got {seconds!r}")
        self.seconds = seconds
        self._started = 0
        try:
            # The handler is never removed: without it, a tick that is still under way when
            # the timer stops would end the process.
            signal.signal(signal.SIGVTALRM, _tick)
            signal.siginterrupt(signal.SIGVTALRM, False)
        except ValueError:
            raise ConfigError(
                "hooks: Python hooks need the main thread, expected none in this one"
            ) from None

    def start(self) -> None:
        """Let the timer tick.  Starts are counted: each one needs a :meth:`stop`."""
        self._started += 1
        _in_use.append(self.seconds)
        _set_timer()

    def stop(self) -> None:
        """Take back one :meth:`start`; the timer rests after the last one."""
        if self._started:
            self._started -= 1
            _in_use.remove(self.seconds)
            _set_timer()

    def run(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Call ``function`` within the budget.

        Raises OutOfBudget, and whatever the function raises.  OutOfBudget comes out of this
        call and of nothing else.
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
        """Do what :meth:`run` does for a function of one argument, only faster."""
        # The body of run, copied: a further call, or packed arguments, would double the cost.
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


#: The search for a frame that must not be interrupted ends at a frame of one of these.
_RUN: Final = Budget.run.__code__
_RUN_WITH: Final = Budget.run_with.__code__


def _check_end() -> None:
    """Check the CPU time at the end of a call that took long by the monotonic clock.

    Raises OutOfBudget if the call took more CPU time than its budget, whether it has
    returned or raised something else.
    """
    error = exc_info()[1]
    if isinstance(error, OutOfBudget):
        return
    if _call.over is None and _clock.used(_call.began) >= _call.seconds:
        _call.over = OutOfBudget
    if _call.over is not None:
        # The traceback shows where the time was used.
        raise _call.over().with_traceback(getattr(error, "__traceback__", None)) from None


def _set_timer() -> None:
    tick = min(_in_use) / _TICKS if _in_use else 0.0
    if signal.getitimer(signal.ITIMER_VIRTUAL)[1] != tick:
        signal.setitimer(signal.ITIMER_VIRTUAL, tick, tick)


@atexit.register
def _rest() -> None:
    # Python removes its handlers before the process ends.  A tick after that would end the
    # process by a signal.  Hooks that go later yet set the timer again, for those that are left.
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
    if _in_use:
        signal.signal(signal.SIGVTALRM, signal.SIG_IGN)
