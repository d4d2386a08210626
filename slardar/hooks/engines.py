"""Makes the engine of a language, and imports it only when the first hook needs it."""

from __future__ import annotations

from collections.abc import Callable

from slardar.config import Hooks
from slardar.hooks.engine import Engine, Log
from slardar.hooks.settings import HookSettings

__all__ = ["MakeEngine", "make_engine"]

MakeEngine = Callable[[str, Hooks, HookSettings, Log], Engine]


def make_engine(language: str, hooks: Hooks, settings: HookSettings, log: Log) -> Engine:
    """Make the engine of a language; ``settings`` are what hooks may read."""
    if language == "lua":
        from slardar.hooks.lua.engine import LuaEngine

        return LuaEngine(hooks.budget, settings, log, hooks.lua_memory)
    from slardar.hooks.python.engine import PythonEngine

    return PythonEngine(hooks.budget, settings, log)
