"""What hooks see of a client's TLS."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from slardar.hooks.effects import seen_request
from slardar.hooks.objects import HookRequest
from slardar.hooks.tls import HookTls, as_values, seen_tls
from slardar.http1.tls import TlsFacts, subject_of
from slardar.http1.told_tls import told_tls
from tests.certificates import Authority
from tests.hooks.kit import request_of
from tests.hooks.lua.helpers import failure, make_engine, said
from tests.hooks.python.loading import Hooks

NAMES = ("alice", "alice.example", "alice@a.example", "al@b.example")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs the certificates of these tests."""
    return Authority(tmp_path_factory.mktemp("ca"))


def der_of(file: Path) -> bytes:
    """A certificate without its PEM."""
    return ssl.PEM_cert_to_DER_cert(file.read_text())


def shaken(authority: Authority, identity: tuple[Path, Path] | None, version: str) -> TlsFacts:
    """The facts of a real connection, as a channel notes them."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.issue("server", ("a.example",)))
    server.load_verify_locations(authority.file)
    server.verify_mode = ssl.CERT_OPTIONAL
    client = authority.client()
    client.maximum_version = ssl.TLSVersion[version]
    if identity is not None:
        client.load_cert_chain(*identity)
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = server.wrap_bio(here, there, server_side=True)
    far = client.wrap_bio(there, here, server_hostname="a.example")
    for _ in range(4):
        for side in (far, near):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    protocol = near.version()
    assert protocol is not None
    subject = subject_of(near.getpeercert() or {})
    return TlsFacts(protocol, "a.example", subject, None, near)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_certificate_of_a_connection(authority: Authority, version: str) -> None:
    """All of it, the same whether OpenSSL tells of it or the certificate is read here."""
    identity = authority.issue("alice", NAMES)
    facts = shaken(authority, identity, version)
    data = der_of(identity[0])
    parsed = x509.load_der_x509_certificate(data)
    seen = seen_tls(facts)
    assert (seen.version, seen.sni) == (version.replace("_", "."), "a.example")
    assert seen.cipher == facts.source.cipher()[0]
    found = seen.client_cert
    assert found is not None
    assert (found.subject, found.issuer) == ("CN=alice", "CN=test ca")
    assert int(found.serial, 16) == parsed.serial_number
    assert found.fingerprint == hashlib.sha256(data).hexdigest()
    assert found.not_after == parsed.not_valid_after_utc.timestamp()
    assert datetime.fromtimestamp(found.not_after, timezone.utc) > datetime.now(timezone.utc)
    assert found.dns_names == ("alice", "alice.example")
    assert found.emails == ("alice@a.example", "al@b.example")
    told = told_tls(facts.version, facts.name, facts.cipher, data)
    assert as_values(seen_tls(told)) == as_values(seen)
    assert told.subject == facts.subject


def test_connection_without_a_certificate(authority: Authority) -> None:
    """There is none, and nothing fails."""
    facts = shaken(authority, None, "TLSv1_3")
    seen = seen_tls(facts)
    assert seen.client_cert is None
    assert as_values(seen) == {"version": "TLSv1.3", "cipher": seen.cipher, "sni": "a.example"}
    unknown = seen_tls(TlsFacts("TLSv1.3", "", b"", None))
    assert (unknown.cipher, unknown.sni, unknown.client_cert) == ("", None, None)


class Source:
    """Counts the questions."""

    def __init__(self, data: bytes) -> None:
        self._told = told_tls(certificate=data).source
        self.asked = 0

    def cipher(self) -> Any:
        """See the original."""
        self.asked += 1
        return self._told.cipher()

    def getpeercert(self, binary_form: bool = False) -> Any:
        """See the original."""
        return self._told.getpeercert(binary_form)


def test_nothing_is_gathered_before_a_hook_looks(authority: Authority) -> None:
    """And then once for a connection, whatever the number of hooks and requests."""
    source = Source(der_of(authority.issue("alice", NAMES)[0]))
    facts = TlsFacts("TLSv1.3", "a.example", b"CN=alice", None, source)
    seen: list[HookTls | None] = []
    for _ in range(3):
        request = request_of()
        request.take_tls(facts)
        hooked = seen_request(request, None)
        if not seen:
            assert (source.asked, facts.seen) == (0, None)
        seen.append(hooked.tls)
        assert hooked.client_cert is not None
    assert seen[0] is not None
    assert seen[0] is seen[1] is seen[2]
    assert source.asked == 1


@pytest.fixture
def ask(authority: Authority) -> Callable[[bool, bool], HookRequest]:
    """Makes requests: with TLS or without, with a certificate or without."""
    data = der_of(authority.issue("alice", NAMES)[0])

    def make(secure: bool, certificate: bool) -> HookRequest:
        request = request_of()
        if secure:
            request.scheme = b"https"
            request.take_tls(told_tls(name="a.example", certificate=data if certificate else b""))
        return seen_request(request, None)

    return make


PYTHON = """
def on_request(request):
    tls = request.tls
    found = [tls is None, request.client_cert is None, request.scheme]
    if tls is not None:
        found += [tls.version, tls.cipher, tls.sni]
        if tls.client_cert is not None:
            cert = request.client_cert
            found += [cert.subject, cert.issuer, len(cert.serial) > 0, len(cert.fingerprint)]
            found += [cert.not_after > 1, cert.dns_names[1], ",".join(cert.emails), f"{cert} {tls}"]
    request.context["out"] = found
