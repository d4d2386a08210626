"""A statement of a configuration that is imported, and which statements hold for another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

__all__ = ["Scope", "Statement", "is_trusted_header"]

#: Headers of requests that say nothing of a client, or that slardar sets itself.
_HARMLESS = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "cache-control", "connection", "expect"),
        *("forwarded", "keep-alive", "pragma", "proxy", "proxy-connection", "range", "te"),
        *("upgrade", "upgrade-insecure-requests", "x-request-id", "dnt", "referer", "origin"),
    }
)


def is_trusted_header(name: str) -> bool:
    """Whether a server may trust a header because the proxy removes those that clients send."""
    name = name.lower()
    return name not in _HARMLESS and not name.startswith(("if-", "x-forwarded-"))


class Statement:
    """A word with arguments, and perhaps a block of statements.

    :attr:`done` is set by whoever has looked after the statement.  What is not done in the end is
    listed (:meth:`slardar.migration.draft.Draft.sweep`), so that nothing is lost in silence.
    """

    __slots__ = ("args", "block", "done", "file", "line", "name")

    def __init__(
        self,
        name: str,
        args: Iterable[str],
        file: str,
        line: int,
        block: list[Statement] | None = None,
    ) -> None:
        self.name = name
        self.args = list(args)
        self.file = file
        self.line = line
        self.block = block
        self.done = False

    @property
    def text(self) -> str:
        """The statement as a person would write it, without its block."""
        return " ".join([self.name, *(word or '""' for word in self.args)])

    @property
    def place(self) -> str:
        """Where it stands, as ``FILE:LINE``."""
        return f"{self.file}:{self.line}"

    def take(self) -> Statement:
        """This statement, which is done now; its block is not."""
        self.done = True
        return self

    def cover(self) -> None:
        """Note that it is done, with all that is in its block."""
        self.done = True
        for one in self.block or ():
            one.cover()

    def named(self, *names: str) -> Iterator[Statement]:
        """The statements with these names that are directly in its block."""
        return (one for one in self.block or () if one.name in names)


class Scope:
    """The statements of a block and of those around it, of which the inner ones hold."""

    def __init__(self, statements: Iterable[Statement], outer: Scope | None = None) -> None:
        self.statements = list(statements)
        self.outer = outer
        #: Files have thousands of servers, and each of them asks what is around it.
        self._named: dict[str, list[Statement]] = {}
        for one in self.statements:
            self._named.setdefault(one.name, []).append(one)
        self._chosen: dict[Callable[[Statement], bool], list[Statement]] = {}

    def peek(self, name: str) -> list[Statement]:
        """The statements of this name that hold here; they are not done by this."""
        found = self._named.get(name, [])
        return self.outer.peek(name) if not found and self.outer is not None else found

    def chosen(self, is_one: Callable[[Statement], bool]) -> list[Statement]:
        """The statements of this very block for which ``is_one`` is true, whenever it is asked."""
        if is_one not in self._chosen:
            self._chosen[is_one] = list(filter(is_one, self.statements))
        return self._chosen[is_one]

    def all(self, name: str) -> list[Statement]:
        """The statements of this name that hold here; they are done now.

        Some in an inner block take the place of all those further out, as nginx has it.
        """
        return [one.take() for one in self.peek(name)]

    def last(self, name: str) -> Statement | None:
        """The statement of this name that holds here, the last of several; it is done now."""
        found = self.peek(name)
        return found[-1].take() if found else None

    def value(self, name: str) -> str | None:
        """The first argument of that statement."""
        found = self.last(name)
        return found.args[0] if found is not None and found.args else None
