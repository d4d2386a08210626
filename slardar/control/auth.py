"""Who may call the control channel: tokens, roles, and what a browser may not do.

Two rules hold without tokens.  The channel listens only where other machines cannot
reach it (:func:`check_endpoint`).  But a page of some website, opened in a browser on this very
machine, can reach the channel all the same.  So :meth:`Gate.admit` refuses requests
that a browser marks as another site's (``Origin``, ``Sec-Fetch-Site``) and requests
for a name that the site's own DNS may have pointed here (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from slardar.config import Network, Token
from slardar.control.guesses import Guesses
from slardar.control.names import EVERYTHING, Names
from slardar.errors import ConfigError, SlardarError

__all__ = ["Caller", "Gate", "RefusedError", "check_endpoint"]

#: The place of the interface among an endpoint's words, for an interface that is not given by name.
#: Taken from the signatures in twisted.internet.endpoints.
_INTERFACE = {"tcp": 2, "tcp6": 2, "ssl": 5}
_EXPECTED_HTTP = (
    "an endpoint of the loopback interface or a unix socket, such as tcp:1995:interface=127.0.0.1"
)
_EXPECTED_AMP = "a unix socket, such as unix:slardar.sock:mode=600"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class RefusedError(SlardarError):
    """A call is turned away before anyone looks at what it wants."""

    def __init__(self, status: int, message: str, wait: float = 0.0) -> None:
        self.status = status
        #: Seconds after which the call may be made again; 0 if waiting does not help.
        self.wait = wait
        super().__init__(message)


class Caller(Struct, frozen=True):
    """Who calls: a token's name, or ``http`` where there are no tokens."""

    name: str
    #: Whether the caller may make changes, or may only ask.
    is_admin: bool
    #: The names that the caller may see and change.
    names: Names = EVERYTHING


