"""OpenSSL's contexts for clients: one for each set of certificates, made when first asked for.

A context has its own keys for session tickets, so a session of one certificate and policy never
resumes at a name with another policy (nginx's CVE-2025-23419).  See
:mod:`slardar.dataplane.tickets` for keys that other processes have, too.
"""

from __future__ import annotations

import os
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Final

from twisted.logger import Logger

from slardar.dataplane.name_table import NameTable, best_of
from slardar.dataplane.openssl import NAME_SIZE, NoOpenSslError, OpenSsl, Staples, openssl
from slardar.dataplane.tickets import context_keys, identity_of
from slardar.model.listener import UNNAMED, ListenerSpec
from slardar.model.tls import (
    ALPN_ACME,
    ALPN_CLIENTS,
    ClientPolicy,
    Keyring,
    Pair,
    TicketKeys,
    stricter,
)

__all__ = ["Served", "TlsContexts", "is_address", "load_pair", "make_context"]

#: Contexts that are kept.  One takes about 20 KB (measured), and 1 to 2 ms to make.
AT_MOST: Final = 256
#: Seconds between two lines of the log about handshakes that failed.
_PERIOD: Final = 10.0

_VERIFY: Final = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "require": ssl.CERT_REQUIRED,
}
_MIN_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

_log = Logger("slardar.dataplane")


class Served:
    """What serves a name: a context, and the policy and the pairs in it.

    ``name`` is the name that it was made for, as a certificate has it.
    """

    __slots__ = (
        "_calls",
        "_former",
        "_identity",
        "_keys",
        "_pointer",
        "_staples",
        "context",
        "former_name",
        "name",
        "pairs",
        "policy",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        policy: ClientPolicy,
        pairs: tuple[Pair, ...] = (),
        name: str = "",
    ) -> None:
        self.context = context
        self.policy = policy
        self.pairs = pairs
        self.name = name
        #: What tickets begin with that the former keys have sealed; empty if there are none.
        self.former_name = b""
        self._calls: OpenSsl | None = None
        self._pointer = 0
        self._identity = self._keys = self._former = b""
        self._staples: Staples | None = None

    def share(self, calls: OpenSsl, identity: bytes, keys: TicketKeys) -> None:
        """Share sessions with other processes.  Raises NoOpenSslError; nothing has changed
        then."""
        self._pointer = calls.pointer(self.context)
        self._calls, self._identity = calls, identity
        # By an id a session would resume in this process only, and take memory.
        calls.keep_no_sessions(self._pointer)
        self.take_tickets(keys)
        self.take_staples(self.pairs)

    def take_tickets(self, keys: TicketKeys) -> None:
        """Seal tickets with keys that follow from these."""
        self._keys = context_keys(keys.current, self._identity)
        self._former = context_keys(keys.former, self._identity)
        self.former_name = self._former[:NAME_SIZE]
        self.use_own_keys()

    def use_former_keys(self) -> None:
        """Open tickets with the former keys, until :meth:`use_own_keys`."""
        assert self._calls is not None
        self._calls.set_ticket_keys(self._pointer, self._former)

    def use_own_keys(self) -> None:
        """Seal and open tickets with the keys of now."""
        assert self._calls is not None
        self._calls.set_ticket_keys(self._pointer, self._keys)

    def take_staples(self, pairs: tuple[Pair, ...]) -> None:
        """Send the staples of these pairs, which have the same certificates as before."""
        self.pairs = pairs
        if self._calls is None:
            return
        of = {_der(pair.cert): (pair.staple, pair.staple_ends) for pair in pairs if pair.staple}
        if of and self._staples is None:
            self._staples = Staples()
            self._calls.staple(self._pointer, self._staples)
        if self._staples is not None:
            self._staples.of = of


#: A context is known by its pairs and its policy.
_Key = tuple[tuple[Pair, ...], ClientPolicy]


