"""py-consul's client over Twisted: its classes, and how a question finds its agent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from consul import base  # type: ignore[import-untyped]
from consul.exceptions import ConsulException  # type: ignore[import-untyped]
from twisted.internet import defer

from slardar.txconsul.agents import Agent, Agents
from slardar.txconsul.errors import (
    AgentError,
    BrokenAnswerError,
    ClosedError,
    UnreachableError,
    line_of,
)
from slardar.txconsul.tls import CertificatePaths, creator_for
from slardar.txconsul.wire import Answer, Question, Wire

__all__ = ["Consul", "HTTPClient"]

#: The largest answer, in bytes: 5,000 keys of 8 KB, encoded, fit into it.
MAX_BODY = 64 * 1024 * 1024
#: How long Consul holds a blocking query that does not say it.
_DEFAULT_WAIT = "5m"
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
#: Answers by which an agent says that it cannot answer now; another one may.
_CANNOT = frozenset((429, 500, 502, 503, 504))


class HTTPClient(base.HTTPClient):  # type: ignore[misc]
    """py-consul's ``HTTPClient`` whose calls return Deferreds.

    ``host`` and ``port`` are the agent that is asked first; ``agents`` are more of its cluster.
    An agent that gives no answer is left alone for ``rest`` seconds.  A read is then put to the
    next one; a write only if nothing of it was sent.  A blocking query is put to the next one
    without its index, and so is answered at once.

    ``connect_timeout`` and ``timeout`` are seconds: until there is a connection, and until the
    whole answer of one agent is there.  A blocking query has its wait, and the sixteenth of it
    that Consul may add, on top.  ``connections_timeout`` of a call takes the place of ``timeout``.

    ``limit`` is how many questions are under way at a time, blocking queries not counted; further
    ones wait.  ``max_body`` is the largest answer in bytes.  ``verify`` and ``cert`` are
    py-consul's.  ``token`` is sent where a call names none.
    """

    def __init__(
        self,
        reactor: Any,
        host: str = "127.0.0.1",
        port: int = 8500,
        scheme: str = "http",
        verify: bool | str = True,
        cert: CertificatePaths = None,
        *,
        agents: Sequence[tuple[str, int]] = (),
        token: str | None = None,
        connect_timeout: float = 3.0,
        timeout: float = 10.0,
        rest: float = 10.0,
        limit: int = 32,
        max_body: int = MAX_BODY,
    ) -> None:
        super().__init__(host, port, scheme, verify, cert)
        self.token = token
        self._timeout = timeout
        self._agents = Agents(
            (Agent(scheme, *place) for place in [(host, port), *agents]), rest, reactor.seconds
        )
        creator = creator_for(verify, cert) if scheme == "https" else None
        self._wire = Wire(reactor, connect_timeout, max_body, limit, creator)
        self._slots = defer.DeferredSemaphore(limit)
        self._under_way: set[defer.Deferred[Any]] = set()
        self._is_closed = False

    def get(
        self,
        callback: Callable[[Any], Any],
        path: str,
        params: Sequence[tuple[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
        raw: bool = False,
        connections_timeout: float | None = None,
    ) -> defer.Deferred[Any]:
        """``GET``; fires with what ``callback`` makes of the answer.  ``raw``: of its bytes."""
        return self._start("GET", callback, path, params, b"", headers, raw, connections_timeout)

    def put(
        self,
        callback: Callable[[Any], Any],
        path: str,
        params: Sequence[tuple[str, Any]] | None = None,
        data: str | bytes | None = "",
        headers: Mapping[str, str] | None = None,
        connections_timeout: float | None = None,
    ) -> defer.Deferred[Any]:
        """``PUT``; fires with what ``callback`` makes of the answer."""
        return self._start("PUT", callback, path, params, data, headers, False, connections_timeout)

    def delete(
        self,
        callback: Callable[[Any], Any],
        path: str,
        params: Sequence[tuple[str, Any]] | None = None,
        data: str | bytes | None = "",
        headers: Mapping[str, str] | None = None,
        connections_timeout: float | None = None,
    ) -> defer.Deferred[Any]:
        """``DELETE``; fires with what ``callback`` makes of the answer."""
        return self._start(
            "DELETE", callback, path, params, data, headers, False, connections_timeout
        )

    def post(
        self,
        callback: Callable[[Any], Any],
        path: str,
        params: Sequence[tuple[str, Any]] | None = None,
        data: str | bytes | None = "",
        headers: Mapping[str, str] | None = None,
        connections_timeout: float | None = None,
    ) -> defer.Deferred[Any]:
        """``POST``; fires with what ``callback`` makes of the answer."""
        return self._start(
            "POST", callback, path, params, data, headers, False, connections_timeout
        )

    def close(self) -> defer.Deferred[Any]:
        """Cancel what is under way, and close all connections.  Calls fail from then on.

        It may be called again.
        """
        self._is_closed = True
        for answer in list(self._under_way):
            answer.cancel()
        return self._wire.close()

    def _start(
        self,
        method: str,
        callback: Callable[[Any], Any],
        path: str,
        params: Sequence[tuple[str, Any]] | None,
        data: str | bytes | None,
        headers: Mapping[str, str] | None,
        raw: bool,
        timeout: float | None,
    ) -> defer.Deferred[Any]:
        """Ask, in a Deferred that knows whether it was cancelled."""
        if self._is_closed:
            return defer.fail(ClosedError(f"{self._agents.names}: the client is closed"))
        headers = dict(headers or {})
        if self.token and "X-Consul-Token" not in headers:
            headers["X-Consul-Token"] = self.token
        named = dict(params or ())
        seconds = self._timeout if timeout is None else timeout
        is_blocking = "index" in named
        if is_blocking:
            wait = _seconds(str(named.get("wait") or _DEFAULT_WAIT))
            seconds += wait + wait / 16
        body = data.encode() if isinstance(data, str) else data or b""
        question = Question(method, self._target(path, params), headers, body, seconds)
        if is_blocking:
            rest = [pair for pair in params or () if pair[0] not in {"index", "wait"}]
            later = Question(method, self._target(path, rest), headers, body, self._timeout)
        else:
            later = question

        def cancel(_answer: defer.Deferred[Any]) -> None:
            question.is_cancelled = later.is_cancelled = True
            running.cancel()

        answer: defer.Deferred[Any] = defer.Deferred(cancel)
        self._under_way.add(answer)
        running = defer.Deferred.fromCoroutine(
            self._ask(question, later, None if is_blocking else self._slots)
        )
        running.addCallback(self._call_back, callback, raw, headers)
        running.addBoth(self._ended, answer)
        running.addCallbacks(answer.callback, answer.errback)
        return answer

    def _ended(self, result: Any, answer: defer.Deferred[Any]) -> Any:
        self._under_way.discard(answer)
        return result

    def _target(self, path: str, params: Sequence[tuple[str, Any]] | None) -> str:
        """The path and the query, encoded as py-consul encodes them."""
        url: str = self.uri(path, list(params or ()))
        return url[len(self.base_uri) :]

    async def _ask(
        self, question: Question, later: Question, slots: defer.DeferredSemaphore | None
    ) -> Answer:
        """Put the question to one agent after the other, when there is room for it."""
        if slots is None:
            return await self._ask_in_turn(question, later)
        await slots.acquire()
        try:
            return await self._ask_in_turn(question, later)
        finally:
            slots.release()

    async def _ask_in_turn(self, question: Question, later: Question) -> Answer:
        is_read = question.method == "GET"
        refused: Answer | None = None
        errors: list[AgentError] = []
        for agent in self._agents.in_turn():
            try:
                answer = await self._wire.ask(agent, question)
            except AgentError as error:
                if question.is_cancelled:
                    raise defer.CancelledError from None
                self._agents.failed(agent)
                errors.append(error)
                if error.may_be_done and not is_read:
                    break
            else:
                if answer.code not in _CANNOT or not is_read:
                    self._agents.works(agent)
                    return answer
                self._agents.failed(agent)
                refused = answer
            question = later
        if refused is not None:
            return refused
        message = line_of("; ".join(map(str, errors)), question.headers.get("X-Consul-Token"))
        if len(errors) > 1 and all(not error.may_be_done for error in errors):
            raise UnreachableError(message)
        raise type(errors[-1])(message)

    def _call_back(
        self, answer: Answer, callback: Callable[[Any], Any], raw: bool, headers: Mapping[str, str]
    ) -> Any:
        """What py-consul's callback makes of the answer; its errors are short, without tokens."""
        body = answer.body if raw else answer.body.decode("utf-8", "replace")
        try:
            return callback(base.Response(answer.code, answer.headers, body))
        except ConsulException as error:
            message = line_of(str(error), headers.get("X-Consul-Token"))
            raise type(error)(message) from None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # py-consul expects some shapes of JSON without looking.
            raise BrokenAnswerError(
                f"{self._agents.names}: the answer is not what was expected: {type(error).__name__}"
            ) from None


