"""The scripts: ``run_tests`` adds up the outcomes of pytest, ``demo`` starts all or nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

pytestmark = pytest.mark.real

#: Stands for Python: writes its arguments down, and exits as the files ``no`` and ``only`` say.
PYTHON = """#!/bin/bash
printf '<%s>' "$@" >>ran
printf '\\n' >>ran
for word in "$@"; do
    case $word in --real=*) exit "$(cat "${word#--real=}")" ;; esac
done
"""


#: The exit codes of the quick, the real and the timed tests, and that of all together.
ENDS = [
    (0, 0, 0, 0),
    (1, 0, 0, 1),
    (0, 1, 0, 1),
    (0, 0, 1, 1),
    (1, 1, 1, 1),
    (5, 0, 5, 0),
    (0, 5, 0, 0),
    (1, 5, 5, 1),
    (5, 1, 0, 1),
    (5, 5, 0, 0),
    (5, 5, 5, 5),
    # Interrupted, or used wrongly: what comes after does not run.
    (2, 0, 0, 2),
    (4, 0, 0, 4),
    (0, 2, 0, 2),
    (0, 0, 2, 2),
]
SAID = {0: "passed", 1: "FAILED", 5: "none selected"}


@pytest.mark.parametrize(("quick", "real", "timed", "outcome"), ENDS)
@pytest.mark.parametrize("wanted", ["all", "quick"])
def test_outcomes_are_added_up(
    tmp_path: Path, wanted: str, quick: int, real: int, timed: int, outcome: int
) -> None:
    """A failure in any run fails; nothing selected in one is none; other ends end it."""
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "no").write_text(str(quick))
    (tmp_path / "beside").write_text(str(real))
    (tmp_path / "alone").write_text(str(timed))
    command = [CHECKOUT / "scripts" / "run_tests", "./python", wanted, "-k", "a b", "tests/x.py"]
    done = subprocess.run(
        command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    ran = (tmp_path / "ran").read_text().splitlines()
    assert all(line.startswith("<-m><pytest><--real=") for line in ran)
    assert all(line.endswith("<-k><a b><tests/x.py>") for line in ran)
    if wanted == "quick":
        assert (done.returncode, len(ran)) == (quick, 1)
        assert done.stdout == ""
    else:
        assert done.returncode == outcome
        ends = {"quick": quick, "real": real, "timed": timed}
        broken = next((place for place, end in enumerate(ends.values(), 1) if end in {2, 4}), 0)
        assert len(ran) == (broken or 3)
        said = [] if broken else [f"{name} tests: {SAID[end]}" for name, end in ends.items()]
        assert done.stdout.splitlines() == said


class Demo:
    """What ``scripts/demo`` says, with ports and a folder of its own."""

    def __init__(self, folder: Path, **ports: str) -> None:
        self._own = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
        first, second, listen, control = (one.getsockname()[1] for one in self._own)
        for one in self._own:
            one.close()
        chosen = {
            "BACKENDS": f"{first} {second}",
            "LISTEN": f"tcp:{listen}:interface=127.0.0.1",
            "CONTROL": f"tcp:{control}:interface=127.0.0.1",
            "FOLDER": str(folder / "kept"),
            **ports,
        }
        self.port, self.control = listen, control
        self.process = subprocess.Popen(
            [CHECKOUT / "scripts" / "demo", Path(sys.executable).parent],
            env={**os.environ, **chosen},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C in a terminal reaches all of them.
            start_new_session=True,
        )

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def until(self, text: str) -> str:
        """What it says, up to ``text``."""
        assert self.process.stdout is not None
        said = ""
        while text not in said:
            line = self.process.stdout.readline()
            assert line, said
            said += line
        return said

    def rest(self) -> str:
        """What it says until nobody is left who could say something."""
        return self.process.communicate(timeout=60)[0]


@pytest.mark.parametrize("key", ["BACKENDS", "LISTEN", "CONTROL"])
def test_demo_beside_a_stranger(tmp_path: Path, key: str) -> None:
    """One line, the end, and nothing that is left."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        taken = {
            "BACKENDS": f"{port} 0",
            "LISTEN": f"tcp:{port}:interface=127.0.0.1",
            "CONTROL": f"tcp:{port}:interface=127.0.0.1",
        }
        demo = Demo(tmp_path, **{key: taken[key]})
        (line,) = demo.rest().splitlines()
    assert demo.process.returncode == 1
    assert line.startswith("cannot serve on ")
    assert f"{port}: " in line
    assert not (tmp_path / "kept").exists()


def test_demo_waits_for_slardar(tmp_path: Path) -> None:
    """The second Ctrl-C ends the drain; nobody writes to the terminal after the end."""
    demo = Demo(tmp_path)
    demo.until("Ctrl-C ends slardar and both backends.")
    assert (tmp_path / "kept" / "slardar.db").exists()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        place = f"http://127.0.0.1:{demo.control}/upstream/a"
        body = f'{{"servers": [{{"host": "127.0.0.1", "port": {silent.getsockname()[1]}}}]}}'
        put = urllib.request.Request(place, body.encode(), method="PUT")
        with urllib.request.urlopen(put, timeout=20):
            pass
        with socket.create_connection(("127.0.0.1", demo.port), 20) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            while True:
                there = silent.accept()[0]
                there.settimeout(20)
                # Heartbeats only connect.
                if there.recv(100):
                    break
                there.close()
            demo.interrupt()
            demo.until("stopping: requests under way are finished first")
            demo.interrupt()
            said = demo.rest()
            there.close()
    assert "stopping at once: told to stop again" in said
    assert "Server Shut Down" in said
    assert "Traceback" not in said
