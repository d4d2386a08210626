"""The extension that reads and writes heads, built for the tests of a checkout."""

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
NAME = "slardar.http1.native"


def build(folder: Path, **environment: str) -> Path:
    """Build the extension in ``folder``, in some seconds; ``CFLAGS`` and others may be given."""
    source = folder / "source"
    for file in ("setup.py", "pyproject.toml", "README.md", "slardar/__init__.py"):
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / file, source / file)
    for file in (CHECKOUT / "slardar").glob("*/*.pyx"):
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
    return source / f"slardar/http1/native{EXTENSION_SUFFIXES[0]}"


def load(file: Path) -> ModuleType:
    """The extension in ``file``.  It does not become a part of the package."""
    loader = ExtensionFileLoader(NAME, str(file))
    spec = importlib.util.spec_from_file_location(NAME, file, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
