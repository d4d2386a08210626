"""Access logs as a user writes them: where lines go, how they look, and which fields there are."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from slardar.model.names import split_host_port
from slardar.model.reader import Problems, read, shown
from slardar.model.server import Seconds

__all__ = [
    "COMBINED",
    "FIELDS",
    "AccessLog",
    "Destination",
    "destination_of",
    "parse_access_logs",
    "template_parts",
]

#: Every field of a line in its order, and what it says.
FIELDS: Final = {
    "time": "when the request ended, UTC, in milliseconds (RFC 3339)",
    "client": "the client's address, without port",
    "method": "the method, as the client sent it",
    "host": "the name in the client's Host, lower case, without port",
    "uri": "path and query, as the client sent them",
    "protocol": "`HTTP/1.1` or `HTTP/1.0`",
    "status": "the status that the client got; 0 for none, 444 if a hook wanted none",
    "bytes_in": "bytes of the request: its head, and the content of its body",
    "bytes_out": "bytes of the reply with its head; in `slardar.web` those of its body",
    "seconds": "from the end of the request's head to the end of the reply",
    "upstream": "the name of the upstream",
    "server": "`host:port` of the server that replied, or that was tried last",
    "attempts": "how many attempts there were, on all servers",
    "connect_seconds": "what the last attempt needed for a new connection; "
    "none on a connection that was used before",
    "first_byte_seconds": "from the end of the request's head to the first byte of the reply, "
    "earlier attempts included",
    "request_id": "`X-Request-Id`, the client's or our own; none without an attempt",
    "trace_id": "the id of [the trace](tracing.md), where requests are traced",
    "span_id": "the id of the request's own span in it",
    "decision_id": "the id of the decision, where there is one",
    "hook": "the hook that answered, or that failed",
    "error": "why slardar itself answered, or what broke",
    "user_agent": "the header `User-Agent`",
    "referer": "the header `Referer`",
    "tls": "the version of TLS; none on a plain connection",
    "worker": "the worker: `worker-0` and so on",
    "event": "`begin`, `progress` or `end` of a tunnel or a long request; no other line has it",
}

#: Apache's combined format, with the field that stands for the time in Apache's form.
COMBINED: Final = "combined"
_JSON: Final = "json"

#: The most bytes of a unix socket's path on Linux (``sun_path`` without its NUL).
_MAX_PATH = 107
_EXPECTED_TO = (
    "expected file:PATH, stdout, udp:HOST:PORT, unixgram:PATH, tcp:HOST:PORT or unix:PATH"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Kind = Literal["file", "stdout", "udp", "unixgram", "tcp", "unix"]


class AccessLog(Struct, frozen=True, forbid_unknown_fields=True):
    """One access log."""

    #: Where lines go: a :class:`Destination` as text.
    to: Annotated[str, Meta(description=_EXPECTED_TO.removeprefix("expected "))]
    #: ``json``, ``combined`` (Apache's) or a template with ``{field}``.
    format: Annotated[str, Meta(description="json, combined or a template with {field}")] = _JSON
    #: The share of the requests that are logged, drawn by lot.
    sample: Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")] = 1
    #: Seconds between two lines about a request that is still under way; 0: such a request
    #: has one line, at its end.
    interval: Seconds = 60
    #: Whether a stream (``tcp``, ``unix``) gets syslog messages whose octets are counted
    #: (RFC 5424, RFC 6587) instead of lines.
    syslog: bool = False


class Destination(Struct, frozen=True):
    """Where the lines of an access log go."""

    kind: Kind
    #: Of a file or a unix socket.
    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_datagram(self) -> bool:
        """Each line is a message of its own."""
        return self.kind in ("udp", "unixgram")

    @property
    def is_stream(self) -> bool:
        """A connection to a collector."""
        return self.kind in ("tcp", "unix")


def destination_of(to: str) -> Destination:
    """The destination that ``to`` names.  Raises ValueError with what was expected."""
    kind, colon, rest = to.partition(":")
    if to == "stdout":
        return Destination("stdout")
    if kind in ("udp", "tcp") and colon:
        found = split_host_port(rest)
        if found is not None:
            return Destination(kind, host=found[0], port=found[1])  # type: ignore[arg-type]
    elif kind in ("file", "unix", "unixgram") and rest and "\0" not in rest:
        if kind != "file" and len(os.fsencode(rest)) > _MAX_PATH:
            raise ValueError(f"expected the path of a unix socket, at most {_MAX_PATH} bytes")
        return Destination(kind, path=rest)  # type: ignore[arg-type]
    raise ValueError(_EXPECTED_TO)


def template_parts(template: str) -> list[tuple[str, str]]:
    """The literal texts of a template, each with the field that follows (empty: none).

    ``{{`` and ``}}`` stand for braces.  Raises ValueError with what is wrong.
    """
    if _CONTROL.search(template):
        raise ValueError("expected a template of one line, without control characters")
    parts = []
    try:
        for literal, name, spec, conversion in string.Formatter().parse(template):
            if name is not None and (spec or conversion or name not in FIELDS):
                raise ValueError(f"no field {shown(name)}")
            parts.append((literal, name or ""))
    except ValueError as error:
        raise ValueError(f"expected json, combined or a template with {{field}}: {error}") from None
    if not any(name for _, name in parts):
        raise ValueError("expected json, combined or a template with {field}")
    return parts


def parse_access_logs(raw: object, path: str, problems: Problems) -> tuple[AccessLog, ...]:
    """The access logs of the setting: none for null, of an object, or of a list of objects.

    Adds every mistake to ``problems``, with the key's path, which begins with ``path``.
    """
    if raw is None:
        return ()
    if isinstance(raw, (list, tuple)):
        places = [(f"{path}[{index}]", one) for index, one in enumerate(raw)]
    else:
        places = [(path, raw)]
    logs = [(place, _parse(one, place, problems)) for place, one in places]
    good = [(place, log) for place, log in logs if log is not None]
    _check_different(good, problems)
    return tuple(log for _, log in good)


def _parse(raw: object, path: str, problems: Problems) -> AccessLog | None:
    log = read(AccessLog, raw, path, problems)
    if log is None:
        return None
    try:
        to = destination_of(log.to)
    except ValueError as error:
        problems.add(f"{path}.to", f"{error}, got {shown(log.to)}")
        return None
    if log.syslog and not to.is_stream:
        problems.add(
            f"{path}.syslog", "expected a stream (tcp or unix); datagrams are syslog always"
        )
    if log.format not in (_JSON, COMBINED):
        try:
            template_parts(log.format)
        except ValueError as error:
            problems.add(f"{path}.format", f"{error}, got {shown(log.format)}")
    return log


def _check_different(logs: Iterable[tuple[str, AccessLog]], problems: Problems) -> None:
    """Two logs in one place would mix their lines."""
    seen: dict[str, str] = {}
    for place, log in logs:
        if log.to in seen:
            problems.add(f"{place}.to", f"{shown(log.to)} is the place of {seen[log.to]} already")
        seen.setdefault(log.to, place)
