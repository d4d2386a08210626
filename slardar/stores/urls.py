"""URLs of stores: how they may be shown, and which of their options go together."""

from __future__ import annotations

from collections.abc import Collection

from slardar.errors import ConfigError

__all__ = ["check_tls_options", "hidden_url"]

#: Words in the names of a URL's parameters that nobody should see.
_SECRET = ("token", "pass", "secret")


def hidden_url(url: str) -> str:
    """A store's URL as it may be shown: without user names, and without passwords and tokens."""
    kind, _, place = url.partition(":")
    if kind == "sqlite":
        return url
    place, mark, query = place.partition("?")
    scheme, slashes, place = place.rpartition("//")
    hosts, slash, path = place.partition("/")
    *before, last = hosts.split("@")
    # Between two of them is a host, a comma and the next user; without a comma it is a password.
    shown = [part.partition(",")[0] for part in before[1:] if "," in part]
    parameters = "&".join(map(_hidden_parameter, query.split("&")))
    return f"{kind}:{scheme}{slashes}{','.join([*shown, last])}{slash}{path}{mark}{parameters}"


def _hidden_parameter(text: str) -> str:
    name, equals, value = text.partition("=")
    is_secret = any(word in name.lower() for word in _SECRET)
    return f"{name}{equals}{'...' if is_secret else value}"


def check_tls_options(kind: str, options: Collection[str], is_tls: bool) -> None:
    """Raises ConfigError if one of the options ``ca``, ``cert`` and ``key`` has no effect.

    ``kind`` is the word before the colon of the URL; ``options`` are the names of all its options.
    """
    given = [name for name in ("ca", "cert", "key") if name in options]
    if given and not is_tls:
        raise ConfigError(f"{kind}: expected https with the option {given[0]}")
    if "key" in given and "cert" not in given:
        raise ConfigError(f"{kind}: expected the option cert with key")
