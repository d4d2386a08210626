"""nginx.conf as a configuration of slardar."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from slardar.errors import ConfigError
from slardar.migration.draft import NOWHERE, Draft
from slardar.migration.listeners import Socket, endpoints
from slardar.migration.nginx_file import read_nginx
from slardar.migration.nginx_guards import guard_of
from slardar.migration.nginx_listeners import socket_of
from slardar.migration.nginx_locations import MODIFIERS, Location
from slardar.migration.nginx_routes import add_routes, redirect
from slardar.migration.nginx_sites import Site, close_sites
from slardar.migration.nginx_tls import NginxTls
from slardar.migration.nginx_upstreams import NginxUpstreams, target_of
from slardar.migration.nginx_words import BLOCKS, HOOK, INSTEAD, OFF, OWN
from slardar.migration.statement import Scope, Statement
from slardar.migration.units import parse_number, parse_seconds, parse_size
from slardar.model.names import requested_host
from slardar.model.networks import Networks

__all__ = ["import_nginx"]

#: Directives that slardar has once for all names: where their value goes.
_SECONDS = {
    "keepalive_timeout": ("timeouts", "keepalive"),
    "client_header_timeout": ("timeouts", "client_header"),
    "client_body_timeout": ("timeouts", "client_body"),
    "send_timeout": ("timeouts", "send"),
    "lingering_timeout": ("timeouts", "linger"),
    "worker_shutdown_timeout": ("timeouts", "drain"),
}
#: nginx's limit of a body where none is written.
_MEBIBYTE = 1 << 20
_HTTPS = re.compile(r"https://(\$host|\$http_host|\$server_name)\$request_uri")
#: What answers requests of a location, and the reason why it is not taken over.
_CONTENT = (
    *("fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass"),
    *("stub_status", "try_files", "alias", "root", "content_by_lua_block", "internal"),
)
_REPLY = "a hook can answer: request.respond or request.redirect (docs/hooks-python.md)"


def import_nginx(path: str) -> Draft:
    """The configuration for what a file of nginx says, which may be one of ``conf.d`` alone.

    Reads the file and all that it includes, so it blocks.  Raises ConfigError.
    """
    try:
        return _Import(path, read_nginx(path)).run()
    except RecursionError:
        raise ConfigError(f"{path}: its blocks are too deep") from None


class _Import:
    def __init__(self, path: str, statements: list[Statement]) -> None:
        self._draft = Draft("nginx", path)
        self._statements = statements
        folder = os.path.dirname(os.path.abspath(path))
        self._upstreams = NginxUpstreams(self._draft, folder)
        self._tls = NginxTls(self._draft, folder)
        self._sockets: dict[tuple[str, str, int], Socket] = {}
        self._sites: list[Site] = []
        #: What only sends clients to https, and the ``return`` in it (certbot writes an ``if``).
        self._to_https: list[tuple[Statement, Statement]] = []

    def run(self) -> Draft:
        """The whole import."""
        draft = self._draft
        http = [one.take() for one in self._statements if one.name == "http"]
        inside = [*self._statements, *(one for block in http for one in block.block or ())]
        # A file without ``http`` stands within it elsewhere.
        scope = Scope(inside[len(self._statements) :] if http else inside)
        for one in inside:
            if one.name == "upstream":
                self._upstreams.read(one)
        servers = [one.take() for one in inside if one.name == "server" and one.block is not None]
        for server in servers:
            site = Site(server, Scope(server.block or (), scope))
            self._sites.append(site)
            self._listen(site)
        for site in self._sites:
            self._server(site)
        self._upstreams.leave_unused()
        sockets = list(self._sockets.values())
        self._settings(Scope(inside), scope)
        self._tls.write(self._sites, sockets)
        redirects = redirect(draft, self._sites, self._to_https)
        close_sites(draft, self._sites, sockets, redirects)
        add_routes(draft, self._sites, sockets)
        draft.settle()
        for one in _all(self._statements):
            if one.name in OFF and one.args == ["off"]:
                one.take()
        draft.sweep(self._statements, INSTEAD, OWN, BLOCKS)
        return draft

    # Listeners.

    def _listen(self, site: Site) -> None:
        server = site.statement
        found = list(server.named("listen"))
        for one in found or [Statement("listen", ["80"], server.file, server.line)]:
            one.take()
            socket, unknown, known = socket_of(one.args)
            if socket is None or (socket.family == "unix" and socket.ssl):
                self._draft.leave(one, "listen of slardar.yaml takes addresses and ports of TCP")
                continue
            for word in unknown:
                self._draft.tell_left(one, f"listen {word}", INSTEAD.get(word, "no such setting"))
            kept = self._sockets.setdefault(socket.key, socket)
            kept.ssl |= socket.ssl or any(word.args == ["on"] for word in server.named("ssl"))
            kept.proxied |= socket.proxied
            if kept not in site.sockets:
                site.sockets.append(kept)
                kept.servers.append(server)
            if "default_server" in known:
                kept.default = server
        for one in server.named("ssl"):
            one.take()

    # Servers and their locations.

    def _server(self, site: Site) -> None:
        draft, server = self._draft, site.statement
        self._names(site)
        blocks = list(server.named("location"))
        answers = list(server.named("return"))
        sent = [(one, one) for one in answers[:1] if self._is_redirect(site, one)]
        for one in server.named("if"):
            inside = one.block or []
            is_one = len(inside) == 1 and one.args[0] in ("$host", "$scheme", "$https")
            if is_one and inside[0].name == "return" and self._is_redirect(site, inside[0]):
                sent.append((one.take(), inside[0]))
        site.redirects = bool(sent and (answers or not blocks))
        if not answers:
            for block in blocks:
                answer = next(block.named("return"), None)
                if (
                    block.args in (["/"], ["^~", "/"])
                    and answer
                    and self._is_redirect(site, answer)
                ):
                    # Its other locations come before this one, as for certbot's challenges.
                    site.redirects = True
                    block.take()
                    sent.append((answer, answer))
        self._to_https += sent
        for one, _ in sent:
            one.cover()
        for one in answers:
            if not one.done:
                draft.leave(one, f"requests for it get 502: {_REPLY}")
        if answers:
            for one in blocks:
                draft.leave(one, "the server's return comes before it")
            return
        for block in blocks:
            if not block.done:
                self._location(block, site.scope, site.locations)
        if site.redirects:
            return
        if not site.locations:
            draft.differ(server, server.text, "without a location all requests get 502")
        elif not any(one.pattern == "/" and not one.is_expression for one in site.locations):
            draft.differ(
                server, server.text, "paths without a location get 502, and not a file or a 404"
            )

    def _is_redirect(self, site: Site, answer: Statement) -> bool:
        """Whether a ``return`` only sends clients to https."""
        target = answer.args[-1]
        if len(site.hosts) == 1:
            # Its name is the only one that clients have asked for.
            target = target.replace(f"https://{site.hosts[0][0]}$", "https://$host$")
        return _HTTPS.fullmatch(target) is not None and answer.args[0] in (
            *("301", "302", "303", "307", "308"),
            answer.args[-1],
        )

    def _location(self, block: Statement, outer: Scope, found: list[Location]) -> None:
        """Read a location, and those in it."""
        draft = self._draft
        modifier, pattern = block.args if len(block.args) == 2 else ("", block.args[0])
        if len(block.args) == 1:
            # nginx takes the modifier without a blank, too.
            for word in ("^~", "~*", "~", "="):
                if pattern.startswith(word):
                    modifier, pattern = word, pattern[len(word) :]
                    break
        if pattern.startswith("@") or modifier not in ("", *MODIFIERS):
            draft.leave(block, "named locations are for nginx's internal redirects")
            return
        if modifier not in ("~", "~*") and not pattern.startswith("/"):
            draft.leave(block, "no path begins so")
            return
        block.take()
        scope = Scope(block.block or (), outer)
        inner: list[Location] = []
        blocks = list(block.named("location"))
        if blocks and modifier in ("~", "~*"):
            # Whatever they keep back is kept back with all that is around them.
            for one in blocks:
                draft.leave(one, "locations in an expression: write the route by hand")
            upstream = None
        else:
            for one in blocks:
                self._location(one, scope, inner)
            upstream = self._upstream_of(block, scope, modifier, pattern)
        found.append(Location(modifier, pattern, upstream or NOWHERE, block, tuple(inner)))
        for one in block.named("client_max_body_size", *_SECONDS):
            self._for_all(one)
        if upstream is None:
            draft.leave(block, f"requests for it get 502: {self._reason(block, scope)}")
            guard = guard_of(scope)
            for one in block.block or ():
                # The first of them is in the reason.
                if one is not guard and INSTEAD.get(one.name) == HOOK:
                    draft.tell_left(one, one.text, HOOK)
        elif modifier in ("", "^~") and len(pattern) > 1 and pattern.endswith("/"):
            draft.differ(
                block, block.text, f"nginx sends {pattern[:-1]} to {pattern} by itself; a hook can"
            )

    def _upstream_of(
        self, block: Statement, scope: Scope, modifier: str, pattern: str
    ) -> str | None:
        """The upstream of a location, or ``None`` if its requests are not only passed on."""
        passes = list(block.named("proxy_pass"))
        if not passes or any(True for _ in block.named("return", "internal")):
            return None
        target = target_of(passes[-1].args[0])
        if target is None or guard_of(scope) is not None:
            return None
        # A URI part that is the location's own prefix changes nothing.
        if target.path and (modifier in ("~", "~*") or target.path != pattern):
            return None
        name = self._upstreams.use(target, scope, passes[-1])
        if name is not None:
            passes[-1].take()
        return name

    def _reason(self, block: Statement, scope: Scope) -> str:
        passes = list(block.named("proxy_pass"))
        if "/.well-known/acme-challenge" in block.text and not passes:
            return "tls.acme fetches certificates by itself (docs/tls.md)"
        if any(True for _ in block.named("return")):
            return _REPLY
        for one in block.named(*_CONTENT):
            if not passes or one.name not in ("root", "alias"):
                return INSTEAD.get(one.name, _REPLY)
        guard = guard_of(scope)
        if guard is not None:
            return f"{guard.text} may keep requests back or change them; a hook can, too"
        for one in passes:
            target = target_of(one.args[0])
            if target is None:
                return f"{one.text}: a hook can choose the upstream (request.upstream)"
            if target.path:
                return (
                    f"{one.text}: a hook can change the path (request.path) and choose the upstream"
                    " (request.upstream)"
                )
            return f"{one.text}: there is no upstream for it"
        return "it passes no request on"

    def _names(self, site: Site) -> None:
        """Read the names of a server."""
        for one in site.statement.named("server_name"):
            one.take()
            for name in one.args:
                if name in ("_", ""):
                    # No request has such a Host; it marks the default server.
                    continue
                host = name.lower().removesuffix(".")
                names = [host[1:], f"*{host}"] if host.startswith(".") else [host]
                if re.fullmatch(r"(\*\.)?[-_a-z0-9.]+", names[-1]) and "$" not in host:
                    site.hosts += [(requested_host(text), one) for text in names]
                else:
                    site.vague.append(name)
                    self._draft.tell_left(
                        one,
                        f"server_name {name}",
                        "slardar knows names and wildcards such as *.example.com; a hook can choose"
                        " the upstream (request.upstream)",
                    )

    # Settings of the process.

    def _for_all(self, one: Statement) -> None:
        draft = self._draft
        if one.name == "client_max_body_size":
            size = parse_size(one.args[0])
            if size is None:
                draft.leave(one, "no size that slardar can have")
            else:
                draft.put_for_all("limits", "body", size, one)
            return
        section, key = _SECONDS[one.name]
        seconds = parse_seconds(one.args[0])
        if seconds is None or (not seconds and key not in ("keepalive", "linger", "drain")):
            draft.leave(one, "no time that slardar can have")
        else:
            draft.put_for_all(section, key, seconds, one)

    def _settings(self, scope: Scope, http: Scope) -> None:
        draft = self._draft
        sockets = list(self._sockets.values())
        if sockets:
            draft.settings["listen"] = endpoints(sockets)
        words = [*scope.statements]
        for one in self._statements:
            if one.name == "events":
                one.take()
                words += one.block or ()
        whole = Scope(words)
        processes = whole.last("worker_processes")
        if processes is not None:
            number = parse_number(processes.args[0], 1, 256)
            if number is not None or processes.args[0] == "auto":
                draft.settings["workers"] = number or "auto"
            else:
                draft.leave(processes, "workers is auto or 1 to 256")
        connections = whole.last("worker_connections")
        number = parse_number(connections.args[0], 1) if connections is not None else None
        if number is not None:
            draft.put("limits", "connections", number)
        elif connections is not None:
            draft.leave(connections, "limits.connections is at least 1")
        buffers = whole.last("large_client_header_buffers")
        if buffers is not None:
            count, size = parse_number(buffers.args[0], 1), parse_size(buffers.args[-1])
            if count and size:
                draft.put("limits", "url", size)
                draft.put("limits", "head", count * size)
            else:
                draft.leave(buffers, "limits.url and limits.head are at least 1")
        for one in words:
            if one.name in _SECONDS or one.name == "client_max_body_size":
                self._for_all(one)
            elif one.name == "set_real_ip_from":
                self._trust(one)
            elif one.name == "map" and one.args == ["$http_upgrade", "$connection_upgrade"]:
                # For WebSockets, which slardar passes on by itself.
                one.cover()
        for site in self._sites:
            for one in site.statement.named("client_max_body_size", *_SECONDS):
                self._for_all(one)
            for one in site.statement.named("set_real_ip_from"):
                self._trust(one)
        for each in [http, *(site.scope for site in self._sites)]:
            self._real_ip(each)
        if not any(one.name == "client_max_body_size" for one in words):
            draft.put_for_all("limits", "body", _MEBIBYTE, None)

    def _trust(self, one: Statement) -> None:
        text = one.args[0]
        try:
            Networks([text])
        except ValueError:
            self._draft.leave(one, "trusted takes networks and addresses")
            return
        trusted = self._draft.settings.setdefault("trusted", [])
        if text not in trusted:
            trusted.append(text)
        one.take()

    def _real_ip(self, scope: Scope) -> None:
        for one in scope.statements:
            if one.name == "real_ip_header":
                if one.args[0].lower() in ("x-forwarded-for", "proxy_protocol"):
                    one.take()
                else:
                    self._draft.leave(
                        one, "X-Forwarded-For and Forwarded are believed (docs/http.md)"
                    )


def _all(statements: Iterable[Statement]) -> Iterable[Statement]:
    for one in statements:
        yield one
        yield from _all(one.block or ())
