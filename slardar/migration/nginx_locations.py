"""nginx's locations as routes, whose order gives the result of nginx's own rules.

nginx looks for ``=`` first, then for the longest prefix; unless that is a ``^~``, the first regular
expression that is found wins over it.  Of routes, the first one that matches wins.

nginx compares what a path means, and routes compare what clients write: :data:`REWRITTEN` and
:mod:`slardar.migration.nginx_expressions` are for the difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from slardar.migration.draft import NOWHERE
from slardar.migration.nginx_expressions import PLAIN, expression, spelled
from slardar.migration.statement import Statement

__all__ = ["ESCAPED", "MODIFIERS", "REWRITTEN", "Location", "Rule", "rules_of"]

#: The modifiers of locations.
MODIFIERS = ("=", "^~", "~", "~*")
#: Paths that nginx makes others of before it compares them, though no client has to write them so:
#: with ``//``, ``/./``, ``/../``, or an escape of a character of :data:`PLAIN`.
REWRITTEN = r"//|/\.{1,2}(?:/|$)|%(?i:2[DEF]|3[0-9]|[46][1-9A-F]|[57][0-9A]|5F|7E)"

#: Paths of which an expression may say something that is not known.
ESCAPED = "%"


class Location(Struct, frozen=True):
    """A location, the upstream to which it leads, and the locations in it."""

    modifier: str
    pattern: str
    upstream: str
    statement: Statement
    inner: tuple[Location, ...] = ()

    @property
    def shape(self) -> tuple[object, ...]:
        """The same for locations that do the same."""
        return self.modifier, self.pattern, self.upstream, tuple(one.shape for one in self.inner)

    @property
    def is_expression(self) -> bool:
        """Whether the pattern is a regular expression."""
        return self.modifier[:1] == "~"


class Rule(Struct, frozen=True):
    """The key of a route for a location: ``path`` or ``path_regex``."""

    upstream: str
    statement: Statement
    path: str | None = None
    path_regex: str | None = None


def rules_of(locations: Sequence[Location]) -> list[Rule]:
    """The rules for the locations of one server, in their order."""
    flat = list(_all(locations))
    guards = any(one.upstream == NOWHERE for one in flat)
    if len(flat) == len(locations) or _is_plain(locations, flat):
        return _flat(flat, guards)
    return list(_nested(locations, (), None, guards))


def _all(locations: Sequence[Location]) -> Iterator[Location]:
    for one in locations:
        yield one
        yield from _all(one.inner)


def _is_plain(locations: Sequence[Location], flat: Sequence[Location]) -> bool:
    """Whether locations in others do what they would do beside them."""
    for level in [locations, *(one.inner for one in flat)]:
        for one in level:
            same = any(other.pattern == one.pattern for other in one.inner)
            if (
                one.is_expression
                or same
                or (one.inner and any(_is_within(at, one) for at in level))
            ):
                return False
    return True


def _flat(locations: Sequence[Location], guards: bool) -> list[Rule]:
    exact = [one for one in locations if one.modifier == "="]
    searched = [one for one in locations if one.is_expression]
    prefixes = _longest_first(locations)
    rules = [_regex(one, f"^{spelled(one.pattern)}$") for one in exact]
    if searched:
        # These come before the expressions, but not for paths that a longer prefix without ^~ has.
        for one in prefixes:
            if one.modifier == "^~":
                longer = [
                    spelled(other.pattern[len(one.pattern) :])
                    for other in prefixes
                    if other.modifier == "" and _is_within(other, one)
                ]
                if longer:
                    rules.append(_regex(one, f"^{spelled(one.pattern)}(?!{'|'.join(longer)})"))
                else:
                    rules.append(_prefix(one))
        rules += [rule for one in searched for rule in _searched(one, "", guards)]
        prefixes = [one for one in prefixes if one.modifier == ""]
    return rules + [_prefix(one) for one in prefixes]


def _nested(
    level: Sequence[Location], outer: Sequence[Location], around: Location | None, guards: bool
) -> Iterator[Rule]:
    """The rules of a level of locations, for the paths of the prefix ``around``.

    The longest prefixes come first, and each is followed through to its end: the locations in it,
    the expressions in it, those beside it and further ``outer``, and what it does itself.
    """
    ahead = "" if around is None else f"(?={spelled(around.pattern)})"
    for one in level:
        if one.modifier == "=":
            yield _regex(one, f"^{ahead}{spelled(one.pattern)}$")
    searched = [one for one in level if one.is_expression]
    for one in _longest_first(level):
        beside = [] if one.modifier == "^~" else searched
        yield from _nested(one.inner, [*beside, *outer], one, guards)
    for one in [*searched, *outer]:
        yield from _searched(one, ahead, guards)
    if around is not None:
        yield _prefix(around)


def _longest_first(locations: Sequence[Location]) -> list[Location]:
    found = [one for one in locations if one.modifier in ("", "^~")]
    return sorted(found, key=lambda one: -len(one.pattern))


def _is_within(inner: Location, outer: Location) -> bool:
    return len(inner.pattern) > len(outer.pattern) and inner.pattern.startswith(outer.pattern)


def _searched(location: Location, ahead: str, guards: bool) -> Iterator[Rule]:
    """The rules of an expression for paths that begin as ``ahead`` says."""
    text, is_known = expression(location.pattern, location.modifier == "~*")
    if guards and not is_known:
        yield Rule(
            NOWHERE, location.statement, path_regex=f"^{ahead}.*?{ESCAPED}" if ahead else ESCAPED
        )
    yield _regex(location, f"^{ahead}(?=.*?(?:{text}))" if ahead else text)


def _regex(location: Location, text: str) -> Rule:
    return Rule(location.upstream, location.statement, path_regex=text)


def _prefix(location: Location) -> Rule:
    if not PLAIN.issuperset(location.pattern):
        return _regex(location, f"^{spelled(location.pattern)}")
    return Rule(location.upstream, location.statement, path=location.pattern)
