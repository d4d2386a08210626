"""The arithmetic: medians, ratios within a round, verdicts."""

from __future__ import annotations

import pytest
from benchmark_samples import sample

from benchmarks.figures import FIGURES, Figure, Spread, ratios, spread, verdict
from benchmarks.load import Sample


def cpu(found: Sample) -> float:
    return found.cpu_us


def test_spread_is_median_and_extremes() -> None:
    """The median does not follow one odd round; the extremes show it."""
    assert spread([3.0, 1.0, 100.0]) == Spread(3.0, 1.0, 100.0)
    assert spread([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)


def test_no_values_have_no_spread() -> None:
    """Without a measurement the spread is None, never zero."""
    assert spread([]) is None


def test_ratio_is_within_the_round() -> None:
    """A slow minute slows both proxies, so the ratio does not show it."""
    samples = [
        sample("slardar", 0, 10.0),
        sample("nginx-lua", 0, 10.0),
        sample("slardar", 1, 40.0),
        sample("nginx-lua", 1, 20.0),
    ]
    assert ratios(samples, "small", "slardar", "nginx-lua", cpu) == [1.0, 2.0]


def test_round_without_reference_has_no_ratio() -> None:
    """A round in which the reference failed is left out, not compared with another."""
    samples = [sample("slardar", 0), sample("slardar", 1), sample("nginx-lua", 1)]
    assert ratios(samples, "small", "slardar", "nginx-lua", cpu) == [1.0]


def test_ratio_keeps_kinds_of_load_apart() -> None:
    """A ratio compares runs under the same load only."""
    samples = [sample("slardar", series="64k"), sample("nginx-lua", series="small")]
    assert ratios(samples, "64k", "slardar", "nginx-lua", cpu) == []


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.9, "aim met"), (1.0, "aim met"), (1.5, "target met"), (1.51, "**missed**")],
)
def test_verdict_where_less_is_better(value: float, said: str) -> None:
    """A value at the limit meets it."""
    assert verdict(Figure("x", "x", "", 1.5, 1.0), value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(30.0, "aim met"), (15.0, "target met"), (14.9, "**missed**")]
)
def test_verdict_where_more_is_better(value: float, said: str) -> None:
    """A factor must be at least its target."""
    assert verdict(Figure("x", "x", "", 15.0, 30.0, more_is_better=True), value) == said


def test_verdict_without_aim_or_value() -> None:
    """A figure may have a target alone; a figure that was not measured is not met."""
    assert verdict(Figure("x", "x", "", 60.0, None), 1.0) == "target met"
    assert verdict(Figure("x", "x", "", 60.0, None), None) == "not measured"


def test_every_aim_is_harder_than_its_target() -> None:
    """Otherwise a verdict would not be clear."""
    for figure in FIGURES:
        if figure.aim is not None:
            assert (figure.aim > figure.target) == figure.more_is_better
