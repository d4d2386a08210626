"""The certificates for clients: which files are read, and what is refused, with which line."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from slardar.config import Settings, parse_settings
from slardar.control import certificates
from slardar.control.certificates import CertificateError, Found, checked_pair, read_keyring
from slardar.dataplane.tls_contexts import TlsContexts
from slardar.errors import ConfigError
from slardar.model.listener import spec_of
from slardar.model.tls import Keyring
from tests.certificates import Authority

Read = Callable[..., Found]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs the certificates of these tests."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def folder(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which the authority puts what it issues."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(authority, "_folder", Path())
    return tmp_path


def settings(*certificates: Any, listen: str = "tls:8443", **tls: Any) -> Settings:
    """Settings with these certificates."""
    return parse_settings({"listen": [listen], "tls": {"certificates": [*certificates], **tls}})


PAIR = {"cert": "a.pem", "key": "a.key"}


def test_pair_of_files(authority: Authority, folder: Path) -> None:
    """Its names are those of hosts and addresses, in lower case."""
    authority.issue("a", ("A.example", "*.B.example", "127.0.0.1"))
    keyring, problems, warnings = read_keyring(settings(PAIR))
    assert (problems, warnings) == ([], [])
    assert keyring is not None
    (pair,) = keyring.pairs
    assert pair.source == "a.pem"
    assert pair.names == ("a.example", "*.b.example", "127.0.0.1")
    assert pair.kind == "ec"
    assert pair.cert.count("BEGIN") == pair.key.count("BEGIN") == 1


def test_certificate_and_key_in_one_file(authority: Authority, folder: Path) -> None:
    """As HAProxy has them; the chain stays with the certificate, and notes go."""
    cert, key = authority.issue("a", ("a.example",), rsa_bits=2048)
    chain = authority.file.read_text()
    text = f"Bag Attributes\n\u00e9\n{key.read_text()}{cert.read_text()}{chain}"
    Path("all.pem").write_text(text, "utf-8")
    keyring, problems, _ = read_keyring(settings({"cert": "all.pem"}))
    assert not problems
    assert keyring is not None
    (pair,) = keyring.pairs
    assert pair.kind == "rsa"
    assert pair.cert.count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE" not in pair.cert
    assert pair.key.count("BEGIN PRIVATE KEY") == 1


def test_folder(authority: Authority, folder: Path) -> None:
    """Pairs beside each other, in one file, and in folders as certbot makes them."""
    Path("certs/live").mkdir(parents=True)
    authority.issue("certs/a", ("a.example",))
    cert, key = authority.issue("b", ("b.example",))
    Path("certs/b.crt").write_text(cert.read_text() + key.read_text())
    cert, key = authority.issue("c", ("c.example",))
    cert.rename("certs/live/fullchain.pem")
    key.rename("certs/live/privkey.pem")
    Path("certs/README").write_text("no certificate")
    Path("certs/.old.pem").write_text("an editor's")
    keyring, problems, _ = read_keyring(settings({"folder": "certs"}))
    assert not problems
    assert keyring is not None
    sources = {pair.names[0]: pair.source for pair in keyring.pairs}
    assert sources == {
        "a.example": "certs/a.pem",
        "b.example": "certs/b.crt",
        "c.example": "certs/live/fullchain.pem",
    }


def _mismatched(authority: Authority) -> None:
    authority.issue("other", ("x",))[1].rename("a.key")


def _with_password(authority: Authority) -> None:
    from cryptography.hazmat.primitives import serialization as made

    key: Any = made.load_pem_private_key(Path("a.key").read_bytes(), None)
    locked = made.BestAvailableEncryption(b"secret")
    pem = key.private_bytes(made.Encoding.PEM, made.PrivateFormat.PKCS8, locked)
    Path("a.key").write_bytes(pem)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda _: os.unlink("a.pem"), "cannot read a.pem: No such file or directory"),
        (lambda _: os.unlink("a.key"), "cannot read a.key: No such file or directory"),
        (lambda _: Path("a.pem").write_text("x"), "expected a certificate in PEM in a.pem"),
        (lambda _: Path("a.key").write_text("x"), "expected the key of a.pem in a.key in PEM"),
        (_mismatched, "the key in a.key is not that of the certificate in a.pem"),
        (_with_password, "the key in a.key has a password"),
        (
            lambda ca: ca.issue("a", ("a",), begins=timedelta(hours=2)),
            "the certificate in a.pem begins on 20",
        ),
        (
            lambda ca: ca.issue("a", ("a",), rsa_bits=1024),
            "the key in a.key has 1024 bits, expected 2048 at least",
        ),
        (lambda _: Path("a.pem").write_bytes(bytes(2**20 + 1)), "a.pem has more than 1048576"),
    ],
)
def test_pair_that_is_refused(
    authority: Authority, folder: Path, spoil: Callable[[Authority], Any], line: str
) -> None:
    """The line names key and file.  Where one like it was in service, it stays."""
    authority.issue("a", ("a.example",))
    before = read_keyring(settings(PAIR)).keyring
    spoil(authority)
    keyring, problems, _ = read_keyring(settings(PAIR))
    assert keyring is not None
    assert keyring.pairs == ()
    assert len(problems) == 1
    assert problems[0].startswith(f"tls.certificates[0]: {line}")
    again, problems, _ = read_keyring(settings(PAIR), before)
    assert again == before
    assert len(problems) == 1


def test_certificate_that_has_expired(authority: Authority, folder: Path) -> None:
    """It serves where there is no better one, with a warning: others must not stay away for it.
    What is wrong besides its end is told first."""
    authority.issue("a", ("a.example",))
    before = read_keyring(settings(PAIR)).keyring
    authority.issue("a", ("a.example",), ends=timedelta(minutes=-1))
    line = "tls.certificates[0]: the certificate in a.pem expired on 20"
    keyring, problems, warnings = read_keyring(settings(PAIR))
    assert keyring is not None
    assert [pair.names for pair in keyring.pairs] == [("a.example",)]
    assert problems == []
    assert [text.startswith(line) for text in warnings] == [True]
    # The same with HUP, as long as it is the same one; the good one before it stays.
    assert read_keyring(settings(PAIR), keyring) == (keyring, [], warnings)
    again, problems, warnings = read_keyring(settings(PAIR), before)
    assert (again, warnings) == (before, [])
    assert [text.startswith(line) for text in problems] == [True]
    _mismatched(authority)
    (problem,) = read_keyring(settings(PAIR)).problems
    assert "the key in a.key is not that of" in problem


def test_rsa_key_that_takes_too_long(
    authority: Authority, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One handshake with 16,384 bits stops a worker for a second.  (To make one takes minutes.)"""
    assert certificates._MOST_RSA == 8192
    monkeypatch.setattr(certificates, "_MOST_RSA", 2048)
    authority.issue("a", ("a.example",), rsa_bits=2048)
    assert read_keyring(settings(PAIR)).problems == []
    authority.issue("a", ("a.example",), rsa_bits=2056)
    line = "tls.certificates[0]: the key in a.key has 2056 bits, expected 2048 at most"
    assert read_keyring(settings(PAIR)).problems == [line]


