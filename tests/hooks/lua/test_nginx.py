"""The same scripts in nginx with ngx_lua and in slardar have the same effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slardar.hooks.effects import apply_request, seen_request
from slardar.hooks.script import HookFailure
from slardar.http1.request import parse_request
from slardar.http1.writer import RequestIds, request_head
from tests.hooks.lua.cases import EXPRESSIONS, GET, SCRIPTS, Case
from tests.hooks.lua.nginx import Send, dechunked, running

pytestmark = pytest.mark.real

#: What a script's effect is: a status, headers as lines, and a body or the server's view.
Outcome = dict[str, Any]

CASES: tuple[Case, ...] = (
    *((expression, f"ngx.say({expression})", GET) for expression in EXPRESSIONS),
    *SCRIPTS,
)


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Send]:
    """Send a request to the nginx that runs the case with this number, and return the reply."""
    with running(tmp_path_factory.mktemp("nginx"), [code for _, code, _ in CASES]) as send:
        yield send


def of_nginx(reply: str) -> Outcome:
    """The effect of a script in nginx."""
    if not reply:
        return {"status": 444}
    head, _, body = reply.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    status = int(first.split()[1])
    fields = [tuple(line.split(": ", 1)) for line in lines]
    names = {name.lower(): value for name, value in fields}
    if names.get("transfer-encoding") == "chunked":
        body = dechunked(body)
    own = [(n.lower(), v) for n, v in fields if n.lower() in ("x-out", "location")]
    if "x-echo" in names:
        return {"goes on": server_view(body), "headers": own}
    outcome: Outcome = {"status": status, "headers": own}
    # nginx's own page is not ours.
    if "<hr><center>nginx" not in body and status != 204:
        outcome["body"] = body
        outcome["type"] = names.get("content-type") if body else None
    return outcome


def server_view(head: str) -> Any:
    """What a server gets, without what nginx and slardar each add in their own way."""
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    added = ("Connection:", "Content-Length: 0", "X-Forwarded-", "X-Request-Id:")
    fields = sorted(tuple(line.split(": ", 1)) for line in lines if not line.startswith(added))
    return method, target, fields


def of_slardar(engine: Any, code: str, head: tuple[str, ...]) -> Outcome:
    """The effect of a script in slardar."""
    sent = "\r\n".join((*head, "Connection: close", "", ""))
    request = parse_request(sent.encode("latin-1"))
    request.peer = request.address = b"192.0.2.1"
    seen = seen_request(request, None)
    script = engine.load("script.x", code, {})
    try:
        script.on_request(seen)
    except HookFailure as failure:
        if failure.kind != "error":
            raise
        return {"status": 500, "headers": []}
    answer = seen.answer
    if answer is None:
        apply_request(seen, request)
        written = request_head(request, RequestIds(b"x"), "a").decode("latin-1")
        added = seen.context.get("lua.reply_headers")
        own = [(n.lower(), v) for n, v in added.items()] if added is not None else []
        own = [pair for pair in own if pair[0] in ("x-out", "location")]
        return {"goes on": server_view(written), "headers": own}
    if answer.status == 444:
        return {"status": 444}
    pairs = [line.decode("latin-1").split(": ", 1) for line in answer.headers]
    own = [(n.lower(), v) for n, v in pairs if n.lower() in ("x-out", "location")]
    outcome: Outcome = {"status": answer.status, "headers": own}
    if answer.message is None and answer.status // 100 != 3 and answer.status != 204:
        outcome["body"] = answer.body.decode("latin-1")
        outcome["type"] = {n.lower(): v for n, v in pairs}.get("content-type")
    return outcome


@pytest.mark.parametrize("number", range(len(CASES)), ids=[name[:50] for name, _, _ in CASES])
def test_same_as_nginx(number: int, ask: Any, engine: Any) -> None:
    """A script has the same effect as in nginx."""
    _, code, head = CASES[number]
    assert of_slardar(engine, code, head) == of_nginx(ask(number, head))
