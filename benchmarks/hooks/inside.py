"""Measures hooks without sockets: a call, an endless loop, the memory of a thousand hooks.

:mod:`benchmarks.hooks.__main__` runs ``python -m benchmarks.hooks.inside`` in a process
that imports the compiled slardar.  It prints one line of JSON.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from typing import Any

#: Hooks as users write them: a dozen lines and some constants.
TYPICAL = {
    "python": """\
ALLOWED = {{"GET", "HEAD", "POST"}}
MOVED = {{"/old": "/new", "/a": "/b", "/{number}": "/c"}}

def tenant(host):
    return host.split(".")[0]

def on_request(request):
    if request.method not in ALLOWED:
        return request.reject(405)
    target = MOVED.get(request.path)
    if target is not None:
        return request.redirect(target, 301)
    if request.headers.get("User-Agent", "").startswith("bot-{number}"):
        return request.reject(403, "no robots")
    request.headers["X-Tenant"] = tenant(request.host)
    request.headers["X-Number"] = "{number}"
""",
    "lua": """\
local allowed = {{ GET = true, HEAD = true, POST = true }}
local moved = {{ ["/old"] = "/new", ["/a"] = "/b", ["/{number}"] = "/c" }}

local function tenant(host)
    return string.match(host, "^[^.]+")
end

if not allowed[ngx.req.get_method()] then
    return ngx.exit(405)
end
local target = moved[ngx.var.uri]
if target then
    return ngx.redirect(target, 301)
end
local agent = ngx.var.http_user_agent
if agent and string.sub(agent, 1, 6) == "bot-{number}" then
    return ngx.exit(403)
end
ngx.req.set_header("X-Tenant", tenant(ngx.var.host))
ngx.req.set_header("X-Number", "{number}")
""",
}
LOOP = {
    "python": "def on_request(request):\n    while True:\n        pass\n",
    "lua": "while true do end\n",
}
HOOKS = 1000
CALLS = 20_000

HEAD = (
    b"GET /items/users/4711?page=3&sort=name HTTP/1.1\r\nHost: bench.example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: */*\r\nAccept-Language: en-US,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n"
    b"Connection: keep-alive\r\nCookie: session=0123456789abcdef; theme=dark\r\n"
    b"Referer: https://bench.example.com/users\r\nSec-Fetch-Mode: cors\r\n\r\n"
)


def _runner() -> Any:
    from slardar.config import Hooks
    from slardar.hooks.runner import Runner

    return Runner(Hooks(), time.monotonic)


def _hook(language: str, name: str, code: str) -> Any:
    from slardar.model.hook import Code, Hook

    return Hook(language, name, Code.of(code, time.time()))  # type: ignore[arg-type]


def _load(runner: Any, hooks: list[Any]) -> None:
    runner.load({hook.key: hook for hook in hooks})
    for report in runner.reports():
        if report.state != "active":
            raise RuntimeError(f"{report.path}: {report.error}")


def call_us(language: str, code: str) -> float:
    """CPU microseconds that one call adds to a request, without the request's parsing."""
    from slardar.http1.request import parse_request

    runner = _runner()
    _load(runner, [_hook(language, "script.*", code)])

    def once() -> float:
        requests = [parse_request(HEAD) for _ in range(CALLS)]
        for request in requests:
            request.peer = request.address = b"127.0.0.1"
        began = time.thread_time()
        for request in requests:
            runner.request(request)
        return (time.thread_time() - began) / CALLS * 1e6

    once()
    return min(once() for _ in range(5))


def other_us() -> float:
    """CPU microseconds for a request whose host has no hook, while another has."""
    from slardar.http1.request import parse_request

    runner = _runner()
    _load(runner, [_hook("python", "script.other.example.com", LOOP["python"])])
    request = parse_request(HEAD)

    def once() -> float:
        began = time.thread_time()
        for _ in range(CALLS):
            runner.sees(request)
        return (time.thread_time() - began) / CALLS * 1e6

    return min(once() for _ in range(5))


def loop_ms(language: str) -> float:
    """CPU milliseconds after which an endless loop is stopped; the worst of some runs."""
    from slardar.http1.request import parse_request

    worst = 0.0
    for _ in range(10):
        runner = _runner()
        _load(runner, [_hook(language, "script.*", LOOP[language])])
        request = parse_request(HEAD)
        began = time.thread_time()
        hooked = runner.request(request)
        worst = max(worst, (time.thread_time() - began) * 1000)
        if hooked is None or hooked.answer is None or hooked.answer.status != 500:
            raise RuntimeError(f"{language}: an endless loop was not stopped as a failure")
    return worst


def _resident_mb() -> float:
    gc.collect()
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


def memory_mib(language: str) -> float:
    """MiB that a thousand hooks take after each has run once, the engine included."""
    from slardar.http1.request import parse_request

    parse_request(HEAD)
    before = _resident_mb()
    runner = _runner()
    hooks = [
        _hook(language, f"script.host{number}.example.com", TYPICAL[language].format(number=number))
        for number in range(HOOKS)
    ]
    _load(runner, hooks)
    for number in range(HOOKS):
        head = HEAD.replace(b"bench.example.com", b"host%d.example.com" % number, 1)
        request = parse_request(head)
        if runner.request(request) is not None or request.get_header("X-Tenant") is None:
            raise RuntimeError(f"{language}: hook {number} did not let its request go on")
    del hooks
    return _resident_mb() - before


def main() -> None:
    """Measure ``call``, ``loop`` or ``memory`` in a language, or ``other``, as the arguments
    say."""
    from benchmarks.hooks.contenders import SCRIPTS

    what, language = (*sys.argv[1:3], "")[:2]
    if what == "other":
        value = other_us()
    elif what == "call":
        value = call_us(language, SCRIPTS[language])
    elif what == "loop":
        value = loop_ms(language)
    else:
        value = memory_mib(language)
    print(json.dumps(value))


if __name__ == "__main__":
    main()
