//! A peer that lies: what an honest device would say, changed in ways that no check of a frame
//! notices.

use rustory_core::cursor::{Cursor, IngestSeq, LogId};
use rustory_core::digest::{Digest, Tally};
use rustory_core::entry::{Entry, EntryId};
use rustory_core::sync::{
    Ack, Batch, Close, Fetch, Have, HaveWhat, Heard, Hello, Message, News, Origin, Reason,
    Reconcile, Standing, Stretch, Summary, Wanted,
};

use crate::rng::Rng;

/// How a device lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Changes every so-manieth message.
    Changes(u64),
    /// Says everything a hundred times.
    Floods,
    /// Sends a byte a second.
    Trickles,
    /// Says nothing after so many messages.
    FallsSilent(u64),
    /// Says nothing after so many messages, but that it is at work.
    Waits(u64),
    /// Never ends what it sends.
    Endless,
    /// Says what it likes when it likes.
    Babbles,
}

impl Lie {
    /// Any.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Lie {
        match rng.below(12) {
            0..=5 => Lie::Changes(rng.pick(&[1, 3, 10])),
            6 => Lie::Floods,
            7 => Lie::Trickles,
            8 => Lie::FallsSilent(rng.below(8)),
            9 => Lie::Waits(rng.below(8)),
            10 => Lie::Endless,
            _ => Lie::Babbles,
        }
    }
}

/// What a liar knows of the world, to lie better.
#[derive(Debug)]
pub(crate) struct Gossip<'a> {
    /// Entries that are somewhere.
    pub(crate) entries: &'a [Entry],
    /// Devices that are somewhere, and their logs.
    pub(crate) devices: &'a [(String, LogId)],
}

/// What is sent in place of a message.
pub(crate) fn lie(
    how: Lie,
    sent_before: u64,
    message: Message,
    gossip: &Gossip<'_>,
    rng: &mut Rng,
) -> Vec<Message> {
    match how {
        Lie::Changes(every) if rng.below(every) == 0 => changed(message, gossip, rng),
        Lie::Floods if !matches!(message, Message::Hello(_)) => {
            let what = match rng.below(4) {
                0 => Message::News(News {
                    entries: some_entries(gossip, rng).into(),
                    stretch: None,
                    standing: None,
                }),
                1 => Message::Offer(Summary::default()),
                2 => Message::Standing(Standing {
                    head: far(),
                    tally: Tally::default(),
                }),
                _ => message.clone(),
            };
            let mut all = vec![what; 100];
            all.push(message);
            all
        }
        Lie::FallsSilent(after) | Lie::Waits(after) if sent_before >= after => Vec::new(),
        Lie::Endless => match message {
            Message::Hello(hello) => vec![Message::Hello(Hello {
                head: far(),
                tally: Tally {
                    count: u64::MAX,
                    digest: hello.tally.digest,
                },
                origins: hello.origins.map(|summary| Summary {
                    head: far(),
                    ..summary
                }),
                ..hello
            })],
            Message::Origins(summary) => vec![Message::Origins(Summary {
                head: far(),
                ..summary
            })],
            Message::Batch(batch) => vec![Message::Batch(Batch {
                end: false,
                ..batch
            })],
            other => vec![other],
        },
        _ => vec![message],
    }
}

fn far() -> IngestSeq {
    IngestSeq::new(i64::MAX as u64).expect("the largest")
}

/// Anything, without a reason.
pub(crate) fn babble(gossip: &Gossip<'_>, rng: &mut Rng) -> Message {
    let summary = Summary {
        head: place(rng),
        origins: origins(gossip, rng),
    };
    match rng.below(13) {
        0 => Message::Origins(summary),
        1 => Message::Offer(summary),
        2 => Message::Pull(wanted(gossip, rng)),
        3 => Message::Accept(wanted(gossip, rng)),
        4 => Message::Batch(Batch {
            entries: some_entries(gossip, rng).into(),
            stretch: (rng.below(2) == 0).then(|| stretch(rng)),
            end: rng.below(2) == 0,
            mends: (rng.below(2) == 0).then_some(true),
        }),
        5 => Message::Ack(Ack {
            batches: rng.pick(&[0, 1, u32::MAX]),
            inserted: rng.pick(&[0, 1, u64::MAX]),
        }),
        6 => Message::Later,
        7 => Message::Reconcile(Reconcile {
            origins: None,
            first: rng.below(2) == 0,
            step: junk(rng),
            damaged: (rng.below(2) == 0).then_some(true),
        }),
        8 => Message::Fetch(Fetch { ids: ids(rng) }),
        9 => Message::News(News {
            entries: some_entries(gossip, rng).into(),
            stretch: (rng.below(2) == 0).then(|| stretch(rng)),
            standing: (rng.below(2) == 0).then(|| standing(&summary, rng)),
        }),
        10 => Message::Heard((rng.below(4) > 0).then(|| heard(rng))),
        11 => Message::Standing(standing(&summary, rng)),
        _ => Message::Close(Close {
            reason: Reason(rng.below(10) as u32),
            text: None,
        }),
    }
}

/// Entries that are somewhere, or different ones under their ids, or made up; from a small stock,
/// so that even a liar runs out of news.
pub(crate) fn some_entries(gossip: &Gossip<'_>, rng: &mut Rng) -> Vec<Entry> {
    let mut entries = Vec::new();
    for _ in 0..rng.below(3) {
        let Some(entry) = gossip.entries.get(rng.index(gossip.entries.len().max(1))) else {
            continue;
        };
        if entry.validate().is_err() {
            continue;
        }
        let mut entry = entry.clone();
        match rng.below(4) {
            0 => entry.cmd.push(b'!'),
            1 => {
                entry.id = EntryId::from_bytes([rng.below(8) as u8; 16]);
                entry.cmd = "made up".into();
                entry.device_seq = None;
                entry.device_id = gossip.devices[rng.index(gossip.devices.len())].0.clone();
            }
            _ => {}
        }
        entries.push(entry);
    }
    entries
}

fn place(rng: &mut Rng) -> IngestSeq {
    match rng.below(3) {
        0 => IngestSeq::ZERO,
        1 => far(),
        _ => IngestSeq::new(rng.below(100)).expect("small"),
    }
}

fn stretch(rng: &mut Rng) -> Stretch {
    Stretch {
        after: place(rng),
        last: place(rng),
    }
}

fn junk(rng: &mut Rng) -> Vec<u8> {
    let mut junk = vec![0x61];
    for _ in 0..rng.below(60) {
        junk.push(rng.any() as u8);
    }
    junk
}

fn ids(rng: &mut Rng) -> Vec<EntryId> {
    let count = rng.pick(&[0, 1, 2_000]);
    let id = |_| EntryId::from_bytes([rng.any() as u8; 16]);
    (0..count).map(id).collect()
}

fn origins(gossip: &Gossip<'_>, rng: &mut Rng) -> Vec<Origin> {
    let mut names: Vec<&String> = gossip.devices.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    let origins = names.into_iter().map(|name| Origin {
        device_id: name.clone(),
        through: rng.pick(&[0, 5, u64::MAX]),
        tally: Tally {
            count: rng.pick(&[0, 5, u64::MAX]),
            digest: Digest(u128::from(rng.any())),
        },
    });
    origins.collect()
}

fn wanted(gossip: &Gossip<'_>, rng: &mut Rng) -> Wanted {
    let (_, log_id) = gossip.devices[rng.index(gossip.devices.len())];
    let seq = place(rng);
    let have = gossip.devices.iter().map(|(name, _)| Have {
        device_id: name.clone(),
        what: rng.pick(&[HaveWhat::Everything, HaveWhat::Through(u64::MAX)]),
    });
    let have = have.collect();
    Wanted {
        cursor: (rng.below(3) > 0).then_some(Cursor { log_id, seq }),
        have,
    }
}

