"""Ejections and hints of workers: told on, kept for later workers; and never too many
ejected."""

from __future__ import annotations

from sys import setprofile
from typing import Any

from msgspec import structs
from twisted.logger import formatEvent

from slardar.health.checked import shown
from slardar.health.verdicts import Ejection, Hint
from slardar.workers.messages import Begin, Verdicts
from tests.dataplane.kit import logged
from tests.workers.kit import result_of, snapshot, upstream
from tests.workers.team import Team

OUTLIER = {"outlier": {"eject": 30, "max_share": 0.5}}


def out(port: int, seconds: float = 30.0, times: int = 1, **keys: Any) -> Ejection:
    """A server of ``a`` is ejected."""
    return structs.replace(Ejection("a", "127.0.0.1", port, seconds, times, "5 of 9"), **keys)


def team_of(count: int) -> tuple[Team, Any, Any]:
    """So many servers, and two workers."""
    team = Team(2)
    servers = upstream("a", *range(1, count + 1), **OUTLIER)
    team.start(snapshot(1, servers, upstream("never", 1)))
    one, other = team.processes
    return team, one, other


def test_ejection_reaches_the_others() -> None:
    """Those that serve and those that begin later, for the rest of the time; it is logged
    and shown."""
    team, one, other = team_of(4)
    with logged() as events:
        one.say(Verdicts(extras=(out(1),)))
    lines = [formatEvent(one) for one in events if one["log_namespace"] == "slardar.dataplane"]
    assert lines == ["upstream a: server 127.0.0.1:1 is ejected for 30 s: 5 of 9"]
    assert (one.of(Verdicts), other.of(Verdicts)) == ([], [Verdicts(extras=(out(1),))])
    team.clock.advance(10)
    live = team.workers.peers("a")["127.0.0.1:1"]
    assert shown(live)[0::2] == ("err", "5 of 9")
    other.die()
    team.clock.advance(0)
    assert team.processes[2].of(Begin)[0].health == Verdicts(extras=(out(1, 20.0),))
    assert list(team.workers.known_extras()) == [out(1, 20.0)]
    team.clock.advance(20)
    assert list(team.workers.known_extras()) == [out(1, 0.0, calm=0.0)]
    assert shown(team.workers.peers("a")["127.0.0.1:1"]).status == "unchecked"


def test_cap_holds_over_all_workers() -> None:
    """What is over it is taken back in the worker that did it, and told to no other; one
    that is ejected already may be ejected for longer."""
    team, one, other = team_of(4)
    one.say(Verdicts(extras=(out(1),)))
    other.say(Verdicts(extras=(out(2), out(3))))
    assert one.of(Verdicts) == [Verdicts(extras=(out(2),))]
    assert other.of(Verdicts)[1:] == [Verdicts(extras=(out(3, 0.0),))]
    one.say(Verdicts(extras=(out(2, 60.0, 2),)))
    assert list(team.workers.known_extras()) == [out(1), out(2, 60.0, 2)]
    team.clock.advance(30)
    other.say(Verdicts(extras=(out(3),)))
    assert [extra.port for extra in team.workers.known_extras() if extra.seconds] == [2, 3]


def test_worker_ejects_no_server_for_longer_than_the_rules() -> None:
    """Nor a server that does not exist, or whose upstream ejects none."""
    _, one, other = team_of(4)
    one.say(Verdicts(extras=(out(1, 1e6), out(9), out(1, upstream="never"))))
    one.say(Verdicts(extras=(out(1, upstream="nobody"),)))
    assert other.of(Verdicts) == [Verdicts(extras=(out(1, 300.0),))]


def test_changes_of_the_upstream() -> None:
    """A removed server leaves nothing; without the key nobody is ejected; others stay."""
    team, one, _ = team_of(4)
    one.say(Verdicts(extras=(out(1), out(2))))
    team.apply(snapshot(2, upstream("a", 2, 3, 4, **OUTLIER)), "a")
    assert list(team.workers.known_extras()) == [out(2)]
    team.apply(snapshot(3, upstream("a", 2, 3, 4)), "a")
    assert list(team.workers.known_extras()) == []


