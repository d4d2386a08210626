"""The base class of every balancer, and what balancers share.

A balancer is one file: a class that derives from :class:`Balancer` and says in
``modes`` how users name it.  It picks one of the servers that it is given.  It may keep
state of its own, and never writes to the configuration.
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

__all__ = ["Balancer", "Outcome", "bad_option", "hears_more", "refuse_unknown_options", "rest"]


class Outcome(NamedTuple):
    """The result of one attempt on one server."""

    #: Whether there was no reply, or a reply that counts as a failure.
    failed: bool
    #: Seconds from the attempt's start to the end of the reply, or to the failure.
    seconds: float
    #: The status of the reply; 0 if there was none.
    status: int


@mypyc_attr(allow_interpreted_subclasses=True)
class Balancer:
    """Picks a server for each request; one instance for a level of an upstream.

    ``servers`` are all peers of the level, available or not, in the configured
    order; ``options`` is the upstream's ``mode_opts``.  A wrong option raises
    :class:`ConfigError`, and the upstream is refused.  All methods run on the request
    path, so none of them may block.

    A subclass overrides :meth:`pick`, and those of the other methods that it needs: a
    method that is not overridden is never called.

    Balancers use the ``weight`` of a peer, which may change while the balancer lives.
    :meth:`pick` then gets another sequence object.  So a balancer may keep what it has
    computed from weights for as long as it gets the same sequence object.
    """

    #: The values of ``mode`` that mean this class, for a balancer in ``slardar/balancers``.
    modes: ClassVar[tuple[str, ...]] = ()

    #: Whether :meth:`started`, :meth:`finished` and :meth:`failed` are to be called.  A class
    #: that overrides them says no in an instance whose options do not need the calls.
    is_told: bool = True

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        refuse_unknown_options(options, ())

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        """One of ``servers``, which are in service and not yet tried by this request."""
        raise NotImplementedError

    def pick_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer:
        """One of ``servers`` that is not in ``left_out``.

        ``servers`` is the sequence object that :meth:`pick` gets.  ``left_out`` has some of
        these servers, never all: those that this request has tried, and those that have
        their limit of requests.  Without this method :meth:`pick` gets a new list of the
        other servers.  A balancer overrides it, beside :meth:`pick`, if it need not look at
        each server.
        """
        return self.pick(rest(servers, left_out), request)

    def preview(self, servers: Sequence[Peer], request: IRequest) -> Peer | None:
        """The server that :meth:`pick` would give for ``request`` now; ``None`` if the
        choice is random or cannot be foreseen.

        Operators who ask where a request would go are shown this server.  The method
        changes nothing: no server's turn, no counter, no random number.
        """
        return None

    def bound_to(self, request: IRequest) -> Peer | None:
        """The server to which ``request`` is bound, in service or not; ``None`` if to none.

        A server whose state is ``drain`` is not offered to :meth:`pick`.  It still gets the
        requests that are bound to it, while it is healthy and has room.  The method is called
        only while a server of the level drains; it changes nothing.
        """
        return None

    def preview_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer | None:
        """The server that :meth:`pick_without` would give for ``request`` now, as
        :meth:`preview`.

        A balancer whose :meth:`pick_without` looks at the servers that are left out, too,
        overrides it.
        """
        return self.preview(rest(servers, left_out), request)

    def reply_headers(self, server: Peer, request: IRequest) -> Sequence[tuple[bytes, bytes]]:
        """Names and values of header lines that the reply of ``server`` to ``request`` gets.

        It is called before the reply goes to hooks and to the client.  Replies of slardar's
        own get no such lines.
        """
        return ()

    def started(self, server: Peer) -> None:
        """A request is on its way to ``server``."""

    def finished(self, server: Peer, outcome: Outcome) -> None:
        """An attempt that :meth:`started` announced is over."""

    def failed(self, server: Peer) -> None:
        """An attempt on ``server`` failed; :meth:`finished` follows."""


def rest(servers: Sequence[Peer], left_out: Sequence[Peer]) -> list[Peer]:
    """The servers that are not in ``left_out``, in order."""
    out = set(left_out)
    return [peer for peer in servers if peer not in out]


def hears_more(balancer: Balancer, base: type[Balancer]) -> bool:
    """Whether the class of ``balancer`` overrides how ``base`` hears of requests."""
    kind = type(balancer)
    return any(
        getattr(kind, name) is not getattr(base, name) for name in ("started", "finished", "failed")
    )


# Not as a decorator: mypyc compiles no class that has one.
classImplements(Balancer, IBalancer)


def refuse_unknown_options(options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise ConfigError if a key of ``mode_opts`` is not ``known``, with a line for each."""
    names = sorted(known)
    expected = f"expected {', '.join(names)}" if names else "this balancer takes no options"
    unknown = [key for key in options if key not in names]
    if unknown:
        raise ConfigError([f"{key}: unknown option, {expected}" for key in map(str, unknown)])


def bad_option(key: str, expected: str, value: object) -> ConfigError:
    """The error for the option ``key``, ready to be raised."""
    return ConfigError(f"{key}: expected {expected}, got {shown(value)}")
