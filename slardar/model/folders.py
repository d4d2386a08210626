"""Folders of the package that are open: a file there is a plugin, without an entry in a list.

Another distribution may ship files for such a folder: under the same path, in folders without
an ``__init__.py``.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from slardar.errors import one_line

__all__ = ["Found", "classes_in", "opened"]


def opened(path: Iterable[str], name: str) -> list[str]:
    """The ``__path__`` of an open folder, whose ``__init__`` calls this with its ``__path__`` and
    its ``__name__``.

    The folder itself comes first, so no other one can replace its files.  The current folder
    is not searched: whoever may write there must not be able to run code by making a folder.
    """
    found = list(path)
    for entry in sys.path:
        if _is_here(entry):
            continue
        folder = os.path.join(os.path.abspath(entry), *name.split("."))
        if folder in found or not os.path.isdir(folder):
            continue
        # With an ``__init__.py`` it would be another slardar.
        if not os.path.exists(os.path.join(folder, "__init__.py")):
            found.append(folder)
    return found


def _is_here(entry: str) -> bool:
    try:
        return not entry or os.path.samefile(entry, os.curdir)
    except OSError:
        # It is not there.  The current folder may be gone, too, and with it the place that a
        # relative path begins at.
        return not os.path.isabs(entry)


class Found(dict[str, Any]):
    """What an open folder has, by name."""

    def __init__(self) -> None:
        super().__init__()
        #: A line for each file that could not be imported.
        self.broken: list[str] = []


def classes_in(package: ModuleType, base: type, attribute: str) -> Found:
    """The subclasses of ``base`` in a folder, by the names in an attribute of each class.

    All modules of the folder are imported, so the call may block.  One that cannot be
    imported costs its own classes only.
    """
    found = Found()
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        try:
            things = vars(importlib.import_module(module.name))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, CancelledError
            found.broken.append(f"cannot import {module.name}: {one_line(error)}")
            continue
        for thing in things.values():
            if isinstance(thing, type) and issubclass(thing, base):
                # Only the class's own names: a subclass must not take its parent's.
                for name in vars(thing).get(attribute, ()):
                    found.setdefault(name, thing)
    return found
