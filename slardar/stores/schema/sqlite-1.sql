-- What slardar keeps in an SQLite file, schema version 1.

-- Every change ever made, oldest first; rows are added and never altered.  The
-- configuration's version is the greatest one here, and 0 while there is none.
-- A version may have several rows, for a change of several things at once.
CREATE TABLE changes (
    id      INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    time    REAL NOT NULL,    -- epoch seconds
    who     TEXT NOT NULL,    -- a token's name, or the channel it came through
    kind    TEXT NOT NULL,    -- 'upstream', 'routes', 'hook' or 'file'
    name    TEXT NOT NULL,    -- the upstream's or the hook's; '' for others
    value   TEXT              -- JSON as written; NULL: removed
);

CREATE INDEX changes_by_version ON changes (version);

-- What the changes add up to: the last value of each thing ever set.  Always
-- written in the same transaction as the change itself.
CREATE TABLE state (
    kind  TEXT NOT NULL,
    name  TEXT NOT NULL,
    value TEXT,               -- JSON as written; NULL: removed, and known to be
    PRIMARY KEY (kind, name)
);
