"""The settings: their defaults, and the messages about a wrong file."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slardar.config import Health, Settings, Tracing, load_file, parse_settings, read_settings
from slardar.errors import ConfigError
from slardar.model import yaml_file
from slardar.model.snapshot import Route
from tests.fake_plugins import FakePlugins

SHA = "0" * 64
#: A file with every setting and its default.
CONTRACT = """
listen: ["tcp:8080"]
control: {http: "tcp:1995:interface=127.0.0.1", amp: "unix:slardar.sock:mode=600", tokens: []}
workers: auto
store: sqlite:slardar.db
timeouts:            # seconds
  {client_header: 10, client_body: 60, keepalive: 75, connect: 3, send: 60, read: 60, drain: 30}
limits:
  {head: 32768, headers: 100, url: 8192, body: 1073741824, connections: 10000, retry_buffer: 65536}
health: {interval: 5, timeout: 1, enabled: true}
conf_hash: null      # shown in /status
default_upstream: null
upstreams: {}        # NAME: an upstream (section 3)
routes: []           # section 4
"""

Load = Callable[[str | bytes], Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Reads a text as the file ``f.yaml``."""
    monkeypatch.chdir(tmp_path)

    def load_text(text: str | bytes) -> Settings:
        Path("f.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
        return load_file("f.yaml")

    return load_text


def problems(call: Any, *arguments: Any) -> list[str]:
    """The lines of the ConfigError that a call must raise."""
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    for line in caught.value.problems:
        assert "\n" not in line
    return list(caught.value.problems)


def test_defaults_are_the_contracts(load: Load) -> None:
    """A file with every default written out equals an empty file."""
    assert load(CONTRACT) == load("") == Settings()


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "null", "\ufeff"])
def test_empty_file_is_all_defaults(load: Load, text: str) -> None:
    """This holds for each kind of empty file."""
    assert load(text) == Settings()


def test_section_with_its_lines_commented_out_has_its_defaults(load: Load) -> None:
    """YAML reads null for the section; null is wrong as the value of a setting."""
    sections = ["control", "timeouts", "limits", "health", "hooks", "upstreams", "routes"]
    assert load("".join(f"{name}:\n" for name in sections)) == Settings()
    (line,) = problems(load, "workers:\n")
    assert line.startswith('f.yaml: workers: expected "auto" or a number of processes')


def test_values_of_a_file_are_taken(load: Load) -> None:
    """Every key has another value than its default."""
    found = load(
        f"""
listen: ["tcp:80", "unix:x"]
control: {{http: "tcp:9", amp: "unix:y", tokens: [{{name: ops, role: admin, sha256: "{SHA}"}}]}}
workers: 3
store: "memory:"
timeouts: {{client_header: 1, client_body: 2, keepalive: 0, connect: 0.5, drain: 0}}
limits: {{head: 1, headers: 2, url: 3, body: 0, connections: 4, retry_buffer: 0}}
health: {{interval: 0.5, timeout: 0.2, enabled: false}}
hooks: {{on_error: continue}}
conf_hash: abc
default_upstream: a
upstreams:
  a: {{servers: [{{host: 127.0.0.1, port: 1}}], http_opts: {{statuses: {{502: false}}}}}}
  80: {{servers: [{{host: 127.0.0.1, port: 1}}]}}
  "*.b": {{cluster: [{{servers: [{{host: "::1", port: 1}}], try: 2}}]}}
routes: [{{host: a, path: /x, upstream: a}}]
"""
    )
    assert found.listen == ("tcp:80", "unix:x")
    assert (found.control.http, found.control.amp) == ("tcp:9", "unix:y")
    (token,) = found.control.tokens
    assert (token.name, token.role, token.sha256) == ("ops", "admin", SHA)
    assert (found.workers, found.store) == (3, "memory:")
    assert (found.timeouts.connect, found.timeouts.drain, found.timeouts.keepalive) == (0.5, 0, 0)
    assert (found.limits.head, found.limits.body, found.limits.connections) == (1, 0, 4)
    assert found.health == Health(interval=0.5, timeout=0.2, enabled=False)
    assert found.hooks.on_error == "continue"
    assert (found.conf_hash, found.default_upstream) == ("abc", "a")
    assert list(found.first_upstreams) == ["a", "80", "*.b"]
    assert found.first_upstreams["a"].failed_statuses == {502}
    assert found.first_upstreams["*.b"].levels[0].tries == 2
    assert found.first_routes == (Route("a", "a", "/x"),)


