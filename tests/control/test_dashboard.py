"""The files of the dashboard: who gets them, and with which headers."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from slardar.control import dashboard
from tests.control.fakes import FakePlane, FakeStore, Reply, WebClient, make_actions, upstream

FOLDER = Path(dashboard.__file__).parent / "page"
FILES = sorted(path for path in FOLDER.iterdir() if path.name != "index.html")
TOKENS = [{"name": "ops", "role": "admin", "sha256": hashlib.sha256(b"secret").hexdigest()}]


def make_client(**control: Any) -> WebClient:
    """A client of a channel with these settings."""
    actions = make_actions(FakeStore(), FakePlane(), upstreams={"a": upstream(1)})
    return WebClient(actions, **control)


@pytest.fixture
def client() -> WebClient:
    """A client of a channel without tokens."""
    return make_client()


def policy(reply: Reply) -> dict[str, str]:
    """The directives of the Content-Security-Policy."""
    parts = reply.headers["Content-Security-Policy"].split("; ")
    return {name: rest for name, _, rest in (part.partition(" ") for part in parts)}


def test_page(client: WebClient) -> None:
    """It is HTML that a browser may run nothing in but its own files."""
    reply = client.call("GET", "/")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    found = policy(reply)
    assert found.pop("default-src") == "'none'"
    assert {found.pop(f"{kind}-src") for kind in ("script", "style", "connect")} == {"'self'"}
    assert found.pop("img-src") == "'self' data:"
    for name in ("base-uri", "form-action", "frame-ancestors"):
        assert found.pop(name) == "'none'"
    assert found == {"require-trusted-types-for": "'script'", "trusted-types": "'none'"}


def test_page_names_only_its_own_files(client: WebClient) -> None:
    """Nothing inline, and nothing from elsewhere; every file that is named is there."""
    text = client.call("GET", "/").body.decode()
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", text)
    named = re.findall(r'\s(?:src|href)="([^"#]+)"', text)
    for path in FILES:
        if path.suffix == ".js":
            code = path.read_text("utf-8")
            named += [f"/page/{name}" for name in re.findall(r'from "\./([^"]+)"', code)]
            assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", code)
        if path.suffix == ".css":
            assert not re.search(r"url\(|@import", path.read_text("utf-8"))
    assert {f"/page/{path.name}" for path in FILES} == set(named)
    for path in set(named):
        assert client.call("GET", path).status == 200, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file(path: Path, client: WebClient) -> None:
    """It has its type, and is zipped for those that take it."""
    reply = client.call("GET", f"/page/{path.name}")
    kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    assert reply.headers["Content-Type"].split(";")[0] == kinds[path.suffix]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.body == path.read_bytes()
    zipped = client.call("GET", f"/page/{path.name}", Accept_Encoding="gzip, br")
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == reply.body
    assert zipped.headers["ETag"] != reply.headers["ETag"]


def test_known_file_is_not_sent_again(client: WebClient) -> None:
    """A browser asks each time, and gets a file only if it is another one."""
    reply = client.call("GET", "/page/main.js")
    assert reply.headers["Cache-Control"] == "no-cache"
    tag = reply.headers["ETag"]
    for known in (tag, f'"x", {tag}', f"W/{tag}", "*"):
        again = client.call("GET", "/page/main.js", If_None_Match=known)
        assert (again.status, again.body) == (304, b""), known
        assert again.headers["ETag"] == tag
    assert client.call("GET", "/page/main.js", If_None_Match='"x"').status == 200
    zipped = client.call("GET", "/page/main.js", If_None_Match=tag, Accept_Encoding="gzip")
    assert zipped.status == 200


def test_head(client: WebClient) -> None:
    """It has the headers of GET."""
    client.request("HEAD", "/")
    head = client.transport.value()
    assert head.startswith(b"HTTP/1.1 200")
    assert head.endswith(b"\r\n\r\n")
    assert b"Content-Security-Policy" in head


def test_files_need_no_token() -> None:
    """They are the same for everybody.  The calls need one all the same."""
    client = make_client(tokens=TOKENS)
    assert client.call("GET", "/").status == 200
    assert client.call("GET", "/page/main.js").status == 200
    assert client.call("GET", "/page/access").json == {"tokens": True}
    assert make_client().call("GET", "/page/access").json == {"tokens": False}
    for path in (
        "/overview",
        "/status",
        "/events",
        "/page/none",
        "/page/",
        "//",
        "/page/../status",
    ):
        assert client.call("GET", path).status == 401, path
    assert client.call("POST", "/").status == 401
    assert client.call("PUT", "/page/main.js").status == 401
    good = client.call("GET", "/overview", Authorization="Bearer secret")
    assert good.json["caller"] == {"who": "ops", "role": "admin"}


def test_other_sites_get_nothing(client: WebClient) -> None:
    """The rules about browsers and addresses hold for the files, too."""
    assert client.call("GET", "/", Sec_Fetch_Site="cross-site").status == 403
    assert client.call("GET", "/", Origin="http://elsewhere.example").status == 403
    assert client.call("GET", "/", Host="elsewhere.example").status == 403
    limited = make_client(tokens=TOKENS, allow=["10.0.0.0/8"])
    assert limited.call("GET", "/").status == 403


def test_a_stranger_sends_no_body() -> None:
    """Else anybody could fill the memory."""
    client = make_client(tokens=TOKENS)
    reply = client.call("GET", "/", b"x" * 10)
    assert (reply.status, reply.json["msg"]) == (400, "expected no body")


def test_other_methods_and_files(client: WebClient) -> None:
    """Only reading is possible."""
    assert client.call("POST", "/").status == 404
    assert client.call("GET", "/page/none.js").status == 404
    assert client.call("GET", "/page/index.html").status == 404
