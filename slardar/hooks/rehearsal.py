"""Shows a request to copies of the hooks in service, and tells what each of them does to it.

The copies are loaded for this one request, in engines of their own, and run by the rules and
within the limits of those in service.  So nothing that is counted, kept or suspended changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from slardar.hooks.loaded import ScriptVersions
from slardar.hooks.runner import Runner
from slardar.hooks.trial import changes_of, shown_request
from slardar.http1.interfaces import HookedRequest
from slardar.http1.own_replies import NO_REPLY
from slardar.http1.request import Request
from slardar.model.hook import Hook

__all__ = ["HookEffect", "Lines", "Rehearsal", "lines_of", "plain", "short"]

#: Lines that are told of one hook, of its log and of its changes; and characters of a line.
_MAX_LINES = 100
_MAX_LINE = 1000
#: The largest integer that every reader of JSON reads exactly.
_LARGEST = 2**53

Line = Annotated[str, Meta(max_length=_MAX_LINE)]
Lines = Annotated[tuple[Line, ...], Meta(max_length=_MAX_LINES)]


class HookEffect(Struct, frozen=True, omit_defaults=True):
    """What one hook has done to a request."""

    #: ``python/script.www.example.com``.
    hook: Line
    #: ``continues``, ``answered`` or ``failed``.
    outcome: Line
    #: The version that ran, or was to run: the MD5 of its code; empty if none was.
    version: Line = ""
    #: The status of its answer; 444 closes the connection without one.
    status: Annotated[int, Meta(ge=0, le=999)] = 0
    #: What it has chosen.
    upstream: Line | None = None
    hash_key: Line | None = None
    cluster_key: Any = None
    #: The lines of the request's head that are gone (``-``) and that are new (``+``).
    changes: Lines = ()
    #: Why it has failed.
    error: Line = ""
    log: Lines = ()


class Rehearsal:
    """One request, and the copies of the hooks that see it.

    ``hooks`` are all hooks in service, and ``runner`` is what runs them.
    """

    def __init__(self, runner: Runner, hooks: Iterable[Hook], request: Request) -> None:
        self._request = request
        self._lines: list[tuple[str, str]] = []
        hosts = ("*", request.host)
        some = [hook for hook in hooks if not hook.is_script or hook.host in hosts]
        self._runner = runner.understudy(some, self._log)
        # What is logged while code is loaded is nobody's effect.
        self._lines.clear()
        self._before = shown_request(request)
        self._keys: tuple[Any, ...] = (None, None, None)
        #: What each hook has done, in the order in which they see the request.
        self.effects: list[HookEffect] = []

    def run(self) -> HookedRequest:
        """Let the hooks see and change the request."""
        return self._runner.rehearse(self._request, self._seen_by)

    def _log(self, level: str, text: str) -> None:
        self._lines.append((level, text))

    def _seen_by(self, versions: ScriptVersions, hooked: HookedRequest) -> None:
        request = self._request
        lines, self._lines[:] = list(self._lines), []
        failed = [loaded for loaded in versions.all() if loaded.stats.errors]
        ran = [loaded for loaded in versions.all() if loaded.stats.calls and loaded not in failed]
        has_failed = hooked.hook == versions.path and (bool(hooked.error) or hooked.answer is None)
        errors = [text for level, text in lines if level == "error"]
        tried = ran or failed or [one for one in (versions.active,) if one is not None]
        outcome, status, error = "continues", 0, ""
        if has_failed:
            outcome = "failed"
            error = errors[-1] if errors else "; ".join(_state(one) for one in tried)
        if hooked.answer is not None:
            outcome = outcome if has_failed else "answered"
            answer = hooked.answer
            status = answer.status if answer.status == NO_REPLY else answer.client_status()
        keys = (hooked.upstream, request.hash_key, request.cluster_key)
        chosen = [new if new != old else None for new, old in zip(keys, self._keys, strict=True)]
        after = shown_request(request)
        changes = changes_of(self._before, after)
        self._keys, self._before = keys, after
        self.effects.append(
            HookEffect(
                versions.path,
                outcome,
                tried[0].code.version if tried else "",
                status,
                None if chosen[0] is None else short(chosen[0]),
                None if chosen[1] is None else short(chosen[1]),
                plain(chosen[2]),
                lines_of(changes),
                short(error),
                lines_of([f"{level}: {text}" for level, text in lines]),
            )
        )


def _state(loaded: Any) -> str:
    return loaded.error or f"its version {loaded.code.version} is {loaded.state}"


def lines_of(lines: Sequence[str]) -> tuple[str, ...]:
    """Some lines, within the limits of :data:`Lines`."""
    return tuple(short(line) for line in lines[:_MAX_LINES])


def short(text: str) -> str:
    """A text within the limit, in which halves of surrogates are escaped, which UTF-8 has not."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _MAX_LINE else text[: _MAX_LINE - 3] + "..."


def plain(value: Any, depth: int = 0) -> Any:
    """A value that a hook has chosen, as a value for JSON of a bounded size."""
    if value is None or (isinstance(value, (int, float)) and abs(value) <= _LARGEST):
        return value
    if depth < 3:
        if isinstance(value, dict):
            return {short(str(k)): plain(v, depth + 1) for k, v in list(value.items())[:_MAX_LINES]}
        if isinstance(value, (list, tuple)):
            return [plain(item, depth + 1) for item in value[:_MAX_LINES]]
    return short(str(value))
