"""The command: measure a shared store, print, write the report after a whole run.

python -m benchmarks.stores                     everything, into benchmarks/STORES.md
python -m benchmarks.stores --only reach,idle   printed
python -m benchmarks.stores --quick             a hint, in a fraction of the time
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.__main__ import names_of, say
from benchmarks.processes import Cores, raise_file_limit
from benchmarks.stores.consul import Consul, NoConsulError, program_of
from benchmarks.stores.followers import followers
from benchmarks.stores.idle import alone, idle
from benchmarks.stores.many import spread
from benchmarks.stores.reach import Servers, write_to_request
from benchmarks.stores.report import Findings, Reached, brief, markdown, missed
from benchmarks.stores.start import fill, start_seconds

__all__ = ["main"]

REPORT = Path(__file__).resolve().parent.parent / "STORES.md"
FLEET = Path(__file__).resolve().parents[2] / "examples" / "fleet" / "fleet.py"
#: Servers of the fleet, each of which is replaced in a rolling deploy.
FLEET_SERVERS = 6


class Plan:
    """How much of each is measured."""

    def __init__(self, is_quick: bool) -> None:
        self.changes = 20 if is_quick else 100
        self.rolls = 1 if is_quick else 9
        self.starts = 1 if is_quick else 3
        self.upstreams = 5000
        self.idle = 20.0 if is_quick else 60.0
        self.many = 20 if is_quick else 100


def _reach(found: Findings, folder: Path, plan: Plan) -> None:
    for follower in followers():
        for from_catalogue, what in ((False, "a key"), (True, "a registration")):
            place = folder / f"{follower.title}-{from_catalogue}"
            place.mkdir()
            consul, servers = Consul(place), Servers(place)
            proxy = follower(consul, from_catalogue)
            try:
                proxy.start(place, 2)
                times = write_to_request(proxy, servers, plan.changes)
            finally:
                proxy.stop()
                servers.stop()
                consul.stop()
            found.reached.append(Reached(follower.title, what, times))


def _roll(found: Findings, folder: Path, plan: Plan) -> None:
    ran = subprocess.run(
        [sys.executable, str(FLEET), "--rolls", str(plan.rolls)],
        env={**os.environ, "CONSUL": program_of()},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    counts = re.search(r"^requests: (.*); (\d+) failed$", ran.stdout, re.M)
    if counts is None:
        raise RuntimeError(f"the fleet ended with {ran.returncode}: {ran.stderr[-2000:]}")
    requests = sum(int(count) for count in re.findall(r"(\d+) by ", counts[1]))
    found.rolled = requests + int(counts[2]), int(counts[2]), plan.rolls * FLEET_SERVERS


def _start(found: Findings, folder: Path, plan: Plan) -> None:
    starts: tuple[list[float], list[float]] = ([], [])
    empty, full, servers = (folder / name for name in ("empty", "full", "servers"))
    for place in (empty, full, servers):
        place.mkdir()
    one, other, backends = Consul(empty), Consul(full), Servers(servers)
    try:
        last = fill(other, plan.upstreams, backends.ports[0])
        for _ in range(plan.starts):
            starts[0].append(start_seconds(one, empty, "no.example.com", 502, 2))
            starts[1].append(start_seconds(other, full, last, 200, 2))
    finally:
        for program in (one, other, backends):
            program.stop()
    found.starts = starts


def _idle(found: Findings, folder: Path, plan: Plan) -> None:
    found.alone = alone(folder, plan.idle)
    for from_catalogue, what in ((False, "the store"), (True, "the store and a service")):
        place = folder / f"idle-{from_catalogue}"
        place.mkdir()
        consul = Consul(place)
        try:
            asked = idle(consul, place, plan.idle, from_catalogue)
        finally:
            consul.stop()
        found.idle[what] = asked.requests, asked.core


def _many(found: Findings, folder: Path, plan: Plan) -> None:
    found.many, found.many_writes = spread(plan.many)


PARTS: dict[str, Callable[[Findings, Path, Plan], None]] = {
    "reach": _reach,
    "roll": _roll,
    "start": _start,
    "idle": _idle,
    "many": _many,
}


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0 if nothing went wrong and no figure is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stores",
        description="Measure slardar with a store that several nodes share.",
    )
    parser.add_argument(
        "--only",
        type=lambda text: names_of(text, list(PARTS)),
        default=list(PARTS),
        help=f"of {','.join(PARTS)}; default all",
    )
    parser.add_argument("--quick", action="store_true", help="a hint, not a result")
    parser.add_argument("--output", type=Path, help="folder for STORES.md, whatever was measured")
    arguments = parser.parse_args(words)
    # A SIGTERM must end the started programs, too.
    signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(143))
    raise_file_limit()
    plan = Plan(arguments.quick)
    found = Findings()
    failed = False
    with tempfile.TemporaryDirectory(prefix="slardar-stores-") as name:
        for part in arguments.only:
            place = Path(name) / part
            place.mkdir()
            try:
                PARTS[part](found, place, plan)
            except NoConsulError as error:
                found.left_out.append(f"{part}: {error}")
            except (RuntimeError, OSError) as error:
                found.left_out.append(f"{part}: {error}")
                failed = True
    say(brief(found))
    for line in found.left_out:
        say(line)
    output = arguments.output
    if output is None and not arguments.quick and set(arguments.only) == set(PARTS):
        output = REPORT.parent
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        facts = dict(machine.describe((), Cores()))
        del facts["wrk"], facts["Cores"]
        (output / REPORT.name).write_text(markdown(found, facts))
        say(f"written: {output / REPORT.name}")
    return 1 if failed or missed(found) else 0


if __name__ == "__main__":
    sys.exit(main())