@pytest.mark.parametrize(
    ("text", "tracing"),
    [
        ("", None),
        ("tracing:", None),
        ("tracing: false", None),
        ("tracing: true", Tracing()),
        ("tracing: {}", Tracing()),
        ("tracing: {sample: 0.5}", Tracing(sample=0.5)),
        ("tracing: {otlp: 'http://c:4318', service: x}", Tracing("http://c:4318", 1, "x")),
        ("tracing: {otlp: 'http://[::1]:4318/a/'}", Tracing("http://[::1]:4318/a/")),
    ],
)
def test_tracing_is_a_switch_or_an_object(load: Load, text: str, tracing: Tracing | None) -> None:
    """On means every default."""
    assert load(text).tracing == tracing


def test_export_needs_a_package(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line says which, and how to get it; nothing else of tracing needs it."""
    messages = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"
    monkeypatch.setitem(sys.modules, messages, None)
    assert problems(load, "tracing: {otlp: 'http://c:4318'}") == [
        "f.yaml: tracing.otlp: this needs the package opentelemetry-proto: "
        "pip install 'txslardar[tracing]'"
    ]
    assert load("tracing: {sample: 0.5}").tracing == Tracing(sample=0.5)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[]", "expected an object, got []"),
        ("- a", 'expected an object, got ["a"]'),
        ("hello", 'expected an object, got "hello"'),
        ("listen: tcp:80", 'listen: expected a list of endpoint strings, got "tcp:80"'),
        ("listen: [80]", "listen[0]: expected a string, got 80"),
        ("listen: []", "listen: expected at least one endpoint"),
        ("lisen: []", 'lisen: unknown key (did you mean "listen"?)'),
        ("5: 1", "[5]: unknown key"),
        ("control: []", "control: expected an object, got []"),
        ("control: {htp: x}", 'control.htp: unknown key (did you mean "http"?)'),
        ("control: {tokens: {}}", "control.tokens: expected a list, got {}"),
        ("control: {tokens: [{}]}", "control.tokens[0].name: is missing"),
        (
            "control: {allow: [10.0.0.1/8]}",
            "control.allow[0]: expected a network such as 10.0.0.0/8, without bits beyond its"
            ' length, got "10.0.0.1/8"',
        ),
        (
            "trusted: [10.0.0.1/8]",
            "trusted[0]: expected a network such as 10.0.0.0/8, without bits beyond its length, an"
            ' address or unix:, got "10.0.0.1/8"',
        ),
        ("trusted: ['unix:', 'fe80::1%eth0']", "trusted[1]: expected a network such as 10.0.0.0/8"),
        ("trusted: 10.0.0.0/8", "trusted: expected a list of networks"),
        ("forwarded: 1", "forwarded: expected"),
        ("control: {allow: [home]}", "control.allow[0]: expected a network such as 10.0.0.0/8"),
        (
            f"control: {{tokens: [{{name: a, sha256: {'ab' * 32}, names: [a b]}}]}}",
            "control.tokens[0].names[0]: expected a name of letters, digits, '-', '_' and '.'",
        ),
        ("control: {tokens: [x]}", 'control.tokens[0]: expected an object, got "x"'),
        ("workers: -1", 'workers: expected "auto" or a number of processes from 0 to 256, got -1'),
        ("workers: 257", 'workers: expected "auto" or a number of processes from 0 to 256'),
        ("workers: true", 'workers: expected "auto" or a number of processes from 0 to 256'),
        ("workers: 1.0", 'workers: expected "auto" or a number of processes from 0 to 256'),
        ("workers: many", 'workers: expected "auto" or a number of processes from 0 to 256'),
        ("store: 5", "store: expected a string, got 5"),
        ("timeouts: 5", "timeouts: expected an object, got 5"),
        ("timeouts: {conect: 5}", 'timeouts.conect: unknown key (did you mean "connect"?)'),
        ("timeouts: {connect: 0}", "timeouts.connect: expected a number of seconds above 0"),
        ("timeouts: {read: .nan}", "timeouts.read: expected a number of seconds above 0"),
        ("timeouts: {read: .inf}", "timeouts.read: expected a number of seconds above 0"),
        ("timeouts: {read: 10s}", "timeouts.read: expected a number of seconds above 0"),
        ("timeouts: {drain: -1}", "timeouts.drain: expected a number of seconds from 0"),
        ("timeouts: {drain: 2e9}", "timeouts.drain: expected a number of seconds from 0"),
        ("limits: {head: 0}", "limits.head: expected an integer from 1 to 1099511627776, got 0"),
        ("limits: {body: 1.5}", "limits.body: expected an integer from 0 to 1099511627776"),
        ("limits: {body: yes}", "limits.body: expected an integer from 0 to 1099511627776"),
        ("health: {interval: 0}", "health.interval: expected a number of seconds from 0.1"),
        ("health: {timeout: 0}", "health.timeout: expected a number of seconds above 0"),
        ("health: {enabled: 1}", "health.enabled: expected true or false, got 1"),
        ("hooks: {on_error: stop}", "hooks.on_error: expected one of continue, previous, reject"),
        ("tracing: 1", "tracing: expected true, false or an object, got 1"),
        ("tracing: always", 'tracing: expected true, false or an object, got "always"'),
        ("tracing: {sample: 2}", "tracing.sample: expected a number from 0 to 1, got 2"),
        ("tracing: {sampel: 1}", 'tracing.sampel: unknown key (did you mean "sample"?)'),
        ("tracing: {service: ''}", "tracing.service: expected 1 to 255 printable characters"),
        ("tracing: {otlp: ''}", 'tracing.otlp: expected http://HOST:PORT, got ""'),
        ("tracing: {otlp: 'c:4318'}", 'tracing.otlp: expected http://HOST:PORT, got "c:4318"'),
        ("tracing: {otlp: 'grpc://c:1'}", "tracing.otlp: expected http://HOST:PORT"),
        ("tracing: {otlp: 'http://:4318'}", "tracing.otlp: expected http://HOST:PORT"),
        ("tracing: {otlp: 'http://c:x'}", "tracing.otlp: expected http://HOST:PORT"),
        ("tracing: {otlp: 'http://c:99999'}", "tracing.otlp: expected http://HOST:PORT"),
        ("tracing: {otlp: 'http://u:p@c:1'}", "tracing.otlp: expected http://HOST:PORT"),
        ("tracing: {otlp: 'http://c:1/?a'}", "tracing.otlp: expected http://HOST:PORT"),
        ("tracing: {otlp: 'http://c:1/ a'}", "tracing.otlp: expected http://HOST:PORT"),
        ("tracing: {otlp: 'http://c:1/\u00e9'}", "tracing.otlp: expected http://HOST:PORT"),
        ("tracing: {otlp: 5}", "tracing.otlp: expected a string or null, got 5"),
        ("conf_hash: 5", "conf_hash: expected a string or null, got 5"),
        ("conf_hash: 2024-01-01", "conf_hash: expected a string or null, got date"),
        ("default_upstream: a b", "default_upstream: expected a name of letters"),
        ("upstreams: []", "upstreams: expected an object of upstreams by name"),
        ("upstreams: {a b: {}}", 'upstreams["a b"]: expected a name of letters'),
        ("upstreams: {1.10: {}}", "upstreams[1.1]: expected a name; put it in quotes"),
        ("upstreams: {on: {}}", "upstreams[true]: expected a name; put it in quotes"),
        ("upstreams: {a: 5}", "upstreams.a: expected an object, got 5"),
        ("services: []", "services: expected an object of services by name"),
        ("services: {a: 5}", "services.a: expected an object such as"),
        ("services: {1.10: {}}", "services[1.1]: expected a name; put it in quotes"),
        (
            "services: {a: {dns_service: _a._tcp.b}}\n"
            "upstreams: {a: {servers: [{host: a, port: 1}]}}",
            'services.a: "a" is an upstream, too',
        ),
        (
            "{services: {a: {dns_service: _a._tcp.b, public: false}}, default_upstream: a}",
            "default_upstream: expected an upstream that is public, a is not",
        ),
        ("routes: {}", "routes: expected a list of routes, got {}"),
        ("routes: [{upstream: a, path: x}]", "routes[0].path: expected a path that begins with /"),
    ],
)
def test_wrong_value_is_told_with_file_and_path(load: Load, text: str, line: str) -> None:
    """The first line names the file, the key's path, and the expected value."""
    assert problems(load, text)[0].startswith("f.yaml: " + line)


def test_all_mistakes_of_a_file_are_listed(load: Load) -> None:
    """Each section's mistakes are listed, whatever else is wrong."""
    found = problems(
        load,
        """
timeouts: {connect: x, red: 1}
listen: []
default_upstream: "a b"
upstreams:
  a: {servers: [{host: 127.0.0.1, port: x}], mod: rr}
  b: {}
routes: [{upstream: "?"}]
""",
    )
    assert [line.split(": ")[1] for line in found] == [
        "timeouts.connect",
        "timeouts.red",
        "upstreams.a.servers[0].port",
        "upstreams.a.mod",
        "upstreams.b",
        "routes[0].upstream",
        "listen",
        "default_upstream",
    ]


@pytest.mark.parametrize(
    ("token", "line"),
    [
        ({"name": "", "sha256": SHA}, "[0].name: expected 1 to 64 printable characters"),
        ({"name": "a\n", "sha256": SHA}, "[0].name: expected 1 to 64 printable characters"),
        ({"name": "x" * 65, "sha256": SHA}, "[0].name: expected 1 to 64 printable characters"),
        ({"name": "a", "sha256": "secret"}, "[0].sha256: expected 64 hexadecimal digits"),
        ({"name": "a", "sha256": SHA + "\n"}, "[0].sha256: expected 64 hexadecimal digits"),
        ({"name": "a", "sha256": SHA, "role": "root"}, "[0].role: expected one of read, admin"),
        ({"name": "a", "sha256": SHA, "token": "x"}, "[0].token: unknown key"),
    ],
)
def test_wrong_token(token: dict[str, str], line: str) -> None:
    """A token has a short name, a digest and a role."""
    (found,) = problems(parse_settings, {"control": {"tokens": [token]}})
    assert found.startswith("control.tokens" + line)


def test_tokens_differ() -> None:
    """Two tokens must not have one name, and one token must not have two names."""
    one = {"name": "a", "sha256": "ab" * 32}
    two = {"name": "b", "sha256": "AB" * 32}
    three = {"name": "a", "sha256": SHA}
    assert problems(parse_settings, {"control": {"tokens": [one, two, three]}}) == [
        "control.tokens[1].sha256: the same token is given twice",
        'control.tokens[2].name: "a" is given twice',
    ]


def test_what_is_right_is_read_beside_what_is_wrong() -> None:
    """So more mistakes can be found at once."""
    raw = {"store": "memory:", "timeouts": {"read": 0}, "workers": "x", "upstreams": {"a": 1}}
    settings, lines = read_settings(raw, "f")
    assert settings == Settings(store="memory:")
    assert len(lines) == 3


def test_balancers_of_a_file_are_checked() -> None:
    """The message has the upstream's path."""

    def check_mode(mode: str, options: Any, where: str) -> None:
        raise ConfigError(f"{where}.mode: no {mode}")

    raw = {"upstreams": {"a": {"servers": [{"host": "a", "port": 1}], "mode": "m"}}}
    assert problems(parse_settings, raw, "f", FakePlugins(check_mode)) == [
        "f: upstreams.a.mode: no m"
    ]


# YAML.


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 2", 'line 2, column 1: the key "a" is given twice'),
        ("upstreams:\n  a: {}\n  a: {}", 'line 3, column 3: the key "a" is given twice'),
        ("a: {502: 1, 502: 2}", "line 1, column 13: the key 502 is given twice"),
        ("a: {502: 1, '502': 2}", 'line 1, column 13: the key "502" is given twice'),
        ("a: {'502': 1, 502: 2}", "line 1, column 15: the key 502 is given twice"),
        ("\tworkers: 1", "line 1, column 1: found character that cannot start any token"),
        ("timeouts:\n\tread: 1", "line 2, column 1: "),
        ("a: [", "line 2, column 1: "),
        (
            "a: 1\n---\nb: 2",
            "line 2, column 1: expected one document; another one begins here",
        ),
        ("a: !!python/object/apply:os.system [x]", "line 1, column 4: could not determine"),
        ("a: *b", "line 1, column 4: the alias *b has no anchor before it"),
        ("a: &a [*a]", "line 1, column 8: the alias *a has no anchor before it"),
        ("? [a]\n: 1", "line 1, column 3: found unhashable key"),
        ("conf_hash: 2024-99-99", "month must be in 1..12"),
        ("conf_hash: \x00", ""),
        (b"conf_hash: \xff\xfe", "expected UTF-8 (invalid start byte)"),
        ("conf_hash: " + "1" * 5000, ""),
        ("a: " + "[" * 100, "line 1, column 67: expected at most 64 objects and lists"),
        ("? " * 300_000, "line 1, column 129: expected at most 64 objects and lists"),
    ],
)
def test_file_that_is_no_plain_data(load: Load, text: str | bytes, line: str) -> None:
    """The message is one line, with line and column if they are known."""
    found, *_ = problems(load, text)
    assert found.startswith("f.yaml: " + line)


