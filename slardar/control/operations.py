"""The table of operations: every call of every control channel, once.

An operation is a plain function or coroutine from a :class:`ControlCall` to a value for JSON; no
HTTP machinery is needed to test it. :mod:`slardar.control.calls` makes the calls of HTTP from the
table.  To add an operation, add a function and a row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import structs

from slardar.control.actions import Actions, Receipt
from slardar.control.auth import RefusedError
from slardar.control.body import read_json, read_text, read_upstream
from slardar.control.explain import (
    explain,
    find_decision,
    read_client,
    read_header,
    read_line,
)
from slardar.control.openapi import describe
from slardar.control.operation import CallResult, ControlCall, Operation, Parameter, Role
from slardar.control.overview import overview
from slardar.control.pieces import in_pieces
from slardar.errors import ConfigError, NotReadyError, PartlyReadError, SlardarError
from slardar.events import KINDS, Event, EventsAsked, Gap, More, kind_of
from slardar.model.membership import Place
from slardar.model.reader import shown
from slardar.model.shown import with_cluster
from slardar.observers.exposition import CONTENT_TYPE

__all__ = ["OPERATIONS"]

#: Events that a reader gets whatever the kinds that it asks for: some are missing.
_ALWAYS = (Gap, More)
#: Characters of a header's value, at most.
_MAX_HEADER = 1000
#: Digits of a version, at most: a store keeps it in 64 bits.
_MAX_DIGITS = 18
#: Upstreams whose servers one answer of the overview shows, at most.
_MAX_SHOWN = 100
#: Changes in one answer of the history: at most, and without ``limit``.
_MAX_LIMIT = 1000
_LIMIT = 100


def _status(actions: Actions, call: ControlCall) -> Any:
    status = actions.status()
    return status if call.names.is_everything else call.names.in_status(status)


async def _overview(actions: Actions, call: ControlCall) -> Any:
    wanted = call.parameters["upstream"]
    if len(wanted) > _MAX_SHOWN:
        raise ConfigError(f"upstream: expected at most {_MAX_SHOWN} names, got {len(wanted)}")
    found = await overview(actions, call.names, wanted, call.parameters["index"])
    found["caller"] = {"who": str(call.who), "role": "admin" if call.is_admin else "read"}
    return found


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
    if not isinstance(body, Mapping):
        return  # it is refused later
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


def _services(actions: Actions, call: ControlCall) -> Any:
    return {name: one for name, one in actions.services.all().items() if name in call.names}


def _service(actions: Actions, call: ControlCall) -> Any:
    return actions.services.one(call.arguments["name"])


async def _set_service(actions: Actions, call: ControlCall) -> Any:
    name = call.arguments["name"]
    body = _whole(lambda: read_json(call.body), lambda value: actions.services.check(name, value))
    if not call.names.is_everything:
        _check_classes(body, reload=False)
    return await _done(call, actions.services.set(name, body, *call.by))


async def _remove_service(actions: Actions, call: ControlCall) -> Any:
    services = actions.services
    remove = services.give_back if call.parameters["to"] else services.remove
    return await _done(call, remove(call.arguments["name"], *call.by))


def _settings(actions: Actions, call: ControlCall) -> Any:
    return actions.hook_settings.all()


def _setting(actions: Actions, call: ControlCall) -> Any:
    name = call.arguments["key"]
    origin = {"X-Slardar-Origin": actions.hook_settings.origin(name)}
    return CallResult(actions.hook_settings.one(name), origin)


async def _set_setting(actions: Actions, call: ControlCall) -> Any:
    name = call.arguments["key"]
    body = _whole(
        lambda: read_json(call.body), lambda value: actions.hook_settings.check(name, value)
    )
    return await _done(call, actions.hook_settings.set(name, body, *call.by))


async def _remove_setting(actions: Actions, call: ControlCall) -> Any:
    return await _done(call, actions.hook_settings.remove(call.arguments["key"], *call.by))


async def _certificates(actions: Actions, call: ControlCall) -> Any:
    found = await in_pieces(actions.certificates.all(), actions.history.turn)
    return [one for one in found if all(name in call.names for name in one["names"])]


def _certificate(actions: Actions, call: ControlCall) -> Any:
    found = actions.certificates.one(call.arguments["name"])
    _guard(call)(found["names"])
    return found


async def _set_certificate(actions: Actions, call: ControlCall) -> Any:
    name = call.arguments["name"]
    certificates = actions.certificates
    pair = certificates.check(name, _read_secret(call.body, f"certificates.{name}"))
    guard = _guard(call)
    guard(pair.names)
    changed = await _done(call, certificates.set(name, pair, *call.by, guard))
    warnings = certificates.warnings(name)
    if not warnings:
        return changed
    return structs.replace(changed, headers={"X-Slardar-Warning": _header(warnings)})


async def _remove_certificate(actions: Actions, call: ControlCall) -> Any:
    name = call.arguments["name"]
    return await _done(call, actions.certificates.remove(name, *call.by, _guard(call)))


def _read_secret(body: bytes, where: str) -> Any:
    """A body as JSON.  Raises ConfigError, which quotes nothing of the body."""
    try:
        return read_json(body)
    except PartlyReadError:
        raise ConfigError(f"{where}: expected an object with cert and key, each once") from None


def _guard(call: ControlCall) -> Callable[[Sequence[str]], None]:
    """Refuses a certificate that is for other host names than those of the caller's token."""

    def check(hosts: Sequence[str]) -> None:
        if not all(host in call.names for host in hosts):
            raise RefusedError(403, "expected a token for every host name of the certificate")

    return check


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


