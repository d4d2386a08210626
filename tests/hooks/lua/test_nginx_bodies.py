"""Scripts that read and change bodies, in nginx with ngx_lua and in slardar, over real sockets.

The client and the server must get the same from both.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_twisted

from slardar.config import Limits, Timeouts
from tests.hooks.kit import hook, hooks
from tests.hooks.lua.nginx import MODULES, NGINX
from tests.integration.sockets import Client, Connection, Origin, Served, in_thread, reply, wait_for

pytestmark = pytest.mark.real

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
    client_body_buffer_size 64k;
    client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
{servers}
}}
"""
SERVER = """
    server {{
        listen unix:{folder}/s{number};
        rewrite_by_lua_file {folder}/{number}.lua;
        location / {{
            proxy_pass http://127.0.0.1:{port};
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_http_version 1.1;
        }}
    }}
"""

#: In front of each script: what values are, as one text.
SHOW = """
local function s(...)
    local t = {}
    for i = 1, select("#", ...) do t[i] = tostring((select(i, ...))) end
    return table.concat(t, " ")
end
local function fields(t)
    if type(t) ~= "table" then return tostring(t) end
    local o = {}
    for name, value in pairs(t) do
        if type(value) == "table" then value = "{" .. table.concat(value, ",") .. "}" end
        o[#o + 1] = tostring(name) .. "=" .. tostring(value)
    end
    table.sort(o)
    return #o .. ":" .. table.concat(o, ";")
end
"""


class Case(NamedTuple):
    """A script and a request for it."""

    name: str
    code: str
    body: bytes = b"hello"
    headers: tuple[str, ...] = ()
    method: str = "POST"
    chunked: bool = False


READ = "ngx.req.read_body() "
GET_ALL = "s(ngx.req.get_body_data(), ngx.req.get_body_file(), ngx.var.request_body)"
MANY = "&".join(f"a{number}=1" for number in range(150)).encode()
FORM = b"a=1&b=2&a=3&c&d=%20+x&=e&&f=&%61%62=%C3%A9"
CHECK = "if ngx.req.get_post_args().a ~= '1' then return ngx.exit(403) end"

CASES = (
    Case("before it is read", f"ngx.say({GET_ALL})"),
    Case("read", f"{READ} ngx.say({GET_ALL})"),
    Case("read twice", f"{READ}{READ} ngx.say({GET_ALL})"),
    Case("what read answers", "ngx.say(select('#', ngx.req.read_body()))"),
    Case("none", f"{READ} ngx.say({GET_ALL}, ngx.var.content_length)", b"", method="GET"),
    Case("empty", f"{READ} ngx.say({GET_ALL})", b""),
    Case("all bytes", f"{READ} ngx.say(#ngx.req.get_body_data(), ngx.md5(ngx.req.get_body_data()))",
         bytes(range(256)) * 4),
    Case("in chunks", f"{READ} ngx.say({GET_ALL}, ngx.var.content_length)", chunked=True),
    Case("goes on", READ),
    Case("in chunks goes on", READ, chunked=True),
    Case("empty goes on", READ, b""),
    Case("none goes on", READ, b"", method="GET"),
    Case("fields", f"{READ} ngx.say(fields(ngx.req.get_post_args()))", FORM),
    Case("no fields", f"{READ} ngx.say(fields(ngx.req.get_post_args()))", b""),
    Case("no form", f"{READ} ngx.say(fields(ngx.req.get_post_args()))", b'{"a":1}'),
    Case("100 fields", f"{READ} local a, e = ngx.req.get_post_args() ngx.say(fields(a), e)", MANY),
    Case("2 fields", f"{READ} local a, e = ngx.req.get_post_args(2) ngx.say(fields(a), e)", FORM),
    Case("all fields", f"{READ} local a, e = ngx.req.get_post_args(0) ngx.say(fields(a), e)", MANY),
    Case("as many", f"{READ} local a, e = ngx.req.get_post_args(-1) ngx.say(fields(a), e)", MANY),
    Case("too large", f"{READ} local a, e = ngx.req.get_post_args() ngx.say(a, type(e), s("
         "ngx.req.get_body_data(), ngx.var.request_body))", b"a=" + b"x" * 200_000),
    Case("too large goes on", READ, b"x" * 200_000),
    Case("unread fields", "local ok = pcall(ngx.req.get_post_args) ngx.say(ok)", FORM),
    Case("unread set", "ngx.say(pcall(ngx.req.set_body_data, 'x'))"),
    Case("set", f"{READ} ngx.req.set_body_data('new body')"),
    Case("set is seen", f"{READ} ngx.req.set_body_data('new body') ngx.say({GET_ALL}, s("
         "ngx.var.content_length, ngx.var.http_content_length, ngx.var.content_type,"
         "ngx.req.get_headers()['content-length']))", headers=("Content-Type: text/x",)),
    Case("set to nothing", f"{READ} ngx.req.set_body_data('')"),
    Case("set to nothing is seen", f"{READ} ngx.req.set_body_data('') ngx.say({GET_ALL}, "
         "s(ngx.var.content_length, ngx.var.http_content_length))"),
    Case("set where there was none", f"{READ} ngx.req.set_body_data('new')", b"", method="GET"),
    Case("set where there was none is seen", f"{READ} ngx.req.set_body_data('new') ngx.say("
         f"{GET_ALL}, ngx.var.content_length)", b"", method="GET"),
    Case("set in chunks", f"{READ} ngx.req.set_body_data('newer')", chunked=True),
    Case("set in chunks is seen", f"{READ} ngx.req.set_body_data('newer') ngx.say({GET_ALL},"
         "ngx.var.content_length, ngx.req.get_headers()['content-length'])", chunked=True),
    Case("set where it is too large", f"{READ} ngx.req.set_body_data('new')", b"x" * 200_000),
    Case("set to a number", f"{READ} ngx.req.set_body_data(12)"),
    Case("set to nil", f"{READ} local ok = pcall(ngx.req.set_body_data, nil) ngx.say(ok)"),
    Case("set to a table", f"{READ} local ok = pcall(ngx.req.set_body_data, {{'a'}}) ngx.say(ok)"),
    Case("set and the method", f"{READ} ngx.req.set_body_data('n')"
         " ngx.req.set_method(ngx.HTTP_PUT)"),
    Case("only the method", f"{READ} ngx.req.set_method(ngx.HTTP_GET)"),
    Case("discarded", "ngx.req.discard_body()"),
    Case("discarded in chunks", "ngx.req.discard_body()", chunked=True),
    Case("discarded, none", "ngx.req.discard_body()", b"", method="GET"),
    Case("discarded, then read", f"ngx.req.discard_body() {READ} ngx.say({GET_ALL})"),
    Case("discarded, then read, goes on", f"ngx.req.discard_body() {READ}"),
    Case("read, then discarded", f"{READ} ngx.req.discard_body() ngx.say({GET_ALL})"),
    Case("read, then discarded, goes on", f"{READ} ngx.req.discard_body()"),
    Case("discarded, read and set", f"ngx.req.discard_body() {READ} ngx.req.set_body_data('xyz')"),
    Case("the variable is fixed", f"{READ} local ok = pcall(function() ngx.var.request_body = 'x'"
         " end) ngx.say(ok)"),
    Case("a 100 is sent", f"{READ} ngx.say({GET_ALL})", headers=("Expect: 100-continue",)),
    Case("a 100 is sent, goes on", READ, headers=("Expect: 100-continue",)),
    Case("answered", READ + CHECK, b"a=2"),
    Case("not answered", READ + CHECK, b"a=1"),
)  # fmt: skip


