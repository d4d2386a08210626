"""Measures what a hook adds to a request between sockets, within one process.

Two equal processes differ by more than a hook costs, and so does one process half a minute
later.  So one slardar has all hooks, each for its own host, and there is one load for each
host and one for a host without a hook.  Only one load runs at a time, for a fraction of a
second.  Each turn gives one difference; the result is the median of many turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.hooks.contenders import LUA, PLAIN, PYTHON, SCRIPTS
from benchmarks.hooks.control import activate, requests_of, set_upstream
from benchmarks.load import SCRIPT, Series
from benchmarks.processes import LOOPBACK, Cores, Program, find_program
from benchmarks.procfs import cpu_of
from benchmarks.proxies import Running

__all__ = ["Added", "Turn", "added", "measure_turns"]

#: CPU microseconds of a request without a hook, and with a hook in each language.
Turn = Mapping[str, float]

_STATES = (PLAIN, PYTHON, LUA)
#: Seconds for a load to connect, and to go on after it was stopped.
_BEGIN, _SETTLE = 1.0, 0.02


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
    with ExitStack() as stack:
        try:
            for language in (PYTHON, LUA):
                host = _host(language)
                set_upstream(running.control, host, backends)
                activate(running.control, language, f"script.{host}", SCRIPTS[language])
            loads: dict[str, Program] = {}
            for state in _STATES:
                # Twice the time of all turns, for the pauses between them.
                limit = int((seconds + _SETTLE) * len(_STATES) * turns * 2) + 60
                loads[state] = load = _wrk(running, series, state, cores, limit)
                stack.callback(load.stop)
                load.pause(_BEGIN)
                load.freeze()
                stack.callback(load.thaw)
            return [_turn(running, loads, turn, seconds) for turn in range(turns)]
        except OSError as error:
            raise RuntimeError(f"{running.proxy.title}: {error}") from error


def _host(state: str) -> str:
    return "bench.example.com" if state == PLAIN else f"{state}.example.com"


def _wrk(running: Running, series: Series, state: str, cores: Cores, seconds: int) -> Program:
    command = [find_program("wrk") or "wrk", "-t1", f"-c{series.connections}", f"-d{seconds}s"]
    command += ["-s", str(SCRIPT), f"http://{LOOPBACK}:{running.port}"]
    command += ["--", series.path, "keep-alive", _host(state)]
    return Program(f"wrk-{state}", command, cores.load, running.program.output.parent)


def _turn(running: Running, loads: Mapping[str, Program], turn: int, seconds: float) -> Turn:
    """Run each load once; every turn begins with another load."""
    start = turn % len(_STATES)
    costs: dict[str, float] = {}
    for state in _STATES[start:] + _STATES[:start]:
        load = loads[state]
        load.thaw()
        load.pause(_SETTLE)
        requests, cpu = requests_of(running.control), cpu_of(running.program.pids()).run
        load.pause(seconds)
        cpu = cpu_of(running.program.pids()).run - cpu
        requests = requests_of(running.control) - requests
        load.freeze()
        costs[state] = cpu / requests * 1e6
    return costs
