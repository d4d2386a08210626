"""The example runs as it says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.book import DOCS, blocks
from tests.consul_agent import ConsulAgent
from tests.integration.programs import CHECKOUT, Program, free_port

pytestmark = pytest.mark.real


def test_services(consul: ConsulAgent, tmp_path: Path) -> None:
    """It prints the servers of a service whenever they change, and says what is wrong."""
    example = str(CHECKOUT / "examples/txconsul/services.py")
    program = Program(
        [sys.executable, example, "shop", f"127.0.0.1:{free_port()}", consul.address], tmp_path
    )
    alone = Program([sys.executable, example, "shop", f"127.0.0.1:{free_port()}"], tmp_path)
    try:
        program.wait_for(r"^shop: no server$")
        for number in (1, 2):
            service = {"Name": "shop", "ID": f"s{number}", "Address": "10.0.0.1", "Port": number}
            asked = consul.request("PUT", "/v1/agent/service/register", json.dumps(service))
            assert asked.status == 200
        program.wait_for(r"^shop: 10\.0\.0\.1:1 10\.0\.0\.1:2$")
        consul.request("PUT", "/v1/agent/service/deregister/s1")
        program.wait_for(r"^shop: 10\.0\.0\.1:2$")
        alone.wait_for(r"^asking again in 1 s: 127\.0\.0\.1:\d+: Connection was refused")
    finally:
        program.end()
        alone.end()


def test_program_of_the_page(consul: ConsulAgent, tmp_path: Path) -> None:
    """It prints what it has put, and ends when the key changes."""
    (text,) = blocks(DOCS / "txconsul.md", "python")
    assert "8500" in text
    program = Program([sys.executable, "-c", text.replace("8500", str(consul.port))], tmp_path)
    try:
        program.wait_for("^b'hello'$")
        consul.put("greeting", "hi")
        assert program.wait() == 0, program.output
    finally:
        program.end()
