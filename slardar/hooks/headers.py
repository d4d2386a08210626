"""The headers of a request or a reply, as a hook reads and writes them.

A mapping without case whose names may have several values.  What is written is
checked when it is written: a name is a token, a value has no control character but
the tab (RFC 9110 5.5), so that nothing a hook does can begin another line on the wire.
Texts are ISO-8859-1, in which every byte of a header is one character.

Headers that belong to one connection, or say how the body is framed, can be read and
not written; to remove one has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from slardar.http1.parser import BadMessage, normal_host

__all__ = ["Headers", "check_name", "check_value"]

#: Lines, and bytes of all of them together, that a head may grow to.
_MAX_LINES: Final = 256
_MAX_SIZE: Final = 65536

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@lru_cache(maxsize=1024)
def check_name(name: str) -> tuple[str, bytes, bytes]:
    """A header's name in lower case, the same as bytes with a colon, and as it goes on
    the wire.

    Raises ValueError for what is no name.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ValueError(f"expected the name of a header, got {_shown(name)}")
    lower = name.lower()
    return lower, lower.encode("ascii") + b":", name.encode("ascii") + b": "


def check_value(name: str, value: object) -> bytes:
    """A header's value as it goes on the wire.  Raises ValueError for what is none."""
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str) or _VALUE.fullmatch(value) is None:
        raise ValueError(
            f"{name}: expected a text of ISO-8859-1 without control characters, got {_shown(value)}"
        )
    return value.strip(" \t").encode("latin-1")


def _shown(value: object) -> str:
    text = ascii(value[:60]) if isinstance(value, str) else type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


class Headers:
    """Header lines, and besides them the values that the proxy writes itself.

    ``lines`` are those that pass as they are (``b"Name: value"``); ``own`` has the
    others by their lower-case names, ``writable`` names those of them that may be
    changed, and ``fixed`` all names that may not.
    """

    __slots__ = ("_fixed", "_lines", "_own", "_size", "_writable", "changed")

    def __init__(
        self,
        lines: list[bytes],
        own: dict[str, bytes],
        writable: frozenset[str],
        fixed: frozenset[str],
    ) -> None:
        self._lines = lines
        self._own = own
        self._writable = writable
        self._fixed = fixed
        self._size = -1
        #: Something was written.
        self.changed = False

    @property
    def lines(self) -> list[bytes]:
        """The lines that pass as they are."""
        return self._lines

    @property
    def own(self) -> dict[str, bytes]:
        """The others, by lower-case name."""
        return self._own

    def copy(self) -> Headers:
        """The same headers, to be written apart."""
        twin = Headers(list(self._lines), dict(self._own), self._writable, self._fixed)
        twin.changed = self.changed
        return twin

    # Reading.

    def get(self, name: str, default: Any = None) -> Any:
        """The first value, or ``default``."""
        key, wanted, _ = check_name(name)
        if key in self._own:
            return self._own[key].decode("latin-1")
        size = len(wanted)
        for line in self._lines:
            if line[:size].lower() == wanted:
                return line[size:].strip(b" \t").decode("latin-1")
        return default

    def get_all(self, name: str) -> list[str]:
        """Every value, in order."""
        key, wanted, _ = check_name(name)
        if key in self._own:
            return [self._own[key].decode("latin-1")]
        return [
            self._lines[index][len(wanted) :].strip(b" \t").decode("latin-1")
            for index in self._places(wanted)
        ]

    def items(self) -> list[tuple[str, str]]:
        """Names as they were sent and values, a pair for each line."""
        pairs = [(name.title(), value.decode("latin-1")) for name, value in self._own.items()]
        for line in self._lines:
            name, _, value = line.partition(b":")
            pairs.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
        return pairs

    def keys(self) -> list[str]:
        """Each name once, in lower case."""
        return list(dict.fromkeys(name.lower() for name, _ in self.items()))

    def values(self) -> list[str]:
        """Every value."""
        return [value for _, value in self.items()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<Headers {self.items()!r}>"

    # Writing.

    def set(self, name: str, value: Any) -> None:
        """Replace every value of ``name`` by one, or by each of a list.

        Raises ValueError, as every way to write does, for what may not go on a wire and
        for a header that belongs to the connection.
        """
        if isinstance(value, list | tuple):
            checked = [check_value(name, one) for one in value]
        else:
            checked = [check_value(name, value)]
        key, wanted, start = self._writable_name(name)
        if key in self._writable:
            self._set_own(key, checked)
            return
        lines = self._lines
        places = self._places(wanted)
        for index in reversed(places):
            self._grow(-len(lines[index]))
            del lines[index]
        place = places[0] if places else len(lines)
        lines[place:place] = [self._checked_line(start + one) for one in checked]
        self.changed = True

    __setitem__ = set

    def add(self, name: str, value: Any) -> None:
        """One more value, behind those that there are."""
        checked = check_value(name, value)
        key, _, start = self._writable_name(name)
        if key in self._writable:
            known = self._own.get(key)
            # X-Forwarded-For and its kin are lists; a second Host would be none.
            joined = key != "host" and known
            self._set_own(key, [known + b", " + checked if joined and known else checked])
        else:
            self._lines.append(self._checked_line(start + checked))
            self.changed = True

    def setdefault(self, name: str, value: Any) -> str:
        """The value; it is set to ``value`` first if there is none."""
        if self.get(name) is None:
            self.set(name, value)
        return self[name]

    def remove(self, name: str) -> None:
        """Remove every value, if there is one."""
        key, wanted, _ = check_name(name)
        if key in self._fixed or key == "host":
            return
        if self._own.pop(key, None) is not None:
            self.changed = True
        for index in reversed(self._places(wanted)):
            self._grow(-len(self._lines[index]))
            del self._lines[index]
            self.changed = True

    __delitem__ = remove

    def pop(self, name: str, default: Any = None) -> Any:
        """Remove a header; answers the first value it had, or ``default``."""
        value = self.get(name, default)
        self.remove(name)
        return value

    def update(self, pairs: Any) -> None:
        """Set each header of a mapping or of pairs."""
        items: Iterable[tuple[str, Any]] = pairs.items() if hasattr(pairs, "items") else pairs
        for name, value in items:
            self.set(name, value)

    def _set_own(self, key: str, values: list[bytes]) -> None:
        if len(values) != 1:
            raise ValueError(f"{key}: expected one value")
        if key == "host":
            try:
                normal_host(values[0])
            except BadMessage as error:
                raise ValueError(f"host: {error.message}: {values[0][:60]!r}") from None
        self._own[key] = values[0]
        self.changed = True

    def _writable_name(self, name: str) -> tuple[str, bytes, bytes]:
        checked = check_name(name)
        if checked[0] in self._fixed:
            raise ValueError(f"{name}: this header is the proxy's to write")
        return checked

    def _places(self, wanted: bytes) -> list[int]:
        """Where the lines are that begin with this lower-case name and colon."""
        size = len(wanted)
        return [index for index, line in enumerate(self._lines) if line[:size].lower() == wanted]

    def _checked_line(self, line: bytes) -> bytes:
        if len(self._lines) >= _MAX_LINES:
            raise ValueError(f"expected at most {_MAX_LINES} headers")
        self._grow(len(line))
        return line

    def _grow(self, by: int) -> None:
        if self._size < 0:
            self._size = sum(map(len, self._lines))
        self._size += by
        if by > 0 and self._size > _MAX_SIZE:
            self._size -= by
            raise ValueError(f"expected headers of at most {_MAX_SIZE} bytes together")
