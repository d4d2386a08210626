"""What Python's ``ssl`` has no call for: groups, keys of session tickets, and staples of OCSP.

OpenSSL's own functions are called through ctypes.  A wrong call could end the process, so each
assumption is proved before it is relied on:

- The functions are those that ``ssl`` itself uses: they are looked up in the module ``_ssl``
  and the libraries that it is linked to, and nowhere else.  Where ``_ssl`` is no file, or has
  OpenSSL inside of it, there are none.
- The pointer to OpenSSL's context stands behind the head of ``ssl``'s object.  It is read from
  memory that belongs to the object, for the object is larger.  What it points to is first read
  by the kernel, which refuses an address that is none (``EFAULT``) where a look would crash.
  There must be the address of OpenSSL's own table of methods for servers or clients, which
  contexts begin with.  Only then OpenSSL is given the pointer, and must tell the options that
  ``ssl`` tells.
- Each context is proved in this way, not only the first.
- OpenSSL copies keys.  A staple is in memory that OpenSSL has allocated and frees itself.
- The one callback lives as long as the process.  It is called in the thread that does the
  handshake, takes Python's lock, and lets no error out.  It knows a context by a number, so it
  finds nothing, and says so, if the context is no longer kept.

Only CPython is used so, and not without its lock (free threading): there nobody has tried it.
:mod:`slardar.dataplane.openssl_trial` tries whether all of it has the effect that it should.
"""

from __future__ import annotations

import ctypes
import os
import ssl
import sys
import time
from collections.abc import Mapping
from functools import cache
from itertools import count
from typing import Any, Final
from weakref import WeakValueDictionary

__all__ = ["GROUPS", "KEYS_SIZE", "NAME_SIZE", "NoOpenSslError", "OpenSsl", "Staples", "openssl"]

#: Bytes of a set of keys: the name that tickets begin with, a key for HMAC-SHA-256 and one
#: for AES-256.
KEYS_SIZE: Final = 80
NAME_SIZE: Final = 16

# Of openssl/ssl.h and openssl/tls1.h; the numbers are the same since OpenSSL 1.0.1.
_SET_SESS_CACHE_MODE: Final = 44
_SET_TICKET_KEYS: Final = 59
_SET_STATUS_CB: Final = 63
_SET_STATUS_CB_ARG: Final = 64
_SET_STATUS_TYPE: Final = 65
_SET_STATUS_RESPONSE: Final = 71
_SET_GROUPS_LIST: Final = 92
_CACHE_OFF: Final = 0
_SENT: Final = 0
_NOT_SENT: Final = 3
_OCSP: Final = 1

#: The groups for keys that Mozilla recommends (server-side TLS 5.7); one that this OpenSSL
#: does not know is left out.  OpenSSL's own list of TLS 1.3 has ffdhe8192, with which a client
#: that calculates nothing itself takes 0.15 s of a worker's time (measured; CVE-2022-40735).
GROUPS: Final = (
    b"?X25519MLKEM768:" if ssl.OPENSSL_VERSION_INFO >= (3, 3) else b""
) + b"X25519:P-256:P-384"

#: Bytes at the beginning of a context among which the address of its methods is.
_BEGINNING: Final = 64
_WORD: Final = ctypes.sizeof(ctypes.c_void_p)

_StatusCallback: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class NoOpenSslError(Exception):
    """OpenSSL's functions cannot be called; the text says why."""


class Staples:
    """The answers of OCSP that one context sends: by the certificate in DER, each with the end
    of its validity in epoch seconds.  No answer is sent after its end."""

    __slots__ = ("__weakref__", "of")

    def __init__(self) -> None:
        self.of: Mapping[bytes, tuple[bytes, float]] = {}


