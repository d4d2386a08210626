"""The certificates for clients: read from files, checked, and told what is wrong with them.

There may be ten thousand, and a start waits for all of them.  Parsing a pair and comparing its
halves takes a twentieth of a millisecond.  A context of OpenSSL takes two milliseconds for a
pair, so it has to try only those of which it might think otherwise, and otherwise gets a pair
when a client first asks for it.

(Longer than 500 lines: what is read and what is checked share the words for what is wrong.)
"""

from __future__ import annotations

import os
import ssl
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import cache, lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import SignatureAlgorithmOID
from msgspec import Struct, structs

from slardar.config import Settings, TlsCertificate, TlsClient
from slardar.control.forked import in_parts
from slardar.control.staples import MAX_STAPLE, StapleError, checked_staple
from slardar.dataplane.tls_contexts import load_pair, make_context
from slardar.errors import SlardarError
from slardar.model.certificate import host_names
from slardar.model.listener import ListenerSpec
from slardar.model.tls import INTERMEDIATE, ClientPolicy, Keyring, Pair, stricter
from slardar.plain_files import read_regular
from slardar.tls_files import blocks

__all__ = ["Found", "CertificateError", "checked_pair", "read_keyring"]

#: Files in a folder that are taken for certificates; the key is beside them.
_CERTIFICATES: Final = ("pem", "crt", "cer")
#: A folder within the folder may hold one pair under certbot's names.
_CERTBOT: Final = ("fullchain.pem", "privkey.pem")
#: Files beside certificates; a look whether one is a folder is left out.
_BESIDE: Final = ("key", "ocsp")
#: Bytes of a file, at most.
_MAX_FILE: Final = 1 << 20
_LEAST_RSA: Final = 2048
#: With twice as many bits a signature takes a quarter of a second and more, in which a worker does
#: nothing else, and whoever connects asks for one.
_MOST_RSA: Final = 8192
#: Pairs that are worth a process of their own, which takes some milliseconds.
_IN_A_PROCESS: Final = 500
#: What OpenSSL takes at its security level 2, which is the highest that systems come with.
_USUAL_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_USUAL_SIGNATURES: Final = frozenset(
    (
        *(SignatureAlgorithmOID.RSA_WITH_SHA256, SignatureAlgorithmOID.ECDSA_WITH_SHA256),
        *(SignatureAlgorithmOID.RSA_WITH_SHA384, SignatureAlgorithmOID.ECDSA_WITH_SHA384),
        *(SignatureAlgorithmOID.RSA_WITH_SHA512, SignatureAlgorithmOID.ECDSA_WITH_SHA512),
    )
)
_END: Final = "-----END CERTIFICATE-----"


class Found(NamedTuple):
    """What was read.  ``problems`` and ``warnings`` are lines that name key and file."""

    #: ``None``: it must not be used as a whole.
    keyring: Keyring | None
    problems: list[str]
    warnings: list[str]


class CertificateError(SlardarError):
    """A certificate or its key cannot be used; the text says why, without any of their content."""


class ExpiredError(CertificateError):
    """Nothing but its end speaks against ``pair``."""

    def __init__(self, text: str, pair: Pair) -> None:
        super().__init__(text)
        self.pair = pair


def read_keyring(
    settings: Settings,
    before: Keyring | None = None,
    open_now: Iterable[ListenerSpec] = (),
    may_fork: bool = False,
) -> Found:
    """Read and check the files of ``tls``, and those of listeners.

    ``open_now`` are listeners that are open, besides those of the settings: ``listen`` may
    have changed, which is taken with a start only.  Of a file with a mistake, its pair in
    ``before`` is kept.  It reads files, so it blocks, and may be called in a thread.

    ``may_fork``: many files may be read in processes that are forked for it.
    """
    listeners = {one.id: one for one in (*open_now, *settings.listeners)}
    reader = _Reader(settings, before, tuple(listeners.values()))
    keyring = reader.read(may_fork)
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

    def read(self, may_fork: bool) -> Keyring:
        tls = self._settings.tls
        self._policies.append(self._policy(tls.client, "tls.client.ca"))
        todo: list[_Todo] = []
        for index, entry in enumerate(tls.certificates):
            where = f"tls.certificates[{index}]"
            policy = 0
            if entry.client is not None:
                policy = self._place(self._policy(entry.client, f"{where}.client.ca"))
            todo += [
                _Todo(files, self._known.get(files.cert), policy, where)
                for files in self._files(entry, where)
            ]
        pairs: list[Pair] = []
        least = _IN_A_PROCESS if may_fork else len(todo) + 1
        for done in in_parts(todo, _do_all, _encode, _decode, least):
            self.problems += done.problems
            self.warnings += done.warnings
            if done.pair is not None:
                pairs.append(done.pair)
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
            text = _text(_read(client.ca)[0])
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

    def _files(self, entry: TlsCertificate, where: str) -> Iterator[_Files]:
        if entry.cert is not None:
            staples = [one for one in _staple_names(entry.cert) if os.path.exists(one)]
            yield _Files(entry.cert, entry.key or entry.cert, *staples[:1])
        if entry.folder is None:
            return
        # As pathlib writes it, without a slash at the end.
        folder = str(Path(entry.folder))
        try:
            found = list(os.scandir(folder))
        except OSError as error:
            self.problems.append(f"{where}.folder: cannot read {folder}: {error.strerror}")
            # What is there cannot be known, so nothing of it is taken away.
            known = (name for name in self._known if Path(name).is_relative_to(folder))
            yield from (_Files(name, name) for name in known)
            return
        names = {one.name for one in found}
        before = "" if folder == "." else os.path.join(folder, "")
        for one in sorted(found, key=attrgetter("name")):
            name, path = one.name, before + one.name
            base, dot, kind = name.rpartition(".")
            if base and kind in _CERTIFICATES and not name.startswith("."):
                key, answer = base + ".key", base + ".ocsp"
                staples = [beside for beside in (answer, name + ".ocsp") if beside in names]
                yield _Files(
                    path,
                    before + key if key in names else path,
                    before + staples[0] if staples else "",
                )
            elif not (dot and kind in _BESIDE) and one.is_dir():
                cert, key = (os.path.join(path, file) for file in _CERTBOT)
                if os.path.exists(cert) and os.path.exists(key):
                    staples = [beside for beside in _staple_names(cert) if os.path.exists(beside)]
                    yield _Files(cert, key, *staples[:1])

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


