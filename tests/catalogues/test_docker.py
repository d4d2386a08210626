"""Services in Docker: what is asked, and when, against a stand-in on a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from slardar.catalogues import docker
from slardar.catalogues.base import Failed, Listing, Report
from slardar.catalogues.docker import DockerCatalogue
from slardar.model.service import Listed
from tests.stand_ins import Docker, container, eventually

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("soon")]

Make = Callable[..., tuple[DockerCatalogue, list[Report]]]


@pytest.fixture
def server(reactor: Any) -> Iterator[Docker]:
    server = Docker(reactor)
    yield server
    server.stop()


@pytest.fixture
def follow(reactor: Any) -> Iterator[Make]:
    """Follows the services of a catalogue that is stopped in the end."""
    made: list[DockerCatalogue] = []

    def follow(host: str, *names: str) -> tuple[DockerCatalogue, list[Report]]:
        catalogue = DockerCatalogue(reactor, host, lambda: 1.0)
        made.append(catalogue)
        told: list[Report] = []
        for name in names or ("web",):
            catalogue.follow(("docker_service", name), told.append)
        return catalogue, told

    yield follow
    for catalogue in made:
        catalogue.stop()


def lists(*hosts: str) -> Listing:
    """A listing of these servers."""
    return Listing((tuple(Listed(host, 80) for host in hosts),) if hosts else ())


@pytest_twisted.ensureDeferred
async def test_servers_follow_events(server: Docker, follow: Make, tmp_path: Path) -> None:
    """A container serves once it runs and is healthy, and no longer when it is paused or gone;
    nothing but three paths is asked."""
    server.runs(container("a"))
    path = server.listen(str(tmp_path / "docker.sock"))
    _, told = follow(f"unix://{path}")
    await eventually(lambda: told == [lists("172.17.0.2")])
    b = {"name": "b", "address": "172.17.0.3"}
    server.runs(container("a"), container(**b, status="Up 1 second (health: starting)"))
    await eventually(lambda: len(told) > 1)
    assert told.pop() == lists("172.17.0.2")
    server.runs(
        container("a"),
        container(**b, status="Up 2 seconds (healthy)"),
        action="health_status: healthy",
    )
    await eventually(lambda: told[-1] == lists("172.17.0.2", "172.17.0.3"))
    server.runs(
        container("a", state="paused"),
        container(**b, status="Up 3 seconds (unhealthy)"),
        action="pause",
    )
    await eventually(lambda: told[-1] == lists())
    asked = [line.replace("/v1.41", "") for line in server.asked]
    assert asked[:3] == ["GET /version", "GET /events", "GET /containers/json"]
    assert set(asked[3:]) == {"GET /containers/json"}


@pytest_twisted.ensureDeferred
async def test_services_share_one_stream(server: Docker, follow: Make) -> None:
    """One that is followed later is told what is known; when nobody follows, nothing is open."""
    server.runs(container("a"), container("b", "api", "172.17.0.3"), container("c", "other"))
    catalogue, told = follow(f"tcp://{server.listen()}", "web")
    await eventually(lambda: told)
    more: list[Report] = []
    catalogue.follow(("docker_service", "api"), more.append)
    assert more == [lists("172.17.0.3")]
    assert len(server.streams) == 1
    catalogue.unfollow(("docker_service", "web"))
    server.runs(container("b", "api", "172.17.0.4"))
    await eventually(lambda: more[-1] == lists("172.17.0.4"))
    assert told == [lists("172.17.0.2")]
    assert server.asked.count("GET /version") == 1
    catalogue.unfollow(("docker_service", "api"))
    await eventually(lambda: not server.streams, "the end of the stream")


@pytest_twisted.ensureDeferred
async def test_storm_of_events(server: Docker, follow: Make) -> None:
    """Events that come together make one list, and those of other kinds none."""
    _, told = follow(f"tcp://{server.listen()}")
    await eventually(lambda: told and server.streams)
    server.runs(container("a"), action="exec_start: probe")
    for number in range(300):
        server.runs(*(container(str(n), address=f"172.17.1.{n}") for n in range(number % 7)))
    server.runs(container("z"), action="update")
    await eventually(lambda: told[-1] == lists("172.17.0.2"))
    assert len(server.asked) <= 6


@pytest_twisted.ensureDeferred
async def test_event_before_the_list_knows(server: Docker, follow: Make) -> None:
    """Docker tells of a pause before its list shows it."""
    _, told = follow(f"tcp://{server.listen()}")
    await eventually(lambda: told and server.streams)
    server.runs(action="pause")
    await eventually(lambda: len(told) > 1)
    server.containers = [container("a")]
    await eventually(lambda: told[-1] == lists("172.17.0.2"))
    assert len(server.streams) == 1
    assert server.asked.count("GET /version") == 1


@pytest_twisted.ensureDeferred
async def test_stream_that_is_silent(
    server: Docker, follow: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of which no event came is seen with the next round, which begins by itself."""
    monkeypatch.setattr(docker, "ROUND", 0.05)
    _, told = follow(f"tcp://{server.listen()}")
    await eventually(lambda: told)
    server.containers = [container("a")]
    await eventually(lambda: told[-1] == lists("172.17.0.2"))
    assert not any(isinstance(report, Failed) for report in told)
    await eventually(lambda: len(server.streams) <= 1, "the end of the former stream")


