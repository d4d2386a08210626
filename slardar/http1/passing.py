"""The lines of a head that pass unchanged: one block of bytes, until somebody wants a list."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from slardar.http1.scan import find_value

__all__ = ["PassingLines"]


@mypyc_attr(allow_interpreted_subclasses=True, acyclic=True)
class PassingLines:
    """The base of requests and replies: the lines that pass from one side to the other.

    They are a *block* (:mod:`slardar.http1.scan`) or a list.  A list is made of the block when
    somebody asks for it: most heads pass without.  At index 0 of the list stands the first line of
    a reply; a request's is empty there, as the writer has its request line.
    """

    __slots__ = ("_block", "_lines")

    def __init__(self, lines: list[bytes] | None, block: bytes) -> None:
        #: The lines; ``None`` as long as ``_block`` has them.
        self._lines: list[bytes] | None = lines
        self._block: bytes = block

    @property
    def lines(self) -> list[bytes]:
        """The lines, without CRLF; whoever gets the list may change it."""
        lines = self._lines
        if lines is None:
            lines = self._lines = self._block.split(b"\r\n")
        return lines

    def block(self) -> bytes:
        """The lines as a block."""
        lines = self._lines
        return self._block if lines is None else b"\r\n".join(lines)

    def given_lines(self) -> list[bytes] | bytes:
        """The lines as they are kept: as a list (:meth:`head_lines`) or as a block."""
        lines = self._lines
        return self._block if lines is None else lines

    def get_header(self, name: str) -> str | None:
        """The first value of a header that passes, or ``None``."""
        value = find_value(self.block(), name.lower().encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    def head_lines(self) -> list[bytes]:
        """The first line and, from index 1 on, the header lines, without CRLF.

        The caller must not change the list: to have other lines, copy the list, change the copy
        and call :meth:`replace_head_lines`.
        """
        return self.lines

    def replace_head_lines(self, lines: list[bytes]) -> None:
        """Replace the lines by ``lines``, in the form of :meth:`head_lines`.

        The list is kept, and may be changed.
        """
        self._lines = lines

    def replace_block(self, block: bytes) -> None:
        """Replace the lines by those of a block."""
        self._lines = None
        self._block = block

    def add_header_lines(self, lines: list[bytes]) -> None:
        """Append header lines, without CRLF."""
        if self._lines is None:
            self._block = b"\r\n".join((self._block, *lines))
        else:
            self._lines += lines
