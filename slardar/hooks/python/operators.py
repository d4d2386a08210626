"""The operators of hooks, with limits of what they make.

The policy (:mod:`slardar.hooks.python.policy`) turns ``a + b`` into ``_add_(a, b)`` and so
on.  Each operator raises TypeError for values that it does not take, ValueError past a limit,
and OutOfMemory.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, Final

from slardar.hooks.budget import charge
from slardar.hooks.python.limits import (
    ATOMS,
    CONTAINERS,
    ITEMS,
    ITERABLE,
    KEPT_ITEM,
    KEYS,
    MAX_BITS,
    MAX_ITEMS,
    MAX_TEXT,
    SMALL,
    VIEWS,
    bounded,
    check_key,
    check_size,
    colliding,
    listed,
    name_of,
    text_of,
    weigh,
)
from slardar.hooks.python.sets import CHANGES, OPERATIONS, copied, is_small, joined

__all__ = [
    "OPERATORS",
    "as_step",
    "change_set",
    "extended",
    "formatted",
    "integer",
    "of_sets",
    "percent",
]

_NUMBERS: Final = frozenset((int, float, bool))
_SETS: Final = frozenset((set, frozenset))
#: The most bytes and characters that one search through a list may compare.
_MAX_SEARCH: Final = 1 << 24


def integer(value: Any) -> Any:
    """Return a number that an operator made, and charge for it.  Raises ValueError if it is
    too large."""
    if type(value) is int and value.bit_length() > SMALL:
        if value.bit_length() > MAX_BITS:
            raise ValueError(f"expected an integer of at most {MAX_BITS} bits")
        charge(value.bit_length() >> 3)
    if type(value) is complex:
        raise ValueError("expected no root of a negative number")
    return value


def _wrong(sign: str, left: Any, right: Any) -> TypeError:
    return TypeError(f"expected two values that {sign} takes, got {name_of(left)}"
                     f" and {name_of(right)}")  # fmt: skip


def add(left: Any, right: Any) -> Any:
    """``+``, of numbers and of texts, bytes, lists and tuples."""
    kind = type(left)
    if kind is str and type(right) is str:
        made = left + right
        return made if len(made) <= 256 else bounded(made)
    if kind in _NUMBERS and type(right) in _NUMBERS:
        return integer(left + right)
    if kind is type(right) and kind in (list, tuple, bytes):
        check_size(len(left) + len(right) if kind is not bytes else 0)
        return bounded(left + right)
    raise _wrong("+", left, right)


def subtract(left: Any, right: Any) -> Any:
    """``-``, of numbers and of sets."""
    if type(left) in _NUMBERS and type(right) in _NUMBERS:
        return integer(left - right)
    if type(left) in _SETS and type(right) in _SETS:
        return of_sets("difference", left, right)
    raise _wrong("-", left, right)


def of_sets(name: str, left: Any, right: Any) -> Any:
    """A new set of the type of ``left``; ``name`` is the method of sets that makes it."""
    if is_small(left, right):
        return getattr(left, name)(right)
    if name != "difference":
        check_size(len(left) + len(right))
    made = OPERATIONS[name](left, right)
    return bounded(made if type(left) is set else frozenset(made))


def change_set(name: str, left: set[Any], right: Any) -> None:
    """Change the set ``left`` in place; ``name`` is the method of sets that changes it."""
    if is_small(left, right):
        getattr(left, name)(right)
        return
    check_size(len(left) + len(right))
    charge(100 * len(right))
    CHANGES[name](left, right)


def multiply(left: Any, right: Any) -> Any:
    """``*``, of numbers, and of a text or a list and an integer."""
    if type(left) in _NUMBERS:
        if type(right) in _NUMBERS:
            return integer(left * right)
        left, right = right, left
    if type(right) in (int, bool) and type(left) in (str, bytes, list, tuple):
        size = len(left) * max(right, 0)
        if size > (MAX_TEXT if type(left) in (str, bytes) else MAX_ITEMS):
            raise ValueError(f"expected a {type(left).__name__} that is shorter than {size}")
        return bounded(left * right)
    raise _wrong("*", left, right)


def power(left: Any, right: Any) -> Any:
    """``**``, of numbers."""
    if type(left) not in _NUMBERS or type(right) not in _NUMBERS:
        raise _wrong("**", left, right)
    if type(left) is not float and type(right) is not float and right > 0:
        bits = int(left).bit_length()
        if bits > 1 and bits * right > MAX_BITS + bits:
            raise ValueError(f"expected an integer of at most {MAX_BITS} bits")
    return integer(left**right)


def shift_left(left: Any, right: Any) -> Any:
    """``<<``, of integers."""
    if type(left) not in (int, bool) or type(right) not in (int, bool):
        raise _wrong("<<", left, right)
    if right > MAX_BITS:
        raise ValueError(f"expected an integer of at most {MAX_BITS} bits")
    return integer(left << right)


def remainder(left: Any, right: Any) -> Any:
    """``%``, of numbers, and of a text and the values for its fields."""
    if type(left) in _NUMBERS and type(right) in _NUMBERS:
        return left % right
    if type(left) is str:
        return percent(left, right)
    raise _wrong("%", left, right)


_FIELD: Final = re.compile(
    r"%(?:\((?P<key>[^()]*)\))?(?P<flags>[-+ #0]*)(?P<width>\d*)(?P<dot>(?:\.\d*)?)(?P<kind>.?)",
    re.DOTALL,
)


def percent(form: str, values: Any) -> str:
    """``form % values``, of texts and numbers, with fields of at most 999 characters."""
    given = values if type(values) is tuple else (values,)
    pieces: list[str] = []
    place = end = size = 0
    for field in _FIELD.finditer(form):
        key, flags, width, dot, kind = field.groups()
        pieces.append(form[end : field.start()])
        end = field.end()
        if kind == "%":
            pieces.append("%")
            continue
        if kind == "" or kind not in "srdixXofFeEgGc":
            raise ValueError(f"expected %s, %d, %f, %x or the like, got {field[0][:20]!r}")
        if len(flags) > 5 or len(width) > 3 or len(dot) > 3:
            raise ValueError("expected fields of at most 999 characters")
        if key is not None:
            if type(values) is not dict:
                raise TypeError("expected a dict for %(name)s")
            value = values[key]
        elif place < len(given):
            value = given[place]
            place += 1
        else:
            raise TypeError("expected as many values as there are fields")
        if kind in "sr":
            value = text_of(value, str if kind == "s" else repr)
            kind = "s"
        elif type(value) not in _NUMBERS and not (kind == "c" and type(value) is str):
            raise TypeError(f"expected a number for {field[0][:20]}, got {name_of(value)}")
        one = f"%{flags}{width}{dot}{kind}" % (integer(value),)
        size += len(one)
        if size > MAX_TEXT:
            raise ValueError(f"expected a text of at most {MAX_TEXT} characters")
        pieces.append(one)
    if place < len(given) and type(values) is not dict:
        raise TypeError("expected as many fields as there are values")
    pieces.append(form[end:])
    return _bounded_text("".join(pieces))


def _bounded_text(text: str) -> str:
    bounded(text)
    return text


def _plain(sign: str, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operator of numbers only, whose result is not larger than the numbers."""

    def apply(left: Any, right: Any) -> Any:
        if type(left) in _NUMBERS and type(right) in _NUMBERS:
            return function(left, right)
        raise _wrong(sign, left, right)

    return apply


