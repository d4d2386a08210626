"""What workers are told, and what comes of their reports; the processes are pretended."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from sys import setprofile
from typing import Any

import pytest
from msgspec import structs
from twisted.logger import formatEvent
from zope.interface.verify import verifyObject

from slardar.config import Health
from slardar.dataplane.balancer_errors import BalancerError
from slardar.health.checked import shown
from slardar.health.verdicts import Heartbeat, Verdict
from slardar.interfaces import IPlane
from slardar.model.parse import parse_upstream
from slardar.model.server import Upstream
from slardar.plugins import find_probe
from slardar.workers import messages
from slardar.workers.messages import (
    Addresses,
    BalancerReport,
    Begin,
    Delta,
    Done,
    Grown,
    Report,
    ServerReport,
    Verdicts,
    Whole,
)
from slardar.workers.parent import Workers
from slardar.workers.supervisor import WorkerError
from tests.dataplane.kit import HandReactor, logged
from tests.workers.kit import failure_of, result_of, snapshot, upstream
from tests.workers.team import FAILS, Team


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    """The events that were logged, deaths among them."""
    with logged() as events:
        yield events


def test_workers_are_a_plane() -> None:
    """They provide the interface that the service and the control channel use."""
    verifyObject(IPlane, Team().workers)


def test_change_is_confirmed_by_every_worker() -> None:
    """The answer comes after the last confirmation."""
    team = Team(2)
    team.start(first := snapshot(1, upstream("a", 1)))
    one, other = team.processes
    other.is_slow = True
    following = first.with_upstream(upstream("b", 2))
    answer = team.workers.apply(following, ["b"])
    assert not answer.called
    other.go_on()
    assert result_of(answer) == {"workers": {"worker-0": 2, "worker-1": 2}}
    (change,) = one.of(Delta)
    assert (change.base, change.version) == (1, 2)
    assert [found.name for found in change.upstreams] == ["b"]
    assert not one.of(Whole)


def test_workers_are_told_now_and_then_to_time_servers() -> None:
    """Every worker; not with each call of somebody who looks, and again before the time ends."""
    team = Team(2)
    team.start(snapshot(1, upstream("a", 1)))
    for pause in (0, 2, 5.9, 0.2):
        team.clock.advance(pause)
        team.workers.time_servers(15.0)
    for process in team.processes:
        assert process.of(messages.TimeServers) == [messages.TimeServers(15.0)] * 2


def test_changes_go_out_without_waiting_for_each_other() -> None:
    """A later change may be sent before an earlier one is confirmed."""
    team = Team(1)
    process = team.start(first := snapshot(1))
    process.is_slow = True
    second = first.with_upstream(upstream("b", 2))
    third = second.with_upstream(upstream("c", 3))
    answers = [team.workers.apply(second, ["b"]), team.workers.apply(third, ["c"])]
    assert [(change.base, change.version) for change in process.of(Delta)] == [(1, 2), (2, 3)]
    process.go_on()
    assert [result_of(answer)["workers"]["worker-0"] for answer in answers] == [2, 3]


def test_worker_at_another_version_gets_the_whole() -> None:
    """It confirms the whole."""
    team = Team(2)
    team.start(first := snapshot(1, upstream("a", 1)))
    team.processes[0].version = 99
    following = first.with_upstream(upstream("b", 2))
    assert team.apply(following, "b") == {"workers": {"worker-0": 2, "worker-1": 2}}
    (whole,) = team.processes[0].of(Whole)
    assert {found.name for found in whole.upstreams} == {"a", "b"}
    assert team.apply(following.with_upstream(upstream("c", 3)), "c")["workers"] == {
        "worker-0": 3,
        "worker-1": 3,
    }
    assert len(team.processes[0].of(Whole)) == 1


def test_worker_that_refuses_a_change_fails_it() -> None:
    """The error names the worker and its reason, and the worker gets the whole with the next
    change."""
    team = Team(2)
    team.start(first := snapshot(1))
    team.processes[1].answers.append(Done(1, "ConfigError: no such balancer"))
    second = first.with_upstream(upstream("b", 2))
    error = failure_of(team.workers.apply(second, ["b"]))
    assert isinstance(error, WorkerError)
    assert str(error) == "worker-1: ConfigError: no such balancer"
    third = second.with_upstream(upstream("b", 3))
    assert team.apply(third, "b") == {"workers": {"worker-0": 3, "worker-1": 3}}
    assert (len(team.processes[0].of(Whole)), len(team.processes[1].of(Whole))) == (0, 1)


@pytest.mark.parametrize("answer", [Done(1), Done(1, stale=True)])
def test_worker_that_confirms_something_else_is_killed(answer: Done) -> None:
    """With its answer, the answer to the caller would be wrong."""
    team = Team(1)
    process = team.start(first := snapshot(1))
    process.answers += [answer, answer]
    assert team.apply(first.with_upstream(upstream("b", 2)), "b") == {"workers": {}}
    assert len(process.kills) == 1


def test_worker_that_dies_meanwhile_is_not_waited_for() -> None:
    """Its replacement begins with the changed configuration."""
    team = Team(2)
    team.start(first := snapshot(1))
    team.processes[0].is_slow = True
    answer = team.workers.apply(first.with_upstream(upstream("b", 2)), ["b"])
    team.processes[0].die()
    assert result_of(answer) == {"workers": {"worker-1": 2}}
    team.clock.advance(0)
    assert team.processes[2].version == 2


def test_worker_that_begins_is_told_of_changes() -> None:
    """It also confirms a change that comes while it loads."""
    team = Team(1)
    team.start(first := snapshot(1))
    team.prepare = lambda process: setattr(process, "is_slow", True)
    team.processes[0].die()
    team.clock.advance(0)
    replacement = team.processes[1]
    answer = team.workers.apply(first.with_upstream(upstream("b", 2)), ["b"])
    assert not answer.called
    replacement.go_on()
    assert result_of(answer) == {"workers": {"worker-0": 2}}


def report(requests: int, *servers: ServerReport) -> Report:
    """A report of so many requests."""
    return Report(1, requests, requests, 0, 3, 1, 0, servers)


def about(name: str, port: int, requests: int) -> ServerReport:
    """A server of one upstream."""
    return ServerReport(name, "127.0.0.1", port, requests, 0, 0, "ok", 0, 1.0, "")


def test_status_is_of_all_workers() -> None:
    """It has totals, and each worker's own numbers."""
    team = Team(2)
    team.start()
    team.clock.advance(3)
    team.processes[0].say(report(10, about("a", 1, 10)))
    team.processes[1].say(report(5, about("a", 1, 4), about("a", 2, 1)))
    shown = team.workers.statistics()
    assert (shown["requests"], shown["connections"], shown["version"]) == (15, 6, 1)
    assert shown["workers"]["worker-1"] == {
        "pid": 1001,
        "version": 1,
        "connections": 3,
        "requests": 5,
        "age": 3.0,
        "restarts": 0,
    }
    peers = team.workers.peers("a")
    assert {key: live.requests for key, live in peers.items()} == {
        "127.0.0.1:1": 14,
        "127.0.0.1:2": 1,
    }
    assert team.workers.peers("gone") == {}


