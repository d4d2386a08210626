"""``scripts/run_tests``: both runs of pytest count, and either may have nothing to run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

pytestmark = pytest.mark.real

#: Stands for Python: writes its arguments down, and exits as the files ``no`` and ``only`` say.
PYTHON = """#!/bin/bash
printf '<%s>' "$@" >>ran
printf '\\n' >>ran
for word in "$@"; do
    case $word in --real=*) exit "$(cat "${word#--real=}")" ;; esac
done
"""


#: The exit codes of the quick, the real and the timed tests, and that of all together.
ENDS = [
    (0, 0, 0, 0),
    (1, 0, 0, 1),
    (0, 1, 0, 1),
    (0, 0, 1, 1),
    (1, 1, 1, 1),
    (5, 0, 5, 0),
    (0, 5, 0, 0),
    (1, 5, 5, 1),
    (5, 1, 0, 1),
    (5, 5, 0, 0),
    (5, 5, 5, 5),
    # Interrupted, or used wrongly: what comes after does not run.
    (2, 0, 0, 2),
    (4, 0, 0, 4),
    (0, 2, 0, 2),
    (0, 0, 2, 2),
]
SAID = {0: "passed", 1: "FAILED", 5: "none selected"}


@pytest.mark.parametrize(("quick", "real", "timed", "outcome"), ENDS)
@pytest.mark.parametrize("wanted", ["all", "quick"])
def test_outcomes_are_added_up(
    tmp_path: Path, wanted: str, quick: int, real: int, timed: int, outcome: int
) -> None:
    """A failure in any run fails; nothing selected in one is none; other ends end it."""
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "no").write_text(str(quick))
    (tmp_path / "beside").write_text(str(real))
    (tmp_path / "alone").write_text(str(timed))
    command = [CHECKOUT / "scripts" / "run_tests", "./python", wanted, "-k", "a b", "tests/x.py"]
    done = subprocess.run(
        command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    ran = (tmp_path / "ran").read_text().splitlines()
    assert all(line.startswith("<-m><pytest><--real=") for line in ran)
    assert all(line.endswith("<-k><a b><tests/x.py>") for line in ran)
    if wanted == "quick":
        assert (done.returncode, len(ran)) == (quick, 1)
        assert done.stdout == ""
    else:
        assert done.returncode == outcome
        ends = {"quick": quick, "real": real, "timed": timed}
        broken = next((place for place, end in enumerate(ends.values(), 1) if end in {2, 4}), 0)
        assert len(ran) == (broken or 3)
        said = [] if broken else [f"{name} tests: {SAID[end]}" for name, end in ends.items()]
        assert done.stdout.splitlines() == said
