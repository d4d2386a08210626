"""What becomes of slardar's Debian package on a machine: run as root in a clean Debian.

The machine is a folder, with namespaces of its own (``machine.py``).  It has no systemd; what
slardar and the package's scripts ask of systemd is done by this program and by a stand-in of
systemctl.  It needs Debian's Python and nothing else.
"""

from __future__ import annotations

import http.client
import os
import pwd
import re
import shlex
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from configparser import RawConfigParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TextIO

GIVEN = Path("/given")
UNIT = Path("/usr/lib/systemd/system/slardar.service")
MAIN = Path("/run/main.pid")
ASKED = Path("/run/asked")
LOG = Path("/var/log/slardar/access.log")
PATIENCE = 60.0

SYSTEMCTL = f"""#!/bin/sh
echo "$*" >>{ASKED}
case "$*" in
    *is-active*) [ -e {MAIN} ] ;;
    *is-enabled*) echo enabled ;;
    *MainPID*) cat {MAIN} ;;
    "kill --kill-who=main --signal="*) kill "-$(echo "$3" | cut -d= -f2)" "$(cat {MAIN})" ;;
    *"stop slardar.service"*)
        main=$(cat {MAIN})
        kill -TERM "$main"
        timeout 60 sh -c "while [ -e /proc/$main ]; do sleep 0.1; done"
        rm {MAIN} ;;
esac
"""
#: Debian's own notes of what was installed.
NOTES = re.compile(
    r"/var/lib/dpkg/|/var/log/dpkg\.log|/var/lib/systemd/deb-systemd-helper|/var/lib/logrotate"
    r"|/etc/(?:passwd|group|shadow|gshadow|subuid|subgid)-?$|/var/lib/systemd$|/etc/systemd/system"
)


def run(*command: str, codes: tuple[int, ...] = (0,)) -> str:
    """The output of a command, which must end with one of the codes."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
    assert done.returncode in codes, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def wait(seconds: float) -> None:
    """Wait a little between two looks, or two requests."""
    threading.Event().wait(seconds)


def until(holds: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {what}"
        wait(0.05)


def files() -> set[str]:
    """Every path of the machine, but what the kernel and Debian's tools keep for themselves."""
    found = run("find", "/", "-xdev", "-path", "/given", "-prune", "-o", "-print")
    return {path for path in found.splitlines() if not NOTES.search(path)}


def say(what: str) -> None:
    """Tell the test how far this program has come."""
    print(what, flush=True)


class Answer(BaseHTTPRequestHandler):
    """A server behind slardar."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer anything."""
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"it\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Service:
    """slardar as systemd runs it, after the unit and its drop-in."""

    def __init__(self) -> None:
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind("/run/notify")
        os.chmod("/run/notify", 0o666)
        threading.Thread(target=self._listen, daemon=True).start()
        unit = self._read(UNIT)
        unit.update(self._read(UNIT.with_name("slardar.service.d") / "user.conf"))
        assert (unit["DynamicUser"], unit["User"]) == ("no", "slardar")
        with open("/run/output", "a") as output:
            self.process = self._start(unit, output)
        # A zombie would be there for the stand-in of systemctl.
        threading.Thread(target=self.process.wait, daemon=True).start()
        until(MAIN.exists, "slardar serves")

    @staticmethod
    def _start(unit: dict[str, str], output: TextIO) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            shlex.split(unit["ExecStart"]),
            cwd=unit["WorkingDirectory"],
            user=unit["User"],
            group=unit["User"],
            umask=int(unit["UMask"], 8),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"NOTIFY_SOCKET": "/run/notify", "PATH": os.environ["PATH"]},
        )

    @staticmethod
    def _read(path: Path) -> dict[str, str]:
        parser = RawConfigParser(delimiters=("=",), comment_prefixes=("#",))
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(path.read_text())
        return dict(parser["Service"])

    def _listen(self) -> None:
        while True:
            message = self._notify.recv(4096).decode()
            if found := re.match(r"READY=1\nMAINPID=(\d+)\n", message):
                MAIN.with_suffix(".new").write_text(found[1])
                MAIN.with_suffix(".new").rename(MAIN)


