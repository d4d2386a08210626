"""``slardar try``: one hook, one request, no running slardar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slardar.cli import main
from tests.certificates import Authority

REQUEST = "GET /a?b=c\nHost: www.example.com\nX-Old: 1\n"
TENANT = """
def on_request(request):
    if request.method == "DELETE":
        log.warn("nothing is deleted\\nhere")
        return request.reject(403)
    request.headers["X-Tenant"] = request.host.split(".")[0]
    request.headers.remove("X-Old")
    request.upstream = "other"

def on_response(request, response):
    response.headers.remove("Server")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the files, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tenant.py").write_text(TENANT)
    (tmp_path / "get.http").write_text(REQUEST)
    (tmp_path / "delete.http").write_text(REQUEST.replace("GET", "DELETE"))
    (tmp_path / "reply.http").write_text("HTTP/1.1 200 OK\nServer: x\nContent-Length: 2\n\nok")
    return tmp_path


def run(*words: str, stdin: bytes | None = None) -> Result:
    """Run the command with these words."""
    return CliRunner().invoke(main, ["try", *words], input=stdin, catch_exceptions=False)


def outcome(*words: str) -> Any:
    """The command's output, read as JSON."""
    done = run(*words, "--json")
    assert done.exit_code in (0, 1), done.output
    return json.loads(done.output)


def test_request_goes_on(folder: Path) -> None:
    """The output has the changes and the upstream."""
    done = run("tenant.py", "--request", "get.http")
    assert done.exit_code == 0
    assert "upstream: other\n" in done.output
    assert "  GET /a?b=c HTTP/1.1\n" in done.output
    assert "  changed: - X-Old: 1\n" in done.output
    assert "  changed: + X-Tenant: www\n" in done.output
    found = outcome("tenant.py", "--request", "get.http", "--response", "reply.http")
    assert found["outcome"] == "continues"
    assert found["reply_changes"] == ["- Server: x"]
    assert found["microseconds"] > 0


@pytest.mark.parametrize(
    ("trusted", "seen"),
    [((), "10.0.0.1 -"), (("10.0.0.0/8",), "1.1.1.1 https"), (("::1", "unix:"), "10.0.0.1 -")],
)
def test_trusted_proxy(folder: Path, trusted: tuple[str, ...], seen: str) -> None:
    """The hook sees what a worker would believe."""
    sent = "X-Forwarded-For: 6.6.6.6, 1.1.1.1\nX-Forwarded-Proto: https\n"
    (folder / "told.http").write_text(REQUEST + sent)
    (folder / "who.py").write_text(
        "def on_request(request):\n"
        "    proto = request.headers.get('X-Forwarded-Proto', '-')\n"
        "    request.headers['X-Seen'] = request.client + ' ' + proto\n"
    )
    words = [word for network in trusted for word in ("--trusted", network)]
    found = outcome("who.py", "--request", "told.http", "--client", "10.0.0.1", *words)
    assert found["changes"] == [f"+ X-Seen: {seen}"]


def test_client_with_tls(folder: Path) -> None:
    """The hook sees it, and the certificate in a file as one that was verified."""
    cert, key = Authority(folder).issue("alice", ("alice",))
    (folder / "tls.lua").write_text(
        "local tls = request.tls\n"
        "ngx.req.set_header('X-Seen', tls and tls.version .. tls.sni .. ngx.var.scheme"
        " .. (ngx.var.ssl_client_s_dn or '-') or 'none')\n"
    )

    def changes(*words: str) -> Any:
        return outcome("tls.lua", "--request", "get.http", *words)["changes"]

    assert changes() == ["+ X-Seen: none"]
    (line,) = changes("--tls")
    assert line.startswith("+ X-Seen: TLSv1.3")
    assert line.endswith("https-")
    (line,) = changes("--client-cert", cert.name)
    assert line.endswith("httpsCN=alice")
    done = run("tls.lua", "--request", "get.http", "--client-cert", key.name)
    assert done.exit_code == 1
    assert f"--client-cert: expected a certificate in PEM in {key.name}" in done.output


def test_hook_answers(folder: Path) -> None:
    """The output has the reply, and each log line of the hook on one line."""
    done = run("tenant.py", "--request", "delete.http")
    assert done.exit_code == 0
    assert "log: warn: " in done.output
    assert "nothing is deleted" in done.output
    assert "answered:\n  HTTP/1.1 403 Forbidden\n" in done.output
    found = outcome("tenant.py", "--request", "delete.http")
    assert (found["outcome"], found["status"]) == ("answered", 403)


def test_request_on_standard_input(folder: Path) -> None:
    """Its lines may end as on the wire."""
    sent = b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"
    done = run("tenant.py", "--request", "-", stdin=sent)
    assert "403 Forbidden" in done.output


