"""The command: measure balancers, and write ``BALANCE.md`` after a whole run.

python -m benchmarks.balance                    everything, into benchmarks/BALANCE.md
python -m benchmarks.balance --quick            a tenth of it, printed only: a hint
python -m benchmarks.balance report             BALANCE.md again from balance.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.balancing.chart import draw
from benchmarks.balancing.report import brief, markdown
from benchmarks.machine import describe
from benchmarks.processes import Cores
from benchmarks.proxies import PROXIES, ROOT, SUBJECT

HERE = Path(__file__).resolve().parent
PICTURE = "balance.svg"
NUMBERS = "balance.json"


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.balance", description="Measure balancers."
    )
    parser.add_argument("action", nargs="?", choices=("run", "report"), default="run")
    parser.add_argument("--quick", action="store_true", help="a hint, not a result")
    parser.add_argument("--output", type=Path, help="folder for the report")
    return parser


def _measured(quick: bool) -> dict[str, Any]:
    """The figures, from a process of its own that imports the compiled slardar."""
    path = PROXIES[SUBJECT].environment["PYTHONPATH"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / NUMBERS
        command = [sys.executable, "-m", "benchmarks.balancing.measure", str(file)]
        subprocess.run(
            [*command, *(["--quick"] if quick else [])],
            # Not the checkout: Python would import it instead of the installed slardar.
            cwd="/",
            env={**os.environ, "PYTHONPATH": f"{path}:{ROOT}"},
            check=True,
        )
        found: dict[str, Any] = json.loads(file.read_text())
    facts = describe((), Cores())
    found["facts"] = {name: facts[name] for name in ("Date", "CPU", "Kernel", "Python")}
    return found


def _write(found: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NUMBERS).write_text(json.dumps(found, indent=1) + "\n")
    (folder / PICTURE).write_text(draw(found))
    (folder / "BALANCE.md").write_text(markdown(found, PICTURE))
    print(f"written: {folder / 'BALANCE.md'}")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it measured something, 1 if it could not."""
    arguments = _arguments().parse_args(words)
    folder = arguments.output or HERE
    if arguments.action == "report":
        _write(json.loads((folder / NUMBERS).read_text()), folder)
        return 0
    try:
        found = _measured(arguments.quick)
    except subprocess.CalledProcessError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    print(brief(found))
    if arguments.output or not arguments.quick:
        _write(found, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
