"""nginx's ``upstream`` blocks, and what a ``proxy_pass`` adds to them, as upstreams."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from slardar.migration.draft import Draft
from slardar.migration.nginx_words import OWN_OF_UPSTREAMS
from slardar.migration.statement import Scope, Statement
from slardar.migration.units import parse_number, parse_seconds
from slardar.model.names import split_host_port

__all__ = ["NginxUpstreams", "Target", "target_of"]

#: nginx's variables for which a mode of slardar has its key.
_KEYS: dict[str, tuple[str, dict[str, Any]]] = {
    "$remote_addr": ("ip_hash", {}),
    "$binary_remote_addr": ("ip_hash", {}),
    "$request_uri": ("url_hash", {"query": True}),
    "$uri": ("url_hash", {}),
    "$host": ("host_hash", {}),
    "$http_host": ("host_hash", {}),
    "$http_x_hash_key": ("header_hash", {}),
}
_TIMES = {
    "proxy_connect_timeout": "timeout",
    "proxy_send_timeout": "send_timeout",
    "proxy_read_timeout": "read_timeout",
}
#: What slardar's kinds of failure are called in nginx; http_NNN is the same in both.
_RETRIES = {
    "error": ("connect", "error"),
    "timeout": ("timeout",),
    "invalid_header": ("error",),
    "non_idempotent": ("non_idempotent",),
}
#: Headers that slardar sets itself, with the values for which the result is the same.
_HEADERS = {
    "host": ("$host", "$http_host", "$host:$server_port"),
    "x-forwarded-for": ("$proxy_add_x_forwarded_for",),
    "x-forwarded-proto": ("$scheme", "$proxy_x_forwarded_proto", "$http_x_forwarded_proto"),
    "x-forwarded-host": ("$host", "$http_host"),
    "x-request-id": ("$request_id", "$http_x_request_id"),
    "connection": ("", "close", "keep-alive", "upgrade", "$connection_upgrade", "$http_connection"),
    "upgrade": ("$http_upgrade",),
    "proxy": ("",),
}
#: Parameters of a server that are read here.
_PARAMETERS = (
    *("weight", "max_fails", "max_conns", "fail_timeout", "slow_start", "backup", "down", "drain"),
    "resolve",
)


class Target:
    """Where a ``proxy_pass`` leads: ``scheme://host`` and a path, which may be empty."""

    def __init__(self, scheme: str, host: str, path: str) -> None:
        self.scheme = scheme
        self.host = host
        self.path = path


def target_of(text: str) -> Target | None:
    """The target of a ``proxy_pass``, or ``None`` if it is only known for each request."""
    found = re.fullmatch(r"(https?)://(unix:[^:]+:?|[^/]+)(/.*)?", text, re.IGNORECASE)
    if found is None or "$" in text:
        return None
    return Target(found[1].lower(), found[2], found[3] or "")


