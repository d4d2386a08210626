"""A loaded Python hook, and its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slardar.hooks.budget import Budget, OutOfBudget
from slardar.hooks.objects import BodyTooLarge, HookAnswer, HookRequest, HookResponse
from slardar.hooks.python.failures import failed
from slardar.hooks.script import HookFailure, Script

__all__ = ["PythonScript"]


class PythonScript(Script):
    """The one or two entry points of a hook; see :class:`Script`.

    ``names`` are the globals of the hook's code and of its modules.
    """

    def __init__(
        self,
        name: str,
        budget: Budget,
        on_request: Callable[..., Any] | None,
        on_response: Callable[..., Any] | None,
        requires: frozenset[str],
        reads_body: bool = False,
        names: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(on_request is not None, on_response is not None, requires, reads_body)
        self.name = name
        self._request: Any = on_request
        self._response: Any = on_response
        self._budget = budget
        # Bound here once, and not for each call.
        self._run_with: Any = budget.run_with
        self._names = names or []
        self._is_taken_back = False
        self._open = False
        budget.start()
        self._open = True

    def on_request(self, request: HookRequest) -> None:
        """See :class:`Script`."""
        if self._request is None:
            return
        try:
            self._run_with(self._request, request)
            return
        except BodyTooLarge:
            request.answer = _too_large()
            return
        except (Exception, OutOfBudget) as error:
            failure = failed(self.name, error, self._budget.seconds, _line_of(self._request))
        # Raised outside the handler, the failure has no __context__, which would keep all that
        # the hook had alive.
        raise failure

    def on_response(self, request: HookRequest, response: HookResponse) -> None:
        """See :class:`Script`."""
        if self._response is None:
            if self._is_taken_back:
                raise HookFailure("memory", f"{self.name}: what it held was let go")
            return
        try:
            self._budget.run(self._response, request, response)
            return
        except BodyTooLarge:
            request.answer = _too_large()
            return
        except (Exception, OutOfBudget) as error:
            failure = failed(self.name, error, self._budget.seconds, _line_of(self._response))
        raise failure

    def take_back(self) -> None:
        """See :class:`Script`."""
        self._is_taken_back = True
        # Somebody may still hold functions of the hook, and so the globals.
        for names in self._names:
            names.clear()
        self.close()

    def close(self) -> None:
        """See :class:`Script`."""
        if self._open:
            self._open = False
            self._request = self._response = None
            self._names = []
            self._budget.stop()


def _too_large() -> HookAnswer:
    """The answer if a hook asks for a body that is too large for hooks."""
    return HookAnswer(413, "the body of the request is too large")


def _line_of(function: Any) -> int:
    line: int = function.__code__.co_firstlineno
    return line
