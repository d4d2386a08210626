"""Certificates for tests: a CA, and certificates that it signs."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Hung"]


class Authority:
    """A CA, whose certificate is ``folder/ca.pem``.

    Its certificates lack what RFC 5280 wants of CAs (4.2.1), as many do that were made by hand.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test {name}")])
        made = self._made(self._name, self._key.public_key())
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.file = folder / f"{name}.pem"
        signed = made.sign(self._key, hashes.SHA256())
        self.file.write_bytes(signed.public_bytes(Encoding.PEM))

    def client(self) -> ssl.SSLContext:
        """The context of a client that believes this CA.

        The default one of Python 3.13 believes only those that follow RFC 5280.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.file)
        return context

    def issue(
        self,
        file: str,
        names: Sequence[str] = ("127.0.0.1",),
        rsa_bits: int = 0,
        begins: timedelta = timedelta(hours=-1),
        ends: timedelta = timedelta(days=1),
        key: Any = None,
        raw_names: bytes | None = None,
    ) -> tuple[Path, Path]:
        """A certificate for some names and addresses: its file and the file of its key.

        ``begins`` and ``ends`` count from now.  With ``rsa_bits`` the key is one of RSA, else it
        is ``key``, or a new one.  ``raw_names`` stand in the certificate instead of the names, in
        DER.
        """
        if rsa_bits:
            key = rsa.generate_private_key(65537, rsa_bits)
        elif key is None:
            key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        made = self._made(subject, key.public_key(), begins, ends)
        others: Any = x509.SubjectAlternativeName(map(_general, names))
        if raw_names is not None:
            others = x509.UnrecognizedExtension(others.oid, raw_names)
        made = made.add_extension(others, critical=False)
        signed = made.sign(self._key, hashes.SHA256())
        paths = self._folder / f"{file}.pem", self._folder / f"{file}.key"
        paths[0].write_bytes(signed.public_bytes(Encoding.PEM))
        paths[1].touch(mode=0o600)
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return paths

    def staple(
        self,
        cert: Path,
        ends: timedelta | None = timedelta(hours=1),
        begins: timedelta = timedelta(hours=-1),
        revoked: bool = False,
        signer: tuple[x509.Certificate, Any] | None = None,
    ) -> bytes:
        """An answer of OCSP for a certificate in a file, in DER.

        ``signer`` is a certificate and its key: whoever signs instead of this CA.
        """
        ours = x509.load_pem_x509_certificate(self.file.read_bytes())
        by, key = signer or (ours, self._key)
        now = datetime.now(timezone.utc)
        builder = ocsp.OCSPResponseBuilder().add_response(
            x509.load_pem_x509_certificate(cert.read_bytes()),
            ours,
            hashes.SHA1(),
            ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
            now + begins,
            None if ends is None else now + ends,
            now if revoked else None,
            None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, by)
        if signer:
            builder = builder.certificates([by])
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)

    def responder(
        self, may_sign: bool = True, ends: timedelta = timedelta(days=1)
    ) -> tuple[x509.Certificate, Any]:
        """A certificate and its key for somebody who signs answers of OCSP for this CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "responder")])
        made = self._made(name, key.public_key(), ends=ends)
        if may_sign:
            uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
            made = made.add_extension(uses, critical=False)
        return made.sign(self._key, hashes.SHA256()), key

    def _made(
        self,
        subject: x509.Name,
        key: Any,
        begins: timedelta = timedelta(hours=-1),
        ends: timedelta = timedelta(days=1),
    ) -> x509.CertificateBuilder:
        now = datetime.now(timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
        )


def _general(name: str) -> x509.GeneralName:
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Hung:
    """A server with TLS for one client, which sends ``answer`` and hangs then: it ends no TLS."""

    def __init__(self, authority: Authority, answer: bytes) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*authority.issue("127.0.0.1"))
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        #: Whether the other side has closed the connection.
        self.is_over = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with self._listener, self._listener.accept()[0] as accepted:
            accepted.settimeout(10)
            with self._context.wrap_socket(accepted, server_side=True) as encrypted:
                encrypted.recv(65536)
                encrypted.sendall(self._answer)
                with socket.socket(fileno=encrypted.detach()) as raw:
                    raw.settimeout(10)
                    with contextlib.suppress(ConnectionResetError):
                        while raw.recv(65536):
                            pass
                    self.is_over = True
