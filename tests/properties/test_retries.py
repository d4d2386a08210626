"""The retry table of docs/retries.md as a model, beside what the exchange does.

Each server has a script: what happens on the first use of a connection to it, and on the
second.  The model reads the page's rules and knows nothing of the exchange's states.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slardar.http1.attempt import Attempt
from slardar.testing.channels import RecordingChannel
from slardar.testing.playbook import Playbook
from tests.http1.lines import OK, get, post, reply, statuses

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
#: The most interim replies from one server.
MOST = 16

#: What follows the interim replies, and the kind of failure, if it is one.
KINDS = {
    "refused": "connect",
    "not accepted": "timeout",
    "closed": "error",
    "reset": "error",
    "closed within the head": "error",
    "reset within the head": "error",
    "no HTTP": "error",
    "no HTTP at its end": "error",
    "bad chunk": "error",
    "silent": "timeout",
    "silent within the head": "timeout",
    "503": "status",
    "200": "",
    "200 in pieces": "",
    "200 in chunks": "",
    "200 cut off": "error",
}
#: These happen before there is a connection, so never on one that is used again.
CONNECTING = ("refused", "not accepted")


class Use(NamedTuple):
    """What happens on one use of a connection."""

    interims: int
    then: str


class Case(NamedTuple):
    """One request and everything that decides its outcome."""

    verb: str
    has_body: bool
    #: For each server, its script and whether there is an idle connection to it.
    servers: list[tuple[Use, Use, bool]]
    tries: int
    try_timeout: float
    retry_on: frozenset[str]
    deadline: float = 0
    #: Retries at once that the budget allows.
    budget: int = 10


class Outcome(NamedTuple):
    """What the client, the servers and the selection have seen."""

    #: Statuses that the client got, and whether the last reply was cut off.
    statuses: list[int]
    cut_off: bool
    #: Each use of a connection: the server, and whether the connection was used before.
    uses: list[tuple[int, bool]]
    #: The servers that failed, in order.
    failures: list[int]
    #: Each attempt: the server, whether it failed, the status.
    attempts: list[tuple[int, bool, int]]


uses = st.builds(
    Use, st.sampled_from((0, 0, 0, 1, 3, MOST, MOST + 1)), st.sampled_from(sorted(KINDS))
)
cases = st.builds(
    Case,
    st.sampled_from(("GET", "PUT", "DELETE", "POST", "PATCH")),
    st.booleans(),
    st.lists(st.tuples(uses, uses, st.booleans()), min_size=1, max_size=4),
    st.integers(1, 4),
    st.sampled_from((0.0, 0.0, 2.0, 30.0)),
    st.frozensets(
        st.sampled_from(("connect", "error", "timeout", "status", "http_503", "non_idempotent"))
    )
    | st.just(frozenset(("connect", "error", "timeout", "status"))),
    st.sampled_from((0.0, 0.0, 2.0, 61.0, 100.0)),
    st.sampled_from((0, 1, 2, 10, 10)),
)


def expected(case: Case) -> Outcome:
    """The outcome by docs/retries.md."""
    idempotent = case.verb in ("GET", "PUT", "DELETE")
    got: list[int] = []
    used: list[tuple[int, bool]] = []
    failures: list[int] = []
    attempts: list[tuple[int, bool, int]] = []
    seconds = 0.0
    left = case.budget
    for number, (first, second, idle) in enumerate(case.servers):
        use, reused = first, idle
        used.append((number, reused))
        if reused and not use.interims and use.then in ("closed", "reset") and idempotent:
            # An idle connection turned out to be closed: the same server, a new connection.
            use, reused = second, False
            used.append((number, reused))
        then = use.then
        if reused and then in CONNECTING:
            then = "silent"
        kind = KINDS[then]
        sent = then not in CONNECTING
        if sent:
            got += [103] * min(use.interims, MOST)
            if use.interims > MOST:
                then, kind = "too many", "error"
        takes = {"not accepted": 3, "silent": 60, "silent within the head": 60}.get(then, 0)
        if 0 < case.deadline < seconds + takes:
            # It passes within this attempt, which is the server's fault if it had half of it.
            had = case.deadline - seconds
            to_blame = had >= case.deadline / 2
            attempts.append((number, to_blame, 0))
            return Outcome([*got, 504], False, used, failures + [number] * to_blame, attempts)
        seconds += takes
        if takes:
            # Time fills the budget again.
            left = case.budget
        if not kind:
            attempts.append((number, False, 200))
            return Outcome([*got, 200], False, used, failures, attempts)
        failures.append(number)
        attempts.append((number, True, 503 if kind == "status" else 0))
        if then == "200 cut off":
            return Outcome([*got, 200], True, used, failures, attempts)
        again = (
            (kind in case.retry_on or (kind == "status" and "http_503" in case.retry_on))
            and (idempotent or not sent or "non_idempotent" in case.retry_on)
            and number + 1 < case.tries
            and number + 1 < len(case.servers)
            and not 0 < case.try_timeout <= seconds
        )
        if again and sent:
            again = left > 0
            left -= 1
        if not again:
            status = {"status": 503, "timeout": 504}.get(kind, 502)
            return Outcome([*got, status], False, used, failures, attempts)
    raise AssertionError("the last server is followed by nobody")


class Stage:
    """Plays a case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.play = play = Playbook(len(case.servers))
        self.warm_up()
        play.accepting = False
        selection = play.selection
        selection.tries = case.tries
        selection.try_timeout = case.try_timeout
        selection.deadline = case.deadline
        selection.share, selection.least = 0.0, case.budget
        selection.retry_on = case.retry_on
        selection.failed_statuses = frozenset((503,))
        self.uses: list[tuple[int, bool]] = []

    def warm_up(self) -> None:
        """Leave the idle connections of the case."""
        play = self.play
        for number, (_, _, idle) in enumerate(self.case.servers):
            if idle:
                peers = play.selection.peers
                play.selection.out = {peer for peer in peers if peer is not peers[number]}
                play.client_sends(get("/warm"))
                play.origin_sends(OK)
        play.selection.out = set()
        play.client_gets()
        for origin in play.origins:
            origin.take()
        play.selection.outcomes.clear()

    def channel(self) -> RecordingChannel | None:
        """The connection that the exchange uses."""
        found = [o for o in self.play.origins if isinstance(o.protocol, Attempt) and not o.closed]
        assert len(found) <= 1
        return found[0] if found else None

    def run(self) -> Outcome:
        case, play = self.case, self.play
        body = b"body" if case.has_body else b""
        if body:
            play.client_sends(post(body, method=case.verb))
        else:
            play.client_sends(get("/in").replace(b"GET", case.verb.encode(), 1))
        for _ in range(20):
            channel = self.channel()
            if channel is None:
                break
            self.use(channel, body)
        else:
            raise AssertionError("it does not end")
        got = play.client_gets()
        cut_off = play.client.finished and not play.client.closed and not got.endswith(b"hi")
        return Outcome(
            statuses(got),
            cut_off and b" 200 OK\r\nContent-Length: 2\r\n" in got,
            self.uses,
            [self.number(key) for key, _ in play.selection.failures],
            [(self.number(k), failed, status) for k, failed, status in play.selection.outcomes],
        )

    @staticmethod
    def number(key: str) -> int:
        return int(key.partition(":")[0].rpartition(".")[2]) - 1

    def use(self, channel: RecordingChannel, body: bytes) -> None:
        """Do on a connection what the script says."""
        play = self.play
        number = self.number(channel.name)
        before = [n for n, _ in self.uses].count(number)
        use = self.case.servers[number][before]
        self.uses.append((number, not channel.connecting))
        then = use.then
        if channel.connecting:
            if then == "refused":
                channel.lose()
                play.settle()
                return
            if then == "not accepted":
                play.pass_time(3.5)
                return
            channel.connect()
            play.settle()
        got = channel.take()
        assert got.startswith(self.case.verb.encode() + b" /in HTTP/1.1\r\n")
        assert got.endswith(b"\r\n\r\n" + body)
        for _ in range(use.interims):
            if not channel.closed:
                channel.deliver(HINTS)
                play.settle()
        if channel.closed:
            return
        data, end = {
            "closed": (b"", "end"),
            "reset": (b"", "lose"),
            "closed within the head": (b"HTTP/1.1 200 OK\r\nX", "end"),
            "reset within the head": (b"HT", "lose"),
            "no HTTP": (b"\x15\x03", ""),
            "no HTTP at its end": (b"HTTP/1.1 200 OK\r\nX y\r\n\r\n", ""),
            "bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", ""),
            "silent within the head": (b"HTTP/1.1 200 OK\r\n", "wait"),
            "503": (reply(b"no", status="503 Service Unavailable"), ""),
            "200": (OK, ""),
            "200 in pieces": (OK, "bytewise"),
            "200 in chunks": (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
                "",
            ),
            "200 cut off": (OK[:-1], "lose"),
        }.get(then, (b"", "wait"))
        for piece in [data[i : i + 1] for i in range(len(data))] if end == "bytewise" else [data]:
            if piece:
                channel.deliver(piece)
                play.settle()
        if end == "wait":
            play.pass_time(60.5)
        elif end == "end":
            channel.end()
            play.settle()
        elif end == "lose":
            channel.lose()
            play.settle()


