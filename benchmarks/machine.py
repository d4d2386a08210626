"""Describes the machine and the programs of the measurements."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.processes import Cores, find_program
from benchmarks.proxies import Proxy, version_of

__all__ = ["describe"]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _first_line(command: Iterable[str]) -> str:
    ran = subprocess.run(list(command), capture_output=True, text=True, timeout=20, check=False)
    lines = (ran.stdout + ran.stderr).splitlines()
    return lines[0].strip() if lines else "unknown"


def _packages() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("twisted", "httptools", "msgspec", "RestrictedPython", "lupa", "google-re2"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def describe(proxies: Iterable[Proxy], cores: Cores) -> Mapping[str, str]:
    """Names and values for the report: machine, date, and the version of each program."""
    wrk = find_program("wrk")
    shared = "the same core (there is only one)" if {cores.proxy} == cores.load else "the rest"
    facts = {
        "Date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "Cores": f"the proxy on core {cores.proxy}, the load and the backends on {shared}",
        "Kernel": platform.release(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Packages": _packages(),
        "wrk": _first_line([wrk, "-v"]) if wrk else "not installed",
    }
    for proxy in proxies:
        facts[proxy.title] = version_of(proxy) or "not installed"
    return facts
