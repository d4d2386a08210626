"""The calls over HTTP: each call, its answer, and each error with its status."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress

from slardar.control.actions import Actions
from slardar.errors import ConflictError, StoreError
from tests.control.fakes import FakePlane, FakeStore, WebClient, make_actions, upstream

OK = b'{"status": 200}\n'


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def plane() -> FakePlane:
    return FakePlane()


@pytest.fixture
def actions(store: FakeStore, plane: FakePlane) -> Actions:
    return make_actions(store, plane, upstreams={"file": upstream(8001, 8002)})


@pytest.fixture
def client(actions: Actions) -> WebClient:
    return WebClient(actions)


def ports(actions: Actions, name: str) -> list[int]:
    """The ports of an upstream in the present configuration."""
    return [server.port for server in actions.snapshot.upstreams[name].servers]


def test_status(client: WebClient, actions: Actions) -> None:
    """The status object is JSON that must not be cached."""
    reply = client.call("GET", "/status")
    assert (reply.status, reply.json) == (200, actions.status())
    assert reply.body.endswith(b"}\n")
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["Server"] == "slardar"
    assert reply.headers["Cache-Control"] == "no-store"
    assert "Date" in reply.headers


def test_upstreams_are_shown_as_written(client: WebClient) -> None:
    """All are shown by name, and each alone."""
    one = client.call("GET", "/upstream/file").json
    assert [server["port"] for server in one["servers"]] == [8001, 8002]
    assert client.call("GET", "/upstreams").json == {"file": one}


def test_what_is_shown_can_be_sent_back(client: WebClient, actions: Actions) -> None:
    """This holds for every upstream, alone and from the list; tools of upyun/slardar find its
    servers where they look for them."""
    backup = {"host": "b", "port": 1, "backup": True}
    flat = upstream(1, mode="", x_team="web", **{"pass": "secret"})
    flat["servers"].append(backup)
    written: dict[str, Any] = {
        "flat": flat,
        "levels": {"cluster": [upstream(1), {**upstream(2), "try": 1}]},
        "named": {"cluster": {"x_dc": upstream(1), "two": upstream(2)}, "mode": "hash"},
    }
    for name, body in written.items():
        assert client.call("PUT", f"/upstream/{name}", body).status == 200
    before = actions.snapshot.fingerprint
    shown = client.call("GET", "/upstreams").json
    assert shown["flat"]["cluster"][0]["servers"] == shown["flat"]["servers"][:1]
    assert "secret" not in str(shown)
    for name, body in shown.items():
        assert client.call("GET", f"/upstream/{name}").json == body
        assert client.call("PUT", f"/upstream/{name}", body).status == 200
    assert actions.snapshot.fingerprint == before
    assert client.call("GET", "/upstreams").json == shown


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_upstream_is_set(client: WebClient, actions: Actions, method: str) -> None:
    """The short answer is spelled as in upyun/slardar."""
    reply = client.call(method, "/upstream/new", upstream(8003))
    assert (reply.status, reply.body) == (200, OK)
    assert ports(actions, "new") == [8003]


def test_upstream_is_set_by_text(client: WebClient, actions: Actions) -> None:
    """``curl -d`` sends the text with the content type of a form."""
    text = b"server 127.0.0.1:8089;server 127.0.0.1:8088;"
    kind = "application/x-www-form-urlencoded"
    assert client.call("POST", "/upstream/dyhost", text, Content_Type=kind).body == OK
    assert ports(actions, "dyhost") == [8089, 8088]


def test_wildcard_may_be_encoded(client: WebClient, actions: Actions) -> None:
    """``*`` may be written plainly or as ``%2A``."""
    assert client.call("PUT", "/upstream/%2A.a.com", upstream(1)).body == OK
    assert list(actions.upstreams()) == ["*.a.com", "file"]
    assert client.call("DELETE", "/upstream/*.a.com").body == OK
    assert list(actions.upstreams()) == ["file"]


def test_upstream_is_removed(client: WebClient) -> None:
    """The second call finds no upstream."""
    assert client.call("DELETE", "/upstream/file").body == OK
    reply = client.call("DELETE", "/upstream/file")
    assert (reply.status, reply.json) == (404, {"status": 404, "msg": "no upstream file"})


def test_server_is_changed(client: WebClient, actions: Actions) -> None:
    """The path has host and port; the colon may be encoded."""
    assert client.call("PATCH", "/upstream/file/127.0.0.1:8001", {"weight": 5}).body == OK
    assert client.call("PATCH", "/upstream/file/127.0.0.1%3A8002", {"state": "down"}).body == OK
    first, second = actions.snapshot.upstreams["file"].servers
    assert (first.weight, second.state) == (5, "down")


def test_servers_come_and_go(client: WebClient, actions: Actions) -> None:
    """Each needs one call, with the usual answers; also for IPv6 and names."""

    def keys() -> list[str]:
        return [server.key for server in actions.snapshot.upstreams["file"].servers]

    path = "/upstream/file"
    reply = client.call("POST", f"{path}/[::1]:80", {"weight": 3})
    assert (reply.status, reply.json) == (200, {"status": 200})
    reply = client.call("POST", f"{path}/B.example:81?receipt=1")
    assert (reply.status, reply.json["version"]) == (200, 2)
    assert keys() == ["127.0.0.1:8001", "127.0.0.1:8002", "[::1]:80", "b.example:81"]
    assert client.call("POST", f"{path}/[0::1]:80", {}).status == 409
    assert client.call("POST", f"{path}/[::1]:80?level=0", {}).status == 400
    assert client.call("POST", f"{path}/x:1?place=0", {}).status == 400
    assert client.call("POST", f"{path}/x", {}).status == 400
    assert client.call("POST", f"{path}/x:1", b"junk").status == 400
    assert client.call("POST", "/upstream/none/x:1", {}).status == 404
    assert client.call("DELETE", f"{path}/127.0.0.1:9").status == 404
    for key in keys()[:-1]:
        assert client.call("DELETE", f"{path}/{key}").status == 200
    assert client.call("DELETE", f"{path}/b.example:81").status == 409
    assert keys() == ["b.example:81"]
    levels = {"cluster": {"dc 1": upstream(1), "dc2": upstream(2)}}
    assert client.call("PUT", path, levels).status == 200
    assert client.call("POST", f"{path}/x:1", {}).status == 400
    assert client.call("POST", f"{path}/x:1?cluster=dc+1", {}).status == 200
    assert client.call("DELETE", f"{path}/x:1?cluster=dc2").status == 404
    assert client.call("DELETE", f"{path}/x:1?cluster=dc%201").status == 200


def test_routes(client: WebClient) -> None:
    """GET returns the routes of the PUT."""
    routes = [{"host": "a.com", "path": "/x", "upstream": "file"}]
    assert client.call("GET", "/routes").json == []
    assert client.call("PUT", "/routes", routes).body == OK
    assert client.call("GET", "/routes").json == routes


def test_receipt_says_what_the_workers_confirmed(client: WebClient) -> None:
    """It has the version, and each worker's version."""
    reply = client.call("PUT", "/upstream/a?receipt=1", upstream(1))
    assert reply.json == {"status": 200, "version": 1, "workers": {"worker-0": 1}}
    reply = client.call("DELETE", "/upstream/a?wait=0&receipt=1")
    assert reply.json == {"status": 200, "version": 2, "workers": {}}
    assert client.call("PUT", "/routes?receipt=0&wait=1", []).body == OK


