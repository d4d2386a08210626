"""Measures what health costs a small request: heartbeats, retry budget and outliers.

    python -m benchmarks.health

One slardar has the same servers for two hosts, with all of these and with none of them; each
turn gives one ratio (:mod:`benchmarks.turns`).  Heartbeats cost a process the same whatever host
is asked, so :mod:`benchmarks.heartbeats` measures them apart.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.backends import Backends
from benchmarks.check import CheckError, wait_until_ready
from benchmarks.hooks.control import set_upstream
from benchmarks.load import SERIES
from benchmarks.processes import Cores, raise_file_limit
from benchmarks.proxies import PROXIES, SUBJECT, Running, version_of
from benchmarks.turns import Turn, take_turns

__all__ = ["main", "spread_of"]

OFF, ON = "off", "on"
#: The keys of the two upstreams.
KEYS: dict[str, dict[str, object]] = {
    OFF: {"enable": False, "retry_budget": None},
    ON: {"interval": 1, "retry_budget": {}, "outlier": {}},
}
#: Seconds for each of the two in a turn: so short that the machine's speed is the same for both.
TURN_SECONDS = 0.15
#: The ratio that must be reached.
TARGET = 1.03


def spread_of(turns: Sequence[Turn]) -> tuple[float, float, float]:
    """The ratio of the CPU time of a request with all of it, to that without: the lower bound
    of the middle half of the turns, the median, and the upper bound."""
    low, median, high = statistics.quantiles(
        [turn[ON] / turn[OFF] for turn in turns], n=4, method="inclusive"
    )
    return low, median, high


def _measure(folder: Path, cores: Cores, turns: int) -> list[Turn]:
    backends = Backends(folder, cores.load)
    try:
        running = Running.start(PROXIES[SUBJECT], folder, cores.proxy, backends.places)
        try:
            wait_until_ready(running)
            for state, keys in KEYS.items():
                set_upstream(running.control, _host(state), backends.ports, **keys)
            hosts = {state: _host(state) for state in KEYS}
            return take_turns(running, hosts, SERIES["small"], cores, turns, TURN_SECONDS)
        finally:
            running.stop()
    finally:
        backends.stop()


def _host(state: str) -> str:
    return f"{state}.example.com"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the ratio was measured, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.health", description="Measure what health costs a request."
    )
    parser.add_argument("--turns", type=int, default=240, help="default 240; at least 2")
    arguments = parser.parse_args(words)
    # A SIGTERM must end the started programs, too.
    signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(143))
    raise_file_limit()
    cores = Cores()
    os.sched_setaffinity(0, cores.load)
    with tempfile.TemporaryDirectory(prefix="slardar-health-") as name:
        try:
            turns = _measure(Path(name), cores, max(2, arguments.turns))
        except (RuntimeError, OSError, CheckError) as error:
            print(f"benchmarks.health: {error}", file=sys.stderr)
            return 1
    low, median, high = spread_of(turns)
    off = statistics.median(turn[OFF] for turn in turns)
    print(f"slardar {version_of(PROXIES[SUBJECT])}, {len(turns)} turns of {TURN_SECONDS:g} s")
    print(
        f"CPU of a small request with heartbeats, retry budget and outliers, ratio to without: "
        f"{median:.3f} ({low:.3f} to {high:.3f} in half of the turns), of {off:.1f} µs; "
        f"{'reached' if median <= TARGET else 'missed'}: at most {TARGET}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
