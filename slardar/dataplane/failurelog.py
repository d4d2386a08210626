"""What the log says of failures: requests that slardar itself had to answer, servers that
go out of service and come back, and bugs that requests meet.

The number of lines is bounded: a site whose servers are gone refuses thousands of requests
a second, and the line about the first one says all there is to say.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from typing import Any

from twisted.logger import Logger

from slardar.events import Health, Publish, ignore
from slardar.health.verdicts import Ejection, Heartbeat, Status
from slardar.model.names import host_port

__all__ = ["BugLog", "HealthLog", "RefusalLog"]

#: Seconds of one period: the first refusal of each kind is logged at once, and the number
#: of the others when the period ends.
_PERIOD = 10.0
#: Kinds of refusals that are told apart in one period; the others are counted together.
_MAX_KINDS = 100
#: Seconds between two lines about one bug.
_SELDOM = 60.0
#: Lines about servers in a second, at most.
_MAX_LINES = 20
#: What keeps servers out of service.
_REQUESTS = "requests"
_HEARTBEATS = "heartbeats"

_log = Logger("slardar.dataplane")

#: Upstream, server, status and reason; for a connection that was closed without a reply the
#: listener as server, and no status.
_Kind = tuple[str, str, int, str]


class RefusalLog:
    """Logs the replies that slardar makes itself, and the connections that get none.

    There is one line for each upstream, server, status and reason, and after ten seconds
    one more that says how many followed.  ``call_later`` is the reactor's.
    """

    def __init__(self, call_later: Callable[..., Any]) -> None:
        self._call_later = call_later
        #: The kinds that were logged in this period, with how many more there were of each.
        self._more: dict[_Kind, int] = {}
        #: How many there were of kinds that are not told apart.
        self._others = 0
        #: Ends the period.
        self._timer: Any = None

    def note(self, status: int, reason: str, upstream: str, server: str) -> None:
        """A request was answered with this status, for this reason.

        A 502 without an upstream repeats words of the client in its reason, so all of
        them are one kind.
        """
        kind = (upstream, server, status, reason if upstream or status != 502 else "")
        if self._is_new(kind):
            _log.warn(
                "{status} for a request: {where}{reason}",
                status=status,
                where=_where(upstream, server),
                reason=reason,
                upstream=upstream,
                server=server,
            )

    def note_closed(self, listener: str, reason: str, client: str) -> None:
        """A connection to this listener was closed without a reply, for this reason."""
        if self._is_new(("", listener, 0, reason)):
            _log.warn(
                "a connection from {client} to {listener} was closed: {reason}",
                client=client,
                listener=listener,
                reason=reason,
            )

    def _is_new(self, kind: _Kind) -> bool:
        """Count one of this kind; True for the first one, which is to be logged."""
        more = self._more.get(kind)
        if more is not None:
            self._more[kind] = more + 1
            return False
        if self._timer is None:
            self._timer = self._call_later(_PERIOD, self.flush)
        # There are few kinds of connections that are closed: nobody's words are in them.
        if len(self._more) >= _MAX_KINDS and kind[2]:
            self._others += 1
            return False
        self._more[kind] = 0
        return True

    def flush(self) -> None:
        """End the period: log how many more refusals there were."""
        more, self._more = self._more, {}
        others, self._others = self._others, 0
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        for (upstream, server, status, reason), count in more.items():
            if count and not status:
                _log.warn(
                    "{count} more connections to {listener} were closed within {seconds:g} s: "
                    "{reason}",
                    count=count,
                    listener=server,
                    seconds=_PERIOD,
                    reason=reason,
                )
            elif count:
                _log.warn(
                    "{status} for {count} more requests within {seconds:g} s: {where}{reason}",
                    status=status,
                    count=count,
                    seconds=_PERIOD,
                    where=_where(upstream, server),
                    reason=reason or "no upstream",
                    upstream=upstream,
                    server=server,
                )
        if others:
            _log.warn(
                "{count} more requests were answered with 502, 503 or 504 within {seconds:g} s,"
                " for other reasons",
                count=others,
                seconds=_PERIOD,
            )


class BugLog:
    """Logs exceptions that are bugs, with their tracebacks.

    A bug that every request meets is logged once a minute, with the number of times since.
    Bugs are told apart by the text, the exception's class and the place that raised it.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        #: When each bug may be logged again, and how often it was met since it was.
        self._known: dict[tuple[str, str, str, int], tuple[float, int]] = {}

    def note(self, text: str, **about: Any) -> None:
        """Log the exception that is being handled; ``about`` are the values in ``text``."""
        error = sys.exc_info()[1]
        kind = (text, type(error).__qualname__, *_place(error))
        now = self._seconds()
        when, unsaid = self._known.get(kind, (0.0, 0))
        if kind in self._known and now < when:
            self._known[kind] = (when, unsaid + 1)
            return
        if kind not in self._known and len(self._known) >= _MAX_KINDS:
            self._known.clear()
        self._known[kind] = (now + _SELDOM, 0)
        if unsaid:
            text, about = text + " ({count} more since the last time)", {**about, "count": unsaid}
        _log.failure(text, **about)


