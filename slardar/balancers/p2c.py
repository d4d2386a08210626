"""``p2c``: the power of two choices.

Two servers are drawn by lot, by weight.  The one with fewer requests under way for its
weight (``active / weight``) gets the request; if they are equal, the first one drawn, so
that shares follow the weights also without load.  A pick costs the same with any number of
servers.  With ``least_conn``, several processes that do not know of each other send their
requests to the same least loaded server; with ``p2c`` they do not.
(Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import random as default_random
from typing import Any, ClassVar

from mypy_extensions import mypyc_attr

from slardar.balancers.base import Balancer
from slardar.balancers.draw import Lots
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["TwoChoices"]


@mypyc_attr(allow_interpreted_subclasses=True)
class TwoChoices(Balancer):
    """Two random choices, the less loaded one; it takes no options."""

    modes: ClassVar[tuple[str, ...]] = ("p2c",)

    def __init__(
        self,
        servers: Sequence[Peer],
        options: Mapping[str, Any],
        random: Callable[[], float] = default_random,
    ) -> None:
        super().__init__(servers, options)
        self._lots = Lots(random)

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        if len(servers) == 1:
            return servers[0]
        first, second = self._lots.two(servers)
        return _less_loaded(first, second)

    def pick_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer:
        first, second = self._lots.two_without(servers, left_out)
        return _less_loaded(first, second)


def _less_loaded(first: Peer, second: Peer) -> Peer:
    if second.live.active * first.weight < first.live.active * second.weight:
        return second
    return first