def test_servers_that_a_worker_invents_are_not_counted() -> None:
    """Unknown servers in a report take no memory."""
    team = Team(1)
    process = team.start()
    invented = [about(f"x{n}", 1, 1) for n in range(1000)] + [about("a", 3, 1)]
    process.say(report(1, *invented, about("a", 1, 7)))
    assert list(team.workers._tally._servers) == [("a", "127.0.0.1", 1)]


def test_server_that_was_removed_is_forgotten() -> None:
    """It begins anew if it is added again; the other servers' counters stay."""
    team = Team(1)
    first = snapshot(1, upstream("a", 1, 2, **FAILS))
    process = team.start(first)
    process.say(report(1, about("a", 1, 7), about("a", 2, 8)))
    process.say(Verdicts((Verdict("a", "127.0.0.1", 2, 5, "refused"),)))
    second = first.with_upstream(upstream("a", 1, **FAILS))
    team.apply(second, "a")
    team.apply(second.with_upstream(upstream("a", 1, 2, **FAILS)), "a")
    peers = team.workers.peers("a")
    assert [peers[f"127.0.0.1:{port}"].requests for port in (1, 2)] == [7, 0]
    assert team.workers._down == {}


def test_health_reaches_the_other_workers() -> None:
    """The worker that reported it does not get it back."""
    team = Team(3)
    team.start()
    one, *others = team.processes
    out = Verdict("a", "127.0.0.1", 1, 5.0, "refused")
    one.say(Verdicts((out,)))
    back = Verdict("a", "127.0.0.1", 1, 0.0, "")
    one.say(Verdicts((back,)))
    assert one.of(Verdicts) == []
    assert [other.of(Verdicts) for other in others] == [[Verdicts((out,)), Verdicts((back,))]] * 2


