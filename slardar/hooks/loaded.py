"""The versions of hooks that are loaded, and those of one script side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from zlib import crc32

from slardar.hooks.script import Script
from slardar.hooks.shadow import Comparison
from slardar.hooks.stats import CallStats
from slardar.model.hook import Code, Hook

__all__ = ["Loaded", "Pressure", "ScriptVersions", "mark_of", "module_versions", "used_modules"]

#: A hundred requests are spread over versions in steps of this many, so that ten in a
#: row already have about their share; it has no divisor in common with 100.
_STEP = 61


def mark_of(path: str, code: Code) -> int:
    """A number that tells one posting of a hook's code from all others; never 0."""
    return crc32(f"{path} {code.version} {code.time}".encode()) or 1


class Pressure:
    """What the request path asks of the memory (:mod:`slardar.hooks.memory`)."""

    __slots__ = ("is_high",)

    def __init__(self) -> None:
        #: Much is in use, so it is noted which hook adds what.
        self.is_high = False


class Loaded:
    """One version of a script: loaded, or why it is not.

    Requests under way may call its script long after another version has taken its place.
    """

    __slots__ = (
        "code",
        "error",
        "mark",
        "modules",
        "path",
        "script",
        "stats",
        "suspended",
    )

    def __init__(
        self,
        path: str,
        code: Code,
        script: Script | None,
        error: str,
        modules: Mapping[str, str],
    ) -> None:
        self.path = path
        self.code = code
        #: ``None`` if it could not be loaded.
        self.script = script
        self.error = error
        #: The versions of the modules that it was loaded with.
        self.modules = modules
        self.mark = mark_of(path, code)
        self.stats = CallStats()
        #: It failed too often, and is not run any more.
        self.suspended = False

    @property
    def state(self) -> str:
        """``active``, ``failed`` (it could not be loaded) or ``suspended``."""
        if self.suspended:
            return "suspended"
        return "failed" if self.script is None else "active"

    @property
    def runs(self) -> Script | None:
        """The script, if it may be run."""
        return None if self.suspended else self.script


class ScriptVersions:
    """One script's place in the row of those that see a request."""

    __slots__ = (
        "_turn",
        "active",
        "canary",
        "canary_share",
        "comparison",
        "host",
        "on_error",
        "path",
        "previous",
        "shadow",
    )

    def __init__(self, hook: Hook, on_error: str) -> None:
        self.path = hook.path
        self.host = hook.host
        #: What its failure does: ``continue``, ``previous`` or ``reject``.
        self.on_error = on_error
        self.active: Loaded | None = None
        self.previous: Loaded | None = None
        self.canary: Loaded | None = None
        #: Of a hundred requests, how many get the canary.
        self.canary_share = hook.canary
        self.shadow: Loaded | None = None
        self.comparison = Comparison()
        self._turn = 0

    def choose(self) -> Loaded | None:
        """The version that the next request gets; ``None`` where there is only a canary,
        and this one does not get it."""
        canary = self.canary
        if canary is None:
            return self.active
        self._turn = (self._turn + _STEP) % 100
        if self._turn < self.canary_share and canary.runs is not None:
            return canary
        return self.active

    def all(self) -> list[Loaded]:
        """Everything that is loaded for it."""
        found = (self.active, self.previous, self.canary, self.shadow)
        return list(dict.fromkeys(one for one in found if one is not None))

    def __repr__(self) -> str:
        return f"<ScriptVersions {self.path}>"


def module_versions(names: Iterable[str], modules: Mapping[str, Code]) -> dict[str, str]:
    """The versions of those of ``names`` that are in service."""
    return {name: modules[name].version for name in names if name in modules}


def used_modules(code: Code, modules: Mapping[str, Code]) -> dict[str, str]:
    """The versions of the modules in service that code uses, directly or through others."""
    found: dict[str, str] = {}
    wanted = list(code.requires)
    while wanted:
        name = wanted.pop()
        module = modules.get(name)
        if module is not None and name not in found:
            found[name] = module.version
            wanted += module.requires
    return found
