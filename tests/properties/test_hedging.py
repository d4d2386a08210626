"""Hedging by docs/retries.md as a model, beside what the exchange does.

Each server has a script: what it does with a request, and so many seconds after it came.  Time
passes in quarters of a second; hedges begin in between.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.http1.attempt import Attempt
from slardar.testing.channels import RecordingChannel
from slardar.testing.playbook import Playbook
from tests.http1.lines import GET, reply, statuses

STEP = 0.25
READ_TIMEOUT = 3.0
FAILED = {"reset": 502, "silent": 504, "503": 503}


class Case(NamedTuple):
    """One request, and everything that decides its outcome."""

    #: For each server what it does, and after how many seconds.
    servers: list[tuple[str, float]]
    after: float
    tries: int
    has_budget: bool
    deadline: float


class Outcome(NamedTuple):
    """What the client and the servers have seen."""

    status: int
    #: The servers asked, in order; those that have failed; those that were given up for
    #: another one's reply.
    asked: list[int]
    failures: list[int]
    given_up: list[int]


cases = st.builds(
    Case,
    st.lists(
        st.tuples(
            st.sampled_from(("200", "503", "reset", "silent")),
            st.sampled_from((0.25, 0.5, 1.0, 1.75)),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from((0.1, 0.6, 1.1)),
    st.integers(1, 4),
    st.sampled_from((True, True, False)),
    st.sampled_from((0.0, 0.0, 0.9, 1.9)),
)


class Model:
    """The rules of the page."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.running: list[tuple[int, float]] = []
        self.outcome = Outcome(0, [], [], [])
        self.status = 0
        self.is_hedged = case.tries < 2

    def begin(self, now: float) -> bool:
        asked = self.outcome.asked
        if len(asked) == min(self.case.tries, len(self.case.servers)):
            return False
        if asked and not self.case.has_budget:
            return False
        self.running.append((len(asked), now))
        asked.append(len(asked))
        return True

    def fails(self, number: int, status: int, now: float) -> None:
        self.outcome.failures.append(number)
        self.running = [one for one in self.running if one[0] != number]
        is_over = 0 < self.case.deadline <= now
        if not self.running and (is_over or not self.begin(now)):
            self.status = status

    def step(self, now: float) -> None:
        """A quarter of a second ends."""
        case = self.case
        due = self.running[0][1] + case.after
        if not self.is_hedged and due <= now:
            self.is_hedged = True
            self.begin(due)
        for number, began in list(self.running):
            if 0 < case.deadline < now:
                self.outcome.failures.extend(
                    one for one, start in self.running if now - start >= case.deadline / 2
                )
                self.running, self.status = [], 504
                return
            if began + READ_TIMEOUT < now:
                self.fails(number, 504, now)
        for number, began in list(self.running):
            then, seconds = case.servers[number]
            if self.status or (number, began) not in self.running or began + seconds > now:
                continue
            if then == "200":
                self.status = 200
                self.outcome.given_up.extend(one for one, _ in self.running if one != number)
            elif then != "silent":
                self.fails(number, FAILED[then], now)

    def run(self) -> Outcome:
        now = 0.0
        self.begin(now)
        while not self.status:
            now += STEP
            self.step(now)
        return self.outcome._replace(status=self.status)


def played(case: Case) -> tuple[Outcome, Playbook]:
    """The outcome of the exchange."""
    play = Playbook(len(case.servers))
    selection = play.selection
    selection.hedge_after, selection.tries = case.after, case.tries
    selection.read_timeout, selection.deadline = READ_TIMEOUT, case.deadline
    selection.failed_statuses = frozenset((503,))
    selection.share = selection.least = 1000.0 if case.has_budget else 0.0
    play.client_sends(GET)
    began = play.clock.now
    for number in range(1, 200):
        play.pass_time(began + number * STEP - play.clock.now)
        for channel in play.origins:
            if not channel.closed and isinstance(channel.protocol, Attempt):
                act(case, play, channel)
        if play.records:
            break
    (record,) = play.records

    def place(server: str) -> int:
        return int(server.partition(":")[0].rpartition(".")[2]) - 1

    (status,) = statuses(play.client_gets())
    return Outcome(
        status,
        [place(note.server) for note in record.attempts],
        [place(server) for server, _ in selection.failures],
        [place(note.server) for note in record.attempts if note.failure == "hedged"],
    ), play


def act(case: Case, play: Playbook, channel: RecordingChannel) -> None:
    """Let a server do what its script says, if its time has come."""
    attempt = channel.protocol
    assert isinstance(attempt, Attempt)
    then, seconds = case.servers[play.selection.peers.index(attempt.peer)]
    if attempt.started + seconds > play.clock.now + 1e-6:
        return
    if then == "200":
        channel.deliver(reply(b"hi"))
    elif then == "503":
        channel.deliver(reply(b"no", status="503 Service Unavailable"))
    elif then == "reset":
        channel.lose()
    play.settle()


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(cases)
def test_hedging_table(case: Case) -> None:
    """For any behaviour of the servers the page says which are asked, which have failed, which
    are given up, and what the client gets; nothing is counted twice, and no server asked twice."""
    outcome, play = played(case)
    assert outcome == Model(case).run()
    assert len({*outcome.asked}) == len(outcome.asked)
    play.finish()