class NginxUpstreams:
    """The upstreams of a file.  One is made for each combination with settings of locations."""

    def __init__(self, draft: Draft, folder: str) -> None:
        self._draft = draft
        self._folder = folder
        self._blocks: dict[str, tuple[dict[str, Any], Statement]] = {}
        self._made: dict[tuple[str, str], str] = {}
        #: How many there are of each block or address.
        self._number: dict[str, int] = {}

    def read(self, block: Statement) -> None:
        """Read an ``upstream`` block."""
        block.take()
        name = block.args[0]
        body: dict[str, Any] = {"servers": []}
        seen: set[str] = set()
        for one in block.block or ():
            if one.name == "server" and one.args:
                self._server(one, body)
            elif one.name in seen:
                self._draft.leave(one, "it stands there twice")
            elif one.name in OWN_OF_UPSTREAMS:
                one.take()
            else:
                seen.add(one.name)
                self._method(one, body)
        if name in self._blocks:
            self._draft.leave(block, "an upstream of this name comes before it")
        elif not body["servers"]:
            self._draft.tell_left(block, block.text, "none of its servers is taken over")
            self._blocks[name] = {}, block
        else:
            self._blocks[name] = body, block

    def use(self, target: Target, scope: Scope, statement: Statement) -> str | None:
        """The name of the upstream for a ``proxy_pass`` where ``scope`` holds, or ``None``."""
        name = target.host
        if name in self._blocks:
            found, block = self._blocks[name]
            if not found:
                return None
            body = dict(found)
        else:
            place = split_host_port(name, 443 if target.scheme == "https" else 80)
            if place is None:
                return None
            block = statement
            body = {"servers": [{"host": place[0], "port": place[1]}]}
        options = self._options(target, scope, statement)
        key = name, json.dumps(options, sort_keys=True)
        if key not in self._made:
            known = self._number.get(name, 0)
            called = self._draft.name_of(f"{name}-{known + 1}" if known else name)
            if not self._draft.add_upstream(called, {**body, **options}, block):
                return None
            if known and block is not statement:
                self._draft.differ(
                    statement,
                    statement.text,
                    f"with other settings than elsewhere, so this is the upstream {called}, which"
                    " counts requests and failures for itself",
                )
            self._made[key] = called
            self._number[name] = known + 1
        return self._made[key]

    def leave_unused(self) -> None:
        """Add the upstreams that no location uses, for routes and hooks of the user's own."""
        used = {of for of, _ in self._made}
        for name, (body, block) in self._blocks.items():
            if body and name not in used:
                self._draft.add_upstream(self._draft.name_of(name), body, block)

    # An upstream's block.

    def _server(self, one: Statement, body: dict[str, Any]) -> None:
        one.take()
        address = one.args[0]
        place = None if address.startswith("unix:") else split_host_port(address, 80)
        if place is None:
            why = "no host and port that slardar can have"
            if address.startswith("unix:"):
                why = "servers on unix sockets are reached by TCP only"
            self._draft.leave(one, f"{why}: this server is left out")
            return
        # nginx's default, which is not slardar's.
        server: dict[str, Any] = {"host": place[0], "port": place[1], "max_fails": 1}
        for word in one.args[1:]:
            key, equals, value = word.partition("=")
            if not self._parameter(key if equals else word, value, server, body):
                why = "no such value here" if key in _PARAMETERS else "no such setting"
                self._draft.tell_left(one, f"{one.name} {address} {word}", why)
        for other in body["servers"]:
            if (other["host"], other["port"]) == place:
                other["weight"] = other.get("weight", 1) + server.get("weight", 1)
                self._draft.differ(one, one.text, "given twice: one server with both weights")
                return
        body["servers"].append(server)

    def _parameter(
        self, key: str, value: str, server: dict[str, Any], body: dict[str, Any]
    ) -> bool:
        """Take over a parameter of a server; false if that cannot be done."""
        if key in ("weight", "max_fails", "max_conns"):
            number = parse_number(value)
            if number is None:
                return False
            server[key] = number
        elif key in ("fail_timeout", "slow_start"):
            seconds = parse_seconds(value)
            if seconds is None:
                return False
            if key == "slow_start":
                body["slow_start"] = max(seconds, body.get("slow_start", 0))
            else:
                server[key] = seconds
        elif key == "backup" and not value:
            server["backup"] = True
        elif key in ("down", "drain") and not value:
            server["state"] = key
        else:
            # Names are looked up again and again anyway.
            return key == "resolve" and not value
        return True

    def _method(self, one: Statement, body: dict[str, Any]) -> None:
        draft = self._draft
        if one.name == "least_conn":
            one.take()
            body["mode"] = "least_conn"
        elif one.name == "ip_hash":
            one.take()
            body["mode"] = "ip_hash"
            draft.differ(one, one.text, "by the whole address, not by its first three bytes")
        elif one.name == "hash" and one.args:
            one.take()
            self._hash(one, body)
        elif one.name == "random":
            one.take()
            body["mode"] = "p2c" if "two" in one.args else "random"
            if len(one.args) > 1 and one.args[1] != "least_conn":
                draft.differ(one, one.text, "the less loaded of the two by requests under way")
        elif one.name == "least_time":
            one.take()
            body["mode"] = "ewma"
            draft.differ(one, one.text, "the faster of two servers chosen at random")
        elif one.name == "keepalive" and parse_number(one.args[0]) is not None:
            one.take()
            body["keepalive"] = int(one.args[0])
        elif one.name == "keepalive_timeout":
            draft.leave(one, "idle connections to servers are kept for 60 seconds")

    def _hash(self, one: Statement, body: dict[str, Any]) -> None:
        known = _KEYS.get(one.args[0])
        body["mode"], options = known or ("hash", {})
        if options:
            body["mode_opts"] = options
        if known is None:
            self._draft.tell_left(
                one,
                one.text,
                "mode: hash goes by the path until a hook sets request.hash_key"
                " (docs/hooks-python.md)",
            )
        elif "consistent" not in one.args:
            self._draft.differ(
                one, one.text, "keys get other servers than in nginx, and keep them when others go"
            )

    # A location.

    def _options(self, target: Target, scope: Scope, statement: Statement) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for name, key in _TIMES.items():
            found = scope.last(name)
            seconds = None if found is None else parse_seconds(found.args[0])
            if found is not None and not seconds:
                self._draft.leave(found, "no time that slardar can have")
            elif seconds:
                options[key] = seconds
        options.update(self._retries(scope))
        if target.scheme == "https":
            options["tls"] = self._tls(target, scope)
        self._headers(target, scope, statement)
        return options

    def _retries(self, scope: Scope) -> dict[str, Any]:
        options: dict[str, Any] = {}
        found = scope.last("proxy_next_upstream")
        kinds: list[str] = []
        for word in ("error", "timeout") if found is None else found.args:
            if word in _RETRIES:
                kinds += _RETRIES[word]
            elif re.fullmatch("http_[0-9]{3}", word):
                kinds.append(word)
            elif word != "off" and found is not None:
                self._draft.tell_left(found, f"{found.name} {word}", "no such failure in slardar")
        options["retry_on"] = list(dict.fromkeys(kinds))
        for name, key, parse in (
            ("proxy_next_upstream_tries", "try", parse_number),
            ("proxy_next_upstream_timeout", "try_timeout", parse_seconds),
        ):
            one = scope.last(name)
            value = None if one is None else parse(one.args[0])
            if value:
                options[key] = value
            elif one is not None and value is None:
                self._draft.leave(one, "no number that slardar can have")
        return options

    def _tls(self, target: Target, scope: Scope) -> dict[str, Any]:
        verify = scope.value("proxy_ssl_verify") == "on"
        tls: dict[str, Any] = {"verify": verify}
        for name, key in (
            ("proxy_ssl_trusted_certificate", "ca"),
            ("proxy_ssl_certificate", "cert"),
            ("proxy_ssl_certificate_key", "key"),
        ):
            found = scope.last(name)
            if found is not None and "$" in found.args[0]:
                self._draft.leave(found, "slardar reads files whose names are known")
            elif found is not None:
                tls[key] = os.path.join(self._folder, found.args[0])
        named = scope.last("proxy_ssl_name")
        asked = scope.value("proxy_ssl_server_name") == "on"
        if named is not None and "$" in named.args[0]:
            if named.args[0] not in ("$host", "$http_host", "$ssl_server_name"):
                self._draft.leave(named, "server_name is the Host of each request, or a fixed name")
        elif named is not None:
            tls["server_name"] = named.args[0]
        elif verify or asked:
            place = split_host_port(target.host, 443)
            tls["server_name"] = place[0] if place else target.host
        return tls

    def _headers(self, target: Target, scope: Scope, statement: Statement) -> None:
        has_host = False
        for one in scope.all("proxy_set_header"):
            name, value = one.args[0].lower(), one.args[1]
            if value in _HEADERS.get(name, ()):
                has_host = has_host or name == "host"
            elif name == "host":
                has_host = True
                self._draft.leave(one, "servers get the client's Host; a hook can set another one")
            elif name == "forwarded":
                self._draft.leave(one, "`forwarded: true` in slardar.yaml (docs/http.md#forwarded)")
            elif name in _HEADERS:
                self._draft.leave(one, "slardar sets this header itself (docs/http.md)")
            else:
                self._draft.leave(
                    one, "a hook sets headers: request.headers (docs/hooks-python.md)"
                )
        if not has_host:
            self._draft.differ(
                statement,
                statement.text,
                f"servers get the client's Host, and not {target.host}; a hook can set it",
            )
