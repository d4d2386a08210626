"""Finds the balancer for a ``mode``, the probe for a ``typ``, and the store for a URL.

Names are resolved when a configuration is read, never on the request path.  The
folders ``slardar/balancers``, ``slardar/health/probes`` and ``slardar/stores`` are open: a
file there needs no entry in a list, and may come with another package that has the same
folders.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import re
import sys
import time
from asyncio import CancelledError
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.abc import SourceLoader
from types import ModuleType
from typing import Any, NamedTuple

from twisted.plugin import getPlugins

from slardar.balancers.base import Balancer
from slardar.balancers.own import own_balancers
from slardar.errors import ConfigError, one_line
from slardar.health import probes
from slardar.health.probes.base import Probe, ProbeOptions
from slardar.interfaces import IBalancerFactory, IProbeFactory, IStore
from slardar.model.change import StoredState
from slardar.model.folders import Found, classes_in
from slardar.model.live import Peer, ServerLive
from slardar.model.reader import shown
from slardar.model.server import Server
from slardar.stores.urls import hidden_url
from slardar.tls_files import read_tls

__all__ = [
    "balancer_factory",
    "check_mode",
    "check_probe",
    "check_store",
    "find_probe",
    "load_again",
    "open_store",
    "peek_store",
    "read_tls",
    "reload_balancer",
]

#: A function that makes the balancer of one level from its peers and ``mode_opts``.
BalancerFactory = Callable[[Sequence[Peer], Mapping[str, Any]], Any]

#: A function that makes the probe of one upstream.
ProbeFactory = Callable[[ProbeOptions], Any]

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", re.ASCII)
_STORE = re.compile(r"([a-z][a-z0-9]*):(.*)", re.DOTALL)


@lru_cache(maxsize=1)
def _own_probes() -> Found:
    """The probes in ``slardar/health/probes``, by the names in their ``types``."""
    return classes_in(probes, Probe, "types")


class _Kind(NamedTuple):
    """A kind of plugin that a key of an upstream names."""

    #: What a plugin is, for a person.
    noun: str
    base: type
    #: The method that a plugin of this kind must have, and how it is written.
    method: str
    signature: str
    interface: Any


_BALANCERS = _Kind("balancer", Balancer, "pick", "pick(servers, request)", IBalancerFactory)
_PROBES = _Kind("probe", Probe, "begin", "begin()", IProbeFactory)


@lru_cache(maxsize=256)
def balancer_factory(mode: str) -> BalancerFactory:
    """The factory that ``mode`` names.

    It is one of slardar's balancers, a class by its dotted name, or an
    :class:`IBalancerFactory` that ``twisted.plugin`` finds.  Raises ConfigError for an
    unknown name.  It imports the module that ``mode`` names, so it may block: never call it
    on the request path.
    """
    return _find(mode, own_balancers(), _BALANCERS)  # type: ignore[no-any-return]


@lru_cache(maxsize=256)
def find_probe(typ: str) -> ProbeFactory:
    """The factory that ``typ`` names: a class, or a function that makes a :class:`Probe`.

    It is one of slardar's probes, a class by its dotted name, or an :class:`IProbeFactory`
    that ``twisted.plugin`` finds.  Raises ConfigError for an unknown name.  It imports the
    module that ``typ`` names, so it may block.
    """
    return _find(typ, _own_probes(), _PROBES)  # type: ignore[no-any-return]


def _find(name: str, own: Found, kind: _Kind) -> Any:
    if name in own:
        return own[name]
    if _DOTTED.fullmatch(name):
        return _named_class(name, kind)
    for plugin in getPlugins(kind.interface):
        if plugin.name == name:
            return plugin
    close = difflib.get_close_matches(name, own, n=1)
    hint = f' (did you mean "{close[0]}"?)' if close else ""
    expected = f"expected one of {', '.join(sorted(own))} or package.module.Class"
    raise ConfigError("; ".join([f"{expected}, got {shown(name)}{hint}", *own.broken]))


def _named_class(name: str, kind: _Kind) -> type:
    module_name, _, class_name = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit, CancelledError) as error:
        # Whatever the import of a user's module raises, it costs only one upstream.
        raise ConfigError(f"cannot import {module_name}: {one_line(error)}") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise ConfigError(f"{module_name} has no class {class_name}")
    method = getattr(found, kind.method, None)
    if not callable(method) or method is getattr(kind.base, kind.method):
        raise ConfigError(f"{name} is no {kind.noun}: it has no method {kind.signature}")
    return found


# Reloading a class.

#: When each user's module was last reloaded in this process, in epoch nanoseconds.
_loaded: dict[str, int] = {}


def reload_balancer(mode: str, options: Mapping[str, Any], where: str) -> int:
    """Reload the module of a balancer's class from its present file.

    Returns the time of the reload, for :func:`load_again` in the other processes.  Raises
    ConfigError if the mode is no dotted name of a class, if the module cannot be loaded, or
    if its class is no balancer any more; the loaded module then stays as it was.

    The modules that this module imports are not reloaded.  Balancers in service keep the
    code that they were made with.
    """
    if mode in own_balancers() or not _DOTTED.fullmatch(mode):
        raise ConfigError(
            f"reload: expected a mode such as package.module.Class, got {shown(mode)}"
        )
    when = time.time_ns()
    _load(mode, when, lambda: check_mode(mode, options, where), where)
    return when


def load_again(mode: str, when: int) -> None:
    """Reload the module in another process, unless it did so at ``when`` or later."""
    name = mode.rpartition(".")[0]
    if when > _loaded.get(name, 0):
        _load(mode, when, lambda: balancer_factory(mode), "")


def _load(mode: str, when: int, check: Callable[[], object], where: str) -> None:
    name = mode.rpartition(".")[0]
    module = sys.modules.get(name)
    if module is None:
        # A module that was never loaded is imported from its present file.
        check()
    else:
        before = dict(vars(module))
        try:
            try:
                _run_file(module)
            except (Exception, SystemExit, CancelledError) as error:
                place = f"{where}.mode: " if where else ""
                raise ConfigError(f"{place}cannot load {name}: {one_line(error)}") from error
            balancer_factory.cache_clear()
            check()
        except BaseException:
            vars(module).clear()
            vars(module).update(before)
            balancer_factory.cache_clear()
            raise
    _loaded[name] = when


def _run_file(module: ModuleType) -> None:
    """Run a module's file in the module object, which stays the same object."""
    loader = module.__spec__.loader if module.__spec__ is not None else None
    if not isinstance(loader, SourceLoader):
        importlib.reload(module)
        return
    # importlib.reload uses a cache that knows a file by its time in seconds and its size,
    # and might run the file's former code.
    path = loader.get_filename(module.__name__)
    code = loader.source_to_code(loader.get_data(path), path)
    try:
        os.unlink(importlib.util.cache_from_source(path))
    except (OSError, NotImplementedError):
        pass
    names = vars(module)
    for name, value in list(names.items()):
        # Names that the file no longer has must go; submodules of a package stay.
        if not name.startswith("__") and not isinstance(value, ModuleType):
            del names[name]
    exec(code, names)  # noqa: S102 - as import does


