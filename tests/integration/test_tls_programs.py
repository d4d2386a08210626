"""curl and ``openssl s_client`` against the real program: versions, suites, certificates of
clients, sessions, early data, keys that change."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.integration.programs import PATIENCE
from tests.integration.test_tls import Site

REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
#: A name for each demand of ``tls.client``.
DEMANDS = {"optional": "b.example", "require": "x.w.example"}
#: curl's exit codes, by when it learns that it is refused.
REFUSED = (35, 56, 60)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """slardar with pairs of both kinds, and names that ask for certificates of clients."""
    folder = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        site = Site(folder, stack)
        site.authority.issue("certs/a-rsa", ("a.example",), rsa_bits=2048)
        pairs: list[object] = [{"folder": str(folder / "certs")}]
        for verify, name in DEMANDS.items():
            cert, key = site.authority.issue(verify, (name,))
            client = {"verify": verify, "ca": str(site.authority.file)}
            pairs.append({"cert": str(cert), "key": str(key), "client": client})
        site.write(certificates=pairs)
        site.authority.issue("alice", ("alice",))
        ends = {"begins": timedelta(days=-2), "ends": timedelta(days=-1)}
        site.authority.issue("expired", ("alice",), **ends)
        Authority(folder, "other").issue("mallory", ("alice",))
        yield site.start()


def curl(site: Site, *words: str, name: str = "a.example") -> tuple[int, str]:
    """curl's exit code and all that it says."""
    place = f"{name}:{site.port}"
    done = subprocess.run(
        ["curl", "-v", "--noproxy", "*", "--cacert", str(site.authority.file),
         "--resolve", f"{place}:127.0.0.1", *words, f"https://{place}/",
         "-w", " status %{http_code} HTTP/%{http_version}", "-H", "Host: a.example"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def openssl(site: Site, *words: str, say: bytes = REQUEST) -> str:
    """All that ``openssl s_client`` says."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{site.port}", "-ign_eof",
         "-CAfile", str(site.authority.file), *words],
        input=say, capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return (done.stdout + done.stderr).decode("latin-1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "TLSv1.3 / TLS_AES_256_GCM_SHA384"),
        ("--tlsv1.3 --tls13-ciphers TLS_AES_128_GCM_SHA256", "TLSv1.3 / TLS_AES_128_GCM_SHA256"),
        ("--tls13-ciphers TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
        ("--tls-max 1.2", "TLSv1.2 / ECDHE-ECDSA-AES256-GCM-SHA384"),
        *(
            (f"--tls-max 1.2 --ciphers ECDHE-{kind}-{suite}", f"TLSv1.2 / ECDHE-{kind}-{suite}")
            for kind in ("ECDSA", "RSA")
            for suite in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
        ),
        ("--curves X25519", "TLSv1.3"),
        ("--curves P-256", "TLSv1.3"),
        ("--curves P-384", "TLSv1.3"),
        ("--http2", "ALPN: server accepted http/1.1"),
        ("--http1.1", "ALPN: server accepted http/1.1"),
        ("--http1.0", "ALPN: server accepted http/1.0"),
        ("--no-alpn", "TLSv1.3"),
        ("--no-sessionid", "TLSv1.3"),
    ],
)
def test_curl(site: Site, words: str, said: str) -> None:
    """It is served, as it wants to be."""
    code, text = curl(site, *words.split())
    assert code == 0, text
    assert said in text
    assert " status 200 HTTP/1." in text


@pytest.mark.parametrize(
    ("words", "alert"),
    [
        ("--tls-max 1.1 --tlsv1.0 --ciphers DEFAULT@SECLEVEL=0", "protocol version"),
        ("--tls-max 1.2 --ciphers ECDHE+AES128+SHA1@SECLEVEL=0", "handshake failure"),
        ("--tls-max 1.2 --ciphers kRSA@SECLEVEL=0", "handshake failure"),
        ("--tls-max 1.2 --ciphers kDHE@SECLEVEL=0", "handshake failure"),
        ("--tls-max 1.2 --ciphers aNULL@SECLEVEL=0", "handshake failure"),
        ("--curves P-521", "handshake failure"),
        ("--curves ffdhe2048", "handshake failure"),
    ],
)
def test_curl_that_wants_what_is_weak_or_slow(site: Site, words: str, alert: str) -> None:
    """It is refused, and learns why."""
    code, text = curl(site, *words.split())
    assert code == 35, text
    assert alert in text


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize(
    ("verify", "identity", "is_served", "alert"),
    [
        ("optional", "", True, ""),
        ("optional", "alice", True, ""),
        ("optional", "expired", False, "certificate expired"),
        ("optional", "mallory", False, "unknown ca"),
        ("require", "", False, "certificate required"),
        ("require", "alice", True, ""),
        ("require", "expired", False, "certificate expired"),
        ("require", "mallory", False, "unknown ca"),
    ],
)
def test_certificate_of_curl(
    site: Site, version: str, verify: str, identity: str, is_served: bool, alert: str
) -> None:
    """A right one is passed on; none will do where it is optional; a wrong one never will."""
    words = ["--tls-max", version]
    if identity:
        words += ["--cert", f"{site.folder / identity}.pem"]
        words += ["--key", f"{site.folder / identity}.key"]
    code, text = curl(site, *words, "-H", f"Host: {DEMANDS[verify]}", name=DEMANDS[verify])
    if is_served:
        assert code == 0, text
        assert ("X-Client-Cert-Subject: CN=alice" in text) is bool(identity)
        return
    assert code in REFUSED, text
    assert "X-Forwarded-For" not in text
    if version == "1.2" and not identity:
        alert = "handshake failure"
    assert alert in text


SERVED = "HTTP/1.1 200 OK"
REFUSALS = ("no application protocol", "unrecognized name")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", SERVED),
        ("-alpn h2,http/1.1", "ALPN protocol: http/1.1"),
        ("-alpn h2", "no application protocol"),
        ("-noservername", "unrecognized name"),
        ("-servername c.example", "unrecognized name"),
        ("-comp", "Compression: NONE"),
        ("-maxfraglen 512", SERVED),
        ("-max_send_frag 512 -split_send_frag 512", SERVED),
        ("-nbio", SERVED),
        ("-no_ticket", SERVED),
        ("-enable_pha", SERVED),
        ("-no_renegotiation", SERVED),
        ("-sigalgs ECDSA+SHA256", SERVED),
        ("-sigalgs RSA-PSS+SHA256", SERVED),
        ("-status", "Verify return code: 0 (ok)"),
    ],
)
def test_openssl(site: Site, version: str, words: str, said: str) -> None:
    """Every client gets what it may have."""
    name = () if "servername" in words else ("-servername", "a.example")
    text = openssl(site, version, *name, *words.split())
    assert said in text
    assert (SERVED in text) is (said not in REFUSALS)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_session(site: Site, version: str, tmp_path: Path) -> None:
    """It resumes, under the name that it was made for and no other."""
    words = (version, "-servername", "a.example")
    session = str(tmp_path / "session")
    first = openssl(site, *words, "-sess_out", session)
    assert "New, TLSv" in first
    for _ in range(2):
        again = openssl(site, *words, "-sess_in", session)
        assert "Reused, TLSv" in again
        assert SERVED in again
    other = openssl(site, version, "-servername", DEMANDS["optional"], "-sess_in", session)
    assert "Reused" not in other


def test_early_data(site: Site, tmp_path: Path) -> None:
    """Sessions allow none, so OpenSSL sends none, and asks after the handshake."""
    words = ("-tls1_3", "-servername", "a.example")
    session, early = str(tmp_path / "session"), tmp_path / "early"
    early.write_bytes(b"GET /early HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert "Max Early Data: 0" in openssl(site, *words, "-sess_out", session)
    text = openssl(site, *words, "-sess_in", session, "-early_data", str(early))
    assert "Early data was accepted" not in text
    assert "GET /early" not in text


@pytest.mark.parametrize("letter", [b"k", b"K"])
def test_keys_that_change(site: Site, letter: bytes) -> None:
    """``K`` asks the server for new keys as well."""
    with subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{site.port}", "-tls1_3",
         "-servername", "a.example", "-CAfile", str(site.authority.file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for _ in range(3):
                process.stdin.write(letter + b"\n")
                process.stdin.flush()
                while b"KEYUPDATE" not in process.stdout.readline():
                    pass
            process.stdin.write(REQUEST)
            process.stdin.flush()
            # s_client ends with the connection.
            assert b"HTTP/1.1 200 OK" in process.stdout.read()
        finally:
            process.kill()


def test_renegotiation(site: Site) -> None:
    """It is declined."""
    words = ["openssl", "s_client", "-connect", f"127.0.0.1:{site.port}", "-tls1_2"]
    words += ["-servername", "a.example", "-CAfile", str(site.authority.file)]
    done = subprocess.run(
        words, input=b"R\n", capture_output=True, timeout=PATIENCE, check=False
    )  # fmt: skip
    assert b"no renegotiation" in done.stdout + done.stderr
