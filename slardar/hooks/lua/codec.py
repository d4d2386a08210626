"""Digests, encodings and times: the functions of ngx that need no request."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import math
import re
import time
from base64 import b64encode
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from slardar.hooks.lua.crossing import bytes_of, text_of

__all__ = ["FUNCTIONS"]

_CONTROLS: Final = bytes(range(0x21))
_HIGH: Final = bytes(range(0x7F, 0x100))
_ALL: Final = bytes(range(0x100))


def _escapes(unsafe: bytes) -> dict[int, str]:
    """A table for ``str.translate`` that turns these bytes into %XX."""
    return {code: f"%{code:02X}" for code in unsafe}


#: The bytes that each kind of nginx's escaping escapes: for a URI, its arguments, a part of
#: it, HTML, a Refresh header, memcached, and the authentication of mail.
_ESCAPES: Final = (
    _escapes(_CONTROLS + b"#%?" + _HIGH),
    _escapes(_CONTROLS + b"#%+?" + _HIGH),
    _escapes(re.sub(rb"[0-9A-Za-z!'()*._~-]", b"", _ALL)),
    _escapes(_CONTROLS + b"\"#%'" + _HIGH),
    _escapes(_CONTROLS + b"\"'" + _HIGH),
    _escapes(_CONTROLS + b"%"),
    _escapes(_CONTROLS + b"%"),
)

_NOT_BASE64: Final = re.compile(r"[^A-Za-z0-9+/]")
_SQL: Final = {
    "\0": "\\0",
    "\b": "\\b",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\x1a": "\\Z",
    "\\": "\\\\",
    "'": "\\'",
    '"': '\\"',
}
_SQL_TABLE: Final = str.maketrans(_SQL)

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_HTTP_TIME: Final = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT"
    r"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (\d\d)-(\w{3})-(\d\d) (\d\d):(\d\d):(\d\d) GMT"
)
#: The last second since 1970 that can be written as a date: the end of the year 9999.
_LAST: Final = 253402300799


def md5(text: str) -> str:
    """The MD5 digest in hexadecimal."""
    return hashlib.md5(bytes_of(text), usedforsecurity=False).hexdigest()


def md5_bin(text: str) -> str:
    """The MD5 digest as 16 bytes."""
    return text_of(hashlib.md5(bytes_of(text), usedforsecurity=False).digest())


def sha1_bin(text: str) -> str:
    """The SHA-1 digest as 20 bytes."""
    return text_of(hashlib.sha1(bytes_of(text), usedforsecurity=False).digest())


def hmac_sha1(key: str, text: str) -> str:
    """The HMAC with SHA-1 as 20 bytes."""
    return text_of(hmac.new(bytes_of(key), bytes_of(text), "sha1").digest())


def crc32(text: str) -> int:
    """The CRC-32 checksum as a number."""
    return binascii.crc32(bytes_of(text))


def escape_uri(text: str, kind: float) -> str:
    """Escape as nginx does; ``kind`` is the index of the kind in :data:`_ESCAPES`."""
    return text.translate(_ESCAPES[int(kind)])


def unescape_uri(text: str) -> str:
    """Decode %XX, and turn each + into a blank."""
    return text_of(unquote_to_bytes(bytes_of(text.replace("+", " "))))


def encode_base64(text: str, no_padding: bool) -> str:
    """Encode in base64 (RFC 4648 4)."""
    made = b64encode(bytes_of(text)).decode("ascii")
    return made.rstrip("=") if no_padding else made


def decode_base64(text: str) -> str | None:
    """Decode base64 with or without padding; ``None`` if the text is no base64."""
    body = text.rstrip("=")
    if _NOT_BASE64.search(body) or len(body) % 4 == 1 or len(text) - len(body) > 2:
        return None
    return text_of(binascii.a2b_base64(body + "=" * (-len(body) % 4)))


def quote_sql_str(text: str) -> str:
    """Quote the text as a string of MySQL."""
    return "'" + text.translate(_SQL_TABLE) + "'"


def find(text: str, wanted: str, start: float) -> int | None:
    """The place of ``wanted`` in ``text`` from ``start`` on; places count from 1."""
    place = text.find(wanted, int(min(start, len(text) + 1)) - 1)
    return None if place < 0 else place + 1


def now() -> float:
    """Seconds since 1970, to the millisecond."""
    return math.floor(time.time() * 1000) / 1000


def seconds() -> int:
    """Whole seconds since 1970."""
    return int(time.time())


def today() -> str:
    """The local date, as 2025-12-31."""
    return time.strftime("%Y-%m-%d")


def localtime() -> str:
    """The local date and time, as 2025-12-31 23:59:59."""
    return time.strftime("%Y-%m-%d %H:%M:%S")


def utctime() -> str:
    """The date and time in UTC, as 2025-12-31 23:59:59."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())


def _moment(number: float) -> int:
    """The seconds since 1970 that nginx makes of a number.

    A negative number, and one that no ``long`` of C can hold, becomes 0.  A time after the
    year 9999 becomes the end of that year.
    """
    return int(min(number, _LAST)) if 0 <= number < 1 << 63 else 0


def http_time(moment: float) -> str:
    """A time as headers have it (RFC 9110 5.6.7)."""
    return formatdate(_moment(moment), usegmt=True)


def cookie_time(moment: float) -> str:
    """A time as the ``expires`` of a cookie has it, with nginx's two digits of the year."""
    parts = time.gmtime(_moment(moment))
    # As in nginx, a year after 2037 has four digits.
    year = f"{parts.tm_year % 100:02d}" if parts.tm_year <= 2037 else f"{parts.tm_year:04d}"
    return (
        f"{_DAYS[parts.tm_wday]}, {parts.tm_mday:02d}-{_MONTHS[parts.tm_mon - 1]}-{year}"
        f" {parts.tm_hour:02d}:{parts.tm_min:02d}:{parts.tm_sec:02d} GMT"
    )


def parse_http_time(text: str) -> int | None:
    """Seconds since 1970 of a time as headers have it; ``None`` if the text is no time."""
    found = _HTTP_TIME.fullmatch(text.strip())
    if found is None:
        return None
    day, month, year, hour, minute, second = [one for one in found.groups() if one is not None]
    if month not in _MONTHS or int(hour) > 23 or int(minute) > 59 or int(second) > 59:
        return None
    number = int(year)
    if len(year) == 2:
        number += 2000 if number < 70 else 1900
    # calendar takes long to import, and few hooks read dates.
    from calendar import monthrange, timegm

    at = _MONTHS.index(month) + 1
    if number < 1970 or not 1 <= int(day) <= monthrange(number, at)[1]:
        return None
    return timegm((number, at, int(day), int(hour), int(minute), int(second)))


#: The functions, by the names that the Lua files use.
FUNCTIONS: Final[dict[str, Any]] = {
    "cookie_time": cookie_time,
    "crc32_long": crc32,
    "crc32_short": crc32,
    "decode_base64": decode_base64,
    "encode_base64": encode_base64,
    "escape_uri": escape_uri,
    "find": find,
    "hmac_sha1": hmac_sha1,
    "http_time": http_time,
    "localtime": localtime,
    "md5": md5,
    "md5_bin": md5_bin,
    "now": now,
    "parse_http_time": parse_http_time,
    "quote_sql_str": quote_sql_str,
    "sha1_bin": sha1_bin,
    "time": seconds,
    "today": today,
    "unescape_uri": unescape_uri,
    "utctime": utctime,
}
