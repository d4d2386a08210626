"""The commands ``slardar push``, ``slardar hooks`` and ``slardar try``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from ssl import PEM_cert_to_DER_cert
from typing import Any

import click

from slardar.console.client import Client
from slardar.console.options import Whole, control_options
from slardar.console.output import columns
from slardar.errors import ConfigError, printable
from slardar.hooks.trial import Trial, read_body, read_reply, read_request
from slardar.http1.tls import TlsFacts
from slardar.http1.told_tls import told_tls
from slardar.model.hook import check_new_hook_name
from slardar.model.networks import read_address
from slardar.model.reader import shown
from slardar.model.setting import settings_in_use

__all__ = ["hooks", "push", "try_hook"]

_LANGUAGES = {".lua": "lua", ".py": "python"}


def _language(file: str, language: str | None) -> str:
    found = language or _LANGUAGES.get(Path(file).suffix)
    if found is None:
        raise click.UsageError(f"{file}: expected a name that ends in .py or .lua, or --language")
    return found


def _checked_name(language: str, name: str) -> None:
    try:
        check_new_hook_name(language, name, "--as")
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None


_language_option = click.option(
    "--language",
    type=click.Choice(["lua", "python"]),
    help="By default what the file's name ends in: .py or .lua.",
)


@click.command()
@click.argument("file", type=click.Path())
@click.option("--as", "name", required=True, metavar="NAME", help="script.HOST or modules.X.")
@_language_option
@click.option("--stage", is_flag=True, help="Only post it; what is in service stays.")
@click.option("--shadow", is_flag=True, help="Post it, and run it beside what is in service.")
@click.option(
    "--canary",
    type=Whole("a percentage from 1 to 99", 1, 99),
    metavar="PERCENT",
    help="Activate it for so many of a hundred requests.",
)
@click.option(
    "--on-error",
    type=click.Choice(["continue", "previous", "reject"]),
    help="What becomes of a request when the hook fails.",
)
@control_options
def push(
    file: str,
    name: str,
    language: str | None,
    stage: bool,
    shadow: bool,
    canary: int | None,
    on_error: str | None,
    client: Client,
) -> None:
    """Post FILE as a hook, and put it into service.

    It is in service on every worker when the command ends; where the code is refused,
    nothing has changed.

    \b
    Example:
      slardar push tenant.py --as script.www.example.com
      slardar push tenant.py --as script.www.example.com --shadow
    """
    language = _language(file, language)
    _checked_name(language, name)
    if sum((stage, shadow, canary is not None)) > 1:
        raise click.UsageError("expected one of --stage, --shadow and --canary")
    parameters = {} if on_error is None else {"on_error": on_error}
    if shadow:
        parameters["shadow"] = "1"
    elif not stage:
        # One call, so that a version which cannot be activated is not left staged.
        parameters["activate"] = "1"
        if canary is not None:
            parameters["canary"] = str(canary)
    client.call("POST", (language, name), _read(file), parameters)
    about = client.get(language, name)
    posted = about if not stage and not shadow and canary is None else about["staged"]
    for line in posted.get("warnings", ()):
        click.echo(f"warning: {name}: {line}", err=True)
    if stage or shadow:
        version = posted["version"]
        done = "runs in the shadow" if shadow else "is staged"
        click.echo(f"{name} ({language}) {version} {done}")
        if shadow:
            click.echo(f"what it does differently: slardar hooks --shadow {name}")
        return
    if canary is not None:
        version = posted["version"]
        click.echo(f"{name} ({language}) {version} is in service for {canary} % of requests")
    else:
        click.echo(f"{name} ({language}) {about['version']} is in service")


@click.command()
@click.option("--shadow", metavar="NAME", help="What the version in the shadow would change.")
@click.option("--activate", metavar="NAME", help="Put what is staged into service.")
@click.option("--rollback", metavar="NAME", help="Go back to the version before, at once.")
@click.option("--rm", "remove", metavar="NAME", help="Remove a hook with all its versions.")
@click.option(
    "--language",
    type=click.Choice(["lua", "python"]),
    help="Where a name has a hook in each.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
@control_options
def hooks(
    shadow: str | None,
    activate: str | None,
    rollback: str | None,
    remove: str | None,
    language: str | None,
    as_json: bool,
    client: Client,
) -> None:
    """Show the hooks, or do something with one of them.

    \b
    Example:
      slardar hooks
      slardar hooks --shadow script.www.example.com
      slardar hooks --activate script.www.example.com
    """
    chosen = [name for name in (shadow, activate, rollback, remove) if name is not None]
    if len(chosen) > 1:
        raise click.UsageError("expected one of --shadow, --activate, --rollback and --rm")
    if not chosen:
        _show(client, language, as_json)
        return
    (name,) = chosen
    language = language or _find_language(client, name)
    if shadow is not None:
        report = client.get(language, name, "shadow")
        click.echo(json.dumps(report, indent=2) if as_json else _shadow_text(report))
        return
    if activate is not None:
        answer = client.call("PUT", (language, name))
        done = "is in service"
    elif rollback is not None:
        answer = client.call("PUT", (language, name), None, {"rollback": "1"})
        done = "is back at the version before"
    else:
        answer = client.call("DELETE", (language, name))
        done = "is gone"
    click.echo(json.dumps(answer) if as_json else f"{name} ({language}) {done}")


def _find_language(client: Client, name: str) -> str:
    found = [
        language
        for language in ("lua", "python")
        if any(hook["name"] == name for hook in _known(client, language))
    ]
    if len(found) != 1:
        raise click.ClickException(
            f"no hook {name}" if not found else f"{name} is a hook in both: use --language"
        )
    return found[0]


def _known(client: Client, language: str) -> list[dict[str, Any]]:
    """Every hook of a language, in service or only staged."""
    answer = client.get(language)
    staged = [hook for hook in answer["staged"] if hook["active"] is None]
    return sorted([*answer["modules"], *staged], key=lambda hook: str(hook["name"]))


def _show(client: Client, language: str | None, as_json: bool) -> None:
    languages = ("lua", "python") if language is None else (language,)
    found = [hook for one in languages for hook in _known(client, one)]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    rows: list[tuple[str, ...]] = [
        ("LANGUAGE", "NAME", "VERSION", "STATE", "CALLS", "ERRORS", "MEAN", "P99", "")
    ]
    for hook in found:
        rows.append(
            (
                hook["language"],
                hook["name"],
                hook["version"][:8],
                hook["state"],
                str(hook.get("calls", "")),
                str(hook.get("errors", "")),
                f"{hook['mean_us']} us" if "mean_us" in hook else "",
                f"{hook['p99_us']} us" if "p99_us" in hook else "",
                _also(hook),
            )
        )
    click.echo(columns(rows))


def _also(hook: dict[str, Any]) -> str:
    """What is staged, and why the version in service does not run."""
    return "; ".join(filter(None, (_staged(hook), printable(hook.get("error") or ""))))


def _staged(hook: dict[str, Any]) -> str:
    staged = hook.get("staged")
    if staged is None:
        return ""
    version = staged["version"][:8]
    if "canary" in staged:
        return f"{version} for {staged['canary']} %"
    return f"{version} in the shadow" if staged.get("shadow") else f"{version} staged"


def _shadow_text(report: dict[str, Any]) -> str:
    compared, differing = report["compared"], report["differing"]
    share = f" ({differing / compared:.1%})" if compared else ""
    lines = [
        f"{report['name']} ({report['language']}) {report['version']} beside {report['active']}",
        f"{compared} requests compared, {differing} would differ{share}, {report['errors']} errors",
        f"mean {report['mean_us']} us, p99 {report['p99_us']} us",
    ]
    for example in report["examples"]:
        lines.append(f"\n{example['request']}")
        for which in ("active", "staged"):
            lines.append(f"  {which}: {json.dumps(example[which], sort_keys=True)}")
    return "\n".join(lines)


@click.command("try")
@click.argument("file", type=click.Path())
@click.option(
    "--request",
    "request_file",
    required=True,
    type=click.Path(),
    metavar="FILE.http",
    help="A request as it is on the wire; lines may end in LF. '-' reads standard input.",
)
@click.option(
    "--response",
    "response_file",
    type=click.Path(),
    metavar="FILE.http",
    help="The server's reply, for a hook that looks at replies.",
)
@click.option(
    "--module",
    "modules",
    multiple=True,
    metavar="NAME=FILE",
    help="A module that it uses: modules.x=FILE.",
)
@click.option(
    "--setting",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting that it reads: JSON, or a text.",
)
@click.option("--as", "name", default="script.*", show_default=True, metavar="NAME")
@_language_option
@click.option("--client", default="127.0.0.1", show_default=True, help="Who is connected.")
@click.option(
    "--trusted",
    multiple=True,
    metavar="NETWORK",
    help="A network whose X-Forwarded-For and the like are believed.",
)
@click.option("--tls", is_flag=True, help="The request comes over TLS, for its Host.")
@click.option(
    "--client-cert",
    metavar="FILE",
    help="A certificate in PEM that the client has shown, and that was verified; with --tls.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
def try_hook(
    file: str,
    request_file: str,
    response_file: str | None,
    modules: tuple[str, ...],
    pairs: tuple[str, ...],
    name: str,
    language: str | None,
    client: str,
    trusted: tuple[str, ...],
    tls: bool,
    client_cert: str | None,
    as_json: bool,
) -> None:
    """Run the hook in FILE for one request, without a running slardar, and show what it does.

    Ends with 0 if the request goes on or gets the hook's answer, with 1 if the code is
    refused or the hook fails.

    \b
    Example:
      slardar try tenant.py --request cart.http
      printf 'GET / HTTP/1.1\\nHost: a\\n\\n' | slardar try tenant.py --request -
    """
    language = _language(file, language)
    _checked_name(language, name)
    if read_address(client.encode()) is None:
        raise click.UsageError(
            f"--client: expected an address such as 192.0.2.1, or unix:, got {shown(client)}"
        )
    sources = {}
    for pair in modules:
        module, separator, place = pair.partition("=")
        if not separator or not module.startswith("modules."):
            raise click.UsageError(f"--module: expected modules.NAME=FILE, got {pair}")
        sources[module] = _text(place, _read(place))
    data = sys.stdin.buffer.read() if request_file == "-" else _read(request_file)
    try:
        request = read_request(data, request_file, client, trusted)
        if tls or client_cert is not None:
            facts = _told_tls(request.host, client_cert)
            request = read_request(data, request_file, client, trusted, facts)
        body = read_body(data, request_file, request)
        reply = None
        if response_file is not None:
            reply = read_reply(_read(response_file), response_file, request)
        values = _settings(pairs)
        trial = Trial(language, name, _text(file, _read(file)), sources, values=values)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    outcome = trial.run(request, reply, body)
    if as_json:
        click.echo(json.dumps(outcome, indent=2))
    else:
        click.echo(_outcome_text(outcome))
    if outcome["outcome"] == "failed":
        raise SystemExit(1)


def _told_tls(host: str, client_cert: str | None) -> TlsFacts:
    """The TLS of a client that has asked for a host.  Raises ConfigError."""
    if client_cert is None:
        return told_tls(name=host)
    try:
        found = PEM_cert_to_DER_cert(_text(client_cert, _read(client_cert)))
        return told_tls(name=host, certificate=found)
    except ValueError:
        raise ConfigError(
            f"--client-cert: expected a certificate in PEM in {client_cert}"
        ) from None


def _settings(pairs: Iterable[str]) -> Mapping[str, str]:
    """The settings of the options, as JSON texts by name.  Raises ConfigError."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise click.UsageError(f"--setting: expected NAME=VALUE, got {pair}")
        try:
            values[name] = json.loads(text)
        except (ValueError, RecursionError):
            if text.lstrip()[:1] in ("{", "[", '"'):
                raise click.UsageError(
                    f"--setting: expected JSON or a text behind =, got {pair}"
                ) from None
            values[name] = text
    found, failed = settings_in_use({}, values, {}, {})
    if failed:
        raise ConfigError(list(failed.values()))
    return found


