"""How a place in etcd is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from slardar.errors import ConfigError
from slardar.plugins import check_store, open_store
from slardar.stores.etcd import tree_at
from tests.certificates import Authority


@pytest.fixture(autouse=True)
def _no_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETCD_USER", raising=False)
    monkeypatch.delenv("ETCD_PASSWORD", raising=False)


@pytest.mark.parametrize(
    ("place", "prefix", "name"),
    [
        ("http://etcd:2379/slardar/", "/slardar/", "etcd http://etcd:2379"),
        ("http://etcd/slardar", "/slardar/", "etcd http://etcd:2379"),
        ("https://a:1,b:2/x/y/", "/x/y/", "etcd https://a:1"),
        ("http://[::1]:2379/a%20b/?timeout=0.5", "/a b/", "etcd http://[::1]:2379"),
        ("http://[::1],10.0.0.1/s/?credentials=/etc/file", "/s/", "etcd http://[::1]:2379"),
    ],
)
def test_places(place: str, prefix: str, name: str) -> None:
    """The path is the beginning of the keys as it stands, with one slash at its end."""
    tree = tree_at(place, Clock())
    assert (tree.prefix, tree.name) == (prefix, name)


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("", 'expected http://HOST:2379/slardar/ after it, got ""'),
        ("etcd:2379/s/", 'expected http://HOST:2379/slardar/ after it, got "etcd:2379/s/"'),
        ("ftp://a/s/", 'expected http://HOST:2379/slardar/ after it, got "ftp://a/s/"'),
        ("http://a", "expected a path for the keys, such as /slardar/"),
        ("http://a//", "expected a path for the keys, such as /slardar/"),
        ("http://a/s/#x", 'expected http://HOST:2379/slardar/ after it, got "http://a/s/#x"'),
        ("http://a,,b/s/", 'expected members as HOST:PORT,HOST:PORT, got ""'),
        ("http://a..b/s/", 'expected members as HOST:PORT,HOST:PORT, got "a..b"'),
        ("http://[:::]/s/", 'expected members as HOST:PORT,HOST:PORT, got "[:::]"'),
        ("http://a:0/s/", 'expected members as HOST:PORT,HOST:PORT, got "a:0"'),
        ("http://a:99999/s/", 'expected members as HOST:PORT,HOST:PORT, got "a:99999"'),
        (
            "http://joe:secret@a/s/",
            "expected no user and password in the URL:"
            " give ETCD_USER and ETCD_PASSWORD, or credentials=FILE",
        ),
        ("ftp://joe:secret@a/s/", "expected http://HOST:2379/slardar/ after it"),
        (
            "http://a/s/?wait=1",
            'unknown option "wait", expected one of ca, cert, credentials, key, timeout',
        ),
        ("http://a/s/?timeout=1&timeout=2", "option timeout: expected one value"),
        ("http://a/s/?credentials=", "option credentials: expected one value"),
        ("http://a/s/?timeout=x", 'option timeout: expected seconds from 0.1 to 60, got "x"'),
        ("http://a/s/?timeout=nan", 'option timeout: expected seconds from 0.1 to 60, got "nan"'),
        ("http://a/s/?timeout=0", 'option timeout: expected seconds from 0.1 to 60, got "0"'),
        ("http://a/s/?ca=x", "expected https with the option ca"),
        ("https://a/s/?key=x", "expected the option cert with key"),
    ],
)
def test_wrong_places_are_refused(place: str, problem: str) -> None:
    """In one line, when the configuration is checked."""
    with pytest.raises(ConfigError) as caught:
        check_store(f"etcd:{place}")
    assert str(caught.value) == f"store: etcd: {problem}"


def test_user_without_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a password without a user."""
    for name, missing in (("ETCD_USER", "ETCD_PASSWORD"), ("ETCD_PASSWORD", "ETCD_USER")):
        with monkeypatch.context() as patch:
            patch.setenv(name, "x")
            with pytest.raises(ConfigError, match=f"there is no {missing}$"):
                check_store("etcd:http://a/s/")


def test_files_are_read_when_the_store_is_opened(tmp_path: Path) -> None:
    """A check of the configuration may run elsewhere, so it does not look at them."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("mine")
    _, other = authority.issue("other")
    broken = tmp_path / "broken.pem"
    broken.write_text("secret text")

    def problem(**options: Any) -> str:
        url = f"etcd:https://a/s/?{'&'.join(f'{name}={file}' for name, file in options.items())}"
        check_store(url)
        with pytest.raises(ConfigError) as caught:
            open_store(url, Clock())
        return str(caught.value)

    assert problem(ca=tmp_path / "none") == (
        f"store: etcd: {tmp_path}/none: No such file or directory"
    )
    assert problem(ca=broken) == f"store: etcd: {broken}: expected certificates in PEM"
    assert problem(cert=broken, key=key).startswith(f"store: etcd: {broken}: expected")
    for wrong in (broken, other):
        assert problem(cert=cert, key=wrong).startswith(f"store: etcd: {wrong}: expected")
    assert problem(cert=cert).startswith(f"store: etcd: {cert}: expected")
    together = tmp_path / "together.pem"
    together.write_bytes(cert.read_bytes() + key.read_bytes())
    open_store(f"etcd:https://a/s/?cert={together}", Clock())
    open_store(f"etcd:https://a/s/?ca={authority.file}&cert={cert}&key={key}", Clock())