def _of_bits(
    sign: str, function: Callable[[Any, Any], Any], name: str
) -> Callable[[Any, Any], Any]:
    """``&``, ``|`` or ``^``, of integers and of sets; ``|`` also of dicts."""

    def apply(left: Any, right: Any) -> Any:
        kind = type(left)
        if kind in _NUMBERS and type(right) in _NUMBERS:
            return function(left, right)
        if kind in _SETS and type(right) in _SETS:
            return of_sets(name, left, right)
        if sign == "|" and kind is dict and type(right) is dict:
            check_size(len(left) + len(right))
            return bounded(joined(copied(left), right))
        raise _wrong(sign, left, right)

    return apply


def extended(left: list[Any], right: Any) -> list[Any]:
    """Put more items at the end of a list, and return the same list."""
    items = listed(right)
    check_size(len(left) + len(items))
    if len(items) <= SMALL:
        # ``listed`` has charged for more items.
        charge(KEPT_ITEM * len(items))
    left.extend(items)
    return left


def _add_to(left: Any, right: Any) -> Any:
    return extended(left, right) if type(left) is list else add(left, right)


def _changed(name: str, other: str) -> Callable[[Any, Any], Any]:
    """``-=``, ``&=`` or ``^=``, which change a set in place, since others may hold it."""

    def apply(left: Any, right: Any) -> Any:
        if type(left) is set and type(right) in _SETS:
            change_set(name, left, right)
            return left
        return OPERATORS[other](left, right)

    return apply


def _join_to(left: Any, right: Any) -> Any:
    # As in Python, the change is in place: others may hold the same dict or set.
    if type(left) is dict and type(right) is dict:
        check_size(len(left) + len(right))
        charge(100 * len(right))
        return joined(left, right)
    if type(left) is set and type(right) in _SETS:
        change_set("update", left, right)
        return left
    return OPERATORS["_or_"](left, right)


def unary(value: Any) -> Any:
    """Check the operand of ``-``, ``+`` and ``~``."""
    if type(value) in _NUMBERS:
        return value
    raise TypeError(f"expected a number, got {name_of(value)}")


def compared(value: Any) -> Any:
    """Weigh one side of a comparison, which limits the work for both sides."""
    kind = type(value)
    if kind not in ATOMS and (kind in CONTAINERS or kind in ITERABLE):
        weigh(value)
    return value


def compared_with(value: Any) -> Any:
    """Check the other side: a view of a dict hashes what it holds, whatever the first side is."""
    if type(value) in VIEWS:
        weigh(value)
    return value


