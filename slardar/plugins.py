"""Names to factories: which balancer a ``mode`` means, which store a URL.

Names are resolved when a configuration is read, never on the request path.  The
folders ``slardar/balancers`` and ``slardar/stores`` are open: a file there, in this
package or in another one that ships the same path, needs no entry in a list.
"""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from twisted.plugin import getPlugins

from slardar import balancers
from slardar.balancers.base import Balancer
from slardar.errors import ConfigError
from slardar.interfaces import IBalancerFactory, IStore
from slardar.model.change import StoredState
from slardar.model.live import Peer, ServerLive
from slardar.model.reader import shown
from slardar.model.server import Server

__all__ = ["balancer_factory", "check_mode", "check_store", "open_store", "peek_store"]

#: Makes the balancer of one level from its peers and the upstream's ``mode_opts``.
BalancerFactory = Callable[[Sequence[Peer], Mapping[str, Any]], Any]

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", re.ASCII)
_STORE = re.compile(r"([a-z][a-z0-9]*):(.*)", re.DOTALL)


@lru_cache(maxsize=1)
def _own_balancers() -> Mapping[str, BalancerFactory]:
    """The balancers in ``slardar/balancers`` by the names they give themselves."""
    found: dict[str, BalancerFactory] = {}
    for module in pkgutil.iter_modules(balancers.__path__, "slardar.balancers."):
        for thing in vars(importlib.import_module(module.name)).values():
            if isinstance(thing, type) and issubclass(thing, Balancer):
                # Its own names only: a subclass must not take its parent's.
                found.update(dict.fromkeys(vars(thing).get("modes", ()), thing))
    return found


@lru_cache(maxsize=256)
def balancer_factory(mode: str) -> BalancerFactory:
    """The factory that ``mode`` names: a balancer of slardar's, a class by its dotted
    name, or an :class:`IBalancerFactory` found through ``twisted.plugin``.

    Raises ConfigError for a name that leads nowhere.  Imports what is named, so it
    may block: not for the request path.
    """
    own = _own_balancers()
    if mode in own:
        return own[mode]
    if _DOTTED.fullmatch(mode):
        return _named_class(mode)
    for plugin in getPlugins(IBalancerFactory):
        if plugin.name == mode:
            return plugin
    close = difflib.get_close_matches(mode, own, n=1)
    hint = f' (did you mean "{close[0]}"?)' if close else ""
    raise ConfigError(
        f"expected one of {', '.join(sorted(own))} or package.module.Class, got {shown(mode)}{hint}"
    )


def _named_class(mode: str) -> BalancerFactory:
    module_name, _, class_name = mode.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        # Whatever a user's module does when it is imported, it costs one upstream.
        raise ConfigError(f"cannot import {module_name}: {_one_line(error)}") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise ConfigError(f"{module_name} has no class {class_name}")
    if not callable(getattr(found, "pick", None)):
        raise ConfigError(f"{mode} is no balancer: it has no method pick(servers, request)")
    return found


def check_mode(mode: str, options: Mapping[str, Any], where: str) -> None:
    """Refuse a balancer that does not exist or options that it does not take.

    ``where`` is the upstream's path; raises ConfigError with a line for each mistake.
    """
    try:
        factory = balancer_factory(mode)
    except ConfigError as error:
        raise ConfigError([f"{where}.mode: {line}" for line in error.problems]) from error
    sample = Peer(Server(host="127.0.0.1", port=1), ServerLive())
    try:
        factory([sample], options)
    except ConfigError as error:
        raise ConfigError([f"{where}.mode_opts.{line}" for line in error.problems]) from error
    except Exception as error:
        raise ConfigError(f"{where}.mode: {mode} cannot be made: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def open_store(url: str, reactor: Any) -> IStore:
    """The store that ``url`` names, not opened yet.

    ``KIND:PLACE``; ``slardar.stores.KIND.from_place(place, reactor)`` makes it.
    Raises ConfigError for a kind that does not exist or a place it does not take.
    """
    match = _STORE.fullmatch(url)
    if match is not None:
        try:
            module = importlib.import_module(f"slardar.stores.{match[1]}")
        except ImportError:
            module = None
        make = getattr(module, "from_place", None)
        if make is not None:
            try:
                return make(match[2], reactor)  # type: ignore[no-any-return]
            except ConfigError as error:
                raise ConfigError([f"store: {line}" for line in error.problems]) from error
    raise ConfigError(f"store: expected sqlite:FILE or memory:, got {shown(url)}")


def peek_store(url: str, folder: str) -> StoredState | None:
    """What a store holds, without opening it; ``None`` where it is empty or cannot be
    looked into like that.  A relative place starts from ``folder``.  Blocks.

    Raises StoreError for what cannot be read.
    """
    match = _STORE.fullmatch(url)
    if match is None:
        return None
    peek = getattr(importlib.import_module(f"slardar.stores.{match[1]}"), "peek", None)
    return None if peek is None else peek(os.path.join(folder, match[2]))


def check_store(url: str) -> None:
    """Raise ConfigError for what is no store's URL; opens nothing."""
    open_store(url, None)
