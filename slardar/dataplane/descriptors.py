"""How many files and sockets the process may have open."""

from __future__ import annotations

import os
import resource

__all__ = ["clients_at_most", "descriptor_limit", "raise_descriptor_limit"]

#: The highest limit that is asked for, where the hard limit is higher or there is none:
#: two descriptors for each of half a million clients.
_PLENTY = 1 << 20
#: Descriptors that clients may not have: they are for calls of the control channel, files
#: of the store and lookups of names.
_SPARE = 16


def raise_descriptor_limit() -> int:
    """Raise the soft limit to the hard one, at most to about a million; answers the limit
    that holds now.

    The usual soft limit of 1,024 is enough for some 500 clients.  nginx raises it only if
    ``worker_rlimit_nofile`` says so.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _PLENTY if hard == resource.RLIM_INFINITY else min(hard, _PLENTY)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft  # the system has a lower limit of its own
    return wanted


def descriptor_limit() -> int:
    """The soft limit of open files that holds now."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def clients_at_most(reserved: int = 0) -> int:
    """How many clients this process has descriptors for, by the limit that holds now.

    A client needs two, one for its own connection and one for the connection to a server,
    as HAProxy counts for its ``maxconn``.  One client more would take a descriptor with
    which another one could be served.  ``reserved`` more are for others.  The answer is at
    least 1.

    To be asked before there are clients: the files that are open now are taken for those
    that are always open.
    """
    limit = descriptor_limit()
    if limit == resource.RLIM_INFINITY:
        limit = _PLENTY
    try:
        in_use = len(os.listdir("/proc/self/fd"))
    except OSError:
        in_use = _SPARE
    return max(1, (limit - in_use - _SPARE - reserved) // 2)