class Gate:
    """Admits callers by the head of their request, before a byte of its body.

    ``allow`` are the networks that may call; all may, if there are none.  ``seconds`` gives the
    time, for callers that guess tokens.
    """

    def __init__(
        self,
        tokens: Sequence[Token],
        allow: Sequence[Network] = (),
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._known = tuple(
            (
                bytes.fromhex(token.sha256),
                Caller(token.name, token.role == "admin", Names(token.names)),
            )
            for token in tokens
        )
        self._allow = tuple(allow)
        self._guesses = Guesses(seconds)

    def admit(self, header: Callable[[str], Sequence[str]], peer: str | None) -> Caller:
        """The caller of a request.

        ``header(name)`` gives every value of a header; ``peer`` is the caller's address, ``None``
        over a unix socket, which no browser uses.  Does not block.

        :raise RefusedError: 400 for two Hosts, 401 without a valid token, 403 for an address
            outside of ``allow`` and for what a browser was made to send, 429 after many wrong
            tokens from the caller's address.
        """
        self.check_browser(header, peer)
        if not self._known:
            return Caller("http", True)
        return self.caller_of(_bearer(header("Authorization")), peer)

    @property
    def has_tokens(self) -> bool:
        """Whether a caller needs a token."""
        return bool(self._known)

    def check_browser(self, header: Callable[[str], Sequence[str]], peer: str | None) -> None:
        """Refuse what :meth:`admit` refuses whoever calls; a caller needs no token for this.

        :raise RefusedError: 400 and 403, as there.
        """
        self.check_peer(peer)
        hosts = header("Host")
        if len(hosts) > 1:
            raise RefusedError(400, "expected one Host header")
        host = hosts[0].strip().lower() if hosts else ""
        _check_site(header("Origin"), header("Sec-Fetch-Site"), host)
        # HTTP/1.0 without Host is no browser either.
        if not self._known and hosts and peer is not None and not _is_own_name(host):
            raise RefusedError(
                403,
                "expected an address or localhost as Host; other names are taken "
                "only with control.tokens",
            )

    def caller_of(self, token: str | None, peer: str | None) -> Caller:
        """The caller with this token; ``None`` is a caller without one.

        :raise RefusedError: 401 for a token that is not known, 429 after many of them.
        """
        wait = self._guesses.wait(peer or "")
        if wait:
            raise RefusedError(429, "too many wrong tokens from this address: wait", wait)
        caller = None
        if token is not None:
            caller = self._find(token)
            if caller is None:
                self._guesses.note(peer or "")
        if caller is None:
            raise RefusedError(
                401, "expected Authorization: Bearer TOKEN, with a token that is known"
            )
        return caller

    def check_peer(self, peer: str | None) -> None:
        """Refuse an address outside of the networks that may call; ``None`` is a unix socket.

        :raise RefusedError: 403.
        """
        if not self._allow or peer is None:
            return
        address = _address(peer)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address is None or not any(address in network for network in self._allow):
            raise RefusedError(403, "this address is not in control.allow")

    def _find(self, token: str) -> Caller | None:
        """The caller who has this token.  Every wrong token takes as long to refuse."""
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        found = None
        for known, caller in self._known:
            if hmac.compare_digest(digest, known):
                found = caller
        return found


def _bearer(authorization: Sequence[str]) -> str | None:
    """The token in the headers ``Authorization``; an empty one, which nobody has, if they hold
    something else."""
    if not authorization:
        return None
    scheme, _, token = authorization[0].strip().partition(" ")
    return token.strip() if len(authorization) == 1 and scheme.lower() == "bearer" else ""


def _check_site(origins: Sequence[str], fetch_sites: Sequence[str], host: str) -> None:
    """Refuse what a browser sends for another site; other clients send neither header."""
    for site in fetch_sites:
        if site.strip().lower() not in ("same-origin", "none"):
            raise RefusedError(403, "a browser's cross-site request is refused (Sec-Fetch-Site)")
    for origin in origins:
        scheme, found, authority = origin.strip().lower().partition("://")
        port = _DEFAULT_PORTS.get(scheme, "")
        if not found or authority.removesuffix(port) != host.removesuffix(port):
            raise RefusedError(403, "a browser's cross-site request is refused (Origin)")


def _is_own_name(host: str) -> bool:
    """Whether a Host, in lower case, is one that no foreign DNS can give: an address,
    ``localhost`` or a name below it (RFC 6761, section 6.3)."""
    found = re.fullmatch(r"(?:\[(.+)\]|([^\[\]:]+))(?::[0-9]*)?", host)
    if found is None:
        return False
    if found[1]:
        return _address(found[1]) is not None
    name = found[2].removesuffix(".")
    return name == "localhost" or name.endswith(".localhost") or _address(name) is not None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def check_endpoint(
    endpoint: str, tokens: Sequence[Token], where: str = "control.http", is_amp: bool = False
) -> None:
    """Refuse a control endpoint that others can reach while there are no tokens.

    ``endpoint`` is a Twisted server endpoint string.  It is not checked whether the string is
    valid.  An endpoint of an unknown kind counts as one that others can reach.  With ``is_amp``, so
    does one of the loopback interface: a unix socket tells who calls, and serves as well.
    """
    if tokens:
        return
    words, options = _split_endpoint(endpoint)
    kind = words[0].lower()
    if kind == "unix":
        return
    if kind == "systemd" and (options.get("domain") or _word(words, 1)).upper() == "UNIX":
        return
    if kind in _INTERFACE and not is_amp:
        interface = options.get("interface") or _word(words, _INTERFACE[kind])
        address = _address(interface)
        if interface == "localhost" or (address is not None and address.is_loopback):
            return
    raise ConfigError(
        f"{where}: expected {_EXPECTED_AMP if is_amp else _EXPECTED_HTTP}, because control.tokens"
        f" is empty; got {endpoint}"
    )


def _word(words: Sequence[str], index: int) -> str:
    return words[index] if index < len(words) else ""


def _split_endpoint(endpoint: str) -> tuple[list[str], dict[str, str]]:
    """The words and the named values of an endpoint string; ``\\`` escapes what follows."""
    words: list[str] = []
    options: dict[str, str] = {}
    for part in re.findall(r"(?:\A|:)((?:\\.|[^:\\])*)", endpoint, re.DOTALL):
        name, equals, value = part.partition("=")
        if equals and not name.endswith("\\"):
            options[name] = _unescaped(value)
        else:
            words.append(_unescaped(part))
    return words or [""], options


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
