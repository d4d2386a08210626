"""A process that commits until it is killed; run by ``test_sqlite_kill``.

It reads file names from its input, and for each forks a process that opens the store
there and commits one change after the other, so that fifty of them cost one start of
Python.  Its output, a line each: ``pid N`` once forked, ``open V`` once the store is
open, ``V`` for each version that was answered, ``ended N`` with the signal that ended it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet import epollreactor
from twisted.internet.defer import ensureDeferred

from slardar.model.change import Change
from slardar.stores.sqlite import SqliteStore

NAMES = 20


def change_to(version: int) -> Change:
    """The change that makes version ``version``."""
    if version % 11 == 0:
        return Change("routes", "", [{"path": f"/{version}", "upstream": "u"}], "writer", version)
    removed = version % 7 == 0
    value = None if removed else {"version": version, "text": "x" * (version * 997 % 8000)}
    return Change("upstream", f"u{version % NAMES}", value, "writer", version)


def say(line: str) -> None:
    """Write one line at once, without a buffer that a kill could take away."""
    os.write(1, f"{line}\n".encode())


async def commit_for_ever(store: Any) -> None:
    version = (await store.open()).version
    say(f"open {version}")
    # The log is copied into the file every 40 pages instead of 1000, which a few commits
    # fill, so that kills also happen during the copying.
    await store._thread.run(store._file._connection.execute, "PRAGMA wal_autocheckpoint = 40")
    while True:
        await store.commit(version, [change_to(version + 1)], version + 1)
        version += 1
        say(str(version))


def write(path: str) -> None:
    """The work of a forked process; never returns."""
    epollreactor.install()
    from twisted.internet import reactor  # noqa: TID251

    running: Any = reactor

    def failed(reason: object) -> None:
        print(reason, file=sys.stderr, flush=True)
        os._exit(1)

    running.callWhenRunning(
        lambda: ensureDeferred(commit_for_ever(SqliteStore(path, running))).addErrback(failed)
    )
    running.run()
    os._exit(2)


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            write(line.rstrip("\n"))
        say(f"pid {pid}")
        _, status = os.waitpid(pid, 0)
        say(f"ended {os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}")


if __name__ == "__main__":
    main()
