"""The files of the dashboard, as ``GET /`` and ``GET /page/NAME`` answer them.

They are the same for everybody and hold nothing about this slardar, so they need no token: the page
asks for one, and sends it with the calls that it makes.  The browser may run and show nothing that
comes from elsewhere, and makes no markup from text.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from msgspec import Struct

from slardar.control.replies import JsonReply, error_reply, takes_gzip, to_json

__all__ = ["Dashboard"]

_FOLDER = Path(__file__).parent / "page"
#: The path below which the files are, but for the page itself.
_BELOW = b"/page/"
_MEDIA: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # No text becomes markup, whatever a script does with it.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS: Mapping[str, str] = {
    # A browser keeps the files, and asks each time whether they are still the same.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
}


class _File(Struct, frozen=True):
    """One file, ready to be sent."""

    media: str
    body: bytes
    zipped: bytes
    tag: str


def _file(media: str, body: bytes) -> _File:
    # Without a time in it, the same file is the same bytes in every process.
    digest = hashlib.sha256(body).hexdigest()[:32]
    return _File(media, body, gzip.compress(body, 6, mtime=0), digest)


@cache
def _files() -> Mapping[bytes, _File]:
    """The files by path, read once: a process serves those that belong to its code."""
    found = {}
    for path in sorted(_FOLDER.iterdir()):
        if path.suffix in _MEDIA:
            at = b"/" if path.name == "index.html" else _BELOW + path.name.encode()
            found[at] = _file(_MEDIA[path.suffix], path.read_bytes())
    return found


class Dashboard:
    """Answers requests for the files.  ``has_tokens``: whether calls need a token."""

    def __init__(self, has_tokens: bool) -> None:
        # Else the page would have to make a call that is refused, to find out.
        access = _file("application/json", to_json({"tokens": has_tokens}))
        self._files = {**_files(), _BELOW + b"access": access}

    def has(self, method: bytes, uri: bytes) -> bool:
        """Whether a request is for one of the files."""
        return method in (b"GET", b"HEAD") and uri.partition(b"?")[0] in self._files

    def answer(self, path: bytes, accepted: Sequence[str], known: Sequence[str]) -> JsonReply:
        """The answer to ``GET``.  ``accepted`` are the values of ``Accept-Encoding``, ``known``
        those of ``If-None-Match``."""
        file = self._files.get(path)
        if file is None:
            return error_reply(404, "no such file")
        is_zipped = takes_gzip(accepted)
        tag = f'"{file.tag}{"-gzip" if is_zipped else ""}"'
        headers = {**_HEADERS, "Content-Type": file.media, "ETag": tag}
        tags = re.findall(r'"[^"]*"', ",".join(known))
        if tag in tags or "*" in [one.strip() for one in known]:
            return JsonReply(304, b"", headers)
        if is_zipped:
            headers["Content-Encoding"] = "gzip"
        return JsonReply(200, file.zipped if is_zipped else file.body, headers)
