"""Calls of OpenSSL through ctypes: each assumption is checked, and what fails is told."""

from __future__ import annotations

import gc
import ssl
import sys
from typing import Any

import pytest

from slardar.dataplane import openssl as module
from slardar.dataplane import openssl_trial as trial
from slardar.dataplane.openssl import KEYS_SIZE, NoOpenSslError, OpenSsl, Staples, openssl


@pytest.fixture
def calls() -> OpenSsl:
    """Functions of their own, which a test may spoil."""
    return OpenSsl()


def server() -> ssl.SSLContext:
    """A context of ssl."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def test_all_of_it_works_here() -> None:
    """On the Python of these tests sessions are shared and staples are sent."""
    assert trial.trouble() == ""
    assert openssl() is openssl()


def test_address_without_memory_is_no_crash(calls: OpenSsl) -> None:
    """The kernel looks first."""
    for address in (8, 0x7FFF_FFFF_F000, 2**63):
        assert calls._look(address, 64) == b""


def test_pointer_to_something_else_is_refused(
    calls: OpenSsl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL never gets it."""
    context = server()
    assert calls.pointer(context) == calls.pointer(context)
    monkeypatch.setattr(calls, "_ctx_options", lambda _: pytest.fail("OpenSSL was called"))
    monkeypatch.setattr(calls, "_methods", {bytes(range(8))})
    with pytest.raises(NoOpenSslError, match="not laid out as expected"):
        calls.pointer(context)
    monkeypatch.setattr(calls, "_look", lambda *_: b"")
    with pytest.raises(NoOpenSslError, match="not laid out as expected"):
        calls.pointer(context)
    small: Any = object()
    with pytest.raises(NoOpenSslError, match="smaller"):
        calls.pointer(small)


def test_options_must_be_the_same(calls: OpenSsl) -> None:
    """As OpenSSL and as ssl tell them."""

    class Odd(ssl.SSLContext):
        @property  # type: ignore[override]
        def options(self) -> int:
            return 1

    with pytest.raises(NoOpenSslError, match="other options"):
        calls.pointer(Odd(ssl.PROTOCOL_TLS_SERVER))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda patch: patch.setattr(sys.implementation, "name", "pypy"), "not CPython"),
        (
            lambda patch: patch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False),
            "free threading",
        ),
        (lambda patch: patch.delattr(sys.modules["_ssl"], "__file__"), "part of the interpreter"),
        (
            lambda patch: patch.setattr(sys.modules["_ssl"], "__file__", "/nowhere/_ssl.so"),
            "not to be had: /nowhere",
        ),
        (
            # A library that is not linked to OpenSSL.
            lambda patch: patch.setattr(sys.modules["_ssl"], "__file__", "libc.so.6"),
            "not to be had: .*SSL_CTX_ctrl",
        ),
        (lambda patch: patch.setattr(ssl, "OPENSSL_VERSION_NUMBER", 1), "another OpenSSL"),
    ],
)
def test_python_that_is_not_used_so(
    monkeypatch: pytest.MonkeyPatch, spoil: Any, reason: str
) -> None:
    """With the reason."""
    spoil(monkeypatch)
    with pytest.raises(NoOpenSslError, match=reason):
        OpenSsl()


@pytest.mark.parametrize(
    ("name", "instead", "reason"),
    [
        ("set_ticket_keys", lambda *_: None, "TLSv1_2 does not resume by its ticket's key"),
        ("staple", lambda *_: None, "a staple is not sent"),
        ("pointer", lambda context: id(context), "a context has moved"),
    ],
)
def test_calls_without_effect_are_noticed(
    calls: OpenSsl, monkeypatch: pytest.MonkeyPatch, name: str, instead: Any, reason: str
) -> None:
    """The trial says which."""
    if name == "pointer":
        right, numbers = calls.pointer, iter(range(2))
        instead = lambda context: right(context) + next(numbers)  # noqa: E731
    monkeypatch.setattr(calls, name, instead)
    with pytest.raises(NoOpenSslError, match=reason):
        trial._try(calls)


