"""Conditional changes: made only to the configuration that their author has read (RFC 9110, 13.1).

The validator is the version of the whole configuration.  A ``GET`` answers it in ``ETag``, and a
change with ``If-Match`` is made only while the version is still that one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from slardar.errors import ConfigError, SlardarError
from slardar.model.names import split_host_port
from slardar.model.reader import shown
from slardar.model.snapshot import Snapshot

__all__ = ["Condition", "PreconditionError", "etag"]

#: One member of the list, with what follows it; RFC 9110 lets members be empty (5.6.1).
_MEMBER = re.compile(r'(?:(?P<weak>W/)?"(?P<tag>[\x21\x23-\x7e\x80-\xff]*)"[ \t]*)?(?:,[ \t]*|\Z)')


class PreconditionError(SlardarError):
    """The configuration is not the one that a change was meant for.  Nothing has been changed."""


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


class Condition:
    """What ``If-Match`` and ``If-None-Match`` of a change ask for.

    Both arguments hold every value of the header.  ``parts`` is the path of the call: ``*`` asks
    whether the thing exists that the path names.

    :raise ConfigError: for a header that is no list of entity tags.
    """

    def __init__(
        self, if_match: Sequence[str], if_none_match: Sequence[str], parts: Sequence[str]
    ) -> None:
        self._wanted = _tags("If-Match", if_match)
        self._unwanted = _tags("If-None-Match", if_none_match)
        self._parts = parts

    def check(self, snapshot: Snapshot) -> None:
        """Check the condition against the present configuration.

        :raise PreconditionError: if it does not hold.
        """
        current = etag(snapshot.version)
        if self._wanted is not None and not self._matches(self._wanted, current, snapshot):
            if "*" in self._wanted:
                raise PreconditionError(f"If-Match: there is no {shown('/'.join(self._parts))}")
            raise PreconditionError(
                f"If-Match: the configuration is at version {snapshot.version}: read it again"
            )
        if self._unwanted is not None:
            # Weak comparison (13.1.2).
            unwanted = [tag.removeprefix("W/") for tag in self._unwanted]
            if self._matches(unwanted, current, snapshot):
                raise PreconditionError(
                    f"If-None-Match: {shown('/'.join(self._parts))} is there already"
                    if "*" in unwanted
                    else f"If-None-Match: the configuration is at version {snapshot.version}"
                )

    def _matches(self, tags: Iterable[str], current: str, snapshot: Snapshot) -> bool:
        return _is_there(self._parts, snapshot) if "*" in tags else current in tags


def _tags(header: str, values: Sequence[str]) -> list[str] | None:
    """The entity tags of a header, ``*`` for any; ``None`` if there is no such header."""
    if not values:
        return None
    text = ", ".join(values).strip(" \t")
    if text == "*":
        return ["*"]
    tags: list[str] = []
    place = 0
    while place < len(text):
        member = _MEMBER.match(text, place)
        if member is None:
            tags = []
            break
        if member["tag"] is not None:
            tags.append(f'{member["weak"] or ""}"{member["tag"]}"')
        place = member.end()
    if not tags:
        raise ConfigError(f'{header}: expected * or "VERSION", got {shown(text)}')
    return tags


def _is_there(parts: Sequence[str], snapshot: Snapshot) -> bool:
    """Whether the thing that a path names exists.  Things of which there is one, such as the
    routes, always do."""
    match parts:
        case ["upstream", name]:
            return name in snapshot.upstreams
        case ["service", name]:
            return name in snapshot.services
        case ["certificate", name]:
            return name in snapshot.certificates
        case ["setting", name]:
            return name in snapshot.settings
        case ["upstream", name, server]:
            upstream = snapshot.upstreams.get(name)
            found = split_host_port(server)
            return upstream is not None and any(
                (one.host, one.port) == found for one in upstream.servers
            )
        case ["lua" | "python" as language, name] if name not in ("", "version"):
            return (language, name) in snapshot.hooks
    return True
