"""How much memory the hooks of a process hold, and what is done when that is too much.

What the process has beyond what it had before its first hook, and beyond what its
connections account for, is the hooks'.  While that is little, nobody asks whose it is.
Once it is more than :attr:`Limits.high`, the memory is looked at before and after each
call of a hook, so what each of them adds is known; and past :attr:`Limits.soft` the one
that added most is suspended, and what it holds is let go.

The wall behind that is the kernel's (``RLIMIT_DATA``, the private memory that a process
may write), set anew ten times a second: :attr:`Limits.wall` bytes for hooks, and
:data:`RESERVE` more for whatever is not within a call of one, so that it is a hook that
fails and not a connection.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from twisted.logger import Logger

from slardar.hooks.budget import NOTICED
from slardar.hooks.loaded import Loaded, Pressure

__all__ = ["LOOK", "RESERVE", "Limits", "MemoryWatch", "limits_of"]

#: Seconds between two looks, while no call of a hook gives reason for one.
LOOK: Final = 0.1
#: Bytes that are left to connections and messages when hooks have met the wall.
RESERVE: Final = 64 << 20
#: Bytes that the engines of both languages take, once they are imported.
_ENGINES: Final = 32 << 20
#: Bytes by which the sum of what calls have added may be wrong.
_SLACK: Final = 16 << 20
#: The wall is not moved for less than so many bytes.
_STEP: Final = 4 << 20
_PAGE: Final = resource.getpagesize()

_log = Logger("slardar.hooks")


class Limits(Struct, frozen=True):
    """Bytes of the hooks of one process."""

    #: From here on it is noted which hook adds what.
    high: int
    #: The hook that added most is suspended.
    soft: int
    #: Nothing of a hook gets more from the kernel.
    wall: int


def limits_of(workers: int) -> Limits:
    """The limits for one of so many processes: with up to four of them all hooks together
    stay within 512 to 640 MiB, since each request may go to any of them."""
    soft = max(96, 384 // max(2, workers)) << 20
    return Limits(soft // 3, soft, soft + (64 << 20))


class _Statm:
    """The memory of this process, from a file that stays open."""

    _file: int | None = None

    def __init__(self) -> None:
        self._file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self) -> tuple[int, int]:
        """Bytes of its own that are in use, and bytes that ``RLIMIT_DATA`` counts."""
        # Size, resident, shared, code, 0, data and stack, 0; all in pages.
        assert self._file is not None
        fields = os.pread(self._file, 128, 0).split()
        return (int(fields[1]) - int(fields[2])) * _PAGE, int(fields[5]) * _PAGE

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


class MemoryWatch:
    """The memory of one data plane's hooks.

    ``expected()`` says how many bytes connections account for now.  ``suspend(mark,
    reason)`` suspends a version and lets go what it holds.  ``suspended(mark, reason)``
    is told of that, and ``grown()``, once, that the process stays large for no hook's
    sake.  ``has_wall``: the kernel is to limit the process, which runs nothing but
    slardar.

    Raises OSError where the kernel does not say how much memory there is.
    """

    def __init__(
        self,
        limits: Limits,
        expected: Callable[[], int],
        suspend: Callable[[int, str], None],
        suspended: Callable[[int, str], None] = lambda mark, reason: None,
        grown: Callable[[], None] = lambda: None,
        has_wall: bool = False,
        usage: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        self.limits = limits
        self._expected = expected
        self._suspend = suspend
        self._suspended = suspended
        self._tell_grown = grown
        self._has_wall = has_wall
        self._usage = usage or _Statm()
        #: For the request path: whether calls are to go through :meth:`run`.
        self.pressure = Pressure()
        #: Bytes in use before the first hook that were not expected, and those of the
        #: engines.  It may grow by what turns out to be nobody's, and shrinks with that.
        self._base = self._usage()[0] - expected() + _ENGINES
        self._first_base = self._base
        #: What calls of hooks have added since the pressure is high.
        self._added: dict[Loaded, int] = {}
        self._limit = 0
        self._hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        self._has_told = False

    # Looks.

    def look(self) -> None:
        """Do what the memory of now asks for; 5 microseconds if that is nothing."""
        NOTICED[0] = False
        used, data = self._usage()
        over = used - self._base - self._expected()
        if over < 0 and self._base > self._first_base:
            # What was taken for nobody's has gone: it is no allowance for the next.
            self._base = max(self._first_base, self._base + over)
            over = used - self._base - self._expected()
        if over > self.limits.high:
            self.pressure.is_high = True
            self._settle(over)
            if over > self.limits.soft:
                over, data = self._relieve()
        elif self.pressure.is_high:
            self.pressure.is_high = False
            self._added.clear()
        self._set_wall(data + self.limits.wall + RESERVE - over)

    def run(self, loaded: Loaded, function: Callable[..., object], *arguments: Any) -> None:
        """Call a hook, and note what that has added; for when the pressure is high.

        Raises what the function raises, MemoryError for one that meets the wall too.
        """
        before, data = self._usage()
        over = before - self._base - self._expected()
        outside = self._limit
        self._set_wall(data + max(0, self.limits.wall - over), always=True)
        try:
            function(*arguments)
        finally:
            self._set_wall(max(outside, data + RESERVE), always=True)
            # Not what an engine has a limit of its own for, which is expected.
            self.note(loaded, self._usage()[0] - self._base - self._expected() - over)
            # Not now: an exception that is on its way out holds what the call has made.
            NOTICED[0] = True

    def used(self) -> int:
        """Bytes in use, to be compared with those of later."""
        return self._usage()[0]

    def note(self, loaded: Loaded, size: int) -> None:
        """A hook has added so many bytes, or there are fewer than before it ran."""
        if self.pressure.is_high:
            self._added[loaded] = self._added.get(loaded, 0) + size

    def keep(self, versions: set[Loaded]) -> None:
        """Forget every version but these."""
        self._added = {one: size for one, size in self._added.items() if one in versions}

    def collect(self) -> None:
        """Give back what a hook held that was suspended for it, here or elsewhere."""
        if self.pressure.is_high:
            gc.collect()
            self._over_now()

    def ran_out(self) -> None:
        """Something that is no hook has met the wall: give it room, then see whose fault
        that is."""
        if self._has_wall:
            self._set_wall(self._usage()[1] + RESERVE, always=True)
            self.look()

    # What is done.

    def _settle(self, over: int) -> None:
        """Hooks cannot have added more than there is: what they made and what was let go
        after their calls is not held against them."""
        total = sum(size for size in self._added.values() if size > 0)
        most = over - self.limits.high + _SLACK
        if total > most:
            self._added = {one: size * most // total for one, size in self._added.items()}

    def _relieve(self) -> tuple[int, int]:
        """Suspend hooks, the one that added most first, until there is enough room."""
        limits = self.limits
        enough = (limits.soft - limits.high) // 2
        # Many connections may have just ended, whose memory is nobody's any more.
        over = self._over_now()
        self._settle(over)
        while over > limits.soft:
            total = sum(size for size in self._added.values() if size > 0)
            if total >= enough:
                worst = max(self._added, key=self._added.__getitem__)
                size = self._added.pop(worst)
                reason = (
                    f"hooks hold {over >> 20} MiB of memory, of which it added {size >> 20} MiB;"
                    " what it held was let go"
                )
                self._suspend(worst.mark, reason)
                self._suspended(worst.mark, reason)
                over = self._over_now()
            if over > limits.soft:
                # What refers to itself, and what nobody has looked at yet.
                gc.collect()
                over = self._over_now()
            if total < enough and over > limits.soft:
                over = self._accept(over)
        return over, self._usage()[1]

    def _over_now(self) -> int:
        try:
            # What the C library keeps for later goes back to the kernel.
            ctypes.CDLL(None).malloc_trim(0)
        except (AttributeError, OSError):
            pass  # not glibc, which is the one that keeps much
        return self._usage()[0] - self._base - self._expected()

    def _accept(self, over: int) -> int:
        """It is no hook's, or cannot be had back: it counts no more."""
        _log.warn("the process has {size} MiB more than its hooks account for", size=over >> 20)
        left = self.limits.high // 2
        self._base += over - left
        if not self._has_told:
            self._has_told = True
            self._tell_grown()
        return left

    def _set_wall(self, limit: int, always: bool = False) -> None:
        if not self._has_wall:
            return
        if always or self.pressure.is_high or abs(limit - self._limit) > _STEP:
            hard = self._hard
            try:
                resource.setrlimit(
                    resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard)
                )
            except (OSError, ValueError) as error:
                self._has_wall = False
                _log.error("the kernel sets no limit to memory: {error}", error=error)
            self._limit = limit
