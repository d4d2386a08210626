"""Why an agent has given no answer.

What an agent says in an answer with an error is raised by py-consul: ``ACLPermissionDenied``,
``BadRequest``, ``ClientError``, ``NotFound``, ``ConsulException``.  All errors are subclasses of
``consul.ConsulException``.  No message holds a token.
"""

from __future__ import annotations

from consul import ConsulException, Timeout  # type: ignore[import-untyped]

__all__ = [
    "AgentError",
    "BrokenAnswerError",
    "ClosedError",
    "NoAnswerError",
    "UnreachableError",
    "line_of",
]

#: Characters of a message, at most.
_MAX_MESSAGE = 500


def line_of(text: str, token: str | None, limit: int = _MAX_MESSAGE) -> str:
    """What an agent has said, as a part of a message: one line of at most ``limit`` characters,
    without the token that it was asked with, and without what could move a terminal's cursor."""
    text = " ".join(text.split())
    if token:
        # First of all, so that no half of it is left.
        text = text.replace(token, "(the token)")
    text = text[:limit]
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)[:limit]


class AgentError(ConsulException):  # type: ignore[misc]
    """No agent has given an answer that can be used; the message names the agents and reasons."""

    #: Whether an agent may have done what it was asked to do.  A write is then neither known to
    #: be done nor known not to be done.
    may_be_done: bool = True


class UnreachableError(AgentError):
    """There is no connection to the agent: nothing was sent."""

    may_be_done = False


class NoAnswerError(AgentError, Timeout):  # type: ignore[misc]
    """The whole answer was not there in time."""


class BrokenAnswerError(AgentError):
    """The answer ended early, is no HTTP, is too large, or leads elsewhere."""


class ClosedError(AgentError):
    """The client was closed before: nothing was sent."""

    may_be_done = False
