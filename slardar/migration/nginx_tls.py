"""nginx's TLS to clients as the section ``tls``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from slardar.migration.draft import Draft
from slardar.migration.listeners import Socket
from slardar.migration.nginx_sites import Site
from slardar.migration.statement import Scope, Statement

__all__ = ["NginxTls"]

_VERIFY = {"on": "require", "optional": "optional"}


class NginxTls:
    """Certificates, policies for clients, and versions, from the servers that speak TLS."""

    def __init__(self, draft: Draft, folder: str) -> None:
        self._draft = draft
        self._folder = folder

    def write(self, sites: Sequence[Site], sockets: Sequence[Socket]) -> None:
        """Put what the servers say into the draft."""
        secure = [site for site in sites if site.is_secure]
        for site in secure:
            self._client(site)
        first = secure[0].client if secure else {}
        is_for_all = bool(first) and all(site.client == first for site in secure)
        if is_for_all:
            self._draft.put("tls", "client", first)
        pairs: dict[tuple[str, ...], dict[str, Any]] = {}
        #: By the file of a certificate: what its servers ask clients for.
        asked: dict[str, list[dict[str, str]]] = {}
        files: list[tuple[Site, list[str]]] = []
        for site in secure:
            found = self._pairs(site.scope)
            files.append((site, [pair["cert"] for pair in found]))
            for pair in found:
                pairs.setdefault(tuple(pair.values()), pair)
                clients = asked.setdefault(pair["cert"], [])
                if site.client not in clients:
                    clients.append(site.client)
            self._policy(site.scope)
        if not is_for_all:
            for site, names in files:
                if site.client and not names:
                    site.close("its certificate is not taken over, and it asks clients for one")
                elif site.client and any(len(asked[name]) > 1 for name in names):
                    site.close("its certificate is that of servers that ask clients for another")
            for pair in pairs.values():
                (client, *others) = asked[pair["cert"]]
                if client and not others:
                    pair["client"] = client
        if pairs:
            self._draft.put("tls", "certificates", list(pairs.values()))
        if any(one.ssl for one in sockets):
            self._default(next(one for one in sockets if one.ssl), sites)

    def _pairs(self, scope: Scope) -> list[dict[str, Any]]:
        certificates, keys = scope.peek("ssl_certificate"), scope.peek("ssl_certificate_key")
        for one in [*certificates[len(keys) :], *keys[len(certificates) :]]:
            self._draft.leave(one, "a certificate and its key belong together")
        pairs = []
        for one, key in zip(certificates, keys, strict=False):
            if any(word in text for text in (*one.args, *key.args) for word in ("$", "data:")):
                self._draft.leave(one, "slardar reads files whose names are known (docs/tls.md)")
                self._draft.leave(key, "slardar reads files whose names are known (docs/tls.md)")
                continue
            pair: dict[str, Any] = {"cert": self._path(one.take()), "key": self._path(key.take())}
            pairs.append(pair)
        return pairs

    def _client(self, site: Site) -> None:
        verify, ca = (
            site.scope.last(name) for name in ("ssl_verify_client", "ssl_client_certificate")
        )
        if verify is None or verify.args[0] == "off":
            return
        if verify.args[0] in _VERIFY and ca is not None:
            site.client = {"verify": _VERIFY[verify.args[0]], "ca": self._path(ca)}
            return
        why = "verify is none, optional or require, with a ca (docs/tls.md)"
        self._draft.leave(verify, why)
        site.close(f"{verify.text}: {why}")

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

    def _default(self, socket: Socket, sites: Sequence[Site]) -> None:
        server = socket.default or socket.servers[0]
        (site,) = (one for one in sites if one.statement is server)
        names = [host for host, _ in site.hosts if not host.startswith("*.")]
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
