"""Follows the healthy servers of a service in Consul, and prints them whenever they change.

::

    python examples/txconsul/services.py web
    python examples/txconsul/services.py web 10.0.0.1:8500 10.0.0.2:8500

The agents after the name belong to one cluster: when one is gone, another one is asked.  Without
any, the agent on this machine is asked.  A token is taken from ``CONSUL_HTTP_TOKEN``.  Ctrl-C ends
the program.
"""

from __future__ import annotations

import sys

from consul import ConsulException
from twisted.internet import defer, task

from slardar.txconsul import Consul


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


async def follow(reactor, service: str, agents: list[str]) -> None:
    (host, port), *others = [address(one) for one in agents or ["127.0.0.1:8500"]]
    consul = Consul(reactor, host, port, agents=others)
    index, seen, delay = None, None, 1
    while True:
        try:
            # Consul answers when something has changed, or when the wait is over.
            found, rows = await consul.health.service(service, passing=True, index=index, wait="5m")
        except ConsulException as error:
            print(f"asking again in {delay} s: {error}", flush=True)
            await task.deferLater(reactor, delay)
            index, delay = None, min(delay * 2, 30)
            continue
        # An index that goes backwards means: start anew.
        index, delay = (found if index is None or int(found) >= int(index) else None), 1
        servers = sorted(
            f"{row['Service']['Address'] or row['Node']['Address']}:{row['Service']['Port']}"
            for row in rows
        )
        if servers != seen:
            seen = servers
            print(f"{service}: {' '.join(servers) or 'no server'}", flush=True)


def main(reactor) -> defer.Deferred:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    return defer.Deferred.fromCoroutine(follow(reactor, sys.argv[1], sys.argv[2:]))


if __name__ == "__main__":
    task.react(main)
