"""The extension points: what a part must offer to take a place in slardar.

They are zope interfaces, so that ``twisted.plugin`` can find implementations
and ``verifyObject`` can check them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from socket import socket

    from twisted.internet.defer import Deferred

    from slardar.config import Settings
    from slardar.dataplane.sockets import Opened
    from slardar.hooks.report import HookTally
    from slardar.model.hook import Hook, HookKey
    from slardar.model.live import ServerLive
    from slardar.model.snapshot import Snapshot

__all__ = ["IBalancer", "IBalancerFactory", "IForgetfulStore", "IPlane", "IRequest", "IStore"]

# zope interfaces declare methods without ``self``.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"


class IRequest(Interface):
    """What a balancer may ask of the request it picks a server for."""

    method = Attribute("str: the method, as sent")
    host = Attribute("str: the host asked for, lower case, without port")
    path = Attribute("str: the path, without query")
    uri = Attribute("str: the path with its query, as sent")
    client = Attribute("str: the client's address, without port")
    hash_key = Attribute("str | None: the key a hook gave for the hash balancers")

    def get_header(name: str):
        """The first value of a header (any case), or None."""


class IBalancer(Interface):
    """Chooses a server; one instance serves one level of one upstream.

    Every method is called on the request path and must not block.
    """

    def pick(servers: Sequence[Any], request: Any):
        """One of ``servers`` for ``request``.

        ``servers`` are :class:`slardar.model.live.Peer`, never empty, in the
        configured order: those that are in service and that this request has
        not tried yet.  The same sequence object is passed as long as nothing
        about it has changed, and it is never mutated.
        """

    def started(server: Any):
        """A request was sent on its way to ``server``."""

    def finished(server: Any, outcome: Any):
        """The request ended; ``outcome`` is a ``slardar.balancers.base.Outcome``."""

    def failed(server: Any):
        """An attempt on ``server`` failed (called before ``finished``)."""


class IBalancerFactory(Interface):
    """A third party's balancer, found through ``twisted.plugin``."""

    name = Attribute("str: what ``mode`` calls it")

    def __call__(servers: Sequence[Any], options: Mapping[str, Any]):
        """A new IBalancer for one level; ``servers`` are all its peers.

        :raise slardar.errors.ConfigError: if ``options`` (``mode_opts``) is wrong.
        """


class IStore(Interface):
    """Keeps what operators changed at run time.

    Every method returns a Deferred; none blocks the reactor.
    """

    def open() -> Deferred[Any]:
        """Open or create the store; fires with the ``StoredState`` found there.

        :raise slardar.errors.StoreError: if it cannot be opened or understood.
        """

    def commit(expected_version: int, change: Any, *more: Any) -> Deferred[int]:
        """Make one ``Change`` durable, or several as one: all of them or none.

        Fires with the new version, of which there is one however many they are.

        :raise slardar.errors.ConflictError: if the store's version is not
            ``expected_version``; nothing is written then.
        :raise slardar.errors.StoreError: if it could not be written.
        """

    def close() -> Deferred[None]:
        """Finish what is under way and let go of the store."""


class IForgetfulStore(IStore):
    """A store whose content ends with the process: an upgrade has to carry it over."""

    state = Attribute("StoredState: what it holds now")

    def take_over(state: Any):
        """Hold this from the beginning; called before ``open``."""


