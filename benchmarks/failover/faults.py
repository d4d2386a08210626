"""The fault script: what is done to one server, and when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.failover.ground import Server
from benchmarks.soak.clients import nap

__all__ = ["FAULTS", "Fault", "play"]

#: Seconds that a fault lasts.
SECONDS = 10.0


@dataclass(frozen=True)
class Fault:
    """One fault: steps, each a moment in seconds and a method of :class:`Server`.

    The last step ends the fault.
    """

    name: str
    title: str
    steps: Sequence[tuple[float, str]]
    #: Whether no idempotent request may fail through slardar, whatever the others do.
    must_hide: bool = False
    #: Whether the server must have a network of its own.
    needs_network: bool = False


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill", "Killed with SIGKILL", ((0.0, "kill"), (SECONDS, "start")), must_hide=True),
        Fault("stop", "Stopped with SIGSTOP", ((0.0, "freeze"), (SECONDS, "thaw"))),
        Fault(
            "blackhole",
            "Packets to it dropped",
            ((0.0, "vanish"), (SECONDS, "appear")),
            needs_network=True,
        ),
        Fault(
            "slow",
            "Ten times as slow",
            ((0.0, "be_slow"), (SECONDS, "be_good")),
            must_hide=True,
        ),
        Fault(
            "flap",
            "Killed and started every 2 s",
            tuple((2.0 * turn, "start" if turn % 2 else "kill") for turn in range(6)),
            must_hide=True,
        ),
        Fault("errors", "Half of its replies 500", ((0.0, "be_wrong"), (SECONDS, "be_good"))),
    )
}


def play(fault: Fault, server: Server, scale: float) -> tuple[float, float]:
    """Do to a server what the fault says, in ``scale`` times its time.

    Returns when the fault began and when it ended, by the monotonic clock.
    """
    begin = time.monotonic()
    for moment, action in fault.steps:
        nap(max(0.0, begin + moment * scale - time.monotonic()))
        getattr(server, action)()
    return begin, time.monotonic()
