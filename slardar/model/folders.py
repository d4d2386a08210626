"""Folders of the package that are open: a file there is a plugin, without an entry in a list."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

__all__ = ["classes_in"]


def classes_in(package: ModuleType, base: type, attribute: str) -> dict[str, Any]:
    """The subclasses of ``base`` in a folder, by the names in an attribute of each class.

    All modules of the folder are imported, so the call may block.
    """
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for thing in vars(importlib.import_module(module.name)).values():
            if isinstance(thing, type) and issubclass(thing, base):
                # Only the class's own names: a subclass must not take its parent's.
                found.update(dict.fromkeys(vars(thing).get(attribute, ()), thing))
    return found
