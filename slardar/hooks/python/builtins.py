"""The builtins that hooks have: those of Python, with limits where Python has none.

``zip``, ``map`` and ``enumerate`` compute all items at once, while Python's compute them step
by step: some thousands of iterators within iterators crash the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from slardar.hooks.budget import charge
from slardar.hooks.errno import Errno
from slardar.hooks.headers import Headers
from slardar.hooks.objects import HookRequest, HookResponse, Query
from slardar.hooks.python.attributes import GUARDS, Settings
from slardar.hooks.python.limits import (
    ATOMS,
    MAX_BITS,
    MAX_TEXT,
    SHOWN,
    bounded,
    listed,
    name_of,
    text_of,
    weigh,
)
from slardar.hooks.python.methods import add_all, put_all, sorted_list
from slardar.hooks.python.operators import OPERATORS, integer, iterated, power

__all__ = ["BUILTINS", "EXCEPTIONS"]

_NUMBERS: Final = (int, float, bool)
#: The most digits of an integer or a float that is read from a text.
_MAX_DIGITS: Final = 1233
#: The most things that one ``zip`` takes.
_MAX_ZIPPED: Final = 1000


class Kind:
    """A type as hooks have it: they can call it, and use it in ``isinstance``."""

    __slots__ = ("_make", "kind", "name")

    def __init__(self, kind: type | tuple[type, ...], name: str, make: Callable[..., Any]) -> None:
        self.kind = kind
        self.name = name
        self._make = make

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._make(*arguments, **named)

    def __repr__(self) -> str:
        return f"<{self.name}>"


SHOWN.add(Kind)


def _str(value: Any = "", encoding: Any = None) -> str:
    if encoding is not None and type(value) is bytes:
        return GUARDS["_getattr_"](value, "decode")(encoding)  # type: ignore[no-any-return]
    return text_of(value)


def _int(value: Any = 0, base: Any = None) -> int:
    if type(value) in (str, bytes):
        if len(value) > _MAX_DIGITS:
            raise ValueError(f"expected at most {_MAX_DIGITS} digits")
        return integer(int(value) if base is None else int(value, base))  # type: ignore[no-any-return]
    if type(value) not in _NUMBERS or base is not None:
        raise TypeError(f"expected a number or a text of one, got {name_of(value)}")
    return int(value)


def _float(value: Any = 0.0) -> float:
    if type(value) in (str, bytes) and len(value) > _MAX_DIGITS:
        raise ValueError(f"expected at most {_MAX_DIGITS} digits")
    if type(value) not in (str, bytes, *_NUMBERS):
        raise TypeError(f"expected a number or a text of one, got {name_of(value)}")
    return float(value)


def _bool(value: Any = False) -> bool:
    return bool(value)


def _bytes(value: Any = b"", encoding: Any = None) -> bytes:
    if type(value) is str:
        return GUARDS["_getattr_"](value, "encode")(encoding or "utf-8")  # type: ignore[no-any-return]
    if type(value) is int:
        if value > MAX_TEXT:
            raise ValueError(f"expected at most {MAX_TEXT} bytes")
        return bounded(bytes(value))  # type: ignore[no-any-return]
    return value if type(value) is bytes else bounded(bytes(listed(value)))


def _list(items: Any = ()) -> list[Any]:
    return listed(items)


def _tuple(items: Any = ()) -> tuple[Any, ...]:
    return items if type(items) is tuple else bounded(tuple(listed(items)))


def _dict(items: Any = (), **named: Any) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    put_all(made, items, named)
    return made


def _set(items: Any = ()) -> set[Any]:
    return add_all(set(), items)


def _frozenset(items: Any = ()) -> frozenset[Any]:
    return items if type(items) is frozenset else bounded(frozenset(add_all(set(), items)))


def _range(*arguments: Any) -> range:
    if not all(type(one) in (int, bool) for one in arguments):
        raise TypeError("expected integers")
    made = range(*arguments)
    if not all(abs(one) <= 1 << 62 for one in arguments) or len(made) > 1 << 20:
        raise ValueError(f"expected at most {1 << 20} steps")
    return made


def _len(value: Any) -> int:
    return len(value)


def _isinstance(value: Any, kinds: Any) -> bool:
    for kind in kinds if type(kinds) is tuple else (kinds,):
        if type(kind) is Kind:
            if isinstance(value, kind.kind):
                return True
        elif isinstance(kind, type) and issubclass(kind, Exception):
            if isinstance(value, kind):
                return True
        else:
            raise TypeError(f"expected a type such as str, got {name_of(kind)}")
    return False


def _callable(value: Any) -> bool:
    return type(value) is Kind or type(value).__name__ in (
        "function",
        "builtin_function_or_method",
        "method",
    )


def _number(value: Any) -> Any:
    if type(value) not in _NUMBERS:
        raise TypeError(f"expected a number, got {name_of(value)}")
    return value


def _abs(value: Any) -> Any:
    return abs(_number(value))


def _round(value: Any, digits: Any = None) -> Any:
    if digits is None:
        return round(_number(value))
    if type(digits) is not int or not -100 <= digits <= 100:
        raise ValueError("expected from -100 to 100 digits")
    return round(_number(value), digits)


def _divmod(left: Any, right: Any) -> tuple[Any, Any]:
    return divmod(_number(left), _number(right))  # type: ignore[no-any-return]


def _pow(base: Any, exponent: Any) -> Any:
    return power(base, exponent)


def _sum(items: Any, start: Any = 0) -> Any:
    made = listed(items)
    for one in (start, *made):
        _number(one)
    return integer(sum(made, start))


def _best(function: Callable[..., Any]) -> Callable[..., Any]:
    """``min`` or ``max``."""
    nothing = object()

    def choose(*items: Any, key: Any = None, default: Any = nothing) -> Any:
        made = list(items) if len(items) > 1 else listed(*items)
        if not made:
            if default is nothing:
                raise ValueError("expected at least one item, or a default")
            return default
        keys = made if key is None else [key(one) for one in made]
        size = 0
        for one in keys:
            if type(one) in (str, bytes):
                size += len(one)
            elif type(one) not in ATOMS:
                size += 50 * weigh(one)
        if size > 1 << 22:
            raise ValueError("expected fewer items to compare, or shorter ones")
        return made[function(range(len(made)), key=keys.__getitem__)]

    return choose


def _sorted(items: Any, key: Any = None, reverse: Any = False) -> list[Any]:
    return sorted_list(items, key, reverse)


def _reversed(items: Any) -> Iterator[Any]:
    made = listed(items)
    made.reverse()
    return iter(made)


def _zip(*items: Any, strict: Any = False) -> Iterator[Any]:
    if len(items) > _MAX_ZIPPED:
        raise ValueError(f"expected at most {_MAX_ZIPPED} things to zip, got {len(items)}")
    made = [listed(one) for one in items]
    charge(min(map(len, made), default=0) * (56 + 8 * len(made)))
    return iter(list(zip(*made, strict=bool(strict))))


def _enumerate(items: Any, start: Any = 0) -> Iterator[Any]:
    made = listed(items)
    charge(len(made) * 100)
    return iter(list(enumerate(made, _number(start))))


def _map(function: Any, *items: Any) -> Iterator[Any]:
    if len(items) == 1:
        return iter([function(one) for one in listed(items[0])])
    return iter([function(*some) for some in _zip(*items)])


def _filter(function: Any, items: Any) -> Iterator[Any]:
    if function is None:
        return iter([one for one in listed(items) if one])
    return iter([one for one in listed(items) if function(one)])


def _any(items: Any) -> bool:
    return any(iterated(items))


def _all(items: Any) -> bool:
    return all(iterated(items))


def _iter(items: Any) -> Any:
    return iter(iterated(items))


_NO_DEFAULT: Final = object()


def _next(items: Any, default: Any = _NO_DEFAULT) -> Any:
    iterated(items)
    return next(items) if default is _NO_DEFAULT else next(items, default)


def _repr(value: Any) -> str:
    return text_of(value, repr)


def _ascii(value: Any) -> str:
    return bounded(text_of(value, repr).encode("ascii", "backslashreplace").decode())  # type: ignore[no-any-return]


def _ord(value: Any) -> int:
    return ord(value)


def _chr(value: Any) -> str:
    return chr(value)


def _based(function: Callable[[int], str]) -> Callable[[Any], str]:
    """``bin``, ``hex`` or ``oct``."""

    def show(value: Any) -> str:
        if type(value) not in (int, bool) or value.bit_length() > MAX_BITS:
            raise TypeError(f"expected an integer of at most {MAX_BITS} bits")
        return function(value)

    return show


def _no_instance(*arguments: Any, **named: Any) -> Any:
    raise TypeError("expected a hook to use the request and the response that it was given")


#: The exceptions that hooks can name.  None gives access to more than what a hook passes to
#: it.  Hooks have no name for the exceptions that end a call in any case.
EXCEPTIONS: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (
        ArithmeticError,
        AssertionError,
        AttributeError,
        Exception,
        IndexError,
        KeyError,
        LookupError,
        NameError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        StopIteration,
        TypeError,
        UnicodeError,
        ValueError,
        ZeroDivisionError,
    )
}

#: The builtins of every hook, with the guards, whose names no hook can write.  All hooks
#: share this dict, so no hook may be able to change anything in it.
BUILTINS: Final[dict[str, Any]] = {
    **EXCEPTIONS,
    **OPERATORS,
    **GUARDS,
    "abs": _abs,
    "all": _all,
    "any": _any,
    "ascii": _ascii,
    "bin": _based(bin),
    "bool": Kind(bool, "bool", _bool),
    "bytes": Kind(bytes, "bytes", _bytes),
    "callable": _callable,
    "chr": _chr,
    "dict": Kind(dict, "dict", _dict),
    "divmod": _divmod,
    "enumerate": _enumerate,
    "filter": _filter,
    "float": Kind(float, "float", _float),
    "frozenset": Kind(frozenset, "frozenset", _frozenset),
    "hex": _based(hex),
    "int": Kind(int, "int", _int),
    "isinstance": _isinstance,
    "iter": _iter,
    "len": _len,
    "list": Kind(list, "list", _list),
    "map": _map,
    "max": _best(max),
    "min": _best(min),
    "next": _next,
    "oct": _based(oct),
    "ord": _ord,
    "pow": _pow,
    "range": Kind(range, "range", _range),
    "repr": _repr,
    "reversed": _reversed,
    "round": _round,
    "set": Kind(set, "set", _set),
    "sorted": _sorted,
    "str": Kind(str, "str", _str),
    "sum": _sum,
    "tuple": Kind(tuple, "tuple", _tuple),
    "zip": _zip,
    "Errno": Kind(Errno, "Errno", _no_instance),
    "Headers": Kind(Headers, "Headers", _no_instance),
    "HookRequest": Kind(HookRequest, "HookRequest", _no_instance),
    "HookResponse": Kind(HookResponse, "HookResponse", _no_instance),
    "Query": Kind(Query, "Query", _no_instance),
    "Settings": Kind(Settings, "Settings", _no_instance),
}
