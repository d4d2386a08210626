"""Texts for logs and terminals."""

from __future__ import annotations

import pytest

from slardar.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("upstreams.www.example.com: \u00fc", "upstreams.www.example.com: \u00fc"),
        ("a\nversion 7: b", "a\\nversion 7: b"),
        ("\x1b[31m\r\x00\u202e\ud800", "\\x1b[31m\\r\\x00\\u202e\\ud800"),
    ],
)
def test_nothing_moves_the_cursor(text: str, shown: str) -> None:
    """Line ends, controls of a terminal and of the direction of writing are told of, not made."""
    assert printable(text) == shown
