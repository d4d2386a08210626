"""`make soak` in small: all its parts, with their counts and without their times."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from benchmarks.backends import Backends
from benchmarks.soak.__main__ import PARTS, run
from benchmarks.soak.row import SHORT
from benchmarks.soak.site import Ground

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """The load's backends, for all parts."""
    folder = tmp_path_factory.mktemp("soak")
    cores = frozenset(os.sched_getaffinity(0))
    backends = Backends(folder, cores)
    yield Ground(folder, backends, lambda line: None, cores)
    backends.stop()


@pytest.mark.parametrize("part", PARTS)
def test_part_meets_its_figures(ground: Ground, part: str) -> None:
    """Changes, signals and kills cost no request that need not fail."""
    rows = run([part], SHORT, ground)
    assert rows
    assert [row for row in rows if row.met is False] == []


def test_part_that_breaks_is_a_row_that_is_missed(ground: Ground) -> None:
    """The row has the reason, and the later parts run."""

    def breaks(*_: object) -> list[object]:
        raise RuntimeError("no more")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PARTS, "calls", breaks)  # type: ignore[arg-type]
        (row,) = run(["calls"], SHORT, ground)
    assert (row.met, row.verdict) == (False, "**missed**")
    assert "no more" in row.measured
