"""The proxies that are compared: slardar and nginx, each with a script and without."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.backends import Backends
from benchmarks.hooks.control import activate
from benchmarks.processes import Cores
from benchmarks.proxies import PROXIES, REFERENCE, SUBJECT, Proxy
from benchmarks.rounds import Field

__all__ = [
    "CONTENDERS",
    "LUA",
    "NGINX",
    "NGINX_LUA",
    "PLAIN",
    "PYTHON",
    "SCRIPTS",
    "HookField",
]

#: slardar without a hook, and with a hook in each language.
PLAIN = "no-hook"
PYTHON = "python"
LUA = "lua"
NGINX = "nginx"
NGINX_LUA = "nginx-lua"

#: The same hook in each language: look at the method, set a header.
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
        _named(PROXIES[SUBJECT], PYTHON, "slardar, Python hook"),
        _named(PROXIES[SUBJECT], LUA, "slardar, Lua hook"),
        _named(PROXIES[REFERENCE], NGINX, "nginx + balancer_by_lua, no script"),
        _named(PROXIES[REFERENCE], NGINX_LUA, "nginx + balancer_by_lua + rewrite_by_lua"),
    )
}


class HookField(Field):
    """Gives each contender its own folder and its script."""

    def __init__(
        self, folder: Path, cores: Cores, backends: Backends, say: Callable[[str], None]
    ) -> None:
        super().__init__(folder, cores, backends, say)
        self._whole = folder

    def enter(self, proxy: Proxy) -> None:
        """Start a proxy, and load its script if it has one."""
        self._folder = self._whole / proxy.name
        self._folder.mkdir(exist_ok=True)
        if proxy.name == NGINX_LUA:
            block = f"rewrite_by_lua_block {{\n{SCRIPTS[LUA]}}}\n"
            (self._folder / "rewrite.conf").write_text(block)
        super().enter(proxy)
        started = self.running.get(proxy.name)
        if started is not None and proxy.name in SCRIPTS:
            try:
                activate(started.control, proxy.name, "script.*", SCRIPTS[proxy.name])
            except OSError as error:
                self.problem(f"{proxy.title} is left out: {error}")
                self.running.pop(proxy.name).stop()
