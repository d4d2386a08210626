"""A client of the AMP control channel, for programs on Twisted."""

# Twisted's AMP and endpoints have no types.
# mypy: disable-error-code="no-untyped-call,misc"

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec
from twisted.application.internet import ClientService
from twisted.internet import defer
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols import amp

from slardar.amp import commands
from slardar.amp.protocol import QuietAmp

__all__ = ["Client", "connect"]

#: Seconds for a connection, and for the answer to a call.
_TIMEOUT = 60.0

_log = Logger("slardar.amp")


def connect(
    reactor: Any, endpoint: str, token: str | None = None, timeout: float = _TIMEOUT
) -> defer.Deferred[Client]:
    """Connect to the AMP control channel of a slardar.

    ``endpoint`` is a Twisted client endpoint, such as ``unix:slardar.sock`` or
    ``tcp:lb.example.com:1996``.  ``token`` is needed over TCP, and over a unix socket for everybody
    but slardar's own user and root.  ``timeout`` are the seconds for a connection and for a call.

    Does not block.  Fires with a :class:`Client` when it is connected, and fails if it cannot
    connect: with Unauthorized for a wrong token, with what the endpoint raises otherwise.
    """
    client = Client(reactor, endpoint, token, timeout)
    connected = client.connected(1)
    connected.addCallback(lambda _protocol: client)

    def give_up(failure: Any) -> Any:
        return client.close().addCallback(lambda _none: failure)

    return connected.addErrback(give_up)


def _ignore(_reason: Any) -> None:
    """The connection is lost, and nobody is told."""


class _Protocol(QuietAmp):
    #: An answer may be as long as a configuration is.
    max_box = 2**30

    def __init__(self, tell: Callable[[str, Any], None]) -> None:
        super().__init__()
        self._tell = tell

    def locateResponder(self, name: bytes) -> Any:
        # slardar asks nothing of its clients, and tells of events only.
        return self._happened if name == commands.Event.commandName else None

    def _happened(self, box: Any) -> Any:
        event = commands.Event.parseArguments(box, self)
        self._tell(event["id"], msgspec.json.decode(event["event"]))
        return amp.AmpBox()


