"""The names that a token may see and change: teams share one slardar, each with its own token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slardar.events import Changed, Event, Gap, Health, HookState, More
from slardar.model.names import requested_host

__all__ = ["EVERYTHING", "Names"]

#: The beginning of a hook's name; the host that it is for follows.
_SCRIPT = "script."
#: The beginning of the keys of the status that belong to one upstream.
_UPSTREAM = "cls:"
#: The keys of the status that a limited token sees, beside its upstreams: they are about the
#: process, and tell nothing of other names.
_ABOUT_PROCESS = frozenset(
    (
        *("slardar_version", "start_time", "shd_config_version", "checkup_timer_alive"),
        *("last_check_time", "config_timer", "fingerprint"),
    )
)
#: The keys of the status whose values are by upstream.
_BY_NAME = frozenset(("upstreams", "services", "balancer_errors", "panic"))


class Names:
    """Patterns of names: a name itself, or ``*.`` and the end of names.

    ``*.team-a.example`` stands for every name below ``team-a.example``, wildcards included; not for
    ``team-a.example``.  Without patterns, all names are meant.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        lower = [requested_host(pattern) for pattern in patterns]
        #: Whether all names are meant, and all that has no name.
        self.is_everything = not lower
        self._whole = frozenset(lower)
        self._ends = tuple(pattern[1:] for pattern in lower if pattern.startswith("*."))

    def __contains__(self, name: object) -> bool:
        """Whether the name of an upstream, or a host, is one of these."""
        if self.is_everything:
            return True
        text = requested_host(str(name))
        return text in self._whole or text.endswith(self._ends)

    def has_hook(self, name: str) -> bool:
        """Whether a hook is for a host with one of these names.  A module may be used by hooks of
        all hosts, and is for none of them."""
        return self.is_everything or (name.startswith(_SCRIPT) and name[len(_SCRIPT) :] in self)

    def has_event(self, event: Event) -> bool:
        """Whether an event is about one of these names, or says that some events are missing."""
        if isinstance(event, Health):
            return event.upstream in self
        if isinstance(event, HookState) or (isinstance(event, Changed) and event.kind == "hook"):
            return self.has_hook(event.name.partition("/")[2])
        if isinstance(event, Changed) and event.kind in ("upstream", "service", "certificate"):
            return event.name in self
        return self.is_everything or isinstance(event, (Gap, More))

    def in_status(self, status: Mapping[str, Any]) -> dict[str, Any]:
        """The part of ``GET /status`` that is about these names, or about the process itself."""
        found: dict[str, Any] = {}
        for key, value in status.items():
            if key.startswith(_UPSTREAM):
                if key[len(_UPSTREAM) :] in self:
                    found[key] = value
            elif key in _BY_NAME:
                found[key] = {name: one for name, one in value.items() if name in self}
            elif key in _ABOUT_PROCESS:
                found[key] = value
        return found


#: The names of a token that is not limited.
EVERYTHING = Names()
