"""``slardar store copy`` and ``slardar store check``: between stores, with no running slardar."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from msgspec.structs import replace

import slardar.stores
from slardar.console.store import Report, check_state, copy_store, read_store
from slardar.errors import ConfigError, ConflictError, StoreError
from slardar.model.change import Change, StoredState, Value, differences
from slardar.model.hook import Code, Hook, written
from slardar.stores.sqlite_file import SqliteFile
from slardar.stores.written import encode
from tests.control import board as board_file
from tests.control.fakes import NOW, upstream

FULL = {
    ("upstream", "a"): upstream(1, mode="hash"),
    ("upstream", "*.b.example"): {"cluster": [{"servers": []}]},
    ("upstream", "gone"): None,
    ("service", "s"): {"dns_service": "_http._tcp.s.example"},
    ("service", "t"): None,
    ("routes", ""): [{"path": "/x", "upstream": "a"}],
    ("hook", "python/script.a"): written(
        Hook(
            "python",
            "script.a",
            active=Code.of("def on_request(request):\n    pass\n", NOW, ("modules.x",)),
            previous=Code.of("# before\n", NOW - 1),
            staged=Code.of("# staged\n", NOW + 1),
            canary=5,
        )
    ),
    ("hook", "lua/version"): "release 7",
    ("setting", "myargs"): {"arg0": [1, None]},
    ("setting", "text"): "5",
    ("certificate", "c"): {"cert": "-----", "key": "-----"},
    ("acme", "account"): {"n": 1},
}


def reactor() -> Any:
    from twisted.internet import reactor as found  # noqa: TID251

    return found


def write(path: Path, things: dict[Any, Any] | None = None, version: int = 7) -> str:
    """An SQLite store with these things; returns its URL."""
    file = SqliteFile(str(path))
    state = file.open()
    changes = [
        Change(kind, name, value, "test", NOW)
        for (kind, name), value in (FULL if things is None else things).items()
    ]
    rows = [(change, encode(change)) for change in changes]
    if rows:
        file.commit(state.revision, rows, version)
    file.close()
    return f"sqlite:{path}"


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A third party's store, ``board:NAME``."""
    folder = tmp_path / "stores"
    folder.mkdir()
    (folder / "board.py").write_text(Path(board_file.__file__).read_text())
    monkeypatch.setattr(slardar.stores, "__path__", [*slardar.stores.__path__, str(folder)])
    sys.modules.pop("slardar.stores.board", None)
    import slardar.stores.board as module  # type: ignore[import-not-found]

    yield module.Board
    sys.modules.pop("slardar.stores.board", None)


@pytest_twisted.ensureDeferred
async def test_everything_is_copied_and_back(tmp_path: Path, board: Any) -> None:
    """From a file to a shared store, and from there to another file; all but the history."""
    source, back = write(tmp_path / "a.db"), f"sqlite:{tmp_path / 'b.db'}"
    state, version = await copy_store(reactor(), source, "board:x")
    assert version == 8
    shared = board.by_name["x"]
    assert shared.version == 8
    assert shared.stores == []  # it was closed
    found, _ = await copy_store(reactor(), "board:x", back)
    for one in (state, shared.state, found):
        assert replace(one, version=0, revision=0, file={}) == replace(
            await read_store(reactor(), source), version=0, revision=0, file={}
        )
    hook = json.dumps(FULL["hook", "python/script.a"], sort_keys=True)
    assert json.dumps(found.hooks["python/script.a"], sort_keys=True) == hook
    assert found.upstreams["gone"] is None
    report = Report.of(found)
    assert (report.upstreams, report.removed, report.hooks, report.settings) == (2, 2, 2, 2)
    assert (report.certificates, found.acme) == (1, {"account": {"n": 1}})


@pytest_twisted.ensureDeferred
async def test_store_that_is_not_empty_is_given_up_with_replace_only(
    tmp_path: Path, board: Any
) -> None:
    """Then it has nothing else; a state that is there already is no new version."""
    source = write(tmp_path / "a.db")
    there = board.by_name.setdefault("x", board())
    there.write([Value("upstream", "old", upstream(9)), Value("setting", "old", 1)])
    there.version = 30
    before = dict(there.texts)
    with pytest.raises(ConflictError, match=r"is not empty \(1 upstream.*--replace"):
        await copy_store(reactor(), source, "board:x")
    assert there.texts == before
    _, version = await copy_store(reactor(), source, "board:x", replace=True)
    assert version == 31
    assert not there.state.decides("old")
    assert there.state.settings.keys() == {"myargs", "text"}
    _, version = await copy_store(reactor(), source, "board:x", replace=True)
    assert version == 31


@pytest_twisted.ensureDeferred
async def test_nothing_is_half_copied(tmp_path: Path, board: Any) -> None:
    """A store that takes no commit holds what it held, and is closed; so is one whose content is
    another one afterwards."""
    source = write(tmp_path / "a.db")
    there = board.by_name.setdefault("x", board())
    module = sys.modules["slardar.stores.board"]
    commit = module.BoardStore.commit

    def refuse(*_: Any) -> Any:
        raise StoreError("disk full")

    module.BoardStore.commit = refuse
    with pytest.raises(StoreError, match="disk full"):
        await copy_store(reactor(), source, "board:x")
    assert (there.texts, there.stores) == ({}, [])
    module.BoardStore.commit = lambda self, *rest: (commit(self, *rest), there.texts.clear())[0]
    with pytest.raises(StoreError, match=r"holds something else now: .*upstreams\.a"):
        await copy_store(reactor(), source, "board:x")


