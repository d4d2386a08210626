"""Drains, stops and replaces backends, one after another."""

from __future__ import annotations

from benchmarks.soak.clients import SMALL, Crowd, Wanted, until
from benchmarks.soak.load import Wrk
from benchmarks.soak.origins import Backend
from benchmarks.soak.row import Row, Scale, number
from benchmarks.soak.site import Ground, Site, server

__all__ = ["replaced"]

#: The number of backends at a time.
TOGETHER = 3


def _active(site: Site, port: int) -> int:
    """The requests under way on a server, in all workers."""
    for one in site.status()[f"cls:{SMALL.host}"][0]:
        if one["server"].endswith(f":{port}"):
            found: int = one["active"]
            return found
    raise RuntimeError(f"/status does not know the server on port {port}")


def replaced(ground: Ground, scale: Scale) -> list[Row]:
    """GETs that fail while backends are replaced one by one."""
    row = Row(f"failed GETs while {scale.replaced} backends are drained, stopped, replaced", "0")
    room = ground.room("backends")
    backends = [Backend(room, ground.cores) for _ in range(TOGETHER)]
    everybody = list(backends)

    def body() -> dict[str, object]:
        return {"servers": [server(one.port) for one in backends]}

    try:
        with Site(ground, "replaced", {SMALL.host: body()}) as site:
            with Crowd(site.port, (SMALL,)) as crowd, Wrk(site.port, scale.connections) as wrk:
                crowd.more(20)
                for _ in range(scale.replaced):
                    old = backends.pop(0)
                    site.call(
                        "PATCH", f"/upstream/{SMALL.host}/127.0.0.1:{old.port}", {"state": "drain"}
                    )
                    # Counters in /status are up to a second old, so one zero is not enough.
                    until(lambda port=old.port: not _active(site, port), "it has no request")  # type: ignore[misc]
                    crowd.wait(1.1)
                    until(lambda port=old.port: not _active(site, port), "it has no request")  # type: ignore[misc]
                    old.stop()
                    crowd.more(5)
                    new = Backend(room, ground.cores)
                    backends.append(new)
                    everybody.append(new)
                    site.put(SMALL.host, body())
                    crowd.more(5)
            wrk.stop()
            with Crowd(site.port, [Wanted(SMALL.host, "/who", _names(backends))]) as last:
                last.more(30)
    finally:
        for one in everybody:
            one.stop()
    row.measured = f"{wrk.failed + crowd.failed + last.failed}"
    row.met = wrk.failed + crowd.failed + crowd.closing + last.failed == 0
    row.notes += [
        f"{TOGETHER} at a time; {number(wrk.requests)} requests of wrk and "
        f"{number(crowd.good)} of the strict clients; sent into a closing connection: "
        f"{crowd.closing}",
        *wrk.said(),
        *crowd.said(),
        *last.said(),
    ]
    return [row]


def _names(backends: list[Backend]) -> tuple[bytes, ...]:
    return tuple(one.name for one in backends)
