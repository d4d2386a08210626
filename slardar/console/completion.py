"""Completion of words by the shell, with the names that the running slardar has."""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from slardar.console.client import DEFAULT, Client
from slardar.console.options import given

__all__ = ["complete_server", "complete_upstream", "completion"]

#: Seconds that somebody who has pressed the key may wait.
_PATIENCE = 2.0


def _status(context: click.Context) -> dict[str, Any]:
    """The status, or nothing if slardar cannot be asked: a shell has no place for an error."""
    place = given(context, "control") or os.environ.get("SLARDAR_CONTROL") or DEFAULT
    token = given(context, "token") or os.environ.get("SLARDAR_TOKEN")
    try:
        trust = (os.environ.get("SLARDAR_CACERT"), os.environ.get("SLARDAR_CERT"))
        found: dict[str, Any] = Client(place, token, *trust, timeout=_PATIENCE).get("status")
    except click.ClickException:
        return {}
    return found


def complete_upstream(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The names of upstreams that begin so."""
    names = (key[len("cls:") :] for key in _status(context) if key.startswith("cls:"))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_server(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The servers, as ``HOST:PORT``, of the upstream whose name was given before."""
    name = context.params.get("name") or ""
    levels = _status(context).get(f"cls:{name}", [])
    servers = dict.fromkeys(one["server"][len(name) + 1 :] for level in levels for one in level)
    return [CompletionItem(server) for server in servers if server.startswith(incomplete)]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete the words of `slardar`.

    Names of upstreams and servers come from the running slardar: that of SLARDAR_CONTROL, or of
    --control if it stands before.

    \b
    Example:
      slardar completion bash > /etc/bash_completion.d/slardar
      slardar completion zsh > ~/.zfunc/_slardar
      slardar completion fish > ~/.config/fish/completions/slardar.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    root = context.find_root()
    click.echo(made(root.command, {}, "slardar", "_SLARDAR_COMPLETE").source())
