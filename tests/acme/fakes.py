"""A CA in memory, which checks what nodes answer, and nodes with a clock that tests turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import defer
from twisted.internet.task import Clock

from slardar.acme.ca import Authorization, CaError, CaOrder, Challenge, _Identifier, _Problem
from slardar.acme.orders import Orders
from slardar.acme.rules import HTTP, TLS
from slardar.config import Settings, parse_settings
from slardar.control.actions import Actions
from slardar.events import Event
from slardar.model.snapshot import Snapshot
from slardar.model.tls import Keyring
from slardar.stores.shared import SharedStore
from slardar.testing.trees import MemoryServer, MemoryTree
from tests.control.fakes import FakePlane, make_actions

__all__ = ["DIRECTORY", "FakeCa", "Node", "Place"]

DIRECTORY = "https://ca.test/dir"


class FakeCa:
    """A CA with everything it has done; ``connect`` makes a connection to it, as ``Ca`` is one.

    Its certificates are good for three hours, and renewed after 12 minutes: most of their life is
    over, for whoever checks them knows the real time only.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        #: The nodes that it asks: one after the other.
        self.nodes: list[Node] = []
        self.kinds = [HTTP, TLS]
        #: The types of challenges that never succeed.
        self.broken: set[str] = set()
        #: Accounts' contacts by keys, and what was ordered and told, in order.
        self.accounts: dict[str, str] = {}
        self.orders: list[str] = []
        self.replaced: list[str] = []
        self.told: list[str] = []
        self.signed: list[str] = []
        #: What a method raises, by its name, as often as it is there.
        self.errors: dict[str, list[Exception]] = {}
        #: Makes another certificate than the one that was asked for.
        self.name: str | None = None
        self.text: str | None = None
        self.token = "token"
        self.window: tuple[float, float, float] | None = None
        self.windows = 0
        #: The class of connections.
        self.connection = Connection

    def connect(self, directory: str, ca: str | None, key: str = "", uri: str = "") -> Connection:
        """A connection with an account."""
        assert directory == DIRECTORY
        return self.connection(self, key, uri)

    def sign(self, public: Any, name: str) -> str:
        """A certificate."""
        now = datetime.fromtimestamp(self._clock(), timezone.utc)
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")])
        signed = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=110))
            .not_valid_after(now + timedelta(minutes=70))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
            )
            .sign(self._key, hashes.SHA256())
        )
        return signed.public_bytes(Encoding.PEM).decode()


class Connection:
    """What a node has of the CA."""

    def __init__(self, ca: FakeCa, key: str, uri: str) -> None:
        self._ca, self._key, self._uri = ca, key, uri
        self._name = ""
        self._status = "pending"
        self._order = "pending"
        self._problem: _Problem | None = None
        self._request: Any = None
        self.is_closed = False

    def _called(self, method: str) -> None:
        assert not self.is_closed
        waiting = self._ca.errors.get(method)
        if waiting:
            raise waiting.pop(0)

    def close(self) -> None:
        self.is_closed = True

    def key_authorization(self, token: str) -> str:
        return f"{token}.thumb"

    def register(self, email: str) -> str:
        self._called("register")
        self._ca.accounts[self._key] = email
        return f"https://ca.test/account/{len(self._ca.accounts)}"

    def order(self, name: str, replaces: str = "") -> CaOrder:
        self._called("order")
        if self._key not in self._ca.accounts:
            raise CaError("no such account", "accountDoesNotExist")
        assert self._uri
        self._ca.orders.append(name)
        self._ca.replaced.append(replaces)
        self._name, self._status, self._order = name, "pending", "pending"
        return self._shown()

    def _shown(self) -> CaOrder:
        certificate = "https://ca.test/cert" if self._order == "valid" else None
        return CaOrder(self._order, "https://ca.test/f", ["https://ca.test/a"], certificate)

    def authorization(self, url: str, name: str) -> Authorization:
        self._called("authorization")
        challenges = [
            Challenge(kind, kind, self._ca.token, error=self._problem) for kind in self._ca.kinds
        ]
        return Authorization(self._status, _Identifier("dns", name), challenges)

    def begin(self, challenge: Challenge) -> None:
        self._called("begin")
        self._ca.told.append(challenge.type)
        is_good = challenge.type not in self._ca.broken and all(
            self._asks(node.served, challenge.type) for node in self._ca.nodes
        )
        self._status = "valid" if is_good else "invalid"
        self._order = "ready" if is_good else "invalid"
        self._problem = None if is_good else _Problem("urn:error:unauthorized", "wrong answer")

    def _asks(self, served: Snapshot, kind: str) -> bool:
        if kind == HTTP:
            return served.challenges.http.get(self._ca.token) == f"{self._ca.token}.thumb"
        return self._name in served.challenges.tls

    def look(self, order: CaOrder) -> CaOrder:
        self._called("look")
        return self._shown()

    def finalize(self, order: CaOrder, request: bytes) -> None:
        self._called("finalize")
        self._request = x509.load_der_x509_csr(request)
        self._order = "valid"

    def download(self, order: CaOrder) -> str:
        self._called("download")
        pem = self._ca.text
        if pem is None:
            pem = self._ca.sign(self._request.public_key(), self._ca.name or self._name)
        self._ca.signed.append(pem)
        return pem

    def window(self, identifier: str) -> tuple[float, float, float] | None:
        self._called("window")
        self._ca.windows += 1
        return self._ca.window


