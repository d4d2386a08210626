"""HAProxy's backends, with the defaults that hold for them, as upstreams."""

from __future__ import annotations

import os
import re
from typing import Any

from slardar.migration.draft import Draft
from slardar.migration.haproxy_words import OWN_OF_SERVERS
from slardar.migration.statement import Scope, Statement
from slardar.migration.units import parse_number, parse_seconds
from slardar.model.names import split_host_port

__all__ = ["HaproxyBackends"]

_MODES = {
    "roundrobin": "wrr",
    "static-rr": "wrr",
    "leastconn": "least_conn",
    "source": "ip_hash",
    "uri": "url_hash",
    "random": "p2c",
}
#: What slardar's kinds of failure are called in HAProxy.
_RETRIES = {
    "none": (),
    "conn-failure": ("connect",),
    "empty-response": ("error",),
    "junk-response": ("error",),
    "response-timeout": ("timeout",),
    "all-retryable-errors": (
        *("connect", "error", "timeout", "http_500", "http_502", "http_503", "http_504"),
    ),
}
#: Replies to checks that HAProxy takes for a failure, of those that slardar's servers may give to
#: requests, too.
_FAILED = ("500", "501", "502", "503", "504")
#: HAProxy's own times of checks.
_INTERVAL, _FALL, _RISE = 2, 3, 2


class HaproxyBackends:
    """The upstreams of a file, by the names of its backends."""

    def __init__(self, draft: Draft, folder: str) -> None:
        self._draft = draft
        self._folder = folder
        self._names: dict[str, str] = {}

    def name_of(self, backend: str) -> str | None:
        """The upstream for a backend, or ``None`` if there is none."""
        return self._names.get(backend)

    def read(self, section: Statement, scope: Scope) -> None:
        """Make the upstream of a ``backend`` or ``listen``, in which ``scope`` holds."""
        draft = self._draft
        body: dict[str, Any] = {"servers": []}
        lines = [one for one in scope.statements if one.name == "server"]
        if not lines:
            return
        defaults = scope.all("default-server")
        servers = [
            found
            for found in (_Server(draft, self._folder, line, defaults) for line in lines)
            if found.body
        ]
        if not servers:
            draft.tell_left(section, section.text, "none of its servers is taken over")
            return
        body["servers"] = [one.body for one in servers]
        self._proxy_protocol(servers, body)
        self._balance(scope, body)
        self._checks(scope, servers, body)
        self._times(scope, servers, body)
        self._retries(scope, body)
        backups = sum(1 for one in servers if one.body.get("backup"))
        if not scope.all("option allbackups") and backups > 1:
            draft.differ(section, section.text, "all of its backups serve together, not the first")
        name = draft.name_of(section.args[0])
        if draft.add_upstream(name, body, section):
            self._names[section.args[0]] = name

    def _proxy_protocol(self, servers: list[_Server], body: dict[str, Any]) -> None:
        versions = {one.proxy_protocol for one in servers}
        if len(versions) == 1:
            (version,) = versions
            if version:
                body["proxy_protocol"] = version
            return
        for one in servers:
            if one.proxy_protocol:
                self._draft.tell_left(
                    one.line, f"server {one.line.args[0]} send-proxy", "it is for a whole upstream"
                )

    def _balance(self, scope: Scope, body: dict[str, Any]) -> None:
        draft = self._draft
        one = scope.last("balance")
        if one is None or not one.args:
            return
        method = one.args[0]
        mode = _MODES.get(method.partition("(")[0])
        if mode is None:
            why = "slardar has no such balancer"
            if method.startswith(("hdr", "url_param")):
                mode, why = "hash", "mode: hash goes by the path until a hook sets request.hash_key"
            elif method == "first":
                why = "levels fill servers one after the other (docs/upstreams.md#levels)"
            draft.leave(one, why)
        elif method == "random(1)":
            mode = "random"
        elif method == "uri" and one.args[1:] == ["whole"]:
            body["mode_opts"] = {"query": True}
        elif len(one.args) > 1:
            draft.tell_left(one, one.text, "the whole path counts")
        if mode is not None:
            body["mode"] = mode
        hashes = scope.last("hash-type")
        if mode in ("ip_hash", "url_hash", "hash"):
            draft.differ(
                hashes or one, (hashes or one).text, "keys get other servers than in HAProxy"
            )

    def _checks(self, scope: Scope, servers: list[_Server], body: dict[str, Any]) -> None:
        draft = self._draft
        checked = [one for one in servers if one.checked]
        if not checked:
            body["enable"] = False
            return
        for one in servers:
            if not one.checked:
                draft.differ(one.line, one.line.text, "it is checked as the others are")
        first = checked[0]
        body["interval"] = max(first.times.get("inter", _INTERVAL), 0.1)
        body["sensibility"] = first.counts.get("fall", _FALL)
        body["rise"] = first.counts.get("rise", _RISE)
        for one in checked[1:]:
            if (one.times, one.counts) != (first.times, first.counts):
                draft.differ(
                    one.line, one.line.text, f"inter, fall and rise are those of {first.name}"
                )
        httpchk = scope.last("option httpchk")
        if httpchk is not None:
            sent, expected = scope.all("http-check send"), scope.all("http-check expect")
            body["typ"] = "http"
            body["http_opts"] = {
                "query": _query(httpchk.args, sent),
                "statuses": dict.fromkeys(_FAILED, False),
            }
            for line in expected:
                draft.leave(line, "http_opts.statuses has the statuses that are failures")
            if not expected:
                draft.differ(httpchk, httpchk.text, "500 to 504 are failures, and 4xx are none")

    def _times(self, scope: Scope, servers: list[_Server], body: dict[str, Any]) -> None:
        for name, keys in (
            ("timeout connect", ("timeout",)),
            ("timeout server", ("read_timeout", "send_timeout")),
        ):
            one = scope.last(name)
            seconds = None if one is None else parse_seconds(one.args[0], "ms")
            if one is not None and not seconds:
                self._draft.leave(one, "no time that slardar can have")
            elif seconds:
                body.update(dict.fromkeys(keys, seconds))
        if any(one.body.get("max_conns") for one in servers):
            # HAProxy's requests wait for a server without a limit of their number.
            queued = scope.value("timeout queue") or scope.value("timeout connect") or "5s"
            body["queue"] = {"size": 10000, "timeout": parse_seconds(queued, "ms") or 1}
        slow = max((one.times.get("slowstart", 0) for one in servers), default=0)
        if slow:
            body["slow_start"] = slow

    def _retries(self, scope: Scope, body: dict[str, Any]) -> None:
        kinds: list[str] = []
        one = scope.last("retry-on")
        for word in ["conn-failure"] if one is None else one.args:
            if word in _RETRIES:
                kinds += _RETRIES[word]
            elif re.fullmatch("[0-9]{3}", word):
                kinds.append(f"http_{word}")
            elif one is not None:
                self._draft.tell_left(one, f"{one.name} {word}", "no such failure in slardar")
        body["retry_on"] = list(dict.fromkeys(kinds))
        retries = scope.last("retries")
        number = None if retries is None else parse_number(retries.args[0], 0, 1000)
        if number is not None:
            body["try"] = number + 1
        elif retries is not None:
            self._draft.leave(retries, "no number that slardar can have")