def test_pair_of_texts(authority: Authority, folder: Path) -> None:
    """It is checked as one of files is; errors call the texts what the caller calls them."""
    cert, key = (path.read_text() for path in authority.issue("a", ("a.example",)))
    pair = checked_pair("store: a", cert, key, 1)
    assert (pair.source, pair.names, pair.policy) == ("store: a", ("a.example",), 1)
    other = authority.issue("b", ("b.example",))[1].read_text()
    with pytest.raises(CertificateError) as caught:
        checked_pair("store: a", cert, other, places=("cert", "key"))
    assert str(caught.value) == "the key in key is not that of the certificate in cert"


@pytest.mark.parametrize("beside", ["certs/a.ocsp", "certs/a.pem.ocsp"])
@pytest.mark.parametrize("by_folder", [True, False])
def test_answer_of_ocsp(authority: Authority, folder: Path, beside: str, by_folder: bool) -> None:
    """It lies beside the certificate, under the name of the key or as with HAProxy.  A bad one is
    left out, with a line; it is read again like the pair."""
    Path("certs").mkdir()
    cert, _ = authority.issue("certs/a", ("a.example",))
    cert.write_text(cert.read_text() + authority.file.read_text())
    wanted = settings(
        {"folder": "certs"} if by_folder else {"cert": str(cert), "key": "certs/a.key"}
    )
    answer = authority.staple(cert)
    Path(beside).write_bytes(answer)
    keyring, problems, warnings = read_keyring(wanted)
    assert (problems, warnings) == ([], [])
    assert keyring is not None
    assert keyring.pairs[0].staple == answer
    assert keyring.pairs[0].staple_ends > keyring.pairs[0].expires - 24 * 3600
    # Nothing has changed: the pair is the same object, which nobody is told of.
    again = read_keyring(wanted, keyring).keyring
    assert again is not None
    assert again.pairs[0] is keyring.pairs[0]
    for bad, reason in [
        (b"x", "expected an answer of OCSP in DER"),
        (authority.staple(cert, revoked=True), "the certificate is revoked"),
        (bytes(1 << 17), f"{beside} has more than 65536 bytes"),
    ]:
        Path(beside).write_bytes(bad)
        found, problems, warnings = read_keyring(wanted, keyring)
        assert not problems
        assert warnings == [f"tls.certificates[0]: {beside} is not sent: {reason}"]
        assert found is not None
        assert (found.pairs[0].staple, found.pairs[0].staple_ends) == (b"", 0)


