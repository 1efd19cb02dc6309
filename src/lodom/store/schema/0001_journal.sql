-- One row a record of the inventory. Every write is a compare-and-set on its version.
CREATE TABLE record (
    tab     TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    version INTEGER NOT NULL,
    body    TEXT    NOT NULL,
    PRIMARY KEY (tab, key)
) WITHOUT ROWID;

-- What the store knows of itself: the machine's instance id, made with it.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
