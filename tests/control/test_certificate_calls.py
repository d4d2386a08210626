"""Certificates that are set through the control channel, and what is told of all of them."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from slardar.control import stored_pairs
from slardar.control.actions import Actions
from slardar.control.certificates import checked_pair
from slardar.control.changes import Next
from slardar.control.hooks import local_time
from slardar.control.operations import OPERATIONS
from slardar.errors import NotFoundError
from slardar.events import EventLog
from slardar.model.certificate import described
from slardar.model.change import Value
from slardar.model.tls import Challenges, Keyring, Pair
from tests.certificates import Authority
from tests.control.fakes import (
    NOW,
    FakePlane,
    FakeStore,
    WebClient,
    make_actions,
    result_of,
    upstream,
)

NAME = "www.example.com"
PATH = f"/certificate/{NAME}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def body_of(authority: Authority, *names: str, **how: Any) -> dict[str, str]:
    """What a call sends for a new certificate of these names."""
    cert, key = authority.issue("a", names or (NAME,), **how)
    return {"cert": cert.read_text(), "key": key.read_text()}


def of_file(path: str, body: dict[str, str]) -> Pair:
    return checked_pair(path, body["cert"], body["key"])


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def plane() -> FakePlane:
    return FakePlane()


@pytest.fixture
def actions(store: FakeStore, plane: FakePlane) -> Actions:
    """With an endpoint for TLS."""
    return make_actions(store, plane, listen=["tls:8443"])


@pytest.fixture
def client(actions: Actions) -> WebClient:
    return WebClient(actions)


def test_certificate_is_set_shown_and_removed(
    authority: Authority, actions: Actions, client: WebClient, plane: FakePlane
) -> None:
    """The plane has it before the call is answered; what is shown is all but the key."""
    body = body_of(authority, NAME, "*.example.com")
    reply = client.call("PUT", PATH, body)
    assert (reply.status, reply.json, reply.headers["ETag"]) == (200, {"status": 200}, '"1"')
    assert "X-Slardar-Warning" not in reply.headers
    pair = plane.snapshot.certificates[NAME]
    assert (pair.cert, pair.key, pair.source) == (body["cert"], body["key"], f"store: {NAME}")
    about = described(body["cert"])
    shown = {
        "name": NAME,
        "names": [NAME, "*.example.com"],
        "kind": "ec",
        "issuer": "CN=test ca",
        "subject": f"CN={NAME}",
        "serial": about.serial,
        "sha256": about.sha256,
        "not_before": local_time(about.not_before),
        "expires": local_time(about.expires),
        "from": "store",
        "in_use": True,
    }
    assert client.call("GET", PATH).json == shown
    assert client.call("GET", "/certificates").json == [shown]
    reply = client.call("PUT", PATH + "?receipt=1", body_of(authority))
    assert reply.json == {"status": 200, "version": 2, "workers": {"worker-0": 2}}
    assert client.call("DELETE", PATH).status == 200
    assert plane.snapshot.certificates == {}
    assert actions.held.certificates == {}
    for method in ("GET", "DELETE"):
        assert client.call(method, PATH).json == {
            "status": 404,
            "msg": f"no certificate {NAME} of the store",
        }


def test_conditions_hold(authority: Authority, client: WebClient) -> None:
    """As for other things."""
    body = body_of(authority)
    assert client.call("PUT", PATH, body, If_Match="*").status == 412
    assert client.call("PUT", PATH, body, If_Match='"0"').status == 200
    assert client.call("PUT", PATH, body, If_None_Match="*").status == 412
    assert client.call("DELETE", PATH, If_Match='"0"').status == 412
    assert client.call("DELETE", PATH, If_Match="*").status == 200


PRIVATE = "UFJJVkFURQ"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cert": "x"}, "expected a certificate in PEM in cert"),
        ({"key": PRIVATE}, "expected the key of cert in key in PEM"),
        ({"cert": 5}, "expected an object with cert and key, both in PEM"),
        ({"more": PRIVATE}, "expected an object with cert and key, both in PEM, and nothing else"),
        ({PRIVATE: 1}, "expected an object with cert and key, both in PEM, and nothing else"),
        ({"key": PRIVATE * 30000}, "expected at most 262144 characters in cert and in key"),
        ([PRIVATE], "expected an object with cert and key, both in PEM, and nothing else"),
        (PRIVATE, "expected an object with cert and key, both in PEM, and nothing else"),
        (f'{{"{PRIVATE}": 1, "{PRIVATE}": 2}}'.encode(), "expected an object with cert and key"),
        (f'{{"key": "{PRIVATE}'.encode(), "expected JSON"),
        (f'{{"key": "{PRIVATE}\\ud800"}}'.encode(), "expected an object with cert and key"),
        (PRIVATE.encode() + b"\xff", "expected UTF-8"),
        ("other", "the key in key is not that of the certificate in cert"),
        ("expired", "the certificate in cert expired on "),
        ("to come", "the certificate in cert begins on "),
        ("weak", "the key in key has 1024 bits, expected 2048 at least"),
    ],
)
def test_pair_that_is_refused(
    authority: Authority, client: WebClient, plane: FakePlane, change: Any, reason: str
) -> None:
    """With the reason in one line that quotes nothing of the body; the one in service stays."""
    good = body_of(authority)
    client.call("PUT", PATH, good)
    body: Any = change
    if isinstance(change, dict):
        body = {**good, **change}
    elif change == "other":
        body = {**body_of(authority), "cert": good["cert"]}
    elif change == "expired":
        body = body_of(authority, begins=timedelta(days=-2), ends=timedelta(days=-1))
    elif change == "to come":
        body = body_of(authority, begins=timedelta(hours=12))
    elif change == "weak":
        body = body_of(authority, rsa_bits=1024)
    reply = client.call("PUT", PATH, body)
    assert reply.status == 400
    assert reason in reply.json["msg"]
    assert PRIVATE not in reply.json["msg"]
    assert "\n" not in reply.json["msg"]
    assert plane.snapshot.certificates[NAME].cert == good["cert"]
    assert client.call("PUT", "/certificate/a%2Fb", good).status == 400


def test_answer_says_why_nobody_is_shown_a_certificate(
    authority: Authority, actions: Actions, client: WebClient, plane: FakePlane
) -> None:
    """Because there is no TLS, or because another one counts; that one is told of, too."""
    later = of_file("later.pem", body_of(authority, ends=timedelta(days=9)))
    actions.certificates.keyring = Keyring((later,))
    reply = client.call("PUT", PATH, body_of(authority))
    assert reply.headers["X-Slardar-Warning"] == (
        "not in use: for each of its names another certificate expires later"
    )
    found = client.call("GET", "/certificates").json
    assert [(one["name"], one["from"], one["in_use"]) for one in found] == [
        ("later.pem", "later.pem", True),
        (NAME, "store", False),
    ]
    # A name of its own, or another kind of key.
    for body in (body_of(authority, NAME, "b.example"), body_of(authority, rsa_bits=2048)):
        assert "X-Slardar-Warning" not in client.call("PUT", PATH, body).headers
    plain = WebClient(make_actions(FakeStore(), FakePlane(), listen=["tcp:8080"]))
    reply = plain.call("PUT", PATH, body_of(authority))
    assert reply.headers["X-Slardar-Warning"].startswith("no endpoint of listen has tls:")


def test_token_for_some_names(authority: Authority, actions: Actions) -> None:
    """It may set and remove a certificate of its own hosts under a name of its own; and it sees no
    others."""
    digest = hashlib.sha256(b"t").hexdigest()
    token = {"name": "team", "role": "admin", "sha256": digest, "names": ["*.a.example"]}
    team = WebClient(actions, tokens=[token])
    anyone = WebClient(actions)
    bearer = {"Authorization": "Bearer t"}
    mine, path = body_of(authority, "x.a.example"), "/certificate/x.a.example"
    foreign = body_of(authority, "x.a.example", "b.example")
    assert team.call("PUT", "/certificate/b.example", mine, **bearer).status == 403
    reply = team.call("PUT", path, foreign, **bearer)
    assert (reply.status, reply.json["msg"]) == (
        403,
        "expected a token for every host name of the certificate",
    )
    assert team.call("PUT", path, body_of(authority, "*.example"), **bearer).status == 403
    assert team.call("PUT", path, mine, **bearer).status == 200
    assert team.call("GET", path, **bearer).status == 200
    # What somebody else has put there for other hosts, too, is not the team's.
    assert anyone.call("PUT", path, foreign).status == 200
    for method, body in (("PUT", mine), ("DELETE", None), ("GET", None)):
        assert team.call(method, path, body, **bearer).status == 403
    assert team.call("GET", "/certificates", **bearer).json == []
    assert "certificates" not in team.call("GET", "/status", **bearer).json
    assert anyone.call("PUT", path, mine).status == 200
    assert len(team.call("GET", "/certificates", **bearer).json) == 1
    assert team.call("DELETE", path, **bearer).status == 200


def test_history_tells_of_certificates_without_keys(
    authority: Authority, actions: Actions, client: WebClient
) -> None:
    """Who has set it, names, expiry and hash.  A way back leaves the present ones."""
    first, second = body_of(authority), body_of(authority, NAME, "b.example")
    client.call("PUT", "/upstream/u", upstream(1))
    client.call("PUT", PATH, first)
    client.call("PUT", PATH, second)
    client.call("DELETE", PATH)
    removed, changed, made, *_ = client.call("GET", "/history").json
    assert (made["kind"], made["name"], made["who"]) == ("certificate", NAME, "http")
    about = described(second["cert"])
    kept = {
        "names": [NAME, "b.example"],
        "expires": local_time(about.expires),
        "sha256": about.sha256,
    }
    assert (changed["new"], changed["old"]) == (kept, made["new"])
    assert '+ "b.example"' in changed["diff"]
    hashes = [f'"{one}"' for one in (made["new"]["sha256"], about.sha256)]
    assert f"sha256: {' -> '.join(hashes)}" in changed["diff"]
    assert (removed["old"], removed["new"]) == (kept, None)
    client.call("PUT", PATH, first)
    pair = actions.snapshot.certificates[NAME]
    client.call("PUT", "/upstream/u", upstream(2))
    for version in (3, 1, 0):
        assert client.call("POST", f"/rollback/{version}").status == 200
        assert actions.snapshot.certificates == {NAME: pair}
        assert actions.held.certificates[NAME]["cert"] == first["cert"]
    assert "PRIVATE" not in json.dumps(client.call("GET", "/history").json)


def test_value_of_the_store_that_cannot_be_used(
    authority: Authority, store: FakeStore, plane: FakePlane
) -> None:
    """It is left out, told of, and can be replaced; so can one that expires in the store."""
    good = body_of(authority)
    old = body_of(authority, begins=timedelta(days=-2), ends=timedelta(days=-1))
    broken = {"cert": good["cert"], "key": PRIVATE}
    values = {NAME: broken, "old": old, "a b": good, "good": {**good, "from": "acme", "x": 1}}
    store.state = replace(store.state, certificates=values)
    with capturedLogs() as logged:
        actions = make_actions(store, plane, listen=["tls:8443"])
    assert list(plane.snapshot.certificates) == ["good"]
    refused = ["a b", "old", NAME]
    assert sorted(actions.failed) == [f"certificates.{name}" for name in refused]
    assert PRIVATE not in repr([formatEvent(event) for event in logged])
    client = WebClient(actions)
    status = client.call("GET", "/status").json["certificates"]
    assert (status["acme"], status["store"], len(status["refused"])) == (1, 0, 3)
    assert client.call("GET", "/certificate/good").json["from"] == "acme"
    reply = client.call("GET", "/certificate/old")
    assert reply.status == 404
    assert "expired on" in reply.json["msg"]
    assert client.call("PUT", PATH, good).status == 200
    assert client.call("DELETE", "/certificate/old").status == 200
    assert list(actions.failed) == ["certificates.a b"]


def test_pairs_that_stay_are_not_read_again(
    authority: Authority, store: FakeStore, plane: FakePlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither with a change of something else, nor with one of another certificate; what the store
    holds in other objects is the same."""
    body = body_of(authority)
    store.state = replace(store.state, certificates={f"c{number}": body for number in range(5)})
    actions = make_actions(store, plane, upstreams={"u": upstream(1)})
    known = dict(plane.snapshot.certificates)
    read: list[str] = []
    parse = stored_pairs.parse_pair

    def noted(name: str, *rest: Any, **more: Any) -> Pair:
        read.append(name)
        return parse(name, *rest, **more)

    monkeypatch.setattr(stored_pairs, "parse_pair", noted)
    result_of(actions.set_upstream("u", upstream(2), "ops"))
    others = json.loads(json.dumps({**store.state.certificates}))
    state = replace(actions.held, certificates=others)
    desired = actions.read_state(actions.settings, state)
    assert desired.certified.certificates is plane.snapshot.certificates
    others["c1"]["x"] = 1
    desired = actions.read_state(actions.settings, state)
    assert read == ["c1"]
    found = desired.certified.certificates
    assert [name for name, pair in found.items() if pair is not known[name]] == ["c1"]
    snapshot = desired.snapshot_after(actions.snapshot, 9)
    assert snapshot.certificates is found
    assert snapshot.fingerprint == actions.snapshot.fingerprint


