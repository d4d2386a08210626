"""The objects of a request and its reply that a hook sees.

A hook works on objects of its own.  Nothing that it does to them touches the proxy until
:mod:`slardar.hooks.effects` applies the changes.  Every value is checked
when it is written, and a wrong one is refused with a ValueError, which a hook may catch.
:data:`READABLE` and :data:`WRITABLE` say which names a script may use.

Values that come from a hook are ``Any`` in the signatures.  The code that mypyc compiles
would check any other type before the function runs, and mypyc's message for a tuple that
contains itself never ends.

This file is long because a request, its query and its reply check values with the same
functions and the same limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, TypeGuard
from urllib.parse import quote, unquote_plus, urlencode

from mypy_extensions import mypyc_attr

from slardar.hooks.errno import Errno
from slardar.hooks.headers import MAX_LINES, MAX_SIZE, Headers, check_name
from slardar.hooks.tls import ClientCertificate, HookTls, seen_tls
from slardar.http1.bodies import SeenBody
from slardar.http1.headers import REPLY_SPECIAL, REQUEST_SPECIAL
from slardar.http1.heads import GET, BadMessage
from slardar.http1.request import normal_host, parse_request
from slardar.http1.scan import put_lines
from slardar.http1.tls import TlsFacts

__all__ = [
    "BODY_IS_LARGE",
    "BODY_IS_UNKNOWN",
    "OF_REQUEST",
    "READABLE",
    "WRITABLE",
    "HookAnswer",
    "BodyTooLarge",
    "HookRequest",
    "HookResponse",
    "Query",
]

#: Bound here, so that the compiled code does not look it up each time.
_put_lines: Final = put_lines

#: The states of a request's body.  The body is here (or the request has none); it has more
#: bytes than ``hooks.body``, so hooks cannot see it; or nobody has waited for it.
_BODY_IS_HERE: Final = 0
BODY_IS_LARGE: Final = 1
BODY_IS_UNKNOWN: Final = 2

#: The most characters of a body that a hook answers with, or gives a request.
_MAX_BODY: Final = 1 << 20
#: The most characters of a key, and of a target.  A query that is written field by field may
#: have as many in addition to the path.  This is four times the default of ``limits.url`` and
#: all of ``limits.head``: no client must be able to make a hook fail, and so have it
#: suspended, by sending so much that the hook can add nothing.
_MAX_KEY: Final = 32768
_MAX_TARGET: Final = 32768

_METHOD: Final = re.compile(r"[A-Z][A-Z-]{0,31}")
#: Characters that are not quoted: RFC 3986 3.3 and 3.4, the few more that servers accept, and
#: "%", which stays as it is.
_IN_PATH: Final = "%/:@!$&'()*+,;=-._~|[]"
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
#: A target that llhttp accepts: no blank, no fragment, and ASCII only.
_TARGET: Final = re.compile(r"/[\x21-\x22\x24-\x7e]*")

#: Headers of a request that a hook may write although the proxy writes them to the server.
_REWRITTEN: Final = frozenset(
    (b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-request-id")
)
#: The headers that the proxy writes itself, and whether a hook may write them.
OF_REQUEST: Final = {name.decode("ascii"): name in _REWRITTEN for name in REQUEST_SPECIAL}
_OF_REPLY: Final = dict.fromkeys([name.decode("ascii") for name in REPLY_SPECIAL], False)

#: The methods of nearly all requests, as text that need not be made for each request.
_METHODS: Final = {
    method.encode("ascii"): method for method in ("GET", "POST", "HEAD", "PUT", "DELETE")
}


class BodyTooLarge(BaseException):
    """A hook has read a body that is too large for hooks.

    No hook can name or catch this exception.
    """


class HookAnswer:
    """What a hook lets the client get instead of a server's reply.

    The ``status`` 444 closes the connection without a reply.  From a ``message`` the proxy
    makes one of its own errors.  Without a message, ``body`` is sent as it is.  Either way
    ``headers`` are added.
    """

    __slots__ = ("body", "code", "headers", "message", "status")

    def __init__(
        self,
        status: int,
        message: str | None = None,
        body: bytes = b"",
        headers: Iterable[bytes] = (),
        code: int | None = None,
    ) -> None:
        self.status = status
        self.message = message
        self.body = body
        #: Header lines as they go on the wire, without CRLF.
        self.headers = list(headers)
        #: The value of ``X-Error-Code``, or ``None``.
        self.code = code

    def __repr__(self) -> str:
        return f"<HookAnswer {self.status}>"


@mypyc_attr(free_list_len=1)
class HookRequest:
    """A request on its way to a server, as a hook sees it.

    ``raw_method``, ``raw_uri`` and ``host`` come from the parsed head.  For ``block``, ``own``,
    ``sent`` and ``request_id`` see :class:`slardar.hooks.headers.Headers`.  Bytes become text
    only when a hook looks at them, not for each request.
    """

    __slots__ = (
        "_address",
        "_block",
        "_body",
        "_cluster_key",
        "_context",
        "_edited",
        "_hash_key",
        "_headers",
        "_host",
        "_own",
        "_peer",
        "_query",
        "_raw_uri",
        "_request_id",
        "_route",
        "_sent",
        "_tls",
        "_upstream",
        "_uri",
        "answer",
        "body_state",
        "minor",
        "raw_method",
        "scheme",
        "written",
    )

    def __init__(
        self,
        raw_method: bytes,
        raw_uri: bytes,
        block: bytes,
        own: dict[str, bytes] | None = None,
        host: bytes = b"",
        address: bytes = b"",
        scheme: str = "http",
        minor: int = 1,
        context: dict[str, Any] | None = None,
        sent: bytes = b"",
        route: Any = None,
        peer: bytes = b"",
        tls: TlsFacts | None = None,
        request_id: bytes | None = None,
    ) -> None:
        self._sent = sent
        self._tls = tls
        #: ``method`` as bytes.
        self.raw_method = raw_method
        self._raw_uri = raw_uri
        self._uri: str | None = None
        self._block = block
        #: Lines of ``_block`` were put, while nobody has asked for ``headers``.
        self._edited = False
        self._own = own
        self._host = host
        self._request_id = request_id
        self._headers: Headers | None = None
        self._query: Query | None = None
        self._upstream: str | None = None
        self._hash_key: str | None = None
        self._cluster_key: str | tuple[str, ...] | None = None
        self._address = address
        self._peer = peer
        self._context = context
        #: ``route(host, path)`` returns the name of the upstream that host and path lead to,
        #: or ``None``.
        self._route = route
        self.scheme = scheme
        #: The minor version of HTTP/1 that the client speaks.
        self.minor = minor
        self._body = b""
        #: Whether ``_body`` is the body; see :data:`BODY_IS_LARGE` and the others.
        self.body_state = _BODY_IS_HERE
        #: What the client gets, if this hook answers the request.
        self.answer: HookAnswer | None = None
        #: The names of the attributes that were written; headers and query tell by themselves.
        self.written: tuple[str, ...] = ()

    def begin_with(
        self,
        upstream: str | None,
        hash_key: str | None,
        cluster_key: str | tuple[str, ...] | None,
    ) -> None:
        """Take over what earlier hooks have chosen."""
        self._upstream, self._hash_key, self._cluster_key = upstream, hash_key, cluster_key

    def take_body(self, body: SeenBody | None) -> None:
        """Take what is known of the request's body; ``None`` if nobody has waited for it."""
        if body is None:
            self.body_state = BODY_IS_UNKNOWN
        elif body.data is None:
            self.body_state = BODY_IS_LARGE
        else:
            self._body = body.data

    def went_to(self, upstream: str | None) -> None:
        """Note the upstream that the request has gone to."""
        self._upstream = upstream

    @property
    def context(self) -> dict[str, Any]:
        """A dict that the hooks of this request share, for as long as the request lasts."""
        if self._context is None:
            self._context = {}
        return self._context

    @property
    def known_context(self) -> dict[str, Any] | None:
        """The context, or ``None`` if no hook has asked for it."""
        return self._context

    @property
    def client(self) -> str:
        """The client's address, without port."""
        return self._address.decode("ascii")

    @property
    def peer(self) -> str:
        """The address of whoever is connected: the client's, or that of a trusted proxy."""
        return (self._peer or self._address).decode("ascii")

    @property
    def tls(self) -> HookTls | None:
        """The client's TLS; ``None`` if it came without."""
        return None if self._tls is None else seen_tls(self._tls)

    @property
    def client_cert(self) -> ClientCertificate | None:
        """The certificate that the client has shown, and that was verified."""
        return None if self._tls is None else seen_tls(self._tls).client_cert

    # What the client sent, before any hook changed it.

    @property
    def sent_head(self) -> str:
        """The whole head, up to and including its empty line."""
        if self._sent:
            return self._sent.decode("latin-1")
        # This request was made without a head, as in tests.
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return f"{self.method} {self.uri} HTTP/1.{self.minor}\r\n{fields}\r\n"

    @property
    def sent_line(self) -> str:
        """The request line, without CRLF."""
        sent = self._sent
        if sent:
            return sent[: sent.find(b"\r\n")].decode("latin-1")
        return self.sent_head.partition("\r\n")[0]

    @property
    def sent_uri(self) -> str:
        """Path and query, even if the client has sent a whole URL."""
        target = self.sent_line.split(" ")[1]
        if target[0] == "/" or "://" not in target:
            return target
        # As in the parser, an empty path is "/" (RFC 9112 3.2.1).
        rest = target.partition("://")[2]
        for place, letter in enumerate(rest):
            if letter == "/":
                return rest[place:]
            if letter == "?":
                return "/" + rest[place:]
        return "/"

    # What the request asks for.

    def _as_text(self) -> str:
        if self._uri is None:
            self._uri = self._raw_uri.decode("latin-1")
        return self._uri

    @property
    def method(self) -> str:
        """The method as the client sent it, such as ``GET``."""
        raw_method = self.raw_method
        if raw_method is GET:
            return "GET"
        return _METHODS.get(raw_method) or raw_method.decode("ascii")

    @method.setter
    def method(self, value: Any) -> None:
        if not isinstance(value, str) or not _METHOD.fullmatch(value) or not _is_method(value):
            raise ValueError(f"method: expected a method such as GET, got {_shown(value)}")
        self.raw_method = value.encode("ascii")
        self.written += ("method",)

    @property
    def host(self) -> str:
        """The name that the client asks for, in lower case and without a port.

        A hook may set it with a port.
        """
        raw = self.headers.own.get("host")
        return "" if raw is None else normal_host(raw)

    @host.setter
    def host(self, value: Any) -> None:
        self.headers.set("host", value)

    @property
    def uri(self) -> str:
        """Path and query, as the client sent them."""
        query = self._query
        if query is not None and query.changed:
            text = query.text
            return self.path + ("?" + text if text else "")
        return self._as_text()

    @uri.setter
    def uri(self, value: Any) -> None:
        if (
            not isinstance(value, str)
            or len(value) > _MAX_TARGET
            or _TARGET.fullmatch(value) is None
        ):
            raise ValueError(f"uri: expected a path with its query, got {_shown(value)}")
        self._uri = value
        self._query = None
        self.written += ("uri",)

    @property
    def path(self) -> str:
        """The path as the client sent it: percent-encoded, without the query."""
        return self._as_text().partition("?")[0]

    @path.setter
    def path(self, value: Any) -> None:
        if not _is_part(value) or value[:1] != "/":
            raise ValueError(f"path: expected one that begins with /, got {_shown(value)}")
        query = self._as_text().partition("?")[2]
        text = quote(value, safe=_IN_PATH)
        if len(text) + len(query) >= _MAX_TARGET:
            raise ValueError(f"path: expected at most {_MAX_TARGET} characters with the query")
        # ``_query`` stays, with what the hook has written to it.
        self._uri = text + ("?" + query if query else "")
        self.written += ("uri",)

    @property
    def query_string(self) -> str:
        """What follows the ``?``, as the client sent it."""
        return self.uri.partition("?")[2]

    @query_string.setter
    def query_string(self, value: Any) -> None:
        if not _is_part(value):
            raise ValueError(f"query_string: expected text, got {_shown(value)}")
        text = quote(value, safe=_IN_PATH + "?")
        self.uri = self.path + ("?" + text if text else "")

    @property
    def query(self) -> Query:
        """The fields of the query, decoded."""
        if self._query is None:
            self._query = Query(self._as_text().partition("?")[2])
        return self._query

    @property
    def headers(self) -> Headers:
        """The headers; see :class:`slardar.hooks.headers.Headers`."""
        if self._headers is None:
            self._headers = Headers(
                self._block, self._own, OF_REQUEST, self._host, self._sent, self._request_id
            )
            self._headers.changed = self._edited
        return self._headers

    @property
    def block(self) -> bytes:
        """The lines of ``headers``, as :class:`slardar.hooks.headers.Headers` has them."""
        headers = self._headers
        return self._block if headers is None else headers.block

    @property
    def own_changed(self) -> bool:
        """Whether a header was written that the proxy writes itself."""
        return self._headers is not None and self._headers.own_changed

    def put(self, name: str, value: str) -> None:
        """See :meth:`slardar.hooks.headers.Headers.put`."""
        key, wanted, start = check_name(name)
        if key in OF_REQUEST:
            self.headers.put(name, value)
        else:
            self.put_lines(wanted, start + value.strip(" ").encode("ascii"))

    def put_lines(self, name: bytes, made: bytes) -> None:
        """See :meth:`slardar.hooks.headers.Headers.put_lines`."""
        if self._headers is None:
            # Most calls of Lua need nothing else of the headers, and so not the object.
            block = _put_lines(self._block, name, made, MAX_LINES, MAX_SIZE)
            if block is not None:
                self._block = block
                self._edited = True
                return
        self.headers.put_lines(name, made)

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name, in a new dict: a change of it changes no header."""
        found: dict[str, str] = {}
        for value in self.headers.get_all("cookie"):
            for pair in value.split(";"):
                name, separator, text = pair.partition("=")
                if separator:
                    found.setdefault(name.strip(), text.strip().strip('"'))
        return found

    @property
    def body(self) -> bytes:
        """The body.

        Raises BodyTooLarge, which ends the hook, if the body is too large for hooks.
        """
        if self.body_state == BODY_IS_LARGE:
            raise BodyTooLarge
        if self.body_state == BODY_IS_UNKNOWN:
            raise ValueError("body: nobody has waited for it")
        return self._body

    @body.setter
    def body(self, value: Any) -> None:
        if _is_text(value):
            value = value.encode()
        if type(value) is not bytes or len(value) > _MAX_BODY:
            raise ValueError(f"body: expected bytes or text of at most {_MAX_BODY} bytes")
        self._body = value
        self.body_state = _BODY_IS_HERE
        own = self.headers.own
        own.pop("transfer-encoding", None)
        own["content-length"] = b"%d" % len(value)
        self.written += ("body",)

    @property
    def known_body(self) -> bytes | None:
        """The body, or ``None`` if it is too large for hooks or nobody has waited for it."""
        return self._body if self.body_state == _BODY_IS_HERE else None

    @property
    def body_too_large(self) -> bool:
        """Whether the request has more of a body than ``hooks.body``."""
        return self.body_state == BODY_IS_LARGE

    @property
    def has_body(self) -> bool:
        """Whether the request has a body of any size, read or not."""
        return self.body_state != _BODY_IS_HERE or len(self._body) > 0

    @property
    def upstream(self) -> str | None:
        """The upstream that the request goes to as it is now, or ``None``.

        A hook has chosen the upstream, or the routes and the Host lead to it.
        """
        if self._upstream is not None or self._route is None:
            return self._upstream
        found = self._route(self.host, self.path)
        return found if isinstance(found, str) else None

    @upstream.setter
    def upstream(self, value: Any) -> None:
        if value is not None and not (isinstance(value, str) and 0 < len(value) <= 255):
            raise ValueError(f"upstream: expected a name or None, got {_shown(value)}")
        self._upstream = value
        self.written += ("upstream",)

    @property
    def chosen_upstream(self) -> str | None:
        """The upstream that a hook has chosen; ``None`` leaves it to routes and Host."""
        return self._upstream

    @property
    def hash_key(self) -> str | None:
        """The key for the hash balancers."""
        return self._hash_key

    @hash_key.setter
    def hash_key(self, value: Any) -> None:
        if value is not None and not _is_key(value):
            raise ValueError(f"hash_key: expected a text or None, got {_shown(value)}")
        # As in nginx, an empty key is no key.
        self._hash_key = value or None
        self.written += ("hash_key",)

    @property
    def cluster_key(self) -> str | tuple[str, ...] | None:
        """The name of the cluster to try first, or several names in order."""
        return self._cluster_key

    @cluster_key.setter
    def cluster_key(self, value: Any) -> None:
        names = value if isinstance(value, list | tuple) else (value,)
        if value is not None and (len(names) > 64 or not all(map(_is_key, names))):
            raise ValueError(
                f"cluster_key: expected a cluster's name, a list of them or None,"
                f" got {_shown(value)}"
            )
        self._cluster_key = value if value is None or isinstance(value, str) else tuple(names)
        self.written += ("cluster_key",)

    @property
    def headers_changed(self) -> bool:
        """Whether a header was written."""
        headers = self._headers
        return self._edited if headers is None else headers.changed

    @property
    def uri_changed(self) -> bool:
        """Whether the path or the query was written."""
        return "uri" in self.written or (self._query is not None and self._query.changed)

    # Answering.

    def reject(self, status: Any, message: Any = "") -> None:
        """Answer with an error, a status from 400 to 599; 444 closes without a reply."""
        if type(status) is not int or not 400 <= status <= 599:
            raise ValueError(f"reject: expected a status from 400 to 599, got {_shown(status)}")
        if not _is_text(message) or len(message) > _MAX_BODY:
            raise ValueError(f"reject: expected a text, got {_shown(message)}")
        self.answer = HookAnswer(status, message)

    def respond(self, status: Any, body: Any = "", headers: Any = None) -> None:
        """Answer with a status from 200 to 599, a body and headers.

        ``headers`` is a mapping, or pairs of name and value.
        """
        if type(status) is not int or not 200 <= status <= 599:
            raise ValueError(f"respond: expected a status from 200 to 599, got {_shown(status)}")
        if _is_text(body):
            body = body.encode()
        if not isinstance(body, bytes) or len(body) > _MAX_BODY:
            raise ValueError(f"respond: expected text or bytes of at most {_MAX_BODY} bytes")
        made = Headers(b"", None, _OF_REPLY)
        if headers is not None:
            pairs = headers.items() if isinstance(headers, Mapping | Headers) else headers
            for name, value in pairs:
                for one in value if isinstance(value, list | tuple) else (value,):
                    made.add(name, one)
        if body and made.get("content-type") is None:
            made.set("Content-Type", "text/plain; charset=utf-8")
        self.answer = HookAnswer(status, None, body, made.lines)

    def redirect(self, url: Any, status: Any = 302) -> None:
        """Send the client elsewhere.  ``url`` is a URL or a path."""
        if status not in (301, 302, 303, 307, 308) or type(status) is not int:
            raise ValueError(f"redirect: expected 301, 302, 303, 307 or 308, got {_shown(status)}")
        if not _is_part(url) or not url:
            raise ValueError(f"redirect: expected a URL, got {_shown(url)}")
        place = quote(url, safe=_IN_PATH + "?#")
        self.answer = HookAnswer(status, None, b"", [b"Location: " + place.encode("ascii")])

    def exit(self, errno: Any) -> None:
        """Answer with an error of ``errno``; ``errno.OK`` lets the request go on.

        With a status from 200 to 599 the client gets the status, without an error code.
        """
        if type(errno) is int and 200 <= errno <= 599:
            self.answer = HookAnswer(errno, "" if errno >= 400 else None)
            return
        if not isinstance(errno, Errno):
            raise ValueError(f"exit: expected one of errno or a status, got {_shown(errno)}")
        self.answer = HookAnswer(errno.httpcode, errno.msg, code=errno.code) if errno.code else None

    def __repr__(self) -> str:
        return f"<HookRequest {self.method} {self._as_text()}>"


class HookResponse:
    """A reply on its way to the client, before its first byte is sent.

    For ``block``, ``own`` and ``sent`` see :class:`slardar.hooks.headers.Headers`.
    """

    __slots__ = ("_block", "_headers", "_own", "_sent", "_status", "error", "written")

    def __init__(
        self,
        status: int,
        block: bytes,
        own: dict[str, bytes] | None,
        sent: bytes = b"",
        error: str | None = None,
    ) -> None:
        self._status = status
        self._sent = sent
        #: Why slardar made this reply; ``None`` if a server made it.
        self.error = error
        self._block = block
        self._own = own
        self._headers: Headers | None = None
        #: The names of the attributes that were written; headers tell by themselves.
        self.written: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """The status that the client gets, from 200 to 599 if a hook sets it."""
        return self._status

    @status.setter
    def status(self, value: Any) -> None:
        # By now it is decided whether the reply has a body.
        bodiless = (204, 304)
        if type(value) is not int or not 200 <= value <= 599:
            raise ValueError(f"status: expected one from 200 to 599, got {_shown(value)}")
        if (value in bodiless) != (self._status in bodiless):
            raise ValueError(f"status: {self._status} cannot become {value}: one has no body")
        self._status = value
        self.written += ("status",)

    @property
    def headers(self) -> Headers:
        """The headers; see :class:`slardar.hooks.headers.Headers`."""
        if self._headers is None:
            self._headers = Headers(self._block, self._own, _OF_REPLY, b"", self._sent)
        return self._headers

    @property
    def headers_changed(self) -> bool:
        """Whether a header was written."""
        return self._headers is not None and self._headers.changed

    def __repr__(self) -> str:
        return f"<HookResponse {self._status}>"


class Query:
    """The fields of a query, in order.  A name may have several values."""

    __slots__ = ("_fields", "_known_size", "changed")

    def __init__(self, text: str) -> None:
        #: The characters of the query in a URL; -1 until they are counted.
        self._known_size = -1
        # All fields are read, however many there are: a field that a rule of a hook did not
        # see would still reach the server.
        self._fields = [_field(part) for part in text.split("&") if part]
        #: Whether a field was written.
        self.changed = False

    @property
    def text(self) -> str:
        """The query as it goes into a URL."""
        return urlencode(self._fields, errors="surrogateescape")

    def get(self, name: Any, default: Any = None) -> Any:
        """The first value of the field, or ``default``."""
        for key, value in self._fields:
            if key == name:
                return value
        return default

    def get_all(self, name: Any) -> list[str]:
        """Every value of the field, in order."""
        return [value for key, value in self._fields if key == name]

    def items(self) -> list[tuple[str, str]]:
        """The name and the value of every field, in order."""
        return list(self._fields)

    def keys(self) -> list[str]:
        """Each name once."""
        return list(dict.fromkeys(name for name, _ in self._fields))

    def values(self) -> list[str]:
        """Every value of every field."""
        return [value for _, value in self._fields]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, name: object) -> bool:
        return any(key == name for key, _ in self._fields)

    def __getitem__(self, name: Any) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value  # type: ignore[no-any-return]

    def set(self, name: Any, value: Any) -> None:
        """Replace every value of ``name`` by ``value``, or by each value of a list.

        Raises ValueError, as :meth:`add` does, for a value that is no text and no integer,
        and for a query that would be too long.
        """
        values = value if isinstance(value, list | tuple) else (value,)
        checked = [_checked_field(name, one) for one in values]
        kept = [field for field in self._fields if field[0] != name]
        before = self._size()
        self._take(checked, _size_of(kept), before)
        self._fields = kept + checked

    def __setitem__(self, name: Any, value: Any) -> None:
        self.set(name, value)

    def add(self, name: Any, value: Any) -> None:
        """Add a value behind those that the field has."""
        checked = _checked_field(name, value)
        size = self._size()
        self._take([checked], size, size)
        self._fields.append(checked)

    def remove(self, name: Any) -> None:
        """Remove every value of the field, if it has one."""
        kept = [field for field in self._fields if field[0] != name]
        if len(kept) != len(self._fields):
            self._fields = kept
            self._known_size = -1
            self.changed = True

    def __delitem__(self, name: Any) -> None:
        self.remove(name)

    def _size(self) -> int:
        if self._known_size < 0:
            self._known_size = _size_of(self._fields)
        return self._known_size

    def _take(self, fields: list[tuple[str, str]], kept: int, before: int) -> None:
        """Count ``fields``, which join other fields of ``kept`` characters.

        ``before`` is the size of the query before the write.
        """
        size = kept + _size_of(fields)
        # A query that the client sent too long may be made shorter.
        if size > _MAX_TARGET and size >= before:
            raise ValueError(f"query: expected at most {_MAX_TARGET} characters together")
        self._known_size = size
        self.changed = True

    def __repr__(self) -> str:
        return f"<Query {self.text}>"


def _field(part: str) -> tuple[str, str]:
    """The decoded name and value of one field; bytes that are no UTF-8 become surrogates."""
    name, _, value = part.partition("=")
    if "%" in part or "+" in part:
        name = unquote_plus(name, errors="surrogateescape")
        value = unquote_plus(value, errors="surrogateescape")
    return name, value


def _checked_field(name: object, value: object) -> tuple[str, str]:
    if type(value) is int:
        value = str(value)
    if not isinstance(name, str) or not isinstance(value, str):
        raise ValueError(f"query: expected texts, got {_shown(name)} and {_shown(value)}")
    # Each field is checked alone first, because quoting a huge one would take long.
    if len(name) + len(value) > _MAX_TARGET:
        raise ValueError(f"query: expected at most {_MAX_TARGET} characters together")
    try:
        (name + value).encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(f"query: expected texts, got {_shown(name)} and {_shown(value)}") from None
    return name, value


def _size_of(fields: list[tuple[str, str]]) -> int:
    """The characters of fields in a URL, with an ``=`` and an ``&`` for each field."""
    return len(urlencode(fields, errors="surrogateescape")) + 1 if fields else 0


@lru_cache(maxsize=64)
def _is_method(text: str) -> bool:
    """Whether slardar accepts a request with this method from a client."""
    try:
        parse_request(b"%b / HTTP/1.1\r\nHost: x\r\n\r\n" % text.encode("ascii"))
    except BadMessage:
        return False
    return True


def _is_part(value: object) -> bool:
    """Whether ``value`` may become a part of a URL once it is quoted."""
    return _is_text(value) and len(value) <= _MAX_TARGET and not _CONTROLS.search(value)


def _is_text(value: object) -> TypeGuard[str]:
    """Whether ``value`` is a text that can be sent; lone surrogates cannot be sent."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_key(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_KEY


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and -(10**9) < value < 10**9:
        return str(value)
    return ascii(value[:60]) if isinstance(value, str) else f"a {type(value).__name__}"


