"""The twenty hooks of the cookbook do what they say, each in both languages."""

from __future__ import annotations

import re
from typing import Any

import pytest

from slardar.hooks.trial import Trial, read_reply, read_request
from tests.integration.programs import CHECKOUT
from tests.recipes import RECIPES, Case

HOOKS = CHECKOUT / "examples" / "hooks"
ENDINGS = {"python": "py", "lua": "lua"}
CASES = [
    pytest.param(name, language, case, id=f"{name}-{language}-{number}")
    for name, cases in RECIPES.items()
    for language in ENDINGS
    for number, case in enumerate(cases)
    if case.only in (None, language)
]


def header_of(text: str, name: str) -> str | None:
    """The value of a header of a head as it is shown."""
    for line in text.splitlines()[1:]:
        key, _, value = line.partition(": ")
        if key.lower() == name.lower():
            return value
    return None


def check_headers(text: str, wanted: dict[str, str | None]) -> None:
    """Assert that each header has its value, or is not there."""
    assert {name: header_of(text, name) for name in wanted} == wanted


def outcome_of(name: str, language: str, case: Case) -> dict[str, Any]:
    """The outcome of the hook in this case."""
    code = (HOOKS / f"{name}.{ENDINGS[language]}").read_text("utf-8")
    trial = Trial(language, "script.*", code, {})
    request = read_request(case.request.encode(), "request", case.client)
    reply = read_reply(case.server.encode(), "reply", request)
    return trial.run(request, reply)


@pytest.mark.parametrize(("name", "language", "case"), CASES)
def test_recipe(name: str, language: str, case: Case) -> None:
    """The request gets the answer, or goes on, as the cookbook says."""
    outcome = outcome_of(name, language, case)
    if case.status is not None:
        assert outcome["outcome"] == "answered", outcome
        assert outcome["status"] == case.status
        check_headers(outcome["reply"].partition("\n\n")[0], case.reply)
        return
    assert outcome["outcome"] == "continues", outcome
    check_headers(outcome["request"], case.headers)
    check_headers(outcome["reply"], case.reply)
    start = outcome["request"].splitlines()[0].split(" ")
    if case.uri is not None:
        assert start[1] == case.uri
    if case.host is not None:
        assert header_of(outcome["request"], "Host") == case.host
    assert outcome["upstream"] == case.upstream
    assert outcome["hash_key"] == case.hash_key
    assert outcome["cluster_key"] == case.cluster_key


def test_request_id_is_the_same_everywhere() -> None:
    """Server and client get the same id, and it is not the client's."""
    for language in ENDINGS:
        case = Case("GET / HTTP/1.1\nHost: a\nX-Request-Id: abcdef-123")
        outcome = outcome_of("request_id", language, case)
        made = header_of(outcome["request"], "X-Request-Id")
        assert made is not None
        assert re.fullmatch(r"\d+\.\d{6}-203\.0\.113\.7", made)
        assert header_of(outcome["reply"], "X-Request-Id") == made


def test_every_recipe_is_there_twice() -> None:
    """There are twenty, each in both languages, each with its cases."""
    files = {path.stem: path.suffix for path in HOOKS.glob("*.py")}
    assert set(files) == {path.stem for path in HOOKS.glob("*.lua")} == set(RECIPES)
    assert len(files) == 20


def test_page_shows_the_files() -> None:
    """The cookbook contains the code itself, so that it can be read wherever the page is shown
    as a file.  A change of a hook must change the page, too."""
    page = (CHECKOUT / "docs" / "cookbook.md").read_text("utf-8")
    shown = re.findall(
        r"^`examples/hooks/(\w+\.\w+)`\n\n```(\w+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE
    )
    assert len(shown) == 2 * len(RECIPES)
    for name, language, code in shown:
        assert name.endswith(ENDINGS[language])
        assert code == (HOOKS / name).read_text("utf-8"), name
    assert "{literalinclude}" not in page
