"""nginx.conf as a configuration of slardar."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from slardar.migration.draft import NOWHERE, Draft
from slardar.migration.listeners import Socket, endpoints
from slardar.migration.nginx_file import read_nginx
from slardar.migration.nginx_guards import guard_of
from slardar.migration.nginx_listeners import socket_of
from slardar.migration.nginx_locations import MODIFIERS, Location, rules_of
from slardar.migration.nginx_tls import NginxTls
from slardar.migration.nginx_upstreams import NginxUpstreams, target_of
from slardar.migration.nginx_words import BLOCKS, INSTEAD, OFF, OWN
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
    return _Import(path, read_nginx(path)).run()


class _Import:
    def __init__(self, path: str, statements: list[Statement]) -> None:
        self._draft = Draft("nginx", path)
        self._statements = statements
        folder = os.path.dirname(os.path.abspath(path))
        self._upstreams = NginxUpstreams(self._draft, folder)
        self._tls = NginxTls(self._draft, folder)
        self._sockets: dict[tuple[str, str, int], Socket] = {}
        #: The locations of each server, and the names that lead to it, by ``id``.
        self._locations: dict[int, list[Location]] = {}
        self._hosts: dict[int, list[tuple[str, Statement]]] = {}
        self._scopes: dict[int, Scope] = {}
        self._redirects: set[int] = set()
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
            self._listen(server)
        for server in servers:
            self._server(server, Scope(server.block or (), scope))
        self._upstreams.leave_unused()
        self._settings(Scope(inside), servers)
        self._tls.write(servers, self._scopes, list(self._sockets.values()), self._hosts)
        self._redirect(servers)
        self._routes(servers)
        draft.settle()
        for one in _all(self._statements):
            if one.name in OFF and one.args == ["off"]:
                one.take()
        draft.sweep(self._statements, INSTEAD, OWN, BLOCKS)
        return draft

    # Listeners.

    def _listen(self, server: Statement) -> None:
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
            if server not in kept.servers:
                kept.servers.append(server)
            if "default_server" in known:
                kept.default = server
        for one in server.named("ssl"):
            one.take()

    def _sockets_of(self, server: Statement) -> list[Socket]:
        return [one for one in self._sockets.values() if server in one.servers]

    # Servers and their locations.

    def _server(self, server: Statement, scope: Scope) -> None:
        self._scopes[id(server)] = scope
        self._hosts[id(server)] = list(self._names(server))
        locations: list[Location] = []
        self._locations[id(server)] = locations
        blocks = list(server.named("location"))
        answers = list(server.named("return"))
        inner = [one for one in blocks if one.args in (["/"], ["^~", "/"])]
        if not any(True for one in blocks for _ in one.named("proxy_pass")):
            answers += [answer for one in inner for answer in one.named("return")]
        sent = [(one, one) for one in answers[:1] if self._is_redirect(one)]
        for one in server.named("if"):
            inside = one.block or []
            is_one = len(inside) == 1 and one.args[0] in ("$host", "$scheme", "$https")
            if is_one and inside[0].name == "return" and self._is_redirect(inside[0]):
                sent.append((one.take(), inside[0]))
        self._to_https += sent
        for one, _ in sent:
            one.cover()
        if sent and (answers or not blocks):
            # Whatever else it does is for nobody.
            self._redirects.add(id(server))
            for one in inner:
                one.take()
        for one in answers:
            if not one.done:
                self._draft.leave(one, f"requests for it get 502: {_REPLY}")
        if any(one in (server.block or ()) for one in answers):
            for one in blocks:
                self._draft.leave(one, "the server's return comes before it")
            return
        for block in blocks:
            if not block.done:
                self._location(block, scope, locations)
        if locations and not any(
            one.pattern == "/" and "~" not in one.modifier for one in locations
        ):
            self._draft.differ(
                server, server.text, "paths without a location get 502, and not a file or a 404"
            )
        elif not locations and id(server) not in self._redirects:
            self._draft.differ(server, server.text, "without a location all requests get 502")

    def _is_redirect(self, answer: Statement) -> bool:
        """Whether a ``return`` only sends clients to https."""
        target = answer.args[-1]
        return _HTTPS.fullmatch(target) is not None and answer.args[0] in (
            *("301", "302", "303", "307", "308"),
            target,
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
        guard = guard_of(scope)
        if any(True for _ in block.named("return")):
            return _REPLY
        for one in block.block or ():
            if one.name in _CONTENT:
                return INSTEAD.get(one.name, _REPLY)
            if one.name == "proxy_pass":
                text = one.text
                if target_of(one.args[0]) is None:
                    return f"{text}: a hook can choose the upstream (request.upstream)"
                if target_of(one.args[0]).path:  # type: ignore[union-attr]
                    return (
                        f"{text}: a hook can change the path (request.path) and choose the upstream"
                        " (request.upstream)"
                    )
                if guard is not None:
                    return f"{guard.text} may keep requests back or change them; a hook can, too"
                return f"{text}: there is no upstream for it"
        return "it passes no request on"

    def _names(self, server: Statement) -> Iterable[tuple[str, Statement]]:
        """The hosts of a server, as routes have them."""
        for one in server.named("server_name"):
            one.take()
            for name in one.args:
                if name in ("_", ""):
                    # No request has such a Host; it marks the default server.
                    continue
                host = name.lower().removesuffix(".")
                names = [host[1:], f"*{host}"] if host.startswith(".") else [host]
                if re.fullmatch(r"(\*\.)?[-_a-z0-9.]+", names[-1]) and "$" not in host:
                    yield from ((requested_host(text), one) for text in names)
                else:
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
            if size is not None:
                draft.put_for_all("limits", "body", size, one)
            return
        section, key = _SECONDS[one.name]
        seconds = parse_seconds(one.args[0])
        if seconds is None or (not seconds and key not in ("keepalive", "linger", "drain")):
            draft.leave(one, "no time that slardar can have")
        else:
            draft.put_for_all(section, key, seconds, one)

    def _settings(self, scope: Scope, servers: list[Statement]) -> None:
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
        for server in servers:
            for one in server.named("client_max_body_size", *_SECONDS):
                self._for_all(one)
            for one in server.named("set_real_ip_from"):
                self._trust(one)
        for each in [scope, *self._scopes.values()]:
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

    # Routes.

    def _redirect(self, servers: list[Statement]) -> None:
        """Put ``tls.redirect``, if whatever is not sent to https has no certificate."""
        draft = self._draft
        secure: set[str] = set()
        plain: set[str] = set()
        for server in servers:
            hosts = {host for host, _ in self._hosts[id(server)]}
            sockets = self._sockets_of(server)
            if any(one.ssl for one in sockets):
                secure |= hosts
            if id(server) not in self._redirects and any(not one.ssl for one in sockets):
                sends = any(one in (server.block or ()) for one, _ in self._to_https)
                plain |= set() if sends else hosts
        for one, answer in self._to_https:
            if secure and not secure & plain:
                one.cover()
                draft.differ(
                    one, answer.text, "tls.redirect: 308, for all names that have a certificate"
                )
                draft.put("tls", "redirect", True)
            else:
                draft.leave(
                    one, "tls.redirect is for all names that have a certificate (docs/tls.md)"
                )

    def _routes(self, every: list[Statement]) -> None:
        """The routes of all servers: exact names, then wildcards, then the default server."""
        draft = self._draft
        servers = [one for one in every if id(one) not in self._redirects]
        chosen: dict[str, Statement] = {}
        for server in servers:
            for host, statement in self._hosts[id(server)]:
                first = chosen.setdefault(host, server)
                if first is not server and not self._same(first, server):
                    draft.tell_left(
                        statement,
                        f"server_name {host}",
                        f"the server at {first.place} has this name, and routes do not look at the"
                        " port",
                    )
        for server in every:
            # A name that is only sent to https is not for other servers.
            for host, _ in self._hosts[id(server)]:
                chosen.setdefault(host, server)
        exact = [host for host in chosen if not host.startswith("*.")]
        wild = sorted((host for host in chosen if host.startswith("*.")), key=lambda one: -len(one))
        for host in [*exact, *wild]:
            self._routes_of(chosen[host], host)
        defaults: list[Statement] = []
        for socket in self._sockets.values():
            default = socket.default or socket.servers[0]
            if id(default) not in self._redirects and default not in defaults:
                defaults.append(default)
        for one in defaults[1:]:
            if not self._same(one, defaults[0]):
                draft.differ(
                    one,
                    one.text,
                    f"requests for unknown names go to the server at {defaults[0].place}, as routes"
                    " do not look at the port",
                )
        if defaults:
            self._routes_of(defaults[0], None)
        parties = {
            frozenset(id(one) for one in socket.servers) - self._redirects
            for socket in self._sockets.values()
        } - {frozenset()}
        if len(parties) > 1:
            draft.differ(every[0], "server", "slardar serves all names on all of its endpoints")
        if any(route.get("path") != "/" for route in draft.routes):
            first = next((one for one in servers if self._locations[id(one)]), every[0])
            draft.differ(
                first,
                "location",
                "paths are compared as they are sent: %XX, .. and // are not resolved before",
            )

    def _same(self, one: Statement, other: Statement) -> bool:
        """Whether two servers have the same routes."""
        parts = [[at.shape for at in self._locations[id(server)]] for server in (one, other)]
        return parts[0] == parts[1]

    def _routes_of(self, server: Statement, host: str | None) -> None:
        draft = self._draft
        ends = False
        for rule in rules_of(self._locations[id(server)]):
            draft.add_route(
                rule.statement, rule.upstream, host=host, path=rule.path, path_regex=rule.path_regex
            )
            ends = ends or rule.path == "/"
        if not ends and host is not None:
            # Else its other requests would go where those for unknown names go.
            draft.add_route(server, NOWHERE, host=host)


def _all(statements: Iterable[Statement]) -> Iterable[Statement]:
    for one in statements:
        yield one
        yield from _all(one.block or ())
