"""How long a pick takes."""

from __future__ import annotations

import time
from statistics import median
from typing import Any, NamedTuple

from benchmarks.balancing.modes import Mode, balancer, peers, request
from slardar.balancers.base import Outcome

__all__ = ["PickTime", "pick_time"]

#: Requests that take turns; a slot of the hash is computed when it is first asked for, and
#: these are asked for before.
_REQUESTS = 2000
#: Requests under way.
_ACTIVE = 500


class PickTime(NamedTuple):
    """Microseconds of CPU time."""

    #: The call of ``pick``.
    pick: float
    #: ``pick`` and what the balancer is told of the request: its begin and its end.
    request: float
    #: The first ``pick`` of a path whose slot no request had before; the mean.
    first: float


def pick_time(mode: Mode, count: int, turns: int) -> PickTime:
    """The median of ``turns`` turns over all requests."""
    servers = peers(count)
    made = balancer(mode, servers)
    some = [_returning(made, servers, number) for number in range(_REQUESTS)]
    fresh = [request(number) for number in range(10_000, 10_200)]
    first = _timed(made, servers, fresh)
    _timed(made, servers, some)
    picks = [_timed(made, servers, some) for _ in range(turns)]
    whole = [_told(made, servers, some) for _ in range(turns)]
    return PickTime(median(picks), median(whole), first)


def _returning(made: Any, servers: Any, number: int) -> Any:
    """A request with the cookie that the balancer gives for a server, if it gives any."""
    headers = made.reply_headers(servers[number % len(servers)], request(number))
    return request(number, headers[0][1].decode().partition(";")[0] if headers else "")


def _timed(made: Any, servers: Any, requests: list[Any]) -> float:
    """Microseconds a pick, with the loop around it."""
    pick = made.pick
    begin = time.thread_time()
    for one in requests:
        pick(servers, one)
    return (time.thread_time() - begin) * 1e6 / len(requests)


def _told(made: Any, servers: Any, requests: list[Any]) -> float:
    """The same with requests under way, of which the balancer is told if it wants to be."""
    told = made.is_told
    outcome = Outcome(False, 0.02, 200)
    active: list[Any] = []
    begin = time.thread_time()
    for number, one in enumerate(requests):
        peer = made.pick(servers, one)
        if told:
            made.started(peer)
        peer.live.active += 1
        active.append(peer)
        if number >= _ACTIVE:
            ended = active[number - _ACTIVE]
            ended.live.active -= 1
            if told:
                made.finished(ended, outcome)
    spent = time.thread_time() - begin
    for ended in active[-_ACTIVE:]:
        ended.live.active -= 1
        if told:
            made.finished(ended, outcome)
    return spent * 1e6 / len(requests)
