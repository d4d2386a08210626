"""The same scripts in nginx with ngx_lua, and here: what comes out must be the same."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slardar.hooks.objects import HookRequest
from slardar.hooks.script import HookFailure
from tests.hooks.lua.cases import EXPRESSIONS, GET, SCRIPTS, Case

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
MODULES = Path("/usr/lib/nginx/modules")

#: What a script's effect is: a status, headers as lines, and a body or the server's view.
Outcome = dict[str, Any]

CONFIG = """
load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
    server {{
        listen unix:{folder}/server;
        location / {{
            content_by_lua_block {{
                ngx.header["X-Echo"] = "1"
                ngx.print(ngx.req.raw_header())
            }}
        }}
    }}
{servers}
}}
"""
SERVER = """
    server {{
        listen unix:{folder}/s{number};
        rewrite_by_lua_file {folder}/{number}.lua;
        location / {{
            proxy_pass http://unix:{folder}/server:;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_http_version 1.1;
        }}
    }}
"""

CASES: tuple[Case, ...] = (
    *((expression, f"ngx.say({expression})", GET) for expression in EXPRESSIONS),
    *SCRIPTS,
)


@pytest.fixture(scope="module")
def ask(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[int, tuple[str, ...]], str]]:
    """Sends a request to the nginx that runs the case of that number; answers the reply."""
    if not (MODULES / "ngx_http_lua_module.so").exists() or not Path(NGINX).exists():
        pytest.skip("nginx with libnginx-mod-http-lua is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    servers = []
    for number, (_, code, _) in enumerate(CASES):
        (folder / f"{number}.lua").write_text(code, encoding="utf-8")
        servers.append(SERVER.format(folder=folder, number=number))
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(modules=MODULES, folder=folder, servers="".join(servers)))
    process = subprocess.Popen(
        [NGINX, "-p", str(folder), "-c", str(config)], stderr=subprocess.PIPE, text=True
    )

    def send(number: int, head: tuple[str, ...]) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(folder / f"s{number}"))
            lines = "\r\n".join((*head, "Connection: close", "", ""))
            client.sendall(lines.encode("latin-1"))
            received = b""
            while data := client.recv(65536):
                received += data
        return received.decode("latin-1")

    try:
        deadline = time.monotonic() + 20
        last = len(CASES) - 1
        while True:
            try:
                send(last, GET)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"nginx did not start: {process.communicate()[1]}")
                # Until the sockets are there: nginx says nothing when they are.
                time.sleep(0.02)  # noqa: TID251
        yield send
    finally:
        process.terminate()
        process.communicate(timeout=20)


def dechunked(text: str) -> str:
    """A chunked body in one piece."""
    body = ""
    while text:
        size, _, text = text.partition("\r\n")
        length = int(size, 16)
        if not length:
            break
        body, text = body + text[:length], text[length + 2 :]
    return body


def of_nginx(reply: str) -> Outcome:
    """What nginx made of a script."""
    if not reply:
        return {"status": 444}
    head, _, body = reply.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    status = int(first.split()[1])
    fields = [tuple(line.split(": ", 1)) for line in lines]
    names = {name.lower(): value for name, value in fields}
    if names.get("transfer-encoding") == "chunked":
        body = dechunked(body)
    own = [(n.lower(), v) for n, v in fields if n.lower() in ("x-out", "location")]
    if "x-echo" in names:
        return {"goes on": server_view(body), "headers": own}
    outcome: Outcome = {"status": status, "headers": own}
    # nginx's own page is not ours.
    if "<hr><center>nginx" not in body and status != 204:
        outcome["body"] = body
        outcome["type"] = names.get("content-type") if body else None
    return outcome


def server_view(head: str) -> Any:
    """What a server gets, without what each proxy adds in its own way."""
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    fields = sorted(
        tuple(line.split(": ", 1)) for line in lines if not line.startswith("Connection")
    )
    return method, target, fields


def of_slardar(engine: Any, code: str, head: tuple[str, ...]) -> Outcome:
    """What we make of it."""
    method, target, version = head[0].split(" ")
    fields = dict(line.split(": ", 1) for line in head[1:])
    passing = [line for line in head[1:] if not line.startswith("Host")]
    lines = [b"", *(line.encode("latin-1") for line in passing)]
    request = HookRequest(
        method.encode(),
        target.encode("latin-1"),
        lines,
        host=fields["Host"].encode(),
        address=b"192.0.2.1",
        minor=int(version[-1]),
    )
    script = engine.load("script.x", code, {})
    try:
        script.on_request(request)
    except HookFailure as failure:
        if failure.kind != "error":
            raise
        return {"status": 500, "headers": []}
    answer = request.answer
    if answer is None:
        view = sorted((n, v) for n, v in request.headers.items())
        added = request.context.get("lua.reply_headers")
        own = [(n.lower(), v) for n, v in added.items()] if added is not None else []
        own = [pair for pair in own if pair[0] in ("x-out", "location")]
        return {"goes on": (request.method, request.uri, view), "headers": own}
    if answer.status == 444:
        return {"status": 444}
    pairs = [line.decode("latin-1").split(": ", 1) for line in answer.headers]
    own = [(n.lower(), v) for n, v in pairs if n.lower() in ("x-out", "location")]
    outcome: Outcome = {"status": answer.status, "headers": own}
    if answer.message is None and answer.status // 100 != 3 and answer.status != 204:
        outcome["body"] = answer.body.decode("latin-1")
        outcome["type"] = {n.lower(): v for n, v in pairs}.get("content-type")
    return outcome


@pytest.mark.parametrize("number", range(len(CASES)), ids=[name[:50] for name, _, _ in CASES])
def test_same_as_nginx(number: int, ask: Any, engine: Any) -> None:
    """A script has the same effect as in nginx."""
    _, code, head = CASES[number]
    assert of_slardar(engine, code, head) == of_nginx(ask(number, head))
