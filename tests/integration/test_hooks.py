"""Hooks as an operator meets them: real twistd, workers, store, curl and wrong code."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import CHECKOUT, PATIENCE, Nginx, Slardar, curl
from tests.integration.test_workers import until

HOST = "www.example.com"
TENANT = """
def on_request(request):
    if request.method == "DELETE":
        return request.reject(403)
    request.headers["X-Tenant"] = request.host.split(".")[0]

def on_response(request, response):
    response.headers.remove("Server")
    response.headers["X-Seen"] = str(response.status)
"""
LUA = """
if ngx.req.get_method() == "DELETE" then
    return slardar.exit(errno.HTTP_FORBIDDEN)
elseif ngx.var.arg_try then
    return slardar.exit(errno[ngx.var.arg_try])
end
ngx.req.set_header("X-Tenant", "lua")
"""
FAILING = "def on_request(request):\n    return 1 // 0\n"
ENDLESS = "def on_request(request):\n    while True:\n        pass\n"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx that answers with the request that it got."""
    server = Nginx(
        tmp_path_factory.mktemp("backend") / "nginx",
        """
        location = /slow { alias slow; limit_rate 50k; }
        location / {
            default_type text/plain;
            return 200 "tenant=$http_x_tenant uri=$request_uri host=$host\\n";
        }
        """,
    )
    yield server
    server.end()


@pytest.fixture
def run(start: Start, tmp_path: Path, backend: Nginx) -> Callable[..., Slardar]:
    """Starts slardar in front of the backend; the folder, and with it the store, stays."""

    def run(*options: str, **environment: str) -> Slardar:
        words = ["--upstream", f"{HOST}={backend.address}", "--amp", "unix:a.sock", *options]
        slardar: Slardar = start(Slardar(tmp_path / "slardar", *words, **environment))
        return slardar.ready()

    return run


def put(slardar: Slardar, language: str, name: str, code: str, options: str = "") -> None:
    """Stage and activate a hook."""
    assert slardar.call("POST", f"/{language}/{name}", code) == (200, "ok")
    assert slardar.call("PUT", f"/{language}/{name}{options}") == (200, "ok")


def statuses(slardar: Slardar, count: int, path: str = "/") -> list[int]:
    """The statuses of requests, each on its own connection, so of any worker."""
    return [slardar.get(HOST, path)[0] for _ in range(count)]


def hook(slardar: Slardar, language: str = "python", name: str = f"script.{HOST}") -> Any:
    """A hook as it is shown."""
    status, about = slardar.call("GET", f"/{language}/{name}")
    assert status == 200, about
    return about


def test_tour(run: Callable[..., Slardar]) -> None:
    """Post, activate, see it run in every worker at once, see it listed, remove it."""
    slardar = run("--workers", "2", "--store", "memory:")
    name = f"/python/script.{HOST}"
    assert slardar.call("POST", name, TENANT) == (200, "ok")
    assert slardar.get(HOST) == (200, "tenant= uri=/ host=www.example.com\n")
    assert hook(slardar)["state"] == "staged"
    assert slardar.call("PUT", name) == (200, "ok")
    for _ in range(8):
        status, body = curl(slardar.url(), "-X", "DELETE", "-H", f"Host: {HOST}")
        assert (status, json.loads(body)) == (403, {"status": 403, "msg": "Forbidden"})
        status, text = curl(slardar.url("/a?b=c"), "-i", "-H", f"Host: {HOST}")
        assert "tenant=www uri=/a?b=c" in text
        assert "X-Seen: 200" in text
        assert "Server:" not in text
    until(lambda: hook(slardar)["calls"] >= 24, "the workers have told what they counted")
    about = hook(slardar)
    assert (about["state"], about["errors"], about["language"]) == ("active", 0, "python")
    assert 0 < about["mean_us"] <= about["p99_us"] * 2
    assert slardar.call("GET", "/python")[1]["modules"][0]["version"] == about["version"]
    assert slardar.call("GET", "/status")[1]["hooks"][0]["state"] == "active"
    assert slardar.call("DELETE", name) == (200, "ok")
    assert slardar.get(HOST) == (200, "tenant= uri=/ host=www.example.com\n")
    assert slardar.call("GET", name)[0] == 404


