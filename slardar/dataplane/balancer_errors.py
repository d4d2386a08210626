"""Errors that balancers raise: logged at most once a minute, and kept for ``/status``."""

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

#: Seconds between two lines of the log about one upstream, at least.
_SELDOM = 60.0
#: Characters that are kept of an error's text, of a class's name and of a file's path.
_MAX_TEXT = 300
Text = Annotated[str, Meta(max_length=_MAX_TEXT)]

_log = Logger("slardar.balancers")


class BalancerError(Struct, frozen=True):
    """The last error of an upstream's balancer."""

    #: The balancer's class with its module, and the method that failed.
    cls: Text
    method: Text
    #: Where the error was raised: the end of the file's path, and the line.
    file: Text
    line: Annotated[int, Meta(ge=0, le=2**31)]
    #: The error's class and text.
    error: Text
    #: How often a method of the balancer has failed.
    count: Annotated[int, Meta(ge=0, le=2**53)]
    #: When a method failed last, in epoch seconds.
    last: Annotated[float, Meta(ge=0, le=1e11)]

    def shown(self) -> dict[str, Any]:
        """The error as ``/status`` shows it."""
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
    """The errors of balancers in one process; ``seconds()`` is a monotonic clock.

    The errors of an upstream are forgotten when the upstream changes, for it gets new
    balancers then.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        #: The last error of each upstream.
        self.last: dict[str, BalancerError] = {}
        #: By upstream: when the next line may be logged, and how many failures were not
        #: logged since the last line.
        self._next: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def note(self, upstream: str, balancer: object, method: str, error: BaseException) -> None:
        """Keep the error that ``method`` of an upstream's balancer has raised, and log it
        unless another one was logged within the last minute."""
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
        """Forget the errors of upstreams that have changed, or are gone."""
        for name in upstreams:
            for known in (self.last, self._next, self._unsaid):
                known.pop(name, None)


def _place(kind: type, method: str, traceback: TracebackType | None) -> tuple[str, int]:
    """File and line of the innermost frame in the balancer's own file.

    Without such a frame, the method's first line, or the innermost frame of all.
    """
    own = getattr(sys.modules.get(kind.__module__), "__file__", None)
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(traceback)]
    for file, line in reversed(places):
        if file == own:
            return file, line
    # The method has returned something wrong, or is written in C.
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
    """The beginning of ``text``, without what JSON cannot hold."""
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
