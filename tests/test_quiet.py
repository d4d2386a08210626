"""No line of the log for each connection that an HTTP client of slardar makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.web.client import Agent

from slardar.catalogues.docker import DockerCatalogue
from slardar.catalogues.kubernetes import KubernetesCatalogue
from slardar.model.kubernetes_query import KubernetesQuery
from slardar.observers.exporter import Exporter
from slardar.stores.etcd_client import Gateway
from slardar.stores.etcd_exchange import Member
from slardar.stores.etcd_messages import RangeAnswer
from slardar.txconsul import HTTPClient


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