def check_mode(mode: str, options: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError for a balancer that does not exist or options it does not take.

    ``where`` is the upstream's path.  The error has a line for each mistake.
    """
    try:
        factory = balancer_factory(mode)
    except ConfigError as error:
        raise ConfigError([f"{where}.mode: {line}" for line in error.problems]) from error
    sample = Peer(Server(host="127.0.0.1", port=1), ServerLive())
    try:
        made = factory([sample], options)
    except ConfigError as error:
        raise ConfigError([f"{where}.mode_opts.{line}" for line in error.problems]) from error
    except (Exception, SystemExit, CancelledError) as error:
        raise ConfigError(f"{where}.mode: {mode} cannot be made: {one_line(error)}") from error
    if not callable(getattr(made, "pick", None)):
        raise ConfigError(
            f"{where}.mode: {mode}: expected a balancer with a method pick(servers, request)"
        )


def check_probe(options: ProbeOptions, where: str) -> None:
    """Raises ConfigError for a probe that does not exist, or options it does not take.

    ``where`` is the upstream's path.  The error has a line for each mistake.
    """
    typ = options.typ
    try:
        factory = find_probe(typ)
    except ConfigError as error:
        raise ConfigError([f"{where}.typ: {line}" for line in error.problems]) from error
    try:
        made = factory(options)
    except ConfigError as error:
        raise ConfigError([f"{where}.{line}" for line in error.problems]) from error
    except (Exception, SystemExit, CancelledError) as error:
        raise ConfigError(f"{where}.typ: {typ} cannot be made: {one_line(error)}") from error
    if not callable(getattr(made, "begin", None)):
        raise ConfigError(f"{where}.typ: {typ}: expected a probe with a method begin()")


def open_store(url: str, reactor: Any) -> IStore:
    """The store that ``url`` names, not opened yet.

    ``url`` is ``KIND:PLACE``; ``slardar.stores.KIND.from_place(place, reactor)`` makes the
    store.  Raises ConfigError for a kind that does not exist or a place it does not take.
    """
    match = _STORE.fullmatch(url)
    if match is not None:
        name = f"slardar.stores.{match[1]}"
        module = None
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit, CancelledError) as error:
            if not isinstance(error, ModuleNotFoundError) or error.name != name:
                raise ConfigError(f"store: cannot import {name}: {one_line(error)}") from error
        make = getattr(module, "from_place", None)
        if make is not None:
            try:
                return make(match[2], reactor)  # type: ignore[no-any-return]
            except ConfigError as error:
                raise ConfigError([f"store: {line}" for line in error.problems]) from error
    raise ConfigError(
        "store: expected sqlite:FILE, memory:, consul:URL, etcd:URL or zookeeper:HOST:PORT/PATH,"
        f" got {shown(hidden_url(url))}"
    )


def peek_store(url: str, folder: str) -> StoredState | None:
    """The content of a store, without opening it.  Blocks.

    ``None`` if the store is empty, or of a kind that cannot be read without opening it.  A
    relative place starts from ``folder``.  Raises StoreError if it cannot be read.
    """
    match = _STORE.fullmatch(url)
    if match is None:
        return None
    peek = getattr(importlib.import_module(f"slardar.stores.{match[1]}"), "peek", None)
    return None if peek is None else peek(os.path.join(folder, match[2]))


def check_store(url: str) -> None:
    """Raises ConfigError if ``url`` is no store's URL; opens nothing."""
    open_store(url, None)
