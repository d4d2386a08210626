"""The commands ``slardar diff`` and ``slardar apply``: a file of upstreams, services and routes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from slardar.console.client import Client, RefusedError
from slardar.console.options import control_options, json_option
from slardar.console.output import print_diff, print_json
from slardar.errors import ConfigError, PartlyReadError, printable

__all__ = ["apply", "diff"]

#: What `slardar diff --exit-code` ends with if something differs.
_DIFFERS = 3

#: What becomes of a thing, and the colour of it.
_FATES: dict[str, tuple[str, str | None]] = {
    "added": (" is added", "green"),
    "removed": (" is removed", "red"),
}

_prune = click.option(
    "--prune", is_flag=True, help="Remove upstreams and services that FILE does not name."
)
_file = click.argument("file", type=click.Path())


def read_declaration(file: str) -> bytes:
    """The declaration in a file of YAML, as JSON.  ``-`` is standard input."""
    # Imported here: most commands read no YAML.
    from slardar.model.yaml_file import read_file

    try:
        value = read_file("/dev/stdin" if file == "-" else file)
    except PartlyReadError as error:
        raise click.ClickException("\n".join(error.problems)) from None
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    try:
        return json.dumps({} if value is None else value, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise click.ClickException(f"{file}: expected what JSON can hold: {error}") from None


@contextmanager
def _about(file: str) -> Iterator[None]:
    """What slardar finds wrong in the declaration is told with the file's name."""
    try:
        yield
    except RefusedError as error:
        if error.status != 400:
            raise
        name = printable("standard input" if file == "-" else file)
        lines = [f"{name}: {line}" for line in error.message.splitlines()]
        raise click.ClickException("\n".join(lines)) from None


def _shown(differences: list[dict[str, Any]]) -> None:
    for one in differences:
        # It may be asked of an older slardar.
        fate, colour = _FATES.get(one.get("change", ""), ("", None))
        click.secho(printable(f"{one['kind']} {one['name']}".rstrip()) + fate, bold=True, fg=colour)
        print_diff(one["diff"])


def _question(differences: list[dict[str, Any]]) -> str:
    gone = [one for one in differences if one.get("change") == "removed"]
    if not gone:
        return "Apply this?"
    counts = Counter(one["kind"] for one in gone)
    told = " and ".join(f"{n} {kind}{'' if n == 1 else 's'}" for kind, n in counts.items())
    return f"Apply this, and remove {told}?"


@click.command()
@_file
@_prune
@click.option("--exit-code", is_flag=True, help=f"End with {_DIFFERS} if something differs.")
@json_option
@control_options
def diff(file: str, prune: bool, exit_code: bool, as_json: bool, client: Client) -> None:
    """Show what `slardar apply FILE` would change.

    FILE has some of `upstreams`, `services` and `routes`, in YAML, as the configuration file does;
    `-` is standard input.  A token with the role `read` is enough.

    \b
    Example:
      slardar diff site.yaml
      slardar diff site.yaml --prune --exit-code
    """
    body = read_declaration(file)
    with _about(file):
        found = client.call("POST", ("diff",), body, {"prune": str(int(prune))})
    if as_json:
        print_json(found)
    elif found:
        _shown(found)
    else:
        click.echo("nothing differs")
    if found and exit_code:
        raise SystemExit(_DIFFERS)


@click.command()
@_file
@_prune
@click.option("--yes", is_flag=True, help="Do not show it and ask first.")
@json_option
@control_options
def apply(file: str, prune: bool, yes: bool, as_json: bool, client: Client) -> None:
    """Serve the upstreams, services and routes of FILE, as one change.

    Shows what would change, and asks.  If somebody else has changed something meanwhile, nothing is
    changed.  What FILE does not name stays, but with --prune.

    \b
    Example:
      slardar apply site.yaml
      slardar apply site.yaml --prune --yes
    """
    body = read_declaration(file)
    parameters = {"prune": str(int(prune))}
    headers = {}
    if not yes:
        with _about(file):
            asked = client.ask("POST", ("diff",), body, parameters)
        if asked.value:
            _shown(asked.value)
            click.confirm(_question(asked.value), abort=True, err=True)
            headers = {"If-Match": asked.etag}
    parameters["receipt"] = "1"
    with _about(file):
        answer = client.call("POST", ("apply",), body, parameters, headers)
    if as_json:
        print_json(answer)
        return
    count = len(answer["differences"])
    if not count:
        click.echo("nothing differs")
    else:
        if yes:
            _shown(answer["differences"])
        what = f"{count} thing{'' if count == 1 else 's'}"
        click.echo(f"{what} changed, as version {answer['version']}")
