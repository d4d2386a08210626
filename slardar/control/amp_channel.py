"""The AMP control channel: the operations of the table as commands of :mod:`slardar.amp`.

A unix socket is guarded by its mode and by the user of the other process: slardar's own user and
root may do everything.  Everybody else logs in with a token first.  The limits on all callers
together are in :mod:`slardar.control.room`.
"""

# Twisted's AMP has no types.
# mypy: disable-error-code="no-untyped-call,misc"

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from collections.abc import Mapping
from typing import Any

from twisted.internet import defer
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.protocols.policies import TimeoutMixin
from zope.interface import implementer

from slardar.amp.commands import (
    COMMANDS,
    ERRORS,
    Conflict,
    Event,
    Failed,
    Invalid,
    InvalidUpstream,
    Login,
    NotFound,
    OperationCommand,
    SlardarAmpError,
    StoreUnavailable,
    Unauthorized,
)
from slardar.amp.protocol import QuietAmp
from slardar.config import Control
from slardar.control.actions import Actions, MovedError
from slardar.control.auth import Caller, Gate, RefusedError
from slardar.control.conditions import Condition, PreconditionError, etag
from slardar.control.http import MAX_BODY
from slardar.control.operation import ControlCall, Operation, carry_out
from slardar.control.operations import OPERATIONS
from slardar.control.refusals import Refusals
from slardar.control.room import MAX_STREAMS, Room, Standing
from slardar.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    NotReadyError,
    SlardarError,
    StoreError,
)
from slardar.events import EventsAsked, LostError, Subscription
from slardar.model.change import Author

__all__ = ["AmpChannel", "AmpSite"]

#: Bytes of a command before its caller has logged in, and after.
_SMALL = 4096
_LARGE = MAX_BODY + 65_536
#: Seconds in which a caller must log in, and in which a command must have come that has begun.
_LOGIN = 10
_COMMAND = 60
#: Seconds for which a caller may leave answers unread.
_READ = 60
#: Calls of one connection under way at one time, and those that wait for them before no more are
#: read.
_AT_ONCE = 8
_WAITING = 64
#: Bytes of an error's message; AMP has no room for more than 65,535.
_MAX_MESSAGE = 16_384

_BY_NAME: Mapping[str, Operation] = {operation.name: operation for operation in OPERATIONS}
#: The error of AMP for each of slardar's.
_ERRORS: Mapping[type[SlardarError], type[SlardarAmpError]] = {
    ConfigError: Invalid,
    NotFoundError: NotFound,
    ConflictError: Conflict,
    PreconditionError: Conflict,
    RefusedError: Unauthorized,
    MovedError: StoreUnavailable,
    NotReadyError: StoreUnavailable,
    StoreError: StoreUnavailable,
}

_log = Logger("slardar.control")


