"""What ``slardar top`` shows, and what its keys do, without a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.console.top import View, fitting, split_keys

ALL = "UPSTREAM SERVER STATUS STATE WEIGHT REQ/S ERR/S ACTIVE REQUESTS MESSAGE"


def status(**servers: tuple[int, int]) -> dict[str, Any]:
    """A status in which servers have had so many requests and failures."""
    levels: dict[str, Any] = {}
    for number, (name, (requests, failures)) in enumerate(servers.items()):
        upstream, _, server = name.partition("_")
        levels.setdefault(f"cls:{upstream}", [[]])[0].append(
            {
                "server": f"{upstream}:10.0.0.{server}:80",
                "status": "ok" if not failures else "err",
                "weight": number,
                "lastmodified": "",
                "msg": "",
                "active": 0,
                "requests": requests,
                "failures": failures,
            }
        )
    statistics = {"active": 3, "connections": 7}
    return {
        "slardar_version": "1",
        "shd_config_version": 5,
        "statistics": statistics,
        **levels,
    }


def names(view: View) -> list[str]:
    return [f"{line.row.upstream}_{line.row.server[7]}" for line in view.shown()]


@pytest.fixture
def view() -> View:
    made = View()
    made.take(status(a_1=(0, 0), a_2=(10, 0), b_1=(5, 0)), 100.0)
    made.take(status(a_1=(8, 0), a_2=(12, 0), b_1=(25, 4)), 102.0)
    return made


def test_rates(view: View) -> None:
    found = {(line.row.upstream, line.row.server): line for line in view.lines}
    assert found["b", "10.0.0.1:80"][1:] == (10.0, 2.0)
    assert found["a", "10.0.0.2:80"][1:] == (1.0, 0.0)
    assert "15 requests/s, 3 under way, 7 connections" in view.about


def test_counters_that_begin_anew_are_no_rate(view: View) -> None:
    view.take(status(a_1=(1, 0), a_2=(13, 0)), 103.0)
    assert [line.rate for line in view.lines] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("presses", "order"),
    [
        (0, ["b_1", "a_1", "a_2"]),  # by rate
        (1, ["b_1", "a_1", "a_2"]),  # by errors, then by name
        (4, ["b_1", "a_2", "a_1"]),  # by weight
        (5, ["a_1", "a_2", "b_1"]),  # by name
        (6, ["b_1", "a_1", "a_2"]),  # by rate again
    ],
)
def test_sort(view: View, presses: int, order: list[str]) -> None:
    for _ in range(presses):
        assert view.press("s") is None
    assert names(view) == order
    view.press("r")
    assert names(view) == order[::-1]


def test_filter(view: View) -> None:
    """It counts once it is entered; Escape keeps the one before."""
    for key in ("/", "B", "x", "\x7f"):
        view.press(key)
    assert view.foot() == "filter: B"
    assert len(names(view)) == 3
    view.press("\r")
    assert names(view) == ["b_1"]
    for key in ("/", "q", "\x1b"):
        view.press(key)
    assert names(view) == ["b_1"]
    assert not view.is_over
    # An arrow is no letter.
    for key in ("/", *"err", "up", "down", "\n"):
        view.press(key)
    assert names(view) == ["b_1"]


def test_window_keeps_the_bar_in_sight(view: View) -> None:
    def shown() -> list[str]:
        return [f"{line.row.upstream}_{line.row.server[7]}" for line in view.window(2)]

    assert shown() == ["b_1", "a_1"]
    view.press("j")
    assert shown() == ["b_1", "a_1"]
    for _ in range(5):
        view.press("j")
    assert shown() == ["a_1", "a_2"]
    view.press("page up")
    assert shown() == ["b_1", "a_1"]


def test_the_bar_stays_on_its_server(view: View) -> None:
    """Rates change all the time, and a drained server has none."""

    def under_bar() -> str:
        row = view.window(3)[view.place - view.first].row
        return f"{row.upstream}_{row.server[7]}"

    view.press("down")
    assert under_bar() == "a_1"
    view.take(status(a_1=(8, 0), a_2=(99, 0), b_1=(45, 4)), 103.0)
    assert (under_bar(), view.place) == ("a_1", 2)
    view.press("u")
    assert view.foot().startswith("give requests again to 10.0.0.1:80 of a?")
    view.press("n")
    view.press("up")
    assert under_bar() == "b_1"
    view.take(status(a_2=(99, 0)), 104.0)
    assert under_bar() == "a_2"


@pytest.mark.parametrize(
    ("width", "wanted"),
    [
        (200, ALL),
        (90, "UPSTREAM SERVER STATUS STATE WEIGHT REQ/S ERR/S ACTIVE MESSAGE"),
        (80, "UPSTREAM SERVER STATUS STATE WEIGHT REQ/S ERR/S MESSAGE"),
        (50, "UPSTREAM SERVER STATUS STATE REQ/S"),
    ],
)
def test_what_a_narrow_terminal_shows(width: int, wanted: str) -> None:
    """However long a message is, the server can be read."""
    row = ("www.example.com", "127.0.0.1:18101", ("err", "red"), "up", "1", "19.9", "0.0", "0")
    rows = [(*row, "385", "the reply has control characters in its reason" * 9)]
    columns = fitting(rows, width)
    heads = ALL.split()
    assert [heads[place] for place, _ in columns] == wanted.split()
    assert sum(wide + 1 for _, wide in columns) - 1 <= width
    assert columns[1] == (1, len("127.0.0.1:18101"))


def test_drain_asks_first(view: View) -> None:
    """The server is the one under the bar when the key was pressed, whatever comes meanwhile."""
    view.press("j")
    assert view.press("d") is None
    assert view.foot() == "drain 10.0.0.1:80 of a? y or n"
    view.take(status(a_1=(8, 0), a_2=(99, 0), b_1=(25, 4)), 103.0)
    wanted = view.press("y")
    assert wanted is not None
    assert (wanted[0], wanted[1].row.upstream, wanted[1].row.server) == (
        "drain",
        "a",
        "10.0.0.1:80",
    )
    assert view.press("u") is None
    assert view.press("n") is None
    assert view.foot() == "nothing is changed"


def test_keys_without_any_server() -> None:
    view = View()
    view.take(status(), 1.0)
    for key in ("j", "k", "d", "y", "u", "s", "r", "page down"):
        assert view.press(key) is None
    assert view.window(5) == []
    view.press("q")
    assert view.is_over


def test_keys_of_a_terminal() -> None:
    assert split_keys("a\x1b[A\x1b[Bj\x1b[6~\x1b") == ["a", "up", "down", "j", "page down", "\x1b"]
