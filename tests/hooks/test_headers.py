"""Headers as hooks read and write them."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.hooks.headers import Headers, check_name, check_value

LINES = [b"Accept: */*", b"X-Two: 1", b"x-two:2", b"X-Twofold: 3", b"Empty:", b"Tab:\tv \t"]
OWN = frozenset(("host", "x-forwarded-for"))


def make(*lines: bytes) -> Headers:
    own = {"host": b"a", "content-length": b"5"}
    return Headers(list(lines or LINES), own, OWN, frozenset(("content-length", "connection")))


def test_values_are_found_without_case() -> None:
    """The first of a name, all of them, and none of another that only begins alike."""
    headers = make()
    assert headers["accept"] == headers.get("ACCEPT") == "*/*"
    assert headers.get("X-Two") == "1"
    assert headers.get_all("x-TWO") == ["1", "2"]
    assert headers.get("X-Twofold") == "3"
    assert headers.get("X-Tw") is None
    assert headers.get("X-Tw", 5) == 5
    assert headers.get("empty") == ""
    assert headers.get("tab") == "v"
    assert headers.get("Host") == "a"
    assert headers.get_all("host") == ["a"]
    assert headers.get("content-length") == "5"
    assert "x-two" in headers
    assert "no" not in headers
    assert 5 not in headers
    with pytest.raises(KeyError):
        headers["no"]
    assert not headers.changed


def test_a_value_is_no_name() -> None:
    """A line's value that looks like the beginning of another line is not taken for one."""
    headers = make(b"A: b\tX-Two: 5", b"B: X-Two: 6")
    assert headers.get("X-Two") is None


def test_set_replaces_all_in_the_first_ones_place() -> None:
    """Other lines stay as and where they are."""
    headers = make()
    headers["x-two"] = "new"
    assert headers.lines == [LINES[0], b"x-two: new", *LINES[3:]]
    headers["X-Two"] = ["a", "b"]
    assert headers.lines == [LINES[0], b"X-Two: a", b"X-Two: b", *LINES[3:]]
    headers["X-Two"] = []
    assert headers.lines == [LINES[0], *LINES[3:]]
    headers["New"] = 5
    assert headers.lines[-1] == b"New: 5"
    assert headers.changed


def test_add_remove_and_their_kin() -> None:
    """What a mapping of several values has."""
    headers = make()
    headers.add("X-Two", "3")
    assert headers.get_all("X-Two") == ["1", "2", "3"]
    headers.remove("x-two")
    headers.remove("x-two")
    assert headers.get_all("X-Two") == []
    assert headers.setdefault("A", "b") == "b"
    assert headers.setdefault("A", "c") == "b"
    assert headers.pop("A") == "b"
    assert headers.pop("A", 7) == 7
    headers.update({"U": "1"})
    headers.update([("V", "2")])
    assert (headers["u"], headers["v"]) == ("1", "2")
    del headers["U"]
    assert "u" not in headers


def test_own_headers_are_written_apart() -> None:
    """Those that the proxy writes itself; lists of addresses grow, a Host does not."""
    headers = make()
    headers["Host"] = "b:80"
    assert headers.own["host"] == b"b:80"
    headers.add("X-Forwarded-For", "1.1.1.1")
    headers.add("X-Forwarded-For", "2.2.2.2")
    assert headers.own["x-forwarded-for"] == b"1.1.1.1, 2.2.2.2"
    headers.add("Host", "c")
    assert headers["host"] == "c"
    headers.remove("host")
    assert headers["host"] == "c"
    headers.remove("X-Forwarded-For")
    assert "x-forwarded-for" not in headers


@pytest.mark.parametrize("name", ["Content-Length", "connection"])
def test_headers_of_the_connection_are_not_written(name: str) -> None:
    """To remove one has no effect."""
    headers = make()
    for write in (headers.set, headers.add, headers.setdefault, headers.__setitem__):
        if write == headers.setdefault and name == "Content-Length":
            continue
        with pytest.raises(ValueError, match="the proxy's to write"):
            write(name, "1")
    headers.remove(name)
    assert headers.get("content-length") == "5"
    assert not headers.changed


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        ("a b", b"a b"),
        (" a\t", b"a"),
        ("a\tb", b"a\tb"),
        ("é\xff", b"\xe9\xff"),
        ("", b""),
        (5, b"5"),
        (-5, b"-5"),
        ("~!", b"~!"),
    ],
)
def test_values_that_may_be_sent(value: Any, wire: bytes) -> None:
    """As bytes of ISO-8859-1, without blanks around."""
    assert check_value("A", value) == wire


BAD = [chr(code) for code in (*range(9), *range(10, 32), 127, *range(128, 160), 256, 0x2028)]


@pytest.mark.parametrize("bad", [one for one in BAD if not 128 <= ord(one) < 160])
def test_values_that_may_not(bad: str) -> None:
    """Wherever the character is; nothing is changed by the attempt."""
    headers = make()
    for value in (bad, f"a{bad}", f"{bad}a", f"é{bad}b"):
        with pytest.raises(ValueError, match="expected a text of ISO-8859-1"):
            headers["A"] = value
        with pytest.raises(ValueError, match="expected a text of ISO-8859-1"):
            headers["A"] = ["ok", value]
    assert headers.lines == LINES
    assert not headers.changed


@pytest.mark.parametrize("value", [None, 1.5, b"a", {}, True, object(), "a" * 70000, 1 << 70])
def test_other_values_may_not(value: Any) -> None:
    """Texts and integers are what a header has."""
    with pytest.raises(ValueError, match="A: expected a text"):
        make().set("A", value)


@pytest.mark.parametrize(
    "name", ["", "A:", "A b", "A\r", "A\n", "é", "a" * 257, "(", 5, None, b"A"]
)
def test_wrong_names(name: Any) -> None:
    """A name is a token, wherever one is given."""
    headers = make()
    for call in (
        lambda: headers.get(name),
        lambda: headers.get_all(name),
        lambda: headers.set(name, "a"),
        lambda: headers.add(name, "a"),
        lambda: headers.remove(name),
    ):
        with pytest.raises(ValueError, match="expected the name of a header"):
            call()


def test_names_are_remembered_within_bounds() -> None:
    """However many different ones are asked for."""
    from slardar.hooks import headers

    for number in range(3000):
        assert check_name(f"X-{number}")[0] == f"x-{number}"
    assert len(headers._known) <= 1024


def test_a_head_is_bounded() -> None:
    """In lines, and in bytes of all of them."""
    headers = make()
    with pytest.raises(ValueError, match="at most 256 headers"):
        headers["A"] = ["b"] * 300
    for _ in range(256 - len(LINES)):
        headers.add("A", "b")
    with pytest.raises(ValueError, match="at most 256 headers"):
        headers.add("A", "b")
    headers["A"] = "b" * 60000
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        headers["B"] = "b" * 10000
    headers["A"] = "c" * 60000
    assert len(headers.lines) == len(LINES) + 1


def test_copy_is_written_apart() -> None:
    """As a shadow needs it."""
    headers = make()
    twin = headers.copy()
    twin["A"] = "b"
    twin["Host"] = "z"
    assert (headers.lines, headers["host"]) == (LINES, "a")
