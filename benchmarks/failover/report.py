"""Writes ``FAILOVER.md`` from the outcomes of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.failover.contenders import CONTENDERS, SETTINGS
from benchmarks.failover.faults import FAULTS
from benchmarks.failover.figures import GAP, Outcome, judge
from benchmarks.failover.ground import NAMES, REPLY_SECONDS
from benchmarks.failover.load import POST_SHARE, TIMEOUT
from benchmarks.proxies import SUBJECT
from benchmarks.report import NOTHING, number, table

__all__ = ["brief", "markdown"]

_COLUMNS = (
    "proxy",
    "no more requests after, s",
    "used again after, s",
    "GETs failed",
    "POSTs failed",
    "requests sent to it",
    "p50 ms",
    "p99 ms",
)
_METHOD = """\
Each proxy has {servers} equal servers behind it, which take {reply:g} ms for a reply, and a core
to itself. Clients begin {rate:g} requests a second, whatever becomes of the ones before; a share of
{share:g} are POSTs. A time is measured from the moment at which the request should have begun.
After {patience:g} s without a whole reply a client gives up; this request has failed, and so has
one whose status is not 200. For each line the proxy is started anew, and gets the load for
{warm:g} s before the fault begins.

- **No more requests after**: from the fault's begin to the last request before a gap of {gap:g} s,
  read from the packets on the way to the server. `never`: there was no gap while the fault lasted.
- **Used again after**: from the fault's end to the first request that the server answers well.
- **Failed**: of the requests that were under way when the fault began or began later, until the
  server is used again. GET is idempotent and may be sent again, POST may not. A POST that a server
  has when it dies fails through every proxy, so these counts differ by chance.
- **Requests sent to it**, **p50**, **p99**: while the fault lasts.
"""
_COMMON = """\
Common to all: a heartbeat every second, `GET /health`, which has 1 s and counts at once, in both
directions; 1 s to connect, 2 s to reply; up to 4 attempts, on other servers, of a GET that failed
or was answered with 500, 502, 503 or 504, and of a POST for which no connection could be made;
round robin; one process with one thread; kept connections. Only slardar limits the share of
requests that are sent again.
"""


def seconds(value: float | None, missing: str) -> str:
    """A number of seconds with one decimal."""
    return missing if value is None else f"{value:.1f}"


def _cells(found: Outcome) -> tuple[str, ...]:
    title = CONTENDERS[found.proxy].title
    return (
        f"**{title}**" if found.proxy == SUBJECT else title,
        NOTHING if found.sent is None else seconds(found.out, "never"),
        seconds(found.again, "not seen"),
        f"{found.gets_failed}",
        f"{found.posts_failed}",
        NOTHING if found.sent is None else f"{found.sent:,}",
        number(found.p50_ms),
        number(found.p99_ms),
    )


def _verdict(met: bool | None) -> str:
    return "not compared" if met is None else "met" if met else "**missed**"


def brief(found: Outcome) -> str:
    """One outcome, for the terminal."""
    cells = zip(_COLUMNS, _cells(found), strict=True)
    text = ", ".join(f"{column} {cell}" for column, cell in list(cells)[1:])
    return f"{found.fault:9} {found.proxy:8} {text} {dict(found.reasons) or ''}".rstrip()


def _goals(outcomes: Sequence[Outcome]) -> Iterator[str]:
    rows = []
    for fault in FAULTS.values():
        target, met = judge(fault.name, SUBJECT, outcomes)
        own = [found for found in outcomes if (found.fault, found.proxy) == (fault.name, SUBJECT)]
        measured = "not measured"
        if own:
            measured = f"{own[0].gets_failed} in {own[0].requests:,} requests"
        rows.append((fault.title, target, measured, _verdict(met)))
    yield from table(("GETs that fail through slardar", "must be", "measured", ""), rows)


def markdown(
    outcomes: Sequence[Outcome],
    machine: Mapping[str, str],
    rate: float,
    warm_up: float,
    problems: Sequence[str],
) -> str:
    """The whole report."""
    lines = ["# Failover", "", "Written by `make bench-failover`; do not edit. How it is measured"]
    lines += ["is below and in [docs/benchmarks.md](../docs/benchmarks.md#failover).", ""]
    lines += _goals(outcomes)
    if problems:
        lines += ["## Not measured", "", *(f"- {problem}" for problem in problems), ""]
    for fault in FAULTS.values():
        found = [one for one in outcomes if one.fault == fault.name]
        if found:
            lines += [f"## {fault.title}", ""]
            lines += table(_COLUMNS, [_cells(one) for one in found])
            lines += _reasons(found)
    method = _METHOD.format(
        servers=len(NAMES),
        reply=REPLY_SECONDS * 1000,
        rate=rate,
        share=POST_SHARE,
        patience=TIMEOUT,
        warm=warm_up,
        gap=GAP,
    )
    lines += ["## Method", "", method, "## Settings", "", _COMMON]
    lines += [f"- **{CONTENDERS[name].title}**: {text}." for name, text in SETTINGS.items()]
    lines += ["", "## Machine and versions", ""]
    lines += table(("", ""), list(machine.items()))
    return "\n".join(lines)


def _reasons(found: Sequence[Outcome]) -> Iterator[str]:
    """Why requests failed."""
    for one in found:
        if one.reasons:
            reasons = ", ".join(f"{count} {why}" for why, count in sorted(one.reasons.items()))
            yield f"- {CONTENDERS[one.proxy].title}: {reasons}"
    if any(one.reasons for one in found):
        yield ""
