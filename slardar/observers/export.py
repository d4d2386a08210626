"""Makes what exports spans, where the settings say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slardar.config import Tracing
from slardar.model.otlp import traces_url

if TYPE_CHECKING:
    from slardar.observers.exporter import Exporter

__all__ = ["exporter_for"]


def exporter_for(reactor: Any, tracing: Tracing | None) -> Exporter | None:
    """What exports spans as the settings say; ``None`` if they go nowhere."""
    if tracing is None or tracing.otlp is None:
        return None
    # Imported here: the package for OTLP is an optional one, and takes a quarter of a second.
    # Twisted's HTTP client takes half a megabyte.
    from slardar.observers.exporter import Exporter
    from slardar.observers.otlp import encoded, rejected

    service = tracing.service
    return Exporter(
        reactor, traces_url(tracing.otlp), lambda spans: encoded(spans, service), rejected
    )
