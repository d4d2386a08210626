"""haproxy.cfg as a configuration of slardar: the subset that balances HTTP by host and path."""

from __future__ import annotations

import os
import re
from typing import Any

from slardar.migration.draft import NOWHERE, Draft
from slardar.migration.haproxy_backends import HaproxyBackends
from slardar.migration.haproxy_conditions import Acls, Match
from slardar.migration.haproxy_file import read_haproxy
from slardar.migration.haproxy_words import BLOCKS, GUARDS, INSTEAD, OWN, OWN_OF_BINDS
from slardar.migration.listeners import Socket, endpoints, tcp_socket
from slardar.migration.statement import Scope, Statement
from slardar.migration.units import parse_number, parse_seconds

__all__ = ["import_haproxy"]

#: What is said of a request that has not come over TLS.
_PLAIN = ("if !{ ssl_fc }", "unless { ssl_fc }", "")
_VERIFY = {"required": "require", "optional": "optional"}


def import_haproxy(path: str) -> Draft:
    """The configuration for what a file of HAProxy says.

    Reads the file, so it blocks.  Raises ConfigError.
    """
    return _Import(path, read_haproxy(path)).run()


class _Import:
    def __init__(self, path: str, sections: list[Statement]) -> None:
        self._draft = Draft("HAProxy", path)
        self._sections = sections
        self._folder = os.path.dirname(os.path.abspath(path))
        self._backends = HaproxyBackends(self._draft, self._folder)
        self._global = Scope(
            [one for at in sections if at.name == "global" for one in at.block or ()]
        )
        #: Backends whose requests may be kept back or changed, and by what.
        self._guarded: dict[str, Statement] = {}
        self._sockets: list[Socket] = []
        self._pairs: list[dict[str, Any]] = []
        self._redirects: list[Statement] = []
        #: The frontend whose routes are taken over.
        self._first: Statement | None = None
        self._taken: list[tuple[Match, str, Statement]] = []

    def run(self) -> Draft:
        """The whole import."""
        draft = self._draft
        fronts: list[tuple[Statement, Scope]] = []
        defaults = Scope([])
        for section in self._sections:
            if section.name in ("global", "defaults"):
                section.take()
            if section.name == "defaults":
                defaults = Scope(section.block or ())
            if section.name not in ("frontend", "backend", "listen"):
                continue
            scope = Scope(section.block or (), defaults)
            mode = scope.peek("mode")
            if not section.args:
                draft.leave(section, "a section has a name")
            elif not mode or mode[-1].args[:1] != ["http"]:
                draft.leave(section, "slardar balances HTTP only: mode http")
            elif any(True for _ in section.named("disabled")):
                draft.leave(section, "it is disabled")
            else:
                section.take()
                if section.name != "frontend":
                    self._backends.read(section, scope)
                    self._guard(section)
                if section.name == "listen" and self._is_page(section):
                    draft.leave(section, INSTEAD["stats uri"])
                elif section.name != "backend":
                    fronts.append((section, scope))
        for section, scope in fronts:
            self._front(section, scope)
        self._settings()
        draft.settle()
        draft.sweep(self._sections, INSTEAD, OWN, BLOCKS)
        return draft

    def _is_page(self, section: Statement) -> bool:
        """Whether a ``listen`` serves nothing but HAProxy's own page."""
        names = {one.name for one in section.block or ()}
        return not names & {"server", "use_backend", "default_backend"}

    def _guard(self, section: Statement) -> None:
        if section.name == "backend":
            for one in section.named(*GUARDS):
                self._guarded.setdefault(section.args[0], one)

    # A frontend.

    def _front(self, section: Statement, scope: Scope) -> None:
        draft = self._draft
        acls = Acls(section.named("acl"))
        for one in list(section.named("redirect", "http-request redirect")):
            words = " ".join(one.args)
            found = re.fullmatch(r"scheme https(?: code 30[1278])?(?: (.+))?", words)
            if found is not None and (found[1] or "") in _PLAIN:
                self._redirects.append(one.take())
        routes = self._routes(section, scope, acls)
        sockets = [socket for one in section.named("bind") for socket in self._bind(one)]
        if self._first is not None and routes and _plain(routes) != _plain(self._taken):
            # The listeners would lead to the routes of the first frontend.
            draft.leave(
                section,
                f"routes do not look at the port, and those of {self._first.place} are taken: run"
                " another slardar for this one",
            )
            return
        self._sockets += [one for one in sockets if one.key not in {at.key for at in self._sockets}]
        if routes and self._first is None:
            self._first, self._taken = section, routes
            for match, upstream, line in routes:
                keys = {"path": "/"} if not match else dict(match)
                draft.add_route(line, upstream, **keys)
        self._limits(section, scope)

    def _routes(
        self, section: Statement, scope: Scope, acls: Acls
    ) -> list[tuple[Match, str, Statement]]:
        """The routes of a frontend, in order, with the lines that they are for."""
        draft = self._draft
        routes: list[tuple[Match, str, Statement]] = []
        # These come before use_backend, wherever they stand.
        for one in list(section.named(*GUARDS)):
            if one.done:
                continue
            at = next((n for n, word in enumerate(one.args) if word in ("if", "unless")), None)
            known = acls.matches([] if at is None else one.args[at:], wider=True)
            draft.leave(
                one,
                "it may keep requests back or change them, so those that it may be for get 502,"
                " until the route to not-taken-over is removed; a hook can do what it does",
            )
            routes += [(match, NOWHERE, one) for match in known or ()]
        for one in list(section.named("use_backend")):
            found = acls.matches(one.args[1:])
            name = self._backend(one.args[0]) if one.args else None
            if found is None:
                draft.leave(one, "routes know host and path; a hook can choose request.upstream")
            elif not found:
                draft.leave(one, "no request can meet its condition")
            elif name is None:
                draft.leave(one, f"its requests get 502: {self._why(one.args[0])}")
            else:
                one.take()
            routes += [(match, name or NOWHERE, one) for match in found or ()]
        default = scope.last("default_backend")
        if default is not None or section.name == "listen":
            wanted = default.args[0] if default is not None else section.args[0]
            name = self._backend(wanted)
            line = default or section
            if name is None:
                draft.tell_left(line, line.text, f"its requests get 502: {self._why(wanted)}")
            routes.append(({}, name or NOWHERE, line))
        return routes

    def _backend(self, name: str) -> str | None:
        return None if name in self._guarded else self._backends.name_of(name)

    def _why(self, name: str) -> str:
        guard = self._guarded.get(name)
        if guard is not None:
            return f"{guard.text} of the backend may keep them back or change them; a hook can, too"
        if "%" in name:
            return "a hook can choose request.upstream"
        return "there is no upstream for it"

    def _bind(self, line: Statement) -> list[Socket]:
        """The sockets of a ``bind``."""
        draft = self._draft
        line.take()
        is_secure, is_proxied = "ssl" in line.args, "accept-proxy" in line.args
        sockets = []
        for text in line.args[0].split(","):
            address = re.sub("^(ipv[46]|unix)@", "", text)
            host, _, port = address.rpartition(":")
            socket: Socket | None = None
            if address.startswith("/"):
                socket = Socket("unix", address, 0)
            elif parse_number(port, 1, 65535) is not None and ":" in address:
                socket = tcp_socket(host, int(port))
            if socket is None or (socket.family == "unix" and is_secure):
                draft.tell_left(line, line.text, "listen of slardar.yaml takes addresses and ports")
                continue
            socket.ssl, socket.proxied = is_secure, is_proxied
            sockets.append(socket)
        self._bind_words(line, list(line.args[1:]))
        return sockets

    def _bind_words(self, line: Statement, words: list[str]) -> None:
        draft = self._draft
        client: dict[str, Any] = {}
        files: list[str] = []
        while words:
            word = words.pop(0)
            value = words[0] if words else ""
            if word == "accept-proxy":
                continue
            if word in ("crt", "ca-file", "verify", "ciphers", "ssl-min-ver") and words:
                words.pop(0)
                if word == "crt":
                    base = self._global.value("crt-base") or ""
                    files.append(os.path.join(self._folder, base, value))
                elif word == "ca-file":
                    base = self._global.value("ca-base") or ""
                    client["ca"] = os.path.join(self._folder, base, value)
                elif word == "verify" and value in _VERIFY:
                    client["verify"] = _VERIFY[value]
                elif word in ("ciphers", "ssl-min-ver"):
                    self._policy(line, word, value)
            elif word in OWN_OF_BINDS:
                if word == "alpn" and "h2" in value:
                    draft.tell_left(line, f"bind {word} {value}", "slardar speaks HTTP/1.1")
                del words[: OWN_OF_BINDS[word]]
            else:
                draft.tell_left(line, f"bind {word}", "no such setting of an endpoint")
        for name in files:
            pair: dict[str, Any] = {"folder" if os.path.isdir(name) else "cert": name}
            if "verify" in client and "ca" in client:
                pair["client"] = {"verify": client["verify"], "ca": client["ca"]}
            if pair not in self._pairs:
                self._pairs.append(pair)
        if files and not os.path.isdir(files[0]) and "strict-sni" not in line.args:
            draft.differ(
                line,
                line.text,
                "handshakes for unknown names are refused: for the first certificate, set"
                " tls.default to a name in it",
            )

    def _policy(self, line: Statement, word: str, value: str) -> None:
        """What slardar has once for all of its endpoints."""
        key, wanted = ("ciphers", value) if word == "ciphers" else ("min_version", value[4:])
        if key == "min_version" and value not in ("TLSv1.2", "TLSv1.3"):
            self._draft.tell_left(line, f"bind {word} {value}", "slardar begins with TLS 1.2")
        elif self._draft.settings.get("tls", {}).get(key, wanted) != wanted:
            self._draft.tell_left(line, f"bind {word} {value}", f"tls.{key} is one for all")
        else:
            self._draft.put("tls", key, wanted)

    # Settings of the process.

    def _limits(self, section: Statement, scope: Scope) -> None:
        draft = self._draft
        times: dict[str, tuple[float, Statement]] = {}
        for name, keys in (
            ("timeout client", ("client_header", "client_body", "keepalive")),
            ("timeout http-request", ("client_header", "keepalive")),
            ("timeout http-keep-alive", ("keepalive",)),
        ):
            one = scope.last(name)
            seconds = None if one is None else parse_seconds(one.args[0], "ms")
            if one is not None and not seconds:
                draft.leave(one, "no time that slardar can have")
            elif one is not None and seconds:
                for key in keys:
                    times[key] = seconds, one
        for key, (seconds, one) in times.items():
            draft.put_for_all("timeouts", key, seconds, one)
        for one in section.named("maxconn"):
            number = parse_number(one.args[0], 1)
            if number is not None:
                draft.put_for_all("limits", "connections", number, one)

    def _settings(self) -> None:
        draft = self._draft
        if self._sockets:
            draft.settings["listen"] = endpoints(self._sockets)
        if self._pairs:
            draft.put("tls", "certificates", self._pairs)
        for one in self._redirects:
            if any(socket.ssl for socket in self._sockets):
                draft.put("tls", "redirect", True)
                draft.differ(one, one.text, "tls.redirect: 308, for names that have a certificate")
            else:
                draft.leave(one, "tls.redirect: it needs an endpoint with TLS (docs/tls.md)")
        for one in self._global.statements:
            if one.name == "maxconn":
                number = parse_number(one.args[0], 1)
                if number is not None:
                    draft.put_for_all("limits", "connections", number, one)
            elif one.name in ("crt-base", "ca-base"):
                one.take()
        for section in self._sections:
            for one in section.named("timeout check"):
                seconds = parse_seconds(one.args[0], "ms")
                if seconds:
                    draft.put_for_all("health", "timeout", seconds, one)


def _plain(routes: list[tuple[Match, str, Statement]]) -> list[tuple[Match, str]]:
    return [(match, upstream) for match, upstream, _ in routes]
