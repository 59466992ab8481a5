-- What proves that two logs hold the same: per origin how many entries there are, the sum of their
-- hashes, and which of its numbers are there. Kept in the transaction of every insert; counted
-- from the rows by the code beside this step.

ALTER TABLE devices ADD COLUMN count  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN digest BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';

-- The device_seq that are there. Runs of one device neither overlap nor touch.
CREATE TABLE runs (
  device INTEGER NOT NULL,              -- devices.id
  first  INTEGER NOT NULL,
  last   INTEGER NOT NULL,
  PRIMARY KEY (device, first)
) WITHOUT ROWID;

-- Per peer: how far its log is read (the cursor), what was last proven, and how the last exchanges
-- went. Times are microseconds since 1970, by our clock.
CREATE TABLE peer_state_2 (
  peer          TEXT NOT NULL PRIMARY KEY,  -- its device id
  device_id     TEXT,
  log_id        BLOB,                       -- NULL: its log was never read
  cursor        INTEGER,
  name          TEXT,
  path          TEXT,                       -- lan, direct, relay, ssh, http
  last_seen     INTEGER,
  last_sync     INTEGER,
  -- The head that it told last, and of which log.
  head_log      BLOB,
  head          INTEGER,
  -- The last comparison: what each side held, and the peer's head then.
  compared_at   INTEGER,
  compared_head INTEGER,
  ours_count    INTEGER,
  ours_digest   BLOB,
  theirs_count  INTEGER,
  theirs_digest BLOB,
  -- The last exchange, if it failed.
  error         TEXT,
  error_at      INTEGER,
  -- Of the last exchange.
  unreadable    INTEGER NOT NULL DEFAULT 0,
  unsendable    INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
INSERT INTO peer_state_2 (peer, device_id, log_id, cursor, last_seen, last_sync)
  SELECT peer, device_id, log_id, cursor, synced_at, synced_at FROM peer_state;
DROP TABLE peer_state;
ALTER TABLE peer_state_2 RENAME TO peer_state;
