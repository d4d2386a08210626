"""The commands of the AMP control channel: one for each operation, and one to log in.

Each command is a row of the same table as the calls of HTTP (:mod:`slardar.control.operations`), so
it does the same, and fails for the same reasons.
"""

# Twisted's AMP has no types.
# mypy: disable-error-code="no-untyped-call,misc"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from twisted.protocols import amp

from slardar.amp.arguments import Bytes, Json, Text

__all__ = [
    "COMMANDS",
    "ERRORS",
    "Conflict",
    "Event",
    "Failed",
    "Invalid",
    "InvalidUpstream",
    "Login",
    "NotFound",
    "OperationCommand",
    "SlardarAmpError",
    "StoreUnavailable",
    "Subscribe",
    "Unauthorized",
]


class SlardarAmpError(Exception):
    """The base class of the errors that slardar answers; the message is one line for people."""


class Invalid(SlardarAmpError):
    """A value of the call has mistakes.  Nothing has changed."""


class InvalidUpstream(Invalid):
    """An upstream, or one of its servers, has mistakes.  Nothing has changed."""


class NotFound(SlardarAmpError):
    """The thing that the call names does not exist."""


class Conflict(SlardarAmpError):
    """The configuration is not the one that the call was meant for.  Nothing has changed."""


class Unauthorized(SlardarAmpError):
    """The caller may not do this."""


class StoreUnavailable(SlardarAmpError):
    """The store cannot take the change, or slardar cannot do it at the moment.  Nothing has
    changed."""


class Failed(SlardarAmpError):
    """A change is stored but not served everywhere, or slardar has a bug; its log says more."""


#: Every error, with its code on the wire.
ERRORS: dict[type[Exception], bytes] = {
    Invalid: b"INVALID",
    InvalidUpstream: b"INVALID_UPSTREAM",
    NotFound: b"NOT_FOUND",
    Conflict: b"CONFLICT",
    Unauthorized: b"UNAUTHORIZED",
    StoreUnavailable: b"STORE_UNAVAILABLE",
    Failed: b"FAILED",
}


class Login(amp.Command):
    """Says who calls, with a token of ``control.tokens``.

    It is the first command over TCP, and over a unix socket for other users than slardar's own and
    root.
    """

    arguments: ClassVar = [(b"token", amp.Unicode())]
    response: ClassVar = [(b"name", amp.Unicode())]
    errors: ClassVar = ERRORS


class OperationCommand(amp.Command):
    """A command that is an operation of slardar.

    ``parameters`` are those of the HTTP call, as JSON: ``{"wait": false}``.  A change with
    ``version`` is made only if that is still the version of the configuration.  In the answer,
    ``version`` is the one that the change has made, or the present one; ``headers`` are what HTTP
    answers beside the value.
    """

    #: The name of its row in the table of operations.
    operation: ClassVar[str] = ""
    errors: ClassVar = ERRORS
    response: ClassVar = [
        (b"value", Json()),
        (b"version", amp.Integer()),
        (b"headers", Json()),
    ]


_NAME = (b"name", Text())
_SERVER = (b"server", Text())
_LANGUAGE = (b"language", Text())
_KEY = (b"key", Text())
_VERSION = (b"version", Text())
_ID = (b"id", Text())
_BODY = (b"body", Bytes())
_MAYBE_BODY = (b"body", Bytes(optional=True))
_PARAMETERS = (b"parameters", Json(optional=True))
_OF_CHANGES = (_PARAMETERS, (b"if_version", amp.Integer(optional=True)))


class Status(OperationCommand):
    """What slardar does and knows, as ``GET /status``."""

    operation = "status"
    arguments: ClassVar = [_PARAMETERS]


class GetOpenApi(OperationCommand):
    """The description of the HTTP control channel."""

    operation = "openapi"
    arguments: ClassVar = [_PARAMETERS]


class GetOverview(OperationCommand):
    """Counters for a live view: of everything, of every upstream, and of some servers."""

    operation = "overview"
    arguments: ClassVar = [_PARAMETERS]


class Metrics(OperationCommand):
    """What slardar has counted, in Prometheus' text format."""

    operation = "metrics"
    arguments: ClassVar = [_PARAMETERS]


class GetUpstreams(OperationCommand):
    """Every upstream, by name."""

    operation = "upstreams"
    arguments: ClassVar = [_PARAMETERS]


