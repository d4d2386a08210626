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
from twisted.internet.task import deferLater

from slardar.stores.tree import Content, Tree
from tests.health.probes.real import Server, found
from tests.integration.programs import free_port
from tests.stores.proxy import End, Proxy

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


class HttpProxy(Proxy):
    """Knows the path of each connection's first request, and may treat it badly.

    ``speed`` is how many bytes it passes to the client at a time, 100 times a second; 0: all.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        #: The paths of the requests that came.
        self.paths: list[str] = []
        #: Whether a connection is not passed on, by path.
        self.swallows: Callable[[str], bool] = lambda path: False
        self.speed = 0

    @property
    def fronts(self) -> list[_Front]:
        """The connections of clients."""
        return [one for one in self.connections if isinstance(one, _Front)]

    def buildProtocol(self, address: object) -> _Front:
        return _Front(self)

    async def answered(self, path: str) -> list[_Front]:
        """The connections for a path on which an answer has begun, once there are any."""

        def found() -> list[_Front]:
            return [
                one
                for one in self.fronts
                if one.path == path and one.is_answered and not one.is_silent
            ]

        await until(found)
        return found()

    async def break_off(self, path: str) -> None:
        """Cut the connections for a path, in the middle of the answer."""
        for one in await self.answered(path):
            one.transport.abortConnection()

    async def silence(self, path: str) -> None:
        """Pass nothing more on over the connections for a path, in the middle of the answer."""
        for one in await self.answered(path):
            one.is_silent = True


class _Front(End):
    """A client's end.  It is connected to the server once its path is known."""

    proxy: HttpProxy

    def __init__(self, proxy: HttpProxy) -> None:
        super().__init__(proxy, None)
        self.path = ""
        self.is_silent = self.is_answered = False
        self._queue = b""

    def connectionMade(self) -> None:
        self.proxy.connections.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self.is_silent:
            return
        super().dataReceived(data)
        if not self.path:
            self.path = data.split(b" ")[1].decode()
            self.proxy.paths.append(self.path)
            if not self.proxy.swallows(self.path):
                self.proxy.connect(self)

    def take(self, data: bytes) -> None:
        if self.is_silent:
            return
        self.is_answered = True
        if not self.proxy.speed:
            self.transport.write(data)
            return
        is_idle = not self._queue
        self._queue += data
        if is_idle:
            self._trickle()

    def left(self) -> None:
        # etcd ends a connection after its answer, which must arrive.
        self.transport.loseConnection()

    def _trickle(self) -> None:
        if self.is_lost:
            return
        self.transport.write(self._queue[: self.proxy.speed])
        self._queue = self._queue[self.proxy.speed :]
        if self._queue:
            reactor.callLater(0.01, self._trickle)