class Load(threading.Thread):
    """A client after the other, with two requests each; what fails is kept."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.failures: list[str] = []
        self.count = 0
        self.over = False

    def run(self) -> None:
        """Make requests until it is over."""
        while not self.over:
            client = http.client.HTTPConnection("127.0.0.1", 8080, timeout=PATIENCE)
            try:
                for _ in range(2):
                    client.request("GET", "/", headers={"Host": "www.example.com"})
                    reply = client.getresponse()
                    if (reply.status, reply.read()) != (200, b"it\n"):
                        self.failures.append(f"status {reply.status}")
                    self.count += 1
                    if reply.will_close:
                        break
            except OSError as error:
                self.failures.append(repr(error))
            client.close()
            wait(0.01)


def main() -> None:
    """Install, serve, rotate, upgrade, remove, purge."""
    systemctl = Path("/usr/bin/systemctl")
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    Path("/run/systemd/system").mkdir(parents=True)
    before = files()

    run("dpkg", "--install", str(GIVEN / "first.deb"))
    user = pwd.getpwnam("slardar")
    assert (user.pw_dir, user.pw_shell) == ("/var/lib/slardar", "/usr/sbin/nologin")
    for folder, mode in (("/var/lib/slardar", 0o700), ("/etc/slardar", 0o750)):
        held = os.stat(folder)
        assert (held.st_gid, stat.S_IMODE(held.st_mode)) == (user.pw_gid, mode), folder
    assert re.search(r" preset slardar\.service$", ASKED.read_text(), re.MULTILINE)
    assert re.search(r" start slardar\.service$", ASKED.read_text(), re.MULTILINE)
    run("dpkg", "--install", str(GIVEN / "first.deb"))
    say("installed")

    config = "/etc/slardar/slardar.yaml"
    assert run("slardar-twistd", "slardar", "--config", config, "--check") == "ok\n"
    say(run("slardar", "--version").strip())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    service = Service()
    run("slardar", "set", "www.example.com", f"127.0.0.1:{server.server_port}")
    load = Load()
    load.start()
    until(lambda: load.count > 20 or load.failures, "requests are served")
    assert load.failures == []
    for status in Path("/proc").glob("[0-9]*/status"):
        text = status.read_text()
        if re.search(rf"^PPid:\s*{service.process.pid}$", text, re.MULTILINE):
            assert re.search(rf"^Uid:\s+{user.pw_uid}\s+{user.pw_uid}\s", text, re.MULTILINE)
    say("serves")

    until(lambda: LOG.stat().st_size, "the log is written")
    assert "rotating pattern: /var/log/slardar/access.log" in run(
        "logrotate", "--debug", "/etc/logrotate.d/slardar"
    )
    run("logrotate", "--force", "/etc/logrotate.d/slardar")
    until(lambda: LOG.exists() and LOG.stat().st_size, "the log goes on in a new file")
    say("rotated")

    first = MAIN.read_text()
    own = Path(config).read_text() + "\nconf_hash: own\n"
    Path(config).write_text(own)
    run("dpkg", "--install", str(GIVEN / "second.deb"))
    assert MAIN.read_text() != first
    assert Path(config).read_text() == own
    until(lambda: not Path(f"/proc/{first}").exists(), "the former version ends")
    seen = load.count
    until(lambda: load.count > seen + 20 or load.failures, "requests are served")
    load.over = True
    load.join()
    assert load.failures == [], load.failures
    assert '"conf_hash": "own"' in run("slardar", "status", "--json")
    # Neither lists of plugins nor compiled files were out of date, and made anew.
    assert "Unable to write" not in Path("/run/output").read_text()
    changed = run("dpkg", "--verify", "slardar", codes=(0, 1)).split("\n")
    assert [line for line in changed if line and not line.endswith(config)] == []
    say("upgraded")

    run("dpkg", "--remove", "slardar")
    assert not MAIN.exists()
    assert Path(config).exists()
    assert Path("/var/lib/slardar/slardar.db").exists()
    run("dpkg", "--purge", "slardar")
    after = files()
    assert after - before == set(), sorted(after - before)
    # dpkg takes an empty /opt along, which no package owns.
    assert before - after <= {"/opt"}, sorted(before - after)
    assert "slardar" not in Path("/etc/passwd").read_text() + Path("/etc/group").read_text()
    say("purged")


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        for path in (Path("/run/output"), ASKED):
            if path.exists():
                sys.stderr.write(f"--- {path}\n{path.read_text()}")
        raise
