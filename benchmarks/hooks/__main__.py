"""The command: measure what hooks cost, print it, write ``HOOKS.md`` after a whole run.

python -m benchmarks.hooks                      everything
python -m benchmarks.hooks --quick              ten turns, two rounds of one second: a hint
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.backends import Backends
from benchmarks.hooks.contenders import CONTENDERS, LUA, PLAIN, PYTHON, HookField
from benchmarks.hooks.report import Inside, markdown, rows
from benchmarks.hooks.turns import Turn, measure_turns
from benchmarks.load import SERIES, Sample
from benchmarks.machine import describe
from benchmarks.processes import Cores, pinned, raise_file_limit
from benchmarks.proxies import PROXIES, ROOT, SUBJECT
from benchmarks.rounds import Plan, run_rounds

HERE = Path(__file__).resolve().parent.parent

#: The measurements that run in their own process: which, and in which language.
INSIDE = (
    *((what, language) for what in ("call", "loop", "memory") for language in (PYTHON, LUA)),
    ("other", PYTHON),
)
#: Seconds for each hook in a turn: so short that the machine's speed is the same for all.
TURN_SECONDS = 0.15


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hooks", description="Measure what hooks cost."
    )
    parser.add_argument("--turns", type=int, default=240, help="default 240")
    parser.add_argument("--rounds", type=int, default=9, help="default 9")
    parser.add_argument("--seconds", type=int, default=2, help="a run, default 2")
    parser.add_argument("--quick", action="store_true", help="a hint, not a result")
    parser.add_argument("--output", type=Path, help="folder for HOOKS.md (default: benchmarks/)")
    return parser


def say(line: str) -> None:
    print(line, flush=True)


def _inside(cores: Cores) -> Inside:
    """The figures that need no sockets, each measured in a fresh process.

    :raise RuntimeError: if a measurement fails.
    """
    path = PROXIES[SUBJECT].environment["PYTHONPATH"]
    environment = {**os.environ, "PYTHONPATH": f"{path}:{ROOT}"}
    values = {}
    for what, language in INSIDE:
        with pinned(frozenset({cores.proxy})):
            ran = subprocess.run(
                [sys.executable, "-m", "benchmarks.hooks.inside", what, language],
                # Not the checkout: Python would import it instead of the installed slardar.
                cwd="/",
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        if ran.returncode:
            raise RuntimeError(f"{what} {language}: {ran.stderr.strip()[-500:]}")
        values[what, language] = float(json.loads(ran.stdout.splitlines()[-1]))
        say(f"{what:6} {language:6} {values[what, language]:.2f}")
    return values


def _measure(
    folder: Path, cores: Cores, turns: int, plan: Plan
) -> tuple[list[Turn], list[Sample], list[str]]:
    backends = Backends(folder, cores.load)
    try:
        field = HookField(folder, cores, backends, say)
        try:
            for proxy in CONTENDERS.values():
                field.enter(proxy)
            taken: list[Turn] = []
            if PLAIN in field.running:
                say(f"{turns} turns of {TURN_SECONDS:g} s for each hook")
                subject = field.running[PLAIN]
                series = SERIES["small"]
                ports = backends.ports
                taken = measure_turns(subject, ports, series, cores, turns, TURN_SECONDS)
            samples = run_rounds(field, [SERIES["small"]], plan, say)
        finally:
            field.stop()
        return taken, samples, field.problems
    finally:
        backends.stop()


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0 if every figure was measured, 1 if not."""
    arguments = _arguments().parse_args(words)
    signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(143))
    raise_file_limit()
    plan = Plan(2, 1) if arguments.quick else Plan(arguments.rounds, arguments.seconds)
    turns = 10 if arguments.quick else arguments.turns
    cores = Cores()
    os.sched_setaffinity(0, cores.load)
    with tempfile.TemporaryDirectory(prefix="slardar-hooks-") as name:
        try:
            inside = _inside(cores)
            taken, samples, problems = _measure(Path(name), cores, turns, plan)
        except RuntimeError as error:
            print(f"benchmarks.hooks: {error}", file=sys.stderr)
            return 1
    found = rows(taken, samples, inside)
    for row in found:
        say(f"{row.figure}: {row.measured} ({row.target}) {row.verdict}")
    if arguments.output or not arguments.quick:
        folder = arguments.output or HERE
        folder.mkdir(parents=True, exist_ok=True)
        machine = describe(CONTENDERS.values(), cores)
        text = markdown(found, taken, samples, machine, plan, problems)
        (folder / "HOOKS.md").write_text(text)
        say(f"written: {folder / 'HOOKS.md'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
