"""Headers as a hook reads and writes them."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.hooks.headers import Headers, check_name, check_value

#: Whether these may be written.
SPECIAL = {"host": True, "x-forwarded-for": True, "content-length": False, "connection": False}


def headers(*lines: bytes, **own: bytes) -> Headers:
    """Headers with these lines, and with values that the proxy writes itself."""
    kept = {name.replace("_", "-"): value for name, value in own.items()}
    return Headers(b"\r\n".join((b"", *lines)), kept, SPECIAL)


def test_names_have_no_case() -> None:
    """Nor does space around a value count."""
    found = headers(b"X-A: 1", b"x-b:2", b"X-C:\t 3 ", host=b"a.test", content_length=b"5")
    assert [found[name] for name in ("x-a", "X-B", "x-C")] == ["1", "2", "3"]
    assert (found["Host"], found["content-length"]) == ("a.test", "5")
    assert ("X-a" in found, "x-z" in found, 5 in found) == (True, False, False)
    assert found.get("x-z") is None
    assert found.get("x-z", "no") == "no"
    with pytest.raises(KeyError):
        found["x-z"]


def test_name_is_not_the_beginning_of_another() -> None:
    """A name is not found in a longer name, nor in a value."""
    found = headers(b"X-AB: 1", b"B: x-a: 5", b"X-A: 2")
    assert found["x-a"] == "2"
    assert found.get_all("x-a") == ["2"]
    found.remove("X-A")
    assert found.lines == [b"X-AB: 1", b"B: x-a: 5"]


def test_several_values() -> None:
    """A hook reads the first value, or all in order."""
    found = headers(b"Set-Cookie: a=1", b"X: y", b"set-cookie: b=2")
    assert found["set-cookie"] == "a=1"
    assert found.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert found.get_all("none") == []
    assert headers(host=b"a").get_all("Host") == ["a"]
    assert (found.keys(), len(found), list(found)) == (
        ["set-cookie", "x"], 2, ["set-cookie", "x"],
    )  # fmt: skip
    assert found.values() == ["a=1", "y", "b=2"]
    assert headers(b"x-b: 1", x_forwarded_for=b"y").items() == [
        ("X-Forwarded-For", "y"),
        ("x-b", "1"),
    ]


def test_reading_changes_nothing() -> None:
    """No way to read changes a line."""
    found = headers(b"X-A: 1")
    for read in (found.items, found.keys, found.values):
        read()
    found.remove("none")
    found.pop("none")
    assert not found.changed


def test_set_replaces_all_at_the_place_of_the_first() -> None:
    """The line has the name as it is written now."""
    found = headers(b"A: 1", b"X: 1", b"B: 2", b"x: 2")
    found["x"] = "new"
    assert found.lines == [b"A: 1", b"x: new", b"B: 2"]
    found["X"] = ["1", 2]
    assert found.lines == [b"A: 1", b"X: 1", b"X: 2", b"B: 2"]
    found["C"] = "3"
    assert found.lines[-1] == b"C: 3"
    found["X"] = []
    assert found.lines == [b"A: 1", b"B: 2", b"C: 3"]
    assert found.changed


def test_add_keeps_what_there_is() -> None:
    """The value gets a line of its own, or joins the proxy's own list."""
    found = headers(b"X: 1", x_forwarded_for=b"1.1.1.1")
    found.add("X", "2")
    assert found.get_all("x") == ["1", "2"]
    found.add("X-Forwarded-For", "2.2.2.2")
    assert found["x-forwarded-for"] == "1.1.1.1, 2.2.2.2"
    empty = headers()
    empty.add("X-Forwarded-For", "3.3.3.3")
    assert empty.own == {"x-forwarded-for": b"3.3.3.3"}
    assert empty.changed


def test_remove_pop_setdefault_update() -> None:
    """They work as those of a dict, but removing a header that is not there is allowed."""
    found = headers(b"X: 1", b"x: 2", x_forwarded_for=b"1.1.1.1")
    assert found.pop("X") == "1"
    assert found.lines == []
    del found["x-forwarded-for"]
    assert found.own == {}
    assert found.changed
    assert found.pop("x", "none") == "none"
    assert found.setdefault("Y", "1") == "1"
    assert found.setdefault("y", "2") == "1"
    found.update({"Z": "1", "y": 3})
    found.update([("A", "b")])
    assert found.items() == [("y", "3"), ("Z", "1"), ("A", "b")]


def test_host_is_replaced_and_not_removed() -> None:
    """A request has one Host, which must be a valid name."""
    found = headers(host=b"a.test")
    found.remove("Host")
    assert found.pop("host") == "a.test"
    assert found["host"] == "a.test"
    assert not found.changed
    found.add("Host", "b.test")
    assert found["host"] == "b.test"
    for wrong in ("", "a b", "a\tb", "c.test, d.test"):
        with pytest.raises(ValueError, match="host"):
            found["Host"] = wrong
    with pytest.raises(ValueError, match="expected one value"):
        found["Host"] = ["a", "b"]
    assert found.own == {"host": b"b.test"}


def test_fixed_headers_are_read_only() -> None:
    """Writing one is refused, and removing one has no effect."""
    found = headers(b"X: 1", content_length=b"5")
    for name in ("Content-Length", "connection", "CONNECTION"):
        for write in (found.set, found.add, found.setdefault):
            if write != found.setdefault or name == "connection":
                with pytest.raises(ValueError, match="the proxy's to write"):
                    write(name, "7")
        found.remove(name)
    assert found.pop("content-length") == "5"
    assert found["content-length"] == "5"
    assert not found.changed