_OF_MAPPING: Final = frozenset(("get", "get_all", "items", "keys", "values"))
_OF_CHANGING: Final = frozenset(("set", "add", "remove"))

#: The attributes that a script may read or call, for each class.
READABLE: Final[Mapping[type, frozenset[str]]] = {
    HookRequest: frozenset(
        (
            "body",
            "body_too_large",
            "client",
            "client_cert",
            "cluster_key",
            "context",
            "cookies",
            "exit",
            "hash_key",
            "headers",
            "host",
            "method",
            "path",
            "query",
            "query_string",
            "redirect",
            "reject",
            "respond",
            "scheme",
            "tls",
            "upstream",
            "uri",
        )
    ),
    HookTls: frozenset(("cipher", "client_cert", "sni", "version")),
    ClientCertificate: frozenset(
        ("dns_names", "emails", "fingerprint", "issuer", "not_after", "serial", "subject")
    ),
    HookResponse: frozenset(("error", "headers", "status")),
    Headers: _OF_MAPPING | _OF_CHANGING | {"pop", "setdefault", "update"},
    Query: _OF_MAPPING | _OF_CHANGING,
    Errno: frozenset(("code", "httpcode", "msg")),
}

#: The attributes that a script may set, for each class.
WRITABLE: Final[Mapping[type, frozenset[str]]] = {
    HookRequest: frozenset(
        (
            "body",
            "cluster_key",
            "hash_key",
            "host",
            "method",
            "path",
            "query_string",
            "upstream",
            "uri",
        )
    ),
    HookTls: frozenset(),
    ClientCertificate: frozenset(),
    HookResponse: frozenset(("status",)),
    # A script sets items of these two: ``headers["X-A"] = "b"``.
    Headers: frozenset(),
    Query: frozenset(),
    Errno: frozenset(),
}
