"""Totals and scrapes, for tests of the metrics."""

from __future__ import annotations

from typing import Any

from slardar.config import Metrics
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
    return "".join(Exposition(served, some, facts, (), "1.2.3").pieces())


def lines_of(text: str, name: str) -> list[str]:
    """The samples of one metric."""
    return [line for line in text.splitlines() if line.startswith(name)]
