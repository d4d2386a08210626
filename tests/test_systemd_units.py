"""systemd and slardar understand the units in ``examples``."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

from slardar.config import Timeouts
from slardar.options import Options
from tests.integration.programs import CHECKOUT

EXAMPLES = CHECKOUT / "examples"


def unit(name: str) -> RawConfigParser:
    """A unit's sections and keys; each key may occur once."""
    parser = RawConfigParser(delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((EXAMPLES / name).read_text())
    return parser


def test_service_says_what_slardar_needs() -> None:
    """It has readiness, a reload by HUP, a stop that lets requests finish, and enough files."""
    service = unit("slardar.service")["Service"]
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "all"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (service["KillMode"], service["KillSignal"]) == ("mixed", "SIGTERM")
    assert int(service["TimeoutStopSec"]) > Timeouts().drain
    assert int(service["LimitNOFILE"]) > 2 * 10000
    assert service["WorkingDirectory"] == service["ReadWritePaths"] == "/var/lib/slardar"
    # With this key LuaJIT could not run.
    assert "MemoryDenyWriteExecute" not in service


def test_command_is_one_that_slardar_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration uses the socket of the other unit."""
    config = tmp_path / "slardar.yaml"
    config.write_text('listen: ["systemd:domain=INET:index=0"]')
    command = unit("slardar.service")["Service"]["ExecStart"]
    words = shlex.split(command.replace("/etc/slardar/slardar.yaml", str(config)))
    options = words[words.index("slardar") + 1 :]
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions([*options, "--check"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "ok\n"
    assert "systemd:domain=INET:index=0" in (EXAMPLES / "slardar.socket").read_text()


@pytest.mark.real
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_understands_them(tmp_path: Path) -> None:
    """Every key and value is known."""
    text = (EXAMPLES / "slardar.service").read_text()
    # The program must exist.
    text = text.replace("/opt/slardar/bin/twistd", sys.executable)
    (tmp_path / "slardar.service").write_text(text)
    shutil.copy(EXAMPLES / "slardar.socket", tmp_path)
    units = [str(tmp_path / "slardar.service"), str(tmp_path / "slardar.socket")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = [line for line in done.stderr.splitlines() if "slardar" in line]
    assert (said, done.returncode) == ([], 0)