def test_connection_closes(folder: Path) -> None:
    """444 is no reply."""
    (folder / "close.lua").write_text("ngx.exit(444)")
    assert outcome("close.lua", "--request", "get.http")["outcome"] == "closed"


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello\n", "HELLO"),
        ("POST / HTTP/1.1\nHost: a\n\nhello", "HELLO"),
        ("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\r\nhello\r\n0\r\n\r\n",
         "HELLO"),
        ("POST / HTTP/1.1\nHost: a\n\n" + "x" * 70000, "too large"),
        ("GET / HTTP/1.1\nHost: a\n", ""),
    ],
)  # fmt: skip
def test_body_of_the_request(folder: Path, sent: str, seen: str) -> None:
    """The hook sees the body, and the output shows the hook's body, in both languages."""
    (folder / "up.py").write_text(
        "def on_request(request):\n"
        "    large = request.body_too_large\n"
        "    request.body = b'too large' if large else request.body.upper()\n"
    )
    (folder / "up.lua").write_text(
        "ngx.req.read_body()\n"
        "local data, form, problem = ngx.req.get_body_data(), ngx.req.get_post_args()\n"
        "ngx.req.set_body_data(problem and 'too large' or (data or ''):upper())"
    )
    for file in ("up.py", "up.lua"):
        found = json.loads(run(file, "--request", "-", "--json", stdin=sent.encode()).output)
        assert found["body"] == seen
        assert f"  {seen}\n" in run(file, "--request", "-", stdin=sent.encode()).output + "  \n"


def test_chunks_that_are_none(folder: Path) -> None:
    """The message names the file."""
    sent = b"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\nzz\n"
    done = run("tenant.py", "--request", "-", stdin=sent)
    assert done.exit_code == 1
    assert "-: a line of the chunked body" in done.output


def test_module_is_given(folder: Path) -> None:
    """A module is given with its file; without it the script cannot be loaded."""
    (folder / "names.lua").write_text("return { tenant = 'x' }")
    (folder / "use.lua").write_text(
        'ngx.req.set_header("X-Tenant", require("modules.names").tenant)'
    )
    found = outcome("use.lua", "--request", "get.http", "--module", "modules.names=names.lua")
    assert "+ X-Tenant: x" in found["changes"]
    done = run("use.lua", "--request", "get.http")
    assert done.exit_code == 1
    assert "module modules.names is not active" in done.output


def test_settings_are_given(folder: Path) -> None:
    """As JSON, or as a text where they are none."""
    (folder / "use.lua").write_text(
        'ngx.req.set_header("X-Tenant", slardar.myargs.arg0 .. slardar.name .. slardar.a.b)'
    )
    given = ('myargs={"arg0": 5}', "name=x=y", "a/b=true text")
    words = [word for pair in given for word in ("--setting", pair)]
    found = outcome("use.lua", "--request", "get.http", *words)
    assert "+ X-Tenant: 5x=ytrue text" in found["changes"]


@pytest.mark.parametrize(
    ("file", "code", "says"),
    [
        ("a.py", "import os", "script.*: line 1: "),
        ("a.py", "def on_request(request):\n    return 1 // 0", "line 2: ZeroDivisionError"),
        ("a.py", "def on_request(request):\n    while True:\n        pass", "50 ms of CPU time"),
        ("a.lua", "local x = nil + 1", "line 1: "),
        ("a.lua", "while true do end", "50 ms of CPU time"),
    ],
)
def test_failures_have_exit_code_1(folder: Path, file: str, code: str, says: str) -> None:
    """Code that is refused and calls that fail name the line of the hook."""
    (folder / file).write_text(code)
    done = run(file, "--request", "get.http")
    assert done.exit_code == 1
    assert says in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("none.py", "--request", "get.http"), "none.py: No such file"),
        (("tenant.py", "--request", "none.http"), "none.http: No such file"),
        (("tenant.py", "--request", "empty.http"), "empty.http: expected an HTTP message"),
        (("tenant.py", "--request", "bad.http"), "bad.http: "),
        (("tenant.py", "--request", "get.http", "--response", "bad.http"), "bad.http: "),
        (("tenant.py", "--request", "get.http", "--as", "scripts.x"), "--as: expected"),
        (("tenant.py", "--request", "get.http", "--as", "modules.x"), "expected a script"),
        (("tenant.txt", "--request", "get.http"), "expected a name that ends in .py or .lua"),
        (("tenant.py", "--request", "get.http", "--module", "x=y"), "--module: expected"),
        (("tenant.py", "--request", "get.http", "--setting", "x"), "--setting: expected"),
        (("tenant.py", "--request", "get.http", "--setting", "x=NaN"), "settings.x: expected"),
        (("tenant.py", "--request", "get.http", "--setting", "exit=1"), "settings.exit: "),
        (("tenant.py", "--request", "get.http", "--client", "\xe9"), "client: expected"),
        (("tenant.py", "--request", "get.http", "--client", "zz"), "--client: expected an address"),
        (("tenant.py", "--request", "get.http", "--setting", "a={"), "--setting: expected JSON"),
        (("tenant.py", "--request", "get.http", "--trusted", "10.0.0.1/8"), "trusted: expected"),
    ],
)
def test_wrong_words(folder: Path, words: tuple[str, ...], says: str) -> None:
    """The message is one line that names the place, without a traceback."""
    (folder / "empty.http").write_text("\n\n")
    (folder / "bad.http").write_text("GET / HTTP/1.1\nHost : x y\n")
    done = run(*words)
    assert done.exit_code != 0
    assert says in done.output
    assert "Traceback" not in done.output