def test_answer_of_ocsp_beside_files_of_certbot(authority: Authority, folder: Path) -> None:
    """In its folder."""
    Path("certs/live").mkdir(parents=True)
    cert, key = authority.issue("c", ("c.example",))
    Path("certs/live/fullchain.pem.ocsp").write_bytes(authority.staple(cert))
    cert.rename("certs/live/fullchain.pem")
    key.rename("certs/live/privkey.pem")
    keyring, _, warnings = read_keyring(settings({"folder": "certs"}))
    assert keyring is not None
    assert keyring.pairs[0].staple
    assert not warnings


def _with_weak_chain(authority: Authority) -> None:
    weak = authority.issue("weak", ("weak",), rsa_bits=1024)[0].read_text()
    Path("a.pem").write_text(Path("a.pem").read_text() + weak)


def _with_torn_chain(authority: Authority) -> None:
    Path("a.pem").write_text(Path("a.pem").read_text() + authority.file.read_text()[:-100])


def _with_spoilt_rsa(authority: Authority) -> None:
    """A prime is another one: OpenSSL would send signatures that are wrong, and show its key by
    that."""
    _, key = authority.issue("a", ("a.example",), rsa_bits=2048)
    found: Any = serialization.load_pem_private_key(key.read_bytes(), None)
    numbers = found.private_numbers()
    spoilt = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d + 2, numbers.dmp1, numbers.dmq1, numbers.iqmp,
        numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)  # fmt: skip
    key.write_bytes(
        spoilt.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )


def _with_spoilt_ec(authority: Authority) -> None:
    """The two halves of the key are those of two keys."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    der = keys[0].private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    points = [
        key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        for key in keys
    ]
    text = ssl.DER_cert_to_PEM_cert(der.replace(*points)).replace("CERTIFICATE", "PRIVATE KEY")
    Path("a.key").write_text(text)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (_with_weak_chain, "OpenSSL refuses a.pem: ca key too small"),
        (_with_torn_chain, "OpenSSL refuses a.pem: "),
        (_with_spoilt_rsa, "the key in a.key is damaged: its numbers do not fit"),
        (_with_spoilt_ec, "expected the key of a.pem in a.key in PEM"),
    ],
)
def test_pair_that_only_a_closer_look_refuses(
    authority: Authority, folder: Path, spoil: Callable[[Authority], Any], line: str
) -> None:
    """OpenSSL tries what is unusual, and would refuse it later."""
    authority.issue("a", ("a.example",))
    spoil(authority)
    problems = read_keyring(settings(PAIR)).problems
    assert len(problems) == 1
    assert problems[0].startswith(f"tls.certificates[0]: {line}")


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa2048", "rsa4096", "ed25519", "k1"])
def test_every_kind_of_key_is_one_that_openssl_takes(
    authority: Authority, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """OpenSSL need not try the usual ones; whatever is taken, a context can be made of it."""
    made: Any = {
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "k1": lambda: ec.generate_private_key(ec.SECP256K1()),
        "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
        "rsa4096": lambda: rsa.generate_private_key(65537, 4096),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }[kind]
    authority.issue("a", ("a.example",), key=made())
    tried = []
    right = certificates._try
    monkeypatch.setattr(certificates, "_try", lambda *words: tried.append(right(*words)))
    keyring, problems, _ = read_keyring(settings(PAIR))
    assert not problems
    assert keyring is not None
    assert bool(tried) == (kind in ("ed25519", "k1"))
    contexts = TlsContexts()
    contexts.take(keyring)
    assert contexts.find("a.example") is not None


def test_settings_of_the_system_that_are_stricter(
    authority: Authority, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL tries every pair then."""
    authority.issue("a", ("a.example",))
    monkeypatch.setattr(certificates, "_security_level", lambda: 3)
    tried = []
    monkeypatch.setattr(certificates, "_try", lambda *_: tried.append(1))
    read_keyring(settings(PAIR))
    assert tried


def test_folder_that_cannot_be_read_takes_nothing_away(authority: Authority, folder: Path) -> None:
    """Its pairs are still known."""
    Path("certs").mkdir()
    authority.issue("certs/a", ("a.example",))
    before = read_keyring(settings({"folder": "certs"})).keyring
    Path("certs").rename("gone")
    keyring, problems, _ = read_keyring(settings({"folder": "certs"}), before)
    assert keyring == before
    assert problems[0] == (
        "tls.certificates[0].folder: cannot read certs: No such file or directory"
    )


@pytest.mark.parametrize(
    ("certificates", "more", "line"),
    [
        ([PAIR], {"ciphers": "BEST"}, "tls.ciphers: expected a list of OpenSSL's names of suites"),
        (
            [PAIR, {"cert": "a.pem", "key": "a.key", "client": {"verify": "require", "ca": "CA"}}],
            {},
            "tls.certificates: a.example has two settings of client: a.pem and a.pem",
        ),
    ],
)
def test_whole_that_is_refused(
    authority: Authority, folder: Path, certificates: list[Any], more: Any, line: str
) -> None:
    """None of it is used then."""
    authority.issue("a", ("a.example",))
    Path("CA").write_text(authority.file.read_text())
    keyring, problems, _ = read_keyring(settings(*certificates, **more))
    assert keyring is None
    assert problems == [line]


def test_certificates_may_be_in_the_store_alone(authority: Authority, folder: Path) -> None:
    """A warning says so, and the program starts."""
    keyring, problems, warnings = read_keyring(settings(default="b.example"))
    assert problems == []
    assert keyring is not None
    assert [line.partition(":")[0] for line in warnings] == ["tls.certificates", "tls.default"]
    authority.issue("a", ("a.example",))
    _, problems, warnings = read_keyring(settings(PAIR, default="b.example"))
    assert (problems, len(warnings)) == ([], 1)
    assert "b.example" in warnings[0]


@pytest.mark.parametrize("default", ["a.example", "A.Example", "x.b.example"])
def test_default_is_a_name(authority: Authority, folder: Path, default: str) -> None:
    """Exact, or one that a wildcard is for."""
    authority.issue("a", ("a.example", "*.b.example"))
    keyring, problems, _ = read_keyring(settings(PAIR, default=default))
    assert not problems
    assert keyring is not None
    assert keyring.default == default.lower()


