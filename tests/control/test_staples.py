"""Answers of OCSP: which ones may be sent, and what is said of the others."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from slardar.control.staples import StapleError, checked_staple
from tests.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs certificates and answers."""
    return Authority(tmp_path)


@pytest.fixture
def cert(authority: Authority) -> Path:
    """A certificate with that of its CA behind it."""
    path, _ = authority.issue("a", ("a.example",))
    path.write_text(path.read_text() + authority.file.read_text())
    return path


@pytest.mark.parametrize("delegated", [False, True])
def test_good_answer(authority: Authority, cert: Path, delegated: bool) -> None:
    """Signed by the CA, or by whom it has named for that."""
    signer = authority.responder() if delegated else None
    ends = checked_staple(authority.staple(cert, signer=signer), cert.read_text())
    assert abs(ends - datetime.now(timezone.utc).timestamp() - 3600) < 60


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"revoked": True}, "the certificate is revoked"),
        ({"ends": timedelta(minutes=-1)}, "it was good until 20"),
        ({"ends": None}, "it does not say until when it is good"),
        ({"begins": timedelta(minutes=30)}, "it begins at 20"),
    ],
)
def test_answer_that_is_not_sent(
    authority: Authority, cert: Path, answer: Any, reason: str
) -> None:
    """With the reason."""
    with pytest.raises(StapleError, match=reason):
        checked_staple(authority.staple(cert, **answer), cert.read_text())


def test_answer_of_somebody_else(authority: Authority, cert: Path, tmp_path: Path) -> None:
    """Another CA, or somebody whom the CA has not named, or no longer."""
    stranger = Authority(tmp_path, "stranger")
    for signer in (
        stranger.responder(),
        authority.responder(may_sign=False),
        authority.responder(ends=timedelta(minutes=-1)),
    ):
        with pytest.raises(StapleError, match="its signature is not that of"):
            checked_staple(authority.staple(cert, signer=signer), cert.read_text())
    spoilt = bytearray(authority.staple(cert))
    spoilt[-1] ^= 1  # of the signature
    with pytest.raises(StapleError, match="its signature is not that of"):
        checked_staple(bytes(spoilt), cert.read_text())
    # Nobody can say without the CA's certificate.
    leaf = cert.read_text().partition("-----END CERTIFICATE-----")
    checked_staple(authority.staple(cert, signer=stranger.responder()), leaf[0] + leaf[1])


def test_answer_for_another_certificate(authority: Authority, cert: Path) -> None:
    """Of the same CA."""
    other, _ = authority.issue("b", ("a.example",))
    with pytest.raises(StapleError, match="it is for another certificate"):
        checked_staple(authority.staple(other), cert.read_text())


@pytest.mark.parametrize("data", [b"", b"x", b"-----BEGIN", bytes(100)])
def test_what_is_no_answer(cert: Path, data: bytes) -> None:
    """Whatever is in the file."""
    with pytest.raises(StapleError, match="expected an answer of OCSP in DER"):
        checked_staple(data, cert.read_text())


def test_ca_that_gave_no_answer(cert: Path) -> None:
    """RFC 6960 4.2.1: tryLater."""
    with pytest.raises(StapleError, match="the CA gave no answer: try_later"):
        checked_staple(bytes.fromhex("30030a0103"), cert.read_text())
