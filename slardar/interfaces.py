"""The extension points: the interfaces of balancers, probes, stores and the data plane.

They are zope interfaces, so that ``twisted.plugin`` can find implementations
and ``verifyObject`` can check them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from socket import socket

    from twisted.internet.defer import Deferred

    from slardar.config import Settings
    from slardar.dataplane.explanation import DecisionTold, Explanation
    from slardar.dataplane.sockets import Opened
    from slardar.hooks.report import HookTally
    from slardar.model.change import Recorded, Revision, StoredState
    from slardar.model.hook import Hook, HookKey
    from slardar.model.listener import ListenerSpec
    from slardar.model.live import ServerLive
    from slardar.model.server import ProbeOptions
    from slardar.model.snapshot import Snapshot
    from slardar.model.tls import Keyring, TicketKeys
    from slardar.observers.counted import Counted
    from slardar.observers.exposition import Facts

__all__ = [
    "IBalancer",
    "IBalancerFactory",
    "IForgetfulStore",
    "IKeptStore",
    "IPlane",
    "IProbeFactory",
    "IRequest",
    "IStore",
    "IWatchedStore",
]

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
        until it has to change.  When the ``weight`` of a server changes, another
        sequence object is passed.
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


class IProbeFactory(Interface):
    """A third party's probe of heartbeats, found through ``twisted.plugin``."""

    name = Attribute("str: its name as the ``typ`` of an upstream")

    def __call__(options: ProbeOptions):
        """A new :class:`slardar.health.probes.base.Probe` for one upstream.

        :raise slardar.errors.ConfigError: if the upstream's keys are wrong for it.
        """


class IStore(Interface):
    """Keeps the changes that operators make at run time.

    Every method returns a Deferred; none blocks the reactor.
    """

    def open() -> Deferred[Any]:
        """Open or create the store; fires with the ``StoredState`` found there.

        :raise slardar.errors.StoreError: if it cannot be opened or understood.
        """

    def commit(expected: Revision, changes: Sequence[Any], version: int) -> Deferred[Revision]:
        """Make a list of at least one ``Change`` durable: all of them or none.

        ``expected`` is the revision that the caller saw last: of the state from ``open``, or
        the result of the commit before.  ``version`` is the caller's own counter, greater
        than any before; the store keeps it for the next ``open`` and does not interpret it.
        If two changes set the same thing, the later one counts.

        A change of kind ``acme`` (what the client of a CA keeps) is no part of the history, and a
        commit of nothing else may have the version of the commit before.  Of a certificate the
        history has only what :func:`slardar.model.certificate.kept_of` returns, so that no key
        stays in it.

        Fires with the new revision, which no earlier state has had.

        :raise slardar.errors.ConflictError: if the store is not at ``expected``; nothing is
            written then.
        :raise slardar.errors.StoreError: if it could not be written.
        """

    def keep_history(versions: int) -> None:
        """Keep what the newest ``versions`` commits (at least 1) have changed; more may be kept.

        Called before ``open``, and again when the settings say another number.  What is older is
        forgotten by the commits to come, each of which takes a bounded time for it.  The state does
        not change by that.
        """

    def history(before: int | None, limit: int) -> Deferred[list[Recorded]]:
        """The changes of the versions below ``before`` (``None``: of all), newest version first.

        The changes of one version come together, in the order in which they were committed.  There
        are about ``limit`` (1 to 1,000) of them, or a version more; fewer if they are large.  Of a
        version with very many changes the last one says in ``more`` how many are left out.  Empty
        if there are no older ones.  A change to the oldest state that is known is not among them.

        :raise slardar.errors.StoreError: if it cannot be read.
        """

    def state_at(version: int) -> Deferred[StoredState]:
        """The whole state as ``version`` had it: as the last commit left it whose version is not
        greater.  (A version between may have changed nothing that a store keeps.)  0 is the empty
        state before the first commit.  The revision of the result has no meaning, and it has no
        certificates, nor what the client of a CA keeps: of those only the present ones are known.

        :raise slardar.errors.NotFoundError: if the history does not have this version; the
            message says which it has.
        :raise slardar.errors.StoreError: if it cannot be read.
        """

    def close() -> Deferred[None]:
        """Finish the calls under way and release the store."""


