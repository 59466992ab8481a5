INSERT INTO peer_state (peer, device_id, log_id, cursor, pushed, last_seen, last_sync)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
ON CONFLICT (peer) DO UPDATE SET
  device_id   = coalesce(?2, device_id),
  cursor      = CASE WHEN log_id IS ?3 THEN max(cursor, ?4) ELSE ?4 END,
  pushed      = CASE WHEN log_id IS ?3 THEN max(pushed, ?5) ELSE ?5 END,
  compared_at = CASE WHEN log_id IS ?3 THEN compared_at END,
  log_id      = ?3,
  last_seen   = ?6,
  last_sync   = ?6
