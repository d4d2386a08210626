"""Compares hosts of one slardar: each is loaded for a fraction of a second, turn after turn.

Two equal processes differ by some percent, and so does one process half a minute later.  So
what is compared is set up side by side in one process, each for its own host, with one load for
each host.  Only one load runs at a time.  Each turn compares all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from benchmarks.hooks.control import requests_of
from benchmarks.load import SCRIPT, Series
from benchmarks.processes import LOOPBACK, Cores, Program, find_program
from benchmarks.procfs import cpu_of
from benchmarks.proxies import Running

__all__ = ["Turn", "take_turns"]

#: CPU microseconds of a request, by what is compared.
Turn = Mapping[str, float]

#: Seconds for a load to connect, and to go on after it was stopped.
_BEGIN, _SETTLE = 1.0, 0.02


def take_turns(
    running: Running,
    hosts: Mapping[str, str],
    series: Series,
    cores: Cores,
    turns: int,
    seconds: float,
) -> list[Turn]:
    """Load each of the ``hosts`` for ``seconds``, ``turns`` times; ``hosts`` are named by what
    is compared.

    :raise OSError: if the control channel does not answer.
    :raise RuntimeError: if wrk or the proxy ends.
    """
    with ExitStack() as stack:
        loads: dict[str, Program] = {}
        for state, host in hosts.items():
            # Twice the time of all turns, for the pauses between them.
            limit = int((seconds + _SETTLE) * len(hosts) * turns * 2) + 60
            loads[state] = load = _wrk(running, series, state, host, cores, limit)
            stack.callback(load.stop)
            load.pause(_BEGIN)
            load.freeze()
            stack.callback(load.thaw)
        return [_turn(running, loads, turn, seconds) for turn in range(turns)]


def _wrk(
    running: Running, series: Series, state: str, host: str, cores: Cores, seconds: int
) -> Program:
    command = [find_program("wrk") or "wrk", "-t1", f"-c{series.connections}", f"-d{seconds}s"]
    command += ["-s", str(SCRIPT), f"http://{LOOPBACK}:{running.port}"]
    command += ["--", series.path, "keep-alive", host]
    return Program(f"wrk-{state}", command, cores.load, running.program.output.parent)


def _turn(running: Running, loads: Mapping[str, Program], turn: int, seconds: float) -> Turn:
    """Run each load once; every turn begins with another load."""
    states = list(loads)
    start = turn % len(states)
    costs: dict[str, float] = {}
    for state in states[start:] + states[:start]:
        load = loads[state]
        load.thaw()
        load.pause(_SETTLE)
        requests, before = requests_of(running.control), cpu_of(running.program.pids())
        load.pause(seconds)
        cpu = (cpu_of(running.program.pids()) - before).run
        requests = requests_of(running.control) - requests
        load.freeze()
        costs[state] = cpu / requests * 1e6
    return costs
