//! The peer book: where peers were last reached, so that devices meet again without asking anybody.

use std::collections::HashSet;

use rusqlite::params;
use rustory_core::Timestamp;

use crate::error::StoreError;
use crate::open::{Store, random, set_meta};

/// Addresses kept for one peer; the newest stay.
const ADDRS_PER_PEER_MAX: i64 = 16;

/// A peer whose device is met under another id in the network since is kept for so long, in
/// microseconds: 30 days, for whoever tries a backup and goes back.
const REPLACED_FOR: i64 = 30 * 86_400 * 1_000_000;

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

    /// Removes peers that were not seen for 30 days and whose device is met as another peer since: it
    /// has another key. Returns how many rows that were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_replaced(&mut self, now: Timestamp) -> Result<usize, StoreError> {
        let sql = "DELETE FROM peer_book WHERE peer IN
                     (SELECT old.peer FROM peer_book old JOIN peer_book new
                        ON new.addr = old.addr AND new.peer <> old.peer AND new.seen_at > old.seen_at
                      WHERE old.addr LIKE 'device:%')
                   AND peer NOT IN (SELECT peer FROM peer_book WHERE seen_at >= ?1)";
        let before = now.as_micros().saturating_sub(REPLACED_FOR);
        self.write(|writer| writer.run(|tx| tx.execute(sql, [before])))
    }

    /// Forgets a device: how far its log is read, what was compared, where it was reached. Its entries
    /// stay.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_peer(&mut self, device_id: &str) -> Result<(), StoreError> {
        self.write(|writer| {
            writer.run(|tx| {
                tx.execute("DELETE FROM peer_state WHERE peer = ?1", [device_id])?;
                let book = "DELETE FROM peer_book WHERE peer = ?1 OR peer IN
                              (SELECT peer FROM peer_book WHERE addr = 'device:' || ?1)";
                tx.execute(book, [device_id])?;
                set_meta(tx, "forgot", &random::<8>())
            })
        })
    }

    /// Another value whenever a device was forgotten, for a program that remembers them as well.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forgot(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.meta("forgot")
    }

    /// The ids of all devices that were met and not forgotten.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remembered(&self) -> Result<HashSet<String>, StoreError> {
        let met = self.peers()?.into_iter().map(|peer| peer.peer);
        let book = self.addr_book()?.into_iter();
        let noted = book.filter_map(|it| it.addr.strip_prefix("device:").map(str::to_owned));
        Ok(met.chain(noted).collect())
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
