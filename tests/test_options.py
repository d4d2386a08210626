"""The command line: its settings, what wins, and the messages about mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from twisted.python import usage

from slardar import __version__, service
from slardar.build import describe_build
from slardar.config import Settings
from slardar.control import certificates
from slardar.errors import ConfigError
from slardar.options import Options, check_listen
from tests.certificates import Authority

FILE = """
listen: ["tcp:1", "tcp:2"]
control: {http: "tcp:3:interface=127.0.0.1", amp: "unix:file.sock"}
workers: 2
store: "memory:"
timeouts: {drain: 7}
upstreams:
  a: {servers: [{host: 10.0.0.1, port: 1}], mode: hash}
  b: {servers: [{host: 10.0.0.2, port: 2}]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to be in, with ``f.yaml``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.yaml").write_text(FILE)
    return tmp_path


def settings(*words: str) -> Settings:
    """The settings of a command line."""
    options = Options()
    options.parseOptions(words)
    return options.settings


def mistakes(*words: str) -> list[str]:
    """The lines with which a command line is refused."""
    with pytest.raises(usage.UsageError) as caught:
        settings(*words)
    return str(caught.value).splitlines()


def test_no_option_and_no_file_is_all_defaults() -> None:
    """Nothing is opened or written."""
    assert settings() == Settings()
    assert [path.name for path in Path().iterdir()] == ["f.yaml"]


def test_certificates_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be ten thousand: the service takes what was read for the check."""
    Authority(folder).issue("a", ("a.example",))
    (folder / "t.yaml").write_text(
        '{"listen": ["tls:1"], "tls": {"certificates": [{"cert": "a.pem", "key": "a.key"}]}}'
    )
    options = Options()
    options.parseOptions(["--config", "t.yaml"])
    found = options.take_certificates()
    assert [pair.source for pair in found.keyring.pairs] == ["a.pem"]
    assert options.take_certificates() is None
    monkeypatch.setattr(certificates, "read_keyring", lambda *_: pytest.fail("read again"))
    assert service._first_keyring(options.settings, found) is found.keyring


def test_file_is_read() -> None:
    """All of it counts unless an option replaces it."""
    found = settings("--config", "f.yaml")
    assert found.listen == ("tcp:1", "tcp:2")
    assert (found.workers, found.store, found.timeouts.drain) == (2, "memory:", 7)
    assert found.control.amp == "unix:file.sock"
    assert list(found.first_upstreams) == ["a", "b"]


def test_options_win_over_the_file() -> None:
    """This holds key by key; the list of --listen replaces the file's."""
    found = settings(
        *("--config", "f.yaml", "--listen", "tcp:8", "--listen", "unix:x", "--listen", "tcp6:9"),
        *("--control", "unix:control.sock", "--workers", "auto", "--store", "sqlite:other.db"),
        *("--upstream", "a=10.1.1.1:5,[::1]:6", "--upstream", "*.c.org=c.example:80"),
    )
    assert found.listen == ("tcp:8", "unix:x", "tcp6:9")
    assert (found.control.http, found.control.amp) == ("unix:control.sock", "unix:file.sock")
    assert (found.workers, found.store, found.timeouts.drain) == ("auto", "sqlite:other.db", 7)
    assert settings("--amp", "unix:y").control.amp == "unix:y"
    upstreams = found.first_upstreams
    assert list(upstreams) == ["a", "b", "*.c.org"]
    assert [server.key for server in upstreams["a"].servers] == ["10.1.1.1:5", "[::1]:6"]
    assert upstreams["a"].mode == "wrr"
    assert [server.key for server in upstreams["*.c.org"].servers] == ["c.example:80"]


@pytest.mark.parametrize(
    ("text", "workers"), [("0", 0), ("1", 1), ("256", 256), ("007", 7), ("auto", "auto")]
)
def test_workers(text: str, workers: object) -> None:
    """A number of processes, or auto."""
    assert settings("--workers", text).workers == workers


@pytest.mark.parametrize("text", ["-1", "257", "1.5", "", "many", "Auto", "٣", " 1", "1000000"])
def test_wrong_workers(text: str) -> None:
    """Other values are refused."""
    (line,) = mistakes(f"--workers={text}")
    assert line.startswith('--workers: expected "auto" or a number of processes from 0 to 256')


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a", '--upstream: expected NAME=HOST:PORT[,HOST:PORT...], got "a"'),
        ("=a:1", '--upstream: expected NAME=HOST:PORT[,HOST:PORT...], got "=a:1"'),
        ("a=", '--upstream: expected NAME=HOST:PORT[,HOST:PORT...], got "" for a'),
        ("a=b", '--upstream: expected NAME=HOST:PORT[,HOST:PORT...], got "b" for a'),
        ("a=b:1,", '--upstream: expected NAME=HOST:PORT[,HOST:PORT...], got "" for a'),
        ("a=b:0", '--upstream: expected NAME=HOST:PORT[,HOST:PORT...], got "b:0" for a'),
        ("a=::1:80", '--upstream: expected NAME=HOST:PORT[,HOST:PORT...], got "::1:80" for a'),
        ("a b=c:1", "--upstream: expected a name of letters"),
        ("a=b:1,B:1", "--upstream.servers[1]: b:1 is named twice"),
    ],
)
def test_wrong_upstream(text: str, line: str) -> None:
    """The message is one line that names the option and the expected form."""
    (found,) = mistakes("--upstream", text)
    assert found.startswith(line)