@pytest_twisted.ensureDeferred
async def test_file_in_use_is_read_and_not_written(tmp_path: Path, board: Any) -> None:
    """A slardar that runs has it."""
    write(tmp_path / "a.db")
    file = SqliteFile(str(tmp_path / "a.db"))
    file.open()
    try:
        state, _ = await copy_store(reactor(), f"sqlite:{tmp_path / 'a.db'}", "board:x")
        assert "a" in state.upstreams
        with pytest.raises(StoreError, match="in use by another slardar"):
            await copy_store(reactor(), "board:x", f"sqlite:{tmp_path / 'a.db'}", replace=True)
    finally:
        file.close()


@pytest_twisted.ensureDeferred
async def test_wrong_urls_are_refused(tmp_path: Path) -> None:
    """Before anything is opened or made."""
    source = write(tmp_path / "a.db")
    for url in ("memory:", "nonsense:x", "x"):
        with pytest.raises(ConfigError):
            await copy_store(reactor(), source, url)
        with pytest.raises(ConfigError):
            await read_store(reactor(), url)
    with pytest.raises(StoreError, match="no such file"):
        await read_store(reactor(), f"sqlite:{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_read_is_not_copied_and_may_be_replaced(
    tmp_path: Path, board: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy without it would look whole."""
    source = write(tmp_path / "a.db")
    there = board.by_name.setdefault("x", board())
    whole = board.state.fget
    there.write([Value("upstream", "a", 1), Value("setting", "b", 1)])

    def with_broken(self: Any) -> StoredState:
        state = whole(self)
        broken = {
            f"{kind}s.{name}": "no JSON" for (kind, name), text in self.texts.items() if text == "1"
        }
        return replace(state, broken=broken)

    monkeypatch.setattr(board, "state", property(with_broken))
    with pytest.raises(StoreError, match="cannot be copied: no JSON; no JSON"):
        await copy_store(reactor(), "board:x", f"sqlite:{tmp_path / 'b.db'}")
    await copy_store(reactor(), source, "board:x", replace=True)
    assert differences(there.state, await read_store(reactor(), source)) == []


def test_check_names_what_cannot_be_served() -> None:
    """Each key with its path; hooks that cannot be loaded, too."""
    good = "def on_request(request):\n    pass\n"

    def hook(name: str, code: str) -> Any:
        return written(Hook("python", name, active=Code.of(code, NOW)))

    state = StoredState(
        1,
        {"a": {"servers": 5}, "b": upstream(1), "c": {**upstream(1), "mode": "no.such.Mode"}},
        [{"path": 5}],
        {
            "python/script.a": hook("script.a", "def on_request(request:\n"),
            "python/script.b": hook("script.b", 'require("modules.x")\n' + good),
            "python/script.c": hook("script.c", 'require("modules.y")\n' + good),
            "python/modules.x": hook("modules.x", "x = 1\n"),
            "lua/version": "7",
        },
        broken={"upstreams.d": "expected JSON: it ends"},
        certificates={"c": {"cert": "PRIVATE", "key": "PRIVATE"}},
    )
    problems = check_state(state)
    assert list(problems) == [
        "certificates.c",
        "hooks.python/script.a",
        "hooks.python/script.c",
        "routes",
        "upstreams.a",
        "upstreams.c",
        "upstreams.d",
    ]
    assert problems["certificates.c"] == "certificates.c: expected a certificate in PEM in cert"
    assert problems["upstreams.d"] == "upstreams.d: expected JSON: it ends"
    assert "modules.y" in problems["hooks.python/script.c"]
    assert all("\n" not in line and line.startswith(path) for path, line in problems.items())
    assert check_state(StoredState(1, {"b": upstream(1)})) == {}


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("slardar"), "store", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        check=False,
    )


@pytest.mark.real
def test_commands_as_they_are_typed(tmp_path: Path) -> None:
    """Words for people, JSON for programs, and exit codes."""
    write(tmp_path / "a.db")
    done = run(tmp_path, "copy", "sqlite:a.db", "sqlite:b.db")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "copied to sqlite:b.db, as version 8: 2 upstreams, 1 service (2 more removed), 1 route,"
        " 2 hooks, 2 settings, 1 certificate\n"
    )
    done = run(tmp_path, "copy", "sqlite:a.db", "sqlite:b.db")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: sqlite:b.db: is not empty (2 upstreams")
    done = run(tmp_path, "check", "sqlite:b.db", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert list(report["failed"]) == ["certificates.c", "upstreams.*.b.example"]
    write(tmp_path / "c.db", {("upstream", "a"): upstream(1)})
    done = run(tmp_path, "check", "sqlite:c.db")
    assert (done.returncode, done.stdout) == (
        0,
        "ok: 1 upstream, 0 services, 0 routes, 0 hooks, 0 settings, 0 certificates\n",
    )
