"""Requests, certificates for CAs, and the names of certificates."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from slardar.acme import keys

BEGINS = datetime(2026, 1, 1, tzinfo=timezone.utc)


def certificate(serial: int, issuer: bytes | None) -> str:
    """A certificate with this serial number, whose issuer's key has this identifier."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(BEGINS)
        .not_valid_after(BEGINS + timedelta(days=90))
    )
    if issuer is not None:
        made = made.add_extension(x509.AuthorityKeyIdentifier(issuer, None, None), False)
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_request_is_for_one_name() -> None:
    """It is signed with the key that it asks a certificate for."""
    key = keys.made_key()
    found = x509.load_der_x509_csr(keys.request_for("a.example", key))
    assert found.is_signature_valid
    assert found.public_key() == load_pem_private_key(key.encode(), None).public_key()
    (extension,) = found.extensions
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    assert list(extension.value) == [x509.DNSName("a.example")]


def test_certificate_for_a_ca() -> None:
    """RFC 8737 3: one name, and the hash of the key authorization in a critical extension."""
    cert, key = keys.challenge_pair("a.example", "token.thumb")
    found = x509.load_pem_x509_certificate(cert.encode())
    found.verify_directly_issued_by(found)
    assert found.public_key() == load_pem_private_key(key.encode(), None).public_key()
    extension = found.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    assert extension.critical
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    assert extension.value.value == b"\x04\x20" + hashlib.sha256(b"token.thumb").digest()
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.DNSName("a.example")]


def test_name_of_a_certificate_in_questions() -> None:
    """The example of RFC 9773 4.1."""
    issuer = bytes.fromhex("69885b6b87464041e1b37b847ba0ae2cde01c8d4")
    found = keys.certificate_id(certificate(0x8765432100, issuer))
    assert keys.certificate_id(certificate(0x87654321, issuer)) == (
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
    )
    assert found == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyEA"
    # Without a byte for the sign.
    assert keys.certificate_id(certificate(0x7F, issuer)).endswith(".fw")


@pytest.mark.parametrize("pem", ["", "x", certificate(1, None)])
def test_certificate_without_such_a_name(pem: str) -> None:
    """It is renewed without a question."""
    with pytest.raises(ValueError, match="issuer's key"):
        keys.certificate_id(pem)


def test_validity() -> None:
    """In epoch seconds."""
    begins, ends = keys.validity(certificate(1, None))
    assert begins == BEGINS.timestamp()
    assert ends - begins == 90 * 86400
    with pytest.raises(ValueError, match="expected a certificate"):
        keys.validity("x")
