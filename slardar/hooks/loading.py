"""Loads the hooks of one process, and keeps those that have not changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.logger import Logger

from slardar.config import Hooks
from slardar.errors import ConfigError
from slardar.hooks.call_note import CallNote
from slardar.hooks.engine import Engine, Log, ScriptError
from slardar.hooks.engines import MakeEngine
from slardar.hooks.loaded import Loaded, ScriptVersions, mark_of, module_versions, used_modules
from slardar.hooks.memory import MemoryWatch
from slardar.hooks.notices import Checked, refusals, warnings_of
from slardar.hooks.script import Script
from slardar.hooks.settings import HookSettings
from slardar.hooks.suspensions import Suspensions, modules_in_service
from slardar.model.hook import Code, Hook, HookKey

__all__ = ["Loader"]

_log = Logger("slardar.hooks")

#: Modules that one hook may name, and characters of a name.  A worker can report no more
#: to the director.
_MAX_REQUIRES = 1000
_MAX_NAME = 255


class Loader:
    """Loads each version of a script once.

    ``note`` tells another process which version is being loaded; ``None`` tells nobody.
    ``log`` writes the lines that hooks log.  ``values`` are the settings that hooks read.
    """

    def __init__(
        self,
        settings: Hooks,
        suspensions: Suspensions,
        note: CallNote | None,
        make_engine: MakeEngine,
        log: Log,
        values: HookSettings | None = None,
    ) -> None:
        self._settings = settings
        #: The settings that hooks read.
        self.values = HookSettings() if values is None else values
        self._suspensions = suspensions
        self._note = note
        self._make_engine = make_engine
        self._log = log
        #: Watches what hooks hold; ``None`` if nobody does.
        self.memory: MemoryWatch | None = None
        self._engines: dict[str, Engine] = {}
        #: The versions by path, version and time.
        self._loaded: dict[tuple[str, str, float], Loaded] = {}
        #: The scripts that requests may get, by path.
        self.scripts: dict[str, ScriptVersions] = {}

    def load(self, hooks: Mapping[HookKey, Hook]) -> None:
        """Load the versions of ``hooks``, and forget all others.

        A version that is loaded already stays as it is, unless a module that it uses has
        changed.  A version that cannot be loaded is logged.
        """
        self._suspensions.set_hooks(hooks)
        modules = modules_in_service(hooks)
        before, self._loaded = self._loaded, {}
        scripts = {}
        for hook in hooks.values():
            if hook.is_script:
                known = modules[hook.language]

                def find(
                    code: Code | None, hook: Hook = hook, known: Mapping[str, Code] = known
                ) -> Loaded | None:
                    return None if code is None else self._find(hook, code, known, before)

                versions = self._versions_of(hook, find)
                if versions.all():
                    scripts[hook.path] = versions
        self.scripts = scripts
        if self.memory is not None:
            self.memory.keep(set(self._loaded.values()))

    def _versions_of(
        self, hook: Hook, find: Callable[[Code | None], Loaded | None]
    ) -> ScriptVersions:
        versions = ScriptVersions(hook, hook.on_error or self._settings.on_error)
        versions.active = find(hook.active)
        if versions.on_error == "previous":
            versions.previous = find(hook.previous)
        if hook.canary:
            versions.canary = find(hook.staged)
        if hook.shadow:
            versions.shadow = find(hook.staged)
        known = self.scripts.get(hook.path)
        if (
            known is not None
            and known.shadow is versions.shadow
            and known.active is versions.active
        ):
            versions.comparison = known.comparison
        return versions

    def _find(
        self,
        hook: Hook,
        code: Code,
        modules: Mapping[str, Code],
        before: Mapping[tuple[str, str, float], Loaded],
    ) -> Loaded:
        key = (hook.path, code.version, code.time)
        found = self._loaded.get(key)
        if found is None:
            known = before.get(key)
            found = known
            # A version that could not be loaded is tried again: it costs little, and what was
            # missing may be there by now.
            if known is None or known.script is None or _has_other_modules(known, modules):
                found = self._load_anew(hook, code, modules)
                if known is not None:
                    found.stats = known.stats
            assert found is not None
            self._loaded[key] = found
        return found

    def _load_anew(self, hook: Hook, code: Code, modules: Mapping[str, Code]) -> Loaded:
        script: Script | None = None
        error = ""
        mark = mark_of(hook.path, code)
        used = used_modules(code, modules)
        if mark in self._suspensions.marks:
            # A suspended version is not even loaded: loading it may have ended a worker.
            found = Loaded(hook.path, code, None, "", used)
            found.suspended = True
            found.error = self._suspensions.reasons.get(mark, "")
            return found
        if mark in self._suspensions.refused:
            return Loaded(hook.path, code, None, self._suspensions.refused[mark], used)
        sources = {name: module.code for name, module in modules.items()}
        memory = self.memory
        before = 0 if memory is None else memory.used()
        note = self._note
        if note is not None:
            note.begin(mark)
        try:
            script = self.engine(hook.language).load(hook.name, code.code, sources)
        except ConfigError as problem:
            error = str(problem)
        except Exception as problem:
            # A bug in an engine must not keep the other hooks from being loaded.
            _log.failure("{path} could not be loaded", path=hook.path)
            error = f"{hook.name}: could not be loaded: {type(problem).__name__}"
        finally:
            if note is not None:
                note.end()
        if script is None:
            _log.error("{path} is not in service: {error}", path=hook.path, error=error)
        else:
            used |= module_versions(script.requires, modules)
        found = Loaded(hook.path, code, script, error, used)
        if memory is not None:
            memory.note(found, memory.used() - before)
        return found

    def suspend(self, mark: int, reason: str = "") -> None:
        """Do not run the version with this mark any more, and do not load it.

        ``reason`` is given if the version holds too much memory; the version lets go what it
        holds then, and the reason is shown.  Without a reason the version failed too often.
        """
        self._suspensions.marks.add(mark)
        if reason:
            self._suspensions.reasons[mark] = reason
        for loaded in self._loaded.values():
            if loaded.mark == mark and not loaded.suspended:
                loaded.suspended = True
                loaded.error = reason
                if reason and loaded.script is not None:
                    loaded.script.take_back()
                _log.error(
                    "{path} (version {version}) is suspended until it is activated again{why}",
                    path=loaded.path,
                    version=loaded.code.version,
                    why=f": {reason}" if reason else "",
                )

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """Do not load the versions with these marks; ``reasons`` says why, by mark."""
        self._suspensions.refused.update(reasons)

    def engine(self, language: str) -> Engine:
        """The engine of a language, which is made when it is first asked for."""
        engine = self._engines.get(language)
        if engine is None:
            engine = self._make_engine(language, self._settings, self.values, self._log)
            self._engines[language] = engine
        return engine

    def take_settings(self, settings: Mapping[str, str]) -> None:
        """Let hooks read these settings from now on, as JSON texts by name."""
        self.values.take(settings)
        for engine in self._engines.values():
            engine.settings_changed()

    @property
    def held(self) -> int:
        """Bytes that scripts hold within the limits of their engines."""
        return sum(engine.held for engine in self._engines.values())

    def check(
        self, language: str, name: str, code: str, modules: Mapping[str, str] | None
    ) -> Checked:
        """Check whether code is fit to be a hook.

        Returns the modules that the code names, with warnings about uses of what hooks do
        not have.  If ``modules`` are given, the code is also loaded with them.  Raises
        ScriptError for code that is not fit, and for code that is certain to fail because
        it uses what hooks do not have.
        """
        engine = self.engine(language)
        requires = engine.check(name, code)
        if len(requires) > _MAX_REQUIRES or any(len(one) > _MAX_NAME for one in requires):
            raise ScriptError(
                f"{name}: expected at most {_MAX_REQUIRES} modules, with names of at most"
                f" {_MAX_NAME} characters"
            )
        notices = engine.notices(code)
        certain = refusals(name, notices)
        if certain:
            raise ScriptError(certain)
        if modules is not None:
            engine.load(name, code, modules).close()
        return Checked.of(sorted(requires), warnings_of(notices))


def _has_other_modules(loaded: Loaded, modules: Mapping[str, Code]) -> bool:
    """Whether a module that the version uses has another version now."""
    used = {**loaded.modules, **used_modules(loaded.code, modules)}
    return loaded.modules != module_versions(used, modules)