@pytest.mark.parametrize(
    "value", ["a\r\nX: y", "a\rb", "a\nb", "\n", "\0", "a\x1fb", "\x7f", "€", "\ud800", None, 1.5,
              True, b"bytes", {}, ["a", "b\n"], [["a"]]]
)  # fmt: skip
def test_value_with_a_line_break_is_refused(value: Any) -> None:
    """So is every control but the tab, and what is not ISO-8859-1.

    A refused value changes nothing.
    """
    for name in ("X", "New", "X-Forwarded-For", "Host"):
        found = headers(b"X: 1", host=b"a.test", x_forwarded_for=b"1.1.1.1")
        lines, own = list(found.lines), dict(found.own)
        for write in (found.set, found.add):
            with pytest.raises(ValueError, match="expected"):
                write(name, value)
        assert (found.lines, found.own, found.changed) == (lines, own, False)


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "a\n", "é", "a\0", "(", "x" * 257, 5,
                                  None, b"x", 1.5])  # fmt: skip
def test_name_that_is_none_is_refused(name: Any) -> None:
    """Every method refuses an invalid name."""
    found = headers(b"X: 1")
    for call in (
        found.get,
        found.get_all,
        found.remove,
        found.pop,
        lambda name: found.set(name, "1"),
        lambda name: found.add(name, "1"),
        lambda name: found.setdefault(name, "1"),
        lambda name: found.update([(name, "1")]),
    ):
        with pytest.raises(ValueError, match="expected the name of a header, got"):
            call(name)
    assert (found.lines, found.changed) == ([b"X: 1"], False)


def test_values_are_as_they_go_on_the_wire() -> None:
    """Numbers become text, every byte of ISO-8859-1 passes, and blanks around a value are cut."""
    found = headers()
    found["A"] = 5
    found["B"] = " \té\xff "
    found["C"] = "a\tb"
    found["D"] = ""
    assert found.lines == [b"A: 5", b"B: \xe9\xff", b"C: a\tb", b"D: "]
    assert found["b"] == "é\xff"
    assert (found["d"], "d" in found) == ("", True)
    assert check_value("A", -7) == b"-7"
    assert check_name("X-A")[0] == "x-a"


def test_head_does_not_grow_without_end() -> None:
    """Lines and bytes are limited; what is removed makes room."""
    found = headers()
    for number in range(256):
        found.add("X", number)
    with pytest.raises(ValueError, match="at most 256"):
        found.add("X", 256)
    with pytest.raises(ValueError, match="at most 256"):
        found.set("Y", "1")
    assert len(found.lines) == 256
    found.remove("X")
    for number in range(64):
        found[f"X{number}"] = "x" * 1000
    with pytest.raises(ValueError, match="at most 65536"):
        found["Y"] = "x" * 2000
    assert "Y" not in found
    found.remove("X1")
    found["Y"] = "x" * 1500


def test_list_that_is_too_long_changes_nothing() -> None:
    """A list with too many or too long values is refused, and the values before stay."""
    for values in (["a"] * 300, ["x" * 1000] * 100, [1, 2, "\n"]):
        found = headers(b"A: 1", b"X: 1", b"B: 2")
        with pytest.raises(ValueError, match="expected"):
            found["X"] = values
        assert (found.lines, found.changed) == ([b"A: 1", b"X: 1", b"B: 2"], False)


def test_own_headers_do_not_grow_without_end() -> None:
    """They are limited, however they are added to."""
    found = headers(x_forwarded_for=b"1.1.1.1")
    with pytest.raises(ValueError, match="expected at most"):
        found["X-Forwarded-For"] = "x" * 65536
    for _ in range(16):
        found.add("X-Forwarded-For", "x" * 1000)
    with pytest.raises(ValueError, match="expected at most"):
        found.add("X-Forwarded-For", "x" * 1000)
    assert len(found["x-forwarded-for"]) < 17000


def test_default_that_is_none_is_refused() -> None:
    """setdefault would have no value to return."""
    found = headers(b"X: 1")
    assert found.setdefault("X", []) == "1"
    with pytest.raises(ValueError, match="Y: expected a value"):
        found.setdefault("Y", [])
    assert found.setdefault("Y", ["a", "b"]) == "a"


def test_message_names_the_place_in_one_short_line() -> None:
    """The message is short, whatever the value is."""
    found = headers()
    with pytest.raises(ValueError, match="expected") as caught:
        found["X-A"] = "\n" * 1000
    assert str(caught.value).startswith("X-A: expected a text")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_a_value_is_no_name() -> None:
    """A value that looks like the beginning of a header is not found as one."""
    found = headers(b"A: b\tX-Two: 5", b"B: X-Two: 6")
    assert found.get("X-Two") is None


def test_own_headers_are_written_apart() -> None:
    """The headers that the proxy writes: lists of addresses grow, and Host does not."""
    found = headers(host=b"a")
    found["Host"] = "b:80"
    assert found.own["host"] == b"b:80"
    found.add("X-Forwarded-For", "1.1.1.1")
    found.add("X-Forwarded-For", "2.2.2.2")
    assert found.own["x-forwarded-for"] == b"1.1.1.1, 2.2.2.2"
    found.add("Host", "c")
    assert found["host"] == "c"
    found.remove("host")
    assert found["host"] == "c"
    found.remove("X-Forwarded-For")
    assert "x-forwarded-for" not in found


def test_names_are_remembered_within_bounds() -> None:
    """The memory for names is limited, however many different names hooks use."""
    from slardar.hooks import headers

    for number in range(3000):
        assert check_name(f"X-{number}")[0] == f"x-{number}"
    assert len(headers._known) <= 1024
