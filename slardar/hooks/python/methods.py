"""The methods of texts, bytes and containers in hooks, with limits of their results.

A method whose result is never larger than its text needs no limit for a short text.  For a
short text hooks get Python's own method then.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Callable
from typing import Any, Final

from slardar.hooks.budget import charge
from slardar.hooks.python.limits import (
    ATOMS,
    KEPT,
    KEPT_ITEM,
    MAX_ITEMS,
    MAX_TEXT,
    bounded,
    check_key,
    check_size,
    listed,
    name_of,
    weigh,
)
from slardar.hooks.python.operators import (
    as_step,
    change_set,
    compared,
    extended,
    of_sets,
    within,
)
from slardar.hooks.python.sets import CHANGES, TESTS, copied

__all__ = ["METHODS", "TEXT_METHODS", "sorted_list"]

#: The most items that one sort takes, and the most characters of all items together.
MAX_SORT: Final = 10_000
_MAX_SORTED_TEXT: Final = 1 << 18
_ENCODINGS: Final = frozenset(("utf-8", "utf8", "ascii", "latin-1", "latin1", "iso-8859-1"))
_ON_ERROR: Final = frozenset(
    ("strict", "ignore", "replace", "backslashreplace", "xmlcharrefreplace", "surrogateescape")
)

#: With these, Python calls a function for each character or byte that it cannot convert.
_SLOW: Final = frozenset(("backslashreplace", "xmlcharrefreplace"))
#: The characters, or bytes, of one piece if each of them takes long.
_PIECE: Final = 1 << 14

#: Methods of texts and of bytes whose result is at most three times as large ("ß".upper()).
_SAME_SIZE: Final = frozenset((
    "capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha",
    "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable",
    "isspace", "istitle", "isupper", "lower", "lstrip", "partition", "removeprefix",
    "removesuffix", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "swapcase", "title", "upper",
))  # fmt: skip
_PARTS: Final = frozenset(("split", "rsplit", "splitlines"))
#: These look up the case of each character, which takes much longer than a copy.
_CASES: Final = frozenset(("capitalize", "casefold", "lower", "swapcase", "title", "upper"))
_MAX_CASES: Final = 1 << 18
#: A search from the end takes time by the product of both lengths, unlike one from the start.
_BACKWARDS: Final = frozenset(("rfind", "rindex", "rpartition", "rsplit"))
_MAX_BACKWARDS: Final = 1 << 26
#: These look for each character of a text among the characters to strip.
_STRIPS: Final = frozenset(("lstrip", "rstrip", "strip"))
_MAX_STRIPPED: Final = 100


def of_long_text(value: Any, name: str) -> Callable[..., Any]:
    """A method in ``_SAME_SIZE`` of a text, or of bytes, that may be long."""
    method = getattr(value, name)

    def call(*arguments: Any, **named: Any) -> Any:
        if len(value) > MAX_TEXT:
            raise ValueError(f"expected a text of at most {MAX_TEXT} characters")
        if name in _CASES and len(value) > _MAX_CASES:
            raise ValueError(f"expected a text of at most {_MAX_CASES} characters")
        for one in (*arguments, *named.values()):
            if type(one) is tuple and len(one) > 100:
                raise ValueError("expected at most 100 texts to compare with")
            if type(one) is type(value):
                if name in _STRIPS and len(one) > _MAX_STRIPPED:
                    raise ValueError(f"expected at most {_MAX_STRIPPED} characters to strip")
                if name in _BACKWARDS and len(one) * len(value) > _MAX_BACKWARDS:
                    raise ValueError("expected a shorter text to look for from the end")
        if name in _PARTS:
            _charge_parts(value, arguments, named)
        made = method(*arguments, **named)
        return bounded(made) if type(made) in (str, bytes, list) else made

    return call


def _charge_parts(value: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Charge for the result of a split: a list of short texts is much larger than the text."""
    between: Any = arguments[0] if arguments else named.get("sep")
    limit = arguments[1] if len(arguments) > 1 else named.get("maxsplit", -1)
    if type(between) is type(value) and between:
        parts = value.count(between) + 1
    else:
        parts = len(value) // 2 + 1
    if type(limit) is int and limit >= 0:
        parts = min(parts, limit + 1)
    if between is not None and type(between) in (str, bytes):
        check_size(parts)
    charge(parts * 60 + value.__sizeof__())


