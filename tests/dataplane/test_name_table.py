"""The table of names: the same as one that was made anew, whatever has come and gone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slardar.dataplane.name_table import NameTable, best_of
from slardar.model.tls import Pair

NAMES = ("a", "b", "*.c")
PAIRS = [
    Pair(f"{number}", f"cert {number}", "key", NAMES[number % 3 :][:2], kind, number % 4)
    for number in range(6)
    for kind in ("ec", "rsa")
]


@given(st.lists(st.lists(st.sampled_from(PAIRS), unique_by=id), max_size=6))
def test_changes_lead_to_what_a_new_table_has(states: list[list[Pair]]) -> None:
    """In any order."""
    table = NameTable()
    for state in states:
        table.take(state)
        for name in NAMES:
            expected = {pair for pair in state if name in pair.names}
            assert set(table.get(name)) == expected
            assert (name in table) == bool(expected)
            assert best_of(table.get(name)) == best_of(tuple(expected))


def test_best_of_each_kind() -> None:
    """The one that expires last; of two that expire together, the same in each process."""
    best = best_of(tuple(PAIRS))
    assert [pair.kind for pair in best] == ["ec", "rsa"]
    assert {pair.expires for pair in best} == {3}
    twins = (PAIRS[0], Pair("x", "x", "key", ("a",), "ec", 0))
    assert best_of(twins) == best_of(twins[::-1])
    assert best_of(()) == ()
