"""TLS towards agents: whom to trust, and the certificate that is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

# It has no public name, and the same one since Twisted 14.
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS
from zope.interface import implementer

from slardar.plain_files import check_regular

__all__ = ["CertificatePaths", "creator_for"]

#: One file that holds the certificate and its key, or two files.
CertificatePaths = str | tuple[str, str] | None


def creator_for(
    verify: bool | str, cert: CertificatePaths
) -> Callable[[str], IOpenSSLClientConnectionCreator]:
    """What makes connections to a host.

    ``verify`` is as in py-consul: ``True`` trusts the authorities of the system, a path those of
    a PEM file, and ``False`` believes anybody.  The files are read for each connection, so a
    renewed certificate is shown.  Raises ValueError, and names the file, when one cannot be read.
    """
    files = _Files(verify, cert)
    context = CertificateOptions().getContext()
    files.load_into(context)
    if not verify:
        return lambda host: _Unverified(context, host)
    return lambda host: optionsForClientTLS(host, files)


@implementer(IOpenSSLTrustRoot)
class _Files:
    """Whom to trust and what to show, as paths: only OpenSSL itself reads every kind of key."""

    def __init__(self, verify: bool | str, cert: CertificatePaths) -> None:
        self._verify = verify
        self._cert = (cert, cert) if isinstance(cert, str) else cert

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        """What Twisted calls for a context that verifies."""
        self.load_into(context)

    def load_into(self, context: SSL.Context) -> None:
        """Read the files."""
        if isinstance(self._verify, str):
            _load(context.load_verify_locations, self._verify, "certificates")
        elif self._verify:
            context.set_default_verify_paths()
        if self._cert is not None:
            certificate, key = self._cert
            _load(context.use_certificate_chain_file, certificate, "a certificate")
            _load(context.use_privatekey_file, key, "the private key of the certificate")


def _load(load: Callable[[str], object], path: str, what: str) -> None:
    """Have OpenSSL read a PEM file."""
    try:
        check_regular(path)
        load(path)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except SSL.Error:
        raise ValueError(f"{path}: expected {what} in PEM") from None


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