def _query(args: list[str], sent: list[Statement]) -> str:
    """The request of a check."""
    method, uri, version = ("OPTIONS", "/", "HTTP/1.0")
    if len(args) == 1:
        uri = args[0]
    elif args:
        method, uri, version = (*args, "HTTP/1.0")[:3]
    headers: list[str] = []
    for one in sent:
        words = list(one.args)
        while words:
            word = words.pop(0)
            if word == "hdr" and len(words) > 1:
                headers.append(f"{words.pop(0)}: {words.pop(0)}")
            elif word == "meth" and words:
                method = words.pop(0)
            elif word == "uri" and words:
                uri = words.pop(0)
            elif word == "ver" and words:
                version = words.pop(0)
    return "\r\n".join([f"{method} {uri} {version}", *headers, "Connection: close", "", ""])


#: Words of a ``server`` that have no argument, and those that have one.
_FLAGS = ("check", "backup", "disabled", "ssl", "send-proxy", "send-proxy-v2")
_VALUES = (
    *("weight", "maxconn", "rise", "fall", "inter", "slowstart"),
    *("verify", "verifyhost", "ca-file", "crt", "sni"),
)
#: Words with an argument that are listed, and why.
_LEFT = {
    "cookie": "mode: sticky of an upstream (docs/balancers.md#sticky)",
    "port": "heartbeats go to the port of the server",
    "addr": "heartbeats go to the address of the server",
    "maxqueue": "the queue is one for all servers of an upstream (docs/upstreams.md#queue)",
    "minconn": "max_conns is a fixed number",
    "observe": "max_fails and fail_timeout of the server (docs/health.md)",
    "error-limit": "max_fails and fail_timeout of the server (docs/health.md)",
    "on-error": "max_fails and fail_timeout of the server (docs/health.md)",
    "on-marked-down": "requests under way on a server that is down go on",
    "on-marked-up": "servers of a lower level keep their requests",
    "track": "servers of different upstreams have heartbeats of their own",
    "agent-check": "X-Slardar-Hint in replies and heartbeats (docs/health.md#hints)",
    "agent-port": "X-Slardar-Hint in replies and heartbeats (docs/health.md#hints)",
    "source": "connections to servers begin at the address that the system chooses",
    "crl-file": "slardar reads no lists of revoked certificates",
    "alpn": "slardar speaks HTTP/1.1 to servers",
    "proto": "slardar speaks HTTP/1.1 to servers",
    "check-alpn": "slardar speaks HTTP/1.1 to servers",
}
_SNI_OF_HOST = re.compile(r"(?:req\.)?hdr\(host\)(?:,field\(1,:\)|,host_only)?|ssl_fc_sni")