def test_lua_tour(run: Callable[..., Slardar]) -> None:
    """The tour with Lua, and with the error that upyun/slardar's exit gives."""
    slardar = run("--workers", "1", "--store", "memory:")
    put(slardar, "lua", "script.*", LUA)
    status, text = curl(slardar.url(), "-i", "-X", "DELETE", "-H", f"Host: {HOST}")
    assert status == 403
    assert "X-Error-Code" not in text
    assert json.loads(text.splitlines()[-1]) == {"status": 403, "msg": "forbidden"}
    for name, code in (("EXIT_TRY_CODE", 40099999), ("NO_SUCH", 50300000)):
        status, text = curl(slardar.url(f"/?try={name}"), "-i", "-H", f"Host: {HOST}")
        assert status == code // 100000
        assert f"X-Error-Code: {code}" in text
        assert json.loads(text.splitlines()[-1])["code"] == code
    assert "tenant=lua" in slardar.get(HOST)[1]
    slardar.wait_for(r"script\.\*: unknown error: NO_SUCH")


def test_examples_of_the_original(run: Callable[..., Slardar]) -> None:
    """The examples of upyun/slardar's README run unchanged."""
    slardar = run("--workers", "1", "--store", "memory:")
    put(slardar, "lua", "modules.test", "local f = {version=10} return f")
    put(
        slardar,
        "lua",
        f"script.{HOST}",
        'if ngx.get_method() == "DELETE" then return ngx.exit(403) end',
    )
    assert curl(slardar.url(), "-X", "DELETE", "-H", f"Host: {HOST}")[0] == 403
    assert slardar.get(HOST)[0] == 200
    put(slardar, "lua", f"script.{HOST}", "return slardar.exit(errno.EXIT_TRY_CODE)")
    assert slardar.get(HOST)[0] == 400
    code = 'local f = require("modules.test") print(f.version)'
    put(slardar, "lua", f"script.{HOST}", code)
    assert slardar.get(HOST)[0] == 200
    slardar.wait_for(r"script\.www\.example\.com: 10$")
    # Names that a script may look for and that do not exist.
    code = "ngx.say(tostring(slardar.global), tostring(slardar.myargs), ffi, jit, io, package)"
    put(slardar, "lua", f"script.{HOST}", code)
    assert slardar.get(HOST) == (200, "nilnilnilnilnilnil\n")
    assert slardar.call("PUT", "/setting/myargs", '{"arg0": 0,"arg1": 1}')[0] == 200
    put(slardar, "lua", f"script.{HOST}", "ngx.say(slardar.myargs.arg0, slardar.myargs.arg1)")
    assert slardar.get(HOST) == (200, "01\n")


def test_no_argument_suspends_a_hook(run: Callable[..., Slardar]) -> None:
    """A client that sends no argument, or an unusual one, gets an answer like others."""
    slardar = run("--workers", "1", "--store", "memory:")
    code = """
local name = ngx.unescape_uri(ngx.var.arg_name)
ngx.req.set_header("X-Tenant", name)
ngx.req.set_header("X-Sign", ngx.md5(ngx.var.arg_sign) .. ngx.crc32_short(ngx.var.arg_sign))
ngx.req.set_uri_args({ name = name, more = ngx.var.args })
if ngx.re.find(ngx.var.arg_name, "^x") then
    ngx.header["X-Name"] = { name, "" }
end
"""
    put(slardar, "lua", f"script.{HOST}", code)
    odd = ("?name=x%0D%0AX-Evil:%20y", "?name=%00%c3%a9&sign=%zz")
    for query in ("", "?", "?name", "?name=", *odd):
        assert statuses(slardar, 2, f"/{query}") == [200, 200]
    status, text = curl(slardar.url("/?name=x%0D%0AX-Evil:%20y"), "-i", "-H", f"Host: {HOST}")
    assert status == 200
    assert "X-Name: x%0D%0AX-Evil: y\n" in text.replace("\r\n", "\n")
    assert "tenant=x%0D%0AX-Evil: y uri=" in text
    about = hook(slardar, "lua")
    assert (about["state"], about["errors"]) == ("active", 0)


