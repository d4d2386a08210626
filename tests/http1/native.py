"""The extensions in Cython, built for the tests of a checkout."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from pathlib import Path
from types import ModuleType

CHECKOUT = Path(__file__).resolve().parent.parent.parent
#: Reads and writes heads; writes lines of access logs.
NAME = "slardar.http1.native"
LINES = "slardar.observers.native"


def build(folder: Path, name: str = NAME, **environment: str) -> Path:
    """Build the extensions in ``folder``, in some seconds, and return the file of one.

    ``CFLAGS`` and others may be given.
    """
    source = folder / "source"
    for file in ("setup.py", "pyproject.toml", "README.md", "slardar/__init__.py"):
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / file, source / file)
    for file in (CHECKOUT / "slardar").glob("*/*.p[xy][dx]"):
        copy = source / file.relative_to(CHECKOUT)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(file, copy)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", "--quiet", "build_ext", "--inplace"],
        cwd=source,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        env={**os.environ, "SLARDAR_COMPILE": "cython", "SLARDAR_OPT_LEVEL": "1", **environment},
    )
    assert done.returncode == 0, done.stdout
    return source / f"{name.replace('.', '/')}{EXTENSION_SUFFIXES[0]}"


def load(file: Path, name: str = NAME) -> ModuleType:
    """The extension in ``file``.  It does not become a part of the package."""
    loader = ExtensionFileLoader(name, str(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
