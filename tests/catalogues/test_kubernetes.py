"""Services in Kubernetes: lists and watches, against a stand-in on a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from slardar.catalogues import kubernetes
from slardar.catalogues.base import Failed, Listing, Report
from slardar.catalogues.kubernetes import KubernetesCatalogue
from slardar.model.kubernetes_query import KubernetesQuery
from slardar.model.service import Listed, Origin
from tests.certificates import Authority
from tests.stand_ins import Cluster, endpoint, eventually, slice_of

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("soon")]

Follow = Callable[..., list[Report]]
POD = slice_of("web-a", endpoint("10.0.0.1"))


@pytest.fixture
def cluster(reactor: Any) -> Iterator[Cluster]:
    cluster = Cluster(reactor)
    yield cluster
    cluster.stop()


@pytest.fixture
def environ() -> dict[str, str]:
    """The environment of the pod."""
    return {}


@pytest.fixture
def catalogue(
    reactor: Any, tmp_path: Path, environ: dict[str, str]
) -> Iterator[KubernetesCatalogue]:
    """A catalogue with the account in the test's folder."""
    catalogue = KubernetesCatalogue(reactor, tmp_path, environ, lambda: 1.0)
    yield catalogue
    catalogue.stop()


@pytest.fixture
def follow(catalogue: KubernetesCatalogue) -> Follow:
    def follow(place: str = "", name: str = "default/web", port: str = "") -> list[Report]:
        told: list[Report] = []
        catalogue.follow(origin_of(place, name, port), told.append)
        return told

    return follow


def origin_of(place: str, name: str = "default/web", port: str = "") -> Origin:
    """What the model makes of these keys."""
    return KubernetesQuery(name, port, place).origin


def lists(*hosts: str, state: Any = "up", port: int = 8080) -> Listing:
    """A listing of these servers."""
    return Listing((tuple(Listed(host, port, state=state) for host in hosts),) if hosts else ())


@pytest_twisted.ensureDeferred
async def test_servers_follow_the_watch(cluster: Cluster, follow: Follow) -> None:
    """One list, and then changes only; a pod that ends and still serves is drained."""
    cluster.has(POD)
    cluster.has(slice_of("other", endpoint("10.9.0.9"), service="other"))
    told = follow(f"http://{cluster.listen()}")
    await eventually(lambda: cluster.streams)
    assert told[0] == lists("10.0.0.1")
    assert cluster.watched == [cluster.version]
    cluster.has(slice_of("web-b", endpoint("10.0.0.2"), endpoint("10.0.0.3", ready=False)))
    await eventually(lambda: told[-1] == lists("10.0.0.1", "10.0.0.2"))
    cluster.loses("web-a")
    await eventually(lambda: told[-1] == lists("10.0.0.2"))
    cluster.has(slice_of("web-b", endpoint("10.0.0.2", ready=False, terminating=True)))
    await eventually(lambda: told[-1] == lists("10.0.0.2", state="drain"))
    cluster.has(slice_of("web-b"))
    await eventually(lambda: told[-1] == lists())
    assert cluster.lists == 1


