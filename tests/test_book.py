"""Every command in the book is one that its program takes.

Not every command can be run where the tests run.  Each of them is still read by the program's own
parser: a curl call by the table of operations, ``slardar`` by the console's commands, ``twistd
slardar`` by its options, ``make`` by the Makefile and the benchmarks' options.  What is run, and
that it prints what the page shows, is in ``tests/test_docs.py``.
"""

from __future__ import annotations

import argparse
import getopt
import importlib
import re
import runpy
import shlex
import signal
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import setuptools
from twisted.python import usage
from twisted.scripts import twistd

from slardar.cli import main
from slardar.control.calls import find_operations, read_parameters, split_path
from slardar.errors import SlardarError
from slardar.options import Options
from tests.book import EVERY_PAGE, code_spans, commands, fences, simple_commands, written
from tests.integration.programs import CHECKOUT

by_page = pytest.mark.parametrize(
    "page", EVERY_PAGE, ids=lambda page: str(page.relative_to(CHECKOUT))
)

#: Kinds of fenced blocks.  Commands are in ``console``, with what they print, and in ``sh``.
KINDS = {"console", "hcl", "js", "json", "lua", "python", "sh", "text", "yaml", "{toctree}"}

#: Programs that are not slardar's: why nothing here reads their words.
FOREIGN = {
    "cat": "every Unix has it",
    "consul": "Consul's own; tests/test_migrating.py runs most of it",
    "dpkg": "Debian's own; make test-deb runs it",
    "etcdctl": "etcd's own; tests/stores/etcd_server.py makes a role over the API",
    "grep": "every Unix has it",
    "jq": "its own; tests/test_docs.py runs what it can",
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

#: Code within lines that looks like slardar's, and is not.
ELSEWHERE = {
    ("GET /page/NAME", "architecture.md"),  # Of the dashboard, which the same port serves.
    ("GET /version", "services.md"),  # Of Docker.
    ("POST /v1/traces", "tracing.md"),  # Of a collector.
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
    with pytest.MonkeyPatch.context() as patch:
        kept: dict[str, Any] = {}
        patch.chdir(CHECKOUT)
        patch.setattr(setuptools, "setup", lambda **words: kept.update(words))
        runpy.run_path("setup.py")
    return set(kept["extras_require"])


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


@by_page
def test_commands_are_taken(page: Path) -> None:
    """Each program takes its words, as far as the words can be read without it."""
    for command in written(page):
        try:
            check_words(command.words)
        except WrongError as error:
            pytest.fail(f"{command.place}\n{error}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("curl -X PATCH localhost:1995/upstream/a", "no PATCH"),
        ("curl localhost:1995/upstrem/a", "no such path"),
        ("curl 'localhost:1995/history?limits=1'", "unknown parameter"),
        ("curl 'localhost:1995/history?limit=one'", "expected"),
        ("curl -X DELETE localhost:1995/routes -d '[]'", "takes no body"),
        ("curl localhost:1996/status", "no port"),
        ("curl example.com/status", "no name"),
        ("curl --header-x a localhost:1995/status", "not recognized"),
        ("slardar drian a b:1", "no command drian"),
        ("slardar drain a b:1 --waits 30", "No such option"),
        ("slardar drain a", "Missing argument"),
        ("slardar set a b:port", "expected"),
        ("slardar weight a b:1 five", "not a valid"),
        ("slardar store copi a b", "no command copi"),
        ("twistd slardar --chek", "not recognized"),
        ("twistd --nodaemn slardar", "not recognized"),
        ("twistd slardar again", "no option"),
        ("twistd slardar --workers many", "expected"),
        ("make soke", "no target"),
        ("make run PYTHONS=python3", "takes no PYTHONS"),
        ("make bench ARGS='--quikc'", "does not take"),
        ("python -m benchmarks.events --rate", "does not take"),
        ("python -m benchmarks.evnts", "No module"),
        ("python examples/none.py", "no file"),
        ("pip install 'txslardar[none]'", "no extra none"),
        ("pip install slardar", "no package"),
        ("kill -INFO 1", "nothing to do"),
        ("docker compose --file none.yaml up", "no file"),
        ("docker exec slardar slardar stats", "no command stats"),
        ("systemctl reload slradar", "no unit"),
        ("slardard status", "no check for slardard"),
    ],
)
def test_wrong_commands_are_found(text: str, reason: str) -> None:
    """Each check can fail."""
    (words,) = simple_commands(text)
    with pytest.raises(WrongError, match=reason):
        check_words(words)


def test_commands_are_found_in_lines_for_a_shell() -> None:
    """In pipes, after variables, in loops, in parentheses and across lines; no comment is one."""
    text = (
        "A=1 twistd -n slardar | grep x > file; until curl -s a/$b; do sleep 1; done  # no command"
    )
    assert list(simple_commands(text)) == [
        ["twistd", "-n", "slardar"],
        ["grep", "x"],
        ["curl", "-s", "a/$b"],
        ["sleep", "1"],
    ]
    assert list(simple_commands("old=$(cat a); (umask 077 && kill -HUP $old)")) == [
        ["cat", "a"],
        ["umask", "077"],
        ["kill", "-HUP", "$old"],
    ]
    shown = list(commands("$ a 'b\nc'\nsaid\n# said, too\n$ d \\\n  e\nsaid\n"))
    assert [(one.words, one.answer) for one in shown] == [
        (["a", "b\nc"], "said\n# said, too"),
        (["d", "e"], "said"),
    ]
    assert [one.words for one in commands("# a\nsaid\n")] == [["a"]]


@by_page
def test_blocks_have_a_kind(page: Path) -> None:
    """Without one, a block would be read by no test; and a command in a text is none."""
    for block in fences(page.read_text("utf-8")):
        assert block.kind in KINDS, f"{page.name}:{block.line}"
        if block.kind == "text":
            assert not re.search(r"^[$#] \S", block.text, re.MULTILINE), f"{page.name}:{block.line}"
        if block.kind == "console":
            assert re.match(r"[$#] ", block.text), f"{page.name}:{block.line}"


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


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (check_call, "PATCH /upstream/NAME"),
        (check_call, "GET /upstrems"),
        (check_call, "PUT /upstream/NAME?relaod=1"),
        (check_options, "--exit-cod"),
        (check_options, "--workers N --chek"),
        (check_span, "slardar stats"),
        (check_span, "slardar diff --exit-cod"),
        (check_span, "slardar store chekc"),
        (check_span, "make bnech"),
        (check_span, "python -m benchmarks.health --trns 60"),
    ],
)
def test_wrong_code_within_lines_is_found(check: Callable[[str], None], text: str) -> None:
    """Each check can fail."""
    with pytest.raises(WrongError):
        check(text)