def test_what_the_client_sent(run: Callable[..., Slardar]) -> None:
    """Both languages read the connection's own headers, which no server gets, and the original
    request line, even after an earlier hook has rewritten it."""
    slardar = run("--workers", "1", "--store", "memory:")
    python = """
def on_request(request):
    sent = request.headers
    request.path, request.method = "/rewritten", "HEAD"
    sent["X-Seen"] = "|".join(
        sent.get(name, "none") for name in ("Connection", "TE", "Keep-Alive", "Content-Length")
    )
"""
    lua = """
local sent = ngx.req.get_headers()
ngx.req.set_method(ngx.HTTP_GET)
ngx.req.set_header("X-Tenant", table.concat({ ngx.var.http_x_seen, sent.connection, sent.te,
    sent["Keep-Alive"], sent.content_length, ngx.var.request_method, ngx.var.request_uri,
    ngx.var.request, ngx.var.uri, ngx.req.raw_header(true):match("TE: [^\\r]+") }, "|"))
"""
    put(slardar, "python", "script.*", python)
    put(slardar, "lua", f"script.{HOST}", lua)
    status, text = curl(
        slardar.url("/a%20b?c=d"),
        *("-H", f"Host: {HOST}", "-H", "Connection: keep-alive, TE", "-H", "TE: trailers"),
        *("-H", "Keep-Alive: timeout=5", "-H", "Content-Length: 0"),
    )
    sent = "keep-alive, TE|trailers|timeout=5|0"
    assert status == 200
    assert (
        f"tenant={sent}|{sent}|GET|/a%20b?c=d|GET /a%20b?c=d HTTP/1.1|/rewritten|TE: trailers "
        "uri=/rewritten?c=d" in text
    )


FORM = """
ngx.req.read_body()
local form = ngx.req.get_post_args()
if ngx.req.get_method() == "POST" and (not form or form.token ~= "s3cret") then
    return slardar.exit(errno.HTTP_FORBIDDEN)
end
ngx.req.set_header("X-Tenant", form and form.name or "none")
"""


def test_form_tokens(run: Callable[..., Slardar], tmp_path: Path) -> None:
    """A usual script, with curl, which waits for a 100 before a large body."""
    config = tmp_path / "slardar.yaml"
    config.write_text("hooks: {body: 300000}\n")
    sent = tmp_path / "sent"
    slardar = run("--workers", "2", "--store", "memory:", "--config", str(config))
    put(slardar, "lua", f"script.{HOST}", FORM)
    many = "&pad=" + "x" * 100_000
    for _ in range(4):
        for data, status in (
            ("name=a&token=s3cret", 200), ("name=a", 403), (f"name=a&token=s3cret{many}", 200),
            (f"name=a{many}", 403), ("x" * 400_000, 403),
        ):  # fmt: skip
            sent.write_text(data)
            words = ("-H", f"Host: {HOST}", "-H", "Expect: 100-continue", "-d", f"@{sent}")
            found, text = curl(slardar.url(), *words)
            assert found == status, (len(data), text)
            assert ("tenant=a" in text) is (status == 200)
    assert slardar.get(HOST)[0] == 200


def test_failures_are_told(run: Callable[..., Slardar]) -> None:
    """The log has one line for each worker that met the failure, and one line for a server
    that goes out; a client on this machine sees the reason."""
    slardar = run("--workers", "2", "--store", "memory:")
    servers = [{"host": "127.0.0.1", "port": 1, "max_fails": 1, "fail_timeout": 0.2}]
    body = {"servers": servers, "protected": False, "enable": False}
    assert slardar.call("PUT", "/upstream/broken.test", body)[0] == 200

    def is_tried() -> bool:
        status, text = slardar.get("broken.test")
        assert status == 502
        assert json.loads(text)["upstream"] == "broken.test"
        return "Connection refused" in text

    for _ in range(2):
        until(is_tried, "the server has been tried again")
    out = "upstream broken.test: server 127.0.0.1:1 is out of service: Connection refused"
    until(lambda: out in slardar.output, "the director has said it")
    log = slardar.output
    assert log.count(out) == 1
    line = "502 for a request: upstream broken.test, server 127.0.0.1:1: Connection refused"
    assert 1 <= log.count(line) <= 2


