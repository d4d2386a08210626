"""``http`` and ``general`` against real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from slardar.health.probes.base import ProbeOptions, Result
from slardar.health.probes.general import General
from slardar.health.probes.http import Http
from tests.health.probes.real import beat
from tests.integration.programs import Nginx

pytestmark = pytest.mark.real


def test_nginx_is_asked(tmp_path: Path) -> None:
    """Its statuses and a hint of its own arrive; HTTP/1.0 and HTTP/1.1 both do."""
    server = """
        location = /ok { add_header X-Slardar-Hint weight=3; return 200 "fine"; }
        location = /bad { return 502; }
    """
    nginx = Nginx(tmp_path / "nginx", server)

    def ask(request: str) -> Result:
        query = request.encode() + b"\r\nHost: x\r\n\r\n"
        failed = frozenset({502})
        return beat(Http(ProbeOptions("http", "", query, failed)), nginx.port)

    try:
        for version in ("1.0", "1.1"):
            assert ask(f"GET /ok HTTP/{version}") == Result("ok", "", {}, "weight=3")
            assert ask(f"HEAD /ok HTTP/{version}") == Result("ok", "", {}, "weight=3")
            assert ask(f"GET /bad HTTP/{version}") == Result("err", "HTTP status 502")
            assert ask(f"GET /none HTTP/{version}") == Result("ok")
        assert beat(General(ProbeOptions()), nginx.port) == Result("ok")
    finally:
        nginx.end()