def echo(connection: Connection) -> None:
    """Reply with what has come."""
    while (asked := connection.request()) is not None:
        first, headers, body = asked
        length = headers.get("content-length")
        shown = f"{first.split(' ')[0]} {length} {headers.get('content-type')} ".encode()
        connection.send(reply(shown + (body if len(body) < 999 else b"%d" % len(body)), 200))


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """The server behind both proxies."""
    made = Origin(echo)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Path]:
    """The folder with a socket for each case, on which nginx listens."""
    if not (MODULES / "ngx_http_lua_module.so").exists() or not Path(NGINX).exists():
        pytest.skip("nginx with libnginx-mod-http-lua is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    servers = ""
    for number, case in enumerate(CASES):
        (folder / f"{number}.lua").write_text(SHOW + case.code)
        servers += SERVER.format(folder=folder, number=number, port=origin.port)
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(modules=MODULES, folder=folder, servers=servers))
    process = subprocess.Popen(
        [NGINX, "-p", str(folder), "-c", str(config)], stderr=subprocess.PIPE, text=True
    )

    def serves() -> bool:
        assert process.poll() is None, process.communicate()[1]
        try:
            Client(str(folder / f"s{len(CASES) - 1}")).close()
        except OSError:
            return False
        return True

    try:
        wait_for(serves, "nginx's start")
        yield folder
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest_twisted.async_yield_fixture
async def served() -> AsyncIterator[Served]:
    """A data plane that serves requests."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    served = Served(reactor, Limits(), Timeouts())
    await served.begin("tcp:0:interface=127.0.0.1")
    yield served
    await served.end()


def outcome(client: Client, case: Case) -> tuple[Any, ...]:
    """Status and body of the reply; the body is left out if it is a page of nginx's own."""
    lines = [f"{case.method} /x HTTP/1.1", "Host: up", *case.headers]
    pieces = [case.body]
    if case.chunked:
        lines.append("Transfer-Encoding: chunked")
        pieces = [b"%x\r\n%b\r\n" % (len(one), one) for one in (case.body[:3], case.body[3:])]
        pieces.append(b"0\r\n\r\n")
    elif case.method != "GET":
        lines.append(f"Content-Length: {len(case.body)}")
    head = "\r\n".join((*lines, "", "")).encode()
    if "Expect: 100-continue" in case.headers:
        client.send(head)
        status, _ = client.head()
        assert status == 100
        head = b""
    # At once: nginx may wait without end for a body that it discards when it comes.
    client.send(head + b"".join(pieces))
    got = client.reply()
    return got.status, got.body if got.status == 200 else b""


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
@in_thread
def test_same_as_nginx(number: int, nginx: Path, origin: Origin, served: Served) -> None:
    """A script that reads or changes the body has the same effect as in nginx.

    If the script has read the body, the connection goes on.
    """
    case = CASES[number]
    served.put("up", origin)
    served.snapshot = served.snapshot.with_hooks(hooks(hook("lua/script.up", SHOW + case.code)))
    served.run(served.plane.apply, served.snapshot, [])
    with Client(str(nginx / f"s{number}")) as client:
        theirs = outcome(client, case)
    with served.client() as client:
        ours = outcome(client, case)
        assert ours == theirs
        if len(case.body) < 65536 and READ in case.code:
            assert outcome(client, case) == theirs
