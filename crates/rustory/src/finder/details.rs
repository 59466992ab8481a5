//! What is shown beside a command: looked up for the rows on the screen only, on a thread of its
//! own, since a cold disk must not hold up a key.

use std::sync::mpsc::{Sender, channel};

use bstr::BString;
use rustory_core::spool::Typed;
use rustory_core::{Entry, IngestSeq, Timestamp};

use super::Event;
use super::corpus::Place;
use super::load::Source;
use super::tty::Waker;

/// An entry's context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Detail {
    pub(crate) ts: Timestamp,
    pub(crate) cwd: BString,
    pub(crate) exit_code: Option<i64>,
    pub(crate) duration_ms: Option<u64>,
    pub(crate) device_id: String,
    pub(crate) hostname: String,
    /// Typed on another device than this one.
    pub(crate) is_foreign: bool,
}

impl Detail {
    pub(crate) fn has_failed(&self) -> bool {
        self.exit_code.is_some_and(|code| code != 0)
    }

    pub(crate) fn of_waiting(typed: &Typed, own_device: &str) -> Detail {
        Detail {
            ts: typed.start.unwrap_or_default(),
            cwd: typed.cwd.clone(),
            exit_code: typed.exit_code,
            duration_ms: typed.duration_ms,
            device_id: own_device.to_owned(),
            hostname: typed.hostname.clone(),
            is_foreign: false,
        }
    }

    fn of_entry(entry: Entry, own_device: &str) -> Detail {
        Detail {
            ts: entry.ts,
            is_foreign: entry.device_id != own_device,
            device_id: entry.device_id,
            hostname: entry.hostname,
            cwd: entry.cwd,
            exit_code: entry.exit_code,
            duration_ms: entry.duration_ms,
        }
    }
}

/// Looks one entry up.
pub(crate) fn detail(source: &Source, place: Place) -> Option<Detail> {
    let store = source.store().ok().flatten();
    if let Some(typed) = source.waiting(place) {
        let own_device = store.map_or("", |store| store.identity().device_id.as_str());
        return Some(Detail::of_waiting(typed, own_device));
    }
    let store = store?;
    let entry = store.entry(IngestSeq::from_rowid(place)).ok()??;
    Some(Detail::of_entry(entry, &store.identity().device_id))
}

/// Starts the thread that looks entries up.
pub(crate) fn start(source: Source, events: Sender<Event>, waker: Waker) -> Sender<Vec<Place>> {
    let (sender, asked) = channel::<Vec<Place>>();
    std::thread::spawn(move || {
        while let Ok(mut places) = asked.recv() {
            // Only the last screen counts.
            while let Ok(newer) = asked.try_recv() {
                places = newer;
            }
            let found = places
                .into_iter()
                .map(|place| (place, detail(&source, place).unwrap_or_default()))
                .collect();
            if events.send(Event::Details(found)).is_err() {
                return;
            }
            waker.wake();
        }
    });
    sender
}
