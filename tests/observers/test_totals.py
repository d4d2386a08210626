"""Totals only grow, whatever happens to processes, and forget what is gone."""

from __future__ import annotations

import random

import msgspec
import pytest

from slardar.hooks.report import HookReport, HookTally
from slardar.observers.counted import Counted, ServerCounted, UpstreamCounted
from tests.observers.kit import lines_of, snapshot, text_of, totals


def counted(name: str, *servers: str, code: int = 200) -> Counted:
    """One request of an upstream that each of these servers has tried."""
    about = tuple(ServerCounted(server, {code: 1}, {"error": 1}) for server in servers)
    return Counted((UpstreamCounted(name, {code: 1}, bytes_in=10, servers=about),))


def values(text: str) -> dict[str, float]:
    """Every counter of a scrape."""
    kinds = dict(line.split(" ")[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    found = {}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        for end in ("_bucket", "_sum", "_count"):
            if name.removesuffix(end) in kinds:
                name = name.removesuffix(end)
        if not line.startswith("#") and kinds[name] != "gauge":
            series, _, value = line.rpartition(" ")
            found[series] = float(value)
    return found


def test_what_is_removed_is_shown_once_more() -> None:
    """A server and an upstream; what comes back meanwhile goes on counting."""
    before, after = snapshot(a=[1, 2], b=[3], c=[4]), snapshot(2, a=[1], c=[4])
    some = totals()
    for one in (("a", "127.0.0.1:1", "127.0.0.1:2"), ("b", "127.0.0.1:3"), ("c", "127.0.0.1:4")):
        some.take(counted(*one), before)
    some.changed(["a", "b"], after)
    # What was under way still counts.
    some.take(counted("b", "127.0.0.1:3"), after)
    text = text_of(some, after)
    assert 'slardar_requests_total{upstream="b",code="200"} 2' in text
    assert 'slardar_server_requests_total{upstream="a",server="127.0.0.1:2",code="200"} 1' in text
    assert 'slardar_server_up{upstream="a",server="127.0.0.1:2"}' not in text
    text = text_of(some, after)
    assert 'upstream="b"' not in text
    assert "127.0.0.1:2" not in text
    assert len(lines_of(text, "slardar_server_requests_total")) == 2
    some.take(counted("b", "127.0.0.1:3"), after)
    assert 'upstream="b"' not in text_of(some, after)


def test_what_comes_back_before_a_scrape_stays() -> None:
    """Its counters go on."""
    before, after = snapshot(a=[1, 2]), snapshot(2, a=[1])
    some = totals()
    some.take(counted("a", "127.0.0.1:2"), before)
    some.changed(["a"], after)
    some.changed(["a"], before)
    text_of(some, before)
    assert '127.0.0.1:2",code="200"} 1' in text_of(some, before)
    some.changed(["a"], snapshot(3))
    some.changed(["a"], before)
    text_of(some, before)
    assert 'slardar_requests_total{upstream="a",code="200"} 1' in text_of(some, before)


def test_nobody_scrapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so much is kept of what is gone."""
    monkeypatch.setattr("slardar.observers.totals._MAX_GONE", 100)
    some = totals()
    for number in range(150):
        name = f"u{number}"
        some.take(counted(name), snapshot(**{name: [1]}))
        some.changed([name], snapshot())
    assert len(some.upstreams) == 100
    assert "u50" in some.upstreams
    assert "u49" not in some.upstreams


def test_successor_goes_on() -> None:
    """It gets all, over the link; and what the old process still counts comes behind."""
    served = snapshot(a=[1], b=[2])
    old, new = totals(), totals()
    old.take(counted("a", "127.0.0.1:1"), served)
    old.take(Counted(refused={"hook": 2}, added=(1,) * 17, added_seconds=1.5), served)
    old.ejected("b", "127.0.0.1:2")
    shown = values(text_of(old, served))

    def tell(restarts: int) -> None:
        data = msgspec.json.encode(old.hand_over(restarts))
        new.take(msgspec.json.decode(data, type=Counted), served)

    tell(3)
    assert new.restarts == 3
    # The facts of a plane in the tests have one restart.
    expected = {**shown, "slardar_worker_restarts_total": 4.0}
    assert values(text_of(new, served)) == expected
    old.take(counted("a", "127.0.0.1:1"), served)
    tell(4)
    assert new.restarts == 4
    assert 'slardar_requests_total{upstream="a",code="200"} 2' in text_of(new, served)
    # What the old process gave away is not there twice if it goes on.
    assert old.hand_over(4) == totals().hand_over(0)


def test_other_buckets_begin_anew() -> None:
    """Counts of other buckets would be wrong; the rest goes on."""
    served = snapshot(a=[1])
    old, new = totals(), totals(buckets=(1, 2), added_buckets=(1,))
    about = UpstreamCounted("a", {200: 5}, (5,) + (0,) * 13, 1.0, 7)
    old.take(Counted((about,), added=(5,) + (0,) * 16, added_seconds=1.0), served)
    new.take(old.hand_over(0), served)
    found = new.upstreams["a"]
    assert (found.codes, found.bytes_in) == ({200: 5}, 7)
    assert (found.buckets, found.seconds) == ([0, 0, 0], 0)
    assert (new.added, new.added_seconds) == ([0, 0], 0)


def report(mark: int, calls: int, errors: int, timed: int) -> HookReport:
    return HookReport(
        "lua/script.a", mark, "active", "", calls, errors, timed * 1000, ((10, timed),)
    )


def test_hooks_count_over_their_versions() -> None:
    """A new version begins at 0, and the hook goes on.  Untimed calls are estimated."""
    some, tally = totals(), HookTally()
    tally.take(0, [report(1, 10, 2, 5)])
    some.take_hooks(tally)
    hook = some.hooks["lua/script.a"]
    assert (hook.calls, hook.errors, round(hook.seconds, 9)) == (10, 2, 1e-5)
    tally.take(0, [report(1, 12, 2, 5)])
    some.take_hooks(tally)
    assert (hook.calls, round(hook.seconds, 9)) == (12, 1.2e-5)
    tally = HookTally()
    tally.take(0, [report(2, 3, 1, 3)])
    some.keep_hooks(some.take_hooks(tally))
    assert (hook.calls, hook.errors, round(hook.seconds, 9)) == (15, 3, 1.5e-5)
    some.keep_hooks(some.take_hooks(HookTally()))
    assert some.hooks == {}


def test_nothing_goes_backwards() -> None:
    """In any order of counts, changes, scrapes and handovers, no counter that stays configured
    is ever lower than before, and none is lost."""
    draw = random.Random(7)
    some, served = totals(), snapshot(a=[1, 2], b=[1])
    last: dict[str, float] = {}
    expected = 0
    for version in range(400):
        what = draw.randrange(5)
        if what == 0:
            some_b = draw.choice([{"b": [1]}, {"b": [2]}, {}])
            served = snapshot(version, a=[1, 2], **some_b)
            some.changed(["b"], served)
        elif what == 1:
            after = totals()
            after.take(some.hand_over(0), served)
            some = after
        elif what == 2:
            shown = {
                series: value
                for series, value in values(text_of(some, served)).items()
                if 'upstream="b"' not in series
            }
            assert set(last) <= set(shown)
            assert all(shown[series] >= value for series, value in last.items())
            last = shown
        else:
            name = draw.choice("abc")
            expected += name == "a"
            some.take(counted(name, f"127.0.0.1:{draw.choice('123')}"), served)
    assert expected > 20
    assert f'slardar_requests_total{{upstream="a",code="200"}} {expected}' in text_of(some, served)


def test_times_of_servers_are_for_those_who_look() -> None:
    """They add up, and a successor takes them over; a scrape does not show them."""
    some = totals()
    size = len(some.bounds) + 1
    served = snapshot(a=[1])
    for place in (0, 2, 2):
        buckets = tuple(int(place == index) for index in range(size))
        server = ServerCounted("127.0.0.1:1", {200: 1}, buckets=buckets)
        some.take(Counted((UpstreamCounted("a", {200: 1}, servers=(server,)),)), served)
    other = ServerCounted("127.0.0.1:1", {}, buckets=(1,))
    some.take(Counted((UpstreamCounted("a", servers=(other,)),)), served)
    found = some.upstreams["a"].servers["127.0.0.1:1"].buckets
    assert found[:4] == [1, 0, 2, 0]
    after = totals()
    after.take(some.hand_over(0), served)
    assert after.upstreams["a"].servers["127.0.0.1:1"].buckets == found