def _seconds(duration: str) -> float:
    """A duration of Go, as ``5m`` or ``1m30s``, in seconds."""
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(duration))


class Consul(base.Consul):  # type: ignore[misc]
    """py-consul's ``Consul``, whose calls return Deferreds.

    All arguments after ``reactor`` are py-consul's, and the environment's ``CONSUL_HTTP_ADDR``
    and so on are heeded as there; but a ``token`` that is given goes before
    ``CONSUL_HTTP_TOKEN``.  ``transport`` are those of :class:`HTTPClient`, ``agents`` among them.
    """

    def __init__(
        self,
        reactor: Any,
        host: str | None = None,
        port: int | None = None,
        token: str | None = None,
        scheme: str | None = None,
        consistency: str = "default",
        dc: str | None = None,
        verify: bool | str | None = None,
        cert: CertificatePaths = None,
        **transport: Any,
    ) -> None:
        self._reactor = reactor
        self._transport = transport
        super().__init__(host, port, token, scheme, consistency, dc, verify, cert)
        if token:
            self.token = token
        # Some calls of py-consul name no token at all: transactions, events.
        self.http.token = self.token

    def http_connect(
        self,
        host: str,
        port: int,
        scheme: str,
        verify: bool | str = True,
        cert: CertificatePaths = None,
    ) -> HTTPClient:
        """The transport, as py-consul asks for it."""
        return HTTPClient(self._reactor, host, port, scheme, verify, cert, **self._transport)

    def close(self) -> defer.Deferred[Any]:
        """Cancel what is under way, and close all connections."""
        closed: defer.Deferred[Any] = self.http.close()
        return closed
