"""``mysql``: the server greets, and lets a client log in.

MySQL, MariaDB and whatever else speaks their protocol.

The probe reads the greeting and logs in.  With ``user`` in the upstream (and ``pass``, and
the database ``name``) the login must succeed, as in lua-resty-checkups.  Without it the
probe logs in as nobody and expects to be denied: a client that leaves after the greeting
counts as a failed connection, and after ``max_connect_errors`` of these the server blocks
the whole host.  After a login the probe says good-bye (``COM_QUIT``) and waits for the
server to close.

An error packet is a failure with the server's text, such as "Host '10.0.0.1' is blocked
because of many connection errors".
"""

from __future__ import annotations

import hashlib

from slardar.health.probes.base import Check, Probe, ProbeOptions, Result, failed, readable

__all__ = ["Mysql"]

#: Bytes of one packet; greetings and answers to a login have about 100.
MAX_PACKET = 4096
#: Packets of one heartbeat: greeting, a change of the login's method, its data, the end.
MAX_PACKETS = 8

# Capabilities, from "Connection Phase" of MySQL's internals manual.
LONG_PASSWORD = 1 << 0
CONNECT_WITH_DB = 1 << 3
PROTOCOL_41 = 1 << 9
SECURE_CONNECTION = 1 << 15
PLUGIN_AUTH = 1 << 19

UTF8 = 33
COM_QUIT = b"\x01"
NATIVE = b"mysql_native_password"
SHA2 = b"caching_sha2_password"
#: Errors that deny a login to nobody although the server works: access denied without a
#: password, method of login not supported or not loaded, encryption demanded.  Those of
#: SQLSTATE class 28 deny it, too.
_DENIED = frozenset((1251, 1524, 1698, 3159))
_STRANGE = "the server does not speak MySQL's protocol"


