"""The names of servers, which the director looks up for all workers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from slardar.dataplane.pool import is_literal
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot
from slardar.resolve import NameState, Resolver
from slardar.workers.messages import Addresses, Found

__all__ = ["NameWatch"]


class NameWatch:
    """Follows the names of all servers, and tells the workers what is found.

    ``tell(message)`` is called with names whose addresses are new or have changed; the
    results of one turn of the reactor are told together.  If the first lookup of a name
    finds no address, this is told too, so that nobody waits for it any longer.
    """

    def __init__(
        self, reactor: Any, tell: Callable[[Addresses], None], resolver: Resolver | None = None
    ) -> None:
        self._reactor = reactor
        self._tell = tell
        self._resolver = resolver or Resolver(reactor)
        #: For each name, how many upstreams have it, and the follower of its addresses.
        self._uses: dict[str, int] = {}
        self._followers: dict[str, Callable[[list[tuple[int, str]]], None]] = {}
        #: All that was found, for workers that begin; and what is to be told yet.
        self.found: Found = {}
        self._new: Found = {}
        #: The call that will tell it.
        self._call: Any = None
        self._is_over = False

    def follow(self, before: Snapshot, after: Snapshot, changed: Collection[str]) -> None:
        """Follow the names of ``after`` from now on, and no longer those of ``before``.

        The snapshots differ in the ``changed`` upstreams.
        """
        if self._is_over:
            return
        wanted: list[str] = []
        for upstream in changed:
            wanted += _names(after.upstreams.get(upstream))
        for name in wanted:
            self._uses[name] = self._uses.get(name, 0) + 1
        for upstream in changed:
            for name in _names(before.upstreams.get(upstream)):
                self._uses[name] -= 1
                if not self._uses[name]:
                    self._forget(name)
        # A name without an address may have been mended, and the change be made therefore.
        again = tuple({name for name in wanted if self.found.get(name) == ()})
        for name in again:
            self._resolver.unfollow(name, self._followers.pop(name))
            del self.found[name]
        if again:
            self._tell(Addresses({}, again))
        for name in wanted:
            if name not in self._followers:
                follower = self._followers[name] = partial(self._take, name)
                looked_up = self._resolver.follow(name, follower)
                looked_up.addCallback(self._looked_up, name, follower)

    def shown(self) -> Mapping[str, NameState]:
        """What the status shows of the names."""
        return self._resolver.shown()

    def stop(self) -> None:
        """Look nothing up any more, and tell nothing, whatever is applied later."""
        self._is_over = True
        self._followers = {}
        self._resolver.stop()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _forget(self, name: str) -> None:
        del self._uses[name]
        self._resolver.unfollow(name, self._followers.pop(name))
        self.found.pop(name, None)
        self._new.pop(name, None)

    def _take(self, name: str, addresses: list[tuple[int, str]]) -> None:
        self.found[name] = tuple(addresses)
        if self._call is None:
            self._call = self._reactor.callLater(0, self._tell_new)
        self._new[name] = self.found[name]

    def _looked_up(self, _: None, name: str, follower: object) -> None:
        """The first lookup of a name has ended, or is not waited for any longer."""
        if name not in self.found and self._followers.get(name) is follower:
            self._take(name, [])

    def _tell_new(self) -> None:
        self._call = None
        new, self._new = self._new, {}
        if new:
            self._tell(Addresses(new))


def _names(upstream: Upstream | None) -> set[str]:
    """The names of an upstream's servers that must be looked up."""
    if upstream is None:
        return set()
    return {server.host for server in upstream.servers if not is_literal(server.host)}
