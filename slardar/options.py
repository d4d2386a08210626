"""The command line options of ``twistd slardar``.

An option wins over the same setting in the file.  The whole configuration is checked
before anything is started; ``--check`` stops after the check.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import msgspec
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.python import usage

from slardar import __version__, plugins
from slardar.build import describe_build
from slardar.config import ControlTls, Settings, Workers, read_config_file
from slardar.control.auth import check_endpoint
from slardar.control.origins import shadowed_by
from slardar.dataplane.sockets import EndpointNote
from slardar.errors import ConfigError, PartlyReadError, StoreError
from slardar.model.inert import inert_upstreams
from slardar.model.listener import PROXIED, socket_endpoint, verify_options
from slardar.model.parse import parse_upstream, split_host_port
from slardar.model.reader import shown
from slardar.model.server import Upstream
from slardar.model.tls import VERIFY
from slardar.named_files import look_at_files
from slardar.observers.sinks import check_writable
from slardar.own_log import use_format
from slardar.plugins import check_store, peek_store

__all__ = ["Options", "check_listen"]

_ENDPOINT = "expected a Twisted server endpoint such as tcp:8080"
#: The most lines about settings that are not served.
_MAX_SHADOWED = 20
#: The most bytes of a unix socket's path on Linux (``sun_path`` without its NUL).
_MAX_PATH = 107


class Options(usage.Options):
    """The options of ``twistd slardar``.

    After ``parseOptions`` the whole configuration is in ``settings``.  A wrong
    option or file raises ``UsageError`` with a line for each mistake.  Under twistd only
    these lines are written to stderr, and the exit code is 1.
    """

    synopsis = "[options]"
    longdesc = "Starts slardar, a programmable HTTP load balancer."

    optParameters: ClassVar[list[list[str | None]]] = [  # noqa: N815 Twisted's name
        ["config", "c", None, "YAML file to read; the options here win over it."],
        [
            "control",
            None,
            None,
            "Endpoint of the HTTP control channel. [default: tcp:1995:interface=127.0.0.1]",
        ],
        [
            "amp",
            None,
            None,
            "Endpoint of the AMP control channel. [default: unix:slardar.sock:mode=600]",
        ],
        [
            "store",
            None,
            None,
            "Where changes made at run time are kept. [default: sqlite:slardar.db]",
        ],
        [
            "log-format",
            None,
            "text",
            "How slardar's own log is written: text, or json, an object a line.",
        ],
        [
            "workers",
            None,
            None,
            "Data-plane processes: a number, or auto for one a core; 0 is this process alone. "
            "[default: auto]",
        ],
    ]
    optFlags: ClassVar[list[list[str | None]]] = [  # noqa: N815 Twisted's name
        ["check", None, "Check the configuration, print ok or every error, and exit."],
    ]

    #: The configuration, once the options have been parsed.
    settings: Settings
    #: The file's name as the user gave it.
    _given = ""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = []
        self["upstream"] = []
        #: See :meth:`take_certificates`.
        self._certificates: Any = None

    def opt_listen(self, endpoint: str) -> None:
        """Endpoint to take requests on; may be given again. [default: tcp:8080]"""
        self["listen"].append(endpoint)

    def opt_upstream(self, text: str) -> None:
        """A first upstream, as NAME=HOST:PORT[,HOST:PORT...]; may be given again."""
        self["upstream"].append(text)

    def opt_version(self) -> None:
        """Print the version of slardar, and whether it is compiled, and exit."""
        sys.stdout.write(f"slardar {__version__} ({describe_build()})\n")
        raise SystemExit(0)

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            raise usage.UsageError(f"expected options only, got {arguments[0]!r}")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            if self.parent is None:
                raise
            # twistd would print all of its own options first.
            sys.stderr.write("".join(f"slardar: {line}\n" for line in str(error).splitlines()))
            raise SystemExit(1) from None

    def postOptions(self) -> None:
        self._given = self["config"] or ""
        if self.parent is not None:
            # Users keep modules of balancers in the folder.  It comes last, so that no file
            # there hides another module.  twistd changes to the folder later.
            rundir = os.path.abspath(self.parent.get("rundir") or ".")
            if not os.path.isdir(rundir) and not self.parent.get("chroot"):
                # twistd would notice only after it has closed the terminal.
                raise usage.UsageError(f"--rundir: expected a folder, got {rundir}")
            if rundir not in sys.path:
                sys.path.append(rundir)
            if not self["check"]:
                _check_files_of_twistd(self.parent)
        self._use_log_format(self["log-format"])
        try:
            with self._in_rundir():
                self.settings = self._settings()
        except ConfigError as error:
            if not self["check"]:
                raise usage.UsageError("\n".join(error.problems)) from None
            sys.stdout.write("".join(f"{line}\n" for line in error.problems))
            raise SystemExit(1) from None
        if self["check"]:
            for line in [*_inert(self.settings), *self._shadowed()]:
                sys.stderr.write(f"slardar: {line}\n")
            sys.stdout.write("ok\n")
            raise SystemExit(0)
        if self["config"] is not None:
            # twistd may change the folder before the file is read again.
            self["config"] = os.path.abspath(self["config"])

    @contextmanager
    def _in_rundir(self) -> Iterator[None]:
        """Read files where they are read again: twistd changes to its folder later, and ``HUP``
        reads from there.  With ``chroot`` there is no such place yet."""
        before = os.getcwd()
        rundir = before
        if self.parent is not None and not self.parent.get("chroot"):
            rundir = os.path.abspath(self.parent.get("rundir") or ".")
        if rundir == before:
            yield
            return
        if self["config"] is not None:
            self["config"] = os.path.abspath(self["config"])
        os.chdir(rundir)
        try:
            yield
        finally:
            os.chdir(before)

    def _use_log_format(self, name: str) -> None:
        try:
            if name not in ("text", "json"):
                raise ValueError(f"expected text or json, got {shown(name)}")
            if self.parent is not None and not self["check"]:
                use_format(self.parent, name)
        except ValueError as error:
            raise usage.UsageError(f"--log-format: {error}") from None

    def _shadowed(self) -> list[str]:
        """A line for each upstream, and one for the routes, whose value in the store would
        be served instead of the one given here."""
        folder = "." if self.parent is None else self.parent["rundir"]
        try:
            state = peek_store(self.settings.store, folder)
        except StoreError as error:
            return [f"what the store holds is not known: {error}"]
        places = [] if state is None else shadowed_by(self.settings, state)
        lines = [
            f"{place}: not what is served, for a change through the control channel holds"
            for place in places[:_MAX_SHADOWED]
        ]
        if len(places) > _MAX_SHADOWED:
            lines.append(f"and {len(places) - _MAX_SHADOWED} more that are not what is served")
        return lines

    def read_again(self) -> Settings:
        """The file's present settings, with the same options laid over them.

        Raises ConfigError with every mistake, and if the file is a pipe or a device by now:
        what came from one the first time does not come again; PartlyReadError, with what could be
        read, to find mistakes in the files that it names.  Reads the file, so it blocks.
        """
        path = self["config"]
        if path and os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise ConfigError(f"{path}: expected a file that can be read again")
        return self._settings(again=True)

    def _settings(self, again: bool = False) -> Settings:
        """The file's settings, or the defaults, with the options laid over them.

        Raises ConfigError with every mistake in the file and the options, and in the files that
        they name.  ``again``: files are left to whoever has read good ones before, and the mistakes
        come with PartlyReadError.
        """
        problems: list[str] = []
        path = self["config"]
        settings = Settings()
        if path is not None:
            try:
                settings, problems = read_config_file(path, plugins)
            except ConfigError as error:
                problems = list(error.problems)
        settings = self._with_endpoints(settings, path, problems)
        changes: dict[str, Any] = {}
        if self["workers"] is not None:
            try:
                changes["workers"] = _workers(self["workers"])
            except ConfigError as error:
                problems += error.problems
        upstreams = dict(settings.first_upstreams)
        given: set[str] = set()
        for text in self["upstream"]:
            _collect(problems, _add_upstream, upstreams, text, given, settings.first_services)
        settings = msgspec.structs.replace(settings, upstreams=upstreams, **changes)
        if not again:
            file = "" if path is None else f"{path}: "
            problems += [file + line for line in self._look_at_files(settings, problems)]
        if problems:
            raise PartlyReadError(problems, settings)
        return settings

    def _look_at_files(self, settings: Settings, problems: Sequence[str]) -> list[str]:
        # With another root nothing is known of the files that will be opened.
        has_other_root = self.parent is not None and bool(self.parent.get("chroot"))
        folder = None if has_other_root else "."
        # Nothing runs yet, no thread either.
        files = look_at_files(settings, problems, may_fork=True, folder=folder)
        self._certificates = files.certificates
        return files.problems

    def take_certificates(self) -> Any:
        """What :func:`slardar.control.certificates.read_keyring` has found for the settings, so
        that nobody reads it once more; ``None`` if there was nothing to be read.  It is kept here
        until this is called."""
        found, self._certificates = self._certificates, None
        return found

    def _with_endpoints(
        self, settings: Settings, path: str | None, problems: list[str]
    ) -> Settings:
        """The settings with the options for endpoints and the store; checks those in effect."""
        file = "" if path is None else f"{path}: "
        if self["listen"]:
            settings = msgspec.structs.replace(settings, listen=tuple(self["listen"]))
            listen_places = ["--listen"] * len(settings.listen)
        else:
            listen_places = [f"{file}listen[{index}]" for index in range(len(settings.listen))]
        for endpoint, where in zip(settings.listen, listen_places, strict=True):
            # haproxy: and tls: are for requests, and not for control calls.
            _collect(problems, check_listen, endpoint, where, True)

        control = settings.control
        # With a mistake in the section, tokens may be missing from ``control.tokens``.
        is_known = not any(line.startswith(f"{file}control") for line in problems)
        for key, field in (("control", "http"), ("amp", "amp")):
            where = f"{file}control.{field}"
            if self[key] is not None:
                where = f"--{key}"
                control = msgspec.structs.replace(control, **{field: self[key]})
            endpoint = getattr(control, field)
            before = len(problems)
            _collect(problems, check_listen, endpoint, where)
            if len(problems) == before and is_known:
                _collect(problems, check_endpoint, endpoint, control.tokens, where, key == "amp")
        settings = msgspec.structs.replace(settings, control=control)
        if control.tls is not None:
            _collect(problems, _check_tls, control.tls, file)

        where = f"{file}store"
        if self["store"] is not None:
            where = "--store"
            settings = msgspec.structs.replace(settings, store=self["store"])
        _collect(problems, _check_store, settings.store, where)
        return settings


def _check_files_of_twistd(options: Mapping[str, Any]) -> None:
    """twistd would end with a traceback, after it has closed the terminal."""
    if options.get("chroot"):
        return  # it will see other files
    places = [("--pidfile", options.get("pidfile"), "; --pidfile= writes none")]
    if not (options.get("logger") or options.get("syslog")):
        name = options.get("logfile")
        if not name and not options.get("nodaemon"):
            name = "twistd.log"
        places.append(("--logfile", None if name == "-" else name, ""))
    problems = []
    for option, name, hint in places:
        if name:
            path = os.path.abspath(name)
            try:
                check_writable(path)
            except OSError as error:
                problems.append(f"{option}: cannot write {path}: {error.strerror}{hint}")
    if problems:
        raise usage.UsageError("\n".join(problems))


def _check_tls(tls: ControlTls, file: str) -> None:
    # Imported here: a process without TLS does not pay for OpenSSL.
    from slardar.control.tls import ServerTls

    try:
        ServerTls(tls)
    except ConfigError as error:
        raise ConfigError([file + line for line in error.problems]) from None


def _inert(settings: Settings) -> list[str]:
    """A line for each key of the upstreams that has no effect."""
    return inert_upstreams(
        (f"upstreams.{name}", upstream.source)
        for name, upstream in settings.first_upstreams.items()
    )


def _collect(problems: list[str], check: Callable[..., None], *arguments: Any) -> None:
    """Run a check and add its mistakes to ``problems``."""
    try:
        check(*arguments)
    except ConfigError as error:
        problems.extend(error.problems)


def _workers(text: str) -> Workers:
    if text == "auto":
        return "auto"
    if re.fullmatch("[0-9]{1,3}", text) and int(text) <= 256:
        return int(text)
    raise ConfigError(
        f'--workers: expected "auto" or a number of processes from 0 to 256, got {shown(text)}'
    )


def _add_upstream(
    upstreams: dict[str, Upstream], text: str, given: set[str], services: Container[str]
) -> None:
    """Add the upstream of ``NAME=HOST:PORT[,HOST:PORT...]``; it replaces the file's upstream."""
    name, equals, places = text.partition("=")
    expected = "--upstream: expected NAME=HOST:PORT[,HOST:PORT...]"
    if not equals or not name:
        raise ConfigError(f"{expected}, got {shown(text)}")
    if name in given:
        raise ConfigError(f"--upstream: {name} is given twice; put a comma between its servers")
    given.add(name)
    servers = []
    problems = []
    for place in places.split(","):
        found = split_host_port(place)
        if found is None:
            problems.append(f"{expected}, got {shown(place)} for {name}")
        else:
            servers.append({"host": found[0], "port": found[1]})
    if problems:
        raise ConfigError(problems)
    if name in services:
        raise ConfigError(f"--upstream: {name} is a service of the file")
    upstreams[name] = parse_upstream(name, {"servers": servers}, "--upstream", plugins)


