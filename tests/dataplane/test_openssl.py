"""OpenSSL's own call for contexts: what it sets, and what becomes of a Python without it."""

from __future__ import annotations

import ctypes
import ssl
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from slardar.dataplane import openssl
from slardar.dataplane.openssl import SET_GROUPS_LIST, control, limit_groups


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    control.cache_clear()
    yield
    control.cache_clear()


def test_groups_that_openssl_knows() -> None:
    """The list is good for the OpenSSL that is here, and a wrong one is not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert limit_groups(context)
    call = control()
    assert call is not None
    assert call(context, SET_GROUPS_LIST, 0, b"P-256:P-1") == 0


def test_other_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its objects may look otherwise."""
    monkeypatch.setattr(sys.implementation, "name", "pypy")
    assert control() is None
    assert not limit_groups(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


@pytest.mark.parametrize("error", [OSError("no such file"), AttributeError("SSL_CTX_ctrl")])
def test_library_without_the_call(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """As in a Python that is linked in another way."""

    def none(_name: Any) -> Any:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", none)
    assert control() is None


def test_call_that_answers_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not used for anything."""
    monkeypatch.setattr(openssl, "GET_MIN_PROTO_VERSION", openssl.GET_MIN_PROTO_VERSION + 1)
    assert control() is None
