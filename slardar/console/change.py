"""The commands that change a running slardar: upstreams, their servers, and the way back."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from slardar.console.client import Client
from slardar.console.completion import complete_server, complete_upstream
from slardar.console.options import Number, Whole, control_options, json_option
from slardar.console.output import print_diff, print_json
from slardar.console.show import rows_of
from slardar.errors import printable
from slardar.model.names import split_host_port

__all__ = ["add", "drain", "rm", "rollback", "set_upstream", "up", "weight"]

#: Seconds between two looks at a server that drains.
_LOOK = 0.2


def _read_server(text: str) -> dict[str, Any]:
    """A server as a call takes it, from ``HOST:PORT``."""
    found = split_host_port(text)
    if found is None:
        raise click.BadParameter(f"expected HOST:PORT, got {printable(text)}")
    return {"host": found[0], "port": found[1]}


def _read_weighted(text: str) -> dict[str, Any]:
    """The same from ``HOST:PORT=WEIGHT``, too."""
    place, equals, weight = text.partition("=")
    server = _read_server(place)
    if equals:
        if not weight.isascii() or not weight.isdigit():
            raise click.BadParameter(f"expected a number behind =, got {printable(weight)}")
        server["weight"] = int(weight)
    return server


_name = click.argument("name", shell_complete=complete_upstream)
_server = click.argument(
    "server", type=_read_server, metavar="HOST:PORT", shell_complete=complete_server
)


def _key(server: dict[str, Any]) -> str:
    host = server["host"]
    return f"[{host}]:{server['port']}" if ":" in host else f"{host}:{server['port']}"


def _told(answer: Any, as_json: bool, text: str) -> None:
    if as_json:
        print_json(answer)
    else:
        click.echo(printable(text))


@click.command("set")
@_name
@click.argument(
    "servers", nargs=-1, required=True, type=_read_weighted, metavar="HOST:PORT[=WEIGHT]..."
)
@click.option("--mode", help="The balancer: wrr, least_conn, p2c, hash and the like.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY=VALUE",
    help="A further key of the upstream; the value is JSON, or a text.",
)
@json_option
@control_options
def set_upstream(
    name: str,
    servers: tuple[dict[str, Any], ...],
    mode: str | None,
    keys: tuple[str, ...],
    as_json: bool,
    client: Client,
) -> None:
    """Make the upstream NAME of these servers, or give it these in the place of those it has.

    Other keys of an upstream that is there stay.  Every worker serves it when the command ends.

    \b
    Example:
      slardar set www.example.com 127.0.0.1:8001 127.0.0.1:8002=2 --mode least_conn
      slardar set www.example.com 127.0.0.1:8001 --key keepalive=20
    """
    body: dict[str, Any] = {"servers": list(servers)}
    if mode is not None:
        body["mode"] = mode
    for pair in keys:
        key, equals, text = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--key: expected KEY=VALUE, got {printable(pair)}")
        try:
            body[key] = json.loads(text)
        except (ValueError, RecursionError):
            body[key] = text
    data = json.dumps(body).encode()
    answer = client.call("PUT", ("upstream", name), data, {"receipt": "1"})
    count = f"{len(servers)} server{'' if len(servers) == 1 else 's'}"
    _told(answer, as_json, f"{name} has {count}, as version {answer['version']}")


@click.command()
@_name
@_server
@click.option("--weight", type=Whole("a weight such as 2", 0))
@click.option("--backup", is_flag=True, help="Only for when no other server is available.")
@json_option
@control_options
def add(
    name: str,
    server: dict[str, Any],
    weight: int | None,
    backup: bool,
    as_json: bool,
    client: Client,
) -> None:
    """Add a server to the upstream NAME.

    \b
    Example:
      slardar add www.example.com 127.0.0.1:8003 --weight 2
    """
    body: dict[str, Any] = {}
    if weight is not None:
        body["weight"] = weight
    if backup:
        body["backup"] = True
    path = ("upstream", name, _key(server))
    answer = client.call("POST", path, json.dumps(body).encode(), {"receipt": "1"})
    _told(answer, as_json, f"{_key(server)} serves {name}, as version {answer['version']}")


@click.command()
@_name
@_server
@click.option(
    "--wait",
    "seconds",
    type=Number("a number of seconds", 0),
    metavar="SECONDS",
    help="End only when no request is under way on it; at most after so many seconds.",
)
@json_option
@control_options
def drain(
    name: str, server: dict[str, Any], seconds: float | None, as_json: bool, client: Client
) -> None:
    """Give a server of the upstream NAME no new requests; those under way finish.

    `slardar up` ends it.

    \b
    Example:
      slardar drain www.example.com 127.0.0.1:8001 --wait 30
    """
    answer = _patch(client, name, server, {"state": "drain"})
    key = _key(server)
    active = None if seconds is None else _waited(client, name, key, seconds)
    if active:
        raise click.ClickException(f"{key} drains, and {active} requests are still under way on it")
    about = "drains" if seconds is None else "drains, and no request is under way on it"
    _told(answer, as_json, f"{key} of {name} {about}")


def _waited(client: Client, name: str, key: str, seconds: float) -> int:
    """How many requests are under way on a server after so many seconds, or as soon as there are
    none."""
    end = time.monotonic() + seconds
    while True:
        rows = rows_of(client.get("status"))
        active = sum(row.active for row in rows if (row.upstream, row.server) == (name, key))
        if not active or time.monotonic() >= end:
            return active
        # A command has no reactor that this could block.
        time.sleep(_LOOK)  # noqa: TID251


@click.command()
@_name
@_server
@json_option
@control_options
def up(name: str, server: dict[str, Any], as_json: bool, client: Client) -> None:
    """Give a server of the upstream NAME requests again, after `slardar drain`.

    \b
    Example:
      slardar up www.example.com 127.0.0.1:8001
    """
    answer = _patch(client, name, server, {"state": "up"})
    _told(answer, as_json, f"{_key(server)} of {name} gets requests again")


@click.command()
@_name
@_server
@click.argument("number", type=Whole("a weight such as 2", 0), metavar="WEIGHT")
@json_option
@control_options
def weight(name: str, server: dict[str, Any], number: int, as_json: bool, client: Client) -> None:
    """Change the weight of a server of the upstream NAME.

    \b
    Example:
      slardar weight www.example.com 127.0.0.1:8001 5
    """
    answer = _patch(client, name, server, {"weight": number})
    _told(answer, as_json, f"{_key(server)} of {name} has the weight {number}")


def _patch(client: Client, name: str, server: dict[str, Any], body: dict[str, Any]) -> Any:
    path = ("upstream", name, _key(server))
    return client.call("PATCH", path, json.dumps(body).encode(), {"receipt": "1"})


@click.command()
@_name
@click.argument(
    "server",
    type=_read_server,
    required=False,
    metavar="[HOST:PORT]",
    shell_complete=complete_server,
)
@json_option
@control_options
def rm(name: str, server: dict[str, Any] | None, as_json: bool, client: Client) -> None:
    """Remove the upstream NAME, or one of its servers.  Requests under way finish.

    \b
    Example:
      slardar rm www.example.com 127.0.0.1:8001
      slardar rm www.example.com
    """
    path = ("upstream", name) if server is None else ("upstream", name, _key(server))
    answer = client.call("DELETE", path, None, {"receipt": "1"})
    what = name if server is None else f"{_key(server)} of {name}"
    _told(answer, as_json, f"{what} is gone, as version {answer['version']}")


@click.command()
@click.argument("version", type=Whole("the number of a version", 0))
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@control_options
def rollback(version: int, yes: bool, as_json: bool, client: Client) -> None:
    """Go back to the configuration of VERSION, as a new version.

    Shows what was changed since, and asks.  `slardar history` shows the versions.

    \b
    Example:
      slardar rollback 12
      slardar rollback 12 --yes
    """
    headers = {}
    if not yes:
        asked = client.ask("GET", ("history",), None, {"limit": "1000"})
        since = [one for one in asked.value if one["version"] > version]
        if not since:
            raise click.ClickException(f"nothing was changed since version {version}")
        for one in since:
            name = f"{one['kind']} {one['name']}".rstrip()
            click.echo(printable(f"taken back: version {one['version']} by {one['who']}, {name}"))
            print_diff(one["diff"])
        click.confirm(f"Go back to version {version}?", abort=True, err=True)
        # Of what was shown, and of nothing else.
        headers = {"If-Match": asked.etag}
    answer = client.call("POST", ("rollback", str(version)), None, {"receipt": "1"}, headers)
    _told(answer, as_json, f"as at version {version}: version {answer['version']}")
    if not as_json:
        for place in answer.get("file", ()):
            click.echo(printable(f"not taken back, for the file says it: {place}"))