def test_ejections_are_known_before_the_start() -> None:
    """They were handed over by a predecessor; a panic counts them."""
    team = Team(1)
    team.apply(snapshot(1, upstream("a", 1, 2, panic=0.6, **OUTLIER)), "a")
    team.workers.set_extras([out(1), out(2)])
    result_of(team.workers.start())
    assert team.processes[0].of(Begin)[0].health == Verdicts(extras=(out(1),))
    assert list(team.workers.statistics()["panic"]) == ["a"]


def test_many_at_once_cost_no_more_each() -> None:
    """Ten times as many cost about ten times as much."""

    def cost(count: int) -> int:
        _, one, _ = team_of(2 * count)
        calls = 0

        def note(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += 1

        setprofile(note)
        one.say(Verdicts(extras=tuple(map(out, range(1, count + 1)))))
        setprofile(None)
        return calls

    assert cost(3000) < 13 * cost(300)


HINTS = {"hints": True}


def said(port: int, **keys: Any) -> Hint:
    """A server of ``a`` has said this of itself."""
    return structs.replace(Hint("a", "127.0.0.1", port, 0.0, False, None), **keys)


def test_hints_reach_the_others() -> None:
    """What one worker has heard, others and later ones know; the last word holds."""
    team = Team(2)
    team.start(snapshot(1, upstream("a", 1, 2, **HINTS), upstream("never", 1)))
    one, other = team.processes
    hints = (said(1, drains=True), said(2, weight=5.0), said(2, full_for=0.9, weight=5.0))
    one.say(Verdicts(extras=hints))
    one.say(Verdicts(extras=(said(9, drains=True), said(1, upstream="never", drains=True))))
    assert (one.of(Verdicts), other.of(Verdicts)) == ([], [Verdicts(extras=hints)])
    team.clock.advance(1)
    other.die()
    team.clock.advance(0)
    known = (said(1, drains=True), said(2, weight=5.0))
    assert team.processes[2].of(Begin)[0].health == Verdicts(extras=known)
    one.say(Verdicts(extras=(said(1),)))
    assert list(team.workers.known_extras()) == [said(2, weight=5.0)]


def test_hints_of_heartbeats_reach_every_worker() -> None:
    """If they are news; what was heard in replies is known."""
    team = Team(2)
    team.start(snapshot(1, upstream("a", 1, 2, **HINTS), upstream("never", 1)))
    one, other = team.processes
    one.say(Verdicts(extras=(said(1, drains=True),)))
    team.workers.hint("a", "127.0.0.1", 1, "drain")
    team.workers.hint("a", "127.0.0.1", 9, "drain")
    team.workers.hint("never", "127.0.0.1", 1, "drain")
    team.workers.hint("nobody", "127.0.0.1", 1, "drain")
    assert one.of(Verdicts) == []
    team.workers.hint("a", "127.0.0.1", 1, "up, weight=2")
    assert one.of(Verdicts) == [Verdicts(extras=(said(1, weight=2.0),))]
    assert other.of(Verdicts)[1:] == one.of(Verdicts)


def test_hints_end_with_the_server_and_with_the_key() -> None:
    """The others stay."""
    team = Team(1)
    first = snapshot(1, upstream("a", 1, 2, **HINTS))
    team.apply(first, "a")
    team.workers.set_extras([said(1, drains=True), said(2, drains=True)])
    result_of(team.workers.start())
    team.apply(snapshot(2, upstream("a", 2, **HINTS)), "a")
    assert list(team.workers.known_extras()) == [said(2, drains=True)]
    team.apply(snapshot(3, upstream("a", 2)), "a")
    assert list(team.workers.known_extras()) == []
