"""The command: measure, print, and write the report after a whole run.

python -m benchmarks                      everything, into benchmarks/RESULTS.md
python -m benchmarks --quick --only small --proxies slardar,nginx-lua
python -m benchmarks profile              where slardar's time goes under load
python -m benchmarks report               RESULTS.md again from results.json
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.backends import Backends
from benchmarks.check import CheckError, wait_until_ready
from benchmarks.load import SERIES
from benchmarks.machine import describe
from benchmarks.memory import download, idle_clients
from benchmarks.picture import draw
from benchmarks.processes import Cores, raise_file_limit
from benchmarks.profiling import profile
from benchmarks.proxies import LOGGED, PROXIES, SUBJECT, Proxy, Running
from benchmarks.report import brief, markdown
from benchmarks.results import Results
from benchmarks.rounds import Field, Plan, run_rounds
from benchmarks.update import measure_updates

HERE = Path(__file__).parent
PICTURE = "results.svg"
#: The proxies that are compared unless others are asked for.
USUAL = [name for name in PROXIES if name not in LOGGED]
#: Long enough to fill every buffer between server and client.
DOWNLOAD_SECONDS = 8.0
PARTS = (*SERIES, "memory", "tls-memory", "download", "update")


def names_of(text: str, allowed: Sequence[str]) -> list[str]:
    """The names in ``text``, each of which must be allowed."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in allowed:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
    return names


def _whole(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, got {text!r}")
    return value


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure slardar beside other proxies on this machine.",
    )
    parser.add_argument("action", nargs="?", choices=("run", "profile", "report"), default="run")
    parser.add_argument("--rounds", type=_whole, default=5, help="default 5")
    parser.add_argument("--seconds", type=_whole, default=3, help="a run, default 3")
    parser.add_argument(
        "--only",
        type=lambda text: names_of(text, PARTS),
        default=list(PARTS),
        help=f"of {','.join(PARTS)}; default all",
    )
    parser.add_argument(
        "--proxies",
        type=lambda text: names_of(text, list(PROXIES)),
        default=USUAL,
        help=f"of {','.join(PROXIES)}; default all but {','.join(LOGGED)}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of one second: a hint, not a result"
    )
    parser.add_argument(
        "--command",
        help="starts slardar instead; may hold @{port}, @{tls_port}, @{control}, @{backend_a},"
        " @{backend_b} and @{folder}, which has pair.pem",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for RESULTS.md, results.json and the picture"
        " (default: benchmarks/ after a whole run, else only the terminal)",
    )
    return parser


def _chosen(arguments: argparse.Namespace) -> Mapping[str, Proxy]:
    chosen = {name: PROXIES[name] for name in arguments.proxies}
    if arguments.command and SUBJECT in chosen:
        command = tuple(shlex.split(arguments.command))
        chosen[SUBJECT] = dataclasses.replace(chosen[SUBJECT], command=command)
    return chosen


def say(line: str) -> None:
    print(line, flush=True)


def _measure_memory(
    results: Results,
    kind: str,
    proxies: Sequence[Proxy],
    folder: Path,
    cores: Cores,
    backends: Backends,
    seconds: float,
) -> None:
    """Measure each proxy alone and freshly started: its memory holds nothing from before."""
    for proxy in proxies:
        if kind == "tls-memory" and not proxy.speaks_tls:
            continue
        try:
            running = Running.start(proxy, folder, cores.proxy, backends.places)
            try:
                wait_until_ready(running)
                if kind == "download":
                    use = download(running, seconds)
                else:
                    use = idle_clients(running, kind == "tls-memory")
            finally:
                running.stop()
        except (RuntimeError, OSError, CheckError) as error:
            results.problems.append(f"{proxy.title}, {kind}: {error}")
            continue
        results.memory.append(use)
        say(
            f"{kind:10} {proxy.name:13} idle {use.idle_mib:.1f} MiB, above it {use.above_mb:.1f} MB"
        )


def _measure(arguments: argparse.Namespace, folder: Path) -> Results:
    """Measure everything that was asked for; failed measurements are among the problems."""
    rounds, seconds = (2, 1) if arguments.quick else (arguments.rounds, arguments.seconds)
    chosen = _chosen(arguments)
    cores = Cores()
    # This process has the clients of the memory figures: keep it off the proxy's core.
    os.sched_setaffinity(0, cores.load)
    results = Results(describe(chosen.values(), cores), rounds, seconds)
    if {cores.proxy} == cores.load:
        results.problems.append("There is one core only: proxy, load and backends shared it.")
    present = [proxy for proxy in chosen.values() if proxy.find() is not None]
    for proxy in chosen.values():
        if proxy not in present:
            results.problems.append(f"{proxy.title} is not installed.")
    series = [SERIES[name] for name in arguments.only if name in SERIES]
    if set(arguments.only) != {"update"}:
        backends = Backends(folder, cores.load)
        try:
            if series:
                field = Field(folder, cores, backends, say)
                try:
                    for proxy in present:
                        field.enter(proxy)
                    results.samples = run_rounds(field, series, Plan(rounds, seconds), say)
                finally:
                    field.stop()
                results.problems.extend(field.problems)
            for kind in ("memory", "tls-memory", "download"):
                if kind in arguments.only:
                    span = 3.0 if arguments.quick else DOWNLOAD_SECONDS
                    _measure_memory(results, kind, present, folder, cores, backends, span)
        finally:
            backends.stop()
    if "update" in arguments.only:
        try:
            results.update = measure_updates()
        except (ImportError, RuntimeError) as error:
            results.problems.append(f"The update among 10,000 upstreams: {error}")
    return results


def _write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / "results.json")
    drawing = draw(results)
    if drawing is not None:
        (folder / PICTURE).write_text(drawing)
    (folder / "RESULTS.md").write_text(markdown(results, PICTURE if drawing else None))
    say(f"written: {folder / 'RESULTS.md'}")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it measured something, 1 if it could not."""
    arguments = _arguments().parse_args(words)
    # A SIGTERM must end the started programs, too.
    signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(143))
    raise_file_limit()
    if arguments.action == "report":
        folder = arguments.output or HERE
        _write(Results.load(folder / "results.json"), folder)
        return 0
    with tempfile.TemporaryDirectory(prefix="slardar-bench-") as name:
        folder = Path(name)
        try:
            if arguments.action == "profile":
                series = next(SERIES[part] for part in arguments.only if part in SERIES)
                subject = _chosen(arguments)[SUBJECT]
                profile(subject, series, folder, arguments.seconds, arguments.output, say)
                return 0
            results = _measure(arguments, folder)
        except RuntimeError as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 1
    whole = not arguments.quick and set(arguments.only) == set(PARTS)
    if arguments.output or (whole and set(arguments.proxies) == set(USUAL)):
        _write(results, arguments.output or HERE)
    else:
        say(brief(results))
    return 0 if results.samples or results.memory or results.update else 1


if __name__ == "__main__":
    sys.exit(main())
