"""``slardar push`` and ``slardar hooks`` against a running slardar."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slardar.cli import main
from tests.integration.conftest import Start
from tests.integration.programs import Nginx, Program, Slardar

HOST = "www.example.com"
NAME = f"script.{HOST}"


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Nginx]:
    """nginx that answers with the tenant's name."""
    server = Nginx(tmp_path / "nginx", 'location / { return 200 "$http_x_tenant"; }')
    yield server
    server.end()


@pytest.fixture
def slardar(start: Start, tmp_path: Path, backend: Nginx) -> Slardar:
    """slardar in one process."""
    words = ("--upstream", f"{HOST}={backend.address}", "--store", "memory:")
    found: Slardar = start(Slardar(tmp_path / "slardar", *words))
    return found.ready()


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """A file with a hook."""
    path = tmp_path / "tenant.py"
    path.write_text('def on_request(r):\n    r.headers["X-Tenant"] = "one"\n')
    return path


def run(slardar: Slardar, *words: str | Path) -> Result:
    """The result of the command with these words, for this slardar."""
    control = f"http://127.0.0.1:{slardar.control}"
    return CliRunner().invoke(
        main, [*map(str, words), "--control", control], catch_exceptions=False
    )


def said(slardar: Slardar, *words: str | Path) -> str:
    """The output of a command that succeeds."""
    done = run(slardar, *words)
    assert done.exit_code == 0, done.output
    return done.output


def test_from_a_file_to_service_and_back(slardar: Slardar, hook: Path) -> None:
    """Push, shadow, canary, list, roll back, remove."""
    version = hashlib.md5(hook.read_bytes()).hexdigest()
    assert said(slardar, "push", hook, "--as", NAME) == f"{NAME} (python) {version} is in service\n"
    assert slardar.get(HOST) == (200, "one")
    hook.write_text(hook.read_text("utf-8").replace("one", "two"))
    assert "runs in the shadow" in said(slardar, "push", hook, "--as", NAME, "--shadow")
    assert slardar.get(HOST) == (200, "one")
    report = said(slardar, "hooks", "--shadow", NAME)
    assert "1 requests compared, 1 would differ (100.0%), 0 errors" in report
    assert f"GET {HOST}/" in report
    assert json.loads(said(slardar, "hooks", "--shadow", NAME, "--json"))["differing"] == 1
    assert "in the shadow" in said(slardar, "hooks")
    assert "for 50 % of requests" in said(slardar, "push", hook, "--as", NAME, "--canary", "50")
    assert "for 50 %" in said(slardar, "hooks")
    assert 4 <= [slardar.get(HOST)[1] for _ in range(10)].count("two") <= 6
    assert said(slardar, "hooks", "--activate", NAME) == f"{NAME} (python) is in service\n"
    assert slardar.get(HOST) == (200, "two")
    assert "back at the version before" in said(slardar, "hooks", "--rollback", NAME)
    assert slardar.get(HOST) == (200, "one")
    assert said(slardar, "push", hook, "--as", NAME, "--stage", "--on-error", "continue")
    (found,) = json.loads(said(slardar, "hooks", "--json"))
    assert (found["name"], found["state"]) == (NAME, "active")
    assert "staged" in found
    assert said(slardar, "hooks", "--rm", NAME) == f"{NAME} (python) is gone\n"
    assert slardar.get(HOST) == (200, "")
    assert json.loads(said(slardar, "hooks", "--json")) == []


def test_what_is_refused(slardar: Slardar, hook: Path, tmp_path: Path) -> None:
    """The message is one line, the exit code 1 or 2, and nothing has changed."""
    said(slardar, "push", hook, "--as", NAME)
    bad = tmp_path / "bad.py"
    bad.write_text("import os\n")
    for words, code, says in (
        (("push", bad, "--as", NAME), 1, "line 1"),
        (("push", tmp_path / "none.py", "--as", NAME), 1, "No such file"),
        (("push", hook, "--as", "nothing"), 2, "--as: expected script.HOST"),
        (("push", hook, "--as", NAME, "--stage", "--shadow"), 2, "expected one of"),
        (("hooks", "--rollback", NAME), 1, "no version before"),
        (("hooks", "--rollback", "script.none"), 1, "no hook script.none"),
        (("hooks", "--shadow", NAME), 1, "no version in the shadow"),
        (("hooks", "--rm", NAME, "--activate", NAME), 2, "expected one of"),
    ):
        done = run(slardar, *words)
        assert done.exit_code == code, done.output
        assert says in done.output
        assert "Traceback" not in done.output
    assert slardar.get(HOST) == (200, "one")


def test_refused_push_leaves_nothing(slardar: Slardar, hook: Path, tmp_path: Path) -> None:
    """Neither a version that cannot be a hook nor one that cannot be loaded is staged."""
    bad = tmp_path / "bad.py"
    for code, says in (
        ("import os\n", "line 1"),
        ("def on_request(r):\n    pass\n\n\n1 / 0\n", "division by zero"),
        ('x = require("modules.none")\ndef on_request(r):\n    pass\n', "modules.none"),
    ):
        bad.write_text(code)
        for words in ((), ("--canary", "10")):
            done = run(slardar, "push", bad, "--as", NAME, *words)
            assert done.exit_code == 1, done.output
            assert says in done.output
            assert json.loads(said(slardar, "hooks", "--json")) == []
    said(slardar, "push", hook, "--as", NAME)
    (before,) = json.loads(said(slardar, "hooks", "--json"))
    assert run(slardar, "push", bad, "--as", NAME).exit_code == 1
    (after,) = json.loads(said(slardar, "hooks", "--json"))
    assert "staged" not in after
    assert after["version"] == before["version"]


def test_same_name_in_both_languages(slardar: Slardar, hook: Path, tmp_path: Path) -> None:
    """The command asks for the language."""
    lua = tmp_path / "tenant.lua"
    lua.write_text('ngx.req.set_header("X-Tenant", "lua")')
    said(slardar, "push", hook, "--as", NAME)
    said(slardar, "push", lua, "--as", NAME)
    assert "use --language" in run(slardar, "hooks", "--rm", NAME).output
    said(slardar, "hooks", "--rm", NAME, "--language", "python")
    assert slardar.get(HOST) == (200, "lua")


def test_who_cannot_be_reached(backend: Nginx) -> None:
    """Nobody listens, another program listens, or the address is wrong."""

    def ask(control: str) -> str:
        done = CliRunner().invoke(main, ["hooks", "--control", control], catch_exceptions=False)
        assert done.exit_code == 1
        return done.output

    assert "is slardar running?" in ask("http://127.0.0.1:1")
    assert "expected slardar's control channel" in ask(f"http://{backend.address}")
    assert "expected http://HOST:PORT, https://HOST:PORT or unix:PATH" in ask("ftp://x")
    assert "expected http://HOST:PORT, https://HOST:PORT or unix:PATH" in ask("http://x:99999")
    assert "unix:/none: No such file" in ask("unix:/none")


def test_tokens_and_unix_sockets(start: Start, tmp_path: Path, hook: Path) -> None:
    """The token is in the environment, the channel on a unix socket."""
    digest = hashlib.sha256(b"secret").hexdigest()
    (tmp_path / "slardar.yaml").write_text(
        "listen: ['tcp:0:interface=127.0.0.1']\nstore: 'memory:'\nworkers: 0\n"
        f"control: {{http: 'unix:{tmp_path}/c.sock', amp: 'unix:a.sock', "
        f"tokens: [{{name: ops, role: admin, sha256: '{digest}'}}]}}\n"
    )
    command = [
        *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
        *("-n", "--pidfile=", "slardar", "--config", str(tmp_path / "slardar.yaml")),
    ]
    program: Program = start(Program(command, tmp_path))
    program.wait_for("control on unix")
    words = ["push", str(hook), "--as", "script.*", "--control", f"unix:{tmp_path}/c.sock"]
    refused = CliRunner().invoke(main, words, catch_exceptions=False)
    assert refused.exit_code == 1
    assert "(401)" in refused.output
    done = CliRunner(env={"SLARDAR_TOKEN": "secret"}).invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "is in service" in done.output
