"""HTTP clients of slardar: no line of the log for each connection, which can be cut at any time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, ssl  # noqa: TID251
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS

from slardar.catalogues.docker import DockerCatalogue
from slardar.catalogues.http import Source
from slardar.catalogues.kubernetes import KubernetesCatalogue
from slardar.model.kubernetes_query import KubernetesQuery
from slardar.observers.exporter import Exporter
from slardar.quiet import QuietPool
from slardar.stores.etcd_client import Gateway
from slardar.stores.etcd_exchange import Member
from slardar.stores.etcd_messages import RangeAnswer
from slardar.txconsul import HTTPClient
from tests.certificates import Authority, Hung


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What is logged."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def connect(reactor: MemoryReactorClock) -> None:
    """Begin and end the connection that was asked for, as the reactor does."""
    asked = [*reactor.tcpClients, *reactor.unixClients]
    factory = next(part for part in asked[0] if hasattr(part, "doStart"))
    factory.doStart()
    factory.doStop()


def docker(reactor: Any, host: str) -> None:
    DockerCatalogue(reactor, host).follow(("docker_service", "web"), lambda report: None)
    reactor.advance(0)


def kubernetes(reactor: Any) -> None:
    query = KubernetesQuery("shop/web", url="http://127.0.0.1:1")
    catalogue = KubernetesCatalogue(reactor, Path("/nowhere"), {})
    catalogue.follow(query.origin, lambda report: None)


def traces(reactor: Any) -> None:
    span: Any = object()
    Exporter(reactor, b"http://127.0.0.1:1/", lambda spans: (b"", 1), len).put(span)
    reactor.advance(1)


def etcd(reactor: Any) -> None:
    gateway = Gateway([Member("127.0.0.1", 1)], reactor)
    Deferred.fromCoroutine(gateway.ask("kv/range", {}, RangeAnswer))


CLIENTS: list[Callable[[Any], object]] = [
    lambda reactor: docker(reactor, "unix:///nowhere"),
    lambda reactor: docker(reactor, "tcp://127.0.0.1:1"),
    kubernetes,
    traces,
    etcd,
    lambda reactor: HTTPClient(reactor).get(str, "/v1/status/leader"),
]


@pytest.mark.parametrize(
    "ask", CLIENTS, ids=["docker-unix", "docker-tcp", "kubernetes", "traces", "etcd", "consul"]
)
def test_connection_is_no_line_of_the_log(logged: list[Any], ask: Callable[[Any], object]) -> None:
    reactor = MemoryReactorClock()
    ask(reactor)
    connect(reactor)
    assert logged == []


def test_twisted_logs_each_connection(logged: list[Any]) -> None:
    """Or the test above could not fail."""
    reactor = MemoryReactorClock()
    Agent(reactor).request(b"GET", b"http://127.0.0.1:1/")
    connect(reactor)
    assert len(logged) == 2


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_connection_to_a_server_that_hangs_is_cut(tmp_path: Path) -> None:
    """Though the server does not end TLS."""
    authority = Authority(tmp_path)
    server = Hung(authority, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1")
    trust = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(authority.file.read_bytes())])
    pool = QuietPool(reactor, persistent=False)
    agent = Agent(reactor, BrowserLikePolicyForHTTPS(trust), pool=pool)
    answer = await Source(reactor, agent).open(f"https://127.0.0.1:{server.port}/")
    answer.close()
    await deferToThread(server.thread.join, 8)
    assert server.is_over