def _text(file: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file}: expected UTF-8 ({error.reason})") from None


def _outcome_text(outcome: dict[str, Any]) -> str:
    lines = [f"log: {line}" for line in outcome["log"]]
    what = outcome["outcome"]
    if what == "failed":
        lines.append(f"failed: {outcome['error']}")
    elif what == "closed":
        lines.append("the connection is closed without a reply")
    elif what == "answered":
        lines.append("answered:")
        lines += [f"  {line}" for line in outcome["reply"].splitlines()]
    else:
        for key in ("upstream", "hash_key", "cluster_key"):
            if outcome.get(key) is not None:
                lines.append(f"{key}: {outcome[key]}")
        lines.append("the request goes on as:" if outcome["changes"] else "the request goes on:")
        lines += [f"  {line}" for line in outcome["request"].splitlines()]
        lines += [f"  changed: {change}" for change in outcome["changes"]]
        if "body" in outcome:
            lines.append("with the body:")
            lines += [f"  {line}" for line in outcome["body"].splitlines()]
        if "reply" in outcome:
            lines.append("the reply goes on as:")
            lines += [f"  {line}" for line in outcome["reply"].splitlines()]
            lines += [f"  changed: {change}" for change in outcome["reply_changes"]]
    lines.append(f"took {outcome['microseconds']} us")
    return "\n".join(lines)
