"""The command ``slardar import``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from slardar import plugins
from slardar.cli import main
from slardar.config import load_file

TEXT = """\
upstream up { server 10.0.0.1; }
gzip on;
server { server_name a.test; location / { proxy_set_header Host $host; proxy_pass http://up; } }
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is imported, in the folder of the command."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "nginx.conf"
    path.write_text(TEXT)
    return path


def run(*words: str) -> Result:
    """The result of the command."""
    return CliRunner().invoke(main, ["import", *words])


@pytest.mark.usefixtures("file")
def test_lists_are_on_stderr_and_at_the_top() -> None:
    """stdout is the configuration alone."""
    found = run("nginx.conf")
    assert found.exit_code == 0
    listed = found.stderr.splitlines()
    assert listed[0] == "Not taken over (1):"
    assert listed[1].startswith("  nginx.conf:2: gzip on: ")
    lines = found.stdout.splitlines()
    assert lines[0] == "# Made from nginx's nginx.conf by slardar import."
    assert lines[1 : 1 + len(listed)] == [f"# {line}" for line in listed]
    assert yaml.safe_load(found.stdout)["routes"][0]["host"] == "a.test"


@pytest.mark.usefixtures("file")
def test_output_is_a_configuration() -> None:
    found = run("nginx.conf", "-o", "slardar.yaml")
    assert (found.exit_code, found.stdout) == (0, "")
    settings = load_file("slardar.yaml", plugins)
    assert [route.upstream for route in settings.first_routes] == ["up", "up"]


@pytest.mark.usefixtures("file")
def test_json() -> None:
    found = json.loads(run("nginx.conf", "--json").stdout)
    assert found["config"]["upstreams"]["up"]["public"] is False
    assert found["left"][0]["lines"] == [2]
    assert found["differs"] == []


def test_hostile_text_steers_no_terminal(file: Path) -> None:
    """And begins no line of the configuration: what is listed there is a comment."""
    file.write_text('odd "x\n\x1b[2J\nupstreams: {}";\n')
    found = run("nginx.conf")
    assert found.exit_code == 0
    assert "\x1b" not in found.output
    assert len(yaml.safe_load(found.stdout)["upstreams"]) == 0
    assert [line for line in found.stdout.splitlines() if "odd" in line] == [
        "#   nginx.conf:1: odd x\\n\\x1b[2J\\nupstreams: {}: slardar has nothing of this kind"
    ]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("none.conf",), "Error: none.conf"),
        (("--from", "haproxy", "none.cfg"), "Error: none.cfg: No such file or directory"),
        (("nginx.conf", "-o", "none/x.yaml"), "Error: none/x.yaml: No such file or directory"),
        (
            ("--from", "haproxy", "nginx.conf"),
            "Error: nginx.conf:1: expected a section of HAProxy's, such as frontend; for nginx use"
            " --from nginx\n",
        ),
    ],
)
@pytest.mark.usefixtures("file")
def test_what_cannot_be_done(words: tuple[str, ...], why: str) -> None:
    found = run(*words)
    assert found.exit_code == 1
    assert found.stderr.startswith(why)
