"""Where a request enters the data plane: which upstream's selection it gets."""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from slardar.dataplane.selection import Selection
from slardar.http1.bodies import BodyOwner, SeenBody, WaitingBody
from slardar.http1.exchange import Exchange
from slardar.http1.interfaces import (
    ChannelBase,
    Clock,
    Downstream,
    ExchangeBase,
    HookedRequest,
    HooksBase,
    PlaneBase,
    SelectionBase,
    Step,
)
from slardar.http1.own_replies import error_reply
from slardar.http1.record import BY_SLARDAR
from slardar.http1.reply import Reply
from slardar.http1.request import Request
from slardar.model.snapshot import Choice

__all__ = ["Router"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Router(PlaneBase):
    """The part of a data plane that every request passes.

    The rest of the plane keeps ``selections`` and ``has_routes`` in step with the
    snapshot in service, and answers what is not decided here.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        #: By the name of the upstream: those that were asked for before.
        self.selections: dict[str, Selection] = {}
        #: The name in Host does not tell all: there are routes, which come before it, or
        #: upstreams that are not public.
        self.has_routes: bool = False
        #: Users' scripts; ``None`` while there are none, so that they cost nothing.
        self.hooks: HooksBase | None = None
        #: Some upstream waits for the first lookup of its servers' names.
        self.has_waiting: bool = False
        #: Requests that came, and those answered without a server.
        self.requests: int = 0
        self.refusals: int = 0

    def begin(
        self, downstream: Downstream, request: Request, channel: ChannelBase | None = None
    ) -> ExchangeBase | None:
        self.requests += 1
        if self.hooks is not None and self.hooks.sees(request):
            if channel is not None and channel.put_off(
                _Hooks(self, downstream, request, channel), request.host
            ):
                return None
            hooked = self.hooks.request(request)
            return self._begin_hooked(hooked, None, downstream, request, channel)
        selection: SelectionBase | None
        selection = None if self.has_routes else self.selections.get(request.host)
        if selection is None:
            choice = self.choose(request)
            selection = self._selection_of(choice)
            if selection is None:
                downstream.refuse(502, self.missing(request, choice))
                return None
            if self.has_waiting and self.hold(selection, downstream, request, channel, None):
                return None
        return Exchange(self, downstream, request, selection)

    def begin_on(
        self, upstream: str, downstream: Downstream, request: Request, body: SeenBody | None = None
    ) -> ExchangeBase | None:
        """Like :meth:`begin`, on the upstream of this name whatever the request asks for;
        with the body if that was waited for."""
        self.requests += 1
        if self.hooks is not None:
            hooked = self.hooks.request_with(request, body, upstream)
            return self._begin_hooked(hooked, upstream, downstream, request)
        return self.begin_named(upstream, downstream, request)

    def wait_for_body(self, owner: BodyOwner, request: Request) -> WaitingBody | None:
        hooks = self.hooks
        if hooks is None or not hooks.reads_body(request):
            return None
        return WaitingBody(self.bodies, owner, self.hook_body, request.length)

    def begin_with(
        self,
        downstream: Downstream,
        request: Request,
        body: SeenBody,
        channel: ChannelBase | None = None,
    ) -> ExchangeBase | None:
        self.requests += 1
        hooks = self.hooks
        if channel is not None and channel.put_off(
            _Hooks(self, downstream, request, channel, body), request.host
        ):
            return None
        # They may have gone while the body came.
        hooked = None if hooks is None else hooks.request_with(request, body, None)
        return self._begin_hooked(hooked, None, downstream, request, channel)

    def begin_named(
        self,
        upstream: str,
        downstream: Downstream,
        request: Request,
        channel: ChannelBase | None = None,
        hooked: HookedRequest | None = None,
    ) -> ExchangeBase | None:
        """The same for a request that was counted, and that hooks have seen."""
        selection: SelectionBase | None = self.selections.get(upstream)
        if selection is None:
            selection = self.first_use(upstream)
            if selection is None:
                _refuse(downstream, f"no upstream {upstream!r}", hooked)
                return None
        return self._begin_on(selection, downstream, request, channel, hooked)

    def _begin_hooked(
        self,
        hooked: HookedRequest | None,
        upstream: str | None,
        downstream: Downstream,
        request: Request,
        channel: ChannelBase | None = None,
    ) -> ExchangeBase | None:
        """The same when hooks have seen the request; the upstream that one of them chooses
        wins."""
        if hooked is not None:
            record = downstream.record
            if record is not None:
                record.error, record.hook = hooked.error, hooked.hook
            if hooked.answer is not None:
                self.refusals += 1
                downstream.answer(hooked.answer, hooked.body)
                return None
            upstream = hooked.upstream or upstream
        if upstream is not None:
            return self.begin_named(upstream, downstream, request, channel, hooked)
        selection: SelectionBase | None
        selection = None if self.has_routes else self.selections.get(request.host)
        if selection is None:
            choice = self.choose(request)
            selection = self._selection_of(choice)
            if selection is None:
                _refuse(downstream, self.missing(request, choice), hooked)
                return None
        return self._begin_on(selection, downstream, request, channel, hooked)

    def _begin_on(
        self,
        selection: SelectionBase,
        downstream: Downstream,
        request: Request,
        channel: ChannelBase | None,
        hooked: HookedRequest | None,
    ) -> ExchangeBase | None:
        if self.has_waiting and self.hold(selection, downstream, request, channel, hooked):
            return None
        exchange = Exchange(self, downstream, request, selection)
        if hooked is not None:
            if hooked.new_body is not None:
                exchange.give_body(hooked.new_body, [])
            if hooked.sees_reply:
                exchange.hooked = hooked
                # Where it went in the end, whoever has chosen that.
                hooked.upstream = exchange.selection.name
        return exchange

    def refused(self, status: int) -> None:
        self.refusals += 1

    def own_reply(
        self,
        downstream: Downstream,
        request: Request,
        status: int,
        reason: str,
        exchange: ExchangeBase | None,
        hooked: HookedRequest | None,
    ) -> tuple[Reply, bytes]:
        self.refused(status)
        upstream = server = ""
        if exchange is not None:
            upstream, server, hooked = exchange.selection.name, exchange.server, exchange.hooked
        record = downstream.record
        if record is not None:
            record.answered_by, record.error = BY_SLARDAR, reason
        accept = request.get_header("accept")
        general = _GENERAL.get(status)
        if general is None:
            # What is wrong with the request is for its client to know.
            reply, body = error_reply(status, reason, accept)
        else:
            self.note_refusal(status, reason, upstream, server)
            if not _is_local(request):
                reply, body = error_reply(status, general, accept)
            elif server:
                reply, body = error_reply(
                    status, reason, accept, None, upstream=upstream, server=server
                )
            elif upstream:
                reply, body = error_reply(status, reason, accept, None, upstream=upstream)
            else:
                reply, body = error_reply(status, reason, accept)
        if hooked is not None:
            instead = hooked.own_reply(reply, reason)
            if record is not None:
                record.hook = hooked.hook
            if instead is not None:
                return instead
        return reply, body

    def note_refusal(self, status: int, reason: str, upstream: str, server: str) -> None:
        """A request got 502, 503 or 504, which is to be logged."""

    def _selection_of(self, choice: Choice) -> SelectionBase | None:
        name = choice.upstream
        return None if name is None else self.selections.get(name) or self.first_use(name)

    def choose(self, request: Request) -> Choice:
        """The upstream of a request that its Host alone does not tell, and what leads to
        it."""
        raise NotImplementedError

    def missing(self, request: Request, choice: Choice) -> str:
        """Why no upstream can serve a request, for a person."""
        return f"no upstream for host {request.host!r}"

    def first_use(self, name: str) -> SelectionBase | None:
        """The selection of an upstream that was not asked for before."""
        raise NotImplementedError

    def hold(
        self,
        selection: SelectionBase,
        downstream: Downstream,
        request: Request,
        channel: ChannelBase | None,
        hooked: HookedRequest | None,
    ) -> bool:
        """Let a request wait while the servers of its upstream are looked up; False if
        they are not, or if it cannot wait (it has no channel)."""
        raise NotImplementedError


def _refuse(downstream: Downstream, message: str, hooked: HookedRequest | None) -> None:
    """There is no such upstream: hooks that want to see replies see that one."""
    if hooked is not None and hooked.sees_reply:
        downstream.refuse(502, message, hooked)
    else:
        downstream.refuse(502, message)


def _is_local(request: Request) -> bool:
    """Whether it comes from this machine, and not through another proxy on it: who sees
    the reply may know the names of servers."""
    address = request.address
    if not address.startswith((b"127.", b"unix:", b"::ffff:127.")) and address != b"::1":
        return False
    return request.told is None or not request.told.by_client


#: What others are told, and where a request has failed, not its client.
_GENERAL: Final = {
    502: "the request could not be passed on",
    503: "the service is not available at the moment",
    504: "the service did not answer in time",
}


class _Hooks(Step):
    """Hooks see a request, and then it begins."""

    __slots__ = ("_body", "_channel", "_downstream", "_hooked", "_plane", "_request")

    def __init__(
        self,
        plane: Router,
        downstream: Downstream,
        request: Request,
        channel: ChannelBase,
        body: SeenBody | None = None,
    ) -> None:
        self._channel = channel
        self._plane = plane
        self._downstream = downstream
        self._request = request
        self._body = body
        self._hooked: HookedRequest | None = None

    def look(self) -> None:
        hooks = self._plane.hooks
        if hooks is None:
            return
        if self._body is None:
            self._hooked = hooks.request(self._request)
        elif self._downstream.waits_for(self._request):
            # Else it was given up, and its body with it.
            self._hooked = hooks.request_with(self._request, self._body, None)

    def go_on(self) -> None:
        downstream, request = self._downstream, self._request
        if downstream.waits_for(request):
            exchange = self._plane._begin_hooked(
                self._hooked, None, downstream, request, self._channel
            )
            if exchange is not None:
                downstream.begun(exchange)
