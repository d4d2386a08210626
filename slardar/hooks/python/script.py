"""One Python hook that is loaded, and its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slardar.hooks.budget import Budget, OutOfBudget
from slardar.hooks.objects import Answer, BodyTooLarge, HookRequest, HookResponse
from slardar.hooks.python.failures import failed
from slardar.hooks.script import Script

__all__ = ["PythonScript"]


class PythonScript(Script):
    """Its entry points, of which there may be only one; see :class:`Script`."""

    def __init__(
        self,
        name: str,
        budget: Budget,
        on_request: Callable[..., Any] | None,
        on_response: Callable[..., Any] | None,
        requires: frozenset[str],
        reads_body: bool = False,
    ) -> None:
        super().__init__(on_request is not None, on_response is not None, requires, reads_body)
        self.name = name
        self._request: Any = on_request
        self._response: Any = on_response
        self._budget = budget
        # Bound once, and not for each call.
        self._run_with: Any = budget.run_with
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
            failure = failed(self.name, error, self._budget.seconds)
        # Out here it has no context, which would hold on to all that the hook had.
        raise failure

    def on_response(self, request: HookRequest, response: HookResponse) -> None:
        """See :class:`Script`."""
        if self._response is None:
            return
        try:
            self._budget.run(self._response, request, response)
            return
        except BodyTooLarge:
            request.answer = _too_large()
            return
        except (Exception, OutOfBudget) as error:
            failure = failed(self.name, error, self._budget.seconds)
        raise failure

    def close(self) -> None:
        """See :class:`Script`."""
        if self._open:
            self._open = False
            self._request = self._response = None
            self._budget.stop()


def _too_large() -> Answer:
    """What a client gets whose body a hook has asked for, and cannot have."""
    return Answer(413, "the body of the request is too large")
