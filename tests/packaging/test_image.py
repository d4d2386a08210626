"""The image that the Dockerfile makes, on a machine without Docker and without a registry.

Debian's buildah builds it; its base is the Debian that ``packaging/debian_root`` has made, in the
place of ``debian:bookworm-slim``.  ``make test-image`` runs this test.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.programs import CHECKOUT
from tests.packaging.machine import needed, run_inside

pytestmark = pytest.mark.real

#: How this machine's pip finds packages, and which certificates are trusted: for the build.
OF_THIS_MACHINE = ("/etc/pip.conf", "/etc/xdg/pip", "/usr/local/share/ca-certificates")


class Buildah:
    """buildah with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self._command = ["buildah", "--root", f"{folder}/images", "--runroot", f"{folder}/run"]
        self._command += ["--storage-driver", "vfs"]

    def __call__(self, *words: str | Path) -> str:
        """What one of its commands prints, which must be good."""
        done = subprocess.run(
            [*self._command, *map(str, words)],
            check=False,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=1500,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
        return done.stdout.strip()


def built_and_run(root: Path, folder: Path) -> str:
    """What ``inside_image.py`` says in the image that is built on ``root``."""
    buildah = Buildah(folder)
    base = buildah("from", "scratch")
    buildah("add", "--quiet", base, root, "/")
    for name in OF_THIS_MACHINE:
        if Path(name).exists():
            buildah("add", "--quiet", base, name, name)
    where = ("--isolation", "chroot", "--network", "host")
    buildah("run", *where, base, "update-ca-certificates")
    buildah("commit", "--quiet", "--rm", base, "localhost/base:machine")
    buildah(
        *("build", *where, "--pull-never", "--format", "docker", "--tag", "localhost/slardar"),
        *("--build-arg", "DEBIAN=localhost/base:machine", "--build-arg", "SLARDAR_COMPILE=0"),
        CHECKOUT,
    )
    made = buildah("from", "--pull-never", "localhost/slardar")
    files = buildah("mount", made)
    inspected = json.loads(buildah("inspect", "--type", "image", "localhost/slardar"))
    given = folder / "given"
    given.mkdir()
    (given / "config.json").write_text(json.dumps(inspected["Docker"]["config"]))
    shutil.copy(Path(__file__).with_name("inside_image.py"), given)
    try:
        return run_inside(
            Path(files), folder / "layer", given, "/usr/bin/python3", "/given/inside_image.py"
        )
    finally:
        buildah("umount", made)


def test_image(tmp_path: Path) -> None:
    """It becomes healthy, serves without a capability, and finishes requests when it is stopped."""
    needed("SLARDAR_TEST_IMAGE")
    root = needed("SLARDAR_TEST_ROOT")
    try:
        said = built_and_run(root, tmp_path)
    finally:
        # pytest keeps the folders of some runs, and these are large.
        for folder in ("images", "layer"):
            shutil.rmtree(tmp_path / folder, ignore_errors=True)
    assert re.findall(r"^(?:healthy|serves|drained)\b", said, re.MULTILINE) == [
        "healthy",
        "serves",
        "drained",
    ], said
