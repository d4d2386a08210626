"""The real Pebble for tests: a CA that speaks ACME, with name servers that know every name."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import urllib.request
from pathlib import Path

from tests.certificates import Authority
from tests.integration.programs import Program, free_port
from tests.integration.sockets import wait_for

__all__ = ["Pebble"]


class Pebble:
    """A CA that checks names on 127.0.0.1, at the ports ``http`` and ``tls``.

    ``valid`` are the seconds for which its certificates are good; ``environment`` is Pebble's, such
    as ``PEBBLE_WFE_NONCEREJECT`` (the share of good nonces that it rejects).
    """

    def __init__(
        self, folder: Path, http: int = 0, tls: int = 0, valid: int = 7776000, **environment: str
    ) -> None:
        for name in ("pebble", "pebble-challtestsrv"):
            assert shutil.which(name) is not None, f"{name} is needed: make test installs it"
        folder.mkdir()
        self.folder = folder
        self._authority = Authority(folder)
        cert, key = self._authority.issue("pebble")
        #: The file of the CA for its directory.
        self.ca = str(self._authority.file)
        self.port, management, names = free_port(), free_port(), free_port()
        self._management = f"https://127.0.0.1:{management}"
        self.directory = f"https://127.0.0.1:{self.port}/dir"
        #: Ports of nobody, unless they are given.
        self.http, self.tls = http or free_port(), tls or free_port()
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{management}",
            "certificate": str(cert),
            "privateKey": str(key),
            "httpPort": self.http,
            "tlsPort": self.tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "certificateValidityPeriod": valid,
        }
        (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
        words = ["-dns01", f"127.0.0.1:{names}", "-management", f"127.0.0.1:{free_port()}"]
        words += ["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]
        words += ["-http01", "", "-https01", "", "-tlsalpn01", ""]
        self._names = Program(["pebble-challtestsrv", *words], folder)
        command = ["pebble", "-config", str(folder / "pebble.json")]
        command += ["-dnsserver", f"127.0.0.1:{names}"]
        self._program = Program(
            command,
            folder,
            **{
                "PEBBLE_VA_NOSLEEP": "1",
                "PEBBLE_WFE_NONCEREJECT": "0",
                "PEBBLE_AUTHZREUSE": "0",
                **environment,
            },
        )

    def ready(self) -> Pebble:
        """Itself, once it takes orders."""
        self._program.wait_for("ACME directory available")
        # It says so before it listens.
        wait_for(self._listens, "Pebble")
        return self

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except ConnectionRefusedError:
            return False
        return True

    @property
    def output(self) -> str:
        """What it has logged."""
        return self._program.output

    @property
    def orders(self) -> int:
        """How many orders were made."""
        return self.output.count("Added order")

    @property
    def accounts(self) -> int:
        """How many accounts there are."""
        return self.output.count("accounts in memory")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if not self._program.has_ended:
            self._program.signal(number)

    def root(self) -> str:
        """The certificate of the CA that signs, in PEM."""
        context = self._authority.client()
        with urllib.request.urlopen(f"{self._management}/roots/0", context=context) as answer:
            text: str = answer.read().decode()
        return text

    def end(self) -> None:
        """End it."""
        # It may have been stopped.
        self.signal(signal.SIGCONT)
        self._program.end()
        self._names.end()
