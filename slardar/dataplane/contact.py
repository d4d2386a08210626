"""One heartbeat of one server: connections to its addresses, and what a probe makes of them.

The probe knows no socket (:mod:`slardar.health.probes.base`); here its bytes are sent and
received.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from slardar.dataplane.pool import is_shortage
from slardar.health.probes.base import Result, failed
from slardar.http1.interfaces import Bytes, ChannelBase, ChannelProtocol

__all__ = ["Connect", "Contact", "HeartbeatOwner", "HeartbeatRun", "Shortage"]

#: Makes a channel that is being connected: from family, address, port and protocol.  Raises
#: OSError if that has failed already.
Connect = Callable[[int, str, int, ChannelProtocol], ChannelBase]

#: Results, the best first: a server with several addresses is as good as the best of them.
_BEST: Final = ("ok", "unstable", "err")


class Shortage(Exception):
    """This process or machine has no descriptor or port left for a heartbeat."""


class HeartbeatOwner:
    """Whose heartbeat it is."""

    __slots__ = ()

    def ended(self, run: HeartbeatRun, result: Result) -> None:
        """The heartbeat has a result, the best one of all addresses.

        Called once; it may be called before :meth:`HeartbeatRun.begin` returns.
        """
        raise NotImplementedError

    def broken(self, error: BaseException) -> Result:
        """The result of a heartbeat whose probe has raised ``error``, or should have."""
        raise NotImplementedError


class Contact(ChannelProtocol):
    """A connection to one address of a server, on which a probe asks."""

    __slots__ = ("_check", "_run", "channel")

    def __init__(self, run: HeartbeatRun, check: Any) -> None:
        self._run = run
        #: A :class:`slardar.health.probes.base.Check`, unless a user's probe is wrong.
        self._check = check
        #: ``None`` before the connection is begun, and after its end.
        self.channel: ChannelBase | None = None

    def give_up(self, seconds: float) -> None:
        """There was no result for so long."""
        channel = self.channel
        if channel is not None and channel.shaking:
            self._end(failed(f"TLS: handshake timed out after {seconds:g} s"))
            return
        is_there = channel is not None and not channel.connecting
        what = "answer" if is_there else "connection"
        self._end(failed(f"no {what} within {seconds:g} s"))

    def close(self) -> None:
        """Close the connection without a result."""
        # The channel has this contact: together they would be garbage that only the
        # collector finds.
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()

    # From the channel.

    def connected(self, channel: ChannelBase) -> None:
        if self._run.header:
            channel.write(self._run.header)
        self._go_on(channel, "connected")

    def received(self, channel: ChannelBase, data: Bytes) -> None:
        self._go_on(channel, "received", bytes(data))

    def ended(self, channel: ChannelBase) -> None:
        self._go_on(channel, "ended")

    def lost(self, channel: ChannelBase, message: str) -> None:
        if channel.connecting or channel.shaking or message.startswith("TLS: "):
            self._end(failed(message))
        else:
            self._go_on(channel, "ended")

    def late(self, channel: ChannelBase) -> None:
        """No deadline is set: whoever sends heartbeats watches the time."""

    def drained(self, channel: ChannelBase) -> None:
        """Nothing else waits to be sent."""

    def _go_on(self, channel: ChannelBase, step: str, data: bytes = b"") -> None:
        """Let the probe take a step: the method of its check with this name."""
        found: Result | bytes | None
        try:
            method = getattr(self._check, step)
            found = _checked(method(data) if data else method())
        except BaseException as error:  # SystemExit, CancelledError
            found = self._run.owner.broken(error)
        if isinstance(found, bytes):
            if found:
                channel.write(found)
        elif found is not None:
            self._end(found)

    def _end(self, result: Result) -> None:
        self.close()
        self._run.contact_ended(self, result)


class HeartbeatRun:
    """One heartbeat of one server, on all its addresses at the same time."""

    __slots__ = ("_open", "_results", "header", "owner", "size")

    def __init__(self, owner: HeartbeatOwner, header: bytes = b"") -> None:
        self.owner = owner
        #: What is sent on each connection before the probe begins.
        self.header: bytes = header
        self._open: list[Contact] = []
        self._results: list[Result] = []
        #: How many connections it has made.
        self.size = 0

    def begin(
        self, connect: Connect, probe: Any, addresses: Sequence[tuple[int, str]], port: int
    ) -> None:
        """Connect to ``addresses``: at least one, each with its family.

        ``probe`` is a :class:`slardar.health.probes.base.Probe`, unless a user's probe is wrong.

        Raises Shortage if a connection could not be made for want of something here, and
        what the probe raises; there is no connection then.
        """
        contacts: list[Contact] = []
        try:
            for family, address in addresses:
                contact = Contact(self, probe.begin())
                try:
                    contact.channel = connect(family, address, port, contact)
                except OSError as error:
                    if is_shortage(error):
                        raise Shortage from None
                    self._results.append(failed(os.strerror(error.errno or 0)))
                else:
                    contacts.append(contact)
        except BaseException:
            for contact in contacts:
                contact.close()
            raise
        self.size = len(contacts)
        self._open = contacts
        if not contacts:
            self.owner.ended(self, best(self._results))

    def give_up(self, seconds: float) -> None:
        """The time for it is over."""
        for contact in list(self._open):
            contact.give_up(seconds)

    def close(self) -> None:
        """Nobody wants to know any more."""
        contacts, self._open = self._open, []
        for contact in contacts:
            contact.close()

    def contact_ended(self, contact: Contact, result: Result) -> None:
        """One of its connections has a result, and is closed already."""
        if contact not in self._open:
            return
        self._open.remove(contact)
        self._results.append(result)
        if result.status == "ok":
            self.close()
        if not self._open:
            self.owner.ended(self, best(self._results))


def _checked(found: object) -> Result | bytes | None:
    """What a probe has returned; raises TypeError for what it may not return.  Results go to
    other processes, which take nothing else."""
    if found is None or isinstance(found, bytes):
        return found
    if not isinstance(found, Result):
        raise TypeError(f"expected a Result, bytes or None, got {type(found).__name__}")
    # Compiled code would believe that the values have the types of Result.
    result: Any = found
    if result.status not in _BEST:
        raise TypeError(f"expected the status ok, unstable or err, got {str(result.status)[:20]!r}")
    if not isinstance(result.message, str) or not isinstance(result.hint, str):
        raise TypeError("expected strings as message and hint")
    about = result.about
    if not all(isinstance(key, str) and type(about[key]) in (str, int) for key in about):
        raise TypeError("expected strings and integers in about")
    return found


def best(results: Sequence[Result]) -> Result:
    """The best of some results; of equal ones the first."""
    if len(results) == 1:
        return results[0]
    return min(results, key=lambda result: _BEST.index(result.status))
