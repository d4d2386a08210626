"""Verdicts of other processes on servers, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from sys import setprofile
from typing import Any

import pytest
from msgspec import structs
from twisted.logger import formatEvent

from slardar.config import Health, Settings
from slardar.dataplane.proxy import DataPlane
from slardar.health import checked
from slardar.health.verdicts import Ejection, Heartbeat, Hint, Verdict
from slardar.http1.reply import parse_reply
from slardar.http1.request import Request
from slardar.model.live import Live
from slardar.model.parse import parse_upstream
from slardar.model.snapshot import Snapshot
from slardar.plugins import balancer_factory, find_probe
from tests.dataplane.kit import HandReactor, logged


class Site:
    """A data plane that listens nowhere and serves ``up``."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        #: What other processes are to know besides.
        self.extras: list[Any] = []
        self.plane = DataPlane(
            HandReactor(),
            Settings(),
            Live(),
            balancer_factory,
            on_health=self._on_health,
            on_extra=self.extras.append,
        )
        self.version = 0

    def _on_health(self, upstream: str, peer: Any) -> None:
        self.told.append((upstream, peer.port))

    def serve(self, *ports: int, **keys: Any) -> None:
        """Have these servers from now on."""
        server = {"host": "127.0.0.1", "max_fails": 1, "fail_timeout": 10}
        body = {"servers": [{**server, "port": port} for port in ports], **keys}
        self.version += 1
        up = parse_upstream("up", body, "up")
        self.plane.apply(Snapshot.build(self.version, {"up": up}, (), None), ["up"])

    @property
    def selection(self) -> Any:
        """What serves now."""
        return self.plane.selections.get("up") or self.plane.first_use("up")

    def picked(self) -> set[int]:
        """The servers that get requests."""
        peers = (self.selection.pick(Request(b"GET", b"/", [b""]), []) for _ in range(20))
        return {peer.port for peer in peers}

    def out(self, *ports: int, seconds: float = 5.0) -> None:
        """Requests of another process have put these out of service, or (0) brought them
        back; it says so at once."""
        self.plane.set_health(
            [Verdict("up", "127.0.0.1", port, seconds, "refused") for port in ports]
        )


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.plane.stop(0)


@pytest.mark.parametrize("is_used", [False, True])
def test_verdicts_together_are_as_one_by_one(site: Site, is_used: bool) -> None:
    """The last server stays in service, also if it is not known yet when the first of them
    comes; servers and upstreams that there are not are passed over."""
    site.serve(1, 2, 3)
    if is_used:
        assert site.picked() == {1, 2, 3}
    site.out(1, 9)
    assert site.picked() == {2, 3}
    site.out(1, 2, 3)
    assert site.picked() == {3}
    assert [peer.live.status for peer in site.selection.peers] == ["err", "err", "unstable"]
    site.out(1, 2, 3, seconds=0)
    site.plane.set_health([Verdict("nobody", "127.0.0.1", 1, 5.0, "")])
    assert site.picked() == {1, 2, 3}
    # One comes back and another one goes, in one breath.
    site.out(1, 2)
    site.plane.set_health(
        [
            Verdict("up", "127.0.0.1", port, down, "x")
            for port, down in ((3, 5.0), (2, 0.0), (3, 5.0))
        ]
    )
    assert site.picked() == {2}
    assert site.told == []


def test_server_in_two_levels_is_one_server(site: Site) -> None:
    """It is no other server for itself, and it is out in both."""
    site.serve(1, 2)
    servers = [{"host": "127.0.0.1", "port": port, "max_fails": 1} for port in (1, 2)]
    levels = {"cluster": [{"servers": servers[:1]}, {"servers": servers}]}
    up = parse_upstream("up", levels, "up")
    site.plane.apply(Snapshot.build(9, {"up": up}, (), None), ["up"])
    assert site.picked() == {1}
    site.out(1)
    assert site.picked() == {2}
    site.out(2)
    assert site.picked() == {2}


def test_known_health_is_what_another_process_needs(site: Site) -> None:
    """Both kinds, of all upstreams, to be given to a successor as it is."""
    site.serve(1, 2, 3)
    site.out(1)
    heartbeats = [
        Heartbeat("up", "127.0.0.1", 2, "err", 1000.0, "no answer"),
        Heartbeat("up", "127.0.0.1", 3, "ok", 1001.0, ""),
    ]
    site.plane.set_checked([*heartbeats, Heartbeat("up", "127.0.0.1", 9, "err", 1.0, "")])
    assert site.picked() == {3}
    assert list(site.plane.known_checked()) == heartbeats
    successor = Site()
    successor.serve(1, 2, 3)
    successor.plane.set_health(site.plane.known_health())
    successor.plane.set_checked(site.plane.known_checked())
    assert successor.picked() == {3}
    assert [one.down_for for one in successor.plane.known_health()] == [5.0]
    successor.plane.stop(0)


