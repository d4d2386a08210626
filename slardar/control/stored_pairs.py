"""The certificates of the store: read from values, and checked as those of files are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from slardar.control.certificates import CertificateError, checked_pair
from slardar.errors import ConfigError
from slardar.model.names import check_name
from slardar.model.tls import Pair

__all__ = ["parse_pair", "texts_of"]

#: Characters of a certificate with its chain, and of a key.
_MAX_TEXT: Final = 1 << 18


def texts_of(value: object, where: str) -> tuple[str, str]:
    """The certificate and the key of a value.  Raises ConfigError, which quotes nothing of it."""
    texts = [value.get(key) for key in ("cert", "key")] if isinstance(value, Mapping) else [None]
    found = [text for text in texts if isinstance(text, str)]
    if len(found) != 2:
        raise ConfigError(f"{where}: expected an object with cert and key, both in PEM")
    if max(map(len, found)) > _MAX_TEXT:
        raise ConfigError(f"{where}: expected at most {_MAX_TEXT} characters in cert and in key")
    return found[0], found[1]


def parse_pair(name: str, value: Any, where: str) -> Pair:
    """The pair for a value of the store.  Keys that this version does not know are ignored.

    Raises ConfigError, which quotes nothing of the value.
    """
    check_name(name, where)
    cert, key = texts_of(value, where)
    kind = "acme" if value.get("from") == "acme" else "store"
    try:
        return checked_pair(f"{kind}: {name}", cert, key, places=("cert", "key"))
    except CertificateError as error:
        raise ConfigError(f"{where}: {error}") from None
