"""Calls to CAs: to the real Pebble, and to one that says whatever the tests want it to say."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from slardar.acme import ca as ca_module
from slardar.acme.ca import Ca, CaError
from slardar.acme.keys import certificate_id, made_key, request_for
from slardar.control.certificates import checked_pair
from tests.certificates import Authority
from tests.integration.pebble import Pebble

pytestmark = pytest.mark.real

#: Headers, and what follows them.
Answer = tuple[int, dict[str, str], bytes]


class StandIn:
    """A CA that answers as ``answers`` say, by path: a JSON value, or a whole answer.

    ``asked`` has the paths and what was in their bodies, in order.
    """

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        self.file = str(authority.file)
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, Any]] = []
        self.sends_nonce = True
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

            def answer(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                stand_in.note(self.path, self.rfile.read(size))
                status, headers, body = stand_in.answer(self.path)
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    if stand_in.sends_nonce:
                        self.send_header("Replay-Nonce", "bm9uY2U")
                    for name, value in headers.items():
                        self.send_header(name, value)
                    if "Transfer-Encoding" not in headers:
                        self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(body)

            do_GET = do_POST = do_HEAD = answer  # noqa: N815 the names that the base looks for

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("server"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.base = f"https://127.0.0.1:{self._server.server_port}"
        self.answers["/dir"] = {
            "newNonce": f"{self.base}/nonce",
            "newAccount": f"{self.base}/account",
            "newOrder": f"{self.base}/order",
            "renewalInfo": f"{self.base}/renewal",
            "meta": {"termsOfService": "x"},
        }
        self.answers["/nonce"] = (200, {}, b"")
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def note(self, path: str, body: bytes) -> None:
        """Keep what was asked."""
        try:
            payload = json.loads(body)["payload"]
            found: Any = json.loads(urlsafe_b64decode(payload + "==") or b"null")
        except ValueError:
            found = None
        self.asked.append((path, found))

    def answer(self, path: str) -> Answer:
        """What is said now."""
        found = self.answers.get(path, (404, {}, b"none"))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if callable(found):
            found = found()
        if isinstance(found, tuple):
            return found
        return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()

    def problem(self, kind: str, status: int = 400, **headers: str) -> Answer:
        """An error."""
        body = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": f"said {kind}\n"}
        headers = {"Content-Type": "application/problem+json", **headers}
        return status, headers, json.dumps(body).encode()

    def order(self, **more: Any) -> Answer:
        """A new order."""
        body = {
            "status": "pending",
            "authorizations": [f"{self.base}/authorization"],
            "finalize": f"{self.base}/finalize",
            **more,
        }
        return 201, {"Location": f"{self.base}/order/1"}, json.dumps(body).encode()

    def connect(self) -> Ca:
        """A connection with an account."""
        return Ca(f"{self.base}/dir", self.file, made_key(), f"{self.base}/account/1")

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path_factory.mktemp("stand_in"))
    yield stand_in
    stand_in.stop()


@pytest.fixture
def stand_in(_server: StandIn) -> StandIn:
    """A CA without answers of its own."""
    known = ("/dir", "/nonce")
    _server.answers = {path: _server.answers[path] for path in known}
    _server.asked.clear()
    _server.sends_nonce = True
    return _server


@pytest.fixture
def ca(stand_in: StandIn) -> Iterator[Ca]:
    """A connection to it."""
    found = stand_in.connect()
    yield found
    found.close()


def error_of(call: Callable[..., Any], *arguments: Any) -> CaError:
    """The error of a call."""
    with pytest.raises(CaError) as caught:
        call(*arguments)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    return caught.value


def test_certificate_of_pebble(tmp_path: Path) -> None:
    """Whatever it thinks of a fifth of the nonces; an account that is there is found again."""
    options = {"PEBBLE_VA_ALWAYS_VALID": "1", "PEBBLE_WFE_NONCEREJECT": "20"}
    pebble = Pebble(tmp_path / "ca", **options)
    try:
        pebble.ready()
        key = made_key()
        found = Ca(pebble.directory, pebble.ca, key)
        account = found.register("a@example.com")
        again = Ca(pebble.directory, pebble.ca, key)
        assert again.register("b@example.com") == account
        again.close()
        order = found.order("a.example")
        (url,) = order.authorizations
        authorization = found.authorization(url, "a.example")
        assert authorization.status == "pending"
        assert {one.type for one in authorization.challenges} >= {"http-01", "tls-alpn-01"}
        found.begin(authorization.challenges[0])
        until(lambda: found.authorization(url, "a.example").status == "valid")
        private = made_key()
        found.finalize(order, request_for("a.example", private))
        until(lambda: found.look(order).status == "valid")
        pem = found.download(found.look(order))
        assert checked_pair("a", pem, private).names == ("a.example",)
        assert pem.count("BEGIN") == 2
        # This version of Pebble suggests nothing.
        assert found.window(certificate_id(pem)) is None
        found.close()
    finally:
        pebble.end()


def until(is_so: Callable[[], bool]) -> None:
    """Ask until something is so."""
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)  # noqa: TID251 the test has nothing else to do


# Errors.


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("30", 30, 30),
        ("1" * 400, 366 * 86400, 366 * 86400),
        ("in an hour", 3000, 3601),
        (formatdate(0, usegmt=True), 0, 0),
        ("soon", 0, 0),
        ("-5", 0, 0),
        ("Wed, 99 Foo 99999 99:99:99 GMT", 0, 0),
    ],
)
def test_error_tells_when_to_come_back(
    stand_in: StandIn, ca: Ca, text: str, least: float, most: float
) -> None:
    """As seconds or as a date; nonsense counts as nothing."""
    if text == "in an hour":
        # Not as a parameter: all processes of a run must collect the same names.
        text = formatdate(time.time() + 3600, usegmt=True)
    stand_in.answers["/order"] = stand_in.problem("rateLimited", 429, **{"Retry-After": text})
    error = error_of(ca.order, "a.example")
    assert str(error) == "the order: rateLimited: said rateLimited"
    assert error.kind == "rateLimited"
    assert least <= error.retry_after <= most


def test_bad_nonces_are_not_tried_without_end(stand_in: StandIn, ca: Ca) -> None:
    """But a few times."""
    stand_in.answers["/order"] = [stand_in.problem("badNonce")] * 7 + [stand_in.order()]
    assert ca.order("a.example").url == f"{stand_in.base}/order/1"
    stand_in.answers["/order"] = stand_in.problem("badNonce")
    stand_in.asked.clear()
    assert error_of(ca.order, "a.example").kind == "badNonce"
    assert [path for path, _ in stand_in.asked].count("/order") == 8


LARGE = b" " * (1 << 18) + b"{}"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, {}, b"{"), "cannot be read"),
        ((200, {}, b"\xff\xfe\0"), "cannot be read"),
        ((200, {}, b"[]"), "cannot be read"),
        ({"status": 7}, "cannot be read"),
        ({"status": "pending", "authorizations": [1]}, "cannot be read"),
        ({"status": "pending", "authorizations": []}, "more than one name"),
        ((200, {}, LARGE), "has more than 262144 bytes"),
        ((302, {"Location": "https://127.0.0.1:1/"}, b""), "a redirect, which is not followed"),
        ((404, {}, b"<html>"), "answers with the status 404"),
        ((500, {"Content-Type": "application/problem+json"}, b"[1]"), "the order: "),
        ((500, {"Content-Type": "application/problem+json"}, b'{"type": 1}'), "the order: "),
        ((200, {"Content-Encoding": "gzip"}, b"no"), "the order: "),
    ],
)
def test_rubbish_is_one_kind_of_error(stand_in: StandIn, ca: Ca, answer: Any, reason: str) -> None:
    """It has one line, and nothing of it is believed."""
    stand_in.answers["/order"] = answer
    assert reason in str(error_of(ca.order, "a.example"))


def test_ca_that_sends_no_nonce(stand_in: StandIn, ca: Ca) -> None:
    """It cannot be asked anything."""
    stand_in.sends_nonce = False
    stand_in.answers["/order"] = stand_in.order()
    assert "nonce" in str(error_of(ca.order, "a.example"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/order",
        "https://localhost:{port}/order",
        "https://127.0.0.1:1/order",
        "https://user@127.0.0.1:{port}/order",
        "https://127.0.0.1:x/order",
        "file:///etc/passwd",
        "//127.0.0.1:{port}/order",
        "",
    ],
)
def test_ca_leads_to_no_other_place(stand_in: StandIn, url: str) -> None:
    """Else it could let slardar ask machines that it cannot reach itself."""
    port = stand_in.base.rpartition(":")[2]
    directory = stand_in.answers["/dir"]
    stand_in.answers["/dir"] = {**directory, "newOrder": url.format(port=port)}
    found = stand_in.connect()
    try:
        assert "the CA names a URL" in str(error_of(found.order, "a.example"))
    finally:
        found.close()
        stand_in.answers["/dir"] = directory
    assert "/order" not in [path for path, _ in stand_in.asked]


def test_ca_that_wants_another_name(stand_in: StandIn, ca: Ca) -> None:
    """It does not get to know anything of that."""
    stand_in.answers["/authorization"] = {
        "status": "pending",
        "identifier": {"type": "dns", "value": "other.example"},
        "challenges": [],
    }
    url = f"{stand_in.base}/authorization"
    assert "asks for another name" in str(error_of(ca.authorization, url, "a.example"))


def test_slow_answer_is_given_up(
    stand_in: StandIn, ca: Ca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it has a time, not only each piece."""
    monkeypatch.setattr(ca_module, "_WHOLE", 0.0)
    stand_in.answers["/order"] = stand_in.order()
    assert "takes too long" in str(error_of(ca.order, "a.example"))