def test_upstream_of_the_name_of_a_service(tmp_path: Path) -> None:
    """The option replaces an upstream of the file, and no service."""
    file = tmp_path / "slardar.yaml"
    file.write_text("services: {a: {dns_service: _a._tcp.example}}")
    assert mistakes("--config", str(file), "--upstream", "a=b:1") == [
        "--upstream: a is a service of the file"
    ]


def test_upstream_given_twice() -> None:
    """It is not clear which of the two is meant."""
    assert mistakes("--upstream", "a=b:1", "--upstream", "a=b:2") == [
        "--upstream: a is given twice; put a comma between its servers"
    ]


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp:8080",
        "tcp:0:interface=127.0.0.1",
        "tcp:port=80:backlog=10",
        r"tcp6:80:interface=\:\:1",
        "unix:/run/x.sock:mode=660",
        "unix:x:lockfile=0",
        "systemd:domain=INET:index=0",
        "systemd:domain=INET6:name=web",
        "haproxy:tcp:8080",
        r"haproxy:tcp6:80:interface=\:\:1",
        "haproxy:unix:/run/x.sock:mode=660",
        "haproxy:systemd:domain=INET:index=0",
    ],
)
def test_endpoints_that_can_be_listened_on(endpoint: str) -> None:
    """The kinds are tcp, tcp6, unix and systemd, with Twisted's own arguments."""
    check_listen(endpoint.removeprefix("haproxy:"), "x")
    assert settings("--listen", endpoint).listen == (endpoint,)


