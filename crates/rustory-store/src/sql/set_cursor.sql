INSERT INTO peer_state (peer, device_id, log_id, cursor, pushed, synced_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (peer) DO UPDATE SET
  device_id = coalesce(?2, device_id),
  cursor    = CASE WHEN log_id = ?3 THEN max(cursor, ?4) ELSE ?4 END,
  pushed    = CASE WHEN log_id = ?3 THEN max(pushed, ?5) ELSE ?5 END,
  log_id    = ?3,
  synced_at = ?6
