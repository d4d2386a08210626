"""A real etcd for tests, and a proxy in front of it that misbehaves."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor as running  # noqa: TID251
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from slardar.stores.tree import Content, Tree
from tests.health.probes.real import Server, found
from tests.integration.programs import free_port

reactor: Any = running

#: Seconds within which whatever a test waits for must come.
PATIENCE = 30.0


class Etcd(Server):
    """An etcd with one member, or one member of several; ``options`` are those of its command."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        name: str = "one",
        port: int = 0,
        peers: Sequence[tuple[str, int]] = (),
        scheme: str = "http",
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.port = port or free_port()
        # A restart may not need another port, and a member needs the one that it is known by.
        self._peers = list(peers) or [(name, free_port())]
        self._again = (options, name, scheme)
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        urls = {name: f"http://127.0.0.1:{port}" for name, port in self._peers}
        command = [found("etcd"), "--name", name, "--data-dir", str(folder / name)]
        command += ["--enable-v2=false", "--logger", "zap", "--log-outputs", "stderr"]
        command += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        command += ["--listen-peer-urls", urls[name], "--initial-advertise-peer-urls", urls[name]]
        command += ["--initial-cluster", ",".join(f"{one}={url}" for one, url in urls.items())]
        # The first member waits half an election timeout before it elects itself.
        command += ["--heartbeat-interval", "20", "--election-timeout", "200", *options]
        environment = {key: "" for key in os.environ if key.startswith("ETCD_")}
        super().__init__(command, folder, **environment)

    def ready(self) -> Etcd:
        """Itself, once it takes calls."""
        self.wait_until("serving (insecure )?client (traffic|requests)")
        return self

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.signal(signal.SIGKILL)
        self.end()

    def again(self) -> Etcd:
        """Another process with the same data, on the same port."""
        options, name, scheme = self._again
        started = Etcd(
            self.folder, *options, name=name, port=self.port, peers=self._peers, scheme=scheme
        )
        return started.ready()

    def call(self, path: str, body: object, token: str = "") -> Any:
        """The answer to a call of the gateway."""
        request = urllib.request.Request(f"{self.url}/v3/{path}", json.dumps(body).encode())
        if token:
            request.add_header("Authorization", token)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read()!r}") from None

    def put(self, key: str, value: bytes | str, token: str = "") -> int:
        """Write a key as another program would; returns the revision."""
        value = value.encode() if isinstance(value, str) else value
        body = {"key": base64(key), "value": base64(value)}
        return int(self.call("kv/put", body, token)["header"]["revision"])

    def remove(self, key: str, token: str = "") -> int:
        """Remove a key as another program would; returns the revision."""
        answer = self.call("kv/deleterange", {"key": base64(key)}, token)
        return int(answer["header"]["revision"])

    def compact(self, revision: int) -> None:
        """Forget all revisions before this one."""
        self.call("kv/compaction", {"revision": str(revision), "physical": True})

    def demand_passwords(self, **users: str) -> str:
        """Switch authentication on; users may do what they like below ``/ours/``.  Returns a token
        of root, whose password is ``root``."""
        self.call("auth/user/add", {"name": "root", "password": "root"})
        self.call("auth/role/add", {"name": "root"})
        self.call("auth/user/grant", {"user": "root", "role": "root"})
        self.call("auth/role/add", {"name": "ours"})
        permission = {
            "permType": "READWRITE",
            "key": base64("/ours/"),
            "range_end": base64("/ours0"),
        }
        self.call("auth/role/grant", {"name": "ours", "perm": permission})
        for user, password in users.items():
            self.call("auth/user/add", {"name": user, "password": password})
            self.call("auth/user/grant", {"user": user, "role": "ours"})
        self.call("auth/enable", {})
        return self.token("root", "root")

    def token(self, user: str, password: str) -> str:
        """A token of a user."""
        return str(self.call("auth/authenticate", {"name": user, "password": password})["token"])


def base64(text: str | bytes) -> str:
    """Bytes in the gateway's JSON."""
    return b64encode(text.encode() if isinstance(text, str) else text).decode()


