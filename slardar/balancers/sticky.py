"""``sticky``: a client stays on one server, which a signed cookie names.

The first request of a client goes where another balancer sends it (option ``fallback``).
The reply gets a cookie that names the server, and later requests with this cookie go to
this server, also while its state is ``drain``.  If the server is out of service, or an attempt on
it fails, the request goes to another one, and the reply gets that server's cookie.

The cookie's value is HMAC-SHA256 of the server's ``host:port``, 24 bytes of it, with the
option ``secret`` as the key.  So nothing is stored: the cookie is good after a restart, and on
every node that has the same secret.  A client cannot make a cookie, and does not learn a
server's address.  What is not the value of a server of this upstream is ignored.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final

from mypy_extensions import mypyc_attr

from slardar.balancers.base import (
    Balancer,
    Outcome,
    bad_option,
    hears_more,
    refuse_unknown_options,
)
from slardar.balancers.own import own_balancers
from slardar.errors import ConfigError
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["Sticky"]

#: A cookie's name (RFC 6265 4.1.1).
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SAME_SITE: Final = ("Lax", "None", "Strict")
#: The shortest secret, in characters, and the longest age of a cookie: 400 days, to which
#: browsers shorten a longer one (RFC 6265bis).
_SHORTEST: Final = 16
_OLDEST: Final = 400 * 24 * 3600
#: The bytes of a value, and the characters by which it is found; the others are only compared.
_BYTES: Final = 24
_FOUND_BY: Final = 12


@mypyc_attr(allow_interpreted_subclasses=True)
class Sticky(Balancer):
    """Sends a client to the server that its cookie names.

    Option ``secret`` (at least 16 characters) signs the cookies; it must be given.  ``cookie``
    is the cookie's name, default ``slardar``.  ``max_age``: seconds for which the browser keeps
    it; default: until the browser is closed.  ``secure`` (default false), ``http_only``
    (default true) and ``same_site`` (``Lax``, ``Strict`` or ``None``, default ``Lax``) are the
    cookie's attributes.  ``fallback``: the balancer for requests without a good cookie, default
    ``wrr``.
    """

    modes: ClassVar[tuple[str, ...]] = ("sticky",)

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        refuse_unknown_options(
            options,
            ("cookie", "fallback", "http_only", "max_age", "same_site", "secret", "secure"),
        )
        super().__init__(servers, {})
        self._all = servers
        self._secret = _secret(options)
        self._cookie, self._attributes = _attributes(options)
        self._fallback = _fallback(servers, options)
        self.is_told = self._fallback.is_told or hears_more(self, Sticky)
        # By the first characters of its value, each server with its value; made when needed.
        self._by_value: dict[str, tuple[Peer, bytes]] = {}
        self._servers: Sequence[Peer] = ()
        self._present: frozenset[Peer] = frozenset()

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        named = self._named(servers, request)
        return self._fallback.pick(servers, request) if named is None else named

    def pick_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer:
        named = self._named(servers, request)
        if named is None or named in left_out:
            return self._fallback.pick_without(servers, left_out, request)
        return named

    def preview(self, servers: Sequence[Peer], request: IRequest) -> Peer | None:
        named = self._named(servers, request)
        return self._fallback.preview(servers, request) if named is None else named

    def bound_to(self, request: IRequest) -> Peer | None:
        return self._server_of(request)

    def preview_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer | None:
        named = self._named(servers, request)
        if named is None or named in left_out:
            return self._fallback.preview_without(servers, left_out, request)
        return named

    def reply_headers(self, server: Peer, request: IRequest) -> Sequence[tuple[bytes, bytes]]:
        if self._server_of(request) is server:
            return ()
        value = _value(self._secret, self._cookie, server.key)
        return ((b"Set-Cookie", f"{self._cookie}={value}{self._attributes}".encode("ascii")),)

    def started(self, server: Peer) -> None:
        self._fallback.started(server)

    def failed(self, server: Peer) -> None:
        self._fallback.failed(server)

    def finished(self, server: Peer, outcome: Outcome) -> None:
        self._fallback.finished(server, outcome)

    def _named(self, servers: Sequence[Peer], request: IRequest) -> Peer | None:
        """The server of the request's cookie, if it is in service."""
        peer = self._server_of(request)
        if peer is None:
            return None
        if servers is not self._servers:
            self._servers = servers
            self._present = frozenset(servers)
        return peer if peer in self._present else None

    def _server_of(self, request: Any) -> Peer | None:
        """The server that the request's cookie names: of several cookies, the first good one.

        (The request is of any type: mypyc does not read the attributes of an interface of zope's.)
        """
        header = request.get_header("Cookie")
        if not header or self._cookie not in header:
            return None
        if not self._by_value:
            for peer in self._all:
                value = _value(self._secret, self._cookie, peer.key)
                self._by_value[value[:_FOUND_BY]] = (peer, value.encode("ascii"))
        for pair in header.split(";"):
            name, _, given = pair.partition("=")
            if name.strip() != self._cookie:
                continue
            given = given.strip()
            found = self._by_value.get(given[:_FOUND_BY])
            if found is not None and hmac.compare_digest(
                found[1], given.encode("utf-8", "surrogatepass")
            ):
                return found[0]
        return None


