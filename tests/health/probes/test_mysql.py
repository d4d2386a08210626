"""``mysql``: what greetings and answers to a login say of the server."""

from __future__ import annotations

import pytest

from slardar.health.probes.base import ProbeOptions, Result
from slardar.health.probes.mysql import MAX_PACKET, Mysql
from tests.health.probes.kit import Talk, talk

SALT = b"abcdefghijklmnopqrst"
#: What proves the password ``secret`` for this salt, in either method of login.
NATIVE_PROOF = "8817c50fa779daef010ee7577825b0847df9842e"
SHA2_PROOF = "c76e2898612a4cf042c77fa8c4702c4c64c0c2c557c53c4d75595aaa6abae809"


def packet(number: int, payload: bytes) -> bytes:
    """A packet of the protocol."""
    return len(payload).to_bytes(3, "little") + bytes((number,)) + payload


def greeting(
    version: bytes = b"8.0.36", method: bytes = b"mysql_native_password", flags: int = 0xFFFFFFFF
) -> bytes:
    """A server's first packet."""
    return packet(
        0,
        b"\x0a%b\0" % version
        + bytes(4)
        + SALT[:8]
        + b"\0"
        + (flags & 0xFFFF).to_bytes(2, "little")
        + b"\x21\x02\0"
        + (flags >> 16).to_bytes(2, "little")
        + bytes((21,))
        + bytes(10)
        + SALT[8:]
        + b"\0"
        + (method + b"\0" if flags >> 19 & 1 else b""),
    )


def error(number: int, code: int, text: bytes, state: bytes = b"") -> bytes:
    """An error packet; errors before the login have no state."""
    mark = b"#" + state if state else b""
    return packet(number, b"\xff" + code.to_bytes(2, "little") + mark + text)


DENIED = error(2, 1045, b"Access denied for user ''@'10.0.0.1' (using password: NO)", b"28000")
OK = packet(2, bytes(7))
QUIT = packet(0, b"\x01")


def run(*pieces: bytes, **keys: str) -> Talk:
    """One heartbeat, with ``user``, ``password`` and ``name`` of the upstream."""
    return talk(Mysql(ProbeOptions("mysql", **keys)).begin(), pieces)  # type: ignore[arg-type]