class Login(Check):
    """A heartbeat: greeting, login, good-bye."""

    __slots__ = ("_about", "_data", "_method", "_note", "_packets", "_probe", "_result", "_salt")

    def __init__(self, probe: Mysql) -> None:
        self._probe = probe
        #: The beginning of a packet.
        self._data = b""
        self._packets = 0
        self._about: dict[str, str | int] = {}
        self._method = NATIVE
        self._salt = b""
        #: Why a login that will be denied could not be right.
        self._note = ""
        #: The result, once good-bye has been said.
        self._result: Result | None = None

    def connected(self) -> bytes:
        return b""

    def received(self, data: bytes) -> Result | bytes | None:
        to_send = b""
        while self._result is None:
            # Never more than a packet is kept.
            taken = data[: 4 + MAX_PACKET - len(self._data)]
            data = data[len(taken) :]
            self._data += taken
            if len(self._data) < 4:
                break
            size = int.from_bytes(self._data[:3], "little")
            number = self._data[3]
            if not 0 < size <= MAX_PACKET or (number and not self._packets):
                return self._strange()
            if len(self._data) < 4 + size:
                break
            packet, self._data = self._data[4 : 4 + size], self._data[4 + size :]
            self._packets += 1
            if self._packets > MAX_PACKETS:
                return self._strange()
            step = self._answer(packet)
            if isinstance(step, Result):
                return step
            if step is not None:
                sequence = 0 if step == COM_QUIT else (number + 1) & 255
                to_send += len(step).to_bytes(3, "little") + bytes((sequence,)) + step
        return to_send or None

    def ended(self) -> Result:
        if self._result is not None:
            return self._result
        if self._packets:
            return failed("the server closed the connection during the login", self._about)
        if self._data:
            return failed("the server closed the connection in the middle of its greeting")
        return failed("the server closed the connection without a greeting")

    def _answer(self, packet: bytes) -> Result | bytes | None:
        """What a packet means: the result, a packet to send, or nothing."""
        kind = packet[0]
        if kind == 0xFF:
            return self._error(packet)
        if self._packets == 1:
            return self._greeted(packet)
        if kind == 0x00:
            self._result = Result("ok", "", self._about)
            return COM_QUIT
        if kind == 0xFE:
            method, _, salt = packet[1:].partition(b"\0")
            self._method = method or b"mysql_old_password"
            self._salt = salt[:20]
            return self._proof()
        if kind == 0x01 and self._method == SHA2:
            if packet[1:2] == b"\x03":  # the password is right
                return None
            self._note = "caching_sha2_password wants the password encrypted by TLS or RSA"
            return b"\0"
        return failed(self._note, self._about) if self._note else self._strange()

    def _greeted(self, packet: bytes) -> Result | bytes:
        version, zero, rest = packet[1:].partition(b"\0")
        # Connection id, salt, zero, capabilities, character set, status, capabilities, size
        # of the salt, reserved; then the rest of the salt and the login's method.
        if packet[0] != 10 or not zero or len(rest) < 31 + 12:
            return self._strange()
        # MariaDB before 11 begins its version with that of an old MySQL.
        self._about["version"] = readable(version.removeprefix(b"5.5.5-"))
        theirs = int.from_bytes(rest[13:15] + rest[18:20], "little")
        self._salt = rest[4:12] + rest[31:43]
        if theirs & PLUGIN_AUTH:
            self._method = rest[31:].partition(b"\0")[2].partition(b"\0")[0] or NATIVE
        wanted = LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH
        if self._probe.database:
            wanted |= CONNECT_WITH_DB
        ours = wanted & theirs
        if not ours & PROTOCOL_41 or not ours & SECURE_CONNECTION:
            return failed("the server speaks the protocol of MySQL before 4.1", self._about)
        proof = self._proof()
        return b"".join(
            (
                ours.to_bytes(4, "little"),
                (MAX_PACKET).to_bytes(4, "little"),
                bytes((UTF8,)) + bytes(23),
                self._probe.user + b"\0",
                bytes((len(proof),)) + proof,
                self._probe.database + b"\0" if ours & CONNECT_WITH_DB else b"",
                self._method + b"\0" if ours & PLUGIN_AUTH else b"",
            )
        )

    def _proof(self) -> bytes:
        """The password as the login's method wants it; empty for an empty password."""
        password = self._probe.password
        if not password:
            return b""
        if self._method == NATIVE:
            once = hashlib.sha1(password).digest()  # noqa: S324 the protocol's choice
            twice = hashlib.sha1(once).digest()  # noqa: S324
            return xor(once, hashlib.sha1(self._salt[:20] + twice).digest())  # noqa: S324
        if self._method == SHA2:
            once = hashlib.sha256(password).digest()
            twice = hashlib.sha256(once).digest()
            return xor(once, hashlib.sha256(twice + self._salt[:20]).digest())
        self._note = f"the login's method {readable(self._method)} is not known"
        return b""

    def _error(self, packet: bytes) -> Result:
        number = int.from_bytes(packet[1:3], "little")
        text, state = packet[3:], b""
        if text[:1] == b"#":
            state, text = text[1:6], text[6:]
        denied = state[:2] == b"28" or number in _DENIED
        if self._packets > 1 and denied and not self._probe.user:
            return Result("ok", "", self._about)
        note = f"; {self._note}" if self._note and denied else ""
        return failed(f"{readable(text)} (error {number}){note}", self._about)

    def _strange(self) -> Result:
        return failed(_STRANGE, self._about)


def xor(one: bytes, other: bytes) -> bytes:
    """The two, which are of one length, bit by bit."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


class Mysql(Probe):
    """Logs in, as ``user`` if the upstream has one."""

    types = ("mysql",)

    def __init__(self, options: ProbeOptions) -> None:
        self.user = (options.user or "").encode().replace(b"\0", b"")
        self.password = (options.password or "").encode() if self.user else b""
        self.database = (options.name or "").encode().replace(b"\0", b"") if self.user else b""

    def begin(self) -> Check:
        return Login(self)
