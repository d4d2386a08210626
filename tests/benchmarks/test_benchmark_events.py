"""The benchmark of events: it measures what it says."""

from __future__ import annotations

import argparse
import re

import pytest

from benchmarks.events import measure, percentile


def test_percentile() -> None:
    """The value that so many percent do not exceed."""
    assert percentile([], 99) == 0.0
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([*map(float, range(1000))], 99) == 990.0


@pytest.mark.real
def test_every_event_reaches_every_reader() -> None:
    """Also while another reader never reads, with its figures in lines for a person."""
    words = argparse.Namespace(readers=20, rate=50.0, seconds=0.6, rounds=1, workers=0)
    lines: list[str] = []
    measure(words, lines.append)
    assert re.fullmatch(
        r"20 readers, \d+ to \d+ changes a second, 0 workers:"
        r" 1170 of 1170 events came, 0 readers were dropped",
        lines[0],
    )
    assert lines[1].startswith("delivery: p50 ")
    assert len(lines) == 5
