"""What a scanner finds on the real program with default settings: nothing weak."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from xml.etree import ElementTree

import pytest

from tests.integration.programs import PATIENCE
from tests.integration.test_tls import Site

#: What Mozilla's intermediate configuration has, without the suites of DHE.
SUITES = {
    ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256"),
    ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("TLSv1.2", "ECDHE-RSA-CHACHA20-POLY1305"),
    ("TLSv1.3", "TLS_AES_128_GCM_SHA256"),
    ("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"),
}
GROUPS = {"secp256r1 (NIST P-256)", "secp384r1 (NIST P-384)", "x25519"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """slardar with an ECDSA and an RSA pair for one name."""
    with ExitStack() as stack:
        site = Site(tmp_path_factory.mktemp("site"), stack)
        site.authority.issue("certs/a-rsa", ("a.example", "*.w.example"), rsa_bits=2048)
        yield site.start()


@pytest.fixture(scope="module")
def report(site: Site) -> ElementTree.Element:
    """The report of sslscan, which tries all versions and suites with its own OpenSSL."""
    file = site.folder / "scan.xml"
    subprocess.run(
        ["sslscan", f"--xml={file}", "--sni-name=a.example", f"127.0.0.1:{site.port}"],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    found = ElementTree.parse(file).find("ssltest")
    assert found is not None
    return found


def test_versions(report: ElementTree.Element) -> None:
    """TLS 1.2 and 1.3, and none of the old ones."""
    versions = {
        (one.get("type"), one.get("version")): one.get("enabled") for one in report.iter("protocol")
    }
    assert len(versions) == 6
    assert {version for version, enabled in versions.items() if enabled == "1"} == {
        ("tls", "1.2"),
        ("tls", "1.3"),
    }


def test_suites(report: ElementTree.Element) -> None:
    """All have forward secrecy and AEAD, and all that are wanted are there."""
    suites = list(report.iter("cipher"))
    assert {(one.get("sslversion"), one.get("cipher")) for one in suites} == SUITES
    assert {one.get("strength") for one in suites} <= {"strong", "acceptable"}
    assert all(int(one.get("ecdhebits", "0")) >= 253 for one in suites)


def test_groups(report: ElementTree.Element) -> None:
    """None that is weak, and none that takes the server long."""
    for version in ("TLSv1.2", "TLSv1.3"):
        found = {
            one.get("name") for one in report.iter("group") if one.get("sslversion") == version
        }
        assert found == GROUPS, version


def test_faults_of_former_days(report: ElementTree.Element) -> None:
    """Heartbleed and renegotiation."""
    assert {one.get("vulnerable") for one in report.iter("heartbleed")} == {"0"}
    (renegotiation,) = report.iter("renegotiation")
    assert renegotiation.get("supported") == "0"


def test_client_that_falls_back(site: Site) -> None:
    """Somebody between it and the server may have made it do so (RFC 7507)."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{site.port}", "-servername", "a.example",
         "-tls1_2", "-fallback_scsv"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "inappropriate fallback" in done.stderr
