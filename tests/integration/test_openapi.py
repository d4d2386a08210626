"""A running slardar answers nothing that its description does not allow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.conftest import Start
from tests.integration.programs import Slardar

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def test_schemathesis_finds_nothing(tmp_path: Path, start: Start) -> None:
    """It makes more than a thousand calls from the description, most of them wrong."""
    words = ("--store", "memory:", "--upstream", "www.example.com=127.0.0.1:8001,127.0.0.1:8002")
    slardar = start(Slardar(tmp_path, *words)).ready()
    command = [
        *(str(Path(sys.executable).with_name("st")), "run"),
        f"http://127.0.0.1:{slardar.control}/openapi.json",
        *("--checks", ",".join(CHECKS)),
        *("--phases", "examples,coverage,fuzzing"),
        # A stream has no end.
        *("--exclude-path", "/events"),
        *("--max-examples", "2", "--seed", "1", "--no-color"),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert "passed" in done.stdout
    assert slardar.call("GET", "/status")[0] == 200
