"""Who runs the script: slardar with it in either language, nginx with it, both without."""

from __future__ import annotations

import dataclasses
import json
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.backends import Backends
from benchmarks.processes import LOOPBACK, Cores
from benchmarks.proxies import PROXIES, REFERENCE, SUBJECT, Proxy
from benchmarks.rounds import Field

__all__ = [
    "CONTENDERS",
    "LUA",
    "NGINX",
    "NGINX_LUA",
    "OTHER",
    "PLAIN",
    "PYTHON",
    "SCRIPTS",
    "HookField",
]

PLAIN = "no-hook"
OTHER = "other-host"
PYTHON = "python"
LUA = "lua"
NGINX = "nginx"
NGINX_LUA = "nginx-lua"

#: The same in each language: look at the method, set a header.
SCRIPTS: Mapping[str, str] = {
    PYTHON: """\
def on_request(request):
    if request.method == "DELETE":
        return request.reject(403)
    request.headers["X-Tenant"] = "bench"
""",
    LUA: """\
if ngx.req.get_method() == "DELETE" then
    return ngx.exit(403)
end
ngx.req.set_header("X-Tenant", "bench")
""",
}


def _named(proxy: Proxy, name: str, title: str) -> Proxy:
    return dataclasses.replace(proxy, name=name, title=title)


CONTENDERS: Mapping[str, Proxy] = {
    proxy.name: proxy
    for proxy in (
        _named(PROXIES[SUBJECT], PLAIN, "slardar, no hook"),
        _named(PROXIES[SUBJECT], OTHER, "slardar, a hook for another host"),
        _named(PROXIES[SUBJECT], PYTHON, "slardar, Python hook"),
        _named(PROXIES[SUBJECT], LUA, "slardar, Lua hook"),
        _named(PROXIES[REFERENCE], NGINX, "nginx + balancer_by_lua, no script"),
        _named(PROXIES[REFERENCE], NGINX_LUA, "nginx + balancer_by_lua + rewrite_by_lua"),
    )
}


class HookField(Field):
    """Gives each contender a folder of its own, and its script."""

    def __init__(
        self, folder: Path, cores: Cores, backends: Backends, say: Callable[[str], None]
    ) -> None:
        super().__init__(folder, cores, backends, say)
        self._whole = folder

    def enter(self, proxy: Proxy) -> None:
        """Start it, and load its script if it has one."""
        self._folder = self._whole / proxy.name
        self._folder.mkdir(exist_ok=True)
        if proxy.name == NGINX_LUA:
            block = f"rewrite_by_lua_block {{\n{SCRIPTS[LUA]}}}\n"
            (self._folder / "rewrite.conf").write_text(block)
        super().enter(proxy)
        started = self.running.get(proxy.name)
        language = PYTHON if proxy.name == OTHER else proxy.name
        if started is not None and language in SCRIPTS:
            name = "script.other.example.com" if proxy.name == OTHER else "script.*"
            try:
                post(started.control, language, name, SCRIPTS[language])
            except OSError as error:
                self.problem(f"{proxy.title} is left out: {error}")
                self.running.pop(proxy.name).stop()


def post(port: int, language: str, name: str, code: str) -> None:
    """Post a hook to the control channel on a local port, and activate it.

    :raise OSError: if it is not taken.
    """
    url = f"http://{LOOPBACK}:{port}/{language}/{name}"
    for method, body in (("POST", code.encode()), ("PUT", None)):
        call = urllib.request.Request(url, data=body, method=method)
        with urllib.request.urlopen(call, timeout=20) as reply:
            if json.loads(reply.read()) != "ok":
                raise OSError(f"{method} {name} was not answered with ok")
