"""The certificates for clients: read from files, checked, and told what is wrong with them."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from slardar.config import Settings, TlsCertificate, TlsClient
from slardar.dataplane.tls_contexts import load_pair, make_context
from slardar.errors import SlardarError
from slardar.model.certificate import host_names
from slardar.model.listener import ListenerSpec
from slardar.model.tls import INTERMEDIATE, ClientPolicy, Keyring, Pair, stricter

__all__ = ["Found", "CertificateError", "checked_pair", "read_keyring"]

#: Files in a folder that are taken for certificates; the key is beside them.
_CERTIFICATES: Final = (".pem", ".crt", ".cer")
#: A folder within the folder may hold one pair under certbot's names.
_CERTBOT: Final = ("fullchain.pem", "privkey.pem")
#: Bytes of a file, at most.
_MAX_FILE: Final = 1 << 20
_LEAST_RSA: Final = 2048


class Found(NamedTuple):
    """What was read.  ``problems`` and ``warnings`` are lines that name key and file."""

    #: ``None``: it must not be used as a whole.
    keyring: Keyring | None
    problems: list[str]
    warnings: list[str]


class CertificateError(SlardarError):
    """A certificate or its key cannot be used; the text says why, without any of their content."""


def read_keyring(
    settings: Settings, before: Keyring | None = None, open_now: Iterable[ListenerSpec] = ()
) -> Found:
    """Read and check the files of ``tls``, and those of listeners.

    ``open_now`` are listeners that are open, besides those of the settings: ``listen`` may
    have changed, which is taken with a start only.  Of a file with a mistake, its pair in
    ``before`` is kept.  It reads files, so it blocks, and may be called in a thread.
    """
    listeners = {one.id: one for one in (*open_now, *settings.listeners)}
    reader = _Reader(settings, before, tuple(listeners.values()))
    keyring = reader.read()
    whole = reader.check(keyring)
    reader.problems += whole
    return Found(None if whole else keyring, reader.problems, reader.warnings)


class _Reader:
    def __init__(
        self, settings: Settings, before: Keyring | None, listeners: tuple[ListenerSpec, ...]
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._known = {} if before is None else {pair.source: pair for pair in before.pairs}
        self._known_cas = {} if before is None else before.cas
        self._cas: dict[str, str] = {}
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._policies: list[ClientPolicy] = []

    def read(self) -> Keyring:
        tls = self._settings.tls
        self._policies.append(self._policy(tls.client, "tls.client.ca"))
        pairs: list[Pair] = []
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for index, entry in enumerate(tls.certificates):
            where = f"tls.certificates[{index}]"
            policy = 0
            if entry.client is not None:
                policy = self._place(self._policy(entry.client, f"{where}.client.ca"))
            for cert, key in self._files(entry, where):
                pair = self._pair(trial, cert, key, policy, where)
                if pair is not None:
                    pairs.append(pair)
        ciphers = INTERMEDIATE if tls.ciphers is None else tls.ciphers
        listeners = self._of_listeners(pairs)
        return Keyring(
            tuple(pairs), (tls.default or "").lower(), tls.min_version, ciphers,
            tuple(self._policies), listeners, self._cas,
        )  # fmt: skip

    # Clients' CAs.

    def _place(self, policy: ClientPolicy) -> int:
        """The place of a policy that a name or a listener has of its own."""
        own = self._policies[1:]
        if policy in own:
            return 1 + own.index(policy)
        self._policies.append(policy)
        return len(own) + 1

    def _of_listeners(self, pairs: list[Pair]) -> dict[str, int]:
        """The places of the policies of listeners, by their ids."""
        names = {name: pair.policy for pair in pairs for name in pair.names if pair.policy}
        found = {}
        for one in self._listeners:
            if one.verify is None:
                continue
            where = f"listen: {one.id}"
            file = one.ca or self._settings.tls.client.ca
            if file is None and one.verify != "none":
                self.problems.append(f"{where}: expected ca=FILE, or tls.client.ca")
            policy = self._policy(TlsClient(one.verify, file), where)
            found[one.id] = self._place(policy)
            for name, place in names.items():
                both = stricter(self._policies[place], policy)
                if both.verify != "none" and not both.ca and policy.ca:
                    self.warnings.append(
                        f"{where}: no certificate of a client is good for {name}, which has "
                        "another CA"
                    )
        return found

    def _policy(self, client: TlsClient, where: str) -> ClientPolicy:
        if client.verify == "none" or client.ca is None:
            return ClientPolicy()
        try:
            text = _read(client.ca)
            if not x509.load_pem_x509_certificates(text.encode()):
                raise ValueError
        except CertificateError as problem:
            self.problems.append(f"{where}: {problem}")
        except ValueError:
            self.problems.append(f"{where}: expected certificates in PEM in {client.ca}")
        else:
            self._cas[client.ca] = text
            return ClientPolicy(client.verify, text)
        # As long as the file is wrong nobody is let in, unless what was in it is known.
        known = self._known_cas.get(client.ca)
        if known is None:
            return ClientPolicy(client.verify)
        self._cas[client.ca] = known
        return ClientPolicy(client.verify, known)

    # Pairs.

    def _files(self, entry: TlsCertificate, where: str) -> Iterator[tuple[str, str]]:
        if entry.cert is not None:
            yield entry.cert, entry.key or entry.cert
        if entry.folder is None:
            return
        folder = Path(entry.folder)
        try:
            found = sorted(folder.iterdir())
        except OSError as error:
            self.problems.append(f"{where}.folder: cannot read {folder}: {error.strerror}")
            # What is there cannot be known, so nothing of it is taken away.
            known = (name for name in self._known if Path(name).is_relative_to(folder))
            yield from ((name, name) for name in known)
            return
        for path in found:
            pair = [path / name for name in _CERTBOT]
            if path.suffix in _CERTIFICATES and not path.name.startswith("."):
                key = path.with_suffix(".key")
                yield str(path), str(key if key.exists() else path)
            elif path.is_dir() and all(one.exists() for one in pair):
                yield str(pair[0]), str(pair[1])

    def _pair(
        self, trial: ssl.SSLContext, cert: str, key: str, policy: int, where: str
    ) -> Pair | None:
        try:
            pair = _read_pair(trial, cert, key, policy)
        except CertificateError as problem:
            self.problems.append(f"{where}: {problem}")
            known = self._known.get(cert)
            if known is None:
                return None
            return Pair(
                known.source, known.cert, known.key, known.names, known.kind, known.expires, policy
            )
        mode = stat.S_IMODE(os.stat(key).st_mode)
        if mode & 0o077:
            self.warnings.append(
                f"{where}: {key} can be read by others than its owner (mode {mode:04o})"
            )
        return pair

    # All of it.

    def check(self, keyring: Keyring) -> list[str]:
        """What is wrong with the keyring as a whole."""
        problems = []
        default = keyring.default
        listens = any(one.tls for one in self._settings.listeners)
        acme = self._settings.tls.acme
        hosts = () if acme is None else tuple(name.lower() for name in acme.hosts)
        if listens and not keyring.pairs and not self.problems and not hosts:
            # They may be in the store, or come later.
            self.warnings.append(
                "tls.certificates: no file has one, so handshakes on tls: get those of the store"
            )
        first: dict[str, Pair] = {}
        for pair in keyring.pairs:
            for name in pair.names:
                other = first.setdefault(name, pair)
                if other.policy != pair.policy:
                    files = f"{other.source} and {pair.source}"
                    problems.append(f"tls.certificates: {name} has two settings of client: {files}")
        is_known = default in hosts or default in first or "*." + default.partition(".")[2] in first
        if default and not is_known and not self.problems:
            self.warnings.append(
                f"tls.default: no certificate in files is for {default}; one of the store may be"
            )
        try:
            make_context(keyring, ClientPolicy(), [])
        except ssl.SSLError:
            problems.append("tls.ciphers: expected a list of OpenSSL's names of suites")
        return problems


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > _MAX_FILE:
        raise CertificateError(f"{path} has more than {_MAX_FILE} bytes")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        # PEM may have notes in any encoding between its blocks.
        return data.decode("latin-1").encode("ascii", "replace").decode("ascii")


def _read_pair(trial: ssl.SSLContext, cert: str, key: str, policy: int) -> Pair:
    cert_text = _read(cert)
    key_text = cert_text if key == cert else _read(key)
    return checked_pair(cert, cert_text, key_text, policy, (cert, key), trial)


def checked_pair(
    source: str,
    cert_text: str,
    key_text: str,
    policy: int = 0,
    places: tuple[str, str] | None = None,
    trial: ssl.SSLContext | None = None,
) -> Pair:
    """The pair of a certificate and a key in PEM, once all of it has been checked.

    ``source`` and ``policy`` are those of the pair.  ``places`` is what errors call the two
    texts: ``source`` for both, if it is not given.  Whoever checks many pairs gives them one
    context for trials.  Raises CertificateError.
    """
    cert, key = (source, source) if places is None else places
    try:
        first = x509.load_pem_x509_certificate(cert_text.encode())
    except ValueError:
        raise CertificateError(f"expected a certificate in PEM in {cert}") from None
    try:
        private: Any = load_pem_private_key(key_text.encode(), None)
    except TypeError:
        raise CertificateError(f"the key in {key} has a password") from None
    except (ValueError, UnsupportedAlgorithm):
        about = " beside it or in it" if key == cert else f" in {key}"
        raise CertificateError(f"expected the key of {cert}{about} in PEM") from None
    if _public(private.public_key()) != _public(first.public_key()):
        raise CertificateError(f"the key in {key} is not that of the certificate in {cert}")
    now = datetime.now(timezone.utc)
    ends, begins = first.not_valid_after_utc, first.not_valid_before_utc
    if ends <= now:
        raise CertificateError(f"the certificate in {cert} expired on {ends:%Y-%m-%d}")
    if begins > now:
        raise CertificateError(f"the certificate in {cert} begins on {begins:%Y-%m-%d}")
    names = host_names(first)
    if not names:
        raise CertificateError(f"the certificate in {cert} has no name")
    kind = _kind(private)
    if kind == "rsa" and private.key_size < _LEAST_RSA:
        raise CertificateError(
            f"the key in {key} has {private.key_size} bits, expected {_LEAST_RSA} at least"
        )
    # Only the blocks: the private key must not travel twice, nor notes at all.
    pair = Pair(
        source,
        _blocks(cert_text, "CERTIFICATE"),
        _blocks(key_text, "PRIVATE KEY"),
        names,
        kind,
        int(ends.timestamp()),
        policy,
    )
    if trial is None:
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        load_pair(trial, pair.cert, pair.key)
    except ssl.SSLError as error:
        reason = (error.reason or "it cannot be used").lower().replace("_", " ")
        raise CertificateError(f"OpenSSL refuses {cert}: {reason}") from None
    return pair


def _public(key: Any) -> bytes:
    data: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return data


_KINDS: Final[Mapping[str, Any]] = {
    "rsa": rsa.RSAPrivateKey,
    "ec": ec.EllipticCurvePrivateKey,
    "ed25519": ed25519.Ed25519PrivateKey,
    "ed448": ed448.Ed448PrivateKey,
}


def _kind(key: Any) -> str:
    for name, cls in _KINDS.items():
        if isinstance(key, cls):
            return name
    raise CertificateError("the key is of a kind that TLS does not use")


def _blocks(text: str, kind: str) -> str:
    """The blocks of a PEM text whose kind ends with ``kind``."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("-----BEGIN ") and stripped.endswith(f"{kind}-----"):
            inside = True
        if inside:
            lines.append(stripped)
        if stripped.startswith("-----END "):
            inside = False
    return "\n".join(lines) + "\n"