class IForgetfulStore(IStore):
    """A store whose content ends with the process: an upgrade must carry it over."""

    state = Attribute("StoredState: its present content")

    def take_over(state: Any):
        """Begin with ``state`` as the content; called before ``open``.  The history begins with
        it, too."""


class IWatchedStore(IStore):
    """A store in which others may write as well: it tells of what they have written.

    slardar takes it that the store lives elsewhere and may be away.  It remembers what was served,
    tries ``open`` again until the store is there, and asks nothing of a store that is away
    (:class:`slardar.stores.kept.KeptStore`).  ``open`` may be cancelled, and ``close`` may be
    called after an ``open`` that has failed.
    """

    def watch(changed: Callable[[StoredState], None], failed: Callable[[str], None]) -> None:
        """Call ``changed`` with the whole new state whenever the store holds another one.

        ``failed`` is called with the reason, in one line, when the store cannot be reached, once
        or again and again.  The store tries again by itself, and calls ``changed`` as soon as it
        can be reached, even if its state is the one that was told last.

        Called once after each ``open``, and good until ``close`` is called.  What has changed
        since that ``open`` is told at once, or soon.

        - *Threads*: both are called in the reactor's thread only.  They return at once,
          never raise, and may be called from within ``watch`` and ``commit``.
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


class IKeptStore(IWatchedStore):
    """A watched store of which this machine remembers what was served.

    ``watch`` calls ``failed`` also for a state that is held back, because it has lost what is
    served.
    """

    url = Attribute("str: the store's URL as it may be shown")
    kept = Attribute("StoredState | None: what was served last; None if nothing is known")
    known_until = Attribute(
        "float | None: when the store was last known to hold it, in epoch seconds; None: now"
    )
    trouble = Attribute(
        "slardar.stores.kept.Trouble | None: why what is served may not be what the store holds"
    )
    waiting = Attribute(
        "StoredState | None: the state that is held back.  A commit to its revision takes it."
    )
    copy = Attribute("slardar.stores.copy.StateCopy: the copy on this machine")

    def keep(state: StoredState) -> None:
        """Remember ``state`` as what is served, and have it written to the copy."""

    def take_over(state: StoredState, known_until: float | None) -> None:
        """Begin with what another process has served, which it calls ``kept`` and ``known_until``.
        To be called before ``open``."""


class IPlane(Interface):
    """Serves requests: the data plane of this process, or workers with one each.

    The order of its life: :meth:`listen` for each endpoint, :meth:`apply`, perhaps
    :meth:`set_health`, :meth:`start`; changes while it serves; :meth:`stop`.  Every
    method is called in the reactor's thread, and only ``listen`` may block.
    """

    opened: Sequence[Opened] = Attribute(
        "The sockets that listen, one element an endpoint, in the order of the calls of"
        " listen.  A successor is handed them; they are closed once the plane is stopping."
    )

    # Life.

    def listen(listener: ListenerSpec, sockets: Sequence[socket] = ()) -> Deferred[str]:
        """Listen as ``listener`` says; no client is accepted before ``start``.

        ``sockets`` are the sockets that another process has handed over for the listener,
        if any.  It may block for up to a second while a port is taken.  Fires with the
        address for people: ``127.0.0.1:8080``.

        :raise slardar.errors.ConfigError: if the endpoint cannot be used, or the plane does
            not serve the listener's protocol.
        :raise twisted.internet.error.CannotListenError: if the address is taken.
        """

    def own() -> None:
        """Take the inherited sockets for this process alone.

        The process that handed them over uses them no more.

        :raise OSError: if one of them cannot listen; the others do.
        """

    def start() -> Deferred[None]:
        """Accept clients; fires when the plane serves.

        :raise slardar.errors.SlardarError: if a part of the plane cannot be started.
        """

    def stop(within: float | None = None, grace: float | None = None) -> Deferred[None]:
        """Accept no new clients, finish requests under way, and close the rest.

        Requests and tunnels have ``within`` seconds (``None``: ``timeouts.drain``).  Idle
        connections stay open for ``grace`` seconds (``None``: 0.25); a request in this time
        gets its reply, which closes the connection.  Fires when no connection is left.
        Never fails.
        """

    def hurry(within: float) -> None:
        """Shorten a stop: it may take ``within`` seconds from now."""

    # The configuration.

    def apply(snapshot: Snapshot, changed: Collection[str]) -> Deferred[dict[str, dict[str, int]]]:
        """Serve ``snapshot`` from now on.

        ``changed`` names the upstreams that differ from the snapshot before, removed ones
        included; the cost grows with their number.  Fires when every live worker serves the
        snapshot, with the version of each: ``{"workers": {"worker-0": version, ...}}``.

        :raise slardar.errors.SlardarError: if a worker, or a balancer, refuses the snapshot.
        """

    def take_settings(settings: Settings) -> Deferred[None]:
        """Use ``timeouts``, ``limits``, ``health``, ``access_log``, ``trusted``,
        ``forwarded``, ``tls.redirect`` and ``tls.hsts`` of these settings from now on.

        They hold for everything that begins after the Deferred has fired.  All other
        settings are taken at the start only.  Never fails.
        """

    def take_keyring(keyring: Keyring) -> Deferred[None]:
        """Use these certificates for every handshake that begins after the Deferred has fired.

        Connections stay as they are.  To be called before ``start``, too, if there are any
        certificates.  Never fails.
        """

    def take_tickets(keys: TicketKeys | None) -> Deferred[None]:
        """Share the sessions of TLS with other processes that have these keys, and send staples.

        ``None``: sessions stay in each process, and no staples are sent.  To be called before
        ``start``, too, and whenever there are other keys.  Never fails.
        """

    def reopen_logs() -> None:
        """Open the files of access logs anew, for they were moved away.

        Lines that were logged before may still go to the old files, and none is lost.
        """

    # Health.

    def set_health(verdicts: Iterable[Any]) -> None:
        """Take over from another process which servers requests have put out of service.

        ``verdicts`` are :class:`slardar.health.verdicts.Verdict`.  Unknown servers are
        ignored.  Call this after :meth:`apply`, and before :meth:`start` if workers serve,
        which begin with it.
        """

    def known_health() -> Iterator[Any]:
        """The servers that requests have put out of service, those on probation included, for
        :meth:`set_health` of another process."""

    def set_checked(verdicts: Iterable[Any]) -> None:
        """Take what heartbeats say of servers.

        ``verdicts`` are :class:`slardar.health.verdicts.Heartbeat`.  Each holds until the
        next one of its server.  Unknown servers are ignored.  Call this after
        :meth:`apply`, at any time.  A plane that sends heartbeats itself goes on with what
        it was given before :meth:`start`.
        """

    def known_checked() -> Iterator[Any]:
        """What heartbeats have said of servers, for :meth:`set_checked` of another
        process."""

    def set_extras(extras: Iterable[Any]) -> None:
        """Take what keeps servers from requests beside their health, such as ejections, or
        changes their weights; and the penalties of flap damping.

        ``extras`` are :data:`slardar.health.verdicts.Extra`.  Unknown servers are ignored.
        Call this when :meth:`set_health` is called, after it.
        """

    def hint(upstream: str, host: str, port: int, value: str) -> None:
        """A heartbeat of this server brought this value of ``X-Slardar-Hint``.

        Without effect if the upstream does not believe hints, or does not have the server.
        """

    def known_extras() -> Iterator[Any]:
        """What keeps servers from requests beside their health, or will when they fail again,
        for :meth:`set_extras` of another process."""

    # Hooks.

    def check_hook(
        language: str,
        name: str,
        code: str,
        modules: Mapping[str, str] | None,
        settings: Mapping[str, str] | None = None,
    ) -> Deferred[tuple[str, ...]]:
        """Check that ``code`` is fit to be the hook ``name``.

        Fires with the modules that the code names, best as a
        :class:`slardar.hooks.notices.Checked`, which also has the warnings about the
        code.  ``modules`` is the code of the modules in service, by name; if it is
        given, ``code`` is also loaded, which runs its body; ``settings`` are what it may read
        as settings then, as JSON texts by name.  If it is ``None``, ``code`` is only read.  If
        possible, a process that serves no requests does this, within
        limits of time and memory.

        :raise slardar.hooks.engine.ScriptError: if ``code`` is not fit; one line says
            where.
        :raise slardar.errors.NotReadyError: if ``code`` cannot be checked at the moment.
        """

    def check_stored(hooks: Mapping[HookKey, Hook]) -> Deferred[None]:
        """Read the code of hooks that nobody has checked, before :meth:`apply` gets them.

        A hook whose code breaks a limit when it is read is not loaded: its state is
        ``failed``, with the reason.  The Deferred never fails.
        """

    # Decisions.

    def explain(head: bytes, client: str) -> Deferred[Explanation]:
        """Tell where a request with this head, from this address, would go now, and why.

        Nothing that is counted, kept or configured changes by it: hooks see the request in
        copies of their own.  It takes time in proportion to the servers of the upstream, and
        some milliseconds where there are hooks for the host.

        :raise slardar.errors.ConfigError: if the head is not that of a request.
        :raise slardar.errors.NotReadyError: if no worker answers.
        """

    def decision(decision_id: str) -> Deferred[DecisionTold | None]:
        """Tell what was decided for the request that has this id in ``X-Decision-Id``, and what
        became of it; ``None`` if that is not known, or not any more.

        :raise slardar.errors.NotReadyError: if the worker that knows does not answer.
        """

    # Questions.

    def hook_tally() -> HookTally:
        """The counters of all hooks."""

    totals = Attribute(
        "slardar.observers.totals.Totals: what was counted since the first process began; up"
        " to date after collect."
    )

    def collect() -> Iterator[None]:
        """Bring ``totals`` up to date, a little with each step, so that others get their
        turn between two steps."""

    def take_counted(counted: Counted) -> None:
        """Add what another process has counted, after :meth:`apply`."""

    def facts() -> Facts:
        """What the metrics show of the present."""

    def time_servers(seconds: float) -> None:
        """Time the replies of each server for so many seconds from now on, for
        :attr:`slardar.observers.totals.ServerTotals.buckets`.

        It costs each request a little, so it is for those who look at servers, and ask again.
        """

    def peers(upstream: str) -> Mapping[str, ServerLive]:
        """``{"host:port": ServerLive}`` of one upstream, for the status; empty for an unknown
        upstream."""

    def counts(upstream: str) -> Mapping[str, int]:
        """The counters of one upstream that are not 0, for the status: ``retries`` that the
        retry budget counts; ``retry_budget_exhausted``, the retries that it did not
        allow; ``hedged`` requests; ``waiting``, the requests that wait in its queue now,
        ``queued``, those that have waited, and ``queue_refused``.  Empty for an unknown
        upstream."""

    def statistics() -> Mapping[str, Any]:
        """Counters, for the status.

        Since the start: ``accepted`` clients, ``requests``, ``refused`` requests, and lines
        of access logs that were dropped (``access_log_dropped``).  Where spans are
        exported: requests whose spans were (``spans_exported``) or were not
        (``spans_dropped``).  Now: ``connections``, ``active`` requests and ``tunnels``.  The
        ``version`` that is served, and ``balancer_errors`` by upstream.  The upstreams that
        ignore health, with the reason (``panic``).  Whether heartbeats are sent
        (``checkup_timer_alive``), and when the last one has ended (``last_check``, in epoch
        seconds, ``None`` if none has).  By a server's name: what lookups have found
        (``names``, of :class:`slardar.resolve.NameState`).  By the worker's name: its state
        (``config_timer``) and its own counters (``workers``).
        """
