"""Passive health, rule by rule, at times that the test sets."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.health.rules import is_available, note_failure, note_success, set_status
from slardar.model.live import ServerLive
from slardar.model.server import Server

SERVER = Server("10.0.0.1", 80, max_fails=3, fail_timeout=10)
TIMELESS = Server("10.0.0.1", 80)


def fail(live: ServerLive, now: float, server: Server = SERVER, others: bool = True) -> bool:
    """Note a failure, while there are other servers."""
    return note_failure(live, server, now, others, f"failed at {now:g}")


def put_out(at: float = 100.0, server: Server = SERVER) -> ServerLive:
    """A server that has just been put out of service."""
    live = ServerLive()
    while not fail(live, at, server):
        pass
    return live


@pytest.mark.parametrize(
    ("config", "available"),
    [
        ({}, True),
        ({"weight": 0}, False),
        ({"state": "drain"}, False),
        ({"state": "down"}, False),
        ({"backup": True}, True),
    ],
)
def test_available_by_configuration(config: dict[str, Any], available: bool) -> None:
    """Only a server that is up and has a weight takes requests."""
    assert is_available(ServerLive(), Server("a", 80, **config), 5.0) is available


def test_available_by_time() -> None:
    """It is out before ``down_until``, and available from then on."""
    live = ServerLive()
    live.down_until = 50.0
    assert [is_available(live, SERVER, now) for now in (49.9, 50.0, 51.0)] == [False, True, True]


def test_max_fails_put_it_out() -> None:
    """The third failure within the time puts it out, for as long from then on."""
    live = ServerLive()
    assert [fail(live, now) for now in (100.0, 104.0, 109.0)] == [False, False, True]
    assert live.down_until == 119.0
    assert (live.status, live.msg, live.fail_num) == ("err", "failed at 109", 3)


def test_failures_far_apart() -> None:
    """Failures that are more than ``fail_timeout`` from the first begin a new count."""
    live = ServerLive()
    assert not any(fail(live, 100.0 + 6 * n) for n in range(20))
    assert is_available(live, SERVER, 1000.0)


def test_at_the_edge_of_the_time() -> None:
    """A failure exactly ``fail_timeout`` after the first counts with it."""
    live = ServerLive()
    assert [fail(live, now) for now in (100.0, 100.0, 110.0)] == [False, False, True]
    live = ServerLive()
    assert [fail(live, now) for now in (100.0, 100.0, 110.1)] == [False, False, False]


def test_successes_between_failures() -> None:
    """Successes within the time do not clear the count (as with nginx), so a server that fails
    now and then still goes out; ``fail_num`` counts failures in a row."""
    live = ServerLive()
    fail(live, 100.0)
    assert not note_success(live, SERVER, 101.0)
    assert (live.fails, live.fail_num, live.status) == (1, 0, "ok")
    fail(live, 102.0)
    note_success(live, SERVER, 103.0)
    assert fail(live, 104.0)


def test_a_success_after_the_time_clears() -> None:
    """Once the time is over, a success clears the count."""
    live = ServerLive()
    fail(live, 100.0)
    fail(live, 101.0)
    note_success(live, SERVER, 111.0)
    assert live.fails == 0


def test_max_fails_one() -> None:
    """nginx's default: the first failure puts it out."""
    assert fail(ServerLive(), 0.5, Server("a", 80, max_fails=1))


def test_max_fails_zero() -> None:
    """0 never puts it out nor changes its status; failures in a row are still shown, and
    the next success clears them."""
    live = ServerLive()
    set_status(live, "ok", "")
    assert not any(fail(live, 100.0, TIMELESS) for _ in range(1000))
    assert is_available(live, TIMELESS, 100.0)
    assert (live.status, live.msg, live.fail_num) == ("ok", "failed at 100", 1000)
    assert live.fails, "a success must be told of"
    assert not note_success(live, TIMELESS, 100.5)
    assert (live.status, live.msg, live.fail_num, live.fails) == ("ok", "", 0, 0)


