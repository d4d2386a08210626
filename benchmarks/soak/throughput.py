"""Compares two workers with one, on the cores of this machine."""

from __future__ import annotations

import os
import time

from benchmarks.procfs import cpu_of
from benchmarks.soak.clients import nap
from benchmarks.soak.load import Wrk
from benchmarks.soak.row import Row, Scale, number
from benchmarks.soak.site import Ground, Site

__all__ = ["throughput"]

CONNECTIONS = 64


def throughput(ground: Ground, scale: Scale) -> list[Row]:
    """Replies a second with one worker and with two."""
    row = Row("throughput of 2 workers against 1", "as it is on this machine")
    rates: list[float] = []
    failed = 0
    for workers in (1, 2):
        with Site(ground, f"throughput-{workers}", workers=workers) as site:
            pids = list(site.pids().values())
            with Wrk(site.port, CONNECTIONS) as wrk:
                nap(0.5)
                before, begin = cpu_of(pids), time.monotonic()
                nap(scale.throughput)
                used = (cpu_of(pids) - before).run / (time.monotonic() - begin)
            rates.append(wrk.per_second)
            failed += wrk.failed
        row.notes.append(
            f"{workers}: {number(wrk.per_second)} replies a second, p99 {wrk.p99_ms:.1f} ms, "
            f"slardar used {used:.2f} of {os.cpu_count()} cores"
        )
    row.measured = f"{rates[1] / rates[0]:.2f} times"
    row.met = None if not failed else False
    row.notes.append(
        f"wrk and the backends share the {os.cpu_count()} cores with slardar: a second worker "
        "has a core to itself only where there are more of them than all of these use"
    )
    if failed:
        row.notes.append(f"{failed} requests failed")
    return [row]
