"""Services in Consul's catalogue, followed with blocking queries.

A query is answered when something of the service has changed, or after a while
(:mod:`slardar.txconsul.blocking`).  What an answer lists: :mod:`slardar.catalogues.consul_listing`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

from msgspec import Struct, structs
from twisted.internet import defer

from slardar.catalogues.base import Catalogue, Failed, Listing, Report
from slardar.catalogues.consul_listing import Instance, listing_of, read_instances
from slardar.catalogues.pace import Pace
from slardar.model.consul_query import ConsulQuery
from slardar.model.names import split_host_port
from slardar.model.service import Origin
from slardar.txconsul import Consul
from slardar.txconsul.blocking import Blocking, read_index
from slardar.txconsul.token import read_token

__all__ = [
    "WAIT",
    "Agents",
    "Client",
    "Connect",
    "ConsulCatalogue",
    "UnusableError",
    "agents_of",
    "agents_of_environment",
    "connector",
]

#: Seconds for which an agent holds a query while nothing changes; it may add a sixteenth.  Proxies
#: close connections that are silent for a minute, and a query a minute is no load.
WAIT: Final = 50
#: Queries of a service that are made at once after a quiet time; seconds between two of them then,
#: and at most, while something changes all the time.
_BURST: Final = 10
_PAUSE: Final = 0.02
_LONGEST: Final = 0.1
#: Bytes of an answer with an error that the reason repeats.
_MAX_TEXT: Final = 300
#: The node that stands for the agent's own.
_OWN_NODE: Final = "_agent"


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
        find = partial(self._client, query.agents)
        watch = self._watches[origin] = _Watch(self._reactor, find, query, told, self._draw)
        watch.start()

    def _client(self, agents: str) -> Client:
        """The client for some agents.  Raises whatever keeps one from being made: a certificate
        that cannot be read, an odd variable."""
        client = self._clients.get(agents)
        if client is None:
            client = self._clients[agents] = self._connect(agents)
        return client

    def unfollow(self, origin: Origin) -> None:
        """See :meth:`Catalogue.unfollow`."""
        watch = self._watches.pop(origin, None)
        if watch is not None:
            watch.stop()
            agents = watch.query.agents
            if all(other.query.agents != agents for other in self._watches.values()):
                client = self._clients.pop(agents, None)
                if client is not None:
                    _close(client)

    def stop(self) -> None:
        """See :meth:`Catalogue.stop`."""
        for origin in list(self._watches):
            self.unfollow(origin)


class _Page(Struct):
    """An answer to the question for a service."""

    index: int
    lags: bool
    instances: tuple[Instance, ...]


class _Watch:
    """Follows one service.  ``find_client`` gives the client to ask; it may raise anything, and is
    called again for the next query."""

    def __init__(
        self,
        reactor: Any,
        find_client: Callable[[], Client],
        query: ConsulQuery,
        told: Callable[[Report], None],
        draw: Callable[[], float],
    ) -> None:
        self.query = query
        self._find_client = find_client
        self._told = told
        self._blocking: Blocking[_Page] = Blocking(
            reactor,
            self._ask,
            may_be_stale=True,
            pace=Pace(_PAUSE, _LONGEST, _BURST).delay,
            chance=draw,
        )
        #: The node whose servers come first, and why it is not known.
        self._near = "" if query.near == _OWN_NODE else query.near
        self._near_note = ""
        #: Whether the last answer has listed no instance, and the token may read the service.
        self._is_empty = False

    def start(self) -> None:
        """Begin to ask."""
        self._blocking.start(self._take, lambda error: self._told(Failed(_reason(error))))

    def stop(self) -> None:
        """Ask no more, and tell no more."""
        self._blocking.stop()

    async def _ask(self, index: int, is_stale: bool) -> _Page:
        query, client = self.query, self._find_client()
        headers = client.prepare_headers()
        if query.near == _OWN_NODE and not index:
            # Another agent may answer than before.
            await self._find_own_node(client)
        # py-consul's method for this knows no ``stale``.
        params: list[tuple[str, Any]] = [("stale", "1")] if is_stale else []
        if index:
            params += [("index", index), ("wait", f"{WAIT}s")]
        params += (("tag", tag) for tag in query.tags)
        if query.dc:
            params.append(("dc", query.dc))
        path = f"/v1/health/service/{query.service}"
        page: _Page = await client.http.get(_answer, path, params, headers, raw=True)
        if not page.instances and not (index and self._is_empty):
            await self._check_permission(client, headers)
        self._is_empty = not page.instances
        return page

    async def _check_permission(self, client: Client, headers: dict[str, str]) -> None:
        """Raises if the token may not read the service.

        Consul leaves out of a list what may not be read.  It refuses to tell of the defaults of one
        service, whether there are any or not.
        """
        path = f"/v1/config/service-defaults/{self.query.service}"
        params = [("dc", self.query.dc)] if self.query.dc else []
        await client.http.get(_refusal, path, params, headers)

    def _take(self, page: _Page, _trusts: bool) -> None:
        report = listing_of(page.instances, self.query, self._near)
        if self._near_note and isinstance(report, Listing):
            note = f"{self._near_note}; {report.note}" if report.note else self._near_note
            report = structs.replace(report, note=note)
        self._told(report)

    async def _find_own_node(self, client: Client) -> None:
        """Ask how the agent's own node is called.  An agent that does not tell is no failure."""
        try:
            about = await client.agent.self()
            self._near, self._near_note = str(about["Config"]["NodeName"]), ""
        except defer.CancelledError:
            raise
        except Exception as error:
            self._near_note = f"near: the agent does not tell its node: {_reason(error)}"


