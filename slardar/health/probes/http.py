"""``http``: the server answers a request with a status that is no failure.

``http_opts.query`` is sent as it is.  Without it the probe is ``general``, as in
lua-resty-checkups.  The head of the reply must be one that the data plane would pass on;
its body is not read.
"""

from __future__ import annotations

import re

from slardar.errors import ConfigError
from slardar.health.probes.base import OK, Check, Probe, ProbeOptions, Result, failed, readable
from slardar.health.probes.general import CONNECTED
from slardar.http1.heads import BadMessage, find_header
from slardar.http1.reply import Reply, ReplyCheck, parse_reply
from slardar.model.reader import shown

__all__ = ["Http"]

#: Bytes of heads that are read, those of 1xx replies included; nginx's and Apache's servers
#: send a few hundred, and the headers of a browser's page seldom more than 4 KiB.
MAX_HEADS = 16_384
#: A whole request: a request line, and an empty line somewhere after it.
_REQUEST = re.compile(
    rb"(?P<method>[!#$%&'*+.^_`|~0-9A-Za-z-]+) [^ \r\n]+ HTTP/1\.[01]\r?\n(.*\n)?\r?\n", re.DOTALL
)
_END = b"\r\n\r\n"


class Exchanged(Check):
    """A heartbeat that waits for the head of the final reply."""

    __slots__ = ("_check", "_checked", "_data", "_passed", "_probe")

    def __init__(self, probe: Http) -> None:
        self._probe = probe
        #: The beginning of a head.
        self._data = b""
        #: Bytes of 1xx replies that were passed over.
        self._passed = 0
        #: Refuses a head that is wrong before it is whole.
        self._check: ReplyCheck | None = None
        #: Bytes of ``_data`` that ``_check`` has seen.
        self._checked = 0

    def connected(self) -> bytes:
        return self._probe.query

    def received(self, data: bytes) -> Result | None:
        self._data += data[: MAX_HEADS - self._passed - len(self._data)]
        try:
            while (end := self._data.find(_END)) >= 0:
                end += 4
                try:
                    reply = parse_reply(self._data[:end], self._probe.method)
                except BadMessage:
                    # The message must not depend on how the head was cut.
                    self._feed(end - 2)
                    raise
                if reply.status >= 200 or reply.status == 101:
                    return self._judged(reply)
                self._data = self._data[end:]
                self._passed += end
                self._check = None
                self._checked = 0
            # The last bytes may begin the end of the head, which must not be fed.
            self._feed(len(self._data) - 3)
        except BadMessage as error:
            return failed(error.message)
        if self._passed + len(self._data) >= MAX_HEADS:
            return failed(f"the head of the server's reply has more than {MAX_HEADS} bytes")
        return None

    def _feed(self, end: int) -> None:
        """Check the head up to ``end``."""
        if end > self._checked:
            if self._check is None:
                self._check = ReplyCheck()
            self._check.feed(self._data[self._checked : end])
            self._checked = end

    def _judged(self, reply: Reply) -> Result:
        # A line that does not pass to clients is no less a hint.
        value = find_header(reply.head.split(b"\r\n"), "X-Slardar-Hint")
        hint = readable(value.encode("latin-1")) if value else ""
        if reply.status in self._probe.failed_statuses:
            return Result("err", f"HTTP status {reply.status}", {}, hint)
        return Result("ok", "", {}, hint) if hint else OK

    def ended(self) -> Result:
        if self._passed or self._data:
            return failed("the server closed the connection in the middle of its reply")
        return failed("the server closed the connection without a reply")


class Http(Probe):
    """Sends ``http_opts.query``, and looks at the status of the reply."""

    types = ("http",)

    def __init__(self, options: ProbeOptions) -> None:
        self.query = options.http_query or b""
        self.failed_statuses = options.failed_statuses
        self.method = b"GET"
        if self.query:
            match = _REQUEST.match(self.query)
            if match is None:
                raise ConfigError(
                    "http_opts.query: expected a whole request such as "
                    '"GET /status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n", with an empty line at its '
                    f"end, got {shown(self.query.decode('latin-1'))}"
                )
            self.method = match["method"]

    def begin(self) -> Check:
        return Exchanged(self) if self.query else CONNECTED