def test_health_reaches_a_worker_that_is_leaving() -> None:
    """It still has requests to finish."""
    team = Team(2)
    team.start()
    one, grown = team.processes
    grown.say(Grown())
    out = Verdict("a", "127.0.0.1", 1, 5.0, "refused")
    one.say(Verdicts((out,)))
    assert grown in team.workers._supervisor.leaving
    assert grown.of(Verdicts) == [Verdicts((out,))]


def test_health_is_logged_once() -> None:
    """One line for all workers together, and another only when it has changed; none for a
    removed server or one that was known to be out at the start."""
    team = Team(2)
    team.apply(snapshot(1, upstream("a", 1, 2, **FAILS)), "a")
    team.workers.set_health([Verdict("a", "127.0.0.1", 2, 4.0, "refused")])
    with logged() as events:
        result_of(team.workers.start())
        one, other = team.processes
        for _ in range(3):
            one.say(Verdicts((Verdict("a", "127.0.0.1", 1, 5.0, "Connection refused"),)))
            other.say(Verdicts((Verdict("a", "127.0.0.1", 1, 5.0, "timed out"),)))
            # The server is tried in between.
            team.clock.advance(6)
        one.say(Verdicts((Verdict("a", "127.0.0.1", 2, 5.0, "Connection refused"),)))
        for process in team.processes:
            process.say(Verdicts((Verdict("a", "127.0.0.1", 1, 0.0, ""),)))
            process.say(Verdicts((Verdict("a", "127.0.0.1", 2, 0.0, ""),)))
        one.say(Verdicts((Verdict("a", "127.0.0.1", 1, 5.0, "Connection refused"),)))
        team.apply(snapshot(2, upstream("a", 2, **FAILS)), "a")
        team.apply(snapshot(3, upstream("a", 1, 2, **FAILS)), "a")
        one.say(Verdicts((Verdict("a", "127.0.0.1", 1, 0.0, ""),)))
    lines = [formatEvent(event) for event in events]
    assert [line for line in lines if line.startswith("upstream ")] == [
        "upstream a: server 127.0.0.1:1 is out of service: Connection refused",
        "upstream a: server 127.0.0.1:1 is back in service",
        "upstream a: server 127.0.0.1:2 is back in service",
        "upstream a: server 127.0.0.1:1 is out of service: Connection refused",
    ]


def test_replacement_knows_who_is_out_of_service() -> None:
    """It knows while the server is out, and then that no request has succeeded since."""
    team = Team(1)
    process = team.start()
    process.say(Verdicts((Verdict("a", "127.0.0.1", 1, 5.0, "refused"),)))
    process.say(Verdicts((Verdict("a", "127.0.0.1", 2, 1.0, "refused"),)))
    team.clock.advance(2)
    process.die()
    team.clock.advance(0)
    health = team.processes[1].told[0].health
    assert health.requests == (
        Verdict("a", "127.0.0.1", 1, 3.0, "refused"),
        Verdict("a", "127.0.0.1", 2, 0.0, "refused", on_probation=True),
    )
    team.processes[1].say(Verdicts((Verdict("a", "127.0.0.1", 2, 0.0, ""),)))
    assert [verdict.port for verdict in team.workers.known_health()] == [1]


def test_worker_puts_no_server_out_for_longer_than_its_rules() -> None:
    """It also cannot put out an unknown server, or one that the rules never put out."""
    team = Team(2)
    team.start(snapshot(1, upstream("a", 1, **FAILS), upstream("never", 2)))
    one, other = team.processes
    one.say(Verdicts((Verdict("a", "127.0.0.1", 1, 1e6, "x"),)))
    one.say(Verdicts((Verdict("never", "127.0.0.1", 2, 5.0, "x"),)))
    one.say(Verdicts((Verdict("a", "127.0.0.1", 77, 5.0, "x"),)))
    one.say(Verdicts((Verdict("nobody", "127.0.0.1", 1, 5.0, "x"),)))
    assert [health.down_for for told in other.of(Verdicts) for health in told.requests] == [300, 0]


