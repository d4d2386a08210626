"""The table of errors, and errors that hooks make."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.hooks.errno import ERRNOS, UNKNOWN, Errno, errno_of, make_errno


def test_table_is_the_originals() -> None:
    """The names, statuses and texts are those of upyun/slardar's table."""
    assert ERRNOS["HTTP_FORBIDDEN"].code == 403
    assert ERRNOS["HTTP_TOO_MANY_REQS"].msg == "too many requests"
    assert ERRNOS["OK"].code == 0
    assert ERRNOS["EXIT_TRY_CODE"].code == 40099999
    assert ERRNOS["EXIT_TRY_CODE"].httpcode == 400
    assert ERRNOS["UNKNOWN_ERR"] is UNKNOWN
    assert (UNKNOWN.code, UNKNOWN.httpcode) == (50300000, 503)
    for name, error in ERRNOS.items():
        assert error.httpcode == int(str(error.code)[:3]), name
        assert error.msg == error.msg.lower()


@pytest.mark.parametrize("name", list(ERRNOS))
def test_found_by_code(name: str) -> None:
    """The code may be an integer, or its digits."""
    error = ERRNOS[name]
    assert errno_of(error.code) is error
    assert errno_of(str(error.code)) is error


@pytest.mark.parametrize(
    "code", [1, -1, True, None, 403.0, "", "x", "4 03", "٤٠٣", "1" * 5000, [403], {}, 10**4000]
)
def test_other_codes_are_none(code: object) -> None:
    """An unknown code finds nothing, and no value of a hook makes it raise."""
    assert errno_of(code) is None


@pytest.mark.parametrize(
    ("code", "status"), [(403, 403), (40301001, 403), (599, 599), (20012, 200)]
)
def test_status_is_in_the_code(code: int, status: int) -> None:
    """The first three digits are the status."""
    made = make_errno(code, "no")
    assert (made.code, made.httpcode, made.msg) == (code, status, "no")


def test_errors_are_compared_by_code() -> None:
    """The text does not matter, and the repr shows code and text."""
    assert make_errno(403, "other") == ERRNOS["HTTP_FORBIDDEN"]
    assert make_errno(404, "x") != ERRNOS["HTTP_FORBIDDEN"]
    assert ERRNOS["OK"] != 0
    assert len({Errno(403, "a"), Errno(403, "b")}) == 1
    assert repr(Errno(403, "no")) == "<Errno 403 no>"


@pytest.mark.parametrize("code", [-1, 1, 99, 199, 600, 99999999, 10**15, True, "403", 403.0, None])
def test_code_without_a_status_is_refused(code: Any) -> None:
    """An error is sent with its status."""
    with pytest.raises(ValueError, match="expected an error code"):
        make_errno(code, "no")


@pytest.mark.parametrize("text", ["a\nb", "a\r", "\0", "\ud800", "x" * 1001, 5, None])
def test_text_is_one_line(text: Any) -> None:
    """The text may become the value of a header, and a line of a log."""
    with pytest.raises(ValueError, match="expected one line"):
        make_errno(403, text)
