//! What is remembered of an exchange with another device, for `rr status`.

use rustory_core::sync::Hello;
use rustory_core::sync::session::Report;
use rustory_core::{Cursor, Timestamp};
use rustory_store::{Exchange, PeerPath, PeerSeen, Store, StoreError};

/// A device that said hello.
pub(crate) fn seen(peer: &Hello, path: PeerPath, now: Timestamp) -> PeerSeen {
    PeerSeen {
        name: peer.device_name.clone(),
        path,
        head: Some(Cursor {
            log_id: peer.log_id,
            seq: peer.head,
        }),
        at: now,
    }
}

/// A device that was met, and a round with it that reached its end.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    device_id: String,
    seen: PeerSeen,
    exchange: Exchange,
}

impl Round {
    pub(crate) fn new(peer: &Hello, path: PeerPath, report: &Report, now: Timestamp) -> Round {
        let head = report
            .compared
            .map_or(peer.head, |compared| compared.their_head);
        let mut seen = seen(peer, path, now);
        seen.head = Some(Cursor {
            log_id: peer.log_id,
            seq: head,
        });
        Round {
            device_id: peer.device_id.clone(),
            seen,
            exchange: Exchange {
                unreadable: report.unreadable,
                unsendable: report.unsendable,
                at: now,
            },
        }
    }

    /// Writes it down.
    pub(crate) fn note(&self, store: &mut Store) -> Result<(), StoreError> {
        store.write(|writer| {
            writer.note_peer_seen(&self.device_id, &self.seen)?;
            writer.note_exchange(&self.device_id, &self.exchange)
        })
    }
}
