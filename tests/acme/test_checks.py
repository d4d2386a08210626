"""What is wrong with the settings of ACME."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from slardar.acme.checks import problems_of_acme
from slardar.config import Settings, parse_settings
from slardar.control.certificates import read_keyring
from slardar.errors import ConfigError
from tests.certificates import Authority


def read(store: str = "sqlite:a.db", tls: Any = None, **acme: Any) -> Settings:
    """Settings with ACME for one name."""
    acme = {"hosts": ["a.example"], **acme}
    return parse_settings(
        {"store": store, "listen": ["tls:1"], "tls": {"acme": acme, **(tls or {})}}
    )


def test_defaults() -> None:
    """Of keys that are left out."""
    acme = read().tls.acme
    assert acme is not None
    assert acme.directory == "https://acme-v02.api.letsencrypt.org/directory"
    assert (acme.hosts, acme.email, acme.ca) == (("a.example",), None, None)
    assert Settings().tls.acme is None
    assert problems_of_acme(Settings()) == []
    assert problems_of_acme(read()) == []


@pytest.mark.parametrize(
    ("acme", "line"),
    [
        ({"hosts": []}, "tls.acme.hosts: expected at least one name"),
        (
            {"hosts": ["a.example", "*.b.example"]},
            'tls.acme.hosts[1]: expected a name without a star, got "*.b.example": a certificate'
            " for a wildcard needs DNS-01, which slardar does not speak",
        ),
        (
            {"hosts": ["192.0.2.1"]},
            'tls.acme.hosts[0]: expected a name such as www.example.com, got "192.0.2.1"',
        ),
        (
            {"hosts": ["http://a.example"]},
            'tls.acme.hosts[0]: expected a name such as www.example.com, got "http://a.example"',
        ),
        ({"hosts": ["a.example", "A.example"]}, 'tls.acme.hosts[1]: "A.example" is given twice'),
        ({"hosts": "a.example"}, 'tls.acme.hosts: expected a list of names of hosts, got "a.exa'),
        ({"email": "me"}, 'tls.acme.email: expected an address of e-mail, got "me"'),
        (
            {"directory": "http://ca.example/"},
            'tls.acme.directory: expected a URL that begins with https://, got "http://ca.example/"',
        ),
        ({"ca": 1}, "tls.acme.ca: expected the name of a file, got 1"),
        ({"mail": "x"}, "tls.acme.mail: unknown key"),
    ],
)
def test_key_that_is_refused(acme: dict[str, Any], line: str) -> None:
    """In one line."""
    with pytest.raises(ConfigError) as caught:
        read(**acme)
    assert [problem[: len(line)] for problem in caught.value.problems] == [line]


@pytest.mark.parametrize("name", ["a.example", "localhost", "A-1.xn--a-b.example", "1.a"])
def test_names_that_a_certificate_can_be_for(name: str) -> None:
    """In any case."""
    assert problems_of_acme(read(hosts=[name])) == []


def test_store_that_forgets_is_refused() -> None:
    """With the reason."""
    (line,) = problems_of_acme(read("memory:"))
    assert line.startswith("tls.acme: expected a store that keeps, for a CA signs only so many")


def test_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert problems_of_acme(read()) == [
        "tls.acme: this needs the package acme: pip install 'txslardar[acme]'"
    ]


def test_file_of_cas(tmp_path: Path) -> None:
    """It is there, and has certificates."""
    authority = Authority(tmp_path)
    assert problems_of_acme(read(ca=str(authority.file))) == []
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("x")
    assert problems_of_acme(read(ca=str(wrong))) == [
        f"tls.acme.ca: expected certificates in PEM in {wrong}"
    ]
    assert problems_of_acme(read(ca=f"{tmp_path}/none")) == [
        f"tls.acme.ca: cannot read {tmp_path}/none: No such file or directory"
    ]


def test_no_other_certificate_is_needed() -> None:
    """And the default may be a name that will get one."""
    found = read_keyring(read(tls={"default": "A.example"}))
    assert (found.problems, found.warnings) == ([], [])
    found = read_keyring(read(tls={"default": "b.example"}))
    assert [line.partition(": no")[0] for line in found.warnings] == ["tls.default"]
