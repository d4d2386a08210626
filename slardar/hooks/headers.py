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
from collections.abc import Iterator
from typing import Any, Final

from slardar.http1.parser import BadMessage, normal_host

__all__ = ["Headers", "check_name", "check_value"]

#: Lines, and bytes of all of them together, that a head may grow to.
_MAX_LINES: Final = 256
_MAX_SIZE: Final = 65536

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


#: Names that were found to be good; a site has few, and reads them with each request.
_known: Final[dict[str, tuple[str, bytes, bytes]]] = {}
_MAX_KNOWN: Final = 1024


def check_name(name: object) -> tuple[str, bytes, bytes]:
    """A header's name in lower case, the same as bytes, and as it goes on the wire.

    Raises ValueError for what is no name.
    """
    # What is no text is not looked up: a hook's own value may take for ever to hash.
    if type(name) is not str:
        raise ValueError(f"expected the name of a header, got {_shown(name)}")
    known = _known.get(name)
    if known is None:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"expected the name of a header, got {_shown(name)}")
        lower = name.lower()
        known = lower, lower.encode("ascii"), name.encode("ascii") + b": "
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        _known[name] = known
    return known


def check_value(name: object, value: object) -> bytes:
    """A header's value as it goes on the wire.  Raises ValueError for what is none."""
    if type(value) is str:
        # The common case, without a regular expression: printable ASCII.
        if value.isascii() and value.isprintable() and len(value) <= _MAX_SIZE:
            return value.strip(" ").encode("ascii")
    elif type(value) is int and -(1 << 64) < value < 1 << 64:
        return b"%d" % value
    if type(value) is not str or len(value) > _MAX_SIZE or _VALUE.fullmatch(value) is None:
        raise ValueError(
            f"{_shown_name(name)}: expected a text of ISO-8859-1 without control characters,"
            f" got {_shown(value)}"
        )
    return value.strip(" \t").encode("latin-1")


def _shown_name(name: object) -> str:
    return name if type(name) is str and _NAME.fullmatch(name) else _shown(name)


def _shown(value: object) -> str:
    text = ascii(value[:60]) if isinstance(value, str) else type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