def test_change_answers_when_it_is_served(client: WebClient, plane: FakePlane) -> None:
    """``wait=0`` does not wait until it is served."""
    plane.held = []
    client.request("PUT", "/upstream/a", upstream(1))
    assert client.received() is None
    plane.held.pop()()
    reply = client.received()
    assert reply is not None
    assert reply.body == OK
    assert client.call("PUT", "/upstream/a?wait=0", upstream(1)).body == OK
    assert len(plane.held) == 1


def test_calls_of_two_clients_are_both_made(actions: Actions, store: FakeStore) -> None:
    """They are made one after the other, each with its own version."""
    clients = [WebClient(actions), WebClient(actions)]
    store.held = []
    for port, client in enumerate(clients, 1):
        client.request("PUT", f"/upstream/a{port}?receipt=1", upstream(port))
    for version, client in enumerate(clients, 1):
        assert len(store.held) == 1
        store.held.pop()()
        reply = client.received()
        assert reply is not None
        assert reply.json["version"] == version
    assert list(actions.upstreams()) == ["a1", "a2", "file"]


def test_call_is_finished_without_its_caller(
    client: WebClient, actions: Actions, store: FakeStore
) -> None:
    """A change that was begun is made even if the client has gone."""
    store.held = []
    client.request("PUT", "/upstream/a", upstream(1))
    client.channel.connectionLost(None)
    store.held.pop()()
    assert ports(actions, "a") == [1]


