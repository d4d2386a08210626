"""The command: break one server behind each proxy, print, write the report after a whole run.

python -m benchmarks.failover                              everything, into benchmarks/FAILOVER.md
python -m benchmarks.failover --only kill,flap             printed
python -m benchmarks.failover --quick --proxies slardar    a hint, in a fraction of the time
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import machine
from benchmarks.__main__ import names_of, say
from benchmarks.check import CheckError, wait_until_ready
from benchmarks.failover.contenders import CONTENDERS
from benchmarks.failover.faults import FAULTS, Fault, play
from benchmarks.failover.figures import Outcome, again_after, judge, outcome
from benchmarks.failover.ground import NAMES, VICTIM, Namespace, NotAllowed, Servers
from benchmarks.failover.load import Load
from benchmarks.failover.report import brief, markdown
from benchmarks.failover.watch import Watch
from benchmarks.processes import Cores, raise_file_limit
from benchmarks.proxies import SUBJECT, Proxy, Running
from benchmarks.soak.clients import until
from benchmarks.soak.machine import busy

__all__ = ["FULL", "QUICK", "Plan", "main"]

REPORT = Path(__file__).resolve().parent.parent / "FAILOVER.md"


@dataclass(frozen=True)
class Plan:
    """How long everything takes, in seconds; ``scale`` is for the times of the faults."""

    rate: float = 240.0
    scale: float = 1.0
    warm_up: float = 1.5
    #: How long it is waited for the server's return, and how long the load then goes on.
    patience: float = 40.0
    after: float = 1.0


FULL = Plan()
QUICK = Plan(rate=100.0, scale=0.3, warm_up=0.5, patience=5.0, after=0.2)


@dataclass
class Measured:
    """What a run has found."""

    outcomes: list[Outcome] = field(default_factory=list)
    #: What this machine does not allow or have, and what went wrong, one line each.
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    #: The shares of the cores that others used, just before each measurement.
    others: list[float] = field(default_factory=list)


def _measure(
    proxy: Proxy, fault: Fault, servers: Servers, folder: Path, cores: Cores, plan: Plan
) -> Outcome:
    """One proxy under one fault.

    :raise RuntimeError: if the proxy does not start, ends, or does not use every server.
    """
    running = Running.start(proxy, folder, cores.proxy, servers.places)
    namespace = servers.victim.namespace
    watch: Watch | None = None
    load = Load(running.port, plan.rate)
    try:
        wait_until_ready(running)
        watch = None if namespace is None else Watch(namespace)
        load.start()
        running.program.pause(plan.warm_up)
        until(
            lambda: {sample.server for sample in load.samples} >= set(NAMES),
            f"{proxy.title} uses every server",
            10.0,
        )
        span = play(fault, servers.victim, plan.scale)
        end = time.monotonic() + plan.patience
        while again_after(load.samples, VICTIM, span[1]) is None and time.monotonic() < end:
            running.program.pause(0.1)
        running.program.pause(plan.after)
    finally:
        load.stop()
        sent = None if watch is None else watch.stop()
        running.stop()
    broken = load.error or (watch and watch.error)
    if broken:
        raise RuntimeError(f"the benchmark broke: {broken!r}") from broken
    return outcome(proxy.name, fault.name, VICTIM, load.samples, sent, span)


def _measure_all(
    proxies: Sequence[Proxy], faults: Sequence[Fault], folder: Path, cores: Cores, plan: Plan
) -> Measured:
    measured = Measured()
    namespace: Namespace | None = None
    try:
        namespace = Namespace()
    except NotAllowed as error:
        measured.left_out.append(
            "What the server is sent, and so when it gets no more requests: this machine allows "
            f"no network namespace ({error})."
        )
    try:
        if namespace is not None:
            try:
                namespace.drop()
                namespace.drop_no_more()
            except NotAllowed as error:
                measured.left_out.append(f"No rule can drop packets ({error}).")
                faults = [fault for fault in faults if not fault.needs_network]
        for fault in faults:
            if fault.needs_network and namespace is None:
                measured.left_out.append(f"{fault.title}: it needs a network namespace.")
                continue
            for proxy in proxies:
                # Servers of their own, so that nothing of the fault before is left.
                servers = Servers(folder, cores.load, namespace)
                try:
                    measured.others.append(busy(0.3))
                    found = _measure(proxy, fault, servers, folder, cores, plan)
                except (RuntimeError, OSError, CheckError) as error:
                    measured.problems.append(f"{fault.title}, {proxy.title}: {error}")
                else:
                    measured.outcomes.append(found)
                    say(brief(found))
                finally:
                    servers.stop()
    finally:
        if namespace is not None:
            namespace.remove()
    return measured


def _facts(proxies: Sequence[Proxy], cores: Cores, others: Sequence[float]) -> Mapping[str, str]:
    """The machine and the programs, for the report."""
    facts = dict(machine.describe(proxies, cores))
    del facts["wrk"]
    facts["Cores"] = f"the proxy on core {cores.proxy}, the clients and the servers on the rest"
    if others:
        mean = sum(others) / len(others)
        facts["Other load"] = (
            f"just before a measurement, other programs used {mean:.0%} of the cores on average "
            f"and {max(others):.0%} at most"
        )
    return facts


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.failover",
        description="Break one of four servers, and count what clients notice of it.",
    )
    parser.add_argument(
        "--only",
        type=lambda text: names_of(text, list(FAULTS)),
        default=list(FAULTS),
        help=f"of {','.join(FAULTS)}; default all",
    )
    parser.add_argument(
        "--proxies",
        type=lambda text: names_of(text, list(CONTENDERS)),
        default=list(CONTENDERS),
        help=f"of {','.join(CONTENDERS)}; default all",
    )
    parser.add_argument("--quick", action="store_true", help="short faults: a hint, not a result")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for FAILOVER.md (default: benchmarks/ after a whole run, else none)",
    )
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0 if nothing went wrong and slardar missed no target."""
    arguments = _arguments().parse_args(words)
    # A SIGTERM must end the started programs and remove the namespace, too.
    signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(143))
    raise_file_limit()
    cores = Cores()
    os.sched_setaffinity(0, cores.load)
    plan = QUICK if arguments.quick else FULL
    proxies = [CONTENDERS[name] for name in arguments.proxies]
    faults = [FAULTS[name] for name in arguments.only]
    present = [proxy for proxy in proxies if proxy.find() is not None]
    with tempfile.TemporaryDirectory(prefix="slardar-failover-") as name:
        measured = _measure_all(present, faults, Path(name), cores, plan)
    measured.left_out += [
        f"{proxy.title} is not installed." for proxy in proxies if proxy not in present
    ]
    not_measured = [*measured.left_out, *measured.problems]
    for line in not_measured:
        say(line)
    missed = [
        fault.name for fault in faults if judge(fault.name, SUBJECT, measured.outcomes)[1] is False
    ]
    for fault_name in missed:
        say(f"missed: {fault_name}")
    whole = not arguments.quick and set(arguments.only) == set(FAULTS)
    output = arguments.output
    if output is None and whole and set(arguments.proxies) == set(CONTENDERS):
        output = REPORT.parent
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        facts = _facts(proxies, cores, measured.others)
        text = markdown(measured.outcomes, facts, plan.rate, plan.warm_up, not_measured)
        (output / REPORT.name).write_text(text)
        say(f"written: {output / REPORT.name}")
    return 1 if missed or measured.problems else 0


if __name__ == "__main__":
    sys.exit(main())
