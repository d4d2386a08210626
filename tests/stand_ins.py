"""Stand-ins for the APIs of Docker and of Kubernetes, on real sockets.

They speak the shapes and the statuses of the real ones: those of Docker 20.10 were recorded,
those of Kubernetes follow the reference of its API.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import ssl
from twisted.internet.task import deferLater
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

__all__ = ["Cluster", "Docker", "StandIn", "container", "endpoint", "eventually", "slice_of"]


async def eventually(condition: Callable[[], Any], what: str = "it") -> None:
    """Wait until ``condition()`` is true."""
    from twisted.internet import reactor  # noqa: TID251

    end = reactor.seconds() + 20
    while not condition():
        assert reactor.seconds() < end, f"{what} did not happen in time"
        await deferLater(reactor, 0.005)


class StandIn(Resource):
    """A server whose answers the test may replace."""

    isLeaf = True  # noqa: N815

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor
        self._ports: list[Any] = []
        self.site = Site(self)
        #: The requests so far: method and path.
        self.asked: list[str] = []
        #: Answers by the end of the path, instead of the usual ones: bytes, or a status and bytes.
        self.instead: dict[str, bytes | tuple[int, bytes]] = {}
        #: The streams that are open.
        self.streams: list[Request] = []

    def listen(self, path: str = "") -> str:
        """Listen on a UNIX socket, or on a port; returns ``HOST:PORT`` or the path."""
        if path:
            self._ports.append(self._reactor.listenUNIX(path, self.site))
            return path
        self._ports.append(self._reactor.listenTCP(0, self.site, interface="127.0.0.1"))
        return f"127.0.0.1:{self._ports[-1].getHost().port}"

    def listen_tls(self, cert: Path, key: Path) -> str:
        """Listen with a certificate; returns ``HOST:PORT``."""
        context = ssl.DefaultOpenSSLContextFactory(str(key), str(cert))
        self._ports.append(self._reactor.listenSSL(0, self.site, context, interface="127.0.0.1"))
        return f"127.0.0.1:{self._ports[-1].getHost().port}"

    def stop(self) -> None:
        """Take no more connections, and break off those that are open."""
        for port in self._ports:
            port.stopListening()
        self._ports = []
        self.cut()

    def cut(self) -> None:
        """Break the streams off."""
        for stream in self.streams[:]:
            stream.transport.abortConnection()

    def end(self) -> None:
        """End the streams in good order."""
        for stream in self.streams[:]:
            stream.finish()

    def send(self, line: bytes) -> None:
        """Send a line on all streams."""
        for stream in self.streams:
            stream.write(line + b"\n")

    def render(self, request: Request) -> Any:
        path = request.path.decode()
        self.asked.append(f"{request.method.decode()} {path}")
        request.setHeader("content-type", "application/json")
        for end, answer in self.instead.items():
            if path.endswith(end):
                status, body = answer if isinstance(answer, tuple) else (200, answer)
                request.setResponseCode(status)
                return body
        if request.method != b"GET":
            return self.refused(request, 405, "method not allowed")
        return self.answer(request, path)

    def answer(self, request: Request, path: str) -> Any:
        raise NotImplementedError

    def refused(self, request: Request, status: int, message: str) -> bytes:
        request.setResponseCode(status)
        return json.dumps({"message": message}).encode()

    def stream(self, request: Request) -> Any:
        """Begin a stream."""
        self.streams.append(request)
        request.notifyFinish().addBoth(lambda _: self.streams.remove(request))
        request.write(b"")
        return NOT_DONE_YET


def container(
    name: str, upstream: str = "web", address: str = "172.17.0.2", **more: Any
) -> dict[str, Any]:
    """A running container with one exposed port, as Docker lists it.

    ``labels``, ``networks``, ``ports``, ``mode``, ``state`` and ``status`` replace parts.
    """
    networks = more.get("networks", {"bridge": address})
    return {
        "Id": f"{name:0<64}",
        "Names": [f"/{name}"],
        "Image": "web:1",
        "Command": "serve",
        "Created": 1795924906,
        "Ports": more.get("ports", [{"PrivatePort": 80, "Type": "tcp"}]),
        "Labels": {"slardar.upstream": upstream, **more.get("labels", {})},
        "State": more.get("state", "running"),
        "Status": more.get("status", "Up 3 seconds"),
        "HostConfig": {"NetworkMode": more.get("mode", "default")},
        "NetworkSettings": {
            "Networks": {
                one: {"IPAMConfig": None, "Gateway": "", "IPAddress": ip, "GlobalIPv6Address": ""}
                for one, ip in networks.items()
            }
        },
        "Mounts": [],
    }


class Docker(StandIn):
    """Docker's API, as much of it as slardar may use."""

    def __init__(self, reactor: Any, api: str = "1.41", minimum: str = "1.12") -> None:
        super().__init__(reactor)
        self.api, self.minimum = api, minimum
        self.containers: list[dict[str, Any]] = []

    def runs(self, *containers: dict[str, Any], action: str = "start") -> None:
        """These containers run from now on, and an event says so."""
        self.containers = list(containers)
        attributes = {"image": "web:1", "name": "one", "slardar.upstream": "web"}
        event = {
            "status": action,
            "id": "0" * 64,
            "from": "web:1",
            "Type": "container",
            "Action": action,
            "Actor": {"ID": "0" * 64, "Attributes": attributes},
            "scope": "local",
            "time": 1795924907,
            "timeNano": 1795924907070464758,
        }
        self.send(json.dumps(event).encode())

    def answer(self, request: Request, path: str) -> Any:
        if path == "/version":
            said = {"Version": "20.10.24", "ApiVersion": self.api, "MinAPIVersion": self.minimum}
            return json.dumps(said).encode()
        filters = json.loads(request.args[b"filters"][0])
        if path == f"/v{self.api}/events":
            assert filters["type"] == ["container"]
            assert "exec_start" not in filters["event"]
            return self.stream(request)
        if path == f"/v{self.api}/containers/json":
            (label,) = filters["label"]
            return json.dumps(
                [
                    one
                    for one in self.containers
                    if label in one["Labels"]
                    and one["State"] in filters["status"]
                    and _health(one["Status"]) in filters["health"]
                ]
            ).encode()
        return self.refused(request, 404, "page not found")


