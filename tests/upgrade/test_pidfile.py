"""twistd's pidfile while two generations live."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slardar.upgrade.pidfile import PidFile

OURS = str(os.getpid())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A pidfile that names this process."""
    found = tmp_path / "x.pid"
    found.write_text(OURS)
    return found


def aside(path: Path) -> Path:
    return path.with_name("x.pid.old")


def test_it_makes_way_and_twistd_knows(path: Path) -> None:
    """At its end twistd removes the renamed file."""
    options = {"pidfile": str(path)}
    PidFile(options).move_aside()
    assert not path.exists()
    assert options["pidfile"] == str(aside(path))
    assert aside(path).read_text() == OURS


def test_it_comes_back_over_what_the_successor_left(path: Path) -> None:
    """It comes back each time an upgrade fails."""
    options = {"pidfile": str(path)}
    file = PidFile(options)
    for _ in range(2):
        file.move_aside()
        path.write_text("99999999")
        file.put_back()
        assert path.read_text() == OURS
        assert options["pidfile"] == str(path)
        assert not aside(path).exists()


def test_it_is_written_anew_if_it_is_gone(path: Path) -> None:
    """Somebody has removed it before the upgrade, or during it."""
    options = {"pidfile": str(path)}
    file = PidFile(options)
    path.unlink()
    file.move_aside()
    file.put_back()
    assert path.read_text() == OURS


def test_at_the_end_only_our_own_is_removed(path: Path) -> None:
    """The next generation may have renamed its own file meanwhile; twistd removes nothing."""
    for text in (OURS, "1"):
        path.write_text(OURS)
        options = {"pidfile": str(path)}
        file = PidFile(options)
        file.move_aside()
        aside(path).write_text(text)
        file.release()
        assert options["pidfile"] == ""
        assert aside(path).exists() == (text != OURS)


def test_nothing_is_done_without_a_file_or_an_upgrade(path: Path) -> None:
    """``--pidfile=`` means no file; a file in its usual place is removed by twistd."""
    options = {"pidfile": ""}
    file = PidFile(options)
    file.move_aside()
    file.put_back()
    file.release()
    assert options == {"pidfile": ""}
    options = {"pidfile": str(path)}
    PidFile(options).release()
    assert options == {"pidfile": str(path)}
    assert path.exists()
