"""What a service catalogue is, and what it says of a service.

To add one: a file here with a subclass of :class:`Catalogue`, its key in
:mod:`slardar.model.service`, and its row in :mod:`slardar.service`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from msgspec import Struct

from slardar.model.names import normal_host
from slardar.model.service import Levels, Origin
from slardar.resolvconf import address_of

__all__ = [
    "Catalogue",
    "LateCatalogue",
    "Failed",
    "Listing",
    "Report",
    "report_of",
    "usable_address",
]

#: What a note names.
_MAX_NAMED: Final = 3


class Listing(Struct, frozen=True):
    """What a catalogue lists for a service now."""

    #: Sorted, so that the same servers in another order are no change.  Empty: no server is listed,
    #: which may be an accident; the last servers stay for a while.
    levels: Levels
    #: Whether it is no accident that no server is listed.
    is_meant: bool = False
    #: What of the answer could not be used, for a person; empty if all could.
    note: str = ""


class Failed(Struct, frozen=True):
    """A catalogue could not be asked, or its answer could not be read: the last one holds."""

    reason: str


Report = Listing | Failed


def report_of(
    levels: Levels, unusable: Collection[str], things: str, is_meant: bool = False
) -> Report:
    """What to tell of an answer with these servers.

    ``unusable`` names those of the ``things`` that cannot be used.  If nothing else is there, that
    is no answer, unless it ``is_meant`` that there is no server.
    """
    note = ""
    if unusable:
        named = ascii(", ".join(sorted(unusable)[:_MAX_NAMED]))[1:-1]
        note = f"{len(unusable)} of the {things} cannot be used: {named}"
        if not levels and not is_meant:
            return Failed(note)
    return Listing(levels, is_meant and not levels, note)


def usable_address(text: str) -> str | None:
    """The address that this is, ``None`` for any other text."""
    return None if address_of(text) is None else normal_host(text)


class Catalogue:
    """Follows services in one catalogue.  Nothing here blocks."""

    def follow(self, origin: Origin, told: Callable[[Report], None]) -> None:
        """Call ``told`` with what is listed under ``origin``: soon, and from then on whenever the
        catalogue was asked or has something new.  ``told`` never raises.

        An origin is followed once at a time.
        """
        raise NotImplementedError

    def unfollow(self, origin: Origin) -> None:
        """Tell no more of it."""
        raise NotImplementedError

    def stop(self) -> None:
        """Tell no more, and ask nobody."""
        raise NotImplementedError


class LateCatalogue(Catalogue):
    """A catalogue that is made when a service is followed in it for the first time.

    Most processes follow services in one catalogue or in none.  The client of Consul alone takes as
    long to import as half of slardar: 0.2 s.
    """

    def __init__(self, make: Callable[[], Catalogue]) -> None:
        self._make = make
        self._made: Catalogue | None = None

    def follow(self, origin: Origin, told: Callable[[Report], None]) -> None:
        """See :class:`Catalogue`."""
        if self._made is None:
            self._made = self._make()
        self._made.follow(origin, told)

    def unfollow(self, origin: Origin) -> None:
        """See :class:`Catalogue`."""
        if self._made is not None:
            self._made.unfollow(origin)

    def stop(self) -> None:
        """See :class:`Catalogue`."""
        if self._made is not None:
            self._made.stop()
