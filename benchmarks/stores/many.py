"""Fifty nodes in one process: how long a change takes to reach all, and who writes.

The store, its watch of Consul and the configuration are slardar's own code.  Consul is a fake that
answers after a millisecond, and the planes serve nobody.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import defer, task

from slardar.config import parse_settings
from slardar.control.actions import Actions
from slardar.stores.consul import read_place
from slardar.stores.consul_tree import ConsulTree
from slardar.stores.shared import SharedStore

__all__ = ["NODES", "spread"]

NODES = 50
NAME = "www.example.com"
PREFIX = "config/slardar/"
#: Seconds until the fake answers.
_LATENCY = 0.001
#: Upstreams in the store.
_UPSTREAMS = 100


class _Answer:
    """What an agent has answered."""

    def __init__(self, code: int, index: int, body: bytes) -> None:
        self.code = code
        self.headers = {"X-Consul-Index": str(index)}
        self.body = body


class _Consul:
    """The keys, and the queries that wait for something new."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._keys: dict[str, tuple[str, int]] = {}
        self._index = 1
        self._page = b""
        self._waiting: list[defer.Deferred[None]] = []
        #: The writes so far.
        self.writes = 0

    def put(self, key: str, value: bytes) -> None:
        """Write a key, as somebody who is no slardar."""
        self._index += 1
        self._keys[PREFIX + key] = (base64.b64encode(value).decode(), self._index)
        self._tell()

    def transact(self, operations: Sequence[dict[str, Any]]) -> _Answer:
        self.writes += 1
        for one in operations:
            known = self._keys.get(one["Key"], ("", 0))[1]
            if one.get("Index", known) != known:
                errors = {"Errors": [{"What": "the index is another one", "OpIndex": 0}]}
                return _Answer(409, self._index, json.dumps(errors).encode())
        self._index += 1
        for one in operations:
            if one["Verb"] in ("set", "cas"):
                self._keys[one["Key"]] = (one["Value"], self._index)
            elif one["Verb"] == "delete":
                self._keys.pop(one["Key"], None)
        self._tell()
        results = [{"KV": {"ModifyIndex": self._index}}] * len(operations)
        return _Answer(200, self._index, json.dumps({"Results": results}).encode())

    def _tell(self) -> None:
        # All nodes are sent the same bytes, so that no time is taken for them here.
        rows = [
            {"Key": key, "ModifyIndex": index, "Value": value}
            for key, (value, index) in sorted(self._keys.items())
        ]
        self._page = json.dumps(rows).encode()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    async def ask(self, params: dict[str, Any]) -> _Answer:
        if params.get("index") == self._index:
            changed: defer.Deferred[None] = defer.Deferred(self._waiting.remove)
            self._waiting.append(changed)
            await changed
        await task.deferLater(self._reactor, _LATENCY)
        return _Answer(200, self._index, self._page)


class _Client:
    """What a node has in the place of :class:`slardar.txconsul.HTTPClient`."""

    def __init__(self, consul: _Consul, reactor: Any) -> None:
        self._consul = consul
        self._reactor = reactor

    def get(
        self, callback: Callable[[_Answer], Any], path: str, params: Any, *_: Any, **__: Any
    ) -> defer.Deferred[Any]:
        return defer.ensureDeferred(self._consul.ask(dict(params))).addCallback(callback)

    def put(
        self, callback: Callable[[_Answer], Any], path: str, params: Any, data: bytes, *_: Any
    ) -> defer.Deferred[Any]:
        operations = [one["KV"] for one in json.loads(data)]
        asked = task.deferLater(self._reactor, _LATENCY, self._consul.transact, operations)
        return asked.addCallback(callback)

    def close(self) -> defer.Deferred[None]:
        return defer.succeed(None)


class _Plane:
    """Serves nobody, and notes when it was told of what."""

    def __init__(self) -> None:
        self.snapshot: Any = None
        self.at = 0.0

    def apply(self, snapshot: Any, changed: Any) -> defer.Deferred[dict[str, Any]]:
        self.snapshot = snapshot
        self.at = time.monotonic()
        return defer.succeed({})

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: defer.succeed({})


def _value(number: int) -> dict[str, Any]:
    servers = [{"host": "127.0.0.1", "port": 1 + number}]
    return {"servers": servers, "enable": False}


async def _measure(reactor: Any, changes: int) -> tuple[list[float], int]:
    consul = _Consul(reactor)
    for number in range(_UPSTREAMS):
        consul.put(f"upstreams/site{number}.example.com", json.dumps(_value(number)).encode())
    place = read_place(f"http://127.0.0.1:8500/{PREFIX}", "")
    planes, nodes, stores = [], [], []
    for _ in range(NODES):
        tree = ConsulTree(place, reactor)
        tree._client = _Client(consul, reactor)  # type: ignore[assignment]
        store, plane = SharedStore(tree, reactor, PREFIX), _Plane()
        node = Actions(parse_settings({}), store, plane)
        await node.start()
        planes.append(plane)
        nodes.append(node)
        stores.append(store)
    times, others = [], 0
    for number in range(changes):
        await task.deferLater(reactor, 0.05)
        writes, begun = consul.writes, time.monotonic()
        await nodes[number % NODES].set_upstream(NAME, _value(number), "bench")
        while not all(_serves(plane, 1 + number) for plane in planes):
            if time.monotonic() - begun > 30:
                raise RuntimeError("a change has not reached every node within 30 s")
            await task.deferLater(reactor, 0.001)
        times.append((max(plane.at for plane in planes) - begun) * 1000)
        await task.deferLater(reactor, 0.05)
        others += consul.writes - writes - 1
    fingerprints = {node.snapshot.fingerprint for node in nodes}
    if len(fingerprints) != 1:
        raise RuntimeError(f"{NODES} nodes have {len(fingerprints)} fingerprints in the end")
    for store in stores:
        await store.close()
    return times, others


def _serves(plane: _Plane, port: int) -> bool:
    upstream = plane.snapshot.upstreams.get(NAME)
    return upstream is not None and upstream.servers[0].port == port


def spread(changes: int) -> tuple[list[float], int]:
    """Milliseconds from each of so many changes until the last node serves it; and the writes of
    nodes that nobody has asked for a change.  Runs a reactor, so it can be called once."""
    found: list[tuple[list[float], int]] = []

    async def run(reactor: Any) -> None:
        found.append(await _measure(reactor, changes))

    try:
        task.react(lambda reactor: defer.ensureDeferred(run(reactor)))
    except SystemExit as end:
        if end.code:
            raise RuntimeError("the nodes have failed: see above") from None
    return found[0]
