"""The values of AMP commands: text and JSON of any size."""

# Twisted's AMP has no types.
# mypy: disable-error-code="no-untyped-call,misc"

from __future__ import annotations

from typing import Any

import msgspec
from twisted.protocols import amp

__all__ = ["Bytes", "Json", "Text"]

#: Bytes of one value of AMP.
_PIECE = 65_535


class Bytes(amp.Argument):
    """Bytes of any size.

    AMP limits a value to 65,535 bytes.  A longer one goes on under the keys ``name.1``, ``name.2``
    and so on.
    """

    def toBox(self, name: bytes, strings: Any, objects: Any, proto: Any) -> None:
        value = objects.pop(name.decode(), None)
        if value is None and self.optional:
            return
        data = self.toString(value)
        strings[name] = data[:_PIECE]
        for number, start in enumerate(range(_PIECE, len(data), _PIECE), 1):
            strings[b"%s.%d" % (name, number)] = data[start : start + _PIECE]

    def fromBox(self, name: bytes, strings: Any, objects: Any, proto: Any) -> None:
        first = self.retrieve(strings, name, proto)
        if first is None:
            objects[name.decode()] = None
            return
        pieces = [first]
        while (piece := strings.pop(b"%s.%d" % (name, len(pieces)), None)) is not None:
            pieces.append(piece)
        objects[name.decode()] = self.fromString(b"".join(pieces))

    def toString(self, inObject: Any) -> bytes:  # noqa: N803 Twisted's name
        return bytes(inObject)

    def fromString(self, inString: bytes) -> Any:  # noqa: N803 Twisted's name
        return inString


class Text(Bytes):
    """Text of any size, as UTF-8."""

    def toString(self, inObject: str) -> bytes:  # noqa: N803 Twisted's name
        return inObject.encode()

    def fromString(self, inString: bytes) -> str:  # noqa: N803 Twisted's name
        return inString.decode()


class Json(Bytes):
    """A value of JSON, of any size.  What slardar itself receives, it reads more strictly."""

    def toString(self, inObject: Any) -> bytes:  # noqa: N803 Twisted's name
        return msgspec.json.encode(inObject)

    def fromString(self, inString: bytes) -> Any:  # noqa: N803 Twisted's name
        return msgspec.json.decode(inString)
