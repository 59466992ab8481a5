//! What is remembered of each peer.

use rusqlite::OptionalExtension as _;
use rustory_core::{Cursor, IngestSeq, LogId, Timestamp};

use crate::error::StoreError;
use crate::open::Store;

/// How far two logs have been exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// The name under which the peer was met: its device id, or its URL where it tells none.
    pub peer: String,
    /// Its device id, once it told one.
    pub device_id: Option<String>,
    /// How far its log is read.
    pub cursor: Cursor,
    /// Our own log up to here is known to be there.
    pub pushed: IngestSeq,
    /// Whether a whole exchange was completed since the cursor began.
    pub complete: bool,
    /// The last exchange that moved something or found nothing to move, by our clock.
    pub synced_at: Timestamp,
}

impl Store {
    /// What is remembered of `peer`; `None` when it was never met.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn peer(&self, peer: &str) -> Result<Option<PeerState>, StoreError> {
        let sql = "SELECT peer, device_id, log_id, cursor, pushed, synced_at, complete
                   FROM peer_state WHERE peer = ?1";
        self.conn
            .prepare_cached(sql)
            .and_then(|mut query| query.query_row([peer], peer_state).optional())
            .map_err(|err| self.err(err))
    }

    /// The last number in this device's own count.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn own_seq(&self) -> Result<u64, StoreError> {
        let sql = "SELECT seq_max FROM devices WHERE device_id = ?1";
        self.conn
            .query_row(sql, [&self.identity().device_id], |row| {
                row.get::<_, i64>(0)
            })
            .optional()
            .map(|seq| seq.map_or(0, i64::cast_unsigned))
            .map_err(|err| self.err(err))
    }

    /// Every peer ever met, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn peers(&self) -> Result<Vec<PeerState>, StoreError> {
        let sql = "SELECT peer, device_id, log_id, cursor, pushed, synced_at, complete
                   FROM peer_state ORDER BY peer";
        let all = || -> rusqlite::Result<Vec<PeerState>> {
            self.conn
                .prepare_cached(sql)?
                .query_map([], peer_state)?
                .collect()
        };
        all().map_err(|err| self.err(err))
    }
}

fn peer_state(row: &rusqlite::Row<'_>) -> rusqlite::Result<PeerState> {
    Ok(PeerState {
        peer: row.get(0)?,
        device_id: row.get(1)?,
        cursor: Cursor {
            log_id: LogId::from_bytes(row.get(2)?),
            seq: IngestSeq::from_rowid(row.get(3)?),
        },
        pushed: IngestSeq::from_rowid(row.get(4)?),
        complete: row.get(6)?,
        synced_at: Timestamp::from_micros(row.get(5)?).unwrap_or_default(),
    })
}