def _place(error: BaseException | None) -> tuple[str, int]:
    """File and line that raised it."""
    trace = None if error is None else error.__traceback__
    if trace is None:
        return "", 0
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename, trace.tb_lineno


def _where(upstream: str, server: str) -> str:
    if not upstream:
        return ""
    return f"upstream {upstream}, server {server}: " if server else f"upstream {upstream}: "


class HealthLog:
    """Logs that a server has gone out of service, and that it is back; and publishes each change
    of its status.

    Each of them is told once, however often the server is tried in between, and
    however many processes tell of it.  A server that both requests and heartbeats have put
    out is back when neither keeps it out.  ``seconds()`` is a monotonic clock.  The number of
    lines is limited, and the number of events is not.
    """

    def __init__(self, seconds: Callable[[], float], publish: Publish = ignore) -> None:
        self._seconds = seconds
        self._publish = publish
        #: The status that heartbeats give each server, and the one that was told last; without
        #: those that are ``unchecked``.
        self._checked: dict[tuple[str, str, int], Status] = {}
        self._told: dict[tuple[str, str, int], Status] = {}
        #: The servers that the log calls out of service, with what keeps them out.
        self._out: dict[tuple[str, str, int], set[str]] = {}
        #: The second of the last line, how many lines it has had, and how many were left
        #: out because there were too many.
        self._second = -1
        self._lines = 0
        self._left_out = 0

    def know(self, upstream: str, host: str, port: int, cause: str = _REQUESTS) -> None:
        """A server is out of service; another process has logged it before."""
        key = (upstream, host, port)
        self._out.setdefault(key, set()).add(cause)
        self._told[key] = "err"

    def know_checked(self, verdict: Heartbeat) -> None:
        """Heartbeats say this of a server; another process has logged it before."""
        key = (verdict.upstream, verdict.host, verdict.port)
        self._checked[key] = verdict.status
        if verdict.status == "err":
            self.know(*key, _HEARTBEATS)
        else:
            self._told[key] = verdict.status

    def took(self, upstream: str, host: str, port: int, down_for: float, message: str) -> None:
        """Requests have put a server out of service for ``down_for`` seconds, or brought it
        back (0)."""
        key = (upstream, host, port)
        self._note(key, _REQUESTS, down_for > 0, message)
        self._tell(key, message)

    def checked(self, verdict: Heartbeat) -> None:
        """Heartbeats say this of a server."""
        key = (verdict.upstream, verdict.host, verdict.port)
        message = f"heartbeats: {verdict.message}"
        self._note(key, _HEARTBEATS, verdict.status == "err", message)
        self._checked[key] = verdict.status
        self._tell(key, message)

    def _tell(self, key: tuple[str, str, int], message: str) -> None:
        """Publish the status of a server if it is another one than before: the worse of what
        requests and heartbeats say."""
        status: Status = "err" if key in self._out else self._checked.get(key, "ok")
        if status == self._told.get(key, "unchecked"):
            return
        self._told[key] = status
        upstream, host, port = key
        reason = message if status in ("err", "unstable") else ""
        self._publish(Health(upstream, host_port(host, port), status, reason))

    def _note(self, key: tuple[str, str, int], cause: str, is_out: bool, message: str) -> None:
        """A server is out of service for this cause, or no longer for this cause."""
        causes = self._out.get(key)
        if is_out:
            if causes is not None:
                causes.add(cause)
                return
            self._out[key] = {cause}
        else:
            if causes is None or cause not in causes:
                return
            causes.remove(cause)
            if causes:
                return
            del self._out[key]
        upstream, host, port = key
        if not self._has_line():
            return
        server = host_port(host, port)
        if is_out:
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

    def ejected(self, extra: Ejection) -> None:
        """A server is ejected; it comes back by itself, which is not told."""
        server = host_port(extra.host, extra.port)
        self._publish(Health(extra.upstream, server, "err", extra.message, extra.seconds))
        if self._has_line():
            _log.warn(
                "upstream {upstream}: server {server} is ejected for {seconds:.0f} s: {message}",
                upstream=extra.upstream,
                server=server,
                seconds=extra.seconds,
                message=extra.message,
            )

    def _has_line(self) -> bool:
        """Whether this second has a line left; else it is counted for the next one."""
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
            return False
        return True

    def forget(self, upstream: str, gone: Collection[tuple[str, int]]) -> None:
        """Forget servers, by host and port, that the upstream no longer has."""
        for host, port in gone:
            for known in (self._out, self._checked, self._told):
                known.pop((upstream, host, port), None)