def test_requests_of_a_former_version_tell_the_one_in_use(site: Site) -> None:
    """A request that began before an edit and fails after it puts the server out for all."""
    site.serve(1, 2)
    former = site.selection
    site.serve(1, 2, 3)
    assert site.picked() == {1, 2, 3}
    former.failed(former.peers[0], "refused")
    assert site.picked() == {2, 3}
    assert site.told == [("up", 1)]


def calls(action: Callable[[], None]) -> int:
    """How many functions are called by it."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += 1

    setprofile(note)
    action()
    setprofile(None)
    return count


@pytest.mark.parametrize("is_used", [False, True])
def test_thousands_of_verdicts_cost_no_more_each(is_used: bool) -> None:
    """Ten times as many verdicts on ten times as many servers cost about ten times as
    much: out, out again, back, and by heartbeats."""

    def cost(count: int) -> int:
        site = Site()
        ports = range(1, count + 1)
        site.serve(*ports)
        if is_used:
            site.picked()
        heartbeats = [Heartbeat("up", "127.0.0.1", port, "err", 1.0, "x") for port in ports]

        def act() -> None:
            site.out(*ports)
            site.out(*ports, seconds=6.0)
            site.out(*ports, seconds=0)
            site.plane.set_checked(heartbeats)

        found = calls(act)
        site.plane.stop(0)
        return found

    assert cost(3000) < 13 * cost(300)


def test_panic_is_shown(site: Site) -> None:
    """With the reason, as long as health is ignored; other upstreams are not named."""
    site.serve(1, 2, 3)
    site.out(1, 2)
    assert site.plane.statistics()["panic"] == {}
    site.serve(1, 2, 3, panic=0.5)
    (note,) = site.plane.statistics()["panic"].values()
    assert note.startswith("1 of 3 servers are in service")
    site.out(1, seconds=0)
    assert site.plane.statistics()["panic"] == {}


def test_notes_are_shown(site: Site) -> None:
    """A server that climbs says so, and for as long as it does."""
    site.serve(1, slow_start=10)
    site.picked()
    site.serve(1, 2, slow_start=10)
    site.picked()
    assert site.plane.peers("up")["127.0.0.1:1"].notes == {}
    assert list(site.plane.peers("up")["127.0.0.1:2"].notes) == ["slow_start"]
    site.plane.clock.now += 10
    site.picked()
    assert site.plane.peers("up")["127.0.0.1:2"].notes == {}


def test_heartbeats_are_known_to_a_successor(site: Site) -> None:
    """Whole; the plane that takes them over before its start begins with them."""
    site.serve(1, 2, 3)
    told = [
        Heartbeat("up", "127.0.0.1", 1, "err", 5.0, "no answer", 3),
        Heartbeat("up", "127.0.0.1", 2, "ok", 6.0, "", 0, {"version": "7.0"}),
    ]
    site.plane.set_checked(told)
    assert list(site.plane.known_checked()) == told
    assert site.picked() == {2, 3}
    hand = HandReactor()
    plane = DataPlane(hand, Settings(), Live(), balancer_factory, find_probe=find_probe)
    plane.apply(site.plane._snapshot, ["up"])
    plane.set_checked(list(site.plane.known_checked()))
    with logged() as events:
        plane.start()
    # It is logged already.
    assert not [event for event in events if "out of service" in str(event)]
    assert list(plane.known_checked()) == told
    assert plane.statistics()["checkup_timer_alive"] is True
    plane.take_settings(Settings(health=Health(enabled=False)))
    assert plane.statistics()["checkup_timer_alive"] is False
    assert list(plane.known_checked()) == []
    plane.stop(0)


def test_a_plane_without_probes_sends_no_heartbeats(site: Site) -> None:
    """As that of a worker."""
    site.serve(1)
    site.plane.start()
    statistics = site.plane.statistics()
    assert (statistics["checkup_timer_alive"], statistics["last_check"]) == (False, None)


OUTLIER = {"errors": 0.5, "min_requests": 2, "eject": 30, "max_share": 0.5}


def ejects(site: Site, port: int) -> None:
    """The server gives two replies with 500."""
    peer = next(peer for peer in site.selection.peers if peer.port == port)
    for _ in range(2):
        peer.live.active += 1
        site.selection.succeeded(peer, 0.1, 500)


def test_ejection_is_what_another_process_needs(site: Site) -> None:
    """Whoever takes it over ejects the server for the rest of the time, and counts on."""
    site.serve(1, 2, 3, 4, outlier=OUTLIER)
    ejects(site, 1)
    assert site.picked() == {2, 3, 4}
    (extra,) = site.extras
    assert extra == Ejection("up", "127.0.0.1", 1, 30, 1, "2 of 2 requests failed in 10 s")
    assert list(site.plane.known_extras()) == site.extras
    site.plane.clock.now += 10
    successor = Site()
    successor.serve(1, 2, 3, 4, outlier=OUTLIER)
    successor.plane.set_extras([*site.plane.known_extras(), structs.replace(extra, port=9)])
    successor.plane.set_extras([structs.replace(extra, upstream="nobody")])
    assert successor.picked() == {2, 3, 4}
    # The clock is the machine's, so the difference is rounded.
    assert [one.seconds for one in successor.plane.known_extras()] == [pytest.approx(20)]
    shown = successor.plane.peers("up")["127.0.0.1:1"]
    assert checked.shown(shown).status == "err"
    assert list(shown.notes) == ["outlier"]
    successor.plane.clock.now += 20
    assert successor.picked() == {1, 2, 3, 4}
    assert successor.extras == [], "it did not eject"
    ejects(successor, 1)
    assert [one.seconds for one in successor.extras] == [60]


def test_ejection_is_taken_back(site: Site) -> None:
    """By a process that knows of more ejections."""
    site.serve(1, 2, 3, 4, outlier=OUTLIER)
    ejects(site, 1)
    site.plane.set_extras([structs.replace(site.extras[0], seconds=0)])
    assert site.picked() == {1, 2, 3, 4}


def test_edit_ends_and_keeps_ejections(site: Site) -> None:
    """One of another server keeps them; without the key nobody is ejected; and nothing is
    known of a server that was removed."""
    site.serve(1, 2, 3, 4, outlier=OUTLIER)
    ejects(site, 1)
    site.serve(1, 2, 3, outlier=OUTLIER)
    assert site.picked() == {2, 3}
    site.serve(2, 3, outlier=OUTLIER)
    assert list(site.plane.known_extras()) == []
    site.serve(1, 2, 3, outlier=OUTLIER)
    assert site.picked() == {1, 2, 3}
    ejects(site, 1)
    site.serve(1, 2, 3)
    assert site.picked() == {1, 2, 3}
    site.plane.set_extras(site.extras)
    assert site.picked() == {1, 2, 3}


def test_ejection_is_logged() -> None:
    """Where no other process logs it."""
    plane = DataPlane(HandReactor(), Settings(), Live(), balancer_factory)
    body = {"servers": [{"host": "127.0.0.1", "port": port} for port in (1, 2)]}
    up = parse_upstream("up", {**body, "outlier": OUTLIER}, "up")
    plane.apply(Snapshot.build(1, {"up": up}, (), None), ["up"])
    selection = plane.first_use("up")
    assert selection is not None
    with logged() as events:
        for _ in range(3):
            peer = selection.peers[0]
            peer.live.active += 1
            selection.succeeded(peer, 0.1, 503)
    lines = [formatEvent(one) for one in events if one["log_namespace"] == "slardar.dataplane"]
    assert lines == [
        "upstream up: server 127.0.0.1:1 is ejected for 30 s: 2 of 2 requests failed in 10 s"
    ]


def test_hints_are_what_another_process_needs(site: Site) -> None:
    """Those of replies are told, those of heartbeats come from there; a successor knows both."""
    site.serve(1, 2, 3, hints=True)
    head = b"HTTP/1.1 200 OK\r\nX-Slardar-Hint: drain, weight=5\r\n\r\n"
    site.selection.hinted(site.selection.peers[0], parse_reply(head, b"GET"))
    assert site.picked() == {2, 3}
    assert site.extras == [Hint("up", "127.0.0.1", 1, 0.0, True, 5.0)]
    site.plane.hint("up", "127.0.0.1", 2, "full")
    site.plane.hint("up", "127.0.0.1", 9, "full")
    site.plane.hint("nobody", "127.0.0.1", 2, "full")
    assert site.picked() == {3}
    assert len(site.extras) == 1
    successor = Site()
    successor.serve(1, 2, 3, hints=True)
    successor.plane.set_extras(site.plane.known_extras())
    assert successor.picked() == {3}
    successor.plane.clock.now += 1
    assert successor.picked() == {2, 3}
    successor.plane.hint("up", "127.0.0.1", 1, "up")
    assert successor.picked() == {1, 2, 3}
    assert [peer.weight for peer in successor.selection.peers] == [1, 1, 1]
    successor.serve(1, 2, 3)
    successor.plane.set_extras(site.plane.known_extras())
    successor.plane.hint("up", "127.0.0.1", 1, "drain")
    assert successor.picked() == {1, 2, 3}
