"""What an editor and a type checker know of hooks in Python.

There is no such module at run time, and a hook needs none: code under
``if TYPE_CHECKING:`` is left out of it, and annotations are not looked at::

    from typing import TYPE_CHECKING

    if TYPE_CHECKING:
        from slardar.hooks.python.hook import HookRequest, errno, log, require, settings

    def on_request(request: HookRequest) -> None:
        request.headers["X-Tenant"] = request.host.split(".")[0]
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

_Default = TypeVar("_Default")
_Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]

class HookRequest:
    """A request on its way in."""

    @property
    def client(self) -> str:
        """The client's address, without port."""
    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
    @property
    def context(self) -> dict[str, Any]:
        """A dict for as long as the request lasts; replies have it too."""
    @property
    def headers(self) -> Headers:
        """The headers."""
    @property
    def query(self) -> Query:
        """The fields of the query, decoded."""
    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name; what is set here goes nowhere."""
    @property
    def method(self) -> str:
        """As sent: ``GET``."""
    @method.setter
    def method(self, value: str) -> None: ...
    @property
    def host(self) -> str:
        """The name asked for, in lower case, without port."""
    @host.setter
    def host(self, value: str) -> None: ...
    @property
    def uri(self) -> str:
        """Path and query, as sent."""
    @uri.setter
    def uri(self, value: str) -> None: ...
    @property
    def path(self) -> str:
        """The path without query, as sent: still percent-encoded."""
    @path.setter
    def path(self, value: str) -> None: ...
    @property
    def query_string(self) -> str:
        """What follows the ``?``, as sent."""
    @query_string.setter
    def query_string(self, value: str) -> None: ...
    @property
    def body(self) -> bytes:
        """The body; empty if there is none.

        To read one that is larger than ``hooks.body`` ends the hook: the client gets 413.
        What is set, bytes or text, is sent instead, with its length.
        """
    @body.setter
    def body(self, value: bytes | str) -> None: ...
    @property
    def body_too_large(self) -> bool:
        """Whether the body is larger than ``hooks.body``, so that it cannot be read."""
    @property
    def upstream(self) -> str | None:
        """The upstream that the request goes to as it is now; None if there is none.

        What is set wins over routes and Host; None leaves it to them.
        """
    @upstream.setter
    def upstream(self, value: str | None) -> None: ...
    @property
    def hash_key(self) -> str | None:
        """The key for the hash balancers."""
    @hash_key.setter
    def hash_key(self, value: str | None) -> None: ...
    @property
    def cluster_key(self) -> str | tuple[str, ...] | None:
        """The named cluster to be tried first, or several in order."""
    @cluster_key.setter
    def cluster_key(self, value: str | list[str] | tuple[str, ...] | None) -> None: ...
    def reject(self, status: int, message: str = "") -> None:
        """Answer with an error from 400 to 599; 444 closes without a reply."""
    def respond(self, status: int, body: str | bytes = "", headers: _Pairs | None = None) -> None:
        """Answer with this."""
    def redirect(self, url: str, status: int = 302) -> None:
        """Send the client elsewhere; ``url`` is a URL or a path."""
    def exit(self, errno: Errno | int) -> None:
        """Answer with one of ``errno``'s errors, or with a status from 200 to 599;
        ``errno.OK`` lets the request go on."""

class HookResponse:
    """A reply on its way out, before its first byte."""

    @property
    def status(self) -> int:
        """The status."""
    @status.setter
    def status(self, value: int) -> None: ...
    @property
    def headers(self) -> Headers:
        """The headers."""
    @property
    def error(self) -> str | None:
        """Why slardar has made this reply; None if it is a server's."""

