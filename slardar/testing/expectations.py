"""What an operator expects of a configuration: requests, and what is to come of each.

Values only; :mod:`slardar.testing.site` makes the requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Struct, UnsetType

from slardar.errors import ConfigError
from slardar.model.names import usual_address
from slardar.model.reader import Problems, shown

__all__ = ["Asked", "Expectation", "Outcome", "ServerReply", "asked", "read_expectations"]

#: The schemes of a URL, each with the name of the listener that it goes to.
Scheme = Literal["http", "https"]


class Asked(Struct, frozen=True):
    """One request."""

    method: str
    scheme: Scheme
    host: str
    #: The path with its query.
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    #: The address of whoever is connected.
    client: str = "127.0.0.1"

    @property
    def line(self) -> str:
        """The request in one line."""
        return f"{self.method} {self.scheme}://{self.host}{self.target}"


class ServerReply(Struct, frozen=True, forbid_unknown_fields=True):
    """What the server answers that gets the request."""

    status: int = 200
    headers: dict[str, str] = {}
    body: str = ""


class Outcome(Struct, frozen=True):
    """What has come of a request."""

    #: ``None`` if it goes to none.
    upstream: str | None
    #: The servers that may get it, in the order of their level; empty if none does.
    servers: tuple[str, ...]
    #: The reply that the client gets; 0 if the connection ends without one.
    status: int
    #: Its headers: names in lower case, and values in their order, joined by ``, ``.
    headers: Mapping[str, str]
    body: str
    #: The headers that the server gets, in the same form; ``None`` if no server is asked.
    sent: Mapping[str, str] | None
    #: The method, and the path with its query, that the server gets.
    sent_line: str | None
    #: A line for each hook that has seen it.
    hooks: tuple[str, ...] = ()


class _Request(Struct, frozen=True, forbid_unknown_fields=True):
    """A request as it is written."""

    url: str
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str = ""
    client: str = "127.0.0.1"


class _Written(Struct, frozen=True, forbid_unknown_fields=True):
    """An expectation as it is written."""

    request: str | _Request
    #: For people.
    name: str = ""
    reply: ServerReply = ServerReply()
    upstream: str | UnsetType | None = UNSET
    servers: tuple[str, ...] | UnsetType = UNSET
    status: int | UnsetType = UNSET
    #: Of the reply and of what the server gets; ``null`` is for a header that is not there.
    headers: dict[str, str | None] = {}
    sent: dict[str, str | None] = {}
    sent_line: str | UnsetType = UNSET


class Expectation(Struct, frozen=True):
    """A request, and what is to come of it."""

    request: Asked
    reply: ServerReply
    written: _Written

    @property
    def name(self) -> str:
        """What it is called for people."""
        return self.written.name or self.request.line

    def differences(self, outcome: Outcome) -> list[str]:
        """What has come otherwise, in a line each; empty if nothing has."""
        wanted, found = self.written, []
        if wanted.upstream is not UNSET and wanted.upstream != outcome.upstream:
            found.append(_differs("upstream", wanted.upstream, outcome.upstream))
        if wanted.servers is not UNSET and set(wanted.servers) != set(outcome.servers):
            found.append(_differs("servers", sorted(wanted.servers), sorted(outcome.servers)))
        if wanted.status is not UNSET and wanted.status != outcome.status:
            found.append(_differs("status", wanted.status, outcome.status))
        if wanted.sent_line is not UNSET and wanted.sent_line != outcome.sent_line:
            found.append(_differs("sent_line", wanted.sent_line, outcome.sent_line))
        found += _headers("headers", wanted.headers, outcome.headers)
        if wanted.sent and outcome.sent is None:
            found.append("sent: no server gets this request")
        else:
            found += _headers("sent", wanted.sent, outcome.sent or {})
        return found


def _headers(where: str, wanted: Mapping[str, str | None], found: Mapping[str, str]) -> list[str]:
    return [
        _differs(f"{where}.{name}", value, found.get(name.lower()))
        for name, value in wanted.items()
        if found.get(name.lower()) != value
    ]


def _differs(where: str, wanted: object, found: object) -> str:
    return f"{where}: expected {_shown(wanted)}, got {_shown(found)}"


def _shown(value: object) -> str:
    return "none" if value is None else msgspec.json.encode(value).decode()


def read_expectations(raw: object, where: str) -> list[Expectation]:
    """The expectations of a list.  Raises ConfigError with every mistake."""
    if not isinstance(raw, Sequence) or isinstance(raw, str) or not raw:
        raise ConfigError(f"{where}: expected a list of expectations")
    problems = Problems()
    found = []
    for index, item in enumerate(raw):
        place = f"{where}[{index}]"
        if isinstance(item, Mapping) and "request" not in item:
            problems.add(place, "expected a request")
            continue
        written = _read(item, place, problems)
        if written is None:
            continue
        try:
            request = _asked(written.request, f"{place}.request")
        except ConfigError as error:
            problems.lines += error.problems
            continue
        found.append(Expectation(request, written.reply, written))
    problems.raise_if_any()
    return found


def _read(item: object, place: str, problems: Problems) -> _Written | None:
    try:
        return msgspec.convert(item, _Written, strict=True)
    except msgspec.ValidationError as error:
        text = str(error)
        what, _, path = text.partition(" - at `$")
        problems.add(place + path.rstrip("`"), what[:1].lower() + what[1:])
        return None


def _asked(written: str | _Request, where: str) -> Asked:
    if isinstance(written, str):
        return asked(written, where=where)
    return asked(
        f"{written.method} {written.url}",
        written.headers,
        written.body,
        written.client,
        where,
    )


def asked(
    line: str,
    headers: Mapping[str, str] | None = None,
    body: str = "",
    client: str = "127.0.0.1",
    where: str = "request",
) -> Asked:
    """A request from ``GET http://www.example.com/path``; without a method it is GET, without a
    scheme it is http.  Raises ConfigError."""
    method, _, url = line.strip().rpartition(" ")
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
    except ValueError:
        # A bracket that is not closed, say.
        raise ConfigError(f"{where}: expected METHOD http://HOST/PATH, got {shown(line)}") from None
    try:
        address = usual_address(client)
    except ValueError:
        raise ConfigError(f"{where}.client: expected an IP address, got {shown(client)}") from None
    scheme = parts.scheme or "http"
    if scheme not in ("http", "https") or not parts.netloc or not line.isprintable():
        raise ConfigError(f"{where}: expected METHOD http://HOST/PATH, got {shown(line)}")
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    lines = tuple((str(name), str(value)) for name, value in (headers or {}).items())
    for name, value in lines:
        if not name.isascii() or not (name + value).isprintable() or not name.strip():
            raise ConfigError(f"{where}.headers: expected printable names and values")
    return Asked(method.strip() or "GET", scheme, parts.netloc, target, lines, body, address)  # type: ignore[arg-type]
