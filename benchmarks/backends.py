"""The servers behind the proxies: one nginx with two ports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.folder import fill
from benchmarks.processes import Program, find_program, free_port

__all__ = ["SMALL_BODY", "Backends"]

SMALL_BODY = (
    '{"id": 4711, "name": "a small reply", "state": "ready", "tags": ["red", "green"], '
    '"created": "2024-05-17T09:30:00Z", "owner": {"id": 17, "name": "somebody"}, '
    '"links": {"self": "/items/4711", "next": "/items/4712"}, "price": 12.5}'
)
FILES = {"64k": 64 * 1024, "1m": 1024 * 1024}
#: Sparse: it takes no room on the disk.
DOWNLOAD = ("200m", 200 * 1000 * 1000)


class Backends:
    """nginx with two listening ports, answering small replies and files.

    :raise RuntimeError: if nginx is not installed or does not start.
    """

    def __init__(self, folder: Path, cores: frozenset[int]) -> None:
        program = find_program("nginx")
        if program is None:
            raise RuntimeError("nginx, which serves as the backends, is not installed")
        self.ports = (free_port(), free_port())
        files = folder / "files"
        files.mkdir()
        for name, size in FILES.items():
            (files / f"{name}.bin").write_bytes(bytes(range(256)) * (size // 256))
        with (files / f"{DOWNLOAD[0]}.bin").open("wb") as stream:
            stream.truncate(DOWNLOAD[1])
        values = {**self.places, "small_body": SMALL_BODY}
        fill(("backends.conf", "pages.conf"), folder, values)
        command = (program, "-e", "stderr", "-c", str(folder / "backends.conf"))
        self.program = Program("backends", command, cores, folder)
        try:
            for port in self.ports:
                self.program.wait_for_port(port)
        except BaseException:
            self.program.stop()
            raise

    @property
    def places(self) -> Mapping[str, object]:
        """Where they are, for the proxies' configurations."""
        return {"backend_a": self.ports[0], "backend_b": self.ports[1]}

    def stop(self) -> None:
        self.program.stop()
