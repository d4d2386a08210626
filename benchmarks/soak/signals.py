"""HUP and USR2 under load."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.soak.clients import SMALL, Connection, Crowd, Failure, Wanted, get
from benchmarks.soak.load import Wrk
from benchmarks.soak.row import Row, Scale, number
from benchmarks.soak.site import Ground, Site

__all__ = ["signals"]

#: Requests on new connections after each signal: enough to reach both of two workers.
ASKED = 12


def signals(ground: Ground, scale: Scale) -> list[Row]:
    """Requests that fail during HUPs, and then during USR2s.

    Before each signal the file gets a new upstream and loses another.
    """
    with Site(ground, "signals") as site:
        return [
            _under_load(site, scale, "HUP", Site.hup),
            _under_load(site, scale, "USR2", Site.usr2),
        ]


def _under_load(site: Site, scale: Scale, name: str, send: Callable[[Site], None]) -> Row:
    row = Row(f"failed requests over {scale.signals} {name} under full load", "0")
    wrong: list[str] = []
    done = 0
    with Crowd(site.port) as crowd, Wrk(site.port, scale.connections) as wrk:
        crowd.more(20)
        try:
            for turn in range(scale.signals):
                former = [host for host in site.upstreams if host != SMALL.host]
                host = f"{name.lower()}-{turn}"
                site.upstreams = {SMALL.host: site.loaded(turn), host: site.loaded(turn)}
                site.write()
                send(site)
                done += 1
                wrong += _check(site, host, former)
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


def _check(site: Site, host: str, former: Sequence[str]) -> list[str]:
    """Mistakes after a signal: all must serve the new upstream, and none the former one."""
    wrong = []
    for _ in range(ASKED):
        try:
            get(site.port, Wanted(host, SMALL.path, SMALL.bodies))
        except Failure as failure:
            wrong.append(f"{host} after its signal: {failure}")
    for name in former:
        connection = Connection(site.port)
        status = connection.get(name, SMALL.path).status
        connection.close()
        if status != 502:
            wrong.append(f"{name} is gone, and answered {status}")
    return wrong