def _compare(actions: Actions, call: ControlCall) -> Any:
    body = read_json(call.body)
    return list(map(structs.asdict, actions.declared.differences(body, call.parameters["prune"])))


async def _apply(actions: Actions, call: ControlCall) -> Any:
    body = read_json(call.body)
    done = await actions.declared.apply(body, call.parameters["prune"], *call.by)
    receipt = done.receipt
    version = actions.snapshot.version if receipt is None else receipt.version
    answer = {
        "status": 200,
        "version": version,
        "differences": list(map(structs.asdict, done.differences)),
    }
    if call.parameters["receipt"] and receipt is not None:
        answer["workers"] = dict(receipt.workers)
    return CallResult(answer, version=version)


def _events(actions: Actions, call: ControlCall) -> Any:
    if actions.events is None:
        raise NotReadyError("there are no events here")
    kinds: frozenset[str] = call.parameters["kind"]
    names = call.names

    def accepts(event: Event) -> bool:
        return (not kinds or kind_of(event) in kinds or isinstance(event, _ALWAYS)) and (
            names.has_event(event)
        )

    return EventsAsked(actions.events, accepts, call.last_event or call.parameters["after"])


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


def _read_kinds(name: str, text: str) -> frozenset[str]:
    kinds = frozenset(text.split(","))
    if not kinds <= KINDS:
        wanted = ", ".join(sorted(KINDS))
        raise ConfigError(f"{name}: expected some of {wanted}, with commas, got {shown(text)}")
    return kinds


def _read_text(name: str, text: str) -> str:
    return text


def _read_to(name: str, text: str) -> bool:
    if text != "file":
        raise ConfigError(f"{name}: expected file, got {shown(text)}")
    return True


def _flag(name: str, about: str, default: bool = False) -> Parameter:
    return Parameter(name, _read_flag, default, about, _FLAG)


_FLAG = {"type": "string", "enum": ["0", "1"]}
_NUMBER = {"type": "string", "pattern": "^[0-9]{1,15}$"}
#: The parameters of every change.
_OF_CHANGES = (
    _flag("wait", "Answer when every worker serves the change, not when it is stored.", True),
    _flag("receipt", "Answer the version, and what each worker has confirmed."),
)
_TO = Parameter(
    "to", _read_to, False, "Return to what the file says.", {"type": "string", "enum": ["file"]}
)
_LEVEL = Parameter("level", _read_text, about="The level of the cluster, counted from 0.")
_CLUSTER = Parameter("cluster", _read_text, about="The name of the cluster.")
_CANARY = Parameter(
    "canary",
    _read_percent,
    about="Percent of the requests that the new version sees.",
    schema={"type": "string", "pattern": "^([0-9]{1,2}|100)$"},
)
_ON_ERROR = Parameter(
    "on_error",
    _read_text,
    about="What happens to a request whose hook fails.",
    schema={"type": "string", "enum": ["continue", "reject", "previous"]},
)
_PRUNE = _flag("prune", "Remove upstreams and services that the body does not name.")
_BEFORE = Parameter("before", _read_version, about="Only versions before this one.", schema=_NUMBER)
_KIND = Parameter(
    "kind", _read_kinds, frozenset(), "Only events of these kinds, with commas between."
)
_AFTER = Parameter("after", _read_text, "", "Events after the one with this id.")
_LIMITED = Parameter(
    "limit", _read_limit, _LIMIT, f"At most so many entries, up to {_MAX_LIMIT}.", _NUMBER
)
_SHOWN = Parameter(
    "upstream",
    _read_text,
    (),
    "An upstream whose servers are shown, too; may be given several times.",
    {"type": "array", "items": {"type": "string"}},
    is_list=True,
)
#: What describes a request.
_OF_REQUEST = (
    Parameter("host", read_line, about="The Host that the client asks for; needed."),
    Parameter("path", read_line, "/", "The path, with the query if there is one."),
    Parameter("method", read_line, "GET", "The method."),
    Parameter("client", read_client, "127.0.0.1", "The client's address."),
    Parameter(
        "header",
        read_header,
        (),
        "A header line, such as X-Tenant: a; may be given several times.",
        {"type": "array", "items": {"type": "string"}},
        is_list=True,
    ),
)


