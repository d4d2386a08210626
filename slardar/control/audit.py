"""The words that the log says about a change: which servers and keys differ.

Values such as ``weight 1 -> 5`` are shown of plain settings only, which cannot be secrets.  An
upstream's options, a hook's code, settings of hooks and keys that slardar does not know may hold
secrets, so only their names are shown.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from slardar.control.changes import Next, shortened
from slardar.model.hook import Hook
from slardar.model.names import host_port
from slardar.model.reader import shown
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot
from slardar.model.tls import Pair

__all__ = ["describe_change"]

#: Characters of a line.
_MAX_TEXT = 500

#: Keys whose values are shown: numbers, switches, and words from a short list.
_PLAIN = frozenset(
    (
        *("backup", "fail_timeout", "max_conns", "max_fails", "state", "weight"),
        *("enable", "keepalive", "mode", "protected", "public", "read_timeout", "send_timeout"),
        *("proxy_protocol", "sensibility", "timeout", "try", "try_timeout", "typ"),
    )
)
_ABSENT = object()


def describe_change(before: Snapshot, following: Next) -> str:
    """One line of at most 500 characters, empty if nothing differs."""
    after = following.snapshot
    kinds = {value.kind for value in following.values}
    first = following.values[0]
    if kinds == {"hook"}:
        hooks = {value.name: _hook_of(before, after, value.name) for value in following.values}
        alone = len(hooks) == 1
        text = shortened(
            line if alone else f"{name} {line}" for name, line in hooks.items() if line
        )
    elif kinds == {"upstream"} and len(following.values) == 1:
        text = _upstream(before.upstreams.get(first.name), after.upstreams.get(first.name))
    elif kinds == {"service"} and len(following.values) == 1:
        text = _service(before, after, first.name)
    elif kinds == {"certificate"}:
        names = (value.name for value in following.values)
        text = shortened(filter(None, (_certificate(after.certificates.get(one)) for one in names)))
    elif kinds == {"setting"}:
        # The log names the settings beside this, and their values may be secrets.
        text = ""
    else:
        text = _whole(before, after)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def _upstream(before: Upstream | None, after: Upstream | None) -> str:
    if after is None:
        return "" if before is None else f"it had {shortened(_servers(before)) or 'no server'}"
    if before is None:
        return f"new, with {shortened(_servers(after)) or 'no server'}"
    known, found = _servers(before), _servers(after)
    parts = []
    for sign, names in (
        ("+", [key for key in found if key not in known]),
        ("-", [key for key in known if key not in found]),
    ):
        if names:
            parts.append(shortened(f"{sign}{name}" for name in names))
    changed = [
        f"{key} {differences}"
        for key, server in found.items()
        if key in known and (differences := _keys(known[key], server, ()))
    ]
    if changed:
        parts.append(shortened(changed))
    rest = _keys(before.source, after.source, ("servers", "cluster"))
    if rest:
        parts.append(rest)
    if not parts and before.digest != after.digest:
        parts.append("the order or the levels of its servers")
    return "; ".join(parts)


def _service(before: Snapshot, after: Snapshot, name: str) -> str:
    """The words for one service: its keys and its servers."""
    parts = [_upstream(before.upstreams.get(name), after.upstreams.get(name))]
    known, found = before.services.get(name), after.services.get(name)
    if found is not None and (known is None or known.origin != found.origin):
        parts.append(f"from {' '.join(found.origin)}")
    return "; ".join(part for part in parts if part)


def _servers(upstream: Upstream) -> Mapping[str, Mapping[str, Any]]:
    """Each server as it was written, by ``host:port``."""
    source = upstream.source
    if "servers" in source:
        written = list(source["servers"])
    else:
        cluster = source["cluster"]
        levels = cluster.values() if isinstance(cluster, Mapping) else cluster
        written = [server for level in levels for server in level["servers"]]
    return {host_port(server["host"], server["port"]): server for server in written}


def _keys(before: Mapping[str, Any], after: Mapping[str, Any], but: Iterable[str]) -> str:
    """The keys that differ.  Plain settings are shown with their values."""
    found = []
    for key in sorted({*before, *after}.difference(but)):
        old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if old == new:
            continue
        name = key if key.isidentifier() and len(key) <= 60 else shown(key)
        if key in _PLAIN and not any(isinstance(one, (dict, list)) for one in (old, new)):
            found.append(f"{name} {_value(old)} -> {_value(new)}")
        else:
            found.append(name)
    return shortened(found)


def _value(value: Any) -> str:
    return "(not given)" if value is _ABSENT else shown(value).strip('"')


def _certificate(pair: Pair | None) -> str:
    if pair is None:
        return ""
    expires = time.strftime("%Y-%m-%d", time.localtime(pair.expires))
    return f"for {shortened(pair.names)}, until {expires}"


def _hook_of(before: Snapshot, after: Snapshot, path: str) -> str:
    language, _, name = path.partition("/")
    return _hook(before.hooks.get((language, name)), after.hooks.get((language, name)))


def _hook(before: Hook | None, after: Hook | None) -> str:
    if after is None:
        return ""
    parts = []
    for which in ("active", "staged"):
        old = None if before is None else getattr(before, which)
        new = getattr(after, which)
        if new is not None and new != old:
            parts.append(f"{'in service' if which == 'active' else 'staged'}: {new.version}")
    if after.canary != (0 if before is None else before.canary):
        parts.append(f"canary: {after.canary} %")
    if after.shadow and not (before is not None and before.shadow):
        parts.append("in the shadow")
    on_error = None if before is None else before.on_error
    if after.on_error != on_error:
        parts.append(f"on_error: {after.on_error or 'that of the settings'}")
    return ", ".join(parts)


def _whole(before: Snapshot, after: Snapshot) -> str:
    """The words for routes, and for several things that change together."""
    parts = []
    known, found = before.upstreams, after.upstreams
    names = [
        *(f"+{name}" for name in found if name not in known),
        *(f"-{name}" for name in known if name not in found),
        *(name for name in found if name in known and not known[name].same_as(found[name])),
    ]
    if names:
        parts.append(f"upstreams {shortened(names)}")
    if before.routes != after.routes:
        old, now = set(before.routes), set(after.routes)
        gone, new = len(old - now), len(now - old)
        parts.append(f"routes +{new} -{gone}" if gone or new else "the order of the routes")
    if before.default_upstream != after.default_upstream:
        parts.append(f"default_upstream {after.default_upstream}")
    if before.hooks is not after.hooks:
        keys = sorted({*before.hooks, *after.hooks})
        differ = [key for key in keys if before.hooks.get(key) != after.hooks.get(key)]
        if differ:
            parts.append(f"hooks {shortened('/'.join(key) for key in differ)}")
    if before.settings is not after.settings:
        names = sorted({*before.settings, *after.settings})
        differing = [one for one in names if before.settings.get(one) != after.settings.get(one)]
        if differing:
            parts.append(f"settings {shortened(differing)}")
    if before.certificates is not after.certificates:
        old_pairs, new_pairs = before.certificates, after.certificates
        names = sorted({*old_pairs, *new_pairs})
        differing = [one for one in names if old_pairs.get(one) is not new_pairs.get(one)]
        if differing:
            parts.append(f"certificates {shortened(differing)}")
    return "; ".join(parts)