class Client:
    """Calls of a slardar; every method returns a Deferred, and none blocks.

    A lost connection is made anew, with growing pauses.  A question that was under way is asked
    once more; a change that was under way fails with ConnectionLost, because it may have been made.

    Questions fire with what the HTTP call answers.  Changes fire with the version that they have
    made, once every worker serves it.  Both fail with the errors of :mod:`slardar.amp`, or with
    Twisted's TimeoutError.  ``parameters`` are those of the HTTP calls (``wait=False``).  With
    ``if_version`` a change is made only if that is still the version of the configuration; it fails
    with Conflict otherwise.
    """

    def __init__(self, reactor: Any, endpoint: str, token: str | None, timeout: float) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._token = token
        self._timeout = timeout
        #: Who is told of events, of which kinds, and the id of the last one.
        self._reader: Callable[[Any], None] | None = None
        self._kinds = ""
        self._last_event = ""
        self._service = ClientService(
            clientFromString(reactor, endpoint),
            Factory.forProtocol(partial(_Protocol, self._happened)),
            prepareConnection=self._prepare,
            clock=reactor,
        )
        self._service.startService()

    def _prepare(self, protocol: Any) -> defer.Deferred[None]:
        return defer.ensureDeferred(self._begin(protocol))

    async def _begin(self, protocol: Any) -> None:
        """Log in on a new connection, and go on with events where the last one ended."""
        try:
            if self._token is not None:
                await protocol.callRemote(commands.Login, token=self._token)
            if self._reader is not None:
                await self._subscribe(protocol)
        except BaseException:
            # For Twisted's service the connection ends with this failure.  When it is told that
            # the connection is lost, it logs an error, for it expects no second end.
            protocol._lostNotification = _ignore
            protocol.close()
            raise

    async def _subscribe(self, protocol: Any) -> None:
        parameters = {"kind": self._kinds, "after": self._last_event}
        given = {name: value for name, value in parameters.items() if value}
        answer = await protocol.callRemote(commands.Subscribe, parameters=given)
        self._last_event = answer["value"]["id"]

    def _happened(self, place: str, event: Any) -> None:
        self._last_event = place or self._last_event
        if self._reader is not None:
            try:
                self._reader(event)
            except Exception:
                _log.failure("a reader of events failed")

    def connected(self, attempts: int | None = None) -> defer.Deferred[Any]:
        """Fires when there is a connection, and fails after so many attempts without one."""
        return defer.ensureDeferred(self._connected(attempts))

    async def _connected(self, attempts: int | None) -> Any:
        while True:
            waiting = self._service.whenConnected(failAfterFailures=attempts)
            waiting.addTimeout(self._timeout, self._reactor)
            try:
                protocol: Any = await waiting
            finally:
                # Within a call of the service, the service cannot be stopped, and it does not know
                # yet of a connection that is just being lost.
                await deferLater(self._reactor, 0)
            if not protocol.is_lost:
                return protocol

    def close(self) -> defer.Deferred[Any]:
        """End the connection, and make no other.  Fires when it has ended."""
        return defer.maybeDeferred(self._service.stopService)

    def call(
        self, command: type[commands.OperationCommand], **arguments: Any
    ) -> defer.Deferred[dict[str, Any]]:
        """Call any command of :mod:`slardar.amp.commands`; fires with its whole answer."""
        return defer.ensureDeferred(self._call(command, arguments))

    async def _call(
        self, command: type[commands.OperationCommand], arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        given = {name: value for name, value in arguments.items() if value is not None}
        asks = "if_version" not in {name.decode() for name, _ in command.arguments}
        for is_last in (not asks, True):
            protocol = await self.connected()
            answered = protocol.callRemote(command, **given)
            answered.addTimeout(self._timeout, self._reactor)
            try:
                return dict(await answered)
            except ConnectionClosed:
                if is_last:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _ask(
        self, command: Any, parameters: Mapping[str, Any], **arguments: Any
    ) -> defer.Deferred[Any]:
        answered = self.call(command, parameters=dict(parameters), **arguments)
        return answered.addCallback(lambda answer: answer["value"])

    def _change(
        self, command: Any, parameters: dict[str, Any], **arguments: Any
    ) -> defer.Deferred[int]:
        if_version = parameters.pop("if_version", None)
        changed = self.call(command, parameters=parameters, if_version=if_version, **arguments)
        return changed.addCallback(lambda answer: int(answer["version"]))

    # Events.

    def subscribe(
        self, reader: Callable[[dict[str, Any]], None], kinds: Iterable[str] = (), after: str = ""
    ) -> defer.Deferred[None]:
        """Call ``reader(event)`` with each event from now on, or from the one after the id
        ``after``; only with those of some ``kinds``, if there are any.

        After a lost connection the events go on where they ended; ``{"kind": "gap"}`` says that
        some are missing.  Fires when slardar has the subscription.  A second one takes the place of
        the first.
        """
        self._reader, self._kinds, self._last_event = reader, ",".join(kinds), after
        return defer.ensureDeferred(self._subscribe_now())

    async def _subscribe_now(self) -> None:
        await self._subscribe(await self.connected())

    # Questions.

    def status(self) -> defer.Deferred[dict[str, Any]]:
        """What slardar does and knows, as ``GET /status``."""
        return self._ask(commands.Status, {})

    def metrics(self) -> defer.Deferred[str]:
        """What slardar has counted, in Prometheus' text format."""
        return self._ask(commands.Metrics, {})

    def get_upstreams(self) -> defer.Deferred[dict[str, Any]]:
        """Every upstream, by name."""
        return self._ask(commands.GetUpstreams, {})

    def get_upstream(self, name: str) -> defer.Deferred[dict[str, Any]]:
        """One upstream."""
        return self._ask(commands.GetUpstream, {}, name=name)

    def get_services(self) -> defer.Deferred[dict[str, Any]]:
        """Every service, by name."""
        return self._ask(commands.GetServices, {})

    def get_certificates(self) -> defer.Deferred[list[dict[str, Any]]]:
        """Every certificate for clients, of files and of the store; never a key."""
        return self._ask(commands.GetCertificates, {})

    def get_certificate(self, name: str) -> defer.Deferred[dict[str, Any]]:
        """One certificate of the store; never its key."""
        return self._ask(commands.GetCertificate, {}, name=name)

    def get_settings(self) -> defer.Deferred[dict[str, Any]]:
        """Every setting that hooks read, by name."""
        return self._ask(commands.GetSettings, {})

    def get_routes(self) -> defer.Deferred[list[Any]]:
        """The routes."""
        return self._ask(commands.GetRoutes, {})

    def get_hooks(self, language: str = "python") -> defer.Deferred[dict[str, Any]]:
        """The hooks of a language, ``python`` or ``lua``."""
        return self._ask(commands.GetHooks, {}, language=language)

    def get_hook(self, name: str, language: str = "python") -> defer.Deferred[dict[str, Any]]:
        """One hook."""
        return self._ask(commands.GetHook, {}, name=name, language=language)

    def explain(self, **parameters: Any) -> defer.Deferred[dict[str, Any]]:
        """Where a request would go, and why: ``explain(host="www.example.com", path="/a")``.

        The parameters are those of ``GET /explain``; ``header`` is a line, or a list of lines.
        """
        return self._ask(commands.Explain, parameters)

    def get_decision(self, decision_id: str) -> defer.Deferred[dict[str, Any]]:
        """What was decided for the request whose reply has this ``X-Decision-Id``."""
        return self._ask(commands.GetDecision, {}, id=decision_id)

    def get_history(self, **parameters: Any) -> defer.Deferred[list[Any]]:
        """Who has changed what, newest first; ``limit`` and ``before`` as in HTTP."""
        return self._ask(commands.GetHistory, parameters)

    def get_version(self, version: int) -> defer.Deferred[dict[str, Any]]:
        """The whole configuration of a version."""
        return self._ask(commands.GetVersion, {}, version=str(version))

    # Changes.

    def rollback(self, version: int, **parameters: Any) -> defer.Deferred[int]:
        """Go back to the configuration of a version, as a new version."""
        return self._change(commands.Rollback, parameters, version=str(version))

    def update_upstream(
        self,
        name: str,
        upstream: Mapping[str, Any],
        **parameters: Any,
    ) -> defer.Deferred[int]:
        """Make or change an upstream.  Fails with InvalidUpstream for a wrong one."""
        body = msgspec.json.encode(upstream)
        return self._change(commands.UpdateUpstream, parameters, name=name, body=body)

    def delete_upstream(self, name: str, **parameters: Any) -> defer.Deferred[int]:
        """Remove an upstream."""
        return self._change(commands.DeleteUpstream, parameters, name=name)

    def patch_server(
        self,
        name: str,
        server: str,
        changes: Mapping[str, Any],
        **parameters: Any,
    ) -> defer.Deferred[int]:
        """Change one server (``host:port``), such as ``{"state": "drain"}``."""
        body = msgspec.json.encode(changes)
        return self._change(commands.PatchServer, parameters, name=name, server=server, body=body)

    def add_server(
        self,
        name: str,
        server: str,
        values: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> defer.Deferred[int]:
        """Add one server (``host:port``) to an upstream."""
        body = msgspec.json.encode(values or {})
        return self._change(commands.AddServer, parameters, name=name, server=server, body=body)

    def remove_server(self, name: str, server: str, **parameters: Any) -> defer.Deferred[int]:
        """Remove one server (``host:port``) from an upstream."""
        return self._change(commands.RemoveServer, parameters, name=name, server=server)

    def set_service(
        self,
        name: str,
        service: Mapping[str, Any],
        **parameters: Any,
    ) -> defer.Deferred[int]:
        """Make or change an upstream that follows a catalogue."""
        body = msgspec.json.encode(service)
        return self._change(commands.SetService, parameters, name=name, body=body)

    def delete_service(self, name: str, **parameters: Any) -> defer.Deferred[int]:
        """Remove a service."""
        return self._change(commands.DeleteService, parameters, name=name)

    def set_certificate(
        self, name: str, cert: str, key: str, **parameters: Any
    ) -> defer.Deferred[int]:
        """Make or replace a certificate for clients, with its key; both in PEM."""
        body = msgspec.json.encode({"cert": cert, "key": key})
        return self._change(commands.SetCertificate, parameters, name=name, body=body)

    def delete_certificate(self, name: str, **parameters: Any) -> defer.Deferred[int]:
        """Remove a certificate of the store."""
        return self._change(commands.DeleteCertificate, parameters, name=name)

    def set_setting(self, name: str, value: Any, **parameters: Any) -> defer.Deferred[int]:
        """Set what hooks read as a setting: any value for JSON but ``None``."""
        body = msgspec.json.encode(value)
        return self._change(commands.SetSetting, parameters, key=name, body=body)

    def delete_setting(self, name: str, **parameters: Any) -> defer.Deferred[int]:
        """Remove a setting of hooks, or return to the file's."""
        return self._change(commands.DeleteSetting, parameters, key=name)

    def set_routes(self, routes: list[Any], **parameters: Any) -> defer.Deferred[int]:
        """Replace the routes."""
        body = msgspec.json.encode(routes)
        return self._change(commands.SetRoutes, parameters, body=body)

    def stage_hook(
        self,
        name: str,
        code: str,
        language: str = "python",
        **parameters: Any,
    ) -> defer.Deferred[int]:
        """Stage a hook's code; with ``activate=True`` it is put into service, too."""
        body = code.encode()
        return self._change(commands.StageHook, parameters, name=name, language=language, body=body)

    def activate_hook(
        self,
        name: str,
        language: str = "python",
        **parameters: Any,
    ) -> defer.Deferred[int]:
        """Put what was staged under a name into service."""
        return self._change(commands.ActivateHook, parameters, name=name, language=language)

    def delete_hook(
        self,
        name: str,
        language: str = "python",
        **parameters: Any,
    ) -> defer.Deferred[int]:
        """Remove a hook."""
        return self._change(commands.DeleteHook, parameters, name=name, language=language)
