"""How many files and sockets the process may have open."""

from __future__ import annotations

import os
import resource

__all__ = ["clients_at_most", "descriptor_limit", "raise_descriptor_limit"]

#: Asked for where the hard limit is none, or more than anybody needs: two descriptors
#: for each of half a million clients.
_PLENTY = 1 << 20
#: Left free of clients: for calls of the control channel, files of the store, lookups.
_SPARE = 16


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


def descriptor_limit() -> int:
    """The soft limit that holds now."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def clients_at_most() -> int:
    """How many clients this process has descriptors for, by the limit that holds now.

    Two for each, its own and that of the connection to a server, as HAProxy counts its
    ``maxconn``: who is accepted beyond that takes the descriptors with which the others
    could be served.  At least 1; to be asked before there are any, for what is open now
    is taken for what is always open.
    """
    limit = descriptor_limit()
    if limit == resource.RLIM_INFINITY:
        limit = _PLENTY
    try:
        in_use = len(os.listdir("/proc/self/fd"))
    except OSError:
        in_use = _SPARE
    return max(1, (limit - in_use - _SPARE) // 2)
