"""A token in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from slardar.txconsul.token import read_token


def test_token(tmp_path: Path) -> None:
    """White space around it does not matter."""
    path = tmp_path / "token"
    path.write_text(" a-token\n")
    assert read_token(str(path)) == "a-token"


@pytest.mark.parametrize("content", [b"\xff", b"x" * 100_000])
def test_file_that_holds_no_token(tmp_path: Path, content: bytes) -> None:
    """The reason names the file, and has nothing of what is in it."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected a token in it$") as caught:
        read_token(str(path))
    assert str(caught.value) == f"{path}: expected a token in it"


def test_file_without_an_end() -> None:
    """It is not read at all."""
    with pytest.raises(ValueError, match=r"^/dev/zero: it is no regular file$"):
        read_token("/dev/zero")
