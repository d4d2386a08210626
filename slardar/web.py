"""slardar inside a twisted.web site: a resource that passes requests on.

:class:`ReverseProxyResource` routes, balances, retries and pools connections as
slardar's own listeners do: it uses the same :class:`DataPlane` and the same exchange;
only the client's side is twisted.web's.  twisted.web's side takes some fifteen times the
CPU of a listener's, so this is for a site that also has pages of its own.

twisted.web decides how a connection is kept, how long a client may be idle
(``Site(timeout=...)``), and that a client which closes its side has left.  It has no
trailers, so the trailers of bodies are dropped.  It cannot make a tunnel of a connection,
so ``Upgrade`` is ignored, as RFC 9110 7.8 allows.

twisted.web reads the body of a request before it asks for a resource, into memory up to
100 kB and then into a temporary file, and takes forms apart.  With
``Site(root, requestFactory=StreamingRequest)`` it does not: the body is passed on as it
arrives, at the pace at which the server reads it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from msgspec import structs
from twisted.internet import defer
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from slardar import plugins
from slardar.config import Settings, parse_settings
from slardar.dataplane.proxy import DataPlane
from slardar.dataplane.web_request import WebRequest
from slardar.errors import ConfigError
from slardar.model.live import Live
from slardar.model.snapshot import Snapshot
from slardar.observers.exposition import CONTENT_TYPE
from slardar.plugins import balancer_factory, find_probe
from slardar.tls_files import warn_unverified, with_files

# Most of twisted.web has no types.
# mypy: disable-error-code="no-untyped-call,union-attr,attr-defined"

__all__ = ["MetricsResource", "ReverseProxyResource", "StreamingRequest", "make_plane"]

#: Reading and dropping the rest of a body may take so many times ``timeouts.linger`` in
#: all, and a second more for so many bytes of it, as on a listener's connection.
_LINGER_TIMES = 6.0
_LINGER_RATE = 8192.0

_log = Logger("slardar.web")


def make_plane(reactor: Any, config: Settings | Mapping[str, Any]) -> DataPlane:
    """A data plane without listeners that serves ``config`` until the reactor stops.

    ``config`` is the content of a ``slardar.yaml``, as an object or as ``Settings``
    (:func:`slardar.config.load_file`); ``listen``, ``control``, ``store`` and ``workers``
    are for twistd and have no effect here, and ``services`` are refused.  Servers get
    heartbeats unless ``health.enabled`` is false.  When the reactor shuts down, requests under
    way are finished first, for at most ``timeouts.drain`` seconds.  Servers given by name are
    looked up from now on; until their addresses are known, requests for them get a 502.

    Raises ConfigError with a line for each mistake; it has then started nothing.
    """
    settings = _settings(config)
    if settings.first_services:
        raise ConfigError("services: expected none in another program: only twistd follows them")
    upstreams = settings.first_upstreams
    snapshot = Snapshot.build(
        1,
        upstreams,
        settings.first_routes,
        settings.default_upstream,
        settings=settings.first_settings,
    )
    plane = DataPlane(reactor, settings, Live(), balancer_factory, find_probe=find_probe)
    plane.apply(snapshot, list(upstreams)).addErrback(
        lambda failure: _log.failure("the upstreams could not all be served", failure)
    )
    warn_unverified(upstreams.values(), {})
    plane.start()
    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: None if plane.draining else plane.stop()
    )
    return plane


def _settings(config: Settings | Mapping[str, Any]) -> Settings:
    if not isinstance(config, Settings):
        return parse_settings(config, plugins=plugins)
    for name, upstream in config.first_upstreams.items():
        plugins.check_mode(upstream.mode, upstream.mode_opts, f"upstreams.{name}")
        plugins.check_probe(upstream.probe, f"upstreams.{name}")
    found = {name: with_files(upstream) for name, upstream in config.first_upstreams.items()}
    return structs.replace(config, upstreams=found)


class ReverseProxyResource(Resource):
    """Passes every request it gets to a server of one of the plane's upstreams.

    ``upstream`` names the upstream; by default routes, Host and ``default_upstream``
    decide, as for a listener.  A resource below a path passes the whole path on; with
    ``strip_prefix`` it leaves out its own path, so that ``/api/users?x`` at ``/api``
    becomes ``/users?x``.

    ::

        proxy = ReverseProxyResource.from_config(
            reactor, {"upstreams": {"api": {"servers": [{"host": "10.0.0.1", "port": 80}]}}}, "api"
        )
        root.putChild(b"api", proxy)

    Several resources may share a plane (:func:`make_plane`).
    """

    isLeaf = True  # noqa: N815 Twisted's name

    def __init__(
        self, plane: DataPlane, upstream: str | None = None, *, strip_prefix: bool = False
    ) -> None:
        super().__init__()
        self.plane = plane
        self.upstream = upstream
        self.strip_prefix = strip_prefix
        self._requests: set[WebRequest] = set()
        plane.web_requests.append(self._requests)

    @classmethod
    def from_config(
        cls,
        reactor: Any,
        config: Settings | Mapping[str, Any],
        upstream: str | None = None,
        *,
        strip_prefix: bool = False,
    ) -> ReverseProxyResource:
        """A resource with its own plane; ``config`` is as for :func:`make_plane`.

        Raises ConfigError, also if ``config`` has no upstream ``upstream``.
        """
        settings = _settings(config)
        if upstream is not None and upstream not in settings.first_upstreams:
            raise ConfigError(f'upstreams: expected one named "{upstream}"')
        return cls(make_plane(reactor, settings), upstream, strip_prefix=strip_prefix)

    def stop(self) -> defer.Deferred[None]:
        """Stop the plane before the reactor stops.

        New requests get a 503 from now on.  Requests under way are finished, and cut off
        after ``timeouts.drain`` seconds.  A second call does nothing.
        """
        return defer.ensureDeferred(self._stop())

    async def _stop(self) -> None:
        if self.plane.draining:
            return
        await self.plane.stop()
        for web_request in list(self._requests):
            web_request.cut()

    def render(self, request: Request) -> int:
        """Pass the request on, whatever its method."""
        self.pass_on(request)
        return NOT_DONE_YET

    def pass_on(self, request: Request) -> WebRequest:
        """Pass on a request whose body has arrived, or is arriving (streaming)."""
        streaming = False
        if isinstance(request, StreamingRequest):
            streaming = request.arriving
            request.linger_timeout = self.plane.linger_timeout
            request.max_linger = self.plane.max_linger
        web_request = WebRequest(self.plane, request, self._requests, streaming)
        web_request.begin(self.upstream, self.strip_prefix)
        return web_request


class MetricsResource(Resource):
    """Answers with what a plane has counted, in Prometheus' text format.

    ``root.putChild(b"metrics", MetricsResource(reactor, plane))``.  It is for whoever may know
    the names of upstreams and servers.  The text is written in pieces, between which the
    reactor has its turn.
    """

    isLeaf = True  # noqa: N815 Twisted's name

    def __init__(self, reactor: Any, plane: DataPlane) -> None:
        super().__init__()
        self.plane = plane
        self._cooperator = Cooperator(scheduler=lambda call: reactor.callLater(0, call))

    def render_GET(self, request: Request) -> int:
        """Answer as the control channel's ``GET /metrics``."""
        request.setHeader(b"Content-Type", CONTENT_TYPE.encode())
        writing = self._cooperator.cooperate(self._write(request))

        def gone(_: Any) -> None:
            if not request.finished:
                writing.stop()

        request.notifyFinish().addErrback(gone)
        return NOT_DONE_YET

    def _write(self, request: Request) -> Iterator[None]:
        for piece in self.plane.metrics():
            if piece:
                request.write(piece.encode())
            yield
        request.finish()


