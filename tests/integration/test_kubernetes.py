"""Services whose servers are pods: twistd and a stand-in for the API of Kubernetes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import threads

from tests.integration.conftest import Start
from tests.integration.programs import Slardar
from tests.integration.sockets import in_thread, wait_for
from tests.integration.test_names import Load, backends
from tests.stand_ins import Cluster, endpoint, slice_of


@in_thread
def test_traffic_follows_pods(tmp_path: Path, start: Start) -> None:
    """A pod that ends is drained while it still serves, and its place is taken by the new one; no
    request fails.  What the watch has missed is seen when all is listed anew."""
    from twisted.internet import reactor  # noqa: TID251

    def on_reactor(function: Callable[..., Any], *arguments: Any) -> Any:
        return threads.blockingCallFromThread(reactor, function, *arguments)

    def has(*endpoints: dict[str, Any]) -> None:
        on_reactor(cluster.has, slice_of("web-a", *endpoints, port=port))

    def servers() -> list[tuple[str, str]]:
        found = slardar.call("GET", "/upstreams")[1]["web"]["servers"]
        return [(server["host"], server.get("state", "up")) for server in found]

    cluster: Cluster = on_reactor(Cluster, reactor)
    with backends("127.0.0.1", "127.0.0.2") as two:
        port = int(two[0].server_address[1])
        one, other = (str(server.server_address[0]) for server in two)
        has(endpoint(one))
        slardar: Slardar = start(Slardar(tmp_path, "--workers", "2")).ready()
        url = f"http://{on_reactor(cluster.listen)}"
        body = {"kubernetes_service": "default/web", "port": "http", "url": url, "mode": "p2c"}
        assert slardar.call("PUT", "/service/web", body)[0] == 200
        # The first request after the call already finds a server.
        assert slardar.get("web") == (200, one)
        load = Load(slardar, 3)
        try:
            has(endpoint(one, ready=False, terminating=True), endpoint(other))
            wait_for(lambda: load.seen() == {other}, "the drain")
            assert servers() == [(one, "drain"), (other, "up")]
            has(endpoint(other))
            wait_for(lambda: servers() == [(other, "up")], "the end of the pod")
            streams, cluster.streams = cluster.streams, []
            has(endpoint(one))
            cluster.streams = streams
            cluster.oldest = cluster.version
            on_reactor(cluster.end)
            wait_for(lambda: load.seen() == {one}, "the list after 410")
            assert cluster.lists == 2
            status = slardar.call("GET", "/status")[1]["services"]["web"]
            assert (status["kubernetes_service"], status["servers"]) == ("default/web", 1)
        finally:
            load.stop()
            on_reactor(cluster.stop)
    assert load.wrong == []
