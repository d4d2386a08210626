"""wrk's output is read exactly, and output without a measurement is refused."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.load import MARK, SCRIPT, LoadError, Wrk, parse_wrk

RESULT = (
    'result {"requests": 6000, "seconds": 3.0, "bytes": 1, "p50_ms": 1.5, "p99_ms": 4.25, '
    '"errors": {"connect": 0, "read": 2, "write": 0, "status": 1, "timeout": 0}}'
)


def test_result_is_found_among_other_lines() -> None:
    """wrk's own table stands before the line of the script."""
    result = parse_wrk(f"Running 3s test\n  2 threads\n{RESULT}\n")
    assert (result.requests, result.seconds, result.p50_ms, result.p99_ms) == (6000, 3.0, 1.5, 4.25)
    assert result.failed == 3


def test_output_without_result_is_an_error() -> None:
    """The message has wrk's output."""
    with pytest.raises(LoadError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_no_request_answered_is_an_error() -> None:
    """A proxy that answers nothing has no cost per request."""
    with pytest.raises(LoadError, match="no request was answered"):
        parse_wrk(RESULT.replace("6000", "0"))


def test_script_writes_every_field_that_is_read() -> None:
    """The Lua script's line names what ``Wrk`` holds."""
    text = SCRIPT.read_text()
    for field in dataclasses.fields(Wrk):
        assert f'"{field.name}": ' in text
    assert f"'{MARK}{{" in text
