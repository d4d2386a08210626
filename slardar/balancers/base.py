"""What every balancer starts from.

A balancer is one file: a class that derives from :class:`Balancer` and says in
``modes`` what it is called.  It picks one of the servers it is given, keeps what small
state it needs, and never writes to the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from mypy_extensions import mypyc_attr
from zope.interface import classImplements

from slardar.errors import ConfigError
from slardar.interfaces import IBalancer, IRequest
from slardar.model.live import Peer
from slardar.model.reader import shown

__all__ = ["Balancer", "Outcome", "bad_option", "refuse_unknown_options", "rest"]


class Outcome(NamedTuple):
    """What became of one attempt on one server."""

    #: No reply, or one that counts as a failure.
    failed: bool
    #: Seconds from the attempt's start to the end of the reply, or to the failure.
    seconds: float
    #: The reply's status; 0 where there was no reply.
    status: int


@mypyc_attr(allow_interpreted_subclasses=True)
class Balancer:
    """Picks a server for each request; one instance for a level of an upstream.

    ``servers`` are all peers of the level, available or not, in the configured
    order; ``options`` is the upstream's ``mode_opts``.  A wrong option raises
    :class:`ConfigError`, and the upstream is refused.  Nothing here may block: all
    of it runs on the request path.

    A subclass writes :meth:`pick`, and of the others only those it needs: a method
    that is not overridden is never called.

    A peer's ``weight`` is the one to go by.  It may change while the balancer lives; then
    another sequence of servers is passed to :meth:`pick`, so what was worked out from
    weights may be kept as long as the same sequence object comes.
    """

    #: What ``mode`` calls it, for a balancer in ``slardar/balancers``.
    modes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        refuse_unknown_options(options, ())

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        """One of ``servers``: those in service that this request has not tried yet."""
        raise NotImplementedError

    def pick_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer:
        """One of ``servers`` that is none of ``left_out``; not all of them are.

        ``servers`` are the sequence that :meth:`pick` gets, and ``left_out`` are some of
        it: those that this request has tried already, or that have their limit of requests.
        A balancer writes this one where it can do better than to look at each server,
        which is what happens otherwise: :meth:`pick` is given the rest as a list.
        """
        return self.pick(rest(servers, left_out), request)

    def preview(self, servers: Sequence[Peer], request: IRequest) -> Peer | None:
        """The server that :meth:`pick` would give for ``request`` now; ``None`` if that is
        up to chance, or cannot be told.

        It is what operators are shown who ask where a request would go.  It changes
        nothing: no server's turn, no counter, no random number.
        """
        return None

    def started(self, server: Peer) -> None:
        """A request is on its way to ``server``."""

    def finished(self, server: Peer, outcome: Outcome) -> None:
        """The attempt that ``started`` told of is over."""

    def failed(self, server: Peer) -> None:
        """The attempt failed; ``finished`` follows."""


def rest(servers: Sequence[Peer], left_out: Sequence[Peer]) -> list[Peer]:
    """Those of ``servers`` that are none of ``left_out``."""
    out = set(left_out)
    return [peer for peer in servers if peer not in out]


# Not as a decorator: mypyc compiles no class that has one.
classImplements(Balancer, IBalancer)


def refuse_unknown_options(options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise ConfigError, a line for each key of ``mode_opts`` that is not ``known``."""
    names = sorted(known)
    expected = f"expected {', '.join(names)}" if names else "this balancer takes no options"
    unknown = [key for key in options if key not in names]
    if unknown:
        raise ConfigError([f"{key}: unknown option, {expected}" for key in map(str, unknown)])


def bad_option(key: str, expected: str, value: object) -> ConfigError:
    """The error for the option ``key``, ready to be raised."""
    return ConfigError(f"{key}: expected {expected}, got {shown(value)}")
