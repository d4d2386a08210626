"""Where spans go: the URL of a collector, and whether this installation can write for it."""

from __future__ import annotations

from importlib.util import find_spec
from urllib.parse import urlsplit

from slardar.model.reader import shown

__all__ = ["problem_of_otlp", "traces_url"]

#: What every collector appends to its base URL for traces.
_PATH = "/v1/traces"


def problem_of_otlp(url: str) -> str:
    """Why spans cannot go to the collector at this URL; empty if they can."""
    try:
        parts = urlsplit(url)
        good = (
            parts.scheme == "http"
            and bool(parts.hostname)
            and parts.port != 0
            and url.isascii()
            and url.isprintable()
            and " " not in url
            and not (parts.query or parts.fragment or "@" in parts.netloc)
        )
    except ValueError:
        good = False
    if not good:
        return f"expected http://HOST:PORT, got {shown(url)}"
    if not _has_messages():
        return "this needs the package opentelemetry-proto: pip install 'txslardar[tracing]'"
    return ""


def _has_messages() -> bool:
    try:
        return find_spec("opentelemetry.proto.collector.trace.v1.trace_service_pb2") is not None
    except ImportError:
        return False


def traces_url(base: str) -> bytes:
    """The URL to which spans are posted, for the collector at ``base``."""
    return (base.rstrip("/") + _PATH).encode("ascii")
