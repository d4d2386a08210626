"""What catalogues listed last, in a file of this machine, for a start while a catalogue is away.

The file is written within a second of a change, as a whole, so that a process which is killed
leaves a whole one.  A file that cannot be read or written harms nobody.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct, structs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from slardar.catalogues.watch import KnownService, ServiceWatch
from slardar.daemon import call_in_daemon
from slardar.errors import one_line, printable
from slardar.plain_files import read_regular

__all__ = ["KeptListings"]

#: Seconds in which changes are gathered before the file is written, and before it is tried again
#: if it could not be.
_GATHER = 1.0
_AGAIN = 60.0
#: Seconds for which somebody who must be the last to write waits for a disk.
_LAST = 5.0
#: The most bytes of a file: some 100,000 servers.
_LIMIT = 32 << 20

_log = Logger("slardar.catalogues")


class _File(Struct, frozen=True, tag_field="file", tag="slardar-services-1"):
    """The content of the file.  Another tag is another format."""

    #: When it was written, in epoch seconds.
    time: float
    #: SHA-256 over the services, in hexadecimal digits: what was not written here is not used.
    sha256: str
    #: A list of :class:`KnownService`.
    services: msgspec.Raw


class KeptListings:
    """The file ``path``, from which ``watch`` begins, and which follows what it knows.

    ``clock`` gives epoch seconds, and ``in_thread`` makes a call that may block.  Nothing here
    fails.
    """

    def __init__(
        self,
        watch: ServiceWatch,
        path: str,
        reactor: Any,
        clock: Callable[[], float] = time.time,
        in_thread: Callable[..., Any] = call_in_daemon,
    ) -> None:
        self._watch = watch
        self._path = path
        self._reactor = reactor
        self._clock = clock
        self._in_thread = in_thread
        #: Why the file was not written the last time; empty if it was.
        self._problem = ""
        #: Whether there is a file with anything in it.
        self._has_file = False
        #: Whether there is something new, the call that writes it, and the end of the writing.
        self._is_due = False
        self._call: Any = None
        self._writing: Deferred[None] | None = None
        self._is_paused = self._is_closed = False
        watch.recall, watch.noted = self._recall, self._note

    # The start.

    def _recall(self) -> Deferred[list[KnownService]]:
        """What the file says; nothing if there is none, or it is not usable."""
        read: Deferred[list[KnownService]] = maybeDeferred(
            self._in_thread, self._reactor, _read, self._path, self._clock()
        )

        def found(known: list[KnownService]) -> list[KnownService]:
            if known:
                self._has_file = True
                _log.info(
                    "{path}: {count} services begin with the servers that were listed last",
                    path=self._path,
                    count=len(known),
                )
            return known

        def failed(failure: Failure) -> list[KnownService]:
            _log.warn("{path}: is not used: {reason}", path=self._path, reason=_reason_of(failure))
            return []

        return read.addCallbacks(found, failed)

    # Changes.

    def _note(self) -> None:
        """The watch knows something new."""
        self._is_due = True
        self._plan()

    def _plan(self) -> None:
        if self._is_due and self._call is None and self._writing is None and not self._is_paused:
            delay = _AGAIN if self._problem else _GATHER
            self._call = self._reactor.callLater(delay, self._write)

    def _write(self) -> None:
        self._call = None
        self._begin(self._watch.known())

    def _begin(self, known: list[KnownService]) -> None:
        self._is_due = False
        if not known and not self._has_file:
            # Nothing was ever listed here.
            return
        done: Deferred[None] = Deferred()
        self._writing = done

        def written(_: None) -> None:
            self._has_file = True
            if self._problem:
                _log.info("{path}: is written again", path=self._path)
            self._problem = ""

        def failed(failure: Failure) -> None:
            self._is_due = True
            problem = _reason_of(failure)
            if problem != self._problem:
                _log.error("{path}: cannot be written: {reason}", path=self._path, reason=problem)
            self._problem = problem

        def ended(_: None) -> None:
            self._writing = None
            self._plan()
            done.callback(None)

        call = maybeDeferred(
            self._in_thread, self._reactor, _replace, self._path, known, self._clock()
        )
        call.addCallbacks(written, failed).addCallback(ended)

    # The end, and the upgrade in place.

    async def pause(self) -> None:
        """Write what is new, and then nothing more until :meth:`resume`: another process may."""
        was_paused, self._is_paused = self._is_paused, True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if was_paused:
            return
        # Asked now: the watch may be stopped while a write is under way.
        known = self._watch.known() if self._is_due else None
        await self._written()
        if known is not None:
            self._begin(known)
            await self._written()

    async def _written(self) -> None:
        """Wait for the write under way, but not for ever."""
        if self._writing is not None:
            await self._writing.addTimeout(_LAST, self._reactor).addErrback(lambda _: None)

    def resume(self) -> None:
        """Go on: no other process writes the file."""
        if not self._is_closed:
            self._is_paused = False
            self._plan()

    async def close(self) -> None:
        """Write what is new, and nothing more.  To be called before the watch is stopped, which
        needs not wait for it."""
        self._is_closed = True
        await self.pause()


def _reason_of(failure: Failure) -> str:
    assert failure.value is not None
    return printable(one_line(failure.value))


def _read(path: str, now: float) -> list[KnownService]:
    """What the file says, ``now`` being the time.  Raises ValueError for a file that is not
    usable.  Blocks."""
    try:
        data, _ = read_regular(path, _LIMIT + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(error.strerror) from None
    if len(data) > _LIMIT:
        raise ValueError(f"it has more than {_LIMIT} bytes")
    found = msgspec.json.decode(data, type=_File)
    if hashlib.sha256(found.services).hexdigest() != found.sha256:
        raise ValueError("it is damaged: the checksum is wrong")
    # Servers that were missing then have been missing since.
    age = max(0.0, now - found.time)
    return [
        one if one.missing_for is None else structs.replace(one, missing_for=one.missing_for + age)
        for one in msgspec.json.decode(found.services, type=list[KnownService])
    ]


def _replace(path: str, known: list[KnownService], now: float) -> None:
    """Write the file.  Raises OSError, or ValueError if it would be too big; the file before stays
    then.  Blocks."""
    services = msgspec.json.encode(known)
    digest = hashlib.sha256(services).hexdigest()
    data = msgspec.json.encode(_File(now, digest, msgspec.Raw(services)))
    if len(data) > _LIMIT:
        raise ValueError(f"it would have {len(data)} bytes, more than {_LIMIT}")
    half = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(half)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(half, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(half)
        raise
