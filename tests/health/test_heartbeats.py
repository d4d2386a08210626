"""What the results of heartbeats do to the status of servers."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from msgspec import structs

from slardar.health.heartbeats import Beat, Beats
from slardar.health.probes.base import OK, Result, failed
from slardar.health.verdicts import Heartbeat
from slardar.model.parse import parse_upstream
from slardar.model.server import Upstream

REFUSED = failed("Connection refused")
#: As that of a replica whose master is away.
WEAK = Result("unstable", "master link status: down", {"role": "slave"})


def upstream(*ports: int, **keys: Any) -> Upstream:
    """An upstream of these servers; a port may come with other keys of its server."""
    servers = [
        {"host": "10.0.0.1", **(port if isinstance(port, dict) else {"port": port})}
        for port in ports
    ]
    return parse_upstream("a", {"servers": servers, **keys}, "a")


class Sent:
    """The heartbeats of one upstream; each result comes a second after the one before."""

    def __init__(self, *ports: Any, **keys: Any) -> None:
        self.now = 100.0
        self.beats = Beats(upstream(*ports, **keys), self.now)

    def note(self, port: int, *results: Result) -> list[int]:
        """The ports of the servers that the last result has changed."""
        changed: Any = []
        for result in results:
            self.now += 1
            changed = self.beats.note(("10.0.0.1", port), result, self.now)
        return sorted(beat.port for beat in changed)

    def become(self, *ports: Any, **keys: Any) -> list[int]:
        """Edit the upstream; answers the ports of the servers that this has changed."""
        self.now += 1
        return sorted(beat.port for beat in self.beats.take(upstream(*ports, **keys), self.now))

    @property
    def statuses(self) -> list[str]:
        """In the configured order."""
        return [beat.status for beat in self.beats]

    def about(self, port: int) -> Any:
        """One server."""
        return self.beats.servers["10.0.0.1", port]


def test_one_failure_is_enough_by_default() -> None:
    """The status comes with the reason, the count and the time."""
    sent = Sent(1, 2)
    assert sent.statuses == ["unchecked", "unchecked"]
    assert sent.note(1, OK) == [1]
    assert sent.note(1, OK) == []
    assert sent.note(1, REFUSED) == [1]
    beat = sent.about(1)
    assert (beat.status, beat.fail_num, beat.since) == ("err", 1, 103.0)
    assert beat.message == "Connection refused"
    sent.note(1, REFUSED)
    assert (beat.fail_num, beat.since) == (2, 103.0)
    assert sent.note(1, OK) == [1]
    assert (beat.status, beat.fail_num, beat.since, beat.message) == ("ok", 0, 105.0, "")


def test_sensibility() -> None:
    """Fewer failures in a row change no status, and are told all the same."""
    sent = Sent(1, 2, sensibility=3)
    sent.note(1, OK)
    assert sent.note(1, REFUSED) == [1]
    sent.note(1, REFUSED)
    assert sent.statuses == ["ok", "unchecked"]
    assert (sent.about(1).fail_num, sent.about(1).message) == (2, "Connection refused")
    sent.note(1, OK, REFUSED, REFUSED)
    assert sent.statuses == ["ok", "unchecked"]
    sent.note(1, REFUSED)
    assert sent.statuses == ["err", "unchecked"]


def test_rise() -> None:
    """Good results in a row bring a server back; a failure between begins a new count."""
    sent = Sent(1, 2, rise=3)
    sent.note(1, REFUSED, OK, OK, REFUSED, OK, OK)
    assert sent.statuses == ["err", "unchecked"]
    assert sent.about(1).message == "Connection refused"
    sent.note(1, OK)
    assert sent.statuses == ["ok", "unchecked"]
    # A server that has never failed waits for nothing.
    sent.note(2, OK)
    assert sent.statuses == ["ok", "ok"]


def test_what_a_probe_calls_unstable_stays_in_service() -> None:
    """Whatever other servers do, with the probe's reason."""
    sent = Sent(1, 2)
    sent.note(1, OK)
    sent.note(2, WEAK)
    assert sent.statuses == ["ok", "unstable"]
    beat = sent.about(2)
    assert (beat.message, beat.about) == ("master link status: down", {"role": "slave"})
    sent.note(2, REFUSED)
    assert sent.statuses == ["ok", "err"]
    # What a server said of itself is known while it is away.
    assert beat.about == {"role": "slave"}
    sent.note(2, WEAK)
    assert sent.statuses == ["ok", "unstable"]
    sent.note(2, OK)
    assert (beat.status, beat.about) == ("ok", {})


