"""The routes of nginx's servers: exact names, then wildcards, then the default server."""

from __future__ import annotations

from collections.abc import Sequence

from slardar.migration.draft import NOWHERE, Draft
from slardar.migration.listeners import Socket
from slardar.migration.nginx_locations import ESCAPED, REWRITTEN, Rule, rules_of
from slardar.migration.nginx_sites import Site
from slardar.migration.statement import Statement

__all__ = ["add_routes", "redirect"]


def redirect(
    draft: Draft, sites: Sequence[Site], sent: Sequence[tuple[Statement, Statement]]
) -> bool:
    """Put ``tls.redirect``, if whatever is not sent to https has no certificate.

    ``sent`` is what only sends clients to https, and the ``return`` in it.
    """
    secure: set[str] = set()
    plain: set[str] = set()
    conditions = {id(one) for one, _ in sent}
    for site in sites:
        hosts = {host for host, _ in site.hosts}
        if site.is_secure:
            secure |= hosts
        if not site.redirects and site.is_plain:
            sends = any(id(one) in conditions for one in site.statement.block or ())
            plain |= set() if sends else hosts
    redirects = bool(sent and secure and not secure & plain)
    for one, answer in sent:
        if redirects:
            one.cover()
            why = "tls.redirect: 308, for all names that have a certificate"
            draft.differ(one, answer.text, why)
            draft.put("tls", "redirect", True)
        else:
            draft.leave(
                one,
                "tls.redirect is for all names that have a certificate (docs/tls.md): the routes"
                " serve requests without TLS, too",
            )
    return redirects


def add_routes(draft: Draft, sites: Sequence[Site], sockets: Sequence[Socket]) -> None:
    """Add the routes of all servers."""
    _Routes(draft, sites, sockets).add()


class _Routes:
    def __init__(self, draft: Draft, sites: Sequence[Site], sockets: Sequence[Socket]) -> None:
        self._draft = draft
        self._sites = sites
        self._sockets = sockets
        self._of = {id(site.statement): site for site in sites}
        #: The servers that have a name without TLS.
        self._plain: dict[str | None, Site] = {}
        for site in sites:
            if site.is_plain:
                for host, _ in site.hosts:
                    self._plain.setdefault(host, site)
        for socket in sockets:
            if not socket.ssl:
                self._plain.setdefault(None, self._default(socket))

    def _default(self, socket: Socket) -> Site:
        return self._of[id(socket.default or socket.servers[0])]

    def add(self) -> None:
        """Add all of them, and say what differs."""
        draft, sites = self._draft, self._sites
        chosen: dict[str, Site] = {}
        # What only redirects, or is closed, has no name that another one has.
        for site in sorted(sites, key=lambda one: (one.redirects, bool(one.closed))):
            for host, statement in site.hosts:
                first = chosen.setdefault(host, site)
                if first is not site and not site.redirects and not first.does_as(site):
                    draft.tell_left(
                        statement,
                        f"server_name {host}",
                        f"the server at {first.statement.place} has this name, and routes do not"
                        " look at the port",
                    )
        exact = [host for host in chosen if not host.startswith("*.")]
        wild = sorted((host for host in chosen if host.startswith("*.")), key=lambda one: -len(one))
        for host in [*exact, *wild]:
            self._add(chosen[host], host)
        self._add_default()
        parties = {
            frozenset(id(one) for one in socket.servers if not self._of[id(one)].redirects)
            for socket in self._sockets
        } - {frozenset()}
        if len(parties) > 1:
            why = "slardar serves all names on all of its endpoints"
            draft.differ(sites[0].statement, "server", why)
        if any(route.get("path") != "/" for route in draft.routes):
            draft.differ(
                next((one for one in sites if one.locations), sites[0]).statement,
                "location",
                "paths are compared as they are sent: %XX, .. and // are not resolved before",
            )

    def _add_default(self) -> None:
        """The routes for names that no server has."""
        draft = self._draft
        found = [self._default(socket) for socket in self._sockets]
        defaults = [one for one in dict.fromkeys(found) if not one.redirects]
        defaults.sort(key=lambda one: bool(one.closed or one.closed_by_default))
        for one in defaults[1:]:
            if not one.does_as(defaults[0]):
                draft.differ(
                    one.statement,
                    one.statement.text,
                    f"requests for unknown names go to the server at {defaults[0].statement.place},"
                    " as routes do not look at the port",
                )
        if not defaults:
            return
        first = defaults[0]
        for site in self._sites:
            if site.vague and not site.redirects and not site.does_as(first):
                why = f"server_name {site.vague[0]} at {site.statement.place} may be for them"
                first.closed_by_default = first.closed_by_default or why
        if first.closed_by_default and not first.closed:
            draft.tell_left(
                first.statement,
                "server",
                f"requests for names that no server has get 502: {first.closed_by_default}",
            )
        self._add(first, None)

    def _add(self, site: Site, host: str | None) -> None:
        draft = self._draft
        if site.closed or (host is None and site.closed_by_default):
            draft.add_route(site.statement, NOWHERE, host=host, path="/" if host is None else None)
            return
        rules = [*self._before(site, host), *rules_of(site.locations)]
        ends = any(rule.path == "/" for rule in rules)
        upstreams = {rule.upstream for rule in rules}
        if upstreams - {NOWHERE} and (NOWHERE in upstreams or not ends):
            # Else what is kept back could be had by another spelling of its path.
            draft.add_route(site.statement, NOWHERE, host=host, path_regex=REWRITTEN)
            draft.differ(
                site.statement,
                "server",
                "paths that nginx would rewrite first (//, /./, /../, and escapes of letters,"
                " digits, - . _ ~ and /) get 502, as some paths are kept back",
            )
        for rule in rules:
            if (rule.path_regex or "").endswith(ESCAPED):
                draft.differ(
                    rule.statement,
                    rule.statement.text,
                    "paths with an escape (%XX) get 502, as nobody knows here which of them it is"
                    " for",
                )
            draft.add_route(
                rule.statement, rule.upstream, host=host, path=rule.path, path_regex=rule.path_regex
            )
        if not ends and host is not None:
            # Else its other requests would go where those for unknown names go.
            draft.add_route(site.statement, NOWHERE, host=host)

    def _before(self, site: Site, host: str | None) -> list[Rule]:
        """The locations of the server that sends the name to https, and serves them itself."""
        plain = self._plain.get(host)
        if plain is None and host is not None:
            labels = host.split(".")
            wild = (f"*.{'.'.join(labels[at:])}" for at in range(1, len(labels)))
            plain = next((self._plain[one] for one in wild if one in self._plain), None)
        plain = plain or self._plain.get(None)
        if plain is None or plain is site or not plain.redirects:
            return []
        for one in plain.locations:
            self._draft.differ(
                one.statement,
                one.statement.text,
                "tls.redirect sends its requests to https first, where they are answered",
            )
        return rules_of(plain.locations)
