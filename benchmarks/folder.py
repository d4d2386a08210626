"""Writes configuration files from the templates in ``configs/``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["fill", "fill_text"]

CONFIGS = Path(__file__).parent / "configs"
#: ``@{name}``, because nginx and Caddy use ``$name`` and ``{name}`` themselves.
PLACE = re.compile(r"@\{([a-z_]+)\}")


def fill_text(text: str, values: Mapping[str, object]) -> str:
    """``text`` with each ``@{name}`` replaced.

    :raise KeyError: for a name without a value.
    """
    return PLACE.sub(lambda place: str(values[place[1]]), text)


def fill(names: tuple[str, ...], folder: Path, values: Mapping[str, object]) -> None:
    """Write the templates ``names``, filled in, into ``folder``."""
    # nginx started by root would change to a user who may not read the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    everything = {"folder": folder, "user": user, **values}
    for name in names:
        (folder / name).write_text(fill_text((CONFIGS / name).read_text(), everything))