def test_unstable_needs_sensibility_too() -> None:
    """As in checkups, both kinds of bad results count together."""
    sent = Sent(1, sensibility=2)
    sent.note(1, OK, WEAK)
    assert sent.statuses == ["ok"]
    sent.note(1, WEAK)
    assert sent.statuses == ["unstable"]
    sent.note(1, OK)
    assert sent.statuses == ["ok"]


def test_the_last_one_is_protected() -> None:
    """It is unstable while it is the only one, and no longer."""
    sent = Sent(1, 2, 3)
    sent.note(2, REFUSED)
    sent.note(1, REFUSED)
    sent.note(3, REFUSED, REFUSED)
    assert sent.statuses == ["err", "err", "unstable"]
    assert (sent.about(3).message, sent.about(3).fail_num) == ("Connection refused", 2)
    # When another one comes back, the last one is out like every server that fails.
    assert sent.note(1, OK) == [1, 3]
    assert sent.statuses == ["ok", "err", "err"]
    assert sent.note(1, REFUSED) == [1]
    assert sent.statuses == ["unstable", "err", "err"]
    sent.note(1, OK)
    assert sent.statuses == ["ok", "err", "err"]


def test_without_protection_all_fail() -> None:
    """Also a server that is alone."""
    sent = Sent(1, 2, protected=False)
    sent.note(1, REFUSED)
    sent.note(2, REFUSED)
    assert sent.statuses == ["err", "err"]
    alone = Sent(1, protected=False)
    alone.note(1, REFUSED)
    assert alone.statuses == ["err"]


def test_protection_counts_all_levels() -> None:
    """A backup, or a server of another cluster, is another server."""
    server = {"host": "10.0.0.1"}
    cluster = {"x": {"servers": [{**server, "port": 1}]}, "y": {"servers": [{**server, "port": 2}]}}
    beats = Beats(parse_upstream("a", {"cluster": cluster}, "a"), 0.0)
    beats.note(("10.0.0.1", 1), REFUSED, 1.0)
    assert [beat.status for beat in beats] == ["err", "unchecked"]
    beats.note(("10.0.0.1", 2), REFUSED, 2.0)
    assert [beat.status for beat in beats] == ["err", "unstable"]


@pytest.mark.parametrize("keys", [{"state": "drain"}, {"weight": 0}])
def test_only_wanted_servers_protect(keys: dict[str, Any]) -> None:
    """A server that takes no requests is checked, and replaces none."""
    sent = Sent(1, {"port": 2, **keys})
    sent.note(2, OK)
    sent.note(1, REFUSED)
    assert sent.statuses == ["unstable", "ok"]
    sent.note(2, REFUSED)
    assert sent.statuses == ["unstable", "err"]
    # Now wanted, and the other one is not.
    assert sent.become({"port": 1, **keys}, 2) == [1, 2]
    assert sent.statuses == ["err", "unstable"]


def test_an_edit_resets_nobody() -> None:
    """Neither statuses nor counts, whatever of the others changes."""
    sent = Sent(1, 2, 3, sensibility=2)
    sent.note(1, REFUSED, REFUSED)
    sent.note(2, OK)
    sent.note(3, REFUSED)
    assert sent.become({"port": 1, "weight": 5}, 2, 3, 4, sensibility=2) == []
    assert sent.statuses == ["err", "ok", "unchecked", "unchecked"]
    sent.note(3, REFUSED)
    assert sent.statuses == ["err", "ok", "err", "unchecked"]


def test_a_removed_server_is_forgotten() -> None:
    """If it comes again it is unchecked; a result that comes too late counts for nobody."""
    sent = Sent(1, 2)
    sent.note(2, REFUSED)
    assert sent.become(1) == []
    assert sent.note(2, REFUSED) == []
    sent.become(1, 2)
    assert sent.statuses == ["unchecked", "unchecked"]


