"""The orders for certificates: which names need one, and how one is got and kept.

An order of a name goes through these steps, each of which any node can see in the store::

    taken -> answered -> certificate            taken or answered -> failed, and tried again later

All state that counts is in the store (:mod:`slardar.model.acme`), so a restart begins nothing anew,
and nodes that share the store do not order the same.  What a CA does never blocks the reactor: it
is asked in threads, each question has a time, and so has the whole order.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from random import random
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from msgspec import Struct, structs, to_builtins
from twisted.internet import defer
from twisted.logger import Logger

from slardar.acme import rules
from slardar.acme.keys import (
    certificate_id,
    challenge_pair,
    made_key,
    request_for,
    validity,
)
from slardar.config import Settings, TlsAcme
from slardar.control.certificates import CertificateError, checked_pair
from slardar.control.changes import ApplyError, MovedError, Next, Prepare, Receipt
from slardar.daemon import call_in_daemon
from slardar.errors import ConflictError, SlardarError, StoreError, printable
from slardar.events import AcmeState, Publish
from slardar.model.acme import ACCOUNT, Account, Answer, HostState, Order, order_key, read_value
from slardar.model.change import StoredState, Value
from slardar.model.listener import ListenerSpec
from slardar.model.snapshot import Snapshot
from slardar.model.tls import Keyring

__all__ = ["AcmeConfiguration", "Orders"]

T = TypeVar("T")
#: Makes what is written to the store.
Make: TypeAlias = Callable[[], list[Value]]

#: Who the log and the history name for what is changed here.
_WHO: Final = "acme"
#: The origin of a certificate that was got here.
ORIGIN: Final = "acme"
#: Orders of different names at a time.
_AT_ONCE: Final = 4
#: Threads for questions to CAs, those that hang included.
_MAX_THREADS: Final = 8
#: Seconds for one question, and for a whole order: less than the time for which a node has it.
_QUESTION: Final = 60.0
_WHOLE: Final = rules.LEASE - 60.0
#: Seconds that other nodes get to serve an answer for the CA, if they share the store.
_OTHERS: Final = 2.0
#: The longest time between two looks at what is due, in seconds.
_LOOK: Final = 30.0
#: Seconds by which nodes that share a store are apart, drawn by lot: at a start, and where a
#: certificate is due.
_APART_AT_START: Final = 2.0
_APART: Final = 60.0
#: Seconds between two tries to write to the store, first and longest, and how many tries there are
#: unless a certificate would be lost.
_RETRY: Final = 0.5
_LONGEST_RETRY: Final = 30.0
_TRIES: Final = 6
#: Seconds until the next try, on average, where the store takes no order, and where an order broke.
_STORE_AWAY: Final = 60.0
_BROKEN: Final = 3600.0
#: Seconds until the CA is asked again when a certificate is to be renewed: if it names no time, at
#: least and at most.
_ASK: Final = 6 * 3600.0
_ASK_LEAST: Final = 600.0
_ASK_MOST: Final = 24 * 3600.0
#: Seconds for orders to be let go of when the process ends.
_LETTING_GO: Final = 3.0
#: Characters of an error, in the store and in the status.
_MAX_ERROR: Final = 500
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")

_log = Logger("slardar.acme")


class AcmeConfiguration(Protocol):
    """What orders ask of the configuration."""

    clock: Callable[[], float]

    @property
    def snapshot(self) -> Snapshot:
        """What is served."""

    @property
    def held(self) -> StoredState:
        """What the store holds, as far as it was taken."""

    def change(self, prepare: Prepare, who: str, wait: bool = True) -> Awaitable[Receipt]:
        """Make a change.  ``prepare`` is called with the lock of changes held."""

    def keep_values(
        self, prepare: Callable[[StoredState], Sequence[Value]], who: str
    ) -> Awaitable[None]:
        """Store values of which nothing is served."""

    def settled(self, *values: Value) -> Next:
        """The change to these values, with whatever is in use after it."""


class _Found(Struct):
    """What is known of a host's certificate."""

    pem: str
    begins: float
    ends: float
    #: When it was got; when it begins, if that is not known.
    got: float
    #: The directory of its CA.
    directory: str
    #: The window in which the CA suggests to renew it, the time drawn in it, and when the CA is
    #: asked again.
    window: tuple[float, float] | None = None
    suggested: float | None = None
    ask: float = 0.0