def _check_store(url: str, where: str) -> None:
    try:
        check_store(url)
    except ConfigError as error:
        lines = [f"{where}: {line.removeprefix('store: ')}" for line in error.problems]
        raise ConfigError(lines) from None


def _check_verify(options: dict[str, str], given: str, where: str) -> None:
    """What clients of an endpoint with TLS have to show."""
    verify, ca = options.get("verify"), options.get("ca")
    if verify is not None and verify not in VERIFY:
        raise ConfigError(f"{where}: expected verify=none, optional or require, got {shown(given)}")
    if ca is not None and verify in (None, "none"):
        raise ConfigError(f"{where}: expected verify=optional or require beside ca=")
    if ca == "":
        raise ConfigError(f"{where}: expected a file in ca=, got {shown(given)}")


def check_listen(endpoint: str, where: str, for_requests: bool = False) -> None:
    """Raises ConfigError for an endpoint on which slardar cannot listen; opens nothing.

    Only ``tcp``, ``tcp6``, ``unix`` and ``systemd`` are taken; for requests also ``tls``,
    ``tls6``, and ``haproxy`` before any of them.  The data plane uses the socket itself, so
    the protocol that another kind adds would be lost.
    """
    given = endpoint
    if for_requests:
        endpoint = socket_endpoint(endpoint)
        _check_verify(verify_options(given), given, where)
    kind, _, rest = endpoint.partition(":")
    if kind == "ssl":
        raise ConfigError(f"{where}: expected tls:PORT, and the certificates in tls, not ssl:")
    if kind in ("tls", "tls6"):
        raise ConfigError(f"{where}: expected an endpoint without TLS, which control.tls adds")
    if endpoint.startswith(PROXIED):
        raise ConfigError(
            f"{where}: {PROXIED} stands in listen only, once before tcp:, tcp6:, unix: or systemd:"
        )
    if kind == "systemd":
        # Only the process that systemd starts knows which sockets systemd passes.
        wanted = r"domain=(INET|INET6|UNIX):(index=[0-9]+|name=[^:]+)"
        if re.fullmatch(wanted, rest) is None:
            raise ConfigError(
                f"{where}: expected an endpoint such as systemd:domain=INET:index=0, "
                f"got {shown(endpoint)}"
            )
        return
    if kind not in ("tcp", "tcp6", "unix"):
        raise ConfigError(f"{where}: {_ENDPOINT}, got {shown(given)}")
    found = EndpointNote()
    try:
        serverFromString(found, endpoint).listen(Factory())  # type: ignore[no-untyped-call]
    except (TypeError, ValueError, IndexError) as error:
        argument = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        hint = f" ({argument[1]}= is unknown)" if argument else ""
        raise ConfigError(f"{where}: {_ENDPOINT}, got {shown(given)}{hint}") from None
    if found.port is not None and not 0 <= found.port <= 65535:
        raise ConfigError(f"{where}: expected a port from 0 to 65535, got {found.port}")
    if found.path is not None and not 0 < len(found.path.encode()) <= _MAX_PATH:
        raise ConfigError(
            f"{where}: expected a path of 1 to {_MAX_PATH} bytes, got {shown(found.path)}"
        )
    if found.backlog < 1:
        raise ConfigError(f"{where}: expected a backlog of at least 1, got {found.backlog}")
