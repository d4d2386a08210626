"""The examples run as they say."""

from __future__ import annotations

import re
import runpy
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from slardar.model.server import ProbeOptions
from tests.book import blocks
from tests.health.probes.real import beat
from tests.integration.programs import CHECKOUT, TWISTD, Program, Slardar, curl

pytestmark = pytest.mark.real

EXAMPLES = CHECKOUT / "examples"
JOURNAL = EXAMPLES / "journal" / "slardar" / "stores" / "journal.py"


class SlardarWithExamples(Slardar):
    """slardar that can import the modules in ``examples``."""

    def __init__(self, folder: Path) -> None:
        command = [*TWISTD, "--nodaemon", "slardar", "--workers", "0", "--store", "memory:"]
        command += ["--listen", "tcp:0:interface=127.0.0.1"]
        command += ["--control", "tcp:0:interface=127.0.0.1"]
        Program.__init__(self, command, folder, PYTHONPATH=f"{EXAMPLES}:{CHECKOUT}")


@pytest.fixture
def start() -> Iterator[Callable[[Program], Any]]:
    """Keeps the programs of a test, and ends them, the newest first."""
    programs: list[Program] = []

    def keep(program: Program) -> Program:
        programs.append(program)
        return program

    yield keep
    for program in reversed(programs):
        program.end()


def example(name: str, folder: Path, *arguments: str) -> Program:
    """An example, started by its path."""
    return Program([sys.executable, str(EXAMPLES / name), *arguments], folder)


@pytest.fixture
def backends(start: Callable[[Program], Any], tmp_path: Path) -> list[int]:
    """The ports of the two demo backends."""
    program = start(example("backends.py", tmp_path, "0", "0"))
    first = int(program.wait_for(r"serving on http://127\.0\.0\.1:(\d+)/")[1])
    second = int(program.wait_for(rf"serving on http://127\.0\.0\.1:(?!{first}/)(\d+)/")[1])
    return [first, second]


def test_embedded(start: Callable[[Program], Any], backends: list[int], tmp_path: Path) -> None:
    """The site serves its own page, passes on requests below /api without /api, and stops when
    it is asked to."""
    site = start(example("embedded.py", tmp_path, "0", *map(str, backends)))
    url = site.wait_for(r"serving on (http://\S+)/")[1]
    assert curl(f"{url}/")[1].startswith("This page is the site's own")
    replies = [curl(f"{url}/api/users?x=1", "-d", "a=b") for _ in range(4)]
    served = Counter()
    for status, body in replies:
        assert status == 200
        match = re.fullmatch(r"127\.0\.0\.1:(\d+) serves POST /users\?x=1 for 127\S+\n", body)
        assert match is not None, body
        served[int(match[1])] += 1
    assert served == dict.fromkeys(backends, 2)
    assert curl(f"{url}/other")[0] == 404
    site.signal(signal.SIGTERM)
    assert site.wait() in (0, -signal.SIGTERM)


def test_least_requests(
    start: Callable[[Program], Any], backends: list[int], tmp_path: Path
) -> None:
    """The balancer is found by its name and gives each server its share; it has no options, so
    options are refused."""
    slardar = start(SlardarWithExamples(tmp_path)).ready()
    upstream = {
        "mode": "least_requests.LeastRequests",
        "servers": [{"host": "127.0.0.1", "port": port} for port in backends],
    }
    path = "/upstream/www.example.com"
    assert slardar.call("PUT", path, upstream) == (200, {"status": 200})
    served = Counter(slardar.get("www.example.com")[1].split(" ")[0] for _ in range(6))
    assert served == {f"127.0.0.1:{port}": 3 for port in backends}
    status, answer = slardar.call("PUT", path, {**upstream, "mode_opts": {"x": 1}})
    assert status == 400
    assert "mode_opts.x" in answer["msg"]


