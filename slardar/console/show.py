"""The commands that show what a running slardar does and knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click

from slardar.console.client import Client
from slardar.console.completion import complete_upstream
from slardar.console.options import Whole, control_options, json_option
from slardar.console.output import Cell, print_diff, print_json, print_table, styled

__all__ = [
    "Row",
    "certificates",
    "explain",
    "history",
    "routes",
    "rows_of",
    "services",
    "status",
    "upstreams",
]

#: The beginning of the keys of the status that belong to one upstream.
_UPSTREAM = "cls:"


class Row(NamedTuple):
    """One server of one upstream, from the status."""

    upstream: str
    server: str
    level: int
    status: str
    state: str
    weight: int
    active: int
    requests: int
    failures: int
    since: str
    message: str


def rows_of(status: Mapping[str, Any]) -> Iterator[Row]:
    """The servers of a status, by upstream."""
    for key, levels in status.items():
        if not key.startswith(_UPSTREAM):
            continue
        name = key[len(_UPSTREAM) :]
        for number, level in enumerate(levels):
            for one in level:
                yield Row(
                    name,
                    str(one["server"])[len(name) + 1 :],
                    number,
                    one["status"],
                    one.get("state", "up"),
                    one["weight"],
                    one.get("active", 0),
                    one.get("requests", 0),
                    one.get("failures", 0),
                    one["lastmodified"],
                    one["msg"],
                )


_HEADS = (
    *("UPSTREAM", "SERVER", "STATUS", "STATE", "WEIGHT"),
    *("ACTIVE", "REQUESTS", "FAILURES", "SINCE", "MESSAGE"),
)


def _cells(row: Row) -> Sequence[Cell]:
    level = f" (level {row.level})" if row.level else ""
    return (
        row.upstream,
        row.server + level,
        styled(row.status),
        styled(row.state),
        str(row.weight),
        str(row.active),
        str(row.requests),
        str(row.failures),
        row.since,
        row.message,
    )


@click.command()
@json_option
@control_options
def status(as_json: bool, client: Client) -> None:
    """Show how slardar is, and which servers are not well.

    \b
    Example:
      slardar status
      slardar status --json | jq .fingerprint
    """
    found = client.get("status")
    if as_json:
        print_json(found)
        return
    rows = list(rows_of(found))
    ill = [row for row in rows if row.status != "ok" or row.state != "up"]
    names = {row.upstream for row in rows}
    lines: list[tuple[str, str]] = [
        ("version", f"slardar {found['slardar_version']}, since {found['start_time']}"),
        ("configuration", f"version {found['shd_config_version']}, {found['fingerprint'][:12]}"),
    ]
    # A token for some names does not see what is of all of them.
    if "store" in found:
        lines.append(("store", _store(found["store"])))
    if "statistics" in found:
        counts = found["statistics"]
        lines += [
            ("requests", f"{counts['requests']} begun, {counts['active']} under way"),
            ("connections", f"{counts['connections']} open, {counts['accepted']} accepted"),
        ]
    lines.append(
        ("upstreams", f"{len(names)} with {len(rows)} servers, {len(ill)} of them not in order")
    )
    if len(found.get("generations", ())) > 1:
        lines.append(("generations", f"{len(found['generations'])} processes serve"))
    for about, text in lines:
        click.echo(f"{about + ':':<15}{text}")
    for where, reason in found.get("failed", {}).items():
        click.secho(f"not in use: {reason}" if where in reason else f"{where}: {reason}", fg="red")
    if "workers" in found:
        click.echo()
        _print_workers(found)
    if ill:
        click.echo()
        print_table(_HEADS, map(_cells, ill))


def _print_workers(found: Mapping[str, Any]) -> None:
    print_table(
        ("WORKER", "STATE", "PID", "VERSION", "CONNECTIONS", "REQUESTS", "AGE", "RESTARTS"),
        (
            (
                name,
                styled(found["config_timer"].get(name, "")),
                *(str(one.get(key, "")) for key in ("pid", "version", "connections", "requests")),
                f"{one.get('age', 0):g} s",
                str(one.get("restarts", "")),
            )
            for name, one in found["workers"].items()
        ),
    )


def _store(store: Mapping[str, Any]) -> str:
    text = f"{store.get('url', '')} {store.get('status', '')}"
    reason = store.get("reason")
    return f"{text} since {store.get('since')}: {reason}" if reason else text


@click.command()
@click.argument("name", required=False, shell_complete=complete_upstream)
@json_option
@control_options
def upstreams(name: str | None, as_json: bool, client: Client) -> None:
    """Show every upstream with its servers, or the one called NAME.

    \b
    Example:
      slardar upstreams
      slardar upstreams www.example.com --json
    """
    if as_json:
        print_json(client.get("upstreams") if name is None else client.get("upstream", name))
        return
    if name is not None:
        # It says better than an empty table that there is none.
        client.get("upstream", name)
    rows = rows_of(client.get("status"))
    print_table(_HEADS, (_cells(row) for row in rows if name in (None, row.upstream)))


@click.command()
@json_option
@control_options
def routes(as_json: bool, client: Client) -> None:
    """Show the routes, in their order.

    \b
    Example:
      slardar routes
    """
    found = client.get("routes")
    if as_json:
        print_json(found)
        return
    print_table(
        ("HOST", "PATH", "UPSTREAM"),
        (
            (one.get("host", "*"), one.get("path") or one.get("path_regex", "*"), one["upstream"])
            for one in found
        ),
    )


@click.command()
@json_option
@control_options
def services(as_json: bool, client: Client) -> None:
    """Show the services that catalogues list, and how many servers each has.

    \b
    Example:
      slardar services
    """
    found = client.get("services")
    if as_json:
        print_json(found)
        return
    known = client.get("status").get("services", {})
    rows: list[Sequence[Cell]] = []
    for name, service in found.items():
        about = known.get(name, {})
        origin = next((key for key in service if key.endswith("_service")), "")
        trouble = about.get("lookup", {}).get("msg", about.get("note", ""))
        rows.append(
            (
                name,
                origin.removesuffix("_service"),
                str(service.get(origin, "")),
                str(about.get("servers", "")),
                str(about.get("looked_up") or "never"),
                (trouble, "red") if trouble else "",
            )
        )
    print_table(("NAME", "CATALOGUE", "SERVICE", "SERVERS", "LOOKED UP", "MESSAGE"), rows)


@click.command()
@json_option
@control_options
def certificates(as_json: bool, client: Client) -> None:
    """Show the certificates for clients, the one that expires first on top.

    \b
    Example:
      slardar certificates
    """
    found = client.get("certificates")
    if as_json:
        print_json(found)
        return
    print_table(
        ("NAME", "FOR", "KEY", "EXPIRES", "ISSUER", "FROM", "IN USE"),
        (
            (
                one["name"],
                ", ".join(one["names"]),
                one["kind"],
                one["expires"],
                one["issuer"],
                one["from"],
                ("yes", "green") if one["in_use"] else ("no", "yellow"),
            )
            for one in sorted(found, key=lambda one: str(one["expires"]))
        ),
    )


@click.command()
@click.option("--limit", default=20, show_default=True, help="So many changes.")
@click.option(
    "--version",
    "number",
    type=Whole("the number of a version", 0),
    help="The changes of this version, whole.",
)
@json_option
@control_options
def history(limit: int, number: int | None, as_json: bool, client: Client) -> None:
    """Show who has changed what, the newest change first.

    \b
    Example:
      slardar history --limit 5
      slardar history --version 12
    """
    if number is None:
        found = client.call("GET", ("history",), None, {"limit": str(limit)})
    else:
        found = client.get("history", str(number))
        if not as_json:
            found = found["changes"]
    if as_json:
        print_json(found)
        return
    for one in found:
        of = f" from {one['from']}" if one.get("from") else ""
        name = f"{one['kind']} {one['name']}".rstrip()
        click.echo(
            f"{click.style(str(one['version']), bold=True)}  {one['time']}  {name}", nl=False
        )
        click.echo(f"  by {one['who']}{of}")
        print_diff(one["diff"])


@click.command()
@click.argument("url")
@click.option("--method", default="GET", show_default=True)
@click.option("--client", "address", default="127.0.0.1", show_default=True, metavar="ADDRESS")
@click.option("-H", "--header", multiple=True, metavar="NAME: VALUE", help="A header line.")
@json_option
@control_options
def explain(
    url: str, method: str, address: str, header: tuple[str, ...], as_json: bool, client: Client
) -> None:
    """Show where a request for URL would go, and why.  Nothing is changed.

    \b
    Example:
      slardar explain http://www.example.com/cart?id=1
      slardar explain www.example.com/ -H 'X-Tenant: a' --client 192.0.2.1
    """
    parts = urlsplit(url if "//" in url else f"//{url}")
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    asked = [("host", parts.netloc), ("path", target), ("method", method), ("client", address)]
    asked += [("header", line) for line in header]
    found = client.call("GET", ("explain",), None, asked)
    if as_json:
        print_json(found)
        return
    for line in told(found):
        click.echo(line)
    rows = found["candidates"]
    if rows:
        click.echo()
        print_table(
            ("SERVER", "STATUS", "LEVEL", "WEIGHT", "ACTIVE", "WHY NOT", "NOTE"),
            (
                (
                    (one["server"], "bold") if one["server"] == found["server"] else one["server"],
                    styled(one["status"]),
                    one["level"],
                    str(one["weight"]),
                    str(one["active"]),
                    one["reason"],
                    one["note"],
                )
                for one in rows
            ),
        )


#: What leads to an upstream.
_BY = {
    "route": "by a route",
    "host": "by its Host",
    "wildcard": "by a wildcard",
    "default": "as the default upstream",
    "hook": "by a hook",
    "resource": "by a resource",
}


def told(found: Mapping[str, Any]) -> Iterator[str]:
    """The lines about a decision."""
    for hook in found["hooks"]:
        yield f"hook {hook.get('name', hook)}: {hook.get('outcome', '')}".rstrip(": ")
    for line in found["changes"]:
        yield f"  {line}"
    refusal = found["refusal"]
    if found["upstream"] is not None:
        by = _BY.get(found["by"], found["by"])
        route = found["route"]
        where = f" {route}" if route else ""
        yield f"upstream {found['upstream']}, {by}{where}"
    if refusal is not None:
        yield f"slardar answers {refusal['status']}: {refusal['reason']}"
    elif found["server"] is not None:
        yield f"server {found['server']}, by {found['balancer']} in level {found['level']}"
    if found["note"]:
        yield found["note"]
    if found["panic"]:
        yield "so few servers are in service that their health is ignored"
    if found["last_resort"]:
        yield "no server is in service; one that only its failures keep out is asked"