def test_head_is_get_without_a_body(client: WebClient) -> None:
    """Its length is that of a GET."""
    length = client.call("GET", "/upstreams").headers["Content-Length"]
    client.request("HEAD", "/upstreams")
    head, _, rest = client.transport.value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Length: " + length.encode() in head
    assert rest == b""


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/page/none", None, 404, "no such path"),
        ("GET", "/nothing", None, 404, 'no such path: "/nothing"'),
        ("GET", "/metric", None, 404, "no such path"),
        ("GET", "/upstream", None, 404, "no such path"),
        ("PUT", "/upstream/", upstream(1), 404, "no such path"),
        ("GET", "/upstream/%ff", None, 404, "no such path"),
        ("GET", "/upstream/a/b/c", None, 404, "no such path"),
        ("GET", "http://localhost/status", None, 404, "no such path"),
        ("OPTIONS", "*", None, 404, "no such path"),
        ("GET", "/upstream/none", None, 404, "no upstream none"),
        ("PATCH", "/upstream/none/a:1", {"weight": 1}, 404, "no upstream none"),
        ("PATCH", "/upstream/file/a:1", {"weight": 1}, 404, "no server"),
        ("PATCH", "/upstream/file/a", {"weight": 1}, 400, "server: expected HOST:PORT"),
        ("PATCH", "/upstream/file/127.0.0.1:8001", {"port": 1}, 400, "port"),
        ("PATCH", "/upstream/file/127.0.0.1:8001", None, 400, "body: expected JSON"),
        ("PUT", "/upstream/a%20b", upstream(1), 400, "name: expected"),
        ("PUT", "/upstream/..%2Fa", upstream(1), 400, "name: expected"),
        ("PUT", "/upstream/" + "a" * 256, upstream(1), 400, "name: expected"),
        ("PUT", "/upstream/a", None, 400, "body: expected JSON, got nothing"),
        ("PUT", "/upstream/a", b'{"servers": [}', 400, "body: line 1, column 14: expected JSON"),
        ("PUT", "/upstream/a", b'{"mode": "a", "mode": "b"}', 400, '"mode" is given twice'),
        ("PUT", "/upstream/a", b'{"keepalive": NaN}', 400, "expected a number, got NaN"),
        ("PUT", "/upstream/a", b'{"a":' * 100_000, 400, "levels of nesting"),
        ("PUT", "/upstream/a", b"nonsense", 400, "expected server HOST:PORT"),
        ("PUT", "/upstream/a?weit=0", upstream(1), 400, 'unknown parameter "weit"'),
        ("PUT", "/upstream/a?wait=no", upstream(1), 400, "wait: expected 0 or 1"),
        ("GET", "/status?wait=0", None, 400, 'unknown parameter "wait"'),
        ("PUT", "/routes", {}, 400, "routes: expected a list"),
        ("PUT", "/routes", [{"upstream": "a", "path": "x"}], 400, "routes[0].path: expected"),
    ],
)
def test_wrong_call_changes_nothing(
    client: WebClient,
    store: FakeStore,
    method: str,
    path: str,
    body: Any,
    status: int,
    message: str,
) -> None:
    """The body also has the status, beside one line with the reason."""
    reply = client.call(method, path, body)
    assert reply.status == status
    assert reply.json["status"] == status
    assert message in reply.json["msg"]
    assert reply.headers["Content-Type"] == "application/json"
    assert store.changes == []
    assert client.call("GET", "/routes").status == 200, "the connection is spoilt"


@pytest.mark.parametrize(
    ("method", "path", "body", "wanted"),
    [
        (
            "PUT",
            "/upstream/a",
            b'{"servers": [{"host": "a b", "port": 80, "port": 81}], "mode": NaN, "typ": 1}',
            ["given twice", "got NaN", "servers[0].host", "upstreams.a.typ"],
        ),
        (
            "PATCH",
            "/upstream/a/127.0.0.1:8001",
            b'{"weight": 1, "weight": 2, "max_fails": -1, "colour": "red"}',
            ["given twice", "max_fails", "colour"],
        ),
        (
            "PUT",
            "/routes",
            b'[{"upstream": "a", "upstream": "b", "path": "x", "hots": 1}]',
            ["given twice", "routes[0].path", "routes[0].hots"],
        ),
        ("PATCH", "/upstream/none/a:1", b'{"weight": 1, "weight": 2}', ["given twice"]),
    ],
)
def test_mistakes_of_the_text_hide_none_of_the_object(
    client: WebClient, method: str, path: str, body: bytes, wanted: list[str]
) -> None:
    """One answer has the mistakes of JSON and those of the model."""
    assert client.call("PUT", "/upstream/a", upstream(8001)).status == 200
    reply = client.call(method, path, body)
    assert reply.status == 400
    for text in wanted:
        assert text in reply.json["msg"]


