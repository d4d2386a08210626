"""An upstream as answers of the control channel show it, and back.

Tools of upyun/slardar read the servers at ``cluster[0].servers``, so an upstream that was
written with ``servers`` shows them in both places.  A password and a secret are not shown.
An answer can be sent back as it is, or edited in one of the two places: it means the same
upstream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slardar.errors import ConfigError
from slardar.model.server import Upstream

__all__ = ["HIDDEN", "hidden", "secrets", "unshown", "with_cluster", "without_password"]

#: Stands for a password in answers.
HIDDEN = "********"


#: The key paths of what is not shown: a password, and the ``secret`` of a balancer.
_SECRETS = (("pass",), ("mode_opts", "secret"))


def secrets(written: object) -> dict[tuple[str, ...], Any]:
    """What is not shown of a value that may be an upstream or a service, by key path."""
    found: dict[tuple[str, ...], Any] = {}
    for path in _SECRETS:
        value: Any = written
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            found[path] = value
    return found


def without_password(upstream: Upstream) -> Mapping[str, Any]:
    """An upstream as it was written, with :data:`HIDDEN` for its password and for the
    ``secret`` of its balancer."""
    shown: Mapping[str, Any] = hidden(upstream.source)
    return shown


def hidden(written: Any) -> Any:
    """The same for a value of which nobody knows whether it is one of them."""
    for first, *rest in secrets(written):
        value = {**written[first], rest[0]: HIDDEN} if rest else HIDDEN
        written = {**written, first: value}
    return written


def with_cluster(written: Mapping[str, Any]) -> dict[str, Any]:
    """An upstream with its servers at ``servers`` and at ``cluster``."""
    shown: dict[str, Any] = {}
    for key, value in written.items():
        shown[key] = value
        if key == "servers":
            shown["cluster"] = _cluster(value)
    return shown


def _cluster(servers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A flat list as levels: the backups come second."""
    first = [server for server in servers if not server.get("backup")]
    backups = [server for server in servers if server.get("backup")]
    return [{"servers": level} for level in (first, backups) if level]


def unshown(current: Upstream | None, body: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The body of a call, which may be an edited answer, as a person would have written it.

    If it has ``servers`` and ``cluster``, the one that was edited stays, or ``servers`` if
    neither was; both stay if both were edited, for the parser to refuse.  Raises
    ConfigError if it has :data:`HIDDEN` for a password or a secret that is not known.
    """
    body = dict(body)
    if "servers" in body and "cluster" in body:
        # The two may say different things.
        known = {} if current is None else with_cluster(current.source)
        same = _is_list(body["servers"]) and body["cluster"] == _cluster(body["servers"])
        if same or ("cluster" in known and body["cluster"] == known["cluster"]):
            del body["cluster"]
        elif "servers" in known and body["servers"] == known["servers"]:
            del body["servers"]
    if body.get("pass") == HIDDEN:
        source = {} if current is None else current.source
        if source.get("pass") is None:
            raise ConfigError(
                f"{where}.pass: expected the password, got what stands for one in answers"
            )
        body["pass"] = source["pass"]
    options = body.get("mode_opts")
    if isinstance(options, dict) and options.get("secret") == HIDDEN:
        secret = None if current is None else current.mode_opts.get("secret")
        if secret is None:
            raise ConfigError(
                f"{where}.mode_opts.secret: expected the secret, got what stands for one in answers"
            )
        body["mode_opts"] = {**options, "secret": secret}
    return body


def _is_list(servers: object) -> bool:
    return isinstance(servers, list) and all(isinstance(server, dict) for server in servers)
