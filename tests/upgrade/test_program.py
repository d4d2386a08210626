"""How a process was started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from slardar.upgrade.program import this_program


def test_command_is_the_whole_one() -> None:
    """It has the interpreter, the interpreter's options, and all arguments."""
    command = this_program().command
    assert command[0] == sys.executable
    assert list(command[1:]) == sys.orig_argv[1:]


def test_folder_keeps_the_name_it_was_entered_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a link is kept, not its present target; a path that leads elsewhere now is
    not used."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to("v1")
    monkeypatch.chdir(tmp_path / "v1")
    for name, folder in (
        (str(tmp_path / "current"), "current"),
        (str(tmp_path), "v1"),
        ("v1", "v1"),
        (str(tmp_path / "missing"), "v1"),
    ):
        monkeypatch.setenv("PWD", name)
        assert this_program().folder == str(tmp_path / folder)
    monkeypatch.delenv("PWD")
    assert this_program().folder == str(tmp_path / "v1")


def test_environment_is_that_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that systemd gave to this process alone are missing."""
    program = this_program()
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDNAMES", "web")
    monkeypatch.setenv("NEW", "yes")
    environment = program.environment()
    assert environment["NEW"] == "yes"
    assert environment["PWD"] == program.folder
    assert not {name for name in environment if name.startswith("LISTEN_")}
