"""The command ``slardar import``: a configuration for slardar from one of another proxy."""

from __future__ import annotations

from pathlib import Path

import click

from slardar.console.options import json_option
from slardar.console.output import print_json
from slardar.errors import ConfigError, printable
from slardar.migration.haproxy import import_haproxy
from slardar.migration.nginx import import_nginx

__all__ = ["import_command"]

_READERS = {"nginx": import_nginx, "haproxy": import_haproxy}


@click.command("import")
@click.argument("file", type=click.Path())
@click.option(
    "--from", "program", type=click.Choice(list(_READERS)), default="nginx", show_default=True
)
@click.option(
    "-o", "--output", type=click.Path(), help="Write the configuration there, and not to stdout."
)
@json_option
def import_command(file: str, program: str, output: str | None, as_json: bool) -> None:
    """Make a configuration for slardar from FILE, one of nginx or HAProxy.

    What FILE includes is read, too.  Everything that could not be taken over is listed with its
    file, its line and slardar's own way, if there is one: on stderr, and in comments at the top of
    the configuration.  Requests for what could not be taken over get 502, and never go elsewhere.
    No running slardar is needed.

    \b
    Example:
      slardar import /etc/nginx/nginx.conf -o slardar.yaml
      slardar import --from haproxy /etc/haproxy/haproxy.cfg > slardar.yaml
    """
    try:
        draft = _READERS[program](file)
        text = draft.yaml()
    except ConfigError as error:
        raise click.ClickException("\n".join(map(printable, error.problems))) from None
    if output is not None:
        try:
            Path(output).write_text(text, "utf-8")
        except OSError as error:
            raise click.ClickException(f"{output}: {error.strerror}") from None
    if as_json:
        print_json(
            {
                "config": draft.plain(),
                "left": [one.plain() for one in draft.left],
                "differs": [one.plain() for one in draft.differs],
            }
        )
    elif output is None:
        click.echo(text, nl=False)
    for line in draft.remarks():
        click.echo(line, err=True)