def test_depth_that_the_scanner_refuses_itself(load: Load) -> None:
    """The scanner reads up to 1,024 characters ahead of its events, and since PyYAML 6.0.4
    (libyaml's own limit of 1,000) it may refuse first.  Either refusal is one line."""
    (found,) = problems(load, "a: " + "[" * 300_000)
    assert found.startswith("f.yaml: line 1, column ")
    assert found.endswith(
        ("expected at most 64 objects and lists within each other", "maximum nesting depth")
    )


def test_billion_laughs_are_refused(load: Load) -> None:
    """Nine lines would become a billion values in the memory of the checks."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for index in range(1, 10):
        items = ", ".join([f"*a{index - 1}"] * 10)
        lines.append(f"a{index}: &a{index} [{items}]")
    (found,) = problems(load, "\n".join(lines))
    assert "aliases repeat more than 100000 values" in found


def test_anchors_and_merges_may_be_used(load: Load) -> None:
    """People use them to avoid repetition."""
    found = load(
        """
upstreams:
  a: &common {servers: [{host: 127.0.0.1, port: &port 1}], keepalive: 5}
  b: *common
  c: {<<: *common, keepalive: 6}
  d: {servers: [{host: 127.0.0.1, port: *port}], keepalive: 7}
"""
    )
    assert [upstream.keepalive for upstream in found.first_upstreams.values()] == [5, 5, 6, 7]


def test_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the system's reason and the name."""
    monkeypatch.chdir(tmp_path)
    assert problems(load_file, "none.yaml") == ["none.yaml: No such file or directory"]
    Path("d").mkdir()
    assert problems(load_file, "d") == ["d: Is a directory"]
    assert problems(load_file, "a\0b") == ["a\0b: embedded null byte"]