@lru_cache(maxsize=2**16)
def _value(secret: str, cookie: str, key: str) -> str:
    """The value of a server's cookie.

    It is cached, since each change of an upstream makes its balancer anew.
    """
    digest = hmac.digest(secret.encode(), f"{cookie}={key}".encode(), "sha256")
    return urlsafe_b64encode(digest[:_BYTES]).decode("ascii")


def _secret(options: Mapping[str, Any]) -> str:
    secret = options.get("secret")
    if not isinstance(secret, str) or len(secret) < _SHORTEST:
        # The value is not shown, as it may be a secret.
        raise ConfigError(
            f"secret: expected a string of at least {_SHORTEST} characters, the same on every node"
        )
    try:
        secret.encode()
    except UnicodeEncodeError:
        raise ConfigError("secret: expected a string of whole characters") from None
    return secret


def _attributes(options: Mapping[str, Any]) -> tuple[str, str]:
    """The cookie's name, and what follows its value."""
    cookie = options.get("cookie", "slardar")
    if not isinstance(cookie, str) or not _NAME.fullmatch(cookie):
        raise bad_option("cookie", "the name of a cookie", cookie)
    secure = options.get("secure", False)
    if not isinstance(secure, bool):
        raise bad_option("secure", "true or false", secure)
    http_only = options.get("http_only", True)
    if not isinstance(http_only, bool):
        raise bad_option("http_only", "true or false", http_only)
    same_site = options.get("same_site", "Lax")
    if same_site not in _SAME_SITE:
        raise bad_option("same_site", "Lax, Strict or None", same_site)
    # Browsers refuse these.
    if same_site == "None" and not secure:
        raise ConfigError('secure: expected true, as same_site is "None"')
    if cookie.lower().startswith(("__host-", "__secure-")) and not secure:
        raise ConfigError(f"secure: expected true, as the cookie's name is {cookie}")
    attributes = "; Path=/"
    if "max_age" in options:
        age = options["max_age"]
        if type(age) is not int or not 1 <= age <= _OLDEST:
            raise bad_option("max_age", f"a number of seconds from 1 to {_OLDEST}", age)
        attributes += f"; Max-Age={age}"
    if secure:
        attributes += "; Secure"
    if http_only:
        attributes += "; HttpOnly"
    return cookie, f"{attributes}; SameSite={same_site}"


def _fallback(servers: Sequence[Peer], options: Mapping[str, Any]) -> Balancer:
    mode = options.get("fallback", "wrr")
    own = own_balancers()
    names = sorted(name for name, kind in own.items() if not issubclass(kind, Sticky))
    if mode not in names:
        raise bad_option("fallback", f"one of {', '.join(names)}", mode)
    made: Balancer = own[mode](servers, {})
    return made
