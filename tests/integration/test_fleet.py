"""The fleet of the examples: a rolling deploy under load, with no failed request."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.consul_agent import consul_program
from tests.integration.programs import CHECKOUT

pytestmark = pytest.mark.real


def test_fleet_rolls_without_a_failed_request() -> None:
    """Six servers are replaced one after the other; both nodes serve the new ones, and every
    request is answered."""
    ran = subprocess.run(
        [sys.executable, str(CHECKOUT / "examples" / "fleet" / "fleet.py")],
        env={**os.environ, "CONSUL": consul_program()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "v1 is in the place of v0 on 6 servers" in ran.stdout
    counts = {name: int(count) for count, name in re.findall(r"(\d+) by (v\d)", ran.stdout)}
    assert set(counts) == {"v0", "v1"}
    assert min(counts.values()) > 100
    assert ran.stdout.endswith("; 0 failed\n")
