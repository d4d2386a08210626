"""If-Match and ETag: a write holds only for the configuration that its author read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.control.actions import Actions
from slardar.control.conditions import Condition, PreconditionError
from slardar.errors import ConfigError, StoreError
from tests.control.fakes import FakePlane, FakeStore, WebClient, make_actions, upstream

SERVER = {"host": "127.0.0.1", "port": 8001}


@pytest.fixture
def plane() -> FakePlane:
    return FakePlane()


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def actions(store: FakeStore, plane: FakePlane) -> Actions:
    return make_actions(store, plane, upstreams={"file": upstream(8001)})


@pytest.fixture
def client(actions: Actions) -> WebClient:
    return WebClient(actions)


#: Every kind of write, in an order in which each succeeds.
WRITES: list[tuple[str, str, Any]] = [
    ("PUT", "/upstream/a", upstream(1, 2)),
    ("POST", "/upstream/a", {"mode": "hash"}),
    ("PATCH", "/upstream/a/127.0.0.1:1", {"weight": 2}),
    ("PUT", "/routes", []),
    ("PUT", "/service/s", {"dns_service": "x"}),
    ("DELETE", "/service/s", None),
    ("POST", "/lua/script.a", b"code"),
    ("PUT", "/lua/script.a", None),
    ("POST", "/lua/script.a", b"other"),
    ("PUT", "/lua/script.a?canary=10", None),
    ("PUT", "/lua/script.a?rollback=1", None),
    ("DELETE", "/lua/script.a", None),
    ("DELETE", "/upstream/a", None),
]


def test_every_answer_tells_the_version(client: WebClient, actions: Actions) -> None:
    """It is the version that is shown, or that the write has made; each write with the right
    version is made, and with the one before it is not."""
    reads = ["/upstreams", "/upstream/file", "/routes", "/lua", "/python", "/status"]
    for number, (method, path, body) in enumerate(WRITES):
        for read in reads:
            assert client.call("GET", read).headers["ETag"] == f'"{number}"', read
        for wrong in (number - 1, number + 1, f"0{number}"):
            reply = client.call(method, path, body, If_Match=f'"{wrong}"')
            assert (reply.status, reply.headers["ETag"]) == (412, f'"{number}"')
            assert f"version {number}" in reply.json["msg"]
        reply = client.call(method, path, body, If_Match=f'"{number}"')
        assert (reply.status, reply.headers["ETag"]) == (200, f'"{number + 1}"'), reply.body
    assert actions.snapshot.version == len(WRITES)


def test_write_without_a_wait_tells_its_version(client: WebClient) -> None:
    """The store has given it its number by then."""
    assert client.call("PUT", "/routes?wait=0", []).headers["ETag"] == '"1"'


def test_failed_write_tells_the_version(
    client: WebClient, store: FakeStore, plane: FakePlane
) -> None:
    """It is the version after the failure: of a wrong body, of a store that refuses, of a
    plane that does not serve."""
    assert client.call("PUT", "/routes", []).status == 200
    for method, path, body, status in [
        ("PUT", "/routes", {}, 400),
        ("DELETE", "/upstream/none", None, 404),
        ("POST", "/routes", [], 405),
    ]:
        reply = client.call(method, path, body)
        assert (reply.status, reply.headers["ETag"]) == (status, '"1"')
    store.error = StoreError("full")
    reply = client.call("PUT", "/routes", [])
    assert (reply.status, reply.headers["ETag"]) == (503, '"1"')
    store.error, plane.error = None, RuntimeError("no")
    reply = client.call("PUT", "/routes", [])
    assert (reply.status, reply.headers["ETag"]) == (500, '"2"')


def test_strangers_are_told_no_version(actions: Actions) -> None:
    """They learn nothing else either."""
    client = WebClient(actions, tokens=[{"name": "a", "sha256": "0" * 64, "role": "admin"}])
    reply = client.call("PUT", "/routes")
    assert (reply.status, "ETag" in reply.headers) == (401, False)


def test_of_two_writers_one_wins(actions: Actions, store: FakeStore) -> None:
    """Both have read the same version, and both call before either is answered."""
    clients = [WebClient(actions) for _ in range(3)]
    store.held = []
    for number, client in enumerate(clients):
        client.request("PUT", f"/upstream/{number}", upstream(1), If_Match='"0"')
    store.held.pop(0)()
    store.held = None
    replies = [client.received() for client in clients]
    assert [reply and reply.status for reply in replies] == [200, 412, 412]
    assert [reply and reply.headers["ETag"] for reply in replies] == ['"1"'] * 3
    assert set(actions.upstreams()) == {"0", "file"}


def test_after_a_failed_writer_the_next_one_wins(actions: Actions, store: FakeStore) -> None:
    """The failed writer has changed nothing."""
    clients = [WebClient(actions) for _ in range(2)]
    store.held = []
    for number, client in enumerate(clients):
        client.request("PUT", f"/upstream/{number}", upstream(1), If_Match='"0"')
    store.error = StoreError("full")
    store.held.pop(0)()
    store.error = None
    store.held.pop(0)()
    replies = [client.received() for client in clients]
    assert [reply and reply.status for reply in replies] == [503, 200]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ('"1"', 200),
        ('"0", "1"', 200),
        ('"0" , ,\t"1",', 200),
        ('"a,b", "1"', 200),
        ("*", 200),
        (" * ", 200),
        ('"0"', 412),
        ('"0","2"', 412),
        ('"*"', 412),
        # If-Match compares strongly (RFC 9110 13.1.1).
        ('W/"1"', 412),
        ('W/"1", "1"', 200),
        ('""', 412),
        ("1", 400),
        ("", 400),
        (",", 400),
        ('"1', 400),
        ('"1" "2"', 400),
        ('"1" x', 400),
        ('w/"1"', 400),
        ('W/ "1"', 400),
        ('*, "1"', 400),
        ('"1", *', 400),
        ("'1'", 400),
        ('"' + "x" * 9000 + '"', 412),
        ("," * 9000 + '"1"', 200),
        ('"1"' + " " * 9000 + "x", 400),
    ],
)
def test_forms_of_the_header(client: WebClient, header: str, status: int) -> None:
    """Lists and ``*`` are understood; a value that is no entity tag is refused, because it may
    be meant as a guard."""
    assert client.call("PUT", "/routes", []).status == 200
    reply = client.call("PUT", "/upstream/file", upstream(1), If_Match=header)
    assert reply.status == status, reply.body
    if status == 400:
        assert reply.json["msg"].startswith('If-Match: expected * or "VERSION", got ')


def test_header_in_several_lines_is_a_list(client: WebClient) -> None:
    """RFC 9110 5.3."""
    lines = ["PUT /routes HTTP/1.1", "Host: localhost", "Content-Length: 2"]
    lines += ['If-Match: "7"', 'If-Match: "0"', "", "[]"]
    client.send("\r\n".join(lines).encode())
    reply = client.received()
    assert reply is not None
    assert reply.status == 200


ANY: list[tuple[str, str, Any, bool]] = [
    ("PUT", "/upstream/file", upstream(1), True),
    ("PUT", "/upstream/new", upstream(1), False),
    ("PATCH", "/upstream/file/127.0.0.1:8001", {"weight": 2}, True),
    ("PUT", "/routes", [], True),
    ("PUT", "/service/new", {"dns_service": "x"}, False),
    ("POST", "/python/script.a", b"code", False),
]


@pytest.mark.parametrize(("method", "path", "body", "there"), ANY)
def test_any_version_of_what_is_there(
    client: WebClient, method: str, path: str, body: Any, there: bool
) -> None:
    """``If-Match: *`` changes but does not make; ``If-None-Match: *`` makes but does not
    change."""
    wanted = client.call(method, path, body, If_Match="*")
    assert wanted.status == (200 if there else 412)
    unwanted = client.call(method, path, body, If_None_Match="*")
    assert unwanted.status == (412 if there else 200)


def test_message_is_one_line(client: WebClient) -> None:
    """This holds for any path."""
    for header in ("If_Match", "If_None_Match"):
        reply = client.call("PUT", "/upstream/a%0Ab", upstream(1), **{header: "*"})
        assert reply.status in (400, 412)
        assert "\n" not in reply.json["msg"]


def test_version_that_must_not_be(client: WebClient) -> None:
    """``If-None-Match`` compares weakly (RFC 9110 13.1.2)."""
    for header, status in [('"1"', 200), ('W/"1"', 412), ('"0", "1"', 412), ("x", 400)]:
        assert client.call("PUT", "/routes", [], If_None_Match=header).status == status


def test_questions_have_no_conditions(client: WebClient) -> None:
    """Every answer is whole, and never from a cache."""
    for header in ("If_Match", "If_None_Match"):
        conditions: Mapping[str, str] = {header: '"0"'}
        assert client.call("GET", "/routes", **conditions).body == b"[]\n"
        assert client.call("GET", "/routes", **{header: "nonsense"}).status == 200


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.text('*"W/, 01\t', max_size=12), min_size=1, max_size=3))
def test_header_of_any_form_ends(values: list[str]) -> None:
    """A condition holds, or does not, or is no list; a tag that is not there never holds."""
    snapshot = make_actions(FakeStore(), FakePlane()).snapshot
    try:
        Condition(values, (), ("routes",)).check(snapshot)
    except (ConfigError, PreconditionError):
        return
    assert '"0"' in ",".join(values) or ",".join(values).strip(" \t") == "*"
