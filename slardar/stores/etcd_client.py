"""etcd's JSON gateway: calls, and the beginning of a watch, at one member after the other.

https://etcd.io/docs/latest/dev-guide/api_grpc_gateway/ describes the gateway, which is the same
in 3.4, 3.5 and 3.6.

Each exchange has a connection of its own.  So it is certain that a call was not sent when no
connection was made, and no call is lost on an idle connection that a proxy has closed.
"""

# Twisted's client and treq have no types that are strict enough.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, TypeVar

import msgspec
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers

from slardar.errors import StoreError
from slardar.plain_files import read_regular
from slardar.quiet import QuietPool
from slardar.stores.etcd_exchange import Body, Bytes, Connection, Deadline, Member, explained
from slardar.stores.etcd_messages import (
    AwayError,
    RangeAnswer,
    RefusedError,
    TokenAnswer,
    TooLargeError,
    WatchResult,
    read_answer,
    read_error,
)
from slardar.stores.etcd_stream import Stream

__all__ = ["Creator", "Credentials", "Gateway"]

T = TypeVar("T")
#: What makes TLS connections to a host.
Creator = Callable[[str], IOpenSSLClientConnectionCreator]
#: A call to one member.
_Call = Callable[[Member], Awaitable[T]]

#: Bytes of an answer.
MAX_ANSWER: Final = 64 << 20
#: Seconds for which a token is believed after a call with it, before a write.
_BELIEVED: Final = 30.0


@dataclass(frozen=True)
class Credentials:
    """A user and a password, from the environment or from a file that is read each time."""

    user: str = ""
    password: str = field(default="", repr=False)
    file: str = ""

    def read(self) -> tuple[str, str]:
        """The user and the password.  Raises StoreError if the file cannot be used."""
        if not self.file:
            return self.user, self.password
        try:
            text = read_regular(self.file, 4096)[0].decode("utf-8")
            user, colon, password = text.partition("\n")[0].partition(":")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            raise StoreError(f"credentials {self.file}: {reason}") from None
        if not user or not colon:
            raise StoreError(f"credentials {self.file}: expected a line USER:PASSWORD")
        return user, password


