"""Writes ``RESULTS.md`` from the numbers of one run."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.figures import FIGURES, Spread, spread, verdict
from benchmarks.load import SERIES, Sample
from benchmarks.proxies import PROXIES, SUBJECT
from benchmarks.results import Results

__all__ = ["brief", "markdown"]

#: If others use a larger share of the proxy's core, the report calls the run disturbed.
DISTURBED = 0.1
#: Stands where there is no value.
NOTHING = "-"

METHOD = """\
Every proxy has one core to itself and one process (or one worker, one thread);
the load and the backends, one nginx with two ports, have the rest. In each round each
proxy is loaded for {seconds} s after a warm-up, one after the other, in an order
that turns from round to round. A ratio is the proxy's value divided by that of
nginx+Lua under the same load *in the same round*; the tables give the median of
{rounds} rounds and, in brackets, the lowest and the highest.

wrk sends 4,096 different requests in turn: paths, queries, cookies and 8 to 12
headers vary. Before anything is measured each proxy's replies are compared, byte
by byte, with what the backends said, and both backends must have been asked.

CPU time is that of the proxy's processes, user and kernel, from
`/proc/PID/task/*/schedstat` (nanoseconds), divided by the requests wrk counted.
`/proc/PID/stat` counts the same in ticks of 10 ms; the column "coarse clock"
shows it, and both should agree within some percent. Requests a second say less:
where the proxy's core is not near 100 % busy, wrk and the backends on the other
core were the limit. wrk waits for a reply before its next request on a
connection, so its latencies are those of a closed loop, and at 1,000 connections
they follow throughput.

Clients of TLS offer TLS 1.3 and 1.2 with AES-128-GCM and the groups X25519 and P-256;
the certificate has an ECDSA key (P-256), and is made for the run. A handshake is one of
TLS 1.3 and no request: `handshakes.py` connects, takes the tickets, says
`close_notify` and closes. A resumed one uses a ticket once, and still exchanges keys.
The clients do as much work as the proxy and have one core, too. So handshakes
a second on one core are told from the CPU time, not counted.
"""


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread_text(found: Spread | None, unit: str = "") -> str:
    """``1.02 (0.97 to 1.10)``."""
    if found is None:
        return NOTHING
    text = f"{number(found.median)} {unit}".rstrip()
    if found.low == found.high:
        return text
    return f"{text} ({number(found.low)} to {number(found.high)})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table: the first column to the left, the others to the right."""
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |'}{' ---: |' * (len(header) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _figures(results: Results) -> Iterator[str]:
    rows = []
    for figure in FIGURES:
        found = results.value_of(figure.key)
        sign = "≥" if figure.more_is_better else "≤"
        limits = [
            NOTHING if limit is None else f"{sign} {limit:g} {figure.unit}".rstrip()
            for limit in (figure.target, figure.aim)
        ]
        median = None if found is None else found.median
        rows.append(
            (figure.title, *limits, spread_text(found, figure.unit), verdict(figure, median))
        )
    yield from table(("figure", "target", "aim", "measured", ""), rows)


def _series(results: Results, name: str) -> Iterator[str]:
    rows = []
    for proxy in PROXIES.values():
        samples = results.of(name, proxy.name)
        if samples:
            title = f"**{proxy.title}**" if proxy.name == SUBJECT else proxy.title
            rows.append((title, *_row(results, name, proxy.name, samples)))
    if not rows:
        return
    yield f"### {SERIES[name].title}"
    yield ""
    unit = SERIES[name].unit
    header = ("proxy", "CPU, ratio", f"CPU µs/{unit}", "coarse clock µs", "of it kernel")
    more = (f"{unit}s/s", "p50 ms", "p99 ms", "p99, ratio", "its core busy", "failed")
    yield from table((*header, *more), rows)


