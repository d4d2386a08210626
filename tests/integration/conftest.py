"""Programs that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.programs import FileServer, Nginx, Program

#: Takes a program and returns it; the program is ended after the test.
Start = Callable[[Any], Any]


@pytest.fixture
def start() -> Iterator[Start]:
    """Keeps the programs of a test, and ends them, the newest first."""
    programs: list[Program] = []

    def keep(program: Program) -> Program:
        programs.append(program)
        return program

    yield keep
    for program in reversed(programs):
        program.end()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    """``python -m http.server`` with one file."""
    folder = tmp_path_factory.mktemp("files") / "www"
    server = FileServer(folder, {"who": "http.server\n"})
    yield server
    server.end()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx that answers the same path, and names the client's address."""
    folder = tmp_path_factory.mktemp("nginx") / "nginx"
    server = Nginx(
        folder,
        """
        location = /who { default_type text/plain; return 200 "nginx\\n"; }
        location = /host { default_type text/plain; return 200 "$host $http_x_forwarded_for\\n"; }
        location = /told { default_type text/plain; return 200
            "$http_x_forwarded_for|$http_x_forwarded_proto|$http_x_real_ip|$http_forwarded"; }
        location = /slow { alias slow; limit_rate 100k; }
        """,
    )
    (folder / "slow").write_bytes(b"x" * 200_000)
    yield server
    server.end()
