"""Limits of the size of a hook's values, and of the cost to compare them or show them.

A tick of the budget can stop a hook between two instructions, but not within a function that
is written in C.  So everything that such a function works on is limited, to a time well below
the budget.
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

#: The most characters of a text, and bytes of bytes.
MAX_TEXT: Final = 1 << 20
#: The most items of a list, a tuple, a dict or a set.
MAX_ITEMS: Final = 1 << 16
#: The most bits of an integer, which are 1,233 decimal digits.
MAX_BITS: Final = 4096
#: The most items, on all levels, of a container that is compared, hashed or shown.  A long
#: text, or an integer of many bits, counts as more than one item.
MAX_WEIGHT: Final = 10_000
#: The most levels of such a container.
MAX_DEPTH: Final = 50
#: A value with no more characters, bytes, items or bits than this is not charged when it is
#: made, since most such values are gone with the next line.  It is charged when it is put
#: into a container, where it may stay.
SMALL: Final = 256
#: Bytes charged for an entry of a dict or a set; and for an item of a list, with the small
#: text or number that it is likely to hold.
KEPT: Final = 100
KEPT_ITEM: Final = 64

ATOMS: Final = frozenset((str, int, float, bool, bytes, type(None)))
CONTAINERS: Final = frozenset((list, tuple, dict, set, frozenset))
#: The containers that hash what they hold.
HASHED: Final = frozenset((dict, set, frozenset))
#: The types of the views of dicts.
KEYS: Final[type] = type({}.keys())
ITEMS: Final[type] = type({}.items())
VIEWS: Final = frozenset((KEYS, ITEMS, type({}.values())))
#: Below this, an integer is its own hash.  Above, integers can be chosen to have one hash.
_MAX_KEY: Final = 1 << 60


def bounded(value: Any) -> Any:
    """Return a text or a container that was just made, and charge for it.

    Raises ValueError if it is too large, and OutOfMemory.
    """
    size = len(value)
    if size > SMALL:
        if type(value) is str:
            if size > MAX_TEXT:
                raise ValueError(f"expected a text of at most {MAX_TEXT} characters, got {size}")
            # The widest character decides whether each takes one byte, two or four.
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
    """Raise ValueError if ``size`` is more than a container may have."""
    if size > MAX_ITEMS:
        raise ValueError(f"expected at most {MAX_ITEMS} items, got {size}")


def listed(items: Any) -> list[Any]:
    """The items of anything that a hook may iterate over, as a new list.

    Raises TypeError, ValueError or OutOfMemory.
    """
    kind = type(items)
    if kind is range:
        check_size(len(items))
        charge(len(items) * 32)
    elif kind in CONTAINERS or kind is str or kind is bytes or kind in VIEWS:
        check_size(len(items))
    elif kind not in ITERABLE:
        raise TypeError(f"expected something to iterate over, got {name_of(items)}")
    # An iterator does not tell its length.
    made = list(islice(items, MAX_ITEMS + 1))
    if len(made) > SMALL:
        check_size(len(made))
        # Each character beyond Latin-1 becomes a text object of its own.
        charge(len(made) * (8 if kind is not str or items.isascii() else 84))
    return made


#: The types that may be iterated over.  Other modules add their types.
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
    """The number of steps that it takes to compare, hash or show a value.

    An object that is in the value several times counts each time, since it is compared,
    hashed or shown each time.  Keys that are tuples can be chosen to have one hash, so that
    Python compares each key with every other.  Such keys count as pairs, and a hundred pairs
    take about as long as an item.  Raises ValueError past the limits, and TypeError for a
    view of a dict.
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
    """How many keys of a dict, or items of a set, may have been chosen to have one hash."""
    return sum([type(one) not in ATOMS for one in keys])


def check_key(key: Any) -> Any:
    """Return a value that is about to be hashed.  Raises ValueError or TypeError."""
    kind = type(key)
    if kind is str:
        return key
    if kind is int:
        if -_MAX_KEY < key < _MAX_KEY:
            return key
        raise ValueError("expected a key of at most 60 bits")
    if kind is tuple or kind is frozenset:
        weigh(key)
        # Python hashes what the key holds, too.
        for one in key:
            check_key(one)
    return key


def name_of(value: Any) -> str:
    """The kind of a value, for messages."""
    if value is None:
        return "None"
    name = type(value).__name__
    return {
        "function": "a function",
        "builtin_function_or_method": "a function",
        "method": "a function",
        "int": "an int",
    }.get(name, f"a {name.strip('_').lower() if name[:1] == '_' else name}")


#: The types of which a text may be made, besides those above.  Other modules add their types.
SHOWN: Final[set[type]] = {range}


def text_of(value: Any, show: Any = str) -> str:
    """``str`` or ``repr`` (``show``) of any value that a hook may have.

    Raises ValueError if the text would be too large, and TypeError for a container with
    values that may not be shown.
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
    """The texts of the arguments of an error, which was weighed before."""
    # str() of a KeyError would be the repr() of its key, which helps no author.
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