class Headers:
    """Header lines, and besides them the values that the proxy writes itself.

    ``lines`` are those that pass as they are (``b"Name: value"``); ``own`` has the
    others by their lower-case names, ``writable`` names those of them that may be
    changed, and ``fixed`` all names that may not.
    """

    __slots__ = ("_fixed", "_lines", "_own", "_writable", "changed", "own_changed")

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
        #: Something was written; and some of the proxy's own.
        self.changed = False
        self.own_changed = False

    @property
    def lines(self) -> list[bytes]:
        """The lines that pass as they are."""
        return self._lines

    @property
    def own(self) -> dict[str, bytes]:
        """The others, by lower-case name."""
        return self._own

    def has_room(self, lines: int, size: int) -> bool:
        """Whether so many lines, with so many bytes of names and values together, may
        certainly be set."""
        # Each of them has at most four bytes more.
        lines_then = lines + len(self._lines)
        return lines_then <= _MAX_LINES and self._size() + size + 4 * lines <= _MAX_SIZE

    # Reading.

    def get(self, name: Any, default: Any = None) -> Any:
        """The first value, or ``default``."""
        key, wanted, start = check_name(name)
        if key in self._own:
            return self._own[key].decode("latin-1")
        places = self._places(wanted)
        if not places:
            return default
        # The name in the line is as long, whatever its case; the blank may be missing.
        return self._lines[places[0]][len(start) - 1 :].strip(b" \t").decode("latin-1")

    def get_all(self, name: Any) -> list[str]:
        """Every value, in order."""
        key, wanted, start = check_name(name)
        if key in self._own:
            return [self._own[key].decode("latin-1")]
        return [
            self._lines[index][len(start) - 1 :].strip(b" \t").decode("latin-1")
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
        return type(name) is str and self.get(name) is not None

    def __getitem__(self, name: Any) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<Headers {self.items()!r}>"

    # Writing.

    def set(self, name: Any, value: Any) -> None:
        """Replace every value of ``name`` by one, or by each of a list.

        Raises ValueError, as every way to write does, for what may not go on a wire and
        for a header that belongs to the connection.
        """
        key, wanted, start = check_name(name)
        if key in self._fixed:
            raise ValueError(f"{name}: this header is the proxy's to write")
        if type(value) is str:
            made = [start + check_value(name, value)]
        elif isinstance(value, list | tuple):
            if len(value) > _MAX_LINES:
                raise ValueError(f"expected at most {_MAX_LINES} headers")
            made = [start + check_value(name, one) for one in value]
        else:
            made = [start + check_value(name, value)]
        if key in self._writable:
            self._set_own(key, [line[len(start) :] for line in made])
            return
        lines = self._lines
        places = self._places(wanted)
        old = 0
        for place in places:
            old += len(lines[place]) + 1
        self._check_room(self._size() - old, len(lines) - len(places), made)
        if places:
            for place in reversed(places):
                del lines[place]
            lines[places[0] : places[0]] = made
        else:
            lines.extend(made)
        self.changed = True

    def set_each(self, pairs: str) -> None:
        """Set several, of which each is a line with its name and one with its value."""
        texts = pairs.split("\n")
        for index in range(0, len(texts), 2):
            self.set(texts[index], texts[index + 1])

    def __setitem__(self, name: Any, value: Any) -> None:
        self.set(name, value)

    def add(self, name: Any, value: Any) -> None:
        """One more value, behind those that there are."""
        key, _, start = check_name(name)
        if key in self._fixed:
            raise ValueError(f"{name}: this header is the proxy's to write")
        checked = check_value(name, value)
        if key in self._writable:
            known = self._own.get(key)
            # X-Forwarded-For and its kin are lists; a second Host would be none.
            joined = key != "host" and known
            self._set_own(key, [known + b", " + checked if joined and known else checked])
        else:
            made = start + checked
            self._check_room(self._size(), len(self._lines), [made])
            self._lines.append(made)
            self.changed = True

    def setdefault(self, name: Any, value: Any) -> str:
        """The value; it is set to ``value`` first if there is none."""
        known: str | None = self.get(name)
        if known is None:
            if isinstance(value, list | tuple) and not value:
                raise ValueError(f"{name}: expected a value")
            self.set(name, value)
            known = self[name]
        return known

    def remove(self, name: Any) -> None:
        """Remove every value, if there is one."""
        key, wanted, _ = check_name(name)
        if key in self._fixed or key == "host":
            return
        if self._own.pop(key, None) is not None:
            self.changed = self.own_changed = True
        for index in reversed(self._places(wanted)):
            del self._lines[index]
            self.changed = True

    def __delitem__(self, name: Any) -> None:
        self.remove(name)

    def pop(self, name: Any, default: Any = None) -> Any:
        """Remove a header; answers the first value it had, or ``default``."""
        value = self.get(name, default)
        self.remove(name)
        return value

    def update(self, pairs: Any) -> None:
        """Set each header of a mapping or of pairs."""
        # Without a type: mypyc would check it, see slardar.hooks.objects.
        items: Any = pairs.items() if hasattr(pairs, "items") else pairs
        for name, value in items:
            self.set(name, value)

    def _set_own(self, key: str, values: list[bytes]) -> None:
        if len(values) != 1:
            raise ValueError(f"{key}: expected one value")
        if len(values[0]) > _MAX_SIZE // 4:
            raise ValueError(f"{key}: expected at most {_MAX_SIZE // 4} bytes")
        if key == "host":
            try:
                normal_host(values[0])
            except BadMessage as error:
                raise ValueError(f"host: {error.message}: {values[0][:60]!r}") from None
        self._own[key] = values[0]
        self.changed = self.own_changed = True

    def _size(self) -> int:
        """The bytes of all lines, each with its end."""
        size = 0
        for line in self._lines:
            size += len(line) + 1
        return size

    def _places(self, wanted: bytes) -> list[int]:
        """Where the lines are that have this name, ``wanted`` in lower case.

        Two bytes of a line tell of nearly every other one that it is none of them: where
        this is compiled, that costs a tenth of a look at the text of all.
        """
        colon = len(wanted)
        first = wanted[0] | 32
        places: list[int] = []
        for index, line in enumerate(self._lines):
            if (
                len(line) > colon
                and line[colon] == 58
                and line[0] | 32 == first
                and line[:colon].lower() == wanted
            ):
                places.append(index)
        return places

    @staticmethod
    def _check_room(size: int, lines: int, made: list[bytes]) -> None:
        """Raises ValueError if these lines would be too many, or too long together."""
        if lines + len(made) > _MAX_LINES:
            raise ValueError(f"expected at most {_MAX_LINES} headers")
        for line in made:
            size += len(line) + 1
        if size > _MAX_SIZE:
            raise ValueError(f"expected headers of at most {_MAX_SIZE} bytes together")
