"""What the request path counts, and how it is handed over."""

from __future__ import annotations

import pytest

from slardar.config import Metrics
from slardar.http1.record import RequestRecord
from slardar.observers.counted import Counted, UpstreamCounted, counted_in
from slardar.observers.counts import REASONS, Counting
from slardar.testing.playbook import Playbook
from tests.http1.lines import GET, OK, SWITCHING, UPGRADE, post, reply
from tests.observers.kit import snapshot, totals


def counting() -> Counting:
    return Counting((0.01, 0.1, 1), (0.001, 0.1))


def observed(servers: int = 1) -> tuple[Playbook, Counting]:
    play = Playbook(observed=False, servers=servers)
    play.host.observer = found = counting()
    return play, found


def told(found: Counting, size: int = 500) -> Counted:
    """All that was counted, as one message."""
    parts = list(counted_in(found, size))
    upstreams = tuple(one for part in parts for one in part.upstreams)
    first = parts[0] if parts and not parts[0].upstreams else Counted()
    return Counted(upstreams, first.refused, first.added, first.added_seconds)


def test_served_request() -> None:
    """Status, bytes, time and server; and what was told is not told again."""
    play, found = observed()
    play.client_sends(GET)
    play.pass_time(0.5)
    play.origin_sends(OK)
    sent = play.client_gets()
    (about,) = told(found).upstreams
    assert (about.upstream, about.codes) == ("fake", {200: 1})
    assert about.buckets == (0, 0, 1, 0)
    assert about.seconds == pytest.approx(0.5)
    assert (about.bytes_in, about.bytes_out) == (len(GET), len(sent))
    (server,) = about.servers
    assert (server.codes, server.failures) == ({200: 1}, {})
    assert told(found) == Counted()


def test_servers_are_timed_while_somebody_looks() -> None:
    """A request costs a little more then.  An attempt without a reply has no time."""
    play, found = observed()
    for until, buckets in ((0.0, ()), (100.0, (0, 0, 1, 0)), (0.4, ())):
        found.timed_until = play.clock.now + until
        play.client_sends(GET)
        play.pass_time(0.5)
        play.origin_sends(OK)
        play.client_gets()
        (about,) = told(found).upstreams
        assert about.servers[0].buckets == buckets
    found.timed_until = 100.0
    record = RequestRecord(b"", None, 10.0)
    record.upstream = "fake"
    for started, ended, status in ((10.0, 10.05, 503), (10.1, 10.2, 0), (10.2, 12.0, 200)):
        attempt = record.attempt("a:1", started)
        attempt.ended, attempt.status = ended, status
    record.ended, record.status = 12.0, 200
    found.request_ended(record)
    (about,) = told(found).upstreams
    assert about.servers[0].buckets == (0, 1, 0, 1)


def test_time_of_servers_is_not_added_time() -> None:
    """What a server takes is its own; a request that no server has is slardar's."""
    play, found = observed()
    play.client_sends(GET)
    play.pass_time(0.5)
    play.origin_sends(OK)
    assert told(found).added == (1, 0, 0)
    record = RequestRecord(b"", None, 10.0)
    record.upstream = "fake"
    for started, ended in ((10.25, 10.5), (10.4, 11.0), (12.0, 13.0)):
        record.attempt("a:1", started).ended = ended
    record.ended = 13.5
    found.request_ended(record)
    counted = told(found)
    # 0.25 before the first attempt, 1.0 between two, 0.5 after the last; two overlap.
    assert counted.added_seconds == pytest.approx(1.75)
    assert counted.added == (0, 0, 1)
    (about,) = counted.upstreams
    assert about.buckets == (0, 0, 0, 1)


@pytest.mark.parametrize("attempts", [1, 2])
def test_attempt_that_has_not_ended_is_not_added_time(attempts: int) -> None:
    """The server had the request to the end."""
    found = counting()
    record = RequestRecord(b"", None, 10.0)
    record.upstream = "fake"
    for _ in range(attempts):
        record.attempt("a:1", 10.25)
    record.ended = 11.0
    found.request_ended(record)
    assert told(found).added_seconds == pytest.approx(0.25)


def test_attempts_and_failures() -> None:
    """Each attempt counts for its server, each failure by its kind; the next attempt is a
    retry."""
    play, found = observed(servers=2)
    play.selection.failed_statuses = frozenset({503})
    play.client_sends(GET)
    play.origin_sends(reply(b"no", status="503 No"))
    play.origin_sends(OK)
    (about,) = told(found).upstreams
    assert about.codes == {200: 1}
    assert about.retries == 1
    servers = {server.server: (server.codes, server.failures) for server in about.servers}
    assert list(servers.values()) == [({503: 1}, {"status": 1}), ({200: 1}, {})]


def test_stale_connection_is_neither_failure_nor_retry() -> None:
    """The server had closed it; its next connection has the request."""
    play, found = observed()
    play.client_sends(GET)
    play.origin_sends(OK)
    told(found)
    play.client_sends(GET)
    play.origin.end()
    play.settle()
    play.origin_sends(OK)
    (about,) = told(found).upstreams
    (server,) = about.servers
    assert about.codes == {200: 1}
    assert (about.retries, server.failures) == (0, {})
    assert server.codes == {200: 1, 0: 1}


@pytest.mark.parametrize("status", REASONS)
def test_refused_requests_have_a_reason(status: int) -> None:
    """There is one for every status with which slardar refuses, and for the rest."""
    found = counting()
    for one in (status, 599):
        record = RequestRecord(b"", None, 1.0)
        record.status = one
        found.request_ended(record)
    assert told(found).refused == {REASONS[status]: 1, "other": 1}


