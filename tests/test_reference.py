"""The lists of the documentation that are made from the code."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from types import ModuleType
from xml.etree import ElementTree

import msgspec
import pytest
from msgspec import Struct

from slardar.cli import main
from slardar.config import Settings
from slardar.control.operations import OPERATIONS
from slardar.model.access_log import FIELDS
from slardar.model.routes import Route
from slardar.model.server import UpstreamBody
from slardar.model.service import ServiceKeys
from slardar.observers.families import FAMILIES
from slardar.options import Options
from tests.integration.programs import CHECKOUT

DOCS = CHECKOUT / "docs"
TOPS = {"settings": Settings, "upstream": UpstreamBody, "service": ServiceKeys, "route": Route}

by_top = pytest.mark.parametrize("top", TOPS)


def load() -> ModuleType:
    """``docs/reference.py``, which is in no package."""
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    return module


reference = load()


def test_every_list_has_one_place() -> None:
    """A list that is in no page would be read by nobody, and one that is not there ends the
    build."""
    marks = [
        mark
        for page in sorted(DOCS.glob("*.md"))
        for mark in re.findall("<!-- made from the code: (.*) -->", page.read_text("utf-8"))
    ]
    assert sorted(marks) == sorted(reference.LISTS)


@by_top
def test_every_key_is_explained(top: str) -> None:
    """Every key of every object, with what it takes."""
    names = set()
    for name, keys in reference.objects(TOPS[top], top):
        names.add(name)
        for key in keys:
            assert key.meaning, (name, key.name)
            assert key.value != "a value", (name, key.name)
    if top == "settings":
        assert {"timeouts", "control.tokens", "tls.client", "tls.hsts"} <= names
    if top == "upstream":
        assert {"servers", "cluster", "outlier", "tls of upstream"} <= names


def test_key_without_meaning_ends_the_build() -> None:
    """It is named."""

    class Unexplained(Struct):
        #: Good.
        a: int = 0
        b: int = 0

    with pytest.raises(LookupError, match=r"Unexplained\.b: no page and no comment explains it"):
        list(reference.objects(Unexplained, "x"))


@by_top
def test_pages_have_the_keys_and_the_defaults_of_the_code(top: str) -> None:
    """The tables that explain keys name none that is not there, and their defaults are right."""
    compared = 0
    for name, keys in reference.objects(TOPS[top], top):
        defaults = {key.name: key.default for key in keys}
        for place in reference.WRITTEN.get(name, ()):
            for key, cells in reference.rows_of(place):
                assert key in defaults, (place, key)
                shown = re.fullmatch("`(.*)`", cells.get("default", ""))
                code = re.fullmatch("`(.*)`", defaults[key])
                if shown and code:
                    wanted = json.loads(code[1])
                    assert shown[1] in (wanted, code[1]), (place, key)
                    compared += 1
    assert compared >= {"settings": 10, "upstream": 30, "service": 3, "route": 0}[top]


def test_lists_name_everything() -> None:
    """Calls, commands, metrics and fields."""
    control = reference.LISTS["control"]()
    for operation in OPERATIONS:
        path = re.sub("[A-Z]+", lambda word: f"{{{word[0].lower()}}}", operation.path)
        for method in operation.methods:
            assert f"| `{method} {path}` | {operation.role} | {operation.about} |" in control
    assert "| `PUT /routes` | admin | Replace the routes. | `Routes` |" in control
    console = reference.LISTS["console"]()
    for name, command in main.commands.items():
        assert f"### slardar {name}" in console
        assert command.help
    assert "`--wait SECONDS`" in console
    metrics = reference.LISTS["metrics"]()
    assert all(f"| `slardar_{one.name}` | {one.type} |" in metrics for one in FAMILIES)
    fields = reference.LISTS["access-log-fields"]()
    assert all(f"| `{name}` | {text} |" in fields for name, text in FIELDS.items())


def test_mark_is_replaced() -> None:
    """Whatever stands around it stays; a list that does not exist is a mistake."""
    mark = "<!-- made from the code: {} -->"
    page = f"a\n\n{mark.format('route')}\n\nb\n"
    assert reference.filled(page).startswith("a\n\n| key | value | default | meaning |\n")
    assert reference.filled(page).endswith("|\n\n\n\nb\n")
    with pytest.raises(KeyError):
        reference.filled(mark.format("nothing"))


def test_defaults_are_shown_as_json() -> None:
    """Also those of lists; an object within an object has a list of its own."""
    (_, keys), *_ = reference.objects(Settings, "settings")
    shown = {key.name: key.default for key in keys}
    assert shown["listen"] == f"`{json.dumps(msgspec.to_builtins(Settings().listen))}`"
    assert (shown["limits"], shown["conf_hash"]) == ("as below", "none")


def test_links_in_lists_lead_to_pages() -> None:
    """Links within a page that explains a key become links to that page."""
    for make in reference.LISTS.values():
        for target in re.findall(r"\]\(([^)\s]+)\)", make()):
            page = target.partition("#")[0]
            assert "://" in target or (DOCS / page).is_file(), target
            assert page, target


def test_layers_are_drawn() -> None:
    """Every part of slardar has a box, and below a part is what it may import."""
    drawn = [name for layer in reference.layers() for name in layer]
    root = CHECKOUT / "slardar"
    parts = {path.stem for path in root.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert sorted(drawn) == sorted(parts - {"__init__", "__pycache__"})
    assert drawn.index("control") < drawn.index("dataplane") < drawn.index("model")
    picture = reference.LISTS["layers"]()
    assert all(f">{name}</text>" in picture for name in drawn)
    assert "\n\n" not in picture  # Markdown would end it there
    ElementTree.fromstring(picture)


def test_page_of_the_console_names_every_command() -> None:
    """What each is for is told there, and its options in the list."""
    page = (DOCS / "console.md").read_text("utf-8")
    named = " ".join(re.findall("`([^`\n]+)`", page)).split()
    assert set(main.commands) <= set(named)


def test_page_on_running_names_every_option() -> None:
    """And no option that twistd would not take."""
    (rows,) = [
        rows for rows in reference.tables_of("running.md", "Options") if rows[0][0] == "option"
    ]
    named = {re.findall(r"`--([a-z-]+)", row[0])[0] for row in rows[1:]}
    taken = {name.rstrip("=") for name in Options().longOpt}
    assert named == taken - {"help", "version"}
