"""The operations on certificates: those of files are told of, those of the store are set, too.

No answer has a private key, and no refusal quotes what was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct
from twisted.internet import defer

from slardar.control.changes import Next, Receipt
from slardar.control.conditions import Condition
from slardar.control.configuration import Configuration
from slardar.control.hooks import local_time
from slardar.dataplane.name_table import NameTable, best_of
from slardar.errors import ConfigError, NotFoundError
from slardar.model.certificate import described
from slardar.model.change import Value
from slardar.model.tls import Keyring, Pair, written_pair

__all__ = ["CertificateActions", "Kept"]

#: Refused certificates that the status names, at most.
_MAX_REFUSED = 20

#: Refuses a call for the host names of a certificate, by raising.
Guard: TypeAlias = Callable[[Sequence[str]], None]


class Kept(Struct, frozen=True):
    """A certificate with the name that operators know it by: that of the store, or its file."""

    name: str
    pair: Pair
    #: ``store``, ``acme``, or the file.
    origin: str


class CertificateActions:
    """The operations on the certificates of one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        #: The certificates of files that are in service.
        self.keyring = Keyring()
        #: Why files were refused when they were read last, a line each.
        self.refused: Sequence[str] = ()
        #: The pairs by name, and what is in this table: it follows when it is asked.
        self._table = NameTable()
        self._in_table: tuple[Keyring | None, Mapping[str, Pair]] = None, {}

    # Questions.

    def kept(self) -> Iterator[Kept]:
        """Every certificate: those of files, then those of the store by name."""
        for pair in self.keyring.pairs:
            yield Kept(pair.source, pair, pair.source)
        for name, pair in sorted(self._configuration.snapshot.certificates.items()):
            yield Kept(name, pair, _origin(pair))

    def all(self) -> Iterator[dict[str, Any]]:
        """Every certificate, as answers show it.  Each takes some 0.1 ms."""
        for one in list(self.kept()):
            yield _shown(one, self._is_used(one.pair))

    def one(self, name: str) -> dict[str, Any]:
        """A certificate of the store.  Raises NotFoundError."""
        pair = self._known(name)
        return _shown(Kept(name, pair, _origin(pair)), self._is_used(pair))

    def names(self, name: str) -> tuple[str, ...]:
        """The host names of the present certificate of this name; none if there is none."""
        pair = self._configuration.snapshot.certificates.get(name)
        return () if pair is None else pair.names

    def expiries(self) -> list[tuple[str, int]]:
        """The name of each certificate, and when it expires, in epoch seconds."""
        return [(one.name, one.pair.expires) for one in self.kept()]

    def expiring(self, until: float) -> list[Kept]:
        """The certificates in use that expire until then, in epoch seconds."""
        return [one for one in self.kept() if one.pair.expires <= until and self._is_used(one.pair)]

    def warnings(self, name: str) -> list[str]:
        """Why nobody is shown a certificate of the store."""
        pair = self._configuration.snapshot.certificates.get(name)
        if pair is None:
            return []
        if not any(one.tls for one in self._configuration.settings.listeners):
            return ["no endpoint of listen has tls:, so nobody is shown this certificate"]
        hosts = set(pair.names)
        others = (*self.keyring.pairs, *self._configuration.snapshot.certificates.values())
        # A table of all of very many would take its time when it is made first.
        table = NameTable()
        table.take(one for one in others if not hosts.isdisjoint(one.names))
        if not _is_best(pair, table):
            return ["not in use: for each of its names another certificate expires later"]
        return []

    def summary(self, now: float) -> dict[str, Any]:
        """What the status says; empty without certificates.  ``now`` is in epoch seconds."""
        configuration = self._configuration
        origins = [_origin(pair) for pair in configuration.snapshot.certificates.values()]
        start = "certificates."
        stored = sorted(where for where in configuration.failed if where.startswith(start))
        refused = [*self.refused, *(configuration.failed[where] for where in stored)]
        if not (self.keyring.pairs or origins or refused):
            return {}
        found: dict[str, Any] = {
            "files": len(self.keyring.pairs),
            "store": origins.count("store"),
            "acme": origins.count("acme"),
        }
        in_use = [one for one in self.kept() if self._is_used(one.pair)]
        found["expired"] = sum(one.pair.expires <= now for one in in_use)
        if in_use:
            first = min(in_use, key=lambda one: one.pair.expires)
            found["next_expiry"] = {"name": first.name, "expires": local_time(first.pair.expires)}
        if refused:
            found["refused"] = refused[:_MAX_REFUSED]
            if len(refused) > _MAX_REFUSED:
                found["more_refused"] = len(refused) - _MAX_REFUSED
        return found

    def _known(self, name: str) -> Pair:
        configuration = self._configuration
        pair = configuration.snapshot.certificates.get(name)
        if pair is None:
            reason = configuration.failed.get(f"certificates.{name}")
            unused = "" if reason is None else f" in use: {reason}"
            raise NotFoundError(f"no certificate {name} of the store{unused}")
        return pair

    def _is_used(self, pair: Pair) -> bool:
        """Whether it counts for one of its names: for a name and a kind of key the one that expires
        last does."""
        keyring, stored = self.keyring, self._configuration.snapshot.certificates
        known = self._in_table
        if keyring is not known[0] or stored is not known[1]:
            self._in_table = keyring, stored
            self._table.take((*keyring.pairs, *stored.values()))
        return _is_best(pair, self._table)

    # Changes.

    def check(self, name: str, body: object) -> Pair:
        """The pair of a body with ``cert`` and ``key``.

        Raises ConfigError, which quotes nothing of the body: it may be a key.
        """
        if not isinstance(body, Mapping) or set(body) != {"cert", "key"}:
            raise ConfigError(
                f"certificates.{name}: expected an object with cert and key, both in PEM, and"
                " nothing else"
            )
        # Imported here: a process without TLS does not pay for it.
        from slardar.control.stored_pairs import parse_pair

        return parse_pair(name, body, f"certificates.{name}")

    def set(
        self,
        name: str,
        pair: Pair,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
        guard: Guard | None = None,
    ) -> defer.Deferred[Receipt]:
        """Make or replace a certificate of the store; ``pair`` is that of :meth:`check`.

        ``guard`` gets the host names of the present one, and may raise.  Fails as
        :meth:`Configuration.change` says, which explains ``wait`` and ``condition``.
        """

        def prepare() -> Next:
            if guard is not None:
                guard(self.names(name))
            return self._next(name, pair)

        return self._configuration.change(prepare, who, wait, condition)

    def remove(
        self,
        name: str,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
        guard: Guard | None = None,
    ) -> defer.Deferred[Receipt]:
        """Remove a certificate of the store.  Fails with NotFoundError if there is none."""

        def prepare() -> Next:
            configuration = self._configuration
            if f"certificates.{name}" not in configuration.failed:
                self._known(name)
            if guard is not None:
                guard(self.names(name))
            return self._next(name, None)

        return self._configuration.change(prepare, who, wait, condition)

    def _next(self, name: str, pair: Pair | None) -> Next:
        value = None if pair is None else written_pair(pair)
        snapshot = self._configuration.snapshot.with_certificate(name, pair)
        return Next([Value("certificate", name, value)], snapshot)


def _origin(pair: Pair) -> str:
    """Whether a pair of the store is from ``acme`` or an operator (``store``)."""
    return pair.source.partition(": ")[0]


def _is_best(pair: Pair, table: NameTable) -> bool:
    return any(pair is one for name in pair.names for one in best_of(table.get(name)))


def _shown(kept: Kept, in_use: bool) -> dict[str, Any]:
    pair = kept.pair
    about = described(pair.cert)
    return {
        "name": kept.name,
        "names": list(pair.names),
        "kind": pair.kind,
        "issuer": about.issuer,
        "subject": about.subject,
        "serial": about.serial,
        "sha256": about.sha256,
        "not_before": local_time(about.not_before),
        "expires": local_time(about.expires),
        "from": kept.origin,
        "in_use": in_use,
    }