def _health(status: str) -> str:
    for health in ("unhealthy", "healthy", "starting"):
        if health in status:
            return health
    return "none"


def endpoint(*addresses: str, pod: str = "", **conditions: bool | None) -> dict[str, Any]:
    """An endpoint of a slice, ready unless ``conditions`` say something else."""
    made: dict[str, Any] = {
        "addresses": list(addresses),
        "conditions": {"ready": True, "serving": True, "terminating": False, **conditions},
        "nodeName": "node-1",
        "zone": "a",
        "hints": {"forZones": [{"name": "b"}]},
    }
    if pod:
        made["targetRef"] = {"kind": "Pod", "namespace": "default", "name": pod, "uid": pod}
    return made


def slice_of(
    name: str,
    *endpoints: dict[str, Any],
    port: int = 8080,
    service: str = "web",
    **more: Any,
) -> dict[str, Any]:
    """An EndpointSlice; ``ports`` and ``family`` replace parts."""
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": more.get("family", "IPv4"),
        "endpoints": list(endpoints) or None,
        "ports": more.get("ports", [{"name": "http", "port": port, "protocol": "TCP"}]),
    }


class Cluster(StandIn):
    """The part of Kubernetes' API that has EndpointSlices."""

    PATH = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"

    def __init__(self, reactor: Any, token: str = "") -> None:
        super().__init__(reactor)
        self.token = token
        self.version = 100
        #: Versions before this one are forgotten.
        self.oldest = 0
        self.slices: dict[str, dict[str, Any]] = {}
        self.lists = 0
        #: The versions at which watches began.
        self.watched: list[int] = []

    def has(self, one: dict[str, Any]) -> None:
        """Add a slice, or change one; watches hear of it."""
        self.version += 1
        kind = "MODIFIED" if one["metadata"]["name"] in self.slices else "ADDED"
        one["metadata"]["resourceVersion"] = str(self.version)
        self.slices[one["metadata"]["name"]] = one
        self.event(kind, one)

    def loses(self, name: str) -> None:
        """Delete a slice."""
        self.version += 1
        one = self.slices.pop(name)
        one["metadata"]["resourceVersion"] = str(self.version)
        self.event("DELETED", one)

    def event(self, kind: str, one: dict[str, Any]) -> None:
        """Send an event to the watches."""
        self.send(json.dumps({"type": kind, "object": one}).encode())

    def bookmark(self) -> None:
        """Tell the version only."""
        self.version += 1
        meta = {"resourceVersion": str(self.version), "creationTimestamp": None}
        self.event("BOOKMARK", {"kind": "EndpointSlice", "metadata": meta})

    def gone(self) -> dict[str, Any]:
        """What is said of a version that was forgotten."""
        return {
            "kind": "Status",
            "status": "Failure",
            "message": "too old resource version",
            "reason": "Expired",
            "code": 410,
        }

    def answer(self, request: Request, path: str) -> Any:
        if self.token and request.getHeader("authorization") != f"Bearer {self.token}":
            return self.refused(request, 401, "Unauthorized")
        if path != self.PATH:
            return self.refused(request, 403, "endpointslices is forbidden")
        asked = {key.decode(): values[0].decode() for key, values in request.args.items()}
        key, _, name = asked["labelSelector"].partition("=")
        if "watch" not in asked:
            self.lists += 1
            found = [
                one for one in self.slices.values() if one["metadata"]["labels"].get(key) == name
            ]
            meta = {"resourceVersion": str(self.version)}
            kind = "EndpointSliceList"
            return json.dumps({"kind": kind, "metadata": meta, "items": found}).encode()
        assert asked["allowWatchBookmarks"] == "true"
        assert int(asked["timeoutSeconds"]) > 0
        self.watched.append(int(asked["resourceVersion"]))
        if self.watched[-1] < self.oldest:
            request.setResponseCode(410)
            return json.dumps(self.gone()).encode()
        return self.stream(request)
