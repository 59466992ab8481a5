-- Where to is decided in Claim::cursor_after.
INSERT INTO peer_state (peer, device_id, log_id, cursor) VALUES (?1, ?1, ?2, ?3)
ON CONFLICT (peer) DO UPDATE SET
  device_id   = ?1,
  cursor      = ?3,
  -- Another log: what was found of the one before holds no longer.
  compared_at = CASE WHEN log_id IS ?2 THEN compared_at END,
  log_id      = ?2
