"""The update that is measured changes an upstream in service."""

from __future__ import annotations

import pytest

from benchmarks import update
from slardar.model.parse import parse_upstream
from slardar.model.snapshot import Snapshot


def test_changed_upstreams_are_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstreams of the figure have had requests before, the others have not; each is changed
    once, and the change is served when the clock stops."""
    monkeypatch.setattr(update, "UPSTREAMS", 100)
    monkeypatch.setattr(update, "UPDATES", 20)
    served: list[tuple[str, bool]] = []
    really_apply = update._apply

    def apply(plane: object, snapshot: Snapshot, changed: set[str]) -> None:
        really_apply(plane, snapshot, changed)
        if len(changed) == 1:
            (name,) = changed
            selection = plane.selections.get(name)  # type: ignore[attr-defined]
            served.append((name, selection is not None))
            if selection is not None:
                assert selection.upstream is snapshot.upstreams[name]
                assert all(peer.pool is not None for peer in selection.peers)

    monkeypatch.setattr(update, "_apply", apply)
    measured = update.measure_updates()
    assert [in_use for _, in_use in served] == [False] * 20 + [True] * 20
    assert len({name for name, _ in served}) == 40
    assert 0 < measured.low_ms <= measured.median_ms <= measured.high_ms
    assert 0 < measured.snapshot_ms < measured.high_ms
    assert measured.idle_ms > 0


def test_upstream_that_is_not_served_cannot_be_used() -> None:
    """A name that leads nowhere would be measured as idle."""
    upstream = parse_upstream("a", {"servers": [{"host": "10.0.0.1", "port": 80}]}, "a")
    plane = update.make_plane(Snapshot.build(1, {"a": upstream}, (), None))
    update.use(plane, "a")
    assert plane.exchanges == 0
    with pytest.raises(RuntimeError, match="no upstream for host 'b'"):
        update.use(plane, "b")
