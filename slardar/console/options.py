"""The options that the commands of `slardar` share."""

from __future__ import annotations

import functools
from typing import Any

import click

from slardar.console.client import DEFAULT, Client

__all__ = ["control_options", "json_option"]

json_option = click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")


def control_options(command: Any) -> Any:
    """The options of every command that talks to a running slardar, which gets a ``client``."""

    @functools.wraps(command)
    def run(
        *, control: str, token: str | None, cacert: str | None, cert: str | None, **more: Any
    ) -> Any:
        return command(client=Client(control, token, cacert, cert), **more)

    found: Any = run
    for option in (
        click.option(
            "--cert",
            envvar="SLARDAR_CERT",
            metavar="FILE",
            help="With https: a certificate and its key, for a channel that wants one.",
        ),
        click.option(
            "--cacert",
            envvar="SLARDAR_CACERT",
            metavar="FILE",
            help="With https: the CAs to trust in the place of the system's.",
        ),
        click.option(
            "--token",
            envvar="SLARDAR_TOKEN",
            help="For a channel that wants one; better in SLARDAR_TOKEN than here.",
        ),
        click.option(
            "--control",
            envvar="SLARDAR_CONTROL",
            default=DEFAULT,
            show_default=True,
            metavar="URL",
            help="The control channel: http://HOST:PORT, https://HOST:PORT or unix:PATH.",
        ),
    ):
        found = option(found)
    return found
