"""Counters summed up, and health as all workers together know it."""

from __future__ import annotations

from typing import Any

from slardar.workers.messages import Report, ServerReport, UpstreamReport
from slardar.workers.tally import Tally


def report(requests: int, connections: int = 0, *servers: ServerReport) -> Report:
    """A report of a worker that accepted as many clients as it had requests."""
    return Report(1, requests, requests, 0, connections, 0, 0, servers)


def server(port: int, requests: int, status: str = "ok", **keys: Any) -> ServerReport:
    """A server's report."""
    values = {"failures": 0, "active": 0, "fail_num": 0, "last_modified": 0.0, "message": ""}
    values.update(keys)
    return ServerReport("a", "h", port, requests=requests, status=status, **values)  # type: ignore[arg-type]


def take(tally: Tally, worker: int, message: Report) -> None:
    """Count a whole report."""
    tally.take(worker, message, message.servers)


def test_totals_are_the_sum_of_all_workers() -> None:
    """The last report of each worker counts."""
    tally = Tally(5.0)
    take(tally, 0, report(10, 3))
    take(tally, 0, report(12, 2))
    take(tally, 1, report(5, 1))
    totals = tally.totals()
    assert (totals["requests"], totals["accepted"], totals["connections"]) == (17, 17, 3)


def test_what_a_dead_worker_counted_stays() -> None:
    """Totals never fall; its requests are no longer under way."""
    tally = Tally(5.0)
    take(tally, 0, report(10, 3, server(1, 8, active=2, failures=1)))
    take(tally, 1, report(1, 1, server(1, 1)))
    tally.worker_ended(0)
    take(tally, 0, report(2, 1, server(1, 2)))
    tally.worker_ended(2)
    totals = tally.totals()
    assert (totals["requests"], totals["connections"]) == (13, 2)
    live = tally.server("a", "h", 1)
    assert (live.requests, live.failures, live.active) == (11, 1, 0)


def test_report_leaves_out_what_has_not_changed() -> None:
    """A server that is not in the last report is as in an earlier one."""
    tally = Tally(5.0)
    take(tally, 0, report(1, 0, server(1, 1)))
    take(tally, 0, report(1, 0))
    assert tally.server("a", "h", 1).requests == 1


def test_worst_word_about_a_server_is_shown() -> None:
    """It has its reason and time; among equal ones the latest is shown."""
    tally = Tally(5.0)
    take(tally, 0, report(0, 0, server(1, 0, "ok", last_modified=9.0)))
    take(tally, 1, report(0, 0, server(1, 0, "err", last_modified=3.0, message="x", fail_num=2)))
    take(tally, 2, report(0, 0, server(1, 0, "unstable", last_modified=8.0)))
    take(tally, 3, report(0, 0, server(1, 0, "err", last_modified=4.0, message="y", fail_num=1)))
    live = tally.server("a", "h", 1)
    assert (live.status, live.msg, live.last_modified, live.fail_num) == ("err", "y", 4.0, 1)
    for worker, status in ((3, "unstable"), (1, "ok"), (2, "unchecked")):
        tally.worker_ended(worker)
        assert tally.server("a", "h", 1).status == {"unstable": "err", "ok": "unstable"}.get(
            status, "ok"
        )


def test_server_that_nobody_asked_is_unchecked() -> None:
    """Its time is the director's start."""
    live = Tally(5.0).server("a", "h", 1)
    assert (live.status, live.requests, live.last_modified) == ("unchecked", 0, 5.0)


def test_server_that_is_gone_is_forgotten() -> None:
    """If it comes back, it begins anew."""
    tally = Tally(5.0)
    take(tally, 0, report(1, 0, server(1, 1), server(2, 1)))
    tally.forget("a", [("h", 1)])
    assert tally.server("a", "h", 1).requests == 0
    assert tally.server("a", "h", 2).requests == 1


def test_notes_of_all_workers_are_shown() -> None:
    """What one worker does with a server beyond its health, and another does not."""
    tally = Tally(5.0)
    take(tally, 0, report(1, 0, server(1, 1, notes={"slow_start": "it climbs"})))
    take(tally, 1, report(1, 0, server(1, 1, notes={})))
    assert tally.server("a", "h", 1).notes == {"slow_start": "it climbs"}
    take(tally, 0, report(1, 0, server(1, 1, notes={})))
    assert tally.server("a", "h", 1).notes == {}


def test_counters_of_upstreams_are_summed() -> None:
    """Those of a worker that has ended stay; those of an upstream that is gone do not."""
    tally = Tally(5.0)
    tally.take_upstreams(0, [UpstreamReport("a", {"retries": 3}), UpstreamReport("b", {"x": 1})])
    tally.take_upstreams(1, [UpstreamReport("a", {"retries": 2, "x": 1})])
    tally.take_upstreams(0, [UpstreamReport("a", {"retries": 4})])
    assert tally.upstream("a") == {"retries": 6, "x": 1}
    tally.worker_ended(0)
    tally.take_upstreams(0, [UpstreamReport("a", {"retries": 1})])
    tally.worker_ended(1)
    assert tally.upstream("a") == {"retries": 7, "x": 1}
    tally.upstream_changed("a", 2, True)
    assert tally.upstream("a") == {"retries": 7, "x": 1}
    tally.upstream_changed("a", 3, False)
    assert tally.upstream("a") == {}
