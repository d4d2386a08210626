"""Who guesses tokens has to wait."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from slardar.control.guesses import _MAX_ADDRESSES, MAX_WRONG, WAIT, Guesses


@pytest.fixture
def clock() -> Clock:
    return Clock()


def guess(guesses: Guesses, address: str, times: int) -> None:
    for _ in range(times):
        assert guesses.wait(address) == 0
        guesses.note(address)


def test_address_waits_after_some_wrong_tokens(clock: Clock) -> None:
    """The wait begins with the last of them; then the count begins anew."""
    guesses = Guesses(clock.seconds)
    guess(guesses, "10.0.0.1", MAX_WRONG - 1)
    clock.advance(WAIT - 1)
    guess(guesses, "10.0.0.1", 1)
    assert guesses.wait("10.0.0.1") == WAIT
    assert guesses.wait("10.0.0.2") == 0
    clock.advance(WAIT)
    guess(guesses, "10.0.0.1", MAX_WRONG)
    assert guesses.wait("10.0.0.1") == WAIT


def test_wrong_tokens_now_and_then_are_forgotten(clock: Clock) -> None:
    """A script with an old token does not shut its operator out."""
    guesses = Guesses(clock.seconds)
    for _ in range(10 * MAX_WRONG):
        guess(guesses, "10.0.0.1", 1)
        clock.advance(WAIT / (MAX_WRONG - 1) + 1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
def test_addresses_of_one_machine_wait_together(
    clock: Clock, one: str, other: str, same: bool
) -> None:
    """A machine has all addresses of an IPv6 network of 64 bits."""
    guesses = Guesses(clock.seconds)
    guess(guesses, one, MAX_WRONG)
    assert (guesses.wait(other) > 0) == same


def test_memory_is_bounded(clock: Clock) -> None:
    """The address whose last wrong token is the oldest is forgotten."""
    guesses = Guesses(clock.seconds)
    guess(guesses, "10.0.0.1", MAX_WRONG)
    guess(guesses, "10.0.0.2", MAX_WRONG)
    for number in range(_MAX_ADDRESSES - 1):
        guesses.note(f"192.0.{number // 256}.{number % 256}")
    assert guesses.wait("10.0.0.1") == 0
    assert guesses.wait("10.0.0.2") == WAIT
