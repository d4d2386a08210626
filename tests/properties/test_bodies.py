"""Bodies that hooks see, with requests in any pieces.

Each request gets the result that it would get alone, and no body is held at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slardar.config import Hooks
from slardar.hooks.runner import Runner
from slardar.http1 import bodies
from slardar.testing.playbook import Playbook
from tests.hooks.kit import hook, hooks
from tests.http1.lines import OK, get, post, post_chunked, statuses

LIMIT = 20
SCRIPTS = {
    "python": (
        "def on_request(request):\n"
        "    if request.body_too_large:\n"
        "        return\n"
        "    if b'no' in request.body:\n"
        "        return request.reject(403)\n"
        "    if b'up' in request.body:\n"
        "        request.body = request.body.upper()\n"
    ),
    "lua": (
        "ngx.req.read_body()\n"
        "local data = ngx.req.get_body_data()\n"
        "if not data then return end\n"
        "if data:find('no') then return ngx.exit(403) end\n"
        "if data:find('up') then ngx.req.set_body_data(data:upper()) end\n"
    ),
}


@pytest.fixture(scope="module")
def runners() -> Iterator[dict[str, Runner]]:
    """One runner of each language."""
    made = {}
    for language, code in SCRIPTS.items():
        made[language] = Runner(Hooks(), lambda: 0.0)
        made[language].load(hooks(hook(f"{language}/script.*", code)))
    yield made
    for one in made.values():
        one.load({})


@st.composite
def requests(draw: Any) -> tuple[bytes, int, bytes | None]:
    """A request, its status, and the body that the server gets; ``None``: no server gets it."""
    words = st.sampled_from((b"x", b"no", b"up", b"yes\r\n\r\n"))
    body = b"".join(draw(st.lists(words, max_size=9)))
    kind = draw(st.sampled_from(("get", "length", "chunked", "trailers")))
    if kind == "get":
        return get("/"), 200, b""
    if len(body) > LIMIT:
        arrives: bytes | None = body
    elif b"no" in body:
        arrives = None
    else:
        arrives = body.upper() if b"up" in body else body
    if kind == "length":
        sent = post(body)
    else:
        cut = draw(st.integers(0, len(body)))
        pieces = [piece for piece in (body[:cut], body[cut:]) if piece]
        sent = post_chunked() + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces)
        sent += b"0\r\n\r\n" if kind == "chunked" else b"0\r\nX-T: 1\r\n\r\n"
    return sent, 403 if arrives is None else 200, arrives


def content(data: bytes) -> bytes:
    """The body of the only request that a server has got."""
    head, _, body = data.partition(b"\r\n\r\n")
    if b"Transfer-Encoding: chunked" not in head:
        declared = (head + b"\r\nContent-Length: 0").split(b"Content-Length: ")[1]
        assert len(body) == int(declared.split()[0])
        return body
    found = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size, 16):
            return found
        found, body = found + body[: int(size, 16)], body[int(size, 16) + 2 :]


@given(
    language=st.sampled_from(sorted(SCRIPTS)),
    asked=st.lists(requests(), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 60), min_size=1, max_size=30),
)
def test_pieces_make_no_difference(
    runners: dict[str, Runner], language: str, asked: list[Any], cuts: list[int]
) -> None:
    """This holds for lengths, chunks, trailers and limits, one request after the other on one
    connection."""
    play = Playbook(hooks=runners[language], hook_body=LIMIT)
    data = b"".join(sent for sent, _, _ in asked)
    at = step = 0
    got: list[int] = []
    arrived: list[bytes] = []

    def serve() -> None:
        """Let the server answer the requests that it has got completely."""
        while play.host.exchanges and play.connection._exchange is not None:
            if not play.connection._exchange.body_ended:
                return
            arrived.append(content(play.origin_gets()))
            play.origin_sends(OK)

    while at < len(data):
        # The connection has its exchange while it waits for a reply.
        assert (play.host.exchanges > 0) is (play.connection._exchange is not None)
        size = cuts[step % len(cuts)]
        play.client_sends(data[at : at + size])
        at, step = at + size, step + 1
        serve()
    serve()
    got += statuses(play.client_gets())
    assert got == [status for _, status, _ in asked]
    assert arrived == [arrives for _, _, arrives in asked if arrives is not None]
    assert play.host.bodies.free == bodies.ROOM
    play.finish()
