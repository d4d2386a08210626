"""Debian's package: what goes into it, and what becomes of it on a machine.

``make deb`` builds it, which takes minutes, and ``make test-deb`` tries it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slardar.options import Options
from tests.integration.programs import CHECKOUT
from tests.packaging.machine import needed, run_inside

PARTS = CHECKOUT / "packaging" / "debian"
#: What lintian finds in the package, and why it stays.  What it says of files below
#: /opt/slardar is not asked: they are as the libraries' wheels have them.
LINTIAN = {
    # No package is uploaded to Debian, so there is no such bug, and no address yet.
    "initial-upload-closes-no-bugs",
    "bogus-mail-host",
    "bogus-mail-host-in-debian-changelog",
    # The commands have --help.
    "no-manual-page",
    # It is asked which process is slardar, and that one gets a signal.
    "maintainer-script-calls-systemctl",
}


@pytest.mark.parametrize("shown", [False, True])
def test_configuration_is_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shown: bool
) -> None:
    """As it is, and with the upstream that its last comment shows."""
    text = (PARTS / "slardar.yaml").read_text("utf-8")
    # The package makes the folder of the log.
    text = text.replace("file:/var/log/slardar/", f"file:{tmp_path}/")
    head, comment = text.split("# upstreams:\n")
    lines = comment.splitlines(keepends=True)
    assert len(lines) == 4
    if shown:
        text = head + "upstreams:\n" + "".join(line.removeprefix("# ") for line in lines)
    path = tmp_path / "slardar.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--config", str(path), "--check"])
    assert (ended.value.code, capsys.readouterr().out) == (0, "ok\n")


@pytest.mark.real
@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_script_is_one_for_every_shell(name: str) -> None:
    """It stops at the first failure, and dash can read it."""
    text = (PARTS / name).read_text("utf-8")
    assert text.startswith("#!/bin/sh\nset -e\n")
    shell = shutil.which("dash") or "/bin/sh"
    subprocess.run([shell, "-n", PARTS / name], check=True, timeout=60)


@pytest.mark.real
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_understands_the_drop_in(tmp_path: Path) -> None:
    """The unit of the examples is the package's, with a lasting user."""
    text = (CHECKOUT / "examples" / "slardar.service").read_text("utf-8")
    assert "DynamicUser=yes\n" in text
    (tmp_path / "slardar.service").write_text(
        text.replace("/opt/slardar/bin/twistd", sys.executable)
    )
    (tmp_path / "slardar.service.d").mkdir()
    shutil.copy(PARTS / "user.conf", tmp_path / "slardar.service.d")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "slardar.service"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = [line for line in done.stderr.splitlines() if "slardar" in line]
    assert (said, done.returncode) == ([], 0)


def test_scripts_and_unit_name_the_same_paths() -> None:
    """The program, the file, the store and the log are where the unit expects them."""
    unit = (CHECKOUT / "examples" / "slardar.service").read_text("utf-8")
    made = (CHECKOUT / "packaging" / "make_deb").read_text("utf-8")
    config = (PARTS / "slardar.yaml").read_text("utf-8")
    assert "ExecStart=/opt/slardar/bin/twistd " in unit
    assert "script twistd twisted.scripts.twistd run\n" in made
    assert "--config /etc/slardar/slardar.yaml\n" in unit
    assert "WorkingDirectory=/var/lib/slardar\n" in unit
    assert '"sqlite:/var/lib/slardar/slardar.db"' in config
    rotated = (CHECKOUT / "examples" / "logrotate.conf").read_text("utf-8")
    assert "\n/var/log/slardar/access.log {\n" in rotated
    assert '"file:/var/log/slardar/access.log"' in config


@pytest.fixture
def package() -> Path:
    """The package that ``make deb`` has built."""
    return needed("SLARDAR_TEST_DEB")


@pytest.mark.real
def test_environment_has_nothing_beside_it(package: Path) -> None:
    """Files that libraries put there serve nobody."""
    listed = subprocess.run(
        ["dpkg-deb", "--contents", package], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    found = set(re.findall(r"\./opt/slardar/([^/\s]+)", listed))
    assert found == {"bin", "lib", "pyvenv.cfg"}


@pytest.mark.real
def test_lintian(package: Path) -> None:
    """Debian's own look at the package finds nothing but what is meant."""
    done = subprocess.run(
        ["lintian", "--allow-root", "--no-tag-display-limit", package],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    found = re.findall(r"^[EW]: slardar: (\S+)(.*)$", done.stdout, re.MULTILINE)
    assert "dir-or-file-in-opt" in dict(found)
    others = [one for one in found if "[opt/slardar/" not in one[1]]
    assert [one for one in others if one[0] not in LINTIAN] == []


@pytest.mark.real
def test_life_of_a_package(package: Path, tmp_path: Path) -> None:
    """Installed, it serves as its own user; its log is rotated; an upgrade fails no request; and
    what was purged has left nothing."""
    root = needed("SLARDAR_TEST_ROOT")
    given = tmp_path / "given"
    given.mkdir()
    shutil.copy(package, given / "first.deb")
    shutil.copy(Path(__file__).with_name("inside_deb.py"), given)
    # The same once more, as a later version.
    later = tmp_path / "later"
    subprocess.run(["dpkg-deb", "--raw-extract", package, later], check=True, timeout=300)
    control = later / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^(Version: .*)$", r"\1.1", control.read_text()))
    subprocess.run(
        ["dpkg-deb", "-Zgzip", "-z1", "--build", later, given / "second.deb"],
        check=True,
        timeout=300,
    )
    try:
        said = run_inside(root, tmp_path / "layer", given, "python3", "/given/inside_deb.py")
    finally:
        # pytest keeps the folders of some runs, and these are large.
        for folder in (later, given, tmp_path / "layer"):
            shutil.rmtree(folder, ignore_errors=True)
    steps = [line for line in said.splitlines() if " " not in line]
    assert steps == ["installed", "serves", "rotated", "upgraded", "purged"], said
