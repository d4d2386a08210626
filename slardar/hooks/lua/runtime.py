"""One LuaJIT for all scripts of a worker: its memory, and calls into it.

The interpreter only: compiled traces would run no hook, so no budget.  What a script may
do is decided by the Lua files beside this one.

Memory: LuaJIT's allocator is given a limit before a call, :data:`ROOM` above what is in
use then; those of scripts share one until what is in use has changed by :data:`_SLACK`.
So no call can take the whole, and there is always room for the next one to begin; and
since one string cannot be larger, no single instruction takes longer than a few
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

__all__ = ["MIN_MEMORY", "PENDING_BYTES", "PENDING_LINES", "ROOM", "RunResult", "Failed", "Runtime"]

#: Bytes that one call may add to what is in use.
ROOM: Final = 8 << 20
#: Bytes of them that are left for what Python answers: three of a mebibyte, at most.
_SPARE: Final = 4 << 20
#: Bytes by which what is in use may change until the limit is set anew.
_SLACK: Final = 256 << 10
#: Bytes of a request's headers that may wait in Lua for the end of a call, where each
#: header takes so many besides its own; and so the most headers.
PENDING_BYTES: Final = 6144
_EACH: Final = 64
PENDING_LINES: Final = PENDING_BYTES // _EACH
#: Bytes of memory that an engine can work with.
MIN_MEMORY: Final = 2 * ROOM

_FILES: Final = (
    "core", "base", "patterns", "text", "json", "re", "codec", "request", "ngx", "slardar",
)  # fmt: skip

#: How a call failed: the kind, and what Lua says of it.
Failed = tuple[str, str]
#: What a call of a script came to: the headers that are to be set (name and value of the
#: first one, and what :meth:`slardar.hooks.headers.Headers.put_each` takes for the others),
#: or ``False`` and how it failed.
RunResult = tuple[Any, ...] | None


#: Not looked up among the module's names each time, where this is compiled.
_now: Final = monotonic
#: The answer of a call that has taken more than its budget, whatever it came to.
_LATE: Final[RunResult] = (False, "budget", "")


def _refuse_read(owner: object, name: object) -> Any:
    raise AttributeError("not available")


def _refuse_write(owner: object, name: object, value: object) -> None:
    raise AttributeError("not available")


class Runtime:
    """LuaJIT with everything that scripts see, and nothing else.

    ``functions`` are those of Python, by name; ``budget`` is in seconds of CPU time.
    ``on_full`` is called when ``memory`` bytes are nearly used for good.
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
        #: From when on the CPU's clock is to be read again.
        self._stale = 0.0
        #: Whether the limit is what Lua thinks that it is.
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
                "errnos": "".join(f"{n} {e.code} {e.msg}\n" for n, e in ERRNOS.items()),
                "null": lua.eval("newproxy(false)"),
            }
        )
        start: Any = lua.eval("function(code, name, core) assert(loadstring(code, name))(core) end")
        for file in _FILES:
            text = Path(__file__).with_name(f"{file}.lua").read_text(encoding="ascii")
            start(text, f"={file}.lua", core)
        # Nobody needs the globals any more.
        lua.execute("local all = _G for key in next, all do all[key] = nil end")
        self._load: Any = core["load"]
        self._check: Any = core["check"]
        self._recover: Any = core["recover"]
        self._limited: Any = core["limited"]
        lua.gccollect()

    @property
    def used(self) -> int:
        """Bytes in use, garbage included."""
        return self._lua.get_memory_used(total=True)  # type: ignore[no-any-return]

    @property
    def is_full(self) -> bool:
        """There is no room for another script, garbage included.

        Said before there is none for a call: requests make small things that last.
        """
        return self.used > self._full - ROOM // 4

    def collect(self) -> int:
        """Free what nobody holds; answers the bytes in use then."""
        self._lua.gccollect()
        return self.used

    def check(self, name: str, code: str) -> str | None:
        """What is wrong with a text as Lua."""
        answer = self.call(self._check, name, code)
        if isinstance(answer, tuple):
            return f"{name}: {answer[0]}"
        return answer  # type: ignore[no-any-return]

    def load(self, name: str, code: str, sets: bool) -> tuple[Any, Any, Any]:
        """A script's functions: to run it, to require a module for it, to forget all
        that its modules keep.  ``sets``: headers may wait for the end of a call.

        Raises ValueError with Lua's message.
        """
        answer = self.call(self._load, name, code, sets)
        if len(answer) != 3:
            raise ValueError(answer[1])
        return answer  # type: ignore[no-any-return]

    def call(self, function: Any, *arguments: Any) -> Any:
        """What a function of Lua answers, within the memory that a call may take.

        One that ended as no function of ours does answers as :data:`Failed`.
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
        """The same for a script's function, which says whether the limit must be set.

        One that has taken more than its budget has failed, whatever it answers: no look of
        Lua's own may have come after the last thing that took long.
        """
        began = self._begin()
        try:
            answer: Any = function(*arguments) if self._is_limited else True
            while answer is True:
                # Less by what the next calls may find less in use than there is now.
                self._limit(ROOM - _SLACK)
                self._limited()
                self._is_limited = True
                # To make room for it was not the script's doing.
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
        """A call begins now."""
        began: float = _now()
        if began >= self._stale:
            self._stale = self._clock.read(began)
        self._clock.began = began
        return began

    def enter(self, function: Any, *arguments: Any) -> Any:
        """The same, however much is in use."""
        full, self._full = self._full, sys.maxsize
        try:
            return self.call(function, *arguments)
        finally:
            self._full = full

    def _limit(self, room: int) -> None:
        """Let Lua use so many bytes more than now."""
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
        """How a call failed that raised this."""
        if isinstance(error, LuaMemoryError):
            return self._rescue("memory", "")
        # Of Lua's own, or one of Python's that it has carried.
        return self._rescue("error", said(error).partition("stack traceback:")[0])

    def _rescue(self, kind: str, message: str) -> Failed:
        self._is_limited = False
        lua = self._lua
        lua.gccollect()
        lua.set_max_memory(lua.get_memory_used(True) + ROOM, True)
        late = self._recover()
        return (late[0], "") if isinstance(late, tuple) else (kind, message)