def test_policies_of_clients(authority: Authority, folder: Path) -> None:
    """One for all, and others for some names."""
    Path("CA").write_text(authority.file.read_text())
    authority.issue("a", ("a.example",))
    authority.issue("b", ("b.example",))
    other = {"cert": "b.pem", "key": "b.key", "client": {"verify": "require", "ca": "CA"}}
    keyring, problems, _ = read_keyring(settings(PAIR, other))
    assert not problems
    assert keyring is not None
    assert [pair.policy for pair in keyring.pairs] == [0, 1]
    assert [policy.verify for policy in keyring.policies] == ["none", "require"]
    assert keyring.policies[1].ca == authority.file.read_text()


def test_policies_of_listeners(authority: Authority, folder: Path) -> None:
    """With a CA of their own, or the general one; also of a listener that is open, and gone
    from the settings."""
    Path("CA").write_text(authority.file.read_text())
    Path("other").write_text(Authority(folder, "more").file.read_text())
    authority.issue("a", ("a.example",))
    client = {"verify": "none", "ca": "CA"}
    before = spec_of("tls:4:verify=require:ca=other")
    listen = [
        "tls:1",
        "tls:2:verify=optional",
        "tls:3:verify=require:ca=other",
        "tls:5:verify=none",
    ]
    tls = {"certificates": [PAIR], "client": client}
    wanted = parse_settings({"listen": listen, "tls": tls})
    keyring, problems, warnings = read_keyring(wanted, None, [before])
    assert (problems, warnings) == ([], [])
    assert keyring is not None
    found = {one: keyring.policies[place] for one, place in keyring.listeners.items()}
    assert {one: policy.verify for one, policy in found.items()} == {
        "tls:2:verify=optional": "optional",
        "tls:3:verify=require:ca=other": "require",
        "tls:4:verify=require:ca=other": "require",
        "tls:5:verify=none": "none",
    }
    assert found["tls:2:verify=optional"].ca == Path("CA").read_text()
    assert found["tls:3:verify=require:ca=other"].ca == Path("other").read_text()


def test_listener_without_a_ca(authority: Authority, folder: Path) -> None:
    """Nobody could get in."""
    authority.issue("a", ("a.example",))
    _, problems, _ = read_keyring(settings(PAIR, listen="tls:1:verify=require"))
    assert problems == ["listen: tls:1:verify=require: expected ca=FILE, or tls.client.ca"]
    _, problems, _ = read_keyring(settings(PAIR, listen="tls:1:verify=require:ca=none"))
    wrong = "listen: tls:1:verify=require:ca=none: cannot read none: No such file or directory"
    assert problems == [wrong]


def test_name_that_is_closed_at_a_listener(authority: Authority, folder: Path) -> None:
    """No certificate is of two CAs: a warning says so."""
    Path("CA").write_text(authority.file.read_text())
    Path("other").write_text(Authority(folder, "more").file.read_text())
    authority.issue("a", ("a.example",))
    pair = {**PAIR, "client": {"verify": "require", "ca": "CA"}}
    found = read_keyring(settings(pair, listen="tls:1:verify=optional:ca=other"))
    assert found.problems == []
    assert found.warnings == [
        "listen: tls:1:verify=optional:ca=other: no certificate of a client is good for a.example,"
        " which has another CA"
    ]
    found = read_keyring(settings(pair, listen="tls:1:verify=optional:ca=CA"))
    assert found.warnings == []


def test_name_with_the_general_policy_as_its_own_keeps_it(
    authority: Authority, folder: Path
) -> None:
    """A listener that asks for less does not take it away."""
    Path("CA").write_text(authority.file.read_text())
    authority.issue("a", ("a.example",))
    client = {"verify": "require", "ca": "CA"}
    wanted = settings({**PAIR, "client": client}, listen="tls:1:verify=none", client=client)
    keyring, problems, _ = read_keyring(wanted)
    assert problems == []
    assert keyring is not None
    contexts = TlsContexts()
    contexts.take(keyring)
    (listener,) = wanted.listeners
    assert contexts.policy("a.example", listener).verify == "require"