class IPlane(Interface):
    """A data plane, or several behind one face: what serves the requests.

    The order of its life: :meth:`listen` for each endpoint, :meth:`apply`, perhaps
    :meth:`set_health`, :meth:`start`; changes while it serves; :meth:`stop`.  Every
    method is called in the reactor's thread, and none but ``listen`` may block.
    """

    opened: Sequence[Opened] = Attribute(
        "The sockets that listen, one element an endpoint, in the order of the calls of"
        " listen.  A successor is handed them; they are closed once the plane is stopping."
    )

    # Life.

    def listen(endpoint: str, sockets: Sequence[socket] = ()) -> Deferred[str]:
        """Listen on a Twisted server endpoint string; nobody is accepted before ``start``.

        ``sockets`` are those that another process has handed over for the endpoint, if
        any.  May block for up to a second while a port is taken.  Fires with the place,
        for a person: ``127.0.0.1:8080``.

        :raise slardar.errors.ConfigError: if ``endpoint`` is none that can be used.
        :raise twisted.internet.error.CannotListenError: if it is taken.
        """

    def own() -> None:
        """The process that handed sockets over uses them no more: they are ours alone.

        :raise OSError: if one of them cannot listen; the others do.
        """

    def start() -> Deferred[None]:
        """Accept clients; fires when the plane serves.

        :raise slardar.errors.SlardarError: if a part of it cannot be started.
        """

    def stop(within: float | None = None, grace: float | None = None) -> Deferred[None]:
        """Take no new clients, finish what is under way, close the rest.

        Requests and tunnels have ``within`` seconds (``None``: ``timeouts.drain``).
        Clients without a request stay for ``grace`` seconds (``None``: 0.25): a request
        that they send until then gets its reply, with which they are sent away.  Fires
        when nothing is left.  Never fails.
        """

    def hurry(within: float) -> None:
        """While the plane is stopping: take no more than ``within`` seconds from now."""

    # The configuration.

    def apply(snapshot: Snapshot, changed: Collection[str]) -> Deferred[dict[str, dict[str, int]]]:
        """Serve ``snapshot`` from now on.

        ``changed`` names the upstreams that differ from the snapshot before (also those
        that are gone); the cost is in proportion to them.  Fires when every live worker
        serves the snapshot, with ``{"workers": {"worker-0": version, ...}}``, the version
        that each of them serves.

        :raise slardar.errors.SlardarError: if a worker, or a balancer, cannot take it.
        """

    def take_settings(settings: Settings) -> Deferred[None]:
        """Use ``timeouts`` and ``limits`` of these settings from now on.

        They hold for what begins after it has fired.  What else the settings say is
        taken at the start only.  Never fails.
        """

    # Health.

    def set_health(upstream: str, host: str, port: int, down_for: float, message: str) -> None:
        """Take what another process has learnt of a server from its requests.

        The server is out of service for ``down_for`` more seconds, ``message`` says why;
        or it is back in service (0).  Without effect for a server that is not known.  To
        be called after :meth:`apply` and, where workers serve, before :meth:`start`: they
        begin with it.
        """

    def known_health() -> Iterator[tuple[str, str, int, float, str]]:
        """The servers that requests have put out of service, for :meth:`set_health` of
        another process: the upstream's name, host, port, for how many more seconds, why.
        """

    # Hooks.

    def check_hook(
        language: str, name: str, code: str, modules: Mapping[str, str] | None
    ) -> Deferred[tuple[str, ...]]:
        """Whether ``code`` is fit to be the hook ``name``; the modules that it names, best
        as a :class:`slardar.hooks.notices.Checked`, which has the warnings about it.

        With ``modules``, the code of those in service by name, it is also loaded, and
        so its body is run; without, it is only read.  A process that serves nobody does
        so, within limits of time and memory, wherever one can be started.

        :raise slardar.hooks.engine.ScriptError: if it is not; one line says where.
        :raise slardar.errors.NotReadyError: if it cannot be looked at now.
        """

    def check_stored(hooks: Mapping[HookKey, Hook]) -> Deferred[None]:
        """Look at hooks that nobody has checked, before :meth:`apply` is given them.

        Those whose code breaks a limit when it is only read are not loaded then: they
        are ``failed``, and say why.  Never fails.
        """

    # Questions.

    def hook_tally() -> HookTally:
        """The counters of all hooks."""

    def peers(upstream: str) -> Mapping[str, ServerLive]:
        """``{"host:port": ServerLive}`` of one upstream, for status; empty if there is no
        such upstream."""

    def statistics() -> Mapping[str, Any]:
        """Counters, for status: ``accepted`` clients and ``requests`` so far, those of
        them ``refused``; ``connections``, ``active`` requests and ``tunnels`` of now; the
        ``version`` that is served; ``balancer_errors`` by upstream; and of each worker by
        its name its state (``config_timer``) and its own counters (``workers``)."""
