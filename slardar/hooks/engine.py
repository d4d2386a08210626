"""The interface of a language's engine, which checks and loads the code of hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from slardar.errors import ConfigError
from slardar.hooks.notices import Notice
from slardar.hooks.script import Script
from slardar.hooks.settings import SettingEntry

__all__ = ["MAX_CODE", "Engine", "Log", "ScriptError"]

#: The most characters that the code of a hook may have.
MAX_CODE = 256 * 1024

#: Writes one line of text at a level (``debug``, ``info``, ``warn`` or ``error``).
Log = Callable[[str, str], None]


class ScriptError(ConfigError):
    """Code cannot be a hook.  Each line of the error says where and why."""


class Engine:
    """The engine of one language.

    ``budget`` is the CPU time in seconds that a call may take (0.05 by default).
    ``settings`` are the settings that hooks may read, as they are at each time
    (:class:`slardar.hooks.settings.HookSettings`).  ``log`` writes the lines that hooks log.
    """

    language = ""

    def __init__(self, budget: float, settings: Mapping[str, SettingEntry], log: Log) -> None:
        self.budget = budget
        self.settings = settings
        self.log = log

    @property
    def held(self) -> int:
        """Bytes that the scripts hold within the engine's own limit; 0 if it has none."""
        return 0

    def settings_changed(self) -> None:
        """Called when ``settings`` have changed."""

    def check(self, name: str, code: str) -> frozenset[str]:
        """Check whether ``code`` may be loaded as ``name``, without running any of it.

        Returns the modules that the code names in ``require``.  Raises ScriptError.
        """
        raise NotImplementedError

    def notices(self, code: str) -> Sequence[Notice]:
        """Places where the code uses what hooks do not have; :meth:`check` has accepted it."""
        return ()

    def load(self, name: str, code: str, modules: Mapping[str, str]) -> Script:
        """Load a script, or a module in order to see whether it can be loaded.

        ``modules`` is the code of the modules in service, by name.  Raises ScriptError for
        bad code, and for code that fails or does not end while it is loaded.
        """
        raise NotImplementedError
