"""What an operation of the control channels is: its call, its result, and who may call it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct, field, structs

from slardar.control.actions import Actions
from slardar.control.auth import Caller, RefusedError
from slardar.control.conditions import Condition
from slardar.control.names import EVERYTHING, Names
from slardar.errors import ConfigError
from slardar.model.reader import shown

__all__ = [
    "CallResult",
    "ControlCall",
    "Operation",
    "Parameter",
    "Role",
    "carry_out",
    "check_role",
]

#: ``read`` may ask, ``admin`` may change.
Role = Literal["read", "admin"]


class ControlCall(Struct, frozen=True):
    """One call of a control channel, as far as an operation cares."""

    #: The things that the call names: ``name``, ``server``, ``language``, ``version``; those that
    #: the operation has.
    arguments: Mapping[str, str]
    #: The value of every parameter of the operation.
    parameters: Mapping[str, Any]
    body: bytes
    content_type: str
    #: Who asks, for the store's record.
    who: str
    #: The condition on which a change is made.
    condition: Condition | None = None
    #: The names that the caller may see and change, and whether the caller may make changes.
    names: Names = EVERYTHING
    is_admin: bool = False
    #: The id of the last event that the caller has seen; empty for none.
    last_event: str = ""

    @property
    def by(self) -> tuple[str, bool, Condition | None]:
        """The last arguments of every change: who, wait and condition."""
        return self.who, self.parameters["wait"], self.condition


class CallResult(Struct, frozen=True):
    """The answer to a call, where that is more than a value."""

    #: The value for JSON; with a ``media``, a text of this type, which HTTP sends as it is.
    value: Any
    #: Headers that go with the value.
    headers: Mapping[str, str] = {}
    media: str = ""
    #: The version that a change has made; ``None``: the version at the time of the call.
    version: int | None = None


class Parameter(Struct, frozen=True):
    """An option of an operation.  ``read`` gets its name and its text, and returns the value.

    ``read`` raises ConfigError for a wrong text.
    """

    name: str
    read: Callable[[str, str], Any]
    #: The value if the option is not given.
    default: Any = None
    #: What it is for, and its texts as a JSON schema, for the description of the API.
    about: str = ""
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    #: Whether it may be given several times; its value is a tuple then.
    is_list: bool = False


class Operation(Struct, frozen=True):
    """One row of the table."""

    #: Its name in channels that have no paths.
    name: str
    role: Role
    #: Returns a value for JSON or a CallResult, or an awaitable of either.
    run: Callable[[Actions, ControlCall], Any]
    #: Its methods and path in HTTP.  Words in capitals stand for the arguments.
    methods: tuple[str, ...]
    path: str
    parameters: tuple[Parameter, ...] = ()
    #: Whether an operation without a name leaves out what ``ControlCall.names`` does not have.
    #: Others without a name are refused to a token that has only some names.
    is_filtered: bool = False
    #: Whether the value is a :class:`slardar.events.EventsAsked`, which a channel answers with
    #: events as they come.
    is_stream: bool = False
    #: What it does, in a line; and the names in :mod:`slardar.control.schemas` of what its body and
    #: its answer hold: one, or several with spaces between.  ``""``: it has no body.
    about: str = ""
    body: str = ""
    answer: str = "Object"

    @property
    def is_change(self) -> bool:
        """Whether it may change the configuration."""
        return self.methods != ("GET",) and self.role == "admin"

    def read_parameters(self, given: Iterable[tuple[str, str]]) -> Mapping[str, Any]:
        """The value of each parameter, from texts.

        Raises ConfigError for a parameter that the operation does not have: a misspelt one would be
        ignored in silence otherwise.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        found = {parameter.name: parameter.default for parameter in self.parameters}
        for name, text in given:
            if name not in known:
                raise ConfigError(f"unknown parameter {shown(name)}")
            value = known[name].read(name, text)
            found[name] = (*found[name], value) if known[name].is_list else value
        return found

    def check(self, caller: Caller, arguments: Mapping[str, str]) -> None:
        """Refuse the call if the caller's token does not allow it; ``arguments`` are its names.

        :raise RefusedError: 403, with the reason.
        """
        check_role(caller, self.role)
        if caller.names.is_everything or self.is_filtered:
            return
        name = arguments.get("name")
        if name is None:
            raise RefusedError(403, "expected a token without names: this call is about all names")
        has = caller.names.has_hook if "language" in arguments else caller.names.__contains__
        if not has(name):
            raise RefusedError(403, f"expected a token for the name {shown(name)}")


async def carry_out(operation: Operation, actions: Actions, call: ControlCall) -> CallResult:
    """Carry out a call.  The result has a version: the one that the change has made, else the one
    at the time of the call.  Raises what the operation raises."""
    version = actions.snapshot.version
    found = operation.run(actions, call)
    if inspect.isawaitable(found):
        found = await found
    result = found if isinstance(found, CallResult) else CallResult(found)
    return result if result.version is not None else structs.replace(result, version=version)


def check_role(caller: Caller, role: Role) -> None:
    """Refuse what only another role may do.  Raises RefusedError (403)."""
    if role == "admin" and not caller.is_admin:
        raise RefusedError(403, "expected a token with the role admin for this call")
