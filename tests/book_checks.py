"""What each program takes: the words of a command on a page, without running it.

Every ``check`` raises :class:`WrongError` for what its program would refuse.
"""

from __future__ import annotations

import argparse
import getopt
import importlib
import importlib.metadata
import re
import shlex
import signal
import typing
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import click
import msgspec
import pytest
from twisted.python import usage
from twisted.scripts import twistd

from slardar.cli import main
from slardar.config import Settings
from slardar.control.calls import find_operations, read_parameters, split_path
from slardar.errors import SlardarError
from slardar.options import Options
from tests.book import simple_commands
from tests.integration.programs import CHECKOUT

__all__ = [
    "FOREIGN",
    "METHODS",
    "WrongError",
    "check_call",
    "check_options",
    "check_span",
    "check_words",
    "is_setting",
]

#: Programs that are not slardar's: why nothing here reads their words.
FOREIGN = {
    "cat": "every Unix has it",
    "consul": "Consul's own; tests/test_migrating.py runs most of it",
    "dpkg": "Debian's own; make test-deb runs it",
    "etcdctl": "etcd's own; tests/stores/etcd_server.py makes a role over the API",
    "grep": "every Unix has it",
    "jq": "jq's own; tests/test_docs.py runs what it can",
    "kubectl": "Kubernetes' own; the tests have a stand-in for its API only",
    "openssl": "a program of the reader's",
    "printf": "every Unix has it",
    "prometheus": "Prometheus' own; tests/integration/test_metrics.py checks the rules",
    "promtool": "Prometheus' own; tests/integration/test_metrics.py checks the rules",
    "sha256sum": "every Unix has it",
    "sleep": "every Unix has it",
    "sqlite3": "SQLite's own; tests/test_docs.py runs the commands on the page about the store",
    "umask": "every Unix has it",
    "zkCli.sh": "ZooKeeper's own",
}


class WrongError(Exception):
    """A command that its program would refuse."""


def check_curl(words: Sequence[str]) -> None:
    """A call of the control channel is one of the table of operations, with its parameters; a
    request goes to slardar's own port."""
    method, url, has_body, asks = "", "", False, False
    options, found = getopt.gnu_getopt(
        words,
        "X:H:d:F:GNsSi",
        ["data-binary=", "data-urlencode=", "cacert=", "cert=", "globoff", "unix-socket="],
    )
    for option, value in options:
        if option == "-X":
            method = value
        asks |= option == "-G"
        has_body |= option in ("-d", "-F") or option.startswith("--data")
    (url,) = found
    address = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    if address.hostname not in ("localhost", "127.0.0.1", "lb.example.com"):
        raise WrongError(f"{address.hostname} is no name of slardar")
    if address.port == 8080:
        return
    if address.port != 1995:
        raise WrongError(f"{address.port} is no port of slardar")
    method = method or ("POST" if has_body and not asks else "GET")
    operations = find_operations(split_path(address.path.encode()))
    if method not in operations:
        raise WrongError(f"no {method} of {address.path}, but {', '.join(operations)}")
    operation = operations[method]
    read_parameters(address.query.encode(), operation)
    if has_body and not asks and not operation.body:
        raise WrongError(f"{method} {address.path} takes no body")


def check_console(words: Sequence[str]) -> None:
    """The console's own parser takes the words."""
    command: click.Command | None = main
    context, rest = click.Context(main, info_name="slardar"), list(words)
    try:
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            name = rest.pop(0)
            command = command.get_command(context, name)
            if command is None:
                raise WrongError(f"no command {name}")
            context = click.Context(command, context, name)
        assert command is not None
        command.make_context(command.name, rest, parent=context.parent)
    except click.exceptions.Exit as ended:
        # --version and --help.
        if ended.exit_code != 0:
            raise
    except click.ClickException as error:
        raise WrongError(error.format_message()) from None


def check_twistd(words: Sequence[str]) -> None:
    """twistd's options, and those of slardar behind the plugin's name."""
    at = words.index("slardar") if "slardar" in words else len(words)
    for options, part in ((twistd.ServerOptions, words[:at]), (Options, words[at + 1 :])):
        taken: Any = options()
        try:
            rest = getopt.getopt(list(part), taken.shortOpt, taken.longOpt)[1]
        except getopt.GetoptError as error:
            raise WrongError(str(error)) from None
        if rest:
            raise WrongError(f"{rest[0]} is no option")
    if "--config" not in words and "--store" not in words and at < len(words):
        try:
            Options().parseOptions(list(words[at + 1 :]))
        except usage.UsageError as error:
            raise WrongError(str(error)) from None