class TlsContexts:
    """The certificates in service, and the contexts made of them.

    ``seconds`` tells the time.
    """

    def __init__(
        self, at_most: int = AT_MOST, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_most = at_most
        self._seconds = seconds
        self._keyring = Keyring()
        #: The pairs of the files, and of the store.
        self._files = NameTable()
        self._stored = NameTable()
        #: The certificates for CAs that ask by TLS-ALPN-01, by name.
        self._challenges: Mapping[str, Pair] = {}
        #: The least recently used first.
        self._made: OrderedDict[_Key, Served] = OrderedDict()
        #: ``None``: each context has keys of its own making, and sends no staples.
        self._tickets: TicketKeys | None = None
        #: When a failure was logged last, and how many there were since.
        self._logged = -_PERIOD
        self._failures = 0

    def __len__(self) -> int:
        """How many contexts are kept."""
        return len(self._made)

    def take(self, keyring: Keyring) -> None:
        """Use these pairs for handshakes from now on; connections keep what they have.

        A context whose pairs are the same stays, so that its sessions resume.
        """
        if _terms(self._keyring) != _terms(keyring):
            self._made.clear()
        self._keyring = keyring
        self._files.take(keyring.pairs)
        self._keep()

    def take_stored(self, certificates: Mapping[str, Pair]) -> None:
        """Use these certificates of the store from now on, beside those of the files."""
        self._stored.take(certificates.values())
        self._keep()

    def _keep(self) -> None:
        """Keep the contexts whose certificates are still those of the name that they are for."""
        before, self._made = self._made, OrderedDict()
        for (_, policy), served in before.items():
            pairs = self._pairs(served.name)
            if list(map(_content, pairs)) == list(map(_content, served.pairs)):
                served.take_staples(pairs)
                self._made[pairs, policy] = served

    def take_tickets(self, keys: TicketKeys | None) -> None:
        """Share sessions, with keys that follow from these, and send staples."""
        self._tickets = keys
        if keys is None:
            self._made.clear()
            return
        for served in self._made.values():
            self._share(served)

    def _share(self, served: Served) -> None:
        keys = self._tickets
        if keys is None:
            return
        identity = identity_of(self._keyring, served.policy, served.pairs)
        try:
            served.share(openssl(), identity, keys)
        except NoOpenSslError as error:
            # A process that serves others has tried all of it before it has sent keys.
            self._tickets = None
            _log.error("sessions resume in this process only: {error}", error=error)

    def take_challenges(self, challenges: Mapping[str, Pair]) -> None:
        """Show CAs that ask by TLS-ALPN-01 these certificates from now on."""
        self._challenges = challenges

    def challenge(self, name: str) -> Served | None:
        """What serves a CA that asks for ``name`` (in lower case) by TLS-ALPN-01; ``None`` if none
        is expected.  Raises ssl.SSLError if the pair cannot be used."""
        pair = self._challenges.get(name)
        if pair is None:
            return None
        # The settings of others, such as their suites, are not for CAs.
        context = make_context(Keyring(), ClientPolicy(), [pair], (ALPN_ACME,))
        # Nothing is to follow the handshake (RFC 8737 3).
        context.num_tickets = 0
        return Served(context, ClientPolicy())

    def find(self, name: str, listener: ListenerSpec = UNNAMED) -> Served | None:
        """What serves a client of ``listener`` that asks for ``name`` (in lower case; empty for
        none); ``None`` if nothing does.  Raises ssl.SSLError if a pair cannot be used."""
        known = self._known(name)
        if known is None:
            return None
        made = self._made
        key = self._pairs(known), self._policy(name, known, listener)
        served = made.get(key)
        if served is not None:
            made.move_to_end(key)
            return served
        pairs, policy = key
        served = Served(make_context(self._keyring, policy, pairs), policy, pairs, known)
        self._share(served)
        made[key] = served
        if len(made) > self._at_most:
            made.popitem(last=False)
        return served

    def policy(self, name: str, listener: ListenerSpec = UNNAMED) -> ClientPolicy:
        """What a client of ``listener`` has to show for ``name``."""
        return self._policy(name, self._known(name), listener)

    def asks(self, name: str) -> bool:
        """Whether clients are asked for a certificate for ``name``, wherever they come."""
        place = self._own(name) or 0
        return place > 0 and self._keyring.policies[place].verify != "none"

    def has(self, name: str) -> bool:
        """Whether clients that ask for ``name`` get a certificate that is for it.

        Those that ask for an address name no server (RFC 6066 3), and get the default.
        """
        pairs = self._pairs(name)
        if is_address(name):
            known = self._known("")
            return bool(pairs) and known is not None and self._pairs(known) == pairs
        return bool(pairs or self._pairs(_wildcard(name)))

    def _policy(self, name: str, known: str | None, listener: ListenerSpec) -> ClientPolicy:
        """The same, for a name that certificates serve as ``known``; ``None`` if none does."""
        keyring = self._keyring
        own = self._own(name)
        if own is None:
            own = 0 if known is None else self._own(known) or 0
        place = keyring.listeners.get(listener.id)
        if place is not None:
            asked = keyring.policies[place]
        elif listener.verify is not None:
            # Its CAs are not known here: it lets nobody in who has to show a certificate.
            asked = ClientPolicy(listener.verify)
        else:
            return keyring.policies[own]
        return stricter(keyring.policies[own], asked) if own else asked

    def _own(self, name: str) -> int | None:
        """The place of the policy of ``name``; ``None`` if files have nothing for it.

        Certificates of the store have no policies.  Upstreams and routes for a wildcard get the
        requests for all names below it.  So the policy of a wildcard, too, counts for names
        further below, for which the certificate is not good.
        """
        files = self._files
        found = files.get(name) or files.get(_wildcard(name))
        if found:
            return found[0].policy
        dot = name.find(".", 1)
        while dot >= 0:
            found = files.get("*" + name[dot:])
            if found and found[0].policy:
                return found[0].policy
            dot = name.find(".", dot + 1)
        return None

    def _known(self, name: str) -> str | None:
        """The name under which certificates serve ``name``: it, its wildcard, or the default."""
        files, stored = self._files, self._stored
        for one in (name, self._keyring.default):
            if one in files or one in stored:
                return one
            wildcard = _wildcard(one)
            if wildcard in files or wildcard in stored:
                return wildcard
        return None

    def _pairs(self, known: str) -> tuple[Pair, ...]:
        """The pairs for a name as a certificate has it, of which the client's offer decides."""
        return best_of(self._files.get(known) + self._stored.get(known))

    def failed(self, listener: str, client: str, reason: str) -> None:
        """A handshake has failed.  The log tells of one every ten seconds, and how many there
        were: strangers cause them, as often as they like."""
        self._failures += 1
        now = self._seconds()
        if now - self._logged < _PERIOD:
            return
        count, self._failures, self._logged = self._failures, 0, now
        _log.info(
            "{listener}: a TLS handshake with {client} failed: {reason}{more}",
            listener=listener,
            client=client,
            reason=reason,
            more="" if count == 1 else f" (and {count - 1} others since the line before)",
        )


def make_context(
    keyring: Keyring,
    policy: ClientPolicy,
    pairs: Iterable[Pair],
    protocols: tuple[str, ...] = ALPN_CLIENTS,
) -> ssl.SSLContext:
    """A context for these pairs, of which OpenSSL picks one by what the client offers.
    One of ``protocols`` is spoken inside of the connections.

    Raises ssl.SSLError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MIN_VERSIONS[keyring.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # A client knows whether its processor is fast with AES; all suites are good.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(keyring.ciphers)
    _limit_groups(context)
    context.set_alpn_protocols(list(protocols))
    context.verify_mode = _VERIFY[policy.verify]
    if policy.ca:
        context.load_verify_locations(cadata=policy.ca)
    for pair in pairs:
        load_pair(context, pair.cert, pair.key)
    return context


def _limit_groups(context: ssl.SSLContext) -> None:
    """Let a context use none but quick and safe groups."""
    try:
        calls = openssl()
        calls.set_groups(calls.pointer(context))
    except NoOpenSslError as error:
        _tell_of_groups(str(error))


@cache
def _tell_of_groups(reason: str) -> None:
    """Say it once in a process."""
    _log.warn(
        "keys of TLS may be of OpenSSL's slowest groups, which take tenths of a second: {reason}",
        reason=reason,
    )


def load_pair(context: ssl.SSLContext, cert: str, key: str) -> None:
    """Give a context a certificate and its key, in PEM.

    Python's ``ssl`` takes them from files only; this one is in memory, and no other process
    can open it by a name.  Raises ssl.SSLError.
    """
    file = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        data = memoryview(f"{cert}\n{key}\n".encode())
        while data:
            data = data[os.write(file, data) :]
        # With a password that is wrong: OpenSSL would ask the terminal for one.
        context.load_cert_chain(f"/proc/self/fd/{file}", password="")
    finally:
        os.close(file)


def _wildcard(name: str) -> str:
    """The wildcard that is for ``name``; empty if none can be."""
    _, dot, rest = name.partition(".")
    return "*." + rest if dot else ""


def is_address(host: str) -> bool:
    """Whether a host, as it is looked up, is an address."""
    return ":" in host or (host[-1:].isdigit() and host.replace(".", "").isdigit())


def _terms(keyring: Keyring) -> tuple[str, str]:
    return keyring.min_version, keyring.ciphers


def _content(pair: Pair) -> tuple[str, str]:
    return pair.cert, pair.key


def _der(cert: str) -> bytes:
    """The first certificate of a text in PEM, without PEM."""
    end = cert.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
    return ssl.PEM_cert_to_DER_cert(cert[:end])