class _Todo(NamedTuple):
    """A pair to be read."""

    files: _Files
    #: What was in the files before.
    known: Pair | None
    policy: int
    #: The key that names the files.
    where: str


class _Done(Struct, array_like=True):
    """What was read of it."""

    pair: Pair | None = None
    problems: list[str] = []
    warnings: list[str] = []


_encode: Final = msgspec.msgpack.encode
_decode: Final = msgspec.msgpack.Decoder(list[_Done]).decode


def _do_all(todo: Sequence[_Todo]) -> list[_Done]:
    return [_do(one) for one in todo]


def _do(todo: _Todo) -> _Done:
    files, known, policy, where = todo
    warnings = []
    try:
        pair, mode, ended = _read_pair(files, policy, known)
    except CertificateError as problem:
        kept = None if known is None else structs.replace(known, policy=policy)
        return _Done(kept, [f"{where}: {problem}"])
    if ended:
        warnings.append(f"{where}: {ended}: clients refuse it")
    if mode & 0o077:
        warnings.append(
            f"{where}: {files.key} can be read by others than its owner (mode {mode:04o})"
        )
    staple, ends = b"", 0
    if files.staple:
        try:
            staple = _read(files.staple, MAX_STAPLE)[0]
            ends = checked_staple(staple, pair.cert)
        except (CertificateError, StapleError) as problem:
            warnings.append(f"{where}: {files.staple} is not sent: {problem}")
            staple = b""
    if (pair.staple, pair.staple_ends) != (staple, ends):
        pair = structs.replace(pair, staple=staple, staple_ends=ends)
    return _Done(pair, warnings=warnings)


class _Files(NamedTuple):
    """The files of a pair."""

    cert: str
    #: The same one if it holds the key, too.
    key: str
    #: Its answer of OCSP; empty if there is none.
    staple: str = ""


def _staple_names(cert: str) -> tuple[str, str]:
    """Where the answer of OCSP for the certificate in a file may be: as the key is, and as
    HAProxy has it."""
    return os.path.splitext(cert)[0] + ".ocsp", cert + ".ocsp"


def _read(path: str, most: int = _MAX_FILE) -> tuple[bytes, int]:
    """The content of a file, and its mode."""
    try:
        data, about = read_regular(path, most + 1)
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > most:
        raise CertificateError(f"{path} has more than {most} bytes")
    return data, stat.S_IMODE(about.st_mode)


