"""The calls of the HTTP control channel: which path and method mean which operation.

A call is a plain function or coroutine from a :class:`Call` to a value for JSON; no
HTTP machinery is needed to test it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from msgspec import Struct

from slardar.control.actions import Actions, Receipt
from slardar.control.body import read_json, read_text, read_upstream
from slardar.control.conditions import Condition
from slardar.errors import ConfigError, NotFoundError, PartlyReadError, SlardarError
from slardar.model.membership import Place
from slardar.model.reader import shown
from slardar.model.shown import with_cluster

__all__ = [
    "Answer",
    "Call",
    "Changed",
    "Handler",
    "find_handlers",
    "known_parameters",
    "read_parameters",
    "split_path",
]


class Call(Struct, frozen=True):
    """One call, as far as an operation cares."""

    #: The path's parts, decoded: ``("upstream", "api")``.
    parts: tuple[str, ...]
    body: bytes
    content_type: str
    #: ``?wait=0``: answer once the store holds the change.
    wait: bool
    #: ``?receipt=1``: say what each worker confirmed.
    receipt: bool
    #: Who asks, for the store's record.
    who: str
    #: The other parameters, as they were written.
    parameters: Mapping[str, str] = {}
    #: What a change asks of the configuration before it.
    condition: Condition | None = None

    @property
    def by(self) -> tuple[str, bool, Condition | None]:
        """The last arguments of every change: who, wait and condition."""
        return self.who, self.wait, self.condition

    def flag(self, name: str) -> bool:
        """A parameter that is 0 or 1; 0 by default."""
        return self.parameters.get(name) == "1"


class Answer(Struct, frozen=True):
    """What a handler answers where a header goes with it."""

    value: Any
    headers: Mapping[str, str]


#: Characters of a header's value.
_MAX_HEADER = 1000


class Changed(Struct, frozen=True):
    """The answer to a change."""

    #: The value for JSON.
    value: Any
    #: The version that the change has become.
    version: int
    #: What goes with it.
    headers: Mapping[str, str] = {}


#: Answers a value for JSON, or one that is awaited: that of a change is a Changed.
Handler = Callable[[Actions, Call], Any]


def split_path(path: bytes) -> tuple[str, ...]:
    """The parts of a path such as ``/upstream/%2A.example.com``.

    Raises NotFoundError for what is no path of UTF-8 text.
    """
    try:
        parts = [unquote_to_bytes(part).decode("utf-8") for part in path.split(b"/")]
    except UnicodeDecodeError:
        parts = []
    if len(parts) < 2 or parts[0]:
        raise NotFoundError("no such path")
    return tuple(parts[1:])


def read_parameters(query: bytes, known: Sequence[str]) -> Mapping[str, str]:
    """The parameters of a call.

    Raises ConfigError for any that is not known: a misspelt one would be ignored in
    silence otherwise.
    """
    found: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            raise ConfigError(f"unknown parameter {shown(name)}")
        if name in _FLAGS and value not in ("0", "1"):
            raise ConfigError(f"{name}: expected 0 or 1, got {shown(value)}")
        found[name] = value
    return found


def known_parameters(method: str, handler: Handler) -> Sequence[str]:
    """The names of the parameters that a call may have."""
    return () if method == "GET" else (*_OF_CHANGES, *_PARAMETERS.get(handler, ()))


def find_handlers(parts: Sequence[str]) -> Mapping[str, Handler]:
    """What may be done at a path, by method.  Raises NotFoundError if nothing."""
    match parts:
        case ["status"]:
            return _STATUS
        case ["upstreams"]:
            return _UPSTREAMS
        case ["upstream", name] if name:
            return _UPSTREAM
        case ["upstream", name, server] if name and server:
            return _SERVER
        case ["routes"]:
            return _ROUTES
        case ["lua" | "python"] | ["lua" | "python", ""]:
            # With and without the slash, as in upyun/slardar.
            return _HOOKS
        case ["lua" | "python", "version"]:
            return _COMMIT_VERSION
        case ["lua" | "python", name] if name:
            return _HOOK
        case ["lua" | "python", name, "shadow"] if name:
            return _SHADOW
        case ["lua" | "python", name, "code"] if name:
            return _CODE
    raise NotFoundError(f"no such path: {shown('/' + '/'.join(parts))}")


def _status(actions: Actions, call: Call) -> Any:
    return actions.status()


def _upstreams(actions: Actions, call: Call) -> Any:
    return {name: with_cluster(one) for name, one in actions.upstreams().items()}


def _upstream(actions: Actions, call: Call) -> Any:
    name = call.parts[1]
    # In a header: what is answered can be PUT back as it is.
    origin = {"X-Slardar-Origin": actions.origin(name)}
    return Answer(with_cluster(actions.upstream(name)), origin)


async def _set_upstream(actions: Actions, call: Call) -> Any:
    name = call.parts[1]
    body = _whole(
        lambda: read_upstream(call.body, call.content_type),
        lambda value: actions.check_upstream(name, value),
    )
    return await _done(call, actions.set_upstream(name, body, *call.by, call.flag("reload")))


async def _remove_upstream(actions: Actions, call: Call) -> Any:
    if _to_file(call):
        return await _done(call, actions.return_upstream(call.parts[1], *call.by))
    return await _done(call, actions.remove_upstream(call.parts[1], *call.by))


async def _patch_server(actions: Actions, call: Call) -> Any:
    _, name, server = call.parts
    body = _whole(
        lambda: read_json(call.body), lambda value: actions.check_server(name, server, value)
    )
    return await _done(call, actions.patch_server(name, server, body, *call.by))


async def _add_server(actions: Actions, call: Call) -> Any:
    _, name, server = call.parts
    body = read_json(call.body) if call.body.strip() else {}
    return await _done(call, actions.add_server(name, server, body, *call.by, _place(call)))


async def _remove_server(actions: Actions, call: Call) -> Any:
    _, name, server = call.parts
    return await _done(call, actions.remove_server(name, server, *call.by, _place(call)))


def _place(call: Call) -> Place:
    return Place(call.parameters.get("level"), call.parameters.get("cluster"))


def _whole(read: Callable[[], Any], check: Callable[[Any], object]) -> Any:
    """What ``read`` gives.  Where that is wrong already, ``check`` says what else is."""
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


def _routes(actions: Actions, call: Call) -> Any:
    return actions.routes()


async def _set_routes(actions: Actions, call: Call) -> Any:
    body = _whole(lambda: read_json(call.body), actions.check_routes)
    return await _done(call, actions.set_routes(body, *call.by))


async def _return_routes(actions: Actions, call: Call) -> Any:
    if not _to_file(call):
        raise ConfigError("expected to=file; to have no routes, PUT []")
    return await _done(call, actions.return_routes(*call.by))


def _to_file(call: Call) -> bool:
    """Whether what the file says is wanted again."""
    to = call.parameters.get("to")
    if to not in (None, "file"):
        raise ConfigError(f"to: expected file, got {shown(to)}")
    return to is not None


def _hooks(actions: Actions, call: Call) -> Any:
    return actions.hooks.all(call.parts[0])


def _hook(actions: Actions, call: Call) -> Any:
    return actions.hooks.one(call.parts[0], call.parts[1])


def _hook_shadow(actions: Actions, call: Call) -> Any:
    return actions.hooks.shadow(call.parts[0], call.parts[1])


def _hook_code(actions: Actions, call: Call) -> Any:
    return actions.hooks.codes(call.parts[0], call.parts[1])


async def _stage_hook(actions: Actions, call: Call) -> Any:
    language, name = call.parts
    activate = call.flag("activate")
    if activate and call.flag("shadow"):
        raise ConfigError("activate: expected no shadow with it")
    if "canary" in call.parameters and not activate:
        raise ConfigError("canary: expected activate=1 with it")
    staged = actions.hooks.stage(
        language,
        name,
        call.body,
        call.who,
        call.wait,
        shadow=call.flag("shadow"),
        on_error=call.parameters.get("on_error"),
        activate=activate,
        canary=_share(call.parameters.get("canary", "0")),
        condition=call.condition,
    )
    changed = await _ok(call, staged)
    warnings = actions.hooks.warnings(language, name)
    if not warnings:
        return changed
    return Changed(changed.value, changed.version, {"X-Slardar-Warning": _header(warnings)})


def _header(lines: Sequence[str]) -> str:
    """Lines as the value of a header: one line of ASCII, not too long for anybody."""
    text = ascii("; ".join(lines))[1:-1]
    return text if len(text) <= _MAX_HEADER else text[: _MAX_HEADER - 3] + "..."


async def _activate_hook(actions: Actions, call: Call) -> Any:
    language, name = call.parts
    if call.flag("rollback"):
        if "canary" in call.parameters or "on_error" in call.parameters:
            raise ConfigError("rollback: expected no canary and no on_error with it")
        return await _ok(call, actions.hooks.roll_back(language, name, *call.by))
    activated = actions.hooks.activate(
        language,
        name,
        call.who,
        call.wait,
        canary=_share(call.parameters.get("canary", "0")),
        on_error=call.parameters.get("on_error"),
        condition=call.condition,
    )
    return await _ok(call, activated)


async def _activate_hooks(actions: Actions, call: Call) -> Any:
    return await _ok(call, actions.hooks.activate_all(call.parts[0], *call.by))


def _commit_version(actions: Actions, call: Call) -> Any:
    return {"commit_version": actions.hooks.commit_version(call.parts[0])}


async def _set_commit_version(actions: Actions, call: Call) -> Any:
    text = read_text(call.body).strip()
    return await _ok(call, actions.hooks.set_commit_version(call.parts[0], text, *call.by))


async def _remove_commit_version(actions: Actions, call: Call) -> Any:
    return await _ok(call, actions.hooks.set_commit_version(call.parts[0], None, *call.by))


async def _remove_hook(actions: Actions, call: Call) -> Any:
    language, name = call.parts
    return await _ok(call, actions.hooks.remove(language, name, *call.by))


def _share(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 3 or int(text) > 100:
        raise ConfigError(f"canary: expected a number from 0 to 100, got {shown(text)}")
    return int(text)


async def _ok(call: Call, change: Awaitable[Receipt]) -> Changed:
    """What upyun/slardar answers to a change of a hook; a receipt is an object."""
    changed = await _done(call, change)
    return changed if call.receipt else Changed("ok", changed.version)


async def _done(call: Call, change: Awaitable[Receipt]) -> Changed:
    receipt = await change
    answer: dict[str, Any] = {"status": 200}
    if call.receipt:
        answer.update(version=receipt.version, workers=dict(receipt.workers))
    return Changed(answer, receipt.version)


#: The parameters of every change, and those of some changes only.
_OF_CHANGES = ("wait", "receipt")
_PARAMETERS: Mapping[Handler, tuple[str, ...]] = {
    _remove_upstream: ("to",),
    _return_routes: ("to",),
    _stage_hook: ("shadow", "on_error", "activate", "canary"),
    _activate_hook: ("canary", "rollback", "on_error"),
    _add_server: ("level", "cluster"),
    _remove_server: ("level", "cluster"),
    _set_upstream: ("reload",),
}
_FLAGS = (*_OF_CHANGES, "shadow", "rollback", "activate", "reload")

_STATUS: Mapping[str, Handler] = {"GET": _status}
_UPSTREAMS: Mapping[str, Handler] = {"GET": _upstreams}
_UPSTREAM: Mapping[str, Handler] = {
    "GET": _upstream,
    "POST": _set_upstream,
    "PUT": _set_upstream,
    "DELETE": _remove_upstream,
}
_SERVER: Mapping[str, Handler] = {
    "PATCH": _patch_server,
    "POST": _add_server,
    "DELETE": _remove_server,
}
_ROUTES: Mapping[str, Handler] = {
    "GET": _routes,
    "PUT": _set_routes,
    "DELETE": _return_routes,
}
_HOOKS: Mapping[str, Handler] = {"GET": _hooks, "PUT": _activate_hooks}
_COMMIT_VERSION: Mapping[str, Handler] = {
    "GET": _commit_version,
    "POST": _set_commit_version,
    "PUT": _set_commit_version,
    "DELETE": _remove_commit_version,
}
_HOOK: Mapping[str, Handler] = {
    "GET": _hook,
    "POST": _stage_hook,
    "PUT": _activate_hook,
    "DELETE": _remove_hook,
}
_SHADOW: Mapping[str, Handler] = {"GET": _hook_shadow}
_CODE: Mapping[str, Handler] = {"GET": _hook_code}