def test_call_that_takes_long_in_one_function_is_stopped(run: Callable[..., Slardar]) -> None:
    """Views, iterators and patterns can take long: each is a failure, and is stopped soon."""
    slardar = run("--workers", "1", "--store", "memory:")
    search = (
        "box = {n: text for text in ['a' * 1048575 + 'c'] for n in range(65536)}\n"
        "def on_request(request):\n    return 'a' * 1048575 + 'b' in box.values()\n"
    )
    put(slardar, "python", f"script.{HOST}", search)
    began = time.monotonic()
    assert statuses(slardar, 2) == [500, 500]
    until(lambda: hook(slardar)["errors"] == 2, "both calls have failed")
    assert time.monotonic() - began < PATIENCE
    assert "budget" in json.dumps(hook(slardar)) or "50 ms" in slardar.output
    assert slardar.call("DELETE", f"/python/script.{HOST}") == (200, "ok")
    # The script gets an error, so the request goes on.
    code = (
        """ngx.req.set_header("X-Tenant", type(select(2, ngx.re.match("a", ('["'):rep(2000)))))"""
    )
    put(slardar, "lua", f"script.{HOST}", code)
    assert "tenant=string " in slardar.get(HOST)[1]
    assert hook(slardar, "lua")["errors"] == 0


def test_general_script_runs_first(run: Callable[..., Slardar]) -> None:
    """script.* runs before the host's own, Lua before Python; a changed Host changes the
    upstream."""
    slardar = run("--workers", "0", "--store", "memory:")
    put(slardar, "python", "script.*", 'def on_request(r):\n    r.headers["X-Tenant"] = "a"\n')
    put(
        slardar,
        "python",
        f"script.{HOST}",
        'def on_request(r):\n    r.headers["X-Tenant"] += "b"\n',
    )
    assert "tenant=ab " in slardar.get(HOST)[1]
    put(slardar, "lua", f"script.{HOST}", 'ngx.req.set_header("X-Tenant", "lua")')
    assert "tenant=luab " in slardar.get(HOST)[1]
    put(slardar, "python", "script.old.example.com", f'def on_request(r):\n    r.host = "{HOST}"\n')
    assert slardar.get("old.example.com")[1] == f"tenant=a uri=/ host={HOST}\n"


def test_modules(run: Callable[..., Slardar]) -> None:
    """A module is posted first; its change reaches the scripts that use it; while it is in
    use, it cannot be removed."""
    slardar = run("--workers", "2", "--store", "memory:")
    script = (
        'names = require("modules.names")\n'
        'def on_request(r):\n    r.headers["X-Tenant"] = names.NAME\n'
    )
    assert slardar.call("POST", "/python/script.*", script) == (200, "ok")
    status, answer = slardar.call("PUT", "/python/script.*")
    assert status == 400
    assert "modules.names" in answer["msg"]
    put(slardar, "python", "modules.names", 'NAME = "one"\n')
    assert slardar.call("PUT", "/python/script.*") == (200, "ok")
    assert "tenant=one" in slardar.get(HOST)[1]
    put(slardar, "python", "modules.names", 'NAME = "two"\n')
    assert all("tenant=two" in slardar.get(HOST)[1] for _ in range(8))
    assert slardar.call("POST", "/python/modules.names", "NAME = 1 // 0\n") == (200, "ok")
    assert slardar.call("PUT", "/python/modules.names")[0] == 400
    assert "tenant=two" in slardar.get(HOST)[1]
    assert slardar.call("DELETE", "/python/modules.names")[0] == 409
    assert slardar.call("DELETE", "/python/script.*") == (200, "ok")
    assert slardar.call("DELETE", "/python/modules.names") == (200, "ok")


@pytest.mark.parametrize(
    ("language", "script", "module", "inner"),
    [
        (
            "python",
            'm = require("modules.m")\ndef on_request(r):\n    r.headers["X-Tenant"] = m.NAME\n',
            'NAME = require("modules.inner").NAME\n',
            'NAME = "{}"\n',
        ),
        (
            "lua",
            'ngx.req.set_header("X-Tenant", require("modules.m").name)',
            'return {name = require("modules.inner").name}',
            'return {name = "{}"}',
        ),
    ],
)
def test_all_that_is_staged_is_activated(
    run: Callable[..., Slardar], language: str, script: str, module: str, inner: str
) -> None:
    """The order of posting does not matter; one that fails holds all; after a restart all are
    there."""
    slardar = run("--workers", "2")
    assert slardar.call("POST", f"/{language}/script.*", script) == (200, "ok")
    assert slardar.call("POST", f"/{language}/modules.m", module) == (200, "ok")
    status, answer = slardar.call("PUT", f"/{language}")
    assert (status, "modules.inner" in answer["msg"]) == (400, True)
    assert slardar.call("GET", f"/{language}/")[1]["modules"] == []
    assert "tenant= " in slardar.get(HOST)[1]
    first = inner.replace("{}", "one")
    assert slardar.call("POST", f"/{language}/modules.inner", first) == (200, "ok")
    assert slardar.call("PUT", f"/{language}/version", "v1") == (200, "ok")
    assert slardar.call("PUT", f"/{language}/") == (200, "ok")
    assert all("tenant=one " in slardar.get(HOST)[1] for _ in range(8))
    slardar.stop()
    slardar = run("--workers", "2")
    assert "tenant=one " in slardar.get(HOST)[1]
    listed = slardar.call("GET", f"/{language}")[1]
    assert (len(listed["modules"]), listed["commit_version"]) == (3, "v1")


