"""TLS to servers: OpenSSL's contexts, and with what a connection to one server begins."""

from __future__ import annotations

import math
import os
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import Any, Final

from twisted.internet import defer
from twisted.logger import Logger

from slardar.daemon import call_in_daemon
from slardar.dataplane.sealed_channel import reason_of
from slardar.dataplane.tls_contexts import load_pair
from slardar.errors import printable
from slardar.model.server import server_key
from slardar.model.tls import ServerTls

__all__ = [
    "ServerContexts",
    "ServerTerms",
    "failure",
    "is_about_certificate",
    "is_about_name",
    "is_record",
    "make_server_context",
]

#: Contexts that are kept.  One with a CA of its own takes about 20 KB, one with the system's
#: 150 CAs a megabyte.
AT_MOST: Final = 256
#: Sessions that are kept for a server: one for each name.
_SESSIONS: Final = 64
#: What is kept of a name that has no session.
_NO_SESSION: Final = (None, math.inf)
#: Seconds between two lines of the log about handshakes with one server.
_PERIOD: Final = 10.0
#: What OpenSSL says of a certificate for another name, and for another address.
_OTHER_NAME: Final = (62, 64)
#: The types of records, with which all that is TLS begins (RFC 8446 5.1).
_RECORDS: Final = frozenset((20, 21, 22, 23))
#: What a server says that wants another certificate, or one at all.
_CERTIFICATE_ALERTS: Final = (
    "ALERT_ACCESS_DENIED",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_CERTIFICATE_",
    "ALERT_UNKNOWN_CA",
    "ALERT_UNSUPPORTED_CERTIFICATE",
)
#: Where systems have the CAs that they believe, if OpenSSL does not know.
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

_log = Logger("slardar.dataplane")


def make_server_context(tls: ServerTls, checks_name: bool = True) -> ssl.SSLContext:
    """A context for these settings.

    Without CAs of its own it loads the system's, which takes a tenth of a second.  Raises
    ssl.SSLError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.check_hostname = tls.verify and checks_name
    context.verify_mode = ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE
    # Also where ``ca`` is a CA between the root and the server.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if tls.verify and tls.ca:
        context.load_verify_locations(cadata=tls.ca)
    elif tls.verify:
        _load_system(context)
    if tls.cert:
        load_pair(context, tls.cert, tls.key)
    if tls.alpn:
        context.set_alpn_protocols(list(tls.alpn))
    return context


def _load_system(context: ssl.SSLContext) -> None:
    """Believe the CAs that the system believes.

    All are loaded now: OpenSSL would look into a folder with each handshake.
    """
    found = ssl.get_default_verify_paths().cafile
    for path in (found, *_BUNDLES):
        if path is not None and os.path.exists(path):
            context.load_verify_locations(path)
            return
    context.load_default_certs()


def _takes_long(tls: ServerTls) -> bool:
    return tls.verify and not tls.ca


class ServerContexts:
    """The contexts of one process for its servers, made once for all with the same settings."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        #: The least recently used first.
        self._made: OrderedDict[tuple[ServerTls, bool], Future[ssl.SSLContext]] = OrderedDict()

    def prepare(self, some: Iterable[ServerTls], checks_name: bool = True) -> None:
        """Begin to make those that take long, one after the other in a thread."""
        begun = [
            (self._begin(tls, checks_name), tls, checks_name)
            for tls in {one.context for one in some if one.is_read}
            if _takes_long(tls) and (tls, checks_name) not in self._made
        ]
        if begun:
            threading.Thread(target=_make_all, args=(begun,), name="CAs", daemon=True).start()

    def loaded(self) -> defer.Deferred[Any]:
        """Fires when none is being made."""
        waiting = [made for made in self._made.values() if not made.done()]
        if not waiting:
            return defer.succeed(None)
        return call_in_daemon(self._reactor, wait, waiting)

    def is_ready(self, tls: ServerTls, checks_name: bool = True) -> bool:
        """Whether :meth:`find` need not wait."""
        made = self._made.get((tls.context, checks_name))
        return not _takes_long(tls) if made is None else made.done()

    def find(self, tls: ServerTls, checks_name: bool = True) -> ssl.SSLContext:
        """The context for these settings.  It waits for one that is being made.

        Raises ValueError if their files were not read, and what :func:`make_server_context`
        raises.
        """
        if not tls.is_read:
            # Without them, others would be believed.
            raise ValueError("the files of tls were not read")
        key = (tls.context, checks_name)
        made = self._made.get(key)
        if made is None:
            made = self._begin(*key)
            _make(made, *key)
        else:
            self._made.move_to_end(key)
        return made.result()

    def _begin(self, tls: ServerTls, checks_name: bool) -> Future[ssl.SSLContext]:
        made: Future[ssl.SSLContext] = Future()
        self._made[tls, checks_name] = made
        if len(self._made) > AT_MOST:
            self._made.popitem(last=False)
        return made


