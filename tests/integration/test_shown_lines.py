"""Lines of logs, and answers, that the pages show without a command: slardar says them so.

One slardar with a worker, a file and tokens does what the pages tell of.  Numbers on the pages are
examples.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.book import DOCS, blocks
from tests.integration.conftest import Start
from tests.integration.programs import CHECKOUT, Backends, Program, Slardar, curl, free_port
from tests.integration.test_normal import pattern
from tests.integration.test_workers import until

pytestmark = pytest.mark.real


def shown(page: str, word: str) -> str:
    """The text block of a page that has this word."""
    (text,) = [text for text in blocks(DOCS / page, "text") if word in text]
    return text


def same_kinds(shown: Any, said: Any) -> bool:
    """Whether two values have the same keys in the same order, with values of the same types."""
    if isinstance(shown, dict) and isinstance(said, dict):
        return list(shown) == list(said) and all(same_kinds(shown[key], said[key]) for key in shown)
    return type(shown) is type(said)


def test_kinds_can_differ() -> None:
    """Another key, order or type is found."""
    assert same_kinds({"a": 1, "b": {"c": None}}, {"a": 2, "b": {"c": None}})
    for other in (
        {"b": {"c": None}, "a": 1},
        {"a": 1, "b": {"d": None}},
        {"a": "1", "b": {"c": 1}},
    ):
        assert not same_kinds({"a": 1, "b": {"c": None}}, other)


class Site(Slardar):
    """slardar with the tokens of the page on control."""

    folder: Path

    def ask(self, method: str, path: str, body: object = None, token: str = "ops") -> Any:
        """The answer to a call."""
        words = ["-X", method, "-H", f"Authorization: Bearer {token}"]
        if body is not None:
            words += ["--data-binary", json.dumps(body)]
        return json.loads(curl(f"http://127.0.0.1:{self.control}{path}", *words)[1])

    def says(self, line: str) -> None:
        """Wait for a line of its log, which is JSON."""
        self.wait_for(f'"message":"{pattern(line)}"')


def token(name: str, role: str) -> dict[str, str]:
    """A token whose text is its name."""
    return {"name": name, "role": role, "sha256": hashlib.sha256(name.encode()).hexdigest()}


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """A server."""
    program = Backends(tmp_path_factory.mktemp("server"), 1)
    yield program
    program.end()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, backend: Backends) -> Iterator[Site]:
    """slardar with a worker, a file, tokens and two access logs."""
    folder = tmp_path_factory.mktemp("site")
    servers = [{"host": "127.0.0.1", "port": backend.ports[0]}]
    configured = {
        "control": {"tokens": [token("ops", "admin"), token("grafana", "read")]},
        "access_log": [
            {"to": "file:access.log"},
            {"to": "file:combined.log", "format": "combined"},
        ],
        "upstreams": {"api.example.com": {"enable": False, "servers": servers}},
        "default_upstream": "api.example.com",
    }
    (folder / "slardar.yaml").write_text(yaml.safe_dump(configured))
    program = Site(folder, "--config", "slardar.yaml", "--workers", "1", "--log-format", "json")
    try:
        program.folder = folder
        program.port = int(program.wait_for(r"requests on tcp 127\.0\.0\.1:(\d+)")[1])
        program.control = int(program.wait_for(r"control on tcp 127\.0\.0\.1:(\d+)")[1])
        yield program
    finally:
        program.end()


def test_lines_about_requests(site: Site, backend: Backends) -> None:
    """The access logs, and the log about servers and errors."""
    url = site.url("/who?x=1")
    www = ("-H", "Host: www.example.com")
    servers = [{"host": "127.0.0.1", "port": backend.ports[0]}]
    site.ask("PUT", "/upstream/www.example.com", {"enable": False, "servers": servers})
    assert curl(url, *www)[0] == 200
    log = site.folder / "access.log"
    until(lambda: "/who" in log.read_text(), "the request is logged")
    assert same_kinds(json.loads(shown("access-log.md", '"time"')), json.loads(log.read_text()))
    combined = site.folder / "combined.log"
    until(lambda: "/who" in combined.read_text(), "the request is logged")
    # The month is one of the days on which the tests run.
    wanted = re.sub(r"/[A-Z][a-z]{2}/", "/[A-Z][a-z]{2}/", pattern(shown("access-log.md", " - - ")))
    assert re.fullmatch(wanted, combined.read_text().strip())

    gone = [{"host": "127.0.0.1", "port": free_port(), "max_fails": 1, "fail_timeout": 1}]
    site.ask("PUT", "/upstream/www.example.com", {"enable": False, "servers": gone})
    assert curl(url, *www)[0] == 502
    error, _ = shown("http.md", "502 for").splitlines()
    site.says(error)
    found = site.wait_for(f'.*"message":"{pattern(error)}".*')
    assert same_kinds(json.loads(shown("running.md", '"message"')), json.loads(found[0]))


def test_lines_about_changes(site: Site, backend: Backends) -> None:
    """Who changes what, who may not, and what a rollback leaves to the file."""
    name, port = "/upstream/www.example.com", backend.ports[0]
    first = {"host": "127.0.0.1", "port": port, "weight": 5}
    second = {"host": "127.0.0.1", "port": free_port()}
    assert site.ask("PUT", name, {"servers": [first], "mode": "wrr"}) == {"status": 200}
    version = site.ask("GET", "/status")["shd_config_version"]
    body = {"servers": [first | {"weight": 1}, second], "mode": "p2c"}
    assert site.ask("PUT", name, body) == {"status": 200}
    site.says(shown("control.md", "version 7:"))
    assert site.ask("PUT", "/upstream/shop", body, token="grafana")["status"] == 403
    site.says(shown("control.md", "refused with 403"))

    configured = yaml.safe_load((site.folder / "slardar.yaml").read_text())
    configured["upstreams"]["api.example.com"]["mode"] = "p2c"
    configured["default_upstream"] = "www.example.com"
    (site.folder / "slardar.yaml").write_text(yaml.safe_dump(configured))
    site.signal(signal.SIGHUP)
    site.wait_for("read again")
    answer = site.ask("POST", f"/rollback/{version}")
    assert answer | {"version": 12} == json.loads(shown("history.md", '"file"'))


def test_lines_about_health(site: Site, backend: Backends, start: Start) -> None:
    """A server that goes, comes back, and goes again."""
    refused, back, beaten = shown("health.md", "out of service").splitlines()
    port = free_port()
    servers = [
        {"host": "127.0.0.1", "port": port, "max_fails": 1, "fail_timeout": 1},
        {"host": "127.0.0.1", "port": backend.ports[0]},
    ]
    name = "/upstream/health.example.com"

    def says(line: str) -> bool:
        assert site.get("health.example.com")[0] == 200
        return re.search(f'"message":"{pattern(line)}"', site.output) is not None

    assert site.ask("PUT", name, {"enable": False, "servers": servers}) == {"status": 200}
    until(lambda: says(refused), refused)
    program = [sys.executable, str(CHECKOUT / "examples" / "backends.py"), str(port)]
    again = start(Program(program, site.folder))
    until(lambda: says(back), back)
    again.end()
    servers[0]["max_fails"] = 0
    assert site.ask("PUT", name, {"enable": True, "interval": 1, "servers": servers}) == {
        "status": 200
    }
    site.says(beaten)
