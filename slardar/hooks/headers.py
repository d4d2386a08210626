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

from mypy_extensions import i64, mypyc_attr

from slardar.http1 import scan
from slardar.http1.headers import REPLY_SPECIAL, REQUEST_SPECIAL
from slardar.http1.heads import BadMessage
from slardar.http1.request import normal_host

__all__ = ["MAX_LINES", "MAX_SIZE", "Headers", "check_name", "check_value", "has_room"]

#: The number of lines, and of bytes in all lines, that a head may grow to.
MAX_LINES: Final = 256
MAX_SIZE: Final = 65536
#: More lines, and more bytes, than any head has.
_NO_LIMIT: Final = 1 << 40

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
#: The headers that a hook may read but not write are among these.  A spelling with "_" is
#: not: the parser drops it only to protect the server, as nginx does.
_FIXED: Final = frozenset(name for name in REQUEST_SPECIAL | REPLY_SPECIAL if b"_" not in name)
#: Bound here, so that the compiled code does not look them up each time.
_is_printable: Final = str.isprintable
_count_lines: Final = scan.count_lines
_find_value: Final = scan.find_value
_find_values: Final = scan.find_values
_put_lines: Final = scan.put_lines


#: Names that were found to be valid, with the results of :func:`check_name`.  Hooks use few
#: names, and use them for each request.
_known: Final[dict[str, tuple[str, bytes, bytes]]] = {}
_MAX_KNOWN: Final = 1024


def check_name(name: object) -> tuple[str, bytes, bytes]:
    """Check the name of a header.

    Returns the name in lower case as text and as bytes, and the beginning of its line on the
    wire with the end of the line before it (``b"\\r\\nName: "``).  Raises ValueError if
    ``name`` is not the name of a header.
    """
    # Only a text is looked up: hashing a value that a hook made may never end.
    if type(name) is not str:
        raise ValueError(f"expected the name of a header, got {_shown(name)}")
    known = _known.get(name)
    if known is None:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"expected the name of a header, got {_shown(name)}")
        lower = name.lower()
        known = lower, lower.encode("ascii"), b"\r\n%b: " % name.encode("ascii")
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
        if len(value) <= MAX_SIZE and _is_printable(value):
            try:
                return value.strip(" ").encode("ascii")
            except UnicodeEncodeError:
                pass  # it may be ISO-8859-1
    elif type(value) is int and -(1 << 64) < value < 1 << 64:
        return b"%d" % value
    if type(value) is not str or len(value) > MAX_SIZE or _VALUE.fullmatch(value) is None:
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


