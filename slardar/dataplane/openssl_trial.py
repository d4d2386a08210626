"""Tries, in memory, whether the calls of :mod:`slardar.dataplane.openssl` have their effect."""

from __future__ import annotations

import os
import ssl
import time
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from slardar.dataplane.openssl import KEYS_SIZE, NoOpenSslError, OpenSsl, Staples, openssl
from slardar.dataplane.tls_contexts import load_pair
from slardar.errors import one_line

__all__ = ["trouble"]

_STEPS: Final = 8


@cache
def trouble() -> str:
    """Why the calls must not be used in this process; empty if they may.  Tried once, which
    takes some hundredths of a second."""
    try:
        _try(openssl())
    except NoOpenSslError as error:
        return " ".join(str(error).split())
    except Exception as error:
        # Of whatever kind: a process can serve without the calls.
        return one_line(error)
    return ""


def _try(calls: OpenSsl) -> None:
    cert, key = _pair()
    _try_tickets(calls, cert, key)
    _try_staples(calls, cert, key)


def _try_tickets(calls: OpenSsl, cert: str, key: str) -> None:
    first, second, other = (_Server(calls, cert, key) for _ in range(3))
    keys = os.urandom(KEYS_SIZE)
    calls.set_ticket_keys(first.pointer, keys)
    calls.set_ticket_keys(second.pointer, keys)
    calls.set_ticket_keys(other.pointer, os.urandom(KEYS_SIZE))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = _client(version)
        session = _shaken(first.context, client)[0].session
        for server, expected in ((second, True), (other, False), (first, True)):
            if _shaken(server.context, client, session)[0].session_reused is not expected:
                word = "does not resume" if expected else "resumes"
                raise NoOpenSslError(f"a session of {version.name} {word} by its ticket's key")


def _try_staples(calls: OpenSsl, cert: str, key: str) -> None:
    server, client = _Server(calls, cert, key), _client(ssl.TLSVersion.TLSv1_2)
    calls.ask_for_staples(calls.pointer(client))
    staples, answer = Staples(), os.urandom(64)
    calls.staple(server.pointer, staples)
    der = ssl.PEM_cert_to_DER_cert(cert)
    for ends, expected in ((time.time() + 60, True), (time.time() - 60, False)):
        staples.of = {der: (answer, ends)}
        # TLS 1.2 sends it in the clear.
        if (answer in _shaken(server.context, client)[1]) is not expected:
            raise NoOpenSslError(f"a staple is {'not ' if expected else ''}sent")


def _client(version: ssl.TLSVersion) -> ssl.SSLContext:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.minimum_version = client.maximum_version = version
    return client


class _Server:
    def __init__(self, calls: OpenSsl, cert: str, key: str) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.pointer = calls.pointer(self.context)
        self.context.options |= ssl.OP_NO_RENEGOTIATION
        # The system may have another one.
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        if calls.pointer(self.context) != self.pointer:
            raise NoOpenSslError("a context has moved")
        calls.keep_no_sessions(self.pointer)
        load_pair(self.context, cert, key)


def _pair() -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trial")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM).decode(), private.decode()


def _shaken(
    server: ssl.SSLContext, client: ssl.SSLContext, session: Any = None
) -> tuple[ssl.SSLObject, bytes]:
    """The client's side after a handshake, and all that the server has sent."""
    to_server, to_client, sent = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, session=session)
    far = server.wrap_bio(to_server, sent, server_side=True)
    sides, all_sent = [near, far], b""
    for _ in range(_STEPS):
        for side in tuple(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                pass
            data = sent.read()
            all_sent += data
            to_client.write(data)
    if sides:
        raise NoOpenSslError("a handshake in memory did not end")
    # Tickets of TLS 1.3 come behind the handshake.
    far.write(b"x")
    to_client.write(sent.read())
    near.read(1)
    return near, all_sent
