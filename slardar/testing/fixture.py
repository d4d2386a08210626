"""A pytest fixture that starts slardar in the process of the tests, on free ports.

It needs pytest-twisted.  In ``conftest.py``::

    pytest_plugins = ["slardar.testing.fixture"]

and in a test::

    @pytest_twisted.ensureDeferred
    async def test_cart(slardar_site):
        site = await slardar_site("slardar.yaml", {"script.www.example.com": "tenant.py"})
        outcome = await site.ask("GET http://www.example.com/cart", headers={"X-Tenant": "a"})
        assert outcome.upstream == "carts"
        assert outcome.sent["x-tenant"] == "a"
        assert await site.check_file("expected.yaml") == []
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet.defer import Deferred

from slardar import plugins
from slardar.config import Settings, load_file, parse_settings
from slardar.errors import ConfigError
from slardar.testing.candidate import read_hooks
from slardar.testing.site import Site

__all__ = ["Start", "slardar_site"]

#: Starts slardar with a configuration and hooks.
Start = Callable[..., Coroutine[Any, Any, Site]]


@pytest.fixture
def slardar_site() -> Iterator[Start]:
    """Starts slardar: ``await slardar_site(config, hooks)`` is a :class:`Site`, which ends with the
    test.

    ``config`` is the name of a file, or what one holds; ``hooks`` are the files of hooks by name,
    each ending in ``.py`` or ``.lua``.  Raises ConfigError.
    """
    # pytest-twisted has installed it by now.
    from twisted.internet import reactor  # noqa: TID251

    sites: list[Site] = []

    async def start(config: Any = None, hooks: Mapping[str, str | Path] | None = None) -> Site:
        site = Site(reactor, _settings(config), read_hooks(hooks, Path(), "slardar_site"))
        await site.start()
        sites.append(site)
        return site

    yield start
    for site in sites:
        pytest_twisted.blockon(Deferred.fromCoroutine(site.stop()))


def _settings(config: Any) -> Settings:
    if isinstance(config, Settings):
        return config
    if isinstance(config, (str, Path)):
        return load_file(str(config), plugins)
    if config is not None and not isinstance(config, Mapping):
        raise ConfigError("config: expected the name of a file, or an object")
    return parse_settings(config, "config", plugins)
