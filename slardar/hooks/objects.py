"""What a hook sees of a request and of its reply.

Plain values that are the hook's own: whatever it does to them touches nothing of the
proxy until :mod:`slardar.hooks.effects` takes over what changed (the lines of a head are
the proxy's own until a header is written, and are only read).  Every value is checked
when it is written, and refused with a ValueError that a hook may catch.  What comes from
a hook has no type in the signatures: where mypyc compiles this, it would check that first,
and its message for a tuple of tuples of itself never ends.
:data:`READABLE` and :data:`WRITABLE` say which names a script may use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, TypeGuard
from urllib.parse import quote, unquote_plus, urlencode

from slardar.hooks.errno import Errno
from slardar.hooks.headers import Headers
from slardar.http1.bodies import SeenBody
from slardar.http1.headers import REPLY_SPECIAL, REQUEST_SPECIAL
from slardar.http1.heads import BadMessage
from slardar.http1.request import normal_host, parse_request

__all__ = [
    "BODY_IS_LARGE",
    "BODY_IS_UNKNOWN",
    "READABLE",
    "WRITABLE",
    "HookAnswer",
    "BodyTooLarge",
    "HookRequest",
    "HookResponse",
    "Query",
]

#: What there is of a request's body: all of it, or nothing; less, since it has more than
#: ``hooks.body``; or nobody has waited for it.
_BODY_IS_HERE: Final = 0
BODY_IS_LARGE: Final = 1
BODY_IS_UNKNOWN: Final = 2

#: Characters of a body that a hook may answer with or give a request.
_MAX_BODY: Final = 1 << 20
#: Characters of a key and of a target; a query that is written by its fields may have as
#: many besides the path.  Four times ``limits.url`` and all of ``limits.head``: a hook that
#: adds to what a client has sent must not fail, and so be suspended, by what is sent.
_MAX_KEY: Final = 32768
_MAX_TARGET: Final = 32768

_METHOD: Final = re.compile(r"[A-Z][A-Z-]{0,31}")
#: RFC 3986 3.3 and 3.4, and the few more that servers accept; "%" stays as it is.
_IN_PATH: Final = "%/:@!$&'()*+,;=-._~|[]"
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
#: What llhttp takes for one: no blank, no fragment, nothing beyond ASCII.
_TARGET: Final = re.compile(r"/[\x21-\x22\x24-\x7e]*")

#: Headers of a request that the proxy writes anew from what a hook leaves there.
_REWRITTEN: Final = frozenset(
    (b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-request-id")
)
#: The headers that are the proxy's own, and whether a hook may write them.
_OF_REQUEST: Final = {name.decode("ascii"): name in _REWRITTEN for name in REQUEST_SPECIAL}
_OF_REPLY: Final = dict.fromkeys([name.decode("ascii") for name in REPLY_SPECIAL], False)

#: Methods that nearly all requests have, for they need not be made each time.
_METHODS: Final = {
    method.encode("ascii"): method for method in ("GET", "POST", "HEAD", "PUT", "DELETE")
}


class BodyTooLarge(BaseException):
    """A hook has read a body that is too large for hooks; no hook can name or catch it."""


class HookAnswer:
    """What the client gets instead of a server's reply.

    ``status`` 444 closes the connection without one.  With a ``message`` the proxy makes
    its usual error of it; with a ``body`` it is sent as it is, with ``headers``.
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
        #: Lines as they go on the wire.
        self.headers = list(headers)
        #: For ``X-Error-Code``.
        self.code = code

    def __repr__(self) -> str:
        return f"<HookAnswer {self.status}>"


