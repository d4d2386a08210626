"""When a certificate is ordered, and by which challenge, with times that the tests choose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slardar.acme import rules
from slardar.model.acme import Order
from slardar.model.listener import spec_of

DAY = 86400.0
PLAIN, SECURE = spec_of("tcp:80"), spec_of("tls:443")
TIMES = st.floats(0, 2e9)


def whole() -> float:
    """The longest pause that is drawn by lot."""
    return 1.0


@pytest.mark.parametrize(
    ("listeners", "kinds"),
    [
        ([PLAIN], (rules.HTTP,)),
        ([SECURE], (rules.TLS,)),
        ([SECURE, PLAIN], (rules.HTTP, rules.TLS)),
        ([spec_of("haproxy:tls:1"), spec_of("unix:a")], (rules.HTTP, rules.TLS)),
    ],
)
def test_challenges_are_those_that_listeners_can_answer(
    listeners: list[rules.ListenerSpec], kinds: tuple[str, ...]
) -> None:
    """HTTP-01 comes first."""
    assert rules.kinds_available(listeners) == kinds


def test_after_a_failure_one_type_is_tried_at_a_time() -> None:
    """In turns: a CA lets a name fail a few times an hour only."""
    both = (rules.HTTP, rules.TLS)
    assert rules.kinds_to_try(both, "") == both
    assert rules.kinds_to_try(both, rules.TLS) == (rules.HTTP,)
    assert rules.kinds_to_try(both, rules.HTTP) == (rules.TLS,)
    assert rules.kinds_to_try((rules.TLS,), rules.TLS) == (rules.TLS,)
    # There was a listener for it.
    assert rules.kinds_to_try((rules.TLS,), rules.HTTP) == (rules.TLS,)


@pytest.mark.parametrize(
    ("days", "suggested", "at"),
    [
        (90, None, 60),
        (6, None, 4),
        (90, 30, 30),
        (90, 75, 75),
        # Never so late that it expires, ...
        (90, 89, 81),
        (90, 9000, 81),
        # ... and never so early that each new one is renewed at once.
        (90, -5, 1),
        (6, 0, 1),
        (3, 0, 0.5),
    ],
)
def test_time_of_renewal(days: float, suggested: float | None, at: float) -> None:
    """After two thirds of the life, or when the CA suggests it."""
    asked = None if suggested is None else (1000 + suggested) * DAY
    found = rules.renewal_time(1000 * DAY, (1000 + days) * DAY, 1000 * DAY, asked)
    assert found / DAY == pytest.approx(1000 + at)


@given(TIMES, TIMES, TIMES, st.none() | st.floats(allow_nan=False, allow_infinity=False))
def test_time_of_renewal_is_neither_at_once_nor_too_late(
    begins: float, ends: float, got: float, suggested: float | None
) -> None:
    """Whatever a CA says, and however old a certificate is when it comes."""
    found = rules.renewal_time(begins, ends, got, suggested)
    assert found >= got + 60 - 1e-3
    if ends - got > 600 and begins <= got:
        assert found <= ends - (ends - got) / 10 + 1e-3


def test_pauses_after_failures_grow() -> None:
    """From five minutes to six hours, up to half of which is taken away by lot."""
    pauses = []
    order = Order()
    for _ in range(9):
        order = rules.after_failure(order, "no", 100.0, draw=whole)
        pauses.append(order.next - 100.0)
    assert pauses == [300, 600, 1200, 2400, 4800, 9600, 19200, 21600, 21600]
    assert order == Order(failures=9, next=100.0 + 21600, error="no")
    half = rules.after_failure(Order(), "no", 100.0, draw=lambda: 0.0)
    assert half.next == 250.0


@pytest.mark.parametrize(("asked", "seconds"), [(1, 300), (3600, 3600), (1e9, DAY)])
def test_ca_can_put_off_the_next_try(asked: float, seconds: float) -> None:
    """For a day at most."""
    assert rules.after_failure(Order(), "no", 0.0, asked, draw=whole).next == seconds


def test_order_is_of_one_node_until_it_lapses() -> None:
    """Whoever takes it then counts a failure."""
    assert rules.not_before(None, 0.0) == 0.0
    first = rules.begun("a", 1000.0, None)
    assert (first.node, first.began, first.failures) == ("a", 1000.0, 0)
    assert rules.not_before(first, 1000.0) == first.until == 1000.0 + rules.LEASE
    second = rules.begun("b", 2000.0, first)
    assert (second.node, second.failures) == ("b", 1)
    # What failed by another reason says nothing of challenges.
    failed = rules.after_failure(second, "no", 3000.0, 0.0, rules.TLS)
    assert rules.after_failure(failed, "no", 4000.0).kind == rules.TLS
    assert rules.begun("b", 9000.0, failed).kind == rules.TLS
    # It was let go of, or has failed.
    assert rules.begun("b", 2000.0, Order(failures=3, next=5.0)).failures == 3
    assert rules.not_before(Order(failures=3, next=5.0), 0.0) == 5.0


def test_node_that_ends_in_every_order_tries_ever_more_rarely() -> None:
    """As if each order had failed."""
    now, order, pauses = 0.0, None, []
    for _ in range(9):
        order = rules.begun("a", now, order)
        pauses.append(rules.not_before(order, now) - now)
        now = rules.not_before(order, now)
    assert pauses == sorted(pauses)
    assert pauses[0] == rules.LEASE
    assert pauses[-1] == 3 * 3600.0


def test_times_of_a_wrong_clock_do_not_count() -> None:
    """Else a name would wait for its certificate for years."""
    for order in (Order(next=1e9), Order("a", 1e9, 1e9 + 360), Order("a", 1.0, 1e9)):
        assert rules.not_before(order, 1000.0) == 0.0
        assert rules.not_before(order, 1e9 - DAY) >= 1e9


@pytest.mark.parametrize(("asked", "seconds"), [(0, 1), (3, 3), (1e9, 15)])
def test_ca_is_asked_again_soon(asked: float, seconds: float) -> None:
    """Whatever it says."""
    assert rules.pause(asked) == seconds


def test_order_is_over_before_it_lapses() -> None:
    """So two nodes never go on with one at a time."""
    from slardar.acme import orders

    assert orders._WHOLE + orders._QUESTION <= rules.LEASE
