INSERT INTO peer_state (peer, device_id, log_id, cursor) VALUES (?1, ?1, ?2, 0)
ON CONFLICT (peer) DO UPDATE SET device_id = ?1, log_id = ?2, cursor = 0, compared_at = NULL
