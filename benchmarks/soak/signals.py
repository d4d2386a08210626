"""HUP and USR2 under load."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.soak.clients import SMALL, Connection, Crowd, Failure, Wanted, get
from benchmarks.soak.load import Wrk
from benchmarks.soak.row import Row, Scale, number
from benchmarks.soak.site import Ground, Site

__all__ = ["reloads", "upgrades"]

#: Requests on new connections after each signal: with two workers, all are met.
ASKED = 12


def reloads(ground: Ground, scale: Scale) -> list[Row]:
    """Requests that fail over HUPs, each with an upstream that comes and one that goes."""
    return [_under_load(ground, scale, "HUP", Site.hup)]


def upgrades(ground: Ground, scale: Scale) -> list[Row]:
    """Requests that fail over USR2s, the file changed as for HUP."""
    return [_under_load(ground, scale, "USR2", Site.usr2)]


def _under_load(ground: Ground, scale: Scale, name: str, send: Callable[[Site], None]) -> Row:
    row = Row(f"failed requests over {scale.signals} {name} under full load", "0")
    wrong: list[str] = []
    with Site(ground, name.lower()) as site:
        with Crowd(site.port) as crowd, Wrk(site.port, scale.connections) as wrk:
            crowd.more(20)
            done = 0
            try:
                for turn in range(scale.signals):
                    site.upstreams[f"turn-{turn}"] = ground.loaded()
                    site.upstreams.pop(f"turn-{turn - 1}", None)
                    site.write()
                    send(site)
                    done += 1
                    wrong += _check(site, turn)
                    crowd.more(20)
            except RuntimeError as error:
                wrong.append(str(error))
        wrk.stop()
    row.measured = f"{wrk.failed + crowd.failed}"
    row.met = wrk.failed + crowd.failed + crowd.closing + len(wrong) == 0
    row.notes += [
        f"{done} {name} within {number(wrk.requests)} requests of wrk and "
        f"{number(crowd.good)} of the strict clients; sent into a closing connection: "
        f"{crowd.closing}",
        *wrk.said(),
        *crowd.said(),
        *wrong,
    ]
    return row


def _check(site: Site, turn: int) -> list[str]:
    """What is wrong after a signal: the new upstream is served by all, the former by none."""
    wrong = []
    small = f"turn-{turn}"
    for _ in range(ASKED):
        try:
            get(site.port, _small(small))
        except Failure as failure:
            wrong.append(f"{small} after signal {turn + 1}: {failure}")
    if turn:
        connection = Connection(site.port)
        status = connection.get(f"turn-{turn - 1}", "/small/soak").status
        connection.close()
        if status != 502:
            wrong.append(f"turn-{turn - 1} is gone, and answered {status}")
    return wrong


def _small(host: str) -> Wanted:
    """The load's small request, for another host."""
    return Wanted(host, SMALL.path, SMALL.bodies)