@pytest.mark.parametrize(
    ("language", "code", "line"),
    [
        ("python", "import os\n", "line 1"),
        ("python", "def on_request(request):\n    return request.__class__\n", "line 2"),
        ("python", "def on_request(request):\n  return (\n", "line "),
        ("lua", "if x then\n", "line "),
        ("lua", "\x1bLJ\x02", "line 1"),
    ],
)
def test_wrong_code_changes_nothing(
    run: Callable[..., Slardar], language: str, code: str, line: str
) -> None:
    """The reply is 400 with the line and the reason, and the code in service stays."""
    slardar = run("--workers", "1", "--store", "memory:")
    put(slardar, language, "script.*", TENANT if language == "python" else LUA)
    before = slardar.call("GET", f"/{language}/script.*")[1]["version"]
    status, answer = slardar.call("POST", f"/{language}/script.*", code)
    assert status == 400
    assert answer["msg"].startswith("script.*: ")
    assert line in answer["msg"]
    assert slardar.call("GET", f"/{language}/script.*")[1]["version"] == before
    assert statuses(slardar, 2) == [200, 200]


def test_hooks_are_there_after_a_restart(run: Callable[..., Slardar], tmp_path: Path) -> None:
    """Active and staged versions come back; a broken one is shown, and does not stop the start."""
    store = tmp_path / "state.db"
    slardar = run("--workers", "1", "--store", f"sqlite:{store}")
    put(slardar, "python", f"script.{HOST}", TENANT)
    assert slardar.call("POST", f"/python/script.{HOST}", FAILING) == (200, "ok")
    put(slardar, "lua", "script.broken.example.com", LUA)
    slardar.stop()
    with sqlite3.connect(store) as database:
        row = ("hook", "lua/script.broken.example.com")
        (text,) = database.execute("SELECT value FROM state WHERE kind=? AND name=?", row)
        value = json.loads(text[0])
        value["active"]["code"] = "this is no Lua"
        # The two tables must agree, as after a change.
        for table in ("state", "changes"):
            database.execute(
                f"UPDATE {table} SET value=? WHERE kind=? AND name=?", (json.dumps(value), *row)
            )
    database.close()
    slardar = run("--workers", "1", "--store", f"sqlite:{store}")
    assert curl(slardar.url(), "-X", "DELETE", "-H", f"Host: {HOST}")[0] == 403
    assert "staged" in hook(slardar)
    until(
        lambda: hook(slardar, "lua", "script.broken.example.com")["state"] == "failed",
        "the broken one is shown",
    )
    assert "script.broken.example.com" in hook(slardar, "lua", "script.broken.example.com")["error"]
    assert slardar.get("broken.example.com")[0] == 500


def test_five_failures_suspend_in_all_workers(run: Callable[..., Slardar]) -> None:
    """Each failure is a 500; then the hook does not run until it is activated again."""
    slardar = run("--workers", "2", "--store", "memory:")
    put(slardar, "python", f"script.{HOST}", FAILING)
    assert statuses(slardar, 5) == [500] * 5
    until(lambda: hook(slardar)["state"] == "suspended", "it is suspended")
    until(lambda: hook(slardar)["errors"] >= 5, "the workers have told what they counted")
    assert slardar.call("GET", "/status")[1]["hooks"][0]["state"] == "suspended"
    # Requests are answered as after a failure, and the hook does not run.
    assert statuses(slardar, 4) == [500] * 4
    slardar.wait_for("is suspended everywhere")
    put(slardar, "python", f"script.{HOST}", TENANT)
    assert statuses(slardar, 4) == [200] * 4
    assert hook(slardar)["state"] == "active"


