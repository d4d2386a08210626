"""The interface of a loaded hook, which the request path calls whatever the language is."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from slardar.hooks.objects import HookRequest, HookResponse

__all__ = ["HookFailure", "Script"]


class HookFailure(Exception):
    """A call of a hook did not end well.  The message is one line for the hook's author.

    ``kind`` is ``error`` (it raised), ``budget`` (it took too long) or ``memory``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


@mypyc_attr(allow_interpreted_subclasses=True)
class Script:
    """A loaded hook with its own copies of its modules.

    ``on_requests`` and ``on_replies`` say whether the hook sees requests and replies.
    ``reads_body`` says whether the hook may ask for the body of a request.
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
        #: The names of the modules that the hook uses, directly or through others.
        self.requires = requires

    def on_request(self, request: HookRequest) -> None:
        """Let the hook see and change a request.  Raises HookFailure, and nothing else."""
        raise NotImplementedError

    def on_response(self, request: HookRequest, response: HookResponse) -> None:
        """Let the hook see and change a reply.  Raises HookFailure, and nothing else."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the hook, which is not called any more.  A second call does nothing."""

    def take_back(self) -> None:
        """Let go everything that the hook keeps between calls.

        Later calls, for the replies to requests that the hook has seen, raise HookFailure.
        """
        self.close()

    def __del__(self) -> None:
        # Requests under way hold the versions that they began with.  Only this method tells
        # when the last of these requests has ended.
        self.close()
