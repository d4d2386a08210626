"""The Dockerfile, and what stands beside it."""

from __future__ import annotations

import json
import re
import socketserver
import subprocess
import threading
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from slardar.config import Timeouts, parse_settings
from tests.integration.programs import CHECKOUT, Program, curl, free_port

CONTAINER = CHECKOUT / "packaging" / "container"


class Instruction(NamedTuple):
    """One instruction of a Dockerfile."""

    word: str
    value: str


def instructions(text: str) -> list[Instruction]:
    """Those of a Dockerfile, in order, without comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in whole.splitlines() if line.strip()]


def faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile; the rules are some of hadolint's."""
    found = []
    made = instructions(text)
    defaults = dict(value.split("=", 1) for word, value in made if word == "ARG" and "=" in value)
    stages: set[str] = set()
    for word, value in made:
        if word == "FROM":
            base, *more = value.split()
            base = re.sub(r"\$\{(\w+)\}", lambda match: defaults.get(match[1], ""), base)
            if base not in stages and not re.fullmatch(
                r"\S+(:(?!latest)[\w.-]+|@sha256:\w+)", base
            ):
                found.append(f"no pinned base: {base}")
            stages |= set(more[1:])
        elif word == "RUN":
            if "apt-get install" in value:
                for wanted in ("apt-get update", "--no-install-recommends", "--yes"):
                    if wanted not in value:
                        found.append(f"apt-get install without {wanted}")
                if "rm -rf /var/lib/apt/lists" not in value:
                    found.append("lists of apt stay")
            if "pip install" in value and "--no-cache-dir" not in value:
                found.append("pip's cache stays")
            if re.search(r"\bsudo\b|\bcd \b|curl .*\|", value):
                found.append(f"not in a RUN: {value}")
        elif word == "ADD":
            found.append("ADD in the place of COPY")
        elif word in ("CMD", "ENTRYPOINT") and not value.startswith("["):
            found.append(f"{word} in a shell, which gets the signals")
        elif word == "WORKDIR" and not value.startswith("/"):
            found.append(f"WORKDIR is relative: {value}")
        elif word == "COPY" and re.search(r"(?<!\S)\.(?!\S)", value):
            found.append("all is copied")
    last = max(index for index, (word, _) in enumerate(made) if word == "FROM")
    final = dict(made[last:])
    if final.get("USER", "root").split(":")[0] in ("root", "0"):
        found.append("it runs as root")
    found += [f"no {word}" for word in ("HEALTHCHECK", "STOPSIGNAL", "LABEL") if word not in final]
    return found


def dockerfile() -> str:
    """The text of the Dockerfile."""
    return (CHECKOUT / "Dockerfile").read_text("utf-8")


def test_dockerfile_has_no_fault() -> None:
    """No root, no unpinned base, nothing left behind."""
    assert faults(dockerfile()) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("debian:bookworm-slim", "debian", "no pinned base: debian"),
        ("debian:bookworm-slim", "debian:latest", "no pinned base: debian:latest"),
        ("--no-install-recommends", "", "apt-get install without --no-install-recommends"),
        ("apt-get update", "true", "apt-get install without apt-get update"),
        ("rm -rf /var/lib/apt/lists/*", "true", "lists of apt stay"),
        ("--no-cache-dir", "", "pip's cache stays"),
        ("USER 1995:1995", "", "it runs as root"),
        ("USER 1995:1995", "USER root", "it runs as root"),
        ("STOPSIGNAL SIGTERM", "", "no STOPSIGNAL"),
        ('CMD ["--config', 'CMD twistd ["--config', "CMD in a shell, which gets the signals"),
        ("COPY slardar slardar", "COPY . .", "all is copied"),
        ("COPY slardar slardar", "ADD slardar slardar", "ADD in the place of COPY"),
    ],
)
def test_fault_is_found(old: str, new: str, fault: str) -> None:
    """Each rule finds what it is for."""
    assert old in dockerfile()
    assert fault in faults(dockerfile().replace(old, new))


def test_what_it_copies_is_there_and_is_let_through() -> None:
    """``.dockerignore`` leaves out all but what the Dockerfile copies."""
    lines = (CHECKOUT / ".dockerignore").read_text("utf-8").splitlines()
    let_through = {line[1:] for line in lines if line.startswith("!")}
    copied = set()
    for word, value in instructions(dockerfile()):
        if word == "COPY" and not value.startswith("--from"):
            copied |= set(value.split()[:-1])
    assert copied == let_through
    assert all((CHECKOUT / name).exists() for name in copied)
    assert "*" in lines
    assert any(fnmatch("slardar/x/__pycache__", line) for line in lines)


