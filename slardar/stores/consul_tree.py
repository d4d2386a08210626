"""The keys below one place of Consul, as a tree that many slardars share."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from twisted.internet import defer

from slardar.errors import StoreError
from slardar.model.names import host_port
from slardar.stores.consul_watch import Page, Watch, contents
from slardar.stores.tree import Content, LostRaceError, NotWrittenError, Tree, Write
from slardar.txconsul import AgentError, HTTPClient
from slardar.txconsul.errors import line_of
from slardar.txconsul.token import read_token

__all__ = ["ConsulPlace", "ConsulTree"]

#: Consul's limit of a value, and of the body of a transaction, in bytes: ``kv_max_value_size`` and
#: ``txn_max_req_len``, as they are unless an operator raises them.
_LIMIT = 512 * 1024
#: Consul's limit of the operations of a transaction.
_OPERATIONS = 64
#: Bytes of an operation beside its key and its value.
_OPERATION = 96
#: Room for keys that stand in a transaction twice.
_ROOM = 4096
#: Seconds until a whole answer must be there.
_TIMEOUT = 10.0


class ConsulPlace(Struct, frozen=True):
    """Which keys of which Consul, and how it is asked."""

    scheme: str
    #: Agents of one cluster: host and port.
    agents: tuple[tuple[str, int], ...]
    #: What all keys begin with; it ends with a slash.
    prefix: str
    #: The datacentre; empty: the one of the agents.
    dc: str = ""
    #: Whose permissions count; empty: nobody's.
    token: str = ""
    #: A file with the token, which is read for each question; it goes before :attr:`token`.
    token_file: str = ""
    #: Authorities that are trusted, in PEM; empty: those of the system.
    ca: str = ""
    #: What is shown to the agents, in PEM; with an empty ``key``, the key is in the same file.
    cert: str = ""
    key: str = ""
    #: Seconds for which Consul holds a query while nothing changes.
    wait: int = 300
    #: Whether any server may say what has changed, not only the leader.
    stale: bool = False


class _Operation(Struct):
    """What is answered to one operation of a transaction."""

    KV: dict[str, Any]


class _Refusal(Struct):
    """Why one operation of a transaction was refused."""

    What: str
    OpIndex: int = 0


class _Outcome(Struct):
    """The answer to a transaction."""

    Results: list[_Operation] | None = None
    Errors: list[_Refusal] | None = None


class _Answer(Struct):
    """A status, headers and a body."""

    code: int
    headers: Any
    body: bytes
    #: The token that was sent with the question.
    token: str = ""

    @classmethod
    def of(cls, response: Any) -> _Answer:
        """What py-consul calls a response."""
        body = response.body
        return cls(
            response.code, response.headers, body if isinstance(body, bytes) else body.encode()
        )

    @property
    def text(self) -> str:
        """The body as a part of a message."""
        return self.line(self.body[:4096].decode("utf-8", "replace"))

    def line(self, text: str) -> str:
        """A part of the body as a part of a message."""
        return line_of(text, self.token, 300)


_read_outcome = msgspec.json.Decoder(_Outcome).decode


def _flags() -> int:
    """A number that differs from write to write.

    Consul gives a key no new index when it is written as it is already.  The flags are a part of
    it that has no meaning here, nor to Consul.
    """
    return random.getrandbits(31)


async def _after_write(steps: Awaitable[int]) -> int:
    """Take steps after a write was made: whatever fails then, the write is made."""
    try:
        return await steps
    except NotWrittenError as error:
        raise StoreError(str(error)) from None


class ConsulTree(Tree):
    """See :class:`Tree`.  ``chance`` gives numbers from 0 to 1, for delays that differ.

    A single key is written with any value of :attr:`max_value` bytes, several with
    :attr:`max_bytes` together.
    """

    max_value = _LIMIT
    # Removing a key that must be as expected takes two operations.
    max_writes = _OPERATIONS // 2

    def __init__(
        self, place: ConsulPlace, reactor: Any, chance: Callable[[], float] = random.random
    ) -> None:
        self._place = place
        self._reactor = reactor
        self._chance = chance
        self._names = ",".join(host_port(*agent) for agent in place.agents)
        fixed = _OPERATIONS * (_OPERATION + len(place.prefix.encode())) + _ROOM
        self.max_bytes = (_LIMIT - fixed) // 4 * 3
        self._client: HTTPClient | None = None
        self._watch: Watch | None = None
        #: The highest index of what was written here.
        self._written = 0

    def read(self) -> defer.Deferred[Content]:
        """See :class:`Tree`."""
        return self._started(self._read())

    def write(self, writes: Sequence[Write]) -> defer.Deferred[int]:
        """See :class:`Tree`."""
        return self._started(self._write(writes))

    def watch(
        self, seen: Content, changed: Callable[[Content], None], failed: Callable[[str], None]
    ) -> None:
        """See :class:`Tree`."""
        self._stop_watch()
        self._watch = Watch(self._page, self._reactor, self._place.stale, self._chance)
        self._watch.wrote(self._written)
        self._watch.start(seen, changed, failed)

    def close(self) -> defer.Deferred[Any]:
        """See :class:`Tree`."""
        self._stop_watch()
        client, self._client = self._client, None
        return defer.succeed(None) if client is None else client.close()

    def _stop_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()

    def _started(self, steps: Any) -> defer.Deferred[Any]:
        """Take some steps that ask Consul; a question that :meth:`close` cancels is an error."""

        def cancelled(failure: Any) -> None:
            failure.trap(defer.CancelledError)
            raise StoreError(f"Consul at {self._names}: closed")

        return defer.Deferred.fromCoroutine(steps).addErrback(cancelled)

    # Reading.

    async def _read(self) -> Content:
        page = await self._page(0, "consistent")
        return contents(page, Content(0, {}), False)

    async def _page(self, index: int, mode: str) -> Page:
        """Everything, once there is something newer than ``index``, or at once if it is 0.

        ``mode`` is ``""``, ``stale`` or ``consistent``, as Consul has them.
        """
        params: list[tuple[str, Any]] = [("recurse", "1")]
        if index:
            params += [("index", index), ("wait", f"{self._place.wait}s")]
        if mode:
            params.append((mode, "1"))
        answer = await self._ask("GET", "", params)
        if answer.code == 404:
            await self._check_permission()
        elif answer.code != 200:
            raise self._refused(answer)
        return Page.read(answer.body, answer.headers, len(self._place.prefix), self._names)

    async def _check_permission(self) -> None:
        """Raises StoreError if the token may not read here.

        Consul leaves out of a list what may not be read: without permission, nothing is listed.  It
        refuses to tell of a single key.
        """
        answer = await self._ask("GET", "", [])
        if answer.code not in {200, 404}:
            raise self._refused(answer)

    # Writing.

    async def _write(self, writes: Sequence[Write]) -> int:
        for one in writes:
            if one.value is not None and len(one.value) > self.max_value:
                raise NotWrittenError(
                    f"Consul takes values of at most {self.max_value} bytes:"
                    f" {self._place.prefix}{one.key} would have {len(one.value)}"
                )
        if len(writes) == 1 and len(writes[0].value or b"") > self.max_bytes:
            index = await self._put(writes[0])
        else:
            index = await self._transact(writes)
        self._written = max(self._written, index)
        if self._watch is not None:
            self._watch.wrote(self._written)
        return index

    async def _transact(self, writes: Sequence[Write]) -> int:
        operations = [operation for one in writes for operation in self._operations(one)]
        body = msgspec.json.encode([{"KV": one} for one in operations])
        if len(body) > _LIMIT or len(operations) > _OPERATIONS:
            raise NotWrittenError(
                f"Consul takes {_OPERATIONS} operations and {_LIMIT} bytes at once,"
                f" and {len(writes)} keys make {len(operations)} and {len(body)}"
            )
        answer = await self._ask("PUT", None, [], body)
        if answer.code not in {200, 409}:
            raise self._refused(answer)
        try:
            outcome = _read_outcome(answer.body)
            if answer.code == 409:
                raise self._lost(outcome.Errors or [], answer)
            indexes = [int(one.KV["ModifyIndex"]) for one in outcome.Results or ()]
        except (ValueError, LookupError, TypeError):
            raise StoreError(
                f"Consul at {self._names}: the answer to a transaction cannot be read"
            ) from None
        return max(indexes) if indexes else await _after_write(self._index())

    def _operations(self, one: Write) -> list[dict[str, Any]]:
        """What a transaction says for one key."""
        key = self._place.prefix + one.key
        if one.value is not None:
            operation = {"Verb": "set", "Key": key, "Value": one.value, "Flags": _flags()}
            if one.expected is not None:
                operation.update(Verb="cas", Index=one.expected)
            return [operation]
        if one.expected is None:
            return [{"Verb": "delete", "Key": key}]
        if one.expected == 0:
            return [{"Verb": "check-not-exists", "Key": key}]
        # "delete-cas" is content with a key that is gone already.
        return [
            {"Verb": "check-index", "Key": key, "Index": one.expected},
            {"Verb": "delete", "Key": key},
        ]

    def _lost(self, refusals: list[_Refusal], answer: _Answer) -> Exception:
        """Why a transaction was not made: somebody was faster, or it is not allowed."""
        for one in refusals:
            if "ermission denied" in one.What:
                return NotWrittenError(
                    f"Consul at {self._names}: {answer.line(one.What)}: the token may not write"
                    " here"
                )
        if not refusals:
            return self._refused(answer)
        return LostRaceError(f"Consul: {answer.line(refusals[0].What)}")

    async def _index(self) -> int:
        """An index that is not older than what was written."""
        answer = await self._ask(
            "GET", "", [("keys", "1"), ("separator", "/"), ("consistent", "1")]
        )
        if answer.code not in {200, 404}:
            raise self._refused(answer)
        return Page.read(b"", answer.headers, 0, self._names).index

    async def _put(self, one: Write) -> int:
        """Write a value that is too large for a transaction."""
        params = [("flags", _flags())]
        if one.expected is not None:
            params.append(("cas", one.expected))
        answer = await self._ask("PUT", one.key, params, one.value or b"")
        if answer.code != 200:
            raise self._refused(answer)
        if answer.body.strip() != b"true":
            raise LostRaceError(f"Consul: {self._place.prefix}{one.key} is not as expected")
        return await _after_write(self._index_of(one))

    async def _index_of(self, one: Write) -> int:
        """The index of a key that was written just now, which the answer has not told."""
        answer = await self._ask("GET", one.key, [("consistent", "1")])
        if answer.code == 404:
            return await self._index()
        if answer.code != 200:
            raise self._refused(answer)
        page = Page.read(answer.body, answer.headers, 0, self._names)
        index = page.index
        for entry in contents(page, Content(0, {}), False).entries.values():
            # Somebody may have written it since.  Then the index of what was written here is lower,
            # and a write that expects the lower one loses, as it should.
            index = entry.index if entry.value == one.value else entry.index - 1
        return index

    # Questions.

    async def _ask(
        self,
        method: str,
        key: str | None,
        params: list[tuple[str, Any]],
        body: bytes = b"",
    ) -> _Answer:
        """Ask for a key, or with ``None`` for a transaction.  Raises StoreError."""
        if self._client is None:
            self._client = self._connected()
        if self._place.dc:
            params = [*params, ("dc", self._place.dc)]
        path = "/v1/txn" if key is None else f"/v1/kv/{self._place.prefix}{key}"
        token = self._token()
        headers = {"X-Consul-Token": token} if token else {}
        try:
            if method == "GET":
                asked = self._client.get(_Answer.of, path, params, headers, raw=True)
            else:
                asked = self._client.put(_Answer.of, path, params, body, headers)
            answer: _Answer = await asked
        except AgentError as error:
            kind = StoreError if error.may_be_done else NotWrittenError
            raise kind(f"Consul at {error}") from None
        answer.token = token
        return answer

    def _connected(self) -> HTTPClient:
        place = self._place
        (host, port), *others = place.agents
        cert = (place.cert, place.key or place.cert) if place.cert else None
        try:
            return HTTPClient(
                self._reactor,
                host,
                port,
                place.scheme,
                place.ca or True,
                cert,
                agents=others,
                timeout=_TIMEOUT,
            )
        except ValueError as error:
            raise NotWrittenError(f"Consul at {self._names}: {error}") from None

    def _token(self) -> str:
        if not self._place.token_file:
            return self._place.token
        try:
            return read_token(self._place.token_file)
        except ValueError as error:
            raise NotWrittenError(str(error)) from None

    def _refused(self, answer: _Answer) -> StoreError:
        """What Consul has answered instead of what was asked for."""
        hint = ""
        if answer.code == 403:
            hint = f": the token may not do this below {self._place.prefix}"
        # Other answers, as that there is no leader, may come after the write was passed on.
        kind = NotWrittenError if 400 <= answer.code < 500 else StoreError
        return kind(f"Consul at {self._names}: {answer.code} {answer.text}{hint}")
