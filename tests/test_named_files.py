"""The files that settings name: every mistake is told, and a refused file changes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from twisted.python import usage

from slardar import service
from slardar.config import read_config_file
from slardar.errors import ConfigError
from slardar.model.tls import Keyring
from slardar.named_files import look_at_files
from slardar.options import Options
from tests.certificates import Authority

#: The certificates that were read at the start.
KEYRINGS: dict[Any, Keyring] = {}
TLS = {"certificates": [{"cert": "a.pem", "key": "a.key"}]}
MISMATCH = "tls.certificates[0]: the key in b.key is not that of the certificate in a.pem"
NO_LOG = "access_log: file:no/a.log: No such file or directory"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to be in, with two pairs."""
    monkeypatch.chdir(tmp_path)
    authority = Authority(tmp_path)
    for name in ("a", "b"):
        authority.issue(name, (f"{name}.example",))
    return tmp_path


def write(**settings: Any) -> None:
    """Write the file."""
    Path("f.yaml").write_text(json.dumps({"listen": ["tls:1"], "tls": TLS, **settings}))


def started() -> Any:
    """The options of a process with the present file."""
    options = Options()
    options.parseOptions(["--config", "f.yaml"])
    KEYRINGS[options] = options.take_certificates().keyring
    return options


def again(options: Options) -> Any:
    """What ``HUP`` makes of the present files."""
    return service._read_all(options.read_again, options.settings, KEYRINGS[options], [])


WRONG = {
    "the key of another certificate": (
        {"tls": {"certificates": [{"cert": "a.pem", "key": "b.key"}]}},
        [MISMATCH],
    ),
    "and a limit, and an access log": (
        {
            "tls": {"certificates": [{"cert": "a.pem", "key": "b.key"}]},
            "limits": {"url": 0},
            "access_log": {"to": "file:no/a.log"},
        },
        ["limits.url: expected an integer from 1 to 1099511627776, got 0", MISMATCH, NO_LOG],
    ),
    "an access log": ({"access_log": {"to": "file:no/a.log"}}, [NO_LOG]),
    "a key of tls": ({"tls": {"default": 1}}, ["tls.default: expected a string or null, got 1"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_every_mistake_is_told_everywhere(
    folder: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """By ``--check``, by a start and by ``HUP``, and none of them makes a file."""
    changes, expected = WRONG[case]
    write()
    options = started()
    write(**changes)
    before = sorted(os.listdir())

    def told(lines: list[str]) -> list[str]:
        return [line.rpartition("f.yaml: ")[2] for line in lines]

    for words in ([], ["--check"]):
        with pytest.raises((SystemExit, usage.UsageError)) as caught:
            Options().parseOptions(["--config", "f.yaml", *words])
        text = capsys.readouterr().out or str(caught.value)
        assert told(text.splitlines()) == expected
    with pytest.raises(ConfigError) as refused:
        again(options)
    assert told(list(refused.value.problems)) == expected
    assert sorted(os.listdir()) == before


def test_content_of_certificates_alone_stops_nothing_else() -> None:
    """With the file as before, the rest goes on; any change of the file is refused with the
    mistake."""
    write(limits={"url": 100})
    options = started()
    Path("a.key").write_text(Path("b.key").read_text())
    settings, files = again(options)
    assert settings == options.settings
    expected = [MISMATCH.replace("b.key", "a.key")]
    assert files.problems == expected
    assert [pair.source for pair in files.certificates.keyring.pairs] == ["a.pem"]
    for change in (
        {"limits": {"url": 99}},
        {"upstreams": {"a": {"servers": [{"host": "::1", "port": 1}]}}},
    ):
        write(**change)
        with pytest.raises(ConfigError) as caught:
            again(options)
        assert list(caught.value.problems) == expected


def test_files_of_upstreams_do_not_make_other_settings(folder: Path) -> None:
    """Whoever renews a CA beside a wrong certificate has not changed the configuration."""
    Authority(folder, "other")
    tls = {"ca": str(folder / "other.pem")}
    write(upstreams={"a": {"servers": [{"host": "127.0.0.1", "port": 1}], "tls": tls}})
    options = started()
    Authority(folder, "other")
    Path("a.key").write_text(Path("b.key").read_text())
    settings, files = again(options)
    assert settings != options.settings
    assert len(files.problems) == 1


def test_access_logs_are_looked_at_where_the_process_will_be(folder: Path) -> None:
    """Names begin at twistd's folder; with another root, nothing is known."""
    (folder / "there" / "no").mkdir(parents=True)
    for file in folder.glob("a.*"):
        (folder / "there" / file.name).write_bytes(file.read_bytes())
    write(access_log={"to": "file:no/a.log"})
    for parent, problems in (
        ({"rundir": "there"}, []),
        ({"rundir": "."}, [f"f.yaml: {NO_LOG}"]),
        ({"rundir": ".", "chroot": "there"}, []),
    ):
        options = Options()
        options["config"] = "f.yaml"
        for key in ("control", "amp", "workers", "store"):
            options[key] = None
        options.parent = parent
        try:
            with options._in_rundir():
                options._settings()
            found = []
        except ConfigError as error:
            found = list(error.problems)
        assert found == problems


def test_certificates_are_not_looked_at_after_a_mistake_in_tls() -> None:
    """What is left of the settings would make mistakes that are none."""
    write(tls={}, listen=["tls:1:verify=require"])
    found, _ = read_config_file("f.yaml")
    assert look_at_files(found).problems == [
        "listen: tls:1:verify=require: expected ca=FILE, or tls.client.ca"
    ]
    assert look_at_files(found, ["f.yaml: tls.client: is wrong"]).problems == []
