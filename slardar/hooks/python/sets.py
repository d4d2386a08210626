"""Operations on whole sets and dicts, as loops that a tick of the budget can stop.

Python does such an operation at once.  If keys have one hash, Python compares each with all
others, and two sets of some thousand tuples that are made for it take seconds.  Here an
operation on large sets or dicts is a loop, and a tick can end the call between two turns.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["CHANGES", "OPERATIONS", "TESTS", "copied", "is_small", "joined"]

#: The most items of both sides together that Python's own functions may work on: 1 ms at
#: worst.
_SMALL: Final = 256


def is_small(left: Any, right: Any) -> bool:
    """Whether Python's own functions may do an operation on both."""
    return len(left) + len(right) <= _SMALL


def copied(value: dict[Any, Any]) -> dict[Any, Any]:
    """A copy of a dict.

    Python compares keys when it copies a dict from which items were deleted.
    """
    if len(value) <= _SMALL:
        return value.copy()
    made = {}
    for key, one in value.items():
        made[key] = one
    return made


def joined(left: dict[Any, Any], right: dict[Any, Any]) -> dict[Any, Any]:
    """Put the items of ``right`` into ``left``, and return ``left``."""
    if left is right or is_small(left, right):
        left.update(right)
    else:
        for key, one in right.items():
            left[key] = one
    return left


def _union(left: Any, right: Any) -> set[Any]:
    # Copying a whole set compares no items.
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


#: The operations by the names of a set's methods: those that make another set, those that
#: change the set, and those that return True or False.
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
