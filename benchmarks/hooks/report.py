"""Writes ``HOOKS.md`` from the numbers of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.figures import Spread, ratios, spread
from benchmarks.hooks.contenders import (
    CONTENDERS,
    LUA,
    NGINX,
    NGINX_LUA,
    PYTHON,
    SCRIPTS,
)
from benchmarks.hooks.turns import Turn, added
from benchmarks.load import Sample
from benchmarks.report import table
from benchmarks.rounds import Plan
from benchmarks.soak.row import Row

__all__ = ["Inside", "markdown", "rows"]

#: The values of the measurements without sockets, by measurement and language.
Inside = Mapping[tuple[str, str], float]

#: The targets.
_ADDED_US = 5.0
_RATIO = 0.95
_AIM = 0.85
_BUDGET_MS = 50.0
_MEMORY_MIB = 60.0

_TITLES = {PYTHON: "Python", LUA: "Lua"}


def _beyond(samples: Sequence[Sample], name: str, without: str) -> Spread | None:
    """CPU microseconds that a request takes more with ``name`` than with ``without``, in the
    same round."""
    base = {sample.round: sample.cpu_us for sample in samples if sample.proxy == without}
    return spread(
        [
            sample.cpu_us - base[sample.round]
            for sample in samples
            if sample.proxy == name and sample.round in base
        ]
    )


def rows(turns: Sequence[Turn], samples: Sequence[Sample], inside: Inside) -> list[Row]:
    """Every figure with its target."""
    found = []
    for name, title in _TITLES.items():
        row = Row(f"CPU added to a request by a {title} hook", f"≤ {_ADDED_US:g} µs")
        difference = added(turns, name)
        if difference is not None:
            row.measured = f"{difference.median:.1f} µs"
            row.met = difference.median <= _ADDED_US
            row.notes = [
                f"between {difference.low:.1f} and {difference.high:.1f} µs in half of the turns",
                f"{inside['call', name]:.1f} µs when called in a loop, with nothing around it",
            ]
        found.append(row)
    row = Row("CPU added to a request whose host has no hook, while another has", "0")
    row.measured, row.met = f"{inside['other', PYTHON]:.2f} µs", None
    row.notes = [
        "in a loop: it is one look into a table, which no load between sockets shows",
        "where no hook is loaded, one attribute is looked at for each request",
    ]
    found.append(row)
    row = Row("CPU per request with the Lua hook, ratio to nginx+Lua with the same script", "")
    row.target = f"≤ {_RATIO:g}"
    ratio = spread(ratios(samples, "small", LUA, NGINX_LUA, lambda sample: sample.cpu_us))
    if ratio is not None:
        row.measured = f"{ratio.median:.2f}"
        row.met = ratio.median <= _RATIO
        aim = "met" if ratio.median <= _AIM else "missed"
        row.notes = [
            f"between {ratio.low:.2f} and {ratio.high:.2f} in single rounds",
            f"the aim is ≤ {_AIM:g}: {aim}",
        ]
        script = _beyond(samples, NGINX_LUA, NGINX)
        if script is not None:
            row.notes.append(f"the script adds {script.median:.1f} µs to nginx")
    found.append(row)
    for name, title in _TITLES.items():
        value = inside["loop", name]
        row = Row(f"An endless loop in {title} is stopped after", f"≤ {2 * _BUDGET_MS:g} ms")
        row.measured, row.met = f"{value:.0f} ms of CPU time", value <= 2 * _BUDGET_MS
        row.notes = [f"the worst of ten; the budget is {_BUDGET_MS:g} ms"]
        found.append(row)
    for name, title in _TITLES.items():
        value = inside["memory", name]
        row = Row(f"Memory of 1,000 loaded {title} hooks", f"≤ {_MEMORY_MIB:g} MiB")
        row.measured, row.met = f"{value:.1f} MiB", value <= _MEMORY_MIB
        row.notes = ["the engine and its libraries included; each hook has run once"]
        found.append(row)
    return found


def markdown(
    found: Sequence[Row],
    turns: Sequence[Turn],
    samples: Sequence[Sample],
    machine: Mapping[str, str],
    plan: Plan,
    problems: Sequence[str],
) -> str:
    """The whole report."""
    lines = ["# What hooks cost", "", "Written by `make bench-hooks`; do not edit."]
    lines += ["How it is measured is in [docs/benchmarks.md](../docs/benchmarks.md#hooks).", ""]
    judged = [row for row in found if row.met is not None]
    met = sum(bool(row.met) for row in judged)
    lines += [f"{met} of {len(judged)} figures are met.", ""]
    cells = [(row.figure, row.target, row.measured, row.verdict) for row in found]
    lines += table(("figure", "must reach", "measured", ""), cells)
    lines += ["## Details", ""]
    for row in found:
        lines += [f"**{row.figure}**", "", *(f"- {note}" for note in row.notes), ""]
    lines += [
        f"What hooks add is measured within one process, in {len(turns)} turns.",
        "",
        "## CPU per request",
        "",
    ]
    lines += [
        f"{plan.rounds} rounds of {plan.seconds} s each, in turns; small replies, 64 keep-alive"
        " connections. The median, and the least and the most of a round, in microseconds.",
        "",
    ]
    lines += table(("", "median", "least", "most"), list(_cpu(samples)))
    lines += ["## The hook", "", "Look at the method, set a header:", ""]
    for name in (PYTHON, LUA):
        lines += [f"```{name}", SCRIPTS[name].rstrip("\n"), "```", ""]
    if problems:
        lines += ["## Not measured", "", *(f"- {problem}" for problem in problems), ""]
    lines += ["## Machine and versions", ""]
    lines += table(("", ""), list(machine.items()))
    return "\n".join(lines)


def _cpu(samples: Sequence[Sample]) -> Iterator[tuple[str, ...]]:
    for name, proxy in CONTENDERS.items():
        found = spread([sample.cpu_us for sample in samples if sample.proxy == name])
        if found is not None:
            values = (found.median, found.low, found.high)
            yield (proxy.title, *(f"{value:.1f}" for value in values))
