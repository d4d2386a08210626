"""What Python's ``ssl`` cannot set in a context, set by OpenSSL's own call.

Python keeps the address of OpenSSL's context right behind the head of its object.  Before the
call is used for the first time, it reads a setting that Python knows, too; where it reads
something else, or is not there, contexts stay as Python makes them.
"""

from __future__ import annotations

import _ssl
import ctypes
import ssl
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["control", "limit_groups"]

#: Commands of SSL_CTX_ctrl (openssl/ssl.h; they are part of its ABI).
SET_GROUPS_LIST = 92
GET_MIN_PROTO_VERSION = 130

#: The groups for keys that Mozilla recommends (server-side TLS 5.7); one that this OpenSSL
#: does not know is left out.  OpenSSL's own list of TLS 1.3 has ffdhe8192, with which a client
#: that calculates nothing itself takes 0.15 s of a worker's time (measured; CVE-2022-40735).
GROUPS = b"X25519:P-256:P-384"
if ssl.OPENSSL_VERSION_INFO >= (3, 3):
    GROUPS = b"?X25519MLKEM768:" + GROUPS

#: The context, a command, its number and its text; answers what OpenSSL does.
Control = Callable[[ssl.SSLContext, int, int, "bytes | None"], int]


@cache
def control() -> Control | None:
    """OpenSSL's call, if it can be used."""
    if sys.implementation.name != "cpython":
        return None
    try:
        # The library that Python's ssl itself uses, found through what is linked to it.
        call: Any = ctypes.CDLL(getattr(_ssl, "__file__", None)).SSL_CTX_ctrl
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
    call.restype = ctypes.c_long

    def made(context: ssl.SSLContext, command: int, number: int, text: bytes | None) -> int:
        address = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
        return int(call(address, command, number, text))

    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        probe.minimum_version = version
        if made(probe, GET_MIN_PROTO_VERSION, 0, None) != version:
            return None
    return made


def limit_groups(context: ssl.SSLContext) -> bool:
    """Let a context use none but quick and safe groups; False if that cannot be done."""
    call = control()
    return call is not None and call(context, SET_GROUPS_LIST, 0, GROUPS) == 1
