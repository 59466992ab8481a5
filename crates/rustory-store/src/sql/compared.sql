INSERT INTO peer_state (peer, device_id, head_log, head, compared_head, compared_at,
  ours_count, ours_digest, theirs_count, theirs_digest)
VALUES (?1, ?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT (peer) DO UPDATE SET
  device_id = ?1, head_log = ?2, head = ?3, compared_head = ?3, compared_at = ?4,
  ours_count = ?5, ours_digest = ?6, theirs_count = ?7, theirs_digest = ?8