def test_ca_that_is_not_there() -> None:
    """Or whose certificate is of somebody else."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = Ca(f"https://127.0.0.1:{port}/dir", None)
    assert str(error_of(found.window, "x")) == (
        "the time of renewal: the CA cannot be reached: Connection refused"
    )


def test_ca_whose_certificate_is_not_known(stand_in: StandIn) -> None:
    """It is not told anything."""
    found = Ca(f"{stand_in.base}/dir", None)
    assert "unable to get local issuer certificate" in str(error_of(found.window, "x"))
    assert stand_in.asked == []


# Accounts.


def test_account_that_was_made_elsewhere(stand_in: StandIn, ca: Ca) -> None:
    """The line says what the CA wants."""
    directory = stand_in.answers["/dir"]
    stand_in.answers["/dir"] = {**directory, "meta": {"externalAccountRequired": True}}
    try:
        error = error_of(ca.register, "a@example.com")
    finally:
        stand_in.answers["/dir"] = directory
    assert str(error) == "the account: the CA wants an account that was made elsewhere"


def test_address_of_an_account_that_is_there_is_changed(stand_in: StandIn, ca: Ca) -> None:
    """A new account has it from the beginning; none at all is good, too."""
    place = {"Location": f"{stand_in.base}/account/7"}
    stand_in.answers["/account"] = (201, place, b"{}")
    assert ca.register("a@example.com") == place["Location"]
    assert stand_in.asked[-1] == (
        "/account",
        {"termsOfServiceAgreed": True, "contact": ["mailto:a@example.com"]},
    )
    stand_in.answers["/account"] = (200, place, b"{}")
    stand_in.answers["/account/7"] = {}
    ca.register("")
    assert stand_in.asked[-1] == ("/account/7", {"contact": []})


# Renewal (RFC 9773).


def test_window_of_renewal(stand_in: StandIn, ca: Ca) -> None:
    """In epoch seconds, and when to ask again."""
    window = {"start": "2026-01-02T00:00:00Z", "end": "2026-01-03T00:00:00Z"}
    stand_in.answers["/renewal/a.b"] = (
        200,
        {"Content-Type": "application/json", "Retry-After": "21600"},
        json.dumps({"suggestedWindow": window, "explanationURL": "https://x"}).encode(),
    )
    assert ca.window("a.b") == (1767312000.0, 1767398400.0, 21600.0)


@pytest.mark.parametrize(
    "window",
    [
        {"start": "2026-01-03T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
        {"start": "soon", "end": "later"},
        {"start": "0001-01-01T00:00:00+14:00", "end": "9999-12-31T23:59:59-14:00"},
        {},
        7,
    ],
)
def test_window_of_renewal_that_is_nonsense(stand_in: StandIn, ca: Ca, window: Any) -> None:
    """Or so large that nobody can count it: it is an error, or stays in bounds later."""
    stand_in.answers["/renewal/a.b"] = {"suggestedWindow": window}
    with contextlib.suppress(CaError):
        begins, ends, _ = ca.window("a.b") or (0, 0, 0)
        assert begins < ends


def test_order_names_what_it_replaces(stand_in: StandIn, ca: Ca) -> None:
    """If the CA does not want to know of it, the order is made without."""
    stand_in.answers["/order"] = stand_in.order()
    ca.order("a.example", "a.b")
    assert stand_in.asked[-1][1]["replaces"] == "a.b"
    for status in (409, 404):
        stand_in.answers["/order"] = [
            stand_in.problem("alreadyReplaced", status),
            stand_in.order(),
        ]
        ca.order("a.example", "a.b")
        assert "replaces" not in stand_in.asked[-1][1]
    stand_in.answers["/order"] = stand_in.problem("rateLimited", 429)
    stand_in.asked.clear()
    assert error_of(ca.order, "a.example", "a.b").kind == "rateLimited"
    assert [path for path, _ in stand_in.asked].count("/order") == 1
