"""Heartbeats, as an operator meets them: twistd, real workers and real servers."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import Program, free_port
from tests.integration.test_workers import Team, until
from tests.integration.upgrades import Upgraded

#: Heartbeats as often as a test wants them, and so seldom that nothing but what is known
#: already can say that a server is out.
OFTEN = {"interval": 0.3, "timeout": 0.25}
SELDOM = {"interval": 600}
#: With one attempt for a request, each request that is sent to a dead server fails.
ONCE = {"try": 1, "retry_on": []}


class Backend(Program):
    """``python -m http.server`` on a port of its own, which it keeps when it is started anew."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
        super().__init__(command, folder)
        self.port = int(self.wait_for(r"port (\d+)")[1])

    @property
    def server(self) -> dict[str, Any]:
        """As an upstream names it."""
        return {"host": "127.0.0.1", "port": self.port}


@pytest.fixture
def good(tmp_path: Path, start: Start) -> Backend:
    """A server that works."""
    backend: Backend = start(Backend(tmp_path / "good"))
    return backend


class Site:
    """slardar with one upstream ``a``."""

    def __init__(self, team: Any) -> None:
        self.team = team

    def put(self, *servers: Any, **keys: Any) -> None:
        """Set the upstream."""
        body = {"servers": list(servers), **keys}
        assert self.team.call("PUT", "/upstream/a", body) == (200, {"status": 200})

    def about(self, server: dict[str, Any]) -> dict[str, Any]:
        """A server in the status."""
        name = f"a:{server['host']}:{server['port']}"
        (level,) = self.team.status()["cls:a"]
        (found,) = (one for one in level if one["server"] == name)
        return dict(found)

    def until(self, server: dict[str, Any], status: str) -> dict[str, Any]:
        """Wait until a server has a status, without sending any request; what it is then."""
        until(lambda: self.about(server)["status"] == status, f"it is {status}")
        return self.about(server)

    def ask(self, count: int = 30) -> set[int]:
        """The statuses of requests on connections of their own, so that all workers get some."""
        return {self.team.get("a")[0] for _ in range(count)}


@pytest.fixture
def site(tmp_path: Path, start: Start, request: Any) -> Site:
    """slardar with two workers, or as many as the parameter says."""
    (tmp_path / "slardar").mkdir()
    file = tmp_path / "slardar" / "slardar.yaml"
    file.write_text(json.dumps({"health": OFTEN}))
    count = getattr(request, "param", 2)
    return Site(start(Team(tmp_path / "slardar", "--config", str(file), count=count)).ready())


def test_a_killed_server_is_noticed_without_a_request(
    site: Site, good: Backend, tmp_path: Path, start: Start
) -> None:
    """It gets no request until heartbeats bring it back; the log tells both once."""
    killed: Backend = start(Backend(tmp_path / "killed"))
    site.put(good.server, killed.server, **ONCE)
    for backend in (good, killed):
        assert site.until(backend.server, "ok")["requests"] == 0
    status = site.team.status()
    assert status["checkup_timer_alive"] is True
    assert status["last_check_time"] >= status["start_time"]
    assert site.ask() == {200}
    killed.signal(signal.SIGKILL)
    killed.wait()
    found = site.until(killed.server, "err")
    assert found["msg"] == "Connection refused"
    assert found["fail_num"] >= 1
    assert site.ask() == {200}
    assert site.about(killed.server)["failures"] == 0
    start(Backend(tmp_path / "killed", killed.port))
    site.until(killed.server, "ok")
    before = site.about(killed.server)["requests"]
    assert site.ask() == {200}
    until(lambda: site.about(killed.server)["requests"] > before, "it gets requests again")
    place = f"server 127.0.0.1:{killed.port} is"
    assert site.team.output.count(f"{place} out of service: heartbeats: Connection refused") == 1
    assert site.team.output.count(f"{place} back in service") == 1


@pytest.mark.parametrize("site", [0], indirect=True)
def test_a_stopped_server_answers_too_late(
    site: Site, good: Backend, tmp_path: Path, start: Start
) -> None:
    """Its kernel takes connections, so only a question finds out."""
    stopped: Backend = start(Backend(tmp_path / "stopped"))
    query = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    site.put(good.server, stopped.server, typ="http", http_opts={"query": query}, **ONCE)
    site.until(stopped.server, "ok")
    stopped.signal(signal.SIGSTOP)
    try:
        assert site.until(stopped.server, "err")["msg"] == "no answer within 0.25 s"
        assert site.ask() == {200}
    finally:
        stopped.signal(signal.SIGCONT)
    site.until(stopped.server, "ok")


@pytest.mark.parametrize("site", [0], indirect=True)
def test_all_servers_fail(site: Site) -> None:
    """The last one stays in service; without protection the reply says that there is none."""
    server = {"host": "127.0.0.1", "port": free_port()}
    other = {"host": "127.0.0.1", "port": free_port()}
    both = (server, other)
    site.put(*both)
    until(
        lambda: sorted(site.about(one)["status"] for one in both) == ["err", "unstable"],
        "one of them is protected",
    )
    site.put(*both, protected=False)
    for one in both:
        site.until(one, "err")
    status, body = site.team.get("a")
    assert status == 502
    assert "no servers available" in body


def test_what_is_known_outlives_workers_and_hup(site: Site, good: Backend) -> None:
    """A wrong address that was added by hand is never chosen, also by a worker that is new; a
    heartbeat that would tell it is far away."""
    site.put(good.server, **SELDOM, **ONCE)
    site.until(good.server, "ok")
    wrong = {"host": "127.0.0.1", "port": free_port()}
    code, _ = site.team.call("POST", f"/upstream/a/127.0.0.1:{wrong['port']}", {})
    assert code == 200
    found = site.until(wrong, "err")
    assert (found["msg"], found["fail_num"]) == ("Connection refused", 1)
    assert site.ask() == {200}
    for pid in site.team.pids().values():
        os.kill(pid, signal.SIGKILL)
    until(site.team.are_alive, "other workers serve")
    assert site.ask() == {200}
    site.team.signal(signal.SIGHUP)
    site.team.wait_for("read again: nothing of upstreams")
    # An edit of another server resets nothing, either.
    path = f"/upstream/a/127.0.0.1:{good.port}"
    assert site.team.call("PATCH", path, {"weight": 5})[0] == 200
    assert site.about(wrong)["lastmodified"] == found["lastmodified"]
    assert site.about(wrong)["status"] == "err"
    assert site.ask() == {200}


@pytest.mark.parametrize("count", [0, 2])
def test_what_is_known_outlives_an_upgrade(
    tmp_path: Path, start: Start, good: Backend, count: int
) -> None:
    """The next generation begins with it, and does not log it again."""
    folder = tmp_path / "slardar"
    folder.mkdir()
    team = start(Upgraded(folder, count=count))
    team.ready()
    site = Site(team)
    wrong = {"host": "127.0.0.1", "port": free_port()}
    site.put(good.server, wrong, **SELDOM, **ONCE)
    before = site.until(wrong, "err")
    site.until(good.server, "ok")
    team.upgrade()
    after = site.about(wrong)
    assert {key: after[key] for key in ("status", "msg", "fail_num", "lastmodified")} == {
        key: before[key] for key in ("status", "msg", "fail_num", "lastmodified")
    }
    assert site.about(good.server)["status"] == "ok"
    assert site.ask() == {200}
    line = f"server 127.0.0.1:{wrong['port']} is out of service"
    assert team.output.count(line) == 1
