"""Compares what a staged hook would have done with what the version in service did.

The shadow, which is the staged version, runs on copies after the version in service and
before the changes of the latter are applied.  Only the comparison is kept.
"""

from __future__ import annotations

from typing import Any

from slardar.hooks.objects import HookAnswer, HookRequest, HookResponse
from slardar.hooks.stats import CallStats

__all__ = ["EXAMPLES", "Comparison", "Sampler", "copied", "request_decision", "response_decision"]

#: Requests that differed which each worker keeps as examples.
EXAMPLES = 5
#: Characters of a text in an example.
_MAX_TEXT = 200
#: The most requests a second that each worker compares: all of them if there are few, a
#: sample if there are many.  And the nanoseconds of a second that shadows may take, so that
#: a shadow that uses up its budget costs no more than a tenth of a core.
_RATE = 100
_SHARE = 100_000_000
#: The most values that a context may have, and the deepest level of a value, for a shadow to
#: get a copy of the context.
_MAX_VALUES = 1000
_MAX_DEPTH = 20

Decision = dict[str, Any]


class Sampler:
    """Takes up to :data:`_RATE` requests a second, while shadows have time left."""

    __slots__ = ("_left", "_second", "_time")

    def __init__(self) -> None:
        self._second = -1
        self._left = 0
        self._time = 0

    def take(self, now: float) -> bool:
        """Whether a request that comes at ``now`` is in the sample."""
        second = int(now)
        if second != self._second:
            self._second, self._left, self._time = second, _RATE, _SHARE
        if self._left <= 0 or self._time <= 0:
            return False
        self._left -= 1
        return True

    def took(self, nanoseconds: int) -> None:
        """Count the time for which a shadow has run."""
        self._time -= nanoseconds


class Comparison:
    """Counts how often a shadow and the version in service would differ."""

    __slots__ = ("compared", "differing", "examples", "stats")

    def __init__(self) -> None:
        self.compared = 0
        self.differing = 0
        #: The last requests that differed, each with what both versions would do.
        self.examples: list[dict[str, Any]] = []
        #: The calls, errors and times of the shadow.
        self.stats = CallStats()

    def note(self, what: str, active: Decision, staged: Decision) -> bool:
        """Note a request that both versions have seen.  Returns whether they differ."""
        self.compared += 1
        return self._differ(what, active, staged, 1)

    def note_reply(self, what: str, active: Decision, staged: Decision, counted: bool) -> None:
        """Note the reply to a request that both versions have seen.

        ``counted`` says that the request was already counted as one that differs.
        """
        self._differ(what, active, staged, 0 if counted else 1)

    def _differ(self, what: str, active: Decision, staged: Decision, count: int) -> bool:
        if active == staged:
            return False
        self.differing += count
        keys = [key for key in {**active, **staged} if active.get(key) != staged.get(key)]
        self.examples.append(
            {
                "request": what[:_MAX_TEXT],
                "active": {key: _short(active.get(key)) for key in keys},
                "staged": {key: _short(staged.get(key)) for key in keys},
            }
        )
        del self.examples[:-EXAMPLES]
        return True


def copied(context: dict[str, Any]) -> dict[str, Any] | None:
    """A deep copy of a context.

    ``None`` if the context has anything but plain values, or too many values to copy them
    for each request.
    """
    left = _MAX_VALUES

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _MAX_DEPTH:
            raise _NotPlainError
        kind = type(value)
        if value is None or kind in _PLAIN:
            return value
        if kind is dict:
            return {copy(key, depth + 1): copy(item, depth + 1) for key, item in value.items()}
        if kind in (list, tuple, set, frozenset):
            return kind([copy(item, depth + 1) for item in value])
        raise _NotPlainError

    try:
        found: dict[str, Any] = copy(context, 0)
    except _NotPlainError:
        return None
    return found


_PLAIN = frozenset((bool, bytes, float, int, str))


class _NotPlainError(Exception):
    """The context has a value that is not copied."""


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    if isinstance(value, dict):
        return {str(key)[:_MAX_TEXT]: _short(item) for key, item in list(value.items())[:20]}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value[:20]]
    return value


def request_decision(seen: HookRequest | None) -> Decision:
    """What a version decided about a request; ``seen`` is ``None`` if it failed."""
    if seen is None:
        return {"failed": True}
    answer = seen.answer
    if answer is not None:
        return _answered(answer)
    decision: Decision = {
        "method": seen.method,
        "uri": seen.uri,
        "host": seen.host,
        "upstream": seen.chosen_upstream,
        "hash_key": seen.hash_key,
        "cluster_key": _short(seen.cluster_key),
        "headers": _headers(seen),
    }
    if "body" in seen.written:
        decision["body"] = seen.body.decode("utf-8", "replace")
    return decision


def response_decision(request: HookRequest, seen: HookResponse | None) -> Decision:
    """What a version decided about a reply; ``seen`` is ``None`` if it failed."""
    if seen is None:
        return {"failed": True}
    if request.answer is not None:
        return _answered(request.answer)
    return {"status": seen.status, "headers": _headers(seen)}


def _answered(answer: HookAnswer) -> Decision:
    return {
        "answer": answer.status,
        "message": answer.message,
        "body": answer.body.decode("utf-8", "replace"),
        "code": answer.code,
        "reply_headers": [line.decode("latin-1") for line in answer.headers],
    }


def _headers(seen: HookRequest | HookResponse) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in seen.headers.items():
        found.setdefault(name.lower(), []).append(value)
    return found