def test_fingerprint_has_the_certificates(authority: Authority, actions: Actions) -> None:
    """In whatever order they came; it is the old one again when they are gone."""
    bodies = [body_of(authority), body_of(authority, "b.example")]

    def put(name: str, body: dict[str, str]) -> str:
        pair = actions.certificates.check(name, body)
        result_of(actions.certificates.set(name, pair, "ops"))
        return actions.snapshot.fingerprint

    before = actions.snapshot.fingerprint
    seen = [put("a", bodies[0]), put("b", bodies[1]), put("a", bodies[1])]
    assert len({before, *seen}) == 4
    other = make_actions(FakeStore(), FakePlane())
    for name in "ba":
        pair = other.certificates.check(name, bodies[1])
        result_of(other.certificates.set(name, pair, "ops"))
    assert other.snapshot.fingerprint == seen[-1]
    again = make_actions(FakeStore(actions.held), FakePlane())
    assert again.snapshot.fingerprint == seen[-1]
    for name in "ab":
        result_of(actions.certificates.remove(name, "ops"))
    assert actions.snapshot.fingerprint == before


def test_status_and_metrics(authority: Authority, actions: Actions, client: WebClient) -> None:
    """How many there are, which one expires next, and what was refused."""
    assert "certificates" not in client.call("GET", "/status").json
    soon = of_file('/etc/so"on.pem', body_of(authority, "a.example", ends=timedelta(hours=1)))
    actions.certificates.keyring = Keyring((soon,))
    actions.certificates.refused = ["tls.certificates[1]: no"]
    client.call("PUT", PATH, body_of(authority))
    status = client.call("GET", "/status").json["certificates"]
    assert status == {
        "files": 1,
        "store": 1,
        "acme": 0,
        "expired": 0,
        "next_expiry": {"name": '/etc/so"on.pem', "expires": local_time(soon.expires)},
        "refused": ["tls.certificates[1]: no"],
    }
    lines = client.call("GET", "/metrics").body.decode().splitlines()
    found = [line for line in lines if line.startswith("slardar_certificate_expiry_seconds{")]
    pair = actions.snapshot.certificates[NAME]
    assert found == [
        f'slardar_certificate_expiry_seconds{{name="/etc/so\\"on.pem"}} {soon.expires}',
        f'slardar_certificate_expiry_seconds{{name="{NAME}"}} {pair.expires}',
    ]
    assert actions.certificates.summary(pair.expires)["expired"] == 2


