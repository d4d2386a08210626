-- What slardar keeps in an SQLite file, schema version 2.

-- The changes, oldest first; rows are added, and never altered.  The
-- configuration's version is the greatest one here, and 0 while there is none.
-- A version may have several rows, for a change of several things at once.
-- A row goes when it is older than the history, and not the last of its thing there.
CREATE TABLE changes (
    id      INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    time    REAL NOT NULL,    -- epoch seconds
    who     TEXT NOT NULL,    -- a token's name, or the channel it came through
    -- 'upstream', 'service', 'routes', 'hook', 'setting', 'certificate', 'acme', 'file' or
    -- 'rollback'
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,    -- the upstream's or the hook's; of the file, what it says it of
    value   TEXT,             -- JSON as written; NULL: removed; without private keys
    place   TEXT NOT NULL DEFAULT '' -- the caller's address, 'unix', or '' without a call
);

CREATE INDEX changes_by_version ON changes (version);
CREATE INDEX changes_by_thing ON changes (kind, name, id);

-- One row: the oldest version whose state is known, and the last row of changes
-- before which only the last change of each thing is left.
CREATE TABLE history (
    pruned INTEGER NOT NULL,
    oldest INTEGER NOT NULL
);

INSERT INTO history VALUES (0, 0);

-- What the changes add up to: the last value of each thing ever set.  Always
-- written in the same transaction as the change itself.
CREATE TABLE state (
    kind  TEXT NOT NULL,
    name  TEXT NOT NULL,
    value TEXT,               -- JSON as written; NULL: removed, and known to be
    PRIMARY KEY (kind, name)
);
