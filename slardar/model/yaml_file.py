"""Reads a YAML file into plain data: no key twice, no bomb, one line for each mistake."""

from __future__ import annotations

import gc
import os
from typing import Any

import yaml

from slardar.errors import ConfigError, PartlyReadError
from slardar.model.reader import shown

__all__ = ["read_file"]

#: PyYAML's loader in C, if it was built (its wheels have it): ten times as fast.
_Yaml: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: The most bytes of a file; 10,000 upstreams of 10 servers take 6 MiB.
_MAX_FILE = 64 << 20
#: The most objects and lists within each other: the loader in C ends the process where
#: Python raises RecursionError.
_MAX_DEPTH = 64
#: The most values that aliases (``*name``) may repeat: "a billion laughs" is nine lines.
_MAX_REPEATED = 100_000


class _Loader(_Yaml):  # type: ignore[misc]
    """Loads YAML's plain data only; notes each key that is given twice."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        #: A line for each key that is given twice, with its place in the file.
        self.problems: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            # In JSON every key is text: 502 and "502" are the same key.
            if str(key) in seen:
                mark = key_node.start_mark
                place = f"line {mark.line + 1}, column {mark.column + 1}"
                self.problems.append(f"{place}: the key {shown(key)} is given twice")
            seen.add(str(key))
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


#: What PyYAML says in words that need its context.
_WORDS = {
    "but found another document": "expected one document; another one begins here, behind ---",
}


def read_file(path: str) -> object:
    """The plain data in a YAML file, ``None`` if it is empty.  Blocks.

    Raises ConfigError with the file's name, and line and column if they are known;
    PartlyReadError if the only mistakes are keys that are given twice.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
        if len(data) > _MAX_FILE:
            raise ConfigError(f"{path}: expected at most {_MAX_FILE >> 20} MiB")
        value, problems = _plain_data(data.decode("utf-8"))
    except FileNotFoundError as error:
        if os.path.islink(path):
            target = os.path.realpath(path)
            raise ConfigError(f"{path}: is a link to {target}, which does not exist") from None
        raise ConfigError(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 ({error.reason})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = _WORDS.get(str(error.problem), error.problem)
        raise ConfigError(f"{path}: {place}{problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # ValueError comes from a value such as 2024-99-99, which YAML reads as a date.
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    if problems:
        raise PartlyReadError([f"{path}: {line}" for line in problems], value)
    return value


def _plain_data(text: str) -> tuple[object, list[str]]:
    """The data in ``text``, and a line for each key that is given twice.

    Garbage collection is off meanwhile: a file of 10,000 upstreams takes 7 seconds
    instead of 12.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        _check_shape(text)
        loader = _Loader(text)
        try:
            return loader.get_single_data(), loader.problems
        finally:
            loader.dispose()
    finally:
        if collects:
            gc.enable()


def _check_shape(text: str) -> None:
    """Raises for text that would take all memory or end the process: too deep, or with too
    many values repeated by aliases."""
    sizes: dict[str, int] = {}
    #: The objects and lists that are open: their anchor, and the values before them.
    opened: list[tuple[str | None, int]] = []
    size = repeated = 0
    for event in yaml.parse(text, _Yaml):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _error(f"the alias *{event.anchor} has no anchor before it", event)
            size += sizes[event.anchor]
            repeated += sizes[event.anchor]
            if repeated > _MAX_REPEATED:
                raise _error(f"aliases repeat more than {_MAX_REPEATED} values", event)
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, size))
            size += 1
            if len(opened) > _MAX_DEPTH:
                raise _error(
                    f"expected at most {_MAX_DEPTH} objects and lists within each other", event
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = size - before
        elif isinstance(event, yaml.ScalarEvent):
            size += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1


def _error(problem: str, place: Any) -> yaml.MarkedYAMLError:
    """An error at the place of an event or a node."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)
