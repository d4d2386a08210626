"""Services in Consul's catalogue, followed with blocking queries.

A query is answered when something of the service has changed, or after a while.  The rules for
indexes are those of Consul's documentation of blocking queries.  What an answer lists:
:mod:`slardar.catalogues.consul_listing`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
from consul.callback import CB  # type: ignore[import-untyped]
from twisted.internet import defer
from twisted.internet.task import deferLater
from twisted.logger import Logger

from slardar.catalogues.base import Catalogue, Failed, Report
from slardar.catalogues.consul_listing import Instance, listing_of, read_instances
from slardar.catalogues.pace import Pace
from slardar.model.consul_query import ConsulQuery
from slardar.model.names import split_host_port
from slardar.model.service import Origin
from slardar.repeated import AGAIN, AGAIN_MOST
from slardar.txconsul import Consul

__all__ = [
    "WAIT",
    "Client",
    "Connect",
    "ConsulCatalogue",
    "UnusableError",
    "connector",
    "usual_agents",
]

#: Seconds for which an agent holds a query while nothing changes; it may add a sixteenth.  Proxies
#: close connections that are silent for a minute, and a query a minute is no load.
WAIT: Final = 50
#: Queries of a service that are made at once after a quiet time.  Then one is made each 50 ms, and
#: more rarely while something changes all the time.
_BURST: Final = 10
_PAUSE: Final = 0.05
_LONGEST: Final = 0.5
#: The node that stands for the agent's own.
_OWN_NODE: Final = "_agent"
#: Where an agent is if nothing says it.
_USUAL: Final = "http://127.0.0.1:8500"

_log = Logger("slardar.catalogues")


class UnusableError(Exception):
    """An answer that says nothing of the service."""


class Client(Protocol):
    """What is needed of :class:`slardar.txconsul.Consul`."""

    http: Any
    agent: Any

    def prepare_headers(self, token: str | None = None) -> dict[str, str]:
        """The headers of a call."""

    def close(self) -> defer.Deferred[Any]:
        """Cancel what is under way, and close all connections."""


#: Makes a client for the agents that a service names; empty: for the usual ones.
Connect = Callable[[str], Client]


class ConsulCatalogue(Catalogue):
    """Watches services in Consul, each with one query that waits.

    ``draw()`` is a number from 0 to 1.
    """

    def __init__(
        self, reactor: Any, connect: Connect, draw: Callable[[], float] = random.random
    ) -> None:
        self._reactor = reactor
        self._connect = connect
        self._draw = draw
        self._watches: dict[Origin, _Watch] = {}
        self._clients: dict[str, Client] = {}

    def follow(self, origin: Origin, told: Callable[[Report], None]) -> None:
        """See :meth:`Catalogue.follow`."""
        query = ConsulQuery.of(origin)
        try:
            client = self._clients.get(query.agents) or self._connect(query.agents)
        except Exception as error:  # certificates that cannot be read, an odd variable
            told(Failed(_reason(error)))
            return
        self._clients[query.agents] = client
        watch = self._watches[origin] = _Watch(self._reactor, client, query, told, self._draw)
        watch.start()

    def unfollow(self, origin: Origin) -> None:
        """See :meth:`Catalogue.unfollow`."""
        watch = self._watches.pop(origin, None)
        if watch is not None:
            watch.stop()
            agents = watch.query.agents
            if all(other.query.agents != agents for other in self._watches.values()):
                _close(self._clients.pop(agents))

    def stop(self) -> None:
        """See :meth:`Catalogue.stop`."""
        for origin in list(self._watches):
            self.unfollow(origin)


class _Watch:
    """Follows one service."""

    def __init__(
        self,
        reactor: Any,
        client: Client,
        query: ConsulQuery,
        told: Callable[[Report], None],
        draw: Callable[[], float],
    ) -> None:
        self.query = query
        self._reactor = reactor
        self._client = client
        self._told = told
        self._draw = draw
        self._pace = Pace(_PAUSE, _LONGEST, _BURST)
        #: The index of the last answer; 0: the next query is answered at once.
        self._index = 0
        #: Seconds until the next query, if one more fails.
        self._again = AGAIN
        #: The node whose servers come first, and why it is not known.
        self._near = "" if query.near == _OWN_NODE else query.near
        self._near_note = ""
        self._is_over = False
        self._running: defer.Deferred[None] | None = None

    def start(self) -> None:
        """Begin to ask."""
        self._running = defer.ensureDeferred(self._run())
        self._running.addErrback(
            lambda failure: _log.failure("a service of Consul is not followed", failure=failure)
        )

    def stop(self) -> None:
        """Ask no more, and tell no more."""
        self._is_over = True
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        try:
            while not self._is_over:
                delay = self._pace.delay(self._reactor.seconds())
                if delay:
                    await deferLater(self._reactor, delay)
                failed = await self._ask_once()
                if failed and not self._is_over:
                    # Between half and all of it, so that many do not come back together.
                    pause = self._again * (0.5 + 0.5 * self._draw())
                    self._again = min(2 * self._again, AGAIN_MOST)
                    await deferLater(self._reactor, pause)
        except defer.CancelledError:
            if not self._is_over:
                raise

    async def _ask_once(self) -> bool:
        """Put the query once, and tell what is listed.  Returns whether it has failed."""
        try:
            if self.query.near == _OWN_NODE and not self._index:
                await self._find_own_node()
            index, instances = await self._question()
        except Exception as error:
            if self._is_over:
                raise
            # What has changed meanwhile is seen at once: the next query waits for nothing.  An
            # agent that has lost its state begins with small indexes.
            self._index = 0
            self._told(Failed(_reason(error)))
            return True
        # With an index below 1 no query would wait.  One that goes back says that the state is
        # another one: a snapshot was restored, a server replaced.
        index = max(index, 1)
        self._index = 0 if index < self._index else index
        self._again = AGAIN
        report = listing_of(instances, self.query, self._near)
        if self._near_note and not isinstance(report, Failed):
            note = f"{self._near_note}; {report.note}" if report.note else self._near_note
            report = msgspec.structs.replace(report, note=note)
        self._told(report)
        return False

    async def _question(self) -> tuple[int, tuple[Instance, ...]]:
        query = self.query
        # Any server may answer, not only the leader.  py-consul's method cannot say so.
        params: list[tuple[str, Any]] = [("stale", "1")]
        if self._index:
            params += [("index", self._index), ("wait", f"{WAIT}s")]
        params += (("tag", tag) for tag in query.tags)
        if query.dc:
            params.append(("dc", query.dc))
        path = f"/v1/health/service/{query.service}"
        headers = self._client.prepare_headers()
        found: tuple[int, tuple[Instance, ...]] = await self._client.http.get(
            _answer, path, params=params, headers=headers
        )
        return found

    async def _find_own_node(self) -> None:
        """Ask how the agent's own node is called.  An agent that does not tell is no failure."""
        try:
            about = await self._client.agent.self()
            self._near, self._near_note = str(about["Config"]["NodeName"]), ""
        except Exception as error:
            if self._is_over:
                raise
            self._near_note = f"near: the agent does not tell its node: {_reason(error)}"