def login(sent: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Capabilities, user, proof and the rest of a login."""
    assert sent[3] == 1
    size = int.from_bytes(sent[:3], "little")
    body = sent[4 : 4 + size]
    user, _, rest = body[32:].partition(b"\0")
    return int.from_bytes(body[:4], "little"), user, rest[1 : 1 + rest[0]], rest[1 + rest[0] :]


def test_server_that_denies_nobody_is_ok() -> None:
    """Without ``user`` the probe has logged in as nobody, so that it is no broken client."""
    found = run(greeting(), DENIED)
    assert found.result == Result("ok", "", {"version": "8.0.36"})
    _, user, proof, rest = login(found.sent)
    assert (user, proof, rest) == (b"", b"", b"mysql_native_password\0")


def test_server_that_lets_nobody_in_is_ok() -> None:
    """The probe says good-bye and waits for the end, so that the server counts no fault."""
    check = Mysql(ProbeOptions("mysql")).begin()
    assert check.connected() == b""
    assert isinstance(check.received(greeting()), bytes)
    assert check.received(OK) == QUIT
    assert check.received(b"more") is None
    assert check.ended() == Result("ok", "", {"version": "8.0.36"})


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        (b"5.5.5-10.11.6-MariaDB-0+deb12u1", "10.11.6-MariaDB-0+deb12u1"),
        (b"11.4.2-MariaDB", "11.4.2-MariaDB"),
        (b"8.0.36", "8.0.36"),
        (b"x" * 999, "x" * 197 + "..."),
        (b"", ""),
    ],
)
def test_version_is_shown(version: bytes, shown: str) -> None:
    """Without the prefix with which MariaDB calms old replicas."""
    assert run(greeting(version), DENIED).result.about == {"version": shown}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            error(0, 1129, b"Host '10.0.0.1' is blocked because of many connection errors"),
            "Host '10.0.0.1' is blocked because of many connection errors (error 1129)",
        ),
        (error(0, 1040, b"Too many connections", b"08004"), "Too many connections (error 1040)"),
        (
            error(0, 1130, b"Host '10.0.0.1' is not allowed to connect"),
            "Host '10.0.0.1' is not allowed to connect (error 1130)",
        ),
        (packet(0, b"\xff"), " (error 0)"),
        (b"", "the server closed the connection without a greeting"),
        (greeting()[:20], "the server closed the connection in the middle of its greeting"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the server does not speak MySQL's protocol"),
        (b"HTTP/1.1 400 Bad Request\r\n", "the server does not speak MySQL's protocol"),
        (packet(0, b"\x09old"), "the server does not speak MySQL's protocol"),
        (packet(0, b"\x0a8.0\0short"), "the server does not speak MySQL's protocol"),
        (packet(0, b"\x0a" + b"x" * 100), "the server does not speak MySQL's protocol"),
        (packet(3, greeting()[4:]), "the server does not speak MySQL's protocol"),
        (packet(0, b""), "the server does not speak MySQL's protocol"),
        (packet(0, bytes(MAX_PACKET + 1)), "the server does not speak MySQL's protocol"),
        (greeting(flags=0x8001), "the server speaks the protocol of MySQL before 4.1"),
        (greeting(), "the server closed the connection during the login"),
        (greeting() + packet(2, b"\x05what"), "the server does not speak MySQL's protocol"),
        (greeting() + packet(2, b"\x01\x04"), "the server does not speak MySQL's protocol"),
        (
            greeting() + packet(2, b"\xfex\0") * 20,
            "the server does not speak MySQL's protocol",
        ),
        (
            greeting() + error(2, 1203, b"User has too many connections", b"42000"),
            "User has too many connections (error 1203)",
        ),
    ],
)
def test_what_is_no_good_greeting_is_a_failure(answer: bytes, says: str) -> None:
    """Errors have the server's own text."""
    found = run(answer).result
    assert (found.status, found.message) == ("err", says)


@pytest.mark.parametrize(
    ("code", "state"),
    [(1045, b"28000"), (1698, b"28000"), (1251, b"08004"), (1524, b"HY000"), (3159, b"HY000")],
)
def test_every_refusal_of_nobody_is_good(code: int, state: bytes) -> None:
    """They all say that the server works, and who may come in; a named user must come in."""
    refused = error(2, code, b"no", state)
    assert run(greeting(), refused).result.status == "ok"
    found = run(greeting(), refused, user="me").result
    assert (found.status, found.message) == ("err", f"no (error {code})")


def test_user_must_be_let_in() -> None:
    """It is named with its password and its database."""
    found = run(greeting(), OK, user="me", password="secret", name="shop")
    assert found.result.status == "ok"
    flags, user, proof, rest = login(found.sent)
    assert (user, rest) == (b"me", b"shop\0mysql_native_password\0")
    assert flags & 8
    assert proof.hex() == NATIVE_PROOF
    assert found.sent.endswith(QUIT)
    denied = run(greeting(), DENIED, user="me", password="wrong").result
    assert denied.message.startswith("Access denied for user")


def test_new_method_of_login() -> None:
    """MySQL 8's default works as long as the server remembers the password."""
    method = b"caching_sha2_password"
    known = packet(2, b"\x01\x03")
    found = run(greeting(method=method), known + packet(3, bytes(7)), user="me", password="secret")
    assert found.result.status == "ok"
    assert login(found.sent)[2].hex() == SHA2_PROOF
    unknown = packet(2, b"\x01\x04")
    denied = error(4, 1045, b"Access denied", b"28000")
    found = run(greeting(method=method), unknown, denied, user="me", password="secret")
    assert found.result == Result(
        "err",
        "Access denied (error 1045); caching_sha2_password wants the password encrypted by TLS "
        "or RSA",
        {"version": "8.0.36"},
    )


def test_server_may_choose_another_method_of_login() -> None:
    """The proof is made anew with the salt that comes with it."""
    switch = packet(2, b"\xfemysql_native_password\0" + SALT + b"\0")
    method = b"client_ed25519"
    found = run(greeting(method=method), switch, packet(4, bytes(7)), user="me", password="secret")
    assert found.result.status == "ok"
    assert packet(3, bytes.fromhex(NATIVE_PROOF)) in found.sent


def test_unknown_method_of_login_gets_no_password() -> None:
    """The server denies it, and the message says why it could not be right."""
    switch = packet(2, b"\xfemysql_clear_password\0")
    denied = error(4, 1045, b"Access denied", b"28000")
    found = run(greeting(), switch, denied, user="me", password="secret")
    assert b"secret" not in found.sent
    assert found.sent.endswith(packet(3, b""))
    assert found.result.message == (
        "Access denied (error 1045); the login's method mysql_clear_password is not known"
    )
    # Nobody has no password, so every method will do.
    assert run(greeting(), switch, denied).result.status == "ok"
    # A method with more steps than one cannot be gone on with.
    found = run(greeting(), switch, packet(4, b"\x01go on"), user="me", password="secret")
    assert found.result.message == "the login's method mysql_clear_password is not known"


def test_server_without_methods_of_login() -> None:
    """MySQL 5.1 and some proxies have the native one only."""
    flags = 0x8200 | 8
    found = run(greeting(flags=flags), OK, user="me", password="secret", name="shop")
    assert found.result.status == "ok"
    ours, user, proof, rest = login(found.sent)
    assert (ours, user, proof.hex(), rest) == (flags, b"me", NATIVE_PROOF, b"shop\0")
