"""The text form of ngx_http_dyups: servers, written as in nginx's configuration."""

from __future__ import annotations

import re
from typing import Any

from slardar.model.names import normal_host, split_host_port
from slardar.model.reader import Problems, shown

__all__ = ["parse_dyups"]

#: nginx's units of time, in seconds; without a unit a number is seconds.
_UNITS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_dyups(text: str, where: str) -> dict[str, Any]:
    """dyups' text form (``server 127.0.0.1:8089 weight=2;server ...;``) as an upstream.

    It understands nginx's parameters ``weight``, ``max_fails``, ``fail_timeout``,
    ``max_conns``, ``backup`` and ``down``; a server without a port gets 80, as in nginx.
    Raises ConfigError.
    """
    problems = Problems()
    servers = []
    for index, statement in enumerate(filter(None, (part.strip() for part in text.split(";")))):
        words = statement.split()
        path = f"{where}[{index}]"
        found = _place(words[1]) if words[0] == "server" and len(words) > 1 else None
        if found is None:
            problems.add(path, f"expected server HOST:PORT, got {shown(statement)}")
            continue
        server: dict[str, Any] = {"host": found[0], "port": found[1]}
        for word in words[2:]:
            _parameter(server, word, path, problems)
        servers.append(server)
    if not servers and not problems.lines:
        problems.add(where, "expected server HOST:PORT; ...")
    problems.raise_if_any()
    return {"servers": servers}


def _place(text: str) -> tuple[str, int] | None:
    found = split_host_port(text)
    if found is not None:
        return found
    host = normal_host(text)
    return None if host is None or (":" in host and text[:1] != "[") else (host, 80)


def _parameter(server: dict[str, Any], word: str, path: str, problems: Problems) -> None:
    """One word after ``server HOST:PORT``; limits are checked with the upstream."""
    key, _, value = word.partition("=")
    duration = re.fullmatch("([0-9]{1,12})(ms|[smhdw]?)", value) if key == "fail_timeout" else None
    if word == "backup":
        server["backup"] = True
    elif word == "down":
        server["state"] = "down"
    elif key in ("weight", "max_fails", "max_conns") and re.fullmatch("[0-9]{1,12}", value):
        server[key] = int(value)
    elif duration is not None:
        seconds = int(duration[1]) * _UNITS[duration[2]]
        server[key] = int(seconds) if seconds == int(seconds) else seconds
    else:
        problems.add(
            path,
            "expected weight=N, max_fails=N, fail_timeout=TIME, max_conns=N, backup or down, "
            f"got {shown(word)}",
        )
