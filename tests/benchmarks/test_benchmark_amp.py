"""The measurement of changes over AMP."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.integration.programs import CHECKOUT


@pytest.mark.real
def test_it_measures_all_three_ways() -> None:
    """A few changes of a slardar that it starts and ends."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.amp", "--changes", "5", "--workers", "0"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == [
        "the store alone",
        "over AMP",
        "over HTTP",
    ]
    assert "more than the store alone" in lines[3]
