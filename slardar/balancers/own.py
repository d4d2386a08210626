"""The balancers of this folder, by the names that users give them."""

from __future__ import annotations

from functools import lru_cache

from slardar import balancers
from slardar.balancers.base import Balancer
from slardar.model.folders import Found, classes_in

__all__ = ["own_balancers"]


@lru_cache(maxsize=1)
def own_balancers() -> Found:
    """The classes, by the names in their ``modes``.  The first call may block."""
    return classes_in(balancers, Balancer, "modes")
