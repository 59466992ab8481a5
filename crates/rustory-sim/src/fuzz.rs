//! What the fuzzers run, and what the replay of their corpus runs as a test: whatever bytes a peer
//! sends, nothing panics, nothing grows without bound, and what is in the log stays there.

use std::collections::VecDeque;

use rustory_core::entry::{Entry, EntryId, Extra};
use rustory_core::limits::{MESSAGE_BYTES_MAX, WINDOW_BATCHES};
use rustory_core::sync::session::{Effect, Input, Local, Role, Session};
use rustory_core::sync::{LogIdentity, Message, Request, answer};
use rustory_core::wire::{FrameReader, PREAMBLE, decode, encode};
use rustory_core::{LogId, Timestamp};

use crate::{DeviceLog, MemLog};

/// Bytes as a stream, in pieces whose size the first byte says, and as the payload of one frame.
///
/// # Panics
/// When a message does not survive being written again.
pub fn frames(data: &[u8]) {
    let Some((&chunk, bytes)) = data.split_first() else {
        return;
    };
    let mut reader = FrameReader::default();
    let stream = [PREAMBLE, bytes].concat();
    'stream: for piece in stream.chunks(usize::from(chunk).max(1)) {
        reader.push(piece);
        loop {
            match reader.next_message() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => break 'stream,
            }
        }
    }
    if let Ok(message) = decode(bytes) {
        let mut once = Vec::new();
        encode(&message, &mut once);
        let again = decode(&once).expect("what was written can be read");
        let mut twice = Vec::new();
        encode(&again, &mut twice);
        assert_eq!(once, twice);
        assert!(once.len() <= MESSAGE_BYTES_MAX.max(2 * bytes.len()));
    }
}

/// A session against a peer that says what the bytes say, and a log that answers when they say so.
///
/// # Panics
/// When something of our own log is lost, or more is asked of it than is allowed.
pub fn session(data: &[u8]) {
    let Some((&kind, script)) = data.split_first() else {
        return;
    };
    let mut log = log();
    let before = own(&mut log);
    let mut world = World {
        session: Session::new(role(kind), local(kind)),
        asked: VecDeque::new(),
        now: 0,
        over: false,
    };
    world.take(Input::Start);
    for step in steps(script) {
        if world.over {
            break;
        }
        world.step(step, &mut log);
        assert!(world.asked.len() <= ASKED_MAX, "{}", world.asked.len());
    }
    world.answer_all(&mut log);
    let after = own(&mut log);
    assert!(before.iter().all(|entry| after.contains(entry)));
    // What was counted is what is there.
    let counted = rustory_core::sync::Log::summary(&mut log).unwrap_or_else(|err| match err {});
    assert_eq!(counted.tally().count, log.len() as u64);
}

/// A peer can have so many requests under way before the driver stops reading: those of a window
/// of batches, and a few that a message brings with it.
const ASKED_MAX: usize = 64 + WINDOW_BATCHES;

struct World {
    session: Session,
    asked: VecDeque<Request>,
    now: u64,
    over: bool,
}

/// One step of a script.
enum Step<'a> {
    Message(&'a [u8]),
    Answer,
    Lease,
    Grew(u8),
    Round,
    Time(u64),
}

/// `op: u8`, and for a message `length: u16` and its payload.
fn steps(mut script: &[u8]) -> impl Iterator<Item = Step<'_>> {
    std::iter::from_fn(move || {
        let (&op, rest) = script.split_first()?;
        script = rest;
        Some(match op % 8 {
            0 => Step::Answer,
            1 => Step::Lease,
            2 => Step::Grew(op / 8),
            3 => Step::Round,
            4 => Step::Time(u64::from(op) * 1_000),
            _ => {
                let (head, rest) = script.split_at_checked(2)?;
                let length = usize::from(u16::from_le_bytes([head[0], head[1]]));
                let (payload, rest) = rest.split_at(length.min(rest.len()));
                script = rest;
                Step::Message(payload)
            }
        })
    })
}

