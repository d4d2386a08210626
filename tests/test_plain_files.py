"""A pipe in the place of a file is refused with its name, wherever slardar reads files of users."""

from __future__ import annotations

import ast
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import slardar
from slardar.acme.checks import problems_of_acme
from slardar.config import ControlTls, parse_settings
from slardar.control.certificates import read_keyring
from slardar.control.tls import ServerTls
from slardar.model.server import TlsOpts
from slardar.plain_files import check_regular, read_regular
from slardar.stores.etcd_client import Credentials
from slardar.testing.candidate import read_hooks
from slardar.tls_files import read_tls
from slardar.txconsul.tls import creator_for
from slardar.txconsul.token import read_token
from tests.certificates import Authority

WRONG = "it is no regular file"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to be in, with a pair, a CA and a pipe that nobody writes to."""
    monkeypatch.chdir(tmp_path)
    Authority(tmp_path).issue("a", ("a.example",))
    os.mkfifo("pipe")
    return tmp_path


def told(**tls: Any) -> str:
    settings = parse_settings({"listen": ["tls:1"], "tls": tls, "store": "memory:"})
    return "\n".join([*read_keyring(settings).problems, *read_keyring(settings).warnings])


def staple() -> str:
    os.rename("pipe", "a.ocsp")
    return told(certificates=[{"cert": "a.pem", "key": "a.key"}]).replace("a.ocsp", "pipe")


def failed(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(Exception, match="pipe") as caught:
        call(*arguments)
    return str(caught.value)


def acme() -> str:
    wanted = {"hosts": ["a.example"], "ca": "pipe"}
    return "\n".join(problems_of_acme(parse_settings({"tls": {"acme": wanted}})))


PLACES: dict[str, Callable[[], str]] = {
    "certificate": lambda: told(certificates=[{"cert": "pipe", "key": "a.key"}]),
    "key": lambda: told(certificates=[{"cert": "a.pem", "key": "pipe"}]),
    "staple": staple,
    "CA of clients": lambda: told(client={"verify": "require", "ca": "pipe"}),
    "CA of the ACME directory": acme,
    "certificate of the control channels": lambda: failed(ServerTls, ControlTls("pipe", "a.key")),
    "key of the control channels": lambda: failed(ServerTls, ControlTls("a.pem", "pipe")),
    "CA of callers": lambda: failed(ServerTls, ControlTls("a.pem", "a.key", "pipe")),
    "CA of servers": lambda: failed(read_tls, TlsOpts(ca=f"{os.getcwd()}/pipe"), "x"),
    "certificate for servers": lambda: failed(
        read_tls, TlsOpts(cert=f"{os.getcwd()}/pipe", key=f"{os.getcwd()}/a.key"), "x"
    ),
    "credentials of etcd": lambda: failed(Credentials(file="pipe").read),
    "token of Consul": lambda: failed(read_token, "pipe"),
    "CA of Consul": lambda: failed(creator_for, "pipe", None),
    "code of a hook": lambda: failed(read_hooks, {"script.a": "pipe.py"}, Path(), "f"),
}


@pytest.mark.parametrize("place", PLACES)
def test_pipe_is_refused_with_its_name(place: str) -> None:
    """At once, though nobody writes to it."""
    if place == "code of a hook":
        os.symlink("pipe", "pipe.py")
    found = PLACES[place]()
    assert "pipe" in found
    assert WRONG in found


def test_only_regular_files_are_read(folder: Path) -> None:
    """Links to them are as good; a folder, a device and a pipe are not."""
    Path("file").write_bytes(b"12345")
    Path("link").symlink_to("file")
    assert read_regular("link", 10)[0] == b"12345"
    data, about = read_regular("file", 3)
    assert (data, about.st_size) == (b"123", 5)
    check_regular("file")
    for path, reason in (
        ("pipe", WRONG),
        ("/dev/zero", WRONG),
        (".", "Is a directory"),
        ("none", "No such file or directory"),
    ):
        for call in (check_regular, lambda one: read_regular(one, 10)):
            with pytest.raises(OSError, match=reason):
                call(path)


def test_file_that_becomes_a_pipe_after_the_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening it does not wait for a writer."""
    regular = os.stat("a.pem")
    assert stat.S_ISREG(regular.st_mode)
    monkeypatch.setattr(os, "stat", lambda _path: regular)
    with pytest.raises(OSError, match=WRONG):
        read_regular("pipe", 10)


#: What opens files in another way, and why it may.
OTHERS = {
    "build.py": "slardar's own file",
    "plain_files.py": "the helper",
    "catalogues/kept.py": "writes slardar's own file",
    "console/hooks.py": "a command waits for its user, who may name a pipe",
    "console/simulate.py": "a command waits for its user, who may name a pipe",
    "control/dashboard.py": "slardar's own files",
    "control/forked.py": "pipes that were just made",
    "control/tls.py": "was checked before",
    "hooks/checker.py": "the kernel's",
    "hooks/memory.py": "the kernel's",
    "hooks/lua/runtime.py": "slardar's own file",
    "migration/haproxy_file.py": "a command waits for its user, who may name a pipe",
    "migration/nginx_file.py": "a command waits for its user, who may name a pipe",
    "model/yaml_file.py": "may be a pipe at the start; HUP looks first",
    "observers/sinks.py": "access logs may be pipes, and are opened without waiting",
    "stores/sqlite_file.py": "looks itself, without waiting",
    "stores/sqlite_schema.py": "slardar's own files",
    "upgrade/pidfile.py": "slardar's own file",
    "workers/process.py": "the kernel's",
}


def test_every_file_is_read_by_the_helper() -> None:
    """A new call that opens a file in another way comes here."""
    root = Path(slardar.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            if call in ("open", "os.open") or call.endswith((".read_bytes", ".read_text")):
                found.add(str(path.relative_to(root)))
    assert found == set(OTHERS)
