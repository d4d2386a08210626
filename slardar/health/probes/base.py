"""The base classes of every probe, and what probes share.

A probe says what a heartbeat sends to a server, and what the server's answer means.  It
knows no socket, no clock and no reactor: its caller connects, sends, reads, and gives up
after ``health.timeout``.  One heartbeat goes like this::

    check = probe.begin()
    step = check.connected()        # TCP (and TLS) is there: bytes to send, or a Result
    step = check.received(data)     # each piece that arrives: a Result, bytes, or None
    step = check.ended()            # the server closed its side: a Result

The first :class:`Result` ends the heartbeat, and the caller closes the connection.  What the
caller judges alone has no part here: a refused connection, an address without a route, the
timeout.

``slardar.health`` stands above ``slardar.http1`` in the layers of ``pyproject.toml``, because
the probe for HTTP reads replies as the data plane does.  ``slardar.plugins.find_probe`` finds
the probe for a ``typ``; code in ``slardar.health`` gets that function as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

from mypy_extensions import mypyc_attr

from slardar.model.server import ProbeOptions

__all__ = ["OK", "Check", "Probe", "ProbeOptions", "Result", "failed", "readable"]

#: Characters of a server's text that a message or ``about`` keeps.
MAX_TEXT = 200


class Result(NamedTuple):
    """What one heartbeat says of a server."""

    #: ``err``: the server must get no requests; ``unstable``: it answers, with a fault that
    #: a person should know.
    status: Literal["ok", "unstable", "err"]
    #: What is wrong, on one line of at most a few hundred characters; empty if ``ok``.
    message: str = ""
    #: What the server says of itself, for ``/status``: ``version``, ``role`` and the like.
    about: Mapping[str, str | int] = {}
    #: The value of ``X-Slardar-Hint`` in a reply of HTTP, otherwise empty.
    hint: str = ""


#: The result of a heartbeat that has nothing to add.
OK = Result("ok")


@mypyc_attr(allow_interpreted_subclasses=True)
class Check:
    """One heartbeat of one server, over one connection.

    No method may raise, block, or keep more than a few KiB, whatever the server sends.  The
    result must not depend on how the bytes are cut into pieces.  After a :class:`Result` no
    method is called again.
    """

    __slots__ = ()

    def connected(self) -> bytes | Result:
        """The connection is there: what to send, which may be empty, or the result."""
        raise NotImplementedError

    def received(self, data: bytes) -> Result | bytes | None:
        """The server sent ``data``, which is not empty.

        Returns the result, more to send, or ``None`` to wait for more.
        """
        raise NotImplementedError

    def ended(self) -> Result:
        """The server closed its side, or broke the connection off, before the result."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Probe:
    """Makes the heartbeats of one upstream.

    A probe is made anew when its upstream changes.  It is used for all servers of the
    upstream, many at a time, so what belongs to one heartbeat lives in its :class:`Check`.
    """

    #: The values of ``typ`` that mean this class, for a probe in ``slardar/health/probes``.
    types: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: ProbeOptions) -> None:
        """Raises ConfigError, with a line ``KEY: expected ...`` for each option that is wrong.

        ``KEY`` is the key as the upstream has it, such as ``http_opts.query``.
        """

    def begin(self) -> Check:
        """A new heartbeat."""
        raise NotImplementedError


def failed(message: str, about: Mapping[str, str | int] | None = None) -> Result:
    """The result of a heartbeat that failed."""
    return Result("err", message, about or {})


def readable(data: bytes) -> str:
    """A server's text for a person: on one line, without control characters, and short."""
    text = data[: MAX_TEXT + 1].decode("utf-8", "replace")
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."
