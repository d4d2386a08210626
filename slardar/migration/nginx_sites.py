"""nginx's servers, and the names and listeners that lead to each."""

from __future__ import annotations

from collections.abc import Sequence

from slardar.migration.draft import Draft
from slardar.migration.listeners import Socket
from slardar.migration.nginx_locations import Location
from slardar.migration.statement import Scope, Statement

__all__ = ["Site", "close_sites"]


class Site:
    """A server of nginx."""

    def __init__(self, statement: Statement, scope: Scope) -> None:
        self.statement = statement
        self.scope = scope
        self.sockets: list[Socket] = []
        #: The names as routes have them, and where they stand.
        self.hosts: list[tuple[str, Statement]] = []
        #: Names that no route can have, such as expressions.
        self.vague: list[str] = []
        self.locations: list[Location] = []
        #: Whether it only sends clients to https, but for its locations.
        self.redirects = False
        #: The ``verify`` and ``ca`` of its clients' certificates.
        self.client: dict[str, str] = {}
        #: Why its requests are not passed on, and why those for unknown names are not.
        self.closed = ""
        self.closed_by_default = ""

    def does_as(self, other: Site) -> bool:
        """Whether two servers have the same routes."""
        mine, theirs = (
            (bool(site.closed), [one.shape for one in site.locations]) for site in (self, other)
        )
        return mine == theirs

    @property
    def is_secure(self) -> bool:
        """Whether it listens with TLS."""
        return any(one.ssl for one in self.sockets)

    @property
    def is_plain(self) -> bool:
        """Whether it listens without TLS."""
        return any(not one.ssl for one in self.sockets)

    def close(self, why: str) -> None:
        """Let no request for it through."""
        self.closed = self.closed or why


def close_sites(
    draft: Draft, sites: Sequence[Site], sockets: Sequence[Socket], redirects: bool
) -> None:
    """Close the servers to which slardar's endpoints would lead clients whom nginx keeps out.

    slardar serves all names on all endpoints; ``redirects`` is ``tls.redirect``.
    """
    widest = max((one.reach for one in sockets), default=0)
    has_plain = any(not one.ssl for one in sockets)
    is_for_all = "client" in draft.settings.get("tls", {})
    for site in sites:
        names = ", ".join(one.listen for one in site.sockets)
        if sockets and not site.sockets:
            site.close("nobody knows here where it listens")
        elif site.sockets and max(one.reach for one in site.sockets) < widest:
            site.close(
                f"it listens on {names} alone, and slardar serves all names on all endpoints"
            )
        if site.client.get("verify") == "require" and not site.is_plain:
            why = "certificates of clients are for names, and this is any name"
            if has_plain:
                why = "endpoints without TLS ask for no certificates of clients"
                if not redirects:
                    site.close(why)
            if not site.closed and (has_plain or not is_for_all):
                site.closed_by_default = why
                draft.differ(
                    site.statement,
                    "ssl_verify_client",
                    "for the names in its certificate alone: see that it has those of the server",
                )
        if site.closed:
            draft.tell_left(site.statement, "server", f"requests for it get 502: {site.closed}")