class Agents(Struct, frozen=True):
    """Agents of one cluster, and how they are asked."""

    scheme: str
    places: tuple[tuple[str, int], ...]
    #: Whose permissions count; empty: nobody's.
    token: str = ""
    #: A file with the token, which is read for each question; it goes before ``token``.
    token_file: str = ""
    #: As in py-consul; ``None``: what the environment says of it.
    verify: bool | str | None = None
    cert: tuple[str, str] | None = None


def agents_of(url: str, token: str = "") -> Agents:
    """The agents of ``http://HOST:PORT[,HOST:PORT...]``.  Raises ValueError, without the URL, which
    may hold a password."""
    scheme, _, rest = url.partition("://")
    places = [split_host_port(place) for place in rest.rstrip("/").split(",")]
    found = tuple(place for place in places if place is not None)
    if scheme not in ("http", "https") or len(found) < len(places):
        raise ValueError("Consul: expected agents such as http://HOST:PORT or https://HOST:PORT")
    return Agents(scheme, found, token)


def agents_of_environment(environ: Mapping[str, str]) -> Agents:
    """Those of ``CONSUL_HTTP_ADDR``, else the one of this machine.  Raises ValueError."""
    address = environ.get("CONSUL_HTTP_ADDR") or "127.0.0.1:8500"
    if "://" not in address:
        is_tls = environ.get("CONSUL_HTTP_SSL", "").lower() in ("1", "true")
        address = f"{'https' if is_tls else 'http'}://{address}"
    return agents_of(address, environ.get("CONSUL_HTTP_TOKEN", ""))


def connector(reactor: Any, find_usual: Callable[[], Agents]) -> Connect:
    """Makes clients; ``find_usual`` gives the agents that are asked for services that name none.

    Their token is for them alone: a service may be made by somebody who must not see it.
    """

    def connect(url: str) -> Client:
        usual = find_usual()
        if not url:
            return _Consul(reactor, usual)
        named = agents_of(url)
        if named.scheme == usual.scheme and set(named.places) <= set(usual.places):
            return _Consul(reactor, structs.replace(usual, places=named.places))
        return _Consul(reactor, named)

    return connect


class _Consul(Consul):
    """A client of some agents, with their token."""

    def __init__(self, reactor: Any, agents: Agents) -> None:
        (host, port), *more = agents.places
        super().__init__(
            reactor,
            host,
            port,
            None,
            agents.scheme,
            verify=agents.verify,
            cert=agents.cert,
            agents=more,
        )
        self._token_file = agents.token_file
        # py-consul takes the token of the environment by itself.
        self._use(agents.token)

    def prepare_headers(self, token: str | None = None) -> dict[str, str]:
        """The headers of a call.  Raises ValueError if a token cannot be read."""
        if self._token_file:
            self._use(read_token(self._token_file))
        headers: dict[str, str] = super().prepare_headers(token)
        return headers

    def _use(self, token: str) -> None:
        self.token = self.http.token = token


def _answer(response: Any) -> _Page:
    """What is answered.  Raises UnusableError if it says nothing of the service."""
    headers, body = response.headers, response.body
    if response.code != 200:
        text = " ".join(body[:_MAX_TEXT].decode("utf-8", "replace").split())
        raise UnusableError(f"{response.code} {text}")
    if headers.get("X-Consul-Results-Filtered-By-ACLs", "false") == "true":
        raise UnusableError("the token may not read all of the service")
    try:
        return _Page(*read_index(headers), read_instances(body))
    except (LookupError, ValueError) as error:
        raise UnusableError(f"the answer is no list of instances: {error}") from None


def _refusal(response: Any) -> None:
    if response.code == 403:
        raise UnusableError("the token may not read the service")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _close(client: Client) -> None:
    client.close().addErrback(lambda _failure: None)
