"""What a shadow is given of a request, and what is compared."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.hooks.effects import seen_reply, seen_request
from slardar.hooks.shadow import Sampler, copied, request_decision, response_decision
from tests.hooks.kit import reply_of, request_of


def test_copy_leads_nowhere() -> None:
    """A copy shares no value that can be changed, however deep it lies."""
    context: dict[str, Any] = {
        "a": [1, 2.5, None, True, b"x", ("y", {"z": [3]})],
        "s": {1, 2},
        5: frozenset("a"),
    }
    copy = copied(context)
    assert copy == context
    assert copy is not None
    copy["a"][5][1]["z"].append(4)
    copy["s"].add(3)
    assert context["a"][5][1]["z"] == [3]
    assert context["s"] == {1, 2}
    assert copied({}) == {}


class Text(str):
    """A value that looks like a plain text and is none."""

    __slots__ = ()


def endless() -> list[Any]:
    """A list that contains itself."""
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "value", [object(), Text("x"), lambda: None, [[object()]], {"a": {Text("k"): 1}}, endless(),
              list(range(2000)), {"a": [[0] * 400] * 3}, iter([])]
)  # fmt: skip
def test_what_is_not_plain_is_not_copied(value: Any) -> None:
    """Nor is a context that is too large to copy for each request."""
    assert copied({"x": value}) is None


def test_sample() -> None:
    """The number of requests in each second is limited, and so is the time."""
    sampler = Sampler()
    assert [sampler.take(5.1) for _ in range(150)].count(True) == 100
    assert sampler.take(6.0)
    sampler.took(60_000_000)
    assert sampler.take(6.1)
    sampler.took(60_000_000)
    assert not sampler.take(6.9)
    assert sampler.take(7.0)


def test_decision_over_a_request() -> None:
    """The decision has everything that a hook can decide."""
    seen = seen_request(request_of("X-A: 1"), {})
    before = request_decision(seen)
    for change in (
        lambda: setattr(seen, "method", "PUT"),
        lambda: setattr(seen, "path", "/x"),
        lambda: setattr(seen, "host", "b.test"),
        lambda: setattr(seen, "upstream", "u"),
        lambda: setattr(seen, "hash_key", "k"),
        lambda: setattr(seen, "cluster_key", ["a"]),
        lambda: seen.headers.add("X-A", "2"),
        lambda: seen.reject(403),
        lambda: seen.reject(403, "why"),
        lambda: seen.respond(403, "why"),
        lambda: seen.respond(403, "why", {"X": "1"}),
    ):
        change()
        assert request_decision(seen) != before
        before = request_decision(seen)
    assert request_decision(None) == {"failed": True}


def test_decision_over_a_reply() -> None:
    """The decision has the status and the headers, or an answer instead."""
    request = seen_request(request_of(), {})
    seen = seen_reply(reply_of("X-A: 1"))
    before = response_decision(request, seen)
    for change in (
        lambda: setattr(seen, "status", 404),
        lambda: seen.headers.remove("x-a"),
        lambda: request.reject(403),
    ):
        change()
        assert response_decision(request, seen) != before
        before = response_decision(request, seen)
    assert response_decision(request, None) == {"failed": True}
