"""The checks of hooks' code that a change needs.  No other change waits for them.

A check may take seconds, and other changes must go on meanwhile.  So a change is prepared under the
lock of changes with the answers that are known.  If answers are missing, the lock is released, the
questions are asked, and the change is prepared again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from slardar.control.changes import Next
from slardar.errors import ConfigError
from slardar.model.hook import Code, Hook, HookKey, OnError
from slardar.model.snapshot import Snapshot

__all__ = ["Checks", "NotCheckedError", "PrepareChecked", "Question", "Usage"]

#: The arguments of :meth:`slardar.interfaces.IPlane.check_hook`: language, name, code, and the
#: modules and the settings to load the code with.
Question = tuple[str, str, str, Mapping[str, str] | None, Mapping[str, str] | None]


class NotCheckedError(Exception):
    """A change needs the answers to these questions first."""

    def __init__(self, questions: Sequence[Question]) -> None:
        super().__init__()
        self.questions = questions


class Checks:
    """The answers that are known so far, for one change."""

    def __init__(self) -> None:
        self._answers: dict[Any, tuple[str, ...] | ConfigError] = {}

    @staticmethod
    def _key(question: Question) -> Any:
        language, name, code, *others = question
        return (
            *(language, name, code),
            *(None if one is None else frozenset(one.items()) for one in others),
        )

    def requires(
        self,
        language: str,
        name: str,
        code: str,
        modules: Mapping[str, str] | None,
        settings: Mapping[str, str] | None = None,
    ) -> tuple[str, ...]:
        """The modules that a hook's code names.

        Raises ConfigError if the code cannot be a hook, NotCheckedError if there is no answer yet.
        """
        question = (language, name, code, modules, settings)
        answer = self._answers.get(self._key(question))
        if answer is None:
            raise NotCheckedError([question])
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    def require_all(self, questions: Iterable[Question]) -> None:
        """Check several pieces of code.

        Raises ConfigError with the mistakes of all of them, or NotCheckedError with every
        question that has no answer yet.
        """
        missing: list[Question] = []
        problems: list[str] = []
        for question in questions:
            try:
                self.requires(*question)
            except NotCheckedError as error:
                missing += error.questions
            except ConfigError as error:
                problems += error.problems
        if missing:
            raise NotCheckedError(missing)
        if problems:
            raise ConfigError(problems)

    def note(self, question: Question, answer: tuple[str, ...] | ConfigError) -> None:
        """Take the answer to a question: the modules, or why the code cannot be a hook."""
        self._answers[self._key(question)] = answer


#: Like :data:`slardar.control.changes.Prepare`, for a change that needs code to be checked.
PrepareChecked = Callable[[Checks], Next]


class Usage:
    """How the hooks of a snapshot are used: which versions requests may get, and which modules
    these versions use.

    ``on_error`` holds for hooks that do not set it.
    """

    def __init__(self, snapshot: Snapshot, on_error: OnError) -> None:
        self._snapshot = snapshot
        self._on_error = on_error

    def modules(self, language: str) -> dict[str, str]:
        """The code of the modules in service, by name."""
        return {
            hook.name: hook.active.code
            for hook in self._snapshot.hooks.values()
            if hook.language == language and not hook.is_script and hook.active is not None
        }

    def in_service(self, hook: Hook) -> Iterator[Code]:
        """The versions of a hook that requests may get."""
        if hook.active is not None:
            yield hook.active
        if hook.canary and hook.staged is not None:
            yield hook.staged
        if hook.previous is not None and (hook.on_error or self._on_error) == "previous":
            yield hook.previous

    def users(self, language: str, module: str) -> Sequence[tuple[Hook, Code]]:
        """The versions of other hooks in service that use a module, directly or through
        others."""
        versions = [
            (hook, code)
            for hook in self._snapshot.hooks.values()
            if hook.language == language and hook.name != module
            for code in self.in_service(hook)
        ]
        wanted = {module}
        found: list[tuple[Hook, Code]] = []
        while True:
            users = [one for one in versions if wanted.intersection(one[1].requires)]
            if len(users) == len(found):
                return found
            found = users
            wanted |= {hook.name for hook, _ in users}

    def questions(
        self, tried: Iterable[tuple[Hook, Code]], gone: Iterable[HookKey] = ()
    ) -> list[Question]:
        """The questions to ask before the versions ``tried`` come into service and the modules
        ``gone`` leave it.  They are about each of these versions, and about every version that uses
        one of the modules."""
        versions = sorted(tried, key=lambda one: (one[0].is_script, one[0].key))
        touched = [hook.key for hook, _ in versions if not hook.is_script]
        for language, name in [*touched, *gone]:
            versions += self.users(language, name)
        modules = {language: self.modules(language) for language in ("lua", "python")}
        seen: set[tuple[HookKey, str]] = set()
        found: list[Question] = []
        for hook, code in versions:
            if (hook.key, code.version) not in seen:
                seen.add((hook.key, code.version))
                known = modules[hook.language]
                found.append((hook.language, hook.name, code.code, known, self._snapshot.settings))
        return found

    def questions_about(
        self, changed: Mapping[HookKey, Hook | None], before: Snapshot
    ) -> list[Question]:
        """The questions to ask before the hooks ``changed`` take the place of those in ``before``.
        None of their code need have been checked by anybody."""
        tried: list[tuple[Hook, Code]] = []
        found: list[Question] = []
        for key, hook in changed.items():
            if hook is None:
                continue
            known = before.hooks.get(key)
            old = () if known is None else (known.active, known.staged, known.previous)
            loaded = list(self.in_service(hook))
            if hook.shadow and hook.staged is not None:
                loaded.append(hook.staged)
            tried += ((hook, code) for code in loaded)
            found += (
                (hook.language, hook.name, code.code, None, None)
                for code in (hook.active, hook.staged, hook.previous)
                if code is not None and code not in loaded and code not in old
            )
        gone = [key for key, hook in changed.items() if hook is None]
        return found + self.questions(tried, gone)
