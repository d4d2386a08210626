"""What a staged hook would have done, beside what the one in service did.

A shadow runs on copies, after the active version and before anything of that is applied;
only the comparison is kept.
"""

from __future__ import annotations

from typing import Any

from slardar.hooks.objects import Answer, HookRequest, HookResponse
from slardar.hooks.stats import CallStats

__all__ = ["EXAMPLES", "Comparison", "Sampler", "request_decision", "response_decision"]

#: Differing requests kept as examples, by each worker.
EXAMPLES = 5
#: Characters of a text in an example.
_MAX_TEXT = 200
#: Requests a second that each worker compares: all of them where there are few, a sample
#: where there are many, so that a shadow costs a bounded share of a core.
_RATE = 100

Decision = dict[str, Any]


class Sampler:
    """Lets so many pass in each second of a clock."""

    __slots__ = ("_left", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._left = 0

    def take(self, now: float) -> bool:
        """Whether this one is in the sample."""
        second = int(now)
        if second != self._second:
            self._second, self._left = second, _RATE
        if self._left <= 0:
            return False
        self._left -= 1
        return True


class Comparison:
    """Counts of a shadow against the version in service."""

    __slots__ = ("compared", "differing", "examples", "stats")

    def __init__(self) -> None:
        self.compared = 0
        self.differing = 0
        #: The last of those that differed: request, and what each version would do.
        self.examples: list[dict[str, Any]] = []
        #: The shadow's own calls, errors and times.
        self.stats = CallStats()

    def note(self, what: str, active: Decision, staged: Decision) -> None:
        """One request, or one reply, that both have seen."""
        self.compared += 1
        if active == staged:
            return
        self.differing += 1
        keys = [key for key in {**active, **staged} if active.get(key) != staged.get(key)]
        self.examples.append(
            {
                "request": what[:_MAX_TEXT],
                "active": {key: _short(active.get(key)) for key in keys},
                "staged": {key: _short(staged.get(key)) for key in keys},
            }
        )
        del self.examples[:-EXAMPLES]


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    if isinstance(value, dict):
        return {str(key)[:_MAX_TEXT]: _short(item) for key, item in list(value.items())[:20]}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value[:20]]
    return value


def request_decision(seen: HookRequest | None) -> Decision:
    """What a version decides of a request; ``None``: it failed."""
    if seen is None:
        return {"failed": True}
    answer = seen.answer
    if answer is not None:
        return _answered(answer)
    return {
        "method": seen.method,
        "uri": seen.uri,
        "host": seen.host,
        "upstream": seen.upstream,
        "hash_key": seen.hash_key,
        "cluster_key": _short(seen.cluster_key),
        "headers": _headers(seen),
    }


def response_decision(request: HookRequest, seen: HookResponse | None) -> Decision:
    """What a version decides of a reply; ``None``: it failed."""
    if seen is None:
        return {"failed": True}
    if request.answer is not None:
        return _answered(request.answer)
    return {"status": seen.status, "headers": _headers(seen)}


def _answered(answer: Answer) -> Decision:
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