def test_fail_timeout_zero() -> None:
    """A server that is put out for no time is never out."""
    server = Server("a", 80, max_fails=1, fail_timeout=0)
    live = ServerLive()
    fail(live, 100.0, server)
    assert is_available(live, server, 100.0)


def test_probation_success() -> None:
    """After its time out, one success brings it fully back."""
    live = put_out(100.0)
    assert is_available(live, SERVER, 110.0)
    assert note_success(live, SERVER, 110.0)
    assert (live.fails, live.fail_num, live.down_until) == (0, 0, 0.0)
    assert (live.status, live.msg) == ("ok", "")
    assert not fail(live, 111.0)


def test_probation_failure() -> None:
    """After its time out, one failure puts it out at once, for the same time."""
    live = put_out(100.0)
    assert fail(live, 500.0)
    assert live.down_until == 510.0


def test_what_was_sent_before() -> None:
    """While it is out, successes of earlier requests change nothing, and failures only prolong
    the time."""
    live = put_out(100.0)
    assert not note_success(live, SERVER, 105.0)
    assert (live.status, live.down_until, live.fails) == ("err", 110.0, 3)
    assert not fail(live, 106.0)
    assert live.down_until == 116.0


def test_the_last_good_one_stays() -> None:
    """Without another server it is unstable, but stays in service, however often it fails."""
    live = ServerLive()
    assert not any(fail(live, 100.0, others=False) for _ in range(50))
    assert is_available(live, SERVER, 100.0)
    assert (live.status, live.msg) == ("unstable", "failed at 100")


def test_unstable_then_good() -> None:
    """A success makes an unstable one ok."""
    live = ServerLive()
    for _ in range(3):
        fail(live, 100.0, others=False)
    assert not note_success(live, SERVER, 100.5), "it was in service all the time"
    assert (live.status, live.fails) == ("ok", 0)


def test_unstable_until_another_is_back() -> None:
    """Its next failure after another server came back puts it out, however late."""
    live = ServerLive()
    for _ in range(3):
        fail(live, 100.0, others=False)
    assert fail(live, 900.0)
    assert live.status == "err"


def test_out_with_no_other() -> None:
    """A late failure does not prolong the time of a server when there is no other."""
    live = put_out(100.0)
    assert not fail(live, 106.0, others=False)
    assert (live.status, live.down_until) == ("err", 110.0)


def test_first_success() -> None:
    """The first reply makes an unchecked server ok."""
    live = ServerLive()
    assert live.status == "unchecked"
    assert not note_success(live, SERVER, 1.0)
    assert live.status == "ok"


def test_unstable_ends_with_the_next_success() -> None:
    """Also if ``max_fails`` was edited meanwhile, so that the count is not at it."""
    for server in (SERVER, TIMELESS, Server("10.0.0.1", 80, max_fails=9)):
        live = ServerLive()
        for _ in range(3):
            fail(live, 100.0, others=False)
        assert live.status == "unstable"
        note_success(live, server, 101.0)
        assert live.status == "ok"


def test_an_edit_of_max_fails() -> None:
    """The new rules hold: earlier failures count for a lower limit; with a higher limit a
    server on probation still comes back with one success."""
    live = ServerLive()
    fail(live, 100.0)
    assert fail(live, 101.0, Server("a", 80, max_fails=2))
    live = put_out(100.0)
    assert note_success(live, Server("a", 80, max_fails=9), 110.0)
    assert live.fails == 0


def test_last_modified(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the time of the last change of status or message, not of the last call."""
    live = ServerLive()
    now = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr("slardar.health.rules.time.time", lambda: next(now))
    set_status(live, "ok", "")
    set_status(live, "ok", "")
    assert live.last_modified == 1.0
    set_status(live, "ok", "refused")
    assert live.last_modified == 2.0
    set_status(live, "err", "refused")
    assert live.last_modified == 3.0
