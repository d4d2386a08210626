"""Routes send requests to upstreams by host and path, before upstreams' names count."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Container, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from slardar.errors import ConfigError
from slardar.model.names import check_name, requested_host
from slardar.model.reader import Problems, UnknownKey, is_note, read, read_right, shown

__all__ = ["Route", "odd_keys", "parse_routes", "written_routes"]


class Route(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Sends requests for a host and path to an upstream.

    ``host`` is exact or a wildcard (``*.abc.com``), ``None`` for any; ``path`` is a
    prefix, ``path_regex`` is searched for in the path (without query).

    Clients choose the path, and Python's ``re`` can take exponential time on patterns
    such as ``(a+)+$``: whoever may set routes must know this.  A path has at most
    ``limits.url`` bytes, which bounds the time of a quadratic pattern.
    """

    upstream: str
    host: str | None = None
    path: str | None = None
    path_regex: str | None = None
    #: The route's keys without meaning, as the JSON of an object, or empty.
    x_: str = ""

    @property
    def notes(self) -> dict[str, Any]:
        """The route's keys without meaning, and their values."""
        found: dict[str, Any] = json.loads(self.x_) if self.x_ else {}
        return found

    def matcher(self) -> Callable[[str, str], bool]:
        """A function that tells whether a host (lower case) and path take this route.

        It is made once for a snapshot: ``re`` itself caches at most 512 patterns.
        """
        host = None if self.host is None else requested_host(self.host)
        suffix = host[1:] if host is not None and host[:2] == "*." else None
        prefix = self.path
        search = None if self.path_regex is None else re.compile(self.path_regex).search

        def matches(of_host: str, path: str) -> bool:
            if suffix is not None:
                # The wildcard stands for at least one character.
                if not of_host.endswith(suffix) or len(of_host) == len(suffix):
                    return False
            elif host is not None and host != of_host:
                return False
            if prefix is not None:
                return path.startswith(prefix)
            return search is None or search(path) is not None

        return matches


def parse_routes(body: object, where: str, passes: Container[UnknownKey] = ()) -> tuple[Route, ...]:
    """The routes of ``body``, in order.  Raises ConfigError with every mistake.

    The upstream of a route need not exist yet; until then requests get a 502.  Keys that
    begin with ``x_`` and unknown keys in ``passes`` are kept and mean nothing.
    """
    problems = Problems(passes)
    if not isinstance(body, (list, tuple)):
        raise ConfigError(f"{where}: expected a list of routes, got {shown(body)}")
    routes = []
    for index, item in enumerate(body):
        notes = _notes(item, f"{where}[{index}]", problems)
        if notes and isinstance(item, Mapping):
            item = {key: value for key, value in item.items() if key not in notes}
        route = read(Route, item, f"{where}[{index}]", problems)
        if route is not None:
            if notes:
                route = msgspec.structs.replace(route, x_=json.dumps(notes, allow_nan=False))
            routes.append(route)
        elif isinstance(item, Mapping):
            # Check its correct keys all the same; any name serves as a missing upstream.
            route = Route(**{"upstream": "any", **read_right(Route, item)})
        if route is not None:
            _check(route, f"{where}[{index}]", problems)
    problems.raise_if_any()
    return tuple(routes)


def _notes(item: object, path: str, problems: Problems) -> dict[str, Any]:
    """The keys of a route that mean nothing and are kept."""
    if not isinstance(item, Mapping):
        return {}
    notes = {}
    for key, value in item.items():
        unknown = key not in Route.__struct_fields__ and ("Route", key) in problems.passes
        if isinstance(key, str) and (is_note(key) or unknown):
            notes[key] = value
    try:
        json.dumps(notes, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        problems.add(path, "expected what JSON can hold under keys that begin with x_")
        # The other keys of the route are still checked.
        return dict.fromkeys(notes)
    return notes


def odd_keys(routes: tuple[Route, ...]) -> set[UnknownKey]:
    """The unknown keys of routes, which somebody has written into the store."""
    return {("Route", key) for route in routes for key in route.notes if not is_note(key)}


def written_routes(routes: tuple[Route, ...]) -> list[dict[str, Any]]:
    """Routes as they were written, in plain JSON."""
    written = []
    for route in routes:
        item = msgspec.to_builtins(route)
        item.pop("x_", None)
        written.append({**item, **route.notes})
    return written


def _check(route: Route, path: str, problems: Problems) -> None:
    if route.path is not None and route.path_regex is not None:
        problems.add(path, 'expected "path" or "path_regex", not both')
    if route.path is not None and not route.path.startswith("/"):
        problems.add(f"{path}.path", f"expected a path that begins with /, got {shown(route.path)}")
    if route.path_regex is not None:
        _check_pattern(route.path_regex, f"{path}.path_regex", problems)
    for key, name in (("host", route.host), ("upstream", route.upstream)):
        if name is not None:
            try:
                check_name(name, f"{path}.{key}")
            except ConfigError as error:
                problems.lines += error.problems


def _check_pattern(pattern: str, path: str, problems: Problems) -> None:
    try:
        with warnings.catch_warnings():
            # A pattern that re warns of (a possible nested set) will change its meaning.
            warnings.simplefilter("error")
            re.compile(pattern)
    except (re.error, Warning, OverflowError, RecursionError) as error:
        problems.add(path, f"expected a regular expression: {' '.join(str(error).split())}")
