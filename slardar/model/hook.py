"""A hook as the configuration holds it: its versions, and which of them is in service.

The hook's engine knows what the code means (:mod:`slardar.hooks`).
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from slardar.errors import ConfigError
from slardar.model.names import normal_host, requested_host
from slardar.model.reader import shown

__all__ = [
    "COMMIT_VERSION",
    "Code",
    "Hook",
    "HookKey",
    "Language",
    "OnError",
    "Time",
    "check_hook_name",
    "check_new_hook_name",
    "parse_hook",
    "written",
]

Language = Literal["lua", "python"]
#: What happens to a request whose hook failed; ``previous``: the version before runs.
OnError = Literal["continue", "previous", "reject"]

#: Language and name: the same name may have a hook in each language.
HookKey = tuple[str, str]

#: The name under which a store keeps what operators call the code of a language, beside the names
#: of hooks.  It is the one in upyun/slardar's stores.
COMMIT_VERSION = "version"

_NAME = re.compile(r"script\.(?:\*|[A-Za-z0-9._:-]{1,255})|modules\.[A-Za-z_][A-Za-z0-9_.-]{0,127}")

Percent = Annotated[int, Meta(ge=0, le=100, description="an integer from 0 to 100")]
Md5 = Annotated[
    str, Meta(pattern=r"\A[0-9a-f]{32}\Z", description="32 hexadecimal digits (an MD5)")
]
#: Epoch seconds, up to the year 5138.
Time = Annotated[float, Meta(ge=0, le=1e11, description="epoch seconds")]


class Code(Struct, frozen=True, forbid_unknown_fields=True):
    """One version of a hook's code."""

    #: The MD5 of the code, as upyun/slardar calls a version.
    version: Md5
    #: When the code was posted.
    time: Time
    code: str
    #: The modules that the code names.
    requires: tuple[str, ...] = ()
    #: The hook's ``on_error`` that goes with this version: it takes effect when the version
    #: is activated.
    on_error: OnError | None = None
    #: Warnings from when the code was posted, a line each: names that the code seems to use
    #: and hooks do not have.
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, code: str, time: float, requires: tuple[str, ...] = ()) -> Code:
        """A new version with this code."""
        digest = hashlib.md5(code.encode(), usedforsecurity=False).hexdigest()
        return cls(digest, time, code, requires)


class Hook(Struct, frozen=True, forbid_unknown_fields=True):
    """A script or a module, by language and name."""

    language: Language
    name: str
    #: The version in service; ``None`` before the first activation.
    active: Code | None = None
    #: The version that was in service before.
    previous: Code | None = None
    #: The version that was posted and is not in service yet.
    staged: Code | None = None
    #: The percentage of requests that get the staged version already.
    canary: Percent = 0
    #: The staged version runs beside the active one, without effect.
    shadow: bool = False
    #: Of the version in service; ``None`` means the setting ``hooks.on_error``.
    on_error: OnError | None = None

    @property
    def key(self) -> HookKey:
        """Its language and name, by which it is known."""
        return self.language, self.name

    @property
    def path(self) -> str:
        """Its key path: ``python/script.www.example.com``."""
        return f"{self.language}/{self.name}"

    @property
    def is_script(self) -> bool:
        """Whether it runs for requests itself; a module runs for scripts only."""
        return self.name.startswith("script.")

    @property
    def host(self) -> str:
        """The host of a script's requests, in its normal form; ``*`` for every host."""
        return requested_host(self.name.partition(".")[2])

    @property
    def digest(self) -> int:
        """A hash of the parts that affect requests, for the snapshot's fingerprint."""
        staged = self.staged.version if self.staged is not None and self.canary else None
        active = None if self.active is None else self.active.version
        # The previous version affects requests only if it stands in.  Hashed always, it
        # would make the fingerprint depend on the way to this configuration.
        stands_in = self.previous is not None and self.on_error == "previous"
        previous = self.previous.version if self.previous is not None and stands_in else None
        text = json.dumps(
            [self.language, self.name, active, staged, self.canary, self.on_error, previous]
        )
        return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def check_hook_name(language: str, name: str, where: str = "name") -> None:
    """Raises ConfigError for a name that no hook can have."""
    if language not in get_args(Language):
        raise ConfigError(f"language: expected lua or python, got {shown(language)}")
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{where}: expected script.HOST, script.* or modules.X, got {shown(name)}"
        )


def check_new_hook_name(language: str, name: str, where: str = "name") -> None:
    """As :func:`check_hook_name`; also raises ConfigError if no request can meet the script.

    A store may hold a script with such a name: it is kept, and never runs.
    """
    check_hook_name(language, name, where)
    kind, _, host = name.partition(".")
    meant = requested_host(host)
    if kind != "script" or meant == "*":
        return
    if ":" in meant and normal_host(meant) is None:
        raise ConfigError(
            f"{where}: expected script.HOST without a port, for a request's Host is looked at"
            f" without, got {shown(name)}"
        )
    if meant[0] == "." or ".." in meant:
        raise ConfigError(f"{where}: expected script.HOST with a Host's name, got {shown(name)}")


def parse_hook(path: str, value: object) -> Hook:
    """A hook as a store holds it, at ``path`` (``python/script.www.example.com``).

    Raises ConfigError.
    """
    where = f"hooks.{path}"
    language, _, name = path.partition("/")
    check_hook_name(language, name, where)
    try:
        hook = msgspec.convert(value, Hook)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from None
    if hook.path != path:
        raise ConfigError(f"{where}: expected this hook, got {shown(hook.path)}")
    if hook.active is None and hook.previous is None and hook.staged is None:
        raise ConfigError(f"{where}: expected a version of its code")
    return hook


def written(hook: Hook) -> dict[str, Any]:
    """The hook as plain JSON, for stores."""
    found: dict[str, Any] = msgspec.to_builtins(hook)
    return found
