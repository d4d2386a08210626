"""Every function of ngx does the same with nil, odd numbers, tables and the like as in nginx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slardar.hooks.effects import seen_request
from slardar.http1.request import parse_request
from tests.hooks.lua.cases import GET
from tests.hooks.lua.helpers import make_engine
from tests.hooks.lua.nginx import Send, dechunked, running
from tests.hooks.lua.odd import CALLS, DIFFERENT, UNCOMPARED, script, values_of

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def send(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Send]:
    """Send a request to the nginx that makes the calls with this number."""
    with running(tmp_path_factory.mktemp("nginx"), [script(call) for call in CALLS]) as send:
        yield send


@pytest.fixture(scope="module")
def patient() -> Any:
    """An engine with time for all values at once, even on a busy machine."""
    return make_engine(5.0)


def of_slardar(engine: Any, code: str) -> list[str]:
    """The lines that a script says in slardar."""
    sent = "\r\n".join((*GET, "Connection: close", "", ""))
    seen = seen_request(parse_request(sent.encode()), None)
    engine.load("script.x", code, {}).on_request(seen)
    assert seen.answer is not None
    return seen.answer.body.decode("latin-1").split("\n")


@pytest.mark.real(False)
def test_each_difference_is_of_a_call() -> None:
    """Each known difference belongs to a call that exists."""
    for call in (*DIFFERENT, *UNCOMPARED):
        assert call in CALLS
    for call, values in DIFFERENT.items():
        assert set(values) <= set(values_of(call)), call


@pytest.mark.parametrize("call", CALLS)
def test_odd_arguments(call: str, send: Send, patient: Any) -> None:
    """The result is the same, or the difference is known."""
    head, _, body = send(CALLS.index(call), GET).partition("\r\n\r\n")
    assert "200 OK" in head
    names = values_of(call)
    there = dict(zip(names, dechunked(body).split("\n"), strict=True))
    here = dict(zip(names, of_slardar(patient, script(call)), strict=True))
    different = DIFFERENT.get(call, {})
    assert here == {**there, **different}
    for name, ours in different.items():
        assert there[name] != ours, name
