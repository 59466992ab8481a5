-- A database as schema 1 made it, with what is awkward about it. Never to be changed.
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

INSERT INTO meta VALUES ('log_id', x'0102030405060708090a0b0c0d0e0f10'), ('device_id', 'own'), ('conflicts', 2);
-- `gone` has no entries; the newest of `gaps` was replaced by an entry of another device.
INSERT INTO devices VALUES (1, 'own', 4, 5), (2, 'gaps', 9, 99), (3, 'bare', 0, NULL), (7, 'gone', 0, NULL);
INSERT INTO contexts VALUES (1, 'me', 'desk', 'bash', '0.1.0'), (2, 'me', 'lap', 'zsh', '');
INSERT INTO dirs VALUES (1, x'2f686f6d65'), (2, x'2f636166e9'), (3, x'');
INSERT INTO sessions VALUES (1, 's1'), (2, 'import:zsh');
INSERT INTO entries VALUES
  (1,  x'018bcfe568007000800000000000000a', 1700000000000000, 1, 1, 1, 1, 1, 0, 12, 'ls', NULL),
  (2,  x'018bcfe568017000800000000000000b', 1700000000001000, 2, 3, 2, 2, 1, NULL, NULL, 'make', NULL),
  (3,  x'018bcfe568027000800000000000000c', 1700000000002000, 1, 2, 1, 1, 1, 1, 7, x'6563686f20ff', NULL),
  (5,  x'018bcfe568037000800000000000000d', 1700000000003000, 1, 4, 1, 1, 1, 0, 7, 'last', NULL),
  (6,  x'00000000000000000000000000000001', 5, 3, NULL, 2, 3, 2, NULL, NULL, 'old line', NULL),
  (7,  x'00000000000000000000000000000002', 6, 3, NULL, 2, 3, 2, NULL, NULL, 'old line', '{"a":0.1,"note":{"deep":[1,null]}}'),
  (8,  x'018bcfe568047000800000000000000e', 1700000000004000, 2, 1, 2, 2, 1, 130, 9000, 'sleep 9', NULL),
  (9,  x'018bcfe568057000800000000000000f', 1700000000005000, 2, 2, 2, 2, 1, 0, 1, 'true', NULL),
  (10, x'018bcfe5680670008000000000000010', 1700000000006000, 2, 7, 2, 2, 1, 0, 1, 'true', NULL),
  (11, x'018bcfe5680770008000000000000011', 1700000000007000, 2, 7, 2, 2, 1, 0, 1, 'a number given out twice', NULL);
INSERT INTO peer_state VALUES
  ('gaps', 'gaps', x'11111111111111111111111111111111', 41, 9, 1, 1700000000000000),
  ('http://x:1', NULL, x'22222222222222222222222222222222', 0, 0, 0, 1600000000000000);
INSERT INTO spool_files VALUES ('s1.spool', 5, 100, 0);
PRAGMA user_version = 1;
