"""How large a hook's values may be, and what a comparison or a text of one may cost.

A tick of the budget is heard between two instructions, not within one function written
in C.  So whatever one such function works on is bounded, to well below the budget.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from slardar.hooks.budget import charge

__all__ = [
    "ATOMS",
    "CONTAINERS",
    "HASHED",
    "ITEMS",
    "KEPT",
    "KEPT_ITEM",
    "KEYS",
    "MAX_BITS",
    "MAX_ITEMS",
    "MAX_TEXT",
    "VIEWS",
    "bounded",
    "check_key",
    "colliding",
    "listed",
    "text_of",
    "weigh",
]

#: Characters of a text, or bytes.
MAX_TEXT: Final = 1 << 20
#: Items of a list, a tuple, a dict or a set.
MAX_ITEMS: Final = 1 << 16
#: Bits of an integer; 1,233 decimal digits.
MAX_BITS: Final = 4096
#: Items, counted through all levels, of a container that is compared, hashed or shown;
#: a long text, or an integer of many bits, counts for more than one.
MAX_WEIGHT: Final = 10_000
#: Levels of such a container.
MAX_DEPTH: Final = 50
#: What is smaller is not counted when it is made, for most of it is gone with the next
#: line; it is when it is put where it may stay.
SMALL: Final = 256
#: Bytes of an entry of a dict or a set; and of an item of a list with what it is likely
#: to hold, a small text or a number of its own.
KEPT: Final = 100
KEPT_ITEM: Final = 64

ATOMS: Final = frozenset((str, int, float, bool, bytes, type(None)))
CONTAINERS: Final = frozenset((list, tuple, dict, set, frozenset))
#: Those that compare what they hold by its hash first.
HASHED: Final = frozenset((dict, set, frozenset))
#: Views of dicts.
KEYS: Final[type] = type({}.keys())
ITEMS: Final[type] = type({}.items())
VIEWS: Final = frozenset((KEYS, ITEMS, type({}.values())))
#: An integer's hash is itself below this, and can be made to collide above.
_MAX_KEY: Final = 1 << 60


def bounded(value: Any) -> Any:
    """A text or a sequence that was just made, if it is not too large.

    Raises ValueError, or OutOfMemory.
    """
    size = len(value)
    if size > SMALL:
        if type(value) is str:
            if size > MAX_TEXT:
                raise ValueError(f"expected a text of at most {MAX_TEXT} characters, got {size}")
            # A character is one byte, two or four, by the widest of them.
            charge(value.__sizeof__())
        elif type(value) is bytes:
            if size > MAX_TEXT:
                raise ValueError(f"expected at most {MAX_TEXT} bytes, got {size}")
            charge(size)
        else:
            check_size(size)
            charge(size * (8 if type(value) in (list, tuple) else KEPT))
    return value


def check_size(size: int) -> None:
    """Raises ValueError for more items than a container may have."""
    if size > MAX_ITEMS:
        raise ValueError(f"expected at most {MAX_ITEMS} items, got {size}")


def listed(items: Any) -> list[Any]:
    """The items of anything that can be iterated over, as a new list.

    Raises TypeError, ValueError, or OutOfMemory.
    """
    kind = type(items)
    if kind is range:
        check_size(len(items))
        charge(len(items) * 32)
    elif kind in CONTAINERS or kind is str or kind is bytes or kind in VIEWS:
        check_size(len(items))
    elif kind not in ITERABLE:
        raise TypeError(f"expected something to iterate over, got {name_of(items)}")
    # An iterator does not say how long it is.
    made = list(islice(items, MAX_ITEMS + 1))
    if len(made) > SMALL:
        check_size(len(made))
        # Each character that is not of Latin-1 becomes a text of its own.
        charge(len(made) * (8 if kind is not str or items.isascii() else 84))
    return made


#: What may be iterated over; engines add their own types.
ITERABLE: Final[set[type]] = {
    *CONTAINERS,
    *VIEWS,
    str,
    bytes,
    range,
    type(iter([])),
    type(iter(())),
    type(iter("")),
    type(iter("é")),
    type(iter(b"")),
    type(iter({})),
    type(iter({}.values())),
    type(iter({}.items())),
    type(iter(set())),
    type(iter(range(1))),
}


def weigh(value: Any) -> int:
    """How many steps it takes to compare, hash or show a value.

    Counts what is there several times as often as it is there, as those do.  Keys that
    are tuples can be made to collide, so that each is compared with every other one: they
    count as so many pairs, of which a hundred take as long as an item.  Raises ValueError
    past the limits, and TypeError for what has no business there.
    """
    weight = 1
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for one in level:
            kind = type(one)
            if kind is str or kind is bytes:
                weight += len(one) >> 8
            elif kind is int:
                weight += one.bit_length() >> 8
            elif kind in ATOMS:
                pass
            elif kind in CONTAINERS:
                weight += len(one) * (2 if kind is dict else 1)
                if weight > MAX_WEIGHT:
                    break
                below.extend(one)
                if kind is dict:
                    below.extend(one.values())
                if kind in HASHED and len(one) > 16:
                    weight += colliding(one) ** 2 >> 7
            elif isinstance(one, BaseException):
                weight += len(one.args)
                if weight > MAX_WEIGHT:
                    break
                below.extend(one.args)
            elif kind in VIEWS:
                raise TypeError("expected a list, got a view of a dict; use list(...)")
        if weight > MAX_WEIGHT:
            raise ValueError(f"expected at most {MAX_WEIGHT} items through all levels")
        if not below:
            return weight
        level = below
    raise ValueError(f"expected at most {MAX_DEPTH} levels")


def colliding(keys: Any) -> int:
    """How many of the keys of a dict, or the items of a set, may have the same hash."""
    return sum([type(one) not in ATOMS for one in keys])


def check_key(key: Any) -> Any:
    """A value that is about to be hashed.  Raises ValueError or TypeError."""
    kind = type(key)
    if kind is str:
        return key
    if kind is int:
        if -_MAX_KEY < key < _MAX_KEY:
            return key
        raise ValueError("expected a key of at most 60 bits")
    if kind is tuple or kind is frozenset:
        weigh(key)
        # What it holds is hashed as well.
        for one in key:
            check_key(one)
    return key


def name_of(value: Any) -> str:
    """What kind of thing it is, for messages."""
    if value is None:
        return "None"
    name = type(value).__name__
    return {
        "function": "a function",
        "builtin_function_or_method": "a function",
        "method": "a function",
        "int": "an int",
    }.get(name, f"a {name.strip('_').lower() if name[:1] == '_' else name}")


#: Types of which a text may be made, besides those above.
SHOWN: Final[set[type]] = {range}


def text_of(value: Any, show: Any = str) -> str:
    """``str`` or ``repr`` of a value, for anything that a hook may have.

    Raises ValueError for what would be too large.
    """
    kind = type(value)
    if kind is str and show is str:
        return value  # type: ignore[no-any-return]
    if kind is int:
        if value.bit_length() > MAX_BITS:
            raise ValueError(f"expected an integer of at most {MAX_BITS} bits")
        return str(value)
    if kind in ATOMS:
        text: str = show(value)
    elif kind in CONTAINERS:
        weigh(value)
        if not _all_shown(value):
            raise TypeError("expected texts, numbers and containers of these")
        text = repr(value)
    elif isinstance(value, BaseException):
        weigh(value)
        text = _text_of_error(value)
        if show is repr:
            text = f"{kind.__name__}({text!r})"
    elif kind in SHOWN:
        text = show(value)
    else:
        text = f"<{name_of(value)[2:]}>"
    bounded(text)
    return text


def _text_of_error(error: BaseException) -> str:
    """The texts of what it was made with, one that was weighed."""
    # str() of a KeyError is the repr() of its key, which is nobody's wish.
    texts = [
        _text_of_error(one) if isinstance(one, BaseException) else text_of(one)
        for one in error.args[:10]
    ]
    return texts[0] if len(texts) == 1 else ", ".join(texts)


def _all_shown(value: Any) -> bool:
    level = [value]
    while level:
        below: list[Any] = []
        for one in level:
            kind = type(one)
            if kind in CONTAINERS:
                below.extend(one)
                if kind is dict:
                    below.extend(one.values())
            elif kind not in ATOMS and kind not in SHOWN:
                return False
        level = below
    return True
