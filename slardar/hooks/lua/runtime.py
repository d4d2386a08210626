"""Runs one LuaJIT for all scripts of a worker: its memory, and the calls into it.

LuaJIT runs as an interpreter only, because a compiled trace would run no debug hook, and
the budget relies on one.  The Lua files beside this one decide what a script may do.

Before a call, the allocator of LuaJIT gets a limit: what is in use, plus :data:`ROOM`.  The
calls of scripts share a limit until what is in use has changed by :data:`_SLACK`.  So no
call can take all the memory, and there is always room for the next call to begin.  The
limit also bounds the size of a string, so no single instruction takes longer than a few
milliseconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, Final

from lupa.luajit21 import (  # type: ignore[import-untyped]
    LuaMemoryError,
    LuaRuntime,
)

from slardar.hooks.cputime import CpuClock
from slardar.hooks.errno import ERRNOS
from slardar.hooks.lua.crossing import said

__all__ = [
    "LEARNED_BYTES",
    "MIN_MEMORY",
    "PENDING_BYTES",
    "PENDING_LINES",
    "ROOM",
    "Failed",
    "RunResult",
    "Runtime",
]

#: Bytes that one call may add to the memory in use.
ROOM: Final = 8 << 20
#: The part of :data:`ROOM` that is kept for what functions of Python return to Lua, which is
#: at most three texts of 1 MiB.
_SPARE: Final = 4 << 20
#: When the memory in use has changed by this many bytes, the limit is set anew.
_SLACK: Final = 256 << 10
#: Bytes of a request's headers that may wait in Lua for the end of a call.  Each header
#: takes :data:`_EACH` bytes besides its own, which limits the number of headers.
PENDING_BYTES: Final = 6144
_EACH: Final = 64
PENDING_LINES: Final = PENDING_BYTES // _EACH
#: The most bytes of name and value of a header that has a number.
LEARNED_BYTES: Final = 192
#: The fewest bytes of memory that an engine can work with.
MIN_MEMORY: Final = 2 * ROOM

_FILES: Final = (
    "core", "base", "patterns", "text", "json", "re", "codec", "request", "ngx", "slardar",
)  # fmt: skip

#: How a call failed: the kind of failure, and the message of Lua.
Failed = tuple[str, str]
#: What a call of a script returned.  ``None``, if it set no headers that wait for the end of
#: the call.  The headers that wait: name and value of the first one, and the other ones in
#: the form of :meth:`slardar.hooks.headers.Headers.put_each`; or the number of the only one.
#: Or ``False`` and a :data:`Failed`.
RunResult = tuple[Any, ...] | int | None


#: Bound here, so that the compiled code does not look the function up each time.
_now: Final = monotonic
#: The result of a call that has taken more than its budget, whatever Lua returned.
_LATE: Final[RunResult] = (False, "budget", "")


def _refuse_read(owner: object, name: object) -> Any:
    raise AttributeError("not available")


def _refuse_write(owner: object, name: object, value: object) -> None:
    raise AttributeError("not available")


class Runtime:
    """LuaJIT with everything that scripts may see, and nothing else.

    ``functions`` are the functions of Python that Lua calls, by name.  ``budget`` is in
    seconds of CPU time.  ``memory`` is the bytes that Lua may use; ``on_full`` is called when
    they are nearly used up although the garbage was collected.
    """

    def __init__(
        self,
        functions: dict[str, Any],
        budget: float,
        memory: int,
        on_full: Callable[[], None],
    ) -> None:
        if memory < MIN_MEMORY:
            raise ValueError(f"memory: expected at least {MIN_MEMORY} bytes, got {memory}")
        self._on_full = on_full
        self._full = memory - ROOM
        self._budget = budget
        self._clock = CpuClock()
        #: A call that begins at this time or later reads the CPU's clock again.
        self._stale = 0.0
        #: Whether the limit for calls of scripts is set, and Lua knows of it.
        self._is_limited = False
        lua = LuaRuntime(
            encoding="latin-1",
            source_encoding="latin-1",
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            attribute_handlers=(_refuse_read, _refuse_write),
            max_memory=memory,
        )
        self._lua = lua
        if not lua.get_memory_used(total=True):
            raise RuntimeError("this lupa cannot limit the memory of LuaJIT")
        lua.execute("jit.off() jit.flush()")
        core: Any = lua.table_from(
            {
                "py": lua.table_from({**functions, "began": self._clock.at}),
                "budget": budget,
                "room": ROOM - _SPARE,
                "slack": _SLACK,
                "pending": PENDING_BYTES,
                "each": _EACH,
                "learned": LEARNED_BYTES,
                "errnos": "".join(f"{n} {e.code} {e.msg}\n" for n, e in ERRNOS.items()),
                "null": lua.eval("newproxy(false)"),
            }
        )
        start: Any = lua.eval("function(code, name, core) assert(loadstring(code, name))(core) end")
        for file in _FILES:
            text = Path(__file__).with_name(f"{file}.lua").read_text(encoding="ascii")
            start(text, f"={file}.lua", core)
        # The Lua files hold what they need; scripts must not find the globals.
        lua.execute("local all = _G for key in next, all do all[key] = nil end")
        self._load: Any = core["load"]
        self._check: Any = core["check"]
        self._recover: Any = core["recover"]
        self._limited: Any = core["limited"]
        self._forget_settings: Any = core["forget_settings"]
        lua.gccollect()

    @property
    def used(self) -> int:
        """Bytes in use, garbage included."""
        return self._lua.get_memory_used(total=True)  # type: ignore[no-any-return]

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another script, while garbage counts as used.

        There is still room for calls then, since requests leave small things behind.
        """
        return self.used > self._full - ROOM // 4

    def collect(self) -> int:
        """Collect the garbage.  Returns the bytes in use then."""
        self._lua.gccollect()
        return self.used

    def check(self, name: str, code: str) -> str | None:
        """Say why ``code`` is no valid Lua; ``None`` if it is valid."""
        answer = self.call(self._check, name, code)
        if isinstance(answer, tuple):
            return f"{name}: {answer[0]}"
        return answer  # type: ignore[no-any-return]

    def forget_settings(self) -> None:
        """Let scripts ask anew for settings that they have read."""
        self.enter(self._forget_settings)

    def load(self, name: str, code: str, sets: bool) -> tuple[Any, Any, Any, Any]:
        """Load a script.

        Returns four functions of Lua: the first runs the script, the second requires a
        module for it, the third forgets everything that its modules keep.  The fourth learns
        the number of a header with its value, which the first returns in their place from then
        on.  If ``sets``, headers of the request may wait for the end of a call.  Raises
        ValueError with the message of Lua.
        """
        answer = self.call(self._load, name, code, sets)
        if len(answer) != 4:
            raise ValueError(answer[1])
        return answer  # type: ignore[no-any-return]

    def call(self, function: Any, *arguments: Any) -> Any:
        """Call a function of Lua within the memory that a call may take.

        Returns what the function returns, or a :data:`Failed` if it raised.
        """
        self._limit(ROOM)
        self._begin()
        try:
            return function(*arguments)
        except Exception as error:
            return self._failed(error)
        except BaseException:
            self._rescue("error", "")
            raise

    def run(self, function: Any, arguments: tuple[Any, ...]) -> RunResult:
        """Call the function that runs a script.  It returns true if the limit must be set.

        A call that has taken more than its budget has failed, whatever it returns: Lua may
        not have looked at the clock after the last thing that took long.
        """
        began = self._begin()
        try:
            answer: Any = function(*arguments) if self._is_limited else True
            while answer is True:
                # Later calls share the limit, and may begin with _SLACK less in use.
                self._limit(ROOM - _SLACK)
                self._limited()
                self._is_limited = True
                # The time to set the limit is not the script's.
                began = self._begin()
                answer = function(*arguments)
            if _now() - began >= self._budget and self._clock.used(began) >= self._budget:
                return _LATE
            return answer  # type: ignore[no-any-return]
        except Exception as error:
            return (False, *self._failed(error))
        except BaseException:
            self._rescue("error", "")
            raise

    def _begin(self) -> float:
        """Note that a call begins now.  Returns the time by the monotonic clock."""
        began: float = _now()
        if began >= self._stale:
            self._stale = self._clock.read(began)
        self._clock.began = began
        return began

    def enter(self, function: Any, *arguments: Any) -> Any:
        """Do what :meth:`call` does, and never call ``on_full`` before it."""
        full, self._full = self._full, sys.maxsize
        try:
            return self.call(function, *arguments)
        finally:
            self._full = full

    def _limit(self, room: int) -> None:
        """Let Lua use ``room`` bytes more than are in use now."""
        self._is_limited = False
        lua = self._lua
        used = lua.get_memory_used(True)
        if used > self._full:
            lua.gccollect()
            used = lua.get_memory_used(True)
            if used > self._full:
                self._on_full()
                used = lua.get_memory_used(True)
        lua.set_max_memory(used + room, True)

    def _failed(self, error: Exception) -> Failed:
        """Bring Lua into order after a call raised ``error``, and say how the call failed."""
        if isinstance(error, LuaMemoryError):
            return self._rescue("memory", "")
        # An error of Lua, or an exception of Python that went through Lua.
        return self._rescue("error", said(error).partition("stack traceback:")[0])

    def _rescue(self, kind: str, message: str) -> Failed:
        """Bring Lua into order after a call that raised instead of returning."""
        self._is_limited = False
        lua = self._lua
        lua.gccollect()
        lua.set_max_memory(lua.get_memory_used(True) + ROOM, True)
        late = self._recover()
        return (late[0], "") if isinstance(late, tuple) else (kind, message)