class _Server:
    """A ``server`` line; :attr:`body` is empty if it cannot be taken over."""

    def __init__(
        self, draft: Draft, folder: str, line: Statement, defaults: list[Statement]
    ) -> None:
        self._draft = draft
        self._folder = folder
        self.line = line.take()
        self.name = line.args[0] if line.args else ""
        self.body: dict[str, Any] = {}
        self.checked = False
        self.proxy_protocol = 0
        self.times: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._is_tls = False
        self._tls: dict[str, Any] = {}
        address = line.args[1] if len(line.args) > 1 else ""
        place = split_host_port(re.sub("^ipv[46]@", "", address))
        if place is None:
            draft.leave(line, "no address and port of TCP: this server is left out")
            return
        self.body = {"host": place[0], "port": place[1]}
        for one in [*defaults, line]:
            self._read(one, list(one.args if one is not line else one.args[2:]))
        if self._is_tls:
            self._finish_tls()

    def _read(self, line: Statement, words: list[str]) -> None:
        while words:
            word = words.pop(0)
            if word in _FLAGS:
                self._flag(word)
            elif word in _VALUES and words:
                value = words.pop(0)
                if not self._value(word, value, line):
                    self._draft.tell_left(line, f"{line.name} {word} {value}", "no such value here")
            elif word in OWN_OF_SERVERS:
                del words[: OWN_OF_SERVERS[word]]
            else:
                count = 1 if word in _LEFT and word != "agent-check" else 0
                text = " ".join([line.name, word, *words[:count]])
                del words[:count]
                self._draft.tell_left(line, text, _LEFT.get(word, "no such setting of a server"))

    def _flag(self, word: str) -> None:
        if word == "check":
            self.checked = True
        elif word == "backup":
            self.body["backup"] = True
        elif word == "disabled":
            self.body["state"] = "down"
        elif word == "ssl":
            self._is_tls = True
        else:
            self.proxy_protocol = 2 if word.endswith("v2") else 1

    def _value(self, word: str, value: str, line: Statement) -> bool:
        """Take over a word with its value; false if that cannot be done."""
        if word in ("weight", "maxconn", "rise", "fall"):
            number = parse_number(value, 0 if word in ("weight", "maxconn") else 1)
            if number is None:
                return False
            if word in ("rise", "fall"):
                self.counts[word] = number
            else:
                self.body["weight" if word == "weight" else "max_conns"] = number
        elif word in ("inter", "slowstart"):
            seconds = parse_seconds(value, "ms")
            if seconds is None:
                return False
            self.times[word] = seconds
        elif word == "verify":
            self._tls["verify"] = value != "none"
        elif word == "verifyhost":
            self._tls["server_name"] = value
        elif word == "sni":
            fixed = re.fullmatch(r"str\(([^)]*)\)", value)
            if fixed is not None:
                self._tls.setdefault("server_name", fixed[1])
            return fixed is not None or _SNI_OF_HOST.fullmatch(value) is not None
        else:
            key = "ca" if word == "ca-file" else "cert"
            self._tls[key] = os.path.join(self._folder, value)
        return True

    def _finish_tls(self) -> None:
        tls = {"verify": True, **self._tls}
        self.body["tls"] = tls
        if tls["verify"] and "server_name" not in tls:
            self._draft.differ(
                self.line, self.line.text, "the certificate must be for the request's Host, too"
            )
