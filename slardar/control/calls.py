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

__all__ = ["Call", "Handler", "find_handlers", "read_flags", "split_path"]


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


def read_flags(query: bytes, known: Sequence[str]) -> Mapping[str, bool]:
    """The parameters of a call, all of them 0 or 1.

    Raises ConfigError for any that is not known: a misspelt one would be ignored in
    silence otherwise.
    """
    flags: dict[str, bool] = {}
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    for name, value in pairs:
        if name not in known:
            raise ConfigError(f"unknown parameter {shown(name)}")
        if value not in ("0", "1"):
            raise ConfigError(f"{name}: expected 0 or 1, got {shown(value)}")
        flags[name] = value == "1"
    return flags


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
    raise NotFoundError(f"no such path: {shown('/' + '/'.join(parts))}")


def _status(actions: Actions, call: Call) -> Any:
    return actions.status()


def _upstreams(actions: Actions, call: Call) -> Any:
    return actions.upstreams()


def _upstream(actions: Actions, call: Call) -> Any:
    return actions.upstream(call.parts[1])


async def _set_upstream(actions: Actions, call: Call) -> Any:
    body = read_upstream(call.body, call.content_type)
    return await _done(call, actions.set_upstream(call.parts[1], body, call.who, call.wait))


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


async def _done(call: Call, change: Awaitable[Receipt]) -> dict[str, Any]:
    receipt = await change
    answer: dict[str, Any] = {"status": 200}
    if call.receipt:
        answer.update(version=receipt.version, workers=dict(receipt.workers))
    return answer


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
