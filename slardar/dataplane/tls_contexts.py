"""OpenSSL's contexts for clients: one for each set of certificates, made when first asked for.

A context has its own keys for session tickets and its own sessions, so a session of one
certificate and policy never resumes at a name with another policy (nginx's CVE-2025-23419).
"""

from __future__ import annotations

import os
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import structs
from twisted.logger import Logger

from slardar.model.listener import UNNAMED, ListenerSpec
from slardar.model.tls import ALPN_HTTP, ClientPolicy, Keyring, Pair, stricter

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
    """What serves a name: a context and the policy in it."""

    __slots__ = ("context", "policy")

    def __init__(self, context: ssl.SSLContext, policy: ClientPolicy) -> None:
        self.context = context
        self.policy = policy


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
        self._of_files = Keyring()
        self._stored: tuple[Pair, ...] = ()
        self._names: dict[str, tuple[int, ...]] = {}
        #: The places of the policies that the files have for names.
        self._own: dict[str, int] = {}
        #: By the places of their pairs and their policy, the least recently used first.
        self._made: OrderedDict[tuple[tuple[int, ...], ClientPolicy], Served] = OrderedDict()
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
        self._of_files = keyring
        self._own = {name: pair.policy for pair in keyring.pairs for name in pair.names}
        self._use(structs.replace(keyring, pairs=keyring.pairs + self._stored))

    def take_stored(self, certificates: Mapping[str, Pair]) -> None:
        """Use these certificates of the store from now on, beside those of the files."""
        self._stored = tuple(certificates.values())
        self.take(self._of_files)

    def _use(self, keyring: Keyring) -> None:
        before, made = self._keyring, self._made
        names = keyring.by_name()
        kept: OrderedDict[tuple[tuple[int, ...], ClientPolicy], Served] = OrderedDict()
        if _terms(before) == _terms(keyring):
            for (places, policy), served in made.items():
                old = [before.pairs[place] for place in places]
                found = names.get(old[0].names[0], ())
                new = [keyring.pairs[place] for place in found]
                if [_content(pair) for pair in old] == [_content(pair) for pair in new]:
                    kept[found, policy] = served
        self._keyring, self._names, self._made = keyring, names, kept

    def find(self, name: str, listener: ListenerSpec = UNNAMED) -> Served | None:
        """What serves a client of ``listener`` that asks for ``name`` (in lower case; empty for
        none); ``None`` if nothing does.  Raises ssl.SSLError if a pair cannot be used."""
        known = self._known(name)
        if known is None:
            return None
        made = self._made
        places, policy = self._names[known], self._policy(known, listener)
        served = made.get((places, policy))
        if served is not None:
            made.move_to_end((places, policy))
            return served
        keyring = self._keyring
        pairs = [keyring.pairs[place] for place in places]
        served = made[places, policy] = Served(make_context(keyring, policy, pairs), policy)
        if len(made) > self._at_most:
            made.popitem(last=False)
        return served

    def policy(self, name: str, listener: ListenerSpec = UNNAMED) -> ClientPolicy:
        """What a client of ``listener`` has to show for ``name``."""
        return self._policy(self._known(name), listener)

    def has(self, name: str) -> bool:
        """Whether clients that ask for ``name`` get a certificate that is for it.

        Those that ask for an address name no server (RFC 6066 3), and get the default.
        """
        names = self._names
        if is_address(name):
            found = names.get(name)
            known = self._known("")
            return found is not None and known is not None and names[known] == found
        return name in names or _wildcard(name) in names

    def _policy(self, known: str | None, listener: ListenerSpec) -> ClientPolicy:
        """The same, for a name as a certificate has it; ``None`` for one without."""
        keyring = self._keyring
        own = 0 if known is None else self._own.get(known)
        if own is None and known is not None:
            # Certificates of the store have no policies.
            own = self._own.get(_wildcard(known))
        place = keyring.listeners.get(listener.id)
        if place is not None:
            asked = keyring.policies[place]
        elif listener.verify is not None:
            # Its CAs are not known here: it lets nobody in who has to show a certificate.
            asked = ClientPolicy(listener.verify)
        else:
            return keyring.policies[own or 0]
        return stricter(keyring.policies[own], asked) if own else asked

    def _known(self, name: str) -> str | None:
        """The name under which certificates serve ``name``: it, its wildcard, or the default."""
        names = self._names
        for one in (name, self._keyring.default):
            if one in names:
                return one
            wildcard = _wildcard(one)
            if wildcard in names:
                return wildcard
        return None

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


def make_context(keyring: Keyring, policy: ClientPolicy, pairs: list[Pair]) -> ssl.SSLContext:
    """A context for these pairs, of which OpenSSL picks one by what the client offers.

    Raises ssl.SSLError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MIN_VERSIONS[keyring.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # A client knows whether its processor is fast with AES; all suites are good.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(keyring.ciphers)
    context.set_alpn_protocols([ALPN_HTTP])
    context.verify_mode = _VERIFY[policy.verify]
    if policy.ca:
        context.load_verify_locations(cadata=policy.ca)
    for pair in pairs:
        load_pair(context, pair.cert, pair.key)
    return context


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
