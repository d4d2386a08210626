"""A hook that is loaded: what the request path calls, whatever its language."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from slardar.hooks.objects import HookRequest, HookResponse

__all__ = ["HookFailure", "Script"]


class HookFailure(Exception):
    """A call of a hook did not end well; the message is one line for its author.

    ``kind`` is ``error`` (it raised), ``budget`` (it took too long) or ``memory``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


@mypyc_attr(allow_interpreted_subclasses=True)
class Script:
    """A hook that is loaded, with modules of its own.

    ``on_requests`` and ``on_replies`` say whether it has something to do with those,
    ``reads_body`` whether it may ask for the body of a request.
    """

    def __init__(
        self,
        on_requests: bool = True,
        on_replies: bool = False,
        requires: frozenset[str] = frozenset(),
        reads_body: bool = False,
    ) -> None:
        self.on_requests = on_requests
        self.on_replies = on_replies
        self.reads_body = reads_body
        #: The modules that it uses, by name, and those that these use.
        self.requires = requires

    def on_request(self, request: HookRequest) -> None:
        """Let it see and change a request.  Raises HookFailure, and nothing else."""
        raise NotImplementedError

    def on_response(self, request: HookRequest, response: HookResponse) -> None:
        """Let it see and change a reply.  Raises HookFailure, and nothing else."""
        raise NotImplementedError

    def close(self) -> None:
        """It is not called any more; a second call does nothing."""

    def take_back(self) -> None:
        """Let go all that it keeps between calls; those that are still to come, for
        requests that it has seen, raise HookFailure."""
        self.close()

    def __del__(self) -> None:
        # Requests under way hold on to the versions that they began with, and nobody is
        # told when the last of them has ended, but by this.
        self.close()
