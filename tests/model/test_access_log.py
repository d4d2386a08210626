"""Access logs as users write them, and the messages about wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.config import parse_settings
from slardar.errors import ConfigError
from slardar.model.access_log import (
    FIELDS,
    AccessLog,
    Destination,
    destination_of,
    template_parts,
)
from slardar.model.parse import parse_upstream

SERVERS = [{"host": "127.0.0.1", "port": 80}]


def logs(raw: Any) -> tuple[AccessLog, ...]:
    return parse_settings({"access_log": raw}, "f").access_log


def test_null_an_object_and_a_list_are_taken() -> None:
    """One log need not be a list."""
    one = {"to": "file:a.log"}
    assert parse_settings({}).access_log == logs(None) == logs([]) == ()
    assert logs(one) == logs([one]) == (AccessLog("file:a.log", "json", 1.0, 60.0, False),)
    two = {"to": "tcp:h:1", "format": "{status}", "sample": 0.5, "interval": 0, "syslog": True}
    assert logs([one, two])[1] == AccessLog("tcp:h:1", "{status}", 0.5, 0, True)


@pytest.mark.parametrize(
    ("to", "found"),
    [
        ("file:/var/log/a.log", Destination("file", path="/var/log/a.log")),
        ("file:a:b.log", Destination("file", path="a:b.log")),
        ("stdout", Destination("stdout")),
        ("udp:10.0.0.1:514", Destination("udp", host="10.0.0.1", port=514)),
        ("udp:[::1]:514", Destination("udp", host="::1", port=514)),
        ("tcp:logs.example.com:601", Destination("tcp", host="logs.example.com", port=601)),
        ("unix:/run/a.sock", Destination("unix", path="/run/a.sock")),
        ("unixgram:/dev/log", Destination("unixgram", path="/dev/log")),
    ],
)
def test_destinations(to: str, found: Destination) -> None:
    """Each kind of the contract."""
    assert destination_of(to) == found


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (5, "access_log: expected an object, got 5"),
        ({}, "access_log.to: is missing"),
        ([{"to": "stdout"}, "x"], 'access_log[1]: expected an object, got "x"'),
        ({"to": 5}, "access_log.to: expected file:PATH, stdout, udp:HOST:PORT, unixgram:PATH, "),
        ({"to": "a.log"}, "access_log.to: expected file:PATH, stdout, udp:HOST:PORT, "),
        ({"to": "file:"}, "access_log.to: expected file:PATH"),
        ({"to": "file:a\0b"}, "access_log.to: expected file:PATH"),
        ({"to": "stdout:x"}, "access_log.to: expected file:PATH"),
        ({"to": "udp:host"}, "access_log.to: expected file:PATH"),
        ({"to": "tcp:host:0"}, "access_log.to: expected file:PATH"),
        ({"to": "unix:" + "a" * 108}, "access_log.to: expected the path of a unix socket, at"),
        ({"to": "stdout", "sample": 1.5}, "access_log.sample: expected a number from 0 to 1"),
        ({"to": "stdout", "interval": -1}, "access_log.interval: expected a number of seconds"),
        ({"to": "stdout", "format": "xml"}, "access_log.format: expected json, combined or a"),
        ({"to": "stdout", "format": "{nix}"}, 'access_log.format: expected json, combined or a '
         'template with {field}: no field "nix", got "{nix}"'),
        ({"to": "stdout", "format": "{uri!r}"}, "access_log.format: expected json, combined"),
        ({"to": "stdout", "format": "{uri:>9}"}, "access_log.format: expected json, combined"),
        ({"to": "stdout", "format": "{}"}, "access_log.format: expected json, combined"),
        ({"to": "stdout", "format": "{uri"}, "access_log.format: expected json, combined"),
        ({"to": "stdout", "format": "{uri}\n{uri}"}, "access_log.format: expected a template of "),
        ({"to": "udp:a:1", "syslog": True}, "access_log.syslog: expected a stream (tcp or unix)"),
        ({"to": "file:a", "syslog": True}, "access_log.syslog: expected a stream (tcp or unix)"),
        ({"to": "stdout", "formatt": "x"}, 'access_log.formatt: unknown key (did you mean "form'),
        ([{"to": "stdout"}, {"to": "stdout", "format": "combined"}],
         'access_log[1].to: "stdout" is the place of access_log[0] already'),
    ],
)  # fmt: skip
def test_mistakes_have_the_path_of_their_key(raw: Any, line: str) -> None:
    """One line each."""
    with pytest.raises(ConfigError) as caught:
        logs(raw)
    (found,) = caught.value.problems
    assert found.startswith(f"f: {line}")
    assert "\n" not in found


def test_every_field_may_be_in_a_template() -> None:
    """Doubled braces stand for themselves."""
    template = "{{" + " ".join(f"{{{name}}}" for name in FIELDS) + "}}"
    parts = template_parts(template)
    assert [name for _, name in parts if name] == list(FIELDS)
    assert parts[0] == ("{", "")


def test_upstream_may_be_left_out() -> None:
    """Only true and false are taken."""
    assert parse_upstream("a", {"servers": SERVERS}, "a").access_log
    assert not parse_upstream("a", {"servers": SERVERS, "access_log": False}, "a").access_log
    with pytest.raises(ConfigError, match=r"a\.access_log: expected true or false"):
        parse_upstream("a", {"servers": SERVERS, "access_log": {"to": "stdout"}}, "a")
