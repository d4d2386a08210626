"""The files of TLS to servers: read, checked, and told what is wrong with them.

The process that reads the configuration reads them; workers get what is in them, for they may
run as a user who cannot read a key.  What is in a key is in no message.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from msgspec import structs
from twisted.logger import Logger

from slardar.dataplane.tls_contexts import load_pair
from slardar.errors import ConfigError
from slardar.model.parse import unread_tls
from slardar.model.server import TlsOpts, Upstream
from slardar.model.tls import ServerTls
from slardar.plain_files import read_regular

__all__ = [
    "all_again",
    "blocks",
    "read_again",
    "read_tls",
    "warn_unverified",
    "with_files",
]

#: Bytes of a file, at most.
_MAX_FILE: Final = 4 << 20
#: Upstreams that a line of the log names, at most.
_MAX_NAMED: Final = 5

_log = Logger("slardar.tls")

#: What tells a file from what it was before: its path, device, number, size, and times.
_Stamp = tuple[str, int, int, int, int, int]


def read_tls(options: TlsOpts, where: str) -> ServerTls:
    """See :meth:`slardar.model.parse.Plugins.read_tls`.

    It reads files, so it blocks: for some microseconds if they were read before and have not
    changed.
    """
    return read_again(unread_tls(options), where)


def read_again(tls: ServerTls, where: str) -> ServerTls:
    """``tls`` with what is in its files now; raises ConfigError, with a line that begins with
    ``where``."""
    try:
        ca = _checked_ca(tls.ca, "the text") if tls.ca and not tls.ca_file else ""
        if tls.ca_file:
            ca = _read_ca(_stamp(tls.ca_file))
    except ConfigError as error:
        raise ConfigError(f"{where}.ca: {error}") from None
    cert = key = ""
    if tls.cert_file:
        try:
            cert, key = _read_pair(_stamp(tls.cert_file), _stamp(tls.key_file))
        except ConfigError as error:
            raise ConfigError(f"{where}.cert: {error}") from None
    return structs.replace(tls, ca=ca, cert=cert, key=key)


def with_files(upstream: Upstream) -> Upstream:
    """``upstream`` with what is in the files of its ``tls`` now.  It reads files, so it blocks.
    Raises ConfigError."""
    where = f"upstreams.{upstream.name}.tls"
    tls = None if upstream.tls is None else read_again(upstream.tls, where)
    own = {
        key: None if one is None else read_again(one, f"upstreams.{upstream.name}.{key}.tls")
        for key, one in upstream.server_tls.items()
    }
    if tls == upstream.tls and own == upstream.server_tls:
        return upstream
    return structs.replace(upstream, tls=tls, server_tls=own)


def all_again(upstreams: Mapping[str, Upstream]) -> tuple[dict[str, Upstream], list[str]]:
    """The upstreams in whose files of ``tls`` there is something else by now, by name; and a line
    for each that cannot be read any more.  It reads files, so it blocks."""
    found: dict[str, Upstream] = {}
    problems: dict[str, None] = {}
    for name, upstream in upstreams.items():
        if upstream.all_tls:
            try:
                again = with_files(upstream)
            except ConfigError as error:
                problems.update(dict.fromkeys(error.problems))
            else:
                if again is not upstream:
                    found[name] = again
    return found, list(problems)


def warn_unverified(upstreams: Iterable[Upstream], before: Mapping[str, Upstream]) -> None:
    """Log which of these upstreams have servers whose certificates are not verified, and did not
    have any before."""
    names = [
        one.name
        for one in upstreams
        if _is_unverified(one) and not (one.name in before and _is_unverified(before[one.name]))
    ]
    if names:
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        _log.warn(
            "{names}: tls without verify: whoever is between can read and change everything",
            names=", ".join(f"upstreams.{name}" for name in names[:_MAX_NAMED]) + more,
        )


def _is_unverified(upstream: Upstream) -> bool:
    return not all(tls.verify for tls in upstream.all_tls)


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise ConfigError(f"cannot read {path}: {reason}") from None
    return (
        path,
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


# Many upstreams name the same files: each is read once, and its text is kept once.


@lru_cache(maxsize=64)
def _read_ca(stamp: _Stamp) -> str:
    return _checked_ca(_read(stamp[0]), stamp[0])


@lru_cache(maxsize=64)
def _read_pair(cert_stamp: _Stamp, key_stamp: _Stamp) -> tuple[str, str]:
    cert_file, key_file = cert_stamp[0], key_stamp[0]
    cert = blocks(_read(cert_file), "CERTIFICATE")
    key = blocks(_read(key_file), "PRIVATE KEY")
    if len(cert) < 2:
        raise ConfigError(f"expected a certificate in PEM in {cert_file}")
    if len(key) < 2:
        raise ConfigError(f"expected the key of {cert_file} in PEM in {key_file}")
    try:
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cert, key)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "it has a password, or cannot be read"
        text = str(reason).lower().replace("_", " ")
        if text == "key values mismatch":
            text = "the key is not that of the certificate"
        raise ConfigError(f"OpenSSL refuses {cert_file} with {key_file}: {text}") from None
    return cert, key


def _checked_ca(text: str, name: str) -> str:
    found = blocks(text, "CERTIFICATE")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found)
    except (ssl.SSLError, ValueError):
        raise ConfigError(f"expected certificates of CAs in PEM in {name}") from None
    return found


def _read(path: str) -> str:
    try:
        data, _ = read_regular(path, _MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > _MAX_FILE:
        raise ConfigError(f"{path} has more than {_MAX_FILE} bytes")
    # Between its blocks, PEM may have notes in any encoding.
    return data.decode("ascii", "replace")


def blocks(text: str, kind: str) -> str:
    """The blocks of a PEM text whose kind ends with ``kind``."""
    found = []
    at = 0
    while (at := text.find("-----BEGIN ", at)) >= 0:
        line = text.rfind("\n", 0, at) + 1
        title = text.find("\n", at)
        end = text.find("-----END ", title)
        # One that is cut off is kept, for OpenSSL to refuse.
        end = len(text) if title < 0 or end < 0 else text.find("-----", end + 9) + 5
        if text[at:title].rstrip().endswith(f"{kind}-----") and not text[line:at].strip():
            found.append(text[at:end])
        at = end
    made = "\n".join(found) + "\n"
    if "\r" in made or " \n" in made or "\n " in made or "\t" in made:
        made = "\n".join(line.strip() for line in made.splitlines()) + "\n"
    return made
