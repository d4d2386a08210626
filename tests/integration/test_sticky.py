"""``sticky`` as a client's browser meets it: over a restart, on two nodes, when a server goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from tests.integration.conftest import Start
from tests.integration.programs import Nginx, Slardar

HOST = "sticky.example"
SECRET = "one secret for all nodes"


class Browser:
    """A client that keeps its cookies."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        #: The Set-Cookie of the last reply, if it had one.
        self.given: str | None = None

    def ask(self, node: Slardar) -> str:
        """The body of a reply."""
        reply = self._session.get(node.url(), headers={"Host": HOST}, timeout=20)
        assert reply.status_code == 200
        self.given = reply.headers.get("Set-Cookie")
        return reply.text


def node(start: Start, folder: Path, *options: str) -> Slardar:
    """A slardar."""
    slardar: Slardar = start(Slardar(folder, "--store", "sqlite:state.db", *options))
    return slardar.ready()


def test_session(start: Start, tmp_path: Path) -> None:
    """A browser gets a cookie once, and stays on its server over a restart and on another node;
    when the server goes, it gets the cookie of another one."""
    servers: list[dict[str, Any]] = []
    for number in range(3):
        back = start(Nginx(tmp_path / f"nginx{number}", f'location / {{ return 200 "{number}"; }}'))
        host, port = back.address.split(":")
        servers.append({"host": host, "port": int(port)})
    upstream = {
        "mode": "sticky",
        "mode_opts": {"secret": SECRET, "max_age": 3600},
        "servers": servers,
    }
    path = f"/upstream/{HOST}"
    first = node(start, tmp_path / "first", "--workers", "2")
    status, answer = first.call("PUT", path, {**upstream, "mode_opts": {}})
    assert status == 400
    assert "mode_opts.secret: expected a string of at least 16" in str(answer)
    assert first.call("PUT", path, upstream)[0] == 200
    assert SECRET not in str(first.call("GET", path))

    browsers = [Browser() for _ in range(6)]
    homes = [browser.ask(first) for browser in browsers]
    assert set(homes) == {"0", "1", "2"}
    for browser in browsers:
        assert browser.given is not None
        assert browser.given.endswith("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax")
    for browser, home in zip(browsers, homes, strict=True):
        assert {browser.ask(first) for _ in range(3)} == {home}
        assert browser.given is None

    # While its server drains, a browser stays; no new one comes.
    place = f"{path}/{servers[0]['host']}:{servers[0]['port']}"
    assert first.call("PATCH", place, {"state": "drain"})[0] == 200
    for browser, home in zip(browsers, homes, strict=True):
        assert (browser.ask(first), browser.given) == (home, None)
    assert {Browser().ask(first) for _ in range(9)} == {"1", "2"}
    assert first.call("PATCH", place, {"state": "up"})[0] == 200

    first.stop()
    again = node(start, tmp_path / "first")
    second = node(start, tmp_path / "second")
    assert second.call("PUT", path, {**upstream, "servers": servers[::-1]})[0] == 200
    for browser, home in zip(browsers, homes, strict=True):
        assert (browser.ask(again), browser.ask(second), browser.given) == (home, home, None)

    left = servers[1:]
    assert again.call("PUT", path, {**upstream, "servers": left})[0] == 200
    for browser, home in zip(browsers, homes, strict=True):
        now = browser.ask(again)
        assert now != "0"
        assert (now == home) == (browser.given is None) == (home != "0")
        assert browser.ask(again) == now
