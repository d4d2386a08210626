"""What a hook does to whole sets and dicts, in pieces.

Python does such things at once, and for keys whose hashes are the same it compares each
with all others: two sets of some thousand tuples, made for that, take seconds.  Here it is
a loop from some size on, between whose turns the budget's ticks are heard.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["CHANGES", "OPERATIONS", "TESTS", "copied", "is_small", "joined"]

#: Items of both sides together that Python's own functions may work on: a millisecond at
#: the worst.
_SMALL: Final = 256


def is_small(left: Any, right: Any) -> bool:
    """Whether Python may do it at once."""
    return len(left) + len(right) <= _SMALL


def copied(value: dict[Any, Any]) -> dict[Any, Any]:
    """A copy of a dict: of one that items were deleted of, Python compares the keys."""
    if len(value) <= _SMALL:
        return value.copy()
    made = {}
    for key, one in value.items():
        made[key] = one
    return made


def joined(left: dict[Any, Any], right: dict[Any, Any]) -> dict[Any, Any]:
    """``left``, with the items of ``right``."""
    if left is right or is_small(left, right):
        left.update(right)
    else:
        for key, one in right.items():
            left[key] = one
    return left


def _union(left: Any, right: Any) -> set[Any]:
    # To copy a whole set compares nothing.
    made = set(left)
    for one in right:
        made.add(one)
    return made


def _intersection(left: Any, right: Any) -> set[Any]:
    if len(right) < len(left):
        left, right = right, left
    return {one for one in left if one in right}


def _difference(left: Any, right: Any) -> set[Any]:
    return {one for one in left if one not in right}


def _symmetric_difference(left: Any, right: Any) -> set[Any]:
    made = _difference(left, right)
    for one in right:
        if one not in left:
            made.add(one)
    return made


def _update(left: set[Any], right: Any) -> None:
    if left is not right:
        for one in right:
            left.add(one)


def _difference_update(left: set[Any], right: Any) -> None:
    if left is right:
        left.clear()
        return
    for one in right:
        left.discard(one)


def _intersection_update(left: set[Any], right: Any) -> None:
    for one in list(left):
        if one not in right:
            left.discard(one)


def _symmetric_difference_update(left: set[Any], right: Any) -> None:
    if left is right:
        left.clear()
        return
    for one in right:
        if one in left:
            left.discard(one)
        else:
            left.add(one)


def _is_subset(left: Any, right: Any) -> bool:
    return len(left) <= len(right) and all(one in right for one in left)


def _is_superset(left: Any, right: Any) -> bool:
    return _is_subset(right, left)


def _is_disjoint(left: Any, right: Any) -> bool:
    return not _intersection(left, right)


#: By the names of a set's methods: those that make another set, those that change it, and
#: those that answer True or False.
OPERATIONS: Final = {
    "difference": _difference,
    "intersection": _intersection,
    "symmetric_difference": _symmetric_difference,
    "union": _union,
}
CHANGES: Final = {
    "difference_update": _difference_update,
    "intersection_update": _intersection_update,
    "symmetric_difference_update": _symmetric_difference_update,
    "update": _update,
}
TESTS: Final = {
    "isdisjoint": _is_disjoint,
    "issubset": _is_subset,
    "issuperset": _is_superset,
}
