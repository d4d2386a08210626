"""Measures slardar with very many certificates: start, memory of a worker, change of one.

    python -m benchmarks.certificates             writes benchmarks/CERTIFICATES.md
    python -m benchmarks.certificates --quick     prints a hint

A folder holds 10,000 pairs, each for two names and with the certificate of a CA behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier
from msgspec import structs

from benchmarks import machine
from benchmarks.processes import LOOPBACK, Cores, Program, free_port, raise_file_limit
from benchmarks.procfs import PROC, cpu_of, resident
from benchmarks.report import table
from slardar.config import parse_settings
from slardar.control.certificates import read_keyring
from slardar.dataplane.tls_contexts import TlsContexts
from slardar.workers import messages

__all__ = ["Findings", "Folder", "main", "markdown", "rows"]

REPORT: Final = Path(__file__).resolve().parent / "CERTIFICATES.md"
PAIRS: Final = 10_000
WORKERS: Final = 2
#: What must be reached: seconds, MiB, milliseconds.
START: Final = 2.0
MEMORY: Final = 60.0
CHANGE: Final = 10.0
#: The extension of certificates of public CAs for the logs in which they are.
_SCT_LIST: Final = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


def scts() -> bytes:
    """An extension with two SCTs (RFC 6962 3.2), as public CAs write them; of no log at all."""
    # Version, log, time, no extensions, ECDSA with SHA-256, a signature.
    fields = b"\0", os.urandom(32), b"\0\0\1\x90" + os.urandom(4), b"\0\0", b"\4\3\0\x48"
    one = b"".join(fields) + os.urandom(72)
    both = b"".join(len(one).to_bytes(2, "big") + one for _ in range(2))
    content = len(both).to_bytes(2, "big") + both
    return bytes((4, 0x81, len(content))) + content


@dataclass
class Findings:
    """What was measured; each list has a value for each round."""

    pairs: int
    #: Seconds from the program's begin to the first reply, with one pair and with all.
    alone: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    #: CPU seconds of the director until then, with one pair and with all.
    cpu_alone: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    #: MiB of the largest worker above one with a single pair.
    memory: list[float] = field(default_factory=list)
    #: Milliseconds of CPU for a change of one, in the director and a worker, and of waiting: the
    #: longest that a request has waited while all are read again.
    changes: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    #: Seconds from HUP to the new certificate.
    reloads: list[float] = field(default_factory=list)


class Folder:
    """A folder with ``count`` pairs, of which each tenth has a key of RSA."""

    def __init__(self, path: Path, count: int) -> None:
        path.mkdir()
        self.path, self.count = path, count
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark CA")])
        builder = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self._ca = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        # Making a key of RSA takes long, and nobody looks whether two are the same.
        self._rsa = [rsa.generate_private_key(65537, 2048) for _ in range(5)]
        for number in range(count):
            self.issue(number)

    def issue(self, number: int) -> None:
        """Write a pair, or a new one."""
        key: Any = self._rsa[number % 5] if number % 10 == 9 else None
        key = key or ec.generate_private_key(ec.SECP256R1())
        names = [self.name(number), f"www.{self.name(number)}"]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        made = (
            self._builder(subject, key)
            .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
            .add_extension(x509.UnrecognizedExtension(_SCT_LIST, scts()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for kind, data in (
            ("key", private),
            ("pem", made.public_bytes(Encoding.PEM) + self._ca),
        ):
            path = self.path / f"{number:05}.{kind}"
            path.touch(0o600)
            path.write_bytes(data)

    def name(self, number: int) -> str:
        """The first name of a pair."""
        return f"site{number}.example.com"

    def _builder(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.now(timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=90))
        )


class Node:
    """slardar with the certificates of a folder."""

    def __init__(self, place: Path, certificates: Folder) -> None:
        place.mkdir()
        self.port = free_port()
        settings = {
            "listen": [f"tls:{self.port}:interface={LOOPBACK}"],
            "control": {"http": f"tcp:{free_port()}:interface={LOOPBACK}"},
            "workers": WORKERS,
            "store": "memory:",
            "tls": {"certificates": [{"folder": str(certificates.path)}]},
        }
        config = place / "slardar.yml"
        config.write_text(json.dumps(settings))  # JSON is YAML
        twistd = Path(sys.executable).parent / "twistd"
        command = [str(twistd), "--nodaemon", "--pidfile=", "slardar", f"--config={config}"]
        self.begun = time.monotonic()
        self.program = Program("slardar", command, frozenset(os.sched_getaffinity(0)), place)

    def started(self, name: str) -> float:
        """Seconds from its begin until a client of ``name`` has a reply."""
        while True:
            try:
                ask(connect(self.port, name))
            except (OSError, ssl.SSLError):
                self.program.pause(0.005)
                if time.monotonic() - self.begun > 120:
                    raise
            else:
                return time.monotonic() - self.begun

    def worker(self) -> float:
        """MiB of the largest worker that serves."""
        sizes = []
        for pid in self.program.pids():
            command = (PROC / str(pid) / "cmdline").read_bytes()
            if b"slardar.workers.worker" in command:
                sizes.append(resident([pid]))
        return max(sizes)

    def stop(self) -> None:
        """End it."""
        self.program.stop()


def connect(port: int, name: str) -> ssl.SSLSocket:
    """A connection of a client that believes everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sock = socket.create_connection((LOOPBACK, port), 20)
    return context.wrap_socket(sock, server_hostname=name)


def ask(sock: ssl.SSLSocket) -> None:
    """Wait for the reply to a request."""
    sock.sendall(b"GET / HTTP/1.1\r\nHost: unknown.example.com\r\n\r\n")
    if not sock.recv(65536).startswith(b"HTTP/1.1 "):
        raise OSError("no reply")


