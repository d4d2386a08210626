"""slardar and two servers beside it, for the commands of the pages, and what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from slardar.cli import main
from tests.book import simple_commands
from tests.integration.programs import CHECKOUT, Slardar, free_port

__all__ = ["Demo", "agrees"]

#: What differs from run to run: fractions and times, on both sides.
_EXAMPLES = re.compile(r"(?<![\d.])\d+\.\d+(?:e-\d+)?(?![\d.])|\d{4}-\d\d-\d\d[ T]?\d\d:\d\d:\d\d")
#: An id that a command prints and a later command names.
_ID = re.compile(r"\b\d-[0-9a-f]{32}\b")


class Demo:
    """slardar and two backends; ``ports`` maps the ports on the pages to real ones.

    Nothing listens on port 8009 of the pages.
    """

    def __init__(self, slardar: Slardar, folder: Path, backends: list[int]) -> None:
        self.folder = folder
        self.ports = {8080: slardar.port, 1995: slardar.control, 8009: free_port()}
        self.ports |= dict(zip((8001, 8002), backends, strict=True))
        self._ids: dict[str, str] = {}
        self._programs = folder / "bin"
        self._programs.mkdir()
        for name, call in (
            ("slardar", "from slardar.cli import main; main()"),
            ("twistd", "from twisted.scripts.twistd import run; run()"),
        ):
            program = self._programs / name
            program.write_text(f"#!{sys.executable}\nimport sys; sys.argv[0] = {name!r}\n{call}\n")
            program.chmod(0o755)
        (folder / "examples").symlink_to(CHECKOUT / "examples")
        # The status of each reply goes to the errors, where nothing else is expected.
        (folder / ".curlrc").write_text(
            'silent\nshow-error\nmax-time = 20\nnoproxy = "*"\n'
            'write-out = "%{stderr}%{http_code}\\n"\n'
        )

    def localise(self, text: str) -> str:
        """The text with the real ports, and with ids that were told meanwhile."""
        text = re.sub(
            r"(?<![\d.])(8080|1995|8001|8002|8009)(?!\d)",
            lambda match: str(self.ports[int(match[1])]),
            text,
        )
        return _ID.sub(lambda match: self._ids.get(match[0], match[0]), text)

    def run(self, command: str) -> tuple[int, str]:
        """Status and output of a command; one without curl has no status, and must work."""
        text = self.localise(command)
        words = list(simple_commands(text))
        if len(words) == 1 and words[0][0] == "slardar" and words[0][1] not in ("check", "store"):
            return 0, self._console(words[0][1:])
        done = subprocess.run(
            ["sh", "-c", text],
            env={
                **os.environ,
                **self._environment(),
                "PATH": f"{self._programs}:{os.environ['PATH']}",
                "CURL_HOME": str(self.folder),
                "PYTHONPATH": str(CHECKOUT),
            },
            cwd=self.folder,
            input="y\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{text}{done.stdout}{done.stderr}"
        statuses = [int(line) for line in done.stderr.split()] if "curl" in text else [0]
        return statuses[-1], done.stdout

    def _environment(self) -> dict[str, str]:
        return {"SLARDAR_CONTROL": f"http://127.0.0.1:{self.ports[1995]}"}

    def _console(self, words: list[str]) -> str:
        """What a command of the console prints.  It runs here: a process would take a second."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.syspath_prepend(str(self.folder))
            done = CliRunner().invoke(main, words, input="y\n", env=self._environment())
        # Another test may have another module of the same name.
        for file in self.folder.glob("*.py"):
            sys.modules.pop(file.stem, None)
        assert done.exit_code == 0, done.output
        return done.stdout

    def note_ids(self, expected: str, answer: str) -> None:
        """Remember what the ids of the page are in truth."""
        self._ids.update(zip(_ID.findall(expected), _ID.findall(answer), strict=False))


def squeezed(text: str) -> str:
    """The text without blanks, for the line breaks of JSON do not matter; and without examples."""
    return re.sub(r"\s+", "", _EXAMPLES.sub("0.0", text))


def agrees(expected: str, answer: str) -> bool:
    """Whether ``answer`` is the one on the page."""
    parts = [re.escape(part) for part in squeezed(expected).split("...")]
    return re.fullmatch(".*".join(parts), squeezed(answer)) is not None
