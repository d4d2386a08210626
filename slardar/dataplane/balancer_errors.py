"""What balancers raise: logged seldom, and kept for ``/status``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from traceback import walk_tb
from types import TracebackType
from typing import Annotated, Any

from msgspec import Meta, Struct
from twisted.logger import Logger

__all__ = ["BalancerError", "BalancerErrors"]

#: Seconds between two lines of the log about one upstream.
_SELDOM = 60.0
#: Characters of what a balancer may say, and of the name of its file.
_MAX_TEXT = 300
Text = Annotated[str, Meta(max_length=_MAX_TEXT)]

_log = Logger("slardar.balancers")


class BalancerError(Struct, frozen=True):
    """What the balancer of an upstream has raised, the last time."""

    #: The class, with its module, and the method that failed.
    cls: Text
    method: Text
    #: Where it was raised; the file is the end of its path.
    file: Text
    line: Annotated[int, Meta(ge=0, le=2**31)]
    error: Text
    #: How often a method of it has failed.
    count: Annotated[int, Meta(ge=0, le=2**53)]
    #: When it did last, in epoch seconds.
    last: Annotated[float, Meta(ge=0, le=1e11)]

    def shown(self) -> dict[str, Any]:
        """For ``/status``."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.last))
        return {
            "class": self.cls,
            "method": self.method,
            "file": self.file,
            "line": self.line,
            "error": self.error,
            "count": self.count,
            "last": when,
        }


class BalancerErrors:
    """Those of one process, by upstream; ``seconds()`` is a monotonic clock.

    They are forgotten when the upstream is changed: it has other balancers then.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.last: dict[str, BalancerError] = {}
        #: When the next line may be logged, and how many failures were not.
        self._next: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def note(self, upstream: str, balancer: object, method: str, error: BaseException) -> None:
        """A method of a balancer has raised this."""
        known = self.last.get(upstream)
        kind = type(balancer)
        file, line = _place(kind, method, error.__traceback__)
        about = self.last[upstream] = BalancerError(
            _plain(f"{kind.__module__}.{kind.__qualname__}"),
            method,
            _plain(file[-_MAX_TEXT:]),
            line,
            _one_line(error),
            1 if known is None else known.count + 1,
            time.time(),
        )
        now = self._seconds()
        if now < self._next.get(upstream, now):
            self._unsaid[upstream] = self._unsaid.get(upstream, 0) + 1
            return
        self._next[upstream] = now + _SELDOM
        unsaid = self._unsaid.pop(upstream, 0)
        _log.error(
            "upstream {upstream}: {cls}.{method} failed at {file}:{line}: {error}{more}",
            upstream=upstream,
            cls=about.cls,
            method=method,
            file=about.file,
            line=line,
            error=about.error,
            more=f" ({unsaid} more since the last time)" if unsaid else "",
        )

    def forget(self, upstreams: Iterable[str]) -> None:
        """These have changed, or are gone."""
        for name in upstreams:
            for known in (self.last, self._next, self._unsaid):
                known.pop(name, None)


def _place(kind: type, method: str, traceback: TracebackType | None) -> tuple[str, int]:
    """Where in the file of the class it was raised, or what was called there raised it."""
    own = getattr(sys.modules.get(kind.__module__), "__file__", None)
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(traceback)]
    for file, line in reversed(places):
        if file == own:
            return file, line
    # What it answered was wrong, or it is written in C.
    code = getattr(getattr(kind, method, None), "__code__", None)
    if code is not None:
        return code.co_filename, code.co_firstlineno
    return places[-1] if places else ("", 0)


def _one_line(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # an error of a user's class may do anything
        text = ""
    return _plain(" ".join(f"{type(error).__name__}: {text}".split()))


def _plain(text: str) -> str:
    """So much of it as is told, in what JSON can hold."""
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
