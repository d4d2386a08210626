"""A candidate: a configuration and hooks that nobody serves yet, and what is expected of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from slardar import plugins
from slardar.config import Settings, load_file, parse_settings
from slardar.errors import ConfigError, printable
from slardar.hooks.engine import MAX_CODE
from slardar.model.hook import HookKey
from slardar.model.reader import shown
from slardar.model.yaml_file import read_file
from slardar.plain_files import read_regular
from slardar.testing.expectations import Expectation, read_expectations

__all__ = ["Candidate", "read_candidate", "read_hooks"]

_KEYS = ("config", "hooks", "expect")
_LANGUAGES = {".lua": "lua", ".py": "python"}


class Candidate(Struct):
    """What is to be checked, and what is expected of it."""

    settings: Settings
    #: The code of hooks, by language and name.
    hooks: dict[HookKey, str]
    expectations: list[Expectation]


def read_candidate(file: str) -> Candidate:
    """The candidate of a file in YAML.  Paths in it begin at its folder.  Raises ConfigError."""
    raw = read_file(file)
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{file}: expected an object with {', '.join(_KEYS)}")
    unknown = [key for key in raw if key not in _KEYS]
    if unknown:
        raise ConfigError(f"{file}: {shown(unknown[0])}: unknown key; expected {', '.join(_KEYS)}")
    folder = Path(file).parent
    config = raw.get("config")
    if isinstance(config, str):
        settings = load_file(str(folder / config), plugins)
    else:
        settings = parse_settings(config, f"{file}: config", plugins)
    expectations = read_expectations(raw.get("expect"), f"{file}: expect")
    return Candidate(settings, read_hooks(raw.get("hooks"), folder, file), expectations)


def read_hooks(raw: object, folder: Path, file: str) -> dict[HookKey, str]:
    """The code of hooks, from their files by name: paths that begin at ``folder``.  ``file`` says
    where they are named.  Raises ConfigError."""
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{file}: hooks: expected the files of hooks by name")
    found: dict[HookKey, str] = {}
    for name, path in raw.items():
        where = f"{file}: hooks.{printable(str(name))}"
        language = _LANGUAGES.get(Path(str(path)).suffix)
        if language is None:
            raise ConfigError(f"{where}: expected a file that ends in .py or .lua")
        try:
            data, _ = read_regular(str(folder / str(path)), MAX_CODE * 4 + 1)
            found[language, str(name)] = data.decode("utf-8")
        except OSError as error:
            raise ConfigError(f"{where}: {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{where}: {path}: expected UTF-8") from None
    return found
