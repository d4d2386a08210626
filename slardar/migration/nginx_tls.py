"""nginx's TLS to clients as the section ``tls``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from slardar.migration.draft import Draft
from slardar.migration.listeners import Socket
from slardar.migration.statement import Scope, Statement

__all__ = ["NginxTls"]

_VERIFY = {"on": "require", "optional": "optional"}


class NginxTls:
    """Certificates, policies for clients, and versions, from the servers that speak TLS."""

    def __init__(self, draft: Draft, folder: str) -> None:
        self._draft = draft
        self._folder = folder

    def write(
        self,
        servers: Sequence[Statement],
        scopes: Mapping[int, Scope],
        sockets: Sequence[Socket],
        hosts: Mapping[int, Sequence[tuple[str, Statement]]],
    ) -> None:
        """Put what the servers say into the draft."""
        pairs: list[dict[str, Any]] = []
        secure = [one for one in sockets if one.ssl]
        for server in servers:
            if any(server in one.servers for one in secure):
                for pair in self._pairs(scopes[id(server)]):
                    if pair not in pairs:
                        pairs.append(pair)
                self._policy(scopes[id(server)])
        if pairs:
            self._draft.put("tls", "certificates", pairs)
        if secure:
            self._default(secure[0], hosts)

    def _pairs(self, scope: Scope) -> list[dict[str, Any]]:
        certificates, keys = scope.peek("ssl_certificate"), scope.peek("ssl_certificate_key")
        for one in [*certificates[len(keys) :], *keys[len(certificates) :]]:
            self._draft.leave(one, "a certificate and its key belong together")
        client = self._client(scope)
        pairs = []
        for one, key in zip(certificates, keys, strict=False):
            if any(word in text for text in (*one.args, *key.args) for word in ("$", "data:")):
                self._draft.leave(one, "slardar reads files whose names are known (docs/tls.md)")
                self._draft.leave(key, "slardar reads files whose names are known (docs/tls.md)")
                continue
            pair: dict[str, Any] = {"cert": self._path(one.take()), "key": self._path(key.take())}
            if client:
                pair["client"] = client
            pairs.append(pair)
        return pairs

    def _client(self, scope: Scope) -> dict[str, Any]:
        verify, ca = scope.last("ssl_verify_client"), scope.last("ssl_client_certificate")
        if verify is None or verify.args[0] == "off":
            return {}
        if verify.args[0] not in _VERIFY or ca is None:
            self._draft.leave(
                verify, "verify is none, optional or require, with a ca (docs/tls.md)"
            )
            return {}
        return {"verify": _VERIFY[verify.args[0]], "ca": self._path(ca)}

    def _policy(self, scope: Scope) -> None:
        draft = self._draft
        found = scope.last("ssl_protocols")
        if found is not None:
            versions = sorted(word[4:] for word in found.args if word in ("TLSv1.2", "TLSv1.3"))
            least = versions[0] if versions else "1.2"
            known = draft.settings.get("tls", {}).get("min_version", least)
            draft.put("tls", "min_version", min(known, least))
            others = [word for word in found.args if word not in ("TLSv1.2", "TLSv1.3")]
            if others:
                draft.tell_left(found, " ".join([found.name, *others]), "slardar does not speak it")
            if versions and "1.3" not in versions:
                draft.differ(found, found.text, "slardar speaks TLS 1.3, too")
        ciphers = scope.last("ssl_ciphers")
        if ciphers is not None:
            if draft.settings.get("tls", {}).get("ciphers", ciphers.args[0]) != ciphers.args[0]:
                draft.leave(ciphers, "slardar has one list for all names")
            else:
                draft.put("tls", "ciphers", ciphers.args[0])

    def _default(
        self, socket: Socket, hosts: Mapping[int, Sequence[tuple[str, Statement]]]
    ) -> None:
        server = socket.default or socket.servers[0]
        names = [host for host, _ in hosts[id(server)] if not host.startswith("*.")]
        if names:
            self._draft.put("tls", "default", names[0])
        else:
            self._draft.differ(
                server,
                server.text,
                "handshakes for unknown names are refused: for its certificate, set tls.default to"
                " a name in it",
            )

    def _path(self, one: Statement) -> str:
        return os.path.join(self._folder, one.args[0])
