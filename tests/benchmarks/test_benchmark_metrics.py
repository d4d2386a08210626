"""The benchmark of metrics: it measures what it says."""

from __future__ import annotations

import re

import pytest

from benchmarks.metrics import Rig, main


def test_counters_take_little_memory() -> None:
    """In a line for a person."""
    lines: list[str] = []
    assert main(["--only", "memory", "--upstreams", "20"], lines.append) == 0
    (line,) = lines
    assert re.fullmatch(r"memory: \d+\.\d MB for the counters of 200 servers in a worker", line)


@pytest.mark.real
def test_rigs_differ_in_the_observer_alone() -> None:
    """One counts the requests that both serve."""
    rigs = [Rig(False), Rig(True)]
    for rig in rigs:
        assert rig.ask(3) > 0
        assert rig.plane.requests == 48
    assert rigs[0].plane.observers.counting.upstreams == {}
    assert rigs[1].plane.observers.counting.upstreams["a"].good == 48
    for rig in rigs:
        rig.close()


@pytest.mark.real
def test_scrape_is_measured() -> None:
    """With few upstreams: the cost of a scrape, and requests beside it."""
    lines: list[str] = []
    words = ["--only", "scrape", "--upstreams", "5", "--servers", "2", "--workers", "0"]
    assert main([*words, "--rounds", "1"], lines.append) == 0
    assert lines[0].startswith("a scrape of 5 upstreams of 2 servers, 0 workers: ")
    assert lines[1].startswith("requests without scrapes: p50 ")
    assert lines[2].startswith("requests during scrapes: p50 ")
