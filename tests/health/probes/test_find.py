"""Names of probes: what they mean, and the messages about unknown ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from zope.interface import implementer
from zope.interface.verify import verifyObject

from slardar import plugins
from slardar.errors import ConfigError
from slardar.health.probes.base import OK, Check, Probe, ProbeOptions
from slardar.interfaces import IProbeFactory
from slardar.plugins import check_probe, find_probe


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Names are cached for the life of a process; the cache is cleared after a test."""
    find_probe.cache_clear()
    yield
    find_probe.cache_clear()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a user's module ``mine``."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "mine.py"
    sys.modules.pop("mine", None)


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


def test_wrong_option_is_refused_with_its_path() -> None:
    """The probe names the key, the check names the upstream."""
    with pytest.raises(ConfigError, match=r"^upstreams\.a\.http_opts\.query: expected a whole"):
        check_probe(ProbeOptions("http", http_query=b"/status"), "upstreams.a")


def test_class_of_a_user_is_found_by_its_dotted_name(module: Path) -> None:
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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1/0\n", "cannot import mine: ZeroDivisionError: division by zero"),
        ("", "mine has no class Mine"),
        ("Mine = len\n", "mine has no class Mine"),
        ("class Mine: pass\n", r"mine.Mine is no probe: it has no method begin\(\)"),
        (
            "from slardar.health.probes.base import Probe\nclass Mine(Probe): pass\n",
            r"mine.Mine is no probe: it has no method begin\(\)",
        ),
        (
            "class Mine:\n    def __init__(self): pass\n    def begin(self): pass\n",
            "mine.Mine cannot be made: TypeError",
        ),
        (
            "class Mine:\n    def __new__(cls, options): return 5\n    def begin(self): pass\n",
            r"mine.Mine: expected a probe with a method begin\(\)",
        ),
    ],
)
def test_class_that_is_no_probe_is_refused(module: Path, text: str, reason: str) -> None:
    """Any mistake of a user's class gives one line and no crash."""
    module.write_text(text)
    with pytest.raises(ConfigError, match=rf"^upstreams\.a\.typ: {reason}") as caught:
        check_probe(ProbeOptions("mine.Mine"), "upstreams.a")
    (line,) = caught.value.problems
    assert "\n" not in line


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