def test_every_mistake_is_told(client: WebClient) -> None:
    """All are joined into one line."""
    body = upstream(0, mode="lost", keepalive="x")
    message = client.call("PUT", "/upstream/a", body).json["msg"]
    assert "upstreams.a.servers[0].port: expected" in message
    assert "; upstreams.a.keepalive: expected" in message


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/status", "GET, HEAD"),
        ("DELETE", "/upstreams", "GET, HEAD"),
        ("PATCH", "/upstream/a", "GET, POST, PUT, DELETE, HEAD"),
        ("OPTIONS", "/upstream/a", "GET, POST, PUT, DELETE, HEAD"),
        ("GET", "/upstream/a/b:1", "PATCH, POST, DELETE"),
        ("HEAD", "/upstream/a/b:1", "PATCH, POST, DELETE"),
        ("POST", "/routes", "GET, PUT, DELETE, HEAD"),
        ("get", "/status", "GET, HEAD"),
    ],
)
def test_wrong_method_is_told_the_right_ones(
    client: WebClient, method: str, path: str, allowed: str
) -> None:
    """The reply is 405 with ``Allow``."""
    client.request(method, path)
    head = client.transport.value().partition(b"\r\n\r\n")[0].decode()
    assert head.startswith("HTTP/1.1 405 ")
    assert f"Allow: {allowed}" in head.split("\r\n")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (StoreError("disk full"), 503, "disk full"),
        (ConflictError("at version 5"), 409, "at version 5"),
        (RuntimeError("secret"), 500, "internal error; the log says more"),
    ],
)
def test_store_failure_is_told(
    client: WebClient,
    actions: Actions,
    store: FakeStore,
    error: Exception,
    status: int,
    message: str,
) -> None:
    """The store's errors have their reason; details of a bug stay in the log."""
    store.error = error
    reply = client.call("PUT", "/upstream/a", upstream(1))
    assert (reply.status, reply.json) == (status, {"status": status, "msg": message})
    assert list(actions.upstreams()) == ["file"]


def test_plane_failure_is_told(client: WebClient, plane: FakePlane) -> None:
    """The answer says that the change is stored all the same."""
    plane.error = RuntimeError("lost")
    reply = client.call("PUT", "/upstream/a", upstream(1))
    assert reply.status == 500
    assert "stored as version 1" in reply.json["msg"]
    assert client.call("PUT", "/upstream/a?wait=0", upstream(1)).body == OK


# Who may call.


def client_with_tokens(actions: Actions) -> WebClient:
    """A client of a control channel with an admin's and a reader's token."""
    tokens = [
        {"name": name, "role": role, "sha256": hashlib.sha256(name.encode()).hexdigest()}
        for name, role in (("boss", "admin"), ("guest", "read"))
    ]
    return WebClient(actions, tokens=tokens)


def test_tokens_are_needed_for_every_call(actions: Actions) -> None:
    """This includes paths that do not exist; the answer names the scheme."""
    client = client_with_tokens(actions)
    for path in ("/status", "/nothing"):
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            reply = client.call("GET", path, **headers)
            assert (reply.status, reply.json["status"]) == (401, 401)
            assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert client.call("GET", "/status", Authorization="Bearer boss", Host="any.name").status == 200


def test_role_read_changes_nothing(actions: Actions, store: FakeStore) -> None:
    """A reader sees everything; an admin's change is recorded under the token's name."""
    client = client_with_tokens(actions)
    body = upstream(1)
    assert client.call("GET", "/upstreams", Authorization="Bearer guest").status == 200
    for method in ("PUT", "POST", "DELETE", "PATCH", "OPTIONS"):
        reply = client.call(method, "/upstream/a", body, Authorization="Bearer guest")
        assert reply.status == 403
        assert "admin" in reply.json["msg"]
    assert store.changes == []
    assert client.call("PUT", "/upstream/a", body, Authorization="Bearer boss").body == OK
    assert store.changes[0].who == "boss"


def test_without_tokens_the_channel_is_on_record(client: WebClient, store: FakeStore) -> None:
    """The recorded name is ``http``."""
    client.call("PUT", "/upstream/a", upstream(1))
    assert store.changes[0].who == "http"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.com"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Host": "evil.com:1995"},
    ],
)
def test_browsers_do_not_carry_other_sites_calls(
    client: WebClient, store: FakeStore, headers: dict[str, str]
) -> None:
    """Reads and changes get 403."""
    assert client.call("GET", "/status", **headers).status == 403
    assert client.call("DELETE", "/upstream/file", **headers).status == 403
    assert store.changes == []


def test_own_page_may_call(client: WebClient) -> None:
    """The dashboard's requests have the same origin."""
    headers = {"Origin": "http://127.0.0.1:1995", "Sec_Fetch_Site": "same-origin"}
    assert client.call("PUT", "/upstream/a", upstream(1), **headers).body == OK


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /upstreams HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /upstreams HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /upstreams HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200"),
    ],
)
@pytest.mark.parametrize("address", [None, UNIXAddress(None)])
def test_host_must_be_there(actions: Actions, head: bytes, status: bytes, address: Any) -> None:
    """RFC 9112, section 3.2: over every kind of socket, and for the dashboard, too."""
    client = WebClient(actions, address)
    client.send(head)
    assert client.transport.value().split(b" ")[1] == status
    assert (b"expected a Host header" in client.transport.value()) == (status == b"400")
