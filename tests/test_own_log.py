"""Where twistd writes slardar's own log: the option, and a file that two processes share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.python import usage

from slardar.options import Options
from slardar.own_log import AppendedFile, use_format


class Parent(dict[str, Any]):
    """twistd's options."""


def options(*words: str, **twistds: Any) -> Options:
    found = Options()
    found.parent = Parent({"rundir": ".", **twistds})  # type: ignore[assignment]
    found.parseOptions(list(words))
    return found


@pytest.mark.parametrize("name", ["text", "json"])
def test_option_asks_twistd_for_the_observer(name: str) -> None:
    """Which it makes by its name, once it has read all options."""
    found = options("--log-format", name, nodaemon=True)
    assert found.parent is not None
    assert found.parent["logger"] == f"slardar.own_log.{name}_observer"


@pytest.mark.parametrize(
    ("name", "twistds", "says"),
    [
        ("xml", {}, 'expected text or json, got "xml"'),
        ("json", {"syslog": True}, "expected text with twistd's option --syslog"),
        ("json", {"logger": "a.b"}, "expected text with twistd's option --logger"),
    ],
)
def test_wrong_format_is_refused(
    name: str, twistds: Any, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one line that names the option."""
    with pytest.raises(SystemExit):
        options("--log-format", name, **twistds)
    assert capsys.readouterr().err == f"slardar: --log-format: {says}\n"
    with pytest.raises(usage.UsageError, match="--log-format"):
        Options().parseOptions(["--log-format", "xml"])


@pytest.mark.parametrize("twistds", [{"logger": "a.b"}, {"syslog": True}])
def test_twistd_that_has_another_log_is_left_alone(twistds: dict[str, Any]) -> None:
    """Nothing is changed."""
    before = dict(twistds)
    use_format(twistds, "text")
    with pytest.raises(ValueError, match="text with"):
        use_format(twistds, "json")
    assert twistds == before


@pytest.mark.real
def test_two_processes_write_to_one_file(tmp_path: Path) -> None:
    """As during an upgrade: no line of one is written over a line of the other, also after the
    file was moved."""
    path = tmp_path / "own.log"
    first = AppendedFile.fromFullPath(str(path))
    second = AppendedFile.fromFullPath(str(path))
    for file, line in ((first, "a\n"), (second, "b\n"), (first, "c\n"), (second, "d\n")):
        file.write(line)
    assert path.read_text() == "a\nb\nc\nd\n"
    first.rotate()
    second.reopen()
    for file, line in ((first, "e\n"), (second, "f\n"), (first, "g\n")):
        file.write(line)
    assert path.read_text() == "e\nf\ng\n"
    first.close()
    second.close()
