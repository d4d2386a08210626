"""The operations on hooks: stage, activate, try beside the one in service, go back, remove."""

from __future__ import annotations

import time
from typing import Any, get_args

import msgspec
from msgspec import structs
from twisted.logger import Logger

from slardar.control.changes import Next, NothingChanged, Receipt
from slardar.control.checks import Checks
from slardar.control.conditions import Condition
from slardar.control.configuration import Configuration
from slardar.errors import ConfigError, ConflictError, NotFoundError
from slardar.hooks.engine import MAX_CODE
from slardar.hooks.loaded import mark_of
from slardar.hooks.report import HookTally
from slardar.model.change import Value
from slardar.model.hook import COMMIT_VERSION, Code, Hook, OnError, check_new_hook_name, written
from slardar.model.reader import shown
from slardar.model.snapshot import Snapshot

__all__ = ["HookActions", "local_time"]

_log = Logger("slardar.control")
#: Characters of the name that operators give their code, at most.
_MAX_COMMIT = 128


class HookActions:
    """The operations on the hooks of a configuration.  Nothing here blocks."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._plane = configuration.plane

    def _snapshot(self) -> Snapshot:
        return self._configuration.snapshot

    # Questions.

    def all(self, language: str) -> dict[str, Any]:
        """Every hook of a language, in the form that ``GET /lua`` answers.  ``modules`` are the
        hooks in service, ``staged`` those that ``PUT /lua`` would put into service."""
        version = self._snapshot().version
        hooks = self._of(language)
        tally = self._plane.hook_tally()
        return {
            "global_version": version,
            "commit_version": self.commit_version(language),
            "version": version,
            "modules": [self._shown(hook, tally) for hook in hooks if hook.active is not None],
            "staged": [
                {
                    "name": hook.name,
                    "language": hook.language,
                    "state": "staged",
                    "active": None if hook.active is None else hook.active.version,
                    **self._staged(hook, hook.staged, tally),
                }
                for hook in hooks
                if hook.staged is not None
            ],
        }

    def commit_version(self, language: str) -> str:
        """What operators call the code of a language.  ``0``, as in upyun/slardar, until they have
        said so."""
        found = self._configuration.held.hooks.get(f"{language}/{COMMIT_VERSION}")
        return found if isinstance(found, str) else "0"

    def _of(self, language: str) -> list[Hook]:
        hooks = self._snapshot().hooks
        return [hook for key, hook in sorted(hooks.items()) if key[0] == language]

    def one(self, language: str, name: str) -> dict[str, Any]:
        """One hook.  Raises NotFoundError."""
        return self._shown(self._known(language, name), self._plane.hook_tally())

    def codes(self, language: str, name: str) -> dict[str, Any]:
        """The code of each version of a hook."""
        hook = self._known(language, name)
        versions = {"active": hook.active, "staged": hook.staged, "previous": hook.previous}
        return {
            which: {**_version(code), "code": code.code}
            for which, code in versions.items()
            if code is not None
        }

    def shadow(self, language: str, name: str) -> dict[str, Any]:
        """What a version in the shadow has done so far, compared with the one in service."""
        hook = self._known(language, name)
        if hook.staged is None or not hook.shadow:
            raise NotFoundError(f"{language} hook {name} has no version in the shadow")
        tally = self._plane.hook_tally()
        totals = tally.shadow(hook.path, mark_of(hook.path, hook.staged))
        report: dict[str, Any] = {
            "name": hook.name,
            "language": hook.language,
            "version": hook.staged.version,
            "active": None if hook.active is None else hook.active.version,
            "compared": totals.compared,
            "differing": totals.differing,
            "examples": totals.examples,
            "errors": totals.stats.errors,
            "mean_us": totals.stats.mean_us,
            "p99_us": totals.stats.p99_us,
        }
        if hook.active is not None:
            stats = tally.totals(hook.path, mark_of(hook.path, hook.active)).stats
            report.update(active_mean_us=stats.mean_us, active_p99_us=stats.p99_us)
        return report

    def warnings(self, language: str, name: str) -> tuple[str, ...]:
        """The warnings about the code that was posted last."""
        hook = self._snapshot().hooks.get((language, name))
        code = None if hook is None else hook.staged or hook.active
        return () if code is None else code.warnings

    def summary(self) -> list[dict[str, Any]]:
        """For ``/status``: each hook's version and state."""
        tally = self._plane.hook_tally()
        keys = ("language", "name", "version", "state", "error")
        found = []
        for _, hook in sorted(self._snapshot().hooks.items()):
            about = self._shown(hook, tally)
            found.append({key: about[key] for key in keys if key in about})
        return found

    def _known(self, language: str, name: str) -> Hook:
        hook = self._snapshot().hooks.get((language, name))
        if hook is None:
            reason = self._configuration.failed.get(f"hooks.{language}/{name}")
            raise NotFoundError(
                f"no {language} hook {shown(name)}"
                if reason is None
                else f"{language} hook {name} is stored but cannot be read: {reason}"
            )
        return hook

    def _shown(self, hook: Hook, tally: HookTally) -> dict[str, Any]:
        code = hook.active or hook.staged or hook.previous
        assert code is not None
        about: dict[str, Any] = {
            "name": hook.name,
            **_version(code),
            "language": hook.language,
            "state": "staged",
        }
        if hook.active is not None:
            about.update(_counters(hook, hook.active, tally))
        about["on_error"] = hook.on_error or self._configuration.on_error
        if hook.staged is not None:
            about["staged"] = self._staged(hook, hook.staged, tally)
        if hook.previous is not None:
            about["previous"] = _version(hook.previous)
        return about

    def _staged(self, hook: Hook, code: Code, tally: HookTally) -> dict[str, Any]:
        """What is shown of a staged version."""
        staged = _version(code)
        if code.on_error is not None:
            staged["on_error"] = code.on_error
        if hook.canary:
            staged.update(_counters(hook, code, tally), canary=hook.canary)
        if hook.shadow:
            staged["shadow"] = True
        return staged

    # Changes.

    async def set_commit_version(
        self,
        language: str,
        text: str | None,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> Receipt:
        """Give the code of a language a name; ``None`` removes the name.

        Raises ConfigError for a text that is not one line of 1 to 128 printable characters.
        """
        if text is not None and not (0 < len(text) <= _MAX_COMMIT and text.isprintable()):
            raise ConfigError(
                f"{COMMIT_VERSION}: expected a line of 1 to {_MAX_COMMIT} printable"
                f" characters, got {shown(text)}"
            )

        def prepare() -> Next:
            return Next([Value("hook", f"{language}/{COMMIT_VERSION}", text)], self._snapshot())

        return await self._configuration.change(prepare, who, wait, condition)

    async def stage(
        self,
        language: str,
        name: str,
        body: bytes,
        who: str,
        wait: bool = True,
        shadow: bool = False,
        on_error: str | None = None,
        activate: bool = False,
        canary: int = 0,
        condition: Condition | None = None,
    ) -> Receipt:
        """Post code.  It is checked and stored, and comes into service with :meth:`activate`.

        With ``shadow`` the code runs beside the version in service from now on.  ``on_error`` says
        what a failure of the hook does once the code is activated.  With ``activate`` the same
        change activates it, for all requests or for ``canary`` of a hundred.  Raises ConfigError
        for code that cannot be a hook, or cannot be activated: nothing is staged then.
        """
        check_new_hook_name(language, name)
        code = _text(body, name)
        checked_on_error = _checked_on_error(on_error)

        def prepare(checks: Checks) -> Next:
            requires = checks.requires(language, name, code, None)
            known = self._snapshot().hooks.get((language, name))
            hook = known or Hook(language, name)  # type: ignore[arg-type]
            if shadow and not hook.is_script:
                raise ConfigError(f"shadow: expected a script, {name} is a module")
            warnings = tuple(getattr(requires, "warnings", ()))
            staged = Code.of(code, self._configuration.clock(), tuple(requires))
            staged = structs.replace(staged, on_error=checked_on_error, warnings=warnings)
            hook = structs.replace(hook, staged=staged, canary=0, shadow=shadow)
            if shadow:
                modules = self._configuration.usage.modules(language)
                checks.requires(language, name, code, modules, self._snapshot().settings)
            if activate:
                hook = self._activated(hook, staged, canary, checks)
            return self._next(hook)

        receipt = await self._configuration.change_checked(prepare, who, wait, condition)
        for line in self.warnings(language, name):
            _log.warn("{language}/{name}: {line}", language=language, name=name, line=line)
        return receipt

    async def activate(
        self,
        language: str,
        name: str,
        who: str,
        wait: bool = True,
        canary: int = 0,
        on_error: str | None = None,
        condition: Condition | None = None,
    ) -> Receipt:
        """Put the staged version into service: for all requests, or for ``canary`` of a hundred.

        Raises ConfigError if the version, or a script that uses it as a module, cannot be loaded;
        what is in service stays.  Raises NotFoundError if nothing is staged.
        """
        checked_on_error = _checked_on_error(on_error)

        def prepare(checks: Checks) -> Next:
            hook = self._known(language, name)
            staged = hook.staged
            if staged is None:
                raise NotFoundError(f"nothing is staged for {language} hook {name}: post it first")
            if checked_on_error is not None:
                staged = structs.replace(staged, on_error=checked_on_error)
            return self._next(self._activated(hook, staged, canary, checks))

        return await self._configuration.change_checked(prepare, who, wait, condition)

    def _activated(self, hook: Hook, staged: Code, canary: int, checks: Checks) -> Hook:
        """The hook with ``staged`` in service, for all requests or some.  Raises ConfigError if
        ``staged`` cannot be loaded."""
        if canary:
            if not hook.is_script:
                raise ConfigError(f"canary: expected a script, {hook.name} is a module")
            # While no other version is in service, the canary says what a failure does.
            on_error = hook.on_error
            if staged.on_error is not None and hook.active is None:
                on_error = staged.on_error
            hook = structs.replace(
                hook, staged=staged, canary=canary, shadow=False, on_error=on_error
            )
        else:
            hook = _activated(hook, staged)
        self._check_one(hook, staged, checks)
        return hook

    async def activate_all(
        self,
        language: str,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> Receipt:
        """Put all staged versions into service as one change: all of them or none.

        Raises ConfigError with a line for every hook that could not be loaded.  If nothing is
        staged, nothing is changed.
        """

        def prepare(checks: Checks) -> Next:
            changed = {
                hook.key: _activated(hook, hook.staged)
                for hook in self._of(language)
                if hook.staged is not None
            }
            if not changed:
                raise NothingChanged
            snapshot = self._snapshot().with_hooks(changed)
            usage = self._configuration.usage_in(snapshot)
            tried = [(hook, hook.active) for hook in changed.values() if hook.active is not None]
            checks.require_all(usage.questions(tried))
            values = [
                # Modules come before the scripts that use them.
                Value("hook", hook.path, written(hook))
                for hook in sorted(changed.values(), key=lambda hook: (hook.is_script, hook.name))
            ]
            return Next(values, snapshot)

        try:
            return await self._configuration.change_checked(prepare, who, wait, condition)
        except NothingChanged:
            return Receipt(self._snapshot().version)

    async def roll_back(
        self,
        language: str,
        name: str,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> Receipt:
        """Go back at once: from a canary to the version in service, else to the version before,
        with the ``on_error`` that it had.

        Raises NotFoundError if there is no such version.
        """

        def prepare(checks: Checks) -> Next:
            hook = self._known(language, name)
            if hook.canary:
                return self._next(structs.replace(hook, canary=0))
            previous = hook.previous
            if previous is None:
                raise NotFoundError(f"{language} hook {name} has no version before this one")
            # With another time it is another version: a suspension of the old one does not count.
            previous = structs.replace(previous, time=self._configuration.clock())
            hook = structs.replace(
                hook, active=previous, previous=_left(hook), on_error=previous.on_error
            )
            self._check_one(hook, previous, checks)
            return self._next(hook)

        return await self._configuration.change_checked(prepare, who, wait, condition)

    async def remove(
        self,
        language: str,
        name: str,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> Receipt:
        """Remove a hook with all its versions.

        Raises NotFoundError if there is none, ConflictError for a module in use.
        """

        def prepare() -> Next:
            path = f"{language}/{name}"
            snapshot = self._snapshot()
            if f"hooks.{path}" not in self._configuration.failed:
                self._known(language, name)
            users = sorted(
                {hook.name for hook, _ in self._configuration.usage.users(language, name)}
            )
            if users:
                raise ConflictError(f"{name} is used by {', '.join(users[:5])}")
            return Next([Value("hook", path, None)], snapshot.with_hooks({(language, name): None}))

        return await self._configuration.change(prepare, who, wait, condition)

    def _next(self, hook: Hook) -> Next:
        snapshot = self._snapshot().with_hooks({hook.key: hook})
        return Next([Value("hook", hook.path, written(hook))], snapshot)

    def _check_one(self, hook: Hook, code: Code, checks: Checks) -> None:
        """Check that ``code`` of ``hook`` can be loaded, and so can the hooks that use it.  Stops
        at the first that cannot."""
        snapshot = self._snapshot().with_hooks({hook.key: hook})
        for question in self._configuration.usage_in(snapshot).questions([(hook, code)]):
            checks.requires(*question)


def _activated(hook: Hook, staged: Code) -> Hook:
    """The hook with ``staged`` in service for all requests."""
    return structs.replace(
        hook,
        active=staged,
        previous=_left(hook),
        staged=None,
        canary=0,
        shadow=False,
        on_error=hook.on_error if staged.on_error is None else staged.on_error,
    )


def _left(hook: Hook) -> Code | None:
    """The version in service, in the form in which it is kept when another version replaces it."""
    return None if hook.active is None else structs.replace(hook.active, on_error=hook.on_error)


def _counters(hook: Hook, code: Code, tally: HookTally) -> dict[str, Any]:
    """State and counters of one version."""
    totals = tally.totals(hook.path, mark_of(hook.path, code))
    found: dict[str, Any] = {
        "state": totals.state,
        "calls": totals.stats.calls,
        "errors": totals.stats.errors,
        "mean_us": totals.stats.mean_us,
        "p99_us": totals.stats.p99_us,
    }
    if totals.error:
        found["error"] = totals.error
    return found


def _version(code: Code) -> dict[str, Any]:
    about: dict[str, Any] = {"version": code.version, "time": local_time(code.time)}
    if code.warnings:
        about["warnings"] = list(code.warnings)
    return about


def _text(body: bytes, name: str) -> str:
    try:
        code = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: expected UTF-8 ({error.reason})") from None
    if not code.strip():
        raise ConfigError(f"{name}: expected code, got nothing")
    if len(code) > MAX_CODE:
        raise ConfigError(f"{name}: expected at most {MAX_CODE} characters of code")
    return code


def _checked_on_error(value: str | None) -> OnError | None:
    if value is None:
        return None
    try:
        found: OnError = msgspec.convert(value, OnError)
    except msgspec.ValidationError:
        names = ", ".join(sorted(get_args(OnError)))
        raise ConfigError(f"on_error: expected one of {names}, got {shown(value)}") from None
    return found


def local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
