"""The commands ``slardar store copy`` and ``slardar store check``, with no running slardar."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import click
from msgspec import Struct
from twisted.internet.defer import Deferred

from slardar import plugins
from slardar.config import Hooks, Settings
from slardar.console.run import run_reactor
from slardar.control.desired import Desired, read_desired
from slardar.errors import ConfigError, ConflictError, StoreError, printable
from slardar.hooks.engine import ScriptError
from slardar.hooks.runner import Runner
from slardar.interfaces import IForgetfulStore
from slardar.model.change import IN_FILE, TO_FILE, Change, StoredState, Value, differences
from slardar.plugins import open_store, peek_store
from slardar.stores.sqlite import SqliteStore
from slardar.stores.urls import hidden_url

__all__ = ["Report", "check_state", "copy_store", "read_store", "store"]

T = TypeVar("T")

#: Seconds for each call of a store.
_PATIENCE = 60.0
#: Who has made the change, in the history.
_WHO = "slardar store copy"
#: The kinds of things by the first part of a key path.
_KINDS: Mapping[str, Any] = {
    "upstreams": "upstream",
    "services": "service",
    "routes": "routes",
    "hooks": "hook",
    "settings": "setting",
    "certificates": "certificate",
    "acme": "acme",
}


class Report(Struct, frozen=True):
    """What a state holds, or what was copied."""

    upstreams: int
    services: int
    #: Marks of upstreams and services that were removed, which a file does not bring back.
    removed: int
    routes: int
    hooks: int
    settings: int
    certificates: int

    @classmethod
    def of(cls, state: StoredState) -> Report:
        """The counts of a state."""
        named = (state.upstreams, state.services)
        upstreams, services = (
            sum(value not in (None, TO_FILE) for value in values.values()) for values in named
        )
        removed = sum(value is None for values in named for value in values.values())
        routes = len(state.routes) if isinstance(state.routes, list) else 0
        return cls(
            upstreams,
            services,
            removed,
            routes,
            len(state.hooks),
            len(state.settings),
            len(state.certificates),
        )

    def __str__(self) -> str:
        removed = f" ({self.removed} more removed)" if self.removed else ""
        return (
            f"{_counted(self.upstreams, 'upstream')}, {_counted(self.services, 'service')}{removed}"
            f", {_counted(self.routes, 'route')}, {_counted(self.hooks, 'hook')},"
            f" {_counted(self.settings, 'setting')},"
            f" {_counted(self.certificates, 'certificate')}"
        )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


@click.group()
def store() -> None:
    """Copy and check stores; no running slardar is needed."""


@store.command("copy")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--replace", is_flag=True, help="TO has the content of FROM then, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
def copy_command(source: str, target: str, replace: bool, as_json: bool) -> None:
    """Copy everything but the history from the store FROM to the store TO.

    FROM and TO are URLs as in the setting `store`.  The copy is one commit: all of it or nothing.
    TO must be empty, or be given up with --replace.  It is read again at the end.

    \b
    Example:
      slardar store copy sqlite:slardar.db consul://127.0.0.1:8500/slardar
    """

    def tell(done: tuple[StoredState, int]) -> None:
        state, version = done
        report = Report.of(state)
        if as_json:
            whole = {"from": hidden_url(source), "to": hidden_url(target), "version": version}
            counts = {name: getattr(report, name) for name in report.__struct_fields__}
            click.echo(json.dumps({**whole, **counts}))
        else:
            click.echo(f"copied to {hidden_url(target)}, as version {version}: {report}")

    run_reactor(lambda reactor: copy_store(reactor, source, target, replace), tell)


@store.command("check")
@click.argument("url", metavar="URL")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
def check_command(url: str, as_json: bool) -> None:
    """Say what of the store URL cannot be served: a line each, and exit code 1.

    The store is only read.  Hooks in service are loaded, as a worker would.

    \b
    Example:
      slardar store check sqlite:slardar.db
    """
    # A balancer of the user's own is mostly in the folder.
    sys.path.insert(0, "")

    def tell(state: StoredState) -> None:
        problems = check_state(state)
        if as_json:
            report = Report.of(state)
            counts = {name: getattr(report, name) for name in report.__struct_fields__}
            click.echo(json.dumps({"url": hidden_url(url), **counts, "failed": problems}, indent=2))
        elif problems:
            click.echo("\n".join(map(printable, problems.values())))
        else:
            click.echo(f"ok: {Report.of(state)}")
        if problems:
            raise SystemExit(1)

    run_reactor(lambda reactor: read_store(reactor, url), tell)


async def _answer(reactor: Any, url: str, made: Deferred[T]) -> T:
    def too_late(_: object, seconds: float) -> T:
        raise StoreError(f"{hidden_url(url)}: no answer within {seconds:g} s")

    return await made.addTimeout(_PATIENCE, reactor, too_late)


def _opened(reactor: Any, url: str) -> Any:
    found = open_store(url, reactor)
    if IForgetfulStore.providedBy(found):
        raise ConfigError(f"expected a store that keeps its content, got {url}")
    return found


async def read_store(reactor: Any, url: str) -> StoredState:
    """What a store holds.  The store is not changed, and a file may be in use.

    Raises ConfigError for a wrong URL, and StoreError.
    """
    found = _opened(reactor, url)
    if isinstance(found, SqliteStore):
        state = peek_store(url, ".")
        if state is None:
            raise StoreError(f"{url}: there is no such file")
        return state
    try:
        return await _answer(reactor, url, found.open())
    finally:
        await _answer(reactor, url, found.close())


async def copy_store(
    reactor: Any, source: str, target: str, replace: bool = False
) -> tuple[StoredState, int]:
    """Copy everything but the history.  Returns the state, and its version in the target.

    Raises ConfigError for a wrong URL, ConflictError if the target is not empty, and StoreError.
    Nothing is written then, unless the error says otherwise.
    """
    state = await read_store(reactor, source)
    if state.broken:
        raise StoreError(
            f"{hidden_url(source)}: holds what cannot be read, and so cannot be copied: "
            + "; ".join(state.broken.values())
        )
    there = _opened(reactor, target)
    try:
        before = await _answer(reactor, target, there.open())
        if not replace and (before.broken or differences(StoredState(), before)):
            raise ConflictError(
                f"{hidden_url(target)}: is not empty ({Report.of(before)}): --replace gives up"
                " what it holds"
            )
        values = differences(before, state)
        # What nobody can read there goes, too, or stands in the way of what comes.
        known = {(one.kind, one.name) for one in values}
        values += [one for one in map(_gone, before.broken) if (one.kind, one.name) not in known]
        version = before.version
        if values:
            version = max(before.version, state.version) + 1
            now = time.time()
            changes = [Change(one.kind, one.name, one.value, _WHO, now) for one in values]
            await _answer(reactor, target, there.commit(before.revision, changes, version))
    finally:
        await _answer(reactor, target, there.close())
    after = await read_store(reactor, target)
    wrong = [one.path for one in differences(after, state)] + list(after.broken)
    if wrong:
        raise StoreError(
            f"{hidden_url(target)}: was written, but holds something else now: "
            + ", ".join(wrong[:5])
        )
    return after, version


def _gone(path: str) -> Value:
    section, _, name = path.partition(".")
    kind = _KINDS.get(section, "setting")
    return Value(kind, name, TO_FILE if kind in IN_FILE else None)


def check_state(state: StoredState) -> dict[str, str]:
    """What of a state cannot be served: the reason by key path, each in one line."""
    desired = read_desired(Settings(), state, plugins)
    problems = {**state.broken, **desired.failed, **_failed_hooks(desired)}
    return {
        path: reason if reason.startswith(path) else f"{path}: {reason}"
        for path, reason in sorted(problems.items())
    }


def _failed_hooks(desired: Desired) -> dict[str, str]:
    """The hooks in service that cannot be loaded: why, by key path."""
    failed = {}
    modules: dict[str, dict[str, str]] = {}
    active = [(hook, hook.active.code) for hook in desired.hooks.values() if hook.active]
    for hook, code in active:
        if not hook.is_script:
            modules.setdefault(hook.language, {})[hook.name] = code
    for hook, code in active:
        runner = Runner(Hooks(), time.monotonic, lambda loaded: None)
        others = dict(modules.get(hook.language, {}))
        others.pop(hook.name, None)
        try:
            runner.check(hook.language, hook.name, code, others)
        except ScriptError as error:
            failed[f"hooks.{hook.path}"] = f"hooks.{hook.path}: {error}"
    return failed
