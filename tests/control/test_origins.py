"""Where a value comes from, values of the file that are not served, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent

from slardar.config import parse_settings
from slardar.control.actions import Actions
from slardar.errors import NotFoundError
from slardar.options import Options
from slardar.plugins import peek_store
from slardar.stores.memory import MemoryStore
from slardar.stores.sqlite_file import SqliteFile
from slardar.stores.written import encode
from slardar.testing.stores import change_of
from tests.control.fakes import FakePlane, FakeStore, WebClient, error_of, make_actions, result_of


def upstream(port: int) -> dict[str, Any]:
    return {"servers": [{"host": "127.0.0.1", "port": port}]}


def port(actions: Actions, name: str) -> int | None:
    """The port of the server that is served."""
    found = actions.snapshot.upstreams.get(name)
    return None if found is None else found.servers[0].port


def warnings(events: list[Any]) -> list[str]:
    return [formatEvent(event) for event in events if event["log_level"].name == "warn"]


def test_answer_says_where_a_value_comes_from() -> None:
    """A header says so, so that the answer can be PUT back unchanged."""
    actions = make_actions(FakeStore(), FakePlane(), upstreams={"a": upstream(1)})
    client = WebClient(actions)
    reply = client.call("GET", "/upstream/a")
    assert reply.headers["X-Slardar-Origin"] == "file"
    assert client.call("PUT", "/upstream/a", reply.json).status == 200
    again = client.call("GET", "/upstream/a")
    assert again.headers["X-Slardar-Origin"] == "control"
    assert again.json == reply.json
    assert actions.origins()["shadowed"] == []
    client.call("PUT", "/upstream/a", upstream(2))
    assert actions.origins() == {
        "upstreams": {"a": "control"},
        "services": {},
        "routes": "file",
        "settings": {},
        "shadowed": ["upstreams.a"],
    }


def test_way_back_to_the_file() -> None:
    """The file's present value is served, and its edits count again, also after a restart."""
    store = MemoryStore()
    actions = make_actions(store, FakePlane(), upstreams={"a": upstream(1), "b": upstream(1)})
    client = WebClient(actions)
    client.call("PUT", "/upstream/a", upstream(2))
    client.call("DELETE", "/upstream/b")
    client.call("PUT", "/upstream/c", upstream(2))
    edited = {"a": upstream(3), "b": upstream(3)}
    with capturedLogs() as logged:
        result_of(actions.take_settings(parse_settings({"upstreams": edited}), "HUP"))
    assert [line.partition(": ")[0] for line in warnings(logged)] == ["upstreams.a", "upstreams.b"]
    assert "DELETE /upstream/a?to=file" in warnings(logged)[0]
    assert (port(actions, "a"), port(actions, "b")) == (2, None)
    for name in "abc":
        reply = client.call("DELETE", f"/upstream/{name}?to=file")
        assert (reply.status, reply.json) == (200, {"status": 200})
    assert [port(actions, name) for name in "abc"] == [3, 3, None]
    assert actions.origins()["shadowed"] == []
    assert actions.origin("a") == "file"
    with capturedLogs() as logged:
        last = parse_settings({"upstreams": {"a": upstream(4)}})
        result_of(actions.take_settings(last, "HUP"))
    assert warnings(logged) == []
    assert [port(actions, name) for name in "abc"] == [4, None, None]
    # Another process with the same content of the store.
    second = MemoryStore()
    second.take_over(store.state)
    restarted = Actions(parse_settings({"upstreams": {"a": upstream(5)}}), second, FakePlane())
    result_of(restarted.start())
    assert port(restarted, "a") == 5


