"""Calls of the control channel from a command; they block, and their errors are for people."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import click

from slardar.errors import printable

__all__ = ["DEFAULT", "Answer", "Client"]

#: The default place of the control channel of ``twistd slardar``.
DEFAULT = "http://127.0.0.1:1995"
#: Seconds for one call; a change is answered when every worker serves it.
_TIMEOUT = 60.0
#: The most bytes of an answer; the status of 10,000 upstreams takes some 4 MiB.
_MAX_ANSWER = 64 << 20


class Answer(NamedTuple):
    """The answer to a call."""

    value: Any
    #: The version of the configuration, as ``If-Match`` takes it.
    etag: str


class Client:
    """Calls the control channel at ``place``: a URL, or ``unix:PATH``.

    For ``https``, ``cacert`` is a file with the CAs that are trusted in the place of the system's,
    and ``cert`` one with a certificate and its key, which the channel may ask for.  A call may take
    ``timeout`` seconds.
    Every method raises ``click.ClickException`` with one line: the channel's refusal, or
    the reason why the call could not be made.
    """

    def __init__(
        self,
        place: str,
        token: str | None = None,
        cacert: str | None = None,
        cert: str | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        self._place = place
        self._timeout = timeout
        if token is not None and not (token.isascii() and token.isprintable()):
            # It would not fit into a header; and it is not shown.
            raise click.ClickException("the token: expected printable ASCII, on one line")
        self._token = token
        self._tls: ssl.SSLContext | None = None
        if place.startswith("unix:"):
            return
        parts = urlsplit(place)
        try:
            port = parts.port
        except ValueError:
            port = 0
        is_url = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/")
        if not is_url or port == 0:
            raise click.ClickException(
                f"--control: expected http://HOST:PORT, https://HOST:PORT or unix:PATH, got {place}"
            )
        if parts.scheme == "https":
            self._tls = _trust(cacert, cert)
        self._address = (parts.hostname or "", port or (443 if self._tls else 80))

    def get(self, *parts: str) -> Any:
        """The answer to a GET of the path that ``parts`` make."""
        return self.call("GET", parts)

    def call(
        self,
        method: str,
        parts: tuple[str, ...],
        body: bytes | None = None,
        parameters: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer to a call, read from JSON."""
        return self.ask(method, parts, body, parameters, headers).value

    def ask(
        self,
        method: str,
        parts: tuple[str, ...],
        body: bytes | None = None,
        parameters: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Answer:
        """The same with the version of the configuration; ``more`` are further headers."""
        target = "/" + "/".join(quote(part, safe="") for part in parts)
        if parameters:
            target += "?" + urlencode(parameters)
        headers = {"Content-Type": "application/octet-stream"} if body is not None else {}
        headers.update(more or {})
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connection()
        try:
            connection.request(method, target, body, headers)
            reply = connection.getresponse()
            data = reply.read(_MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise click.ClickException(f"{self._place}: {self._reason(error)}") from None
        finally:
            connection.close()
        try:
            answer = json.loads(data)
        except ValueError:
            raise click.ClickException(
                f"{self._place}: expected slardar's control channel, got {reply.status}"
                " with something else than JSON"
            ) from None
        if reply.status == 412:
            raise click.ClickException(
                "somebody else has changed the configuration meanwhile, so nothing was changed:"
                " look again"
            )
        if reply.status >= 300:
            message = answer.get("msg") if isinstance(answer, dict) else None
            lines = f"{message or answer} ({reply.status})".splitlines()
            raise click.ClickException("\n".join(map(printable, lines)))
        return Answer(answer, reply.headers.get("ETag", ""))

    def _connection(self) -> http.client.HTTPConnection:
        if self._place.startswith("unix:"):
            return _UnixConnection(self._place[len("unix:") :], self._timeout)
        if self._tls is not None:
            return http.client.HTTPSConnection(
                *self._address, timeout=self._timeout, context=self._tls
            )
        return http.client.HTTPConnection(*self._address, timeout=self._timeout)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout:g} s"
        return _reason(error)


def _trust(cacert: str | None, cert: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=cacert)
    except OSError as error:
        raise click.ClickException(f"--cacert: cannot read {cacert}: {_reason(error)}") from None
    # From 3.13 on, Python's default refuses many a CA that was made by hand, and believes one
    # between the root and the server.  With every Python, what slardar asks of its servers is
    # enough here.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if cert is not None:
        try:
            context.load_cert_chain(cert)
        except OSError as error:
            raise click.ClickException(f"--cert: cannot read {cert}: {_reason(error)}") from None
    return context


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there; is slardar running?"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