def test_stop_is_one_that_drains() -> None:
    """The signal is slardar's own, and the process gets it: no shell is in between."""
    found = dict(instructions(dockerfile()))
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(found["ENTRYPOINT"]) == ["twistd", "--nodaemon", "--pidfile=", "slardar"]
    assert found["HEALTHCHECK"].endswith('CMD ["slardar", "status"]')


@pytest.mark.parametrize("name", ["slardar.yaml", "compose-slardar.yaml"])
def test_configurations_are_good(name: str) -> None:
    """slardar takes each file, and the store is where it is kept."""
    path = CONTAINER / name
    settings = parse_settings(yaml.safe_load(path.read_text("utf-8")), name)
    assert settings.listen == ("tcp:8080",)
    volumes = dict(instructions(dockerfile()))["VOLUME"]
    assert settings.store in (
        f"sqlite:{volumes}/slardar.db",
        "consul:http://consul:8500/config/slardar/",
    )


def compose() -> dict[str, Any]:
    """The compose file."""
    read: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text("utf-8"))
    return read


def test_compose_names_what_is_there() -> None:
    """Files, networks, volumes, services and labels all exist; images have a version."""
    made = compose()
    services = made["services"]
    for name, service in services.items():
        assert set(service["networks"]) <= set(made["networks"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (CONTAINER / source).is_file(), volume
            elif not source.startswith("/"):
                assert source in made["volumes"], volume
        for other in service.get("depends_on", {}):
            assert other in services
        assert service["image"] == "slardar" or re.search(r":\d", service["image"]), name
    assert (CONTAINER / services["slardar"]["build"]["context"] / "Dockerfile").is_file()
    grace = services["slardar"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Timeouts().drain
    config = yaml.safe_load((CONTAINER / "compose-slardar.yaml").read_text("utf-8"))
    (service,) = config["services"].values()
    assert services["web"]["labels"]["slardar.upstream"] == service["docker_service"]
    # Only the sidecar has the socket, and slardar alone reaches it.
    assert [name for name, one in services.items() if "docker.sock" in str(one)] == ["docker"]
    near = [name for name, one in services.items() if "sidecar" in one["networks"]]
    assert near == ["slardar", "docker"]


class Docker(BaseHTTPRequestHandler):
    """Stands for Docker: answers whatever it is asked."""

    def do_GET(self) -> None:
        """Every call is good."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def address_string(self) -> str:
        """A UNIX socket's client has no address."""
        return "a client"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class SocketServer(socketserver.ThreadingUnixStreamServer):
    """Docker's socket."""

    daemon_threads = True


@pytest.mark.real
def test_sidecar_passes_on_what_slardar_asks(tmp_path: Path) -> None:
    """The three calls, with and without a version, and no other one."""
    port = free_port()
    text = (CONTAINER / "docker-socket.cfg").read_text("utf-8")
    assert "unix@/var/run/docker.sock" in text
    text = text.replace("/var/run/docker.sock", f"{tmp_path}/docker.sock")
    config = tmp_path / "haproxy.cfg"
    config.write_text(text.replace("bind :2375", f"bind 127.0.0.1:{port}"), "utf-8")
    words = ["haproxy", "-f", str(config)]
    checked = subprocess.run([*words, "-c"], check=False, capture_output=True, timeout=60)
    said = checked.stdout + checked.stderr
    assert (checked.returncode, b"WARNING" in said) == (0, False), said
    with SocketServer(f"{tmp_path}/docker.sock", Docker) as docker:
        threading.Thread(target=docker.serve_forever, daemon=True).start()
        sidecar = Program([*words, "-db"], tmp_path)
        try:
            url = f"http://127.0.0.1:{port}"
            # Until HAProxy is there.
            patience = ("--retry-connrefused", "--retry", "20", "--retry-delay", "1")
            assert curl(f"{url}/version", *patience)[0] == 200
            for path in ("/version", "/v1.41/events?filters=x", "/v1.41/containers/json?all=1"):
                assert curl(url + path)[0] == 200, path
            for path in (
                *("/containers/abc/json", "/v1.41/containers/json/x", "/info", "/version/../info"),
                *("/v1.41/exec", "//containers/json", "/containers/json%2f..", "/images/json"),
            ):
                assert curl(url + path, "--path-as-is")[0] == 403, path
            for method in ("POST", "DELETE"):
                assert curl(f"{url}/containers/json", "-X", method)[0] == 403
        finally:
            sidecar.end()
            docker.shutdown()
