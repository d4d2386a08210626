"""The upgrade in place, as an operator and clients meet it: real processes, real signals."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import Nginx
from tests.integration.test_workers import is_running, until
from tests.integration.upgrades import Clients, Upgraded


@pytest.mark.parametrize("workers", [0, 2])
def test_no_request_fails(tmp_path: Path, start: Start, nginx: Nginx, workers: int) -> None:
    """Ten upgrades in turn under load: clients that stay and new ones all get replies."""
    site = start(Upgraded(tmp_path, "--upstream", f"a={nginx.address}", count=workers)).ready()
    pids = [site.pid]
    with Clients(site) as clients:
        clients.more(100)
        for _ in range(10):
            pids.append(site.upgrade())
            clients.more(100)
    assert clients.failures == []
    assert len(set(pids)) == 11
    until(lambda: not any(map(is_running, pids[:-1])), "the old generations end")
    assert site.pid_in_file() == site.current
    assert not (tmp_path / "twistd.pid.old").exists()