def test_size_of_a_file_is_bounded(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the limit is read, whatever kind of file it is."""
    monkeypatch.setattr(yaml_file, "_MAX_FILE", 2 << 20)
    assert problems(load_file, "/dev/zero") == ["/dev/zero: expected at most 2 MiB"]
    assert problems(load, "#" * ((2 << 20) + 1)) == ["f.yaml: expected at most 2 MiB"]
    assert load("#" * (2 << 20)) == Settings()


def test_garbage_is_collected_again_after_a_file_was_read(load: Load) -> None:
    """This holds for good and wrong files; if it was off before, it stays off."""
    assert gc.isenabled()
    load("workers: 1")
    problems(load, "[")
    assert gc.isenabled()
    gc.disable()
    try:
        load("workers: 1")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_python_reader_of_yaml_does_as_the_one_in_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without libyaml, PyYAML reads and refuses the same files."""
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    spec = importlib.util.spec_from_file_location("pure_yaml_file", yaml_file.__file__)
    assert spec is not None
    assert spec.loader is not None
    pure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pure)
    assert pure._Yaml is yaml.SafeLoader
    file = tmp_path / "f.yaml"
    for text, line in [
        ("a: 1\na: 2", 'line 2, column 1: the key "a" is given twice'),
        ("a: *b", "line 1, column 4: the alias *b has no anchor before it"),
        ("a: " + "[" * 70, "line 1, column 67: expected at most 64 objects and lists"),
        ("a: \x00", "unacceptable character #x0000"),
    ]:
        file.write_text(text)
        (found,) = problems(pure.read_file, str(file))
        assert found.startswith(f"{file}: {line}")
    file.write_text(CONTRACT)
    assert pure.read_file(str(file)) == yaml_file.read_file(str(file))


def test_default_upstream_is_public() -> None:
    """It serves every Host without an upstream, so it cannot be one that no Host leads to."""
    upstream = {"servers": [{"host": "127.0.0.1", "port": 80}], "public": False}
    with pytest.raises(ConfigError, match="default_upstream: expected an upstream that is public"):
        parse_settings({"default_upstream": "a", "upstreams": {"a": upstream}})
    parse_settings({"default_upstream": "b", "upstreams": {"a": upstream}})