def test_way_back_for_routes() -> None:
    """Routes have the same way back."""
    route = {"path": "/a", "upstream": "a"}
    actions = make_actions(FakeStore(), FakePlane(), routes=[route])
    client = WebClient(actions)
    client.call("PUT", "/routes", [])
    assert actions.origins()["routes"] == "control"
    assert actions.origins()["shadowed"] == ["routes"]
    assert client.call("DELETE", "/routes").status == 400
    assert client.call("DELETE", "/routes?to=file").status == 200
    assert actions.routes() == [route]
    assert actions.origins()["routes"] == "file"


def test_what_has_no_way_back() -> None:
    """A name that nobody has given, and things that a file cannot hold."""
    client = WebClient(make_actions(FakeStore(), FakePlane()))
    assert client.call("DELETE", "/upstream/none?to=file").status == 404
    assert client.call("DELETE", "/upstream/none?to=store").status == 400
    actions = make_actions(FakeStore(), FakePlane())
    assert error_of(actions.return_upstream("a", "x"), NotFoundError) == "no upstream a"


@given(st.lists(st.tuples(st.sampled_from(["put", "delete", "return", "hup"]), st.integers(1, 3))))
def test_what_is_served_is_what_the_origin_says(steps: list[tuple[str, int]]) -> None:
    """After any steps in any order, the file's value is served if the origin is the file, else
    the last value that was set."""
    actions = make_actions(MemoryStore(), FakePlane(), upstreams={"a": upstream(1)})
    file, control, is_controlled = 1, None, False
    for action, value in steps:
        if action == "put":
            result_of(actions.set_upstream("a", upstream(value), "x"))
            control, is_controlled = value, True
        elif action == "delete" and port(actions, "a") is not None:
            result_of(actions.remove_upstream("a", "x"))
            control, is_controlled = None, True
        elif action == "return":
            result_of(actions.return_upstream("a", "x"))
            is_controlled = False
        elif action == "hup":
            settings = parse_settings({"upstreams": {"a": upstream(value)}})
            result_of(actions.take_settings(settings, "HUP"))
            file = value
        served = control if is_controlled else file
        assert port(actions, "a") == served
        assert actions.origin("a") == ("control" if is_controlled else "file")
        assert actions.origins()["shadowed"] == ([] if served == file else ["upstreams.a"])


# While slardar does not run.


@pytest.mark.parametrize("state", ["closed", "running", "killed"])
def test_check_says_what_would_not_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    """The store may be in use, closed, or left by a killed process; the check leaves no file
    behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slardar.yaml").write_text(
        "upstreams:\n"
        + "".join(
            f"  {name}: {{servers: [{{host: 127.0.0.1, port: 1}}]}}\n" for name in ("a", "b", "c")
        )
    )
    file = SqliteFile(str(tmp_path / "slardar.db"))
    file.open()
    for version, (name, value) in enumerate((("a", upstream(2)), ("b", None), ("c", "file"))):
        change = change_of(name, value)
        file.commit(version, [(change, encode(change))], version + 1)
    if state == "closed":
        file.close()
    if state == "killed":
        log = (tmp_path / "slardar.db-wal").read_bytes()
        data = (tmp_path / "slardar.db").read_bytes()
        file.close()
        (tmp_path / "slardar.db").write_bytes(data)
        (tmp_path / "slardar.db-wal").write_bytes(log)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if "shm" not in path.name}
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--config", "slardar.yaml", "--check"])
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert out == "ok\n"
    assert [line.partition(": not what is served")[0] for line in err.splitlines()] == [
        "slardar: upstreams.a",
        "slardar: upstreams.b",
    ]
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if "shm" not in path.name}
    assert after == before
    file.close()


def test_check_of_a_store_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check says so, and still accepts the configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slardar.db").write_text("no database " * 1000)
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--check"])
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert out == "ok\n"
    assert "what the store holds is not known" in err


def test_store_that_keeps_nothing_is_empty(tmp_path: Path) -> None:
    """So is a store whose file does not exist yet."""
    assert peek_store("memory:", str(tmp_path)) is None
    assert peek_store("sqlite:none.db", str(tmp_path)) is None
