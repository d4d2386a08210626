"""The types of Python hooks, for editors and type checkers.

No such module exists at run time, and a hook needs none: slardar removes code under
``if TYPE_CHECKING:`` and annotations from a hook::

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
    """A request on its way to a server."""

    @property
    def client(self) -> str:
        """The client's address, without port."""
    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
    @property
    def tls(self) -> HookTls | None:
        """The client's TLS; None if it came without."""
    @property
    def client_cert(self) -> ClientCertificate | None:
        """``tls.client_cert``; None also without TLS."""
    @property
    def context(self) -> dict[str, Any]:
        """A dict that the hooks of this request share until its reply is sent."""
    @property
    def headers(self) -> Headers:
        """The headers."""
    @property
    def query(self) -> Query:
        """The fields of the query, decoded."""
    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name, in a new dict: a change of it changes no header."""
    @property
    def method(self) -> str:
        """The method as the client sent it, such as ``GET``."""
    @method.setter
    def method(self, value: str) -> None: ...
    @property
    def host(self) -> str:
        """The name that the client asks for, in lower case and without a port."""
    @host.setter
    def host(self, value: str) -> None: ...
    @property
    def uri(self) -> str:
        """Path and query, as the client sent them."""
    @uri.setter
    def uri(self, value: str) -> None: ...
    @property
    def path(self) -> str:
        """The path as the client sent it: percent-encoded, without the query."""
    @path.setter
    def path(self, value: str) -> None: ...
    @property
    def query_string(self) -> str:
        """What follows the ``?``, as the client sent it."""
    @query_string.setter
    def query_string(self, value: str) -> None: ...
    @property
    def body(self) -> bytes:
        """The body; empty if the request has none.

        Reading a body that is larger than ``hooks.body`` ends the hook, and the client gets a
        413.  Bytes or text that a hook sets here are sent instead, with their length.
        """
    @body.setter
    def body(self, value: bytes | str) -> None: ...
    @property
    def body_too_large(self) -> bool:
        """Whether the body is larger than ``hooks.body``, so that it cannot be read."""
    @property
    def upstream(self) -> str | None:
        """The upstream that the request goes to as it is now; None if there is none.

        A name that a hook sets wins over routes and Host; None leaves the choice to them.
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
        """The name of the cluster to try first, or several names in order."""
    @cluster_key.setter
    def cluster_key(self, value: str | list[str] | tuple[str, ...] | None) -> None: ...
    def reject(self, status: int, message: str = "") -> None:
        """Answer with an error, a status from 400 to 599; 444 closes without a reply."""
    def respond(self, status: int, body: str | bytes = "", headers: _Pairs | None = None) -> None:
        """Answer with a status from 200 to 599, a body and headers."""
    def redirect(self, url: str, status: int = 302) -> None:
        """Send the client elsewhere.  ``url`` is a URL or a path."""
    def exit(self, errno: Errno | int) -> None:
        """Answer with an error of ``errno``, or with a status from 200 to 599.

        ``errno.OK`` lets the request go on.
        """

class HookTls:
    """A client's TLS connection."""

    @property
    def version(self) -> str:
        """``TLSv1.3`` or ``TLSv1.2``."""
    @property
    def cipher(self) -> str:
        """The suite, as OpenSSL calls it: ``TLS_AES_256_GCM_SHA384``."""
    @property
    def sni(self) -> str | None:
        """The name of the server for which the client has asked."""
    @property
    def client_cert(self) -> ClientCertificate | None:
        """The client's certificate, which was verified; None if it has shown none."""

