-- What was done: one row a command, or a side of a migration (core.history.Entry as JSON).
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE,
    began  REAL NOT NULL,
    body   TEXT NOT NULL
);

-- How many writes the journal has seen: ids of the stream of events are made from it.
INSERT OR IGNORE INTO meta VALUES ('sequence', '0');
