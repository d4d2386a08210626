"""Reads CPU time and resident memory of a process and its children from Linux.

It reads two clocks, because each has a weakness.  ``schedstat`` counts the nanoseconds
that a thread was on a core, but forgets threads that have ended.  ``stat`` counts the
whole process, ended threads too, but in ticks of 10 ms.  In a run of some seconds both
should agree; the reports use the first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["Cpu", "Times", "core_busy", "cpu_of", "process_tree", "resident"]

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
MEBIBYTE = 1024 * 1024


class Times(NamedTuple):
    """CPU seconds of one process: by the exact clock, and by the coarse one in two parts."""

    run: float
    user: float
    system: float


@dataclass(frozen=True)
class Cpu:
    """CPU seconds of some processes since each began."""

    parts: Mapping[int, Times]

    def __sub__(self, earlier: Cpu) -> Cpu:
        """What they have used since; nothing for a process that has ended meanwhile."""
        none = Times(0.0, 0.0, 0.0)
        parts = {}
        for pid, now in self.parts.items():
            then = earlier.parts.get(pid, none)
            parts[pid] = Times(now.run - then.run, now.user - then.user, now.system - then.system)
        return Cpu(parts)

    @property
    def run(self) -> float:
        """All of it, by the exact clock."""
        return sum(times.run for times in self.parts.values())

    @property
    def user(self) -> float:
        """Outside of the kernel, by the coarse clock."""
        return sum(times.user for times in self.parts.values())

    @property
    def system(self) -> float:
        """In the kernel, by the coarse clock."""
        return sum(times.system for times in self.parts.values())

    @property
    def ticks(self) -> float:
        """All of it, by the coarse clock."""
        return self.user + self.system


def parse_stat(text: str) -> tuple[int, int, int]:
    """The parent's id, user ticks and system ticks from the text of ``/proc/PID/stat``.

    The command's name stands in parentheses and may hold spaces and
    parentheses itself, so fields are counted from the last parenthesis.
    """
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[1]), int(fields[11]), int(fields[12])


def process_tree(pid: int) -> list[int]:
    """``pid`` and all its living descendants."""
    parents: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = parse_stat((entry / "stat").read_text())[0]
            except OSError:  # the process ended meanwhile
                continue
    found = [pid]
    for known in found:
        found.extend(child for child, parent in parents.items() if parent == known)
    return found


def cpu_of(pids: list[int]) -> Cpu:
    """The CPU time of these processes so far, all their threads together; of those that live."""
    parts = {}
    for pid in pids:
        try:
            parts[pid] = _times_of(PROC / str(pid))
        except OSError:  # it ended, as slardar's checker of hooks does after a minute
            continue
    return Cpu(parts)


def _times_of(process: Path) -> Times:
    _, user, system = parse_stat((process / "stat").read_text())
    nanoseconds = 0
    for task in (process / "task").iterdir():
        try:
            nanoseconds += int((task / "schedstat").read_text().split()[0])
        except OSError:  # the thread ended
            continue
    return Times(nanoseconds / 1e9, user / TICKS, system / TICKS)


def core_busy(core: int) -> float:
    """Seconds since boot that a core was not idle, time stolen by the hypervisor included."""
    for line in (PROC / "stat").read_text().splitlines():
        name, *numbers = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _wait, irq, soft, steal = map(int, numbers[:8])
            return (user + nice + system + irq + soft + steal) / TICKS
    raise LookupError(f"no core {core} in /proc/stat")


def resident(pids: list[int]) -> float:
    """Resident memory of these processes in MiB (pages they share count twice)."""
    pages = 0
    for pid in pids:
        try:
            pages += int((PROC / str(pid) / "statm").read_text().split()[1])
        except OSError:  # the process ended
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE
