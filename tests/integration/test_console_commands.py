"""The commands of an operator against a running slardar, and in a terminal."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from slardar.cli import main
from slardar.console import options
from tests.certificates import Authority
from tests.integration.conftest import Start
from tests.integration.programs import PATIENCE, Nginx, Slardar

HOST = "www.example.com"
SLARDAR = Path(sys.executable).with_name("slardar")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    server = Nginx(tmp_path_factory.mktemp("backend") / "nginx", 'location / { return 200 "one"; }')
    yield server
    server.end()


@pytest.fixture
def slardar(start: Start, tmp_path: Path, backend: Nginx) -> Slardar:
    words = ("--upstream", f"{HOST}={backend.address}", "--store", "memory:")
    found: Slardar = start(Slardar(tmp_path / "slardar", *words))
    return found.ready()


def place(slardar: Slardar) -> str:
    return f"http://127.0.0.1:{slardar.control}"


def run(slardar: Slardar, *words: Any, input: str | None = None) -> Result:
    runner = CliRunner(env={"SLARDAR_CONTROL": place(slardar)})
    return runner.invoke(main, list(map(str, words)), input=input, catch_exceptions=False)


def said(slardar: Slardar, *words: Any, input: str | None = None) -> str:
    done = run(slardar, *words, input=input)
    assert done.exit_code == 0, done.output
    return done.output


def told(slardar: Slardar, *words: Any) -> Any:
    return json.loads(said(slardar, *words, "--json"))


def commands(group: click.Group = main, *before: str) -> Iterator[tuple[list[str], click.Command]]:
    """Every command, with the words that name it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield [*before, name], command


ASKING = [
    words for words, one in commands() if any(option.name == "control" for option in one.params)
]


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_options_of_the_channel_stand_on_both_sides(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a command, behind it, and in the environment: the one behind it wins, and the
    environment comes last."""
    asked: list[tuple[Any, ...]] = []

    def ask(*arguments: Any, **more: Any) -> None:
        asked.append(arguments)
        raise click.ClickException("asked")

    monkeypatch.setattr(options, "Client", ask)
    monkeypatch.chdir(tmp_path)
    command = main
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    needed = [
        "1" if isinstance(one.type, click.types.IntParamType) else "x:1"
        for one in command.params
        if isinstance(one, click.Argument) and one.required
    ]
    needed += [
        word
        for one in command.params
        if isinstance(one, click.Option) and one.required
        for word in (one.opts[0], "script.a")
    ]
    env = {"SLARDAR_CONTROL": "unix:env", "SLARDAR_TOKEN": "env"}
    for before, behind, expected in (
        ([], [], ("unix:env", "env")),
        (["--control", "unix:a"], [], ("unix:a", "env")),
        ([], ["--control", "unix:b"], ("unix:b", "env")),
        (["--control", "unix:a", "--token", "t"], ["--control", "unix:b"], ("unix:b", "t")),
    ):
        done = CliRunner(env=env).invoke(main, [*before, *words, *needed, *behind])
        assert done.output.endswith("Error: asked\n"), done.output
        assert asked.pop()[:2] == expected


def test_rubbish_is_told_with_what_was_expected(slardar: Slardar, tmp_path: Path) -> None:
    """The file, the version."""
    file = tmp_path / "site.yaml"
    file.write_text("upstreams: {a: {servers: [{host: 127.0.0.1, port: 0}]}}\n")
    for words in (["diff", file], ["apply", file], ["apply", file, "--yes"]):
        done = run(slardar, *words)
        assert done.exit_code == 1
        assert f"{file}: upstreams.a.servers[0].port: expected " in done.output
    file.write_text("a: 1\n---\nb: 1\n")
    assert "line 2, column 1: expected one document" in run(slardar, "apply", file).output
    for words, expected in (
        (["rollback", "abc"], "the number of a version, got abc"),
        (["rollback", "-5"], "No such option"),
        (["history", "--version", "x"], "the number of a version, got x"),
        (["weight", HOST, "a:1", "2.5"], "a weight such as 2, got 2.5"),
        (["top", "--interval", "0"], "seconds from 0.2 to 60, got 0"),
    ):
        done = run(slardar, *words)
        assert done.exit_code == 2
        assert expected in done.output


def test_no_number_is_refused_in_click_s_words() -> None:
    """Its "integer range" says nothing of what was expected."""
    for words, command in commands():
        for one in command.params:
            if isinstance(one.type, (click.IntRange, click.FloatRange)):
                assert isinstance(one.type, (options.Whole, options.Number)), words


def test_life_of_an_upstream(slardar: Slardar, backend: Nginx) -> None:
    """From nothing to the way back, as an operator does it."""
    good = backend.address
    assert said(slardar, "set", "new", f"{good}=2", "127.0.0.1:1") == (
        "new has 2 servers, as version 1\n"
    )
    assert slardar.get("new") == (200, "one")
    table = said(slardar, "upstreams", "new")
    assert re.search(rf"^new +{good} +\S+ +up +2 ", table, re.M), table
    assert "drains, and no request is under way on it" in said(
        slardar, "drain", "new", good, "--wait", "5"
    )
    assert slardar.get("new")[0] == 502
    assert re.search(rf"{good} .* drain ", said(slardar, "upstreams", "new"))
    assert "gets requests again" in said(slardar, "up", "new", good)
    assert "has the weight 7" in said(slardar, "weight", "new", good, 7)
    assert f"{good} serves" in run(slardar, "add", HOST, "127.0.0.1:2", "--backup").output.replace(
        "127.0.0.1:2", good
    )
    assert told(slardar, "upstreams", HOST)["servers"][1]["backup"] is True
    said(slardar, "rm", HOST, "127.0.0.1:2")
    assert said(slardar, "rm", "new").startswith("new is gone")
    assert slardar.get("new")[0] == 502
    shown = said(slardar, "history", "--limit", 3)
    assert shown.index("upstream new") < shown.index(f"upstream {HOST}")
    back = run(slardar, "rollback", 1, input="n\n")
    assert back.exit_code == 1
    assert "taken back: version 7 by " in back.output
    assert slardar.get("new")[0] == 502
    assert "as at version 1: version 8" in said(slardar, "rollback", 1, input="y\n")
    assert slardar.get("new") == (200, "one")


def test_diff_and_apply(slardar: Slardar, backend: Nginx, tmp_path: Path) -> None:
    """The differences are shown first; --prune removes."""
    file = tmp_path / "site.yaml"
    host, port = backend.address.split(":")
    file.write_text(
        f"upstreams:\n  site: {{servers: [{{host: {host}, port: {port}}}]}}\n"
        "routes: [{host: alias, upstream: site}]\n"
    )
    shown = said(slardar, "diff", file)
    assert shown.startswith("upstream site is added\n  + servers: ")
    assert "routes\n" in shown
    assert run(slardar, "diff", file, "--exit-code").exit_code == 3
    refused = run(slardar, "apply", file, input="n\n")
    assert refused.exit_code == 1
    assert slardar.get("alias")[0] == 502
    assert "2 things changed, as version 1" in said(slardar, "apply", file, input="y\n")
    assert slardar.get("alias") == (200, "one")
    assert said(slardar, "diff", file, "--exit-code") == "nothing differs\n"
    assert said(slardar, "apply", file, "--yes") == "nothing differs\n"
    gone = f"upstream {HOST} is removed\n  - servers: "
    assert said(slardar, "diff", file, "--prune").startswith(gone)
    refused = run(slardar, "apply", file, "--prune", input="n\n")
    assert "Apply this, and remove 1 upstream?" in refused.output
    assert slardar.get(HOST)[0] == 200
    assert told(slardar, "apply", file, "--prune", "--yes")["version"] == 2
    assert slardar.get(HOST)[0] == 502


def test_somebody_else_was_faster(
    slardar: Slardar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was confirmed is what was shown, or nothing."""
    file = tmp_path / "site.yaml"
    file.write_text("upstreams: {site: {servers: [{host: 127.0.0.1, port: 9}]}}\n")
    said(slardar, "set", "first", "127.0.0.1:1")

    weights = iter((5, 6))

    def meanwhile(*_: Any, **more: Any) -> bool:
        change = {"weight": next(weights)}
        return slardar.call("PATCH", "/upstream/first/127.0.0.1:1", change)[0] == 200

    monkeypatch.setattr(click, "confirm", meanwhile)
    for words in (("apply", file), ("rollback", 0)):
        refused = run(slardar, *words)
        assert refused.exit_code == 1
        assert "somebody else has changed the configuration meanwhile" in refused.output
    assert set(told(slardar, "upstreams")) == {HOST, "first"}
    assert told(slardar, "upstreams", "first")["servers"][0]["weight"] == 6


def test_diff_and_apply_of_wrong_files(slardar: Slardar, tmp_path: Path) -> None:
    """A mistake is told, and changes nothing."""
    file = tmp_path / "site.yaml"
    file.write_text("upstreams: {a b: {servers: []}}\n")
    wrong = run(slardar, "apply", file, "--yes")
    assert wrong.exit_code == 1
    assert "upstreams" in wrong.output
    file.write_text("upstreams: [\n")
    assert run(slardar, "diff", file).exit_code == 1
    done = subprocess.run(
        [SLARDAR, "diff", "-", "--control", place(slardar)],
        input=f"routes: [{{host: alias, upstream: {HOST}}}]\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.startswith("routes\n")


def test_explain_and_status(slardar: Slardar, backend: Nginx) -> None:
    shown = said(slardar, "explain", f"http://{HOST}/x?y=1", "-H", "X-A: b")
    assert f"upstream {HOST}, by its Host" in shown
    assert f"server {backend.address}, by wrr" in shown
    assert "slardar answers 502" in said(slardar, "explain", "none.example/")
    assert told(slardar, "explain", HOST)["server"] == backend.address
    said(slardar, "set", "ill", "127.0.0.1:1")
    deadline = time.monotonic() + PATIENCE
    while "Connection refused" not in (shown := said(slardar, "status")):
        assert time.monotonic() < deadline, shown
    assert "worker-0  alive" in shown
    assert told(slardar, "status")["shd_config_version"] == 1


def test_certificates(slardar: Slardar, tmp_path: Path) -> None:
    """The one that expires first is on top; none of them shows its key."""
    authority = Authority(tmp_path)
    for name, days in (("late.example", 9), ("soon.example", 2)):
        cert, key = authority.issue(name, (name,), ends=timedelta(days=days))
        body = {"cert": cert.read_text(), "key": key.read_text()}
        assert slardar.call("PUT", f"/certificate/{name}", body)[0] == 200
    shown = said(slardar, "certificates")
    lines = [line.split() for line in shown.splitlines()]
    assert [line[:3] for line in lines[1:]] == [
        ["soon.example", "soon.example", "ec"],
        ["late.example", "late.example", "ec"],
    ]
    assert "PRIVATE" not in shown
    assert len(told(slardar, "certificates")) == 2


def examples() -> list[str]:
    """The examples of all commands that talk to a running slardar, in the order of this list."""
    names = (
        *("set", "add", "weight", "drain", "up", "status", "top", "upstreams", "routes"),
        *(
            "services",
            "certificates",
            "explain",
            "diff",
            "apply",
            "push",
            "hooks",
            "history",
            "rm",
            "rollback",
        ),
        "completion",
    )
    found = []
    for name in names:
        text = main.commands[name].help or ""
        lines = text.partition("Example:")[2].splitlines()
        found += [line.strip() for line in lines if line.strip().startswith("slardar ")]
    return found


def test_examples_of_the_help_work(slardar: Slardar, tmp_path: Path) -> None:
    """Each as it stands; what is behind it in a pipe is a shell's business."""
    for _ in range(13):
        said(slardar, "set", "other.example.com", "127.0.0.1:9")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        servers = "".join(f"{{host: 127.0.0.1, port: {port}}}, " for port in (8001, 8002))
        Path("site.yaml").write_text(f"upstreams: {{{HOST}: {{servers: [{servers}]}}}}\n")
        Path("tenant.py").write_text("def on_request(r):\n    pass\n")
        assert len(examples()) >= 20
        for example in examples():
            line = re.split(" [|>] ", example)[0]
            words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", line)[1:]]
            if words == ["top"] or words[:2] == ["top", "--filter"]:
                continue  # it wants a terminal: see below
            done = run(slardar, *words, input="y\n")
            is_difference = "--exit-code" in words and done.exit_code == 3
            assert done.exit_code == 0 or is_difference, (example, done.output)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("slardar dra", ["drain"]),
        ("slardar drain ", [HOST]),
        (f"slardar drain {HOST} ", ["BACKEND"]),
        ("slardar rm www", [HOST]),
        ("slardar top --sort er", ["errors"]),
    ],
)
def test_completion(slardar: Slardar, backend: Nginx, line: str, found: list[str]) -> None:
    """With the names of the running slardar; without one, with nothing and no message."""
    words = line.split(" ")

    def completed(control: str) -> list[str]:
        done = subprocess.run(
            [SLARDAR],
            env={
                **os.environ,
                "_SLARDAR_COMPLETE": "bash_complete",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(words) - 1),
                "SLARDAR_CONTROL": control,
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.stderr == ""
        return [item.partition(",")[2] for item in done.stdout.split()]

    wanted = [backend.address if one == "BACKEND" else one for one in found]
    assert completed(place(slardar)) == wanted
    if len(words) == 3 and words[1] != "top":
        assert completed("http://127.0.0.1:1") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_of_shells(shell: str) -> None:
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert "_SLARDAR_COMPLETE" in done.output


class Terminal:
    """A command in a terminal of 100 columns."""

    def __init__(self, *words: str) -> None:
        self.pid, self._file = pty.fork()
        if self.pid == 0:  # pragma: no cover
            os.environ.update(COLUMNS="100", LINES="24", TERM="xterm-256color")
            os.execv(SLARDAR, [str(SLARDAR), *words])
        self.text = ""

    def press(self, keys: str) -> None:
        os.write(self._file, keys.encode())

    def wait_for(self, pattern: str) -> None:
        """Wait until it shows this."""
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, click.unstyle(self.text)):
            left = deadline - time.monotonic()
            assert left > 0, self.text
            if select.select([self._file], [], [], left)[0]:
                try:
                    self.text += os.read(self._file, 65536).decode("utf-8", "replace")
                except OSError:
                    raise AssertionError(self.text) from None

    def end(self) -> int:
        """Its exit code, once it has ended."""
        with open(self._file, "rb", closefd=True) as file:
            try:
                while file.read1(65536):
                    pass
            except OSError:
                pass  # a terminal whose program has ended
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_top_in_a_terminal(slardar: Slardar, backend: Nginx) -> None:
    """It counts, sorts, filters and drains."""
    terminal = Terminal("top", "--control", place(slardar), "--interval", "0.2")
    terminal.wait_for(rf"{HOST} +{backend.address} +(ok|unchecked) +up")
    terminal.press("/nothing\r")
    terminal.wait_for("filter: nothing")
    terminal.press("/\r")
    terminal.press("d")
    terminal.wait_for(rf"drain {backend.address} of {HOST}\? y or n")
    terminal.press("y")
    terminal.wait_for(rf"{backend.address} +\w+ +drain")
    assert slardar.get(HOST)[0] == 502
    terminal.press("uy")
    terminal.wait_for(f"{backend.address} of {HOST}: up")
    assert slardar.get(HOST) == (200, "one")
    terminal.press("q")
    assert terminal.end() == 0
    lines = told(slardar, "top", "--once", "--interval", "0.2")
    assert [(one["upstream"], one["server"]) for one in lines] == [(HOST, backend.address)]


def test_token_for_some_names(start: Start, tmp_path: Path) -> None:
    """It sees its own, and no number that is of all."""
    (tmp_path / "slardar").mkdir()
    token = {"name": "team", "role": "admin", "names": ["a"]}
    token["sha256"] = hashlib.sha256(b"team").hexdigest()
    server = {"servers": [{"host": "127.0.0.1", "port": 9}], "enable": False}
    settings = {"upstreams": {"a": server, "b": server}, "control": {"tokens": [token]}}
    (tmp_path / "slardar" / "slardar.yaml").write_text(json.dumps(settings))
    slardar = start(Slardar(tmp_path / "slardar", "--config", "slardar.yaml")).ready()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLARDAR_TOKEN", "team")
        assert "upstreams:     1 with 1 servers" in said(slardar, "status")
        table = said(slardar, "top", "--once", "--interval", "0.2")
        assert [line.split()[0] for line in table.splitlines()[1:]] == ["a"]
        patch.setenv("SLARDAR_TOKEN", "secret\n")
        refused = run(slardar, "status")
        assert refused.exit_code == 1
        assert refused.output == "Error: the token: expected printable ASCII, on one line\n"


def test_top_without_a_terminal(slardar: Slardar) -> None:
    done = run(slardar, "top")
    assert (done.exit_code, "use --once elsewhere" in done.output) == (2, True)


def test_tables_of_a_terminal_have_colours(slardar: Slardar) -> None:
    terminal = Terminal("status", "--control", place(slardar))
    terminal.wait_for("worker-0")
    assert terminal.end() == 0
    assert "\x1b[32m" in terminal.text or "\x1b[32" in terminal.text


def test_role_that_may_read(start: Start, tmp_path: Path) -> None:
    """Questions and `diff` work, changes are refused."""
    digest = hashlib.sha256(b"guest").hexdigest()
    (tmp_path / "slardar.yaml").write_text(
        f"control: {{tokens: [{{name: guest, role: read, sha256: '{digest}'}}]}}\n"
    )
    folder = tmp_path / "slardar"
    words = ("--config", str(tmp_path / "slardar.yaml"), "--store", "memory:")
    found: Slardar = start(Slardar(folder, *words)).ready()
    (tmp_path / "site.yaml").write_text("routes: []\n")
    runner = CliRunner(env={"SLARDAR_CONTROL": place(found), "SLARDAR_TOKEN": "guest"})
    for command, code in (
        (["status"], 0),
        (["diff", str(tmp_path / "site.yaml")], 0),
        (["apply", str(tmp_path / "site.yaml"), "--yes"], 1),
        (["set", "a", "127.0.0.1:1"], 1),
    ):
        done = runner.invoke(main, command, catch_exceptions=False)
        assert done.exit_code == code, done.output
        assert code == 0 or "role admin" in done.output


CHECK = """
config:
  upstreams: {www.example.com: {servers: [{host: 10.0.0.1, port: 80}]}}
hooks: {script.www.example.com: tenant.py}
expect:
  - {request: http://www.example.com/, servers: ["10.0.0.1:80"], sent: {X-Tenant: one}}
  - {request: http://www.example.com/, name: wrong, status: 404}
"""


def check(folder: Path, *words: str) -> tuple[int, str]:
    """The exit code and the output: the command runs a reactor, so it has a process of its own."""
    done = subprocess.run(
        [SLARDAR, "check", "expected.yaml", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout


def test_check_of_a_candidate(tmp_path: Path) -> None:
    (tmp_path / "expected.yaml").write_text(CHECK)
    hook = tmp_path / "tenant.py"
    hook.write_text('def on_request(r):\n    r.headers["X-Tenant"] = "one"\n')
    assert check(tmp_path) == (
        1,
        "ok: GET http://www.example.com/\n"
        "not as expected: wrong\n  status: expected 404, got 200\n"
        "1 of 2 as expected\n",
    )
    code, text = check(tmp_path, "--json")
    assert (code, [one["ok"] for one in json.loads(text)]) == (1, [True, False])
    hook.write_text("import os\n")
    code, text = check(tmp_path)
    assert code == 1
    assert text.startswith("Error: script.www.example.com: ")
    (tmp_path / "expected.yaml").write_text("config: {}\nexpect: [{request: GETS http://a/}]\n")
    assert check(tmp_path) == (1, "Error: GETS http://a/: the method is not known\n")
    (tmp_path / "expected.yaml").write_text("expect: []\n")
    assert check(tmp_path) == (1, "Error: expected.yaml: expect: expected a list of expectations\n")


def test_check_with_what_is_served(slardar: Slardar, tmp_path: Path) -> None:
    """What runs now, with a hook that is only staged."""
    hook = tmp_path / "tenant.py"
    hook.write_text('def on_request(r):\n    r.headers["X-Tenant"] = "two"\n')
    said(slardar, "push", hook, "--as", f"script.{HOST}", "--stage")
    file = tmp_path / "expected.yaml"
    file.write_text(
        f"expect: [{{request: 'http://{HOST}/', upstream: {HOST}, sent: {{X-Tenant: two}}}}]\n"
    )
    words = ("--control", place(slardar), "--running")
    code, text = check(tmp_path, *words)
    assert (code, 'sent.X-Tenant: expected "two", got none' in text) == (1, True)
    code, text = check(tmp_path, *words, "--staged")
    assert (code, text.endswith("1 of 1 as expected\n")) == (0, True), text
    # Nothing of it has reached the one that serves.
    assert slardar.get(HOST) == (200, "one")
