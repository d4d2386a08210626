"""The ``slardar`` command, with which an operator talks to a running slardar."""

from __future__ import annotations

import click

from slardar import __version__
from slardar.build import describe_build
from slardar.console.hooks import hooks, push, try_hook
from slardar.console.simulate import simulate_command
from slardar.console.store import store

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    f"{__version__} ({describe_build()})", prog_name="slardar", message="%(prog)s %(version)s"
)
def main() -> None:
    """Slardar, a programmable HTTP load balancer on Twisted.

    The balancer itself is started with `twistd slardar`.
    """


for _command in (hooks, push, try_hook, simulate_command, store):
    main.add_command(_command)