class ClientCertificate:
    """The certificate of a client, which was verified."""

    @property
    def subject(self) -> str:
        """The subject, as RFC 4514 writes it: ``CN=alice,O=Example``."""
    @property
    def issuer(self) -> str:
        """The issuer, written in the same way."""
    @property
    def serial(self) -> str:
        """The serial number in hexadecimal digits, in upper case."""
    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in hexadecimal digits, in lower case."""
    @property
    def not_after(self) -> int:
        """When it expires, in epoch seconds."""
    @property
    def dns_names(self) -> tuple[str, ...]:
        """The names of hosts that it lists."""
    @property
    def emails(self) -> tuple[str, ...]:
        """The addresses of e-mail that it lists."""

class HookResponse:
    """A reply on its way to the client, before its first byte is sent."""

    @property
    def status(self) -> int:
        """The status that the client gets."""
    @status.setter
    def status(self, value: int) -> None: ...
    @property
    def headers(self) -> Headers:
        """The headers."""
    @property
    def error(self) -> str | None:
        """Why slardar made this reply; None if a server made it."""

class Headers:
    """Headers: a mapping whose names have no case and may have several values."""

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: _Default) -> str | _Default: ...
    def get_all(self, name: str) -> list[str]:
        """Every value of ``name``, in order."""
    def items(self) -> list[tuple[str, str]]:
        """The name as it was sent and the value, for each line."""
    def keys(self) -> list[str]:
        """Each name once, in lower case."""
    def values(self) -> list[str]:
        """Every value of every name."""
    def set(self, name: str, value: str | int | list[str] | tuple[str, ...]) -> None:
        """Replace every value of ``name`` by ``value``, or by each value of a list."""
    def add(self, name: str, value: str | int) -> None:
        """Add a value behind those that the header has."""
    def setdefault(self, name: str, value: str | int) -> str:
        """The value of the header, which is set to ``value`` first if it has none."""
    def remove(self, name: str) -> None:
        """Remove every value of ``name``, if it has one."""
    @overload
    def pop(self, name: str) -> str | None: ...
    @overload
    def pop(self, name: str, default: _Default) -> str | _Default: ...
    def update(self, pairs: _Pairs) -> None:
        """Set each header of a mapping, or of pairs of name and value."""
    def __getitem__(self, name: str) -> str: ...
    def __setitem__(self, name: str, value: str | int | list[str] | tuple[str, ...]) -> None: ...
    def __delitem__(self, name: str) -> None: ...
    def __contains__(self, name: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

class Query:
    """The fields of a query, in order.  A name may have several values."""

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: _Default) -> str | _Default: ...
    def get_all(self, name: str) -> list[str]:
        """Every value of ``name``, in order."""
    def items(self) -> list[tuple[str, str]]:
        """The name and the value of every field, in order."""
    def keys(self) -> list[str]:
        """Each name once."""
    def values(self) -> list[str]:
        """Every value of every name."""
    def set(self, name: str, value: str | int | list[str] | tuple[str, ...]) -> None:
        """Replace every value of ``name`` by ``value``, or by each value of a list."""
    def add(self, name: str, value: str | int) -> None:
        """Add a value behind those that the field has."""
    def remove(self, name: str) -> None:
        """Remove every value of ``name``, if it has one."""
    def __getitem__(self, name: str) -> str: ...
    def __setitem__(self, name: str, value: str | int | list[str] | tuple[str, ...]) -> None: ...
    def __delitem__(self, name: str) -> None: ...
    def __contains__(self, name: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

class Errno:
    """One error.  The first three digits of its code are the HTTP status."""

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
        """The error with this code.

        If there is none, it is ``UNKNOWN_ERR``, and the log gets a line.
        """
    def make(self, code: int, msg: str) -> Errno:
        """Make an error that the hook defines itself, such as 40301001."""

class _Log:
    def debug(self, *values: object) -> None:
        """Log one line of at most 1,000 characters."""
    def info(self, *values: object) -> None:
        """Log one line of at most 1,000 characters."""
    def warn(self, *values: object) -> None:
        """Log one line of at most 1,000 characters."""
    def error(self, *values: object) -> None:
        """Log one line of at most 1,000 characters."""

#: The errors that a hook may exit with.
errno: _Errnos
#: The log of slardar.
log: _Log
#: The settings of slardar's operators, which a hook reads by attribute or by item, and cannot
#: change; lists are tuples.  ``settings.get(name)`` is ``None`` for one that is not there.
settings: Any

def require(name: str) -> Any:
    """A module, as ``require("modules.x")``.  The name must be written out in the code."""
