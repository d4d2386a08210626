"""The retry budget: which retries are allowed, as time passes."""

from __future__ import annotations

import pytest

from slardar.model.budget import RetryBudget


class Play:
    """A budget and its time."""

    def __init__(self, share: float = 0.2, least: float = 10.0, now: float = 5000.3) -> None:
        self.budget = RetryBudget()
        self.share, self.least, self.now = share, least, now

    def requests(self, count: int) -> None:
        """So many requests begin now."""
        for _ in range(count):
            if self.now >= self.budget.turns:
                self.budget.turn(self.now)
            self.budget.requests += 1

    def retries(self, count: int) -> int:
        """So many are asked for now; the answer is how many were made."""
        made = 0
        for _ in range(count):
            if self.budget.allows(self.now, self.share, self.least):
                self.budget.spend()
                made += 1
        return made

    def seconds(self, count: int, requests: int, retries: int, steps: int = 20) -> int:
        """Time passes, with so many of both a second; the answer is how many were made."""
        made = 0
        for _ in range(count * steps):
            self.now += 1 / steps
            self.requests(requests // steps)
            made += self.retries(retries // steps)
        return made


def test_few_a_second_are_always_allowed() -> None:
    """Without any other request, and not more of them after a long rest."""
    play = Play()
    assert play.retries(20) == 10
    play.now += 0.5
    assert play.retries(20) == 5
    play.now += 3600
    assert play.retries(20) == 10
    assert (play.budget.retries, play.budget.exhausted) == (25, 35)


@pytest.mark.parametrize(("requests", "share"), [(1000, 0.2), (400, 0.5), (10_000, 0.1)])
def test_share_of_the_requests(requests: int, share: float) -> None:
    """If every request fails, this share of them is sent again, and no more."""
    play = Play(share, 10.0)
    play.seconds(10, requests, 0)
    made = play.seconds(20, requests, requests)
    assert made == pytest.approx(20 * requests * share, rel=0.06)


@pytest.mark.parametrize("now", [0.0, 3.0, 5000.3])
@pytest.mark.parametrize("age", [1, 2, 5, 12])
def test_share_of_the_requests_of_a_new_process(age: int, now: float) -> None:
    """It has the whole share after a second, and not a tenth of it; at first, what a second
    brings has gathered, too."""
    play = Play(0.2, 1.0, now)
    play.seconds(age, 1000, 0)
    assert play.seconds(1, 1000, 1000) == pytest.approx(200 * 2, rel=0.1)
    assert play.seconds(3, 1000, 1000) == pytest.approx(200 * 3, rel=0.1)


def test_a_rest_is_no_new_beginning() -> None:
    """While nothing comes, it is known that nothing comes."""
    play = Play(0.2, 1.0)
    play.seconds(20, 1000, 0)
    play.now += 60
    play.seconds(1, 1000, 0)
    assert play.seconds(1, 1000, 1000) == pytest.approx(40, rel=0.5)


def test_requests_of_ten_seconds_count() -> None:
    """Not one that came before, and each of the others once."""
    play = Play()
    play.requests(1000)
    for passed in (1, 5, 9):
        play.now = 5000.3 + passed
        assert play.budget.recent(play.now) == 1000
    play.now = 5000.3 + 11
    assert play.budget.recent(play.now) == 0
    play.now += 1e6
    play.requests(3)
    assert play.budget.recent(play.now) == 3


def test_steady_requests_are_counted_steadily() -> None:
    """The estimate does not jump when a second turns."""
    play = Play()
    play.seconds(12, 1000, 0)
    for _ in range(40):
        play.seconds(1, 1000, 0, steps=40)
        play.now += 0.01
        assert play.budget.recent(play.now) == pytest.approx(10_000, rel=0.02)


def test_share_after_the_requests_have_stopped() -> None:
    """It falls within ten seconds to what is always allowed."""
    play = Play(0.2, 1.0)
    play.seconds(10, 1000, 0)
    made = [play.seconds(1, 0, 1000) for _ in range(14)]
    assert made == sorted(made, reverse=True)
    assert made[-1] == 1


@pytest.mark.parametrize("processes", [2, 3, 16])
def test_all_processes_together(processes: int) -> None:
    """The part of each may be less than one a second; together they make as many as one."""
    plays = [Play(0.0, 10.0 / processes) for _ in range(processes)]
    for play in plays:
        play.retries(100)
    made = sum(play.seconds(60, 0, 100) for play in plays)
    assert made == pytest.approx(600, rel=0.1)


def test_no_retry_at_all() -> None:
    """Zero is none, also after a rest."""
    play = Play(0.0, 0.0)
    play.requests(1000)
    play.now += 100
    assert play.retries(5) == 0


def test_spending_without_a_limit_leaves_no_debt() -> None:
    """An upstream that had no budget has a whole one when it gets one."""
    play = Play()
    for _ in range(1000):
        play.budget.spend()
    play.now += 1
    assert play.retries(20) == 10
