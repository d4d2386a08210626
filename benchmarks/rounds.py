"""Runs every kind of load against every proxy, in rounds, in rotating order.

The machine's speed changes from minute to minute.  So the proxies take short turns under
the same load, and each is compared only with the reference of the same round.  The report
shows the median of these ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.backends import Backends
from benchmarks.check import CheckError, check
from benchmarks.load import LoadError, Sample, Series, measure
from benchmarks.processes import Cores
from benchmarks.proxies import Proxy, Running

__all__ = ["Field", "Plan", "Say", "order", "run_rounds"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much is measured: rounds, and whole seconds of a run and of its warm-up."""

    rounds: int
    seconds: int
    warm_up: int = 1


def order(names: Sequence[str], turn: int) -> list[str]:
    """The names in rotated order: each turn begins with the next name."""
    start = turn % len(names) if names else 0
    return [*names[start:], *names[:start]]


class Field:
    """The proxies that take part: started once, checked, and kept running."""

    def __init__(self, folder: Path, cores: Cores, backends: Backends, say: Say) -> None:
        self.cores = cores
        self.running: dict[str, Running] = {}
        #: Problems, one line each.
        self.problems: list[str] = []
        self._folder = folder
        self._backends = backends
        self._say = say

    def problem(self, line: str) -> None:
        """Print a problem, and keep it for the report."""
        self._say(line)
        self.problems.append(line)

    def enter(self, proxy: Proxy) -> None:
        """Start a proxy; if it does not work, name it in ``problems`` and leave it out."""
        try:
            started = Running.start(proxy, self._folder, self.cores.proxy, self._backends.places)
        except RuntimeError as error:
            self.problem(f"{proxy.title} is left out: {error}")
            return
        try:
            check(started, self._backends.ports)
        except (CheckError, RuntimeError) as error:
            started.stop()
            self.problem(f"{proxy.title} is left out, its replies are wrong: {error}")
        except BaseException:
            started.stop()
            raise
        else:
            self.running[proxy.name] = started

    def start_again(self, name: str) -> None:
        """Restart a proxy that failed: it might stay broken, or keep its core busy."""
        failed = self.running.pop(name)
        failed.stop()
        self.enter(failed.proxy)

    def stop(self) -> None:
        for started in self.running.values():
            started.stop()


def run_rounds(field: Field, series: Sequence[Series], plan: Plan, say: Say) -> list[Sample]:
    """Measure the series; a failed run is named in ``field.problems`` and has no sample."""
    samples: list[Sample] = []
    names = list(field.running)
    for turn in range(plan.rounds):
        for kind in series:
            for name in order(names, turn):
                if name not in field.running:
                    continue
                if kind.tls and not field.running[name].proxy.speaks_tls:
                    continue
                try:
                    sample = measure(
                        field.running[name], kind, turn, plan.seconds, plan.warm_up, field.cores
                    )
                except LoadError as error:
                    title = field.running[name].proxy.title
                    field.problem(f"{title}, {kind.title}, round {turn + 1}: {error}")
                    field.start_again(name)
                    continue
                samples.append(sample)
                say(
                    f"round {turn + 1}/{plan.rounds} {kind.name:10} {name:13} "
                    f"{sample.cpu_us:8.1f} µs/{kind.unit} ({sample.kernel_share:3.0%} kernel) "
                    f"{sample.per_second:8.0f}/s  p99 {sample.p99_ms:7.1f} ms"
                )
    return samples
