"""Writes ``STORES.md`` from one run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.events import percentile
from benchmarks.report import table

__all__ = ["Findings", "Reached", "brief", "markdown", "missed"]

#: Milliseconds from a write to the first request, at the median and the 99th percentile.
P50, P99 = 20.0, 100.0
#: Seconds of a start with 5,000 upstreams.
START = 2.0
#: Requests a minute of a watch, and the share of a core.
REQUESTS, CORE = 2.0, 0.002
#: Milliseconds until a change has reached 50 nodes.
MANY = 200.0


@dataclass(frozen=True)
class Reached:
    """How long changes took in one proxy, in seconds."""

    title: str
    #: ``a key``, or ``a registration``.
    what: str
    times: Sequence[float]

    @property
    def p50(self) -> float:
        return statistics.median(self.times) * 1000

    @property
    def p99(self) -> float:
        return percentile(self.times, 99) * 1000


@dataclass
class Findings:
    """What a run has found; what was not measured is empty."""

    reached: list[Reached] = field(default_factory=list)
    #: Seconds of each start, with an empty store and with 5,000 upstreams.
    starts: tuple[Sequence[float], Sequence[float]] = ((), ())
    #: Requests a minute and share of a core, by what is watched.
    idle: dict[str, tuple[float, float]] = field(default_factory=dict)
    #: The share of a core of a node that asks nobody.
    alone: float = 0.0
    #: Requests and failed ones while services rolled, and how often a server was replaced.
    rolled: tuple[int, int, int] | None = None
    #: Milliseconds of each change until 50 nodes had it, and the writes of other nodes.
    many: Sequence[float] = ()
    many_writes: int = 0
    left_out: list[str] = field(default_factory=list)


def _rows(found: Findings) -> list[tuple[str, str, str, bool | None]]:
    """Each figure: what, what must be reached, what was, and whether that is met."""
    rows: list[tuple[str, str, str, bool | None]] = []
    for one in found.reached:
        is_ours = one.title == "slardar"
        rows.append(
            (
                f"{one.what} to the first request on two nodes, {one.title}: p50 / p99",
                f"{P50:g} / {P99:g} ms" if is_ours else "reported",
                f"{one.p50:.1f} / {one.p99:.1f} ms",
                one.p50 <= P50 and one.p99 <= P99 if is_ours else None,
            )
        )
    if found.rolled is not None:
        requests, failed, times = found.rolled
        rows.append(
            (
                f"failed requests while servers are replaced {times} times under load",
                "0",
                f"{failed} of {requests}",
                failed == 0,
            )
        )
    empty, full = found.starts
    if full:
        rows.append(
            (
                "start with 5,000 upstreams, from the program's begin to the first request "
                f"(with none: {statistics.median(empty):.2f} s)",
                f"{START:g} s",
                f"{statistics.median(full):.2f} s",
                statistics.median(full) <= START,
            )
        )
    for what, (requests_a_minute, core) in found.idle.items():
        watches = 2 if "service" in what else 1
        rows.append(
            (
                f"idle node, {what}: requests to Consul a minute, and CPU "
                f"(a node with `memory:` {found.alone:.2%})",
                f"{REQUESTS * watches:g}, {CORE:.1%} of a core",
                f"{requests_a_minute:.1f}, {core:.2%}",
                requests_a_minute <= REQUESTS * watches and core <= CORE,
            )
        )
    if found.many:
        slowest = max(found.many)
        rows.append(
            (
                "50 nodes in one process: a change reaches all, slowest; writes of other nodes",
                f"{MANY:g} ms, 0",
                f"{slowest:.0f} ms, {found.many_writes}",
                slowest <= MANY and not found.many_writes,
            )
        )
    return rows


def missed(found: Findings) -> list[str]:
    """The figures that are not met."""
    return [what for what, _, _, is_met in _rows(found) if is_met is False]


def brief(found: Findings) -> str:
    """A line for each figure."""
    words = {True: "met", False: "MISSED", None: "-"}
    return "\n".join(
        f"{what}: {value} (must {must}): {words[is_met]}"
        for what, must, value, is_met in _rows(found)
    )


def markdown(found: Findings, facts: Mapping[str, str]) -> str:
    """The whole report."""
    words = {True: "met", False: "**missed**", None: ""}
    rows = [(what, must, value, words[is_met]) for what, must, value, is_met in _rows(found)]
    lines = [
        "# Stores that several nodes share",
        "",
        "Written by `make bench-stores`; not edited by hand.",
        "",
        *table(("figure", "must reach", "measured", ""), rows),
        "",
        _METHOD,
        "## Machine",
        "",
        *table(("", ""), list(facts.items())),
    ]
    if found.left_out:
        lines += ["", "## Left out", "", *(f"- {line}" for line in found.left_out)]
    return "\n".join(lines) + "\n"


_METHOD = """\
## How it is measured

One Consul server, the nodes, the servers and the client share this machine. slardar runs from
its sources, not compiled.

- **A key**: the value that says an upstream's server is written; then each node is asked over one
  connection, request after request, until its answer comes from the new server. The time runs from
  before the write until the last node has answered so.
- **A registration**: the same for a second server of a service, which registers itself at the
  agent. Round robin sends every other request to it.
- Traefik 3 with its providers `consul` and `consulCatalog` (`watch: true`, otherwise as they come;
  `providersThrottleDuration: 0s`). consul-template is in none of the places from which these
  measurements take their programs.
- **Failed requests**: `examples/fleet/fleet.py`, with GETs and POSTs to both nodes.
- **Start**: three starts each, in turn, with two workers.
- **Idle**: a proxy between the node and Consul counts requests for a minute, after the first 5 s.
  CPU is that of the director and one worker together; beside it stands the same node with
  `memory:`, which asks nobody.
- **50 nodes**: the store's and the configuration's own code, in one process, on a fake server that
  answers after 1 ms. Each change is made through another node.
"""
