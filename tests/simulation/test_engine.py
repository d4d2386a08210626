"""Virtual time."""

from __future__ import annotations

import pytest

from slardar.simulation.engine import Engine


def test_calls_come_in_the_order_of_their_times() -> None:
    """Those of one time come in the order in which they were given; the clock shows it."""
    engine, seen = Engine(), []

    def note(name: str) -> None:
        seen.append((name, engine.elapsed))

    for seconds, name in ((2, "c"), (1, "a"), (1, "b")):
        engine.at(seconds, note, name)
    engine.at(1.5, lambda: engine.after(3, note, "d"))
    engine.run()
    assert seen == [("a", 1), ("b", 1), ("c", 2), ("d", 4.5)]


def test_calls_that_are_cancelled_are_not_made() -> None:
    """As Twisted's delayed calls: active until they are made or cancelled."""
    engine, seen = Engine(), []
    calls = [engine.callLater(n, seen.append, n) for n in (1, 2)]
    calls[0].cancel()
    assert [call.active() for call in calls] == [False, True]
    assert calls[1].getTime() == engine.seconds() + 2
    engine.run()
    assert seen == [2]
    assert not calls[1].active()


def test_stop() -> None:
    """No call is made after the one that stops the engine, though some are planned."""
    engine, seen = Engine(), []
    engine.at(1, seen.append, 1)
    engine.at(2, engine.stop)
    engine.at(3, seen.append, 3)
    engine.run()
    assert seen == [1]
    assert engine.elapsed == pytest.approx(2)
