"""A loaded Lua script, and its calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from slardar.hooks.headers import Headers, check_name, has_room
from slardar.hooks.lua.crossing import said
from slardar.hooks.lua.outcome import ADDED, Outcome, by_name
from slardar.hooks.lua.runtime import LEARNED_BYTES, PENDING_BYTES, PENDING_LINES, Runtime
from slardar.hooks.objects import OF_REQUEST, HookRequest, HookResponse
from slardar.hooks.script import HookFailure, Script
from slardar.http1.heads import GET

__all__ = ["NOBODY", "Account", "Call", "LuaScript"]

#: The headers with their values that Lua learns the numbers of, for each script.  Most scripts
#: set few values, or ever new ones, for which numbers are of no use.
_MAX_LEARNED: Final = 16

#: The request while no script runs.
_NO_REQUEST: Final = HookRequest(b"GET", b"/", b"")


class Account:
    """What the engine knows of a script besides its functions."""

    def __init__(self, name: str, modules: Mapping[str, str], requires: frozenset[str]) -> None:
        self.name = name
        #: The code of the modules that were in service when the script was loaded, by name.
        self.modules = modules
        #: The names of the modules that the script uses, directly or through others.
        self.requires = requires
        #: The function of Lua that lets go what the modules of the script keep.
        self.forget: Any = None
        #: Bytes that the calls of the script added since memory was last short.
        self.grown = 0
        #: Bytes that the modules of the script held when memory was short, if they were let
        #: go.  The next call of the script fails then.
        self.held = 0


NOBODY: Final = Account("", {}, frozenset())


class Call:
    """The call under way in a runtime.  There is never more than one."""

    def __init__(self) -> None:
        #: The account of the script that runs, or that ran last.
        self.owner = NOBODY
        self.request = _NO_REQUEST
        #: ``None`` until the script does something that an :class:`Outcome` records.
        self.outcome: Outcome | None = None

    def begin(self, request: HookRequest) -> None:
        """Note that a script runs for ``request`` from now on."""
        self.request = request
        self.outcome = None


class LuaScript(Script):
    """A script that runs from its first line to its last for each request.

    ``engine`` is told of calls and of failures.  ``functions`` are the four functions that
    :meth:`slardar.hooks.lua.runtime.Runtime.load` returns.  ``replies`` says that the script
    may set headers of the reply.  ``sets`` says that it may set headers of the request, which
    wait in Lua for the end of the call if the request has room for them in any case.
    ``reads_body`` says that it may read the body of the request.
    """

    def __init__(
        self,
        engine: Any,
        account: Account,
        call: Call,
        runtime: Runtime,
        functions: tuple[Any, Any, Any, Any],
        replies: bool,
        sets: bool,
        reads_body: bool,
    ) -> None:
        super().__init__(True, replies, account.requires, reads_body)
        self.name = account.name
        self._engine = engine
        self._account = account
        self._call = call
        self._runtime = runtime
        self._run, self._prepare, account.forget, self._learn = functions
        #: The headers that Lua knows by their numbers: the name in lower case, and the line with
        #: the end of the line before it.
        self._learned: list[tuple[bytes, bytes]] = []
        self._sets = sets
        self._open = True

    def on_request(self, request: HookRequest) -> None:
        """See :class:`slardar.hooks.script.Script`."""
        call = self._call
        account = self._account
        if call.owner is not account:
            self._engine.count(account)
        call.begin(request)
        # Most calls pass no argument, since passing one to Lua takes time.
        arguments: tuple[Any, ...] = ()
        if self._sets and not has_room(request.block, PENDING_LINES, PENDING_BYTES):
            arguments = (request.method, True)
        elif request.raw_method is not GET and request.raw_method != GET:
            arguments = (request.method,)
        answer = self._runtime.run(self._run, arguments)
        call.request = _NO_REQUEST
        if account.held or (type(answer) is tuple and answer[0] is False):
            raise self._engine.failure(account, answer)
        # Set the headers that waited for the end of the call.
        if type(answer) is int:
            known = self._learned[answer]
            request.put_lines(known[0], known[1])
        elif type(answer) is tuple:
            request.put(answer[0], answer[1])
            if len(answer) == 3:
                request.headers.put_each(answer[2])
            elif len(self._learned) < _MAX_LEARNED:
                self._number(answer[0], answer[1])
        outcome = call.outcome
        if outcome is not None:
            if outcome.broken is not None:
                raise HookFailure("error", f"{self.name}: {outcome.broken}")
            outcome.finish(request)

    def _number(self, name: str, value: str) -> None:
        """Let Lua know a header with its value by a number from now on."""
        if name.lower() not in OF_REQUEST and len(name) + len(value) <= LEARNED_BYTES:
            _, lower, start = check_name(name)
            self._learned.append((lower, start + value.strip(" ").encode("ascii")))
            self._runtime.enter(self._learn, name, value, len(self._learned) - 1)

    def on_response(self, request: HookRequest, response: HookResponse) -> None:
        """Set the headers that the script asked for while it saw the request."""
        added = request.context.get(ADDED)
        # All hooks of the request share the context, so anything may be there.
        if not isinstance(added, Headers):
            return
        try:
            for name, values in by_name(added).items():
                response.headers.set(name, values)
        except ValueError as error:
            raise HookFailure("error", f"{self.name}: {said(error)}") from None

    def prepare(self, module: str) -> Any:
        """Run the code of a module, if it has not run yet.

        Returns ``None``, or how the code failed.
        """
        self._engine.count(self._account)
        self._call.begin(_NO_REQUEST)
        failure = self._runtime.call(self._prepare, module)
        outcome = self._call.outcome
        if failure is None and outcome is not None and outcome.broken is not None:
            return "error", outcome.broken
        return failure

    def close(self) -> None:
        """Let go everything that the script keeps."""
        if self._open:
            self._open = False
            self._engine.closed(self._account)
