"""A catalogue that says what the test wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slardar.catalogues.base import Catalogue, Failed, Listing, Report
from slardar.model.service import Levels, Listed, Origin, Service, parse_service

__all__ = ["HandCatalogue", "one_level", "service_of"]


def service_of(name: str, origin: str = "", **keys: Any) -> Service:
    """The service ``name`` that follows ``origin``, or its own name."""
    return parse_service(name, {"dns_service": origin or name, **keys}, f"services.{name}")


def one_level(*ports: int) -> Levels:
    """Servers on local ports."""
    return (tuple(Listed("127.0.0.1", port) for port in ports),)


class HandCatalogue(Catalogue):
    """See the module.  Origins go by their names."""

    def __init__(self) -> None:
        self.told: dict[str, Callable[[Report], None]] = {}
        #: What was followed, each time.
        self.begun: list[str] = []
        #: What is told at once of an origin that is followed.
        self.answers: dict[str, Report] = {}
        self.is_stopped = False

    def follow(self, origin: Origin, told: Callable[[Report], None]) -> None:
        assert origin[1] not in self.told
        self.told[origin[1]] = told
        self.begun.append(origin[1])
        if origin[1] in self.answers:
            told(self.answers[origin[1]])

    def unfollow(self, origin: Origin) -> None:
        del self.told[origin[1]]

    def stop(self) -> None:
        self.told = {}
        self.is_stopped = True

    def lists(self, name: str, *ports: int, note: str = "") -> None:
        """Tell that these servers are listed."""
        self.told[name](Listing(one_level(*ports) if ports else (), note=note))

    def means_none(self, name: str) -> None:
        """Tell that no server is listed, and that this is meant."""
        self.told[name](Listing((), True))

    def fails(self, name: str, reason: str = "no answer") -> None:
        """Tell that nobody knows."""
        self.told[name](Failed(reason))
