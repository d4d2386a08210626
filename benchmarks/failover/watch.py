"""Watches what a proxy sends to the server that breaks, on the wire.

A server that is dead or cut off cannot count the requests that it is sent, and a client cannot
see them either when they are retried.  So this reads the packets of the virtual interface.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time

from benchmarks.failover.ground import Namespace

__all__ = ["Packets", "Watch", "requests_among"]

_ETH_P_ALL = 3
_ETHERNET = 14
_IPV4 = b"\x08\x00"
_TCP = 6
_SYN = 0x02
_RST = 0x04
_ACK = 0x10
#: How requests begin on the wire; heartbeats have another path.
_REQUESTS = (b"GET /job/", b"POST /job/")
#: A connection that fails says not what it was for.  Heartbeats come one by one, requests
#: closer together than so many seconds.
NEAR = 0.2


class Packets:
    """What the packets of one server's interface mean."""

    def __init__(self, host: str) -> None:
        self._host = socket.inet_aton(host)
        #: Connections that nobody has accepted yet, by the port of the proxy's side.
        self._opening: dict[int, tuple[int, float]] = {}
        self._seen: set[tuple[int, int]] = set()
        #: When requests were sent, by the monotonic clock.
        self.requests: list[float] = []
        self._refused: list[float] = []

    @property
    def failed_connections(self) -> list[float]:
        """When connections were begun that were refused or never accepted."""
        return sorted([*self._refused, *(at for _, at in self._opening.values())])

    def note(self, frame: bytes, at: float) -> None:
        """One packet, as the interface had it."""
        if frame[12:14] != _IPV4 or frame[_ETHERNET + 9] != _TCP:
            return
        start = _ETHERNET + (frame[_ETHERNET] & 15) * 4
        source, target, sequence = struct.unpack_from("!HHI", frame, start)
        flags = frame[start + 13]
        if frame[_ETHERNET + 12 : _ETHERNET + 16] == self._host:
            self._from_server(target, flags)
        elif frame[_ETHERNET + 16 : _ETHERNET + 20] == self._host:
            if flags & _SYN:
                self._begins(source, sequence, at)
            payload = frame[start + (frame[start + 12] >> 4) * 4 :]
            if payload.startswith(_REQUESTS) and (source, sequence) not in self._seen:
                # The same bytes once more are a repetition by the kernel.
                self._seen.add((source, sequence))
                self.requests.append(at)

    def _begins(self, port: int, sequence: int, at: float) -> None:
        before = self._opening.get(port)
        if before is None:
            self._opening[port] = sequence, at
        elif before[0] != sequence:
            self._refused.append(before[1])
            self._opening[port] = sequence, at

    def _from_server(self, port: int, flags: int) -> None:
        if flags & _SYN and flags & _ACK:
            self._opening.pop(port, None)
        elif flags & _RST:
            before = self._opening.pop(port, None)
            if before is not None:
                self._refused.append(before[1])


def requests_among(packets: Packets) -> list[float]:
    """When requests were sent, or would have been had a connection been made, in order."""
    failed = packets.failed_connections
    sent = sorted([*packets.requests, *failed])
    kept = list(packets.requests)
    for at in failed:
        if sum(abs(other - at) < NEAR for other in sent) > 1:
            kept.append(at)
    return sorted(kept)


class Watch:
    """Reads the packets of a namespace's interface, in a thread, until :meth:`stop`.

    :raise OSError: if this is not allowed.
    """

    def __init__(self, namespace: Namespace) -> None:
        self.packets = Packets(namespace.host)
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._sock.bind((namespace.link, 0))
        #: What has ended the thread, if it is not :meth:`stop`.
        self.error: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._read_all()
        except BaseException as error:
            # A watch that has ended unseen would say that nothing was sent.
            self.error = error

    def _read_all(self) -> None:
        while not self._stopped.is_set():
            if select.select([self._sock], [], [], 0.1)[0]:
                frame = self._sock.recv(65536)
                self.packets.note(frame, time.monotonic())

    def stop(self) -> list[float]:
        """Stop, and say when requests were sent."""
        self._stopped.set()
        self._thread.join(5)
        self._sock.close()
        return requests_among(self.packets)
