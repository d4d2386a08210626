"""The history in an SQLite file: read in bounded steps, and shortened.

The table ``history`` has one row.  ``oldest`` is the oldest version whose state is known; its
changes, and those before it, are only kept as far as they make up this state: the last of each
thing.  ``pruned`` is the row up to which the changes are kept in this way.

Of a certificate a change has what may be shown.  Of what the client of a CA keeps (``acme``) there
is only the last change, without a value: it gives the commit its revision.
"""

from __future__ import annotations

import sqlite3
from collections import deque

from msgspec import structs

from slardar.model.change import SECRET, Change, Recorded, StoredState
from slardar.stores.written import (
    MAX_PAGE,
    MAX_ROWS,
    PRUNED_AT_ONCE,
    Row,
    no_such_version,
    place_in_file,
    stored_state,
)

__all__ = ["forget_all_but_last", "page", "prune", "state_at", "versions"]

_OLD = "SELECT value FROM changes WHERE kind = ? AND name = ? AND id < ? ORDER BY id DESC LIMIT 1"


def versions(connection: sqlite3.Connection) -> deque[int]:
    """The versions that can be told of, in order."""
    _, oldest = _limits(connection)
    rows = connection.execute(
        "SELECT DISTINCT version FROM changes WHERE version > ? AND kind <> 'acme'"
        " ORDER BY version",
        (oldest,),
    )
    return deque(version for (version,) in rows)


def prune(connection: sqlite3.Connection, wanted: int) -> int:
    """Forget what is before the version ``wanted``, in part if it is much.  Part of a commit.

    Returns the oldest version whose state is known now.
    """
    pruned, oldest = _limits(connection)
    rows = connection.execute(
        "SELECT id, version, kind, name FROM changes WHERE id > ? AND version <= ?"
        " ORDER BY id LIMIT ?",
        (pruned, wanted, PRUNED_AT_ONCE),
    ).fetchall()
    for row, version, kind, name in rows:
        # Of what is before this row, only the last change of each thing is left.
        connection.execute(
            "DELETE FROM changes WHERE kind = ? AND name = ? AND id < ?", (kind, name, row)
        )
        pruned, oldest = row, version
    if rows:
        connection.execute("UPDATE history SET pruned = ?, oldest = ?", (pruned, oldest))
    return oldest


def forget_all_but_last(connection: sqlite3.Connection, kind: str, name: str) -> None:
    """Forget the changes of a thing but the last one.  Part of a commit."""
    connection.execute(
        "DELETE FROM changes WHERE kind = ? AND name = ? AND id <"
        " (SELECT max(id) FROM changes WHERE kind = ? AND name = ?)",
        (kind, name, kind, name),
    )


def _limits(connection: sqlite3.Connection) -> tuple[int, int]:
    # Whatever somebody has made of the table: two numbers.
    pruned, oldest = connection.execute(
        "SELECT CAST(coalesce(max(pruned), 0) AS INTEGER),"
        " CAST(coalesce(max(oldest), 0) AS INTEGER) FROM history"
    ).fetchone()
    return pruned, oldest


def page(connection: sqlite3.Connection, before: int | None, limit: int) -> list[Recorded]:
    """See :meth:`slardar.interfaces.IStore.history`."""
    _, oldest = _limits(connection)
    found: list[Recorded] = []
    size = 0
    version = 2**63 - 1 if before is None else before
    while len(found) < limit:
        (version,) = connection.execute(
            "SELECT max(version) FROM changes WHERE version < ? AND version > ? AND kind <> 'acme'",
            (version, oldest),
        ).fetchone()
        if version is None:
            break
        rows = connection.execute(
            "SELECT id, kind, name, who, time, place, value FROM changes WHERE version = ?"
            " AND kind <> 'acme' ORDER BY id LIMIT ?",
            (version, MAX_ROWS),
        )
        number = 0
        for number, (key, *columns) in enumerate(rows, 1):
            one = _row(connection, version, key, *columns)
            size += one.size
            if found and size > MAX_PAGE:
                if number == 1:
                    return found
                number -= 1
                break
            found.append(one.read())
        (count,) = connection.execute(
            "SELECT count(*) FROM changes WHERE version = ? AND kind <> 'acme'", (version,)
        ).fetchone()
        found[-1] = structs.replace(found[-1], more=count - number)
    return found


def _row(
    connection: sqlite3.Connection,
    version: int,
    key: int,
    kind: str,
    name: str,
    who: str,
    time: float,
    place: str,
    text: str | None,
) -> Row:
    old = connection.execute(_OLD, (kind, name, key)).fetchone()
    said = None
    in_file = place_in_file(kind, name)
    if in_file:
        said = connection.execute(_OLD, ("file", in_file, key)).fetchone()
    return Row(
        version,
        Change(kind, name, None, who, time, place),  # type: ignore[arg-type]
        text,
        old and old[0],
        old is not None,
        said and said[0],
    )


def state_at(connection: sqlite3.Connection, version: int) -> StoredState:
    """See :meth:`slardar.interfaces.IStore.state_at`."""
    _, oldest = _limits(connection)
    (newest,) = connection.execute("SELECT max(version) FROM changes").fetchone()
    if not oldest <= version <= (newest or 0):
        raise no_such_version(version, oldest, newest or 0)
    # The version of the last commit that counts: an index has the order of versions, not of rows.
    (made,) = connection.execute(
        "SELECT max(version) FROM changes WHERE version <= ?", (version,)
    ).fetchone()
    (last,) = connection.execute(
        "SELECT max(id) FROM changes WHERE version = ?", (made,)
    ).fetchone()
    rows = connection.execute(
        "SELECT kind, name, value FROM changes WHERE id IN"
        " (SELECT max(id) FROM changes WHERE id <= ? GROUP BY kind, name)",
        (last or 0,),
    )
    return stored_state(version, 0, (row for row in rows if row[0] not in SECRET))
