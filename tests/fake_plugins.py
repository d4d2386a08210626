"""What stands for ``slardar.plugins`` in tests of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slardar.model.parse import unread_tls
from slardar.model.server import ProbeOptions, TlsOpts
from slardar.model.tls import ServerTls

__all__ = ["FakePlugins"]


class FakePlugins:
    """Accepts every balancer and every probe, unless the given functions refuse them."""

    def __init__(
        self,
        check_mode: Callable[[str, Mapping[str, Any], str], object] = lambda *_: None,
        check_probe: Callable[[ProbeOptions, str], object] = lambda *_: None,
    ) -> None:
        self._check_mode = check_mode
        self._check_probe = check_probe

    def check_mode(self, mode: str, options: Mapping[str, Any], where: str) -> None:
        self._check_mode(mode, options, where)

    def read_tls(self, options: TlsOpts, where: str) -> ServerTls:
        return unread_tls(options)

    def check_probe(self, options: ProbeOptions, where: str) -> None:
        self._check_probe(options, where)
