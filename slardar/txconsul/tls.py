"""TLS towards agents: whom to trust, and the certificate that is shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from zope.interface import implementer

__all__ = ["CertificatePaths", "creator_for"]

#: One file that holds the certificate and its key, or two files.
CertificatePaths = str | tuple[str, str] | None

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def creator_for(
    verify: bool | str, cert: CertificatePaths
) -> Callable[[str], IOpenSSLClientConnectionCreator]:
    """What makes connections to a host.

    ``verify`` is as in py-consul: ``True`` trusts the authorities of the system, a path those of
    a PEM file, and ``False`` believes anybody.  Raises ValueError, and names the file, when one
    cannot be read.
    """
    shown = _shown(cert)
    if not verify:
        context = CertificateOptions(verify=False, **shown).getContext()
        return lambda host: _Unverified(context, host)
    if isinstance(verify, str):
        trusted = [Certificate.loadPEM(block) for block in _certificates(verify)]
        trust: Any = trustRootFromCertificates(trusted)
    else:
        trust = platformTrust()
    return lambda host: optionsForClientTLS(host, trust, extraCertificateOptions=shown)


def _shown(cert: CertificatePaths) -> dict[str, Any]:
    """The certificate that is shown, with those that lead to its authority."""
    if cert is None:
        return {}
    certificate, key = (cert, cert) if isinstance(cert, str) else cert
    own, *chain = [Certificate.loadPEM(block).original for block in _certificates(certificate)]
    pem = _read(key)
    try:
        return {
            "certificate": own,
            "privateKey": KeyPair.load(pem, _PEM).original,
            "extraCertChain": chain,
        }
    except SSL.Error as error:
        raise ValueError(f"{key}: expected a private key in PEM: {error}") from None


_PEM = 1  # OpenSSL.crypto.FILETYPE_PEM


def _certificates(path: str) -> list[bytes]:
    blocks = _BLOCK.findall(_read(path))
    if not blocks:
        raise ValueError(f"{path}: expected certificates in PEM")
    return blocks


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """Encrypts, and does not ask who the other end is."""

    def __init__(self, context: SSL.Context, host: str) -> None:
        self._context = context
        self._host = host

    def clientConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if not isIPAddress(self._host) and not isIPv6Address(self._host):
            connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection
