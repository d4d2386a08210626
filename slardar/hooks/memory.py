"""Watches how much memory the hooks of a process hold, and acts when it is too much.

The memory of the hooks is what the process has more than before its first hook, without
what its connections account for.  While the hooks hold little, nobody asks which hook holds
what.  Above :attr:`Limits.high`, the memory is measured before and after each call of a
hook, so what each hook adds is known.  Above :attr:`Limits.soft`, the hook that added most
is suspended, and what it holds is let go.

Beyond these two limits the kernel sets a wall (``RLIMIT_DATA`` limits the private memory
that a process may write), which is moved ten times a second.  A call of a hook may take up
to :attr:`Limits.wall` bytes for hooks.  All other code may take :data:`RESERVE` bytes more,
so a hook meets the wall before a connection does.
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

#: Seconds between two looks at the memory while no call of a hook gives a reason for one.
LOOK: Final = 0.1
#: Bytes that connections and messages may still take when hooks have met the wall.
RESERVE: Final = 64 << 20
#: Bytes that the engines of both languages take once they are imported.
_ENGINES: Final = 32 << 20
#: The sum of what calls have added may be wrong by this many bytes.
_SLACK: Final = 16 << 20
#: The wall is not moved by fewer bytes than this.
_STEP: Final = 4 << 20
_PAGE: Final = resource.getpagesize()

_log = Logger("slardar.hooks")


class Limits(Struct, frozen=True):
    """How many bytes the hooks of one process may hold."""

    #: Above this, what each call of a hook adds is noted.
    high: int
    #: Above this, the hook that added most is suspended.
    soft: int
    #: Above this, the kernel gives a call of a hook no more memory.
    wall: int


def limits_of(workers: int) -> Limits:
    """The limits for each of ``workers`` processes.

    A request may go to any of the processes, so each may come to hold as much as the others.
    With up to four, the hooks of all together stay within 512 to 640 MiB.
    """
    soft = max(96, 384 // max(2, workers)) << 20
    return Limits(soft // 3, soft, soft + (64 << 20))


class _Statm:
    """Reads the memory of this process from a file that stays open."""

    _file: int | None = None

    def __init__(self) -> None:
        self._file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self) -> tuple[int, int]:
        """The bytes in use that are not shared, and the bytes that ``RLIMIT_DATA`` counts."""
        # The fields are size, resident, shared, code, 0, data and stack, 0, all in pages.
        assert self._file is not None
        fields = os.pread(self._file, 128, 0).split()
        return (int(fields[1]) - int(fields[2])) * _PAGE, int(fields[5]) * _PAGE

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


class MemoryWatch:
    """Watches the memory of the hooks of one data plane.

    ``expected()`` returns the bytes that connections account for now.  ``suspend(mark,
    reason)`` suspends a version and lets go what it holds; ``suspended(mark, reason)`` is
    called after it.  ``grown()`` is called once if the process stays large and no hook is
    the cause.  ``has_wall`` lets the kernel limit the process, which must run nothing but
    slardar then.  ``usage()`` replaces the measurement of the process.

    Raises OSError if the kernel does not tell the memory of the process.
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
        #: Tells the request path whether calls must go through :meth:`run`.
        self.pressure = Pressure()
        #: Bytes that do not count for hooks: what was in use before the first hook, and the
        #: engines.  Memory that turns out to be no hook's is added, and is taken off again
        #: when it is freed.
        self._base = self._usage()[0] - expected() + _ENGINES
        self._first_base = self._base
        #: Bytes that the calls of each version have added since memory became short.
        self._added: dict[Loaded, int] = {}
        self._limit = 0
        self._hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        self._has_told = False

    # Looks.

    def look(self) -> None:
        """Measure the memory, and act if it is too much.  Takes 5 microseconds if it is not."""
        NOTICED[0] = False
        used, data = self._usage()
        over = used - self._base - self._expected()
        if over < 0 and self._base > self._first_base:
            # Memory that was counted as no hook's has been freed.  Hooks must not fill it.
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
        """Call a hook while memory is short, and note what the call has added.

        Raises what the function raises, which is MemoryError if the call meets the wall.
        """
        before, data = self._usage()
        over = before - self._base - self._expected()
        outside = self._limit
        self._set_wall(data + max(0, self.limits.wall - over), always=True)
        try:
            function(*arguments)
        finally:
            self._set_wall(max(outside, data + RESERVE), always=True)
            # Memory within an engine's own limit does not count: it is part of expected().
            self.note(loaded, self._usage()[0] - self._base - self._expected() - over)
            # The look comes later: an exception on its way out still holds what the call made.
            NOTICED[0] = True

    def used(self) -> int:
        """Bytes in use, for a comparison with a later value."""
        return self._usage()[0]

    def note(self, loaded: Loaded, size: int) -> None:
        """Note that a hook has added ``size`` bytes; negative if bytes were freed."""
        if self.pressure.is_high:
            self._added[loaded] = self._added.get(loaded, 0) + size

    def keep(self, versions: set[Loaded]) -> None:
        """Forget every version but ``versions``."""
        self._added = {one: size for one, size in self._added.items() if one in versions}

    def collect(self) -> None:
        """Give back to the kernel what a hook held that was suspended, here or elsewhere."""
        if self.pressure.is_high:
            gc.collect()
            self._over_now()

    def ran_out(self) -> None:
        """Code that is no hook has met the wall: give it room, then suspend hooks if they are
        the cause."""
        if self._has_wall:
            self._set_wall(self._usage()[1] + RESERVE, always=True)
            self.look()

    # What is done if there is too much.

    def _settle(self, over: int) -> None:
        """Scale down what hooks have added to what they can still hold.

        Memory that was freed after a call does not count against the hook.
        """
        total = sum(size for size in self._added.values() if size > 0)
        most = over - self.limits.high + _SLACK
        if total > most:
            self._added = {one: size * most // total for one, size in self._added.items()}

    def _relieve(self) -> tuple[int, int]:
        """Suspend hooks, the one that added most first, until the memory is below the limit.

        Returns the bytes that hooks hold then, and the bytes that ``RLIMIT_DATA`` counts.
        """
        limits = self.limits
        enough = (limits.soft - limits.high) // 2
        # Many connections may just have ended, and the C library still holds their memory.
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
                # Free objects that refer to each other in a circle.
                gc.collect()
                over = self._over_now()
            if total < enough and over > limits.soft:
                over = self._accept(over)
        return over, self._usage()[1]

    def _over_now(self) -> int:
        try:
            # The C library gives free memory back to the kernel.
            ctypes.CDLL(None).malloc_trim(0)
        except (AttributeError, OSError):
            pass  # this is not glibc; other C libraries do not keep much
        return self._usage()[0] - self._base - self._expected()

    def _accept(self, over: int) -> int:
        """Stop counting memory for hooks that is no hook's, or that cannot be freed.

        Returns the bytes that still count.
        """
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