@pytest.mark.parametrize("ends", [True, False])
@pytest_twisted.ensureDeferred
async def test_stream_that_ends(server: Docker, follow: Make, ends: bool) -> None:
    """It is said, and all is listed anew after a while; the last servers stay until then."""
    server.runs(container("a"))
    _, told = follow(place := f"tcp://{server.listen()}")
    await eventually(lambda: server.streams and told)
    server.containers = [container("b", address="172.17.0.3")]
    if ends:
        server.end()
    else:
        server.cut()
    await eventually(lambda: len(told) > 1)
    said = told[1]
    assert isinstance(said, Failed)
    assert said.reason.startswith(
        f"{place}: the stream of events has ended" if ends else f"{place}: the answer broke off: "
    )
    await eventually(lambda: told[-1] == lists("172.17.0.3"))


@pytest_twisted.ensureDeferred
async def test_docker_that_comes_later(reactor: Any, follow: Make, tmp_path: Path) -> None:
    """Until then the reason is told; whoever follows meanwhile need not wait for the pause."""
    path = tmp_path / "docker.sock"
    catalogue, told = follow(f"unix:{path}")
    await eventually(lambda: told)
    said = told[0]
    assert isinstance(said, Failed)
    assert said.reason.startswith(f"unix:{path}: ")
    assert said.reason.endswith("No such file or directory.")
    server = Docker(reactor)
    server.runs(container("a"))
    server.listen(str(path))
    catalogue.follow(("docker_service", "api"), lambda _: None)
    await eventually(lambda: told[-1] == lists("172.17.0.2"))
    server.stop()


@pytest.mark.parametrize(
    ("api", "minimum", "used"),
    [
        ("1.41", "1.12", "1.41"),
        ("1.25", "1.12", "1.25"),
        ("1.52", "1.24", "1.41"),
        ("1.52", "1.44", "1.44"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_version_of_the_api(
    server: Docker, follow: Make, api: str, minimum: str, used: str
) -> None:
    """The newest that both sides know, or the oldest that Docker still speaks."""
    server.instead["/version"] = b'{"ApiVersion": "%s", "MinAPIVersion": "%s"}' % (
        api.encode(),
        minimum.encode(),
    )
    server.api = used
    _, told = follow(f"tcp://{server.listen()}")
    await eventually(lambda: told == [lists()])


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        ("/version", b"{}", "it sends what cannot be read: Object missing required field"),
        ("/version", b'{"ApiVersion": "1.x"}', "it does not say the version of its API"),
        ("/version", b'{"ApiVersion": "1.24"}', "its API is 1.24, and 1.25 is needed"),
        ("/events", b"", "the stream of events has ended"),
        ("/events", b"garbage\n", "it sends what cannot be read: JSON is malformed"),
        ("/events", b"[1]\n", "it sends what cannot be read: Expected `object`, got `array`"),
        ("/events", (403, b'{"message": "no"}'), "it answers HTTP 403: no"),
        ("/containers/json", b'{"a": 1}', "it sends what cannot be read: Expected `array`"),
        ("/containers/json", b"[", "it sends what cannot be read: Input data was truncated"),
        ("/containers/json", b"[" + b" " * (17 << 20), "it sends more than 16777216 bytes"),
        ("/containers/json", (500, b"\xff"), "it answers HTTP 500"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_answer_that_is_none(
    server: Docker, follow: Make, path: str, answer: Any, said: str
) -> None:
    """It is one line, with the place of Docker, and Docker is asked again."""
    server.runs(container("a"))
    server.instead[path] = answer
    _, told = follow(place := f"tcp://{server.listen()}")
    await eventually(lambda: any(isinstance(report, Failed) for report in told))
    reason = next(report.reason for report in told if isinstance(report, Failed))
    assert reason.startswith(f"{place}: {said}")
    assert "\n" not in reason
    server.instead.clear()
    await eventually(lambda: told[-1] == lists("172.17.0.2") and server.streams)


@pytest.mark.parametrize(
    "host", ["ssh://a", "unix:docker.sock", "tcp://a", "tcp://a:b", "npipe:////./pipe/docker", "x"]
)
@pytest_twisted.ensureDeferred
async def test_wrong_place(follow: Make, host: str) -> None:
    """It is told as a failure, for it comes from the environment; once to every service."""
    _, told = follow(host, *map(str, range(5)))
    expected = f"{host}: DOCKER_HOST: expected unix://PATH or tcp://HOST:PORT"
    await eventually(lambda: told)
    assert told[:5] == 5 * [Failed(expected)]


@pytest_twisted.ensureDeferred
async def test_environment_says_the_place(
    server: Docker, follow: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for every program of Docker; TLS, which slardar does not speak to it, is refused."""
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{server.listen()}")
    _, told = follow("")
    await eventually(lambda: told == [lists()])
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    _, told = follow("")
    await eventually(lambda: told)
    assert isinstance(told[0], Failed)
    assert told[0].reason.endswith("DOCKER_TLS_VERIFY: Docker is not asked over TLS")
