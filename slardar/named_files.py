"""The files that settings name, looked at together: certificates, CAs, and access logs.

``--check``, the start and ``HUP`` look at them in this one way, so that each of the three tells
every mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from slardar.config import Settings
from slardar.model.listener import ListenerSpec
from slardar.model.tls import Keyring
from slardar.observers.sinks import problems_of_files

__all__ = ["NamedFiles", "look_at_files"]

#: A mistake in ``tls`` or ``listen``: what is known of certificates is not all, then.
_ABOUT_TLS: Final = re.compile(r"(?:\A|: )(?:tls|listen|--listen)\b")


class NamedFiles(NamedTuple):
    """What was found.  The lists have a line for each mistake, which names key and file."""

    #: What :func:`slardar.control.certificates.read_keyring` has found; ``None`` if there was
    #: nothing to be read.
    certificates: Any
    #: Why no certificates can be got by ACME.
    acme: list[str]
    #: Which access logs cannot be written.
    logs: list[str]

    @property
    def problems(self) -> list[str]:
        """Every mistake."""
        wrong = [] if self.certificates is None else self.certificates.problems
        return [*wrong, *self.acme, *self.logs]


def look_at_files(
    settings: Settings,
    problems: Sequence[str] = (),
    before: Keyring | None = None,
    open_now: Iterable[ListenerSpec] = (),
    may_fork: bool = False,
    folder: str | None = ".",
) -> NamedFiles:
    """Look at the files of ``settings``.  It reads files, so it blocks.  It writes none.

    ``problems`` are the mistakes in the settings themselves: after one in ``tls`` or ``listen``,
    the certificates are not looked at.  ``before``, ``open_now`` and ``may_fork`` are as for
    :func:`slardar.control.certificates.read_keyring`.  Names of access logs begin at ``folder``;
    with ``None`` they are not looked at, for the process will see other files.
    """
    logs = [] if folder is None else problems_of_files(settings.access_log, folder)
    if any(_ABOUT_TLS.search(line) for line in problems) or not settings.needs_certificates:
        return NamedFiles(None, [], logs)
    # Imported here: a process without TLS does not pay for it.
    from slardar.acme.checks import problems_of_acme
    from slardar.control.certificates import read_keyring

    found = read_keyring(settings, before, open_now, may_fork)
    return NamedFiles(found, problems_of_acme(settings), logs)