def _question(
    name: str,
    path: str,
    run: Callable[[Actions, ControlCall], Any],
    about: str,
    *parameters: Parameter,
    answer: str = "Object",
    is_filtered: bool = False,
    is_stream: bool = False,
    role: Role = "read",
) -> Operation:
    return Operation(
        name,
        role,
        run,
        ("GET",),
        path,
        parameters,
        is_filtered,
        is_stream,
        about,
        answer=answer,
    )


def _change(
    name: str,
    methods: str,
    path: str,
    run: Callable[[Actions, ControlCall], Any],
    about: str,
    *parameters: Parameter,
    body: str = "",
    answer: str = "Done",
) -> Operation:
    words = tuple(methods.split())
    return Operation(
        name,
        "admin",
        run,
        words,
        path,
        (*_OF_CHANGES, *parameters),
        about=about,
        body=body,
        answer=answer,
    )


async def _accept_store(actions: Actions, call: ControlCall) -> Any:
    return await _done(call, actions.accept(*call.by))


async def _explain(actions: Actions, call: ControlCall) -> Any:
    return await explain(actions.plane, call.parameters, call.names)


async def _decision(actions: Actions, call: ControlCall) -> Any:
    return await find_decision(actions.plane, call.arguments["id"], call.names)


def _openapi(actions: Actions, call: ControlCall) -> Any:
    return describe(OPERATIONS)


