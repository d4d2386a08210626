"""The command: run the rows, print, and write the report after a whole run.

python -m benchmarks.soak                        everything, into benchmarks/SOAK.md
python -m benchmarks.soak --only signals         one part, printed
python -m benchmarks.soak --scale 0.1            a tenth of everything, printed
"""

from __future__ import annotations

import argparse
import os
import signal as unix
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.backends import Backends
from benchmarks.processes import raise_file_limit
from benchmarks.soak.calls import calls
from benchmarks.soak.changes import changes
from benchmarks.soak.deaths import deaths
from benchmarks.soak.machine import busy, describe
from benchmarks.soak.replaced import replaced
from benchmarks.soak.report import markdown
from benchmarks.soak.row import FULL, Row, Scale
from benchmarks.soak.signals import signals
from benchmarks.soak.site import Ground
from benchmarks.soak.throughput import throughput
from benchmarks.soak.tunnels import tunnels

__all__ = ["PARTS", "main"]

REPORT = Path(__file__).resolve().parent.parent / "SOAK.md"

Part = Callable[[Ground, Scale], list[Row]]
PARTS: dict[str, Part] = {
    part.__name__: part
    for part in (
        changes,
        signals,
        replaced,
        deaths,
        calls,
        tunnels,
        throughput,
    )
}


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return names


def _factor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected a number from 0.01 to 100, got {text!r}")
    return value


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description="Change and break slardar under load, and count what fails.",
    )
    parser.add_argument(
        "--only",
        type=_names,
        default=list(PARTS),
        help=f"of {','.join(PARTS)}; default all",
    )
    parser.add_argument(
        "--scale", type=_factor, default=1.0, help="so much of everything, default 1"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="file for the report (default: benchmarks/SOAK.md after a whole run,"
        " else only the terminal)",
    )
    return parser


def say(line: str) -> None:
    print(line, flush=True)


def run(names: Sequence[str], scale: Scale, ground: Ground) -> list[Row]:
    """The rows of these parts; a part that raises gives a missed row."""
    rows: list[Row] = []
    for name in names:
        others = busy()
        try:
            found = PARTS[name](ground, scale)
        except (RuntimeError, OSError) as error:
            found = [Row(name, "-", f"it broke: {error}")]
        found[0].notes.append(f"just before it, other programs used {others:.0%} of the cores")
        for row in found:
            ground.say(f"{row.figure}: {row.measured} ({row.target}), {row.verdict.strip('*')}")
            for note in row.notes:
                ground.say(f"    {note}")
        rows += found
    return rows


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0 only if every figure that has a target meets it."""
    arguments = _arguments().parse_args(words)
    # A SIGTERM must end the started programs, too.
    unix.signal(unix.SIGTERM, lambda _signum, _frame: sys.exit(143))
    raise_file_limit()
    cores = frozenset(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="slardar-soak-") as name:
        folder = Path(name)
        try:
            backends = Backends(folder, cores)
        except RuntimeError as error:
            print(f"soak: {error}", file=sys.stderr)
            return 1
        try:
            ground = Ground(folder, backends, say, cores)
            rows = run(arguments.only, FULL.times(arguments.scale), ground)
        finally:
            backends.stop()
    output = arguments.output
    if output is None and set(arguments.only) == set(PARTS) and arguments.scale >= 1:
        output = REPORT
    if output is not None:
        output.write_text(markdown(rows, describe()))
        say(f"written: {output}")
    return 0 if rows and all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