def start(found: Findings, place: Path, one: Folder, many: Folder, rounds: int) -> None:
    """Start with one pair and with all, in turn; look at a change of one, too."""
    for number in range(rounds):
        node = Node(place / f"one{number}", one)
        try:
            found.alone.append(node.started(one.name(0)))
            found.cpu_alone.append(cpu_of([node.program.pid]).run)
            alone = node.worker()
        finally:
            node.stop()
        node = Node(place / f"many{number}", many)
        try:
            found.starts.append(node.started(many.name(many.count - 1)))
            found.cpu.append(cpu_of([node.program.pid]).run)
            found.memory.append(node.worker() - alone)
            reload(found, node, many)
        finally:
            node.stop()


def reload(found: Findings, node: Node, many: Folder) -> None:
    """Change a file, and let the node read all of them again under load."""
    name = many.name(1)
    kept = connect(node.port, many.name(0))
    before = connect(node.port, name).getpeercert(binary_form=True)
    many.issue(1)
    begun = time.monotonic()
    os.kill(node.program.pid, signal.SIGHUP)
    longest = 0.0
    looked = begun
    while True:
        asked = time.monotonic()
        ask(kept)
        longest = max(longest, time.monotonic() - asked)
        if asked - looked > 0.02:
            looked = asked
            if connect(node.port, name).getpeercert(binary_form=True) != before:
                break
        if asked - begun > 60:
            raise RuntimeError("the new certificate is not served within a minute")
    found.reloads.append(time.monotonic() - begun)
    found.waits.append(longest * 1000)


def change(found: Findings, many: Folder, rounds: int) -> None:
    """What the director and a worker do when one pair of the keyring is another one."""
    settings = parse_settings(
        {"listen": ["tls:1"], "tls": {"certificates": [{"folder": str(many.path)}]}}
    )
    keyring = read_keyring(settings).keyring
    assert keyring is not None
    contexts = TlsContexts()
    contexts.take(keyring)
    for number in range(rounds):
        pairs = list(keyring.pairs)
        pairs[number] = structs.replace(pairs[number], expires=pairs[number].expires + 1)
        after = structs.replace(keyring, pairs=tuple(pairs))
        begun = time.thread_time()
        message = messages.keyring_change(keyring, after)
        data = messages.encode(message)
        told = messages.decode_to_worker(data)
        assert isinstance(told, messages.TakeKeyring)
        contexts.take(messages.changed_keyring(keyring, told))
        found.changes.append((time.thread_time() - begun) * 1000)
        # The worker's order is that of the message.
        keyring = messages.changed_keyring(keyring, message)


def rows(found: Findings) -> list[tuple[str, str, str, bool | None]]:
    """Each figure: what, what must be reached, what was measured, and whether it is met."""
    middle = statistics.median
    pairs = f"{found.pairs:,} certificates"
    return [
        (
            f"start with {pairs}, until the first reply (with one: {middle(found.alone):.2f} s)",
            f"{START:g} s",
            f"{middle(found.starts):.2f} s",
            middle(found.starts) <= START,
        ),
        (
            f"CPU of the director until then (with one: {middle(found.cpu_alone):.2f} s)",
            "reported",
            f"{middle(found.cpu):.2f} s",
            None,
        ),
        (
            "a worker, above one with a single certificate",
            f"{MEMORY:g} MiB",
            f"{middle(found.memory):.0f} MiB",
            middle(found.memory) <= MEMORY,
        ),
        (
            "change of one, CPU of the director and a worker together: p50 / largest",
            f"{CHANGE:g} ms",
            f"{middle(found.changes):.1f} / {max(found.changes):.1f} ms",
            middle(found.changes) <= CHANGE,
        ),
        (
            "HUP: all files are read again, until the new certificate is served",
            "reported",
            f"{middle(found.reloads):.2f} s",
            None,
        ),
        (
            "HUP: the longest wait of a request meanwhile",
            "reported",
            f"{middle(found.waits):.0f} ms",
            None,
        ),
    ]


_WORDS: Final = {True: "met", False: "**missed**", None: ""}


def markdown(found: Findings) -> str:
    """The whole report."""
    lines = [
        "# Many certificates",
        "",
        "Written by `make bench-certificates`; not edited by hand.",
        "",
        *table(
            ("figure", "must reach", "measured", ""),
            [(what, must, value, _WORDS[met]) for what, must, value, met in rows(found)],
        ),
        "One folder; nine of ten keys are P-256, the others RSA with 2,048 bits. Each file holds",
        f"the certificate of its CA, too. slardar runs with {WORKERS} workers from its sources,",
        f"not compiled. Medians of {len(found.starts)} starts, in turn with one pair and with all.",
        "",
        "## Machine",
        "",
        *table(("", ""), list(machine.describe((), Cores()).items())),
    ]
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0 if no figure is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.certificates",
        description="Measure slardar with very many certificates.",
    )
    parser.add_argument("--quick", action="store_true", help="one round, printed: a hint")
    arguments = parser.parse_args(words)
    # A SIGTERM must end the started programs, too.
    signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(143))
    raise_file_limit()
    found = Findings(PAIRS)
    with tempfile.TemporaryDirectory(prefix="slardar-certificates-") as name:
        place = Path(name)
        one, many = Folder(place / "one", 1), Folder(place / "many", PAIRS)
        start(found, place, one, many, 1 if arguments.quick else 5)
        change(found, many, 50)
    for what, must, value, met in rows(found):
        print(f"{what}: {value} (must {must}): {_WORDS[met] or '-'}")
    if not arguments.quick:
        REPORT.write_text(markdown(found))
    return int(any(met is False for *_, met in rows(found)))


if __name__ == "__main__":
    sys.exit(main())