@implementer(IHalfCloseableProtocol)
class AmpChannel(QuietAmp, TimeoutMixin):
    """One connection: calls begin in order, some at a time, and are answered as they end."""

    max_box = _SMALL
    standing = Standing.STRANGER
    since = 0.0

    def __init__(self, site: AmpSite) -> None:
        super().__init__()
        self._site = site
        self._caller: Caller | None = None
        self._peer: str | None = None
        #: Calls that wait until others have ended, and how many of those there are.
        self._waiting: deque[Any] = deque()
        self._under_way = 0
        #: Why nothing is read from the connection.
        self._is_full = self._is_busy = False
        self._ends = False
        #: The events that the caller gets.
        self._events: Subscription | None = None

    # The life of a connection.

    def connectionMade(self) -> None:
        super().connectionMade()
        transport: Any = self.transport
        self.callLater = self._site.reactor.callLater  # type: ignore[method-assign]
        self._peer = _peer_of(transport)
        self._stand(Standing.STRANGER)
        self._site.room.enter(self)
        transport.registerProducer(self, True)
        if self._peer is None and _is_own(transport):
            self._admit(Caller("amp", True))
            return
        try:
            self._site.gate.check_peer(self._peer)
        except RefusedError as error:
            self._note(error.status, str(error), "a connection")
            self.close()
            return
        self.setTimeout(_LOGIN)

    def _admit(self, caller: Caller) -> None:
        self._caller = caller
        self.max_box = _LARGE
        self.setTimeout(None)
        self._stand(Standing.IDLE)

    def _stand(self, standing: Standing) -> None:
        self.standing = standing
        self.since = self._site.reactor.seconds()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.setTimeout(None)
        self._site.room.release_body(self)
        self._site.room.leave(self)
        self._waiting.clear()
        self._unsubscribe()
        super().connectionLost(reason)

    def timeoutConnection(self) -> None:
        """The caller has not logged in, or not sent the rest of a command, or not read."""
        self.close()

    def readConnectionLost(self) -> None:
        """The caller has closed its side.  The calls that have come are answered."""
        self.finish()

    def writeConnectionLost(self) -> None:
        """Nothing to do: this side never closes one half only."""

    def give_way(self) -> None:
        """Somebody else needs the place."""
        self.close()

    def give_up_body(self) -> None:
        """All that is coming in is too large.  AMP has no answer to half a command."""
        self.close()

    def finish(self) -> None:
        """Close when the calls under way are answered."""
        self._ends = True
        if self._is_idle:
            super().finish()

    @property
    def _is_idle(self) -> bool:
        """Whether no call is under way, and none waits."""
        return not self._under_way and not self._waiting

    # What comes in.

    def dataReceived(self, data: bytes) -> None:
        if self._caller is not None:
            if self._since_box == 0:
                self.setTimeout(_COMMAND)
            if self.standing is Standing.IDLE:
                self._stand(Standing.SENDING)
            self._site.room.hold_body(self, len(data))
        if not self.is_lost:
            super().dataReceived(data)

    def ampBoxReceived(self, box: Any) -> None:
        if self._caller is not None:
            self.setTimeout(_READ if self._is_full else None)
        super().ampBoxReceived(box)
        if self._caller is not None and self._is_idle and not self.is_lost:
            self._rest()  # the box was no call

    def locateResponder(self, name: bytes) -> Any:
        # AMP itself would answer to StartTLS.
        command = COMMANDS.get(name)
        if command is not None:
            return lambda box: self._queue(command, box)
        return self._log_in if name == Login.commandName else None

    def broken(self, error: BaseException) -> None:
        self._note(400, "this is not AMP, or not an answer", "a connection")
        super().broken(error)

    def _log_in(self, box: Any) -> Any:
        try:
            token = Login.parseArguments(box, self)["token"]
            caller = self._site.gate.caller_of(token, self._peer)
        except RefusedError as error:
            self._note(error.status, str(error), "Login")
            text = "expected a token that is known" if error.status == 401 else str(error)
            raise _remote(Unauthorized, text) from None
        except Exception:
            raise _remote(Invalid, "expected a token as text") from None
        self._admit(caller)
        return Login.makeResponse({"name": caller.name}, self)

    # Flow control.  The transport calls these two.

    def pauseProducing(self) -> None:
        """The caller does not read its answers: do not read its commands."""
        if self._caller is None:
            self.close()
            return
        self._is_full = True
        self.setTimeout(_READ)
        self._read_or_not()

    def resumeProducing(self) -> None:
        """The caller has read everything."""
        self._is_full = False
        self.setTimeout(_COMMAND if self._since_box else None)
        self._read_or_not()
        self._go_on()
        self._tell_events()

    def stopProducing(self) -> None:
        """The connection is lost."""

    def _read_or_not(self) -> None:
        transport: Any = self.transport
        if transport is None:
            return
        if self._is_full or self._is_busy:
            transport.pauseProducing()
        else:
            transport.resumeProducing()

    # Calls.

    def _queue(self, command: type[OperationCommand], box: Any) -> Any:
        if self._caller is None:
            raise _remote(Unauthorized, "expected Login as the first command")
        answer: defer.Deferred[Any] = defer.Deferred()
        self._waiting.append((command, box, answer))
        self._stand(Standing.BUSY)
        if len(self._waiting) == 1:
            # In a turn of the reactor of its own: a hundred commands may have come at once.
            self._site.reactor.callLater(0, self._go_on)
        if len(self._waiting) >= _WAITING and not self._is_busy:
            self._is_busy = True
            self._read_or_not()
        return answer

    def _go_on(self) -> None:
        """Begin the next call, if there is one and it may begin."""
        if not self._waiting or self._under_way >= _AT_ONCE or self._is_full or self.is_lost:
            return
        command, box, answer = self._waiting.popleft()
        if self._is_busy and len(self._waiting) < _WAITING // 2:
            self._is_busy = False
            self._read_or_not()
        self._under_way += 1
        called = defer.ensureDeferred(self._answer(command, box))
        called.addBoth(self._ended)
        called.chainDeferred(answer)
        if self._waiting:
            self._site.reactor.callLater(0, self._go_on)

    def _ended(self, result: Any) -> Any:
        self._under_way -= 1
        if self._is_idle and not self.is_lost:
            self._rest()
        self._site.reactor.callLater(0, self._go_on)
        if self._ends and self._is_idle:
            self._site.reactor.callLater(0, super().finish)
        return result

    def _rest(self) -> None:
        """Nobody needs what has come in any more."""
        self._site.room.release_body(self)
        self._stand(Standing.IDLE if self._events is None else Standing.STREAMING)

    async def _answer(self, command: type[OperationCommand], box: Any) -> Any:
        operation = _BY_NAME[command.operation]
        name = command.__name__
        try:
            arguments = _arguments(command, box, self)
            name = " ".join([name, *(arguments[key] for key in _WORDS if arguments.get(key))])
            result = await self._call(operation, arguments)
            value = self._subscribe(result.value) if operation.is_stream else result.value
            answer = {
                "value": value,
                "version": result.version,
                "headers": dict(result.headers),
            }
            return command.makeResponse(answer, self)
        except SlardarError as error:
            status = error.status if isinstance(error, RefusedError) else 400
            if operation.role == "admin" or isinstance(error, RefusedError):
                self._note(status, str(error), name)
            raise _remote(_kind(error, operation), str(error)) from None
        except Exception:
            _log.failure("a control call failed: {name}", name=name)
            raise _remote(Failed, "internal error; the log says more") from None

    async def _call(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        caller = self._caller
        assert caller is not None
        named = {key: arguments[key] for key in _WORDS if arguments.get(key) is not None}
        operation.check(caller, named)
        if named.get("language", "lua") not in ("lua", "python"):
            raise ConfigError("language: expected lua or python")
        version = arguments.get("if_version")
        condition = None if version is None else Condition([etag(version)], [], ())
        call = ControlCall(
            arguments=named,
            parameters=_parameters(operation, arguments.get("parameters")),
            body=arguments.get("body") or b"",
            # Else a body without a brace would be read as dyups' text.
            content_type="application/json",
            who=Author(caller.name, self._peer or "unix"),
            condition=condition,
            names=caller.names,
            is_admin=caller.is_admin,
        )
        return await carry_out(operation, self._site.actions, call)

    # Events.

    def _subscribe(self, asked: EventsAsked) -> Any:
        self._unsubscribe()
        if not self._site.room.has_streams_left:
            raise NotReadyError(f"expected at most {MAX_STREAMS} subscriptions at one time")
        self._events = asked.subscribe(self._tell_events)
        # Behind the answer.
        self._site.reactor.callLater(0, self._tell_events)
        return {"id": self._events.id}

    def _unsubscribe(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            events.close()

    def _tell_events(self) -> None:
        """Tell the caller what has happened, as far as the caller reads."""
        while self._events is not None and not self._is_full and self._events.is_behind:
            try:
                entries = self._events.take()
            except LostError:
                # The caller comes back and says where it was.
                self.close()
                return
            for entry in entries:
                self.callRemote(Event, id=entry.id, event=entry.data)

    def _note(self, status: int, reason: str, call: str) -> None:
        """Leave an audit line of a refusal."""
        who = "" if self._caller is None else self._caller.name
        self._site.refusals.note(status, reason, call.encode(), who, self._peer or "unix")


#: The arguments of commands that name things.
_WORDS = ("id", "key", "language", "name", "server", "version")


def _arguments(command: Any, box: Any, channel: Any) -> dict[str, Any]:
    """The arguments of a command.  Raises ConfigError if one is missing or malformed."""
    try:
        return dict(command.parseArguments(box, channel))
    except KeyError as error:
        name = error.args[0].decode("latin-1") if error.args else "an argument"
        raise ConfigError(f"{name}: is missing") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"expected well-formed arguments: {error}") from None


def _parameters(operation: Operation, given: Any) -> Mapping[str, Any]:
    """The value of each parameter of an operation, from an object of JSON.

    Raises ConfigError for a wrong one, and for one that the operation does not have.
    """
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise ConfigError("parameters: expected an object")
    texts = [
        (name, str(int(one)) if isinstance(one, bool) else str(one))
        for name, value in given.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]
    return operation.read_parameters(texts)


def _kind(error: SlardarError, operation: Operation) -> type[SlardarAmpError]:
    for kind in type(error).__mro__:
        if kind in _ERRORS:
            found = _ERRORS[kind]
            if found is Invalid and operation.path.startswith(("/upstream/", "/service/")):
                return InvalidUpstream
            return found
    return Failed


def _remote(kind: type[SlardarAmpError], message: str) -> amp.RemoteAmpError:
    if len(message) > _MAX_MESSAGE:
        message = f"{message[:_MAX_MESSAGE]}..."
    return amp.RemoteAmpError(ERRORS[kind], message)


def _peer_of(transport: Any) -> str | None:
    """The address of the other side; ``None`` for a unix socket."""
    host = transport.getHost()
    if isinstance(host, UNIXAddress):
        return None
    return str(transport.getPeer().host)


def _is_own(transport: Any) -> bool:
    """Whether the process on the other side of a unix socket is of this user, or root's."""
    size = struct.calcsize("3i")
    try:
        data = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    except (AttributeError, OSError):
        return False
    _pid, uid, _gid = struct.unpack("3i", data)
    return uid in (0, os.geteuid())


class AmpSite(Factory):
    """Makes the connections of the AMP control channel; ``reactor`` gives the time."""

    noisy = False

    def __init__(self, actions: Actions, control: Control, reactor: Any) -> None:
        self.actions = actions
        self.reactor = reactor
        self.gate = Gate(control.tokens, control.networks, reactor.seconds)
        self.refusals = Refusals(reactor.seconds)
        self.room = Room()

    def buildProtocol(self, addr: Any) -> Any:
        """A connection.  ``None``, which closes it, if there is no room and every other one is
        busy."""
        return AmpChannel(self) if self.room.make_room() else None

    def stopFactory(self) -> None:
        """Nobody listens any more: close the connections once their calls are answered."""
        for guest in self.room.guests:
            guest.finish()
