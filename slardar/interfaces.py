"""The extension points: what a part must offer to take a place in slardar.

They are zope interfaces, so that ``twisted.plugin`` can find implementations
and ``verifyObject`` can check them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from slardar.model.change import Revision, StoredState

__all__ = [
    "IBalancer",
    "IBalancerFactory",
    "IForgetfulStore",
    "IPlane",
    "IRequest",
    "IStore",
    "IWatchedStore",
]

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

    def commit(expected: Revision, changes: Sequence[Any], version: int) -> Deferred[Revision]:
        """Make a list of ``Change``, one at least, durable as one: all of them or none.

        ``expected`` is the revision that the caller saw last: that of the state which
        ``open`` gave, or the answer to the commit before.  ``version`` is the caller's own
        counter, greater than any before; the store keeps it for the next ``open`` and reads
        nothing from it.  Of two changes of the same thing the later one counts.

        Fires with the new revision, which no state before has had.

        :raise slardar.errors.ConflictError: if the store is not at ``expected``; nothing is
            written then.
        :raise slardar.errors.StoreError: if it could not be written.
        """

    def close() -> Deferred[None]:
        """Finish what is under way and let go of the store."""


class IForgetfulStore(IStore):
    """A store whose content ends with the process: an upgrade has to carry it over."""

    state = Attribute("StoredState: what it holds now")

    def take_over(state: Any):
        """Hold this from the beginning; called before ``open``."""


class IWatchedStore(IStore):
    """A store in which others may write as well: it tells of what they have written."""

    def watch(changed: Callable[[StoredState], None]) -> None:
        """Call ``changed`` with the whole new state whenever the store holds another one.

        Called once after each ``open``, and good until ``close`` is called.  What has changed
        since that ``open`` is told at once, or soon.

        - *Threads*: ``changed`` is called in the reactor's thread only.  It returns at once,
          never raises, and may be called from within ``watch`` and ``commit``.
        - *Order*: states come in the order in which the store was in them, and so do they
          and the answers to ``commit``: what is told before an answer is no newer than the
          state that the answer names, and what is told after it is no older.  A store that
          hears of both from different places waits for the answer first.
        - *Leaving out*: only the newest state counts, so a store need not tell of those
          between.  Several that come while one is taken over become one change.
        - *Echoes*: a store may tell of the caller's own commits, too.  A state whose revision
          is that of the commit's answer changes nothing.
        - *The version* in a state is the one that the last slardar to commit gave.  Where
          others write without one it stays behind, and the next commit is ahead of it again.
        """


class IPlane(Interface):
    """A data plane, or several behind one face: what serves the requests."""

    def apply(snapshot: Any, changed: Collection[str]) -> Deferred[None]:
        """Serve ``snapshot`` from now on.

        ``changed`` names the upstreams that differ from the snapshot before
        (also those that are gone); the cost is in proportion to them.  Fires
        when every live worker serves the snapshot.
        """

    def take_settings(settings: Any) -> Deferred[None]:
        """Use ``timeouts`` and ``limits`` of these settings from now on.

        They hold for what begins after it has fired.  What else the settings say is
        taken at the start only.
        """

    def check_hook(
        language: str, name: str, code: str, modules: Mapping[str, str] | None
    ) -> Deferred[tuple[str, ...]]:
        """Whether ``code`` is fit to be the hook ``name``; the modules that it names, best
        as a :class:`slardar.hooks.notices.Checked`, which has the warnings about it.

        With ``modules``, the code of those in service by name, it is also loaded, and
        so its body is run; without, it is only read.  A process that serves nobody does
        so, within limits of time and memory, wherever one can be started.

        :raise slardar.hooks.engine.ScriptError: if it is not; one line says where.
        """

    def check_stored(hooks: Mapping[Any, Any]) -> Deferred[None]:
        """Look at hooks that nobody has checked, before :meth:`apply` is given them.

        Those whose code breaks a limit when it is only read are not loaded then: they
        are ``failed``, and say why.  Never fails.
        """

    def hook_tally():
        """A :class:`slardar.hooks.report.HookTally` with the counters of all hooks."""

    def peers(upstream: str):
        """``{"host:port": ServerLive}`` of one upstream, for status."""

    def statistics():
        """A mapping of counters (connections, requests, ...), for status."""
