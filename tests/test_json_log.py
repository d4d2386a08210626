"""slardar's own log as JSON: what an object has, and that nothing forges one."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from twisted.logger import Logger, LogPublisher

from slardar.json_log import JsonLog, packed, unpacked


def logged(*, namespace: str = "slardar.test") -> tuple[Logger, io.StringIO]:
    out = io.StringIO()
    return Logger(namespace, observer=LogPublisher(JsonLog(out))), out


def only(out: io.StringIO) -> dict[str, Any]:
    (line,) = out.getvalue().splitlines()
    assert out.getvalue().endswith("\n")
    found: dict[str, Any] = json.loads(line)
    return found


def test_event_is_one_object() -> None:
    """Time, level, namespace, message, and the values in the message by their names."""
    log, out = logged()
    log.warn("server {server}: {message}, {count} times", server="a:80", message="no", count=3)
    found = only(out)
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "warn",
        "namespace": "slardar.test",
        "message": "server a:80: no, 3 times",
        "fields": {"server": "a:80", "message": "no", "count": 3},
    }


def test_message_without_values_has_no_fields() -> None:
    """Nor has anything else that is not there."""
    log, out = logged()
    log.info("it begins")
    assert set(only(out)) == {"time", "level", "namespace", "message"}


def test_traceback_is_one_value() -> None:
    """Its lines are no lines of the log."""
    log, out = logged()
    try:
        raise RuntimeError("broken\n{}")
    except RuntimeError:
        log.failure("it failed")
    found = only(out)
    assert (found["level"], found["message"]) == ("critical", "it failed")
    assert "RuntimeError: broken\n{}" in found["traceback"]


class Mute:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nb\x1b[31m\x9b\u2028\u202e", "a\nb\x1b[31m\x9b\u2028\u202e"),
        ("\ud800", "\\ud800"),
        (2**70, str(2**70)),
        (1.5, 1.5),
        (True, True),
        (None, None),
        (b"bytes", "b'bytes'"),
        (["a"], "['a']"),
        ("x" * 5000, "x" * 1000),
        (Mute(), "<Mute>"),
    ],
)
def test_any_value_may_be_logged(value: object, shown: object) -> None:
    """On one line, of characters that do nothing to a terminal."""
    log, out = logged()
    log.info("{value!s:.50}", value=value)
    assert only(out)["fields"]["value"] == shown
    assert out.getvalue()[:-1].isprintable()


def test_event_of_a_worker_comes_whole() -> None:
    """What it packs is what comes out, in one line."""
    events: list[Any] = []
    log = Logger("slardar.hooks", observer=LogPublisher(events.append))
    log.info("a {line}\nb", line="\u2028x\ud800", number=7)
    data = packed(events[0])
    assert b"\n" not in data
    found = unpacked(data)
    assert (found.namespace, found.traceback) == ("slardar.hooks", None)
    assert found.fields == {"line": "\u2028x\\ud800", "number": 7}
    assert found.message == "a \u2028x\\ud800\nb"


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'["a","b",{"c":[]}]', b'["a","b",{"c":{"d":1}}]', b"\xff", b"[" * 5000,
     b'["%b","b",{}]' % (b"a" * 300),
     b'["a","b",{%b}]' % b",".join(b'"%d":1' % number for number in range(60))],
)  # fmt: skip
def test_worker_is_not_trusted(data: bytes) -> None:
    """Anything else is refused, which shows as text."""
    with pytest.raises(ValueError, match=r"."):
        unpacked(data)
