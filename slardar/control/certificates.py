"""The certificates for clients: read from files, checked, and told what is wrong with them."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator, Mapping
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
from cryptography.x509.oid import ExtensionOID, NameOID

from slardar.config import Settings, TlsCertificate, TlsClient
from slardar.dataplane.tls_contexts import load_pair, make_context
from slardar.model.tls import INTERMEDIATE, ClientPolicy, Keyring, Pair
from slardar.tls_files import blocks

__all__ = ["Found", "read_keyring"]

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


class _Wrong(Exception):
    """A file cannot be used; the text says why, without any of its content."""


def read_keyring(settings: Settings, before: Keyring | None = None) -> Found:
    """Read and check the files of ``tls``.

    Of a file with a mistake, its pair in ``before`` is kept.  It reads files, so it blocks,
    and may be called in a thread.
    """
    reader = _Reader(settings, before)
    keyring = reader.read()
    whole = reader.check(keyring)
    reader.problems += whole
    return Found(None if whole else keyring, reader.problems, reader.warnings)


class _Reader:
    def __init__(self, settings: Settings, before: Keyring | None) -> None:
        self._settings = settings
        self._known = {} if before is None else {pair.source: pair for pair in before.pairs}
        self._known_policies = () if before is None else before.policies
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
            policy = 0 if entry.client is None else self._place(entry.client, where)
            for cert, key in self._files(entry, where):
                pair = self._pair(trial, cert, key, policy, where)
                if pair is not None:
                    pairs.append(pair)
        ciphers = INTERMEDIATE if tls.ciphers is None else tls.ciphers
        return Keyring(
            tuple(pairs), (tls.default or "").lower(), tls.min_version, ciphers,
            tuple(self._policies),
        )  # fmt: skip

    # Clients' CAs.

    def _place(self, client: TlsClient, where: str) -> int:
        policy = self._policy(client, f"{where}.client.ca")
        if policy not in self._policies:
            self._policies.append(policy)
        return self._policies.index(policy)

    def _policy(self, client: TlsClient, where: str) -> ClientPolicy:
        if client.verify == "none" or client.ca is None:
            return ClientPolicy()
        try:
            text = _read(client.ca)
            if not x509.load_pem_x509_certificates(text.encode()):
                raise ValueError
        except _Wrong as problem:
            self.problems.append(f"{where}: {problem}")
        except ValueError:
            self.problems.append(f"{where}: expected certificates in PEM in {client.ca}")
        else:
            return ClientPolicy(client.verify, text)
        # As long as the file is wrong nobody is let in, unless a former one is known.
        for known in self._known_policies:
            if known.verify == client.verify:
                return known
        return ClientPolicy(client.verify)

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
        except _Wrong as problem:
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
        names, default = keyring.by_name(), keyring.default
        listens = any(one.tls for one in self._settings.listeners)
        if listens and not keyring.pairs and not self.problems:
            problems.append("tls.certificates: expected at least one, for listen has tls:")
        first: dict[str, Pair] = {}
        for pair in keyring.pairs:
            for name in pair.names:
                other = first.setdefault(name, pair)
                if other.policy != pair.policy:
                    files = f"{other.source} and {pair.source}"
                    problems.append(f"tls.certificates: {name} has two settings of client: {files}")
        is_known = default in names or "*." + default.partition(".")[2] in names
        if default and not is_known and not self.problems:
            problems.append(f"tls.default: no certificate is for {default}")
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
        raise _Wrong(f"cannot read {path}: {error.strerror}") from None
    if len(data) > _MAX_FILE:
        raise _Wrong(f"{path} has more than {_MAX_FILE} bytes")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        # PEM may have notes in any encoding between its blocks.
        return data.decode("latin-1").encode("ascii", "replace").decode("ascii")


def _read_pair(trial: ssl.SSLContext, cert: str, key: str, policy: int) -> Pair:
    cert_text = _read(cert)
    key_text = cert_text if key == cert else _read(key)
    try:
        first = x509.load_pem_x509_certificate(cert_text.encode())
    except ValueError:
        raise _Wrong(f"expected a certificate in PEM in {cert}") from None
    try:
        private: Any = load_pem_private_key(key_text.encode(), None)
    except TypeError:
        raise _Wrong(f"the key in {key} has a password") from None
    except (ValueError, UnsupportedAlgorithm):
        about = " beside it or in it" if key == cert else f" in {key}"
        raise _Wrong(f"expected the key of {cert}{about} in PEM") from None
    if _public(private.public_key()) != _public(first.public_key()):
        raise _Wrong(f"the key in {key} is not that of the certificate in {cert}")
    now = datetime.now(timezone.utc)
    if first.not_valid_after_utc <= now:
        raise _Wrong(f"the certificate in {cert} expired on {first.not_valid_after_utc:%Y-%m-%d}")
    if first.not_valid_before_utc > now:
        raise _Wrong(f"the certificate in {cert} begins on {first.not_valid_before_utc:%Y-%m-%d}")
    names = _names(first)
    if not names:
        raise _Wrong(f"the certificate in {cert} has no name")
    kind = _kind(private)
    if kind == "rsa" and private.key_size < _LEAST_RSA:
        raise _Wrong(
            f"the key in {key} has {private.key_size} bits, expected {_LEAST_RSA} at least"
        )
    # Only the blocks: the private key must not travel twice, nor notes at all.
    pair = Pair(
        cert,
        blocks(cert_text, "CERTIFICATE"),
        blocks(key_text, "PRIVATE KEY"),
        names,
        kind,
        int(first.not_valid_after_utc.timestamp()),
        policy,
    )
    try:
        load_pair(trial, pair.cert, pair.key)
    except ssl.SSLError as error:
        reason = (error.reason or "it cannot be used").lower().replace("_", " ")
        raise _Wrong(f"OpenSSL refuses {cert}: {reason}") from None
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
    raise _Wrong("the key is of a kind that TLS does not use")


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names of hosts that it is for: if it lists none, its common name."""
    try:
        extension: Any = certificate.extensions.get_extension_for_oid(
            ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        ).value
        names = list(extension.get_values_for_type(x509.DNSName))
        # A client that goes to an address names no server; ``default`` may name this one.
        names += [str(address) for address in extension.get_values_for_type(x509.IPAddress)]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    if not names:
        attributes = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = [str(one.value) for one in attributes]
    return tuple(dict.fromkeys(name.lower().rstrip(".") for name in names if name))
