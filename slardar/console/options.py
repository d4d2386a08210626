"""The options that the commands of `slardar` share."""

from __future__ import annotations

import functools
from typing import Any

import click
from click.core import ParameterSource

from slardar.console.client import DEFAULT, Client
from slardar.errors import printable

__all__ = ["Number", "Whole", "control_options", "given", "group_options", "json_option"]

json_option = click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")

#: The options that say which slardar is asked: help, environment variable, and default.
_OPTIONS: dict[str, tuple[str, str, str | None, str]] = {
    "cert": (
        "FILE",
        "SLARDAR_CERT",
        None,
        "With https: a certificate and its key, for a channel that wants one.",
    ),
    "cacert": (
        "FILE",
        "SLARDAR_CACERT",
        None,
        "With https: the CAs to trust in the place of the system's.",
    ),
    "token": (
        "TEXT",
        "SLARDAR_TOKEN",
        None,
        "For a channel that wants one; better in SLARDAR_TOKEN than here.",
    ),
    "control": (
        "URL",
        "SLARDAR_CONTROL",
        DEFAULT,
        "The control channel: http://HOST:PORT, https://HOST:PORT or unix:PATH.",
    ),
}


class _Described(click.ParamType):  # type: ignore[type-arg]
    """A range whose error says what was expected; click's own says "integer range"."""

    expected = ""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Click's way to read a word."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"expected {self.expected}, got {printable(str(value))}", param, ctx)


class Whole(_Described, click.IntRange):
    """A whole number; ``expected`` says what for."""

    def __init__(self, expected: str, least: int | None = None, most: int | None = None) -> None:
        super().__init__(least, most)
        self.expected = expected


class Number(_Described, click.FloatRange):
    """A number; ``expected`` says what for."""

    def __init__(
        self, expected: str, least: float | None = None, most: float | None = None
    ) -> None:
        super().__init__(least, most)
        self.expected = expected


def given(context: click.Context, key: str) -> Any:
    """The value of one of these options for a command: behind the command, else before it, else
    of the environment."""
    before = context.find_root().params.get(key)
    if before is None or context.get_parameter_source(key) is ParameterSource.COMMANDLINE:
        return context.params.get(key)
    return before


def control_options(command: Any) -> Any:
    """The options of every command that talks to a running slardar, which gets a ``client``."""

    @functools.wraps(command)
    def run(**more: Any) -> Any:
        context = click.get_current_context()
        control, token, cacert, cert = (
            given(context, key) for key in ("control", "token", "cacert", "cert")
        )
        rest = {key: value for key, value in more.items() if key not in _OPTIONS}
        return command(client=Client(control, token, cacert, cert), **rest)

    found: Any = run
    for key, (metavar, variable, default, text) in _OPTIONS.items():
        found = click.option(
            f"--{key}",
            envvar=variable,
            default=default,
            show_default=default is not None,
            metavar=metavar,
            help=text,
        )(found)
    return found


def group_options(group: Any) -> Any:
    """The same options before the command; what the group gets, :func:`given` finds."""
    for key, (metavar, _, _, text) in _OPTIONS.items():
        group = click.option(f"--{key}", metavar=metavar, expose_value=True, help=text)(group)
    return group
