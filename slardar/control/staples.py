"""Answers of OCSP that lie beside certificates: read, and checked before clients see them.

Clients that ask for it get the answer together with the certificate ("stapled", RFC 6066 8).
Something else asks the CA for it, and writes it to a file.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from slardar.errors import SlardarError

__all__ = ["MAX_STAPLE", "StapleError", "checked_staple"]

#: Bytes of an answer, at most.  They are some hundreds; clients get them in each handshake.
MAX_STAPLE: Final = 1 << 16
#: How much a CA's clock may be ahead.
_SKEW: Final = timedelta(minutes=5)


class StapleError(SlardarError):
    """An answer must not be sent; the text says why."""


def checked_staple(data: bytes, cert: str, now: datetime | None = None) -> int:
    """When an answer in DER ends, in epoch seconds, once it has been checked.

    ``cert`` is the certificate that it is for in PEM, with those behind it that lead to the CA.
    Raises StapleError, unless the answer says that the certificate is good, and until when,
    and is signed by the issuer; the signature is left alone if the issuer is not in ``cert``.
    """
    now = datetime.now(timezone.utc) if now is None else now
    chain = x509.load_pem_x509_certificates(cert.encode())
    leaf = chain[0]
    issuer = next((one for one in chain[1:] if _has_issued(one, leaf)), None)
    try:
        answer: Any = ocsp.load_der_ocsp_response(data)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise StapleError(f"the CA gave no answer: {answer.response_status.name.lower()}")
        found = next((one for one in answer.responses if _is_for(one, leaf, issuer)), None)
        if found is None:
            raise StapleError("it is for another certificate")
        if found.certificate_status is not ocsp.OCSPCertStatus.GOOD:
            raise StapleError(f"the certificate is {found.certificate_status.name.lower()}")
        if found.this_update_utc > now + _SKEW:
            raise StapleError(f"it begins at {found.this_update_utc:%Y-%m-%d %H:%M} UTC")
        ends: datetime | None = found.next_update_utc
        if ends is None:
            raise StapleError("it does not say until when it is good")
        if ends <= now:
            raise StapleError(f"it was good until {ends:%Y-%m-%d %H:%M} UTC")
        if issuer is not None and not _is_signed(answer, issuer, now):
            raise StapleError("its signature is not that of the certificate's issuer")
    except (ValueError, UnsupportedAlgorithm):
        raise StapleError("expected an answer of OCSP in DER") from None
    return int(ends.timestamp())


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_for(one: Any, leaf: x509.Certificate, issuer: x509.Certificate | None) -> bool:
    """Whether a part of an answer is for this certificate (RFC 6960 4.1.1)."""
    if one.serial_number != leaf.serial_number:
        return False
    digest = hashes.Hash(one.hash_algorithm)
    digest.update(leaf.issuer.public_bytes())
    if digest.finalize() != one.issuer_name_hash:
        return False
    if issuer is None:
        return True
    request = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, one.hash_algorithm)
    return request.build().issuer_key_hash == one.issuer_key_hash  # type: ignore[no-any-return]


def _is_signed(answer: Any, issuer: x509.Certificate, now: datetime) -> bool:
    """Whether the issuer has signed it, or whom it has named for that (RFC 6960 4.2.2.2)."""
    named = (one for one in answer.certificates if _may_sign(one, issuer, now))
    return any(_has_signed(one.public_key(), answer) for one in (issuer, *named))


def _may_sign(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    is_valid = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
    return (
        is_valid and ExtendedKeyUsageOID.OCSP_SIGNING in uses and _has_issued(issuer, certificate)
    )


def _has_signed(key: Any, answer: Any) -> bool:
    signature, signed = answer.signature, answer.tbs_response_bytes
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), answer.signature_hash_algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(answer.signature_hash_algorithm))
        else:
            key.verify(signature, signed)
    except (InvalidSignature, TypeError, UnsupportedAlgorithm):
        return False
    return True
