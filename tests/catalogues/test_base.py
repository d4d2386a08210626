"""A catalogue that is made when it is needed."""

from __future__ import annotations

from collections.abc import Callable

from slardar.catalogues.base import Catalogue, LateCatalogue, Report
from slardar.model.service import Origin

ORIGIN = ("some_service", "web")


class Noting(Catalogue):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def follow(self, origin: Origin, told: Callable[[Report], None]) -> None:
        self.calls.append(f"follow {origin[1]}")

    def unfollow(self, origin: Origin) -> None:
        self.calls.append(f"unfollow {origin[1]}")

    def stop(self) -> None:
        self.calls.append("stop")


def test_catalogue_is_made_once_and_when_it_is_needed() -> None:
    """Not before a service is followed, and not for the end of the process."""
    made: list[Noting] = []

    def make() -> Noting:
        made.append(Noting())
        return made[-1]

    late = LateCatalogue(make)
    late.unfollow(ORIGIN)
    late.stop()
    assert made == []
    late.follow(ORIGIN, lambda report: None)
    late.follow(("some_service", "api"), lambda report: None)
    late.unfollow(ORIGIN)
    late.stop()
    (one,) = made
    assert one.calls == ["follow web", "follow api", "unfollow web", "stop"]
