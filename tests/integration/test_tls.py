"""TLS to clients on the real program: curl, OpenSSL and hostile clients, HUP and an upgrade."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.integration.programs import PATIENCE, Slardar, curl
from tests.integration.test_workers import until
from tests.integration.upgrades import Upgraded

#: More than all buffers on the way hold.
LARGE = 10_000_000


class Echo:
    """A server that tells its request's head, counts a body, or speaks after an upgrade."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.sock.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with closing(sock), contextlib.suppress(ConnectionError):
            self._talk(sock)

    def _talk(self, sock: socket.socket) -> None:
        with sock.makefile("rb") as file:
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = file.readline()
                    if not line:
                        return
                    head += line
                lower = head.lower()
                if b"\r\nupgrade: " in lower:
                    sock.sendall(b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
                    while data := file.read1(1000):
                        sock.sendall(data.upper())
                    sock.sendall(b"the end")
                    return
                body = head
                if b"\r\ncontent-length: " in lower:
                    size = int(lower.partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
                    body = b"%d bytes" % len(file.read(size))
                elif head.startswith(b"GET /large"):
                    body = b"x" * LARGE
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def close(self) -> None:
        """Listen no more."""
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


class Site:
    """slardar with TLS, a file that can be written anew, and clients."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.authority = Authority(folder)
        (folder / "certs").mkdir()
        self.authority.issue("certs/a", ("a.example", "*.w.example"))
        echo = Echo()
        stack.callback(echo.close)
        self.echo = echo
        self.write()

    def write(self, listen: bool = True, **tls: Any) -> None:
        """Write the file."""
        tls.setdefault("certificates", [{"folder": str(self.folder / "certs")}])
        server = {"host": "127.0.0.1", "port": self.echo.port}
        names = ("a.example", "b.example", "x.w.example")
        settings = {
            "listen": ["tls:0:interface=127.0.0.1"],
            "upstreams": {name: {"servers": [server]} for name in names},
            "health": {"enabled": False},
            "timeouts": {"client_header": 2},
            "access_log": {"to": f"file:{self.folder}/access.log"},
            "tls": tls,
        }
        (self.folder / "slardar.yaml").write_text(json.dumps(settings))

    def start(self, workers: str = "0") -> Site:
        """Start it."""
        options = ("--config", "slardar.yaml", "--store", "memory:", "--workers", workers)
        command = Slardar(self.folder, *options, "--listen", "tls:0:interface=127.0.0.1")
        self.program: Any = command
        self.stack.callback(command.end)
        command.ready()
        self.port = int(command.wait_for(r"requests on tls 127\.0\.0\.1:(\d+)")[1])
        return self

    def curl(self, name: str = "a.example", path: str = "/", *words: str) -> tuple[int, str]:
        """Status and body of a request."""
        return curl(
            f"https://{name}:{self.port}{path}",
            *("--cacert", str(self.authority.file), "--resolve", f"{name}:{self.port}:127.0.0.1"),
            *words,
        )

    def context(self, **limits: Any) -> ssl.SSLContext:
        """A client's."""
        context = self.authority.client()
        for key, value in limits.items():
            setattr(context, key, value)
        return context

    def plain(self) -> socket.socket:
        """A connection without a handshake."""
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.stack.callback(sock.close)
        return sock

    def connect(self, name: str = "a.example", context: Any = None) -> ssl.SSLSocket:
        """A connection with TLS."""
        sock = (context or self.context()).wrap_socket(self.plain(), server_hostname=name)
        self.stack.callback(sock.close)
        return sock

    def hup(self, says: str) -> None:
        """Let it read everything again, until it says that it has."""
        before = self.program.output.count("read again: nothing of")
        self.program.signal(signal.SIGHUP)
        until(lambda: self.program.output.count("read again: nothing of") > before, "read again")
        assert says in self.program.output


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that is not started yet."""
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def ask(sock: socket.socket, path: str = "/", *lines: str, host: str = "a.example") -> bytes:
    """Send a request; answers the reply as far as it comes at once."""
    head = "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "", ""])
    sock.sendall(head.encode())
    return answer(sock)


def answer(sock: socket.socket) -> bytes:
    """A reply with a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        assert more, data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < size:
        more = sock.recv(65536)
        assert more
        body += more
    return head + b"\r\n\r\n" + body


def test_requests_of_curl(site: Site) -> None:
    """With every version, by name and by wildcard, large bodies both ways, and what servers,
    clients without TLS and the access log get to know."""
    site.start("2")
    status, text = site.curl("a.example", "/", "-H", "X-Client-Cert-Subject: CN=root")
    assert status == 200
    assert "\nX-Forwarded-Proto: https\n" in text.replace("\r", "")
    assert "Cert-Subject" not in text
    assert site.curl("x.w.example")[0] == 200
    for version in ("1.2", "1.3"):
        assert site.curl("a.example", "/", f"--tlsv{version}", "--tls-max", version)[0] == 200
    status, text = site.curl("a.example", "/large", "--limit-rate", "20M")
    assert (status, len(text)) == (200, LARGE)
    (site.folder / "upload").write_bytes(bytes(LARGE))
    upload = ("-X", "PUT", "--data-binary", f"@{site.folder / 'upload'}", "-H", "Expect:")
    assert site.curl("a.example", "/", *upload) == (200, f"{LARGE} bytes")
    status, text = curl(f"http://127.0.0.1:{site.port}/")
    assert status == 400
    assert "this port expects TLS: use https://" in text
    with pytest.raises(subprocess.CalledProcessError) as caught:
        site.curl("b.example")
    assert "unrecognized name" in caught.value.stderr

    def logged() -> list[Any]:
        lines = (site.folder / "access.log").read_text().splitlines()
        return [(one["status"], one["tls"]) for one in map(json.loads, lines)]

    until(lambda: len(logged()) >= 7, "the access log has all")
    assert sorted({(status, tls or "") for status, tls in logged()}) == [
        (200, "TLSv1.2"),
        (200, "TLSv1.3"),
        (400, ""),
    ]


def test_tunnel_and_half_close(site: Site) -> None:
    """An upgraded connection passes both ways, and so do the ends of both sides."""
    site.start("1")
    sock = site.connect()
    sock.sendall(
        b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nfirst"
    )
    data = b""
    while not data.endswith(b"FIRST"):
        data += sock.recv(1000)
    assert data.startswith(b"HTTP/1.1 101 ")
    sock.sendall(b"second")
    assert sock.recv(1000) == b"SECOND"
    # The client's side ends without a word of TLS, as many do.
    socket.socket.shutdown(sock, socket.SHUT_WR)
    assert sock.recv(1000) == b"the end"
    assert sock.recv(1000) == b""
    sock = site.connect()
    sock.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    socket.socket.shutdown(sock, socket.SHUT_WR)
    assert answer(sock).startswith(b"HTTP/1.1 200 OK")
    assert sock.recv(1) == b""


def test_hostile_clients_disturb_nobody(site: Site) -> None:
    """Five hundred that never say a word, others that begin a hello and stop, garbage, records
    that are cut off: requests are served meanwhile, and all of them are gone in time."""
    site.start("1")
    silent = [site.plain() for _ in range(500)]
    for sock in silent[:100]:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    for garbage in (b"\x00", b"\x80\x2e\x01\x03\x01", b"\x16\x03\x01\x00\x00", b"SSH-2.0-x\r\n"):
        sock = site.plain()
        sock.sendall(garbage * 3)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1000):
            pass
    torn = site.connect()
    torn.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n")
    raw = socket.socket(fileno=os.dup(torn.fileno()))
    raw.settimeout(PATIENCE)
    raw.sendall(b"\x17\x03\x03\x01\x00half of a record")
    raw.shutdown(socket.SHUT_WR)
    while raw.recv(1000):
        pass
    raw.close()
    kept = site.connect()
    for _ in range(20):
        assert ask(kept).startswith(b"HTTP/1.1 200 OK")
        assert ask(site.connect()).startswith(b"HTTP/1.1 200 OK")
    for sock in silent:
        while sock.recv(1000):
            pass

    def connections() -> int:
        _, status = site.program.call("GET", "/status")
        return int(status["statistics"]["connections"])

    # The counters are a second old.
    until(lambda: connections() <= 22, "they are gone")


def test_certificates_of_clients(site: Site) -> None:
    """A name that requires one serves nobody without, whatever the Host says."""
    folder = site.folder
    alice = site.authority.issue("alice", ("alice",))
    cert, key = site.authority.issue("b", ("b.example",))
    client = {"verify": "require", "ca": str(site.authority.file)}
    site.write(
        certificates=[
            {"folder": str(folder / "certs")},
            {"cert": str(cert), "key": str(key), "client": client},
        ]
    )
    site.start("1")
    identity = ("--cert", str(alice[0]), "--key", str(alice[1]))
    status, text = site.curl("b.example", "/", *identity, "-H", "X-Client-Cert-Subject: CN=root")
    assert status == 200
    assert text.count("Cert-Subject") == 1
    assert "X-Client-Cert-Subject: CN=alice" in text
    for limit in ("1.2", "1.3"):
        with pytest.raises(subprocess.CalledProcessError):
            site.curl("b.example", "/", "--tls-max", limit)
    status, text = site.curl("a.example", "/", "-H", "Host: b.example")
    assert status == 421
    status, text = site.curl("a.example", "/", "-H", "Host: b.example", "--data", "x")
    assert status == 421
    # Names with the same demands may share a connection.
    assert site.curl("a.example", "/", "-H", "Host: x.w.example")[0] == 200


def location(url: str, *words: str) -> tuple[int, str]:
    """The status of a reply, and the place to which it sends a client."""
    status, text = curl(url, "--dump-header", "-", "--output", "/dev/null", *words)
    found = re.search(r"(?im)^location: (\S+)\r?$", text)
    return status, "" if found is None else found[1]


def test_redirect_to_https(site: Site) -> None:
    """curl follows it, with its body; names without a certificate are served as before; and HUP
    takes both keys."""
    site.write(redirect=True, hsts={"max_age": 300, "subdomains": True})
    site.start("2")
    plain = site.program.port
    here = ("--resolve", f"*:{plain}:127.0.0.1", "--resolve", f"*:{site.port}:127.0.0.1")

    def asked(name: str, path: str = "/", *words: str) -> tuple[int, str]:
        return location(f"http://{name}:{plain}{path}", *here, *words)

    secure = f":{site.port}"
    assert asked("a.example", "/x?y=1") == (308, f"https://a.example{secure}/x?y=1")
    assert asked("x.w.example") == (308, f"https://x.w.example{secure}/")
    # The client sees other ports than there are.
    assert asked("a.example", "/", "-H", "Host: a.example") == (308, "https://a.example/")
    assert asked("b.example") == (200, "")
    trusting = ("--location", "--cacert", str(site.authority.file), *here)
    url = f"http://a.example:{plain}/in"
    assert curl(url, *trusting, "-X", "PUT", "--data", "hello") == (200, "5 bytes")
    _, text = site.curl("a.example", "/", "--dump-header", "-")
    assert text.count("\nStrict-Transport-Security: max-age=300; includeSubDomains\n") == 1
    _, text = site.curl("a.example", "/", "--dump-header", "-", "-H", "Host: none.example")
    assert text.startswith("HTTP/1.1 502 ")
    assert "Strict-Transport-Security" not in text
    # A browser never believes it without TLS.
    _, text = curl(url.replace("a.example", "b.example"), *here, "--dump-header", "-")
    assert "Strict-Transport-Security" not in text

    def logged() -> list[Any]:
        lines = (site.folder / "access.log").read_text().splitlines()
        return [one["error"] for one in map(json.loads, lines) if one["status"] == 308]

    until(lambda: len(logged()) >= 4, "the access log has all")
    assert set(logged()) == {"this host is served over https"}

    def refused() -> bool:
        _, text = curl(f"http://127.0.0.1:{site.program.control}/metrics")
        return bool(re.search(r'slardar_refused_total\{reason="https"\} [4-9]', text))

    until(refused, "the redirects are counted")
    site.write(redirect=9443, hsts=600)
    site.hup("read again: tls.redirect, tls.hsts hold from now on")
    until(lambda: asked("a.example")[1] == "https://a.example:9443/", "the port is taken")
    _, text = site.curl("a.example", "/", "--dump-header", "-")
    assert "\nStrict-Transport-Security: max-age=600\n" in text
    site.write()
    site.hup("read again: tls.redirect, tls.hsts hold from now on")
    until(lambda: asked("a.example")[0] == 200, "nothing is redirected")
    _, text = site.curl("a.example", "/", "--dump-header", "-")
    assert "Strict-Transport-Security" not in text


PYTHON = """
def on_request(request):
    tls = request.tls
    request.headers["X-Python"] = "none" if tls is None else f"{tls.version} {tls.sni}"
    if request.client_cert is not None:
        request.headers["X-Python-Cert"] = request.client_cert.fingerprint
"""
LUA = """
    ngx.req.set_header("X-Lua", ngx.var.ssl_protocol)
    ngx.req.set_header("X-Lua-Cert", ngx.var.ssl_client_fingerprint)
    ngx.req.set_header("X-Lua-Mail", request.client_cert and request.client_cert.emails[1])
"""


def test_hooks_see_tls(site: Site) -> None:
    """Of every connection what belongs to it, also of one that resumes; and none where there is
    none."""
    cert, key = site.authority.issue("alice", ("alice", "alice@a.example"))
    data = ssl.PEM_cert_to_DER_cert(cert.read_text())
    site.write(client={"verify": "optional", "ca": str(site.authority.file)})
    site.start("1")
    for name, text in (("python/script.a.example", PYTHON), ("lua/script.a.example", LUA)):
        for method in ("POST", "PUT"):
            assert site.program.call(method, f"/{name}", text)[0] == 200
    identity = ("--cert", str(cert), "--key", str(key))
    _, text = site.curl("a.example", "/", *identity, "--tls-max", "1.2")
    for line in (
        "X-Python: TLSv1.2 a.example",
        f"X-Python-Cert: {hashlib.sha256(data).hexdigest()}",
        "X-Lua: TLSv1.2",
        f"X-Lua-Cert: {hashlib.sha1(data).hexdigest()}",
        "X-Lua-Mail: alice@a.example",
    ):
        assert line in text
    _, text = site.curl()
    assert "X-Python: TLSv1.3 a.example" in text
    assert "-Cert" not in text
    _, text = curl(f"http://127.0.0.1:{site.program.port}/", "-H", "Host: a.example")
    assert "X-Python: none" in text
    assert "X-Lua" not in text
    context = site.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.load_cert_chain(cert, key)
    first = site.connect(context=context)
    ask(first)
    again = context.wrap_socket(site.plain(), server_hostname="a.example", session=first.session)
    assert again.session_reused
    assert b"X-Lua-Mail: alice@a.example" in ask(again)
    again.close()
    status, found = site.program.call("GET", "/explain?host=a.example&path=/")
    assert status == 200
    assert "+ X-Python: none" in json.dumps(found)


def test_certificates_of_clients_by_listener(site: Site) -> None:
    """The same name asks for one at one listener, and for none at the other one; a file of a
    CA is read again, and a listener that is gone from the settings goes on asking."""
    folder = site.folder
    alice = site.authority.issue("alice", ("alice",))
    partners = Authority(folder, "partners")
    bob = partners.issue("bob", ("bob",))
    file = partners.file.rename(folder / "partners:all.pem")
    ca = str(file).replace(":", r"\:")
    strict = f"tls:0:interface=127.0.0.1:verify=require:ca={ca}"
    settings = json.loads((folder / "slardar.yaml").read_text())
    settings["listen"] = ["tls:0:interface=127.0.0.1", strict]
    (folder / "slardar.yaml").write_text(json.dumps(settings))
    options = ("--config", "slardar.yaml", "--store", "memory:")
    site.program = program = Upgraded(folder, *options, count=1, listen=False)
    site.stack.callback(program.end)
    program.wait_for(r"control on tcp 127\.0\.0\.1:(\d+)")
    easy, hard = map(int, re.findall(r"requests on tls 127\.0\.0\.1:(\d+)", program.output))

    def status(port: int, who: tuple[Path, Path] | None = None, *words: str) -> tuple[int, str]:
        site.port = port
        identity = () if who is None else ("--cert", str(who[0]), "--key", str(who[1]))
        try:
            return site.curl("a.example", "/", *identity, *words)
        except subprocess.CalledProcessError:
            return 0, ""

    assert status(easy)[0] == 200
    assert status(hard)[0] == 0
    assert status(hard, alice)[0] == 0
    code, text = status(hard, bob)
    assert code == 200
    assert "X-Client-Cert-Subject: CN=bob" in text
    # By either name of this listener the same is asked for.
    assert status(hard, bob, "-H", "Host: x.w.example")[0] == 200
    # Who has come in at the one does not come in at the other one with the session.
    saved = site.authority.client()
    saved.maximum_version = ssl.TLSVersion.TLSv1_2
    site.port = easy
    first = site.connect(context=saved)
    ask(first)
    site.port = hard
    with pytest.raises(ssl.SSLError):
        saved.wrap_socket(site.plain(), server_hostname="a.example", session=first.session)
    settings["listen"] = ["tls:0:interface=127.0.0.1"]
    (folder / "slardar.yaml").write_text(json.dumps(settings))
    file.write_text(site.authority.file.read_text())
    site.hup("read again: certificates for clients")
    until(lambda: status(hard, alice)[0] == 200, "the other CA counts")
    assert status(hard, bob)[0] == 0
    assert status(hard)[0] == 0


def test_new_files_under_load(site: Site) -> None:
    """No request fails, and no connection is closed for a certificate; a broken file changes
    nothing, and no key is told."""
    site.start("2")
    key = site.folder / "certs" / "a.key"
    kept = site.connect()
    before = kept.getpeercert(True)
    ask(kept)
    failures: list[Any] = []
    served = 0
    ends = threading.Event()

    def load() -> None:
        nonlocal served
        while not ends.is_set():
            try:
                with site.context().wrap_socket(
                    socket.create_connection(("127.0.0.1", site.port), PATIENCE),
                    server_hostname="a.example",
                ) as sock:
                    for _ in range(3):
                        assert ask(sock).startswith(b"HTTP/1.1 200 OK")
                        served += 1
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        site.authority.issue("certs/a", ("a.example", "*.w.example"))
        site.hup("read again: certificates for clients, 1 pairs")
        until(lambda: site.connect().getpeercert(True) != before, "the new certificate serves")
        ask(kept)
        assert kept.getpeercert(True) == before
        after = site.connect().getpeercert(True)
        secret = key.read_text()
        key.write_text(secret.replace("A", "B"))
        site.hup("expected the key of ")
        about = site.program.call("GET", "/status")[1]["certificates"]
        assert (about["files"], "expected the key of " in about["refused"][0]) == (1, True)
        assert site.connect().getpeercert(True) == after
        ask(kept)
        key.write_text(secret)
    finally:
        ends.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert served > 20
    _, status = site.program.call("GET", "/status")
    for text in (site.program.output, json.dumps(status)):
        assert secret.splitlines()[1] not in text


def test_upgrade_under_load(tmp_path: Path, site: Site) -> None:
    """Clients are served by whichever generation there is."""
    site.write()
    options = ("--config", "slardar.yaml", "--store", "memory:")
    program = Upgraded(
        site.folder, *options, "--listen", "tls:0:interface=127.0.0.1", count=1, listen=False
    )
    site.stack.callback(program.end)
    site.port = int(program.wait_for(r"requests on tls 127\.0\.0\.1:(\d+)")[1])
    program.control = int(program.wait_for(r"control on tcp 127\.0\.0\.1:(\d+)")[1])
    failures: list[Any] = []
    served = 0
    ends = threading.Event()

    def load() -> None:
        nonlocal served
        context = site.context()
        while not ends.is_set():
            try:
                with context.wrap_socket(
                    socket.create_connection(("127.0.0.1", site.port), PATIENCE),
                    server_hostname="a.example",
                ) as sock:
                    reply = ask(sock)
                    assert reply.startswith(b"HTTP/1.1 200 OK")
                    served += 1
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        program.upgrade()
        before = served
        until(lambda: served > before + 10, "the new generation serves")
    finally:
        ends.set()
        thread.join()
    assert failures == []


def test_answer_of_ocsp_beside_the_certificate(site: Site) -> None:
    """Clients that ask for it get it, from each worker, as it was read last; a bad one is
    left out."""
    cert, beside = site.folder / "certs" / "a.pem", site.folder / "certs" / "a.ocsp"
    cert.write_text(cert.read_text() + site.authority.file.read_text())
    beside.write_bytes(site.authority.staple(cert, ends=timedelta(hours=1)))
    site.start("1")

    def told(version: str) -> str:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{site.port}", "-status", version]
        command += ["-servername", "a.example", "-CAfile", str(site.authority.file)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
        return done.stdout.decode("latin-1")

    for version in ("-tls1_2", "-tls1_3"):
        text = told(version)
        assert "OCSP Response Status: successful" in text
        assert "Cert Status: good" in text
        ends = text.partition("Next Update: ")[2].splitlines()[0]
    assert site.curl("a.example", "/", "--cert-status")[0] == 200
    beside.write_bytes(site.authority.staple(cert, ends=timedelta(hours=2)))
    site.hup("read again: certificates for clients")
    until(lambda: "Next Update" in told("-tls1_3"), "there is one")
    assert ends not in told("-tls1_3")
    beside.write_bytes(site.authority.staple(cert, revoked=True))
    site.hup("a.ocsp is not sent: the certificate is revoked")
    assert "OCSP response: no response sent" in told("-tls1_3")


def test_sessions_resume_wherever_the_client_gets(site: Site) -> None:
    """On each worker, on one that has taken the place of a killed one, and after an upgrade.  At a
    name that requires a certificate, no session helps a client without one."""
    cert, key = site.authority.issue("strict", ("strict.example",))
    require = {"verify": "require", "ca": str(site.authority.file)}
    site.write(
        certificates=[
            {"folder": str(site.folder / "certs")},
            {"cert": str(cert), "key": str(key), "client": require},
        ]
    )
    program = Upgraded(
        site.folder, "--config", "slardar.yaml", "--store", "memory:",
        *("--listen", "tls:0:interface=127.0.0.1"), count=2, listen=False,
    )  # fmt: skip
    site.stack.callback(program.end)
    site.port = int(program.wait_for(r"requests on tls 127\.0\.0\.1:(\d+)")[1])
    program.control = int(program.wait_for(r"control on tcp 127\.0\.0\.1:(\d+)")[1])
    assert program.status()["tls"] == {"sessions": "shared", "staples": "sent"}
    log = site.folder / "access.log"

    def resumed_everywhere() -> None:
        """Connect until each worker has served a client with a session."""
        log.write_text("")
        served: set[str] = set()
        deadline = time.monotonic() + PATIENCE
        while len(served) < 2:
            assert time.monotonic() < deadline
            for context, session in sessions:
                with context.wrap_socket(
                    site.plain(), server_hostname="a.example", session=session
                ) as sock:
                    assert ask(sock).startswith(b"HTTP/1.1 200 OK")
                    assert sock.session_reused, context.maximum_version
            served = {json.loads(line)["worker"] for line in log.read_text().splitlines()}
        for context, session in sessions:
            # TLS 1.3 tells it behind the handshake.
            with (
                pytest.raises(ssl.SSLError),
                context.wrap_socket(
                    site.plain(), server_hostname="strict.example", session=session
                ) as sock,
            ):
                ask(sock, host="strict.example")

    sessions = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = site.context(minimum_version=version, maximum_version=version)
        sock = site.connect(context=context)
        ask(sock)
        assert not sock.session_reused
        sessions.append((context, sock.session))
    resumed_everywhere()
    killed = program.pids()["worker-0"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: program.pids()["worker-0"] != killed, "another one is started")
    until(program.are_alive, "it serves")
    resumed_everywhere()
    program.upgrade()
    resumed_everywhere()


def test_header_of_a_proxy_before_the_handshake(site: Site) -> None:
    """The client's address is the one in the header, whatever comes with it."""
    options = ("--config", "slardar.yaml", "--store", "memory:")
    program = Slardar(site.folder, *options, "--listen", "haproxy:tls:0:interface=127.0.0.1")
    site.stack.callback(program.end)
    site.port = int(program.wait_for(r"requests on tls 127\.0\.0\.1:(\d+)")[1])
    hello, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = site.context().wrap_bio(hello, outgoing, server_hostname="a.example")
    sock = site.plain()
    header = b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n"
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            sock.sendall(header + outgoing.read())
            header = b""
            hello.write(sock.recv(65536))
    client.write(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    sock.sendall(outgoing.read())
    reply = b""
    while b"X-Forwarded-For: " not in reply:
        hello.write(sock.recv(65536))
        try:
            reply += client.read(65536)
        except ssl.SSLWantReadError:
            pass
    assert b"\nX-Forwarded-For: 192.0.2.7\r" in reply
    assert b"\nX-Forwarded-Proto: https\r" in reply


def test_start_with_a_pair_that_is_wrong(site: Site) -> None:
    """It does not start, and says which file is wrong."""
    site.authority.issue("x", ("x",))[1].rename(site.folder / "certs" / "a.key")
    program = Slardar(site.folder, "--config", "slardar.yaml")
    site.stack.callback(program.end)
    assert program.wait() == 1
    assert "slardar.yaml: tls.certificates[0]: the key in " in program.output
    assert "is not that of the certificate in " in program.output
