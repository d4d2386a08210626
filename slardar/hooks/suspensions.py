"""Which versions of hooks must not be run any more: the same rule in a worker and in the
director, which watches all of them."""

from __future__ import annotations

from collections.abc import Mapping

from slardar.hooks.failures import FailureWindow
from slardar.hooks.loaded import mark_of, used_modules
from slardar.model.hook import Code, Hook, HookKey

__all__ = ["Suspensions", "modules_in_service"]


def modules_in_service(hooks: Mapping[HookKey, Hook]) -> dict[str, dict[str, Code]]:
    """The modules by language and name."""
    modules: dict[str, dict[str, Code]] = {"lua": {}, "python": {}}
    for hook in hooks.values():
        if not hook.is_script and hook.active is not None:
            modules[hook.language][hook.name] = hook.active
    return modules


class Suspensions:
    """Versions by their marks (:func:`slardar.hooks.loaded.mark_of`).

    A suspension ends with another posting of the hook, or with another version of a module
    that it uses: then the script is loaded anew, and what it did with the former one is
    not held against it.
    """

    def __init__(self) -> None:
        #: The versions there are: the path of each.
        self.paths: dict[int, str] = {}
        #: Those that must not be run; one may be told of before its hook is.
        self.marks: set[int] = set()
        #: Why, where that is more than that it failed too often.
        self.reasons: dict[int, str] = {}
        #: Those that must not even be loaded, and why: to read them breaks a limit.
        self.refused: dict[int, str] = {}
        self._modules: dict[int, dict[str, str]] = {}
        self._failures = FailureWindow()

    def set_hooks(self, hooks: Mapping[HookKey, Hook]) -> None:
        """These are the hooks from now on; what is known of others is forgotten."""
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
        """A version has failed; True if that is once too often, ``now`` being in seconds of
        any clock that only grows."""
        return self._failures.note(mark, now)
