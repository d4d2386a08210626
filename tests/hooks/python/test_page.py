"""The examples and the limits on the page about Python hooks are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slardar.hooks import budget, headers
from slardar.hooks.engine import MAX_CODE
from slardar.hooks.python import compiling, limits, methods, net, regex, standard
from slardar.hooks.python.builtins import BUILTINS, EXCEPTIONS, Kind
from slardar.hooks.python.modules import IMPORTABLE
from slardar.hooks.trial import Trial, read_request
from tests.hooks.python.loading import SETTINGS, Hooks, request, response

PAGE = (Path(__file__).parents[3] / "docs" / "hooks-python.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
MODULES = {"modules.limits": "def apply(request):\n    request.headers['X-Limit'] = '5'\n"}


def test_page_has_examples() -> None:
    """The page has examples, or the next test would try nothing."""
    assert len(BLOCKS) >= 6


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_examples_work(hooks: Hooks, block: str) -> None:
    """Each example is a hook that can be loaded and run."""
    script = hooks.load(block, modules=MODULES)
    for asked in (request(), request("GET", "/old/x?debug=1"), request("DELETE", "/", "::1")):
        script.on_request(asked)
        script.on_response(asked, response(404))


#: Hooks that fail as the page shows, in its order, and their modules.
FAILING = (
    ("\n" * 6 + "def on_request(r): {}['token']\n", {}),
    (
        "def on_request(r):\n\n    require('modules.limits').apply()\n",
        {"modules.limits": "def apply():\n" + "\n" * 10 + "    1 / 0\n"},
    ),
    ("def on_request(r):\n" + "\n" * 7 + "    while True: pass\n", {}),
    (
        "def on_request(r):\n    kept = []\n    while True:\n        kept.append('a' * 1000000)\n",
        {},
    ),
)


def test_failures_are_told_as_shown() -> None:
    """Each failure on the page is the one of such a hook."""
    shown = re.findall(r"^script\..*$", PAGE, re.MULTILINE)
    assert len(shown) == len(FAILING)
    for line, (code, modules) in zip(shown, FAILING, strict=True):
        trial = Trial("python", line.partition(":")[0], code, modules)
        asked = read_request(b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n", "", "::1")
        assert trial.run(asked, None)["error"].endswith(f": {line}")


@pytest.mark.parametrize(
    "number",
    [
        MAX_CODE,
        compiling.MAX_DEPTH,
        compiling.MAX_NODES,
        limits.MAX_TEXT,
        limits.MAX_ITEMS,
        limits.MAX_BITS,
        limits.MAX_WEIGHT,
        methods.MAX_SORT,
        methods._MAX_SORTED_TEXT,
        methods._MAX_CASES,
        standard.MAX_JSON,
        regex.MAX_PATTERN,
        regex.MAX_SUBJECT,
        net.MAX_URL,
        headers.MAX_LINES,
    ],
)
def test_limits_are_those_of_the_code(number: int) -> None:
    """Each limit stands on the page as a number."""
    assert f"{number:,}" in PAGE


def test_memory_and_levels_are_those_of_the_code() -> None:
    """The limits that the page writes in another form are true, too."""
    assert f"{budget.MAX_MEMORY >> 20} MiB" in PAGE
    assert f"{limits.MAX_DEPTH} levels" in PAGE
    assert f"{standard.MAX_LEVELS} levels" in PAGE


def test_every_builtin_and_module_is_on_the_page() -> None:
    """Authors can find every name that hooks have."""
    words = set(re.findall(r"\w+", PAGE))
    facades = {"Errno", "Headers", "HookRequest", "HookResponse", "Query", "Settings"}
    names = {name for name in BUILTINS if name[0] != "_"} - set(EXCEPTIONS) - facades
    assert names <= words
    assert set(IMPORTABLE) - {"typing", "urllib"} <= set(re.findall(r"[\w.]+", PAGE))
    assert isinstance(BUILTINS["str"], Kind)
    assert "myargs" in SETTINGS
