"""How often steps may be made."""

from __future__ import annotations

import pytest

from slardar.catalogues.pace import Pace


def steps(pace: Pace, begin: float, end: float) -> list[float]:
    """When steps are made, if there is always something to do."""
    made = []
    now = begin + pace.delay(begin)
    while now < end:
        made.append(now)
        now += pace.delay(now)
    return made


def test_storm_makes_ever_fewer_steps() -> None:
    """The burst, and then each pause is twice as long as the one before."""
    made = steps(Pace(0.5, 3, 3), 100, 120)
    assert made == [100, 100, 100, 100.5, 101.5, 103.5, 106.5, 109.5, 112.5, 115.5, 118.5]


@pytest.mark.parametrize("pause", [0.5, 0.75, 10])
def test_steps_that_come_one_by_one_do_not_wait(pause: float) -> None:
    """At the rate of the shortest pause, for as long as one likes."""
    pace = Pace(0.5, 3, 3)
    assert [pace.delay(number * pause) for number in range(100)] == [0] * 100


def test_quiet_time_gives_the_burst_back() -> None:
    """With the shortest pause, once it was as long as all steps have taken."""
    pace = Pace(0.5, 3, 3)
    last = steps(pace, 0, 2)[-1]
    assert steps(pace, last + 10, last + 11.1) == [last + 10] * 3 + [last + 10.5]