def test_what_a_failure_does(run: Callable[..., Slardar]) -> None:
    """reject, continue, or the version before: no change of a failed call is applied."""
    slardar = run("--workers", "1", "--store", "memory:")
    half = 'def on_request(r):\n    r.headers["X-Tenant"] = "half"\n    raise ValueError("x")\n'
    put(slardar, "python", f"script.{HOST}", half, "?on_error=continue")
    assert slardar.get(HOST) == (200, "tenant= uri=/ host=www.example.com\n")
    put(slardar, "python", f"script.{HOST}", TENANT)
    put(slardar, "python", f"script.{HOST}", half, "?on_error=previous")
    assert "tenant=www" in slardar.get(HOST)[1]
    assert hook(slardar)["on_error"] == "previous"
    put(slardar, "python", f"script.{HOST}", half, "?on_error=reject")
    assert slardar.get(HOST)[0] == 500


@pytest.mark.parametrize(
    ("language", "code"), [("python", ENDLESS), ("lua", "while true do end\n")]
)
def test_endless_loop_costs_one_request(
    run: Callable[..., Slardar], language: str, code: str
) -> None:
    """The loop is stopped; the worker and other hosts go on."""
    slardar = run("--workers", "1", "--store", "memory:")
    put(slardar, language, f"script.{HOST}", code)
    pid = slardar.call("GET", "/status")[1]["workers"]["worker-0"]["pid"]
    began = time.monotonic()
    assert slardar.get(HOST)[0] == 500
    assert time.monotonic() - began < 2
    assert slardar.get("other.example.com")[0] == 502
    assert slardar.call("GET", "/status")[1]["workers"]["worker-0"]["pid"] == pid
    slardar.wait_for("50 ms of CPU time")


