//! The peer book: where peers were last reached, so that devices meet again without asking anybody.

use rusqlite::params;
use rustory_core::Timestamp;

use crate::error::StoreError;
use crate::open::{Store, set_meta};

/// Addresses kept for one peer; the newest stay.
const ADDRS_PER_PEER_MAX: i64 = 16;

/// Where a peer was once reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookEntry {
    /// The peer: its device id, or its id in the network.
    pub peer: String,
    /// Where.
    pub addr: String,
    /// When last, by our clock.
    pub seen_at: Timestamp,
}

impl Store {
    /// Notes that a peer was reached at an address.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn note_addr(&mut self, peer: &str, addr: &str, now: Timestamp) -> Result<(), StoreError> {
        self.write(|writer| {
            writer.run(|tx| {
                let note = "INSERT INTO peer_book (peer, addr, seen_at) VALUES (?1, ?2, ?3)
                            ON CONFLICT (peer, addr) DO UPDATE SET seen_at = max(seen_at, ?3)";
                tx.execute(note, params![peer, addr, now.as_micros()])?;
                let forget = "DELETE FROM peer_book WHERE peer = ?1 AND addr NOT IN
                    (SELECT addr FROM peer_book WHERE peer = ?1 ORDER BY seen_at DESC LIMIT ?2)";
                tx.execute(forget, params![peer, ADDRS_PER_PEER_MAX])
            })
        })?;
        Ok(())
    }

    /// Notes in which swarm this device is, by an opaque mark. In another one than before, peers of
    /// the network are forgotten, with their addresses and what was compared with them: they can't
    /// be met any more. Entries stay, and so do peers that are met over ssh or HTTP.
    ///
    /// Returns whether it was in another one.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing changed.
    pub fn enter_swarm(&mut self, mark: &[u8]) -> Result<bool, StoreError> {
        let before = self.meta("swarm_mark")?;
        if before.as_deref() == Some(mark) {
            return Ok(false);
        }
        self.write(|writer| {
            writer.run(|tx| {
                if before.is_some() {
                    // `device:` and `hub:` are notes beside the multiaddrs of peers.
                    let forget = "DELETE FROM peer_book
                        WHERE addr LIKE '/%' OR addr LIKE 'device:%' OR addr LIKE 'hub:%'";
                    tx.execute(forget, [])?;
                    let forget = "DELETE FROM peer_state
                        WHERE peer NOT IN (SELECT peer FROM peer_book)";
                    tx.execute(forget, [])?;
                }
                set_meta(tx, "swarm_mark", &mark)
            })
        })?;
        Ok(before.is_some())
    }

    /// All addresses, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn addr_book(&self) -> Result<Vec<BookEntry>, StoreError> {
        let sql = "SELECT peer, addr, seen_at FROM peer_book ORDER BY seen_at DESC, addr";
        let all = || -> rusqlite::Result<Vec<BookEntry>> {
            let mut query = self.conn.prepare_cached(sql)?;
            let rows = query.query_map([], |row| {
                Ok(BookEntry {
                    peer: row.get(0)?,
                    addr: row.get(1)?,
                    seen_at: Timestamp::from_micros(row.get(2)?).unwrap_or_default(),
                })
            })?;
            rows.collect()
        };
        all().map_err(|err| self.err(err))
    }
}
