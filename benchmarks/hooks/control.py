"""The calls that the measurements make to slardar's control channel."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence

from benchmarks.processes import LOOPBACK

__all__ = ["activate", "requests_of", "set_upstream"]


def activate(port: int, language: str, name: str, code: str) -> None:
    """Post a hook to the control channel on a local port, and put it into service.

    :raise OSError: if the call is refused.
    """
    _call(port, "POST", f"/{language}/{name}", code.encode())
    _call(port, "PUT", f"/{language}/{name}")


def set_upstream(port: int, name: str, servers: Sequence[int], **keys: object) -> None:
    """Set an upstream of servers on these local ports, with other keys of an upstream.

    :raise OSError: if the call is refused.
    """
    body = {"servers": [{"host": LOOPBACK, "port": server} for server in servers], **keys}
    _call(port, "PUT", f"/upstream/{name}", json.dumps(body).encode())


def requests_of(port: int) -> int:
    """The number of requests since slardar was started.

    :raise OSError: if the call fails.
    """
    found: int = json.loads(_call(port, "GET", "/status"))["statistics"]["requests"]
    return found


def _call(port: int, method: str, path: str, body: bytes | None = None) -> bytes:
    call = urllib.request.Request(f"http://{LOOPBACK}:{port}{path}", data=body, method=method)
    try:
        with urllib.request.urlopen(call, timeout=20) as reply:
            data: bytes = reply.read()
            return data
    except urllib.error.HTTPError as error:
        raise OSError(f"{method} {path}: {error.read().decode(errors='replace')}") from error
