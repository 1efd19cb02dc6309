-- SQLite does not notice a bit that changed within a value. NULL: written by a release before this.
ALTER TABLE record ADD COLUMN crc INTEGER;
