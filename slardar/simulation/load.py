"""The requests of a simulation: made by lot, or those of an access log."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any, NamedTuple

from slardar.errors import ConfigError
from slardar.simulation.scenario import Load

__all__ = ["Arrival", "made_by_lot", "read_log"]

#: Apache's common and combined formats.
_COMBINED = re.compile(
    r'(?P<client>\S+) \S+ \S+ \[(?P<time>[^\]]+)\] "(?P<method>[A-Z]+) (?P<uri>/\S*) HTTP/[0-9.]+"'
)


class Arrival(NamedTuple):
    """A request that comes at a time, in seconds from the first one."""

    at: float
    method: str
    uri: str
    client: str


def made_by_lot(load: Load, random: Random) -> Iterator[Arrival]:
    """Requests that come independently of each other, as from many clients."""
    at = random.expovariate(load.rate)
    while at < load.seconds:
        uri = f"/{random.randrange(load.paths)}"
        number = random.randrange(load.clients)
        client = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        yield Arrival(at, load.method, uri, client)
        at += random.expovariate(load.rate)


def read_log(lines: Iterable[str], random: Random) -> list[Arrival]:
    """The requests of an access log, by their times: JSON with ``time``, ``method``, ``uri`` and
    ``client``, as slardar writes it, or Apache's combined format.

    Requests whose time is a whole second come at any time within the second.  Lines of other
    forms are left out; raises ConfigError if all are.
    """
    found: list[Arrival] = []
    for line in lines:
        arrival = _from_json(line) if line[:1] == "{" else _from_combined(line)
        if arrival is not None:
            fraction = random.random() if arrival.at == int(arrival.at) else 0.0
            found.append(arrival._replace(at=arrival.at + fraction))
    if not found:
        raise ConfigError("expected an access log in JSON or in the combined format")
    found.sort(key=lambda arrival: arrival.at)
    first = found[0].at
    return [arrival._replace(at=arrival.at - first) for arrival in found]


def _from_json(line: str) -> Arrival | None:
    try:
        entry: dict[str, Any] = json.loads(line)
        at = datetime.datetime.fromisoformat(str(entry["time"]).replace("Z", "+00:00"))
        if entry.get("event") in ("begin", "progress"):
            return None  # slardar's line about a request that another line is about, too
        # slardar's time is that of the end.
        began = at.timestamp() - float(entry.get("seconds") or 0.0)
        arrival = Arrival(began, entry["method"], entry["uri"], entry["client"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return arrival if all(isinstance(text, str) for text in arrival[1:]) else None


def _from_combined(line: str) -> Arrival | None:
    match = _COMBINED.match(line)
    if match is None:
        return None
    try:
        at = datetime.datetime.strptime(match["time"], "%d/%b/%Y:%H:%M:%S %z")
    except ValueError:
        return None
    return Arrival(at.timestamp(), match["method"], match["uri"], match["client"])
