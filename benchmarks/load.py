"""The kinds of load, and one run of one of them against one proxy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.handshakes import MARK
from benchmarks.pair import HOST, client_environment
from benchmarks.processes import LOOPBACK, Cores, pinned
from benchmarks.procfs import core_busy, cpu_of
from benchmarks.proxies import ROOT, Running

__all__ = ["SERIES", "LoadError", "Sample", "Series", "Wrk", "measure", "parse_wrk", "run_load"]

SCRIPT = Path(__file__).parent / "requests.lua"
#: A run with a larger share of failed requests is not counted.
ERROR_SHARE = 0.01


class LoadError(Exception):
    """A run failed; the message says why."""


@dataclass(frozen=True)
class Series:
    """One kind of load."""

    name: str
    title: str
    path: str = ""
    connections: int = 0
    close: bool = False
    tls: bool = False
    #: ``full`` or ``resumed`` where the load is handshakes and no requests.
    handshakes: str = ""

    @property
    def unit(self) -> str:
        """What is counted."""
        return "handshake" if self.handshakes else "request"


SERIES: Mapping[str, Series] = {
    series.name: series
    for series in (
        Series("small", "Small replies, 64 keep-alive connections", "/small", 64),
        Series("64k", "64 KiB replies, 64 keep-alive connections", "/64k", 64),
        Series("1m", "1 MiB replies, 16 keep-alive connections", "/1m", 16),
        Series("oneshot", "Small replies, a connection for each request", "/small", 64, True),
        Series("p99", "Small replies, 1,000 keep-alive connections", "/small", 1000),
        Series(
            "tls-small", "TLS: small replies, 64 keep-alive connections", "/small", 64, tls=True
        ),
        Series("tls-64k", "TLS: 64 KiB replies, 64 keep-alive connections", "/64k", 64, tls=True),
        Series("tls-1m", "TLS: 1 MiB replies, 16 keep-alive connections", "/1m", 16, tls=True),
        Series("handshakes", "TLS: full handshakes", tls=True, handshakes="full"),
        Series("resumed", "TLS: resumed handshakes", tls=True, handshakes="resumed"),
    )
}


@dataclass(frozen=True)
class Wrk:
    """The report of wrk, or of the program that makes handshakes, on a run."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: Mapping[str, int]

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


@dataclass(frozen=True)
class Sample:
    """One proxy under one kind of load in one round."""

    series: str
    proxy: str
    round: int
    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int
    #: The proxy's CPU microseconds for a request, by the fine clock and by the coarse
    #: clock; and the kernel's share of them (0 to 1), by the coarse clock.
    cpu_us: float
    cpu_ticks_us: float
    kernel_share: float
    #: The share of its core (0 to 1) that the proxy used, and that others used.
    core_share: float
    other_share: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def parse_wrk(output: str) -> Wrk:
    """Read the line that ``requests.lua`` and ``handshakes.py`` write at the end.

    :raise LoadError: if there is no such line, or no request was answered.
    """
    for line in output.splitlines():
        if line.startswith(MARK):
            fields: dict[str, Any] = json.loads(line[len(MARK) :])
            fields.pop("bytes")
            result = Wrk(**fields)
            if result.requests == 0:
                raise LoadError(f"no request was answered: {dict(result.errors)}")
            return result
    raise LoadError(f"wrk gave no result: {output.strip()[-500:]}")


def run_load(series: Series, running: Running, seconds: int, cores: frozenset[int]) -> Wrk:
    """Put load on a proxy for ``seconds`` (whole seconds: wrk takes no others).

    :raise LoadError: if the load failed or took far too long.
    """
    port = running.tls_port if series.tls else running.port
    if series.handshakes:
        command = [sys.executable, "-m", "benchmarks.handshakes"]
        command += [str(port), str(seconds), series.handshakes]
    else:
        command = ["wrk", "-t1", f"-c{series.connections}", f"-d{seconds}s"]
        command += ["--timeout", "10s", "--latency", "-s", str(SCRIPT)]
        # Clients name the host in TLS, as in the request.
        url = f"https://{HOST}:{port}" if series.tls else f"http://{LOOPBACK}:{port}"
        command += [url, "--", series.path]
        if series.close:
            command.append("close")
    try:
        with pinned(cores):
            ran = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=seconds + 30,
                check=False,
                cwd=ROOT,
                env={**os.environ, **client_environment(running.program.output.parent)},
            )
    except subprocess.TimeoutExpired as late:
        raise LoadError(f"the load did not end within {seconds + 30} s") from late
    return parse_wrk(ran.stdout + ran.stderr)


def measure(
    running: Running, series: Series, turn: int, seconds: int, warm_up: int, cores: Cores
) -> Sample:
    """Warm up one proxy, load it, and measure its CPU time.

    :raise LoadError: if requests failed or the proxy ended.
    """
    if warm_up:
        run_load(series, running, warm_up, cores.load)
    pids = running.program.pids()
    busy, cpu, began = core_busy(cores.proxy), cpu_of(pids), time.monotonic()
    wrk = run_load(series, running, seconds, cores.load)
    if not running.program.alive():
        raise LoadError("the proxy ended during the run")
    cpu, busy = cpu_of(pids) - cpu, core_busy(cores.proxy) - busy
    wall = time.monotonic() - began
    if wrk.failed > wrk.requests * ERROR_SHARE:
        raise LoadError(f"{wrk.failed} of {wrk.requests} requests failed: {dict(wrk.errors)}")
    return Sample(
        series=series.name,
        proxy=running.proxy.name,
        round=turn,
        requests=wrk.requests,
        seconds=wrk.seconds,
        p50_ms=wrk.p50_ms,
        p99_ms=wrk.p99_ms,
        failed=wrk.failed,
        cpu_us=cpu.run / wrk.requests * 1e6,
        cpu_ticks_us=cpu.ticks / wrk.requests * 1e6,
        kernel_share=cpu.system / cpu.ticks if cpu.ticks else 0.0,
        core_share=cpu.run / wall,
        other_share=max(0.0, busy - cpu.ticks) / wall,
    )
