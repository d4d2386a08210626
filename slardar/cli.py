"""The ``slardar`` command, with which an operator talks to a running slardar."""

from __future__ import annotations

import click

from slardar import __version__
from slardar.build import describe_build
from slardar.console.change import add, drain, rm, rollback, set_upstream, up, weight
from slardar.console.check import check
from slardar.console.completion import completion
from slardar.console.declared import apply, diff
from slardar.console.hooks import hooks, push, try_hook
from slardar.console.importing import import_command
from slardar.console.options import group_options
from slardar.console.show import (
    certificates,
    explain,
    history,
    routes,
    services,
    status,
    upstreams,
)
from slardar.console.simulate import simulate_command
from slardar.console.store import store
from slardar.console.top import top

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    f"{__version__} ({describe_build()})", prog_name="slardar", message="%(prog)s %(version)s"
)
@group_options
def main(**_options: str | None) -> None:
    """Slardar, a programmable HTTP load balancer on Twisted.

    The balancer itself is started with `twistd slardar`.  These commands talk to one that runs, at
    --control or $SLARDAR_CONTROL, with the token in $SLARDAR_TOKEN.  The options here
    may also stand behind the command.

    A command ends with 0 if it has worked, with 1 if slardar has refused it or could not be asked,
    and with 2 if it was written wrongly.
    """


for _command in (
    *(status, top, upstreams, routes, services, certificates, history, explain),
    *(set_upstream, add, drain, up, weight, rm, rollback),
    *(diff, apply, check),
    *(hooks, push, try_hook, simulate_command, store),
    *(import_command, completion),
):
    main.add_command(_command)