class Headers:
    """Headers: a mapping without case, whose names may have several values."""

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: _Default) -> str | _Default: ...
    def get_all(self, name: str) -> list[str]:
        """Every value, in order."""
    def items(self) -> list[tuple[str, str]]:
        """Names as they were sent and values, a pair for each line."""
    def keys(self) -> list[str]:
        """Each name once, in lower case."""
    def values(self) -> list[str]:
        """Every value."""
    def set(self, name: str, value: str | int | list[str] | tuple[str, ...]) -> None:
        """Replace every value of ``name`` by one, or by each of a list."""
    def add(self, name: str, value: str | int) -> None:
        """One more value, behind those that there are."""
    def setdefault(self, name: str, value: str | int) -> str:
        """The value; it is set to ``value`` first if there is none."""
    def remove(self, name: str) -> None:
        """Remove every value, if there is one."""
    @overload
    def pop(self, name: str) -> str | None: ...
    @overload
    def pop(self, name: str, default: _Default) -> str | _Default: ...
    def update(self, pairs: _Pairs) -> None:
        """Set each header of a mapping or of pairs."""
    def __getitem__(self, name: str) -> str: ...
    def __setitem__(self, name: str, value: str | int | list[str] | tuple[str, ...]) -> None: ...
    def __delitem__(self, name: str) -> None: ...
    def __contains__(self, name: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

class Query:
    """The fields of a query, in order; names may have several values."""

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: _Default) -> str | _Default: ...
    def get_all(self, name: str) -> list[str]:
        """Every value, in order."""
    def items(self) -> list[tuple[str, str]]:
        """Every field, in order."""
    def keys(self) -> list[str]:
        """Each name once."""
    def values(self) -> list[str]:
        """Every value."""
    def set(self, name: str, value: str | int | list[str] | tuple[str, ...]) -> None:
        """Replace every value of ``name`` by one, or by each of a list."""
    def add(self, name: str, value: str | int) -> None:
        """One more value."""
    def remove(self, name: str) -> None:
        """Remove every value, if there is one."""
    def __getitem__(self, name: str) -> str: ...
    def __setitem__(self, name: str, value: str | int | list[str] | tuple[str, ...]) -> None: ...
    def __delitem__(self, name: str) -> None: ...
    def __contains__(self, name: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

class Errno:
    """One error: its first three digits are the HTTP status."""

    @property
    def code(self) -> int:
        """The whole code."""
    @property
    def httpcode(self) -> int:
        """The status."""
    @property
    def msg(self) -> str:
        """The text."""

class _Errnos:
    OK: Errno
    HTTP_OK: Errno
    HTTP_NOT_MODIFIED: Errno
    HTTP_BAD_REQUEST: Errno
    HTTP_UNAUTHORIZED: Errno
    HTTP_FORBIDDEN: Errno
    HTTP_NOT_FOUND: Errno
    HTTP_NOT_ALLOWED: Errno
    HTTP_PRECONDITION: Errno
    HTTP_MEDIA_TYPE_ERR: Errno
    HTTP_TOO_MANY_REQS: Errno
    HTTP_SERVICE_UNAVAILABLE: Errno
    EXIT_TRY_CODE: Errno
    UNKNOWN_ERR: Errno
    def from_code(self, code: int) -> Errno:
        """The error with this code; ``UNKNOWN_ERR`` and a line in the log if there is none."""
    def make(self, code: int, msg: str) -> Errno:
        """An error of one's own, such as 40301001."""

class _Log:
    def debug(self, *values: object) -> None:
        """One line, of at most 1,000 characters."""
    def info(self, *values: object) -> None:
        """One line, of at most 1,000 characters."""
    def warn(self, *values: object) -> None:
        """One line, of at most 1,000 characters."""
    def error(self, *values: object) -> None:
        """One line, of at most 1,000 characters."""

#: The errors that a hook may exit with.
errno: _Errnos
#: What a hook has to say.
log: _Log
#: The dynamic settings, by attribute or by item; read only.
settings: Any

def require(name: str) -> Any:
    """A module, ``require("modules.x")``; the name must be written out."""