def targets() -> Mapping[str, str]:
    """The targets of the Makefile that ``make help`` lists, and their recipes."""
    text = (CHECKOUT / "Makefile").read_text("utf-8")
    return dict(re.findall(r"^([a-z-]+):[^\n]*?## [^\n]*\n((?:\t[^\n]*\n)*)", text, re.MULTILINE))


def check_make(words: Sequence[str]) -> None:
    """The targets are there, and they take the variables."""
    recipes = targets()
    given = dict(word.split("=", 1) for word in words if "=" in word)
    for target in (word for word in words if "=" not in word):
        if target not in recipes:
            raise WrongError(f"no target {target} in the Makefile")
        for name, value in given.items():
            if f"$({name})" not in recipes[target]:
                raise WrongError(f"make {target} takes no {name}")
            module = re.search(r"-m (benchmarks\S*) \$\(ARGS\)", recipes[target])
            if module and name == "ARGS":
                check_benchmark(module[1], shlex.split(value))


class _ParsedError(Exception):
    """The options were taken."""


def check_benchmark(module: str, words: Sequence[str]) -> None:
    """The options of a program of ``benchmarks/``; it is not run."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser: Any, *_: object) -> None:
        try:
            parse(parser, list(words))
        except SystemExit as ended:
            raise WrongError(f"python -m {module} does not take {shlex.join(words)}") from ended
        raise _ParsedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        try:
            found = importlib.import_module(module)
            if not hasattr(found, "main"):
                found = importlib.import_module(f"{module}.__main__")
            found.main()
        except _ParsedError:
            return
        except ModuleNotFoundError as error:
            raise WrongError(str(error)) from None
    raise AssertionError(f"{module} reads no options")


def check_python(words: Sequence[str]) -> None:
    """A program of the checkout is there; a benchmark takes its options."""
    if words[0] == "-m" and words[1].startswith("benchmarks"):
        check_benchmark(words[1], words[2:])
    elif words[0] != "-m" and not (CHECKOUT / words[0]).is_file():
        raise WrongError(f"no file {words[0]}")


def extras() -> set[str]:
    """The optional extras of the package."""
    return set(importlib.metadata.metadata("txslardar").get_all("Provides-Extra") or ())


def check_pip(words: Sequence[str]) -> None:
    """What is installed is slardar, with extras that it has."""
    for word in words:
        named = re.fullmatch(r"txslardar(?:\[([\w,]+)\])?", word)
        if named:
            missing = set((named[1] or "").split(",")) - extras() - {""}
            if missing:
                raise WrongError(f"no extra {', '.join(missing)}")
        elif word not in ("install", "--upgrade", "-e", ".") and not word.startswith("dist/"):
            raise WrongError(f"{word} is no package of slardar")


def check_kill(words: Sequence[str]) -> None:
    """A signal that slardar takes, by its name."""
    if words[0] not in ("-HUP", "-USR1", "-USR2", "-TERM", "-9"):
        raise WrongError(f"slardar has nothing to do with {words[0]}")
    assert words[0] == "-9" or hasattr(signal, f"SIG{words[0][1:]}")


def check_docker(words: Sequence[str]) -> None:
    """Files that are named are there, and the command within the container is one of slardar."""
    for option, value in pairwise(words):
        if option == "--file" and not (CHECKOUT / value).is_file():
            raise WrongError(f"no file {value}")
    if words[0] == "build":
        assert (CHECKOUT / "Dockerfile").is_file()
    if "exec" in words:
        container, *command = words[words.index("exec") + 1 :]
        assert container == "slardar"
        check_words(command)


def check_systemctl(words: Sequence[str]) -> None:
    """The unit is the one of the package, which takes the signals that are sent to it."""
    unit = (CHECKOUT / "examples" / "slardar.service").read_text("utf-8")
    if words[-1] != "slardar":
        raise WrongError(f"no unit {words[-1]}")
    if words[0] == "reload":
        assert "\nExecReload=" in unit
    for word in words:
        if word.startswith("--signal="):
            check_kill([f"-{word.partition('=')[2]}"])


CHECKS: Mapping[str, Callable[[Sequence[str]], None]] = {
    "curl": check_curl,
    "docker": check_docker,
    "kill": check_kill,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "python3": check_python,
    "slardar": check_console,
    "slardar-twistd": check_twistd,
    "systemctl": check_systemctl,
    "twistd": check_twistd,
}


def check_words(words: Sequence[str]) -> None:
    """Check a command by its program.

    :raise WrongError: Its program would refuse it.
    """
    program = words[0].rpartition("/")[2]
    if program in CHECKS:
        try:
            CHECKS[program](words[1:])
        except (SlardarError, getopt.GetoptError) as error:
            raise WrongError(str(error)) from error
    elif program not in FOREIGN:
        raise WrongError(f"no check for {program}")


#: Options that the pages name without their program, and are none of slardar's.
OTHERS_OPTIONS = {
    *("--cap-drop", "--network", "--read-only", "--security-opt", "--stop-timeout"),  # Docker
    *("--sysctl", "--tmpfs", "--ulimit"),  # Docker
    *("--client-cert-auth", "--max-request-bytes", "--max-txn-ops"),  # etcd
    "--concurrency",  # Envoy
    "--globoff",  # curl
    *("-log", "-shm", "-wal"),  # The ends of files' names.
}


def known_options() -> set[str]:
    """The options of slardar's own programs, of the benchmarks, and of twistd."""

    def of(command: click.Command) -> Iterator[str]:
        for parameter in command.params:
            yield from parameter.opts
        if isinstance(command, click.Group):
            for inner in command.commands.values():
                yield from of(inner)

    found = {"--help", *of(main)}
    for options in (twistd.ServerOptions, Options):
        taken: Any = options()
        found |= {f"--{name.rstrip('=')}" for name in taken.longOpt}
        found |= {f"-{name}" for name in taken.shortOpt if name != ":"}
    for source in (CHECKOUT / "benchmarks").rglob("*.py"):
        found |= set(re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", source.read_text("utf-8")))
    return found


KNOWN_OPTIONS = known_options()


def check_options(text: str) -> None:
    """Options without their command are those of some program."""
    options = {word for word in text.split() if re.match(r"--?[a-z]", word)}
    unknown = {option.partition("=")[0] for option in options} - KNOWN_OPTIONS - OTHERS_OPTIONS
    if unknown:
        raise WrongError(f"no program has {', '.join(unknown)}")


METHODS = "GET|PUT|POST|PATCH|DELETE|HEAD"


def check_call(text: str) -> None:
    """A call as the pages write it within a line: ``PUT /upstream/NAME?reload=1``."""
    method, path = text.split(" ")[:2]
    path, _, query = path.partition("?")
    parts = [{"LANGUAGE": "python"}.get(part, part) for part in path.split("/")[1:]]
    try:
        operation = find_operations(parts).get(method)
    except SlardarError as error:
        raise WrongError(str(error)) from None
    if operation is None:
        raise WrongError(f"no {method} of {path}")
    known = {parameter.name for parameter in operation.parameters}
    given = {pair.partition("=")[0] for pair in query.split("&") if pair}
    if given - known:
        raise WrongError(f"{path} has no {', '.join(given - known)}")


def check_span(text: str) -> None:
    """A command within a line, of which the page may show the beginning only."""
    words = next(iter(simple_commands(text)), [])
    program, rest = words[0], words[1:]
    if program == "slardar":
        command: click.Command | None = main
        while isinstance(command, click.Group) and rest and re.match("[a-z]", rest[0]):
            command = command.get_command(click.Context(command), rest.pop(0))
            if command is None:
                raise WrongError("no such command")
        assert command is not None
        known = set(command.get_help_option_names(click.Context(command))) | {
            option for parameter in command.params for option in parameter.opts
        }
        unknown = {word for word in rest if word.startswith("-")} - known
        if unknown:
            raise WrongError(f"no option {', '.join(unknown)}")
    elif program == "twistd":
        check_words([word for word in words if word != "…"])
    elif program != "python" or "-m" in words:
        check_words(words)


def keys_of(kind: Any) -> dict[str, Any]:
    """The keys of a setting that is an object, of one type or of several, and their types."""
    parts = typing.get_args(kind)
    # Only now: Python 3.10 takes tuple[...] for a type.
    if not parts and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {one.name: one.type for one in msgspec.structs.fields(kind)}
    return {name: inner for part in parts for name, inner in keys_of(part).items()}


def is_setting(path: str) -> bool:
    """Whether there is a setting at a path such as ``limits.body``."""
    kind: Any = Settings
    for key in path.split("."):
        keys = keys_of(kind)
        if key not in keys:
            return False
        kind = keys[key]
    return True
