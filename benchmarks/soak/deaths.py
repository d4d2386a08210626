"""Kills processes under load."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.procfs import PROC
from benchmarks.soak.clients import SMALL, Connection, Crowd, Failure, get, until
from benchmarks.soak.load import Wrk
from benchmarks.soak.row import Row, Scale, number
from benchmarks.soak.site import Ground, Site, is_running

__all__ = ["deaths", "held"]

ESTABLISHED = "01"
#: The failures of a client whose worker is killed.
ENDS = ("closed", "reset", "short body")
#: Seconds within which workers without a director must have ended.
GONE = 2.0


def held(pid: int, port: int) -> int:
    """The number of clients' connections to a local port that a process has."""
    inodes = set()
    for line in (PROC / str(pid) / "net" / "tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].rpartition(":")[2], 16) == port and words[3] == ESTABLISHED:
            inodes.add(f"socket:[{words[9]}]")
    count = 0
    for entry in (PROC / str(pid) / "fd").iterdir():
        try:
            count += os.readlink(entry) in inodes
        except OSError:
            continue
    return count


def deaths(ground: Ground, scale: Scale) -> list[Row]:
    """The requests that fail when workers are killed, and when the director is killed."""
    with Site(ground, "deaths") as site:
        return [worker_killed(site, scale), director_killed(site, scale, ground.loaded())]


def worker_killed(site: Site, scale: Scale) -> Row:
    """The requests that fail when workers are killed, and how soon replacements serve."""
    row = Row(
        f"kill -9 of one worker of two under full load, {scale.kills} times",
        f"failed ≤ connections it held, none refused, back within {scale.back:g} s",
    )
    carried = 0
    times: list[float] = []
    with Crowd(site.port) as crowd, Wrk(site.port, scale.connections) as wrk:
        for turn in range(scale.kills):
            crowd.more(100)
            name = f"worker-{turn % 2}"
            pid = site.workers()[name]
            # A stopped worker takes no connection between the count and its end.
            os.kill(pid, signal.SIGSTOP)
            carried += held(pid, site.port)
            os.kill(pid, signal.SIGKILL)
            times.append(
                until(lambda pid=pid, name=name: _is_back(site, name, pid), "it is back")  # type: ignore[misc]
            )
        crowd.more(100)
    wrk.stop()
    failed = wrk.failed + crowd.failed + crowd.closing
    refused = crowd.kinds["refused"] + crowd.kinds["not connected"] + wrk.errors["connect"]
    row.measured = (
        f"{failed} failed of {carried} held, {refused} refused, back in {max(times):.2f} s"
    )
    timed_out = wrk.errors["timeout"] + crowd.kinds["timed out"]
    # A dead worker may cause an end or a reset, but never a wrong reply.
    wrong = wrk.errors["status"] + sum(
        count for kind, count in crowd.kinds.items() if kind not in ENDS
    )
    row.met = failed <= carried and max(times) <= scale.back
    row.met = row.met and refused + timed_out + wrong == 0
    row.notes += [
        f"of {number(wrk.requests + crowd.good)} requests; the replacements took "
        + ", ".join(f"{one:.2f} s" for one in times),
        *wrk.said(),
        *crowd.said(),
    ]
    return row


def _is_back(site: Site, name: str, dead: int) -> bool:
    """Whether a replacement serves."""
    status = site.status()
    about = status["workers"].get(name)
    return (
        about is not None and about["pid"] != dead and status["config_timer"].get(name) == "alive"
    )


def director_killed(site: Site, scale: Scale, loaded: Mapping[str, Any]) -> Row:
    """How workers end without a director, and the start after that."""
    row = Row(
        "kill -9 of the director under load",
        f"workers take nothing new and are gone within {GONE:g} s; a restart serves the same",
    )
    wrong: list[str] = []
    site.put("made.example.com", loaded)
    before = site.status()
    workers = site.workers().values()
    with Wrk(site.port, scale.connections):
        get(site.port, SMALL)
        killed = time.monotonic()
        site.kill()
        served_after = _last_served(site.port, killed)
        try:
            until(lambda: not any(map(is_running, workers)), "the workers end", 30.0)
        except RuntimeError as error:
            wrong.append(str(error))
        gone = time.monotonic() - killed
    try:
        Connection(site.port).close()
        wrong.append("the port still takes connections")
    except Failure as failure:
        if failure.kind != "refused":
            wrong.append(f"a connection after the end is not refused: {failure}")
    site.start()
    after = site.status()
    for key in ("fingerprint", "shd_config_version"):
        if after[key] != before[key]:
            wrong.append(f"{key} was {before[key]}, and is {after[key]} after the restart")
    for host in (SMALL.host, "made.example.com"):
        try:
            status = _status(site.port, host)
        except Failure as failure:
            wrong.append(f"{host} after the restart: {failure}")
        else:
            if status != 200:
                wrong.append(f"{host} after the restart: status {status}")
    row.measured = f"last new connection served {served_after:.2f} s, workers gone {gone:.2f} s"
    row.measured += " after it" + ("; the same is served" if not wrong else "")
    row.met = not wrong and gone <= GONE
    row.notes += wrong
    return row


def _status(port: int, host: str) -> int:
    connection = Connection(port)
    try:
        return connection.get(host, SMALL.path).status
    finally:
        connection.close()


def _last_served(port: int, since: float) -> float:
    """Seconds since ``since`` at which a new connection was served last."""
    last = 0.0
    while time.monotonic() - since < 2 * GONE:
        try:
            get(port, SMALL)
        except Failure:
            break
        last = time.monotonic() - since
    return last