impl World {
    fn step(&mut self, step: Step<'_>, log: &mut MemLog) {
        match step {
            Step::Message(payload) => {
                // The driver stops reading there.
                if self.asked.len() < 64
                    && let Ok(message) = decode(payload)
                {
                    self.take(Input::Message(message));
                }
            }
            Step::Answer => self.answer(log),
            Step::Lease => self.take(Input::Leased),
            Step::Grew(how) => self.take(match how % 3 {
                0 => Input::LogGrew,
                1 => Input::Came,
                _ => Input::Settle,
            }),
            Step::Round => self.take(Input::Round),
            Step::Time(ms) => {
                self.now += ms;
                if self.session.deadline().is_some_and(|due| due <= self.now) {
                    self.take(Input::Tick);
                }
            }
        }
    }

    fn take(&mut self, input: Input) {
        for effect in self.session.handle(self.now, input) {
            assert!(!self.over, "an effect after the end");
            match effect {
                Effect::Ask(request) => self.asked.push_back(request),
                Effect::End(_) => self.over = true,
                Effect::Send(message) => sendable(&message),
                Effect::Acquire | Effect::Release | Effect::Event(_) => {}
            }
        }
    }

    fn answer(&mut self, log: &mut MemLog) {
        if let Some(request) = self.asked.pop_front() {
            let answer = answer(log, request);
            self.take(Input::Answer(answer));
        }
    }

    fn answer_all(&mut self, log: &mut MemLog) {
        // What was asked before the end is done by the log all the same.
        while !self.asked.is_empty() {
            self.answer(log);
        }
    }
}

/// Whatever we say, a peer can read.
fn sendable(message: &Message) {
    let mut bytes = Vec::new();
    encode(message, &mut bytes);
    decode(&bytes).expect("what we send can be read");
}

fn role(kind: u8) -> Role {
    match kind & 1 {
        0 => Role::Asker,
        _ => Role::Answerer,
    }
}

fn local(kind: u8) -> Local {
    Local {
        device_id: "own".to_owned(),
        device_name: "own".to_owned(),
        user_id: (kind & 2 != 0).then(|| "me".to_owned()),
        version: "0".to_owned(),
        log_id: LOG,
        place: 1,
        stays: kind & 4 != 0,
        verifies: kind & 8 != 0,
    }
}

const LOG: LogId = LogId::from_bytes([7; 16]);

/// Five entries of our own and three of a device that the fuzzer may know.
fn log() -> MemLog {
    let identity = LogIdentity {
        device_id: "own".to_owned(),
        log_id: LOG,
    };
    let mut log = MemLog::create(identity, 1);
    for n in 1..=5 {
        log.append(entry("own", n), true);
    }
    let theirs: Vec<Entry> = (1..=3).map(|n| entry("peer", n)).collect();
    let stored = rustory_core::sync::Log::store(&mut log, "peer", &theirs, None);
    stored.unwrap_or_else(|err| match err {});
    log
}

fn entry(device_id: &str, n: u64) -> Entry {
    let id = u128::from(n) << 64 | device_id.len() as u128;
    Entry {
        id: EntryId::from_bytes(id.to_be_bytes()),
        device_id: device_id.to_owned(),
        user_id: String::new(),
        ts: Timestamp::from_secs(1_700_000_000).unwrap_or_default(),
        cmd: "c".into(),
        cwd: "".into(),
        exit_code: None,
        duration_ms: None,
        shell: String::new(),
        hostname: String::new(),
        version: String::new(),
        device_seq: Some(n),
        session: String::new(),
        extra: Extra::new(),
    }
}

/// The ids of our own entries. What they say may be replaced by a member that finds a smaller hash;
/// that is the rule for two entries under one id, and it is counted.
fn own(log: &mut MemLog) -> Vec<EntryId> {
    log.rows().into_iter().map(|row| row.id).collect()
}

