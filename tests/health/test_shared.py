"""A server's health as one worker has seen it, taken over by another."""

from __future__ import annotations

from slardar.health import rules
from slardar.health.shared import note_back, note_out
from slardar.model.live import ServerLive
from slardar.model.server import Server

CONFIG = Server(host="h", port=1, max_fails=3, fail_timeout=10)


def is_available(live: ServerLive, now: float) -> bool:
    """Whether it gets requests."""
    return rules.is_available(live, CONFIG, now)


def test_server_is_out_for_as_long_as_there() -> None:
    """After that it is on probation: one failure puts it out again."""
    live = ServerLive()
    assert note_out(live, CONFIG, 100.0, 4.0, True, "refused")
    assert (live.status, live.msg) == ("err", "refused")
    assert not is_available(live, 103.9)
    assert is_available(live, 104.0)
    assert rules.note_failure(live, CONFIG, 104.0, True, "again")
    assert not is_available(live, 113.9)


def test_success_after_that_ends_the_probation() -> None:
    """As if this worker had met the failures."""
    live = ServerLive()
    note_out(live, CONFIG, 100.0, 4.0, True, "refused")
    assert rules.note_success(live, CONFIG, 105.0)
    assert (live.status, live.fails) == ("ok", 0)


def test_last_server_stays_in_service() -> None:
    """The report of one worker leaves no other worker without a server."""
    live = ServerLive()
    assert not note_out(live, CONFIG, 100.0, 4.0, False, "refused")
    assert is_available(live, 100.0)
    assert live.status == "unstable"


def test_what_is_known_already_changes_nothing() -> None:
    """One that is out for longer stays so."""
    live = ServerLive()
    live.down_until, live.status, live.msg = 105.0, "err", "own"
    assert not note_out(live, CONFIG, 100.0, 4.0, True, "other")
    assert (live.down_until, live.msg) == (105.0, "own")


def test_time_that_is_longer_there_holds_here() -> None:
    """This also holds if no other server is left by now: it is out already."""
    live = ServerLive()
    note_out(live, CONFIG, 100.0, 4.0, True, "refused")
    assert note_out(live, CONFIG, 102.0, 10.0, False, "refused")
    assert not is_available(live, 111.9)


def test_server_that_came_back_there_is_back_here() -> None:
    """No failure is held against it."""
    live = ServerLive()
    note_out(live, CONFIG, 100.0, 4.0, True, "refused")
    assert note_back(live)
    assert is_available(live, 100.0)
    assert (live.status, live.fails, live.fail_num, live.msg) == ("ok", 0, 0, "")
    assert not note_back(live)
