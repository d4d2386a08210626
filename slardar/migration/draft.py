"""The configuration that an import makes, piece by piece, and the list of what it leaves out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from slardar.config import parse_settings
from slardar.errors import ConfigError, printable
from slardar.migration.statement import Statement
from slardar.model.parse import parse_routes, parse_upstream

__all__ = ["NOWHERE", "Draft", "Remark"]

#: The upstream of what is not taken over.  There is none of this name, so its requests get 502, and
#: none of them goes where another rule would send it.
NOWHERE = "not-taken-over"

#: A statement is shown up to so many characters.
_SHOWN = 100
#: Lines are numbered up to so many.
_NUMBERS = 10
#: What writes YAML: with libyaml it takes a tenth of the time.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Remark:
    """A line of the lists: statements with the same text, and what to know of them."""

    def __init__(self, file: str, text: str, why: str) -> None:
        self.file = file
        self.text = text
        self.why = why
        self.lines: set[int] = set()

    def __str__(self) -> str:
        numbers = sorted(self.lines)
        lines = ",".join(map(str, numbers[:_NUMBERS]))
        if len(numbers) > _NUMBERS:
            lines += f" and {len(numbers) - _NUMBERS:,} more"
        text = self.text if len(self.text) <= _SHOWN else f"{self.text[:_SHOWN]}…"
        return printable(f"{self.file}:{lines}: {text}: {self.why}")

    def plain(self) -> dict[str, Any]:
        """The same for programs."""
        lines = sorted(self.lines)
        return {"file": self.file, "lines": lines, "what": self.text, "why": self.why}


class Draft:
    """A configuration that is being made from a file of another proxy."""

    def __init__(self, program: str, source: str) -> None:
        self.program = program
        self.source = source
        #: Sections and values beside upstreams and routes.
        self.settings: dict[str, Any] = {}
        self.upstreams: dict[str, dict[str, Any]] = {}
        self.routes: list[dict[str, Any]] = []
        self._left: dict[tuple[str, str, str], Remark] = {}
        self._differs: dict[tuple[str, str, str], Remark] = {}
        self._names: dict[str, str] = {}
        self._taken = {NOWHERE}
        self._known: set[tuple[tuple[str, str], ...]] = set()
        self._of_all: dict[tuple[str, str], list[tuple[float, Statement | None]]] = {}

    # What is left out, and what differs.

    def leave(self, statement: Statement, why: str) -> None:
        """List a statement, with all that is in its block, as not taken over."""
        statement.cover()
        self.tell_left(statement, statement.text, why)

    def tell_left(self, statement: Statement, text: str, why: str) -> None:
        """List a part of a statement as not taken over."""
        _note(self._left, statement, text, why)

    def differ(self, statement: Statement, text: str, why: str) -> None:
        """List what is taken over, and differs all the same."""
        _note(self._differs, statement, text, why)

    @property
    def left(self) -> list[Remark]:
        """What is not taken over, by file and line."""
        return _sorted(self._left.values())

    @property
    def differs(self) -> list[Remark]:
        """What is taken over and differs, by file and line."""
        return _sorted(self._differs.values())

    def sweep(
        self,
        statements: Iterable[Statement],
        known: Mapping[str, str],
        own: frozenset[str],
        blocks: frozenset[str],
        unknown: str = "slardar has nothing of this kind",
    ) -> None:
        """List every statement that nobody has looked after.

        ``own`` are those without a meaning here.  ``known`` has the reason, by name, and
        ``unknown`` is the reason for others.  Of ``blocks`` that are done, the statements within
        are looked at one by one.
        """
        for one in statements:
            if one.done and one.block is not None and one.name in blocks:
                self.sweep(one.block, known, own, blocks, unknown)
            elif not one.done and one.name in own:
                one.cover()
            elif not one.done:
                self.leave(one, known.get(one.name, unknown))

    # Values.

    def put(self, section: str, key: str, value: Any) -> None:
        """Set a value in a section of the settings."""
        self.settings.setdefault(section, {})[key] = value

    def put_for_all(
        self, section: str, key: str, value: float, statement: Statement | None
    ) -> None:
        """Note a value of a setting that slardar has once, for all names.

        The largest one is taken (0 is no limit in ``limits``), and the others are listed.  Without
        a statement it is the other proxy's default.
        """
        if statement is not None:
            statement.take()
        self._of_all.setdefault((section, key), []).append((value, statement))

    def settle(self) -> None:
        """Choose among the values of :meth:`put_for_all`."""
        for (section, key), values in self._of_all.items():
            chosen = max(
                (value for value, _ in values),
                key=lambda value: float("inf") if section == "limits" and not value else value,
            )
            self.put(section, key, chosen)
            if all(value == chosen for value, _ in values):
                continue
            for value, statement in values:
                if statement is not None and value == chosen:
                    self.differ(statement, statement.text, f"for all names: {section}.{key} is one")
                elif statement is not None:
                    self.tell_left(
                        statement,
                        statement.text,
                        f"slardar has one {section}.{key} for all names, here {chosen}",
                    )

    def name_of(self, text: str) -> str:
        """The name of the upstream for ``text``: always the same, and a different one for each."""
        if text not in self._names:
            name = re.sub(r"[^-_a-zA-Z0-9.]+", "-", text).strip("-")[:200] or "upstream"
            number, free = 2, name
            while free in self._taken:
                free, number = f"{name}-{number}", number + 1
            self._names[text] = free
            self._taken.add(free)
        return self._names[text]

    def add_upstream(self, name: str, body: dict[str, Any], statement: Statement) -> bool:
        """Add an upstream, which only routes lead to; what cannot be one is listed."""
        try:
            parse_upstream(name, body, f"upstreams.{name}")
        except ConfigError as error:
            self.tell_left(statement, statement.text, "; ".join(error.problems))
            return False
        self.upstreams[name] = {**body, "public": False}
        return True

    def add_route(self, statement: Statement, upstream: str, **keys: str | None) -> bool:
        """Add a route; what cannot be one is listed.

        If its expression cannot be read, all requests that come so far go nowhere, as nobody can
        say which of them it is for.
        """
        route = {key: value for key, value in keys.items() if value is not None}
        route["upstream"] = upstream
        try:
            parse_routes([route], "route")
        except ConfigError as error:
            self.tell_left(statement, statement.text, "; ".join(error.problems))
            if "path_regex" not in route:
                return False
            del route["path_regex"]
            route |= {"path": "/", "upstream": NOWHERE}
            self.differ(
                statement, statement.text, "all requests that no route before it takes get 502"
            )
        key = tuple(sorted(route.items()))
        if key not in self._known:
            self._known.add(key)
            self.routes.append(route)
        return True

    # The result.

    def plain(self) -> dict[str, Any]:
        """The configuration as plain data.  Raises ConfigError if slardar would refuse it."""
        whole: dict[str, Any] = {**self.settings}
        whole["upstreams"] = self.upstreams
        whole["routes"] = self.routes
        # A copy of plain data, which shares nothing.
        found: dict[str, Any] = json.loads(json.dumps(whole))
        parse_settings(found, self.source)
        return found

    def remarks(self) -> list[str]:
        """The two lists as lines."""
        lines = []
        for title, remarks in (
            ("Not taken over", self.left),
            ("Taken over, but not the same", self.differs),
        ):
            if remarks:
                lines.append(f"{title} ({len(remarks)}):")
                lines += [f"  {one}" for one in remarks]
        return lines

    def yaml(self) -> str:
        """The configuration as YAML, with the lists in front.  Raises ConfigError."""
        plain = self.plain()
        head = [f"Made from {self.program}'s {printable(self.source)} by slardar import."]
        text = "".join(f"# {line}\n" for line in [*head, *self.remarks()])
        for key, value in plain.items():
            # None: what holds no lists and objects of its own is written in one line.
            style = None if isinstance(value, (dict, list)) else False
            text += yaml.dump(
                {key: value},
                Dumper=_DUMPER,
                sort_keys=False,
                allow_unicode=True,
                width=110,
                default_flow_style=style,
            )
        return text


def _note(
    remarks: dict[tuple[str, str, str], Remark], statement: Statement, text: str, why: str
) -> None:
    key = (statement.file, text, why)
    remarks.setdefault(key, Remark(*key)).lines.add(statement.line)


def _sorted(remarks: Iterable[Remark]) -> list[Remark]:
    return sorted(remarks, key=lambda one: (one.file, min(one.lines), one.text, one.why))