def test_one_key_for_all_is_noticed(calls: OpenSsl, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session would resume where it must not."""
    right = calls.set_ticket_keys
    monkeypatch.setattr(calls, "set_ticket_keys", lambda at, _: right(at, bytes(KEYS_SIZE)))
    with pytest.raises(NoOpenSslError, match="resumes by its ticket's key"):
        trial._try(calls)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NoOpenSslError("no\nway"), "no way"),
        (ssl.SSLError(1, "none"), "SSLError: none"),
        (TypeError("a bug"), "TypeError: a bug"),
    ],
)
def test_trial_tells_why(monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str) -> None:
    """It raises nothing."""

    def fails() -> OpenSsl:
        raise error

    monkeypatch.setattr(trial, "openssl", fails)
    assert trial.trouble.__wrapped__() == reason


def test_groups_that_openssl_knows(calls: OpenSsl) -> None:
    """The list is good for the OpenSSL that is here, and a wrong one is not."""
    context = server()
    pointer = calls.pointer(context)
    calls.set_groups(pointer)
    with pytest.raises(NoOpenSslError, match="groups"):
        calls.set_groups(pointer, b"P-256:P-1")


def test_wrong_size_of_keys(calls: OpenSsl) -> None:
    """Neither less nor more."""
    pointer = calls.pointer(server())
    for size in (0, KEYS_SIZE - 1, KEYS_SIZE + 1):
        with pytest.raises(ValueError, match="expected 80 bytes"):
            calls.set_ticket_keys(pointer, bytes(size))


def test_unknown_groups(calls: OpenSsl) -> None:
    """Those that are wanted are known here; others are told."""
    context = server()
    pointer = calls.pointer(context)
    calls.set_groups(pointer)
    with pytest.raises(NoOpenSslError, match="does not know the groups"):
        calls.set_groups(pointer, b"P-256:P-1")


def stapled(calls: OpenSsl, staples: Staples) -> bytes:
    """All that a server with these staples sends to a client that asks for them."""
    cert, key = trial._pair()
    made = trial._Server(calls, cert, key)
    calls.staple(made.pointer, staples)
    if staples.of:
        staples.of = {ssl.PEM_cert_to_DER_cert(cert): next(iter(staples.of.values()))}
    del staples
    gc.collect()
    client = trial._client(ssl.TLSVersion.TLSv1_2)
    calls.ask_for_staples(calls.pointer(client))
    return trial._shaken(made.context, client)[1]


def test_context_outlives_its_staples(calls: OpenSsl) -> None:
    """OpenSSL may ask for what is no longer there: a handshake goes on without."""
    staples = Staples()
    staples.of = {b"": (b"answer " * 5, 2.0**40)}
    assert b"answer answer" in stapled(calls, staples)
    lost = Staples()
    cert, key = trial._pair()
    made = trial._Server(calls, cert, key)
    lost.of = {ssl.PEM_cert_to_DER_cert(cert): (b"answer " * 5, 2.0**40)}
    calls.staple(made.pointer, lost)
    del lost
    gc.collect()
    client = trial._client(ssl.TLSVersion.TLSv1_2)
    calls.ask_for_staples(calls.pointer(client))
    assert b"answer" not in trial._shaken(made.context, client)[1]


def test_error_while_openssl_asks(calls: OpenSsl, monkeypatch: pytest.MonkeyPatch) -> None:
    """None gets into OpenSSL."""
    monkeypatch.setattr(calls, "_der", lambda _: 1 / 0)
    staples = Staples()
    staples.of = {b"": (b"answer", 2.0**40)}
    assert b"answer" not in stapled(calls, staples)


def test_offset_is_that_of_the_head() -> None:
    """A context has room for a pointer behind it."""
    assert type(server()).__basicsize__ >= object.__basicsize__ + module._WORD
