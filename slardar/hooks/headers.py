"""The headers of a request or a reply, as a hook reads and writes them.

A mapping without case whose names may have several values.  What is written is
checked when it is written: a name is a token, a value has no control character but
the tab (RFC 9110 5.5), so that nothing a hook does can begin another line on the wire.
Texts are ISO-8859-1, in which every byte of a header is one character.

Headers that belong to one connection, or say how the body is framed, can be read as they
were sent, and not written; to remove one has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from slardar.http1.headers import REPLY_SPECIAL, REQUEST_SPECIAL
from slardar.http1.heads import BadMessage
from slardar.http1.request import normal_host

__all__ = ["Headers", "check_name", "check_value"]

#: Lines, and bytes of all of them together, that a head may grow to.
_MAX_LINES: Final = 256
_MAX_SIZE: Final = 65536

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
#: What may be one of the headers that are not written.  Spellings with "_" are dropped for
#: the server's sake alone, as nginx drops them.
_FIXED: Final = frozenset(name for name in REQUEST_SPECIAL | REPLY_SPECIAL if b"_" not in name)
#: Not looked up for each value, where this is compiled.
_is_ascii: Final = str.isascii
_is_printable: Final = str.isprintable


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
    """Header lines, and besides them the values that the proxy writes itself.

    ``head`` is the proxy's: behind a first line that is no header it has those that pass
    as they are (``b"Name: value"``).  It is read and never changed; with the first thing
    that is written it is copied.  ``special`` has the names of all others, in lower case,
    and whether they may be written; ``own`` has the values of those that there are, where
    ``None`` stands for ``host`` alone, or for none at all if that is empty.  ``sent`` is
    the whole head as it was sent, for those that may not be written.
    """

    __slots__ = (
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
        head: list[bytes],
        own: dict[str, bytes] | None,
        special: dict[str, bool],
        host: bytes = b"",
        sent: bytes = b"",
    ) -> None:
        self._head = head
        self._sent = sent
        #: What was sent of those that may not be written: names as they were, in lower case,
        #: and values.  ``None`` until somebody asks.
        self._fixed: list[tuple[str, str, bytes]] | None = None
        #: The head is the proxy's, or is by now.
        self._shared = True
        self._own = own
        self._host = host
        self._special = special
        #: The bytes of all lines; -1 until somebody needs to know.
        self._known_size = -1
        #: Something was written; and some of the proxy's own.
        self.changed = False
        self.own_changed = False

    @property
    def lines(self) -> list[bytes]:
        """The lines that pass as they are."""
        return self._head[1:]

    def give(self) -> list[bytes]:
        """The head, for the proxy to go on with; what is written here from now on is
        written to a copy."""
        self._shared = True
        return self._head

    def detach(self) -> None:
        """Be as it is now, whatever becomes of the proxy's head."""
        if self._shared:
            self._head = self._head.copy()
            self._shared = False

    @property
    def own(self) -> dict[str, bytes]:
        """The others, by lower-case name."""
        own = self._own
        if own is None:
            # Made only now: most hooks ask for none of them.
            own = self._own = {"host": self._host} if self._host else {}
        return own

    @property
    def fixed(self) -> list[tuple[str, str, bytes]]:
        """What was sent of the headers that may not be written: names as they were sent and
        in lower case, and values."""
        fixed = self._fixed
        if fixed is None:
            # Made only now: few hooks ask for one of them.
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
        """Whether so many lines, with so many bytes of names and values together, may
        certainly be set."""
        # Each of them has at most four bytes more.
        lines_then = lines + len(self._head)
        return lines_then <= _MAX_LINES and self._size() + size + 4 * lines <= _MAX_SIZE

    # Reading.

    def get(self, name: Any, default: Any = None) -> Any:
        """The first value, or ``default``."""
        key, wanted, start = check_name(name)
        if key in self._special:
            values = self._special_values(key)
            return values[0].decode("latin-1") if values else default
        place = self._find(wanted, 1)
        if place < 0:
            return default
        # The name in the line is as long, whatever its case; the blank may be missing.
        return self._head[place][len(start) - 1 :].strip(b" \t").decode("latin-1")

    def get_all(self, name: Any) -> list[str]:
        """Every value, in order."""
        key, wanted, start = check_name(name)
        if key in self._special:
            return [value.decode("latin-1") for value in self._special_values(key)]
        return [
            self._head[index][len(start) - 1 :].strip(b" \t").decode("latin-1")
            for index in self._places(wanted)
        ]

    def _special_values(self, key: str) -> list[bytes]:
        """The values of a header that does not pass as it is."""
        own = self.own.get(key)
        if own is not None:
            return [own]
        if self._special[key]:
            return []
        return [value for _, known, value in self.fixed if known == key]

    def items(self) -> list[tuple[str, str]]:
        """Names as they were sent and values, a pair for each line."""
        pairs = [(name.title(), value.decode("latin-1")) for name, value in self.own.items()]
        for text, _, value in self.fixed:
            pairs.append((text, value.decode("latin-1")))
        for line in self._head[1:]:
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
        # Not isinstance, whose union of types would be made anew each time.
        if type(value) is list or type(value) is tuple:
            if len(value) > _MAX_LINES:
                raise ValueError(f"expected at most {_MAX_LINES} headers")
            made = [start + check_value(name, one) for one in value]
        else:
            made = [start + check_value(name, value)]
        self._replace(name, key, wanted, start, made)

    def put(self, name: str, value: str) -> None:
        """The same for a value that is known to be printable ASCII."""
        key, wanted, start = check_name(name)
        self._replace(name, key, wanted, start, [start + value.strip(" ").encode("ascii")])

    def put_each(self, pairs: str) -> None:
        """The same for several, of which each is a line with its name and one with its value."""
        texts = pairs.split("\n")
        for index in range(0, len(texts), 2):
            self.put(texts[index], texts[index + 1])

    def _replace(self, name: Any, key: str, wanted: bytes, start: bytes, made: list[bytes]) -> None:
        """Every line of a name by these."""
        if key in self._special:
            self._set_own(name, key, [line[len(start) :] for line in made])
            return
        first = self._find(wanted, 1)
        if first < 0:
            self._take(made, len(self._head), self._size())
            self._head += made
        else:
            places = self._places(wanted)
            size = self._size()
            for place in places:
                size -= len(self._head[place]) + 1
            self._take(made, len(self._head) - len(places), size)
            head = self._head
            for place in reversed(places):
                del head[place]
            head[first:first] = made

    def __setitem__(self, name: Any, value: Any) -> None:
        self.set(name, value)

    def add(self, name: Any, value: Any) -> None:
        """One more value, behind those that there are."""
        key, _, start = check_name(name)
        checked = check_value(name, value)
        if key in self._special:
            known = self.own.get(key)
            # X-Forwarded-For and its kin are lists; a second Host would be none.
            joined = key != "host" and known
            self._set_own(name, key, [known + b", " + checked if joined and known else checked])
        else:
            made = [start + checked]
            self._take(made, len(self._head), self._size())
            self._head += made

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
        if key in self._special:
            if self._special[key] and key != "host" and self.own.pop(key, None) is not None:
                self.changed = self.own_changed = True
            return
        places = self._places(wanted)
        if places:
            self.detach()
            for place in reversed(places):
                del self._head[place]
            self._known_size = -1
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
        """The bytes of all lines, each with its end."""
        size = self._known_size
        if size < 0:
            size = 0
            for line in self._head:
                size += len(line) + 1
            self._known_size = size
        return size

    def _find(self, wanted: bytes, start: int) -> int:
        """Where the next line is that has this name, ``wanted`` in lower case; -1: nowhere.

        Two bytes of a line tell of nearly every other one that it is none of them: where
        this is compiled, that costs a tenth of a look at the text of all.
        """
        colon = len(wanted)
        first = wanted[0] | 32
        head = self._head
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
        """Where all of them are."""
        places: list[int] = []
        place = self._find(wanted, 1)
        while place >= 0:
            places.append(place)
            place = self._find(wanted, place + 1)
        return places

    def _take(self, made: list[bytes], lines: int, size: int) -> None:
        """Make room for lines that come to so many others, the first one of the head
        included, with so many bytes together.

        Raises ValueError if they would be too many, or too long together.
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
