"""The load of handshakes: what it sends, and what it says at the end.

    python -m benchmarks.handshakes PORT SECONDS full|resumed

Each of some processes makes one connection after the other: a handshake of TLS 1.3,
``close_notify``, the tickets that the server sends, the server's end.  No request is sent, so
the figure is that of the handshake.  A client that resumes uses a ticket once, as browsers
do; resumption keeps a key exchange (``psk_dhe_ke``), and saves the signature.

It prints the line that ``requests.lua`` prints.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import ssl
import statistics
import sys
import time
from contextlib import suppress

from benchmarks.pair import HOST
from benchmarks.processes import LOOPBACK

__all__ = ["Shaker", "main"]

#: Clients at a time.
PROCESSES = 16
#: Seconds for a step of a client.
PATIENCE = 10.0
MARK = "result "


class Shaker:
    """One client, which makes one handshake after the other."""

    def __init__(self, port: int, resumes: bool) -> None:
        self._port = port
        self._resumes = resumes
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.set_alpn_protocols(["http/1.1"])
        self._session: ssl.SSLSession | None = None

    def shake(self) -> float:
        """Make a handshake; the seconds that it took, with the connection.

        :raise OSError: if it fails, or if it should have resumed a session and did not.
        """
        began = time.monotonic()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self._context.wrap_bio(
            incoming, outgoing, server_hostname=HOST, session=self._session
        )
        with socket.create_connection((LOOPBACK, self._port), PATIENCE) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                data = sock.recv(65536)
                if not data:
                    raise ConnectionError("the server closed the connection")
                incoming.write(data)
            took = time.monotonic() - began
            if self._session is not None and not client.session_reused:
                raise ConnectionError("the session was not resumed")
            with suppress(ssl.SSLWantReadError):
                client.unwrap()
            # The client's ``Finished`` and its end.
            sock.sendall(outgoing.read())
            while data := sock.recv(65536):
                incoming.write(data)
        if self._resumes:
            with suppress(ssl.SSLError):
                client.read(1)
            self._session = client.session
        return took


def _run(port: int, seconds: float, resumes: bool) -> tuple[list[float], int, str]:
    """Handshakes until the time is over: how long each took, how many failed, and why one of
    them did."""
    shaker = Shaker(port, resumes)
    times: list[float] = []
    failed, why = 0, ""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            times.append(shaker.shake())
        except OSError as error:
            failed, why = failed + 1, str(error)
            shaker = Shaker(port, resumes)
    return times, failed, why


def main(words: list[str]) -> int:
    """Run the command; 1 if no handshake was made."""
    port, seconds, kind = int(words[0]), float(words[1]), words[2]
    began = time.monotonic()
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        tasks = [(port, seconds, kind == "resumed")] * PROCESSES
        found = pool.starmap(_run, tasks, chunksize=1)
    times = sorted(time for taken, _, _ in found for time in taken)
    for reason in {why for _, _, why in found if why}:
        print(reason)
    failed = sum(count for _, count, _ in found)
    result = {
        "requests": len(times),
        "seconds": time.monotonic() - began,
        "bytes": 0,
        "p50_ms": statistics.median(times) * 1e3 if times else 0.0,
        "p99_ms": times[len(times) * 99 // 100] * 1e3 if times else 0.0,
        "errors": {"handshake": failed},
    }
    print(MARK + json.dumps(result))
    return 0 if times else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
