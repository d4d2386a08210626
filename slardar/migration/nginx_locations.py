"""nginx's locations as routes, whose order gives the result of nginx's own rules.

nginx looks for ``=`` first, then for the longest prefix; unless that is a ``^~``, the first regular
expression that is found wins over it.  Of routes, the first one that matches wins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from slardar.migration.statement import Statement

__all__ = ["Location", "Rule", "rules_of"]

#: The modifiers of locations.
MODIFIERS = ("=", "^~", "~", "~*")


class Location(Struct, frozen=True):
    """A location, and the upstream to which it leads."""

    modifier: str
    pattern: str
    upstream: str
    statement: Statement


class Rule(Struct, frozen=True):
    """The key of a route for a location: ``path`` or ``path_regex``."""

    upstream: str
    statement: Statement
    path: str | None = None
    path_regex: str | None = None


def rules_of(locations: Sequence[Location]) -> list[Rule]:
    """The rules for the locations of one server, in their order."""
    exact = [one for one in locations if one.modifier == "="]
    searched = [one for one in locations if one.modifier in ("~", "~*")]
    prefixes = [one for one in locations if one.modifier in ("", "^~")]
    prefixes.sort(key=lambda one: -len(one.pattern))
    rules = [_regex(one, f"^{re.escape(one.pattern)}$") for one in exact]
    if searched:
        # These come before the expressions, but not for paths that a longer prefix without ^~ has.
        for one in prefixes:
            if one.modifier == "^~":
                longer = [
                    re.escape(other.pattern[len(one.pattern) :])
                    for other in prefixes
                    if other.modifier == "" and _is_within(other, one)
                ]
                if longer:
                    rules.append(_regex(one, f"^{re.escape(one.pattern)}(?!{'|'.join(longer)})"))
                else:
                    rules.append(_prefix(one))
        rules += [_regex(one, _expression(one)) for one in searched]
        prefixes = [one for one in prefixes if one.modifier == ""]
    return rules + [_prefix(one) for one in prefixes]


def _is_within(inner: Location, outer: Location) -> bool:
    return len(inner.pattern) > len(outer.pattern) and inner.pattern.startswith(outer.pattern)


def _expression(location: Location) -> str:
    """PCRE's text as Python's ``re`` reads it.  What cannot be read is refused as a route."""
    text = re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", location.pattern)
    return f"(?i:{text})" if location.modifier == "~*" else text


def _regex(location: Location, text: str) -> Rule:
    return Rule(location.upstream, location.statement, path_regex=text)


def _prefix(location: Location) -> Rule:
    return Rule(location.upstream, location.statement, path=location.pattern)
