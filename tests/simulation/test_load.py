"""The requests of a simulation."""

from __future__ import annotations

import json
from random import Random

import pytest

from slardar.errors import ConfigError
from slardar.simulation.load import Arrival, made_by_lot, read_log
from slardar.simulation.scenario import Load

JSON = '{"time": "2026-01-01T00:00:%s", "method": "GET", "uri": "/%d", "client": "10.0.0.1"}'
COMBINED = '10.0.0.2 - - [01/Jan/2026:00:00:%02d +0000] "POST /%d?a HTTP/1.1" 200 5 "-" "x y"'


def test_requests_by_lot() -> None:
    """As many as the rate says, over all of the time, for paths and clients there are."""
    load = Load(rate=100, seconds=100, paths=10, clients=3)
    found = list(made_by_lot(load, Random(1)))
    assert len(found) == pytest.approx(10_000, rel=0.05)
    assert {arrival.uri for arrival in found} == {f"/{n}" for n in range(10)}
    assert {arrival.client for arrival in found} == {f"10.0.0.{n}" for n in range(3)}
    assert [arrival.at for arrival in found] == sorted(arrival.at for arrival in found)
    assert 99 < found[-1].at < 100


def test_access_log_in_json() -> None:
    """Times are from the first request on, whatever the order of the lines."""
    lines = [JSON % ("02.500Z", 2), JSON % ("01.250+00:00", 1), "{broken", "{}", JSON % ("x", 3)]
    assert read_log(lines, Random(1)) == [
        Arrival(0.0, "GET", "/1", "10.0.0.1"),
        Arrival(1.25, "GET", "/2", "10.0.0.1"),
    ]


def test_access_log_of_slardars() -> None:
    """Its time is that of the end, and a tunnel has several lines."""
    about = {"method": "GET", "client": "10.0.0.1", "status": 200, "worker": "worker-0"}
    lines = [
        {
            "time": "2026-01-01T00:00:09.500Z",
            "uri": "/long",
            "seconds": 9.25,
            "event": event,
            **about,
        }
        for event in ("begin", "progress", "end")
    ]
    lines += [
        {"time": "2026-01-01T00:00:02.500Z", "uri": "/short", "seconds": 0.25, **about},
        {"time": "2026-01-01T00:00:02.500Z", "uri": None, "seconds": 0.0, **about, "method": None},
    ]
    assert read_log(map(json.dumps, lines), Random(1)) == [
        Arrival(0.0, "GET", "/long", "10.0.0.1"),
        Arrival(2.0, "GET", "/short", "10.0.0.1"),
    ]


def test_combined_access_log() -> None:
    """Requests of one second are spread over it; lines of other forms are left out."""
    lines = [COMBINED % (second, second) for second in (1, 1, 1, 2)]
    lines += ["", "odd", '10.0.0.1 - - [99/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 1']
    found = read_log(lines, Random(1))
    assert [arrival.uri for arrival in found] == ["/1?a", "/1?a", "/1?a", "/2?a"]
    assert {(arrival.method, arrival.client) for arrival in found} == {("POST", "10.0.0.2")}
    assert len({arrival.at for arrival in found}) == 4
    assert found[0].at == 0.0
    assert found[2].at < 1.0


def test_no_access_log() -> None:
    """A file of something else is refused."""
    with pytest.raises(ConfigError):
        read_log(["a: b", ""], Random(1))
