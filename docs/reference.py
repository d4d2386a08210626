"""Lists for these pages that are made from the code, so that nobody writes them a second time.

A page has ``<!-- made from the code: NAME -->`` where a list or a drawing belongs, and
:func:`filled` puts it there when Sphinx reads the page.  Keys, types and defaults come from the
classes that read them.  What a key means is written once: in the table of the page that explains it
(``WRITTEN``), or else in the comment (``#:``) of its attribute.  A key without either raises
LookupError, and so ends the build.
"""

from __future__ import annotations

import ast
import html
import inspect
import json
import re
import textwrap
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Meta, Struct

from slardar.cli import main
from slardar.config import Settings
from slardar.control.openapi import describe
from slardar.control.operations import OPERATIONS
from slardar.model.access_log import FIELDS
from slardar.model.routes import Route
from slardar.model.server import LevelBody, UpstreamBody
from slardar.model.service import ServiceKeys
from slardar.observers.families import FAMILIES, PREFIX

__all__ = ["LISTS", "WRITTEN", "Key", "filled", "layers", "objects", "rows_of"]

DOCS = Path(__file__).resolve().parent
_MARK = re.compile(r"^<!-- made from the code: ([a-z-]+) -->$", re.MULTILINE)

#: A table of a page: the page, the heading above it, and the head of its first column.
Place = tuple[str, str, str]
#: Where the keys of an object are explained.  An object is named as in the lists, from the top of
#: the file, of an upstream or of a service.  A later table wins.
WRITTEN: Mapping[str, tuple[Place, ...]] = {
    "settings": (("running.md", "Settings", "key"),),
    "timeouts": (("running.md", "Settings", "timeout"),),
    "limits": (("running.md", "Settings", "limit"),),
    "hooks": (("hooks.md", "Settings", "key"),),
    "access_log": (("access-log.md", "Access log", "key"),),
    "tracing": (("tracing.md", "Tracing", "key"),),
    "tls of settings": (("tls.md", "TLS", "key of `tls`"),),
    "tls.acme": (("tls.md", "Certificates by themselves: ACME", "key of `acme`"),),
    "route": (("upstreams.md", "Which one serves a request", "key"),),
    "upstream": (("upstreams.md", "An upstream's keys", "key"),),
    "servers": (("upstreams.md", "A server", "key"),),
    "queue": (("upstreams.md", "Queue", "key"),),
    "outlier": (("health.md", "Outliers", "key"),),
    "tls of upstream": (("tls.md", "TLS to servers", "key"),),
    "service": (("services.md", "Keys", "key"), ("services.md", "Kubernetes", "key")),
}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def tables_of(page: str, heading: str) -> Iterator[list[list[str]]]:
    """The tables between a heading of a page and the next heading: rows of cells, head first."""
    text = (DOCS / page).read_text("utf-8")
    found = re.search(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE
    )
    if found is None:
        raise LookupError(f"{page} has no heading {heading!r}")
    for block in re.findall(r"(?:^\|.*\n)+", found[1], re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line[1:-1]) for line in block.splitlines()]
        yield [[cell.strip() for cell in row] for row in (rows[0], *rows[2:])]


def rows_of(place: Place) -> Iterator[tuple[str, dict[str, str]]]:
    """Each key of a table, with the cells of its row by the head of their column."""
    page, heading, first = place
    (rows,) = [rows for rows in tables_of(page, heading) if rows[0][0] == first]
    for row in rows[1:]:
        # "any key of ..." is a row about none.
        names = row[0] if row[0].startswith("`") else ""
        for key in re.findall(r"`(?:hooks\.)?(\w+)`", names):
            yield key, dict(zip(rows[0], row, strict=True))


def _written(name: str) -> dict[str, str]:
    """What the pages say of each key of an object."""
    found = {}
    for place in WRITTEN.get(name, ()):
        for key, cells in rows_of(place):
            meaning = cells.get("meaning")
            if meaning is None:
                _, (_, meaning), *more = cells.items()
                meaning += "".join(f"; {head}: {cell}" for head, cell in more)
            found[key] = meaning.replace("](#", f"]({place[0]}#")
    return found


def _comments(struct: type[Struct]) -> dict[str, str]:
    """The comments ``#:`` above the attributes of a class, by attribute."""
    found: dict[str, str] = {}
    lines: list[str] = []
    for line in inspect.getsource(struct).splitlines():
        text = line.strip()
        if text.startswith("#:"):
            lines.append(text[2:].strip())
        elif lines:
            attribute = re.match(r"(\w+): ", text)
            if attribute:
                found[attribute[1]] = re.sub(
                    r":\w+:`([^`]+)`|``([^`]+)``",
                    lambda match: f"`{match[1] or match[2]}`",
                    " ".join(lines),
                )
            lines = []
    return found


