"""The table of operations: every call of every control channel, once.

An operation is a plain function or coroutine from a :class:`ControlCall` to a value for JSON; no
HTTP machinery is needed to test it. :mod:`slardar.control.calls` makes the calls of HTTP from the
table.  To add an operation, add a function and a row.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct, structs

from slardar.control.actions import Actions, Receipt
from slardar.control.auth import Caller, RefusedError
from slardar.control.body import read_json, read_text, read_upstream
from slardar.control.conditions import Condition
from slardar.control.names import EVERYTHING, Names
from slardar.control.pieces import in_pieces
from slardar.errors import ConfigError, PartlyReadError, SlardarError
from slardar.model.membership import Place
from slardar.model.reader import shown
from slardar.model.shown import with_cluster
from slardar.observers.exposition import CONTENT_TYPE

__all__ = [
    "OPERATIONS",
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

#: Characters of a header's value, at most.
_MAX_HEADER = 1000
#: Digits of a version, at most: a store keeps it in 64 bits.
_MAX_DIGITS = 18
#: Changes in one answer of the history: at most, and without ``limit``.
_MAX_LIMIT = 1000
_LIMIT = 100


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
    #: The names that the caller may see and change.
    names: Names = EVERYTHING

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
            found[name] = known[name].read(name, text)
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


def _status(actions: Actions, call: ControlCall) -> Any:
    status = actions.status()
    return status if call.names.is_everything else call.names.in_status(status)


async def _metrics(actions: Actions, call: ControlCall) -> Any:
    text = await in_pieces(actions.metrics(), actions.history.turn)
    return CallResult("".join(text), media=CONTENT_TYPE)


def _upstreams(actions: Actions, call: ControlCall) -> Any:
    return {
        name: with_cluster(one) for name, one in actions.upstreams().items() if name in call.names
    }


def _upstream(actions: Actions, call: ControlCall) -> Any:
    name = call.arguments["name"]
    # In a header: what is answered can be PUT back as it is.
    origin = {"X-Slardar-Origin": actions.origin(name)}
    return CallResult(with_cluster(actions.upstream(name)), origin)


async def _set_upstream(actions: Actions, call: ControlCall) -> Any:
    name = call.arguments["name"]
    body = _whole(
        lambda: read_upstream(call.body, call.content_type),
        lambda value: actions.check_upstream(name, value),
    )
    if not call.names.is_everything:
        _check_classes(body, call.parameters["reload"])
    return await _done(call, actions.set_upstream(name, body, *call.by, call.parameters["reload"]))


def _check_classes(body: Any, reload: bool) -> None:
    """Refuse classes by their dotted names: these make slardar import a module, which may do
    anything to the upstreams of others."""
    options = body.get("mode_opts")
    names = [body.get("mode"), body.get("typ")]
    names += [options.get("fallback")] if isinstance(options, Mapping) else []
    if reload or any("." in name for name in names if isinstance(name, str)):
        raise RefusedError(403, "expected a token without names, to load classes of your own")


async def _remove_upstream(actions: Actions, call: ControlCall) -> Any:
    if call.parameters["to"]:
        return await _done(call, actions.return_upstream(call.arguments["name"], *call.by))
    return await _done(call, actions.remove_upstream(call.arguments["name"], *call.by))


async def _patch_server(actions: Actions, call: ControlCall) -> Any:
    name, server = call.arguments["name"], call.arguments["server"]
    body = _whole(
        lambda: read_json(call.body), lambda value: actions.check_server(name, server, value)
    )
    return await _done(call, actions.patch_server(name, server, body, *call.by))


async def _add_server(actions: Actions, call: ControlCall) -> Any:
    name, server = call.arguments["name"], call.arguments["server"]
    body = read_json(call.body) if call.body.strip() else {}
    return await _done(call, actions.add_server(name, server, body, *call.by, _place(call)))


async def _remove_server(actions: Actions, call: ControlCall) -> Any:
    name, server = call.arguments["name"], call.arguments["server"]
    return await _done(call, actions.remove_server(name, server, *call.by, _place(call)))


def _place(call: ControlCall) -> Place:
    return Place(call.parameters["level"], call.parameters["cluster"])


def _whole(read: Callable[[], Any], check: Callable[[Any], object]) -> Any:
    """What ``read`` returns.  If it finds mistakes, ``check`` adds those that it finds."""
    try:
        return read()
    except PartlyReadError as error:
        problems = list(error.problems)
        try:
            check(error.value)
        except ConfigError as found:
            problems += found.problems
        except SlardarError:
            pass  # there is no such upstream, and the body is wrong all the same
        raise ConfigError(problems) from None


def _routes(actions: Actions, call: ControlCall) -> Any:
    return actions.routes()


async def _set_routes(actions: Actions, call: ControlCall) -> Any:
    body = _whole(lambda: read_json(call.body), actions.check_routes)
    return await _done(call, actions.set_routes(body, *call.by))


async def _return_routes(actions: Actions, call: ControlCall) -> Any:
    if not call.parameters["to"]:
        raise ConfigError("expected to=file; to have no routes, PUT []")
    return await _done(call, actions.return_routes(*call.by))


def _hooks(actions: Actions, call: ControlCall) -> Any:
    found = actions.hooks.all(call.arguments["language"])
    for key in ("modules", "staged"):
        found[key] = [hook for hook in found[key] if call.names.has_hook(hook["name"])]
    return found


def _hook(actions: Actions, call: ControlCall) -> Any:
    return actions.hooks.one(call.arguments["language"], call.arguments["name"])


def _hook_shadow(actions: Actions, call: ControlCall) -> Any:
    return actions.hooks.shadow(call.arguments["language"], call.arguments["name"])


def _hook_code(actions: Actions, call: ControlCall) -> Any:
    return actions.hooks.codes(call.arguments["language"], call.arguments["name"])


async def _stage_hook(actions: Actions, call: ControlCall) -> Any:
    language, name = call.arguments["language"], call.arguments["name"]
    activate = call.parameters["activate"]
    if activate and call.parameters["shadow"]:
        raise ConfigError("activate: expected no shadow with it")
    if call.parameters["canary"] is not None and not activate:
        raise ConfigError("canary: expected activate=1 with it")
    staged = actions.hooks.stage(
        language,
        name,
        call.body,
        call.who,
        call.parameters["wait"],
        shadow=call.parameters["shadow"],
        on_error=call.parameters["on_error"],
        activate=activate,
        canary=call.parameters["canary"] or 0,
        condition=call.condition,
    )
    changed = await _ok(call, staged)
    warnings = actions.hooks.warnings(language, name)
    if not warnings:
        return changed
    return structs.replace(changed, headers={"X-Slardar-Warning": _header(warnings)})


def _header(lines: Sequence[str]) -> str:
    """Lines as the value of a header: one line of ASCII, of 1,000 characters at most."""
    text = ascii("; ".join(lines))[1:-1]
    return text if len(text) <= _MAX_HEADER else text[: _MAX_HEADER - 3] + "..."


async def _activate_hook(actions: Actions, call: ControlCall) -> Any:
    language, name = call.arguments["language"], call.arguments["name"]
    if call.parameters["rollback"]:
        if any(call.parameters[name] is not None for name in ("canary", "on_error")):
            raise ConfigError("rollback: expected no canary and no on_error with it")
        return await _ok(call, actions.hooks.roll_back(language, name, *call.by))
    activated = actions.hooks.activate(
        language,
        name,
        call.who,
        call.parameters["wait"],
        canary=call.parameters["canary"] or 0,
        on_error=call.parameters["on_error"],
        condition=call.condition,
    )
    return await _ok(call, activated)


async def _activate_hooks(actions: Actions, call: ControlCall) -> Any:
    return await _ok(call, actions.hooks.activate_all(call.arguments["language"], *call.by))


def _commit_version(actions: Actions, call: ControlCall) -> Any:
    return {"commit_version": actions.hooks.commit_version(call.arguments["language"])}


async def _set_commit_version(actions: Actions, call: ControlCall) -> Any:
    text = read_text(call.body).strip()
    return await _ok(
        call, actions.hooks.set_commit_version(call.arguments["language"], text, *call.by)
    )


async def _remove_commit_version(actions: Actions, call: ControlCall) -> Any:
    return await _ok(
        call, actions.hooks.set_commit_version(call.arguments["language"], None, *call.by)
    )


async def _remove_hook(actions: Actions, call: ControlCall) -> Any:
    language, name = call.arguments["language"], call.arguments["name"]
    return await _ok(call, actions.hooks.remove(language, name, *call.by))


async def _history(actions: Actions, call: ControlCall) -> Any:
    return await actions.history.page(call.parameters["before"], call.parameters["limit"])


async def _version(actions: Actions, call: ControlCall) -> Any:
    return await actions.history.version(_read_version("version", call.arguments["version"]))


async def _roll_back(actions: Actions, call: ControlCall) -> Any:
    version = _read_version("version", call.arguments["version"])
    done = await actions.history.roll_back(version, *call.by)
    answer: dict[str, Any] = {"status": 200, "version": done.receipt.version}
    if done.file:
        answer["file"] = done.file
    if call.parameters["receipt"]:
        answer["workers"] = dict(done.receipt.workers)
    return CallResult(answer, version=done.receipt.version)


async def _ok(call: ControlCall, change: Awaitable[Receipt]) -> CallResult:
    """The answer of upyun/slardar to a change of a hook; an object if a receipt is asked for."""
    changed = await _done(call, change)
    return changed if call.parameters["receipt"] else structs.replace(changed, value="ok")


async def _done(call: ControlCall, change: Awaitable[Receipt]) -> CallResult:
    receipt = await change
    answer: dict[str, Any] = {"status": 200}
    if call.parameters["receipt"]:
        answer.update(version=receipt.version, workers=dict(receipt.workers))
    return CallResult(answer, version=receipt.version)


def _read_flag(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise ConfigError(f"{name}: expected 0 or 1, got {shown(text)}")
    return text == "1"


def _read_percent(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 3 or int(text) > 100:
        raise ConfigError(f"{name}: expected a number from 0 to 100, got {shown(text)}")
    return int(text)


def _read_version(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS:
        raise ConfigError(f"{name}: expected the number of a version, got {shown(text)}")
    return int(text)


def _read_limit(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:5]) <= _MAX_LIMIT:
        raise ConfigError(f"{name}: expected a number from 1 to {_MAX_LIMIT}, got {shown(text)}")
    return int(text)


def _read_text(name: str, text: str) -> str:
    return text


def _read_to(name: str, text: str) -> bool:
    if text != "file":
        raise ConfigError(f"{name}: expected file, got {shown(text)}")
    return True


def _flag(name: str, default: bool = False) -> Parameter:
    return Parameter(name, _read_flag, default)


#: The parameters of every change.  ``wait``: answer when the change is served, not when it is
#: stored.  ``receipt``: answer the version, and what each worker has confirmed.
_OF_CHANGES = (_flag("wait", True), _flag("receipt"))
#: ``to=file``: return to what the file says.
_TO = Parameter("to", _read_to, False)
_LEVEL, _CLUSTER = Parameter("level", _read_text), Parameter("cluster", _read_text)
_CANARY = Parameter("canary", _read_percent)
_ON_ERROR = Parameter("on_error", _read_text)


def _question(
    name: str,
    path: str,
    run: Callable[[Actions, ControlCall], Any],
    *parameters: Parameter,
    is_filtered: bool = False,
) -> Operation:
    return Operation(name, "read", run, ("GET",), path, parameters, is_filtered)


def _change(
    name: str,
    methods: str,
    path: str,
    run: Callable[[Actions, ControlCall], Any],
    *parameters: Parameter,
) -> Operation:
    words = tuple(methods.split())
    return Operation(name, "admin", run, words, path, (*_OF_CHANGES, *parameters))


#: The table.  If two paths fit a call, the first one counts.
OPERATIONS: tuple[Operation, ...] = (
    _question("status", "/status", _status, is_filtered=True),
    _question("metrics", "/metrics", _metrics),
    _question("upstreams", "/upstreams", _upstreams, is_filtered=True),
    _question("upstream", "/upstream/NAME", _upstream),
    _change("set-upstream", "POST PUT", "/upstream/NAME", _set_upstream, _flag("reload")),
    _change("remove-upstream", "DELETE", "/upstream/NAME", _remove_upstream, _TO),
    _change("change-server", "PATCH", "/upstream/NAME/SERVER", _patch_server),
    _change("add-server", "POST", "/upstream/NAME/SERVER", _add_server, _LEVEL, _CLUSTER),
    _change("remove-server", "DELETE", "/upstream/NAME/SERVER", _remove_server, _LEVEL, _CLUSTER),
    _question("routes", "/routes", _routes),
    _change("set-routes", "PUT", "/routes", _set_routes),
    _change("return-routes", "DELETE", "/routes", _return_routes, _TO),
    _question(
        "history",
        "/history",
        _history,
        *(Parameter("before", _read_version), Parameter("limit", _read_limit, _LIMIT)),
    ),
    _question("version", "/history/VERSION", _version),
    _change("rollback", "POST", "/rollback/VERSION", _roll_back),
    _question("hooks", "/LANGUAGE", _hooks, is_filtered=True),
    _change("activate-hooks", "PUT", "/LANGUAGE", _activate_hooks),
    _question("code-version", "/LANGUAGE/version", _commit_version),
    _change("set-code-version", "POST PUT", "/LANGUAGE/version", _set_commit_version),
    _change("remove-code-version", "DELETE", "/LANGUAGE/version", _remove_commit_version),
    _question("hook", "/LANGUAGE/NAME", _hook),
    _change(
        "stage-hook",
        "POST",
        "/LANGUAGE/NAME",
        _stage_hook,
        *(_flag("shadow"), _ON_ERROR, _flag("activate"), _CANARY),
    ),
    _change(
        "activate-hook",
        "PUT",
        "/LANGUAGE/NAME",
        _activate_hook,
        *(_CANARY, _flag("rollback"), _ON_ERROR),
    ),
    _change("remove-hook", "DELETE", "/LANGUAGE/NAME", _remove_hook),
    _question("hook-shadow", "/LANGUAGE/NAME/shadow", _hook_shadow),
    _question("hook-code", "/LANGUAGE/NAME/code", _hook_code),
)
