//! The thread that searches: takes the last query asked, gives up those before it.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use super::Event;
use super::corpus::Corpus;
use super::matching::{Matches, Wanted, find};
use super::query::Query;
use super::tty::Waker;

/// What to search, and in what.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) number: u64,
    pub(crate) corpus: Arc<Corpus>,
    pub(crate) query: Query,
}

/// What a search found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) number: u64,
    pub(crate) corpus: Arc<Corpus>,
    pub(crate) query: Query,
    pub(crate) matches: Arc<Matches>,
}

/// Starts the thread.
pub(crate) fn start(wanted: Arc<Wanted>, events: Sender<Event>, waker: Waker) -> Sender<Ask> {
    let (sender, asked) = channel::<Ask>();
    std::thread::spawn(move || {
        let mut last: Option<Found> = None;
        while let Ok(mut ask) = asked.recv() {
            while let Ok(newer) = asked.try_recv() {
                ask = newer;
            }
            // Dropped before the search, so that an old corpus does not stay in memory beside it.
            last = last.filter(|last| Arc::ptr_eq(&last.corpus, &ask.corpus));
            let Some(found) = answer(ask, last.as_ref(), &wanted) else {
                continue;
            };
            last = Some(found.clone());
            if events.send(Event::Found(found)).is_err() {
                return;
            }
            waker.wake();
        }
    });
    sender
}

/// `None` when it is not wanted any more.
fn answer(ask: Ask, last: Option<&Found>, wanted: &Wanted) -> Option<Found> {
    let within = last
        .filter(|last| ask.query.narrows(&last.query))
        .map(|last| &*last.matches);
    let matches = find(&ask.corpus, &ask.query, within, wanted, ask.number)?;
    Some(Found {
        number: ask.number,
        corpus: ask.corpus,
        query: ask.query,
        matches: Arc::new(matches),
    })
}