class Gateway:
    """Asks the members of one etcd, in turn where one cannot be asked.

    ``timeout`` is in seconds, for a connection and an answer.  ``tls`` makes TLS connections to
    a host; without it the system says whom to trust.  ``connect`` gives the endpoint of a member,
    for tests.
    """

    def __init__(
        self,
        members: Sequence[Member],
        reactor: Any,
        credentials: Credentials | None = None,
        timeout: float = 5.0,
        tls: Creator | None = None,
        connect: Callable[[Member], Any] | None = None,
    ) -> None:
        self._members = list(members)
        self._reactor = reactor
        self._credentials = credentials
        self._timeout = timeout
        self._tls = tls
        self._connect = connect or self._endpoint
        #: The member that is asked first.
        self._at = 0
        self._token: str | None = None
        #: When the token was last good.
        self._good = float("-inf")

    @property
    def name(self) -> str:
        """What messages call etcd: the member that is asked next."""
        return self._members[self._at].name

    def forget_token(self) -> None:
        """Authenticate before the next call."""
        self._token = None

    async def ask(self, call: str, body: Any, answer: type[T]) -> T:
        """A call that may be made again: each member is asked until one answers.

        :raise AwayError: if none can be asked.
        :raise RefusedError: if one refuses.
        """
        return await self._in_turn(self._once(call, body, answer), lambda error: True)

    async def tell(self, call: str, body: Any, answer: type[T], proof: Any) -> T:
        """A call that changes something.  It is made again only if it was certainly not made.

        ``proof`` is a range that shows whether the token still holds: of one that does not,
        some versions tell by closing the connection (etcd-io/etcd#15256).
        """
        if self._token is not None and self._reactor.seconds() - self._good > _BELIEVED:
            await self.ask("kv/range", proof, RangeAnswer)
        try:
            return await self._in_turn(self._once(call, body, answer), lambda error: error.unsent)
        except AwayError as error:
            if error.unsent:
                raise
            raise AwayError(f"{error}; nobody knows whether it was done") from None

    async def open(
        self, request: Any, took: Callable[[WatchResult], None], paused: Callable[[], None]
    ) -> Stream:
        """Begin a watch; the stream that it returns is created.

        ``took`` and ``paused`` are those of :class:`Stream`; they may be called before this
        returns.
        """
        return await self._in_turn(self._begin(request, took, paused), lambda error: True)

    async def _in_turn(self, call: _Call[T], may_go_on: Callable[[AwayError], bool]) -> T:
        """The result of a call to the first member that can be asked."""
        at = self._at
        # One more than there are members: a token may be found to be bad.
        left = len(self._members) + (self._credentials is not None)
        problems: dict[str, None] = {}
        while True:
            left -= 1
            token = self._token
            try:
                result = await self._with_token(self._members[at], call)
            except AwayError as error:
                problems[str(error)] = None
                # That is how some versions answer a call with a token that they do not know.
                is_token_bad = token is not None and error.lost
                if is_token_bad:
                    self._token = None
                is_last = left <= 0 or (len(self._members) == 1 and not is_token_bad)
                self._at = at = (at + 1) % len(self._members)
                if is_last or not may_go_on(error):
                    raise AwayError("; ".join(problems), error.unsent) from None
            else:
                self._at = at
                return result

    def _once(self, call: str, body: Any, answer: type[T]) -> _Call[T]:
        text = msgspec.json.encode(body)

        async def ask(member: Member) -> T:
            return read_answer(member.name, await self._exchange(member, call, text), answer)

        return ask

    async def _with_token(self, member: Member, call: _Call[T]) -> T:
        """A call to a member, again with a new token if etcd wants another one."""
        has_old = self._token is not None
        if not has_old:
            await self._authenticate(member)
        try:
            result = await call(member)
        except RefusedError as error:
            if not error.is_about_token:
                raise
            self._token = None
            if self._credentials is None:
                hint = "give ETCD_USER and ETCD_PASSWORD, or credentials=FILE"
                raise RefusedError(f"{error}: {hint}", error.text) from None
            if not has_old:
                raise
            await self._authenticate(member)
            result = await call(member)
        self._good = self._reactor.seconds()
        return result

    async def _authenticate(self, member: Member) -> None:
        if self._credentials is None:
            return
        try:
            user, password = self._credentials.read()
        except StoreError as error:
            raise StoreError(f"{member.name}: {error}") from None
        body = msgspec.json.encode({"name": user, "password": password})
        try:
            found = await self._exchange(member, "auth/authenticate", body)
        except RefusedError as error:
            # Then etcd wants no token, either.
            if "authentication is not enabled" in error.text:
                return
            raise
        token = read_answer(member.name, found, TokenAnswer).token
        if not token.isascii() or not token.isprintable() or not 0 < len(token) <= 8192:
            raise AwayError(f"{member.name}: its token cannot be used")
        self._token = token

    async def _exchange(self, member: Member, call: str, body: bytes) -> bytes:
        """The body of a good answer of a member."""
        connection = Connection(self._connect, member)
        deadline = Deadline(self._reactor, self._timeout)

        async def run() -> tuple[int, bytes]:
            response = await self._post(member, connection, call, body)
            gathered = Body(MAX_ANSWER, deadline.heard)
            response.deliverBody(gathered)
            return response.code, await gathered.done

        with explained(member.name, connection, deadline):
            try:
                code, text = await deadline.keep(run())
            except TooLargeError:
                message = f"{member.name}: its answer is larger than {MAX_ANSWER} bytes"
                raise TooLargeError(message) from None
            finally:
                connection.cut()
        if code != 200:
            raise read_error(member.name, code, text)
        return text

    def _begin(
        self, request: Any, took: Callable[[WatchResult], None], paused: Callable[[], None]
    ) -> _Call[Stream]:
        body = msgspec.json.encode({"create_request": request})

        async def begin(member: Member) -> Stream:
            connection = Connection(self._connect, member)
            deadline = Deadline(self._reactor, self._timeout)
            stream = Stream(member.name, took, paused)

            async def run() -> int:
                response = await self._post(member, connection, "watch", body)
                if response.code != 200:
                    gathered = Body(65536, deadline.heard)
                    response.deliverBody(gathered)
                    raise read_error(member.name, response.code, await gathered.done)
                stream.began(connection)
                response.deliverBody(stream)
                await stream.created
                return 0

            try:
                with explained(member.name, connection, deadline):
                    await deadline.keep(run())
            except BaseException:
                stream.created.addErrback(_forget)
                stream.ended.addErrback(_forget)
                stream.end()
                connection.cut()
                raise
            return stream

        return begin

    def _post(self, member: Member, connection: Connection, call: str, body: bytes) -> Any:
        agent = Agent.usingEndpointFactory(
            self._reactor, connection, QuietPool(self._reactor, persistent=False)
        )
        cookies = IndexableCookieJar(DefaultCookiePolicy(allowed_domains=[]))
        headers = Headers({"Content-Type": ["application/json"]})
        # gRPC's metadata: a member that has lost its leader says so at once.
        headers.addRawHeader("Grpc-Metadata-Hasleader", "true")
        if self._token is not None and call != "auth/authenticate":
            headers.addRawHeader("Authorization", self._token)
        return HTTPClient(agent, cookies, Bytes).post(
            f"{member.url}/v3/{call}",
            data=body,
            headers=headers,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )

    def _endpoint(self, member: Member) -> Any:
        # Only a name is looked up, which takes a thread.
        kind: Any = HostnameEndpoint
        if isIPAddress(member.host):
            kind = TCP4ClientEndpoint
        elif isIPv6Address(member.host):
            kind = TCP6ClientEndpoint
        endpoint: Any = kind(self._reactor, member.host, member.port, self._timeout)
        if member.secure:
            creator = (self._tls or optionsForClientTLS)(member.host)
            endpoint = wrapClientTLS(creator, endpoint)
        return endpoint


def _forget(failure: Failure) -> None:
    pass