def test_smtp_probe(start: Callable[[Program], Any], tmp_path: Path) -> None:
    """The probe is found by its name, and the server's greeting decides."""
    slardar = start(SlardarWithExamples(tmp_path)).ready()
    upstream = {"typ": "smtp_probe.Smtp", "servers": [{"host": "127.0.0.1", "port": 25}]}
    assert slardar.call("PUT", "/upstream/mail", upstream) == (200, {"status": 200})
    status, answer = slardar.call("PUT", "/upstream/mail", {**upstream, "typ": "smtp_probe.Pop"})
    assert status == 400
    assert "upstreams.mail.typ: smtp_probe has no class Pop" in answer["msg"]
    probe = runpy.run_path(str(EXAMPLES / "smtp_probe.py"))["Smtp"](ProbeOptions())
    greeted = [
        (b"220 mail.example.com ESMTP\r\n", ""),
        (b"554 no service\r\n", "554 no service"),
        (b"", "the server closed the connection without a greeting"),
    ]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for data, message in greeted:
            with ThreadPoolExecutor(1) as pool:
                result = pool.submit(beat, probe, port)
                with server.accept()[0] as client:
                    client.sendall(data)
                assert result.result().message == message


def without_chance(output: str) -> str:
    """The output of the services, less what is another at each run: ports, counts, and which of
    the instances served."""
    output = re.sub(r"(port |127\.0\.0\.1:)\d+", r"\1PORT", output)
    output = re.sub(r"(?<=by ).*(?=\nits lines)", lambda m: re.sub(r"\d", "N", m[0]), output)
    return re.sub(r"(?<=-\d: )\d+|\d+(?= by the | requests)", "COUNT", output)


def test_microservices(tmp_path: Path) -> None:
    """Instances are added, drained and killed under load, and no request fails; what the script
    says is what its page shows."""
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / "microservices" / "run.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.endswith(" requests, 0 failed\n")
    (shown,) = blocks(EXAMPLES / "microservices" / "README.md", "console")
    assert without_chance(ran.stdout) == without_chance(shown.partition("\n")[2])
    counts = {
        label: int(count) for label, count in re.findall(r"^  (\S+): (\d+)$", ran.stdout, re.M)
    }
    assert all(counts[f"{name}-2"] > 10 for name in ("photos", "storage", "metadata"))
    assert counts["thumbnail-3"] >= 5
    # Instances have died with requests, or before they were known to be gone.
    assert sum(map(int, re.findall(r"(\d+) by the ", ran.stdout))) > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real(False)
def test_smtp_probe_is_the_one_of_the_page() -> None:
    """The page on health shows its code."""
    code = (EXAMPLES / "smtp_probe.py").read_text("utf-8").partition("annotations\n\n")[2]
    page = (CHECKOUT / "docs" / "health.md").read_text("utf-8")
    assert f"```python\n{code}```\n" in page


def test_journal_keeps_changes(start: Callable[[Program], Any], tmp_path: Path) -> None:
    """slardar finds the module in a folder on Python's path, and after a restart the change."""
    options = ("--store", "journal:changes.jsonl")
    path = f"{EXAMPLES / 'journal'}:{CHECKOUT}"
    body = {"servers": [{"host": "127.0.0.1", "port": 80}]}
    for is_known in (False, True):
        site = start(Slardar(tmp_path, *options, PYTHONPATH=path)).ready()
        assert (site.call("GET", "/upstream/a")[0] == 200) == is_known
        assert site.call("PUT", "/upstream/a", body)[0] == 200
        site.stop()
    with (tmp_path / "changes.jsonl").open("ab") as file:
        file.write(b"[3, [{")
    site = start(Slardar(tmp_path, *options, PYTHONPATH=path)).ready()
    assert site.call("GET", "/upstream/a")[0] == 200


@pytest.mark.real(False)
def test_journal_is_the_one_of_the_page() -> None:
    """The page on programming shows its code."""
    code = JOURNAL.read_text("utf-8").partition("annotations\n\n")[2]
    assert f"```python\n{code}```\n" in (CHECKOUT / "docs" / "programming.md").read_text("utf-8")


@pytest.mark.real(False)
def test_every_example_is_listed() -> None:
    """The list of examples names all of them, and nothing else."""
    page = (EXAMPLES / "README.md").read_text("utf-8")
    assert set(re.findall(r"\((\S+\.(?:py|sh))\)", page)) == {
        path.name for kind in ("*.py", "*.sh") for path in EXAMPLES.glob(kind)
    }
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert set(re.findall(r"\(([a-z]+)(?:/README\.md)?\)", page)) == folders