def _checked_coding(encoding: Any, errors: Any) -> tuple[str, str]:
    if type(encoding) is not str or encoding.lower() not in _ENCODINGS:
        raise ValueError("expected utf-8, ascii or latin-1")
    if errors not in _ON_ERROR:
        raise ValueError("expected strict, ignore, replace or backslashreplace")
    return encoding, errors


def _encode(value: str, encoding: str = "utf-8", errors: str = "strict") -> bytes:
    coding = _checked_coding(encoding, errors)
    if errors not in _SLOW or len(value) <= _PIECE:
        return bounded(value.encode(*coding))  # type: ignore[no-any-return]
    return _in_pieces(value, lambda piece: piece.encode(*coding))  # type: ignore[no-any-return]


def _decode(value: bytes, encoding: str = "utf-8", errors: str = "strict") -> str:
    coding = _checked_coding(encoding, errors)
    if errors not in _SLOW or len(value) <= _PIECE:
        return bounded(value.decode(*coding))  # type: ignore[no-any-return]
    decoder = getincrementaldecoder(encoding)(errors)
    made = _in_pieces(value, decoder.decode)
    return bounded(made + decoder.decode(b"", True))  # type: ignore[no-any-return]


def _in_pieces(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to each piece, so that a tick can end the call between two pieces."""
    pieces = []
    size = 0
    for start in range(0, len(value), _PIECE):
        piece = function(value[start : start + _PIECE])
        pieces.append(piece)
        size += len(piece)
        if size > MAX_TEXT:
            break
    return bounded(pieces[0][:0].join(pieces))


def _join(value: Any, items: Any) -> Any:
    texts = listed(items)
    kind = type(value)
    for one in texts:
        if type(one) is not kind:
            raise TypeError(f"expected {kind.__name__} items to join, got {name_of(one)}")
    size = sum(map(len, texts)) + len(value) * len(texts)
    if size > MAX_TEXT:
        raise ValueError(f"expected a text of at most {MAX_TEXT} characters, got {size}")
    return bounded(value.join(texts))


def _replace(value: Any, old: Any, new: Any, count: int = -1) -> Any:
    if type(old) is not type(value) or type(new) is not type(value) or type(count) is not int:
        raise TypeError(f"expected two of type {type(value).__name__}, and a number")
    if len(new) > len(old):
        places = value.count(old)
        if 0 <= count < places:
            places = count
        if len(value) + places * (len(new) - len(old)) > MAX_TEXT:
            raise ValueError(f"expected a text of at most {MAX_TEXT} characters")
    return bounded(value.replace(old, new, count))


def _padded(name: str) -> Callable[..., Any]:
    def pad(value: Any, width: int, *fill: Any) -> Any:
        if type(width) is not int or width > MAX_TEXT:
            raise ValueError(f"expected a width of at most {MAX_TEXT}")
        return bounded(getattr(value, name)(width, *fill))

    return pad


def _expandtabs(value: str, tabsize: int = 8) -> str:
    if type(tabsize) is not int or not 0 <= tabsize <= 100:
        raise ValueError("expected a tab size from 0 to 100")
    if len(value) + value.count("\t") * tabsize > MAX_TEXT:
        raise ValueError(f"expected a text of at most {MAX_TEXT} characters")
    return bounded(value.expandtabs(tabsize))  # type: ignore[no-any-return]


def _translate(value: str, table: Any) -> str:
    if type(table) is not dict:
        raise TypeError("expected a dict of characters' numbers and texts")
    longest = max((len(one) for one in table.values() if type(one) is str), default=1)
    if len(value) * longest > MAX_TEXT:
        raise ValueError(f"expected a text of at most {MAX_TEXT} characters")
    if len(value) <= _PIECE:
        return bounded(value.translate(table))  # type: ignore[no-any-return]
    return _in_pieces(value, lambda piece: piece.translate(table))  # type: ignore[no-any-return]


# Lists.


def _append(value: list[Any], one: Any) -> None:
    if len(value) >= MAX_ITEMS:
        check_size(len(value) + 1)
    charge(KEPT_ITEM)
    value.append(one)


def _insert(value: list[Any], place: int, one: Any) -> None:
    check_size(len(value) + 1)
    charge(KEPT_ITEM)
    value.insert(place, one)


def _extend(value: list[Any], items: Any) -> None:
    extended(value, items)


def _copy(value: Any) -> Any:
    check_size(len(value))
    return bounded(copied(value) if type(value) is dict else value.copy())


def _index(value: Any, one: Any, *bounds: Any) -> int:
    within(one, value if type(value) in (list, tuple) else ())
    return value.index(one, *bounds)  # type: ignore[no-any-return]


def _count(value: Any, one: Any) -> int:
    within(one, value)
    return value.count(one)  # type: ignore[no-any-return]


def _index_in_range(value: range, one: Any) -> int:
    step = as_step(one)
    if step is None:
        raise ValueError(f"expected one of the range's numbers, got {name_of(one)}")
    return value.index(step)


def _count_in_range(value: range, one: Any) -> int:
    return int(within(one, value))


def _remove(value: list[Any], one: Any) -> None:
    within(one, value)
    value.remove(one)


def sorted_list(items: Any, key: Any = None, reverse: bool = False) -> list[Any]:
    """A new, sorted list of at most :data:`MAX_SORT` items.

    The keys are made first, so that no function of a hook runs while Python sorts.
    """
    made = listed(items)
    if len(made) > MAX_SORT:
        raise ValueError(f"expected at most {MAX_SORT} items to sort, got {len(made)}")
    keys = made if key is None else [key(one) for one in made]
    size = 0
    for one in keys:
        if type(one) in (str, bytes):
            size += len(one)
        elif type(one) not in ATOMS:
            # A sort compares each item about 14 times.
            size += 50 * weigh(one)
    if size > _MAX_SORTED_TEXT:
        raise ValueError("expected fewer items to sort, or shorter ones")
    for one in keys:
        compared(one)
    if key is None:
        return sorted(made, reverse=bool(reverse))
    order = sorted(range(len(made)), key=keys.__getitem__, reverse=bool(reverse))
    return [made[place] for place in order]


def _sort(value: list[Any], key: Any = None, reverse: bool = False) -> None:
    value[:] = sorted_list(value, key, reverse)


# Dicts and sets.


def _get(value: dict[Any, Any], key: Any, default: Any = None) -> Any:
    return value.get(check_key(key), default)


def _setdefault(value: dict[Any, Any], key: Any, default: Any = None) -> Any:
    check_size(len(value) + 1)
    charge(KEPT)
    return value.setdefault(check_key(key), default)


def _pop(value: Any, *arguments: Any) -> Any:
    if arguments:
        check_key(arguments[0])
    return value.pop(*arguments)


def put_all(value: dict[Any, Any], items: Any = (), named: Any = None) -> None:
    """Set the items of a dict or of pairs in ``value`` one by one, and then those ``named``."""
    pairs = listed(items.items() if type(items) is dict else items)
    charge(100 * len(pairs))
    for pair in pairs:
        key, one = pair if type(pair) in (tuple, list) else listed(pair)
        if len(value) >= MAX_ITEMS:
            check_size(len(value) + 1)
        value[check_key(key)] = one
    if named:
        value.update(named)


def _update(value: dict[Any, Any], items: Any = (), **named: Any) -> None:
    put_all(value, items, named)


def add_all(value: set[Any], items: Any) -> set[Any]:
    """Add items to a set one by one, so that a tick can end the call between two items."""
    made = listed(items)
    charge(100 * len(made))
    for one in made:
        value.add(check_key(one))
    check_size(len(value))
    return value


def _add(value: set[Any], one: Any) -> None:
    check_size(len(value) + 1)
    charge(KEPT)
    value.add(check_key(one))


def _discard(value: set[Any], one: Any) -> None:
    value.discard(check_key(one))


def _remove_key(value: set[Any], one: Any) -> None:
    value.remove(check_key(one))


def _update_set(value: set[Any], *others: Any) -> None:
    for other in others:
        add_all(value, other)


def _with_set(name: str) -> Callable[..., Any]:
    """A method of sets that takes other sets, or values that a set can be made of."""

    def apply(value: Any, *others: Any) -> Any:
        made = [other if type(other) in (set, frozenset) else add_all(set(), other)
                for other in others]  # fmt: skip
        check_size(len(value) + sum(map(len, made)))
        if not (len(made) == 1 or (made and name in _OF_SEVERAL)):
            # Without other sets, or with a wrong number of them, Python's own method answers.
            return getattr(value, name)(*made)
        if name in CHANGES:
            for other in made:
                change_set(name, value, other)
            return None
        if name in TESTS:
            return TESTS[name](value, made[0])
        for other in made:
            value = of_sets(name, value, other)
        return value

    return apply


#: The methods of sets that take any number of other sets.
_OF_SEVERAL: Final = frozenset(
    ("difference", "difference_update", "intersection", "intersection_update", "union")
)


def _same(*names: str) -> dict[str, Callable[..., Any] | None]:
    return dict.fromkeys(names)


_OF_SETS: Final[dict[str, Callable[..., Any] | None]] = {
    "copy": _copy,
    **{
        name: _with_set(name)
        for name in (
            "difference",
            "intersection",
            "isdisjoint",
            "issubset",
            "issuperset",
            "symmetric_difference",
            "union",
        )
    },
}

#: The methods by type and name: a function that takes the value first, or None for Python's
#: own method.
METHODS: Final[dict[type, dict[str, Callable[..., Any] | None]]] = {
    str: {
        "encode": _encode,
        "expandtabs": _expandtabs,
        "join": _join,
        "replace": _replace,
        "translate": _translate,
        **{name: _padded(name) for name in ("center", "ljust", "rjust", "zfill")},
    },
    bytes: {
        "decode": _decode,
        "join": _join,
        "replace": _replace,
        "hex": lambda value: bounded(value.hex()),
        **{name: _padded(name) for name in ("center", "ljust", "rjust", "zfill")},
    },
    int: _same("bit_length"),
    bool: {},
    float: _same("is_integer"),
    list: {
        "append": _append,
        "copy": _copy,
        "count": _count,
        "extend": _extend,
        "index": _index,
        "insert": _insert,
        "remove": _remove,
        "sort": _sort,
        **_same("clear", "pop", "reverse"),
    },
    tuple: {"count": _count, "index": _index},
    dict: {
        "copy": _copy,
        "get": _get,
        "pop": _pop,
        "setdefault": _setdefault,
        "update": _update,
        **_same("clear", "items", "keys", "popitem", "values"),
    },
    set: {
        **_OF_SETS,
        "add": _add,
        "discard": _discard,
        "remove": _remove_key,
        "update": _update_set,
        "difference_update": _with_set("difference_update"),
        "intersection_update": _with_set("intersection_update"),
        **_same("clear", "pop"),
    },
    frozenset: _OF_SETS,
    range: {"count": _count_in_range, "index": _index_in_range},
}

#: The methods in ``_SAME_SIZE`` that texts have, and those that bytes have.
TEXT_METHODS: Final[dict[type, frozenset[str]]] = {
    kind: frozenset(name for name in _SAME_SIZE if hasattr(kind, name)) for kind in (str, bytes)
}
