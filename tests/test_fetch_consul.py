"""``scripts/fetch_consul``: which source it asks, and what it says when consul cannot be had."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

pytestmark = pytest.mark.real

#: Stands for apt-get: keeps the source that it is given, and does as the file ``fails`` says.
APT_GET = """#!/bin/bash
for word in "$@"; do
    case $word in Dir::Etc::SourceParts=*) parts=${word#*=} ;; esac
done
for last; do :; done
case $last in
update)
    echo >>"$HERE/updates"
    cat "$parts"/* >"$HERE/source"
    if [ -e "$HERE/unknown" ] && ! grep -qi 'trusted[:=] *yes' "$HERE/source"; then
        echo 'W: NO_PUBKEY 0123456789'
        exit 100
    fi
    if [ -e "$HERE/unreachable" ]; then
        echo 'W: Some index files are old'
        echo 'E: Could not connect'
        exit 100
    fi
    ;;
consul)
    if [ -e "$HERE/empty" ]; then
        echo 'E: Unable to locate package consul'
        exit 100
    fi
    touch consul_1_any.deb
    ;;
esac
"""
DPKG = """#!/bin/bash
mkdir -p "$3/usr/bin"
echo '#!/bin/sh' >"$3/usr/bin/consul"
chmod 755 "$3/usr/bin/consul"
"""
SUITE = platform.freedesktop_os_release().get("VERSION_CODENAME", "none")
PLAIN = f"""Types: deb deb-src
URIs: http://127.0.0.1/debian
Suites: {SUITE} {SUITE}-updates
Components: main contrib
"""
#: The file's name, what is in it, and the source that is made of it.
SOURCES = [
    (
        "a.sources",
        f"# a comment\n{PLAIN}Signed-By: /some/keyring.gpg\n",
        "Types: deb\nURIs: http://127.0.0.1/debian\nSuites: bullseye\nComponents: main\n"
        "Signed-By: /some/keyring.gpg\n",
    ),
    (
        "security-first.sources",
        f"Types: deb\nURIs: http://127.0.0.1/security\nSuites: {SUITE}-security\n"
        f"Components: main\n\n{PLAIN}",
        "Types: deb\nURIs: http://127.0.0.1/debian\nSuites: bullseye\nComponents: main\n",
    ),
    (
        "disabled-first.sources",
        f"Enabled: no\n{PLAIN}\n{PLAIN.replace('/debian', '/second')}",
        "Types: deb\nURIs: http://127.0.0.1/second\nSuites: bullseye\nComponents: main\n",
    ),
    (
        "plain.list",
        f"deb http://127.0.0.1/debian {SUITE} main contrib # all\n",
        "deb http://127.0.0.1/debian bullseye main\n",
    ),
    (
        "options.list",
        f"# deb http://127.0.0.1/no {SUITE} main\ndeb-src http://127.0.0.1/no {SUITE} main\n"
        f"deb http://127.0.0.1/no {SUITE}-security main\n"
        f"deb http://127.0.0.1/no {SUITE} contrib\n"
        f"deb [arch=amd64 signed-by=/k.gpg] http://127.0.0.1/debian {SUITE} contrib main\n",
        "deb [arch=amd64 signed-by=/k.gpg] http://127.0.0.1/debian bullseye main\n",
    ),
]


def fetch(here: Path, name: str, text: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a machine that has this one source."""
    parts = here / "sources"
    parts.mkdir()
    (parts / name).write_text(text)
    programs = here / "programs"
    programs.mkdir()
    for program, code in (("apt-get", APT_GET), ("dpkg", DPKG)):
        (programs / program).write_text(code)
        (programs / program).chmod(0o755)
    configuration = here / "apt.conf"
    configuration.write_text(
        f'Dir::Etc::SourceList "{here}/none";\nDir::Etc::SourceParts "{parts}";\n'
    )
    return subprocess.run(
        [CHECKOUT / "scripts" / "fetch_consul", here / "folder"],
        env={
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "APT_CONFIG": str(configuration),
            "HERE": str(here),
        },
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(("name", "text", "wanted"), SOURCES)
def test_source_is_the_machines_own(tmp_path: Path, name: str, text: str, wanted: str) -> None:
    """The address and the options stay; the suite and the components are others."""
    done = fetch(tmp_path, name, text)
    assert (tmp_path / "source").read_text().strip() == wanted.strip()
    assert done.stderr == ""
    assert os.access(tmp_path / "folder/usr/bin/consul", os.X_OK)


@pytest.mark.parametrize("name", ["a.sources", "options.list", "plain.list"])
def test_signature_is_not_asked_for_without_the_key(tmp_path: Path, name: str) -> None:
    """Only a keyring without the key of the old suite makes it trusted without a signature."""
    (tmp_path / "unknown").touch()
    text = next(text for known, text, _ in SOURCES if known == name)
    done = fetch(tmp_path, name, text)
    assert "signature is not checked" in done.stderr
    assert len((tmp_path / "updates").read_text()) == 2
    assert (tmp_path / "folder/usr/bin/consul").exists()


@pytest.mark.parametrize(
    ("trouble", "text", "said"),
    [
        ("unreachable", PLAIN, "E: Could not connect"),
        ("empty", PLAIN, "E: Unable to locate package consul"),
        ("other", "", f"no source of packages of this machine has its suite {SUITE}"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, trouble: str, text: str, said: str) -> None:
    """One line says why; it is kept for the tests that are skipped, and nothing fails."""
    (tmp_path / trouble).touch()
    done = fetch(tmp_path, "a.sources", text)
    assert done.stderr == f"consul is missing: {said}\n"
    assert (tmp_path / "folder/missing").read_text() == done.stderr
    assert not (tmp_path / "folder/usr").exists()