def _type(hint: Any) -> str:
    """What a value may be, in words."""
    described = [
        one.description
        for one in getattr(hint, "__metadata__", ())
        if isinstance(one, Meta) and one.description
    ]
    if described:
        return str(described[-1]).replace("|", "\\|")
    if hasattr(hint, "__metadata__"):
        return _type(hint.__origin__)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in parts if part is not type(None))
    if origin is typing.Literal:
        return " or ".join(f"`{json.dumps(part)}`" for part in parts)
    if origin is tuple:
        return f"a list of {_type(parts[0]).removeprefix('an ').removeprefix('a ')}s"
    if origin is dict:
        return "an object"
    if isinstance(hint, type) and issubclass(hint, Struct):
        return "an object"
    return {bool: "true or false", str: "a string", int: "an integer", float: "a number"}.get(
        hint, "a value"
    )


def _inner(hint: Any) -> type[Struct] | None:
    """The class of the object, or of the objects, that a key holds."""
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint
    parts = (hint.__origin__,) if hasattr(hint, "__metadata__") else typing.get_args(hint)
    return next((found for part in parts if (found := _inner(part)) is not None), None)


def _value(field: msgspec.structs.FieldInfo) -> Any:
    """The default of a key that has one."""
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return ""
    value = _value(field)
    if isinstance(value, Struct):
        return "as below"
    return "none" if value is None else f"`{json.dumps(msgspec.to_builtins(value))}`"


#: What a key takes that is read by hand, by the type of its default.
_ANY = {dict: "an object", tuple: "a list", type(None): "a list or an object"}


class Key(typing.NamedTuple):
    """A key of an object, as a row of a list has it; ``inner`` is the class of its own keys."""

    name: str
    value: str
    default: str
    meaning: str
    inner: type[Struct] | None


def keys_of(struct: type[Struct], name: str) -> list[Key]:
    """The keys of an object.  Raises LookupError for one whose meaning is written nowhere."""
    written, comments = _written(name), _comments(struct)
    hints = typing.get_type_hints(struct, include_extras=True)
    found = []
    for field in msgspec.structs.fields(struct):
        key = field.encode_name
        if key == "x_":
            continue
        meaning = written.get(key) or comments.get(field.name)
        if not meaning:
            raise LookupError(f"{struct.__name__}.{field.name}: no page and no comment explains it")
        hint = hints[field.name]
        kind = _type(hint) if hint is not Any else _ANY[type(_value(field))]
        found.append(Key(key, kind, _default(field), meaning, _inner(hint)))
    return found


#: What an object within several lists is called in each.
_NAMES = {("settings", "tls"): "tls of settings", ("upstream", "tls"): "tls of upstream"}


def objects(struct: type[Struct], top: str) -> Iterator[tuple[str, list[Key]]]:
    """An object and those within it, each once, as a name and its keys."""
    waiting, seen = [(top, struct)], {struct}
    for name, cls in waiting:
        keys = keys_of(cls, name)
        yield name, keys
        within = {key.name: key.inner for key in keys}
        if cls is UpstreamBody:
            # It is read by hand: a list of levels, or an object of them.
            within["cluster"] = LevelBody
        for key, inner in within.items():
            if inner is not None and inner not in seen:
                seen.add(inner)
                path = key if name == top else f"{name.partition(' of ')[0]}.{key}"
                waiting.append((_NAMES.get((name, key), path), inner))


def _struct_list(struct: type[Struct], name: str) -> str:
    parts = []
    for title, keys in objects(struct, name):
        shown = title.partition(" of ")[0]
        if title != name:
            parts.append(f"### {name}: {shown}\n\n")
        rows = [(f"`{key.name}`", key.value, key.default, key.meaning) for key in keys]
        parts.append(table(("key", "value", "default", "meaning"), rows) + "\n")
    return "".join(parts)


def _about(parameters: Iterable[Mapping[str, Any]]) -> str:
    return "; ".join(
        f"`{one['name']}`: {one['description'].removesuffix('.')}" for one in parameters
    )


def _control() -> str:
    """Every call, as the description of the API has it; what all changes take comes first."""
    roles = {one.name: one.role for one in OPERATIONS}
    changes = [one for one in OPERATIONS if one.is_change]
    shared = {one.name for one in changes[0].parameters}
    shared = shared.intersection(*({one.name for one in each.parameters} for each in changes))
    told: dict[str, Mapping[str, Any]] = {}
    rows = []
    for path, calls in describe(OPERATIONS)["paths"].items():
        for method, call in calls.items():
            name = call["operationId"]
            role = roles.get(name) or roles[name.removesuffix(f"-{method}")]
            own = []
            for one in call["parameters"]:
                if one["in"] == "query" and one["name"] in shared:
                    told[one["name"]] = one
                elif one["in"] == "query":
                    own.append(one)
            content = call.get("requestBody", {}).get("content", {})
            bodies = [one["schema"]["$ref"].rpartition("/")[2] for one in content.values()]
            body = " or ".join(f"`{one}`" for one in bodies)
            rows.append((f"`{method.upper()} {path}`", role, call["summary"], body, _about(own)))
    return f"Every change takes {_about(told.values())}.\n\n" + table(
        ("call", "role", "what it does", "body", "parameters"), rows
    )


