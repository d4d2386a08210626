"""``urllib.parse`` and ``ipaddress`` for hooks."""

from __future__ import annotations

import ipaddress
import urllib.parse
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final

from slardar.hooks.python.attributes import Namespace, register
from slardar.hooks.python.limits import name_of
from slardar.hooks.python.operators import compared

__all__ = ["IPADDRESS", "PARSE", "URLLIB"]

#: The most characters of a URL, or of a part of a URL.
MAX_URL: Final = 1 << 16
_MAX_FIELDS: Final = 1000

# urllib.parse quotes each character in Python code, so a tick can end the call meanwhile.


def _text(value: Any) -> Any:
    if type(value) not in (str, bytes):
        raise TypeError(f"expected a text, got {name_of(value)}")
    if len(value) > MAX_URL:
        raise ValueError(f"expected at most {MAX_URL} characters, got {len(value)}")
    return value


def _quote(text: Any, safe: str = "/") -> str:
    return urllib.parse.quote(_text(text), safe=_short(safe))


def _quote_plus(text: Any, safe: str = "") -> str:
    return urllib.parse.quote_plus(_text(text), safe=_short(safe))


def _short(safe: Any) -> str:
    if type(safe) is not str or len(safe) > 128:
        raise ValueError("expected a text of the characters to leave as they are")
    return safe


def _unquote(text: Any) -> str:
    return urllib.parse.unquote(_text(text))


def _unquote_plus(text: Any) -> str:
    if type(text) is not str:
        raise TypeError(f"expected a text, got {name_of(text)}")
    return urllib.parse.unquote_plus(_text(text))


def _urlencode(fields: Any, doseq: bool = False) -> str:
    pairs = list(fields.items()) if type(fields) is dict else fields
    if type(pairs) not in (list, tuple) or len(pairs) > _MAX_FIELDS:
        raise TypeError(f"expected a dict or a list of at most {_MAX_FIELDS} pairs")
    made: list[tuple[str, str]] = []
    for pair in pairs:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise TypeError("expected pairs of names and values")
        name, value = pair
        values = value if doseq and type(value) in (list, tuple) else (value,)
        if len(made) + len(values) > _MAX_FIELDS:
            raise ValueError(f"expected at most {_MAX_FIELDS} fields")
        made.extend((_field(name), _field(one)) for one in values)
    if sum(len(name) + len(value) for name, value in made) > MAX_URL:
        raise ValueError(f"expected at most {MAX_URL} characters")
    return urllib.parse.urlencode(made)


def _field(value: Any) -> str:
    if type(value) in (int, float, bool):
        return str(compared(value))
    if type(value) is bytes:
        return value.decode("latin-1")
    if type(value) is not str:
        raise TypeError(f"expected a text or a number, got {name_of(value)}")
    return value


def _parse_qsl(query: Any, keep_blank_values: bool = False) -> list[tuple[str, str]]:
    if type(query) is not str:
        raise TypeError(f"expected a text, got {name_of(query)}")
    return urllib.parse.parse_qsl(
        _text(query), keep_blank_values=bool(keep_blank_values), max_num_fields=_MAX_FIELDS
    )


def _parse_qs(query: Any, keep_blank_values: bool = False) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in _parse_qsl(query, keep_blank_values):
        found.setdefault(name, []).append(value)
    return found


class Url:
    """The parts of a URL."""

    __slots__ = ("fragment", "hostname", "netloc", "path", "port", "query", "scheme")

    def __init__(self, text: str) -> None:
        made = urllib.parse.urlsplit(text)
        self.scheme = str(made.scheme)
        self.netloc = str(made.netloc)
        self.path = str(made.path)
        self.query = str(made.query)
        self.fragment = str(made.fragment)
        self.hostname = made.hostname
        self.port = made.port

    def __repr__(self) -> str:
        return urllib.parse.urlunsplit(
            (self.scheme, self.netloc, self.path, self.query, self.fragment)
        )


register(Url, "fragment hostname netloc path port query scheme", text=True)


def _urlsplit(url: Any) -> Url:
    if type(url) is not str:
        raise TypeError(f"expected a text, got {name_of(url)}")
    return Url(_text(url))


#: The names of ``urllib.parse``, and of ``urllib``.
PARSE: Final[dict[str, Any]] = {
    "parse_qs": _parse_qs,
    "parse_qsl": _parse_qsl,
    "quote": _quote,
    "quote_plus": _quote_plus,
    "unquote": _unquote,
    "unquote_plus": _unquote_plus,
    "urlencode": _urlencode,
    "urlsplit": _urlsplit,
}
URLLIB: Final[dict[str, Any]] = {"parse": Namespace("urllib.parse", PARSE)}

_OF_ADDRESSES: Final = "is_global is_link_local is_loopback is_multicast is_private version"
_OF_NETWORKS: Final = "network_address num_addresses prefixlen version"
for kind in (IPv4Address, IPv6Address):
    register(kind, _OF_ADDRESSES, text=True)
for network in (IPv4Network, IPv6Network):
    register(network, _OF_NETWORKS, text=True)


def _ip_address(text: Any) -> Any:
    if type(text) is not str or len(text) > 100:
        raise ValueError(f"expected an IP address as a text, got {name_of(text)}")
    return ipaddress.ip_address(text)


def _ip_network(text: Any, strict: bool = True) -> Any:
    if type(text) is not str or len(text) > 100:
        raise ValueError(f"expected a network such as 10.0.0.0/8, got {name_of(text)}")
    return ipaddress.ip_network(text, strict=bool(strict))


#: The names of ``ipaddress``.
IPADDRESS: Final[dict[str, Any]] = {"ip_address": _ip_address, "ip_network": _ip_network}
