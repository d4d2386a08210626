"""The results of one run, and their way into a file and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import CPU_OF_MANY, TIMES_CHEAPER, Spread, ratios, spread
from benchmarks.load import Sample
from benchmarks.memory import MemoryUse
from benchmarks.proxies import REFERENCE, SUBJECT, TWISTED
from benchmarks.update import UpdateTime

__all__ = ["Results"]


@dataclass
class Results:
    """The raw numbers of one run."""

    machine: Mapping[str, str]
    rounds: int
    seconds: int
    samples: list[Sample] = field(default_factory=list)
    memory: list[MemoryUse] = field(default_factory=list)
    update: UpdateTime | None = None
    #: Failed measurements and the reasons, one line each.
    problems: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read a file that :meth:`save` wrote.

        :raise OSError: if there is no such file.
        """
        fields = json.loads(path.read_text())
        fields["samples"] = [Sample(**sample) for sample in fields["samples"]]
        fields["memory"] = [MemoryUse(**use) for use in fields["memory"]]
        fields["update"] = UpdateTime(**fields["update"]) if fields["update"] else None
        return cls(**fields)

    def of(self, series: str, proxy: str) -> list[Sample]:
        """The samples of one proxy under one kind of load."""
        return [
            sample for sample in self.samples if (sample.series, sample.proxy) == (series, proxy)
        ]

    def cpu_ratio(self, series: str, proxy: str) -> Spread | None:
        """CPU per request, divided by the reference's in the same round."""
        return spread(ratios(self.samples, series, proxy, REFERENCE, lambda found: found.cpu_us))

    def p99_ratio(self, series: str, proxy: str) -> Spread | None:
        return spread(ratios(self.samples, series, proxy, REFERENCE, lambda found: found.p99_ms))

    def value_of(self, key: str) -> Spread | None:
        """The value of one promised figure, or None if it was not measured."""
        if key == TIMES_CHEAPER:
            cpu = ratios(self.samples, "small", TWISTED, SUBJECT, lambda found: found.cpu_us)
            return spread(cpu)
        if key == CPU_OF_MANY:
            return self.cpu_ratio("p99", SUBJECT)
        if key in ("handshakes", "resumed"):
            # A rate on one core, where the others are costs.
            return spread(ratios(self.samples, key, REFERENCE, SUBJECT, lambda found: found.cpu_us))
        if key in ("memory", "tls-memory", "download"):
            return spread(
                [use.above_mb for use in self.memory if use.kind == key and use.proxy == SUBJECT]
            )
        if key == "update":
            times = self.update
            if times is None:
                return None
            return Spread(times.median_ms, times.low_ms, times.high_ms)
        return self.p99_ratio(key, SUBJECT) if key == "p99" else self.cpu_ratio(key, SUBJECT)