@by_page
def test_commands_within_lines_are_taken(page: Path) -> None:
    """A command and its options, and a call with its parameters."""
    pattern = re.compile(rf"(slardar|twistd|make|pip|python|kill) \S|({METHODS}) /[a-z]|--?[a-z]")
    for line, text in code_spans(page.read_text("utf-8")):
        found = pattern.match(text)
        if not found or (text, page.name) in ELSEWHERE:
            continue
        check = check_call if found[2] else check_options if text.startswith("-") else check_span
        try:
            check(text)
        except WrongError as error:
            pytest.fail(f"{page.name}:{line}: {text}\n{error}")


#: Pages whose commands are in ``sh`` blocks, which tests/test_docs.py does not run: why.
SCRIPTS = {
    "docs/benchmarks.md": "they measure for minutes",
    "docs/control.md": "the host is the reader's, and the digest is new each time",
    "docs/services.md": "Docker and Kubernetes are the reader's; tests/catalogues has stand-ins",
    "docs/soak.md": "they take an hour; tests/integration/test_soak.py runs parts for seconds",
    "docs/store.md": "the file is the reader's; test_commands_about_the_file has another",
    "docs/stores.md": "the stores are the reader's; tests/stores writes to real ones",
    "examples/fleet/README.md": "tests/integration/test_fleet.py runs it",
    "examples/monitoring/README.md": "tests/integration/test_metrics.py checks the rules",
}


def test_scripts_have_their_reason() -> None:
    """A page with commands that are not run says here why; all others use ``console``."""
    found = {
        str(page.relative_to(CHECKOUT))
        for page in EVERY_PAGE
        for block in fences(page.read_text("utf-8"))
        if block.kind == "sh"
    }
    assert found == set(SCRIPTS)
    for reason in (*SCRIPTS.values(), *FOREIGN.values()):
        for place in re.findall(r"tests/[\w/.]+", reason):
            assert (CHECKOUT / place).exists(), reason


_SHOWN = "tests/integration/test_shown_lines.py"
#: Texts of the pages: a page, what is in the text, and which test holds it, or why none does.
TEXTS = (
    ("access-log.md", '"time"', _SHOWN),
    ("access-log.md", " - - [", _SHOWN),
    ("access-log.md", "imtcp", "rsyslog's own configuration"),
    ("architecture.md", " v\n", "pictures; tests/test_architecture.py looks for their files"),
    ("balancers.md", "cost = ", "a formula"),
    ("balancers.md", "score = ", "a formula"),
    ("control.md", "version 7: ", _SHOWN),
    ("control.md", "refused with 403: ", _SHOWN),
    ("health.md", "is out of service", _SHOWN),
    ("history.md", '"file"', _SHOWN),
    ("hooks-python.md", "KeyError", "tests/hooks/python/test_page.py"),
    ("http.md", "502 for", f"{_SHOWN}; tests/dataplane/test_failurelog.py has the second line"),
    ("http.md", '{"status": 502', "tests/test_docs.py: troubleshooting.md has it, too"),
    ("http.md", "X-Forwarded-For: ", "tests/http1/test_forwarded.py"),
    ("http.md", "Forwarded: for=", "tests/http1/test_forwarded.py"),
    ("normal.md", "", "tests/integration/test_normal.py"),
    ("running.md", '"age"', "tests/integration/test_upgrade.py"),
    ("running.md", "not upgraded: ", "tests/integration/test_upgrade.py"),
    ("running.md", '"level"', _SHOWN),
    ("store.md", ": damaged (", "SQLite's words; tests/stores/test_sqlite_file.py has some"),
    ("stores.md", "stored and left out: ", "tests/control/test_watched_store.py"),
)


def test_texts_have_their_test() -> None:
    """Each text is of the table once, each entry has its text, and the tests are there."""
    found = {
        (page.name, block.text)
        for page in EVERY_PAGE
        for block in fences(page.read_text("utf-8"))
        if block.kind == "text"
    }
    for name, text in found:
        entries = [one for one in TEXTS if one[0] == name and one[1] in text]
        assert len(entries) == 1, (name, text, entries)
    for name, part, reason in TEXTS:
        assert any(name == page and part in text for page, text in found), (name, part)
        for file in re.findall(r"tests/\S+\.py", reason):
            assert (CHECKOUT / file).is_file(), reason
