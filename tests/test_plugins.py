"""Names of balancers, probes and stores: what they mean, and the messages about unknown ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from slardar import plugins
from slardar.balancers.base import Balancer
from slardar.errors import ConfigError
from slardar.health.probes.base import OK, Check, Probe, ProbeOptions
from slardar.interfaces import IBalancer, IBalancerFactory, IProbeFactory
from slardar.plugins import balancer_factory, check_mode, check_probe, check_store, find_probe

CONTRACT = (
    "wrr", "rr", "hash", "url_hash", "ip_hash", "header_hash", "host_hash", "least_conn", "p2c",
    "random", "ewma",
)  # fmt: skip


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Names are cached for the life of a process; the cache is cleared after a test."""
    for find in (balancer_factory, find_probe):
        find.cache_clear()
    yield
    for find in (balancer_factory, find_probe):
        find.cache_clear()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a user's module ``mine``."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "mine.py"
    sys.modules.pop("mine", None)


@pytest.mark.parametrize("mode", CONTRACT)
def test_every_mode_of_the_contract_is_a_balancer(mode: str) -> None:
    """Each documented name means a class that provides the interface and needs no options."""
    factory = balancer_factory(mode)
    assert isinstance(factory, type)
    assert verifyClass(IBalancer, factory)
    check_mode(mode, {}, "upstreams.a")


def test_unknown_mode_is_refused_with_what_there_is() -> None:
    """The line has the path, the choices and the most similar one."""
    with pytest.raises(ConfigError) as caught:
        check_mode("least_con", {}, "upstreams.a")
    (line,) = caught.value.problems
    assert line.startswith("upstreams.a.mode: expected one of ")
    assert "package.module.Class" in line
    assert line.endswith('got "least_con" (did you mean "least_conn"?)')


def test_unknown_option_is_refused_with_its_path() -> None:
    """An option that the balancer does not take is named."""
    with pytest.raises(ConfigError, match=r"^upstreams\.a\.mode_opts\.speed: unknown option"):
        check_mode("wrr", {"speed": 1}, "upstreams.a")


def test_class_of_a_user_is_found_by_its_dotted_name(module: Path) -> None:
    """``package.module.Class`` is imported and used."""
    module.write_text(
        "from slardar.balancers.base import Balancer\n"
        "class First(Balancer):\n"
        "    def pick(self, servers, request):\n"
        "        return servers[0]\n"
    )
    check_mode("mine.First", {}, "upstreams.a")
    balancer = balancer_factory("mine.First")([], {})
    assert balancer.pick(["one", "two"], None) == "one"


#: A class that is refused as a balancer and as a probe, and why.
REFUSED = [
    ("1/0\n", "cannot import mine: ZeroDivisionError: division by zero"),
    ("", "mine has no class Mine"),
    ("Mine = len\n", "mine has no class Mine"),
    ("class Mine: pass\n", "mine.Mine is no {noun}: it has no method {method}"),
    (
        "from {base.__module__} import {base.__name__}\nclass Mine({base.__name__}): pass\n",
        "mine.Mine is no {noun}: it has no method {method}",
    ),
    (
        "class Mine:\n    def __init__(self): pass\n    def {name}(self, *args): pass\n",
        "mine.Mine cannot be made: TypeError",
    ),
    (
        "class Mine:\n    def __new__(cls, *args): return 5\n    def {name}(self): pass\n",
        "mine.Mine: expected a {noun} with a method {method}",
    ),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED)
@pytest.mark.parametrize("key", ["mode", "typ"])
def test_class_that_is_no_plugin_is_refused(module: Path, key: str, text: str, reason: str) -> None:
    """Any mistake of a user's class gives one line and no crash."""
    kind = {"mode": plugins._BALANCERS, "typ": plugins._PROBES}[key]
    known = {"noun": kind.noun, "method": kind.signature, "name": kind.method, "base": kind.base}
    module.write_text(text.format(**known))
    checks: dict[str, Callable[[], None]] = {
        "mode": lambda: check_mode("mine.Mine", {}, "upstreams.a"),
        "typ": lambda: check_probe(ProbeOptions("mine.Mine"), "upstreams.a"),
    }
    with pytest.raises(ConfigError) as caught:
        checks[key]()
    (line,) = caught.value.problems
    assert line.startswith(f"upstreams.a.{key}: {reason.format(**known)}")
    assert "\n" not in line


def test_balancer_of_a_third_party_is_found_through_twisted_plugin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plugin's ``name`` is a mode."""

    @implementer(IBalancerFactory)
    class Factory:
        name = "theirs"

        def __call__(self, servers: Sequence[Any], options: Any) -> Balancer:
            return Balancer(servers, options)

    factory = Factory()
    monkeypatch.setattr(plugins, "getPlugins", lambda interface: iter([factory]))
    assert balancer_factory("theirs") is factory


# Probes.


@pytest.mark.parametrize("typ", ["general", "http", "redis", "mysql"])
def test_every_probe_of_the_contract_is_there(typ: str) -> None:
    """Each documented name means a class that needs no options."""
    factory = find_probe(typ)
    assert isinstance(factory, type)
    assert issubclass(factory, Probe)
    check_probe(ProbeOptions(typ), "upstreams.a")


def test_unknown_probe_is_refused_with_what_there_is() -> None:
    """The line has the path, the choices and the most similar one."""
    with pytest.raises(ConfigError) as caught:
        check_probe(ProbeOptions("redi"), "upstreams.a")
    (line,) = caught.value.problems
    assert line == (
        "upstreams.a.typ: expected one of general, http, mysql, redis or package.module.Class, "
        'got "redi" (did you mean "redis"?)'
    )


