"""The proxies that are compared: their configuration, their start and their versions."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.folder import CONFIGS, fill, fill_text
from benchmarks.pair import make_pair
from benchmarks.processes import Program, find_program, free_port

__all__ = ["LOGGED", "PROXIES", "REFERENCE", "SUBJECT", "Proxy", "Running", "version_of"]

ROOT = Path(__file__).resolve().parent.parent
#: Where `make bench` installs this checkout as `pip install .` does, compiled.
COMPILED = ROOT / ".venv" / "compiled"

#: The proxy that is measured, and the proxy with which all are compared.
SUBJECT = "slardar"
#: slardar as it is without a compiler.
PLAIN = "slardar-plain"
REFERENCE = "nginx-lua"
#: The two of them with an access log in JSON to a file.  They are measured where they are
#: asked for.
LOGGED = ("slardar-log", "nginx-lua-log")
#: Twisted's own proxy; the project promises to be many times cheaper.
TWISTED = "twisted"


@dataclass(frozen=True)
class Proxy:
    """One proxy.  Texts may hold ``@{port}`` and the like, see :func:`start`."""

    name: str
    title: str
    command: tuple[str, ...]
    version: tuple[str, ...]
    configs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Of texts of its own in its configuration, by their names.
    values: Mapping[str, str] = field(default_factory=dict)
    #: Whether it keeps connections to servers for the next request.
    keeps_upstream: bool = True
    #: Whether it sends the client's address to the server.
    forwards_address: bool = True

    def find(self) -> str | None:
        """The path of its program, or None if the program is not installed."""
        return find_program(self.command[0])

    @property
    def speaks_tls(self) -> bool:
        """Whether it also listens where clients speak TLS."""
        texts = [*self.command, *((CONFIGS / name).read_text() for name in self.configs)]
        return any("@{tls_port}" in text for text in texts)


_NGINX = ("nginx", "-e", "stderr", "-c", "@{folder}/nginx-lua.conf")
_SLARDAR = (
    "twistd -n --pidfile= slardar --workers 0 --store memory: "
    "--listen tcp:@{port}:interface=127.0.0.1:backlog=4096 "
    "--control tcp:@{control}:interface=127.0.0.1 --amp unix:@{port}.sock:mode=600 "
    "--upstream bench.example.com=127.0.0.1:@{backend_a},127.0.0.1:@{backend_b}"
)
#: The same, and a second port, where clients speak TLS.
_SLARDAR_TLS = (
    f"{_SLARDAR} --config @{{folder}}/slardar-tls.yaml "
    "--listen tls:@{tls_port}:interface=127.0.0.1:backlog=4096"
)
_RESOURCE = "python -m benchmarks.twisted_resource @{port} @{backend_a} @{backend_b}"
_ONE_CORE = {"GOMAXPROCS": "1"}
#: Prints the version, and whether the request path is compiled.
_VERSION = (
    "python",
    "-c",
    "import slardar, slardar.http1.exchange as exchange; "
    "print(slardar.__version__, 'compiled' if exchange.__file__.endswith('.so') else 'as Python')",
)

PROXIES: Mapping[str, Proxy] = {
    proxy.name: proxy
    for proxy in (
        Proxy(
            SUBJECT,
            "slardar",
            tuple(_SLARDAR_TLS.split()),
            _VERSION,
            ("slardar-tls.yaml",),
            {"PYTHONPATH": str(COMPILED if COMPILED.is_dir() else ROOT)},
        ),
        Proxy(
            PLAIN,
            "slardar, not compiled",
            tuple(_SLARDAR_TLS.split()),
            _VERSION,
            ("slardar-tls.yaml",),
            {"PYTHONPATH": str(ROOT)},
        ),
        Proxy(
            REFERENCE,
            "nginx + balancer_by_lua",
            _NGINX,
            ("nginx", "-v"),
            ("nginx-lua.conf",),
            values={"log": "off"},
        ),
        Proxy(
            LOGGED[0],
            "slardar, access log",
            (*_SLARDAR.split(), "--config", "@{folder}/slardar-log.yaml"),
            _VERSION,
            ("slardar-log.yaml",),
            {"PYTHONPATH": str(COMPILED if COMPILED.is_dir() else ROOT)},
        ),
        Proxy(
            LOGGED[1],
            "nginx + balancer_by_lua, access log",
            _NGINX,
            ("nginx", "-v"),
            ("nginx-lua.conf",),
            # Written as slardar writes: many lines at once, and none waits long.
            values={"log": "@{folder}/nginx-access.log json buffer=64k flush=100ms"},
        ),
        Proxy(
            "haproxy",
            "HAProxy",
            ("haproxy", "-db", "-f", "@{folder}/haproxy.cfg"),
            ("haproxy", "-v"),
            ("haproxy.cfg",),
        ),
        Proxy(
            "caddy",
            "Caddy",
            ("caddy", "run", "--adapter", "caddyfile", "--config", "@{folder}/Caddyfile"),
            ("caddy", "version"),
            ("Caddyfile",),
            {
                **_ONE_CORE,
                "HOME": "@{folder}",
                "XDG_DATA_HOME": "@{folder}",
                "XDG_CONFIG_HOME": "@{folder}",
            },
        ),
        Proxy(
            "envoy",
            "Envoy",
            (
                *("envoy", "-c", "@{folder}/envoy.yaml", "--concurrency", "1"),
                *("--disable-hot-restart", "--log-level", "error"),
            ),
            ("envoy", "--version"),
            ("envoy.yaml",),
        ),
        Proxy(
            "traefik",
            "Traefik",
            ("traefik", "--configFile=@{folder}/traefik.yml"),
            ("traefik", "version"),
            ("traefik.yml", "traefik-routes.yml"),
            _ONE_CORE,
        ),
        Proxy(
            TWISTED,
            "ReverseProxyResource",
            tuple(_RESOURCE.split()),
            ("python", "-c", "import twisted; print(twisted.__version__)"),
            environment={"PYTHONPATH": str(ROOT)},
            keeps_upstream=False,
            forwards_address=False,
        ),
    )
}


@dataclass(frozen=True)
class Running:
    """A proxy that listens."""

    proxy: Proxy
    program: Program
    port: int
    #: The port of its control channel, if it has one.
    control: int
    #: The port where clients speak TLS, if it has one.
    tls_port: int

    @classmethod
    def start(cls, proxy: Proxy, folder: Path, core: int, places: Mapping[str, object]) -> Running:
        """Start a proxy on one core, in front of the servers at ``places``; wait until it listens.

        ``places``: what the texts say of the servers, by name.

        :raise RuntimeError: if it is not installed, ends or does not listen.
        """
        program = proxy.find()
        if program is None:
            raise RuntimeError(f"{proxy.command[0]} is not installed")
        values: dict[str, object] = {
            "folder": folder,
            "port": free_port(),
            "control": free_port(),
            "tls_port": free_port(),
            "pair": make_pair(folder),
            **places,
        }
        values.update((key, fill_text(text, values)) for key, text in proxy.values.items())
        fill(proxy.configs, folder, values)
        command = [program, *(fill_text(word, values) for word in proxy.command[1:])]
        environment = {key: fill_text(text, values) for key, text in proxy.environment.items()}
        started = Program(proxy.name, command, frozenset({core}), folder, environment)
        ports = [int(str(values[name])) for name in ("port", "control", "tls_port")]
        running = cls(proxy, started, *ports)
        try:
            started.wait_for_port(running.port)
            if proxy.speaks_tls:
                started.wait_for_port(running.tls_port)
        except BaseException:
            started.stop()
            raise
        return running

    def stop(self) -> None:
        self.program.stop()


def version_of(proxy: Proxy) -> str | None:
    """The first line that it prints about its version, or None if it is not installed."""
    program = find_program(proxy.version[0])
    if program is None or proxy.find() is None:
        return None
    ran = subprocess.run(
        [program, *proxy.version[1:]],
        capture_output=True,
        text=True,
        timeout=20,
        # Not the checkout: Python would import it instead of the installed slardar.
        cwd="/",
        env={**os.environ, **proxy.environment},
        check=False,
    )
    lines = [line.strip() for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
    # Some print their own path first, which does not belong in a report.
    return lines[0].removeprefix(program).strip() if lines else "unknown"
