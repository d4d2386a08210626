"""Makes the engine of a language, and imports it only when the first hook needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slardar.config import Hooks
from slardar.hooks.engine import Engine, Log

__all__ = ["MakeEngine", "make_engine"]

MakeEngine = Callable[[str, Hooks, Mapping[str, Any], Log], Engine]


def make_engine(language: str, hooks: Hooks, settings: Mapping[str, Any], log: Log) -> Engine:
    """Make the engine of a language; ``settings`` is what hooks may read."""
    if language == "lua":
        from slardar.hooks.lua.engine import LuaEngine

        return LuaEngine(hooks.budget, settings, log, hooks.lua_memory)
    from slardar.hooks.python.engine import PythonEngine

    return PythonEngine(hooks.budget, settings, log)
