"""Services whose servers are containers: twistd, a stand-in for Docker and, where it runs, Docker
itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import threads

from tests.docker_daemon import DockerDaemon
from tests.integration.conftest import Start
from tests.integration.programs import Slardar, free_port
from tests.integration.sockets import in_thread, wait_for
from tests.integration.test_names import Backend, Load, backends
from tests.stand_ins import Docker, container

BODY = {"docker_service": "web", "empty_grace": 0.5}


@pytest.fixture
def two() -> Iterator[list[Backend]]:
    """Servers at 127.0.0.1 and 127.0.0.2, on one port."""
    with backends("127.0.0.1", "127.0.0.2") as servers:
        yield servers


def running(start: Start, folder: Path, docker: str) -> Slardar:
    """slardar with two workers, and Docker at this socket."""
    slardar: Slardar = start(Slardar(folder, "--workers", "2", DOCKER_HOST=f"unix://{docker}"))
    return slardar.ready()


def shown(slardar: Slardar) -> dict[str, Any]:
    """What the status says of the service."""
    found: dict[str, Any] = slardar.call("GET", "/status")[1]["services"]["web"]
    return found


@in_thread
def test_traffic_follows_containers(tmp_path: Path, start: Start, two: list[Backend]) -> None:
    """A container that is gone gets no more requests, and none fails.  While Docker is away the
    last servers stay, and what has changed meanwhile is seen when it is back."""
    from twisted.internet import reactor  # noqa: TID251

    def on_reactor(function: Callable[..., Any], *arguments: Any) -> Any:
        return threads.blockingCallFromThread(reactor, function, *arguments)

    labels = {"slardar.port": str(two[0].server_address[1])}
    one, other = (str(server.server_address[0]) for server in two)
    first, second = (
        container(f"c{host[-1]}", address=host, labels=labels) for host in (one, other)
    )
    docker: Docker = on_reactor(Docker, reactor)
    on_reactor(docker.runs, first)
    path = on_reactor(docker.listen, str(tmp_path / "s"))
    slardar = running(start, tmp_path, path)
    assert slardar.call("PUT", "/service/web", BODY)[0] == 200
    # The first request after the call already finds a server.
    assert slardar.get("web") == (200, one)
    load = Load(slardar, 3)
    try:
        on_reactor(docker.runs, first, second)
        wait_for(lambda: load.seen() == {one, other}, "the second container")
        on_reactor(docker.runs, second)
        wait_for(lambda: load.seen() == {other}, "the end of the first container")
        on_reactor(docker.stop)
        wait_for(lambda: "lookup" in shown(slardar), "the failure")
        assert shown(slardar)["docker_service"] == "web"
        assert shown(slardar)["servers"] == 1
        assert load.seen() == {other}
        docker.containers = [first]
        Path(path).unlink(missing_ok=True)
        on_reactor(docker.listen, path)
        wait_for(lambda: load.seen() == {one}, "Docker that is back")
        wait_for(lambda: "lookup" not in shown(slardar), "the end of the failure")
    finally:
        load.stop()
        on_reactor(docker.stop)
    assert load.wrong == []


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerDaemon]:
    """Docker itself."""
    daemon = DockerDaemon(tmp_path_factory.mktemp("docker") / "d")
    yield daemon
    daemon.end()


def test_traffic_follows_docker(tmp_path: Path, start: Start, daemon: DockerDaemon) -> None:
    """A container serves once its health check says so, and no longer when it is paused or
    removed."""
    slardar = running(start, tmp_path, daemon.socket)
    # A paused container accepts connections and never answers.
    body = {**BODY, "empty_grace": 0, "read_timeout": 1}
    assert slardar.call("PUT", "/service/web", body)[0] == 200
    assert slardar.get("web")[0] == 502
    first = daemon.serve("one", free_port(), "web")
    wait_for(lambda: slardar.get("web") == (200, "one"), "the first container")
    check = ["CMD", "/usr/bin/test", "-e", "/tmp/ok"]
    health = {"Test": check, "Interval": 200_000_000, "Retries": 1}
    second = daemon.serve("two", free_port(), "web", Healthcheck=health)
    stranger = daemon.serve("three", free_port(), "other")
    wait_for(lambda: "(unhealthy)" in str(daemon.call("GET", "/containers/json")), "the check")
    assert shown(slardar)["servers"] == 1
    second.execute("/usr/bin/touch", "/tmp/ok")
    wait_for(lambda: shown(slardar)["servers"] == 2, "the healthy container")
    first.do("pause")
    wait_for(lambda: slardar.get("web") == slardar.get("web") == (200, "two"), "the pause")
    first.do("unpause")
    second.remove()
    wait_for(lambda: slardar.get("web") == slardar.get("web") == (200, "one"), "the removal")
    for one in (first, stranger):
        one.remove()
    wait_for(lambda: slardar.get("web")[0] == 502, "the end of all containers")
    assert "lookup" not in shown(slardar)
