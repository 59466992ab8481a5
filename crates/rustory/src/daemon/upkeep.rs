//! What the daemon's log thread does besides answering sessions: it takes in what was typed, writes
//! down what became of peers, and tells when this device's own log has grown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use rustory_core::Timestamp;
use rustory_core::sync::LogIdentity;
use rustory_store::{Failure, PeerSeen, Store, StoreError};
use tokio::sync::mpsc::UnboundedSender;

use crate::ctx::{Ctx, now};
use crate::drain;
use crate::exchange::Round;

/// Something to write down.
#[derive(Debug)]
pub(super) enum Note {
    /// A device said hello.
    Seen(String, PeerSeen),
    /// A round with a device ended.
    Round(Box<Round>),
    /// It could not be reached, or the exchange broke off.
    Failed(String, String),
    /// A peer, or who is behind a hub's address, was found there.
    Address { peer: String, addr: String },
}

/// Something that the log's thread found out.
#[derive(Debug)]
pub(super) enum News {
    /// This device has typed more.
    Grew,
    /// The log has another identity now.
    Identity(LogIdentity),
    /// What is wrong with the log, or that nothing is any more.
    Problem(Option<String>),
}

/// The state between two jobs.
pub(super) struct Upkeep {
    ctx: Ctx,
    /// A spool file or the database has changed since it was last looked at.
    changed: Arc<AtomicBool>,
    notes: Receiver<Note>,
    news: UnboundedSender<News>,
    own_seq: Option<u64>,
    identity: LogIdentity,
    problem: Option<String>,
}

impl Upkeep {
    pub(super) fn new(
        ctx: &Ctx,
        store: &Store,
        changed: Arc<AtomicBool>,
        notes: Receiver<Note>,
        news: UnboundedSender<News>,
    ) -> Upkeep {
        Upkeep {
            ctx: ctx.clone(),
            changed,
            notes,
            news,
            own_seq: None,
            identity: identity(store),
            problem: None,
        }
    }

    /// Before each job of the log's thread.
    pub(super) fn before(&mut self, store: &mut Store) {
        let mut result = Ok(());
        // Cleared first: what is typed meanwhile sets it again.
        if self.changed.swap(false, Ordering::AcqRel) {
            result = drain::drain(&self.ctx, store).map(drop);
        }
        while let Ok(note) = self.notes.try_recv() {
            result = result.and(write(store, &note, now()));
        }
        result = result.and_then(|()| {
            let own_seq = store.own_seq()?;
            if self.own_seq.replace(own_seq) != Some(own_seq) {
                let _ = self.news.send(News::Grew);
            }
            Ok(())
        });
        let identity = identity(store);
        if identity != self.identity {
            self.identity = identity.clone();
            let _ = self.news.send(News::Identity(identity));
        }
        let problem = result.err().map(|err| err.to_string());
        if problem != self.problem {
            self.problem.clone_from(&problem);
            let _ = self.news.send(News::Problem(problem));
        }
    }
}

fn identity(store: &Store) -> LogIdentity {
    store.identity().clone()
}

fn write(store: &mut Store, note: &Note, now: Timestamp) -> Result<(), StoreError> {
    match note {
        Note::Seen(device_id, seen) => store.note_peer_seen(device_id, seen),
        Note::Round(round) => round.note(store),
        Note::Failed(device_id, text) => {
            let text = text.clone();
            store.note_failure(device_id, &Failure { text, at: now })
        }
        Note::Address { peer, addr } => store.note_addr(peer, addr, now),
    }
}