def test_change_is_logged_and_told(authority: Authority, actions: Actions) -> None:
    """With the hosts and the day, and as an event."""
    told: list[Any] = []
    actions.publish = told.append
    pair = actions.certificates.check(NAME, body_of(authority))
    with capturedLogs() as logged:
        result_of(actions.certificates.set(NAME, pair, "ops"))
        result_of(actions.certificates.remove(NAME, "ops"))
    lines = [formatEvent(event) for event in logged]
    day = local_time(pair.expires)[:10]
    assert lines == [
        f"version 1: certificates.{NAME} set by ops: for {NAME}, until {day}",
        f"version 2: certificates.{NAME} removed by ops",
    ]
    assert [(one.kind, one.name, one.version) for one in told] == [
        ("certificate", NAME, 1),
        ("certificate", NAME, 2),
    ]


def test_what_cas_are_answered_outlives_other_changes(actions: Actions) -> None:
    """A new reading of the whole does not take it away."""
    order = {"node": "n", "until": 2**39, "answer": {"token": "t", "text": "x"}}
    value = Value("acme", "order/a.example", order)
    challenges = Challenges({"t": "x"})
    snapshot = actions.snapshot.with_challenges(challenges)
    result_of(actions.change(lambda: Next([value], snapshot), "acme"))
    result_of(actions.set_upstream("u", upstream(1), "ops"))
    result_of(ensureDeferred(actions.history.roll_back(0, "ops")))
    assert actions.snapshot.challenges == challenges


