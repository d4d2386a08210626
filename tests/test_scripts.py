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


@pytest.mark.parametrize(
    ("quick", "real", "outcome", "said"),
    [
        (0, 0, 0, ["quick tests: passed", "real tests: passed"]),
        (1, 0, 1, ["quick tests: FAILED", "real tests: passed"]),
        (0, 1, 1, ["quick tests: passed", "real tests: FAILED"]),
        (1, 1, 1, ["quick tests: FAILED", "real tests: FAILED"]),
        (5, 0, 0, ["quick tests: none selected", "real tests: passed"]),
        (0, 5, 0, ["quick tests: passed", "real tests: none selected"]),
        (1, 5, 1, ["quick tests: FAILED", "real tests: none selected"]),
        (5, 1, 1, ["quick tests: none selected", "real tests: FAILED"]),
        (5, 5, 5, ["quick tests: none selected", "real tests: none selected"]),
        (2, 0, 2, []),
        (4, 0, 4, []),
        (0, 2, 2, []),
    ],
)
@pytest.mark.parametrize("wanted", ["all", "quick"])
def test_outcomes_are_added_up(
    tmp_path: Path, wanted: str, quick: int, real: int, outcome: int, said: list[str]
) -> None:
    """A failure in either run fails; nothing selected in one is none; other ends end it."""
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "no").write_text(str(quick))
    (tmp_path / "only").write_text(str(real))
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
        assert len(ran) == (1 if quick in {2, 4} else 2)
        assert done.stdout.splitlines() == said
