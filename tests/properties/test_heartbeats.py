"""The laws of heartbeats' rules, for any results in any order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from slardar.health.heartbeats import Beats
from slardar.health.probes.base import OK, Result, failed
from slardar.model.parse import parse_upstream
from slardar.model.server import Upstream

RESULTS = {"ok": OK, "err": failed("refused"), "unstable": Result("unstable", "weak")}
PORTS = (1, 2, 3)
#: A result for a server, or an edit: which servers the upstream has, and their states.
RESULT = st.tuples(st.sampled_from(PORTS), st.sampled_from(sorted(RESULTS)))
EDIT = st.dictionaries(st.sampled_from(PORTS), st.sampled_from(["up", "drain", "down"]), min_size=1)
RULES = st.fixed_dictionaries(
    {
        "sensibility": st.integers(1, 3),
        "rise": st.integers(1, 3),
        "protected": st.booleans(),
    }
)


def made(states: dict[int, str], rules: dict[str, Any]) -> Upstream:
    servers = [
        {"host": "10.0.0.1", "port": port, "state": states[port]}
        for port in PORTS
        if port in states
    ]
    return parse_upstream("a", {"servers": servers, **rules}, "a")


def out(beats: Beats) -> set[int]:
    return {beat.port for beat in beats if beat.status == "err"}


@given(RULES, st.lists(st.one_of(RESULT, EDIT), max_size=40))
def test_one_wanted_server_is_always_in_service(rules: dict[str, Any], events: list[Any]) -> None:
    """If the upstream is protected, and has a wanted server.  Without protection a server
    is out exactly if it has failed."""
    beats = Beats(made(dict.fromkeys(PORTS, "up"), rules), 0.0)
    for now, event in enumerate(events, 1):
        before = {beat.port: beat.verdict("a") for beat in beats}
        if isinstance(event, dict):
            changed = beats.take(made(event, rules), now)
        else:
            changed = beats.note(("10.0.0.1", event[0]), RESULTS[event[1]], now)
        wanted = [beat for beat in beats if beat.wanted]
        serving = [beat for beat in wanted if beat.status != "err"]
        if rules["protected"]:
            assert serving or not wanted
            kept = [beat for beat in wanted if beat.has_failed and beat.status != "err"]
            # A failed server serves only where nobody else does.
            assert not kept or serving == kept
        else:
            assert out(beats) == {beat.port for beat in beats if beat.has_failed}
        # Whatever is new is told.
        told = {beat.port for beat in changed}
        for beat in beats:
            if beat.port not in told and beat.port in before:
                assert beat.verdict("a") == before[beat.port]


@given(RULES, st.lists(st.sampled_from(sorted(RESULTS)), max_size=40))
def test_no_flapping(rules: dict[str, Any], results: list[str]) -> None:
    """A server goes out only after ``sensibility`` bad results in a row, the last of them
    ``err``, and comes back only after ``rise`` in a row that are none."""
    rules = {**rules, "protected": False}
    beats = Beats(made({1: "up"}, rules), 0.0)
    past: list[str] = []
    for result in results:
        was_out = out(beats)
        beats.note(("10.0.0.1", 1), RESULTS[result], 1.0)
        past.append(result)
        if out(beats) and not was_out:
            last = past[-rules["sensibility"] :]
            assert len(last) == rules["sensibility"]
            assert "ok" not in last
            assert last[-1] == "err"
        if was_out and not out(beats):
            last = past[-rules["rise"] :]
            assert len(last) == rules["rise"]
            assert "err" not in last


@given(RULES, st.lists(RESULT, max_size=40))
def test_the_same_results_lead_to_the_same_statuses(rules: dict[str, Any], events: Any) -> None:
    """Also in another process, and whoever takes over in between."""
    one = Beats(made(dict.fromkeys(PORTS, "up"), rules), 0.0)
    other = Beats(made(dict.fromkeys(PORTS, "up"), rules), 0.0)
    for now, (port, result) in enumerate(events, 1):
        for beats in (one, other):
            beats.note(("10.0.0.1", port), RESULTS[result], now)
        assert [beat.verdict("a") for beat in one] == [beat.verdict("a") for beat in other]
