"""A clean Debian in a folder: programs run in it as root, and leave nothing behind.

Its files are a layer over a folder that ``packaging/debian_root`` has made.  It has a network with
the loopback device alone, so every port is free, and processes of its own, which end with it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

__all__ = ["needed", "run_inside"]

#: What ``make test-deb`` and ``make test-image`` say.
_GIVEN = {
    "SLARDAR_TEST_ROOT": "a clean Debian",
    "SLARDAR_TEST_DEB": "a package",
    "SLARDAR_TEST_IMAGE": "the wish to build an image",
}

_START = """
set -euo pipefail
root=$1 folder=$2 given=$3
shift 3
ip link set lo up
mkdir "$folder"/{upper,work,all}
cd "$folder"
mount -t overlay overlay -o "lowerdir=$root,upperdir=upper,workdir=work" all
cd all
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mkdir given
mount --bind "$given" given
# This shell stays: its end is the end of all others, and it lets no zombies be.
chroot . /usr/bin/env -i LANG=C.UTF-8 HOME=/root \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@" || exit
"""


def needed(name: str) -> Path:
    """What a variable of ``make`` names; without the variable the test is skipped."""
    if name not in os.environ:
        pytest.skip(f"make test-deb and make test-image have {_GIVEN[name]}")
    return Path(os.environ[name]).resolve()


def run_inside(root: Path, folder: Path, given: Path, *command: str) -> str:
    """The output of a command, which must be good and finds ``given`` as ``/given``."""
    folder.mkdir()
    own = ("--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child")
    done = subprocess.run(
        ["unshare", *own, "bash", "-c", _START, "start", root, folder, given, *command],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
