"""One Lua script that is loaded, and its calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from slardar.hooks.headers import Headers
from slardar.hooks.lua.crossing import said
from slardar.hooks.lua.outcome import ADDED, Outcome, by_name
from slardar.hooks.lua.runtime import PENDING_BYTES, PENDING_LINES, Runtime
from slardar.hooks.objects import HookRequest, HookResponse
from slardar.hooks.script import HookFailure, Script

__all__ = ["NOBODY", "Account", "Call", "LuaScript"]

#: What there is of a request while no script runs.
_NO_REQUEST: Final = HookRequest(b"GET", b"/", [b""])


class Account:
    """What is known of a script besides its functions."""

    def __init__(self, name: str, modules: Mapping[str, str], requires: frozenset[str]) -> None:
        self.name = name
        #: The code of the modules in service when it was loaded.
        self.modules = modules
        #: Those that it uses, by name, and those that these use.
        self.requires = requires
        #: Lua's function that lets go what its modules keep.
        self.forget: Any = None
        #: Bytes that were in use after its calls and not before, since memory was short.
        self.grown = 0
        #: Bytes that it held for good when memory was short; its next call fails.
        self.held = 0


NOBODY: Final = Account("", {}, frozenset())


class Call:
    """The call under way in a runtime; there is never more than one."""

    def __init__(self) -> None:
        #: Whose it is, or was when there is none.
        self.owner = NOBODY
        self.request = _NO_REQUEST
        #: What it has come to, once that is something.
        self.outcome: Outcome | None = None

    def begin(self, request: HookRequest) -> None:
        """A script runs for this request from now on."""
        self.request = request
        self.outcome = None


class LuaScript(Script):
    """It is run whole for each request.

    ``engine`` is told of calls and of failures.  ``functions`` are Lua's: to run it, to
    require a module for it, and to forget what its modules keep.  ``sets`` says that it
    may set headers of the request, which wait in Lua for the end of a call where there is
    room for them in any case; ``reads_body``, that it may read the request's body.
    """

    def __init__(
        self,
        engine: Any,
        account: Account,
        call: Call,
        runtime: Runtime,
        functions: tuple[Any, Any, Any],
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
        self._run, self._prepare, account.forget = functions
        self._sets = sets
        self._open = True

    def on_request(self, request: HookRequest) -> None:
        """See :class:`slardar.hooks.script.Script`."""
        call = self._call
        account = self._account
        if call.owner is not account:
            self._engine.count(account)
        call.begin(request)
        # Most calls need no argument, which would take a while to be passed.
        arguments: tuple[Any, ...] = ()
        if self._sets and not request.headers.has_room(PENDING_LINES, PENDING_BYTES):
            arguments = (request.method, True)
        elif request.raw_method != b"GET":
            arguments = (request.method,)
        answer = self._runtime.run(self._run, arguments)
        call.request = _NO_REQUEST
        if account.held or (answer is not None and answer[0] is False):
            raise self._engine.failure(account, answer)
        # The headers that waited for the end.
        if answer is not None:
            request.headers.put(answer[0], answer[1])
            if len(answer) == 3:
                request.headers.put_each(answer[2])
        outcome = call.outcome
        if outcome is not None:
            if outcome.broken is not None:
                raise HookFailure("error", f"{self.name}: {outcome.broken}")
            outcome.finish(request)

    def on_response(self, request: HookRequest, response: HookResponse) -> None:
        """Set the headers that it asked for while it saw the request."""
        added = request.context.get(ADDED)
        # The context is everybody's, so anything may be there.
        if not isinstance(added, Headers):
            return
        try:
            for name, values in by_name(added).items():
                response.headers.set(name, values)
        except ValueError as error:
            raise HookFailure("error", f"{self.name}: {said(error)}") from None

    def prepare(self, module: str) -> Any:
        """Run a module's code, if it has not been run yet; answers how it failed."""
        self._engine.count(self._account)
        self._call.begin(_NO_REQUEST)
        failure = self._runtime.call(self._prepare, module)
        outcome = self._call.outcome
        if failure is None and outcome is not None and outcome.broken is not None:
            return "error", outcome.broken
        return failure

    def close(self) -> None:
        """Let go everything."""
        if self._open:
            self._open = False
            self._engine.closed(self._account)
