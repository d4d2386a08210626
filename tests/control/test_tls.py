"""The certificate of the control channels."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from OpenSSL import SSL

from slardar.config import ControlTls
from slardar.control.tls import ServerTls
from slardar.errors import ConfigError
from tests.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_files_are_read_again(authority: Authority) -> None:
    """A broken pair leaves the one in service."""
    cert, key = authority.issue("a")
    tls = ServerTls(ControlTls(str(cert), str(key), str(authority.file)))
    before = tls._context
    key.write_text("nonsense")
    with pytest.raises(ConfigError, match=r"control\.tls\.key"):
        tls.reload()
    assert tls._context is before
    authority.issue("a")
    tls.reload()
    assert tls._context is not before


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_caller_that_comes_again(authority: Authority, version: ssl.TLSVersion) -> None:
    """It is let in, by a full handshake: a browser comes with the session that it has."""
    cert, key = authority.issue("a")
    tls = ServerTls(ControlTls(str(cert), str(key), str(authority.file)))
    context = authority.client()
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(*authority.issue("ops", ("ops",)))

    def connect(session: ssl.SSLSession | None = None) -> ssl.SSLObject:
        server = tls.serverConnectionForTLS(None)
        server.set_accept_state()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, session=session)
        for _ in range(4):
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
            if outgoing.pending:
                server.bio_write(outgoing.read())
            with suppress(SSL.WantReadError):
                server.do_handshake()
            with suppress(SSL.WantReadError):
                incoming.write(server.bio_read(1 << 16))
        # Tickets of TLS 1.3 come behind the handshake.
        server.send(b"x")
        incoming.write(server.bio_read(1 << 16))
        assert client.read(1) == b"x"
        return client

    again = connect(connect().session)
    assert not again.session_reused


@pytest.mark.parametrize(
    ("which", "content", "line"),
    [
        ("cert", None, "control.tls.cert: cannot read"),
        ("cert", "", "control.tls.cert: expected certificates in PEM in"),
        (
            "cert",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "control.tls.cert: ",
        ),
        ("key", None, "control.tls.key: cannot read"),
        ("key", "", "control.tls.key: expected the key of"),
        ("ca", None, "control.tls.client_ca: cannot read"),
        ("ca", "x", "control.tls.client_ca: expected certificates in PEM in"),
    ],
)
def test_broken_files_are_told(
    authority: Authority, which: str, content: str | None, line: str
) -> None:
    """In one line that names the key and the file, and has nothing of its content."""
    cert, key = authority.issue("a")
    files = {"cert": cert, "key": key, "ca": authority.file}
    if content is None:
        files[which].unlink()
    else:
        files[which].write_text(content)
    with pytest.raises(ConfigError) as caught:
        ServerTls(ControlTls(str(cert), str(key), str(authority.file)))
    (told,) = caught.value.problems
    assert told.startswith(line)
    assert str(files[which]) in told
    assert "\n" not in told


def test_key_of_another_certificate_is_refused(authority: Authority) -> None:
    cert, _ = authority.issue("a")
    _, key = authority.issue("b")
    with pytest.raises(
        ConfigError, match=rf"control\.tls\.key: expected the key of {cert} in PEM in {key}: "
    ):
        ServerTls(ControlTls(str(cert), str(key)))
