"""``redis``: the server answers PING, and its replication works.

The probe sends ``PING`` and, after the answer, ``INFO replication`` and ``INFO server``.  A
server that answers PING and refuses INFO, as proxies do, is ``ok``.  A replica that has lost
its master (``master_link_status:down``) is ``unstable``, as in lua-resty-checkups.

With ``pass`` in the upstream, ``AUTH`` comes first, with ``user`` if there is one.
"""

from __future__ import annotations

from slardar.health.probes.base import Check, Probe, ProbeOptions, Result, failed, readable

__all__ = ["Redis"]

#: Bytes of one line; more of a line in INFO is dropped.
MAX_LINE = 1024
#: Bytes of one answer to INFO; that of Redis 7 has about 2 KiB and 60 bytes a replica.
MAX_INFO = 1_048_576
#: Fields of INFO, by the names that ``about`` has for them.
_FIELDS = {
    b"redis_version": "version",
    b"role": "role",
    b"master_host": "master_host",
    b"master_port": "master_port",
    b"master_link_status": "master_link_status",
}


def command(*words: bytes) -> bytes:
    """A command in Redis' protocol."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


#: The answers that come after PING's.
_INFOS = 2
_ASK_INFO = command(b"INFO", b"replication") + command(b"INFO", b"server")


class Asked(Check):
    """A heartbeat: the answers to AUTH, PING and INFO in turn, read line by line."""

    __slots__ = ("_about", "_authorizing", "_infos", "_left", "_line", "_ponged", "_probe")

    def __init__(self, probe: Redis) -> None:
        self._probe = probe
        #: The beginning of a line whose end has not come.
        self._line = b""
        self._authorizing = bool(probe.auth)
        self._ponged = False
        #: Answers to INFO that have come whole.
        self._infos = 0
        #: Bytes that are left of an answer to INFO, its last CRLF included.
        self._left = 0
        self._about: dict[str, str | int] = {}

    def connected(self) -> bytes:
        return self._probe.auth + command(b"PING")

    def received(self, data: bytes) -> Result | bytes | None:
        to_send = b""
        while data:
            if self._left:
                piece = data[: self._left]
                data = data[len(piece) :]
                self._left -= len(piece)
                self._read_info(piece)
                if not self._left:
                    self._line = b""
                    self._infos += 1
            else:
                line, end, data = data.partition(b"\n")
                self._line += line[: MAX_LINE + 1 - len(self._line)]
                if len(self._line) > MAX_LINE:
                    return self._unexpected()
                if not end:
                    break
                answer, self._line = self._line.rstrip(b"\r"), b""
                step = self._answered(answer)
                if isinstance(step, Result):
                    return step
                to_send += step
            if self._infos == _INFOS:
                return self._judged()
        return to_send or None

    def _answered(self, line: bytes) -> Result | bytes:
        """One line outside of INFO: the result, or what to send."""
        if self._authorizing:
            if line == b"+OK":
                self._authorizing = False
                return b""
            return self._refused(line, "AUTH")
        if not self._ponged:
            if line == b"+PONG":
                self._ponged = True
                return _ASK_INFO
            return self._refused(line, "PING")
        if line[:1] == b"-":
            self._infos += 1
            return b""
        size = line[1:]
        if line[:1] not in (b"$", b"=") or not size.isdigit() or not 0 < len(size) < 8:
            return self._unexpected()
        self._left = int(size) + 2
        return self._unexpected() if self._left > MAX_INFO else b""

    def _read_info(self, piece: bytes) -> None:
        lines = (self._line + piece).split(b"\n")
        self._line = lines.pop()[:MAX_LINE]
        for line in lines:
            key, _, value = line[:MAX_LINE].partition(b":")
            name = _FIELDS.get(key)
            if name is not None:
                text = readable(value)
                number = name == "master_port" and text.isascii() and text.isdigit()
                self._about[name] = int(text) if number else text

    def _refused(self, line: bytes, what: str) -> Result:
        if line[:1] == b"-":
            return failed(readable(line[1:]))
        return failed(f"unexpected answer to {what}: {readable(line)}")

    def _unexpected(self) -> Result:
        """What came is not Redis' protocol, or is too much."""
        if self._ponged:
            return self._judged()
        return failed("the server does not speak Redis' protocol")

    def _judged(self) -> Result:
        if self._about.get("master_link_status") == "down":
            return Result("unstable", "master link status: down", self._about)
        return Result("ok", "", self._about)

    def ended(self) -> Result:
        if self._ponged:
            return self._judged()
        return failed("the server closed the connection without an answer")


class Redis(Probe):
    """Asks with PING and INFO, after AUTH if the upstream has a ``pass``."""

    types = ("redis",)

    def __init__(self, options: ProbeOptions) -> None:
        self.auth = b""
        if options.password:
            words = [options.user or "", options.password]
            self.auth = command(b"AUTH", *(word.encode() for word in words if word))

    def begin(self) -> Check:
        return Asked(self)