def within(value: Any, container: Any) -> bool:
    """``value in container``."""
    kind = type(container)
    if kind is dict or kind in _SETS or kind is KEYS:
        check_key(value)
    elif kind is list or kind is tuple:
        if type(value) in (str, bytes):
            if len(value) * len(container) > _MAX_SEARCH:
                raise ValueError("expected a shorter list, or a shorter text to look for")
        elif type(value) not in ATOMS and weigh(value) * len(container) > MAX_ITEMS:
            raise ValueError("expected a shorter list, or less to look for")
    elif kind is ITEMS:
        if type(value) is not tuple or len(value) != 2:
            return False
        check_key(value[0])
        weigh(value[1])
    elif kind is range:
        step = as_step(value)
        return step is not None and step in container
    elif kind in ITERABLE and not hasattr(kind, "__contains__"):
        return _is_among(value, container)
    return value in container


def _is_among(value: Any, items: Any) -> bool:
    """Look at the items one by one, since an iterator tells neither their number nor size."""
    if type(value) not in ATOMS:
        weigh(value)
    return any(one is value or one == value for one in items)


def as_step(value: Any) -> int | None:
    """The integer that a value equals, or None.

    For any other value, Python would walk through a whole range.
    """
    if type(value) is float and value.is_integer():
        return int(value)
    return int(value) if type(value) in (int, bool) else None


_SPEC: Final = re.compile(
    r"(?:.?[<>=^])?[-+ ]?#?0?(\d{0,3})[,_]?(?:\.(\d{1,2}))?[bcdeEfFgGnosxX%]?", re.DOTALL
)


def formatted(value: Any, conversion: str = "", spec: str = "") -> str:
    """One field of an f-string."""
    if conversion or type(value) not in (str, int, float, bool) or not spec:
        value = text_of(value, {"r": repr, "a": ascii}.get(conversion, str))
        if conversion == "a":
            value = value.encode("ascii", "backslashreplace").decode()
    if not spec:
        return value if type(value) is str else text_of(value)
    if _SPEC.fullmatch(spec) is None:
        raise ValueError(
            f"expected a format such as >20 or .2f, of at most 999 characters, got {spec[:20]!r}"
        )
    if type(value) is int and value.bit_length() > MAX_BITS:
        raise ValueError(f"expected an integer of at most {MAX_BITS} bits")
    return _bounded_text(format(value, spec))


def _unpacked(items: Any) -> list[Any]:
    """The items behind a ``*``."""
    return listed(items)


#: The most keys behind a ``*`` or ``**`` of a display that can be chosen to have one hash.
_MAX_COLLIDING: Final = 256


def _unpacked_keys(items: Any) -> list[Any]:
    made = listed(items)
    for one in made:
        check_key(one)
    _check_colliding(made)
    return made


def _check_colliding(keys: Any) -> None:
    """Raise ValueError for too many keys that may have one hash: Python inserts all at once."""
    if len(keys) > _MAX_COLLIDING and colliding(keys) > _MAX_COLLIDING:
        raise ValueError(f"expected at most {_MAX_COLLIDING} keys that are tuples behind a star")


def _unpacked_dict(items: Any) -> dict[Any, Any]:
    """The dict behind a ``**``."""
    if type(items) is not dict:
        raise TypeError(f"expected a dict behind **, got {name_of(items)}")
    check_size(len(items))
    _check_colliding(items)
    charge(100 * len(items))
    return items


def iterated(items: Any) -> Any:
    """Check what a loop iterates over."""
    if type(items) in ITERABLE:
        return items
    raise TypeError(f"expected something to iterate over, got {name_of(items)}")


#: The operators, by the names that the policy writes into the code.
OPERATORS: Final[dict[str, Callable[..., Any]]] = {
    "_add_": add,
    "_sub_": subtract,
    "_mult_": multiply,
    "_pow_": power,
    "_mod_": remainder,
    "_lshift_": shift_left,
    "_rshift_": _plain(">>", operator.rshift),
    "_div_": _plain("/", operator.truediv),
    "_floordiv_": _plain("//", operator.floordiv),
    "_and_": _of_bits("&", operator.and_, "intersection"),
    "_or_": _of_bits("|", operator.or_, "union"),
    "_xor_": _of_bits("^", operator.xor, "symmetric_difference"),
    "_iadd_": _add_to,
    "_ior_": _join_to,
    "_isub_": _changed("difference_update", "_sub_"),
    "_iand_": _changed("intersection_update", "_and_"),
    "_ixor_": _changed("symmetric_difference_update", "_xor_"),
    "_unary_": unary,
    "_compared_": compared,
    "_comparedwith_": compared_with,
    "_in_": within,
    "_format_": formatted,
    "_text_": _bounded_text,
    "_star_": _unpacked,
    "_starkeys_": _unpacked_keys,
    "_stardict_": _unpacked_dict,
    "_getiter_": iterated,
    "_key_": check_key,
}
