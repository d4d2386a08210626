"""What a language must offer to run hooks: an engine that checks code and loads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slardar.errors import ConfigError
from slardar.hooks.notices import Notice
from slardar.hooks.script import Script

__all__ = ["MAX_CODE", "Engine", "Log", "ScriptError"]

#: Characters of a hook's code, at most.
MAX_CODE = 256 * 1024

#: Takes a level (``debug``, ``info``, ``warn`` or ``error``) and one line of text.
Log = Callable[[str, str], None]


class ScriptError(ConfigError):
    """Code that cannot be a hook: each of its lines says where and why."""


class Engine:
    """One language.

    ``budget`` is the CPU time, in seconds, that a call may take (0.05 by default),
    ``settings`` what hooks may read of the configuration, and ``log`` takes what they
    have to say.
    """

    language = ""

    def __init__(self, budget: float, settings: Mapping[str, Any], log: Log) -> None:
        self.budget = budget
        self.settings = settings
        self.log = log

    @property
    def held(self) -> int:
        """Bytes that its scripts hold within a limit of the engine's own."""
        return 0

    def check(self, name: str, code: str) -> frozenset[str]:
        """Whether ``code`` may be loaded as ``name``; runs nothing of it.

        Answers the modules that it names in ``require``.  Raises ScriptError.
        """
        raise NotImplementedError

    def notices(self, code: str) -> Sequence[Notice]:
        """Uses of what hooks do not have, in code that :meth:`check` has taken."""
        return ()

    def load(self, name: str, code: str, modules: Mapping[str, str]) -> Script:
        """Load a script or, to see whether that works, a module.

        ``modules`` has the code of the modules in service, by name.  Raises ScriptError,
        also for code that fails, or does not end, while it is loaded.
        """
        raise NotImplementedError