class HookRequest:
    """A request on its way in.

    ``raw_method``, ``raw_uri`` and ``host`` are the parsed head's; for ``head``, ``own`` and
    ``sent`` see :class:`slardar.hooks.headers.Headers`.  A text is made of the bytes when a
    hook looks at them, and not for each request.
    """

    __slots__ = (
        "_address",
        "_body",
        "_cluster_key",
        "_context",
        "_hash_key",
        "_head",
        "_headers",
        "_host",
        "_own",
        "_query",
        "_raw_uri",
        "_route",
        "_sent",
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
        head: list[bytes],
        own: dict[str, bytes] | None = None,
        host: bytes = b"",
        address: bytes = b"",
        scheme: str = "http",
        minor: int = 1,
        context: dict[str, Any] | None = None,
        sent: bytes = b"",
        route: Any = None,
    ) -> None:
        self._sent = sent
        #: The method as bytes.
        self.raw_method = raw_method
        self._raw_uri = raw_uri
        self._uri: str | None = None
        self._head = head
        self._own = own
        self._host = host
        self._headers: Headers | None = None
        self._query: Query | None = None
        self._upstream: str | None = None
        self._hash_key: str | None = None
        self._cluster_key: str | tuple[str, ...] | None = None
        self._address = address
        self._context = context
        #: ``route(host, path)`` is the name of the upstream that these lead to, or ``None``.
        self._route = route
        self.scheme = scheme
        #: The minor version of HTTP/1 that the client speaks.
        self.minor = minor
        self._body = b""
        #: Whether ``_body`` is the body, see :data:`BODY_IS_LARGE`.
        self.body_state = _BODY_IS_HERE
        #: What the client gets, if a hook has decided that.
        self.answer: HookAnswer | None = None
        #: The names of what was written, apart from headers and query.
        self.written: tuple[str, ...] = ()

    def begin_with(
        self,
        upstream: str | None,
        hash_key: str | None,
        cluster_key: str | tuple[str, ...] | None,
    ) -> None:
        """What the hooks before this one have chosen."""
        self._upstream, self._hash_key, self._cluster_key = upstream, hash_key, cluster_key

    def take_body(self, body: SeenBody | None) -> None:
        """The request has a body, and this is known of it; ``None``: nobody has waited."""
        if body is None:
            self.body_state = BODY_IS_UNKNOWN
        elif body.data is None:
            self.body_state = BODY_IS_LARGE
        else:
            self._body = body.data

    def went_to(self, upstream: str | None) -> None:
        """This is the upstream that the request has gone to."""
        self._upstream = upstream

    def detach(self) -> None:
        """Be as it is now, whatever becomes of the proxy's head."""
        if self._headers is None:
            self._head = self._head.copy()
        else:
            self._headers.detach()

    @property
    def context(self) -> dict[str, Any]:
        """A hook's own, for as long as the request lasts."""
        if self._context is None:
            self._context = {}
        return self._context

    @property
    def known_context(self) -> dict[str, Any] | None:
        """The same, or ``None`` if nobody has asked for it."""
        return self._context

    @property
    def client(self) -> str:
        """The client's address, without port."""
        return self._address.decode("ascii")

    # What the client sent, whatever hooks have made of it.

    @property
    def sent_head(self) -> str:
        """The whole head, up to and with its empty line."""
        if self._sent:
            return self._sent.decode("latin-1")
        # One that was made without a head.
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return f"{self.method} {self.uri} HTTP/1.{self.minor}\r\n{fields}\r\n"

    @property
    def sent_line(self) -> str:
        """The request line, without its end."""
        sent = self._sent
        if sent:
            return sent[: sent.find(b"\r\n")].decode("latin-1")
        return self.sent_head.partition("\r\n")[0]

    @property
    def sent_uri(self) -> str:
        """Path and query; also where the client has sent a whole URL."""
        target = self.sent_line.split(" ")[1]
        if target[0] == "/" or "://" not in target:
            return target
        # As the parser takes it, RFC 9112 3.2.1: an empty path is "/".
        rest = target.partition("://")[2]
        for place, letter in enumerate(rest):
            if letter == "/":
                return rest[place:]
            if letter == "?":
                return "/" + rest[place:]
        return "/"

    # What it asks for.

    def _as_text(self) -> str:
        if self._uri is None:
            self._uri = self._raw_uri.decode("latin-1")
        return self._uri

    @property
    def method(self) -> str:
        """As sent: ``GET``."""
        raw_method = self.raw_method
        return _METHODS.get(raw_method) or raw_method.decode("ascii")

    @method.setter
    def method(self, value: Any) -> None:
        if not isinstance(value, str) or not _METHOD.fullmatch(value) or not _is_method(value):
            raise ValueError(f"method: expected a method such as GET, got {_shown(value)}")
        self.raw_method = value.encode("ascii")
        self.written += ("method",)

    @property
    def host(self) -> str:
        """The name asked for, lower case, without port; with one when it is set."""
        raw = self.headers.own.get("host")
        return "" if raw is None else normal_host(raw)

    @host.setter
    def host(self, value: Any) -> None:
        self.headers.set("host", value)

    @property
    def uri(self) -> str:
        """Path and query, as sent."""
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
        """The path without query, as sent: still percent-encoded."""
        return self._as_text().partition("?")[0]

    @path.setter
    def path(self, value: Any) -> None:
        if not _is_part(value) or value[:1] != "/":
            raise ValueError(f"path: expected one that begins with /, got {_shown(value)}")
        query = self._as_text().partition("?")[2]
        text = quote(value, safe=_IN_PATH)
        if len(text) + len(query) >= _MAX_TARGET:
            raise ValueError(f"path: expected at most {_MAX_TARGET} characters with the query")
        # The fields of the query, and what was written to them, stay.
        self._uri = text + ("?" + query if query else "")
        self.written += ("uri",)

    @property
    def query_string(self) -> str:
        """What follows the ``?``, as sent."""
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
            self._headers = Headers(self._head, self._own, _OF_REQUEST, self._host, self._sent)
        return self._headers

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name; what is set here goes nowhere."""
        found: dict[str, str] = {}
        for value in self.headers.get_all("cookie"):
            for pair in value.split(";"):
                name, separator, text = pair.partition("=")
                if separator:
                    found.setdefault(name.strip(), text.strip().strip('"'))
        return found

    @property
    def body(self) -> bytes:
        """The body.  Raises BodyTooLarge, which ends the hook."""
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
        """Whether the request has one, read or not, of any size."""
        return self.body_state != _BODY_IS_HERE or len(self._body) > 0

    @property
    def upstream(self) -> str | None:
        """The upstream that the request goes to as it is now, by a hook's choice or by
        routes and Host; ``None`` if there is none."""
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
        """The upstream that a hook has chosen; ``None``: by routes and Host."""
        return self._upstream

    @property
    def hash_key(self) -> str | None:
        """The key for the hash balancers."""
        return self._hash_key

    @hash_key.setter
    def hash_key(self, value: Any) -> None:
        if value is not None and not _is_key(value):
            raise ValueError(f"hash_key: expected a text or None, got {_shown(value)}")
        # As nginx: an empty one is none.
        self._hash_key = value or None
        self.written += ("hash_key",)

    @property
    def cluster_key(self) -> str | tuple[str, ...] | None:
        """The named cluster to be tried first, or several in order."""
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
        return self._headers is not None and self._headers.changed

    @property
    def uri_changed(self) -> bool:
        """Whether the path or the query was written."""
        return "uri" in self.written or (self._query is not None and self._query.changed)

    # Answering.

    def reject(self, status: Any, message: Any = "") -> None:
        """Answer with an error from 400 to 599; 444 closes without a reply."""
        if type(status) is not int or not 400 <= status <= 599:
            raise ValueError(f"reject: expected a status from 400 to 599, got {_shown(status)}")
        if not _is_text(message) or len(message) > _MAX_BODY:
            raise ValueError(f"reject: expected a text, got {_shown(message)}")
        self.answer = HookAnswer(status, message)

    def respond(self, status: Any, body: Any = "", headers: Any = None) -> None:
        """Answer with this; ``headers`` is a mapping, or pairs."""
        if type(status) is not int or not 200 <= status <= 599:
            raise ValueError(f"respond: expected a status from 200 to 599, got {_shown(status)}")
        if _is_text(body):
            body = body.encode()
        if not isinstance(body, bytes) or len(body) > _MAX_BODY:
            raise ValueError(f"respond: expected text or bytes of at most {_MAX_BODY} bytes")
        made = Headers([b""], None, _OF_REPLY)
        if headers is not None:
            pairs = headers.items() if isinstance(headers, Mapping | Headers) else headers
            for name, value in pairs:
                for one in value if isinstance(value, list | tuple) else (value,):
                    made.add(name, one)
        if body and made.get("content-type") is None:
            made.set("Content-Type", "text/plain; charset=utf-8")
        self.answer = HookAnswer(status, None, body, made.lines)

    def redirect(self, url: Any, status: Any = 302) -> None:
        """Send the client elsewhere; ``url`` is a URL or a path."""
        if status not in (301, 302, 303, 307, 308) or type(status) is not int:
            raise ValueError(f"redirect: expected 301, 302, 303, 307 or 308, got {_shown(status)}")
        if not _is_part(url) or not url:
            raise ValueError(f"redirect: expected a URL, got {_shown(url)}")
        place = quote(url, safe=_IN_PATH + "?#")
        self.answer = HookAnswer(status, None, b"", [b"Location: " + place.encode("ascii")])

    def exit(self, errno: Any) -> None:
        """Answer with one of ``errno``'s errors; ``errno.OK`` lets the request go on.

        A status from 200 to 599 is that status without a code.
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
    """A reply on its way out, before its first byte.

    For ``head``, ``own`` and ``sent`` see :class:`slardar.hooks.headers.Headers`.
    """

    __slots__ = ("_head", "_headers", "_own", "_sent", "_status", "error", "written")

    def __init__(
        self,
        status: int,
        head: list[bytes],
        own: dict[str, bytes] | None,
        sent: bytes = b"",
        error: str | None = None,
    ) -> None:
        self._status = status
        self._sent = sent
        #: Why slardar has made this reply; ``None`` if it is a server's.
        self.error = error
        self._head = head
        self._own = own
        self._headers: Headers | None = None
        #: The names of what was written, apart from headers.
        self.written: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """The status."""
        return self._status

    @status.setter
    def status(self, value: Any) -> None:
        # What has no body, and what has one, is decided by then.
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
            self._headers = Headers(self._head, self._own, _OF_REPLY, b"", self._sent)
        return self._headers

    @property
    def headers_changed(self) -> bool:
        """Whether a header was written."""
        return self._headers is not None and self._headers.changed

    def __repr__(self) -> str:
        return f"<HookResponse {self._status}>"


