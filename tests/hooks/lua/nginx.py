"""Runs the real nginx with ngx_lua, which runs each script of a test in its rewrite phase."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["MODULES", "NGINX", "Send", "dechunked", "running"]

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
MODULES = Path("/usr/lib/nginx/modules")

#: Sends a request, as its first lines, to the server that runs the script of that number,
#: and answers the reply.
Send = Callable[[int, Sequence[str]], str]

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
        set $x_my "-";
        rewrite_by_lua_file {folder}/{number}.lua;
        location / {{
            proxy_pass http://unix:{folder}/server:;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_http_version 1.1;
        }}
    }}
"""


@contextmanager
def running(folder: Path, scripts: Sequence[str]) -> Iterator[Send]:
    """Start one nginx in ``folder`` for all scripts; skip the test if there is no nginx."""
    if not (MODULES / "ngx_http_lua_module.so").exists() or not Path(NGINX).exists():
        pytest.skip("nginx with libnginx-mod-http-lua is not installed")
    servers = []
    for number, code in enumerate(scripts):
        (folder / f"{number}.lua").write_text(code, encoding="utf-8")
        servers.append(SERVER.format(folder=folder, number=number))
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(modules=MODULES, folder=folder, servers="".join(servers)))
    process = subprocess.Popen(
        [NGINX, "-p", str(folder), "-c", str(config)], stderr=subprocess.PIPE, text=True
    )

    def send(number: int, head: Sequence[str]) -> str:
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
        while True:
            try:
                send(len(scripts) - 1, ("GET / HTTP/1.1", "Host: a"))
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
    """The data of a chunked body in one piece."""
    body = ""
    while text:
        size, _, text = text.partition("\r\n")
        length = int(size, 16)
        if not length:
            break
        body, text = body + text[:length], text[length + 2 :]
    return body
