//! What is remembered of each peer.

use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension as _, params};
use rustory_core::sync::Compared;
use rustory_core::{Cursor, IngestSeq, LogId, Tally, Timestamp};

use crate::error::StoreError;
use crate::migrations;
use crate::open::Store;
use crate::tally::tally;
use crate::write::Writer;

/// How far two logs have been exchanged, and how that went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// The name under which the peer was met: its device id, or its URL where it tells none.
    pub peer: String,
    /// Its device id, once it told one.
    pub device_id: Option<String>,
    /// How far its log is read; `None`: not at all.
    pub cursor: Option<Cursor>,
    /// What a person calls it.
    pub name: Option<String>,
    /// By which way it was reached last.
    pub path: Option<PeerPath>,
    /// When it was last reached, by our clock.
    pub last_seen: Option<Timestamp>,
    /// The last exchange that reached its end, by our clock.
    pub last_sync: Option<Timestamp>,
    /// The head that it told last.
    pub head: Option<Cursor>,
    /// What was found when the two logs were last compared.
    pub compared: Option<Comparison>,
    /// Why the last exchange failed, if it did.
    pub failure: Option<Failure>,
    /// Entries of the last exchange that this version could not read.
    pub unreadable: u64,
    /// Entries of the last exchange that are beyond its limits and stayed here.
    pub unsendable: u64,
}

/// The result of comparing two logs, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// What each side held.
    pub compared: Compared,
    /// By our clock.
    pub at: Timestamp,
}

/// An exchange that ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, for a person.
    pub text: String,
    /// By our clock.
    pub at: Timestamp,
}

/// A peer that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSeen {
    /// What a person calls it; empty: it tells none.
    pub name: String,
    /// How it was reached.
    pub path: PeerPath,
    /// The head that it told, if it told one.
    pub head: Option<Cursor>,
    /// By our clock.
    pub at: Timestamp,
}

/// An exchange that reached its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Entries of the peer that this version can't read.
    pub unreadable: u64,
    /// Entries of ours that are beyond the limits of the exchange.
    pub unsendable: u64,
    /// By our clock.
    pub at: Timestamp,
}

/// The way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerPath {
    /// In the same network.
    Lan,
    /// Through the internet, with nobody in between.
    Direct,
    /// Through a relay.
    Relay,
    /// Through ssh.
    Ssh,
    /// By the debug form.
    Http,
}

impl PeerPath {
    const ALL: [PeerPath; 5] = [
        PeerPath::Lan,
        PeerPath::Direct,
        PeerPath::Relay,
        PeerPath::Ssh,
        PeerPath::Http,
    ];

    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PeerPath::Lan => "lan",
            PeerPath::Direct => "direct",
            PeerPath::Relay => "relay",
            PeerPath::Ssh => "ssh",
            PeerPath::Http => "http",
        }
    }
}

/// A way that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a way to a peer is `lan`, `direct`, `relay`, `ssh` or `http`")]
pub struct PeerPathError;

impl FromStr for PeerPath {
    type Err = PeerPathError;

    fn from_str(text: &str) -> Result<PeerPath, PeerPathError> {
        let mut all = PeerPath::ALL.into_iter();
        all.find(|path| path.as_str() == text).ok_or(PeerPathError)
    }
}

impl PeerState {
    /// Whether both logs are proven to hold the same, given what ours holds now: they were the
    /// same when compared, and nothing was added here since.
    #[must_use]
    pub fn is_identical(&self, ours: Tally) -> bool {
        self.compared
            .is_some_and(|found| found.compared.identical() && found.compared.ours == ours)
    }

    /// How many positions of the peer's log are not read yet, as far as it told; `None`: not
    /// known. At most so many entries.
    #[must_use]
    pub fn behind_theirs(&self) -> Option<u64> {
        let (head, cursor) = (self.head?, self.cursor?);
        (head.log_id == cursor.log_id).then(|| head.seq.get().saturating_sub(cursor.seq.get()))
    }
}

impl Store {
    /// What is remembered of `peer`; `None` when it was never met.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn peer(&self, peer: &str) -> Result<Option<PeerState>, StoreError> {
        let all = self.peers_where("peer = ?1", Some(peer))?;
        Ok(all.into_iter().next())
    }

    /// Every peer ever met, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn peers(&self) -> Result<Vec<PeerState>, StoreError> {
        self.peers_where("?1 IS NULL", None)
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

    /// Notes that a peer was reached.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn note_peer_seen(&mut self, peer: &str, seen: &PeerSeen) -> Result<(), StoreError> {
        self.write(|writer| writer.note_peer_seen(peer, seen))
    }

    /// Notes that an exchange with a peer reached its end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn note_exchange(&mut self, peer: &str, exchange: &Exchange) -> Result<(), StoreError> {
        self.write(|writer| writer.note_exchange(peer, exchange))
    }

    /// Notes that a peer could not be reached, or an exchange with it ended early.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn note_failure(&mut self, peer: &str, failure: &Failure) -> Result<(), StoreError> {
        self.write(|writer| writer.note_failure(peer, failure))
    }

    fn peers_where(
        &self,
        condition: &str,
        param: Option<&str>,
    ) -> Result<Vec<PeerState>, StoreError> {
        let read = || -> rusqlite::Result<Vec<PeerState>> {
            let columns = match migrations::version(&self.conn)? {
                // On a disk that can't be written, and so not be brought up to date either.
                1 => COLUMNS_1,
                _ => COLUMNS,
            };
            let sql = format!("SELECT {columns} FROM peer_state WHERE {condition} ORDER BY peer");
            self.conn
                .prepare_cached(&sql)?
                .query_map([param], peer_state)?
                .collect()
        };
        read().map_err(|err| self.err(err))
    }
}

