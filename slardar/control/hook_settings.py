"""The operations on settings that hooks read.

What is set here is in the store, and wins over a setting of this name in the file.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import defer

from slardar.control.changes import Next, Receipt
from slardar.control.conditions import Condition
from slardar.control.configuration import Configuration
from slardar.control.desired import read_hook_settings
from slardar.errors import ConfigError, ConflictError, NotFoundError
from slardar.model.change import Value
from slardar.model.setting import is_of_settings, parse_setting

__all__ = ["HookSettingActions"]


class HookSettingActions:
    """The operations on the settings of hooks of one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    # Questions.

    def all(self) -> dict[str, Any]:
        """Every setting by name."""
        found = sorted(self._configuration.snapshot.settings.items())
        return {name: json.loads(text) for name, text in found}

    def one(self, name: str) -> Any:
        """One setting.  Raises NotFoundError."""
        text = self._configuration.snapshot.settings.get(name)
        if text is None:
            reason = self._configuration.failed.get(_where(name))
            unused = "" if reason is None else f" in use: {reason}"
            raise NotFoundError(f"no setting {name}{unused}")
        return json.loads(text)

    def origin(self, name: str) -> str:
        """Where a setting comes from: ``file``, or ``control`` for what the store keeps."""
        return "control" if name in self._configuration.held.settings else "file"

    def origins(self) -> dict[str, str]:
        """The origin of every setting."""
        return {name: self.origin(name) for name in sorted(self._configuration.snapshot.settings)}

    def check(self, name: str, body: object) -> str:
        """The JSON text of the setting that :meth:`set` would make.  Raises ConfigError."""
        return parse_setting(name, body, _where(name))

    # Changes.

    def set(
        self,
        name: str,
        body: object,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> defer.Deferred[Receipt]:
        """Make or replace a setting.

        Fails with ConfigError for a value that cannot be one, and if another setting could not be
        used beside it; and as :meth:`Configuration.change` says, which explains ``wait`` and
        ``condition`` too.
        """

        def prepare() -> Next:
            self.check(name, body)
            return self._next(Value("setting", name, body))

        return self._configuration.change(prepare, who, wait, condition)

    def remove(
        self, name: str, who: str, wait: bool = True, condition: Condition | None = None
    ) -> defer.Deferred[Receipt]:
        """Remove what was set under a name.  If the file has a setting of this name, the file's
        counts again.

        Fails with NotFoundError if nothing was set, with ConflictError if only the file has it.
        """

        def prepare() -> Next:
            configuration = self._configuration
            if name not in configuration.held.settings and _where(name) not in configuration.failed:
                if name in configuration.settings.first_settings:
                    raise ConflictError(f"{_where(name)}: only the file has it: take it out there")
                raise NotFoundError(f"no setting {name}")
            return self._next(Value("setting", name, None))

        return self._configuration.change(prepare, who, wait, condition)

    def _next(self, value: Value) -> Next:
        """The change to this value.  Raises ConfigError if it, or another setting, could not be
        used any more."""
        configuration = self._configuration
        held, known = configuration.held, configuration.failed
        state = held.after([value], held.version, held.revision)
        settings, found = read_hook_settings(
            configuration.settings, state, held, configuration.snapshot, known
        )
        failed = {where: one for where, one in known.items() if not is_of_settings(where)}
        failed.update(found)
        if failed.get(value.path) == held.broken.get(value.path):
            # What nobody could read is overwritten.
            failed.pop(value.path, None)
        problems = [
            reason for where, reason in failed.items() if where not in known or where == value.path
        ]
        if problems and value.value is not None:
            raise ConfigError(problems)
        return Next([value], configuration.snapshot.with_settings(settings), failed=failed)


def _where(name: str) -> str:
    return f"settings.{name}"
