"""When a certificate is ordered and by which challenge: rules without a clock of their own.

All times are in epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import random
from typing import Final

from slardar.backoff import backoff
from slardar.model.acme import Order
from slardar.model.listener import ListenerSpec

__all__ = [
    "HTTP",
    "LEASE",
    "TLS",
    "after_failure",
    "begun",
    "kinds_available",
    "kinds_to_try",
    "not_before",
    "pause",
    "renewal_time",
]

#: The types of challenges.
HTTP: Final = "http-01"
TLS: Final = "tls-alpn-01"

#: Seconds for which a node has an order.  It ends its own order before.
LEASE: Final = 360.0
#: Seconds until the first try after a failure, and the longest until any.  Let's Encrypt takes five
#: failures of a name in an hour.
_FIRST: Final = 300.0
_LONGEST: Final = 6 * 3600.0
#: The longest time for which a CA can put off the next try by ``Retry-After``.
_MAX_PUT_OFF: Final = 24 * 3600.0
#: Seconds from now that no time can be away that was meant.
_FAR: Final = _MAX_PUT_OFF + _LONGEST
#: Of a certificate's life: when it is renewed, and when it is at the latest, whatever a CA
#: suggests.
_RENEWED: Final = 2 / 3
_LATEST: Final = 9 / 10
#: Of what is left of its life when it is got: the part in which it is not renewed whatever a CA
#: suggests.  That are so many seconds at least and at most.
_KEPT: Final = 1 / 6
_LEAST_KEPT: Final = 60.0
_MAX_KEPT: Final = 24 * 3600.0
#: Seconds between two questions to a CA how an order goes on, at least and at most.
_LEAST_PAUSE: Final = 1.0
_MOST_PAUSE: Final = 15.0


def kinds_available(listeners: Iterable[ListenerSpec]) -> tuple[str, ...]:
    """The types of challenges that can be answered, the best one first.

    A CA connects to the ports 80 and 443.  Which listeners these lead to is not known, only
    whether there is one without and one with TLS.
    """
    secure = {one.tls for one in listeners}
    return tuple(kind for kind, tls in ((HTTP, False), (TLS, True)) if tls in secure)


def kinds_to_try(available: tuple[str, ...], failed: str) -> tuple[str, ...]:
    """The types to try in one go, in order: the first time all of them, and then in turns one, so
    that failures are few.  ``failed`` is the type that failed last, or empty."""
    if failed not in available:
        return available
    return (available[(available.index(failed) + 1) % len(available)],)


def begun(node: str, now: float, before: Order | None) -> Order:
    """The order of a node that takes it now.  An order that another one did not end has failed."""
    if before is None:
        return Order(node, now, now + LEASE)
    failures = before.failures + bool(before.node)
    return Order(node, now, now + LEASE, failures, kind=before.kind)


def after_failure(
    before: Order,
    error: str,
    now: float,
    put_off: float = 0.0,
    kind: str = "",
    draw: Callable[[], float] = random,
) -> Order:
    """The order when a try has failed.

    ``put_off`` are the seconds that the CA asks to wait, 0 if it has not asked.  ``kind`` is the
    type of the challenge that has failed, if that was the reason.
    """
    failures = before.failures
    seconds = max(backoff(_FIRST, _LONGEST, failures, draw), min(put_off, _MAX_PUT_OFF))
    kind = kind or before.kind
    return Order(failures=failures + 1, next=now + seconds, error=error, kind=kind)


def not_before(order: Order | None, now: float) -> float:
    """The earliest time at which a node may take the order.

    A time that is too far away to have been meant was written with a wrong clock, and does not
    count.
    """
    if order is None:
        return 0.0
    when = order.next
    if order.node:
        # A node that always ends in the middle of an order must not try again and again.
        pause = backoff(_FIRST, _LONGEST, order.failures, _no_lot)
        when = max(order.until, order.began + pause)
    return when if when - now < _FAR else 0.0


def _no_lot() -> float:
    return 0.0


def renewal_time(begins: float, ends: float, got: float, suggested: float | None = None) -> float:
    """When a certificate is renewed that is good from ``begins`` to ``ends``, and that was got at
    ``got``.

    ``suggested`` is the time that the CA suggests, if it does.  Nothing that a CA says makes a node
    order without end, or lets a certificate expire that could be renewed.
    """
    life = max(0.0, ends - begins)
    due = begins + _RENEWED * life
    if suggested is not None:
        due = min(suggested, begins + _LATEST * life)
    kept = min(_KEPT * max(0.0, ends - got), _MAX_KEPT)
    return max(due, got + max(kept, _LEAST_KEPT))


def pause(asked: float) -> float:
    """Seconds until the CA is asked again; ``asked`` are those of its ``Retry-After``, or 0."""
    return min(max(asked, _LEAST_PAUSE), _MOST_PAUSE)