@mypyc_attr(free_list_len=1)
class Headers:
    """Header lines, and the values of the headers that the proxy writes itself.

    ``block`` has the lines that pass unchanged (:mod:`slardar.http1.scan`).  ``special`` maps the
    name of each other header, in lower case, to whether a hook may write the header.  ``own`` has
    the values of the headers in ``special`` that the proxy will write, by name.  If ``own``
    is ``None``, they are ``host`` and ``request_id``, as far as there are any.  ``sent`` is
    the whole head as it was sent, where the headers are found that a hook may only read.
    """

    __slots__ = (
        "_fixed",
        "_host",
        "_own",
        "_request_id",
        "_sent",
        "_special",
        "block",
        "changed",
        "own_changed",
    )

    def __init__(
        self,
        block: bytes,
        own: dict[str, bytes] | None,
        special: dict[str, bool],
        host: bytes = b"",
        sent: bytes = b"",
        request_id: bytes | None = None,
    ) -> None:
        #: The lines, with the changes.
        self.block = block
        self._sent = sent
        #: See :attr:`fixed`; ``None`` until a hook asks.
        self._fixed: list[tuple[str, str, bytes]] | None = None
        self._own = own
        self._host = host
        self._request_id = request_id
        self._special = special
        #: Whether a header was written, and whether one of ``own`` was.
        self.changed = False
        self.own_changed = False

    @property
    def lines(self) -> list[bytes]:
        """The lines of the headers that the proxy does not write itself."""
        return self.block.split(b"\r\n")[1:]

    @property
    def own(self) -> dict[str, bytes]:
        """The values of the headers that the proxy writes itself, by lower-case name."""
        own = self._own
        if own is None:
            # Made only now: most hooks ask for none of these headers.
            own = self._own = {"host": self._host} if self._host else {}
            if self._request_id is not None:
                own["x-request-id"] = self._request_id
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

    # Reading.

    def get(self, name: Any, default: Any = None) -> Any:
        """The first value of the header, or ``default``."""
        key, wanted, _ = check_name(name)
        if key in self._special:
            values = self._special_values(key)
            return values[0].decode("latin-1") if values else default
        value = _find_value(self.block, wanted)
        return default if value is None else value.decode("latin-1")

    def get_all(self, name: Any) -> list[str]:
        """Every value of the header, in order."""
        key, wanted, _ = check_name(name)
        if key in self._special:
            values = self._special_values(key)
        else:
            values = _find_values(self.block, wanted)
        return [value.decode("latin-1") for value in values]

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
        for line in self.lines:
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
            if len(value) > MAX_LINES:
                raise ValueError(f"expected at most {MAX_LINES} headers")
            values = [check_value(name, one) for one in value]
            if key in self._special:
                self._set_own(name, key, values)
            else:
                self.put_lines(wanted, b"".join([start + one for one in values]))
        elif key in self._special:
            self._set_own(name, key, [check_value(name, value)])
        else:
            self.put_lines(wanted, start + check_value(name, value))

    def put(self, name: str, value: str) -> None:
        """Do what :meth:`set` does for a value that is known to be printable ASCII."""
        key, wanted, start = check_name(name)
        made = value.strip(" ").encode("ascii")
        if key in self._special:
            self._set_own(name, key, [made])
        else:
            self.put_lines(wanted, start + made)

    def put_each(self, pairs: str) -> None:
        """Put several headers: in ``pairs``, a line with a name precedes each line with its
        value."""
        texts = pairs.split("\n")
        for index in range(0, len(texts), 2):
            self.put(texts[index], texts[index + 1])

    def put_lines(self, name: bytes, made: bytes) -> None:
        """Put lines that were checked in place of those of the header ``name``, in lower case.

        Each of the lines ``made`` has a CRLF before it.  Raises ValueError if the head would have
        too many lines or too many bytes.
        """
        block = _put_lines(self.block, name, made, MAX_LINES, MAX_SIZE)
        if block is None:
            kept = _put_lines(self.block, name, b"", _NO_LIMIT, _NO_LIMIT)
            raise _too_much(kept or b"", made)
        self.block = block
        self.changed = True

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
            block = self.block
            made = start + checked
            lines, size = _count_lines(block) + 1, len(block) + len(made)
            # In place of the two bytes of each line end one is counted, and one for the last line.
            if lines > MAX_LINES or size - lines + 1 > MAX_SIZE:
                raise _too_much(block, made)
            self.block = block + made
            self.changed = True

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
        block = _put_lines(self.block, wanted, b"", _NO_LIMIT, _NO_LIMIT)
        if block is not None and len(block) != len(self.block):
            self.block = block
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
        if len(values[0]) > MAX_SIZE // 4:
            raise ValueError(f"{key}: expected at most {MAX_SIZE // 4} bytes")
        if key == "host":
            try:
                normal_host(values[0])
            except BadMessage as error:
                raise ValueError(f"host: {error.message}: {values[0][:60]!r}") from None
        self.own[key] = values[0]
        self.changed = self.own_changed = True


def has_room(block: bytes, lines: i64, size: i64) -> bool:
    """Whether ``lines`` more headers, with ``size`` bytes of names and values in total, are certain
    to be within the limits."""
    # The compiled code uses machine integers for this type.
    length: i64 = len(block)
    # A line has at least four bytes, so short blocks need not be counted.
    known: i64 = length // 4
    if known + lines >= MAX_LINES:
        known = _count_lines(block)
    # A line has at most four bytes besides its name and its value.
    return known + lines < MAX_LINES and length + size + 4 * lines <= MAX_SIZE


def _too_much(block: bytes, made: bytes) -> ValueError:
    """The error for lines ``made`` that a block has no room for."""
    if _count_lines(block) + _count_lines(made) > MAX_LINES:
        return ValueError(f"expected at most {MAX_LINES} headers")
    return ValueError(f"expected headers of at most {MAX_SIZE} bytes together")