class Told:
    """What a watch has told, in order."""

    def __init__(self, tree: Tree, seen: Content) -> None:
        self.contents = [seen]
        self.reasons: list[str] = []
        tree.watch(seen, self.contents.append, self.reasons.append)

    @property
    def values(self) -> dict[str, bytes]:
        """The values of the newest content."""
        return {key: entry.value for key, entry in self.contents[-1].entries.items()}

    async def until(self, **values: str | bytes) -> None:
        """Wait until the newest content is this one."""
        wanted = {key: one.encode() if isinstance(one, str) else one for key, one in values.items()}
        await until(lambda: self.values == wanted, lambda: f"{self.values} {self.reasons}")


async def until(
    condition: Callable[[], Any], what: Callable[[], str] = lambda: "it does not come"
) -> None:
    """Wait for a condition."""
    end = reactor.seconds() + PATIENCE
    while not condition():
        assert reactor.seconds() < end, what()
        await deferLater(reactor, 0.01, lambda: None)


class Proxy:
    """Passes connections on to a port, as long as it is told to.

    ``speed`` is how many bytes it passes to the client at a time, 100 times a second; 0: all.
    """

    def __init__(self, to: int) -> None:
        self.to = to
        self.port = 0
        #: Open connections: the client's side of each.
        self.open: list[_Front] = []
        #: Heads of requests that came.
        self.paths: list[str] = []
        #: Whether a connection is passed on at all, by path.
        self.swallows: Callable[[str], bool] = lambda path: False
        self.speed = 0
        self._listening: Any = None

    async def listen(self) -> Proxy:
        """Itself, once it listens."""
        factory = Factory.forProtocol(lambda: _Front(self))
        endpoint = TCP4ServerEndpoint(reactor, self.port, interface="127.0.0.1")
        self._listening = await endpoint.listen(factory)
        self.port = self._listening.getHost().port
        return self

    async def close(self) -> None:
        """Listen no more, and cut all connections."""
        if self._listening is not None:
            await self._listening.stopListening()
            self._listening = None
        self.cut()
        await until(lambda: not self.open)

    def cut(self) -> None:
        """Cut all connections."""
        for one in list(self.open):
            one.transport.abortConnection()

    def go_silent(self) -> None:
        """Pass nothing more on over the connections that are open."""
        for one in self.open:
            one.is_silent = True


class _Front(Protocol):
    transport: Any

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.is_silent = False
        self.path = ""
        self.head = b""
        self.back: _Back | None = None
        self.queue = b""
        self.passing: Deferred[Any] | None = None

    def connectionMade(self) -> None:
        self.proxy.open.append(self)

    def dataReceived(self, data: bytes) -> None:
        if self.back is not None:
            if not self.is_silent:
                self.back.transport.write(data)
            return
        self.head += data
        if self.path or b"\r\n" not in self.head:
            return
        self.path = self.head.split(b" ")[1].decode()
        self.proxy.paths.append(self.path)
        if self.proxy.swallows(self.path):
            return
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.proxy.to)
        connected = connectProtocol(endpoint, _Back(self))
        connected.addErrback(lambda failure: self.transport.abortConnection())

    def take(self, data: bytes) -> None:
        """Bytes for the client."""
        if self.is_silent:
            return
        if not self.proxy.speed:
            self.transport.write(data)
            return
        self.queue += data
        if self.passing is None:
            self.pass_on()

    def pass_on(self) -> None:
        self.transport.write(self.queue[: self.proxy.speed])
        self.queue = self.queue[self.proxy.speed :]
        self.passing = deferLater(reactor, 0.01, self.pass_on) if self.queue else None
        if self.passing is not None:
            self.passing.addErrback(lambda failure: None)

    def connectionLost(self, reason: Any = None) -> None:
        self.proxy.open.remove(self)
        if self.passing is not None:
            self.passing.cancel()
        if self.back is not None:
            self.back.transport.abortConnection()


class _Back(Protocol):
    transport: Any

    def __init__(self, front: _Front) -> None:
        self.front = front

    def connectionMade(self) -> None:
        self.front.back = self
        self.transport.write(self.front.head)

    def dataReceived(self, data: bytes) -> None:
        self.front.take(data)

    def connectionLost(self, reason: Any = None) -> None:
        if not self.front.queue:
            self.front.transport.loseConnection()