/// Scripts to begin with: every kind of message, as a peer would say it in a round.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    use rustory_core::sync::{
        Ack, Batch, Close, Fetch, Have, HaveWhat, Heard, Hello, ItemSet, News, Origin, PROTOCOL,
        Reason, Reconcile, Reconciler, Standing, Stretch, Summary, Wanted,
    };
    use rustory_core::{Cursor, IngestSeq, Tally};

    let entries: Vec<Entry> = (1..=6).map(|n| entry("peer", n)).collect();
    let tally: Tally = entries.iter().collect();
    let seq = |n| IngestSeq::new(n).unwrap_or_default();
    let peers_log = LogId::from_bytes([9; 16]);
    let summary = Summary {
        head: seq(6),
        origins: vec![Origin {
            device_id: "peer".to_owned(),
            through: 6,
            tally,
        }],
    };
    let hello = Message::Hello(Hello {
        protocol: PROTOCOL,
        device_id: "peer".to_owned(),
        device_name: "peer".to_owned(),
        user_id: None,
        version: "0".to_owned(),
        log_id: peers_log,
        place: 2,
        head: seq(6),
        tally,
        stays: true,
        origins: Some(summary.clone()),
        admission: None,
        read: None,
        brief: None,
    });
    let batch = |after, last, range: std::ops::Range<usize>, end| {
        Message::Batch(Batch {
            entries: entries[range].to_vec().into(),
            stretch: Some(Stretch {
                after: seq(after),
                last: seq(last),
            }),
            end,
            mends: None,
        })
    };
    let wanted = Wanted {
        cursor: Some(Cursor {
            log_id: LOG,
            seq: seq(2),
        }),
        have: vec![Have {
            device_id: "peer".to_owned(),
            what: HaveWhat::Through(2),
        }],
    };
    let (_, step) = Reconciler::ask(ItemSet::default());
    let reconcile = |first| {
        Message::Reconcile(Reconcile {
            origins: None,
            first,
            step: step.clone(),
            damaged: Some(false),
        })
    };
    let ack = Message::Ack(Ack {
        batches: 1,
        inserted: 1,
    });
    let fetch = Message::Fetch(Fetch {
        ids: entries.iter().map(|entry| entry.id).collect(),
    });
    let news = Message::News(News {
        entries: entries[..1].to_vec().into(),
        stretch: None,
        standing: None,
    });
    let heard = Message::Heard(Some(Heard {
        inserted: 1,
        same: Some(seq(6)),
    }));
    let hint = Message::News(News {
        entries: Vec::new().into(),
        stretch: None,
        standing: Some(Standing {
            head: seq(6),
            tally,
        }),
    });
    let standing = Message::Standing(Standing {
        head: seq(6),
        tally,
    });
    let close = Message::Close(Close {
        reason: Reason::DONE,
        text: None,
    });
    let origins = Message::Origins(summary.clone());
    let offer = Message::Offer(summary);
    let rounds: Vec<Vec<Message>> = vec![
        vec![
            hello.clone(),
            batch(0, 3, 0..3, false),
            batch(3, 6, 3..6, true),
            Message::Accept(wanted.clone()),
            ack.clone(),
            origins.clone(),
            reconcile(false),
            ack.clone(),
        ],
        vec![hello.clone(), Message::Later, origins, reconcile(false)],
        vec![
            hello.clone(),
            Message::Pull(wanted),
            ack.clone(),
            offer,
            batch(0, 6, 0..6, true),
            standing,
        ],
        vec![hello.clone(), reconcile(true), fetch, ack],
        vec![hello.clone(), news, heard, hint, Message::Wait, close],
        vec![hello],
    ];
    let mut all = Vec::new();
    for (kind, round) in (0..16).flat_map(|kind| rounds.iter().map(move |round| (kind, round))) {
        let mut script = vec![kind];
        // The log says who we are first; each message is answered before the next.
        script.extend([0, 0, 0]);
        for message in round {
            let mut payload = Vec::new();
            encode(message, &mut payload);
            let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
            script.push(5);
            script.extend(length.to_le_bytes());
            script.extend(payload);
            script.extend([0, 0, 1, 0, 0]);
        }
        all.push(script);
    }
    all
}
