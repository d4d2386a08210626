"""The certificate of the control channels."""

from __future__ import annotations

from pathlib import Path

import pytest

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
