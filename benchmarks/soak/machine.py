"""Describes the machine and the programs of a soak."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from benchmarks import machine
from benchmarks.processes import Cores
from benchmarks.procfs import core_busy
from benchmarks.proxies import PROXIES, SUBJECT
from benchmarks.soak.clients import nap

__all__ = ["busy", "describe"]


def describe() -> Mapping[str, str]:
    """Names and values for the report, as in the benchmarks."""
    facts = dict(machine.describe([PROXIES[SUBJECT]], Cores()))
    count = len(os.sched_getaffinity(0))
    facts["Cores"] = f"{count}, for slardar, wrk, the strict clients and the backends together"
    facts["Machine"] = f"{platform.machine()}, {os.getloadavg()[0]:.1f} of load at the end"
    return facts


def busy(seconds: float = 0.5) -> float:
    """The share (0 to 1) of the cores that others use now, while the soak rests."""
    cores = os.sched_getaffinity(0)
    before = sum(map(core_busy, cores))
    nap(seconds)
    return min(1.0, (sum(map(core_busy, cores)) - before) / seconds / len(cores))
