"""Questions to workers: who is asked, and what comes of it if nobody answers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from slardar.dataplane.decision import Decision
from slardar.dataplane.explanation import DecisionTold, Explanation, explanation_of
from slardar.errors import ConfigError, NotReadyError
from slardar.http1.request import parse_request
from slardar.model.snapshot import Choice
from slardar.workers import messages
from slardar.workers.messages import Done, Explain, FindDecision, Told
from tests.workers.kit import failure_of, result_of
from tests.workers.team import FakeProcess, Team

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
EXPLANATION: Explanation = explanation_of(
    Decision(Choice(None), "", None, "no upstream for host 'a'"),
    parse_request(HEAD),
    (),
    None,
    1,
    "worker-0",
    None,
)
DECISION = DecisionTold(
    f"1-{'0' * 32}", 1.0, "", "GET", "a", "/", EXPLANATION, (), 0, 0, 0, 502, "", "", "", True
)


def answers(process: FakeProcess, **told: Any) -> None:
    """Let a worker say what it was asked for, before it confirms."""
    do = process._do

    def tell(message: Any) -> Done:
        if isinstance(message, Explain | FindDecision):
            process.say(Told(message.number, **told))
        return do(message)

    process._do = tell  # type: ignore[method-assign]


def test_one_worker_explains() -> None:
    """The first that serves; the others are left alone."""
    team = Team()
    first = team.start()
    answers(first, explanation=EXPLANATION)
    assert result_of(team.workers.explain(HEAD, "10.0.0.1")) == EXPLANATION
    (asked,) = first.of(Explain)
    assert (asked.head, asked.client) == (HEAD, "10.0.0.1")
    assert team.processes[1].of(Explain) == []


def test_worker_that_is_late_is_left_alone() -> None:
    """Another one is asked; nobody is killed or given up for it, and a late answer is nothing."""
    team = Team()
    first = team.start()
    first.is_slow = True
    answers(team.processes[1], explanation=EXPLANATION)
    asked = team.workers.explain(HEAD, "10.0.0.1")
    team.clock.advance(2.9)
    assert not asked.called
    team.clock.advance(0.2)
    assert result_of(asked) == EXPLANATION
    assert first.kills == []
    (waiting,) = first.waiting
    assert not waiting.called, "a cancelled answer passes for an error of the worker's"
    answers(first, explanation=EXPLANATION)
    first.go_on()
    assert team.workers._questions._asked == {}


def test_nobody_answers() -> None:
    """The caller is told why."""
    team = Team()
    for process in (team.start(), team.processes[1]):
        process.is_slow = True
    asked = team.workers.explain(HEAD, "10.0.0.1")
    team.clock.advance(3.1)
    team.clock.advance(3.1)
    error = failure_of(asked)
    assert isinstance(error, NotReadyError)
    assert str(error) == "worker-1 did not answer within 3 s"


def test_worker_that_dies_or_says_nothing() -> None:
    team = Team()
    first = team.start()
    first.is_slow = True
    asked = team.workers.explain(HEAD, "10.0.0.1")
    first.die()
    assert str(failure_of(asked)) == "worker-1 gave no answer"
    assert str(failure_of(Team().workers.explain(HEAD, ""))) == "no worker serves at the moment"


def test_question_that_is_refused() -> None:
    """A mistake of the caller's is no reason to ask another worker."""
    team = Team()
    first = team.start()
    first.answers = [Done(1, "the request has too many headers")]
    assert isinstance(failure_of(team.workers.explain(HEAD, "")), ConfigError)
    assert team.processes[1].of(Explain) == []


def test_decision_is_asked_of_its_worker() -> None:
    """The id names it; where there is no such worker, nobody is asked."""
    team = Team()
    first = team.start()
    answers(team.processes[1], decision=DECISION)
    assert result_of(team.workers.decision(DECISION.id)) == DECISION
    assert team.processes[1].of(FindDecision)[0].id == DECISION.id
    for unknown in (f"7-{'0' * 32}", "nonsense", f"1-{'0' * 31}\n"):
        assert result_of(team.workers.decision(unknown)) is None
    assert first.of(FindDecision) == []


def test_answers_that_nobody_has_asked_for() -> None:
    """Nor does one worker answer for another one."""
    team = Team()
    first = team.start()
    first.say(Told(5, explanation=EXPLANATION))
    team.processes[1].is_slow = True
    asked = team.workers.decision(DECISION.id)
    (question,) = team.processes[1].of(FindDecision)
    first.say(Told(question.number, decision=DECISION))
    team.processes[1].go_on()
    assert isinstance(failure_of(asked), NotReadyError)


def test_answers_travel() -> None:
    """Each is read as it was said; a text that is too long is no message."""
    told = Told(3, EXPLANATION, DECISION)
    assert messages.decode_from_worker(messages.encode(told)) == told
    long = structs.replace(EXPLANATION, balancer="x" * 1001)
    with pytest.raises(ValueError, match="no message"):
        messages.decode_from_worker(messages.encode(Told(3, long)))
