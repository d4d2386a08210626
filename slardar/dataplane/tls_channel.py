"""A channel of a client that speaks TLS.

The hello is looked at before OpenSSL gets it: the name in it decides which certificate is
shown, and what the client has to show.
"""

from __future__ import annotations

import ssl
import time
from typing import Any, Final, final

from slardar.dataplane.client_hello import (
    INTERNAL_ERROR,
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    BadHello,
    HelloReader,
    alert,
    is_plain_http,
)
from slardar.dataplane.poller import Poller
from slardar.dataplane.sealed_channel import BEFORE, CLEAR, OPEN, SHAKING, SealedChannel, reason_of
from slardar.dataplane.system import Socket
from slardar.dataplane.tls_contexts import Served, TlsContexts
from slardar.http1.client import ClientConnection
from slardar.http1.interfaces import ChannelProtocol
from slardar.http1.tls import TlsFacts, subject_of
from slardar.model.listener import ListenerSpec
from slardar.model.tls import ALPN_ACME, ALPN_CLIENTS, ClientPolicy

__all__ = ["TlsChannel"]

_HTTP: Final = frozenset(name.encode("ascii") for name in ALPN_CLIENTS)
#: What a CA offers that asks by TLS-ALPN-01: nothing else (RFC 8737 3).
_ACME: Final = (ALPN_ACME.encode("ascii"),)


@final
class TlsChannel(SealedChannel):
    """See the module.  ``contexts`` are the certificates in service."""

    __slots__ = (
        "_contexts",
        "_former",
        "_fresh",
        "_is_challenge",
        "_listener",
        "_name",
        "_policy",
        "_reader",
    )

    def __init__(
        self,
        poller: Poller,
        sock: Socket,
        protocol: ChannelProtocol,
        contexts: TlsContexts,
        listener: ListenerSpec,
    ) -> None:
        super().__init__(poller, sock, protocol)
        self._contexts = contexts
        self._listener = listener
        self._reader: HelloReader | None = HelloReader()
        #: What came of the hello and was not looked at.
        self._fresh = b""
        self._name = ""
        self._policy: ClientPolicy | None = None
        #: What serves the client, if its ticket is of the former keys.
        self._former: Served | None = None
        #: The client is a CA that asks by TLS-ALPN-01.
        self._is_challenge = False

    # The handshake.

    def _keep(self, data: bytes) -> None:
        """See the base."""
        if self._state == BEFORE:
            self._fresh = data
        else:
            super()._keep(data)

    def _look(self) -> None:
        """Look at what has come of the hello."""
        reader = self._reader
        assert reader is not None
        fresh, self._fresh = self._fresh, b""
        if not reader.raw and is_plain_http(fresh):
            self._refuse_plain()
            return
        try:
            hello = reader.feed(fresh)
        except BadHello as problem:
            self._refuse(problem.description, problem.message)
            return
        if hello is None:
            return
        self._reader = None
        self._name = hello.name
        self._is_challenge = hello.protocols == _ACME
        if hello.protocols and not self._is_challenge and _HTTP.isdisjoint(hello.protocols):
            self._refuse(NO_APPLICATION_PROTOCOL, "the client speaks no HTTP/1.1")
            return
        contexts = self._contexts
        try:
            if self._is_challenge:
                served = contexts.challenge(hello.name)
            else:
                served = contexts.find(hello.name, self._listener)
        except (OSError, ValueError) as error:
            self._refuse(INTERNAL_ERROR, f"the certificate cannot be used: {reason_of(error)}")
            return
        if served is None and self._is_challenge:
            self._refuse(NO_APPLICATION_PROTOCOL, f"no CA is expected to ask for {hello.name!r}")
            return
        if served is None:
            about = f"no certificate is for {hello.name!r}" if hello.name else "it names no server"
            self._refuse(UNRECOGNIZED_NAME, about)
            return
        self._policy = served.policy
        if hello.ticket and hello.ticket == served.former_name:
            self._former = served
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = served.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(reader.raw)
        self._state = SHAKING

    def _step(self) -> bool:
        """See the base."""
        former, self._former = self._former, None
        if former is None:
            return super()._step()
        # This step opens the ticket.  What is sealed in the steps behind it is sealed with the
        # keys of now.
        former.use_former_keys()
        try:
            return super()._step()
        finally:
            former.use_own_keys()

    def _refuse(self, description: int, reason: str) -> None:
        """Refuse a hello with an alert."""
        self._state = CLEAR
        self._send(alert(description), 0)
        self._fail(reason)

    def _refuse_plain(self) -> None:
        """The client speaks HTTP without TLS: it gets a reply that it understands."""
        self._state = CLEAR
        protocol = self.protocol
        if isinstance(protocol, ClientConnection):
            protocol.refuse_plain()
        else:
            self._lose("the client speaks no TLS")

    def _shaken(self) -> None:
        """See the base."""
        if self._is_challenge:
            # The CA has seen what it wanted to see.
            self._shut_down()
            self._lose("a CA has checked the name")
            return
        policy, subject = self._policy, b""
        if policy is not None and policy.verify != "none":
            try:
                certificate = self._ssl.getpeercert() or {}
                subject = subject_of(certificate)
                # OpenSSL looks at a certificate in full handshakes only.
                if certificate and self._ssl.session_reused and _has_expired(certificate):
                    self._state = SHAKING
                    self._fail("the client's certificate: certificate has expired")
                    return
            except ValueError:
                # A CA has signed names that are no text.
                self._state = SHAKING
                self._fail("the client's certificate cannot be read")
                return
        self.tls = TlsFacts(self._engine.version(), self._name, subject, policy, self._ssl)

    def _fail(self, reason: str) -> None:
        """See the base.  A handshake that has failed is told."""
        if self._state != OPEN:
            self._tell(reason)
        super()._fail(reason)

    def _tell(self, reason: str) -> None:
        protocol = self.protocol
        client = protocol.peer if isinstance(protocol, ClientConnection) else b""
        self._contexts.failed(self._listener.id, client.decode("ascii"), reason)

    def late(self) -> None:
        """See the base.  A handshake that was begun and never ends is told, too."""
        begun = self._state == SHAKING or (self._reader is not None and bool(self._reader.raw))
        if begun and not self.arriving:
            self._tell("it was not complete in time")
        super().late()

    def _reason(self, error: Exception) -> str:
        """See the base."""
        reason = reason_of(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the client's certificate: {reason}"
        return reason

    def is_quiet(self) -> bool:
        """See the base.  A client in the middle of a handshake is about to ask something."""
        return self._state != SHAKING and not self._waits and super().is_quiet()


def _has_expired(certificate: dict[str, Any]) -> bool:
    """Whether a certificate, of which Python's ``getpeercert`` tells, is good no more.

    Raises ValueError if its end cannot be read.
    """
    return ssl.cert_time_to_seconds(certificate["notAfter"]) < time.time()
