"""How often steps may be made."""

from __future__ import annotations

import pytest

from slardar.catalogues.pace import Pace


def test_burst_and_then_the_pause() -> None:
    """Steps may be made at once, until the burst is used up; then one may be made each pause."""
    pace = Pace(0.5, 3)
    for _ in range(3):
        assert pace.delay(100) == 0
        pace.step(100)
    assert pace.delay(100) == 0.5
    assert pace.delay(100.25) == 0.25
    assert pace.delay(100.5) == 0
    pace.step(100.5)
    assert pace.delay(100.5) == 0.5


@pytest.mark.parametrize(("quiet", "free"), [(0.5, 1), (1, 2), (1.5, 3), (1000, 3)])
def test_quiet_time_gives_the_burst_back(quiet: float, free: int) -> None:
    """A step for each pause, and never more than the burst."""
    pace = Pace(0.5, 3)
    for _ in range(3):
        pace.step(0)
    made = 0
    while pace.delay(quiet) == 0:
        pace.step(quiet)
        made += 1
    assert made == free
