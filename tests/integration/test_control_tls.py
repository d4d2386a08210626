"""TLS on the control channels of a running slardar."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import threads

import slardar.amp
from tests.certificates import Authority
from tests.integration.conftest import Start
from tests.integration.programs import Slardar
from tests.integration.test_workers import until


class Guarded(Slardar):
    """slardar whose control channels have TLS, with a CA of its own."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.authority = Authority(folder)
        self.cert, self.key = self.authority.issue("server", ("localhost", "127.0.0.1"))
        (folder / "slardar.yaml").write_text(
            f"control:\n  tls: {{cert: {self.cert}, key: {self.key}{more}}}\n"
            f"  tokens: [{{name: ops, role: admin, sha256: {DIGEST}}}]\n"
        )
        words = ("--config", "slardar.yaml", "--store", "memory:", "--upstream", "a=127.0.0.1:1")
        super().__init__(folder, *words, "--amp", "tcp:0:interface=127.0.0.1")

    def curl(self, *words: str) -> tuple[int, str]:
        """The exit code of curl, and the answer to ``GET /upstreams``."""
        command = ["curl", "-sS", "-m", "20", "-H", f"Authorization: Bearer {TOKEN}", *words]
        done = subprocess.run(
            [*command, f"https://127.0.0.1:{self.control}/upstreams"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout


TOKEN = "s3cret"
DIGEST = "1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0"
#: curl's exit codes: a handshake that failed, a certificate that is not trusted.
FAILED, UNTRUSTED = 35, 60


def test_certificate_is_read_again_with_hup(tmp_path: Path, start: Start) -> None:
    """Callers trust its CA; what is no TLS gets nothing; a broken file changes nothing."""
    site = start(Guarded(tmp_path)).ready()
    trusted = ("--cacert", str(site.authority.file))
    code, body = site.curl(*trusted)
    assert (code, '"a"' in body) == (0, True)
    assert site.curl()[0] == UNTRUSTED
    assert site.curl(*trusted, "--tls-max", "1.1")[0] == FAILED
    with socket.create_connection(("127.0.0.1", site.control), timeout=20) as plain:
        plain.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"slardar_version" not in plain.recv(65536)
    other = Authority(tmp_path, "other")
    other.issue("server", ("127.0.0.1",))
    site.signal(signal.SIGHUP)
    changed = ("--cacert", str(other.file))
    until(lambda: site.curl(*changed)[0] == 0, "the new certificate is served")
    assert site.curl(*trusted)[0] == UNTRUSTED
    site.key.write_text("nonsense")
    site.signal(signal.SIGHUP)
    site.wait_for(r"not read again: .*control\.tls\.key: expected the key of ")
    assert site.curl(*changed)[0] == 0
    assert site.stop()


def test_only_callers_with_a_certificate(tmp_path: Path, start: Start) -> None:
    """``client_ca`` lets nobody else in; the commands have options for it."""
    site = start(Guarded(tmp_path, f", client_ca: {tmp_path}/ca.pem")).ready()
    cert, key = site.authority.issue("ops", ("ops",))
    both = tmp_path / "ops-both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    trusted = ("--cacert", str(site.authority.file))
    assert site.curl(*trusted)[0] != 0
    stranger, stranger_key = Authority(tmp_path, "stranger").issue("stranger", ("ops",))
    assert site.curl(*trusted, "--cert", str(stranger), "--key", str(stranger_key))[0] != 0
    assert site.curl(*trusted, "--cert", str(cert), "--key", str(key))[0] == 0
    command = [str(Path(sys.executable).with_name("slardar")), "hooks", "--json"]
    command += ["--control", f"https://127.0.0.1:{site.control}"]
    ours = ("--cert", str(both))
    # The server's own certificate will do in the place of its CA's.
    for words, code in ((trusted, 1), ((*trusted, *ours), 0), (("--cacert", site.cert, *ours), 0)):
        done = subprocess.run(
            [*command, *words],
            env={**os.environ, "SLARDAR_TOKEN": TOKEN},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert done.stderr.count("\n") == code


@pytest_twisted.ensureDeferred
async def test_amp_over_tls(tmp_path: Path, start: Start) -> None:
    """Twisted's endpoint for clients is all that it takes."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    site = start(Guarded(tmp_path))
    await threads.deferToThread(site.ready)
    port = site.wait_for(r"amp on tcp 127\.0\.0\.1:(\d+)")[1]
    roots = tmp_path / "roots"
    roots.mkdir()
    site.authority.file.rename(roots / "ca.pem")
    endpoint = f"tls:localhost:{port}:trustRoots={roots}"
    client = await slardar.amp.connect(reactor, endpoint, TOKEN, timeout=20)
    try:
        large = {"servers": [{"host": "127.0.0.1", "port": port} for port in range(1, 4000)]}
        assert await client.update_upstream("b", large) == 1
        assert len((await client.get_upstream("b"))["servers"]) == 3999
    finally:
        await client.close()
    with pytest.raises(Exception, match=r"certificate|[Cc]onnect|[Tt]imeout|lost"):
        await slardar.amp.connect(reactor, f"tls:localhost:{port}", TOKEN, timeout=20)
