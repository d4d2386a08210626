"""A state of the store that others have written, of which some parts may be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import structs

from slardar.control.checks import Checks, NotCheckedError, Question, Usage
from slardar.control.desired import Desired, same_or
from slardar.errors import ConfigError
from slardar.model.change import Kind, StoredState, Value
from slardar.model.hook import HookKey, OnError
from slardar.model.snapshot import Snapshot

__all__ = ["loadable", "values_at"]

_KINDS: Mapping[str, Kind] = {
    "upstreams": "upstream",
    "services": "service",
    "hooks": "hook",
    "settings": "setting",
    "acme": "acme",
    "certificates": "certificate",
}


def loadable(desired: Desired, served: Snapshot, on_error: OnError, checks: Checks) -> Desired:
    """``desired`` with the hooks that are served in the place of those that cannot be loaded.

    A module that another hook cannot be loaded with stays as it is served, too.  Raises
    NotCheckedError if it is not known yet which those are.
    """
    while True:
        changed = desired.changed_hooks(served)
        if not changed:
            return desired
        snapshot = Snapshot.build(0, {}, (), None, desired.hooks, settings=desired.settings)
        usage = Usage(snapshot, on_error)
        problems = _problems(usage.questions_about(changed, served), checks)
        wrong = {key: reason for key, reason in problems.items() if changed.get(key) is not None}
        modules = {key: reason for key, reason in wrong.items() if _is_module(key)}
        if not wrong:
            # What has not changed cannot be loaded with a module that has.
            languages = {language: reason for (language, _), reason in problems.items()}
            modules = {
                key: languages[key[0]] for key in changed if key[0] in languages and _is_module(key)
            }
        if not (modules or wrong):
            return desired
        # Scripts may only be wrong because a module is.
        desired = _without(desired, served, modules or wrong)


def _is_module(key: HookKey) -> bool:
    return key[1].startswith("modules.")


def _problems(questions: Iterable[Question], checks: Checks) -> dict[HookKey, str]:
    """Why hooks cannot be loaded, in one line each."""
    found: dict[HookKey, str] = {}
    missing: list[Question] = []
    for question in questions:
        try:
            checks.requires(*question)
        except NotCheckedError as error:
            missing += error.questions
        except ConfigError as error:
            found.setdefault(question[:2], " ".join(str(error).split()))
    if missing:
        raise NotCheckedError(missing)
    return found


def _without(desired: Desired, served: Snapshot, wrong: Mapping[HookKey, str]) -> Desired:
    """``desired`` with what is served of these hooks."""
    hooks, failed = dict(desired.hooks), dict(desired.failed)
    for key, reason in wrong.items():
        where = f"hooks.{key[0]}/{key[1]}"
        failed[where] = f"{where}: {reason}"
        if key in served.hooks:
            hooks[key] = served.hooks[key]
        else:
            hooks.pop(key, None)
    return structs.replace(desired, hooks=same_or(served.hooks, hooks), failed=failed)


def values_at(paths: Iterable[str], state: StoredState) -> Iterator[Value]:
    """What a state has at these key paths."""
    for path in sorted(paths):
        section, _, name = path.partition(".")
        if path == "routes":
            yield Value("routes", "", state.routes)
        elif section in _KINDS:
            yield Value(_KINDS[section], name, getattr(state, section).get(name))