def _make_all(begun: list[tuple[Future[ssl.SSLContext], ServerTls, bool]]) -> None:
    for one in begun:
        _make(*one)


def _make(made: Future[ssl.SSLContext], tls: ServerTls, checks_name: bool) -> None:
    try:
        made.set_result(make_server_context(tls, checks_name))
    except BaseException as error:
        made.set_exception(error)


class ServerTerms:
    """With what connections to one server begin TLS.

    ``name`` is the server's name; empty: that of each request, else ``host``.  Sessions resume
    for the name for which they were made.
    """

    def __init__(
        self,
        contexts: ServerContexts,
        tls: ServerTls,
        host: str,
        port: int,
        checks_name: bool = True,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tls = tls
        self.name: str = tls.server_name.rstrip(".")
        self.host: str = host.partition("%")[0].rstrip(".")
        self._server = server_key(host, port)
        self._contexts = contexts
        self._checks_name = checks_name
        self._seconds = seconds
        #: By name, each with the end of the certificate for which it was made.
        self._sessions: OrderedDict[str, tuple[Any, float]] = OrderedDict()
        #: The failure that the log has told last, and when.
        self._told = ""
        self._told_at = -_PERIOD

    def __repr__(self) -> str:
        return f"<ServerTerms {self._server} {self.tls!r}>"

    @property
    def is_ready(self) -> bool:
        """Whether :meth:`begin` need not wait for CAs that are being loaded."""
        return self._contexts.is_ready(self.tls, self._checks_name)

    def begin(self, name: str, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> Any:
        """OpenSSL's side of a new connection.  Raises ValueError for what can be no name."""
        context = self._contexts.find(self.tls, self._checks_name)
        session, ends = self._sessions.get(name, _NO_SESSION)
        if ends < time.time():
            # OpenSSL looks at a certificate in full handshakes only.
            session = None
        # No early data is ever sent: a server could be made to take a request twice.
        return context.wrap_bio(
            incoming, outgoing, server_side=False, server_hostname=name or None, session=session
        )

    def problem(self, opened: Any) -> str:
        """Why a connection cannot be used though its handshake has succeeded; or empty."""
        protocol: str | None = opened.selected_alpn_protocol()
        if protocol is not None and protocol.startswith("h2"):
            return f"the server chose {protocol}, which slardar does not speak to servers"
        return ""

    def keep_session(self, name: str, opened: Any) -> bool:
        """Keep the session of a connection, if it can be resumed by now."""
        session = opened.session
        if session is None or not (
            session.has_ticket or (session.id and opened.version() == "TLSv1.2")
        ):
            return False
        sessions = self._sessions
        sessions[name] = session, self._end_of(opened)
        sessions.move_to_end(name)
        if len(sessions) > _SESSIONS:
            sessions.popitem(last=False)
        return True

    def _end_of(self, opened: Any) -> float:
        """When the server's certificate is good no more, in epoch seconds, if it matters."""
        if not self.tls.verify:
            return math.inf
        try:
            return ssl.cert_time_to_seconds(opened.getpeercert()["notAfter"])
        except ValueError:
            # It is one that Python cannot read: each handshake looks at it.
            return 0.0

    def worked(self) -> None:
        """A handshake has succeeded."""
        self._told = ""

    def failed(self, reason: str) -> None:
        """A handshake has failed.  The log says so once, and again when the reason is another
        one, or after a handshake that has succeeded; not more often than every ten seconds."""
        now = self._seconds()
        if reason != self._told and now - self._told_at >= _PERIOD:
            self._told, self._told_at = reason, now
            _log.warn(
                "{server}: the TLS handshake failed: {reason}",
                server=self._server,
                reason=printable(reason),
            )


def is_record(data: bytes) -> bool:
    """Whether the first bytes that a server sends may be TLS."""
    return data[0] in _RECORDS


def failure(error: Exception, is_tls: bool) -> str:
    """The reason of an error in a handshake, for people."""
    return reason_of(error) if is_tls else "it speaks no TLS"


def is_about_name(error: Exception) -> bool:
    """Whether the handshake may have failed only because of the name that was asked for."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_code in _OTHER_NAME
    return True


def is_about_certificate(error: Exception) -> bool:
    """Whether a server has refused the certificate that it was shown, or that there is none.  With
    TLS 1.3 it says so after what its client takes for the end of the handshake."""
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    return any(alert in reason for alert in _CERTIFICATE_ALERTS)
