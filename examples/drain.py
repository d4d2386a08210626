"""Takes a server out of an upstream without a failed request, over slardar's AMP channel.

::

    python examples/drain.py unix:slardar.sock www.example.com 127.0.0.1:8001

The server gets no new request from now on.  The program waits until the requests under way have
ended, and says so.  Stop, update and start the server, and press Enter to bring it back.
"""

from __future__ import annotations

import sys

from twisted.internet import defer, task, threads

import slardar.amp


async def drain(reactor, endpoint: str, name: str, server: str) -> None:
    client = await slardar.amp.connect(reactor, endpoint)
    try:
        version = await client.patch_server(name, server, {"state": "drain"})
        print(f"version {version}: {server} gets no new request", flush=True)
        while await active(client, name, server):
            await task.deferLater(reactor, 0.2)
        print("no request is under way; press Enter to bring the server back", flush=True)
        await threads.deferToThread(sys.stdin.readline)
        version = await client.patch_server(name, server, {"state": "up"})
        print(f"version {version}: {server} is back", flush=True)
    finally:
        await client.close()


async def active(client: slardar.amp.Client, name: str, server: str) -> int:
    """The number of requests under way on a server."""
    levels = (await client.status())[f"cls:{name}"]
    return sum(
        one["active"] for level in levels for one in level if one["server"] == f"{name}:{server}"
    )


if __name__ == "__main__":
    words = sys.argv[1:]
    task.react(lambda reactor: defer.ensureDeferred(drain(reactor, *words)))
