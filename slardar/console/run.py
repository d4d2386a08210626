"""Runs the reactor for a command."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from slardar.errors import ConfigError, SlardarError, printable

__all__ = ["run_reactor"]

T = TypeVar("T")


def run_reactor(
    ask: Callable[[Any], Coroutine[Any, Any, T]],
    tell: Callable[[T], None],
) -> None:
    """Run the reactor until ``ask`` is answered, ``tell`` the answer, and end the process.

    Raises click.ClickException for a SlardarError.
    """
    problems: list[str] = []
    has_ended = False

    async def work(reactor: Any) -> None:
        nonlocal has_ended
        try:
            found = await ask(reactor)
        except SlardarError as error:
            problems.extend(error.problems if isinstance(error, ConfigError) else [str(error)])
            raise SystemExit(1) from None
        has_ended = True
        tell(found)

    try:
        react(lambda reactor: Deferred.fromCoroutine(work(reactor)))
    except SystemExit:
        if problems:
            raise click.ClickException("\n".join(map(printable, problems))) from None
        if not has_ended:
            # Somebody has interrupted it.
            raise click.Abort from None
        raise