def _text(words: str | None) -> str:
    """A help text on one line of Markdown."""
    return re.sub(r"\s+", " ", words or "").strip().replace("|", "\\|").replace("<", "\\<")


def _commands(command: click.Command, words: str) -> Iterator[tuple[click.Context, str]]:
    context = click.Context(command, info_name=words)
    if not isinstance(command, click.Group):
        yield context, words
        return
    for name in command.list_commands(context):
        yield from _commands(command.commands[name], f"{words} {name}")


def _console() -> str:
    """Every command of ``slardar``; the options of most commands come first."""
    told = []
    counts: Counter[tuple[str, str]] = Counter()
    for context, words in _commands(main, "slardar"):
        records = [
            (f"`{record[0]}`".replace("|", "\\|"), _text(record[1]))
            for one in context.command.params
            if isinstance(one, click.Option) and (record := one.get_help_record(context))
        ]
        told.append((context, words, records))
        counts.update(records)
    shared = [record for record, count in counts.items() if 2 * count > len(told)]
    parts = ["Commands that ask a running slardar take these options.\n\n"]
    parts.append(table(("option", "meaning"), shared) + "\n")
    for context, words, records in told:
        usage = " ".join(context.command.collect_usage_pieces(context))
        about = _text((context.command.help or "").partition("\n\n")[0])
        parts.append(f"### {words}\n\n`{words} {usage}`\n\n{about}\n\n")
        own = [record for record in records if record not in shared]
        if own:
            parts.append(table(("option", "meaning"), own) + "\n")
    return "".join(parts)


def _metrics() -> str:
    rows = [
        (
            f"`{PREFIX}{one.name}`",
            one.type,
            ", ".join(f"`{label}`" for label in one.labels),
            one.help,
            one.alarm,
        )
        for one in FAMILIES
    ]
    return table(("name", "type", "labels", "meaning", "look closer when"), rows)


def _fields() -> str:
    return table(("field", "what"), ((f"`{name}`", text) for name, text in FIELDS.items()))


def _about_module(name: str) -> str:
    """The first sentence of the docstring of a part of slardar."""
    path = DOCS.parent / "slardar" / name
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return re.sub(r"\s+", " ", text.partition("\n\n")[0]).replace("`", "")


def layers() -> list[list[str]]:
    """The layers of the contract in pyproject.toml, the highest first."""
    text = (DOCS.parent / "pyproject.toml").read_text("utf-8")
    # Python 3.10 has no parser of TOML.
    (block,) = re.findall(r"^layers = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    return [re.findall(r"\w+", line) for line in re.findall(r'"(.*)"', block)]


def _layers() -> str:
    """A drawing of the layers: a box for each part, and an arrow in the direction of imports."""
    rows, high = layers(), 30
    bottom = len(rows) * high
    parts = [
        "<figure>",
        f'<svg viewBox="0 0 900 {bottom + 8}" role="img" aria-label="The layers of slardar"'
        ' font-family="sans-serif" font-size="13" fill="currentColor" stroke="none">',
        f'<path d="M12 8 V{bottom} m-5 -8 l5 8 l5 -8" fill="none" stroke="currentColor"/>',
    ]
    for index, names in enumerate(rows):
        left, top = 30, index * high + 4
        for name in names:
            wide = 16 + 8 * len(name)
            about = html.escape(_about_module(name))
            parts.append(
                f'<g><title>{about}</title><rect x="{left}" y="{top}" width="{wide}" height="22"'
                ' rx="4" fill="none" stroke="currentColor"/>'
                f'<text x="{left + wide / 2}" y="{top + 15}" text-anchor="middle">{name}</text></g>'
            )
            left += wide + 8
        if len(names) == 1:
            about = html.escape(textwrap.shorten(_about_module(names[0]), 100, placeholder=" …"))
            parts.append(
                f'<text x="{left + 8}" y="{top + 15}" font-size="12" opacity="0.8">{about}</text>'
            )
    return "\n".join([*parts, "</svg>", "</figure>\n"])


#: The lists, by the name that stands in a page.
LISTS: Mapping[str, Callable[[], str]] = {
    "settings": lambda: _struct_list(Settings, "settings"),
    "upstream": lambda: _struct_list(UpstreamBody, "upstream"),
    "service": lambda: _struct_list(ServiceKeys, "service"),
    "route": lambda: _struct_list(Route, "route"),
    "control": _control,
    "console": _console,
    "metrics": _metrics,
    "access-log-fields": _fields,
    "layers": _layers,
}


def filled(text: str) -> str:
    """The text of a page, with every list where it belongs."""
    return _MARK.sub(lambda match: LISTS[match[1]](), text)
