"""``slardar simulate``: a scenario, a report, no running slardar."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slardar.cli import main

SCENARIO = """
upstream:
  mode: wrr
  servers:
    - {host: 10.0.0.1, port: 80, max_fails: 1}
    - {host: 10.0.0.2, port: 80, max_fails: 1}
load: {rate: 50, seconds: 20}
failures:
  - {at: 5, server: "10.0.0.1:80", state: dead}
  - {at: 6, server: "10.0.0.1:80", state: up}
"""
OWN = """
from slardar.balancers.base import Balancer

class Last(Balancer):
    def pick(self, servers, request):
        return servers[-1]
"""
LOG = '10.0.0.9 - - [01/Jan/2026:00:00:01 +0000] "GET /a HTTP/1.1" 200 5\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the files, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    (tmp_path / "simulated_own.py").write_text(OWN)
    (tmp_path / "access.log").write_text(LOG * 7)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *words], catch_exceptions=False)


def test_report_for_people_and_for_programs() -> None:
    """Both say the same."""
    done = run("scenario.yaml", "--json")
    assert done.exit_code == 0
    report = json.loads(done.output)
    assert report["failed"] == 0
    assert report["retries"] >= 1
    text = run("scenario.yaml").output
    assert f"wrr: {report['requests']} requests, 0 failed, {report['retries']} retries" in text
    assert "10.0.0.1:80 out: " in text
    # A server that is back has no reason, and no colon before none.
    assert " 10.0.0.1:80 in\n" in f"{text}\n"
    assert ": \n" not in text


def test_balancer_of_ones_own_on_an_access_log() -> None:
    """The class is found beside the scenario; each line of the log is a request."""
    words = ("--mode", "simulated_own.Last", "--log", "access.log", "--json")
    report = json.loads(run("scenario.yaml", *words).output)
    assert report["mode"] == "simulated_own.Last"
    assert [server["requests"] for server in report["servers"].values()] == [0, 7]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none.yaml",), "none.yaml"),
        (("scenario.yaml", "--log", "none.log"), "none.log: No such file"),
        (("scenario.yaml", "--log", "scenario.yaml"), "expected an access log"),
        (("scenario.yaml", "--mode", "none"), "upstream.mode"),
        (("empty.yaml",), "empty.yaml: expected an object of upstream, servers, load, "),
        (("list.yaml",), "list.yaml: expected an object of upstream, servers, load, "),
        (("keys.yaml",), 'keys.yaml: upstreams: unknown key (did you mean "upstream"?)'),
        (("keys.yaml",), "keys.yaml: the keys are upstream, servers, load, failures, "),
        (("keys.yaml",), "keys.yaml: upstream: is missing"),
        (("values.yaml",), "values.yaml: load.rate: expected "),
        (("values.yaml",), "values.yaml: failures[0].state: expected "),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str) -> None:
    """A line says what is wrong, and the exit code is 1."""
    wrong = {
        "empty": None,
        "list": [1],
        "keys": {"upstreams": {}},
        "values": {
            "upstream": {},
            "load": {"rate": "x"},
            "failures": [{"at": 1, "server": "a", "state": "gone"}],
        },
    }
    for name, value in wrong.items():
        Path(f"{name}.yaml").write_text(json.dumps(value))
    done = run(*words)
    assert done.exit_code == 1
    assert message in done.output
