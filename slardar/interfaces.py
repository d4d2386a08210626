"""The extension points: the interfaces of balancers, stores and the data plane.

They are zope interfaces, so that ``twisted.plugin`` can find implementations
and ``verifyObject`` can check them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

__all__ = ["IBalancer", "IBalancerFactory", "IForgetfulStore", "IPlane", "IRequest", "IStore"]

# zope interfaces declare methods without ``self``.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"


class IRequest(Interface):
    """The part of a request that a balancer may read."""

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

        ``servers`` are the :class:`slardar.model.live.Peer` objects that are in
        service and that this request has not tried yet, in the configured order;
        at least one.  The sequence is never mutated, and the same object is passed
        until it has to change.
        """

    def started(server: Any):
        """An attempt on ``server`` begins."""

    def finished(server: Any, outcome: Any):
        """The attempt ended; ``outcome`` is a ``slardar.balancers.base.Outcome``."""

    def failed(server: Any):
        """An attempt on ``server`` failed (called before ``finished``)."""


class IBalancerFactory(Interface):
    """A third party's balancer, found through ``twisted.plugin``."""

    name = Attribute("str: its name as the ``mode`` of an upstream")

    def __call__(servers: Sequence[Any], options: Mapping[str, Any]):
        """A new IBalancer for one level; ``servers`` are all its peers.

        :raise slardar.errors.ConfigError: if ``options`` (``mode_opts``) is wrong.
        """


class IStore(Interface):
    """Keeps the changes that operators make at run time.

    Every method returns a Deferred; none blocks the reactor.
    """

    def open() -> Deferred[Any]:
        """Open or create the store; fires with the ``StoredState`` found there.

        :raise slardar.errors.StoreError: if it cannot be opened or understood.
        """

    def commit(expected_version: int, change: Any, *more: Any) -> Deferred[int]:
        """Make one ``Change`` durable, or several at once: all of them or none.

        Fires with the new version.  Several changes together make one version.

        :raise slardar.errors.ConflictError: if the store's version is not
            ``expected_version``; nothing is written then.
        :raise slardar.errors.StoreError: if it could not be written.
        """

    def close() -> Deferred[None]:
        """Finish the commits under way and release the store."""


class IForgetfulStore(IStore):
    """A store whose content ends with the process: an upgrade must carry it over."""

    state = Attribute("StoredState: its present content")

    def take_over(state: Any):
        """Begin with ``state`` as the content; called before ``open``."""


class IPlane(Interface):
    """Serves requests: the data plane of this process, or workers with one each."""

    def apply(snapshot: Any, changed: Collection[str]) -> Deferred[None]:
        """Serve ``snapshot`` from now on.

        ``changed`` names the upstreams that differ from the snapshot before,
        removed ones included; the cost grows with their number.  Fires when
        every live worker serves the snapshot.
        """

    def take_settings(settings: Any) -> Deferred[None]:
        """Use ``timeouts`` and ``limits`` of these settings from now on.

        They hold for everything that begins after the Deferred has fired.  All other
        settings are taken at the start only.
        """

    def check_hook(
        language: str, name: str, code: str, modules: Mapping[str, str] | None
    ) -> Deferred[tuple[str, ...]]:
        """Check that ``code`` is fit to be the hook ``name``.

        Fires with the modules that the code names, best as a
        :class:`slardar.hooks.notices.Checked`, which also has the warnings about the
        code.  ``modules`` is the code of the modules in service, by name; if it is
        given, ``code`` is also loaded, which runs its body.  If it is ``None``, ``code``
        is only read.  If possible, a process that serves no requests does this, within
        limits of time and memory.

        :raise slardar.hooks.engine.ScriptError: if ``code`` is not fit; one line says
            where.
        """

    def check_stored(hooks: Mapping[Any, Any]) -> Deferred[None]:
        """Read the code of hooks that nobody has checked, before :meth:`apply` gets them.

        A hook whose code breaks a limit when it is read is not loaded: its state is
        ``failed``, with the reason.  The Deferred never fails.
        """

    def hook_tally():
        """A :class:`slardar.hooks.report.HookTally` with the counters of all hooks."""

    def peers(upstream: str):
        """``{"host:port": ServerLive}`` of one upstream, for status."""

    def statistics():
        """A mapping of counters (connections, requests, ...), for status."""
