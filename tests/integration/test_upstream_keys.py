"""Keys of upstreams and calls for single servers, with real servers behind slardar."""

from __future__ import annotations

import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import FileServer, Nginx, Slardar, curl
from tests.integration.sockets import wait_for


def server(program: FileServer | Nginx) -> dict[str, object]:
    return {"host": "127.0.0.1", "port": program.port}


@pytest.mark.parametrize("workers", ["0", "1"])
def test_upstream_that_is_not_public(
    tmp_path: Path, start: Start, files: FileServer, workers: str
) -> None:
    """By its name it does not exist, whoever has used it before; a route and a hook lead to
    it.  When it is public again, it is a Host like others."""
    slardar = start(Slardar(tmp_path, "--store", "memory:", "--workers", workers)).ready()
    inner = {"servers": [server(files)], "public": False}
    assert slardar.call("PUT", "/upstream/inner", inner)[0] == 200
    assert slardar.get("inner", "/who")[0] == 502
    routes = [{"host": "routed", "upstream": "inner"}]
    assert slardar.call("PUT", "/routes", routes)[0] == 200
    hook = 'def on_request(request):\n    request.upstream = "inner"\n'
    for method, body in (("POST", hook), ("PUT", None)):
        assert slardar.call(method, "/python/script.hooked", body)[0] == 200
    for host in ("routed", "hooked"):
        assert slardar.get(host, "/who") == (200, "http.server\n")
    assert slardar.get("inner", "/who")[0] == 502
    # Without routes a Host is looked up in another way.
    assert slardar.call("PUT", "/routes", [])[0] == 200
    assert slardar.get("hooked", "/who")[0] == 200
    assert slardar.get("inner", "/who")[0] == 502
    assert slardar.call("PUT", "/upstream/inner", {"public": True})[0] == 200
    assert slardar.get("inner", "/who") == (200, "http.server\n")
    assert slardar.call("PUT", "/upstream/inner", {"public": False})[0] == 200
    assert slardar.get("inner", "/who")[0] == 502


def test_502_is_tried_elsewhere(tmp_path: Path, start: Start) -> None:
    """This is the default, as in upyun/slardar's nginx.conf, and for idempotent requests only;
    without another server the client gets the 502."""
    text = 'default_type text/plain; location / {{ return {} "{}"; }}'
    bad = start(Nginx(tmp_path / "bad", text.format(502, "bad")))
    good = start(Nginx(tmp_path / "good", text.format(200, "good")))
    slardar = start(Slardar(tmp_path / "slardar", "--store", "memory:")).ready()
    slardar.call("PUT", "/upstream/a", {"servers": [server(bad), server(good)]})
    slardar.call("PUT", "/upstream/b", {"servers": [server(bad)]})
    slardar.call("PUT", "/upstream/c", {"servers": [server(bad), server(good)], "retry_on": []})
    assert Counter(slardar.get("a") for _ in range(6)) == {(200, "good"): 6}
    posts = Counter(curl(slardar.url(), "-H", "Host: a", "-d", "x")[0] for _ in range(6))
    assert posts == {502: 3, 200: 3}
    assert slardar.get("b") == (502, "bad")
    assert Counter(slardar.get("c") for _ in range(6)) == {(200, "good"): 3, (502, "bad"): 3}


def test_servers_come_and_go_under_requests(
    tmp_path: Path, start: Start, files: FileServer, nginx: Nginx
) -> None:
    """Each call is in effect when it is answered."""
    slardar = start(Slardar(tmp_path)).ready()
    slardar.call("PUT", "/upstream/a", {"servers": [server(files)]})

    def asked() -> Counter[str]:
        return Counter(slardar.get("a", "/who")[1].strip() for _ in range(6))

    assert asked() == {"http.server": 6}
    for _ in range(2):
        assert slardar.call("POST", f"/upstream/a/{nginx.address}", {"weight": 2})[0] == 200
        assert asked() == {"http.server": 2, "nginx": 4}
        assert slardar.call("DELETE", f"/upstream/a/{files.address}") == (200, {"status": 200})
        assert asked() == {"nginx": 6}
        assert slardar.call("DELETE", f"/upstream/a/{nginx.address}")[0] == 409
        assert slardar.call("POST", f"/upstream/a/{files.address}")[0] == 200
        assert slardar.call("DELETE", f"/upstream/a/{nginx.address}")[0] == 200
        assert asked() == {"http.server": 6}


