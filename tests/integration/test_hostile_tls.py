"""Hostile clients of TLS on the real program: each is refused or served as the RFCs say, others
are served meanwhile, and nothing is left of any of them."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from tests.integration.hostile_tls import CASES, CLOSED, Case, Client, TLSAbruptCloseError
from tests.integration.hostile_tls import TLSRemoteAlert as RemoteAlert
from tests.integration.test_tls import Site, ask
from tests.integration.test_workers import until


class Attacked:
    """A site, a client that stays, and what the program used before."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.pid = site.program.pid
        self.kept = site.connect()
        assert ask(self.kept).startswith(b"HTTP/1.1 200 OK")
        # Clients of each kind, so that what is made once is there.
        for case in CASES[:3]:
            outcome(case, site)
        self.files = self.settled()
        self.memory = self.resident()

    def open_files(self) -> int:
        """Descriptors of the program."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def settled(self) -> int:
        """The descriptors, once connections to servers are kept and clients are gone."""
        counts: list[int] = []

        def still() -> bool:
            counts.append(self.open_files())
            return len(counts) > 5 and len(set(counts[-5:])) == 1

        until(still, "descriptors stay")
        return counts[-1]

    def resident(self) -> int:
        """Bytes of memory."""
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def seconds(self) -> float:
        """The processor's time."""
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """slardar under attack."""
    with ExitStack() as stack:
        yield Attacked(Site(tmp_path_factory.mktemp("site"), stack).start())


def outcome(case: Case, site: Site) -> Any:
    """What becomes of a client: an alert, ``CLOSED`` or a reply."""
    client = Client(site.plain())
    with closing(client.raw):
        try:
            case.run(client)
            if not case.ends:
                return client.ask()
            return client.raw_end() if case.raw else client.end()
        except RemoteAlert as alert:
            return int(alert.description)
        except (TLSAbruptCloseError, ConnectionError):
            return CLOSED


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace("/", " "))
def test_client(attacked: Attacked, case: Case) -> None:
    """It comes to the end that it must come to, and the client that stays is served."""
    found = outcome(case, attacked.site)
    if case.ends:
        assert found in case.ends
    else:
        assert found.startswith(b"HTTP/1.1 200 OK")
    before = time.monotonic()
    assert ask(attacked.kept).startswith(b"HTTP/1.1 200 OK")
    assert time.monotonic() - before < 2


def test_client_of_an_old_version_learns_of_the_new_one(attacked: Attacked) -> None:
    """TLS 1.2 says in its random bytes that there is 1.3 (RFC 8446 4.1.3), so that nobody
    between them can make a client take the old version."""
    context = attacked.site.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    sock = attacked.site.plain()
    sock.sendall(outgoing.read())
    data = b""
    while len(data) < 5 + 4 + 2 + 32:
        data += sock.recv(1000)
    assert data[5 + 4 + 2 :][24:32] == b"DOWNGRD\x01"
    sock.close()


def test_nothing_is_left_of_them(attacked: Attacked) -> None:
    """No descriptor, not much memory, no work, and few lines in the log."""
    until(lambda: attacked.open_files() <= attacked.files, "they are gone")
    assert attacked.resident() - attacked.memory < 10_000_000
    before, began = attacked.seconds(), time.monotonic()
    until(lambda: time.monotonic() - began > 0.5, "some time has passed")
    assert attacked.seconds() - before < 0.1
    output = attacked.site.program.output
    assert "Traceback" not in output
    assert "#error]" not in output
    assert "#critical]" not in output
    assert 1 <= output.count("TLS handshake with") <= 10