def connector(reactor: Any, usual: str, environ: Mapping[str, str]) -> Connect:
    """Makes clients; ``usual`` is the URL of the agents of services that name none.

    The token of ``CONSUL_HTTP_TOKEN`` is for these agents alone: a service may be made by somebody
    who must not see it.
    """
    own = environ.get("CONSUL_HTTP_TOKEN") or None

    def connect(agents: str) -> Any:
        scheme, places = _read_agents(agents or usual)
        usual_scheme, usual_places = _read_agents(usual)
        is_usual = scheme == usual_scheme and set(places) <= set(usual_places)
        (host, port), *more = places
        client: Any = Consul(reactor, host, port, None, scheme, agents=more)
        # py-consul takes the token of the environment by itself.
        client.token = client.http.token = own if is_usual else None
        return client

    return connect


def usual_agents(store: str, environ: Mapping[str, str]) -> str:
    """The URL of the agents that are asked for services that name none: those of the store if it is
    in Consul, else those of ``CONSUL_HTTP_ADDR``, else the one of this machine."""
    if store.startswith("consul:"):
        scheme, _, rest = store.removeprefix("consul:").partition("://")
        return f"{scheme}://{rest.partition('/')[0]}"
    address = environ.get("CONSUL_HTTP_ADDR", "")
    if not address:
        return _USUAL
    is_tls = environ.get("CONSUL_HTTP_SSL", "").lower() in ("1", "true")
    return address if "://" in address else f"{'https' if is_tls else 'http'}://{address}"


def _read_agents(url: str) -> tuple[str, list[tuple[str, int]]]:
    """The scheme and the places of ``http://HOST:PORT[,HOST:PORT...]``.  Raises ValueError."""
    scheme, _, rest = url.partition("://")
    places = [split_host_port(place) for place in rest.rstrip("/").split(",")]
    found = [place for place in places if place is not None]
    if scheme not in ("http", "https") or len(found) < len(places):
        raise ValueError(f"expected http://HOST:PORT or https://HOST:PORT of Consul, got {url}")
    return scheme, found


def _answer(response: Any) -> tuple[int, tuple[Instance, ...]]:
    """The index and the instances of an answer.  Raises UnusableError for one that may be an
    accident: the server may not know the newest, or leaves out what the token may not read."""
    index, found = CB.json(index=True)(response)
    headers = response.headers
    if headers.get("X-Consul-KnownLeader", "true") == "false":
        raise UnusableError("the server that answers knows no leader")
    if headers.get("X-Consul-Results-Filtered-By-ACLs", "false") == "true":
        raise UnusableError("the token may not read all of the service")
    try:
        return int(index), read_instances(found)
    except ValueError as error:
        raise UnusableError(f"the answer is no list of instances: {error}") from None


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _close(client: Client) -> None:
    client.close().addErrback(lambda _failure: None)