class Node:
    """A slardar with ACME."""

    def __init__(
        self,
        place: Place,
        *hosts: str,
        is_shared: bool = True,
        listen: tuple[str, ...] = ("tcp:80", "tls:443"),
        email: str = "ops@a.test",
    ) -> None:
        self.place = place
        self.plane = FakePlane()
        store = SharedStore(MemoryTree(place.server), place.clock, "slardar/")
        self.actions: Actions = make_actions(store, self.plane)
        self.actions.clock = place.now
        self.keyring = Keyring()
        self.events: list[Event] = []
        self.settings = settings(*hosts, listen=listen, email=email)
        #: Questions that hang, if this is a list.
        self.hanging: list[defer.Deferred[Any]] | None = None
        self.orders = Orders(
            place.clock,
            self.actions,
            lambda: self.keyring,
            self.events.append,
            is_shared,
            place.ca.connect,
            self._call,
            lambda: 0.5,
        )
        place.ca.nodes.append(self)

    def _call(self, reactor: Any, question: Callable[[], Any]) -> defer.Deferred[Any]:
        if self.hanging is None:
            return defer.execute(question)
        waiting: defer.Deferred[Any] = defer.Deferred()
        self.hanging.append(waiting)
        return waiting

    def start(self) -> Node:
        """Begin."""
        self.orders.start(self.settings)
        return self

    def die(self) -> None:
        """End without a word."""
        self.orders._is_running = False
        if self.orders._timer is not None:
            self.orders._timer.cancel()
            self.orders._timer = None
        for run in self.orders._runs.values():
            # Whatever it waits for never comes.
            run._write = run._write_once = _never  # type: ignore[assignment]
        self.place.ca.nodes.remove(self)

    @property
    def served(self) -> Snapshot:
        """What it serves."""
        return self.plane.snapshot

    @property
    def pems(self) -> dict[str, str]:
        """The certificates in the store, by name."""
        return {name: one["cert"] for name, one in self.actions.held.certificates.items()}

    def states(self) -> dict[str, str]:
        """The state of each host."""
        return {host: state.status for host, state in self.orders.states().items()}


def _never(*_: Any, **__: Any) -> defer.Deferred[Any]:
    return defer.Deferred()


def settings(
    *hosts: str,
    listen: tuple[str, ...] = ("tcp:80", "tls:443"),
    email: str = "ops@a.test",
    directory: str = DIRECTORY,
) -> Settings:
    """Settings with ACME for these hosts."""
    acme = {"hosts": list(hosts), "email": email, "directory": directory}
    return parse_settings({"listen": list(listen), "tls": {"acme": acme}})


class Place:
    """A store, a CA and a clock.  The time begins now, for certificates are checked by it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._begin = time.time()
        self.server = MemoryServer()
        self.ca = FakeCa(self.now)

    def now(self) -> float:
        """Epoch seconds."""
        return self._begin + self.clock.seconds()

    def run(self, seconds: float, step: float = 0.5) -> None:
        """Let so much time pass."""
        for _ in self._steps(seconds, step):
            pass

    def until(self, is_so: Callable[[], Any], seconds: float = 60.0) -> None:
        """Let time pass until something is so."""
        for _ in self._steps(seconds, 0.5):
            if is_so():
                return
        raise AssertionError(f"not within {seconds} s")

    def _steps(self, seconds: float, step: float) -> Iterator[None]:
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(step, end - self.clock.seconds()))
            yield
