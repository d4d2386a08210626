"""From an HTTP call to a row of the table of operations: path, method and parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from slardar.control.auth import Caller
from slardar.control.operation import Operation, check_role
from slardar.control.operations import OPERATIONS
from slardar.errors import NotFoundError
from slardar.model.reader import shown

__all__ = ["check_call", "find_operations", "read_arguments", "read_parameters", "split_path"]

#: The words that an argument may be.  Other arguments may be any text.
_WORDS: Mapping[str, tuple[str, ...]] = {"LANGUAGE": ("lua", "python")}


def split_path(path: bytes) -> tuple[str, ...]:
    """The parts of a path such as ``/upstream/%2A.example.com``.

    Raises NotFoundError for a path that is not UTF-8 or does not begin with a slash.
    """
    try:
        parts = [unquote_to_bytes(part).decode("utf-8") for part in path.split(b"/")]
    except UnicodeDecodeError:
        parts = []
    if len(parts) < 2 or parts[0]:
        raise NotFoundError("no such path")
    return tuple(parts[1:])


def _pattern(path: str) -> tuple[str, ...]:
    return tuple(path.split("/")[1:])


def _by_path() -> Mapping[tuple[str, ...], Mapping[str, Operation]]:
    """The operations by path and method, in the order of the table."""
    found: dict[tuple[str, ...], dict[str, Operation]] = {}
    for operation in OPERATIONS:
        methods = found.setdefault(_pattern(operation.path), {})
        methods.update((method, operation) for method in operation.methods)
    return found


_BY_PATH = _by_path()


def find_operations(parts: Sequence[str]) -> Mapping[str, Operation]:
    """The operations at a path, by method.  Raises NotFoundError if there are none."""
    if len(parts) == 2 and parts[0] in _WORDS["LANGUAGE"] and not parts[1]:
        # With and without the slash, as in upyun/slardar.
        parts = parts[:1]
    for pattern, methods in _BY_PATH.items():
        if len(pattern) == len(parts) and all(map(_fits, pattern, parts)):
            return methods
    raise NotFoundError(f"no such path: {shown('/' + '/'.join(parts))}")


def _fits(word: str, part: str) -> bool:
    if not word.isupper():
        return word == part
    return part in _WORDS[word] if word in _WORDS else part != ""


def read_arguments(operation: Operation, parts: Sequence[str]) -> Mapping[str, str]:
    """The arguments that a path gives: ``{"name": "www.example.com"}``."""
    words = zip(_pattern(operation.path), parts, strict=False)
    return {word.lower(): part for word, part in words if word.isupper()}


def read_parameters(query: bytes, operation: Operation) -> Mapping[str, Any]:
    """The value of each parameter of an operation.  Raises ConfigError for a wrong one."""
    return operation.read_parameters(parse_qsl(query.decode("latin-1"), keep_blank_values=True))


def check_call(caller: Caller, method: str, uri: bytes) -> None:
    """Refuse a call that the caller's token does not allow, before its body comes.

    A ``GET`` of an unknown path needs the role ``read``, any other unknown call ``admin``.

    :raise RefusedError: 403, with the reason.
    """
    asks = method in ("GET", "HEAD")
    try:
        parts = split_path(uri.partition(b"?")[0])
        operation = find_operations(parts).get("GET" if asks else method)
    except NotFoundError:
        operation = None
    if operation is None:
        check_role(caller, "read" if asks else "admin")
    else:
        operation.check(caller, read_arguments(operation, parts))
