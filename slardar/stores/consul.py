"""The store of ``consul:``, in Consul's keys and values.

``consul:http://HOST:8500/config/slardar/`` says where it is; ``docs/stores.md`` tells of several
agents, tokens and the options.  How Consul is asked is in :mod:`slardar.stores.consul_tree`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from slardar.errors import ConfigError
from slardar.model.names import split_host_port
from slardar.stores.consul_tree import ConsulPlace, ConsulTree
from slardar.stores.shared import SharedStore
from slardar.stores.urls import check_tls_options

__all__ = ["from_place", "read_place"]

_PORTS = {"http": 8500, "https": 8501}
_WAIT = re.compile(r"([0-9]{1,3})(s|m)")
_EXPECTED = "http://HOST:8500/config/slardar/"


def from_place(place: str, reactor: Any) -> SharedStore:
    """The store of ``consul:``.  Raises ConfigError, and connects to nobody."""
    where = read_place(place, os.environ.get("CONSUL_HTTP_TOKEN", ""))
    return SharedStore(ConsulTree(where, reactor), reactor, where.prefix)


def read_place(place: str, token: str) -> ConsulPlace:
    """What stands after ``consul:``; ``token`` is used where no file with a token is named."""
    try:
        url = urlsplit(place)
    except ValueError as error:
        raise ConfigError(f"consul: {error}") from None
    if url.scheme not in _PORTS or not url.netloc:
        raise ConfigError(f"consul: expected {_EXPECTED} after it, http or https")
    if "@" in url.netloc:
        raise ConfigError("consul: expected no user and no password: a token says who asks")
    if url.fragment:
        raise ConfigError("consul: expected nothing after #")
    agents = tuple(_agent(url.scheme, one) for one in url.netloc.split(","))
    prefix = unquote(url.path).strip("/")
    if not prefix:
        raise ConfigError(f"consul: expected keys below a place of their own, as in {_EXPECTED}")
    options: dict[str, Any] = {}
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise ConfigError(f"consul: expected options among {', '.join(_OPTIONS)}, got {name}")
        if name in options:
            raise ConfigError(f"consul: expected the option {name} once")
        options[name] = _OPTIONS[name](name, value)
    check_tls_options("consul", options, url.scheme == "https")
    return ConsulPlace(url.scheme, agents, f"{prefix}/", token=token, **options)


def _agent(scheme: str, text: str) -> tuple[str, int]:
    """The address of one agent."""
    found = split_host_port(text, _PORTS[scheme])
    if found is None:
        raise ConfigError(f"consul: expected HOST or HOST:PORT, got {text!r}")
    return found


def _text(name: str, value: str) -> str:
    if not value:
        raise ConfigError(f"consul: expected a value of the option {name}")
    return value


def _flag(name: str, value: str) -> bool:
    if value not in {"0", "1"}:
        raise ConfigError(f"consul: expected 0 or 1 as the option {name}, got {value!r}")
    return value == "1"


def _wait(name: str, value: str) -> int:
    """How long Consul may hold a query, in seconds."""
    match = _WAIT.fullmatch(value)
    seconds = 0 if match is None else int(match[1]) * (60 if match[2] == "m" else 1)
    if not 1 <= seconds <= 600:
        raise ConfigError(f"consul: expected from 1s to 10m as the option {name}, got {value!r}")
    return seconds


_OPTIONS: dict[str, Callable[[str, str], Any]] = {
    "ca": _text,
    "cert": _text,
    "dc": _text,
    "key": _text,
    "stale": _flag,
    "token_file": _text,
    "wait": _wait,
}