def _row(results: Results, name: str, proxy: str, samples: Sequence[Sample]) -> list[str]:
    def median(attribute: str) -> float:
        return float(statistics.median(getattr(sample, attribute) for sample in samples))

    return [
        spread_text(results.cpu_ratio(name, proxy)),
        number(median("cpu_us")),
        number(median("cpu_ticks_us")),
        f"{median('kernel_share'):.0%}",
        f"{median('per_second'):,.0f}",
        number(median("p50_ms")),
        number(median("p99_ms")),
        spread_text(results.p99_ratio(name, proxy)),
        f"{median('core_share'):.0%}",
        str(sum(sample.failed for sample in samples)),
    ]


def _memory(results: Results) -> Iterator[str]:
    titles = {
        "memory": "Resident memory, 1,000 idle keep-alive clients",
        "tls-memory": "TLS: resident memory, 1,000 idle keep-alive clients",
        "download": "Resident memory, 50 clients at 1 MB/s each, 200 MB replies, cut off early",
    }
    for kind, title in titles.items():
        rows = []
        for use in results.memory:
            if use.kind == kind:
                above = (
                    f"more than {number(use.above_mb)}, stopped"
                    if use.cut
                    else number(use.above_mb)
                )
                row = [PROXIES[use.proxy].title, number(use.idle_mib * 1.048576), above]
                rows.append([*row, f"{use.client_rate:.2f}"] if kind == "download" else row)
        if rows:
            yield f"### {title}"
            yield ""
            header = ["proxy", "idle process, MB", "above that, MB"]
            yield from table(header + (["MB/s a client got"] if kind == "download" else []), rows)


def _notes(results: Results) -> Iterator[str]:
    disturbed = sum(sample.other_share > DISTURBED for sample in results.samples)
    if disturbed:
        yield (
            f"- In {disturbed} of {len(results.samples)} runs something else used more than "
            f"{DISTURBED:.0%} of the proxy's core."
        )
    for problem in results.problems:
        yield f"- {problem}"


def brief(results: Results) -> str:
    """The values and the problems, for the terminal."""
    lines = [""]
    for figure in FIGURES:
        found = results.value_of(figure.key)
        if found is not None:
            value = f"{spread_text(found, figure.unit)}, {verdict(figure, found.median)}"
            lines.append(f"{figure.title}: {value}")
    for name in SERIES:
        for proxy in PROXIES.values():
            samples = results.of(name, proxy.name)
            if samples:
                cpu = spread_text(spread([sample.cpu_us for sample in samples]), "µs")
                ratio = spread_text(results.cpu_ratio(name, proxy.name))
                lines.append(f"{name:10} {proxy.name:13} CPU {cpu}, ratio {ratio}")
    return "\n".join([*lines, *_notes(results)])


def markdown(results: Results, picture: str | None) -> str:
    """The whole report; ``picture`` is the file name of the drawing, if there is one."""
    lines = ["# Results", "", "Written by `python -m benchmarks`; do not edit.", ""]
    lines += _figures(results)
    if picture is not None:
        lines += [f"![CPU per request and p99, each as a ratio to nginx+Lua's]({picture})", ""]
    if notes := list(_notes(results)):
        lines += ["## Left out or disturbed", "", *notes, ""]
    lines += ["## All proxies", ""]
    for name in SERIES:
        lines += _series(results, name)
    lines += _memory(results)
    if results.update is not None:
        lines += [
            "### Update of one upstream among 10,000",
            "",
            f"Median {number(results.update.median_ms)} ms, of which "
            f"{number(results.update.snapshot_ms)} ms make the new snapshot; fastest "
            f"{number(results.update.low_ms)} ms, slowest {number(results.update.high_ms)} ms. "
            "The upstreams that are changed have had requests; of one that has had none, an "
            f"update takes {number(results.update.idle_ms)} ms. No listener, no load, one process.",
            "",
        ]
    lines += ["## Method", "", METHOD.format(seconds=results.seconds, rounds=results.rounds)]
    lines += ["## Machine and versions", ""]
    lines += table(("", ""), [(f"{name}", value) for name, value in results.machine.items()])
    return "\n".join(lines)
