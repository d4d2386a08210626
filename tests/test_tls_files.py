"""The files of TLS to servers: what is taken, and what is said of the rest."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.python import usage

from slardar import plugins
from slardar.errors import ConfigError
from slardar.model.parse import parse_upstream
from slardar.model.server import TlsOpts
from slardar.options import Options
from slardar.tls_files import read_again, read_tls, warn_unverified, with_files
from tests.certificates import Authority
from tests.dataplane.kit import logged


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Signs certificates in the present folder."""
    monkeypatch.chdir(tmp_path)
    return Authority(Path())


def test_what_is_read(authority: Authority) -> None:
    """Only the blocks, and of each file its own."""
    cert, key = authority.issue("c", ("c",))
    Path("both.pem").write_text(f"note \u00e9\n{key.read_text()}{cert.read_text()}")
    apart = read_tls(TlsOpts(ca="ca.pem", cert="c.pem", key="c.key"), "x")
    assert (apart.ca, apart.cert) == (authority.file.read_text(), cert.read_text())
    assert apart.key == key.read_text()
    together = read_tls(TlsOpts(cert="both.pem"), "x")
    assert (together.cert, together.key) == (apart.cert, apart.key)
    inline = read_tls(TlsOpts(ca=authority.file.read_text()), "x")
    assert (inline.ca, inline.ca_file) == (apart.ca, "")


def test_what_is_refused(authority: Authority) -> None:
    """With the key, the file and the reason, and nothing of the file."""
    authority.issue("c", ("c",))
    authority.issue("d", ("d",))
    Path("empty.pem").touch()
    Path("large.pem").write_bytes(b"x" * (4 << 20) + b"x")
    locked = load_pem_private_key(Path("c.key").read_bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    Path("locked.key").write_bytes(locked)
    Path("broken.pem").write_text(
        "-----BEGIN CERTIFICATE-----\nU0VDUkVU\n-----END CERTIFICATE-----\n"
    )
    cases: list[tuple[TlsOpts, str]] = [
        (TlsOpts(ca="none.pem"), "x.ca: cannot read none.pem: No such file or directory"),
        (TlsOpts(ca="."), "x.ca: cannot read .: Is a directory"),
        (TlsOpts(ca="empty.pem"), "x.ca: expected certificates of CAs in PEM in empty.pem"),
        (TlsOpts(ca="broken.pem"), "x.ca: expected certificates of CAs in PEM in broken.pem"),
        (TlsOpts(ca="large.pem"), "x.ca: large.pem has more than 4194304 bytes"),
        (TlsOpts(cert="c.pem"), "x.cert: expected the key of c.pem in PEM in c.pem"),
        (TlsOpts(cert="c.key"), "x.cert: expected a certificate in PEM in c.key"),
        (
            TlsOpts(cert="c.pem", key="d.key"),
            "x.cert: OpenSSL refuses c.pem with d.key: the key is not that of the certificate",
        ),
        (TlsOpts(cert="c.pem", key="locked.key"), "x.cert: OpenSSL refuses c.pem with locked.key"),
        (TlsOpts(cert="broken.pem", key="c.key"), "x.cert: OpenSSL refuses broken.pem with c.key"),
    ]
    for options, line in cases:
        with pytest.raises(ConfigError) as caught:
            read_tls(options, "x")
        (problem,) = caught.value.problems
        assert problem.startswith(line)
        assert "SECRET" not in problem
        assert "U0VD" not in problem


def test_file_that_changes_is_read_again(authority: Authority, tmp_path: Path) -> None:
    """One that does not is the same text, however many upstreams name it."""
    one = read_tls(TlsOpts(ca="ca.pem"), "x")
    assert read_tls(TlsOpts(ca="ca.pem"), "y").ca is one.ca
    (tmp_path / "other").mkdir()
    os.replace(Authority(tmp_path / "other").file, "ca.pem")
    assert read_again(one, "x").ca == Path("ca.pem").read_text() != one.ca


def test_upstream_with_its_files(authority: Authority) -> None:
    """The control channel and the file read them as they are checked."""
    servers = [{"host": "a", "port": 1}, {"host": "b", "port": 2, "tls": {"ca": "ca.pem"}}]
    body = {"servers": servers, "tls": {"ca": "none.pem"}}
    with pytest.raises(ConfigError, match=r"^upstreams\.a\.tls\.ca: cannot read none\.pem: "):
        parse_upstream("a", body, "upstreams.a", plugins)
    body = {"servers": servers, "tls": {"ca": "ca.pem"}}
    upstream = parse_upstream("a", body, "upstreams.a", plugins)
    assert [one.is_read for one in upstream.all_tls] == [True]
    assert with_files(upstream) is upstream
    assert with_files(parse_upstream("a", body, "upstreams.a")) == upstream


def test_start_with_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """It ends with the line."""
    upstream = {"servers": [{"host": "a", "port": 1}], "tls": {"ca": "/none.pem"}}
    file = tmp_path / "slardar.yaml"
    file.write_text(json.dumps({"upstreams": {"a": upstream}}))
    with pytest.raises(usage.UsageError) as caught:
        Options().parseOptions(["--config", str(file)])
    line = "upstreams.a.tls.ca: cannot read /none.pem: No such file or directory"
    assert str(caught.value) == f"{file}: {line}"


def test_servers_that_are_not_verified_are_named_once(tmp_path: Path) -> None:
    """When it is set, and not with each change of something else."""
    servers = [{"host": "a", "port": 1}]
    loose = [
        parse_upstream(f"u{number}", {"servers": servers, "tls": {"verify": False}}, "x")
        for number in range(7)
    ]
    strict = [parse_upstream("u0", {"servers": servers, "tls": True}, "x")]
    with logged() as events:
        warn_unverified(strict, {})
        warn_unverified(loose, {})
        warn_unverified(loose, {one.name: one for one in loose})
        warn_unverified(loose[:1], {"u0": strict[0]})
    named = ", ".join(f"upstreams.u{number}" for number in range(5))
    assert [event["names"] for event in events] == [f"{named} and 2 more", "upstreams.u0"]