@pytest.mark.parametrize(
    ("endpoint", "line"),
    [
        ("", "expected a Twisted server endpoint such as tcp:8080, got"),
        ("8080", "expected a Twisted server endpoint such as tcp:8080, got"),
        ("tcp", "expected a Twisted server endpoint such as tcp:8080, got"),
        ("tcp:", "expected a Twisted server endpoint such as tcp:8080, got"),
        ("tcp:http", "expected a Twisted server endpoint such as tcp:8080, got"),
        ("tcp:80:1:2:3:4:5", "expected a Twisted server endpoint such as tcp:8080, got"),
        ("tcp:80=80", "expected a Twisted server endpoint such as tcp:8080, got"),
        (
            "tcp:80:iface=::1",
            'expected a Twisted server endpoint such as tcp:8080, got "tcp:80:iface=::1"',
        ),
        (
            "tcp:80:iface=1",
            'expected a Twisted server endpoint such as tcp:8080, got "tcp:80:iface=1" '
            "(iface= is unknown)",
        ),
        ("tcp6:x", "expected a Twisted server endpoint such as tcp:8080, got"),
        ("unix", "expected a Twisted server endpoint such as tcp:8080, got"),
        ("unix:x:mode=rw", "expected a Twisted server endpoint such as tcp:8080, got"),
        ("stdio:", "expected a Twisted server endpoint such as tcp:8080, got"),
        ("tcp:65536", "expected a port from 0 to 65535, got 65536"),
        ("tcp:-1", "expected a port from 0 to 65535, got -1"),
        ("tcp6:70000", "expected a port from 0 to 65535, got 70000"),
        ("tcp:80:backlog=0", "expected a backlog of at least 1, got 0"),
        ("unix:", 'expected a path of 1 to 107 bytes, got ""'),
        ("unix:" + "x" * 108, "expected a path of 1 to 107 bytes, got"),
        ("ssl:443", "expected tls:PORT, and the certificates in tls"),
        ("ssl:443:privateKey=none.pem", "expected tls:PORT, and the certificates in tls"),
        ("systemd:", "expected an endpoint such as systemd:domain=INET:index=0, got"),
        ("systemd:domain=X:index=0", "expected an endpoint such as systemd:domain=INET:index=0"),
        ("systemd:domain=INET", "expected an endpoint such as systemd:domain=INET:index=0, got"),
    ],
)
def test_endpoints_that_cannot_be_listened_on(folder: Path, endpoint: str, line: str) -> None:
    """They are refused wherever they are written, with the place; no key file is read."""
    with pytest.raises(ConfigError) as caught:
        check_listen(endpoint, "x")
    (found,) = caught.value.problems
    assert found.startswith("x: " + line)
    for option in ("--listen", "--control", "--amp"):
        (found,) = mistakes(f"{option}={endpoint}")
        assert found.startswith(f"{option}: {line}")
    (folder / "g.yaml").write_text(
        f"listen: ['tcp:1', '{endpoint}']\ncontrol: {{http: '{endpoint}'}}"
    )
    listen, control = mistakes("--config", "g.yaml")
    assert listen.startswith("g.yaml: listen[1]: " + line)
    assert control.startswith("g.yaml: control.http: " + line)


@pytest.mark.parametrize(
    ("endpoint", "line"),
    [
        ("tls:1:verify=yes", "expected verify=none, optional or require, got"),
        ("tls:1:verify=", "expected verify=none, optional or require, got"),
        ("tls:1:ca=x", "expected verify=optional or require beside ca="),
        ("tls:1:verify=none:ca=x", "expected verify=optional or require beside ca="),
        ("tls:1:verify=require:ca=", "expected a file in ca=, got"),
        ("tcp:1:verify=require", "expected a Twisted server endpoint such as tcp:8080, got"),
        ("tls:1:verified=1", "expected a Twisted server endpoint such as tcp:8080, got"),
    ],
)
def test_what_a_listener_asks_of_clients(endpoint: str, line: str) -> None:
    """A mistake is told before a file is read."""
    with pytest.raises(ConfigError) as caught:
        check_listen(endpoint, "x", True)
    (found,) = caught.value.problems
    assert found.startswith("x: " + line)
    check_listen(r"tls:1:interface=\:\::verify=require:ca=C\:x", "x", True)


def test_header_of_a_proxy_is_for_requests_alone() -> None:
    """``haproxy:`` stands before an endpoint of ``listen``, once; a control call comes from no
    load balancer."""
    says = "haproxy: stands in listen only, once before tcp:, tcp6:, unix: or systemd:"
    for option in ("--listen", "--control", "--amp"):
        text = "haproxy:haproxy:tcp:1" if option == "--listen" else "haproxy:tcp:1"
        assert mistakes(f"{option}={text}") == [f"{option}: {says}"]
    assert mistakes("--listen=haproxy:ssl:1")[0].startswith("--listen: expected tls:PORT")
    (line,) = mistakes("--listen=haproxy:")
    assert line.startswith("--listen: expected a Twisted server endpoint such as tcp:8080, got")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite",
        "mysql:x",
        "sqlite:",
        "memory:x",
        "consul:http://a/",
        "zookeeper:a",
        "../x:y",
        "written:x",
    ],
)
def test_wrong_store(folder: Path, url: str) -> None:
    """The kind is unknown, or does not take the place."""
    (line,) = mistakes(f"--store={url}")
    assert line.startswith("--store: ")
    (folder / "g.yaml").write_text(f"store: '{url}'")
    (line,) = mistakes("--config", "g.yaml")
    assert line.startswith("g.yaml: store: ")


