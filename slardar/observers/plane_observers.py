"""The observers of one data plane: what there is of them, when they begin and end."""

from __future__ import annotations

from typing import Any

from slardar.config import Settings
from slardar.http1.interfaces import Clock, Observer
from slardar.observers.counts import Counting
from slardar.observers.observers import Observers

__all__ = ["PlaneObservers"]


class PlaneObservers:
    """Makes the observers that ``settings`` ask for, in a worker as in the one process and
    in ``slardar.web``.

    ``reactor`` is for observers that write; ``clock`` is the plane's.
    """

    def __init__(self, reactor: Any, clock: Clock, settings: Settings) -> None:
        self._reactor = reactor
        self._all = Observers(clock)
        metrics = settings.metrics
        #: Counts for the metrics, which are always on.
        self.counting = Counting(metrics.buckets, metrics.added_buckets)
        self._all.add(self.counting)

    @property
    def observer(self) -> Observer:
        """The one observer of the plane."""
        return self._all

    def add(self, observer: Observer) -> None:
        """Tell one more observer of every request that ends from now on."""
        self._all.add(observer)

    def take_settings(self, settings: Settings) -> None:
        """Use other settings from now on, as far as they can change while requests run."""

    def stop(self) -> None:
        """The last request has ended: write what is not written yet."""
