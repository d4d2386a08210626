"""The measurement of many certificates: its folder, and its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.certificates import Findings, Folder, change, markdown, rows
from slardar.config import parse_settings
from slardar.control.certificates import read_keyring


def test_folder_holds_good_pairs(tmp_path: Path) -> None:
    """Of both kinds of keys; one that is issued anew is another one."""
    folder = Folder(tmp_path / "many", 10)
    settings = parse_settings(
        {"listen": ["tls:1"], "tls": {"certificates": [{"folder": str(folder.path)}]}}
    )
    found = read_keyring(settings)
    assert (found.problems, found.warnings) == ([], [])
    assert found.keyring is not None
    assert [pair.kind for pair in found.keyring.pairs] == ["ec"] * 9 + ["rsa"]
    assert all(pair.cert.count("BEGIN") == 2 for pair in found.keyring.pairs)
    folder.issue(3)
    again = read_keyring(settings, found.keyring).keyring
    assert again is not None
    same = [one is other for one, other in zip(again.pairs, found.keyring.pairs, strict=True)]
    assert same == [number != 3 for number in range(10)]
    findings = Findings(10)
    change(findings, folder, 3)
    assert len(findings.changes) == 3


@pytest.mark.real  # it says on which machine it was
def test_report_says_what_is_missed() -> None:
    """A figure that is not reached stands out."""
    found = Findings(
        10_000, [1.0], [2.5], [0.5], [1.0], memory=[30.0], changes=[1.0], waits=[5.0], reloads=[0.5]
    )
    assert [met for *_, met in rows(found)] == [False, None, True, True, None, None]
    text = markdown(found)
    assert "| 2 s | 2.50 s | **missed** |" in text
    assert "| 60 MiB | 30 MiB | met |" in text