@pytest_twisted.ensureDeferred
async def test_watch_that_ends_goes_on(
    cluster: Cluster, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the version of the last event or bookmark, without a list."""
    monkeypatch.setattr(kubernetes, "_SHORTEST", 0.0)
    cluster.has(POD)
    told = follow(f"http://{cluster.listen()}")
    await eventually(lambda: cluster.streams)
    cluster.has(slice_of("web-b", endpoint("10.0.0.2")))
    await eventually(lambda: told[-1] == lists("10.0.0.1", "10.0.0.2"))
    for count in (2, 3):
        cluster.bookmark()
        cluster.end()
        await eventually(lambda count=count: len(cluster.watched) == count)  # type: ignore[misc]
        assert cluster.watched[-1] == cluster.version
    assert cluster.lists == 1
    assert not any(isinstance(report, Failed) for report in told)


@pytest.mark.parametrize("way", ["status", "event"])
@pytest_twisted.ensureDeferred
async def test_version_that_was_forgotten(
    cluster: Cluster, follow: Follow, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """All is listed anew, at once and without a failure."""
    monkeypatch.setattr(kubernetes, "_SHORTEST", 0.0)
    cluster.has(POD)
    told = follow(f"http://{cluster.listen()}")
    await eventually(lambda: cluster.streams)
    # A change of which the watch does not hear.
    streams, cluster.streams = cluster.streams, []
    cluster.loses("web-a")
    cluster.has(slice_of("web-b", endpoint("10.0.0.2")))
    cluster.streams = streams
    cluster.oldest = cluster.version
    if way == "event":
        cluster.event("ERROR", cluster.gone())
    cluster.end()
    await eventually(lambda: cluster.lists == 2 and cluster.streams)
    assert told[-1] == lists("10.0.0.2")
    assert [report for report in told if isinstance(report, Failed)] == []


@pytest_twisted.ensureDeferred
async def test_cluster_that_forgets_all_the_time(cluster: Cluster, follow: Follow) -> None:
    """What was listed just now is forgotten: that is a failure, with a pause after it."""
    cluster.has(POD)
    cluster.oldest = 10**6
    told = follow(f"http://{cluster.listen()}")
    await eventually(lambda: len(told) > 1)
    assert told[:2] == [
        lists("10.0.0.1"),
        Failed("default/web: it answers HTTP 410: too old resource version"),
    ]
    cluster.oldest = 0
    await eventually(lambda: cluster.streams)


@pytest_twisted.ensureDeferred
async def test_watch_that_is_silent(
    cluster: Cluster, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the cluster does not end it in time, the connection may be dead: all is listed anew."""
    monkeypatch.setattr(kubernetes, "WATCH", 1.5)
    monkeypatch.setattr(kubernetes, "MARGIN", -0.9)
    told = follow(f"http://{cluster.listen()}")
    await eventually(lambda: cluster.streams)
    streams, cluster.streams = cluster.streams, []
    cluster.has(POD)
    cluster.streams = streams
    await eventually(lambda: told[-1] == lists("10.0.0.1"))
    assert cluster.lists == 2
    assert not any(isinstance(report, Failed) for report in told)


@pytest_twisted.ensureDeferred
async def test_cluster_that_breaks_off(cluster: Cluster, follow: Follow) -> None:
    """It is said, and what is listed after it counts, though nothing has changed."""
    cluster.has(POD)
    told = follow(f"http://{cluster.listen()}")
    await eventually(lambda: cluster.streams)
    cluster.cut()
    await eventually(lambda: cluster.lists == 2 and cluster.streams)
    (said,) = (report for report in told if isinstance(report, Failed))
    # How it is said depends on whether the head of the answer had come.
    assert said.reason.startswith("default/web: ")
    assert told[-1] == lists("10.0.0.1")


@pytest_twisted.ensureDeferred
async def test_unfollowed_service_is_watched_no_more(
    cluster: Cluster, follow: Follow, catalogue: KubernetesCatalogue
) -> None:
    """The same service with another port has a watch of its own."""
    cluster.has(POD)
    place = f"http://{cluster.listen()}"
    follow(place)
    told = follow(place, port="http")
    await eventually(lambda: len(cluster.streams) == 2)
    catalogue.unfollow(origin_of(place))
    await eventually(lambda: len(cluster.streams) == 1)
    cluster.has(slice_of("web-a", endpoint("10.0.0.2")))
    await eventually(lambda: told[-1] == lists("10.0.0.2"))


@pytest_twisted.ensureDeferred
async def test_pod_of_the_cluster(
    reactor: Any, follow: Follow, tmp_path: Path, environ: dict[str, str]
) -> None:
    """It finds the cluster in its environment, checks the certificate against the CA of its account
    and sends its token, which it reads again: tokens are replaced."""
    authority = Authority(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.file.read_bytes())
    cluster = Cluster(reactor, token="first")
    cluster.has(POD)
    place = cluster.listen_tls(*authority.issue("server"))
    environ["KUBERNETES_SERVICE_HOST"], _, environ["KUBERNETES_SERVICE_PORT"] = place.partition(":")
    told = follow()
    await eventually(lambda: told)
    assert told[0] == Failed("default/web: it answers HTTP 401: Unauthorized")
    (tmp_path / "token").write_text("first\n")
    await eventually(lambda: cluster.streams)
    assert told[-1] == lists("10.0.0.1")
    cluster.token = "second"
    (tmp_path / "token").write_text("second")
    before = len(told)
    cluster.cut()
    await eventually(lambda: told[before:] and told[-1] == lists("10.0.0.1"))
    assert not any("401" in str(report) for report in told[before:])
    cluster.stop()


@pytest_twisted.ensureDeferred
async def test_stranger_gets_no_token(
    reactor: Any, follow: Follow, tmp_path: Path, environ: dict[str, str]
) -> None:
    """Neither a server with a certificate of another CA, nor one that a service names."""
    authority = Authority(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.file.read_bytes())
    (tmp_path / "token").write_text("word")
    cluster = Cluster(reactor)
    place = cluster.listen_tls(*Authority(tmp_path, "b").issue("server"))
    environ["KUBERNETES_SERVICE_HOST"], _, environ["KUBERNETES_SERVICE_PORT"] = place.partition(":")
    told = follow()
    await eventually(lambda: told)
    assert isinstance(told[0], Failed)
    assert "certificate verify failed" in told[0].reason
    assert cluster.asked == []
    cluster.token = "word"
    named = [
        f"http://{cluster.listen()}",
        f"https://{cluster.listen_tls(*authority.issue('named'))}",
    ]
    for url in named:
        told = follow(url)
        await eventually(lambda told=told: told)  # type: ignore[misc]
        assert told[0] == Failed("default/web: it answers HTTP 401: Unauthorized")
    cluster.stop()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no url, and no KUBERNETES_SERVICE_HOST, as a pod has it"),
        (
            {"ca.crt": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
            "ca.crt of the service account is no certificate",
        ),
        ({"token": "\u00e9"}, "token: 'ascii' codec"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_account_that_cannot_be_used(
    follow: Follow, tmp_path: Path, environ: dict[str, str], files: dict[str, str], said: str
) -> None:
    """The reason is told as any other, and the files are read again."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        environ["KUBERNETES_SERVICE_HOST"] = "::1"
    told = follow()
    await eventually(lambda: told)
    assert isinstance(told[0], Failed)
    assert said in told[0].reason


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (b"", "the watch ends at once"),
        (b"garbage\n", "it sends what cannot be read: JSON is malformed"),
        (b"{}\n", "it sends what cannot be read: Object missing required field `type`"),
        (b'{"type": "ADDED", "object": {}}\n', "it sends what cannot be read: Object missing"),
        (
            b'{"type": "MODIFIED", "object": {"metadata": {"name": 5}}}\n',
            "it sends what cannot be read: Expected `str`, got `int`",
        ),
        (
            b'{"type": "ERROR", "object": {"code": 500, "message": "etcd is\\naway"}}\n',
            "the watch ends: etcd is away",
        ),
        (b"x" * (17 << 20), "it sends more than 16777216 bytes at a time"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_watch_that_is_none(
    cluster: Cluster, follow: Follow, lines: bytes, said: str
) -> None:
    """It is one line, the servers that were listed hold, and all is listed anew."""
    cluster.has(POD)
    told = follow(f"http://{cluster.listen()}")
    await eventually(lambda: cluster.streams)
    if lines:
        cluster.send(lines)
    else:
        cluster.end()
    await eventually(lambda: any(isinstance(report, Failed) for report in told))
    (reason,) = (report.reason for report in told if isinstance(report, Failed))
    assert reason.startswith(f"default/web: {said}")
    assert "\n" not in reason
    assert all(report == lists("10.0.0.1") for report in told[:-1])
    await eventually(lambda: cluster.lists == 2)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"{}", "it sends what cannot be read: Object missing required field `metadata`"),
        (b'{"metadata": {}, "items": {}}', "it sends what cannot be read: Expected `array"),
        ((403, json.dumps({"message": "no"}).encode()), "it answers HTTP 403: no"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_list_that_is_none(cluster: Cluster, follow: Follow, answer: Any, said: str) -> None:
    """The reason says what the cluster says."""
    cluster.instead["endpointslices"] = answer
    told = follow(f"http://{cluster.listen()}")
    await eventually(lambda: told)
    assert isinstance(told[0], Failed)
    assert told[0].reason.startswith(f"default/web: {said}")
