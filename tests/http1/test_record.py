"""Every request ends once, with one record that tells what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from slardar.hooks.script import HookFailure
from slardar.http1.record import RequestRecord
from slardar.testing.playbook import FakeObserver, Playbook
from tests.http1.lines import (
    CHUNKED_OK,
    CONTINUE,
    GET,
    OK,
    SWITCHING,
    UPGRADE,
    body_of,
    get,
    post,
    post_chunked,
    reply,
)
from tests.http1.test_hooks import rejecting, runner

LARGE = reply(b"x" * 300000)


@dataclass
class Ending:
    """A way for a request to end; ``play`` brings it to its end."""

    name: str
    play: Callable[[Playbook], Any]
    status: int
    by: str
    error: str = ""
    #: The failure or the status of each attempt.
    attempts: list[str | int] = field(default_factory=list)
    upstream: str = "fake"
    settings: dict[str, Any] = field(default_factory=dict)
    servers: int = 1
    hooks: Callable[[], Any] | None = None
    #: Whether a hook answered or failed.
    by_hook: bool = False


def served(play: Playbook) -> None:
    play.client_sends(GET)
    play.origin_sends(OK)


def says(data: bytes) -> Callable[[Playbook], None]:
    """The client sends this, and nothing else happens."""
    return lambda play: play.client_sends(data)


def answered(data: bytes) -> Callable[[Playbook], None]:
    """The server answers with this, in pieces, and closes its side."""

    def act(play: Playbook) -> None:
        play.client_sends(GET)
        for start in range(0, len(data), 50000):
            play.origin_sends(data[start : start + 50000])
            play.client_drains()
        play.origin_ends()

    return act


def client_leaves(play: Playbook) -> None:
    play.client_sends(GET)
    play.client_leaves()


def client_leaves_within_reply(play: Playbook) -> None:
    play.client_sends(GET)
    play.origin_sends(LARGE[:1000])
    play.client_leaves()


def client_stalls(play: Playbook) -> None:
    play.client_sends(GET)
    play.client.stall()
    play.origin_sends(LARGE)
    play.pass_time(61)


def retried(play: Playbook) -> None:
    play.client_sends(GET)
    play.origin_breaks()
    play.origin_sends(OK)


def status_retried(play: Playbook) -> None:
    play.selection.failed_statuses = frozenset((503,))
    play.client_sends(GET)
    play.origin_sends(reply(b"", status="503 No"))
    play.origin_sends(OK)


def stale(play: Playbook) -> None:
    served(play)
    play.records.clear()
    play.host.began.clear()
    play.client_sends(GET)
    play.origin_ends()
    play.origin_sends(OK)


def broken(play: Playbook) -> None:
    play.client_sends(GET)
    play.origin_sends(reply(b"hello")[:-2])
    play.origin_breaks()


def too_slow(play: Playbook) -> None:
    play.client_sends(GET)
    play.pass_time(61)


def not_accepted(play: Playbook) -> None:
    play.accepting = False
    play.client_sends(GET)
    play.pass_time(4)


def body_breaks_off(play: Playbook) -> None:
    play.client_sends(post(b"0123456789")[:-3])
    play.client_ends()


def tunnel(play: Playbook) -> None:
    play.client_sends(UPGRADE)
    play.origin_sends(SWITCHING)
    play.client_sends(b"ping")
    play.origin_sends(b"pong!")
    play.client_ends()
    play.origin_ends()
    play.pass_time(10)


def late_head(play: Playbook) -> None:
    play.client_sends(GET[:10])
    play.pass_time(11)


def closed(play: Playbook) -> None:
    play.client_sends(GET)
    play.connection.close()


def fails(*_: Any) -> None:
    raise HookFailure("broken")


NO_LENGTH = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"
LOST = "Connection reset by peer"

ENDINGS = [
    Ending("a small reply", served, 200, "server", attempts=[200]),
    Ending("a large reply", answered(LARGE), 200, "server", attempts=[200]),
    Ending("chunks", answered(CHUNKED_OK + b"2\r\nhi\r\n"), 200, "server", attempts=["error"],
           error="the server closed the connection within its reply"),
    Ending("whole chunks", answered(CHUNKED_OK + b"2\r\nhi\r\n0\r\n\r\n"), 200, "server",
           attempts=[200]),
    Ending("until the end", answered(NO_LENGTH + b"hi"), 200, "server", attempts=[200]),
    Ending("an error of the server's", answered(reply(b"", status="500 No")), 500, "server",
           attempts=[500]),
    Ending("interim replies", answered(CONTINUE + OK), 200, "server", attempts=[200]),
    Ending("retried", retried, 200, "server", attempts=["error", 200], servers=2),
    Ending("retried for its status", status_retried, 200, "server", attempts=["status", 200],
           servers=2),
    Ending("stale", stale, 200, "server", attempts=["stale", 200]),
    Ending("a tunnel", tunnel, 101, "server", attempts=[101]),
    Ending("no upstream", says(GET), 502, "slardar", "no upstream for host 'a.test'",
           upstream="", servers=0),
    Ending("no reply", too_slow, 504, "slardar", "the server did not reply in time",
           attempts=["timeout"]),
    Ending("no connection", not_accepted, 504, "slardar",
           "the server did not accept the connection in time", attempts=["timeout"]),
    Ending("a broken reply", broken, 200, "server", LOST, attempts=["error"]),
    Ending("no HTTP from the server", answered(b"SSH-2.0-x\r\n"), 502, "slardar",
           "the server's reply is not HTTP/1", attempts=["error"]),
    Ending("no request", says(b"GET / HTTP/9\r\n\r\n"), 400, "slardar",
           "the request is malformed: Expected dot", upstream=""),
    Ending("a late head", late_head, 408, "slardar", "the request did not arrive in time",
           upstream=""),
    Ending("too large a body", says(post(b"0123456789")), 413, "slardar",
           "the body of the request is too large", upstream="", settings={"max_body": 5}),
    Ending("too large a chunked body", says(post_chunked() + b"8\r\n01234567\r\n"), 413, "slardar",
           "the body of the request is too large", attempts=[0], settings={"max_body": 5}),
    Ending("bad chunks", says(post_chunked() + b"zz\r\n"), 400, "slardar",
           "a chunk size of the body is malformed", attempts=[0]),
    Ending("a body that breaks off", body_breaks_off, 400, "slardar",
           "the connection ended within the body of the request", attempts=[0]),
    Ending("the client leaves", client_leaves, 0, "", "the client closed the connection",
           attempts=[0]),
    Ending("the client leaves within the reply", client_leaves_within_reply, 200, "server",
           "the client closed the connection", attempts=[0]),
    Ending("the client stalls", client_stalls, 200, "server",
           "the client did not take the reply in time", attempts=[0]),
    Ending("slardar stops", closed, 0, "", "slardar closed the connection", attempts=[0]),
    Ending("a hook answers", says(get("/no")), 403, "hook", upstream="", by_hook=True,
           hooks=rejecting),
    Ending("a hook fails", says(get("/no")), 500, "hook", "a hook failed", upstream="",
           by_hook=True, hooks=lambda: runner(fails)),
    Ending("a hook fails for the reply", served, 500, "hook", "a hook failed", attempts=[200],
           by_hook=True, hooks=lambda: runner(response=fails)),
    Ending("a hook changes the status", served, 201, "server", attempts=[200],
           hooks=lambda: runner(response=lambda _, response: setattr(response, "status", 201))),
    Ending("a hook wants no reply", says(get("/no")), 444, "hook", upstream="",
           by_hook=True, hooks=lambda: rejecting(status=444)),
    Ending("a hook replaces the reply", served, 418, "hook", attempts=[200],
           by_hook=True, hooks=lambda: runner(response=lambda request, _: request.reject(418))),
]  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.name)
def test_each_ending_is_told_once(ending: Ending) -> None:
    """Who answered, with what, after which attempts, and why it was no better."""
    play = Playbook(ending.servers, **ending.settings)
    if ending.hooks is not None:
        play.host.hooks = ending.hooks()
    ending.play(play)
    (record,) = play.records
    assert (record.status, record.answered_by, record.error, record.upstream) == (
        ending.status,
        ending.by,
        ending.error,
        ending.upstream,
    )
    assert [attempt.failure or attempt.status for attempt in record.attempts] == ending.attempts
    assert record.server == (f"10.0.0.{ending.servers}:80" if ending.attempts else "")
    assert record.client == b"192.0.2.7"
    assert record.hook == ("python/script.*" if ending.by_hook else "")
    assert record.started <= record.ended <= play.clock.now
    play.finish()
    assert play.records == [record]


def test_record_has_what_the_client_sent() -> None:
    """Method, target, Host and headers stay as they came, whatever hooks make of them."""

    def change(request: Any, _: Any) -> None:
        request.method = "PUT"
        request.path = "/changed"
        request.headers["Host"] = "b.test"
        request.headers["User-Agent"] = "a hook"

    play = Playbook()
    play.host.hooks = runner(change)
    play.client_sends(b"GET /first?x HTTP/1.1\r\nHost: A.test\r\nUser-Agent: a client\r\n\r\n")
    assert play.origin_gets().startswith(b"PUT /changed?x HTTP/1.1\r\nHost: b.test\r\n")
    play.origin_sends(OK)
    record = of_one(play)
    assert (record.method, record.uri, record.host) == (b"GET", b"/first?x", "a.test")
    assert b"User-Agent: a client" in record.lines
    assert b"User-Agent: a hook" not in record.lines
    assert record.request is not None
    assert record.request.uri == "/changed?x"


def of_one(play: Playbook) -> RequestRecord:
    (record,) = play.records
    return record


def test_times_of_a_request(play: Playbook) -> None:
    """When it came, when its server was connected, spoke and ended, and when it was over."""
    play.accepting = False
    play.client_sends(GET)
    play.clock.advance(1)
    play.accepting = True
    play.settle()
    play.clock.advance(2)
    play.origin_sends(OK[:5])
    play.clock.advance(3)
    play.origin_sends(OK[5:])
    record = of_one(play)
    (attempt,) = record.attempts
    begun = record.started
    assert (attempt.started, attempt.connected, attempt.first_byte, attempt.ended) == (
        begun,
        begun + 1,
        begun + 3,
        begun + 6,
    )
    assert record.ended == begun + 6
    play.client_sends(GET)
    play.origin_sends(OK)
    assert play.records[1].attempts[0].connected == 0, "the connection was there before"


@pytest.mark.parametrize(
    "data", [OK, LARGE, CHUNKED_OK + b"1\r\na\r\n2\r\nbc\r\n0\r\nX: y\r\n\r\n"]
)
def test_bytes_both_ways(play: Playbook, data: bytes) -> None:
    """The head and the content of the body that came; all that was written."""
    sent = post(b"0123456789")
    play.client_sends(sent)
    for start in range(0, len(data), 1000):
        play.origin_sends(data[start : start + 1000])
    got = b""
    while more := play.client_gets():
        got += more
        play.client_drains()
    record = of_one(play)
    assert (record.bytes_in, record.bytes_out) == (len(sent), len(got))


def test_bytes_of_a_tunnel(play: Playbook) -> None:
    """Both directions count, from the first byte behind the heads."""
    play.client_sends(UPGRADE + b"early")
    play.origin_sends(SWITCHING + b"first")
    play.client_sends(b"second")
    play.origin_sends(b"x" * 100)
    play.client_ends()
    assert play.records == []
    play.origin_ends()
    play.pass_time(10)
    record = of_one(play)
    assert (record.bytes_in, record.bytes_out) == (
        len(UPGRADE) + len(b"earlysecond"),
        len(SWITCHING) + len(b"first") + 100,
    )
    assert body_of(play.client_gets()) == b"first" + b"x" * 100


def test_nobody_observes() -> None:
    """No record is made then, and all goes on as ever."""
    play = Playbook(observed=False)
    served(play)
    play.client_sends(b"GET / HTTP/9\r\n\r\n")
    assert play.connection.record is None
    play.finish()
    assert play.records == []


def test_observer_comes_while_requests_are_under_way() -> None:
    """It is told of those that begin from then on."""
    play = Playbook(observed=False)
    play.client_sends(GET)
    play.host.observer = play.observer
    play.origin_sends(OK)
    assert play.records == []
    served(play)
    assert len(play.records) == 1


class Glances(FakeObserver):
    """Keeps no record, only what can be seen of it during the call."""

    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.keeps = keeps
        self.seen: list[tuple[int, str, int, list[str | int]]] = []
        self.objects: set[int] = set()

    def request_ended(self, record: RequestRecord) -> None:
        outcomes: list[str | int] = [one.failure or one.status for one in record.attempts]
        self.seen.append((record.status, record.error, record.bytes_out, outcomes))
        self.objects.add(id(record))
        record.kept = self.keeps
        if self.keeps:
            self.records.append(record)


@pytest.mark.parametrize("keeps", [False, True])
def test_record_is_used_again_unless_it_is_kept(keeps: bool) -> None:
    """Nothing of one request is left in the record of the next, whatever the endings."""
    play = Playbook(observed=False, servers=2)
    glances = play.host.observer = Glances(keeps)
    expected = []
    for _ in range(3):
        served(play)
        expected.append((200, "", len(play.client_gets()), [200]))
        # No server takes the second request, so slardar answers it.
        play.client_sends(GET)
        while len(glances.seen) == len(expected):
            for origin in play.origins:
                if not origin.closed:
                    origin.lose()
            play.settle()
        answer = play.client_gets()
        (status, error, size, outcomes) = glances.seen[-1]
        assert (status, size, outcomes[-1]) == (502, len(answer), "error")
        assert error
        expected.append(glances.seen[-1])
    assert glances.seen == expected
    if keeps:
        assert [record.status for record in glances.records] == [200, 502] * 3
    else:
        assert len(glances.objects) < 6
        assert all(spare.request is None for spare in play.host.spare_records)