class OpenSsl:
    """The functions; see :func:`openssl`."""

    def __init__(self) -> None:
        if sys.implementation.name != "cpython":
            raise NoOpenSslError("this Python is not CPython")
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            raise NoOpenSslError("this Python runs without its lock (free threading)")
        # The module's name is ssl's own business; it has been this one since Python 2.6.
        file = getattr(sys.modules.get("_ssl"), "__file__", None)
        if not file:
            raise NoOpenSslError("the module _ssl is a part of the interpreter")
        try:
            # Python's lock is kept during a call: none of them waits, or calls Python.
            found = ctypes.PyDLL(file)
            self._libc = ctypes.PyDLL(None, use_errno=True)
            self._declare(found)
        except (OSError, AttributeError) as error:
            raise NoOpenSslError(f"OpenSSL's functions are not to be had: {error}") from None
        if self._version() != ssl.OPENSSL_VERSION_NUMBER:
            raise NoOpenSslError("another OpenSSL was found than the one that ssl uses")
        self._methods = {
            methods().to_bytes(_WORD, sys.byteorder)
            for methods in (self._server_method, self._client_method)
        }
        self._staples: WeakValueDictionary[int, Staples] = WeakValueDictionary()
        self._numbers = count(1)
        #: Kept for as long as the process lives: OpenSSL may call it at any time.
        self._callback = _StatusCallback(self._send_staple)

    def _declare(self, found: Any) -> None:
        word, number, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
        self._ctx_ctrl = _typed(found.SSL_CTX_ctrl, long, word, number, long, word)
        self._ctx_callback_ctrl = _typed(
            found.SSL_CTX_callback_ctrl, long, word, number, _StatusCallback
        )
        self._ctx_options = _typed(found.SSL_CTX_get_options, ctypes.c_ulong, word)
        self._ssl_ctrl = _typed(found.SSL_ctrl, long, word, number, long, word)
        self._ssl_certificate = _typed(found.SSL_get_certificate, word, word)
        self._server_method = _typed(found.TLS_server_method, word)
        self._client_method = _typed(found.TLS_client_method, word)
        self._i2d = _typed(found.i2d_X509, number, word, word)
        self._malloc = _typed(
            found.CRYPTO_malloc, word, ctypes.c_size_t, ctypes.c_char_p, number
        )  # fmt: skip
        self._version = _typed(found.OpenSSL_version_num, ctypes.c_ulong)
        self._write = _typed(self._libc.write, ctypes.c_ssize_t, number, word, ctypes.c_size_t)

    def pointer(self, context: ssl.SSLContext) -> int:
        """OpenSSL's context in that of ``ssl``.  Raises NoOpenSslError if it is not where it was
        expected."""
        head = object.__basicsize__
        if type(context).__basicsize__ < head + _WORD:
            raise NoOpenSslError("ssl's context is smaller than expected")
        found = ctypes.c_void_p.from_address(id(context) + head).value
        if not found or found % _WORD:
            raise NoOpenSslError("ssl's context has no pointer where it was expected")
        beginning = self._look(found, _BEGINNING)
        words = {beginning[at : at + _WORD] for at in range(0, len(beginning), _WORD)}
        if not words & self._methods:
            raise NoOpenSslError("ssl's context is not laid out as expected")
        # The upper half has no option that Python of each version tells in the same way.
        if (self._ctx_options(found) ^ int(context.options)) & 0xFFFFFFFF:
            raise NoOpenSslError("OpenSSL tells other options of a context than ssl")
        return found

    def _look(self, address: int, size: int) -> bytes:
        """The bytes at an address, read by the kernel; none if there is no memory."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            written: int = self._write(writer, address, size)
            return os.read(reader, written) if written > 0 else b""
        finally:
            os.close(reader)
            os.close(writer)

    def set_groups(self, pointer: int, groups: bytes = GROUPS) -> None:
        """Let a context use keys of these groups, and no others.  ``pointer`` is of
        :meth:`pointer`."""
        if self._ctx_ctrl(pointer, _SET_GROUPS_LIST, 0, groups) != 1:
            raise NoOpenSslError("OpenSSL does not know the groups")

    def set_ticket_keys(self, pointer: int, keys: bytes) -> None:
        """Let a context make tickets with these keys, and open those that were made with them,
        and no others.  ``pointer`` is of :meth:`pointer`."""
        if len(keys) != KEYS_SIZE:
            raise ValueError(f"expected {KEYS_SIZE} bytes, got {len(keys)}")
        if self._ctx_ctrl(pointer, _SET_TICKET_KEYS, len(keys), keys) != 1:
            raise NoOpenSslError("OpenSSL takes no keys of this size for tickets")

    def keep_no_sessions(self, pointer: int) -> None:
        """Let a context keep no sessions by their ids."""
        self._ctx_ctrl(pointer, _SET_SESS_CACHE_MODE, _CACHE_OFF, None)

    def staple(self, pointer: int, staples: Staples) -> None:
        """Let a context send the answers in ``staples``, for as long as that is kept."""
        number = next(self._numbers)
        self._staples[number] = staples
        self._ctx_callback_ctrl(pointer, _SET_STATUS_CB, self._callback)
        self._ctx_ctrl(pointer, _SET_STATUS_CB_ARG, 0, number)

    def ask_for_staples(self, pointer: int) -> None:
        """Let a context of clients ask servers for the status of their certificates."""
        self._ctx_ctrl(pointer, _SET_STATUS_TYPE, _OCSP, None)

    def _send_staple(self, connection: int, number: int | None) -> int:
        """OpenSSL asks for the answer of the certificate that it is about to send."""
        try:
            staples = self._staples.get(number or 0)
            certificate = self._ssl_certificate(connection)
            if staples is None or not certificate:
                return _NOT_SENT
            found = staples.of.get(self._der(certificate))
            if found is None or found[1] <= time.time():
                return _NOT_SENT
            answer = found[0]
            memory = self._malloc(len(answer), b"", 0)
            if not memory:
                return _NOT_SENT
            ctypes.memmove(memory, answer, len(answer))
            self._ssl_ctrl(connection, _SET_STATUS_RESPONSE, len(answer), memory)
        except Exception:
            # Nothing can be raised into OpenSSL; a handshake goes on without a staple.
            return _NOT_SENT
        return _SENT

    def _der(self, certificate: int) -> bytes:
        size: int = self._i2d(certificate, None)
        if size <= 0:
            return b""
        buffer = ctypes.create_string_buffer(size)
        # OpenSSL moves the pointer to the end of what it has written.
        place = ctypes.c_void_p(ctypes.addressof(buffer))
        self._i2d(certificate, ctypes.byref(place))
        return buffer.raw


def _typed(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype = result
    function.argtypes = arguments
    return function


@cache
def openssl() -> OpenSsl:
    """The functions, looked up once in a process.  Raises NoOpenSslError."""
    return OpenSsl()