@pytest.mark.parametrize("option", ["--control", "--amp"])
@pytest.mark.parametrize("endpoint", ["tcp:1995", "tcp:1995:interface=10.0.0.1", "tcp6:1995"])
def test_control_without_tokens_is_for_this_machine_only(
    folder: Path, option: str, endpoint: str
) -> None:
    """With tokens other machines may reach it; with wrong tokens, the message is about the
    tokens."""
    (line,) = mistakes(f"{option}={endpoint}")
    assert line.startswith(f"{option}: ")
    assert ("loopback" if option == "--control" else "unix socket") in line
    token = f'{{name: ops, role: admin, sha256: "{"0" * 64}"}}'
    (folder / "g.yaml").write_text(f"control: {{tokens: [{token}]}}")
    settings("--config", "g.yaml", f"{option}={endpoint}")
    (folder / "g.yaml").write_text("control: {tokens: [{name: ops, sha256: secret}]}")
    (line,) = mistakes("--config", "g.yaml", f"{option}={endpoint}")
    assert line.startswith("g.yaml: control.tokens[0].sha256: ")


def test_all_mistakes_of_file_and_options_are_listed(folder: Path) -> None:
    """They are listed at once, each with its place."""
    (folder / "g.yaml").write_text(
        "listen: ['x']\nstore: 'no:x'\ntimeouts: {read: 0}\nupstreams: {a: {servers: []}}\n"
    )
    words = ["--config", "g.yaml", "--workers", "x", "--upstream", "b", "--amp", "y"]
    assert [line.rpartition(": expected")[0] for line in mistakes(*words)] == [
        "g.yaml: timeouts.read",
        "g.yaml: upstreams.a.servers",
        "g.yaml: listen[0]",
        "--amp",
        "g.yaml: store",
        "--workers",
        "--upstream",
    ]


def test_options_are_checked_also_if_the_file_cannot_be_read() -> None:
    """A missing file hides no other mistake."""
    file, workers = mistakes("--config", "none.yaml", "--workers", "x")
    assert file == "none.yaml: No such file or directory"
    assert workers.startswith("--workers: ")


def test_balancer_that_does_not_exist_is_refused(folder: Path) -> None:
    """It is refused before anything is started."""
    text = "upstreams: {a: {servers: [{host: a, port: 1}], mode: wr}}"
    (folder / "g.yaml").write_text(text)
    (line,) = mistakes("--config", "g.yaml")
    assert line.startswith("g.yaml: upstreams.a.mode: ")


def test_check_says_ok(capsys: pytest.CaptureFixture[str]) -> None:
    """It says ok on stdout, with exit code 0."""
    with pytest.raises(SystemExit) as caught:
        settings("--config", "f.yaml", "--check")
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert out == "ok\n"
    assert err == ""


def test_check_lists_every_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """It lists them on stdout, with exit code 1."""
    with pytest.raises(SystemExit) as caught:
        settings("--workers", "x", "--listen", "y", "--check")
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    assert [line.partition(":")[0] for line in out.splitlines()] == ["--listen", "--workers"]
    assert err == ""


def test_under_twistd_a_mistake_is_all_that_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is on stderr, without twistd's own options, with exit code 1."""
    options = Options()
    options.parent = usage.Options()
    with pytest.raises(SystemExit) as caught:
        options.parseOptions(["--workers", "x", "--listen", "y"])
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(": expected")[0] for line in err.splitlines()] == [
        "slardar: --listen",
        "slardar: --workers",
    ]


@pytest.mark.parametrize("rundir", ["run", ".", ""])
def test_names_of_files_begin_in_the_folder_of_twistd(
    folder: Path, capsys: pytest.CaptureFixture[str], rundir: str
) -> None:
    """So the start and ``--check`` read the files that ``HUP`` reads; the name of the settings'
    own file begins where the command is given."""
    other = folder / "run"
    other.mkdir()
    place = folder / (rundir or ".")
    cert, key = Authority(folder).issue("a.example")
    cert.rename(place / "cert.pem")
    key.rename(place / "key.pem")
    (folder / "ca.pem").rename(place / "ca.crt")
    (folder / "tls.yaml").write_text(
        "tls: {certificates: [{cert: cert.pem, key: key.pem}]}\nlisten: ['tls:8443']\n"
        "upstreams: {a: {servers: [{host: b, port: 1}], tls: {ca: ca.crt}}}\n"
        "access_log: {to: 'file:access.log'}\n"
    )
    options = Options()
    options.parent = {"rundir": rundir, "nodaemon": True}  # type: ignore[assignment]
    with pytest.raises(SystemExit) as caught:
        options.parseOptions(["--config", "tls.yaml", "--check", "--store", "memory:"])
    assert capsys.readouterr().out == "ok\n"
    assert caught.value.code == 0
    assert Path.cwd() == folder
    (place / "key.pem").unlink()
    with pytest.raises(SystemExit) as caught:
        options.parseOptions(["--config", "tls.yaml", "--check", "--store", "memory:"])
    assert "key.pem" in capsys.readouterr().out
    assert caught.value.code == 1
    assert Path.cwd() == folder