class _Stopped(Exception):
    """The process gives its orders up."""


class _Lost(Exception):
    """Another node has the order."""


class _Refused(Exception):
    """A challenge of this type has failed; one of another type may not."""

    def __init__(self, message: str, challenge: str = "") -> None:
        super().__init__(message)
        self.challenge = challenge


class Orders:
    """The orders of one process.

    ``keyring`` gives the certificates of files.  ``is_shared``: other nodes write to the store.
    ``make_ca`` makes what speaks to a CA (:class:`slardar.acme.ca.Ca`); ``call`` calls it in
    threads, ``draw()`` is a number from 0 to 1.
    """

    def __init__(
        self,
        reactor: Any,
        configuration: AcmeConfiguration,
        keyring: Callable[[], Keyring],
        publish: Publish,
        is_shared: bool,
        make_ca: Callable[..., Any] | None = None,
        call: Callable[..., defer.Deferred[Any]] = call_in_daemon,
        draw: Callable[[], float] = random,
    ) -> None:
        self.reactor = reactor
        self.configuration = configuration
        self.publish = publish
        self.is_shared = is_shared
        self.make_ca = make_ca or _make_ca
        self.draw = draw
        self.acme: TlsAcme | None = None
        self.listeners: Sequence[ListenerSpec] = ()
        #: Tells this process from every other one.
        self.node = f"{socket.gethostname()[:64]}:{os.getpid()}:{os.urandom(4).hex()}"
        #: One account is made at a time.
        self.account_lock = defer.DeferredLock()
        self._keyring = keyring
        self._call = call
        #: An object for each thread that asks a CA: threads may take their own away.
        self._threads: set[object] = set()
        self._runs: dict[str, _Run] = {}
        self._asking: set[str] = set()
        self._found: dict[str, _Found] = {}
        #: What the store could not be told, by host.
        self._untold: dict[str, Order] = {}
        #: Hosts whose certificates are of a CA of before.
        self._replaced: set[str] = set()
        self._apart = draw() * _APART if is_shared else 0.0
        #: When the first look may be, by the reactor's clock.
        self._begins = 0.0
        self._is_running = False
        self._timer: Any = None

    @property
    def now(self) -> float:
        """Epoch seconds."""
        return self.configuration.clock()

    # Life.

    def start(self, settings: Settings) -> None:
        """Begin, or begin again after :meth:`stop`, with these settings."""
        self._is_running = True
        if self.is_shared:
            self._begins = self.reactor.seconds() + self.draw() * _APART_AT_START
        self.take_settings(settings)

    def take_settings(self, settings: Settings) -> None:
        """Use other settings from now on.  An order under way goes on with those it began with."""
        acme = settings.tls.acme
        if acme is not None:
            acme = structs.replace(acme, hosts=tuple(name.lower() for name in acme.hosts))
        # Windows of renewal are those of a CA.
        self._found.clear()
        self.acme, self.listeners = acme, settings.listeners
        # Certificates of another CA are replaced once: else nodes whose settings differ would
        #: replace each other's without end.
        self._replaced = {
            host
            for host in (() if acme is None else acme.hosts)
            if acme is not None and self._is_of_other_ca(host, acme)
        }
        self.look_soon()

    async def stop(self) -> None:
        """Give up the orders under way, so that another process can take them."""
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ends = [run.stop() for run in list(self._runs.values())]
        over: defer.Deferred[None] = defer.Deferred()

        def end(_: Any = None) -> None:
            if not over.called:
                over.callback(None)

        late = self.reactor.callLater(_LETTING_GO, end)
        defer.DeferredList(ends).addCallback(end)
        await over
        if late.active():
            late.cancel()
        else:
            _log.warn("orders of certificates could not be let go of in time: they lapse")

    def _is_of_other_ca(self, host: str, acme: TlsAcme) -> bool:
        found = self.certificate(host)
        return found is not None and found.directory not in ("", acme.directory)

    def look_soon(self) -> None:
        """Look at what is due in the next turn of the reactor."""
        self._look_in(0.0)

    def _look_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_running and self.acme is not None:
            seconds = max(seconds, self._begins - self.reactor.seconds())
            self._timer = self.reactor.callLater(seconds, self._look)

    # What is due.

    def _look(self) -> None:
        self._timer = None
        acme = self.acme
        assert acme is not None
        now = self.now
        soonest = now + _LOOK
        others = self.others()
        for host in acme.hosts:
            if host in self._runs or _covers(others, host):
                continue
            due = self._due(host)
            if due > now:
                soonest = min(soonest, due)
                self._ask_when_due(host, now)
            elif len(self._runs) < _AT_ONCE:
                self._begin(host)
        if self._timer is None:
            # Else an order has ended at once.
            self._look_in(max(soonest - now, 0.1))

    def _due(self, host: str) -> float:
        """When the certificate of a host is to be ordered, if no other one is in use."""
        now = self.now
        due = max(
            rules.not_before(self.order(host), now),
            rules.not_before(self._untold.get(host), now),
        )
        found = self.certificate(host)
        if found is None or host in self._replaced:
            return due
        return max(due, self._renews(found))

    def _renews(self, found: _Found) -> float:
        apart = min(self._apart, max(0.0, found.ends - found.begins) / 100)
        return apart + rules.renewal_time(found.begins, found.ends, found.got, found.suggested)

    def others(self) -> set[str]:
        """The names that have a certificate in use that was not got by ACME, and is good."""
        now = self.now
        held = self.configuration.held.certificates
        pairs = [*self._keyring().pairs]
        pairs += (
            pair
            for name, pair in self.configuration.snapshot.certificates.items()
            if _pem_of_acme(held.get(name)) is None
        )
        return {name for pair in pairs if pair.expires > now for name in pair.names}

    def is_due(self, host: str) -> bool:
        """Whether the certificate of a host is to be ordered now."""
        return not _covers(self.others(), host) and self._due(host) <= self.now

    def order(self, host: str) -> Order | None:
        """What the store has of a host's order; ``None`` for nothing, and for nonsense."""
        value = self.configuration.held.acme.get(order_key(host))
        if value is None:
            return None
        try:
            return read_value(Order, value)
        except ValueError:
            return None

    def certificate(self, host: str) -> _Found | None:
        """The certificate of a host that was got by ACME."""
        value = self.configuration.held.certificates.get(host)
        pem = _pem_of_acme(value)
        found = self._found.get(host)
        if value is None or pem is None:
            self._found.pop(host, None)
            return None
        if found is None or found.pem != pem:
            try:
                begins, ends = validity(pem)
            except ValueError:
                return None
            got = value.get("time")
            if not isinstance(got, (int, float)) or not begins <= got <= self.now:
                got = begins
            directory = value.get("directory")
            directory = directory if isinstance(directory, str) else ""
            found = self._found[host] = _Found(pem, begins, ends, float(got), directory)
        return found

    def _begin(self, host: str) -> None:
        run = self._runs[host] = _Run(self, host)

        def ended(_: Any) -> None:
            del self._runs[host]
            if self._is_running:
                self.look_soon()

        run.begin().addBoth(ended)

    def put_off(self, host: str, order: Order) -> None:
        """Note a failure that the store could not be told."""
        self._untold[host] = order

    def told(self, host: str) -> None:
        """The store knows all that there is to know of the order of a host."""
        self._untold.pop(host, None)

    def replaced(self, host: str) -> None:
        """The certificate of a host is of the present CA."""
        self._replaced.discard(host)

    # When the CA suggests to renew.

    def _ask_when_due(self, host: str, now: float) -> None:
        found = self._found.get(host)
        if found is None or now < found.ask or now > found.ends or self._asking:
            return
        found.ask = now + _ASK
        try:
            identifier = certificate_id(found.pem)
        except ValueError:
            return
        self._asking.add(host)
        asked = defer.ensureDeferred(self._ask(found, identifier))

        def ended(_: Any) -> None:
            self._asking.discard(host)
            self.look_soon()

        asked.addErrback(lambda failure: _log.failure("a time of renewal", failure))
        asked.addBoth(ended)

    async def _ask(self, found: _Found, identifier: str) -> None:
        acme = self.acme
        if acme is None:
            return

        def ask() -> tuple[float, float, float] | None:
            ca = self.make_ca(acme.directory, acme.ca)
            try:
                found: tuple[float, float, float] | None = ca.window(identifier)
            finally:
                ca.close()
            return found

        try:
            answer = await self.in_thread(ask)
        except Exception as error:
            # Without a suggestion it is renewed in time all the same.
            _log.debug("no time of renewal: {error}", error=str(error))
            return
        if answer is None:
            found.ask = self.now + _ASK_MOST
            return
        begins, ends, retry_after = answer
        found.ask = self.now + min(max(retry_after or _ASK, _ASK_LEAST), _ASK_MOST)
        if (begins, ends) != found.window:
            found.window = (begins, ends)
            found.suggested = begins + self.draw() * (ends - begins)

    # Threads.

    def in_thread(self, function: Callable[..., T], *arguments: Any) -> defer.Deferred[T]:
        """Ask a CA.  Fails with what the call raises, or with a TimeoutError after a minute; the
        call goes on then, and counts as one that hangs until it ends."""
        if len(self._threads) >= _MAX_THREADS:
            return defer.fail(TimeoutError("too many questions to the CA hang"))
        thread = object()

        def run() -> T:
            try:
                return function(*arguments)
            finally:
                self._threads.discard(thread)

        self._threads.add(thread)
        try:
            asked = self._call(self.reactor, run)
        except RuntimeError as error:
            self._threads.discard(thread)
            return defer.fail(error)
        return asked.addTimeout(_QUESTION, self.reactor)

    # The status.

    def states(self) -> dict[str, HostState]:
        """How it is with each host's certificate."""
        now, others = self.now, self.others()
        hosts = () if self.acme is None else self.acme.hosts
        return {
            host: HostState("other") if _covers(others, host) else self._state(host, now)
            for host in hosts
        }

    def _state(self, host: str, now: float) -> HostState:
        found, order = self.certificate(host), self.order(host)
        untold = self._untold.get(host)
        if untold is not None and untold.failures and (order is None or not order.node):
            order = untold
        expires = 0.0 if found is None else found.ends
        due = self._due(host)
        if order is None:
            return HostState("waiting" if found is None else "ok", expires, due)
        status = "failed" if order.failures else "waiting"
        if order.node and now < order.until:
            status = "ordering" if order.node == self.node else "waiting"
        return HostState(status, expires, due, order.error, order.failures, order.node)


