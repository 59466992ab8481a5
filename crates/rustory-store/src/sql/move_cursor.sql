INSERT INTO peer_state (peer, device_id, log_id, cursor) VALUES (?1, ?1, ?2, ?3)
ON CONFLICT (peer) DO UPDATE SET
  device_id   = ?1,
  cursor      = ?3,
  -- Another log: what was known of the one before holds no longer.
  pushed      = CASE WHEN log_id IS ?2 THEN pushed ELSE 0 END,
  complete    = CASE WHEN log_id IS ?2 THEN complete ELSE 0 END,
  compared_at = CASE WHEN log_id IS ?2 THEN compared_at END,
  log_id      = ?2