def _text(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        # PEM may have notes in any encoding between its blocks.
        return data.decode("latin-1").encode("ascii", "replace").decode("ascii")


def _read_pair(files: _Files, policy: int, known: Pair | None) -> tuple[Pair, int, str]:
    """The pair in some files, the mode of the file with the key, and a text if the certificate
    has expired.  ``known`` is what was in them before: what has not changed is not checked anew,
    but for its end.

    A certificate that has expired is used where there is no better one: the sites with other
    certificates must not stay away because of it.
    """
    data, mode = _read(files.cert)
    cert = key = _text(data)
    if files.key != files.cert:
        data, mode = _read(files.key)
        key = _text(data)
    is_good = known is not None and known.expires > time.time()
    if known is not None and is_good:
        found = blocks(cert, "CERTIFICATE"), blocks(key, "PRIVATE KEY")
        if found == (known.cert, known.key):
            same = known if known.policy == policy else structs.replace(known, policy=policy)
            return same, mode, ""
    try:
        return checked_pair(files.cert, cert, key, policy, (files.cert, files.key)), mode, ""
    except ExpiredError as error:
        if is_good:
            raise
        return error.pair, mode, str(error)


def checked_pair(
    source: str,
    cert_text: str,
    key_text: str,
    policy: int = 0,
    places: tuple[str, str] | None = None,
) -> Pair:
    """The pair of a certificate and a key in PEM, once all of it has been checked.

    ``source`` and ``policy`` are those of the pair.  ``places`` is what errors call the two
    texts: ``source`` for both, if it is not given.  Raises CertificateError, which is an
    ExpiredError if all of it is right but its end.
    """
    cert, key = (source, source) if places is None else places
    try:
        first = x509.load_pem_x509_certificate(cert_text.encode())
    except ValueError:
        raise CertificateError(f"expected a certificate in PEM in {cert}") from None
    try:
        # A look for primes in a key of RSA takes sixty milliseconds; _is_whole comes instead.
        private: Any = load_pem_private_key(
            key_text.encode(), None, unsafe_skip_rsa_key_validation=True
        )
    except TypeError:
        raise CertificateError(f"the key in {key} has a password") from None
    except (ValueError, UnsupportedAlgorithm):
        about = " beside it or in it" if key == cert else f" in {key}"
        raise CertificateError(f"expected the key of {cert}{about} in PEM") from None
    public = _public_key(first)
    if private.public_key() != public:
        raise CertificateError(f"the key in {key} is not that of the certificate in {cert}")
    now = datetime.now(timezone.utc)
    ends, begins = first.not_valid_after_utc, first.not_valid_before_utc
    if begins > now:
        raise CertificateError(f"the certificate in {cert} begins on {begins:%Y-%m-%d}")
    names = host_names(first)
    if not names:
        raise CertificateError(f"the certificate in {cert} has no name")
    kind = _kind(private)
    if kind == "rsa":
        if private.key_size < _LEAST_RSA:
            raise CertificateError(
                f"the key in {key} has {private.key_size} bits, expected {_LEAST_RSA} at least"
            )
        if private.key_size > _MOST_RSA:
            raise CertificateError(
                f"the key in {key} has {private.key_size} bits, expected {_MOST_RSA} at most"
            )
        if not _is_whole(private.private_numbers()):
            raise CertificateError(f"the key in {key} is damaged: its numbers do not fit")
    # Only the blocks: the private key must not travel twice, nor notes at all.
    pair = Pair(
        source,
        blocks(cert_text, "CERTIFICATE"),
        blocks(key_text, "PRIVATE KEY"),
        names,
        kind,
        int(ends.timestamp()),
        policy,
    )
    if not (_is_usual(first, public) and _is_usual_chain(_behind_first(pair.cert))):
        _try(pair, cert)
    if ends <= now:
        raise ExpiredError(f"the certificate in {cert} expired on {ends:%Y-%m-%d}", pair)
    return pair


def _try(pair: Pair, place: str) -> None:
    """Let OpenSSL say what it thinks of a pair."""
    try:
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair.cert, pair.key)
    except ssl.SSLError as error:
        reason = (error.reason or "it cannot be used").lower().replace("_", " ")
        raise CertificateError(f"OpenSSL refuses {place}: {reason}") from None


def _is_usual(certificate: x509.Certificate, key: Any) -> bool:
    """Whether OpenSSL is known to take a certificate.  It refuses weak keys and hashes, also of
    those that lead to the CA."""
    if certificate.signature_algorithm_oid not in _USUAL_SIGNATURES or _security_level() > 2:
        return False
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name in _USUAL_CURVES
    return isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA


@lru_cache(maxsize=64)
def _is_usual_chain(text: str) -> bool:
    """The same of those that lead to a CA; many certificates have the same ones."""
    try:
        chain = x509.load_pem_x509_certificates(text.encode()) if text else []
        return all(_is_usual(one, _public_key(one)) for one in chain)
    except ValueError:
        return False


@cache
def _security_level() -> int:
    """OpenSSL's, which the system's administrator may have raised; level 2 has 2,048 bits."""
    level: int = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).security_level
    return level


def _behind_first(cert: str) -> str:
    return cert.partition(_END)[2].strip()


def _public_key(certificate: x509.Certificate) -> Any:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _is_whole(numbers: rsa.RSAPrivateNumbers) -> bool:
    """Whether the numbers of a key fit each other (RFC 8017 3.2), apart from being primes."""
    p, q, d, e = numbers.p, numbers.q, numbers.d, numbers.public_numbers.e
    return (
        p * q == numbers.public_numbers.n
        and e * d % (p - 1) == 1
        and e * d % (q - 1) == 1
        and (numbers.dmp1, numbers.dmq1) == (d % (p - 1), d % (q - 1))
        and numbers.iqmp * q % p == 1
    )


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