#: The table.  If two paths fit a call, the first one counts.
OPERATIONS: tuple[Operation, ...] = (
    _question(
        "status",
        "/status",
        _status,
        "What slardar does and knows.",
        answer="Status",
        is_filtered=True,
    ),
    _question(
        "overview",
        "/overview",
        _overview,
        "Counters for a live view: of everything, of every upstream, and of some servers.",
        _flag("index", "A row for each upstream."),
        _SHOWN,
        is_filtered=True,
    ),
    _question(
        "metrics",
        "/metrics",
        _metrics,
        "What slardar has counted, in Prometheus' text format.",
        answer="Text",
    ),
    _question(
        "upstreams",
        "/upstreams",
        _upstreams,
        "Every upstream, by name.",
        answer="Upstreams",
        is_filtered=True,
    ),
    _question(
        "openapi", "/openapi.json", _openapi, "This description of the calls.", is_filtered=True
    ),
    _question("upstream", "/upstream/NAME", _upstream, "One upstream."),
    _change(
        "set-upstream",
        "POST PUT",
        "/upstream/NAME",
        _set_upstream,
        "Make or change an upstream.",
        _flag("reload", "Load the module of the balancer's class anew."),
        body="Upstream Text",
    ),
    _change(
        "remove-upstream", "DELETE", "/upstream/NAME", _remove_upstream, "Remove an upstream.", _TO
    ),
    _change(
        "change-server",
        "PATCH",
        "/upstream/NAME/SERVER",
        _patch_server,
        "Change one server.",
        body="ServerKeys",
    ),
    _change(
        "add-server",
        "POST",
        "/upstream/NAME/SERVER",
        _add_server,
        "Add one server.",
        *(_LEVEL, _CLUSTER),
        body="ServerKeys",
    ),
    _change(
        "remove-server",
        "DELETE",
        "/upstream/NAME/SERVER",
        _remove_server,
        "Remove one server.",
        *(_LEVEL, _CLUSTER),
    ),
    _question(
        "services",
        "/services",
        _services,
        "Every service, by name.",
        answer="Services",
        is_filtered=True,
    ),
    _question("service", "/service/NAME", _service, "One service."),
    _change(
        "set-service",
        "PUT",
        "/service/NAME",
        _set_service,
        "Make or change an upstream that follows a catalogue.",
        body="Object",
    ),
    _change("remove-service", "DELETE", "/service/NAME", _remove_service, "Remove a service.", _TO),
    _question(
        "certificates",
        "/certificates",
        _certificates,
        "Every certificate for clients, of files and of the store; never a key.",
        answer="Certificates",
        is_filtered=True,
    ),
    _question(
        "certificate",
        "/certificate/NAME",
        _certificate,
        "One certificate of the store; never its key.",
        answer="Certificate",
    ),
    _change(
        "set-certificate",
        "PUT",
        "/certificate/NAME",
        _set_certificate,
        "Make or replace a certificate for clients, with its key.",
        body="Pair",
    ),
    _change(
        "remove-certificate",
        "DELETE",
        "/certificate/NAME",
        _remove_certificate,
        "Remove a certificate of the store.",
    ),
    # A setting may be a secret.  It is no NAME: no hook is kept from reading it, so a token for
    # some names must not set it.
    _question(
        "settings",
        "/settings",
        _settings,
        "Every setting that hooks read, by name.",
        answer="Settings",
        role="admin",
    ),
    _question(
        "setting", "/setting/KEY", _setting, "One setting of hooks.", answer="Any", role="admin"
    ),
    _change(
        "set-setting",
        "PUT",
        "/setting/KEY",
        _set_setting,
        "Set what hooks read as a setting; a slash in its name is %2F.",
        body="Any",
    ),
    _change(
        "remove-setting",
        "DELETE",
        "/setting/KEY",
        _remove_setting,
        "Remove a setting of hooks, or return to the file's.",
    ),
    _question("routes", "/routes", _routes, "The routes.", answer="Routes"),
    _change("set-routes", "PUT", "/routes", _set_routes, "Replace the routes.", body="Routes"),
    _change(
        "return-routes",
        "DELETE",
        "/routes",
        _return_routes,
        "Return to the routes of the file.",
        _TO,
    ),
    Operation(
        "compare",
        "read",
        _compare,
        ("POST",),
        "/diff",
        (_PRUNE,),
        about="What POST /apply would change.",
        body="Declaration",
        answer="Differences",
    ),
    _change(
        "apply",
        "POST",
        "/apply",
        _apply,
        "Serve the upstreams, services and routes that the body declares, as one change.",
        _PRUNE,
        body="Declaration",
        answer="Applied",
    ),
    _question(
        "history",
        "/history",
        _history,
        "Who has changed what, newest first.",
        *(_BEFORE, _LIMITED),
        answer="History",
    ),
    _question("version", "/history/VERSION", _version, "The whole configuration of a version."),
    _question(
        "events",
        "/events",
        _events,
        "What happens, as server-sent events.",
        *(_KIND, _AFTER),
        answer="Events",
        is_filtered=True,
        is_stream=True,
    ),
    _change(
        "rollback",
        "POST",
        "/rollback/VERSION",
        _roll_back,
        "Go back to the configuration of a version, as a new version.",
    ),
    _change(
        "accept-store",
        "POST",
        "/store/accept",
        _accept_store,
        "Serve the state of a store that has lost what is served.",
    ),
    _question(
        "explain",
        "/explain",
        _explain,
        "Where a request would go, and why.",
        *_OF_REQUEST,
        answer="Explanation",
        is_filtered=True,
    ),
    _question(
        "decision",
        "/decision/ID",
        _decision,
        "What was decided for a request, and what became of it.",
        answer="Decision",
        is_filtered=True,
    ),
    _question(
        "hooks", "/LANGUAGE", _hooks, "The hooks of a language.", answer="Hooks", is_filtered=True
    ),
    _change(
        "activate-hooks",
        "PUT",
        "/LANGUAGE",
        _activate_hooks,
        "Put all that was staged into service.",
        answer="Ok",
    ),
    _question(
        "code-version",
        "/LANGUAGE/version",
        _commit_version,
        "What operators call the code of a language.",
    ),
    _change(
        "set-code-version",
        "POST PUT",
        "/LANGUAGE/version",
        _set_commit_version,
        "Say what the code of a language is called.",
        body="Text",
        answer="Ok",
    ),
    _change(
        "remove-code-version",
        "DELETE",
        "/LANGUAGE/version",
        _remove_commit_version,
        "Forget what the code of a language is called.",
        answer="Ok",
    ),
    _question("hook", "/LANGUAGE/NAME", _hook, "One hook."),
    _change(
        "stage-hook",
        "POST",
        "/LANGUAGE/NAME",
        _stage_hook,
        "Stage a hook's code.",
        _flag("shadow", "Run it beside the one in service, without effect."),
        _ON_ERROR,
        _flag("activate", "Put it into service, too."),
        _CANARY,
        body="Text",
        answer="Ok",
    ),
    _change(
        "activate-hook",
        "PUT",
        "/LANGUAGE/NAME",
        _activate_hook,
        "Put what was staged under a name into service.",
        _CANARY,
        _flag("rollback", "Go back to the version before."),
        _ON_ERROR,
        answer="Ok",
    ),
    _change("remove-hook", "DELETE", "/LANGUAGE/NAME", _remove_hook, "Remove a hook.", answer="Ok"),
    _question(
        "hook-shadow",
        "/LANGUAGE/NAME/shadow",
        _hook_shadow,
        "What a hook in the shadow would have done otherwise.",
        answer="Any",
    ),
    _question(
        "hook-code",
        "/LANGUAGE/NAME/code",
        _hook_code,
        "The code of a hook's versions.",
        answer="Any",
    ),
)
