"""slardar in the process of a test, with stand-ins for the servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from slardar.errors import ConfigError
from slardar.testing.expectations import ServerReply
from slardar.testing.fixture import Start, slardar_site

__all__ = ["slardar_site"]

pytestmark = pytest.mark.real

CONFIG: dict[str, Any] = {
    "upstreams": {
        "www.example.com": {
            "servers": [
                {"host": "10.0.0.1", "port": 80},
                {"host": "web.internal", "port": 81},
                {"host": "10.0.0.3", "port": 80, "state": "drain"},
            ]
        },
        "api": {"servers": [{"host": "10.0.0.9", "port": 80}], "public": False},
        "gone": {"servers": [{"host": "10.0.0.9", "port": 80, "state": "down"}]},
        "named": {
            "cluster": {
                "dc1": {"servers": [{"host": "10.1.0.1", "port": 1}]},
                "dc2": {"servers": [{"host": "10.2.0.1", "port": 1}]},
            }
        },
    },
    "routes": [{"host": "www.example.com", "path": "/api/", "upstream": "api"}],
}
HOOK = """
def on_request(r):
    if r.path == "/private":
        r.reject(403, "no")
    r.headers["X-Tenant"] = settings["tenant"]


def on_response(r, response):
    response.headers["X-Seen"] = str(response.status)
"""


@pytest.fixture
def hooks(tmp_path: Path) -> dict[str, Path]:
    path = tmp_path / "tenant.py"
    path.write_text(HOOK)
    return {"script.www.example.com": path}


@pytest_twisted.ensureDeferred
async def test_way_of_requests(slardar_site: Start, hooks: dict[str, Path]) -> None:
    """Upstream, servers that may get it, what they get, and what the client gets."""
    site = await slardar_site({**CONFIG, "settings": {"tenant": "one"}}, hooks)
    outcome = await site.ask("http://www.example.com/x?y=1")
    assert (outcome.upstream, outcome.status, outcome.sent_line) == (
        "www.example.com",
        200,
        "GET /x?y=1",
    )
    assert outcome.servers == ("10.0.0.1:80", "web.internal:81")
    assert outcome.sent is not None
    assert outcome.sent["x-tenant"] == "one"
    assert outcome.sent["x-forwarded-for"] == "127.0.0.1"
    assert outcome.headers["x-seen"] == "200"
    assert outcome.hooks == ("python/script.www.example.com continues",)
    outcome = await site.ask("https://www.example.com/api/z")
    assert outcome.sent is not None
    assert (outcome.upstream, outcome.sent["x-forwarded-proto"]) == ("api", "https")
    outcome = await site.ask("http://www.example.com/private")
    assert (outcome.upstream, outcome.status, outcome.sent) == (None, 403, None)
    outcome = await site.ask("named")
    assert (outcome.upstream, outcome.status) == ("named", 200)


@pytest_twisted.ensureDeferred
async def test_servers_that_are_not_in_service(slardar_site: Start) -> None:
    """The stand-in is always there; the configuration counts."""
    site = await slardar_site(CONFIG)
    for host, upstream in (("gone", "gone"), ("nobody", None), ("api", None)):
        outcome = await site.ask(host)
        assert (outcome.upstream, outcome.status, outcome.servers) == (upstream, 502, ())
        assert outcome.sent is None


@pytest_twisted.ensureDeferred
async def test_client_and_reply(slardar_site: Start) -> None:
    site = await slardar_site({**CONFIG, "trusted": ["192.0.2.0/24"]})
    reply = ServerReply(503, {"Retry-After": "5"}, "later")
    outcome = await site.ask(
        "POST http://www.example.com/", {"X-Forwarded-For": "1.2.3.4"}, "abc", "2001:db8::1", reply
    )
    assert (outcome.status, outcome.body, outcome.headers["retry-after"]) == (503, "later", "5")
    assert outcome.sent is not None
    assert outcome.sent["x-forwarded-for"].endswith("2001:db8::1")
    assert outcome.sent["content-length"] == "3"


@pytest_twisted.ensureDeferred
async def test_hook_that_is_refused(slardar_site: Start, tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import os\n")
    with pytest.raises(ConfigError, match=r"script\.a: .*line 1"):
        await slardar_site(CONFIG, {"script.a": bad})
    with pytest.raises(ConfigError, match="expected a file that ends in"):
        await slardar_site(CONFIG, {"script.a": "none.txt"})
    with pytest.raises(ConfigError, match=r"upstreams\.a"):
        await slardar_site({"upstreams": {"a": 5}})


@pytest_twisted.ensureDeferred
async def test_file_of_expectations(slardar_site: Start, tmp_path: Path) -> None:
    file = tmp_path / "expected.yaml"
    file.write_text("expect:\n- {request: www.example.com/api/x, upstream: api, status: 200}\n")
    site = await slardar_site(CONFIG)
    assert await site.check_file(file) == []
    file.write_text(
        "expect:\n- {request: a, upstream: x, status: 200}\n"
        "- {request: www.example.com, name: home, status: 404}\n"
    )
    assert await site.check_file(file) == [
        'GET http://a/: upstream: expected "x", got none',
        "GET http://a/: status: expected 200, got 502",
        "home: status: expected 404, got 200",
    ]
