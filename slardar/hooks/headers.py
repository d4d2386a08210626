"""The headers of a request or a reply, as a hook reads and writes them.

:class:`Headers` is a mapping whose names have no case and may have several values.  Names
and values are checked when they are written: a name is a token, and a value has no control
character except the tab (RFC 9110 5.5).  So no hook can begin another line on the wire.
Texts are ISO-8859-1, in which every byte of a header is one character.

A hook reads the headers that belong to one connection, or that say how the body is framed,
as they were sent.  A hook cannot write these headers, and removing one has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from slardar.http1.headers import REPLY_SPECIAL, REQUEST_SPECIAL
from slardar.http1.heads import BadMessage
from slardar.http1.request import normal_host
from slardar.http1.scan import find_value

__all__ = ["Headers", "check_name", "check_value"]

#: The number of lines, and of bytes in all lines, that a head may grow to.
_MAX_LINES: Final = 256
_MAX_SIZE: Final = 65536

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
#: The headers that a hook may read but not write are among these.  A spelling with "_" is
#: not: the parser drops it only to protect the server, as nginx does.
_FIXED: Final = frozenset(name for name in REQUEST_SPECIAL | REPLY_SPECIAL if b"_" not in name)
#: Bound here, so that the compiled code does not look the methods up for each value.
_is_ascii: Final = str.isascii
_is_printable: Final = str.isprintable


#: Names that were found to be valid, with the results of :func:`check_name`.  Hooks use few
#: names, and use them for each request.
_known: Final[dict[str, tuple[str, bytes, bytes]]] = {}
_MAX_KNOWN: Final = 1024


def check_name(name: object) -> tuple[str, bytes, bytes]:
    """Check the name of a header.

    Returns the name in lower case as text and as bytes, and the beginning of its line on the
    wire (``b"Name: "``).  Raises ValueError if ``name`` is not the name of a header.
    """
    # Only a text is looked up: hashing a value that a hook made may never end.
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
    """The value of the header ``name`` as it goes on the wire.

    Raises ValueError if ``value`` is not a valid value.
    """
    if type(value) is str:
        # Printable ASCII is the common case, and needs no regular expression.
        if _is_ascii(value) and _is_printable(value) and len(value) <= _MAX_SIZE:
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
    """Header lines, and the values of the headers that the proxy writes itself.

    ``head`` is the proxy's list of the lines that pass unchanged (``b"Name: value"``), from
    index 1 on, or a block of them (:mod:`slardar.http1.scan`).  The list is only read; the first
    write copies it.  A block is read, and gets more lines, as it is.  ``special`` maps the
    name of each other header, in lower case, to whether a hook may write the header.  ``own`` has
    the values of the headers in ``special`` that the proxy will write, by name.  If ``own``
    is ``None``, ``host`` is the only one, or there is none if ``host`` is empty.  ``sent`` is
    the whole head as it was sent, where the headers are found that a hook may only read.
    """

    __slots__ = (
        "_block",
        "_fixed",
        "_head",
        "_host",
        "_known_size",
        "_own",
        "_sent",
        "_shared",
        "_special",
        "changed",
        "own_changed",
    )

    def __init__(
        self,
        head: list[bytes] | bytes,
        own: dict[str, bytes] | None,
        special: dict[str, bool],
        host: bytes = b"",
        sent: bytes = b"",
    ) -> None:
        #: The lines; ``None`` as long as ``_block`` has them.
        self._head: list[bytes] | None = None
        self._block: bytes = b""
        if isinstance(head, bytes):
            self._block = head
        else:
            self._head = head
        self._sent = sent
        #: See :attr:`fixed`; ``None`` until a hook asks.
        self._fixed: list[tuple[str, str, bytes]] | None = None
        #: The list ``_head`` belongs to the proxy, so it must be copied before a write.
        self._shared = True
        self._own = own
        self._host = host
        self._special = special
        #: The bytes of all lines; -1 until they are counted.
        self._known_size = -1
        #: Whether a header was written, and whether one of ``own`` was.
        self.changed = False
        self.own_changed = False

    @property
    def lines(self) -> list[bytes]:
        """The lines of the headers that the proxy does not write itself."""
        return self._listed()[1:]

    def _listed(self) -> list[bytes]:
        """The lines as a list, from index 1 on."""
        head = self._head
        if head is None:
            head = self._head = self._block.split(b"\r\n")
            self._shared = False
        return head

    def give(self) -> list[bytes] | bytes:
        """Hand the lines to the proxy, as a list or as a block.  A later write goes to a copy."""
        if self._head is None:
            return self._block
        self._shared = True
        return self._head

    def detach(self) -> None:
        """Copy the proxy's list, so that these headers stay when the proxy changes it."""
        if self._shared and self._head is not None:
            self._head = self._head.copy()
            self._shared = False

    @property
    def own(self) -> dict[str, bytes]:
        """The values of the headers that the proxy writes itself, by lower-case name."""
        own = self._own
        if own is None:
            # Made only now: most hooks ask for none of these headers.
            own = self._own = {"host": self._host} if self._host else {}
        return own

    @property
    def fixed(self) -> list[tuple[str, str, bytes]]:
        """The headers that were sent and that a hook may not write.

        Each is the name as it was sent, the name in lower case, and the value.
        """
        fixed = self._fixed
        if fixed is None:
            # Made only now: few hooks ask for one of these headers.
            fixed = self._fixed = []
            own = self.own
            for line in self._sent[:-4].split(b"\r\n")[1:]:
                colon = line.find(b":")
                name = line[:colon]
                if name.lower() not in _FIXED:
                    continue
                text = name.decode("ascii")
                key = text.lower()
                if self._special.get(key) is False and key not in own:
                    fixed.append((text, key, line[colon + 1 :].strip(b" \t")))
        return fixed

    def has_room(self, lines: int, size: int) -> bool:
        """Whether ``lines`` more headers, with ``size`` bytes of names and values in total,
        are certain to be within the limits."""
        # A line has at most four bytes besides its name and its value.
        lines_then = lines + self._count()
        return lines_then <= _MAX_LINES and self._size() + size + 4 * lines <= _MAX_SIZE

    # Reading.

    def get(self, name: Any, default: Any = None) -> Any:
        """The first value of the header, or ``default``."""
        key, wanted, start = check_name(name)
        if key in self._special:
            values = self._special_values(key)
            return values[0].decode("latin-1") if values else default
        head = self._head
        if head is None:
            value = find_value(self._block, wanted)
            return default if value is None else value.decode("latin-1")
        place = self._find(wanted, 1)
        if place < 0:
            return default
        # The name in the line is as long as ``wanted``; the blank after the colon may be
        # missing.
        return head[place][len(start) - 1 :].strip(b" \t").decode("latin-1")

    def get_all(self, name: Any) -> list[str]:
        """Every value of the header, in order."""
        key, wanted, start = check_name(name)
        if key in self._special:
            return [value.decode("latin-1") for value in self._special_values(key)]
        head = self._listed()
        return [
            head[index][len(start) - 1 :].strip(b" \t").decode("latin-1")
            for index in self._places(wanted)
        ]

    def _special_values(self, key: str) -> list[bytes]:
        """The values of a header in ``special``."""
        own = self.own.get(key)
        if own is not None:
            return [own]
        if self._special[key]:
            return []
        return [value for _, known, value in self.fixed if known == key]

    def items(self) -> list[tuple[str, str]]:
        """The name as it was sent and the value, for each line."""
        pairs = [(name.title(), value.decode("latin-1")) for name, value in self.own.items()]
        for text, _, value in self.fixed:
            pairs.append((text, value.decode("latin-1")))
        for line in self._listed()[1:]:
            name, _, value = line.partition(b":")
            pairs.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
        return pairs

    def keys(self) -> list[str]:
        """Each name once, in lower case."""
        return list(dict.fromkeys(name.lower() for name, _ in self.items()))

    def values(self) -> list[str]:
        """Every value of every header."""
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
        """Replace every value of ``name`` by ``value``, or by each value of a list.

        Raises ValueError, as every method that writes does, for a name or a value that may
        not go on the wire, and for a header that belongs to the connection.
        """
        key, wanted, start = check_name(name)
        # isinstance would make a union of the two types for each call.
        if type(value) is list or type(value) is tuple:
            if len(value) > _MAX_LINES:
                raise ValueError(f"expected at most {_MAX_LINES} headers")
            made = [start + check_value(name, one) for one in value]
        else:
            made = [start + check_value(name, value)]
        self._replace(name, key, wanted, start, made)

    def put(self, name: str, value: str) -> None:
        """Do what :meth:`set` does for a value that is known to be printable ASCII."""
        key, wanted, start = check_name(name)
        self._replace(name, key, wanted, start, [start + value.strip(" ").encode("ascii")])

    def put_each(self, pairs: str) -> None:
        """Put several headers: in ``pairs``, a line with a name precedes each line with its
        value."""
        texts = pairs.split("\n")
        for index in range(0, len(texts), 2):
            self.put(texts[index], texts[index + 1])

    def _replace(self, name: Any, key: str, wanted: bytes, start: bytes, made: list[bytes]) -> None:
        """Replace every line of the header ``name`` by the lines ``made``."""
        if key in self._special:
            self._set_own(name, key, [line[len(start) :] for line in made])
            return
        if self._head is None and find_value(self._block, wanted) is None:
            self._append(made)
            return
        first = self._find(wanted, 1)
        if first < 0:
            self._append(made)
        else:
            places = self._places(wanted)
            size = self._size()
            head = self._listed()
            for place in places:
                size -= len(head[place]) + 1
            self._take(made, len(head) - len(places), size)
            head = self._listed()
            for place in reversed(places):
                del head[place]
            head[first:first] = made

    def __setitem__(self, name: Any, value: Any) -> None:
        self.set(name, value)

    def add(self, name: Any, value: Any) -> None:
        """Add a value behind those that the header has."""
        key, _, start = check_name(name)
        checked = check_value(name, value)
        if key in self._special:
            known = self.own.get(key)
            # X-Forwarded-For and the like are lists, but a request has one Host.
            joined = key != "host" and known
            self._set_own(name, key, [known + b", " + checked if joined and known else checked])
        else:
            self._append([start + checked])

    def _append(self, made: list[bytes]) -> None:
        """Add lines behind all others."""
        self._take(made, self._count(), self._size())
        head = self._head
        if head is None:
            self._block = b"\r\n".join((self._block, *made))
        else:
            head += made

    def setdefault(self, name: Any, value: Any) -> str:
        """The value of the header, which is set to ``value`` first if it has none."""
        known: str | None = self.get(name)
        if known is None:
            if isinstance(value, list | tuple) and not value:
                raise ValueError(f"{name}: expected a value")
            self.set(name, value)
            known = self[name]
        return known

    def remove(self, name: Any) -> None:
        """Remove every value of the header, if it has one."""
        key, wanted, _ = check_name(name)
        if key in self._special:
            if self._special[key] and key != "host" and self.own.pop(key, None) is not None:
                self.changed = self.own_changed = True
            return
        if self._head is None and find_value(self._block, wanted) is None:
            return
        places = self._places(wanted)
        if places:
            self.detach()
            head = self._listed()
            for place in reversed(places):
                del head[place]
            self._known_size = -1
            self.changed = True

    def __delitem__(self, name: Any) -> None:
        self.remove(name)

    def pop(self, name: Any, default: Any = None) -> Any:
        """Remove a header, and return the first value that it had, or ``default``."""
        value = self.get(name, default)
        self.remove(name)
        return value

    def update(self, pairs: Any) -> None:
        """Set each header of a mapping, or of pairs of name and value."""
        # ``Any``, because mypyc would check a type, see slardar.hooks.objects.
        items: Any = pairs.items() if hasattr(pairs, "items") else pairs
        for name, value in items:
            self.set(name, value)

    def _set_own(self, name: Any, key: str, values: list[bytes]) -> None:
        if not self._special[key]:
            raise ValueError(f"{name}: this header is the proxy's to write")
        if len(values) != 1:
            raise ValueError(f"{key}: expected one value")
        if len(values[0]) > _MAX_SIZE // 4:
            raise ValueError(f"{key}: expected at most {_MAX_SIZE // 4} bytes")
        if key == "host":
            try:
                normal_host(values[0])
            except BadMessage as error:
                raise ValueError(f"host: {error.message}: {values[0][:60]!r}") from None
        self.own[key] = values[0]
        self.changed = self.own_changed = True

    def _size(self) -> int:
        """The bytes of all lines, with one more for the end of each."""
        size = self._known_size
        if size < 0:
            head = self._head
            if head is None:
                # Without the second byte of each line end, and one more for the last line.
                size = len(self._block) - self._block.count(b"\r\n") + 1
            else:
                size = 0
                for line in head:
                    size += len(line) + 1
            self._known_size = size
        return size

    def _count(self) -> int:
        """How many lines there are, with the element at index 0."""
        head = self._head
        return self._block.count(b"\r\n") + 1 if head is None else len(head)

    def _find(self, wanted: bytes, start: int) -> int:
        """The index of the first line from ``start`` on with the name ``wanted``, or -1.

        ``wanted`` is in lower case.  Two bytes of a line are enough to rule out nearly every
        line with another name.  Compiled, looking at them costs a tenth of comparing the names.
        """
        colon = len(wanted)
        first = wanted[0] | 32
        head = self._listed()
        for index in range(start, len(head)):
            line = head[index]
            if (
                len(line) > colon
                and line[colon] == 58
                and line[0] | 32 == first
                and line[:colon].lower() == wanted
            ):
                return index
        return -1

    def _places(self, wanted: bytes) -> list[int]:
        """The indexes of all lines with the name ``wanted``."""
        places: list[int] = []
        place = self._find(wanted, 1)
        while place >= 0:
            places.append(place)
            place = self._find(wanted, place + 1)
        return places

    def _take(self, made: list[bytes], lines: int, size: int) -> None:
        """Prepare for a write that adds the lines ``made``.

        ``lines`` is the number of the lines that stay, with the element at index 0, and
        ``size`` is their bytes.  Raises ValueError if the head would have too many lines or
        too many bytes.
        """
        if lines + len(made) > _MAX_LINES + 1:
            raise ValueError(f"expected at most {_MAX_LINES} headers")
        for line in made:
            size += len(line) + 1
        if size > _MAX_SIZE:
            raise ValueError(f"expected headers of at most {_MAX_SIZE} bytes together")
        self.detach()
        self._known_size = size
        self.changed = True
