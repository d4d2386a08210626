"""The observers of one data plane: what there is of them, when they begin and end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from twisted.internet import defer

from slardar.config import Settings
from slardar.http1.interfaces import Clock, Observer
from slardar.http1.record import RequestRecord
from slardar.http1.tracing import Tracer
from slardar.model.server import Upstream
from slardar.observers.access_log import AccessLogs
from slardar.observers.counts import Counting
from slardar.observers.export import exporter_for
from slardar.observers.observers import Observers
from slardar.observers.span_batches import SpanTarget
from slardar.observers.spans import span_of
from slardar.observers.traces import Traces

__all__ = ["PlaneObservers"]


class PlaneObservers:
    """Makes the observers that ``settings`` ask for, in a worker as in the one process and
    in ``slardar.web``.

    ``reactor`` is for observers that write; ``clock`` is the plane's.  ``worker`` is the
    name of the worker, ``stdout`` the descriptor of standard output, and ``under_way()``
    gives the records of the requests under way.  ``spans`` takes spans, where another process
    exports them; without it they are exported from here.
    """

    def __init__(
        self,
        reactor: Any,
        clock: Clock,
        settings: Settings,
        worker: str,
        stdout: int,
        under_way: Callable[[], Iterable[RequestRecord]],
        spans: SpanTarget | None = None,
    ) -> None:
        self._all = Observers(clock)
        #: Makes the trace contexts of requests; ``None`` where nothing is traced.
        self.tracer: Tracer | None = None
        self._worker = worker
        #: Where spans go; ``None``: nowhere.
        self._spans: SpanTarget | None = None
        if settings.tracing is not None:
            self.tracer = Tracer(float(settings.tracing.sample))
            if settings.tracing.otlp is not None:
                self._spans = spans or exporter_for(reactor, settings.tracing)
            # Before those that read the context.
            tell = None if self._spans is None else self._tell_span
            self._all.add(Traces(self.tracer, tell))
        metrics = settings.metrics
        #: Counts for the metrics, which are always on.
        self.counting = Counting(metrics.buckets, metrics.added_buckets)
        self._all.add(self.counting)
        self._logs = AccessLogs(reactor, clock, worker, stdout, under_way)
        self.take_settings(settings)

    @property
    def observer(self) -> Observer:
        """The one observer of the plane."""
        return self._all

    def add(self, observer: Observer) -> None:
        """Tell one more observer of every request that ends from now on."""
        self._all.add(observer)

    def take_settings(self, settings: Settings) -> None:
        """Use other settings from now on, as far as they can change while requests run."""
        self._logs.take(settings.access_log)
        self._all.set_told(self._logs, bool(settings.access_log))

    def apply(self, upstreams: Mapping[str, Upstream], changed: Collection[str]) -> None:
        """These upstreams are served from now on; ``changed`` names those that differ."""
        for name in changed:
            upstream = upstreams.get(name)
            self._logs.take_silent(name, upstream is not None and not upstream.access_log)

    def reopen(self) -> None:
        """Open the files of access logs anew."""
        self._logs.reopen()

    def statistics(self) -> dict[str, int]:
        """Counters, for the status."""
        counts = {"access_log_dropped": self._logs.dropped}
        if self._spans is not None:
            counts["spans_exported"] = self._spans.exported
            counts["spans_dropped"] = self._spans.dropped
        return counts

    def drain(self) -> None:
        """The plane takes no more clients, and ends soon."""
        self._logs.watch()

    def stop(self) -> defer.Deferred[None]:
        """The last request has ended: write what is not written yet."""
        ends = [self._logs.stop()]
        if self._spans is not None:
            ends.append(self._spans.stop())
        done: Any = defer.DeferredList(ends)
        return done.addCallback(lambda _: None)  # type: ignore[no-any-return]

    def _tell_span(self, record: RequestRecord) -> None:
        """A request that is sampled has ended."""
        span = span_of(record, self._worker)
        if span is not None and self._spans is not None:
            self._spans.put(span)