class _Run:
    """One order of one host, by this process."""

    def __init__(self, orders: Orders, host: str) -> None:
        assert orders.acme is not None
        self._orders = orders
        self._host = host
        self._acme = orders.acme
        self._kinds = rules.kinds_available(orders.listeners)
        self._is_stopped = False
        #: What the run waits for and need not.
        self._waiting: defer.Deferred[Any] | None = None
        self._ended: list[defer.Deferred[None]] = []
        #: The order as this run has written it.
        self._order = Order()
        #: The CA is answered, so what is served changes when the order ends.
        self._is_answered = False
        self._ends = orders.reactor.seconds() + _WHOLE

    def begin(self) -> defer.Deferred[None]:
        """Begin; fires when the run is over, and never fails."""

        def over(_: Any) -> None:
            for one in self._ended:
                one.callback(None)

        running = defer.ensureDeferred(self._run())
        running.addErrback(self._broken)
        return running.addBoth(over)

    def _broken(self, failure: Any) -> None:
        _log.failure("{host}: an order of its certificate broke", failure, host=self._host)
        self._put_off("a bug, of which the log says more", _BROKEN)

    def stop(self) -> defer.Deferred[None]:
        """Give the order up; fires when that is done."""
        self._is_stopped = True
        done: defer.Deferred[None] = defer.Deferred()
        self._ended.append(done)
        if self._waiting is not None:
            self._waiting.cancel()
        return done

    async def _run(self) -> None:
        orders, host = self._orders, self._host
        try:
            if not await self._take():
                return
        except SlardarError as error:
            self._put_off(f"the store: {error}", _STORE_AWAY)
            return
        try:
            await self._fetch()
            orders.told(host)
            orders.replaced(host)
        except (_Lost, MovedError):
            _log.info("{host}: another node has the order of its certificate", host=host)
        except _Stopped:
            await self._let_go()
        except Exception as error:
            await self._failed(error)

    # The store.

    async def _take(self) -> bool:
        """Take the order; False if another node has it, or it is not due any more."""
        orders, host = self._orders, self._host

        def prepare() -> list[Value]:
            if not orders.is_due(host):
                return []
            self._order = rules.begun(orders.node, orders.now, orders.order(host))
            return [self._value(self._order)]

        try:
            # One try: if somebody was quicker, it may have been for this order.
            await self._write_once(prepare)
        except ConflictError:
            orders.put_off(host, Order(next=orders.now + 1.0 + orders.draw()))
            return False
        return bool(self._order.node)

    def _value(self, order: Order | None) -> Value:
        value = None if order is None else to_builtins(order)
        return Value("acme", order_key(self._host), value)

    def _mine(self) -> None:
        """Raises _Lost if another node has the order."""
        held = self._orders.order(self._host)
        if held is None or (held.node, held.began) != (self._order.node, self._order.began):
            raise _Lost

    async def _write_once(self, make: Make, served: bool = False) -> None:
        """Write to the store.  ``make`` is called with the lock of changes held, and returns no
        values if nothing is to be written.

        ``served``: it changes what is served, so it is over when every worker serves it.
        """
        configuration = self._orders.configuration
        if served:
            await configuration.change(lambda: configuration.settled(*make()), _WHO)
        else:
            await configuration.keep_values(lambda _held: make(), _WHO)

    async def _write(self, make: Make, served: bool = False, tries: int = _TRIES) -> None:
        """The same, and again if others write to the store meanwhile, or it is away."""
        pause = _RETRY
        while True:
            try:
                await self._write_once(make, served)
                return
            except (ConflictError, StoreError):
                tries -= 1
                if not tries:
                    raise
            await self._sleep(pause * (0.5 + self._orders.draw()))
            pause = min(2 * pause, _LONGEST_RETRY)

    async def _failed(self, error: Exception) -> None:
        orders, host = self._orders, self._host
        text = printable(" ".join(str(error).split()) or type(error).__name__)[:_MAX_ERROR]
        put_off = getattr(error, "retry_after", 0.0)
        challenge = getattr(error, "challenge", "")
        order = rules.after_failure(self._order, text, orders.now, put_off, challenge, orders.draw)
        if getattr(error, "kind", "") == "accountDoesNotExist":
            await self._forget_account()

        def make() -> list[Value]:
            self._mine()
            return [self._value(order)]

        try:
            await self._write(make, self._is_answered)
            orders.told(host)
        except _Lost:
            return
        except (_Stopped, SlardarError):
            orders.put_off(host, order)
        _log.warn(
            "{host}: no certificate by ACME: {error}; next try in {seconds:.0f} s",
            host=host,
            error=text,
            seconds=order.next - orders.now,
        )
        orders.publish(AcmeState(host, "failed", text))

    def _put_off(self, error: str, seconds: float) -> None:
        """Nothing was asked of a CA."""
        orders = self._orders
        when = orders.now + seconds * (0.5 + orders.draw())
        orders.put_off(self._host, Order(failures=1, next=when, error=error[:_MAX_ERROR]))

    async def _let_go(self) -> None:
        """Another process may take the order at once."""
        failures, kind = self._order.failures, self._order.kind
        now = self._orders.now
        order = Order(failures=failures, next=now, kind=kind) if failures else None

        def make() -> list[Value]:
            self._mine()
            return [self._value(order)]

        try:
            await self._write_once(make, self._is_answered)
        except (_Lost, SlardarError):
            pass  # it lapses

    # Waiting.

    async def _wait(self, waiting: defer.Deferred[T]) -> T:
        if self._is_stopped:
            waiting.addErrback(lambda _failure: None)
            waiting.cancel()
            raise _Stopped
        self._waiting = waiting
        try:
            return await waiting
        except defer.CancelledError:
            raise _Stopped from None
        finally:
            self._waiting = None

    async def _sleep(self, seconds: float) -> None:
        slept: defer.Deferred[None] = defer.Deferred()
        call = self._orders.reactor.callLater(seconds, slept.callback, None)
        try:
            await self._wait(slept)
        finally:
            if call.active():
                call.cancel()

    async def _ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """Ask the CA."""
        if self._orders.reactor.seconds() > self._ends:
            raise TimeoutError(f"the order has taken {_WHOLE:.0f} seconds")
        try:
            return await self._wait(self._orders.in_thread(function, *arguments))
        except defer.TimeoutError:
            raise TimeoutError("the CA does not answer") from None

    async def _connect(self, *account: str) -> Any:
        """What speaks to the CA, for an account's key and URL."""
        # The library is imported the first time, which takes long.
        return await self._ask(self._orders.make_ca, self._acme.directory, self._acme.ca, *account)

    # The order itself.

    async def _fetch(self) -> None:
        account = await self._account()
        ca = await self._connect(account.key, account.uri)
        try:
            kinds = rules.kinds_to_try(self._kinds, self._order.kind)
            for kind, following in zip(kinds, [*kinds[1:], None], strict=True):
                try:
                    key, pem = await self._certificate(ca, kind)
                    break
                except _Refused as error:
                    if following is None:
                        raise
                    _log.info(
                        "{host}: {error}; trying {kind}",
                        host=self._host,
                        error=str(error),
                        kind=following,
                    )
            else:
                raise _Refused("no listener can answer a CA")
        finally:
            ca.close()
        await self._keep(key, pem)

    async def _account(self) -> Account:
        """The account, which is made if there is none."""
        orders, acme = self._orders, self._acme
        email = acme.email or ""
        if self._is_stopped:
            raise _Stopped
        await self._wait(orders.account_lock.acquire())
        try:
            account = self._known_account()
            if account is None:
                # The key is in the store before the CA knows it, so nodes agree on one account.
                made = Account(acme.directory, made_key())

                def make() -> list[Value]:
                    if self._known_account() is not None:
                        return []
                    return [Value("acme", ACCOUNT, to_builtins(made))]

                await self._write(make)
                account = self._known_account() or made
            if not account.uri or account.email != email:
                ca = await self._connect(account.key)
                try:
                    uri = await self._ask(ca.register, email)
                finally:
                    ca.close()
                account = await self._write_account(account, uri, email)
            return account
        finally:
            orders.account_lock.release()

    async def _write_account(self, account: Account, uri: str, email: str) -> Account:
        known = structs.replace(account, uri=uri, email=email)

        def make() -> list[Value]:
            held = self._known_account()
            if held is None or held.key != account.key or held == known:
                return []
            return [Value("acme", ACCOUNT, to_builtins(known))]

        await self._write(make)
        return known

    def _known_account(self) -> Account | None:
        """The account in the store, if it is one at this CA."""
        value = self._orders.configuration.held.acme.get(ACCOUNT)
        try:
            account = None if value is None else read_value(Account, value)
        except ValueError:
            return None
        if account is None or account.directory != self._acme.directory:
            return None
        return account

    async def _forget_account(self) -> None:
        """The CA does not know the account: its key gets another one the next time."""
        account = self._known_account()
        try:
            if account is not None and account.uri:
                await self._write_account(account, "", account.email)
        except (_Stopped, SlardarError):
            pass  # the next failure tries it again

    async def _certificate(self, ca: Any, kind: str) -> tuple[str, str]:
        """A new key and its certificate."""
        host = self._host
        order = await self._ask(ca.order, host, self._replaced())
        await self._authorize(ca, order.authorizations[0], kind)
        key = made_key()
        request = request_for(host, key)
        order = await self._ask(ca.look, order)
        is_sent = False
        while order.status in ("pending", "ready", "processing"):
            if order.status == "ready" and not is_sent:
                await self._ask(ca.finalize, order, request)
                is_sent = True
            else:
                await self._sleep(rules.pause(order.retry_after))
            order = await self._ask(ca.look, order)
        if order.status != "valid" or not order.certificate:
            raise _Refused(
                f"the order is {order.status}: {order.error or 'the CA does not say why'}"
            )
        return key, await self._ask(ca.download, order)

    def _replaced(self) -> str:
        """The id of the certificate that is renewed, for the CA; empty for none."""
        found = self._orders.certificate(self._host)
        try:
            return "" if found is None else certificate_id(found.pem)
        except ValueError:
            return ""

    async def _authorize(self, ca: Any, url: str, kind: str) -> None:
        """Show the CA that the host is ours."""
        host = self._host
        authorization = await self._ask(ca.authorization, url, host)
        if authorization.status == "pending":
            offered = [one for one in authorization.challenges if one.type == kind]
            if not offered:
                raise _Refused(f"the CA does not offer {kind}", kind)
            await self._serve(kind, offered[0].token, ca.key_authorization)
            await self._ask(ca.begin, offered[0])
            while authorization.status == "pending":
                await self._sleep(rules.pause(authorization.retry_after))
                authorization = await self._ask(ca.authorization, url, host)
        if authorization.status != "valid":
            errors = [one.error for one in authorization.challenges if one.error is not None]
            reason = str(errors[0]) if errors else f"the authorization is {authorization.status}"
            raise _Refused(f"{kind} has failed: {reason}", kind)

    async def _serve(self, kind: str, token: str, authorization: Callable[[str], str]) -> None:
        """Have every worker, and every node, answer the CA."""
        if _TOKEN.fullmatch(token) is None:
            raise _Refused("the CA's token is none")
        text = authorization(token)
        if kind == rules.HTTP:
            answer = Answer(token, text)
        else:
            cert, key = challenge_pair(self._host, text)
            answer = Answer(cert=cert, key=key)
        order = structs.replace(self._order, answer=answer)

        def make() -> list[Value]:
            self._mine()
            return [self._value(order)]

        self._is_answered = True
        await self._write(make, served=True)
        if self._orders.is_shared:
            await self._sleep(_OTHERS)

    async def _keep(self, key: str, pem: str) -> None:
        """Put the certificate into the store, and the order out of it."""
        orders, host = self._orders, self._host
        before = orders.certificate(host)
        pair = checked_pair("the CA's answer", pem, key)
        if host not in pair.names:
            raise CertificateError("the CA's certificate is for another name")
        value = {
            "cert": pair.cert,
            "key": pair.key,
            "from": ORIGIN,
            "time": int(orders.now),
            "directory": self._acme.directory,
        }

        def make() -> list[Value]:
            self._mine()
            return [Value("certificate", host, value), self._value(None)]

        try:
            # It is worth waiting for the store: a CA signs only so many.
            await self._write(make, served=True, tries=0)
        except ApplyError:
            pass  # it has been logged, and is stored
        state = "got" if before is None else "renewed"
        _log.info(
            "{host}: {state} a certificate by ACME, which is good until {until}",
            host=host,
            state=state,
            until=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(pair.expires)),
        )
        orders.publish(AcmeState(host, "got" if before is None else "renewed"))


def _pem_of_acme(value: Any) -> str | None:
    """The certificate in a value of the store, if it was got by ACME."""
    if isinstance(value, dict) and value.get("from") == ORIGIN:
        pem = value.get("cert")
        return pem if isinstance(pem, str) else None
    return None


def _covers(names: set[str], host: str) -> bool:
    return host in names or "*." + host.partition(".")[2] in names


def _make_ca(*arguments: Any) -> Any:
    # Imported here: only a process that has ACME needs the library.
    from slardar.acme.ca import Ca

    return Ca(*arguments)