fn changed(message: Message, gossip: &Gossip<'_>, rng: &mut Rng) -> Vec<Message> {
    if rng.below(8) == 0 {
        return vec![babble(gossip, rng)];
    }
    if rng.below(8) == 0 {
        return vec![message.clone(), message];
    }
    vec![match message {
        Message::Hello(hello) => Message::Hello(changed_hello(hello, gossip, rng)),
        Message::Origins(summary) => Message::Origins(changed_summary(summary, gossip, rng)),
        Message::Offer(summary) => Message::Offer(changed_summary(summary, gossip, rng)),
        Message::Pull(_) => Message::Pull(wanted(gossip, rng)),
        Message::Accept(_) => match rng.below(2) {
            0 => Message::Later,
            _ => Message::Accept(wanted(gossip, rng)),
        },
        Message::Batch(batch) => Message::Batch(changed_batch(batch, gossip, rng)),
        Message::Ack(ack) => Message::Ack(Ack {
            batches: rng.pick(&[0, ack.batches.saturating_add(1), u32::MAX]),
            inserted: u64::MAX,
        }),
        Message::Reconcile(step) => Message::Reconcile(changed_step(step, rng)),
        Message::Fetch(_) => Message::Fetch(Fetch { ids: ids(rng) }),
        Message::News(news) => Message::News(News {
            entries: match rng.below(2) {
                0 => some_entries(gossip, rng).into(),
                _ => news.entries,
            },
            stretch: Some(stretch(rng)),
            standing: match rng.below(3) {
                0 => None,
                1 => Some(Standing {
                    head: place(rng),
                    tally: news.standing.map_or(Tally::default(), |told| told.tally),
                }),
                _ => news.standing,
            },
        }),
        Message::Heard(_) if rng.below(2) == 0 => Message::Heard(Some(heard(rng))),
        Message::Standing(standing) => Message::Standing(Standing {
            head: place(rng),
            tally: standing.tally,
        }),
        Message::Later | Message::Heard(_) | Message::Wait | Message::Close(_) => {
            babble(gossip, rng)
        }
    }]
}

fn standing(summary: &Summary, rng: &mut Rng) -> Standing {
    Standing {
        head: place(rng),
        tally: summary.tally(),
    }
}

fn heard(rng: &mut Rng) -> Heard {
    Heard {
        inserted: rng.pick(&[0, 1, u64::MAX]),
        same: (rng.below(2) == 0).then(|| place(rng)),
    }
}

fn changed_hello(mut hello: Hello, gossip: &Gossip<'_>, rng: &mut Rng) -> Hello {
    match rng.below(6) {
        0 => hello.head = place(rng),
        1 => hello.tally.count = rng.pick(&[0, u64::MAX]),
        2 => hello.tally.digest = Digest(u128::from(rng.any())),
        3 => hello.log_id = LogId::from_bytes([rng.any() as u8; 16]),
        // It says that it is another one.
        4 => {
            (hello.device_id, hello.log_id) =
                gossip.devices[rng.index(gossip.devices.len())].clone()
        }
        _ => {
            hello.origins = Some(Summary {
                head: place(rng),
                origins: origins(gossip, rng),
            });
        }
    }
    hello
}

fn changed_summary(mut summary: Summary, gossip: &Gossip<'_>, rng: &mut Rng) -> Summary {
    match rng.below(4) {
        0 => summary.head = place(rng),
        1 => drop(summary.origins.pop()),
        2 => summary.origins = origins(gossip, rng),
        _ => {
            for origin in &mut summary.origins {
                origin.through = rng.pick(&[0, origin.through, u64::MAX]);
                origin.tally.count = rng.pick(&[0, origin.tally.count, u64::MAX]);
            }
        }
    }
    summary
}

fn changed_batch(mut batch: Batch, gossip: &Gossip<'_>, rng: &mut Rng) -> Batch {
    match rng.below(7) {
        0 => batch.entries.entries.clear(),
        1 => batch.end = !batch.end,
        2 => batch.stretch = Some(stretch(rng)),
        3 => batch.stretch = None,
        4 => batch.entries.entries.extend(some_entries(gossip, rng)),
        5 => batch.mends = Some(true),
        _ => {
            if let Some(stretch) = &mut batch.stretch {
                stretch.last = place(rng);
            }
        }
    }
    batch
}

fn changed_step(mut step: Reconcile, rng: &mut Rng) -> Reconcile {
    match rng.below(4) {
        0 => step.step = junk(rng),
        1 => step.step.truncate(rng.index(step.step.len().max(1))),
        2 => step.damaged = Some(true),
        _ => step.first = !step.first,
    }
    step
}
