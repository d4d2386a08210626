"""Servers and clients in a thread of this process, for tests that need steady traffic."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine
from typing import Any

__all__ = ["Live"]


class Live:
    """HTTP servers on ports of the kernel's choice, and clients that send requests at a pace.

    To be closed by ``close``, or used as a context manager.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        #: Clients.  A task to which nobody refers may be collected while it waits.
        self._clients: list[Any] = []

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def server(self, seconds: float = 0.0, failing: float = 0.0) -> str:
        """A server that answers after about so many seconds, a share of the requests with 500;
        returns its ``HOST:PORT``."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    if seconds:
                        await asyncio.sleep(seconds * random.lognormvariate(0.0, 0.5))
                    status = b"500 Oh" if random.random() < failing else b"200 OK"
                    writer.write(b"HTTP/1.1 %s\r\nContent-Length: 5\r\n\r\nhello" % status)
                    await writer.drain()
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        async def begin() -> str:
            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            self._servers.append(server)
            return "{}:{}".format(*server.sockets[0].getsockname()[:2])

        return str(self._run(begin()))

    def traffic(self, port: int, host: str, rate: float, path: str = "/") -> None:
        """Send so many requests a second to ``port`` from now on, over one connection."""

        async def send() -> None:
            head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            while True:
                writer = None
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    while True:
                        writer.write(head)
                        found = await reader.readuntil(b"\r\n\r\n")
                        for line in found.split(b"\r\n"):
                            if line.lower().startswith(b"content-length:"):
                                await reader.readexactly(int(line[15:]))
                        await asyncio.sleep(random.expovariate(rate))
                except (OSError, asyncio.IncompleteReadError):
                    await asyncio.sleep(0.1)
                finally:
                    if writer is not None:
                        writer.close()

        self._clients.append(asyncio.run_coroutine_threadsafe(send(), self._loop))

    def close(self) -> None:
        """End all of it."""

        async def end() -> None:
            for server in self._servers:
                server.close()
            tasks = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # Connections that were closed are gone a turn of the loop later.
            await asyncio.sleep(0.01)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