def test_removing_the_others_protects_the_rest() -> None:
    """The last one that serves is gone: of those that fail, the one that failed last serves."""
    sent = Sent(1, 2, 3)
    sent.note(1, REFUSED)
    sent.note(2, REFUSED)
    assert sent.become(1, 2) == [2]
    assert sent.statuses == ["err", "unstable"]
    assert sent.become(1) == [1]
    assert sent.become(1, protected=False) == [1]
    assert sent.statuses == ["err"]


@pytest.mark.parametrize("keys", [{"enable": False}, {"server": {"state": "down"}}])
def test_what_is_switched_on_again_is_unchecked(keys: dict[str, Any]) -> None:
    """No heartbeats are sent meanwhile."""
    sent = Sent(1, 2)
    sent.note(1, REFUSED)
    server = {"port": 1, **keys.pop("server", {})}
    sent.become(server, 2, **keys)
    assert ("10.0.0.1", 1) not in sent.beats.servers
    sent.become(1, 2)
    assert sent.about(1).status == "unchecked"


def test_a_successor_goes_on() -> None:
    """With statuses, counts, times and reasons; the protected server too."""
    sent = Sent(1, 2, 3, sensibility=2)
    for port in (2, 1, 3):
        sent.note(port, REFUSED, REFUSED)
    told = [beat.verdict("a") for beat in sent.beats]
    after = Sent(1, 2, 3, sensibility=2)
    for verdict in told:
        after.beats.know(verdict)
    assert after.beats.settle(200.0) == []
    assert [beat.verdict("a") for beat in after.beats] == told
    assert after.statuses == ["err", "err", "unstable"]
    after.note(3, REFUSED)
    assert after.statuses == ["err", "err", "unstable"]
    after.note(2, OK)
    assert after.statuses == ["err", "ok", "err"]


def _known(beat: Beat, rise: int) -> Any:
    """All that is known of a server.  Good results beyond ``rise`` make no difference."""
    verdict = beat.verdict("a")
    history = structs.replace(verdict.history, goods=min(verdict.history.goods, rise))
    return structs.replace(verdict, history=history)


@pytest.mark.parametrize("keys", [{}, {"protected": False}, {"rise": 3, "sensibility": 2}])
def test_a_successor_judges_as_its_predecessor(keys: dict[str, Any]) -> None:
    """With what it was told last of each server it says the same of all that follows: counts in
    a row, penalties, and which one stays in service."""
    chance = Random(9)
    ports = (1, 2, 3)
    old = Beats(upstream(*ports, **keys), 0.0)
    now, held, rise = 0.0, 0, keys.get("rise", 1)
    for _ in range(150):
        told = {beat.port: beat.verdict("a") for beat in old}
        for _ in range(chance.randrange(30)):
            now += chance.choice((1, 5, 30))
            result = chance.choice((OK, OK, REFUSED, REFUSED, WEAK))
            for beat in old.note(("10.0.0.1", chance.choice(ports)), result, now):
                told[beat.port] = beat.verdict("a")
        new = Beats(upstream(*ports, **keys), now)
        for verdict in told.values():
            new.know(msgspec.json.decode(msgspec.json.encode(verdict), type=Heartbeat))
        assert new.settle(now) == []
        for _ in range(20):
            now += chance.choice((1, 5, 30))
            port, result = chance.choice(ports), chance.choice((OK, REFUSED, WEAK))
            said = [
                sorted(beat.verdict("a").port for beat in one.note(("10.0.0.1", port), result, now))
                for one in (old, new)
            ]
            assert said[0] == said[1]
            known = [[_known(beat, rise) for beat in one] for one in (old, new)]
            assert known[0] == known[1]
            held += any("again and again" in beat.message for beat in old)
    assert held or rise > 1, "some were held back"


def test_a_successor_protects_what_its_predecessor_did_not() -> None:
    """All are said to have failed: one of them serves."""
    after = Sent(1, 2)
    for port in (1, 2):
        after.beats.know(Heartbeat("a", "10.0.0.1", port, "err", 50.0, "refused", 4))
    after.beats.know(Heartbeat("a", "10.0.0.1", 9, "err", 50.0, "refused", 4))
    assert [beat.port for beat in after.beats.settle(60.0)] == [1]
    assert after.statuses == ["unstable", "err"]


def test_long_reasons_are_cut_off() -> None:
    """Where they are told to other processes, which take no more."""
    sent = Sent(1)
    sent.note(1, failed("x" * 5000))
    assert len(sent.about(1).verdict("a").message) == 300