def test_deadline_of_a_request(tmp_path: Path, start: Start, files: FileServer) -> None:
    """Servers that accept and never reply cost the client as much time as it has; a later
    edit of the upstream gives it more."""
    slardar = start(Slardar(tmp_path, "--store", "memory:")).ready()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dead = {"host": "127.0.0.1", "port": silent.getsockname()[1]}
        slardar.call("PUT", "/upstream/a", {"servers": [dead], "deadline": 0.5})
        began = time.monotonic()
        status, text = slardar.get("a")
        took = time.monotonic() - began
        assert status == 504
        assert "0.5 seconds" in text
        assert 0.5 <= took < 10
        slardar.call("PUT", "/upstream/a", {"servers": [server(files)], "deadline": 0.5})
        assert slardar.get("a", "/who") == (200, "http.server\n")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_retry_budget(tmp_path: Path, start: Start, workers: str) -> None:
    """Without one, every 502 is tried elsewhere; with none left the client gets it.  An edit
    does not reset the counters."""
    text = 'default_type text/plain; location / {{ return {} "{}"; }}'
    bad = start(Nginx(tmp_path / "bad", text.format(502, "bad")))
    good = start(Nginx(tmp_path / "good", text.format(200, "good")))
    slardar = start(
        Slardar(tmp_path / "slardar", "--store", "memory:", "--workers", workers)
    ).ready()
    body = {"servers": [server(bad), {**server(good), "backup": True}]}

    def counted(wanted: dict[str, int]) -> None:
        def shown() -> bool:
            status = slardar.call("GET", "/status")[1]
            return bool(status.get("upstreams", {}).get("a") == wanted)

        wait_for(shown, f"{wanted} in /status")

    slardar.call("PUT", "/upstream/a", {**body, "retry_budget": None})
    assert Counter(slardar.get("a") for _ in range(12)) == {(200, "good"): 12}
    counted({"retries": 12})
    slardar.call("PUT", "/upstream/a", {**body, "retry_budget": {"share": 0, "min": 0}})
    assert Counter(slardar.get("a") for _ in range(6)) == {(502, "bad"): 6}
    counted({"retries": 12, "retry_budget_exhausted": 6})
    slardar.call("DELETE", "/upstream/a")
    slardar.call("PUT", "/upstream/a", body)
    assert slardar.get("a") == (200, "good")
    counted({"retries": 1})


@pytest.mark.parametrize("workers", ["0", "1"])
def test_slow_server_is_hedged(
    tmp_path: Path, start: Start, files: FileServer, workers: str
) -> None:
    """A server that accepts and never replies costs milliseconds, and has not failed."""
    slardar = start(Slardar(tmp_path, "--store", "memory:", "--workers", workers)).ready()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        slow = {"host": "127.0.0.1", "port": silent.getsockname()[1]}
        fast = {**server(files), "backup": True}
        slardar.call("PUT", "/upstream/a", {"servers": [slow, fast], "hedge": {"after": 0.05}})
        for _ in range(3):
            began = time.monotonic()
            assert slardar.get("a", "/who") == (200, "http.server\n")
            assert time.monotonic() - began < 3
            accepted = silent.accept()[0]
            accepted.settimeout(10)
            while accepted.recv(4096):
                """The request, and then the end of its connection."""
            accepted.close()

        def is_counted() -> bool:
            status = slardar.call("GET", "/status")[1]
            first, second = (level[0] for level in status["cls:a"])
            return (
                status.get("upstreams") == {"a": {"retries": 3, "hedged": 3}}
                and (first["requests"], first["failures"], first["active"]) == (3, 0, 0)
                and (second["requests"], second["failures"], second["active"]) == (3, 0, 0)
            )

        wait_for(is_counted, "the counters")


def test_requests_wait_for_room(tmp_path: Path, start: Start) -> None:
    """The oldest begins when a request ends, and when an edit makes room; a client that
    leaves waits no more; one that finds no place gets 503."""
    slardar = start(Slardar(tmp_path, "--store", "memory:")).ready()
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(4) as threads:
        server.settimeout(20)
        # Heartbeats would be connections that the test must accept, too.
        body = {"queue": {"size": 2, "timeout": 20}, "keepalive": 0, "enable": False}

        def put(limit: int) -> None:
            one = {"host": "127.0.0.1", "port": server.getsockname()[1], "max_conns": limit}
            assert slardar.call("PUT", "/upstream/a", {**body, "servers": [one]})[0] == 200

        def counts(**wanted: int) -> None:
            def are() -> bool:
                found = slardar.call("GET", "/status")[1].get("upstreams", {}).get("a", {})
                return {name: found.get(name, 0) for name in wanted} == wanted

            wait_for(are, str(wanted))

        def taken(path: str) -> socket.socket:
            connection = server.accept()[0]
            connection.settimeout(20)
            assert connection.recv(4096).startswith(f"GET {path} ".encode())
            return connection

        def reply(connection: socket.socket, text: str) -> None:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n"
            connection.sendall((head + text).encode())
            connection.close()

        put(1)
        first = threads.submit(slardar.get, "a", "/1")
        one = taken("/1")
        leaving = socket.create_connection(("127.0.0.1", int(slardar.url().split(":")[2][:-1])))
        leaving.sendall(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
        counts(waiting=1)
        second = threads.submit(slardar.get, "a", "/2")
        counts(waiting=2)
        assert slardar.get("a", "/none")[0] == 503
        leaving.close()
        counts(waiting=1)
        third = threads.submit(slardar.get, "a", "/3")
        counts(waiting=2)
        reply(one, "one")
        two = taken("/2")
        put(2)
        three = taken("/3")
        reply(three, "three")
        reply(two, "two")
        assert [one.result(20) for one in (first, second, third)] == [
            (200, "one"),
            (200, "two"),
            (200, "three"),
        ]
        counts(waiting=0, queued=3, queue_refused=1)
