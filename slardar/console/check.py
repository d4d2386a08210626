"""The command ``slardar check``: what is expected of a configuration before it is served."""

from __future__ import annotations

import sys
from typing import Any

import click
from msgspec import structs

from slardar.config import parse_settings
from slardar.console.client import Client
from slardar.console.options import control_options, json_option
from slardar.console.output import print_json
from slardar.console.run import run_reactor
from slardar.errors import ConfigError, PartlyReadError, printable
from slardar.testing.candidate import Candidate, read_candidate
from slardar.testing.site import Site

__all__ = ["check"]


def _add_running(candidate: Candidate, client: Client, staged: bool) -> None:
    """Put what a running slardar serves under what the file says."""
    declared = {
        "upstreams": client.get("upstreams"),
        "routes": client.get("routes"),
        "settings": client.get("settings"),
    }
    running = parse_settings(_without_cluster(declared), "the running slardar")
    settings = candidate.settings
    candidate.settings = structs.replace(
        settings,
        upstreams={**running.first_upstreams, **settings.first_upstreams},
        settings={**running.first_settings, **settings.first_settings},
        routes=settings.first_routes or running.first_routes,
    )
    for language in ("lua", "python"):
        answer = client.get(language)
        for hook in {one["name"]: one for one in (*answer["modules"], *answer["staged"])}:
            versions = client.get(language, hook, "code")
            chosen = (versions.get("staged") if staged else None) or versions.get("active")
            if chosen is not None:
                candidate.hooks.setdefault((language, hook), chosen["code"])


def _without_cluster(declared: dict[str, Any]) -> dict[str, Any]:
    """Answers show servers in two places."""
    upstreams = declared["upstreams"]
    for upstream in upstreams.values():
        if "servers" in upstream:
            upstream.pop("cluster", None)
    return declared


@click.command()
@click.argument("file", type=click.Path())
@click.option(
    "--running", is_flag=True, help="Begin with the upstreams, routes and hooks that are served."
)
@click.option("--staged", is_flag=True, help="With --running: hooks that are only staged, too.")
@json_option
@control_options
def check(file: str, running: bool, staged: bool, as_json: bool, client: Client) -> None:
    """Check what FILE expects of a configuration and its hooks, before they are served.

    slardar runs in this process for it, on free ports, and every server is played.  FILE names the
    configuration, the hooks, and requests with what is to come of them: `upstream`, `servers`,
    `status`, `headers` of the reply, and `sent`, the headers that a server gets.  A running slardar
    is asked with --running only.

    \b
    Example:
      slardar check expected.yaml
      slardar check expected.yaml --running --staged
    """
    # A balancer of the user's own is mostly beside the file.
    sys.path.insert(0, "")
    try:
        candidate = read_candidate(file)
        if running:
            _add_running(candidate, client, staged)
    except PartlyReadError as error:
        raise click.ClickException("\n".join(error.problems)) from None
    except ConfigError as error:
        raise click.ClickException("\n".join(map(printable, error.problems))) from None
    run_reactor(
        lambda reactor: _results(reactor, candidate), lambda results: _tell(results, as_json)
    )


async def _results(reactor: Any, candidate: Candidate) -> list[dict[str, Any]]:
    """What came of each expectation.  Raises ConfigError."""
    site = Site(reactor, candidate.settings, candidate.hooks)
    await site.start()
    results = []
    try:
        for one in candidate.expectations:
            try:
                differences = await site.check(one)
            except ConfigError as error:
                raise ConfigError([f"{one.name}: {line}" for line in error.problems]) from None
            results.append({"name": one.name, "ok": not differences, "msg": differences})
    finally:
        await site.stop()
    return results


def _tell(results: list[dict[str, Any]], as_json: bool) -> None:
    good = sum(one["ok"] for one in results)
    if as_json:
        print_json(results)
    else:
        for one in results:
            word, colour = ("ok", "green") if one["ok"] else ("not as expected", "red")
            click.echo(f"{click.style(word, fg=colour)}: {printable(one['name'])}")
            for line in one["msg"]:
                click.echo(f"  {printable(line)}")
        click.echo(f"{good} of {len(results)} as expected")
    if good < len(results):
        raise SystemExit(1)
