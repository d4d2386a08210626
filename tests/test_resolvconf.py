"""What a machine's files say of looking names up."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

import pytest

from slardar.resolvconf import (
    ResolvConf,
    WatchedFile,
    candidates,
    parse_hosts,
    parse_resolv_conf,
)

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ResolvConf()),
        ("nameserver 10.0.0.1", ResolvConf((("10.0.0.1", 53),))),
        ("nameserver\t10.0.0.1  # ours\n; nameserver 10.0.0.2\n#nameserver 10.0.0.3\n",
         ResolvConf((("10.0.0.1", 53),))),
        ("nameserver 2001:DB8:0::1\nnameserver [10.0.0.1]:5353\nnameserver [::1]:54",
         ResolvConf((("2001:db8::1", 53), ("10.0.0.1", 5353), ("::1", 54)))),
        # What cannot be understood is skipped, and each is asked once.
        ("nameserver\nnameserver x\nnameserver [10.0.0.1]\nnameserver [10.0.0.1]:0\n"
         "nameserver [10.0.0.1]:70000\nnameserver [10.0.0.1]:٣\nodd\nnameserver 10.0.0.1\n"
         "nameserver 10.0.0.1",
         ResolvConf((("10.0.0.1", 53),))),
        ("".join(f"nameserver 10.0.0.{n}\n" for n in range(1, 9)),
         ResolvConf((("10.0.0.1", 53), ("10.0.0.2", 53), ("10.0.0.3", 53)))),
        # The last of search and domain counts.
        ("domain one.example two.example", ResolvConf(search=("one.example",))),
        ("domain one\nsearch A.example. .\tb.example",
         ResolvConf(search=("a.example", "b.example"))),
        ("search " + "a.example " * 99, ResolvConf(search=("a.example",) * 32)),
        ("options ndots:5 timeout:3 attempts:4 rotate", ResolvConf(ndots=5, timeout=3, attempts=4)),
        ("options ndots:999999999999999 timeout:0 attempts:0",
         ResolvConf(ndots=15, timeout=1, attempts=1)),
        ("options timeout:99 attempts:99", ResolvConf(timeout=30, attempts=5)),
        ("options timeout: ndots:x attempts:-1 timeout:²", ResolvConf()),
        ("\x00\ufffd\nnameserver \x00", ResolvConf()),
    ],
)  # fmt: skip
def test_resolv_conf(text: str, expected: ResolvConf) -> None:
    """The syntax is that of resolv.conf(5), the limits are glibc's; and a port may be given."""
    assert parse_resolv_conf(text) == expected


@pytest.mark.parametrize(
    ("name", "ndots", "expected"),
    [
        ("web", 1, ["web.a.example", "web.b.example", "web"]),
        ("web.c", 1, ["web.c", "web.c.a.example", "web.c.b.example"]),
        ("web.c", 2, ["web.c.a.example", "web.c.b.example", "web.c"]),
        ("web.", 1, ["web"]),
        ("web.c.", 5, ["web.c"]),
        ("x" * 250, 1, ["x" * 250]),
    ],
)
def test_search_domains(name: str, ndots: int, expected: list[str]) -> None:
    """A name with few dots is tried in the search domains first, an absolute one never."""
    conf = ResolvConf(search=("a.example", "b.example"), ndots=ndots)
    assert candidates(name, conf) == expected


def test_hosts() -> None:
    """A name may have several lines and addresses; names have no case."""
    text = """
    127.0.0.1 localhost   # this machine
    ::1 localhost ip6-localhost
    127.0.0.1 localhost
    10.0.0.1 Web web.example
    nonsense web
    10.0.0.2
    ::FFFF:a00:4 mapped
    # 10.0.0.3 web
    """
    assert parse_hosts(text) == {
        "localhost": [(V4, "127.0.0.1"), (V6, "::1")],
        "ip6-localhost": [(V6, "::1")],
        "web": [(V4, "10.0.0.1")],
        "web.example": [(V4, "10.0.0.1")],
        "mapped": [(V6, "::ffff:10.0.0.4")],
    }


def test_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    """Changed in place, replaced, removed and made again; and not otherwise."""
    path = tmp_path / "file"
    file = WatchedFile(str(path), str.upper)
    assert file.read() == ""
    readings = [file.readings]

    def look() -> str:
        values = {file.read() for _ in range(3)}
        readings.append(file.readings)
        return values.pop()

    path.write_text("one")
    assert look() == "ONE"
    path.write_text("another")
    assert look() == "ANOTHER"
    os.utime(path, ns=(1, 1))
    assert look() == "ANOTHER"
    other = tmp_path / "other"
    other.write_text("renamed")
    os.utime(other, ns=(1, 1))
    other.rename(path)
    assert look() == "RENAMED"
    path.unlink()
    assert look() == ""
    path.write_bytes(b"\xff")
    assert look() == "\ufffd"
    path.unlink()
    path.mkdir()
    assert look() == ""
    assert [after - before for before, after in itertools.pairwise(readings)] == [1] * 7
