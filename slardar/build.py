"""Whether the request path of this installation is compiled, and if not, why.

``setup.py`` compiles it if it can, and falls back to the Python sources if it cannot.
pip does not show the output of a build, so ``setup.py`` keeps the reason in a file of the
package.  ``--version`` and the first line of the log show it.
"""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

__all__ = ["REASON_FILE", "describe_build"]

#: The file in the package's folder that ``setup.py`` writes: one line with the reason.
REASON_FILE = "not_compiled.txt"


def describe_build(folder: Path | None = None) -> str:
    """``compiled``, or ``not compiled: REASON``.

    ``folder`` is the package's folder; the default is the folder of this module.
    """
    folder = folder or Path(__file__).parent
    # All modules of the request path are compiled, or none (setup.py).
    if any((folder / "http1" / f"exchange{suffix}").exists() for suffix in EXTENSION_SUFFIXES):
        return "compiled"
    try:
        reason = " ".join((folder / REASON_FILE).read_text(encoding="utf-8").split())
    except OSError:
        reason = "the sources of a checkout are used as they are"
    return f"not compiled: {reason}"
