"""The modules that hooks may import, by name; none is Python's own module."""

from __future__ import annotations

from typing import Any, Final

from slardar.hooks.python.attributes import Namespace
from slardar.hooks.python.net import IPADDRESS, PARSE, URLLIB
from slardar.hooks.python.regex import RE
from slardar.hooks.python.standard import BASE64, HASHLIB, HMAC, JSON, MATH, RANDOM, TIME

__all__ = ["IMPORTABLE", "find"]

_MODULES: Final[dict[str, Namespace]] = {
    name: Namespace(name, names)
    for name, names in {
        "base64": BASE64,
        "hashlib": HASHLIB,
        "hmac": HMAC,
        "ipaddress": IPADDRESS,
        "json": JSON,
        "math": MATH,
        "random": RANDOM,
        "re": RE,
        "time": TIME,
        # At run time, typing has nothing but this name, by which hooks skip imports for editors.
        "typing": {"TYPE_CHECKING": False},
        "urllib": URLLIB,
        "urllib.parse": PARSE,
    }.items()
}

#: The names that each module has.
IMPORTABLE: Final[dict[str, frozenset[str]]] = {
    name: frozenset(module.names) for name, module in _MODULES.items()
}


def find(module: str, name: str | None) -> Any:
    """A module, or a name of it.  The policy has checked that it exists."""
    found = _MODULES[module]
    return found if name is None else found.names[name]