def test_answer_to_a_ca_is_no_refusal() -> None:
    """It reached no upstream, because it was for slardar itself."""
    play, found = observed()
    play.host.challenges = {b"/.well-known/acme-challenge/x": b"x.y"}
    play.client_sends(b"GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert play.client_gets().endswith(b"\r\n\r\nx.y")
    assert told(found).refused == {}


def test_bytes_that_are_no_request_are_refused() -> None:
    """They have a record, too."""
    play, found = observed()
    play.client_sends(b"\0\0\r\n\r\n")
    assert told(found).refused == {"bad_request": 1}
    play, found = observed(servers=0)
    play.client_sends(GET)
    assert told(found).refused == {"no_upstream": 1}


def test_client_that_leaves_has_status_0() -> None:
    """The attempt has it, too."""
    play, found = observed()
    play.client_sends(GET)
    play.client.lose()
    (about,) = told(found).upstreams
    assert about.codes == {0: 1}
    assert about.servers[0].codes == {0: 1}


def test_tunnel_is_in_no_histogram_and_its_bytes_count_as_they_go() -> None:
    """A look counts them, and the end only the rest."""
    play, found = observed()
    play.client_sends(UPGRADE)
    play.origin_sends(SWITCHING)
    play.client_sends(b"x" * 100)
    play.origin_sends(b"y" * 1000)
    (tunnel,) = play.host.tunnels
    assert found.look([], [tunnel]) == ({"": 1}, {"fake": 1})
    (about,) = told(found).upstreams
    first = (about.bytes_in, about.bytes_out)
    assert first == (len(UPGRADE) + 100, len(SWITCHING) + 1000)
    assert about.codes == {}
    found.look([], [tunnel])
    play.client_sends(b"x" * 7)
    play.origin.end()
    play.client.end()
    play.settle()
    (about,) = told(found).upstreams
    assert (about.bytes_in, about.bytes_out) == (7, 0)
    assert about.codes == {101: 1}
    assert sum(about.buckets) == 0


def test_large_body_counts_as_it_goes() -> None:
    """Small ones wait for their end, which costs nothing."""
    play, found = observed()
    play.client_sends(post(b"x" * 2_000_000)[:1_500_000])
    assert found.look([play.connection], []) == ({"": 1}, {})
    (about,) = told(found).upstreams
    assert about.bytes_in == 1_500_000
    play.client.lose()
    (about,) = told(found).upstreams
    assert about.bytes_in == 0


def filled(upstreams: int, servers: int) -> Counting:
    found = counting()
    for number in range(upstreams):
        for port in range(servers):
            record = RequestRecord(b"", None, 1.0)
            record.upstream = f"u{number}"
            record.status = 200
            attempt = record.attempt(f"127.0.0.1:{port + 1}", 1.0)
            attempt.status = 200
            attempt.ended = record.ended = 1.5
            found.request_ended(record)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(("upstreams", "servers"), [(1, 1), (5, 3), (1, 20), (7, 7)])
def test_parts_are_the_whole(size: int, upstreams: int, servers: int) -> None:
    """Nothing is told twice or left out, and no part is large."""
    served = snapshot(**{f"u{n}": [p + 1 for p in range(servers)] for n in range(upstreams)})
    whole, in_parts = totals(buckets=(0.01, 0.1, 1)), totals(buckets=(0.01, 0.1, 1))
    for part in counted_in(filled(upstreams, servers), 10**6):
        whole.take(part, served)
    for part in counted_in(filled(upstreams, servers), size):
        assert sum(max(1, len(one.servers)) for one in part.upstreams) <= size
        in_parts.take(part, served)
    assert in_parts.hand_over(0) == whole.hand_over(0)
    assert in_parts.hand_over(0) == totals(buckets=(0.01, 0.1, 1)).hand_over(0)


def test_bounds_are_upper_ends() -> None:
    """As Prometheus has it: less or equal."""
    found = counting()
    ends: list[float] = [0.0, 0.01, 0.011, 0.1, 1.0, 1.1, 1e6]
    for seconds in ends:
        record = RequestRecord(b"", None, 0.0)
        record.upstream = "a"
        record.ended = seconds
        found.request_ended(record)
    (about,) = told(found).upstreams
    assert about.buckets == (2, 2, 1, 2)


def test_defaults_fit() -> None:
    """There is a counter for each bound, and one above."""
    metrics = Metrics()
    found = Counting(metrics.buckets, metrics.added_buckets)
    assert len(found.added) == len(metrics.added_buckets) + 1


def test_unknown_upstream_makes_no_total() -> None:
    """A worker that is taken over cannot fill the director's memory."""
    served = snapshot(a=[1])
    some = totals()
    servers = (UpstreamCounted("b", {200: 1}), UpstreamCounted("a", {200: 1}))
    some.take(Counted(servers), served)
    assert list(some.upstreams) == ["a"]


def test_upstreams_by_turns() -> None:
    """Each request counts for its own upstream, whichever came before, also after the counts were
    taken, and whatever object its name is."""
    found = counting()
    for turn in range(3):
        for name in ("a", "a", "b", "a", "b", "b"):
            record = RequestRecord(b"", None, 0.0)
            record.upstream = name if turn < 2 else bytes(name, "ascii").decode()
            record.status = 200
            found.request_ended(record)
        assert {one.upstream: one.codes for one in told(found).upstreams} == {
            "a": {200: 3},
            "b": {200: 3},
        }