def test_certificate_that_is_not_there(actions: Actions) -> None:
    with pytest.raises(NotFoundError):
        actions.certificates.one("none")


def test_no_answer_has_a_private_key(authority: Authority) -> None:
    """Of no operation, whether it is carried out or refused; nor do the log, the history and the
    fingerprint, nor a traceback of a change that fails."""
    body = body_of(authority, rsa_bits=2048)
    # Whoever shows one of the lines of the key has shown a part of it.
    secret = body["key"].strip().splitlines()[1:-1]
    other = body_of(authority)
    assert len(secret) > 20
    plane = FakePlane()
    store = FakeStore()
    actions = make_actions(store, plane, listen=["tls:8443"])

    actions.events = EventLog(Clock(), lambda: NOW)
    actions.publish = actions.events.publish
    client = WebClient(actions)
    texts: list[str] = []

    def call(method: str, path: str, content: Any = None) -> None:
        reply = client.call(method, path, content)
        texts.append(f"{reply.headers} {reply.body.decode()}")

    encoded = b64encode(body["key"].encode()).decode()
    with capturedLogs() as logged:
        call("PUT", PATH, body)
        call("PUT", PATH, {**body, "cert": other["cert"]})
        call("PUT", "/certificate/b", {**body, "key": body["key"][:-40]})
        call("PUT", "/certificate/c", body["key"].encode())
        call("PUT", "/certificate/c", json.dumps(body).encode()[:-9])
        for operation in OPERATIONS:
            if operation.is_stream or operation.name == "remove-certificate":
                continue
            path = operation.path.replace("NAME", NAME).replace("LANGUAGE", "lua")
            path = path.replace("VERSION", "1").replace("ID", "x").replace("KEY", "k")
            path = path.replace("SERVER", "a:1")
            for method in operation.methods:
                sent = {"x": 1} if operation.body and method != "GET" else None
                call(method, path, body if operation.name == "set-certificate" else sent)
        plane.error = RuntimeError("no")
        call("PUT", PATH, body)
        plane.error = None
        store.error = RuntimeError("no")
        call("PUT", PATH, body)
        store.error = None
        texts.append(repr((actions.snapshot.certificates, actions.held, store.state)))
        call("DELETE", PATH)
        for number in range(4):
            call("GET", f"/history/{number}")
        call("GET", "/history")
    for event in logged:
        texts.append(formatEvent(event) or "")
        failure = event.get("log_failure")
        if failure is not None:
            texts.append(failure.getTraceback())
            texts.append(repr([frame[3:] for frame in failure.frames]))
    texts += [repr(entry) for entry in actions.events._ring if entry is not None]
    texts += [repr(plane.applied), repr(store.changes), actions.snapshot.fingerprint]
    text = "\n".join(texts)
    assert "set-certificate" in text  # OpenAPI is among the answers
    assert [line for line in [*secret, encoded] if line in text] == []