class Query:
    """The fields of a query, in order; names may have several values."""

    __slots__ = ("_fields", "_known_size", "changed")

    def __init__(self, text: str) -> None:
        #: The characters of all of it in a URL; -1 until somebody needs it.
        self._known_size = -1
        # All of them, however many: what a rule does not see, a server would.
        self._fields = [_field(part) for part in text.split("&") if part]
        #: Something was written.
        self.changed = False

    @property
    def text(self) -> str:
        """As it goes into a URL."""
        return urlencode(self._fields, errors="surrogateescape")

    def get(self, name: Any, default: Any = None) -> Any:
        """The first value, or ``default``."""
        for key, value in self._fields:
            if key == name:
                return value
        return default

    def get_all(self, name: Any) -> list[str]:
        """Every value, in order."""
        return [value for key, value in self._fields if key == name]

    def items(self) -> list[tuple[str, str]]:
        """Every field, in order."""
        return list(self._fields)

    def keys(self) -> list[str]:
        """Each name once."""
        return list(dict.fromkeys(name for name, _ in self._fields))

    def values(self) -> list[str]:
        """Every value."""
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
        """Replace every value of ``name`` by one, or by each of a list.

        Raises ValueError, as :meth:`add` does, for what is no text and for a query that
        would be too long.
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
        """One more value."""
        checked = _checked_field(name, value)
        size = self._size()
        self._take([checked], size, size)
        self._fields.append(checked)

    def remove(self, name: Any) -> None:
        """Remove every value, if there is one."""
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
        """Count fields that come to others of ``kept`` characters."""
        size = kept + _size_of(fields)
        # One that came too long may be made shorter.
        if size > _MAX_TARGET and size >= before:
            raise ValueError(f"query: expected at most {_MAX_TARGET} characters together")
        self._known_size = size
        self.changed = True

    def __repr__(self) -> str:
        return f"<Query {self.text}>"


def _field(part: str) -> tuple[str, str]:
    """Name and value of a field of a query, decoded; bytes that are no UTF-8 are kept."""
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
    # Each alone, or quoting them would take long.
    if len(name) + len(value) > _MAX_TARGET:
        raise ValueError(f"query: expected at most {_MAX_TARGET} characters together")
    try:
        (name + value).encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(f"query: expected texts, got {_shown(name)} and {_shown(value)}") from None
    return name, value


def _size_of(fields: list[tuple[str, str]]) -> int:
    """The characters of fields in a URL, each with its ``=`` and ``&``."""
    return len(urlencode(fields, errors="surrogateescape")) + 1 if fields else 0


@lru_cache(maxsize=64)
def _is_method(text: str) -> bool:
    """Whether slardar would take a request with this method from a client."""
    try:
        parse_request(b"%b / HTTP/1.1\r\nHost: x\r\n\r\n" % text.encode("ascii"))
    except BadMessage:
        return False
    return True


def _is_part(value: object) -> bool:
    """Whether it may become a part of a URL, once it is quoted."""
    return _is_text(value) and len(value) <= _MAX_TARGET and not _CONTROLS.search(value)


def _is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text that can be sent; lone surrogates cannot."""
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

#: For each class, the attributes that a script may read or call.
READABLE: Final[Mapping[type, frozenset[str]]] = {
    HookRequest: frozenset(
        (
            "body",
            "body_too_large",
            "client",
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
            "upstream",
            "uri",
        )
    ),
    HookResponse: frozenset(("error", "headers", "status")),
    Headers: _OF_MAPPING | _OF_CHANGING | {"pop", "setdefault", "update"},
    Query: _OF_MAPPING | _OF_CHANGING,
    Errno: frozenset(("code", "httpcode", "msg")),
}

#: And those that it may set.
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
    HookResponse: frozenset(("status",)),
    # These take items: ``headers["X-A"] = "b"``.
    Headers: frozenset(),
    Query: frozenset(),
    Errno: frozenset(),
}
