//! What the daemon's log thread does besides answering sessions: it takes in what was typed, writes
//! down what became of peers, and tells when the log has grown.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use rustory_core::sync::LogIdentity;
use rustory_core::{IngestSeq, Timestamp};
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
    /// A session found that the database can't be used: is that so still?
    Probe,
    /// A peer, or who is behind a hub's address, was found there.
    Address { peer: String, addr: String },
}

/// Something that the log's thread found out.
#[derive(Debug)]
pub(super) enum News {
    /// This device has typed more.
    Grew,
    /// Something came from other devices.
    Came,
    /// The user had a device forgotten; these are left.
    Forgot(HashSet<String>),
    /// The log has another identity now.
    Identity(LogIdentity),
    /// What is wrong with the log, or that nothing is any more.
    Problem(Option<String>),
}

/// Notes that wait for a database that can't be written; older ones are worth less than memory.
const WAITING_MAX: usize = 1_000;

/// The state between two jobs.
pub(super) struct Upkeep {
    ctx: Ctx,
    /// A spool file or the database has changed since it was last looked at.
    changed: Arc<AtomicBool>,
    notes: Receiver<Note>,
    /// Not written down yet.
    waiting: VecDeque<Note>,
    news: UnboundedSender<News>,
    own_seq: Option<u64>,
    head: Option<IngestSeq>,
    /// See [`Store::forgot`].
    forgot: Option<Vec<u8>>,
    identity: LogIdentity,
    problem: Option<String>,
    /// Somebody else told of a problem.
    doubted: bool,
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
            waiting: VecDeque::new(),
            news,
            own_seq: None,
            head: None,
            forgot: store.forgot().ok().flatten(),
            identity: identity(store),
            problem: None,
            doubted: false,
        }
    }

    /// Before each job of the log's thread.
    pub(super) fn before(&mut self, store: &mut Store) {
        let done = self.take_in(store).and_then(|()| self.write_down(store));
        let identity = identity(store);
        if identity != self.identity {
            self.identity = identity.clone();
            let _ = self.news.send(News::Identity(identity));
        }
        let problem = done.err().map(|err| err.to_string());
        if problem != self.problem || std::mem::take(&mut self.doubted) {
            self.problem.clone_from(&problem);
            let _ = self.news.send(News::Problem(problem));
        }
    }

    /// What was typed, and whatever else another process did to the database.
    fn take_in(&mut self, store: &mut Store) -> Result<(), StoreError> {
        // Cleared first: what is typed meanwhile sets it again.
        if self.changed.swap(false, Ordering::AcqRel) {
            let taken = store
                .reload_identity()
                .and_then(|()| self.forget(store))
                .and_then(|()| drain::drain(&self.ctx, store));
            if let Err(err) = taken {
                self.changed.store(true, Ordering::Release);
                return Err(err);
            }
        }
        let (own_seq, head) = (store.own_seq()?, store.head()?);
        let grew = self.own_seq.replace(own_seq) != Some(own_seq);
        let came = self.head.replace(head) != Some(head);
        if grew || came {
            let news = if grew { News::Grew } else { News::Came };
            let _ = self.news.send(news);
        }
        Ok(())
    }

    /// Another process had a device forgotten.
    fn forget(&mut self, store: &Store) -> Result<(), StoreError> {
        let forgot = store.forgot()?;
        if self.forgot != forgot {
            let _ = self.news.send(News::Forgot(store.remembered()?));
            self.forgot = forgot;
        }
        Ok(())
    }

    /// Notes stay until they are written: that one can be is how a problem is found to be gone.
    fn write_down(&mut self, store: &mut Store) -> Result<(), StoreError> {
        self.waiting.extend(self.notes.try_iter());
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
        }
        while let Some(note) = self.waiting.front() {
            self.doubted |= matches!(note, Note::Probe);
            write(store, note, now())?;
            self.waiting.pop_front();
        }
        Ok(())
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
        // Takes the lock and changes nothing.
        Note::Probe => store.write(|_| Ok(())),
        Note::Address { peer, addr } => store.note_addr(peer, addr, now),
    }
}