class GetUpstream(OperationCommand):
    """One upstream."""

    operation = "upstream"
    arguments: ClassVar = [_NAME, _PARAMETERS]


class UpdateUpstream(OperationCommand):
    """Make or change an upstream; ``body`` is JSON."""

    operation = "set-upstream"
    arguments: ClassVar = [_NAME, _BODY, *_OF_CHANGES]


class DeleteUpstream(OperationCommand):
    """Remove an upstream."""

    operation = "remove-upstream"
    arguments: ClassVar = [_NAME, *_OF_CHANGES]


class PatchServer(OperationCommand):
    """Change one server, ``host:port``; ``body`` is JSON."""

    operation = "change-server"
    arguments: ClassVar = [_NAME, _SERVER, _BODY, *_OF_CHANGES]


class AddServer(OperationCommand):
    """Add one server; ``body`` is JSON."""

    operation = "add-server"
    arguments: ClassVar = [_NAME, _SERVER, _MAYBE_BODY, *_OF_CHANGES]


class RemoveServer(OperationCommand):
    """Remove one server."""

    operation = "remove-server"
    arguments: ClassVar = [_NAME, _SERVER, *_OF_CHANGES]


class GetServices(OperationCommand):
    """Every service, by name."""

    operation = "services"
    arguments: ClassVar = [_PARAMETERS]


class GetService(OperationCommand):
    """One service."""

    operation = "service"
    arguments: ClassVar = [_NAME, _PARAMETERS]


class SetService(OperationCommand):
    """Make or change an upstream that follows a catalogue; ``body`` is JSON."""

    operation = "set-service"
    arguments: ClassVar = [_NAME, _BODY, *_OF_CHANGES]


class DeleteService(OperationCommand):
    """Remove a service."""

    operation = "remove-service"
    arguments: ClassVar = [_NAME, *_OF_CHANGES]


class GetCertificates(OperationCommand):
    """Every certificate for clients, of files and of the store; never a key."""

    operation = "certificates"
    arguments: ClassVar = [_PARAMETERS]


class GetCertificate(OperationCommand):
    """One certificate of the store; never its key."""

    operation = "certificate"
    arguments: ClassVar = [_NAME, _PARAMETERS]


class SetCertificate(OperationCommand):
    """Make or replace a certificate; ``body`` is JSON with ``cert`` and ``key``, both in PEM."""

    operation = "set-certificate"
    arguments: ClassVar = [_NAME, _BODY, *_OF_CHANGES]


class DeleteCertificate(OperationCommand):
    """Remove a certificate of the store."""

    operation = "remove-certificate"
    arguments: ClassVar = [_NAME, *_OF_CHANGES]


class GetSettings(OperationCommand):
    """Every setting that hooks read, by name."""

    operation = "settings"
    arguments: ClassVar = [_PARAMETERS]


class GetSetting(OperationCommand):
    """One setting of hooks; ``key`` is its name."""

    operation = "setting"
    arguments: ClassVar = [_KEY, _PARAMETERS]


class SetSetting(OperationCommand):
    """Set what hooks read as a setting; ``body`` is JSON."""

    operation = "set-setting"
    arguments: ClassVar = [_KEY, _BODY, *_OF_CHANGES]


class DeleteSetting(OperationCommand):
    """Remove a setting of hooks, or return to the file's."""

    operation = "remove-setting"
    arguments: ClassVar = [_KEY, *_OF_CHANGES]


class GetRoutes(OperationCommand):
    """The routes."""

    operation = "routes"
    arguments: ClassVar = [_PARAMETERS]


class SetRoutes(OperationCommand):
    """Replace the routes; ``body`` is JSON."""

    operation = "set-routes"
    arguments: ClassVar = [_BODY, *_OF_CHANGES]


class ReturnRoutes(OperationCommand):
    """Return to the routes of the file, with the parameter ``to``."""

    operation = "return-routes"
    arguments: ClassVar = [*_OF_CHANGES]


class Compare(OperationCommand):
    """What :class:`Apply` would change; ``body`` is JSON."""

    operation = "compare"
    arguments: ClassVar = [_BODY, _PARAMETERS]


class Apply(OperationCommand):
    """Serve the upstreams, services and routes of ``body``, in JSON, as one change."""

    operation = "apply"
    arguments: ClassVar = [_BODY, *_OF_CHANGES]