impl Writer<'_> {
    /// The same as [`Store::note_peer_seen`], in this transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn note_peer_seen(&mut self, peer: &str, seen: &PeerSeen) -> Result<(), StoreError> {
        let name = Some(&seen.name).filter(|name| !name.is_empty());
        let sql = "INSERT INTO peer_state (peer, device_id, name, path, last_seen, head_log, head)
                   VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6)
                   ON CONFLICT (peer) DO UPDATE SET
                     device_id = ?1, name = coalesce(?2, name), path = ?3, last_seen = ?4,
                     head_log = coalesce(?5, head_log), head = coalesce(?6, head)";
        self.run(|tx| {
            tx.prepare_cached(sql)?.execute(params![
                peer,
                name,
                seen.path.as_str(),
                seen.at.as_micros(),
                seen.head.as_ref().map(|head| &head.log_id.as_bytes()[..]),
                seen.head.map(|head| head.seq.as_rowid()),
            ])
        })?;
        Ok(())
    }

    /// The same as [`Store::note_exchange`], in this transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn note_exchange(&mut self, peer: &str, exchange: &Exchange) -> Result<(), StoreError> {
        let sql = "INSERT INTO peer_state
                     (peer, device_id, last_seen, last_sync, unreadable, unsendable)
                   VALUES (?1, ?1, ?2, ?2, ?3, ?4)
                   ON CONFLICT (peer) DO UPDATE SET
                     device_id = ?1, last_seen = ?2, last_sync = ?2, unreadable = ?3,
                     unsendable = ?4, error = NULL, error_at = NULL";
        self.run(|tx| {
            tx.prepare_cached(sql)?.execute(params![
                peer,
                exchange.at.as_micros(),
                exchange.unreadable.cast_signed(),
                exchange.unsendable.cast_signed(),
            ])
        })?;
        Ok(())
    }

    /// The same as [`Store::note_failure`], in this transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn note_failure(&mut self, peer: &str, failure: &Failure) -> Result<(), StoreError> {
        let sql = "INSERT INTO peer_state (peer, device_id, error, error_at)
                   VALUES (?1, ?1, ?2, ?3)
                   ON CONFLICT (peer) DO UPDATE SET error = ?2, error_at = ?3";
        self.run(|tx| {
            tx.prepare_cached(sql)?
                .execute(params![peer, failure.text, failure.at.as_micros()])
        })?;
        Ok(())
    }
}

const COLUMNS: &str = "peer, device_id, log_id, cursor, name, path, last_seen,
    last_sync, head_log, head, compared_at, compared_head, ours_count, ours_digest, theirs_count,
    theirs_digest, error, error_at, unreadable, unsendable";

/// The same of schema 1.
const COLUMNS_1: &str = "peer, device_id, log_id, cursor, NULL, NULL, synced_at,
    synced_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0";

pub(crate) fn read_cursor(conn: &Connection, peer: &str) -> rusqlite::Result<Option<Cursor>> {
    conn.prepare_cached("SELECT log_id, cursor FROM peer_state WHERE peer = ?1")?
        .query_row([peer], |row| cursor(row, 0))
        .optional()
        .map(Option::flatten)
}

/// A log id and the position in the column behind it; `None` where there is none.
fn cursor(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Cursor>> {
    let log_id: Option<[u8; 16]> = row.get(column)?;
    let seq: Option<i64> = row.get(column + 1)?;
    Ok(log_id.zip(seq).map(|(log_id, seq)| Cursor {
        log_id: LogId::from_bytes(log_id),
        seq: IngestSeq::from_rowid(seq),
    }))
}

fn time(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let micros: Option<i64> = row.get(column)?;
    Ok(micros.and_then(Timestamp::from_micros))
}

fn comparison(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Comparison>> {
    let Some(at) = time(row, 10)? else {
        return Ok(None);
    };
    Ok(Some(Comparison {
        compared: Compared {
            their_head: IngestSeq::from_rowid(row.get(11)?),
            ours: tally(row, 12)?,
            theirs: tally(row, 14)?,
        },
        at,
    }))
}

fn failure(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Failure>> {
    let text: Option<String> = row.get(16)?;
    let at = time(row, 17)?;
    Ok(text.zip(at).map(|(text, at)| Failure { text, at }))
}

fn peer_state(row: &rusqlite::Row<'_>) -> rusqlite::Result<PeerState> {
    Ok(PeerState {
        peer: row.get(0)?,
        device_id: row.get(1)?,
        cursor: cursor(row, 2)?,
        name: row.get(4)?,
        path: row
            .get::<_, Option<String>>(5)?
            .and_then(|path| path.parse().ok()),
        last_seen: time(row, 6)?,
        last_sync: time(row, 7)?,
        head: cursor(row, 8)?,
        compared: comparison(row)?,
        failure: failure(row)?,
        unreadable: row.get::<_, i64>(18)?.cast_unsigned(),
        unsendable: row.get::<_, i64>(19)?.cast_unsigned(),
    })
}
