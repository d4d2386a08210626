"""The versions of hooks that are loaded, and the versions of one script side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from zlib import crc32

from slardar.hooks.script import Script
from slardar.hooks.shadow import Comparison
from slardar.hooks.stats import CallStats
from slardar.model.hook import Code, Hook

__all__ = ["Loaded", "Pressure", "ScriptVersions", "mark_of", "module_versions", "used_modules"]

#: Spreads a canary's share evenly over a hundred requests, so that ten requests in a row
#: already have about their share.  It has no divisor in common with 100.
_STEP = 61


def mark_of(path: str, code: Code) -> int:
    """The number of one posting of a hook's code, which differs from all others; never 0."""
    return crc32(f"{path} {code.version} {code.time}".encode()) or 1


class Pressure:
    """Tells the request path whether memory is short (:mod:`slardar.hooks.memory`)."""

    __slots__ = ("is_high",)

    def __init__(self) -> None:
        #: Hooks use much memory, so what each call adds is noted.
        self.is_high = False


class Loaded:
    """One version of a script: the loaded script, or the reason why it is not loaded.

    Requests under way may call the script long after another version has taken its place.
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
        #: ``None`` if the version could not be loaded.
        self.script = script
        self.error = error
        #: The versions of the modules that the script was loaded with, by name.
        self.modules = modules
        self.mark = mark_of(path, code)
        self.stats = CallStats()
        #: The version is not run any more: it failed too often, or holds too much memory.
        self.suspended = False

    @property
    def state(self) -> str:
        """``active``, ``failed`` (the version could not be loaded) or ``suspended``."""
        if self.suspended:
            return "suspended"
        return "failed" if self.script is None else "active"

    @property
    def runs(self) -> Script | None:
        """The script, if it may be run."""
        return None if self.suspended else self.script


class ScriptVersions:
    """The versions of one script, of which each request gets one."""

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
        #: What happens when the script fails: ``continue``, ``previous`` or ``reject``.
        self.on_error = on_error
        self.active: Loaded | None = None
        self.previous: Loaded | None = None
        self.canary: Loaded | None = None
        #: How many of a hundred requests get the canary.
        self.canary_share = hook.canary
        self.shadow: Loaded | None = None
        self.comparison = Comparison()
        self._turn = 0

    def choose(self) -> Loaded | None:
        """The version that the next request gets.

        ``None`` if there is only a canary, and this request is not in its share.
        """
        canary = self.canary
        if canary is None:
            return self.active
        self._turn = (self._turn + _STEP) % 100
        if self._turn < self.canary_share and canary.runs is not None:
            return canary
        return self.active

    def take_turn_of(self, other: ScriptVersions) -> None:
        """Choose for the next request as ``other`` would, which is of the same script."""
        self._turn = other._turn

    def all(self) -> list[Loaded]:
        """Every version there is, each once."""
        found = (self.active, self.previous, self.canary, self.shadow)
        return list(dict.fromkeys(one for one in found if one is not None))

    def __repr__(self) -> str:
        return f"<ScriptVersions {self.path}>"


def module_versions(names: Iterable[str], modules: Mapping[str, Code]) -> dict[str, str]:
    """The versions of the modules named ``names``, by name, as far as they are in service."""
    return {name: modules[name].version for name in names if name in modules}


def used_modules(code: Code, modules: Mapping[str, Code]) -> dict[str, str]:
    """The versions of the modules in service that ``code`` uses, directly or through others."""
    found: dict[str, str] = {}
    wanted = list(code.requires)
    while wanted:
        name = wanted.pop()
        module = modules.get(name)
        if module is not None and name not in found:
            found[name] = module.version
            wanted += module.requires
    return found
