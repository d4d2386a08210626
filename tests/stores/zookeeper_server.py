"""A real ZooKeeper for tests, as Debian installs it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

from tests.health.probes.real import Server, found
from tests.integration.programs import free_port

#: What the server needs of the folder with Debian's Java libraries.
_LIBRARIES = (
    "zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-simple", "netty-all", "netty-buffer",
    "netty-codec", "netty-common", "netty-handler", "netty-resolver", "netty-transport",
    "netty-transport-native-epoll", "netty-transport-native-unix-common", "snappy-java",
    "metrics-core", "commons-cli", "jline2",
)  # fmt: skip
_SETTINGS = """\
tickTime=500
dataDir={folder}
clientPort={port}
clientPortAddress=127.0.0.1
admin.enableServer=false
maxClientCnxns=0
"""


class ZooKeeper(Server):
    """A server with its data in ``folder``."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.port = port or free_port()
        file = folder / "zoo.cfg"
        file.write_text(_SETTINGS.format(folder=folder / "data", port=self.port))
        path = ":".join(f"/usr/share/java/{name}.jar" for name in _LIBRARIES)
        # The heap is small, the collector without threads, and the compiler quick to start.
        command = [found("java"), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += ["-cp", path, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(file)]
        super().__init__(command, folder)
        self.wait_until("PrepRequestProcessor .* started")
        # For a moment more it closes all connections.
        client = self.client()
        client.stop()
        client.close()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.signal(signal.SIGKILL)
        self.end()

    def begin_again(self) -> None:
        """Start another process with the same data, on the same port."""
        ZooKeeper.__init__(self, self.folder, self.port)

    def client(self, *auth: tuple[str, str]) -> Any:
        """Somebody else's client.  It blocks."""
        client = KazooClient(f"127.0.0.1:{self.port}", auth_data=list(auth))
        client.start()
        return client
