"""What is shown of a certificate, and what a history keeps of it."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest

from slardar.model.certificate import described, kept_of
from slardar.model.change import Change, Recorded, StoredState, Value, differences
from tests.certificates import Authority

PAIR = {"cert": "x", "key": "PRIVATE"}


def test_certificate_is_described(tmp_path: Path) -> None:
    """The hash is the one that a browser shows; of a chain the first certificate counts."""
    authority = Authority(tmp_path)
    cert, _ = authority.issue("a", ("a.example", "*.B.example"))
    pem = cert.read_text()
    found = described(f"a note\n{pem}{authority.file.read_text()}")
    assert found.names == ("a.example", "*.b.example")
    assert (found.issuer, found.subject) == ("CN=test ca", "CN=a.example")
    assert found.sha256 == hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    assert found.expires - found.not_before == 25 * 3600
    kept = kept_of("certificate", {"cert": pem, "key": "PRIVATE"})
    names = ["a.example", "*.b.example"]
    assert kept == {"names": names, "expires": found.expires, "sha256": found.sha256}


@pytest.mark.parametrize(
    "value", [5, {}, {"cert": 5}, PAIR, {"cert": "-----BEGIN CERTIFICATE-----\nAAAA\n"}]
)
def test_history_keeps_nothing_of_what_is_no_certificate(value: object) -> None:
    """But that there was something."""
    assert kept_of("certificate", value) == {}


def test_history_keeps_nothing_of_what_is_removed_nor_of_other_kinds() -> None:
    """What the client of a CA keeps is no part of it."""
    assert kept_of("certificate", None) is None
    assert kept_of("acme", PAIR) is None


def test_no_repr_shows_a_private_key() -> None:
    """It may get into a traceback."""
    change = Change("certificate", "a", PAIR, "test", 1.0)
    state = StoredState(certificates={"a": PAIR}, acme={"b": PAIR}, settings={"c": 1})
    values = differences(StoredState(), state)
    assert [one.path for one in values] == ["settings.c", "certificates.a", "acme.b"]
    shown = repr((change, Recorded(1, change, None), state, values, Value("acme", "x", PAIR)))
    assert "PRIVATE" not in shown
    assert "certificates.a" in shown
    assert "settings.c = 1" in shown
