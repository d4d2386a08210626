"""What commands print of hostile texts, and how it looks where nobody watches."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from slardar.cli import main
from slardar.console.output import print_diff, print_table

HOSTILE = "a\x1b[2Jb\r[red]c[/red]"
SHOWN = "a\\x1b[2Jb\\r[red]c[/red]"


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a row, without colours, so that programs can read it."""
    print_table(("A", "LONG"), [("x" * 200, ("ok", "green")), ("y", "")])
    lines = printed(capsys).splitlines()
    assert lines == ["A" + " " * 201 + "LONG", "x" * 200 + "  ok", "y"]


def test_no_text_steers_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_table(("A",), [(HOSTILE,)])
    assert printed(capsys) == f"A\n{SHOWN}\n"
    print_diff(f"+ {HOSTILE}")
    assert SHOWN in click.unstyle(printed(capsys))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    print_table(("A",), [(HOSTILE,), ((HOSTILE, "green"),)])
    table = printed(capsys)
    assert table.count(SHOWN) == 2
    assert "\x1b[2J" not in table
    assert "\r" not in table


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_an_example(name: str) -> None:
    command = main.commands[name]
    commands = command.commands if isinstance(command, click.Group) else {name: command}
    for one, found in commands.items():
        words = [name] if one == name else [name, one]
        text = CliRunner().invoke(main, [*words, "--help"]).output
        assert "Example:" in text, words
        assert f"slardar {' '.join(words)}" in text.partition("Example:")[2], words
        assert found.help, words