def test_ca_of_one_name_is_never_that_of_another(authority: Authority, folder: Path) -> None:
    """Not even while its file is wrong."""
    Path("CA").write_text(authority.file.read_text())
    Path("other").write_text(Authority(folder, "more").file.read_text())
    authority.issue("a", ("a.example",))
    authority.issue("b", ("b.example",))
    wanted = settings(
        {**PAIR, "client": {"verify": "require", "ca": "CA"}},
        {"cert": "b.pem", "key": "b.key", "client": {"verify": "require", "ca": "other"}},
    )
    before = read_keyring(wanted).keyring
    Path("other").write_text("nothing")
    keyring, problems, _ = read_keyring(wanted, before)
    assert len(problems) == 1
    assert keyring == before
    keyring, _, _ = read_keyring(wanted)
    assert keyring is not None
    assert [policy.ca for policy in keyring.policies[1:]] == [Path("CA").read_text(), ""]


def test_ca_that_cannot_be_read_lets_nobody_in(authority: Authority, folder: Path) -> None:
    """If one was known before, that one counts."""
    Path("CA").write_text(authority.file.read_text())
    authority.issue("a", ("a.example",))
    wanted = settings(PAIR, client={"verify": "require", "ca": "CA"})
    before = read_keyring(wanted).keyring
    Path("CA").write_text("nothing")
    keyring, problems, _ = read_keyring(wanted)
    assert problems == ["tls.client.ca: expected certificates in PEM in CA"]
    assert keyring is not None
    assert keyring.policies[0].ca == ""
    keyring, _, _ = read_keyring(wanted, before)
    assert keyring == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_key_that_others_can_read(authority: Authority, folder: Path, mode: int) -> None:
    """It is used, with a warning."""
    _, key = authority.issue("a", ("a.example",))
    key.chmod(mode)
    keyring, problems, warnings = read_keyring(settings(PAIR))
    assert not problems
    assert keyring is not None
    assert warnings == [
        f"tls.certificates[0]: a.key can be read by others than its owner (mode {mode:04o})"
    ]


@pytest.mark.parametrize(
    ("tls", "line"),
    [
        ({"certificates": [{}]}, "tls.certificates[0]: expected cert and key, or folder"),
        (
            {"certificates": [{"cert": "a", "folder": "b"}]},
            "tls.certificates[0]: expected cert and key, or folder",
        ),
        (
            {"certificates": [{"folder": "b", "key": "c"}]},
            "tls.certificates[0]: expected no key beside folder, which holds the keys, too",
        ),
        ({"client": {"verify": "require"}}, "tls.client: expected ca, for verify is require"),
        (
            {"client": {"verify": "on"}},
            'tls.client.verify: expected none, optional or require, got "on"',
        ),
        ({"redirect": 0}, "tls.redirect: expected true, false or a port from 1 to 65535, got 0"),
        (
            {"redirect": "yes"},
            'tls.redirect: expected true, false or a port from 1 to 65535, got "yes"',
        ),
        ({"hsts": "1y"}, 'tls.hsts: expected an object, got "1y"'),
        ({"hsts": {}}, "tls.hsts.max_age: is missing"),
        ({"hsts": -1}, "tls.hsts.max_age: expected an integer from 0 to 1099511627776, got -1"),
        *(
            (
                {"hsts": {"preload": True, **more}},
                "tls.hsts: expected subdomains and a max_age of at least 31536000 seconds, for"
                " preload is true",
            )
            for more in (
                {"max_age": 31536000},
                {"max_age": 31535999, "subdomains": True},
            )
        ),
        ({"min_version": "1.1"}, 'tls.min_version: expected "1.2" or "1.3", got "1.1"'),
        ({"cyphers": "x"}, 'tls.cyphers: unknown key (did you mean "ciphers"?)'),
    ],
)
def test_settings_that_are_refused(tls: Any, line: str) -> None:
    """Before any file is read."""
    with pytest.raises(ConfigError) as caught:
        parse_settings({"tls": tls})
    assert list(caught.value.problems) == [line]


def test_process_without_tls_reads_nothing() -> None:
    """Nor does it need a certificate."""
    assert not Settings().needs_certificates
    assert read_keyring(Settings()).keyring == Keyring()
