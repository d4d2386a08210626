"""The command ``slardar simulate``: an upstream in virtual time, with no running slardar."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from random import Random
from typing import Any

import click

from slardar.errors import ConfigError
from slardar.simulation.load import Arrival, made_by_lot, read_log
from slardar.simulation.run import simulate
from slardar.simulation.scenario import read_scenario

__all__ = ["simulate_command"]


@click.command("simulate")
@click.argument("file", type=click.Path())
@click.option("--log", type=click.Path(), help="Requests of an access log: JSON or combined.")
@click.option("--mode", metavar="MODE", help="Another balancer than the file's, with no options.")
@click.option("--seed", default=0, show_default=True, help="Another one draws other numbers.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def simulate_command(
    file: str, log: str | None, mode: str | None, seed: int, as_json: bool
) -> None:
    """Simulate the upstream, the servers and the failures in FILE.

    The balancer, the rules of health, the heartbeats and the retries are those that serve; time,
    clients and servers are computed, so that an hour takes seconds.  No running slardar is needed.

    \b
    Example:
      slardar simulate outage.yaml --json
    """
    # A balancer of the user's own is mostly beside the file.
    sys.path.insert(0, "")
    try:
        scenario = read_scenario(file, mode)
        random = Random(f"load {seed}")  # noqa: S311
        arrivals: Iterable[Arrival] = made_by_lot(scenario.load, random)
        if log is not None:
            with open(log, encoding="utf-8", errors="replace") as lines:
                arrivals = read_log(lines, random)
        report = simulate(scenario, arrivals, seed)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    click.echo(json.dumps(report, indent=2) if as_json else _text(report))


def _text(report: dict[str, Any]) -> str:
    seconds = report["seconds"]
    lines = [
        f"{report['mode']}: {report['requests']} requests, {report['failed']} failed, "
        f"{report['retries']} retries",
        "replies: " + ", ".join(f"{count} x {one}" for one, count in report["statuses"].items()),
        "seconds: " + ", ".join(f"{name} {value:.3f}" for name, value in seconds.items()),
        f"load of the busiest server over the mean, by weight: {report['max_over_mean']}",
        f"clients sent to another server than before: {report['clients_moved']} times",
        "",
        f"{'server':<24} {'requests':>9} {'share':>7} {'failures':>9} {'most':>6} {'waited':>8}",
    ]
    for key, server in report["servers"].items():
        lines.append(
            f"{key:<24} {server['requests']:>9} {server['share']:>7.2%} "
            f"{server['failures']:>9} {server['most_at_a_time']:>6} {server['waited']:>7.3f}s"
        )
    if report["health"]:
        lines.append("")
    lines += [
        f"{change['at']:>9.3f} s  {change['server']} "
        + ": ".join(word for word in (change["status"], change["msg"]) if word)
        for change in report["health"]
    ]
    lines += [f"{count} x {reason}" for reason, count in report["reasons"].items()]
    lines += [f"balancer: {count} x {one}" for one, count in report["balancer_errors"].items()]
    return "\n".join(lines)