"""


def test_python_hook(ask: Callable[[bool, bool], HookRequest]) -> None:
    """It reads everything, and changes nothing."""
    hooks = Hooks()
    script = hooks.load(PYTHON)

    def found(secure: bool, certificate: bool) -> Any:
        request = ask(secure, certificate)
        script.on_request(request)
        return request.context["out"]

    assert found(False, False) == [True, True, "http"]
    plain = [False, True, "https", "TLSv1.3", "TLS_AES_256_GCM_SHA384", "a.example"]
    assert found(True, False) == plain
    assert found(True, True) == [
        *(False, False, *plain[2:], "CN=alice", "CN=test ca", True, 64, True),
        *("alice.example", "alice@a.example,al@b.example"),
        "<ClientCertificate CN=alice> <HookTls TLSv1.3 TLS_AES_256_GCM_SHA384>",
    ]
    for line in ("request.tls.sni = 'x'", "request.tls = None", "request.client_cert.subject = ''"):
        with pytest.raises(Exception, match="cannot be set"):
            hooks.load(f"def on_request(request):\n    {line}").on_request(ask(True, True))
    for name in ("source", "sha1", "policy"):
        code = f"def on_request(request):\n    request.client_cert.{name}"
        with pytest.raises(Exception, match="has no attribute"):
            hooks.load(code).on_request(ask(True, True))
    hooks.close()


VARIABLES = """
    for _, name in ipairs({
        "https", "scheme", "ssl_protocol", "ssl_cipher", "ssl_server_name", "ssl_client_verify",
        "ssl_client_s_dn", "ssl_client_i_dn",
    }) do
        ngx.print(tostring(ngx.var[name]), " ")
    end
    ngx.say(#(ngx.var.ssl_client_fingerprint or ""), " ", tostring(ngx.var.ssl_client_serial))
"""


def test_variables_of_lua(ask: Callable[[bool, bool], HookRequest]) -> None:
    """As nginx has them."""
    engine = make_engine()
    assert said(engine, VARIABLES, ask(False, False)) == " http nil nil nil nil nil nil 0 nil"
    common = "on https TLSv1.3 TLS_AES_256_GCM_SHA384 a.example"
    assert said(engine, VARIABLES, ask(True, False)) == f"{common} NONE nil nil 0 nil"
    request = ask(True, True)
    assert request.client_cert is not None
    serial = request.client_cert.serial
    wanted = f"{common} SUCCESS CN=alice CN=test ca 40 {serial}"
    assert said(engine, VARIABLES, request) == wanted
    problem = failure(engine, "ngx.var.ssl_client_s_dn = 'CN=root'", ask(True, True))[1]
    assert 'variable "ssl_client_s_dn" not changeable' in problem


TABLE = """
    local tls = request.tls
    if not tls then
        return ngx.say(tostring(tls), " ", tostring(request.client_cert), " ", tostring(request.x))
    end
    local cert = request.client_cert
    ngx.print(tls.version, " ", tls.cipher, " ", tls.sni, " ", tostring(cert))
    if cert then
        ngx.print(cert == tls.client_cert, cert.subject, cert.issuer, #cert.serial > 0,
            #cert.fingerprint, cert.not_after > 1, table.concat(cert.dns_names, ","), #cert.emails)
        cert.subject = "CN=root"
    end
    ngx.say()
"""


def test_table_of_lua(ask: Callable[[bool, bool], HookRequest]) -> None:
    """The same names as in Python, in a copy that lasts as long as the request."""
    engine = make_engine()
    for _ in range(2):
        assert said(engine, TABLE, ask(False, False)) == "nil nil nil"
        common = "TLSv1.3 TLS_AES_256_GCM_SHA384 a.example"
        assert said(engine, TABLE, ask(True, False)) == f"{common} nil"
        request = ask(True, True)
        assert said(engine, TABLE, request) == (
            f"{common} table: 0x0trueCN=aliceCN=test catrue64truealice,alice.example2"
        )
        assert request.client_cert is not None
        assert request.client_cert.subject == "CN=alice"
    assert "request.tls is read-only" in failure(engine, "request.tls = 1", ask(True, True))[1]
    # A script may have a variable of this name.
    assert said(engine, "request = {tls = 5} ngx.say(request.tls)", ask(True, True)) == "5"