class GetHistory(OperationCommand):
    """Who has changed what, newest first."""

    operation = "history"
    arguments: ClassVar = [_PARAMETERS]


class GetVersion(OperationCommand):
    """The whole configuration of a version."""

    operation = "version"
    arguments: ClassVar = [_VERSION, _PARAMETERS]


class Rollback(OperationCommand):
    """Go back to the configuration of a version, as a new version."""

    operation = "rollback"
    arguments: ClassVar = [_VERSION, *_OF_CHANGES]


class AcceptStore(OperationCommand):
    """Serve the state of a store that has lost what is served."""

    operation = "accept-store"
    arguments: ClassVar = [*_OF_CHANGES]


class GetHooks(OperationCommand):
    """The hooks of a language, ``lua`` or ``python``."""

    operation = "hooks"
    arguments: ClassVar = [_LANGUAGE, _PARAMETERS]


class GetHook(OperationCommand):
    """One hook."""

    operation = "hook"
    arguments: ClassVar = [_LANGUAGE, _NAME, _PARAMETERS]


class GetHookCode(OperationCommand):
    """The code of a hook's versions."""

    operation = "hook-code"
    arguments: ClassVar = [_LANGUAGE, _NAME, _PARAMETERS]


class GetHookShadow(OperationCommand):
    """What a hook in the shadow would have done otherwise."""

    operation = "hook-shadow"
    arguments: ClassVar = [_LANGUAGE, _NAME, _PARAMETERS]


class StageHook(OperationCommand):
    """Stage a hook; ``body`` is its code."""

    operation = "stage-hook"
    arguments: ClassVar = [_LANGUAGE, _NAME, _BODY, *_OF_CHANGES]


class ActivateHook(OperationCommand):
    """Put what was staged under a name into service."""

    operation = "activate-hook"
    arguments: ClassVar = [_LANGUAGE, _NAME, *_OF_CHANGES]


class ActivateHooks(OperationCommand):
    """Put all that was staged into service."""

    operation = "activate-hooks"
    arguments: ClassVar = [_LANGUAGE, *_OF_CHANGES]


class DeleteHook(OperationCommand):
    """Remove a hook."""

    operation = "remove-hook"
    arguments: ClassVar = [_LANGUAGE, _NAME, *_OF_CHANGES]


class GetCodeVersion(OperationCommand):
    """What operators call the code of a language."""

    operation = "code-version"
    arguments: ClassVar = [_LANGUAGE, _PARAMETERS]


class SetCodeVersion(OperationCommand):
    """Say what the code of a language is called; ``body`` is text."""

    operation = "set-code-version"
    arguments: ClassVar = [_LANGUAGE, _BODY, *_OF_CHANGES]


class RemoveCodeVersion(OperationCommand):
    """Forget what the code of a language is called."""

    operation = "remove-code-version"
    arguments: ClassVar = [_LANGUAGE, *_OF_CHANGES]


class Explain(OperationCommand):
    """Where a request would go, and why; the parameters describe the request."""

    operation = "explain"
    arguments: ClassVar = [_PARAMETERS]


class GetDecision(OperationCommand):
    """What was decided for a request, and what became of it."""

    operation = "decision"
    arguments: ClassVar = [_ID, _PARAMETERS]


class Subscribe(OperationCommand):
    """Get what happens from now on, each as an :class:`Event`.

    The parameters are ``kind`` and ``after``, the id of the last event that the caller has seen.
    The value is ``{"id": ...}``, the place from which events come.  A connection has one
    subscription; a second one takes the place of the first.
    """

    operation = "events"
    arguments: ClassVar = [_PARAMETERS]


class Event(amp.Command):
    """slardar tells a subscriber what has happened.  A client that does not read in time loses the
    connection."""

    #: The id is empty for an event that only this subscriber gets.
    arguments: ClassVar = [(b"id", Text()), (b"event", Bytes())]
    requiresAnswer = False  # noqa: N815 Twisted's name


def _commands(cls: Any) -> dict[bytes, type[OperationCommand]]:
    return {command.commandName: command for command in cls.__subclasses__()}


#: The commands that are operations, by name on the wire.
COMMANDS: Mapping[bytes, type[OperationCommand]] = _commands(OperationCommand)
