-- From schema version 1 to 2: a history with a limit, and from where a change came.

ALTER TABLE changes ADD COLUMN place TEXT NOT NULL DEFAULT '';

CREATE INDEX changes_by_thing ON changes (kind, name, id);

CREATE TABLE history (
    pruned INTEGER NOT NULL,
    oldest INTEGER NOT NULL
);

INSERT INTO history VALUES (0, 0);
