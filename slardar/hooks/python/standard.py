"""``json``, ``hashlib``, ``hmac``, ``base64``, ``time``, ``math`` and ``random`` for hooks.

Each function here limits its work: a hook calls it with any values, and no tick of the
budget can stop it before it returns.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
import random
import re
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from slardar.hooks.budget import charge
from slardar.hooks.python.attributes import register
from slardar.hooks.python.limits import MAX_TEXT, bounded, name_of, weigh
from slardar.hooks.python.operators import integer

__all__ = ["BASE64", "HASHLIB", "HMAC", "JSON", "MATH", "RANDOM", "TIME"]

#: The most characters of JSON that is read.
MAX_JSON: Final = 1 << 17
#: The most levels of JSON that is read.
MAX_LEVELS: Final = 100
#: Matches texts, which may hold brackets, and brackets.
_BRACKETS: Final = re.compile(
    r'"(?:[^"\\]|\\.)*+"|[\[\]{}]'
    if sys.version_info >= (3, 11)
    else r'"(?:[^"\\]|\\.)*"|[\[\]{}]',
    re.DOTALL,
)
#: The most bytes that are hashed or encoded in one call.
MAX_DATA: Final = 1 << 20

# json


class JsonError(ValueError):
    """The text is no JSON."""


def _loads(text: Any) -> Any:
    if type(text) not in (str, bytes):
        raise TypeError(f"expected str or bytes, got {name_of(text)}")
    if len(text) > MAX_JSON:
        raise ValueError(f"expected JSON of at most {MAX_JSON} characters, got {len(text)}")
    charge(len(text) * 30 if len(text) > 1000 else 0)
    if len(text) > MAX_LEVELS:
        _check_levels(text)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise JsonError(f"expected JSON: {error.msg}, at character {error.pos}") from None


def _check_levels(text: str | bytes) -> None:
    """Raise JsonError for more levels than the parser may have on its stack."""
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if shown.count("[") + shown.count("{") <= MAX_LEVELS:
        return
    level = 0
    for one in _BRACKETS.finditer(shown):
        if one[0] in "[{":
            level += 1
            if level > MAX_LEVELS:
                raise JsonError(f"expected JSON of at most {MAX_LEVELS} levels")
        elif one[0] in "]}":
            level -= 1


def _dumps(
    value: Any,
    *,
    ensure_ascii: bool = True,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    weigh(value)
    if indent is not None and (type(indent) is not int or not 0 <= indent <= 16):
        raise ValueError("expected an indent from 0 to 16")
    if separators is not None:
        if type(separators) is not tuple or [type(one) for one in separators] != [str, str]:
            raise TypeError("expected a tuple of two texts as separators")
        if max(map(len, separators)) > 16:
            raise ValueError("expected short separators")
    text = json.dumps(
        value,
        ensure_ascii=bool(ensure_ascii),
        indent=indent,
        separators=separators,
        sort_keys=bool(sort_keys),
    )
    return bounded(text)  # type: ignore[no-any-return]


#: The names of ``json``.
JSON: Final[dict[str, Any]] = {"JSONDecodeError": JsonError, "dumps": _dumps, "loads": _loads}

# hashlib and hmac

_DIGESTS: Final = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s")


def _data(value: Any, what: str = "bytes") -> bytes:
    if type(value) is not bytes:
        raise TypeError(f"expected {what} (text.encode()), got {name_of(value)}")
    if len(value) > MAX_DATA:
        raise ValueError(f"expected at most {MAX_DATA} bytes")
    return value


class Digest:
    """A digest that takes bytes step by step."""

    __slots__ = ("_hash", "digest_size", "name")

    def __init__(self, made: Any, name: str) -> None:
        self._hash = made
        self.name = name
        self.digest_size = made.digest_size

    def update(self, data: Any) -> None:
        """Take more bytes."""
        self._hash.update(_data(data))

    def digest(self) -> bytes:
        """The digest, as bytes."""
        return self._hash.digest()  # type: ignore[no-any-return]

    def hexdigest(self) -> str:
        """The digest, in hexadecimal."""
        return self._hash.hexdigest()  # type: ignore[no-any-return]

    def copy(self) -> Digest:
        """A copy that can take further bytes of its own."""
        return Digest(self._hash.copy(), self.name)

    def __repr__(self) -> str:
        return f"<{self.name}>"


register(Digest, "copy digest digest_size hexdigest name update", text=True)


def _hash(name: str) -> Callable[..., Digest]:
    def make(data: Any = b"") -> Digest:
        made = hashlib.new(name, usedforsecurity=False)
        made.update(_data(data))
        return Digest(made, name)

    return make


_HASHES: Final = {name: _hash(name) for name in _DIGESTS}


def _new_hash(name: Any, data: Any = b"") -> Digest:
    return _HASHES[_digest_name(name)](data)


def _digest_name(name: Any) -> str:
    for known, function in _HASHES.items():
        if name is function or (type(name) is str and name.lower() == known):
            return known
    raise ValueError(f"expected one of {', '.join(_DIGESTS)}")


def _new_hmac(key: Any, msg: Any = b"", digestmod: Any = "sha256") -> Digest:
    name = _digest_name(digestmod)
    return Digest(hmac.new(_data(key, "a key of bytes"), _data(msg), name), f"hmac-{name}")


def _hmac_digest(key: Any, msg: Any, digest: Any = "sha256") -> bytes:
    return _new_hmac(key, msg, digest).digest()


def _compare_digest(left: Any, right: Any) -> bool:
    if type(left) is str and type(right) is str:
        left, right = left.encode("utf-8", "replace"), right.encode("utf-8", "replace")
    return hmac.compare_digest(_data(left), _data(right))


#: The names of ``hashlib``, and of ``hmac``.
HASHLIB: Final[dict[str, Any]] = {**_HASHES, "new": _new_hash}
HMAC: Final[dict[str, Any]] = {
    "compare_digest": _compare_digest,
    "digest": _hmac_digest,
    "new": _new_hmac,
}

# base64


def _encoder(name: str) -> Callable[[Any], bytes]:
    def encode(data: Any) -> bytes:
        return bounded(getattr(base64, name)(_data(data)))  # type: ignore[no-any-return]

    return encode


def _decoder(name: str) -> Callable[[Any], bytes]:
    def decode(data: Any, validate: bool = False) -> bytes:
        raw = data.encode("ascii", "replace") if type(data) is str else data
        _data(raw, "text or bytes")
        strict = {"validate": True} if validate and name == "b64decode" else {}
        try:
            return bounded(getattr(base64, name)(raw, **strict))  # type: ignore[no-any-return]
        except binascii.Error as error:
            raise ValueError(f"expected base64: {error}") from None

    return decode


#: The names of ``base64``.
BASE64: Final[dict[str, Any]] = {
    **{
        name: _encoder(name)
        for name in ("b64encode", "b32encode", "b16encode", "urlsafe_b64encode")
    },
    **{
        name: _decoder(name)
        for name in ("b64decode", "b32decode", "b16decode", "urlsafe_b64decode")
    },
}

# time

_FORM: Final = re.compile(r"(?:[^%\x00]|%[aAbBcdHIjmMpSUwWxXyYzZ%])*")
register(
    time.struct_time,
    "tm_year tm_mon tm_mday tm_hour tm_min tm_sec tm_wday tm_yday tm_isdst",
    items=True,
)


def _strftime(form: Any, moment: Any = None) -> str:
    # Fields of glibc may have a width, such as %999999999d, which would make a huge text.
    if type(form) is not str or len(form) > 200 or _FORM.fullmatch(form) is None:
        raise ValueError("expected a format of at most 200 characters such as %Y-%m-%d")
    if moment is not None and type(moment) not in (time.struct_time, tuple):
        raise TypeError(f"expected a time as time.gmtime() gives it, got {name_of(moment)}")
    return time.strftime(form, time.localtime() if moment is None else moment)


def _moment(function: Callable[[float], time.struct_time]) -> Callable[..., time.struct_time]:
    def make(seconds: Any = None) -> time.struct_time:
        if seconds is None:
            seconds = time.time()
        if type(seconds) not in (int, float) or not -1e11 < seconds < 1e11:
            raise ValueError("expected seconds since 1970")
        return function(seconds)

    return make


#: The names of ``time``.
TIME: Final[dict[str, Any]] = {
    "gmtime": _moment(time.gmtime),
    "localtime": _moment(time.localtime),
    "monotonic": lambda: time.monotonic(),
    "strftime": _strftime,
    "time": lambda: time.time(),
}

# math


def _of_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*values: Any) -> Any:
        for one in values:
            if type(one) not in (int, float, bool):
                raise TypeError(f"expected a number, got {name_of(one)}")
            integer(one)
        if len(values) > 100:
            raise TypeError("expected fewer numbers")
        return function(*values)

    return call


_OF_FLOATS: Final = (
    "acos", "asin", "atan", "atan2", "ceil", "copysign", "cos", "cosh", "degrees", "exp",
    "fabs", "floor", "fmod", "gcd", "hypot", "isclose", "isfinite", "isinf", "isnan", "isqrt",
    "log", "log10", "log1p", "log2", "pow", "radians", "sin", "sinh", "sqrt", "tan", "tanh",
    "trunc",
)  # fmt: skip

#: The names of ``math``.
MATH: Final[dict[str, Any]] = {
    "e": math.e,
    "inf": math.inf,
    "nan": math.nan,
    "pi": math.pi,
    "tau": math.tau,
    **{name: _of_numbers(getattr(math, name)) for name in _OF_FLOATS},
}

# random

#: Hooks have a generator of their own, so no hook can set or predict the numbers that the
#: proxy draws.
_random: Final = random.Random()  # noqa: S311 - not for secrets, and documented so


def _randint(low: Any, high: Any) -> int:
    for one in (low, high):
        if type(one) is not int:
            raise TypeError(f"expected an integer, got {name_of(one)}")
        integer(one)
    return _random.randint(low, high)


def _choice(items: Any) -> Any:
    if type(items) not in (list, tuple, str, bytes, range):
        raise TypeError(f"expected a list, a tuple or a text, got {name_of(items)}")
    return _random.choice(items)


def _uniform(low: Any, high: Any) -> float:
    for one in (low, high):
        if type(one) not in (int, float):
            raise TypeError(f"expected a number, got {name_of(one)}")
    return _random.uniform(low, high)


#: The names of ``random``.
RANDOM: Final[dict[str, Any]] = {
    "choice": _choice,
    "randint": _randint,
    "random": lambda: _random.random(),
    "uniform": _uniform,
}

assert MAX_DATA <= MAX_TEXT
