"""Shows where slardar's time goes under load.

It uses py-spy, which looks at the process from outside and slows it little.  Without
py-spy it uses cProfile through twistd's own option, which doubles the cost of every call
and so overstates small functions.
"""

from __future__ import annotations

import dataclasses
import io
import pstats
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.backends import Backends
from benchmarks.check import wait_until_ready
from benchmarks.load import Series, run_load
from benchmarks.processes import Cores, Program, find_program
from benchmarks.proxies import Proxy, Running
from benchmarks.rounds import Say

__all__ = ["profile", "shares"]

SAMPLES_A_SECOND = 400
#: The number of rows shown.
ROWS = 30
LINE_NUMBER = re.compile(r":\d+\)")


def shares(stacks: Iterable[str], by_line: bool) -> tuple[Counter[str], Counter[str]]:
    """Samples in each function (or line) itself, and in it and the functions it called.

    ``stacks`` are py-spy's raw lines: frames separated by ``;``, outermost first,
    then a space and the number of samples.  A frame is ``name (file:line)``.
    """
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        if not by_line:
            stack = LINE_NUMBER.sub(")", stack)
        frames = (stack or "outside Python").split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    return own, total


def profile(
    proxy: Proxy, series: Series, folder: Path, seconds: int, output: Path | None, say: Say
) -> None:
    """Load slardar for ``seconds`` and print the functions that took its time.

    ``output`` is a folder for the raw profile, or None.

    :raise RuntimeError: if slardar or the backends cannot be started, or py-spy fails.
    """
    sampler = find_program("py-spy")
    raw = (output or folder).absolute() / f"profile-{series.name}"
    raw.parent.mkdir(parents=True, exist_ok=True)
    if sampler is None:
        if Path(proxy.command[0]).name != "twistd":
            raise RuntimeError("without py-spy only a command that begins with twistd is profiled")
        options = (f"--profile={raw}", "--profiler=cprofile")
        proxy = dataclasses.replace(proxy, command=(proxy.command[0], *options, *proxy.command[1:]))
    cores = Cores()
    backends = Backends(folder, cores.load)
    try:
        running = Running.start(proxy, folder, cores.proxy, backends.places)
        try:
            wait_until_ready(running)
            run_load(series, running, 1, cores.load)
            if sampler is None:
                run_load(series, running, seconds, cores.load)
            else:
                _sample(sampler, running, series, seconds, folder, raw, cores)
        finally:
            # twistd writes cProfile's numbers when it is told to stop.
            running.program.stop(signal.SIGINT, 10.0)
    finally:
        backends.stop()
    say(_from_cprofile(raw) if sampler is None else _from_stacks(raw))
    if output is not None:
        say(f"raw profile: {raw}")


def _sample(
    sampler: str,
    running: Running,
    series: Series,
    seconds: int,
    folder: Path,
    raw: Path,
    cores: Cores,
) -> None:
    """Let py-spy take samples under load."""
    command = [sampler, "record", "--pid", str(running.program.pid), "--nonblocking"]
    command += ["--rate", str(SAMPLES_A_SECOND), "--duration", str(seconds)]
    command += ["--format", "raw", "--output", str(raw)]
    watching = Program("py-spy", command, cores.load, folder)
    try:
        run_load(series, running, seconds + 1, cores.load)
        watching.wait(seconds + 15.0)
    except subprocess.TimeoutExpired as late:
        raise RuntimeError("py-spy did not end") from late
    finally:
        watching.stop()
    if not raw.exists():
        raise RuntimeError(f"py-spy wrote nothing: {watching.output.read_text()[-500:]}")


def _from_stacks(raw: Path) -> str:
    stacks = raw.read_text().splitlines()
    lines = ["Share of the time in it alone, and together with what it called."]
    for by_line, title in ((False, "By function:"), (True, "By line:")):
        own, total = shares(stacks, by_line)
        everything = sum(own.values()) or 1
        lines += ["", f"{title} ({everything} samples)"]
        for frame, count in own.most_common(ROWS):
            lines.append(f"{count / everything:6.1%} {total[frame] / everything:6.1%}  {frame}")
    return "\n".join(lines)


def _from_cprofile(raw: Path) -> str:
    text = io.StringIO()
    pstats.Stats(str(raw), stream=text).sort_stats("tottime").print_stats(ROWS)
    return text.getvalue()
