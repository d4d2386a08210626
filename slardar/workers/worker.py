"""A worker: the process that serves requests, told by the director what to serve.

:mod:`slardar.workers.process` starts it as ``python -m slardar.workers.worker``, with
these descriptors: 1 and 2 lead to the director's log, 3 is the link to the director, 4 the
memory of :mod:`slardar.workers.marks`, 5 the director's standard output, 6 and the following
ones are listening sockets.

When the link ends, the worker takes no new connections, and ends within :data:`LAST`
seconds, whatever it is doing.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # Before the imports, which take time.  A signal to the whole group (Ctrl-C, a terminal
    # that closes, a service manager's TERM) is for the director, which tells its workers.
    for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(_number, signal.SIG_IGN)

import faulthandler
import gc
import os
import select
import socket
import sys
import threading
from typing import Any

from twisted.internet import defer, error
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogBeginner
from zope.interface import implementer

from slardar.config import Hooks
from slardar.dataplane.descriptors import raise_descriptor_limit
from slardar.dataplane.plane_hooks import HookMemory
from slardar.dataplane.proxy import DataPlane
from slardar.errors import ConfigError, SlardarError
from slardar.garbage import begin_serving
from slardar.hooks.call_note import CallNote
from slardar.hooks.memory import limits_of
from slardar.hooks.runner import Runner
from slardar.model.hook import Hook, HookKey
from slardar.model.live import Live
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot
from slardar.model.tls import Keyring
from slardar.observers.span_batches import SpanBatches
from slardar.observers.spans import Spans
from slardar.plugins import balancer_factory, load_again
from slardar.resolve import ToldNames
from slardar.workers import messages
from slardar.workers.commands import FIRST_SOCKET, LINK, MARK, OUTPUT, Link, OneLink
from slardar.workers.log_lines import LineLog
from slardar.workers.marks import BEATS, LARGEST, open_mark
from slardar.workers.messages import Done, FromWorker, WorkerSocket
from slardar.workers.reporting import Reporter

__all__ = ["Worker", "end_without_memory", "main"]

#: Seconds that a worker outlives its director, at most.
LAST = 2.0
#: Seconds of these that requests under way get.
_LAST_REQUESTS = 1.5
#: Seconds between two signs that the reactor makes turns: several of them come between two
#: looks of the director.
_BEAT = 0.1

_log = Logger("slardar.worker")


class Worker:
    """Does what the director's messages say.

    ``ended()`` is called when there is nothing left to do.  ``first_socket`` is the
    descriptor of the first listening socket; ``mark`` the memory of
    :func:`slardar.workers.marks.open_mark`.  ``is_alone``: nothing else runs in this
    process, so the worker may limit the process' memory.
    """

    def __init__(
        self,
        reactor: Any,
        ended: Any,
        first_socket: int = FIRST_SOCKET,
        mark: Any = None,
        is_alone: bool = False,
    ) -> None:
        self._reactor = reactor
        self._ended = ended
        self._first_socket = first_socket
        self.link = Link(self._received, self._lost)
        self._live = Live()
        self._plane: DataPlane | None = None
        self._snapshot = Snapshot.build(0, {}, (), None)
        self._keyring = Keyring()
        self._stopping = self._finished = False
        #: Sockets that do not listen yet, and what the director has said of them.
        self._silent: list[tuple[socket.socket, WorkerSocket]] = []
        #: Where the director sees which hook is running, and that the reactor makes turns.
        self._mark = mark
        self._beats = LoopingCall(self._beat)
        self._beats.clock = reactor
        self._is_alone = is_alone
        self._names = ToldNames(reactor)
        self._reporter = Reporter(reactor, self._live, self._send)

    # What the director says.

    def _received(self, data: bytes) -> defer.Deferred[bytes]:
        message = messages.decode_to_worker(data)
        done = defer.maybeDeferred(self._do, message)
        done.addErrback(self._failed)
        return done.addCallback(messages.encode)

    def _do(self, message: messages.ToWorker) -> Any:
        if isinstance(message, messages.Ping):
            return self._done()
        if isinstance(message, messages.Begin):
            return defer.ensureDeferred(self._begin(message))
        if self._plane is None:
            return Done(0, "expected begin first")
        if isinstance(message, messages.Delta):
            if message.base != self._snapshot.version:
                return Done(self._snapshot.version, stale=True)
            changed = [*(upstream.name for upstream in message.upstreams), *message.gone]
            return self._apply(self._changed_snapshot(message), changed)
        if isinstance(message, messages.Whole):
            snapshot = _snapshot(message)
            return self._apply(snapshot, _differences(self._snapshot, snapshot))
        if isinstance(message, messages.TakeSettings):
            taken = self._plane.take_settings(message.settings)
            return taken.addCallback(lambda _: self._done())
        if isinstance(message, messages.TakeKeyring):
            self._keyring = messages.changed_keyring(self._keyring, message)
            return self._plane.take_keyring(self._keyring).addCallback(lambda _: self._done())
        if isinstance(message, messages.TakeTickets):
            return self._plane.take_tickets(message.tickets).addCallback(lambda _: self._done())
        if isinstance(message, messages.Reopen):
            self._plane.reopen_logs()
            return self._done()
        if isinstance(message, messages.TimeServers):
            self._plane.time_servers(message.seconds)
            return self._done()
        if isinstance(message, messages.Explain):
            explained = self._plane.explain(message.head, message.client)
            return explained.addCallback(
                lambda found: self._tell(messages.Told(message.number, explanation=found))
            )
        if isinstance(message, messages.FindDecision):
            told = self._plane.decision(message.id)
            return told.addCallback(
                lambda found: self._tell(messages.Told(message.number, decision=found))
            )
        if isinstance(message, messages.SuspendHook):
            self._plane.suspend_hook(message.mark, message.reason)
            return self._done()
        if isinstance(message, messages.Verdicts):
            self._take_health(message)
            return self._done()
        if isinstance(message, messages.Addresses):
            self._names.learn(message.found, message.again)
            return self._done()
        if isinstance(message, messages.Listening):
            self._serve_silent()
            return self._done()
        if self._stopping:
            self._plane.hurry(message.seconds)
            return self._done()
        return self._stop(message.seconds, message.grace).addCallback(lambda _: self._done())

    def _tell(self, told: messages.Told) -> Done:
        self._send(told)
        return self._done()

    def _take_health(self, verdicts: messages.Verdicts) -> None:
        assert self._plane is not None
        self._plane.set_health(verdicts.requests)
        self._plane.set_checked(verdicts.heartbeats)
        self._plane.set_extras(verdicts.extras)

    def _done(self) -> Done:
        return Done(self._snapshot.version)

    def _failed(self, failure: Any) -> Done:
        """The answer to a message that could not be followed: one line.  The log has more of
        what is a bug."""
        if failure.check(ConfigError):
            # The message of a ConfigError names the place.
            return Done(self._snapshot.version, " ".join(str(failure.value).split())[:1000])
        if not failure.check(SlardarError):
            _log.failure("a message of the director could not be followed", failure=failure)
        text = " ".join(f"{failure.type.__name__}: {failure.value}".split())
        return Done(self._snapshot.version, text[:1000])

    async def _begin(self, message: messages.Begin) -> Done:
        # What is loaded now stays.  A look of the garbage collector through many upstreams
        # takes a tenth of a second, and would find nothing.
        gc.disable()
        self._live.processes = message.count
        plane = self._plane = DataPlane(
            self._reactor,
            message.settings,
            self._live,
            balancer_factory,
            self._names,
            on_health=self._reporter.news.health_changed,
            on_extra=self._reporter.news.extra_changed,
            make_runner=self._make_runner,
            hook_memory=HookMemory(
                limits_of(message.count),
                self._reporter.hook_heavy,
                self._reporter.grown,
                self._is_alone,
            ),
            worker=f"worker-{message.number}",
            stdout=OUTPUT if self._is_alone else 1,
            spans=SpanBatches(self._reactor, self._send_spans),
        )
        snapshot = _snapshot(messages.decode_whole(message.snapshot))
        for mode in {"wrr", *(upstream.mode for upstream in snapshot.upstreams.values())}:
            # Imported now, so that no request waits for the import.
            try:
                balancer_factory(mode)
            except ConfigError as problem:
                _log.error("balancer {mode}: {problem}", mode=mode, problem=problem)
        for mark in message.suspended:
            # Before the hooks are loaded.
            plane.suspend_hook(mark, message.reasons.get(mark, ""))
        if message.refused:
            plane.refuse_hooks(message.refused)
        self._keyring = messages.decode_keyring(message.keyring)
        plane.take_keyring(self._keyring)
        plane.take_tickets(message.tickets)
        self._names.learn(message.addresses, ())
        await self._apply(snapshot, list(snapshot.upstreams), begins=True)
        self._take_health(message.health)
        begin_serving()
        gc.enable()
        if not self._stopping:
            unused = set(range(message.inherited))
            for about in message.sockets:
                unused.discard(about.place)
                sock = socket.socket(fileno=self._first_socket + about.place)
                sock.set_inheritable(False)
                self._silent.append((sock, about))
            for place in unused:
                os.close(self._first_socket + place)
            self._serve_silent()
            plane.start()
            self._reporter.start(plane)
            if self._mark is not None:
                self._beats.start(_BEAT)
        return self._done()

    def _beat(self) -> None:
        self._mark[BEATS] = (self._mark[BEATS] + 1) & LARGEST

    def _make_runner(self, settings: Hooks) -> Runner:
        note = None if self._mark is None else CallNote(self._mark)
        return Runner(settings, self._reactor.seconds, self._reporter.hook_failed, note)

    def _serve_silent(self) -> None:
        """Accept clients on the sockets that have begun to listen."""
        assert self._plane is not None
        silent, self._silent = self._silent, []
        for sock, about in silent:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                self._plane.serve(sock, about.listener, about.shared)
            else:
                self._silent.append((sock, about))

    def _apply(
        self, snapshot: Snapshot, changed: list[str], begins: bool = False
    ) -> defer.Deferred[Done]:
        assert self._plane is not None
        for name in changed:
            upstream = snapshot.upstreams.get(name)
            if upstream is not None:
                try:
                    # Imported now, so that no request waits for the import.
                    balancer_factory(upstream.mode)
                    if upstream.loaded:
                        load_again(upstream.mode, upstream.loaded)
                except ConfigError as problem:
                    if not begins:
                        raise
                    # The file has changed since it was checked: a worker that begins
                    # serves the other upstreams.
                    _log.error("balancer {mode}: {problem}", mode=upstream.mode, problem=problem)
        before, self._snapshot = self._snapshot, snapshot
        version = snapshot.version

        def refused(failure: Any) -> Any:
            # The plane has taken nothing of the snapshot.
            if self._snapshot is snapshot:
                self._snapshot = before
            return failure

        for name in changed:
            for old in (before, snapshot):
                self._reporter.forget(old.upstreams.get(name))
        applied: defer.Deferred[Any] = self._plane.apply(snapshot, changed)
        return applied.addCallbacks(lambda _: Done(version), refused)

    def _changed_snapshot(self, message: messages.Delta) -> Snapshot:
        snapshot = self._snapshot
        for upstream in message.upstreams:
            snapshot = snapshot.with_upstream(upstream)
        for name in message.gone:
            if name in snapshot.upstreams:
                snapshot = snapshot.without_upstream(name)
        if message.routes is not None:
            snapshot = snapshot.with_routes(message.routes)
        if message.hooks or message.gone_hooks:
            changes: dict[HookKey, Hook | None] = dict.fromkeys(message.gone_hooks)
            changes.update((hook.key, hook) for hook in message.hooks)
            snapshot = snapshot.with_hooks(changes)
        if message.settings or message.gone_settings:
            settings = {**snapshot.settings, **message.settings}
            for name in message.gone_settings:
                settings.pop(name, None)
            snapshot = snapshot.with_settings(settings)
        if message.certificates or message.gone_certificates:
            certificates = {**snapshot.certificates, **message.certificates}
            for name in message.gone_certificates:
                certificates.pop(name, None)
            snapshot = snapshot.with_certificates(certificates)
        if message.challenges is not None:
            snapshot = snapshot.with_challenges(message.challenges)
        return snapshot.with_default(message.default_upstream).at_version(message.version)

    def _send(self, message: FromWorker) -> None:
        # If it cannot be sent, the link has ended, and this worker is about to end.
        self.link.send(messages.encode(message)).addErrback(lambda _failure: None)

    def _send_spans(self, message: Spans) -> defer.Deferred[bytes]:
        return self.link.send(messages.encode(message))

    # The end.

    def _stop(self, seconds: float, grace: float | None = None) -> defer.Deferred[None]:
        return defer.ensureDeferred(self._drain(seconds, grace))

    async def _drain(self, seconds: float, grace: float | None) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._plane is not None:
            await self._plane.stop(seconds, grace)
        self._reporter.stop()
        if self._beats.running:
            self._beats.stop()
        self._finished = True
        # The answer to the director goes first.
        self._reactor.callLater(0, self._let_go)

    def _let_go(self) -> None:
        if self.link.is_lost:
            self._ended()
        else:
            # Ends the link when everything is sent; then _lost is called.
            self.link.finish()

    def _lost(self) -> None:
        if self._finished:
            self._ended()
            return
        _log.warn("the director has gone: ending")
        self._reactor.callLater(_LAST_REQUESTS, self._ended)
        if self._stopping and self._plane is not None:
            self._plane.hurry(_LAST_REQUESTS)
        self._stop(_LAST_REQUESTS)


def _snapshot(message: messages.Whole) -> Snapshot:
    upstreams: dict[str, Upstream] = {upstream.name: upstream for upstream in message.upstreams}
    hooks = {hook.key: hook for hook in message.hooks}
    return Snapshot.build(
        message.version,
        upstreams,
        message.routes,
        message.default_upstream,
        hooks,
        settings=message.settings,
        certificates=message.certificates,
        challenges=message.challenges,
    )


def _differences(old: Snapshot, new: Snapshot) -> list[str]:
    """The names of the upstreams that differ, or are in one of them only."""
    before, after = old.upstreams, new.upstreams
    changed = [name for name, upstream in after.items() if before.get(name) != upstream]
    return changed + [name for name in before if name not in after]


def _end_with_the_director(fd: int) -> None:
    """End the process :data:`LAST` seconds after the link, also if the reactor hangs.

    Runs in a thread of its own, and sleeps until the other end of the link is closed.
    """
    poll = select.poll()
    poll.register(fd, 0)
    poll.poll()
    # This is not the reactor's thread, so it may wait.
    threading.Event().wait(LAST)
    os._exit(1)


@implementer(ILogObserver)
def end_without_memory(event: LogEvent) -> None:
    """End the process if memory ran out outside of connections and hooks.

    The reactor catches the error and logs it.  Nobody knows then what was left undone, so a
    replacement must begin anew.  An error that the data plane logs has cost one connection,
    and nothing else is left undone.
    """
    failure = event.get("log_failure")
    if failure is None or not isinstance(failure.value, MemoryError):
        return
    if event.get("log_namespace") != "slardar.dataplane":
        os._exit(1)


def main() -> None:
    """Serve until the director says otherwise."""
    from twisted.internet import reactor  # noqa: TID251

    # SIGUSR1 writes the stack to the log: it shows where a worker hangs.
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=False)
    observers = [LineLog(2), end_without_memory]
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False)
    raise_descriptor_limit()
    thread = threading.Thread(target=_end_with_the_director, args=(os.dup(LINK),), daemon=True)
    thread.start()
    the_reactor: Any = reactor

    def ended() -> None:
        try:
            the_reactor.stop()
        except error.ReactorNotRunning:
            pass

    worker = Worker(the_reactor, ended, mark=open_mark(MARK), is_alone=True)
    os.set_blocking(LINK, False)
    the_reactor.adoptStreamConnection(LINK, socket.AF_UNIX, OneLink(worker.link))
    os.close(LINK)
    # Its handlers would take the signals that were given up above.
    the_reactor.run(installSignalHandlers=False)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
