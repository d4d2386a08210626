"""What the tests of this folder share."""

from __future__ import annotations

from time import monotonic
from typing import Any

from slardar.config import Metrics
from slardar.http1.record import RequestRecord
from slardar.http1.request import parse_request
from slardar.model.parse import parse_upstream
from slardar.model.snapshot import Snapshot
from slardar.observers.exposition import Exposition, Facts
from slardar.observers.totals import Totals

FACTS = Facts({"tcp:8080": 3}, {"a": 1}, {"alive": 2}, 1, 5, lambda *_: (True, 2))


def totals(**buckets: Any) -> Totals:
    """Totals with the buckets of the defaults, or other ones."""
    metrics = Metrics(**buckets)
    return Totals(metrics.buckets, metrics.added_buckets)


def snapshot(version: int = 1, /, **servers: list[int]) -> Snapshot:
    """Upstreams, with the ports of their servers."""
    upstreams = {
        name: parse_upstream(
            name, {"servers": [{"host": "127.0.0.1", "port": port} for port in ports]}, name
        )
        for name, ports in servers.items()
    }
    return Snapshot.build(version, upstreams, (), None)


def text_of(some: Totals, served: Snapshot, facts: Facts = FACTS) -> str:
    """One scrape."""
    expiries = [("a.pem", 1_800_000_000), ("a.pem", 1_700_000_000)]
    return "".join(Exposition(served, some, facts, (), "1.2.3", 0.0, expiries).pieces())


def lines_of(text: str, name: str) -> list[str]:
    """The samples of one metric."""
    return [line for line in text.splitlines() if line.startswith(name)]


def record_of(
    target: bytes = b"/a?b",
    headers: bytes = b"User-Agent: curl/8\r\nreferer:  http://r.test/ \r\n",
    upstream: str = "a.test",
    seconds: float = 0.25,
) -> RequestRecord:
    """The record of a request that a server has answered, which has just ended."""
    request = parse_request(b"GET %b HTTP/1.1\r\nHost: A.test:81\r\n%b\r\n" % (target, headers))
    request.request_id = b"id-1"
    ended = monotonic()
    record = RequestRecord(b"192.0.2.7", request, ended - seconds)
    record.upstream = upstream
    record.status = 200
    record.bytes_out = 300
    attempt = record.attempt("10.0.0.1:80", record.started)
    attempt.connected = record.started + 0.001
    attempt.first_byte = record.started + 0.2
    record.ended = ended
    return record
