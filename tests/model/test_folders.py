"""Folders that are open: what is found there, and what is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slardar.model.folders import opened
from tests.integration.programs import CHECKOUT

#: What another distribution may have, by file.
FILES = {
    "balancers/theirs.py": (
        "from slardar.balancers.base import Balancer\n"
        "class Theirs(Balancer):\n"
        "    modes = ('theirs', 'wrr')\n"
        "    def pick(self, servers, request): return servers[0]\n"
    ),
    "balancers/bad.py": "1 / 0\n",
    "balancers/worse.py": "raise SystemExit('no\\nlicence')\n",
    "health/probes/theirs.py": (
        "from slardar.health.probes.base import Probe\n"
        "class Theirs(Probe):\n"
        "    types = ('theirs',)\n"
        "    def begin(self): return None\n"
    ),
    "stores/theirs.py": "def from_place(place, reactor): return 'store at ' + place\n",
    "stores/bad.py": "import missing\n",
}
#: What is found of it.
LOOK = """
from slardar.balancers.wrr import WeightedRoundRobin
from slardar.errors import ConfigError
from slardar.plugins import balancer_factory, find_probe, open_store

assert balancer_factory("theirs").__name__ == find_probe("theirs").__name__ == "Theirs"
assert balancer_factory("wrr") is WeightedRoundRobin
assert open_store("theirs:here", None) == "store at here"
for make in (lambda: balancer_factory("bad"), lambda: open_store("bad:x", None)):
    try:
        make()
    except ConfigError as error:
        print(error)
"""


@pytest.mark.real
def test_files_of_another_distribution(tmp_path: Path) -> None:
    """Its balancers, probes and stores are found by their names; they take no name away from
    slardar's own, and a file that cannot be imported costs itself alone."""
    for name, text in FILES.items():
        file = tmp_path / "slardar" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{CHECKOUT}"}
    command = (sys.executable, "-c", LOOK)
    run = subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stderr == ""
    balancers, stores = run.stdout.splitlines()
    assert balancers.endswith(
        'package.module.Class, got "bad"'
        "; cannot import slardar.balancers.bad: ZeroDivisionError: division by zero"
        "; cannot import slardar.balancers.worse: SystemExit: no licence"
    )
    assert stores == (
        "store: cannot import slardar.stores.bad: ModuleNotFoundError: No module named 'missing'"
    )


def test_where_files_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everywhere on Python's path but in the current folder, and in no other slardar."""
    for place in ("a", "b", "whole", "here"):
        (tmp_path / place / "slardar" / "stores").mkdir(parents=True)
    (tmp_path / "whole" / "slardar" / "stores" / "__init__.py").touch()
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(tmp_path / "here")
    places = ("whole", "b", "here", "link", "missing", "a", "b")
    monkeypatch.setattr(sys, "path", ["", ".", *(str(tmp_path / place) for place in places)])
    assert opened(["own"], "slardar.stores") == [
        "own",
        str(tmp_path / "b" / "slardar" / "stores"),
        str(tmp_path / "a" / "slardar" / "stores"),
    ]


def test_current_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths mean nothing then; the others are searched."""
    place = tmp_path / "a" / "slardar" / "stores"
    place.mkdir(parents=True)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "path", ["", ".", "lib", str(tmp_path / "a")])
    assert opened(["own"], "slardar.stores") == ["own", str(place)]
