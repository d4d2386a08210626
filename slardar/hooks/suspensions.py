"""Knows which versions of hooks must not run any more, by one rule for workers and director."""

from __future__ import annotations

from collections.abc import Mapping

from slardar.hooks.failures import FailureWindow
from slardar.hooks.loaded import mark_of, used_modules
from slardar.model.hook import Code, Hook, HookKey

__all__ = ["Suspensions", "modules_in_service"]


def modules_in_service(hooks: Mapping[HookKey, Hook]) -> dict[str, dict[str, Code]]:
    """The modules in service, by language and name."""
    modules: dict[str, dict[str, Code]] = {"lua": {}, "python": {}}
    for hook in hooks.values():
        if not hook.is_script and hook.active is not None:
            modules[hook.language][hook.name] = hook.active
    return modules


class Suspensions:
    """The versions that must not run, by their marks (:func:`slardar.hooks.loaded.mark_of`).

    A suspension ends when the hook is posted again, or when a module that it uses has
    another version.  Then the script is loaded anew, and its earlier failures do not count.
    """

    def __init__(self) -> None:
        #: The path of every version of every hook, by mark.
        self.paths: dict[int, str] = {}
        #: The versions that must not run.  A mark may come before its hook is known.
        self.marks: set[int] = set()
        #: Why a version is suspended, by mark; a version that failed too often has no reason.
        self.reasons: dict[int, str] = {}
        #: Why a version must not even be loaded, by mark: reading its code breaks a limit.
        self.refused: dict[int, str] = {}
        self._modules: dict[int, dict[str, str]] = {}
        self._failures = FailureWindow()

    def set_hooks(self, hooks: Mapping[HookKey, Hook]) -> None:
        """Take the hooks of now, and forget what is known of others."""
        modules = modules_in_service(hooks)
        before, self._modules = self._modules, {}
        self.paths = {}
        for hook in hooks.values():
            for code in (hook.active, hook.previous, hook.staged):
                if code is not None:
                    mark = mark_of(hook.path, code)
                    self.paths[mark] = hook.path
                    used = self._modules[mark] = used_modules(code, modules[hook.language])
                    if before.get(mark, used) != used:
                        self.marks.discard(mark)
                        self.reasons.pop(mark, None)
                        self._failures.forget(mark)
        known = set(self.paths)
        self.marks &= known
        for reasons in (self.reasons, self.refused):
            for mark in [mark for mark in reasons if mark not in known]:
                del reasons[mark]
        self._failures.keep(known)

    def failed(self, mark: int, now: float) -> bool:
        """Note the failure of a version.  True if it has failed too often now.

        ``now`` is in seconds of any monotonic clock.
        """
        return self._failures.note(mark, now)