def test_worker_that_hangs_in_a_hook_is_replaced(
    run: Callable[..., Slardar], tmp_path: Path
) -> None:
    """The last barrier, with those before it removed: the timer of the budget never comes.
    The hook is suspended everywhere, and the replacement does not hang in it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import signal\nsignal.setitimer = lambda *arguments: (0.0, 0.0)\n"
    )
    path = f"{tmp_path}{os.pathsep}{CHECKOUT}"
    slardar = run("--workers", "1", "--store", "memory:", PYTHONPATH=path)
    pid = slardar.call("GET", "/status")[1]["workers"]["worker-0"]["pid"]
    put(slardar, "python", f"script.{HOST}", ENDLESS)
    connection = http.client.HTTPConnection("127.0.0.1", slardar.port, timeout=PATIENCE)
    connection.request("GET", "/", headers={"Host": HOST})
    with pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()
    slardar.wait_for("is suspended everywhere: a worker ended in it")
    until(lambda: slardar.get("other.example.com")[0] == 502, "another worker serves")
    assert statuses(slardar, 3) == [500] * 3
    assert slardar.call("GET", "/status")[1]["workers"]["worker-0"]["pid"] != pid
    assert hook(slardar)["state"] == "suspended"


def test_shadow_finds_three_in_a_hundred(run: Callable[..., Slardar]) -> None:
    """Clients notice nothing."""
    slardar = run("--workers", "2", "--store", "memory:")
    put(slardar, "python", f"script.{HOST}", TENANT)
    changed = TENANT.replace('request.method == "DELETE"', 'request.path == "/secret"')
    assert slardar.call("POST", f"/python/script.{HOST}?shadow=1", changed) == (200, "ok")
    for number in range(100):
        path = "/secret" if number % 33 == 1 else f"/{number}"
        assert slardar.get(HOST, path)[0] == 200

    def report() -> Any:
        return slardar.call("GET", f"/python/script.{HOST}/shadow")[1]

    until(lambda: report()["compared"] == 100, "all were compared")
    found = report()
    assert (found["differing"], found["errors"]) == (3, 0)
    assert {example["request"] for example in found["examples"]} == {f"GET {HOST}/secret"}
    assert found["examples"][0]["staged"]["answer"] == 403
    assert slardar.call("PUT", f"/python/script.{HOST}") == (200, "ok")
    assert slardar.get(HOST, "/secret")[0] == 403
    assert slardar.call("GET", f"/python/script.{HOST}/shadow")[0] == 404


def test_canary_and_the_way_back(run: Callable[..., Slardar]) -> None:
    """Ten requests of a hundred, then all, then back, and back again."""
    slardar = run("--workers", "1", "--store", "memory:")
    name = f"/python/script.{HOST}"
    put(slardar, "python", f"script.{HOST}", TENANT)
    new = 'def on_request(r):\n    r.headers["X-Tenant"] = "new"\n'
    assert slardar.call("POST", name, new) == (200, "ok")
    assert slardar.call("PUT", name + "?canary=10") == (200, "ok")
    found = [slardar.get(HOST)[1] for _ in range(100)]
    assert sum("tenant=new" in body for body in found) == 10
    assert sum("tenant=www" in body for body in found) == 90
    assert hook(slardar)["staged"]["canary"] == 10
    assert slardar.call("PUT", name + "?rollback=1") == (200, "ok")
    assert all("tenant=www" in slardar.get(HOST)[1] for _ in range(20))
    assert slardar.call("PUT", name) == (200, "ok")
    assert "tenant=new" in slardar.get(HOST)[1]
    assert slardar.call("PUT", name + "?rollback=1") == (200, "ok")
    assert "tenant=www" in slardar.get(HOST)[1]
    assert slardar.call("PUT", name + "?rollback=1") == (200, "ok")
    assert "tenant=new" in slardar.get(HOST)[1]


def test_changes_under_load_fail_nothing(run: Callable[..., Slardar]) -> None:
    """Requests go on while a hook is changed again and again; each sees one whole version."""
    slardar = run("--workers", "2", "--store", "memory:")
    versions = [
        f'def on_request(r):\n    r.context["v"] = "{version}"\n'
        f'    r.headers["X-Tenant"] = "{version}"\n'
        "def on_response(request, response):\n"
        f'    response.headers["X-Version"] = request.context["v"] + "{version}"\n'
        for version in "ab"
    ]
    put(slardar, "python", f"script.{HOST}", versions[0])
    stop = threading.Event()
    failures: list[Any] = []
    counts = [0] * 4

    def client(index: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", slardar.port, timeout=PATIENCE)
        while not stop.is_set():
            connection.request("GET", "/", headers={"Host": HOST})
            reply = connection.getresponse()
            body = reply.read()
            found = reply.getheader("X-Version", "")
            if reply.status != 200 or found not in ("aa", "bb") or body[7:8] != found[:1].encode():
                failures.append((reply.status, found, body))
            counts[index] += 1
        connection.close()

    threads = [threading.Thread(target=client, args=(index,)) for index in range(len(counts))]
    for thread in threads:
        thread.start()
    for turn in range(20):
        put(slardar, "python", f"script.{HOST}", versions[turn % 2])
    until(lambda: min(counts) > 20, "every client was served")
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert not failures


def test_reply_ends_with_the_version_it_began_with(run: Callable[..., Slardar]) -> None:
    """An activation does not touch a request under way."""
    slardar = run("--workers", "1", "--store", "memory:")
    old = 'def on_response(q, p):\n    p.headers["X-Version"] = "old"\n'
    put(slardar, "python", f"script.{HOST}", old)
    connection = http.client.HTTPConnection("127.0.0.1", slardar.port, timeout=PATIENCE)
    # With Expect the server has the head, and its reply waits for the body.
    connection.putrequest("POST", "/", skip_host=True)
    connection.putheader("Host", HOST)
    connection.putheader("Content-Length", "3")
    connection.endheaders()
    until(
        lambda: slardar.call("GET", "/status")[1]["workers"]["worker-0"]["requests"] >= 1,
        "the request is under way",
    )
    put(slardar, "python", f"script.{HOST}", old.replace("old", "new"))
    connection.send(b"abc")
    assert connection.getresponse().getheader("X-Version") == "old"
    connection.close()
    assert "X-Version: new" in curl(slardar.url(), "-i", "-H", f"Host: {HOST}")[1]


def test_hooks_survive_an_upgrade(run: Callable[..., Slardar]) -> None:
    """With USR2 the next process runs them from its first request on, also with a store in
    memory."""
    slardar = run("--workers", "1", "--store", "memory:")
    put(slardar, "python", f"script.{HOST}", TENANT)
    first = slardar.call("GET", "/status")[1]["generations"][0]["pid"]
    os.kill(first, signal.SIGUSR2)

    def upgraded() -> bool:
        return bool(slardar.call("GET", "/status")[1]["generations"][0]["pid"] != first)

    until(upgraded, "the next generation serves")
    try:
        assert "tenant=www" in slardar.get(HOST)[1]
        assert hook(slardar)["state"] == "active"
    finally:
        os.kill(slardar.call("GET", "/status")[1]["generations"][0]["pid"], signal.SIGTERM)
        slardar.wait()


def test_names_with_a_dot_at_the_end(run: Callable[..., Slardar], backend: Nginx) -> None:
    """An upstream, a wildcard, a route and a hook may have it; a name with a port is refused,
    and a server that two levels share is served."""
    slardar = run("--workers", "1", "--store", "memory:")
    host, port = backend.address.split(":")
    server = {"host": host, "port": int(port)}
    shared = {"cluster": {"a": {"servers": [server]}, "b": {"servers": [server]}}}
    for name in ("dot.example.", "*.Wild.example."):
        assert slardar.call("PUT", f"/upstream/{name}", shared) == (200, {"status": 200})
    routes = [{"host": "route.example.", "upstream": "dot.example."}]
    assert slardar.call("PUT", "/routes", routes)[0] == 200
    put(slardar, "python", "script.dot.example.", TENANT)
    assert "tenant=dot uri=/ host=dot.example" in slardar.get("dot.example")[1]
    assert "tenant=dot " in slardar.get("DOT.example.:80")[1]
    for asked in ("a.wild.example", "a.WILD.example.", "route.example", "Route.example.:8"):
        assert slardar.get(asked)[0] == 200
    status, answer = slardar.call("POST", "/python/script.dot.example:80", TENANT)
    assert status == 400
    assert "expected script.HOST without a port" in answer["msg"]
    # One call changes the server, and every level shows the change.
    path = f"/upstream/dot.example./{backend.address}"
    assert slardar.call("PATCH", path, {"weight": 10**9, "state": "drain"})[0] == 200

    def shown() -> Any:
        return slardar.call("GET", "/status")[1]["cls:dot.example."]

    until(lambda: shown()[0][0]["requests"] >= 3, "the worker has told what it counted")
    levels = shown()
    assert [[(one["weight"], one["state"]) for one in level] for level in levels] == [
        [(10**9, "drain")],
        [(10**9, "drain")],
    ]
    assert levels[0] == levels[1]
    assert slardar.get("dot.example")[0] == 502


@pytest.mark.parametrize("workers", ["0", "1"])
def test_what_hooks_cannot_do_is_told_when_they_are_posted(
    start: Start, tmp_path: Path, backend: Nginx, workers: str
) -> None:
    """Certain failures are refused with their line, and possible ones give a warning; a bad
    expression at run time is logged."""
    words = ("--workers", workers, "--upstream", f"{HOST}={backend.address}", "--store", "memory:")
    slardar: Slardar = start(Slardar(tmp_path / "slardar", *words)).ready()
    for language, code, line in (
        ("lua", 'local a = 1\nlocal r = ngx.location.capture("/auth")', 2),
        ("lua", "if ngx.re.find(ngx.var.uri, [[^/(?!public)]]) then\n  ngx.exit(403)\nend", 1),
        ("python", "import re\n\nX = re.compile('(?=a)')\n\ndef on_request(r):\n    pass", 3),
    ):
        status, answer = slardar.call("POST", f"/{language}/script.{HOST}", code)
        assert status == 400
        assert f"script.{HOST}: line {line}: " in answer["msg"]
    assert slardar.call("GET", "/lua")[1]["modules"] == []
    code = """
        if ngx.var.arg_slow then ngx.sleep(1) end
        if not ngx.re.find(ngx.var.uri, "^/(?!" .. "private)") then return end
        ngx.exit(403)
    """
    place = f"http://127.0.0.1:{slardar.control}/lua/script.{HOST}?activate=1"
    status, text = curl(place, "--include", "--data-binary", code)
    assert status == 200
    warning = "X-Slardar-Warning: line 2: ngx.sleep is not available in hooks: hooks do not wait"
    assert warning in text
    _, shown = slardar.call("GET", f"/lua/script.{HOST}")
    assert shown["warnings"] == [warning.removeprefix("X-Slardar-Warning: ")]
    for _ in range(3):
        assert slardar.get(HOST, "/")[0] == 200
    slardar.wait_for(r"script\.www\.example\.com: regular expression: .* nothing is matched by")
    assert slardar.output.count("nothing is matched by") == 1
