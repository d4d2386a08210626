"""``random``: a server by lot, each with the chance that its weight gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import random as default_random
from typing import Any, ClassVar

from mypy_extensions import mypyc_attr

from slardar.balancers.base import Balancer
from slardar.balancers.draw import Lots
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["Random"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Random(Balancer):
    """Weighted random choice; it takes no options."""

    modes: ClassVar[tuple[str, ...]] = ("random",)

    def __init__(
        self,
        servers: Sequence[Peer],
        options: Mapping[str, Any],
        random: Callable[[], float] = default_random,
    ) -> None:
        super().__init__(servers, options)
        self._lots = Lots(random)

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        return servers[0] if len(servers) == 1 else self._lots.one(servers)

    def pick_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer:
        return self._lots.one_without(servers, left_out)
