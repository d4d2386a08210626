"""What a worker tells the director by itself: counters, hooks' failures, servers' health."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.task import LoopingCall

from slardar.dataplane.balancer_errors import BalancerError
from slardar.dataplane.proxy import DataPlane
from slardar.health.notes import notes_of
from slardar.health.verdicts import MAX_TEXT
from slardar.hooks.loaded import Loaded
from slardar.hooks.report import HookReport, ShadowReport
from slardar.model.live import Live, ServerLive
from slardar.model.server import Upstream
from slardar.observers.counted import Present, counted_in
from slardar.workers.messages import (
    BalancerReport,
    FromWorker,
    Grown,
    HookFailed,
    HookHeavy,
    Report,
    ServerReport,
    UpstreamReport,
)
from slardar.workers.news import HealthNews

__all__ = ["Reporter"]

#: Seconds between two reports.
_REPORT = 1.0
#: Servers looked at before requests get their turn again: about 2 ms.
_SLICE = 1000
#: Servers whose counts are told in one message: about a millisecond.
_COUNTED = 500

_Key = tuple[str, str, int]


class Reporter:
    """Sends reports on a data plane to the director; ``send(message)`` sends one."""

    def __init__(
        self,
        reactor: Any,
        live: Live,
        send: Callable[[FromWorker], None],
    ) -> None:
        self._reactor = reactor
        self._live = live
        self._send = send
        #: What is told of servers' health as soon as it is known.
        self.news = HealthNews(reactor, send)
        self._plane: Any = None
        #: What was last reported of each server.
        self._reported: dict[_Key, ServerReport] = {}
        #: What was last reported of each upstream.
        self._reported_upstreams: dict[str, dict[str, int]] = {}
        #: What was last reported of each hook.
        self._reported_hooks: dict[tuple[type, int], HookReport | ShadowReport] = {}
        #: What was last reported of each upstream's balancer.
        self._reported_balancers: dict[str, BalancerError] = {}
        #: What was last reported of connections.
        self._reported_present = Present()
        self._under_way = False
        #: What is left of the report under way.
        self._steps: Iterator[None] = iter(())
        self._reports = LoopingCall(self._report)
        self._reports.clock = reactor

    def start(self, plane: DataPlane) -> None:
        """Report on ``plane`` from now on."""
        self._plane = plane
        self._reports.start(_REPORT, now=False)
        self.news.start(plane.clock)

    def stop(self) -> None:
        """Report everything at once, for the last time."""
        if self._reports.running:
            self._reports.stop()
            self.news.stop()
            # What the report under way has taken is not to be lost.
            for _ in self._steps:
                pass
            for _ in self._report_in_steps():
                pass

    def forget(self, upstream: Upstream | None) -> None:
        """Report all servers of an upstream once more, because the upstream has changed: the
        director may have forgotten some of them, and some may be gone."""
        if upstream is not None:
            for server in upstream.servers:
                self._reported.pop((upstream.name, server.host, server.port), None)

    def hook_failed(self, loaded: Loaded) -> None:
        """Tell at once that a hook has failed: the director counts the failures in all
        workers."""
        self._send(HookFailed(loaded.mark))

    def hook_heavy(self, mark: int, reason: str) -> None:
        """Tell at once that a hook is suspended because it held too much memory: the director
        suspends it in all workers."""
        self._send(HookHeavy(mark, reason[:1000]))

    def grown(self) -> None:
        """Tell that this process has grown too large, and that no hook is the reason."""
        self._send(Grown())

    def _report(self) -> None:
        """Send the counters.  Servers are sent in slices, and requests are served between
        two slices."""
        if self._under_way:
            return
        self._under_way = True
        steps = self._steps = self._report_in_steps()

        def go_on() -> None:
            if not self._reports.running or next(steps, steps) is steps:
                self._under_way = False
            else:
                self._reactor.callLater(0, go_on)

        go_on()

    def _report_in_steps(self) -> Iterator[None]:
        self._send_counters((), self._upstreams())
        present = Present(*self._plane.present())
        if present != self._reported_present:
            self._reported_present = present
            self._send(present)
        for servers in self._slices():
            if servers:
                self._send_counters(servers)
            yield
        for counted in counted_in(self._plane.observers.counting, _COUNTED):
            self._send(counted)
            yield

    def _slices(self) -> Iterator[tuple[ServerReport, ...]]:
        """For each slice of the servers, the reports that have changed."""
        keys = list(self._live.servers)
        for start in range(0, len(keys), _SLICE):
            servers = []
            for key in keys[start : start + _SLICE]:
                live = self._live.servers.get(key)
                if live is not None:
                    about = _about(key, live, self._plane.clock.now)
                    if self._reported.get(key) != about:
                        self._reported[key] = about
                        servers.append(about)
            yield tuple(servers)

    def _upstreams(self) -> tuple[UpstreamReport, ...]:
        """The reports of upstreams that have changed."""
        reported, self._reported_upstreams = self._reported_upstreams, {}
        changed = []
        for name, live in self._live.upstreams.items():
            if live.is_counted():
                counts = self._reported_upstreams[name] = live.counts()
                if reported.get(name) != counts:
                    changed.append(UpstreamReport(name, counts))
        return tuple(changed)

    def _send_counters(
        self, servers: tuple[ServerReport, ...], upstreams: tuple[UpstreamReport, ...] = ()
    ) -> None:
        counters = self._plane.statistics()
        hooks: list[HookReport] = []
        shadows: list[ShadowReport] = []
        # Only hooks that exist are remembered: a hook that is gone may come back.
        reported, self._reported_hooks = self._reported_hooks, {}
        for about in self._plane.hook_reports():
            key = (type(about), about.mark)
            self._reported_hooks[key] = about
            if reported.get(key) != about:
                if isinstance(about, HookReport):
                    hooks.append(about)
                else:
                    shadows.append(about)
        balancers = [
            BalancerReport(name, error)
            for name, error in self._plane.balancer_errors.last.items()
            if self._reported_balancers.get(name) is not error
        ]
        self._reported_balancers = dict(self._plane.balancer_errors.last)
        self._send(
            Report(
                version=counters["version"],
                accepted=counters["accepted"],
                requests=counters["requests"],
                refused=counters["refused"],
                connections=counters["connections"],
                active=counters["active"],
                tunnels=counters["tunnels"],
                access_log_dropped=counters["access_log_dropped"],
                spans_dropped=counters.get("spans_dropped", 0),
                servers=servers,
                hooks=tuple(hooks),
                shadows=tuple(shadows),
                balancers=tuple(balancers),
                upstreams=upstreams,
            )
        )


def _about(key: _Key, live: ServerLive, now: float) -> ServerReport:
    return ServerReport(
        *key,
        live.requests,
        live.failures,
        live.active,
        live.status,  # type: ignore[arg-type]
        live.fail_num,
        live.last_modified,
        live.msg[:MAX_TEXT],
        notes_of(live, now),
    )