def test_health_of_many_is_told_on_in_one_message() -> None:
    """A worker's heartbeats, which it cannot have, are nobody's."""
    team = Team(3)
    team.start(snapshot(1, upstream("a", *range(1, 301), **FAILS)))
    one, *others = team.processes
    found = tuple(Verdict("a", "127.0.0.1", port, 5.0, "refused") for port in range(1, 400))
    invented = Heartbeat("a", "127.0.0.1", 1, "err", 1.0, "x")
    one.say(Verdicts(found, (invented,)))
    assert [other.of(Verdicts) for other in others] == [[Verdicts(found[:300])]] * 2
    one.say(Verdicts((), (invented,)))
    assert [len(other.of(Verdicts)) for other in others] == [1, 1]
    assert list(team.workers.known_checked()) == []


def test_thousands_of_verdicts_cost_no_more_each() -> None:
    """Ten times as many verdicts on ten times as many servers cost about ten times as much
    in the director."""

    def cost(count: int) -> int:
        team = Team(2)
        team.start(snapshot(1, upstream("a", *range(1, count + 1), **FAILS)))
        out, back, checked = [
            tuple(kind("a", "127.0.0.1", port, *rest) for port in range(1, count + 1))
            for kind, rest in (
                (Verdict, (5.0, "refused")),
                (Verdict, (0.0, "")),
                (Heartbeat, ("err", 1.0, "x")),
            )
        ]
        calls = 0

        def note(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += 1

        setprofile(note)
        for verdicts in (out, out, back):
            team.processes[0].say(Verdicts(verdicts))
        team.workers.set_checked(checked)
        team.workers.peers("a")
        setprofile(None)
        return calls

    assert cost(3000) < 13 * cost(300)


def test_heartbeats_reach_every_worker() -> None:
    """Those that serve and those that begin later; the status shows them; they end with
    their server."""
    team = Team(2)
    first = snapshot(1, upstream("a", 1, 2, **FAILS))
    team.start(first)
    out = Heartbeat("a", "127.0.0.1", 1, "err", 1000.0, "no answer")
    fine = Heartbeat("a", "127.0.0.1", 2, "ok", 1000.0, "")
    nobody = (
        Heartbeat("a", "127.0.0.1", 3, "err", 1.0, ""),
        Heartbeat("b", "h", 1, "err", 1.0, ""),
    )
    team.workers.set_checked([out, fine, *nobody])
    team.workers.set_checked(nobody)
    for process in team.processes:
        assert process.of(Verdicts) == [Verdicts(heartbeats=(out, fine))]
    team.processes[0].say(report(1, about("a", 1, 7)))
    peers = team.workers.peers("a")
    assert [shown(peer)[::2] for peer in peers.values()] == [("err", "no answer"), ("ok", "")]
    team.processes[0].die()
    team.clock.advance(0)
    assert team.processes[2].of(Begin)[0].health == Verdicts(heartbeats=(out, fine))
    team.apply(first.with_upstream(upstream("a", 2, **FAILS)), "a")
    assert list(team.workers.known_checked()) == [fine]


def test_workers_are_told_what_concerns_requests() -> None:
    """Not how often a server fails while it is out; the status knows that.  A server that is
    not checked any more is in service again, and nobody is told later what was."""
    team = Team(2)
    first = team.start()
    out = Heartbeat("a", "127.0.0.1", 1, "err", 1000.0, "no answer", 1)
    again = Heartbeat("a", "127.0.0.1", 1, "err", 1000.0, "no answer", 2, {"role": "slave"})
    void = Heartbeat("a", "127.0.0.1", 1, "unchecked", 1001.0, "")
    with logged() as logs:
        for verdict in (out, again):
            team.workers.set_checked([verdict])
        (peer,) = [one for key, one in team.workers.peers("a").items() if key.endswith(":1")]
        assert (shown(peer).fail_num, peer.about) == (2, {"role": "slave"})
        team.workers.set_checked([void])
    assert first.of(Verdicts) == [Verdicts(heartbeats=(out,)), Verdicts(heartbeats=(void,))]
    assert list(team.workers.known_checked()) == []
    assert [formatEvent(event) for event in logs] == [
        "upstream a: server 127.0.0.1:1 is out of service: heartbeats: no answer",
        "upstream a: server 127.0.0.1:1 is back in service",
    ]


@pytest.mark.real
def test_the_director_sends_heartbeats() -> None:
    """From the start to the stop, with the settings of the moment; what was known before the
    start is not logged again."""
    team = Team(2)
    team.workers = Workers(
        HandReactor(), team.workers.settings, 2, team._start, False, None, find_probe
    )
    workers: Any = team.workers
    team.apply(snapshot(1, upstream("a", 1, 2, **FAILS)), "a")
    out = Heartbeat("a", "127.0.0.1", 1, "err", 1000.0, "no answer", 1)
    with logged() as logs:
        workers.set_checked([out])
        result_of(workers.start())
    assert not any("out of service" in (formatEvent(event) or "") for event in logs)
    assert workers.statistics()["checkup_timer_alive"] is True
    assert workers.statistics()["last_check"] is None
    off = structs.replace(workers.settings, health=Health(enabled=False))
    result_of(workers.take_settings(off))
    assert workers.statistics()["checkup_timer_alive"] is False
    assert workers.settings.health == Health(enabled=False)
    assert list(workers.known_checked()) == []
    result_of(workers.take_settings(structs.replace(off, health=Health())))
    workers._reactor.advance(1)
    assert workers._reactor.readers
    workers.stop()
    assert workers._reactor.readers == []


# Servers' names.


def named(name: str, *hosts: str) -> Upstream:
    """An upstream of servers with these names."""
    return parse_upstream(name, {"servers": [{"host": host, "port": 80} for host in hosts]}, name)


def found(**addresses: str) -> Addresses:
    """The message that tells of one address for each name under ``example``."""
    return Addresses({f"{name}.example": ((socket.AF_INET, a),) for name, a in addresses.items()})


def test_names_are_looked_up_once_for_all_workers() -> None:
    """However many upstreams and workers have them; what is found reaches all of them, and
    those that begin later, with one message for all that comes at once."""
    team = Team(2)
    resolver = team.resolver
    one = named("a", "x.example", "127.0.0.1", "y.example")
    first = snapshot(1, one, named("b", "x.example"), upstream("c", 1))
    team.start(first)
    assert sorted(resolver.asked) == ["x.example", "y.example"]
    resolver.answer("x.example", "10.0.0.1")
    resolver.answer("y.example", "10.0.0.2")
    team.clock.advance(0)
    for process in team.processes:
        assert process.of(Addresses) == [found(x="10.0.0.1", y="10.0.0.2")]
    resolver.answer("x.example", "10.0.0.1")
    resolver.answer("y.example", "10.0.0.3")
    resolver.answer("x.example")
    team.clock.advance(0)
    assert team.processes[0].of(Addresses)[1:] == [found(y="10.0.0.3")]
    team.processes[1].die()
    team.clock.advance(0)
    (begin,) = team.processes[2].of(Begin)
    assert begin.addresses == found(x="10.0.0.1", y="10.0.0.3").found


def test_name_is_followed_as_long_as_an_upstream_has_it() -> None:
    """An edit that leaves it asks nothing; without its last upstream it is forgotten, and
    asked for anew when it comes again."""
    team = Team(1)
    resolver = team.resolver
    first = snapshot(1, named("a", "x.example"), named("b", "x.example"))
    process = team.start(first)
    resolver.answer("x.example", "10.0.0.1")
    second = first.with_upstream(named("a", "x.example", "127.0.0.1")).at_version(2)
    team.apply(second, "a")
    third = second.without_upstream("b").at_version(3)
    team.apply(third, "b")
    assert resolver.asked == ["x.example"]
    fourth = third.with_upstream(upstream("a", 1)).at_version(4)
    team.apply(fourth, "a")
    assert resolver._names == {}
    team.apply(fourth.with_upstream(named("a", "x.example")).at_version(5), "a")
    assert resolver.asked == ["x.example"] * 2
    team.clock.advance(0)
    assert process.of(Addresses) == []
    resolver.answer("x.example", "10.0.0.1")
    team.clock.advance(0)
    assert process.of(Addresses) == [found(x="10.0.0.1")]


def test_name_without_address_is_told_and_asked_again_for_who_needs_it() -> None:
    """Nobody waits for a name that has none; a change that uses it may have been made
    because it has one now."""
    team = Team(1)
    resolver = team.resolver
    first = snapshot(1, named("a", "x.example"))
    process = team.start(first)
    resolver.answer("x.example")
    team.clock.advance(0)
    assert process.of(Addresses) == [Addresses({"x.example": ()})]
    team.apply(first.with_upstream(named("b", "x.example")).at_version(2), "b")
    assert process.of(Addresses)[1:] == [Addresses({}, ("x.example",))]
    assert [type(one) for one in process.told[-2:]] == [Addresses, Delta]
    assert resolver.asked == ["x.example"] * 2
    resolver.answer("x.example", "10.0.0.1")
    team.clock.advance(0)
    assert process.of(Addresses)[2:] == [found(x="10.0.0.1")]


def test_names_are_let_go_at_the_end() -> None:
    """When the last worker has gone, nothing is looked up any more, also for a change that
    comes after it."""
    team = Team(1)
    first = snapshot(1, named("a", "x.example"))
    process = team.start(first)
    stopped = team.workers.stop(5)
    process.die()
    assert result_of(stopped) is None
    team.apply(first.with_upstream(named("a", "y.example")).at_version(2), "a")
    assert team.resolver.asked == ["x.example"]
    assert team.clock.getDelayedCalls() == []


def test_server_in_two_levels_is_out_by_the_stricter_one() -> None:
    """The order of the levels does not matter."""
    mild = {"host": "127.0.0.1", "port": 1}
    strict = {**mild, "max_fails": 1, "fail_timeout": 30}
    for first, second in ((mild, strict), (strict, mild)):
        levels = {"cluster": [{"servers": [first]}, {"servers": [second]}]}
        team = Team(2)
        team.start(snapshot(1, parse_upstream("a", levels, "a")))
        one, other = team.processes
        one.say(Verdicts((Verdict("a", "127.0.0.1", 1, 20.0, "x"),)))
        assert [health.down_for for told in other.of(Verdicts) for health in told.requests] == [20]


def test_failing_balancers_are_shown_until_the_upstream_changes() -> None:
    """The numbers are of all workers together; upstreams that a worker invents are not shown."""
    team = Team(2)
    team.start()
    error = BalancerError("mine.Mine", "pick", "/mine.py", 7, "ValueError: x", 2, 1000.0)
    for process in team.processes:
        told = report(1)
        balancers = (BalancerReport("a", error), BalancerReport("nobody", error))
        process.say(structs.replace(told, version=1, balancers=balancers))
    shown = team.workers.statistics()["balancer_errors"]
    assert list(shown) == ["a"]
    assert (shown["a"]["count"], shown["a"]["line"], shown["a"]["class"]) == (4, 7, "mine.Mine")
    team.workers.apply(snapshot(2, upstream("a", 1)), ["a"])
    assert team.workers.statistics()["balancer_errors"] == {}


def test_workers_are_told_when_the_sockets_are_theirs() -> None:
    """All workers are told; each knows whether one of its sockets was added."""
    team = Team(2)
    team.start()
    team.workers.own()
    assert [process.of(messages.Listening) for process in team.processes] == [
        [messages.Listening()]
    ] * 2


def test_health_is_known_before_the_start() -> None:
    """The workers begin with the health that was handed over, limited by their configuration;
    unknown servers are left out."""
    team = Team(2)
    team.apply(snapshot(1, upstream("a", 1, 2, **FAILS)), "a")
    team.workers.set_health([Verdict("a", "127.0.0.1", 1, 4.0, "refused")])
    team.workers.set_health([Verdict("a", "127.0.0.1", 2, 999.0, "refused")])
    team.workers.set_health([Verdict("a", "127.0.0.1", 3, 4.0, "refused")])
    team.workers.set_health([Verdict("b", "127.0.0.1", 1, 4.0, "refused")])
    result_of(team.workers.start())
    (begin,) = team.processes[1].of(Begin)
    assert [(health.port, health.down_for) for health in begin.health.requests] == [
        (1, 4.0),
        (2, 300.0),
    ]
    team.clock.advance(5.0)
    assert list(team.workers.known_health()) == [
        Verdict("a", "127.0.0.1", 1, 0.0, "refused", on_probation=True),
        Verdict("a", "127.0.0.1", 2, 295.0, "refused"),
    ]


def test_panic_is_shown_for_all_workers() -> None:
    """It counts what requests and heartbeats have put out of service anywhere."""
    team = Team(2)
    team.apply(snapshot(1, upstream("a", 1, 2, 3, **FAILS, panic=0.5)), "a")
    assert team.workers.statistics()["panic"] == {}
    team.workers.set_health([Verdict("a", "127.0.0.1", 1, 4.0, "refused")])
    team.workers.set_checked([Heartbeat("a", "127.0.0.1", 2, "err", 0.0, "refused")])
    assert list(team.workers.statistics()["panic"]) == ["a"]
    team.clock.advance(4.0)
    assert team.workers.statistics()["panic"] == {}
