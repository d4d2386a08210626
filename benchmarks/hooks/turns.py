"""Measures what a hook adds to a request between sockets, within one process.

One slardar has all hooks, each for its own host, and there is one load for each host and one for
a host without a hook (:mod:`benchmarks.turns`).  Each turn gives one difference; the result is
the median of many turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.hooks.contenders import LUA, PLAIN, PYTHON, SCRIPTS
from benchmarks.hooks.control import activate, set_upstream
from benchmarks.load import Series
from benchmarks.processes import Cores
from benchmarks.proxies import Running
from benchmarks.turns import Turn, take_turns

__all__ = ["Added", "Turn", "added", "measure_turns"]


@dataclass(frozen=True)
class Added:
    """What a hook adds: the median of the turns, and the bounds of their middle half."""

    median: float
    low: float
    high: float


def added(turns: Sequence[Turn], state: str) -> Added | None:
    """What one hook adds, in CPU microseconds a request; None for less than two turns."""
    found = sorted(turn[state] - turn[PLAIN] for turn in turns)
    if len(found) < 2:
        return None
    low, median, high = statistics.quantiles(found, n=4, method="inclusive")
    return Added(median, low, high)


def measure_turns(
    running: Running,
    backends: Sequence[int],
    series: Series,
    cores: Cores,
    turns: int,
    seconds: float,
) -> list[Turn]:
    """Measure ``turns`` turns, with ``seconds`` for each hook and for no hook.

    ``backends`` are the local ports of the servers.

    :raise RuntimeError: if wrk or the proxy ends, or a hook is refused.
    """
    hosts = {PLAIN: "bench.example.com"}
    try:
        for language in (PYTHON, LUA):
            hosts[language] = host = f"{language}.example.com"
            set_upstream(running.control, host, backends)
            activate(running.control, language, f"script.{host}", SCRIPTS[language])
        return take_turns(running, hosts, series, cores, turns, seconds)
    except OSError as error:
        raise RuntimeError(f"{running.proxy.title}: {error}") from error