def test_wrong_option_of_a_probe_is_refused_with_its_path() -> None:
    """The probe names the key, the check names the upstream."""
    with pytest.raises(ConfigError, match=r"^upstreams\.a\.http_opts\.query: expected a whole"):
        check_probe(ProbeOptions("http", http_query=b"/status"), "upstreams.a")


def test_probe_of_a_user_is_found_by_its_dotted_name(module: Path) -> None:
    """It is made with what probes may read of an upstream."""
    module.write_text(
        "from slardar.health.probes.base import Probe\n"
        "class Mine(Probe):\n"
        "    def __init__(self, options):\n"
        "        self.host = options.host\n"
        "    def begin(self):\n"
        "        return self.host\n"
    )
    check_probe(ProbeOptions("mine.Mine", host="a"), "upstreams.a")
    assert find_probe("mine.Mine")(ProbeOptions("mine.Mine", host="a")).begin() == "a"


def test_probe_of_a_third_party_is_found_through_twisted_plugin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plugin's ``name`` is a ``typ``."""

    class Quick(Check):
        def connected(self) -> object:  # type: ignore[override]
            return OK

    class Theirs(Probe):
        def begin(self) -> Check:
            return Quick()

    @implementer(IProbeFactory)
    class Factory:
        name = "theirs"

        def __call__(self, options: ProbeOptions) -> Probe:
            return Theirs(options)

    factory = Factory()
    assert verifyObject(IProbeFactory, factory)
    monkeypatch.setattr(plugins, "getPlugins", lambda interface: iter([factory]))
    assert find_probe("theirs") is factory
    check_probe(ProbeOptions("theirs"), "upstreams.a")


# Stores.


@pytest.mark.parametrize("url", ["sqlite:slardar.db", "sqlite:/var/lib/x.db", "memory:"])
def test_url_of_a_store_is_accepted(url: str) -> None:
    """The documented stores exist; the check opens nothing."""
    check_store(url)


@pytest.mark.parametrize(
    "url", ["", "slardar.db", "sqlite", "base:", "redis:x", "../sqlite:x", "Sqlite:x", "sqlite:"]
)
def test_url_of_no_store_is_refused(url: str) -> None:
    """One line says what was expected."""
    with pytest.raises(ConfigError, match=r"^store: expected "):
        check_store(url)


# Reloading.

MINE = """
from slardar.balancers.base import Balancer

class Mine(Balancer):
    def pick(self, servers, request):
        return {}
"""
MODE = "mine.Mine"


def test_file_is_loaded_as_it_is_now(module: Path) -> None:
    """It may be written twice within a second with the same size; existing balancers keep
    their code."""
    module.write_text(MINE.format(1))
    old = balancer_factory(MODE)([], {})
    assert plugins.reload_balancer(MODE, {}, "x")
    for number in (2, 3, 4):
        module.write_text(MINE.format(number))
        stamp = plugins.reload_balancer(MODE, {}, "x")
        new = balancer_factory(MODE)([], {})
        assert (new.pick([], None), old.pick([], None)) == (number, 1)
    # A worker reloads it once for each reload in the director.
    module.write_text(MINE.format(5))
    plugins.load_again(MODE, stamp)
    assert balancer_factory(MODE)([], {}).pick([], None) == 4
    plugins.load_again(MODE, stamp + 1)
    assert balancer_factory(MODE)([], {}).pick([], None) == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class Mine(:", r"x\.mode: cannot load mine: SyntaxError"),
        ("import json\nMine = None\n1 / 0", r"x\.mode: cannot load mine: ZeroDivisionError"),
        ("Other = 1", "x.mode: mine has no class Mine"),
        ("class Mine: pass", "is no balancer"),
        (MINE.format("(") + "", "cannot load mine: SyntaxError"),
        (MINE.format(1) + "    def __init__(self, a, b): 1 / 0", "cannot be made: ZeroDiv"),
        (None, "cannot load mine: FileNotFoundError"),
    ],
)
def test_what_cannot_be_loaded_leaves_the_one_before(
    module: Path, text: str | None, says: str
) -> None:
    """A module that fails half way is not used."""
    module.write_text(MINE.format(1))
    before = balancer_factory(MODE)
    names = dict(vars(sys.modules["mine"]))
    if text is None:
        module.unlink()
    else:
        module.write_text(text)
    with pytest.raises(ConfigError, match=says) as error:
        plugins.reload_balancer(MODE, {}, "x")
    assert "\n" not in str(error.value)
    assert balancer_factory(MODE) is before
    assert vars(sys.modules["mine"]) == names


@pytest.mark.parametrize("mode", ["wrr", "least_con", "mine", "a b.c"])
def test_only_a_class_of_ones_own_can_be_loaded_anew(mode: str) -> None:
    """The line says which modes can be."""
    with pytest.raises(ConfigError, match=r"^reload: expected a mode such as package\.module\.Cl"):
        plugins.reload_balancer(mode, {}, "x")


def test_url_of_no_store_is_shown_without_its_password() -> None:
    """A mistake in the kind is told, and not the password behind it."""
    with pytest.raises(ConfigError) as caught:
        check_store("etdc:http://joe:secret@127.0.0.1:2379/slardar/?token=secret")
    (line,) = caught.value.problems
    assert "etdc:http://127.0.0.1:2379/slardar/" in line
    assert "secret" not in line
    assert "joe" not in line
