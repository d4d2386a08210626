"""The certificate of the proxies that speak TLS, made for the run, and what clients offer."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.processes import find_program

__all__ = ["HOST", "client_environment", "make_pair"]

#: The host of all requests, and the name in the certificate.
HOST = "bench.example.com"

#: What every client offers.  OpenSSL would offer AES-256 first.
_OFFER = """\
openssl_conf = start
[start]
ssl_conf = modules
[modules]
system_default = offer
[offer]
Ciphersuites = TLS_AES_128_GCM_SHA256
CipherString = ECDHE-ECDSA-AES128-GCM-SHA256
Groups = X25519:P-256
"""


def make_pair(folder: Path) -> Path:
    """A certificate (ECDSA, P-256) and its key, in one file in ``folder``; made once.

    :raise RuntimeError: if OpenSSL's program is not installed, or fails.
    """
    pair = folder / "pair.pem"
    if pair.exists():
        return pair
    program = find_program("openssl")
    if program is None:
        raise RuntimeError("openssl, which makes the certificate, is not installed")
    key, cert = folder / "bench.key", folder / "bench.crt"
    command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "30", "-subj", f"/CN={HOST}", "-keyout", str(key)]
    # The address is for clients that name no server.
    command += ["-addext", f"subjectAltName=DNS:{HOST},IP:127.0.0.1", "-out", str(cert)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if ran.returncode:
        raise RuntimeError(f"openssl made no certificate: {ran.stderr[-500:]}")
    pair.touch(mode=0o600)
    pair.write_text(cert.read_text() + key.read_text())
    return pair


def client_environment(folder: Path) -> dict[str, str]:
    """What makes OpenSSL in a client offer the same to every proxy."""
    offer = folder / "offer.cnf"
    if not offer.exists():
        offer.write_text(_OFFER)
    return {"OPENSSL_CONF": str(offer)}
