"""Every command in the book is one that its program takes.

Not every command can be run where the tests run.  Each of them is still read by the program's own
parser: a curl call by the table of operations, ``slardar`` by the console's commands, ``twistd
slardar`` by its options, ``make`` by the Makefile and the benchmarks' options.  What is run, and
that it prints what the page shows, is in ``tests/test_docs.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.book import EVERY_PAGE, code_spans, commands, fences, simple_commands, written
from tests.book_checks import (
    FOREIGN,
    METHODS,
    WrongError,
    check_call,
    check_options,
    check_span,
    check_words,
    is_setting,
)
from tests.integration.programs import CHECKOUT

by_page = pytest.mark.parametrize(
    "page", EVERY_PAGE, ids=lambda page: str(page.relative_to(CHECKOUT))
)

#: Kinds of fenced blocks.  Commands are in ``console``, with what they print, and in ``sh``.
KINDS = {"console", "hcl", "js", "json", "lua", "python", "sh", "text", "yaml", "{toctree}"}

#: Code within lines that looks like slardar's, and is not.
ELSEWHERE = {
    ("GET /page/NAME", "architecture.md"),  # Of the dashboard, which the same port serves.
    ("GET /version", "services.md"),  # Of Docker.
    ("POST /v1/traces", "tracing.md"),  # Of a collector.
    ("limits.http_max_conns_per_client", "services.md"),  # Of Consul.
}


@by_page
def test_commands_are_taken(page: Path) -> None:
    """Each program takes its words, as far as the words can be read without it."""
    for command in written(page):
        try:
            check_words(command.words)
        except WrongError as error:
            pytest.fail(f"{command.place}\n{error}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("curl -X PATCH localhost:1995/upstream/a", "no PATCH"),
        ("curl localhost:1995/upstrem/a", "no such path"),
        ("curl 'localhost:1995/history?limits=1'", "unknown parameter"),
        ("curl 'localhost:1995/history?limit=one'", "expected"),
        ("curl -X DELETE localhost:1995/routes -d '[]'", "takes no body"),
        ("curl localhost:1996/status", "no port"),
        ("curl example.com/status", "no name"),
        ("curl --header-x a localhost:1995/status", "not recognized"),
        ("slardar drian a b:1", "no command drian"),
        ("slardar drain a b:1 --waits 30", "No such option"),
        ("slardar drain a", "Missing argument"),
        ("slardar set a b:port", "expected"),
        ("slardar weight a b:1 five", "not a valid"),
        ("slardar store copi a b", "no command copi"),
        ("twistd slardar --chek", "not recognized"),
        ("twistd --nodaemn slardar", "not recognized"),
        ("twistd slardar again", "no option"),
        ("twistd slardar --workers many", "expected"),
        ("make soke", "no target"),
        ("make run PYTHONS=python3", "takes no PYTHONS"),
        ("make bench ARGS='--quikc'", "does not take"),
        ("python -m benchmarks.events --rate", "does not take"),
        ("python -m benchmarks.evnts", "No module"),
        ("python examples/none.py", "no file"),
        ("pip install 'txslardar[none]'", "no extra none"),
        ("pip install slardar", "no package"),
        ("kill -INFO 1", "nothing to do"),
        ("docker compose --file none.yaml up", "no file"),
        ("docker exec slardar slardar stats", "no command stats"),
        ("systemctl reload slradar", "no unit"),
        ("slardard status", "no check for slardard"),
    ],
)
def test_wrong_commands_are_found(text: str, reason: str) -> None:
    """Each check can fail."""
    (words,) = simple_commands(text)
    with pytest.raises(WrongError, match=reason):
        check_words(words)


def test_commands_are_found_in_lines_for_a_shell() -> None:
    """In pipes, after variables, in loops, in parentheses and across lines; no comment is one."""
    text = (
        "A=1 twistd -n slardar | grep x > file; until curl -s a/$b; do sleep 1; done  # no command"
    )
    assert list(simple_commands(text)) == [
        ["twistd", "-n", "slardar"],
        ["grep", "x"],
        ["curl", "-s", "a/$b"],
        ["sleep", "1"],
    ]
    assert list(simple_commands("old=$(cat a); (umask 077 && kill -HUP $old)")) == [
        ["cat", "a"],
        ["umask", "077"],
        ["kill", "-HUP", "$old"],
    ]
    shown = list(commands("$ a 'b\nc'\nsaid\n# said, too\n$ d \\\n  e\nsaid\n"))
    assert [(one.words, one.answer) for one in shown] == [
        (["a", "b\nc"], "said\n# said, too"),
        (["d", "e"], "said"),
    ]
    assert [one.words for one in commands("# a\nsaid\n")] == [["a"]]


@by_page
def test_blocks_have_a_kind(page: Path) -> None:
    """Without one, a block would be read by no test; and a command in a text is none."""
    for block in fences(page.read_text("utf-8")):
        assert block.kind in KINDS, f"{page.name}:{block.line}"
        if block.kind == "text":
            assert not re.search(r"^[$#] \S", block.text, re.MULTILINE), f"{page.name}:{block.line}"
        if block.kind == "console":
            assert re.match(r"[$#] ", block.text), f"{page.name}:{block.line}"


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (check_call, "PATCH /upstream/NAME"),
        (check_call, "GET /upstrems"),
        (check_call, "PUT /upstream/NAME?relaod=1"),
        (check_options, "--exit-cod"),
        (check_options, "--workers N --chek"),
        (check_span, "slardar stats"),
        (check_span, "slardar diff --exit-cod"),
        (check_span, "slardar store chekc"),
        (check_span, "make bnech"),
        (check_span, "python -m benchmarks.health --trns 60"),
    ],
)
def test_wrong_code_within_lines_is_found(check: Callable[[str], None], text: str) -> None:
    """Each check can fail."""
    with pytest.raises(WrongError):
        check(text)


@by_page
def test_commands_within_lines_are_taken(page: Path) -> None:
    """A command and its options, and a call with its parameters."""
    pattern = re.compile(rf"(slardar|twistd|make|pip|python|kill) \S|({METHODS}) /[a-z]|--?[a-z]")
    for line, text in code_spans(page.read_text("utf-8")):
        found = pattern.match(text)
        if not found or (text, page.name) in ELSEWHERE:
            continue
        check = check_call if found[2] else check_options if text.startswith("-") else check_span
        try:
            check(text)
        except WrongError as error:
            pytest.fail(f"{page.name}:{line}: {text}\n{error}")


#: Pages whose commands are in ``sh`` blocks, which tests/test_docs.py does not run: why.
SCRIPTS = {
    "docs/benchmarks.md": "they measure for minutes",
    "docs/control.md": "the host is the reader's, and the digest is new each time",
    "docs/services.md": "Docker and Kubernetes are the reader's; tests/catalogues has stand-ins",
    "docs/soak.md": "they take an hour; tests/integration/test_soak.py runs parts for seconds",
    "docs/store.md": "the file is the reader's; test_commands_about_the_file has another",
    "docs/stores.md": "the stores are the reader's; tests/stores writes to real ones",
    "examples/fleet/README.md": "tests/integration/test_fleet.py runs it",
    "examples/monitoring/README.md": "tests/integration/test_metrics.py checks the rules",
}


def test_scripts_have_their_reason() -> None:
    """A page with commands that are not run says here why; all others use ``console``."""
    found = {
        str(page.relative_to(CHECKOUT))
        for page in EVERY_PAGE
        for block in fences(page.read_text("utf-8"))
        if block.kind == "sh"
    }
    assert found == set(SCRIPTS)
    for reason in (*SCRIPTS.values(), *FOREIGN.values()):
        for place in re.findall(r"tests/[\w/.]+", reason):
            assert (CHECKOUT / place).exists(), reason


_SHOWN = "tests/integration/test_shown_lines.py"
#: Texts of the pages: a page, what is in the text, and which test holds it, or why none does.
TEXTS = (
    ("access-log.md", '"time"', _SHOWN),
    ("access-log.md", " - - [", _SHOWN),
    ("access-log.md", "imtcp", "rsyslog's own configuration"),
    ("architecture.md", " v\n", "pictures; tests/test_architecture.py looks for their files"),
    ("balancers.md", "cost = ", "a formula"),
    ("balancers.md", "score = ", "a formula"),
    ("control.md", "version 7: ", _SHOWN),
    ("control.md", "refused with 403: ", _SHOWN),
    ("health.md", "is out of service", _SHOWN),
    ("history.md", '"file"', _SHOWN),
    ("hooks-python.md", "KeyError", "tests/hooks/python/test_page.py"),
    ("http.md", "502 for", f"{_SHOWN}; tests/dataplane/test_failurelog.py has the second line"),
    ("http.md", '{"status": 502', "tests/test_docs.py: troubleshooting.md has it, too"),
    ("http.md", "X-Forwarded-For: ", "tests/http1/test_forwarded.py"),
    ("http.md", "Forwarded: for=", "tests/http1/test_forwarded.py"),
    ("normal.md", "", "tests/integration/test_normal.py"),
    ("running.md", '"age"', "tests/integration/test_page_programs.py"),
    ("running.md", "not upgraded: ", "tests/integration/test_page_programs.py"),
    ("running.md", '"level"', _SHOWN),
    ("store.md", ": damaged (", "SQLite's words; tests/stores/test_sqlite_file.py has some"),
    ("stores.md", "stored and left out: ", "tests/integration/test_store_away.py"),
)


def test_texts_have_their_test() -> None:
    """Each text is of the table once, each entry has its text, and the tests are there."""
    found = {
        (page.name, block.text)
        for page in EVERY_PAGE
        for block in fences(page.read_text("utf-8"))
        if block.kind == "text"
    }
    for name, text in found:
        entries = [one for one in TEXTS if one[0] == name and one[1] in text]
        assert len(entries) == 1, (name, text, entries)
    for name, part, reason in TEXTS:
        assert any(name == page and part in text for page, text in found), (name, part)
        for file in re.findall(r"tests/\S+\.py", reason):
            assert (CHECKOUT / file).is_file(), reason


def test_settings_can_be_missing() -> None:
    """At the top, within an object, and below what is no object."""
    assert is_setting("workers")
    assert is_setting("control.tokens")
    assert is_setting("access_log.to")
    assert not any(map(is_setting, ("worker", "control.token", "workers.many")))


@by_page
def test_settings_within_lines_are_there(page: Path) -> None:
    """A path that begins as a setting is one."""
    for line, text in code_spans(page.read_text("utf-8")):
        found = re.match(r"([a-z_]+)(?:\.[a-z_]+)+(?=$|:)", text)
        if found and is_setting(found[1]) and (text, page.name) not in ELSEWHERE:
            assert is_setting(found[0]), f"{page.name}:{line}: {text}"