def test_no_mistake_of_the_file_hides_another(tmp_path: Path) -> None:
    """There are keys given twice, and wrong values of settings, of an upstream and of options."""
    file = tmp_path / "slardar.yaml"
    file.write_text(
        "workers: 1\nworkers: 2\nlimits: {head: 0}\nupstreams:\n"
        "  a: {servers: [{host: a b, port: 1}, {host: b, port: 0}], tls: {ca: 5}, tls: {ca: 5}}\n"
        "routes: [{hots: a, upstream: a, path: x}]\n"
    )
    with pytest.raises(usage.UsageError) as caught:
        settings("--config", str(file), "--store", "nothing:")
    lines = [line.removeprefix(f"{file}: ") for line in str(caught.value).splitlines()]
    places = [line.partition(": expected")[0].partition(": unknown")[0] for line in lines]
    assert places == [
        'line 2, column 1: the key "workers" is given twice',
        'line 5, column 74: the key "tls" is given twice',
        "limits.head",
        "upstreams.a.servers[1].port",
        "upstreams.a.tls.ca",
        "upstreams.a.servers[0].host",
        "routes[0].hots",
        "routes[0].path",
        "--store",
    ]


def test_link_into_nowhere_is_named(tmp_path: Path) -> None:
    """The message names the missing file to which the link leads."""
    link = tmp_path / "slardar.yaml"
    link.symlink_to(tmp_path / "unmounted.yaml")
    with pytest.raises(usage.UsageError) as caught:
        settings("--config", str(link))
    target = tmp_path / "unmounted.yaml"
    assert str(caught.value) == f"{link}: is a link to {target}, which does not exist"


def test_version_is_slardars(capsys: pytest.CaptureFixture[str]) -> None:
    """It is not twistd's version."""
    with pytest.raises(SystemExit) as caught:
        settings("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"slardar {__version__} ({describe_build()})\n"


def test_help_names_every_option_of_the_contract() -> None:
    """It also has the defaults."""
    text = str(Options())
    for word in ("config", "listen", "control", "amp", "store", "workers", "upstream", "check"):
        assert f"--{word}" in text
    for default in ("tcp:8080", "tcp:1995:interface=127.0.0.1", "sqlite:slardar.db", "auto"):
        assert default in text


@pytest.mark.parametrize("words", [["start"], ["--lisen", "tcp:80"], ["--config"]])
def test_what_is_no_option_is_refused(words: list[str]) -> None:
    """The cases are a stray word, a mistyped option, and an option without its value."""
    assert len(mistakes(*words)) == 1


def test_only_a_file_is_read_again(folder: Path) -> None:
    """A pipe would wait for somebody who writes, or be empty, which would remove everything."""
    options = Options()
    options.parseOptions(("--config", "f.yaml"))
    assert options.read_again().timeouts.drain == 7
    path = folder / "f.yaml"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"f\.yaml: expected a file that can be read again$"):
        options.read_again()
    path.unlink()
    with pytest.raises(ConfigError, match=r"f\.yaml: No such file or directory$"):
        options.read_again()


@pytest.mark.parametrize("words", [[], ["--store", "memory:"]])
def test_acme_needs_a_store_that_keeps(folder: Path, words: list[str]) -> None:
    """Whether the file or an option names one that does not."""
    store = "sqlite:a.db" if words else "memory:"
    (folder / "g.yaml").write_text(f"{{store: '{store}', tls: {{acme: {{hosts: [a.example]}}}}}}")
    (line,) = mistakes("--config", "g.yaml", *words)
    assert line.startswith("g.yaml: tls.acme: expected a store that keeps")
    assert settings("--config", "g.yaml", "--store", "sqlite:b.db").tls.acme is not None
