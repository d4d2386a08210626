"""How many files and sockets the process may have open."""

from __future__ import annotations

import resource

__all__ = ["raise_descriptor_limit"]

#: Asked for where the hard limit is none, or more than anybody needs: two descriptors
#: for each of half a million clients.
_PLENTY = 1 << 20


def raise_descriptor_limit() -> int:
    """Raise the soft limit to the hard one, as nginx's ``worker_rlimit_nofile`` does for
    those who think of it; answers the limit that holds now.

    The usual soft limit of 1,024 ends at some 500 clients.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _PLENTY if hard == resource.RLIM_INFINITY else min(hard, _PLENTY)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft  # less than the system's own limit, whatever that is here
    return wanted
