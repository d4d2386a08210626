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
from slardar.control.body import read_json, read_upstream
from slardar.errors import ConfigError, NotFoundError
from slardar.model.reader import shown

__all__ = [
    "Call",
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

    def flag(self, name: str) -> bool:
        """A parameter that is 0 or 1; 0 by default."""
        return self.parameters.get(name) == "1"


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
        case ["lua" | "python"]:
            return _HOOKS
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
    return actions.upstreams()


def _upstream(actions: Actions, call: Call) -> Any:
    return actions.upstream(call.parts[1])


async def _set_upstream(actions: Actions, call: Call) -> Any:
    body = read_upstream(call.body, call.content_type)
    name, reload = call.parts[1], call.flag("reload")
    return await _done(call, actions.set_upstream(name, body, call.who, call.wait, reload))


async def _remove_upstream(actions: Actions, call: Call) -> Any:
    return await _done(call, actions.remove_upstream(call.parts[1], call.who, call.wait))


async def _patch_server(actions: Actions, call: Call) -> Any:
    _, name, server = call.parts
    body = read_json(call.body)
    return await _done(call, actions.patch_server(name, server, body, call.who, call.wait))


def _routes(actions: Actions, call: Call) -> Any:
    return actions.routes()


async def _set_routes(actions: Actions, call: Call) -> Any:
    body = read_json(call.body)
    return await _done(call, actions.set_routes(body, call.who, call.wait))


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
    staged = actions.hooks.stage(
        language,
        name,
        call.body,
        call.who,
        call.wait,
        shadow=call.flag("shadow"),
        on_error=call.parameters.get("on_error"),
    )
    return await _ok(call, staged)


async def _activate_hook(actions: Actions, call: Call) -> Any:
    language, name = call.parts
    if call.flag("rollback"):
        if "canary" in call.parameters or "on_error" in call.parameters:
            raise ConfigError("rollback: expected no canary and no on_error with it")
        return await _ok(call, actions.hooks.roll_back(language, name, call.who, call.wait))
    activated = actions.hooks.activate(
        language,
        name,
        call.who,
        call.wait,
        canary=_share(call.parameters.get("canary", "0")),
        on_error=call.parameters.get("on_error"),
    )
    return await _ok(call, activated)


async def _remove_hook(actions: Actions, call: Call) -> Any:
    language, name = call.parts
    return await _ok(call, actions.hooks.remove(language, name, call.who, call.wait))


def _share(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 3 or int(text) > 100:
        raise ConfigError(f"canary: expected a number from 0 to 100, got {shown(text)}")
    return int(text)


async def _ok(call: Call, change: Awaitable[Receipt]) -> Any:
    """What upyun/slardar answers to a change of a hook; a receipt is an object."""
    answer = await _done(call, change)
    return answer if call.receipt else "ok"


async def _done(call: Call, change: Awaitable[Receipt]) -> dict[str, Any]:
    receipt = await change
    answer: dict[str, Any] = {"status": 200}
    if call.receipt:
        answer.update(version=receipt.version, workers=dict(receipt.workers))
    return answer


#: The parameters of every change, and those of some changes only.
_OF_CHANGES = ("wait", "receipt")
_PARAMETERS: Mapping[Handler, tuple[str, ...]] = {
    _stage_hook: ("shadow", "on_error"),
    _activate_hook: ("canary", "rollback", "on_error"),
    _set_upstream: ("reload",),
}
_FLAGS = (*_OF_CHANGES, "shadow", "rollback", "reload")

_STATUS: Mapping[str, Handler] = {"GET": _status}
_UPSTREAMS: Mapping[str, Handler] = {"GET": _upstreams}
_UPSTREAM: Mapping[str, Handler] = {
    "GET": _upstream,
    "POST": _set_upstream,
    "PUT": _set_upstream,
    "DELETE": _remove_upstream,
}
_SERVER: Mapping[str, Handler] = {"PATCH": _patch_server}
_ROUTES: Mapping[str, Handler] = {"GET": _routes, "PUT": _set_routes}
_HOOKS: Mapping[str, Handler] = {"GET": _hooks}
_HOOK: Mapping[str, Handler] = {
    "GET": _hook,
    "POST": _stage_hook,
    "PUT": _activate_hook,
    "DELETE": _remove_hook,
}
_SHADOW: Mapping[str, Handler] = {"GET": _hook_shadow}
_CODE: Mapping[str, Handler] = {"GET": _hook_code}
