"""TLS on the control channels: a certificate, and perhaps the CA of callers' certificates.

The channels run on Twisted's reactor, so this is Twisted's TLS.  It covers endpoints over TCP; a
unix socket is guarded by its mode.
"""

# Twisted's TLS and pyOpenSSL have few types.
# mypy: disable-error-code="no-untyped-call,misc"

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from slardar.config import ControlTls
from slardar.errors import ConfigError
from slardar.plain_files import check_regular

__all__ = ["ServerTls"]


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """The certificate in service.

    It reads the files, so it blocks.  Raises ConfigError, with a line that names the key.
    """

    def __init__(self, settings: ControlTls) -> None:
        self._settings = settings
        self._context = _context(settings)

    def reload(self) -> None:
        """Read the files again.  If that fails, the certificate in service stays.

        New connections get the new certificate.  It blocks, and may be called in a thread.
        """
        self._context = _context(self._settings)

    def wrap(self, site: Any, reactor: Any) -> Any:
        """A factory of the connections of ``site``, with TLS."""
        return _TlsFactory(self, site, reactor)

    def serverConnectionForTLS(self, protocol: Any) -> Any:
        """Twisted's way to ask for what a new connection needs."""
        return SSL.Connection(self._context, None)


class _TlsFactory(TLSMemoryBIOFactory):
    """Puts TLS around the connections that ``site`` makes."""

    def __init__(self, tls: ServerTls, site: Any, reactor: Any) -> None:
        super().__init__(tls, False, site, reactor)

    def buildProtocol(self, addr: Any) -> Any:
        """A connection; ``None``, which closes it, if the site has no room."""
        made = self.wrappedFactory.buildProtocol(addr)
        return None if made is None else self.protocol(self, made)


def _context(settings: ControlTls) -> Any:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    # No session resumes: each handshake looks at the caller's certificate.  With tickets, OpenSSL
    # would break off the handshakes of callers that come again with a session.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    _use("cert", settings.cert, context.use_certificate_chain_file, "certificates in PEM")
    _use("key", settings.key, partial(_use_key, context), f"the key of {settings.cert} in PEM")
    if settings.client_ca is not None:
        _use("client_ca", settings.client_ca, context.load_verify_locations, "certificates in PEM")
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _is_verified)
        # Callers see the names of the CAs whose certificates are taken.
        context.load_client_ca(settings.client_ca.encode())
    return context


def _use_key(context: Any, path: str) -> None:
    # OpenSSL would ask a terminal for the password of a key.
    context.use_privatekey(load_pem_private_key(Path(path).read_bytes(), None))
    context.check_privatekey()


def _is_verified(_connection: Any, _cert: Any, _error: int, _depth: int, verified: int) -> bool:
    return bool(verified)


def _use(key: str, path: str, use: Callable[[str], Any], expected: str) -> None:
    """Load a file with a function of OpenSSL, whose errors quote nothing of the file."""
    where = f"control.tls.{key}"
    try:
        check_regular(path)
    except OSError as error:
        raise ConfigError(f"{where}: cannot read {path}: {error.strerror}") from None
    try:
        use(path)
    except SSL.Error as error:
        reasons = [words[-1] for words in error.args[0]] if error.args else []
        reason = reasons[-1] if reasons else "OpenSSL cannot read it"
    except (TypeError, ValueError, UnsupportedAlgorithm):
        reason = "it is no key, or it has a password"
    else:
        return
    raise ConfigError(f"{where}: expected {expected} in {path}: {reason}")
