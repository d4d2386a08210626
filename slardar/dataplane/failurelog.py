"""What the log says of failures: requests that slardar itself had to answer, and servers
that go out of service and come back.

Both are bounded: a site whose servers are gone refuses thousands of requests a second, and
the first of them says all there is to say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.logger import Logger

__all__ = ["HealthLog", "RefusalLog"]

#: Seconds in which one kind of refusal is one line, and at the end of which the others
#: are counted.
_PERIOD = 10.0
#: Kinds of refusals in that time; more of them are counted together.
_MAX_KINDS = 100
#: Lines about servers in a second.
_MAX_LINES = 20

_log = Logger("slardar.dataplane")

#: Upstream, server, status and reason.
_Kind = tuple[str, str, int, str]


class RefusalLog:
    """Logs replies of slardar's own: one line for each upstream, server, status and reason,
    and after ten seconds how many more there were.

    ``call_later`` is the reactor's.
    """

    def __init__(self, call_later: Callable[..., Any]) -> None:
        self._call_later = call_later
        #: How many more there were of each.
        self._more: dict[_Kind, int] = {}
        self._others = 0
        self._timer: Any = None

    def note(self, status: int, reason: str, upstream: str, server: str) -> None:
        """A request was answered so; a 502 without an ``upstream`` has the client's own
        words in its reason, and all of these are one kind."""
        kind = (upstream, server, status, reason if upstream or status != 502 else "")
        more = self._more.get(kind)
        if more is not None:
            self._more[kind] = more + 1
            return
        if self._timer is None:
            self._timer = self._call_later(_PERIOD, self.flush)
        if len(self._more) >= _MAX_KINDS:
            self._others += 1
            return
        self._more[kind] = 0
        _log.warn(
            "{status} for a request: {where}{reason}",
            status=status,
            where=_where(upstream, server),
            reason=reason,
        )

    def flush(self) -> None:
        """Say how many more there were, and begin anew."""
        more, self._more = self._more, {}
        others, self._others = self._others, 0
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        for (upstream, server, status, reason), count in more.items():
            if count:
                _log.warn(
                    "{status} for {count} more requests within {seconds:g} s: {where}{reason}",
                    status=status,
                    count=count,
                    seconds=_PERIOD,
                    where=_where(upstream, server),
                    reason=reason or "no upstream",
                )
        if others:
            _log.warn(
                "{count} more requests were answered with 502, 503 or 504 within {seconds:g} s,"
                " for other reasons",
                count=others,
                seconds=_PERIOD,
            )


def _where(upstream: str, server: str) -> str:
    if not upstream:
        return ""
    return f"upstream {upstream}, server {server}: " if server else f"upstream {upstream}: "


class HealthLog:
    """Logs that a server has gone out of service, and that it is back: once each, however
    often it is tried in between and whoever tells it.

    ``seconds()`` is a clock that only grows.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._out: set[tuple[str, str, int]] = set()
        self._second = -1
        self._lines = 0
        self._left_out = 0

    def know(self, upstream: str, host: str, port: int) -> None:
        """A server is out of service, and that was logged before, by another process."""
        self._out.add((upstream, host, port))

    def took(self, upstream: str, host: str, port: int, down_for: float, message: str) -> None:
        """Requests have put a server out of service for so many seconds, or (0) brought it
        back."""
        key = (upstream, host, port)
        if (down_for > 0) is (key in self._out):
            return
        if down_for > 0:
            self._out.add(key)
        else:
            self._out.remove(key)
        second = int(self._seconds())
        if second != self._second:
            if self._left_out:
                _log.warn(
                    "{count} more servers went out of service or came back", count=self._left_out
                )
            self._second, self._lines, self._left_out = second, 0, 0
        self._lines += 1
        if self._lines > _MAX_LINES:
            self._left_out += 1
            return
        server = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if down_for > 0:
            _log.warn(
                "upstream {upstream}: server {server} is out of service: {message}",
                upstream=upstream,
                server=server,
                message=message,
            )
        else:
            _log.info(
                "upstream {upstream}: server {server} is back in service",
                upstream=upstream,
                server=server,
            )

    def forget(self, upstream: str, gone: Collection[tuple[str, int]]) -> None:
        """These servers are no more."""
        for host, port in gone:
            self._out.discard((upstream, host, port))