class StreamingRequest(Request):
    """A request that gives a :class:`ReverseProxyResource` the body as it arrives.

    For ``Site(root, requestFactory=StreamingRequest)``.  When the head of a request
    with a body has arrived, the resource is looked up; a :class:`ReverseProxyResource`
    begins at once.  Any other resource is looked up again and rendered when the body has
    arrived, as in twisted.web, so ``getChild`` must allow for two calls.  The same holds
    for a subclass that overrides ``ReverseProxyResource.render``.  Over HTTP/2 every body
    is read first.
    """

    #: Whether the request is under way and more of its body is to come.
    arriving = False
    #: ``Content-Length``, or ``None`` for chunks; known while ``arriving``.
    declared_length: int | None = None
    #: The plane's limits for a body that goes on after the reply: it is read and dropped,
    #: with at most so many seconds between two pieces, and up to so many bytes.
    linger_timeout = 5.0
    max_linger = 1 << 30

    _looking = False
    _web_request: WebRequest | None = None
    _answered = False
    _dropped = 0
    _lingering: Any = None
    _linger_ends = 0.0
    #: The channel's timeout is kept here while slardar has paused the client, or while the
    #: client waits for a server to ask for the body.
    _timeout: float | None = None
    _awaited = False

    # From the channel.

    def gotLength(self, length: int | None) -> None:
        """The head has arrived; ``length`` is the body's length, ``None`` for chunks."""
        line = [getattr(self.channel, name, None) for name in ("_command", "_path", "_version")]
        if length == 0 or None in line:
            # twisted.web has no public name for the request line at this time.  If it
            # is not found (HTTP/2), the body is read first.
            super().gotLength(length)
            return
        self.content = BytesIO()
        self.declared_length = length
        self.arriving = self._looking = True
        super().requestReceived(*line)
        self._looking = False
        if self._web_request is None and not self._answered:
            self.arriving = False
            super().gotLength(length)

    def process(self) -> None:
        """Render the resource; if only the head has arrived, only look the resource up."""
        if not self._looking:
            super().process()
            return
        site = self.site = self.channel.site
        self.prepath = []
        self.postpath = [unquote_to_bytes(part) for part in self.path[1:].split(b"/")]
        try:
            found: Any = site.getResourceFor(self)
        except Exception:
            # It will fail again, and be reported, when the body has arrived.
            found = None
        if self._answered or not isinstance(found, ReverseProxyResource):
            return
        if type(found).render is ReverseProxyResource.render:
            # The server decides whether the client shall send the body, so twisted.web
            # must not send a 100.
            expects = self.requestHeaders.hasHeader(b"expect")
            if expects and self.clientproto == b"HTTP/1.1":
                self._awaited = True
                self._timeout = self.channel.setTimeout(None)
            self._web_request = found.pass_on(self)
            if expects:
                self.requestHeaders.removeHeader(b"expect")

    def handleContentChunk(self, data: bytes) -> None:
        """More of the body has arrived."""
        if self._answered:
            self._dropped += len(data)
            if self._lingering is not None:
                # Not at once: the channel is about to deliver more of this body.
                self._lingering.reset(self._linger_seconds())
        elif self._web_request is not None:
            if self._awaited:
                self.body_wanted()
            self._web_request.body_arrived(data)
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The whole request has arrived."""
        arriving, self.arriving = self.arriving, False
        if self._answered:
            if arriving:
                self._finish()
        elif self._web_request is not None:
            self._resume()
            self._web_request.body_complete()
        else:
            super().requestReceived(command, path, version)

    def connectionLost(self, reason: Any) -> None:
        """The client is gone."""
        self._stop_lingering()
        super().connectionLost(reason)

    # From the proxied request.

    def finish(self) -> None:
        """The reply is complete.

        If the request's body is not, twisted.web would take the rest of it for a request,
        so the rest is read and dropped first, within limits.
        """
        if self.arriving:
            self._answered = True
            if not self.startedWriting:
                self.write(b"")
            self._awaited = False
            self.resume_body()
            self._linger_ends = time.monotonic() + _LINGER_TIMES * self.linger_timeout
            self._lingering = self.channel.callLater(self.linger_timeout, self._cut)
        else:
            self._finish()

    def pause_body(self) -> None:
        """Read no more from the client, and stop its timeout, since it is not to blame."""
        if self.arriving:
            if self._timeout is None:
                self._timeout = self.channel.setTimeout(None)
            self.transport.pauseProducing()

    def body_wanted(self) -> None:
        """The client may send the body now: its timeout runs again."""
        self._awaited = False
        self._restore_timeout()

    def resume_body(self) -> None:
        """Read from the client again."""
        if self.arriving:
            self._resume()
            self._restore_timeout()

    def _resume(self) -> None:
        self.transport.resumeProducing()

    def _linger_seconds(self) -> float:
        """Seconds within which the next piece of the rest must arrive."""
        if self._dropped > self.max_linger:
            return 0.0
        ends = self._linger_ends + self._dropped / _LINGER_RATE
        return max(0.0, min(self.linger_timeout, ends - time.monotonic()))

    def _restore_timeout(self) -> None:
        if self._awaited:
            return
        timeout, self._timeout = self._timeout, None
        if timeout is not None:
            self.channel.setTimeout(timeout)

    def _finish(self) -> None:
        self._stop_lingering()
        # If the end of the body came while the client was paused, the channel has
        # remembered that it had no timeout.
        self._awaited = False
        self._restore_timeout()
        super().finish()

    def _cut(self) -> None:
        """The rest of the body is too large or too late: close the connection."""
        self._lingering = None
        self.arriving = False
        self.channel.persistent = False
        self._finish()

    def _stop_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