ALL = frozenset(("connect", "error", "timeout", "status"))
FINE = Use(0, "200")


@settings(derandomize=True, deadline=None, database=None, max_examples=250)
@given(cases)
@example(
    # A hint from a server that breaks, then an idle connection that was closed.
    Case("GET", False, [(Use(1, "reset"), FINE, False), (Use(0, "closed"), FINE, True)], 2, 0, ALL)
)
@example(
    Case("GET", True, [(Use(16, "reset"), FINE, False), (Use(16, "200"), FINE, False)], 2, 0, ALL)
)
@example(Case("GET", False, [(Use(0, "no HTTP"), FINE, True)], 1, 0, ALL))
@example(
    Case(
        "PUT", True, [(Use(0, "bad chunk"), FINE, False), (Use(0, "reset"), FINE, True)], 2, 0, ALL
    )
)
def test_retry_table(case: Case) -> None:
    """For any behaviour of servers, the page says which servers are tried, how often, which
    have failed, and what the client gets; every server gets the request whole."""
    stage = Stage(case)
    outcome = stage.run()
    assert outcome == expected(case)
    stage.play.finish()


@pytest.mark.parametrize("then", sorted(KINDS))
def test_each_line_of_the_table(then: str) -> None:
    """Every failure, for every kind of request and connection, with each kind of retry alone,
    with all, and with none."""
    some = [frozenset((kind,)) for kind in ("connect", "error", "timeout", "status")]
    for verb, has_body, idle, interims, retry_on in itertools.product(
        ("PUT", "POST"),
        (False, True),
        (False, True),
        (0, 1),
        (*some, ALL, ALL | {"non_idempotent"}, frozenset(("http_503",)), frozenset()),
    ):
        use = Use(interims, then)
        servers = [(use, FINE, idle), (FINE, FINE, False)]
        case = Case(verb, has_body, servers, 2, 0, retry_on)
        stage = Stage(case)
        assert stage.run() == expected(case), case
        stage.play.finish()
