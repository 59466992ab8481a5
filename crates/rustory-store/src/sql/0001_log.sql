-- The log and what hangs on it. Repeated text is stored once and named by a small integer.

CREATE TABLE meta (
  key   TEXT NOT NULL PRIMARY KEY,
  value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE devices (
  id        INTEGER PRIMARY KEY,
  device_id TEXT NOT NULL UNIQUE,
  -- Highest device_seq seen; on our own row the last one given out.
  seq_max   INTEGER NOT NULL DEFAULT 0,
  -- The entry with that number: its ingest_seq.
  newest    INTEGER
);

CREATE TABLE contexts (
  id       INTEGER PRIMARY KEY,
  user_id  TEXT NOT NULL,
  hostname TEXT NOT NULL,
  shell    TEXT NOT NULL,
  version  TEXT NOT NULL,
  UNIQUE (user_id, hostname, shell, version)
);

CREATE TABLE dirs (
  id   INTEGER PRIMARY KEY,
  path BLOB NOT NULL UNIQUE
);

CREATE TABLE sessions (
  id      INTEGER PRIMARY KEY,
  session TEXT NOT NULL UNIQUE
);

CREATE TABLE entries (
  ingest_seq  INTEGER PRIMARY KEY AUTOINCREMENT,
  entry_id    BLOB NOT NULL UNIQUE,     -- 16 bytes
  ts          INTEGER NOT NULL,         -- microseconds since 1970
  device      INTEGER NOT NULL,         -- devices.id
  device_seq  INTEGER,
  context     INTEGER NOT NULL,         -- contexts.id
  dir         INTEGER NOT NULL,         -- dirs.id
  session     INTEGER NOT NULL,         -- sessions.id
  exit_code   INTEGER,
  duration_ms INTEGER,
  cmd         NOT NULL,                 -- TEXT, or BLOB where it is not UTF-8
  extra       TEXT                      -- JSON object: fields of newer versions
);
CREATE INDEX entries_ts ON entries (ts);
CREATE INDEX entries_device ON entries (device);

-- How far each spool file is ingested, committed with the entries that it gave.
CREATE TABLE spool_files (
  name     TEXT NOT NULL PRIMARY KEY,
  inode    INTEGER NOT NULL,            -- which file of that name
  consumed INTEGER NOT NULL,
  done     INTEGER NOT NULL DEFAULT 0   -- durably ingested: the file may go
) WITHOUT ROWID;

-- Per peer: how far its log is read (the cursor), and how far ours is known to be there.
CREATE TABLE peer_state (
  peer      TEXT NOT NULL PRIMARY KEY,
  device_id TEXT,
  log_id    BLOB NOT NULL,
  cursor    INTEGER NOT NULL,
  pushed    INTEGER NOT NULL,
  -- A whole exchange was completed since the cursor began: each side has the other's own entries.
  complete  INTEGER NOT NULL DEFAULT 0,
  synced_at INTEGER NOT NULL            -- microseconds since 1970
) WITHOUT ROWID;

CREATE TABLE peer_book (
  peer    TEXT NOT NULL,
  addr    TEXT NOT NULL,
  seen_at INTEGER NOT NULL,             -- microseconds since 1970
  PRIMARY KEY (peer, addr)
) WITHOUT ROWID;

-- History files whose lines carry no time: how far each is imported (see docs/import.md).
CREATE TABLE import_sources (
  id     INTEGER PRIMARY KEY,
  format TEXT NOT NULL,
  path   BLOB NOT NULL,
  lines  INTEGER NOT NULL DEFAULT 0,    -- untimed lines gone through
  anchor BLOB NOT NULL DEFAULT x'',     -- keys of the last of them, 8 bytes each
  floor  INTEGER NOT NULL DEFAULT 0,    -- entries of hooks up to this ingest_seq were in the file, or never come
  UNIQUE (format, path)
);
