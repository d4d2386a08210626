"""haproxy.cfg as a configuration of slardar: the subset that balances HTTP by host and path."""

from __future__ import annotations

import os
import re
from typing import Any

from slardar.migration.draft import NOWHERE, Draft
from slardar.migration.haproxy_backends import HaproxyBackends
from slardar.migration.haproxy_conditions import Acls, Match, has_port
from slardar.migration.haproxy_file import read_haproxy
from slardar.migration.haproxy_guards import guards_of
from slardar.migration.haproxy_words import BLOCKS, INSTEAD, OWN, OWN_OF_BINDS
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
        #: The frontend whose routes are taken over, and its listeners.
        self._first: Statement | None = None
        self._of_first: list[Socket] = []
        #: Frontends without routes.
        self._bare: list[tuple[Statement, Scope]] = []
        self._taken: list[tuple[Match, str, Statement]] = []

    def run(self) -> Draft:
        """The whole import."""
        draft = self._draft
        fronts: list[tuple[Statement, Scope]] = []
        defaults = Scope([])
        named: dict[str, Scope] = {}
        for section in self._sections:
            if section.name in ("global", "defaults"):
                section.take()
            if section.name == "defaults":
                above = named.get(section.args[2]) if section.args[1:2] == ["from"] else None
                defaults = Scope([*(above.statements if above else ()), *(section.block or ())])
                named.update(dict.fromkeys(section.args[:1], defaults))
            if section.name not in ("frontend", "backend", "listen"):
                continue
            around = named.get(section.args[2]) if section.args[1:2] == ["from"] else None
            scope = Scope(section.block or (), around or defaults)
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
                    for one in guards_of(section, scope):
                        self._guarded.setdefault(section.args[0], one)
                if section.name == "listen" and self._is_page(section):
                    draft.leave(section, INSTEAD["stats uri"])
                elif section.name != "backend":
                    fronts.append((section, scope))
        for section, scope in fronts:
            self._front(section, scope)
        for section, scope in self._bare:
            self._listen_bare(section, scope)
        self._settings()
        draft.settle()
        draft.sweep(self._sections, INSTEAD, OWN, BLOCKS)
        return draft

    def _is_page(self, section: Statement) -> bool:
        """Whether a ``listen`` serves nothing but HAProxy's own page."""
        names = {one.name for one in section.block or ()}
        return not names & {"server", "use_backend", "default_backend"}

    # A frontend.

    def _front(self, section: Statement, scope: Scope) -> None:
        draft = self._draft
        acls = Acls(section.named("acl"))
        for one in list(section.named("redirect", "http-request redirect")):
            words = " ".join(one.args)
            found = re.fullmatch(r"scheme https(?: code 30[1278])?(?: (.+))?", words)
            if found is not None and (found[1] or "") in _PLAIN:
                self._redirects.append(one.take())
        told: list[tuple[Statement, str]] = []
        routes = self._routes(section, scope, acls, told)
        if self._first is not None and routes and _plain(routes) != _plain(self._taken):
            # The listeners would lead to the routes of the first frontend.
            draft.leave(
                section,
                f"routes do not look at the port, and those of {self._first.place} are taken: run"
                " another slardar for this one",
            )
            return
        for one, why in told:
            draft.tell_left(one, one.text, why)
        if not routes:
            self._bare.append((section, scope))
            return
        sockets = self._sockets_of(section)
        self._listen(section, scope, sockets)
        if self._first is None:
            self._first, self._taken, self._of_first = section, routes, sockets
            for match, upstream, line in routes:
                keys = {"path": "/"} if not match else dict(match)
                draft.add_route(line, upstream, **keys)
        for one in acls.with_port.values():
            draft.differ(
                one, "hdr(host)", "HAProxy compares a port in Host, too, and routes do not"
            )

    def _sockets_of(self, section: Statement) -> list[Socket]:
        return [socket for one in section.named("bind") for socket in self._bind(one)]

    def _listen(self, section: Statement, scope: Scope, sockets: list[Socket]) -> None:
        self._sockets += [one for one in sockets if one.key not in {at.key for at in self._sockets}]
        self._limits(section, scope)

    def _listen_bare(self, section: Statement, scope: Scope) -> None:
        """Listen where a frontend without routes listens, unless that would open those of others.

        slardar serves all routes on all endpoints.
        """
        sockets = self._sockets_of(section)
        reach = max((one.reach for one in self._of_first), default=2)
        asks = self._of_first and all(
            one.client.get("verify") == "require" for one in self._of_first
        )
        wider = any(one.reach > reach or (asks and not one.client) for one in sockets)
        if self._first is not None and wider:
            self._draft.leave(
                section,
                f"nothing listens there: it would let clients reach what {self._first.place} keeps"
                " from them",
            )
            return
        self._listen(section, scope, sockets)

    def _routes(
        self,
        section: Statement,
        scope: Scope,
        acls: Acls,
        told: list[tuple[Statement, str]],
    ) -> list[tuple[Match, str, Statement]]:
        """The routes of a frontend, in order, with the lines that they are for.

        What there is to know of lines is added to ``told``.
        """
        routes: list[tuple[Match, str, Statement]] = []
        # These come before use_backend, wherever they stand.
        for one in guards_of(section, scope):
            if one in self._redirects:
                continue
            at = next((n for n, word in enumerate(one.args) if word in ("if", "unless")), None)
            known = acls.matches([] if at is None else one.args[at:], wider=True)
            one.take()
            told.append(
                (
                    one,
                    "it may keep requests back or change them, so those that it may be for get 502,"
                    " until the route to not-taken-over is removed; a hook can do what it does",
                )
            )
            routes += [(match, NOWHERE, one) for match in known or ()]
        for one in list(section.named("use_backend")):
            one.take()
            found = acls.matches(one.args[1:])
            name = self._backend(one.args[0]) if one.args else None
            if found is None:
                # Nobody knows here whom the backend keeps back, or serves better than others.
                name, found = None, acls.matches(one.args[1:], wider=True)
                told.append(
                    (
                        one,
                        "routes know host and path, so requests that it may be for get 502, until"
                        " the route to not-taken-over is removed; a hook can choose"
                        " request.upstream",
                    )
                )
            elif not found:
                told.append((one, "no request can meet its condition"))
            elif name is None:
                told.append((one, f"its requests get 502: {self._why(one.args[0])}"))
            if any(has_port(word) for word in one.args):
                acls.with_port[id(one)] = one
            routes += [(match, name or NOWHERE, one) for match in found or ()]
        default = scope.last("default_backend")
        if default is not None:
            name = self._backend(default.args[0])
            if name is None:
                told.append((default, f"its requests get 502: {self._why(default.args[0])}"))
            routes.append(({}, name or NOWHERE, default))
        elif section.name == "listen":
            # Its own guards are above.
            name = self._backends.name_of(section.args[0])
            if name is None:
                told.append((section, "its requests get 502: there is no upstream for it"))
            routes.append(({}, name or NOWHERE, section))
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
        return sockets if self._bind_words(line, list(line.args[1:]), sockets) else []

    def _bind_words(self, line: Statement, words: list[str], sockets: list[Socket]) -> bool:
        """Read the words of a ``bind``; false if one of them may keep clients back."""
        draft = self._draft
        client: dict[str, str] = {}
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
                elif word == "verify":
                    client["verify"] = _VERIFY.get(value, value)
                else:
                    self._policy(line, word, value)
            elif word in OWN_OF_BINDS:
                if word == "alpn" and "h2" in value:
                    draft.tell_left(line, f"bind {word} {value}", "slardar speaks HTTP/1.1")
                del words[: OWN_OF_BINDS[word]]
            else:
                why = "no such setting of an endpoint, so nothing listens there"
                draft.tell_left(line, f"bind {word}", why)
                return False
        verify = client.get("verify", "none")
        if verify not in ("none", *_VERIFY.values()) or (verify != "none" and "ca" not in client):
            why = "verify is none, optional or required, with a ca-file, so nothing listens there"
            draft.tell_left(line, line.text, why)
            return False
        for name in files:
            pair = {"folder" if os.path.isdir(name) else "cert": name}
            if pair not in self._pairs:
                self._pairs.append(pair)
        for socket in sockets:
            if socket.ssl and verify != "none":
                socket.client = {"verify": verify, "ca": client["ca"]}
        if files and not os.path.isdir(files[0]) and "strict-sni" not in line.args:
            draft.differ(
                line,
                line.text,
                "handshakes for unknown names are refused: for the first certificate, set"
                " tls.default to a name in it",
            )
        return True

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
