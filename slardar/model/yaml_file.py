"""Reads a YAML file into plain data: no key twice, no bomb, one line for what is wrong."""

from __future__ import annotations

import gc
import os
from typing import Any

import yaml

from slardar.errors import ConfigError, PartlyReadError
from slardar.model.reader import shown

__all__ = ["read_file"]

#: PyYAML in C where the platform has it (as its wheels do): ten times as fast.
_Yaml: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: Bytes of a file, at most; 10,000 upstreams of 10 servers take 6 MiB.
_MAX_FILE = 64 << 20
#: Objects and lists within each other, at most: the reader in C ends the process
#: where Python raises RecursionError.
_MAX_DEPTH = 64
#: Values that aliases (``*name``) may repeat, at most: "a billion laughs" is nine lines.
_MAX_REPEATED = 100_000


class _Loader(_Yaml):  # type: ignore[misc]
    """YAML's plain data only; notes each key that is given twice."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        #: One line each, with its place in the file.
        self.problems: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            # A key that is no text is text in JSON: 502 and "502" are the same.
            if str(key) in seen:
                mark = key_node.start_mark
                place = f"line {mark.line + 1}, column {mark.column + 1}"
                self.problems.append(f"{place}: the key {shown(key)} is given twice")
            seen.add(str(key))
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def read_file(path: str) -> object:
    """The plain data in a YAML file, ``None`` if it is empty.  Blocks.

    Raises ConfigError with the file's name, and line and column where they are known;
    PartlyReadError where nothing else is wrong than that keys are given twice.
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
        raise ConfigError(f"{path}: {place}{error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # Also what a value such as 2024-99-99 does to the date that YAML sees in it.
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    if problems:
        raise PartlyReadError([f"{path}: {line}" for line in problems], value)
    return value


def _plain_data(text: str) -> tuple[object, list[str]]:
    """Of a large file most of the time would go into looking for garbage: a file of
    10,000 upstreams takes 7 seconds instead of 12."""
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
    """Refuse what would take all memory, or the process: depth, and aliases of aliases."""
    sizes: dict[str, int] = {}
    #: What is open: the anchor and the values seen when it began.
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
    """For an event or a node, which know their places."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)
