"""The orders of nodes that share a store, at a CA in memory, with a clock that the tests turn."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from msgspec import to_builtins
from twisted.internet import defer

from slardar.acme.ca import CaError, CaOrder, Challenge
from slardar.acme.rules import HTTP, LEASE, TLS
from slardar.events import AcmeState
from slardar.model.acme import Account, Order, order_key
from slardar.model.change import Value
from slardar.model.tls import Challenges, Keyring, Pair
from tests.acme.fakes import DIRECTORY, Connection, Node, Place, settings
from tests.control.fakes import result_of
from tests.dataplane.kit import logged

A, B = "a.test", "b.test"
MINUTE = 60.0


@pytest.fixture
def place() -> Place:
    """A store, a CA and a clock."""
    return Place()


def order_of(node: Node, host: str = A) -> Order | None:
    """What the store has of an order."""
    return node.orders.order(host)


# One node.


@pytest.mark.parametrize(
    ("listen", "kinds"),
    [(("tcp:80",), [HTTP]), (("tls:443",), [TLS]), (("tcp:80", "tls:1"), [HTTP])],
)
def test_certificate_is_got_and_kept(
    place: Place, listen: tuple[str, ...], kinds: list[str]
) -> None:
    """With its key and its origin; of the order nothing is left, and events tell of it."""
    node = Node(place, "A.test", listen=listen).start()
    place.until(lambda: node.pems)
    assert place.ca.told == kinds
    value = node.actions.held.certificates[A]
    assert value["cert"] == place.ca.signed[0]
    assert value["from"] == "acme"
    assert "PRIVATE KEY" in value["key"]
    assert list(node.actions.held.acme) == ["account"]
    assert node.served.challenges == Challenges()
    assert [event for event in node.events if isinstance(event, AcmeState)] == [AcmeState(A, "got")]
    assert node.states() == {A: "ok"}
    place.run(5 * MINUTE)
    assert place.ca.orders == [A]


def test_ca_is_told_when_all_workers_answer(place: Place) -> None:
    """And a little later, since other nodes need a moment."""
    node = Node(place, A)
    node.plane.held = []
    node.start()
    place.until(lambda: node.plane.held)
    place.run(5)
    assert place.ca.told == []
    assert node.states() == {A: "ordering"}
    confirm, node.plane.held = node.plane.held, None
    for one in confirm:
        one()
    place.run(1.5)
    assert place.ca.told == []
    place.run(1)
    assert place.ca.told == [HTTP]


def test_store_of_one_node_has_no_others_to_wait_for(place: Place) -> None:
    """The CA is told at once."""
    Node(place, A, is_shared=False).start()
    place.run(0.5)
    assert place.ca.told == [HTTP]


def test_other_challenge_is_tried_when_one_fails(place: Place) -> None:
    """In the same go; both are orders of their own, for a failed one is over."""
    place.ca.broken = {HTTP}
    node = Node(place, A).start()
    place.until(lambda: node.pems)
    assert place.ca.told == [HTTP, TLS]
    assert place.ca.orders == [A, A]


def test_challenge_that_is_not_offered_is_not_waited_for(place: Place) -> None:
    """The next one is tried."""
    place.ca.kinds = [TLS]
    node = Node(place, A).start()
    place.until(lambda: node.pems)
    assert place.ca.told == [TLS]


def test_some_names_are_ordered_at_a_time(place: Place) -> None:
    """The others have their turn."""
    hosts = [f"{number}.test" for number in range(9)]
    node = Node(place, *hosts)
    node.hanging = []
    node.start()
    place.run(5)
    assert len(node.orders._runs) == 4
    for one in node.hanging:
        one.errback(CaError("no"))
    node.hanging = None
    place.until(lambda: len(node.pems) == 5, 5 * MINUTE)
    assert sorted(node.states().values()) == ["failed"] * 4 + ["ok"] * 5


# Failures.


def test_failure_is_tried_again_later_and_is_known_after_a_restart(place: Place) -> None:
    """The time is in the store, so a restart begins nothing anew; what is wrong is told."""
    place.ca.broken = {HTTP, TLS}
    node = Node(place, A).start()
    place.until(lambda: node.states() == {A: "failed"})
    order = order_of(node)
    assert order is not None
    assert order.failures == 1
    assert order.error == "tls-alpn-01 has failed: unauthorized: wrong answer"
    assert order.answer is None
    assert node.served.challenges == Challenges()
    assert 200 < order.next - place.now() <= 300
    assert AcmeState(A, "failed", order.error) in node.events
    shown = node.orders.states()[A]
    assert (shown.failures, shown.error, shown.next) == (1, order.error, order.next)
    assert len(place.ca.orders) == 2
    result_of(defer.ensureDeferred(node.orders.stop()))
    place.ca.nodes.clear()
    again = Node(place, A).start()
    place.run(order.next - place.now() - 1)
    assert len(place.ca.orders) == 2
    place.ca.broken = set()
    place.until(lambda: again.pems)
    # One type at a time from then on.
    assert place.ca.told == [HTTP, TLS, HTTP]
    assert order_of(again) is None


def test_retry_after_of_the_ca_is_respected(place: Place) -> None:
    """Where it asks for more than the usual pause."""
    place.ca.errors["order"] = [CaError("rateLimited: enough", "rateLimited", 3000.0)]
    node = Node(place, A).start()
    place.until(lambda: node.states() == {A: "failed"})
    place.run(49 * MINUTE, 5)
    assert place.ca.orders == []
    place.run(2 * MINUTE, 5)
    assert place.ca.orders == [A]


METHODS = ("register", "order", "authorization", "begin", "look", "finalize", "download")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [CaError("no\n\x1b[2Jway"), ValueError("x" * 10000), OSError()])
def test_errors_of_any_call_are_failures(place: Place, method: str, error: Exception) -> None:
    """Of any kind; the status has one line."""
    place.ca.errors[method] = [error]
    node = Node(place, A).start()
    place.until(lambda: node.states() == {A: "failed"})
    text = node.orders.states()[A].error
    assert text
    assert text.isprintable()
    assert len(text) <= 500
    assert node.served.challenges == Challenges()
    place.until(lambda: node.pems, 6 * MINUTE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "other.test"}, "is for another name"),
        ({"text": "rubbish"}, "expected a certificate in PEM"),
        ({"text": ""}, "expected a certificate in PEM"),
        ({"token": "../x"}, "the CA's token is none"),
        ({"token": ""}, "the CA's token is none"),
        ({"token": "x" * 1000}, "the CA's token is none"),
        ({"kinds": []}, "does not offer"),
    ],
)
def test_rubbish_of_a_ca_is_not_served(place: Place, change: dict[str, Any], reason: str) -> None:
    """It is a failure."""
    for name, value in change.items():
        setattr(place.ca, name, value)
    node = Node(place, A).start()
    place.until(lambda: node.states() == {A: "failed"})
    assert reason in node.orders.states()[A].error
    assert node.pems == {}
    assert all(not served.challenges.http.get("../x") for served, _ in node.plane.applied)


def test_store_that_is_away_loses_no_certificate(place: Place) -> None:
    """It is kept until the store takes it: a CA signs only so many."""

    class Last(Connection):
        """A CA, after whose certificate the store is away."""

        def download(self, order: CaOrder) -> str:
            """See the base."""
            place.server.away = "away"
            return super().download(order)

    place.ca.connection = Last
    node = Node(place, A).start()
    place.until(lambda: place.ca.signed)
    with logged():
        place.run(4 * MINUTE)
    place.server.away = ""
    place.until(lambda: node.pems, 2 * MINUTE)
    assert len(place.ca.signed) == 1


def test_store_that_is_away_asks_nothing_of_a_ca(place: Place) -> None:
    """An order is taken in the store first."""
    node = Node(place, A)
    place.server.away = "away"
    with logged():
        node.start()
        place.run(4 * MINUTE)
    assert place.ca.accounts == {}
    assert node.states() == {A: "failed"}
    assert "the store" in node.orders.states()[A].error
    place.server.away = ""
    place.until(lambda: node.pems, 20 * MINUTE)


def test_certificate_of_another_key_is_refused(place: Place) -> None:
    """It would be of no use."""
    from cryptography.hazmat.primitives.asymmetric import ec

    place.ca.text = place.ca.sign(ec.generate_private_key(ec.SECP256R1()).public_key(), A)
    node = Node(place, A).start()
    place.until(lambda: node.states() == {A: "failed"})
    assert "is not that of the certificate" in node.orders.states()[A].error
    assert node.pems == {}


def test_ca_that_hangs_is_given_up(place: Place) -> None:
    """After a minute; a question counts as long as it hangs, so that there are never many."""
    node = Node(place, *(f"{number}.test" for number in range(20)))
    node.hanging = []
    with logged():
        node.start()
        place.run(55)
        # One asks for the account, which the others wait for.
        assert len(node.hanging) == 1
        place.run(20 * MINUTE, 2)
    assert set(node.states().values()) == {"failed"}
    assert len(node.hanging) == 8
    assert node.orders.states()["0.test"].error in (
        "the CA does not answer",
        "too many questions to the CA hang",
    )


def test_order_that_takes_too_long_is_given_up(place: Place) -> None:
    """Before it lapses."""

    class Pending(Connection):
        """A CA that never comes to an end."""

        def begin(self, challenge: Challenge) -> None:
            """It is looked at later."""

    place.ca.connection = Pending
    node = Node(place, A, is_shared=False).start()
    place.until(lambda: node.states() == {A: "failed"}, LEASE - 50)
    assert "has taken 300 seconds" in node.orders.states()[A].error


# The account.


def test_account_is_made_once(place: Place) -> None:
    """For all names and all nodes; its key is in the store before the CA knows it."""
    nodes = [Node(place, f"{name}.test").start() for name in "ab"]
    place.until(lambda: len(nodes[0].pems) == 2)
    assert len(place.ca.accounts) == 1
    value = nodes[1].actions.held.acme["account"]
    assert value["uri"] == "https://ca.test/account/1"
    assert place.ca.accounts == {value["key"]: "ops@a.test"}


def test_address_of_the_account_follows_the_settings(place: Place) -> None:
    """With the next order."""
    node = Node(place, A).start()
    place.until(lambda: node.pems)
    node.orders.take_settings(settings(A, B, email="new@a.test"))
    place.until(lambda: len(node.pems) == 2)
    assert list(place.ca.accounts.values()) == ["new@a.test"]


def test_account_that_the_ca_has_forgotten_is_made_anew(place: Place) -> None:
    """With the same key, at the next try."""
    node = Node(place, A).start()
    place.until(lambda: node.pems)
    key = node.actions.held.acme["account"]["key"]
    place.ca.accounts.clear()
    node.orders.take_settings(settings(A, B))
    place.until(lambda: len(node.pems) == 2, 10 * MINUTE)
    assert list(place.ca.accounts) == [key]


def test_nonsense_in_the_store_is_no_account(place: Place) -> None:
    """Nor is an account at another CA, nor nonsense an order."""
    for host, value in ((A, {"key": 1}), (B, to_builtins(Account("https://x", "key", "uri")))):
        node = Node(place, host)
        values = [Value("acme", "account", value), Value("acme", order_key(host), 7)]
        result_of(node.actions.keep_values(partial(_given, values), "test"))
        node.start()
        place.run(10)
        assert host in node.pems
        assert node.actions.held.acme["account"]["directory"] == DIRECTORY


def _given(values: list[Value], _: Any) -> list[Value]:
    return values


# Renewal.


def test_certificate_is_renewed_in_time(place: Place) -> None:
    """After two thirds of its life; the CA learns which one it replaces."""
    node = Node(place, A, is_shared=False).start()
    place.until(lambda: node.pems)
    place.run(11 * MINUTE, 5)
    assert place.ca.orders == [A]
    with logged() as events:
        place.until(lambda: len(place.ca.signed) == 2, 2 * MINUTE)
        place.run(5)
    assert node.pems == {A: place.ca.signed[1]}
    assert place.ca.replaced[0] == ""
    assert "." in place.ca.replaced[1]
    assert AcmeState(A, "renewed") in node.events
    assert any(event.get("state") == "renewed" for event in events)


def test_certificate_is_renewed_when_the_ca_suggests_it(place: Place) -> None:
    """Within the window; the CA is asked again later, and another window counts."""
    place.ca.window = (place.now() + 40 * MINUTE, place.now() + 42 * MINUTE, 900.0)
    node = Node(place, A, is_shared=False).start()
    place.until(lambda: place.ca.windows)
    begin = place.now()
    assert node.orders.states()[A].next == pytest.approx(begin + 41 * MINUTE, abs=5)
    place.ca.window = (begin + 16 * MINUTE, begin + 18 * MINUTE, 0.0)
    place.run(14 * MINUTE, 5)
    assert place.ca.windows == 1
    place.until(lambda: place.ca.windows == 2, 2 * MINUTE)
    place.until(lambda: len(place.ca.signed) == 2, 3 * MINUTE)
    assert place.now() == pytest.approx(begin + 17 * MINUTE, abs=5)


def test_ca_that_wants_each_certificate_renewed_at_once(place: Place) -> None:
    """A sixth of what is left of its life has to pass."""
    place.ca.window = (0.0, 0.0, 0.0)
    Node(place, A, is_shared=False).start()
    place.run(60 * MINUTE, 5)
    assert len(place.ca.orders) == 6


def test_ca_that_suggests_nothing_is_not_waited_for(place: Place) -> None:
    """Nor one that answers with an error."""
    node = Node(place, A, is_shared=False).start()
    place.until(lambda: place.ca.windows)
    place.ca.errors["window"] = [ValueError("x")] * 1000
    place.run(20 * MINUTE, 5)
    assert len(place.ca.orders) > 1
    assert node.states() == {A: "ok"}


def test_expired_certificate_is_still_tried_again(place: Place) -> None:
    """However long the CA was away."""
    node = Node(place, A, is_shared=False).start()
    place.until(lambda: node.pems)
    place.ca.errors["order"] = [OSError("away")] * 100
    place.run(3 * 3600, 30)
    assert node.states() == {A: "failed"}
    place.ca.errors.clear()
    place.until(lambda: len(place.ca.signed) == 2, 6 * 3600)


# Other certificates.


def pair(*names: str, expires: float) -> Keyring:
    """A certificate of a file."""
    return Keyring((Pair("a.pem", "", "", names, "ec", int(expires)),))


@pytest.mark.parametrize("name", [A, "*.test"])
def test_name_with_a_good_certificate_is_left_alone(place: Place, name: str) -> None:
    """Until that one has expired."""
    node = Node(place, A)
    node.keyring = pair(name, expires=place.now() + 10 * MINUTE)
    node.start()
    place.run(9 * MINUTE, 5)
    assert place.ca.orders == []
    assert node.states() == {A: "other"}
    place.until(lambda: node.pems, 3 * MINUTE)


def test_certificate_of_another_ca_is_replaced_once(place: Place) -> None:
    """After a trial with a CA for tests, say.  If another node brings it back, it stays."""
    node = Node(place, A, is_shared=False).start()
    place.until(lambda: node.pems)
    held = dict(node.actions.held.certificates[A])
    other = {**held, "directory": "https://staging.test/dir"}

    def put(value: Any) -> None:
        values = [Value("certificate", A, value)]
        result_of(node.actions.change(lambda: node.actions.settled(*values), "test"))

    put(other)
    place.run(5 * MINUTE, 5)
    assert place.ca.orders == [A]
    node.orders.take_settings(node.settings)
    place.until(lambda: len(place.ca.signed) == 2)
    place.run(5)
    assert node.actions.held.certificates[A]["directory"] == DIRECTORY
    put(other)
    place.run(5 * MINUTE, 5)
    assert len(place.ca.orders) == 2
    assert node.states() == {A: "ok"}


@pytest.mark.parametrize("when", ["soon", 1e300, -1, True, None, 10**30])
def test_nonsense_beside_a_certificate_does_not_keep_it(place: Place, when: Any) -> None:
    """It is renewed in time."""
    node = Node(place, A, is_shared=False).start()
    place.until(lambda: node.pems)
    value = {**node.actions.held.certificates[A], "time": when, "directory": 7}
    values = [Value("certificate", A, value)]
    result_of(node.actions.change(lambda: node.actions.settled(*values), "test"))
    place.until(lambda: len(place.ca.signed) == 2, 13 * MINUTE)


def test_names_come_and_go_with_the_settings(place: Place) -> None:
    """A certificate stays when its name goes, and is not renewed any more."""
    node = Node(place, A, is_shared=False).start()
    place.until(lambda: node.pems)
    node.orders.take_settings(settings(B))
    place.until(lambda: B in node.pems)
    place.until(lambda: len(place.ca.orders) == 3, 12 * MINUTE)
    place.run(MINUTE)
    assert A in node.pems
    node.orders.take_settings(parse_nothing())
    place.run(30 * MINUTE, 5)
    assert place.ca.orders == [A, B, B]
    assert node.states() == {}


def parse_nothing() -> Any:
    """Settings without ACME."""
    from slardar.config import Settings

    return Settings()


# Several nodes.


def test_one_of_the_nodes_orders(place: Place) -> None:
    """All of them answer the CA, and have the certificate."""
    nodes = [Node(place, A, B).start() for _ in range(3)]
    place.until(lambda: all(len(node.pems) == 2 for node in nodes))
    assert sorted(place.ca.orders) == [A, B]
    place.run(9 * MINUTE, 5)
    assert len(place.ca.orders) == 2
    place.run(5 * MINUTE, 5)
    assert sorted(place.ca.orders) == [A, A, B, B]
    for node in nodes:
        assert node.states() == {A: "ok", B: "ok"}
        assert node.served.challenges == Challenges()


def test_order_of_a_node_that_died_is_taken_when_it_lapses(place: Place) -> None:
    """It counts as a failure."""
    first, second = Node(place, A).start(), Node(place, A)
    place.until(lambda: first.served.challenges.http)
    first.die()
    second.start()
    place.run(2)
    assert second.states() == {A: "waiting"}
    assert second.orders.states()[A].node == first.orders.node
    place.run(LEASE - 30, 5)
    assert place.ca.orders == [A]
    place.until(lambda: second.pems, 2 * MINUTE)
    assert place.ca.orders == [A, A]
    assert order_of(second) is None


def test_node_that_has_lost_its_order_leaves_it_alone(place: Place) -> None:
    """As after a long sleep of its machine."""
    node = Node(place, A).start()
    place.until(lambda: node.served.challenges.http)
    other = Order("other", place.now(), place.now() + LEASE)
    value = Value("acme", order_key(A), to_builtins(other))
    result_of(node.actions.keep_values(lambda _: [value], "test"))
    with logged() as events:
        place.run(MINUTE)
    assert order_of(node) == other
    assert node.pems == {}
    assert any("another node has the order" in str(event.get("log_format")) for event in events)


def test_orders_are_let_go_of_at_the_end(place: Place) -> None:
    """Another process goes on at once: the one that follows in an upgrade, say."""
    first, second = Node(place, A).start(), Node(place, A)
    place.until(lambda: first.served.challenges.http)
    stopped = defer.ensureDeferred(first.orders.stop())
    assert result_of(stopped) is None
    place.ca.nodes.remove(first)
    assert order_of(second) is None
    assert second.served.challenges == Challenges()
    second.start()
    place.until(lambda: second.pems)
    # And begins again if that comes to nothing.
    place.run(3)
    first.orders.start(first.settings)
    place.run(5)
    assert first.states() == {A: "ok"}


def test_end_does_not_wait_long_for_a_store(place: Place) -> None:
    """Orders lapse."""
    node = Node(place, A)
    node.hanging = []
    node.start()
    place.until(lambda: node.hanging)
    node.plane.held = []
    place.server.tells = False
    node.actions._lock.acquire()
    stopped = defer.ensureDeferred(node.orders.stop())
    with logged() as events:
        place.run(4)
    assert result_of(stopped) is None
    assert any("lapse" in str(event.get("log_format")) for event in events)


def test_process_that_has_handed_over_tries_rarely(place: Place) -> None:
    """The store is not its own any more."""
    node = Node(place, A)
    result_of(node.actions.hand_over())
    node.actions.moved()
    tries: list[Any] = []
    keep_values = node.actions.keep_values

    def kept(*words: Any) -> Any:
        tries.append(words)
        return keep_values(*words)

    node.actions.keep_values = kept  # type: ignore[method-assign]
    node.start()
    place.run(5 * MINUTE)
    assert 1 <= len(tries) <= 10
    assert place.ca.accounts == {}
