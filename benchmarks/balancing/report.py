"""Writes ``BALANCE.md`` from the figures of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.balancing.modes import BOUND
from benchmarks.balancing.scenes import BACK
from benchmarks.report import table
from benchmarks.soak.row import Row, number

__all__ = ["brief", "markdown", "rows"]

_MOVED = 1.1
_SPREAD = {"hash": 1.15, "maglev": 1.05}
_PICK_US = {"100": 3.0, "10000": 10.0}
_OFF = 0.05


def rows(found: Mapping[str, Any]) -> list[Row]:
    """Every figure that must be reached."""
    made = []
    for name, by_count in found["moves"].items():
        for count, moved in by_count.items():
            for key, what in (
                ("out", "is out of service"),
                ("removed", "is removed by an edit"),
                ("added", "comes"),
            ):
                row = Row(f"Keys moved when one of {int(count):,} servers {what}, {name}", "")
                row.target = f"≤ {_MOVED:g}/n"
                row.measured, row.met = f"{moved[key]:.2f}/n", moved[key] <= _MOVED
                made.append(row)
    for name, target in _SPREAD.items():
        value = found["spread"][name]["fewer"]
        keys = number(found["fewer_keys"])
        row = Row(f"Max over mean, 100 equal servers, {keys} keys, {name}", f"≤ {target:g}")
        row.measured, row.met = f"{value:.3f}", value <= target
        made.append(row)
    for name, about in found["bounded"].items():
        if "bound" in name:
            for key, what in (("even", "all alike"), ("skewed", "few popular")):
                row = Row(f"Max over mean under way, 100 equal servers, {name}, {what}", "")
                row.target = f"≤ {BOUND:g}"
                row.measured = f"{about[key]['most']:.3f}"
                row.met = about[key]["most"] <= BOUND
                made.append(row)
    for count, target in _PICK_US.items():
        picks = {name: about[count]["pick"] for name, about in found["picks"].items()}
        slowest = max(picks, key=lambda name: picks[name])
        row = Row(f"`pick`, {found['build']}, {int(count):,} servers, the slowest balancer", "")
        row.target = f"≤ {target:g} µs"
        row.measured = f"{picks[slowest]:.1f} µs ({slowest})"
        row.met = picks[slowest] <= target
        made.append(row)
    for key, what in (("requests", "requests of a server"), ("retries", "retries")):
        worst = max(about[key] for about in found["live"].values())
        row = Row(f"Simulator against a running slardar, {what}", f"within {_OFF:.0%}")
        row.measured, row.met = f"{worst:.1%}", worst <= _OFF
        made.append(row)
    return made


def _summary(made: list[Row]) -> str:
    return f"{sum(bool(row.met) for row in made)} of {len(made)} figures are met."


def brief(found: Mapping[str, Any]) -> str:
    """For the terminal."""
    made = rows(found)
    lines = [f"{row.figure}: {row.measured} ({row.target}) {row.verdict}" for row in made]
    return "\n".join([*lines, _summary(made)])


def markdown(found: Mapping[str, Any], picture: str) -> str:
    """The whole report."""
    made = rows(found)
    lines = ["# How balancers balance", "", "Written by `make bench-balance`; do not edit."]
    lines += ["How it is measured is in [docs/benchmarks.md](../docs/benchmarks.md#balancers).", ""]
    if found["quick"]:
        lines += ["A quick run: a hint, not a result.", ""]
    lines += [f"![The figures as a picture]({picture})", "", _summary(made), ""]
    cells = [(row.figure, row.target, row.measured, row.verdict) for row in made]
    lines += table(("figure", "must reach", "measured", ""), cells)
    lines += _keys(found)
    lines += _picks(found)
    lines += _crowd(found)
    lines += _bad(found)
    lines += _herd(found)
    lines += _live(found)
    lines += ["## Machine", ""]
    facts = {**found["facts"], "CPU time of the whole run": f"{found['cpu_seconds']:.0f} s"}
    lines += table(("", ""), list(facts.items()))
    return "\n".join(lines)


def _keys(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Keys"
    yield ""
    yield (
        f"{number(found['keys'])} paths, all different, over n equal servers. A server's"
        " own keys must move when it goes, and are 1/n on average over all servers; to"
        " this comes the mean of the other keys that moved. A hash modulo n would move n"
        " - 1 of n keys."
    )
    yield ""
    cells = [
        (
            f"{name}, n = {int(count):,}",
            f"{found['spread'][name][count]:.3f}",
            *(f"{moved[key]:.2f}/n" for key in ("out", "removed", "added")),
        )
        for name, by_count in found["moves"].items()
        for count, moved in by_count.items()
    ]
    yield from table(("", "max over mean", "out of service", "removed", "added (of n + 1)"), cells)
    yield (
        "All hash modes find servers in the same way; they differ in the key. With a few"
        " popular paths (Zipf's law, exponent 1.1, 100,000 paths) or with all alike, and"
        " always as many requests under way, 100 on each of 100 servers on average:"
    )
    yield ""
    cells = [
        (
            name,
            *(f"{about[key]['most']:.2f}" for key in ("even", "skewed")),
            *(f"{about[key]['elsewhere']:.1%}" for key in ("even", "skewed")),
        )
        for name, about in found["bounded"].items()
    ]
    header = ("most under way over the mean", "few popular", "not on the key's server")
    yield from table(("", *header, "few popular"), cells)


def _picks(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Time of a pick"
    yield ""
    yield (
        f"Microseconds of `pick`, {found['build']}; of `pick` with what the balancer is"
        " told of the request's begin and end, 500 under way; and of the first `pick` of"
        " a path whose slot no request had before. Medians."
    )
    yield ""
    cells = [
        (
            name,
            *(
                f"{about[count][key]:.1f}"
                for count in _PICK_US
                for key in ("pick", "request", "first")
            ),
        )
        for name, about in found["picks"].items()
    ]
    header = [f"{what}, {int(n):,}" for n in _PICK_US for what in ("pick", "told", "first")]
    yield from table(("", *header), cells)


def _crowd(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {found['many']:,} equal servers"
    yield ""
    yield (
        "180 requests for each server in 1.5 s, 2.4 under way on each on average, in the"
        " simulator. With so few requests each, chance alone gives the busiest of a"
        " thousand servers 1.25 times the mean. The paths of the hashes are all"
        " different, or nearly so."
    )
    yield ""
    cells = [
        (name, f"{scene['most']:.3f}", f"{scene['crowded']}", f"{scene['p99']:.0f} ms")
        for name, scene in found["crowd"].items()
    ]
    yield from table(("", "requests, max over mean", "most at a time", "p99"), cells)


def _bad(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## One bad server of ten"
    yield ""
    yield (
        "Each server works on four requests at a time, 20 ms each on average; the load is"
        " 60 % of what all can do. (Ten servers, since one bad one of a thousand does not"
        " reach the 99th percentile.) First, one is ten times slower, so that it can do"
        " less than its share:"
    )
    yield ""
    cells = [
        (
            name,
            f"{scene['bad']:.2f}",
            f"{scene['p99'] / 1000:.2f} s",
            f"{found['slow_outlier'][name]['bad']:.2f}",
            f"{found['slow_outlier'][name]['p99'] / 1000:.2f} s",
        )
        for name, scene in found["slow"].items()
    ]
    header = ("its requests over the mean", "p99", "with `outlier`", "p99")
    yield from table(("", *header), cells)
    yield (
        "Then, one replies 500 to everything within 2 ms. Balancers that go by load take"
        " it for the best one. `max_fails`: three failures put it out, and a failed"
        " request goes to another server (`http_opts.statuses`, `retry_on`). `outlier`:"
        " it is ejected, nothing is sent again."
    )
    yield ""
    cells = [
        (name, *(f"{guards[guard]['failed']:.2%}" for guard in guards))
        for name, guards in found["errors"].items()
    ]
    yield from table(("requests that fail", "nothing", "`max_fails`", "`outlier`"), cells)


def _herd(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## A thundering herd"
    yield ""
    yield (
        "Ten servers under 70 % load die together, and come back after two seconds, one"
        " each 0.2 s. For ten seconds they are slow: twice at first. The first one back"
        " gets the load of all. Each request has three tries of a second; a server works"
        " on although nobody waits any more. Heartbeats come each second; the balancer is"
        " `wrr`. Attempts count from the return of the first one on."
    )
    yield ""
    cells = []
    for name, about in found["herd"].items():
        after = about["recovered"]
        cells.append(
            (
                f"`{name}`" if "_" in name else name,
                f"{about['failed']:.1%}",
                f"{max(about['attempts'][BACK:]):.2f}",
                "never" if after is None else f"{after} s",
            )
        )
    yield from table(("", "failed", "attempts a request, at most", "served again after"), cells)
    yield (
        "Without a budget the retries keep the servers busy with requests that nobody"
        " waits for, and nothing is served though all are back. `slow_start` alone cannot"
        " help, since all climb together. With the budget, which is on by default, it helps"
        " the later ones."
    )
    yield ""


def _live(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## The simulator against a running slardar"
    yield ""
    yield (
        f"{number(found['live_requests'])} requests one after the other, of 97 clients"
        " that keep their cookies, through twistd, and the same in the simulator. Of four"
        " servers, with weights 1, 2, 1 and 1, the third replies 500, which is a failure,"
        " and the last one does not listen."
    )
    yield ""
    cells = [
        (name, f"{about['requests']:.1%}", f"{about['retries']:.1%}", f"{about['found']:,}")
        for name, about in found["live"].items()
    ]
    yield from table(("", "requests of any server off by", "retries off by", "retries"), cells)
