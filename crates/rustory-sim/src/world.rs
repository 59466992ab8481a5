//! The world: devices, the ways between them, one queue of events, and what goes wrong.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::fmt;

use rustory_core::cursor::{IngestSeq, LogId};
use rustory_core::digest::Tally;
use rustory_core::entry::{Entry, EntryId, Extra};
use rustory_core::limits::MESSAGE_BYTES_MAX;
use rustory_core::sync::session::{
    Effect, Event as SessionEvent, Input, Local, Report, Role, Session, SessionError, Start,
    StreamEnd,
};
use rustory_core::sync::{
    Answer, Compared, Ended, Failed, Lease, LogFailure as _, LogIdentity, Message, Plan, Reason,
    Request,
};
use rustory_core::time::Timestamp;
use rustory_core::wire::{FrameReader, FrameWriter};

use crate::liar::{self, Gossip, Lie};
use crate::log::{DeviceLog, Row};
use crate::rng::Rng;
use crate::weather::{Topology, Weather};

/// What must not happen, and did.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What should have held.
    pub property: &'static str,
    /// What there was instead.
    pub details: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.details)
    }
}

/// A session that is neither over nor live after this long hangs, in milliseconds of the world.
const SESSION_MS_MAX: u64 = 30 * 60_000;

/// Everything has to be everywhere this long after the last fault, in milliseconds of the world.
const HEALING_MS_MAX: u64 = 4 * 3_600_000;

/// Most requests of one session that its log may have to answer at once.
const ASKED_MAX: usize = 40;

/// What a round with nothing new may cost both ways, in bytes.
const QUIET_ROUND_BYTES_MAX: u64 = 512;

/// What any round may cost both ways, in bytes, and for each entry of the two logs: about three
/// times what sending all of them one by one takes.
const ROUND_BYTES_MAX: u64 = 16 * 1_024;
const ENTRY_BYTES_MAX: u64 = 1_000;

/// A link whose bytes are lost is noticed to be dead after this long, in milliseconds.
const KEEPALIVE_MS: (u64, u64) = (20_000, 60_000);

/// A log that has been quiet for so long settles with those that it asks; and so much later with
/// those that ask it, if they have not.
const SETTLE_MS: (u64, u64) = (5_000, 2_000);

/// The world's clock begins in 2024; entries carry times of then.
const EPOCH_MS: u64 = 1_704_067_200_000;

#[derive(Debug)]
enum Event {
    Deliver {
        end: usize,
        bytes: Vec<u8>,
    },
    Ended {
        end: usize,
        how: StreamEnd,
    },
    Tick {
        end: usize,
    },
    Leased {
        end: usize,
    },
    Grew {
        end: usize,
    },
    Came {
        end: usize,
    },
    /// A device's log has been quiet.
    Settle {
        device: usize,
        changed: u64,
        role: Role,
    },
    Answered {
        end: usize,
        answer: Answer,
    },
    Work {
        device: usize,
        boot: u32,
    },
    Plan {
        device: usize,
        boot: u32,
    },
    Open {
        from: usize,
        to: usize,
        boot: u32,
        planned: bool,
    },
    Type {
        device: usize,
    },
    Boot {
        device: usize,
    },
    Pester {
        end: usize,
    },
    Partition {
        a: usize,
        b: usize,
        until: u64,
    },
    Full {
        device: usize,
        until: u64,
    },
    Snapshot {
        device: usize,
    },
    SetBack {
        device: usize,
    },
    Clone {
        from: usize,
        to: usize,
    },
    Lose {
        device: usize,
        recounts: bool,
    },
    Rot {
        device: usize,
    },
    Recreate {
        device: usize,
    },
    Months,
    Shift,
}

#[derive(Debug)]
struct Queued {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Queued) -> bool {
        self.order == other.order
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

struct Device<L: DeviceLog> {
    log: L,
    up: bool,
    boot: u32,
    plan: Plan<usize>,
    plan_at: Option<u64>,
    lease: Lease<usize>,
    queue: VecDeque<(usize, Request)>,
    working: bool,
    full_until: u64,
    asleep_until: u64,
    skew_ms: i64,
    lie: Option<Lie>,
    stays: bool,
    /// Its rows may not be what it counted: to be verified with these.
    suspect: bool,
    verify_with: BTreeSet<usize>,
    /// How often its log was set back, and whether rows were replaced.
    changes: u64,
    /// How often something came to its log.
    came: u64,
    snapshots: Vec<L::Snapshot>,
    /// Ids that were typed here and are to be here.
    typed: BTreeSet<EntryId>,
    /// With whom it was found to be identical since the last change.
    identical_with: BTreeSet<usize>,
}

/// One end of a connection.
struct End {
    device: usize,
    peer: usize,
    other: usize,
    role: Role,
    session: Session,
    reader: FrameReader,
    writer: FrameWriter,
    /// What is sent arrives not before.
    out_at: u64,
    answer_at: u64,
    /// What is sent is lost.
    silent: bool,
    tick_at: Option<u64>,
    began: u64,
    live: bool,
    verifies: bool,
    planned: bool,
    round_under_way: bool,
    asked: usize,
    acquired: usize,
    sent: u64,
    /// Both ways, on the asker's end, since its last round.
    bytes: u64,
    /// Came and made no message yet.
    unread: usize,
    round_began: u64,
    moved: bool,
    /// Of both logs when the session began.
    changes: u64,
}

/// What crossed.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Entries that were sent to the device they come from.
    pub back: u64,
    /// How often each entry was sent to each device.
    pub sent: BTreeMap<(usize, EntryId), u32>,
}

impl Traffic {
    /// The mean number of times that an entry was sent to a device that it was sent to.
    #[must_use]
    pub fn times(&self) -> f64 {
        let all: u32 = self.sent.values().sum();
        f64::from(all) / self.sent.len().max(1) as f64
    }
}

/// Devices and what is between them.
pub struct World<L: DeviceLog> {
    /// Told everything that happens.
    pub trace: Option<fn(&str)>,
    /// What crossed, if it is counted. Reports are kept then as well.
    pub traffic: Option<Traffic>,
    weather: Weather,
    rng: Rng,
    now: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    order: u64,
    devices: Vec<Device<L>>,
    ends: Vec<Option<Box<End>>>,
    partitions: Vec<(usize, usize, u64)>,
    /// The pair that is awake, where they work in shifts.
    shift: (usize, usize),
    calm: bool,
    /// Nothing is to happen any more since then.
    quiet_since: Option<u64>,
    violation: Option<Violation>,
    crash_at: Option<u64>,
    /// Some log is not what its peers remember.
    set_back: bool,
    quiet_bytes: u64,
    reports: Vec<(usize, usize, Report)>,
    typed: Vec<Entry>,
    identities: Vec<(String, LogId)>,
    count: u64,
}

impl<L: DeviceLog> fmt::Debug for World<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("devices", &self.devices.len())
            .finish_non_exhaustive()
    }
}

type Verdict = Result<(), Violation>;

impl<L: DeviceLog> World<L> {
    /// A world with this weather, whose chances follow from a seed.
    #[must_use]
    pub fn new(weather: Weather, seed: u64) -> World<L> {
        let mut world = World {
            trace: None,
            traffic: None,
            rng: Rng::new(seed ^ 0xa5a5_5a5a),
            now: 1_000,
            queue: BinaryHeap::new(),
            order: 0,
            devices: Vec::new(),
            ends: Vec::new(),
            partitions: Vec::new(),
            shift: (0, 1),
            calm: weather.calm_at == 0,
            quiet_since: None,
            violation: None,
            crash_at: None,
            set_back: false,
            quiet_bytes: 0,
            reports: Vec::new(),
            typed: Vec::new(),
            identities: Vec::new(),
            count: 0,
            weather,
        };
        for device in 0..world.weather.devices {
            world.add_device(device);
        }
        for device in 0..world.weather.devices {
            world.type_some(device, world.weather.at_start[device]);
            let at = world.now + world.rng.below(3_000);
            world.at(at, Event::Boot { device });
        }
        world.plan_faults();
        world
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.count
    }

    /// How many sessions there were.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.ends.len() as u64 / 2
    }

    fn add_device(&mut self, device: usize) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.rng.any().to_be_bytes());
        bytes[8..].copy_from_slice(&self.rng.any().to_be_bytes());
        let identity = LogIdentity {
            device_id: format!("{:016x}{device:016x}", self.rng.any()),
            log_id: LogId::from_bytes(bytes),
        };
        let gossip = (identity.device_id.clone(), identity.log_id);
        self.identities.push(gossip);
        let skew = 86_400_000 * i64::try_from(self.weather.skew_days).expect("days");
        let skew_ms = self.rng.within(0, 2 * skew.unsigned_abs()).cast_signed() - skew;
        self.devices.push(Device {
            log: L::create(identity, device as u64),
            up: false,
            boot: 0,
            plan: Plan::new(self.weather.interval),
            plan_at: None,
            lease: Lease::default(),
            queue: VecDeque::new(),
            working: false,
            full_until: 0,
            asleep_until: 0,
            skew_ms,
            lie: self.weather.lie(device),
            stays: self.weather.stays[device],
            suspect: false,
            verify_with: BTreeSet::new(),
            changes: 0,
            came: 0,
            snapshots: Vec::new(),
            typed: BTreeSet::new(),
            identical_with: BTreeSet::new(),
        });
    }

    /// Draws when what goes wrong.
    fn plan_faults(&mut self) {
        let weather = self.weather.clone();
        let end = weather.calm_at.max(self.now + 1);
        let honest = weather.devices - weather.liars.len();
        for _ in 0..weather.bursts {
            let device = self.rng.index(weather.devices);
            let at = self.some_time(end);
            self.at(at, Event::Type { device });
        }
        for _ in 0..weather.partitions {
            let a = self.rng.index(weather.devices);
            let b = self.rng.index(weather.devices);
            let at = self.some_time(end);
            let until = at + self.rng.within(1_000, 60_000);
            self.at(at, Event::Partition { a, b, until });
        }
        for _ in 0..weather.full {
            let device = self.rng.index(weather.devices);
            let at = self.some_time(end);
            let until = at + self.rng.within(1_000, 60_000);
            self.at(at, Event::Full { device, until });
        }
        for _ in 0..weather.set_backs {
            let device = self.rng.index(honest);
            let (a, b) = (self.some_time(end), self.some_time(end));
            self.at(a.min(b), Event::Snapshot { device });
            self.at(a.max(b), Event::SetBack { device });
        }
        for _ in 0..weather.clones {
            let (from, to) = (self.rng.index(honest), self.rng.index(honest));
            let at = self.some_time(end);
            self.at(at, Event::Clone { from, to });
        }
        for recounts in [
            vec![true; weather.losses],
            vec![false; weather.silent_losses],
        ]
        .concat()
        {
            let device = self.rng.index(honest);
            let at = self.some_time(end);
            self.at(at, Event::Lose { device, recounts });
        }
        for _ in 0..weather.rots {
            let device = self.rng.index(honest);
            let at = self.some_time(end);
            self.at(at, Event::Rot { device });
        }
        for _ in 0..weather.recreated {
            let device = self.rng.index(honest);
            let at = self.some_time(end);
            self.at(at, Event::Recreate { device });
        }
        if weather.months {
            let at = self.some_time(end);
            self.at(at, Event::Months);
        }
        if weather.topology == Topology::Shifts {
            self.at(self.now + 1, Event::Shift);
        }
    }

    fn some_time(&mut self, end: u64) -> u64 {
        self.rng.within(self.now, end)
    }

    fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        let at = at.max(self.now);
        let order = self.order;
        self.queue.push(Reverse(Queued { at, order, event }));
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if let Some(trace) = self.trace {
            trace(&format!("{:>9}  {}", self.now, text()));
        }
    }

    fn violated(&mut self, property: &'static str, details: impl Into<String>) {
        if self.violation.is_none() {
            let details = details.into();
            self.say(|| format!("VIOLATED {property}: {details}"));
            self.violation = Some(Violation { property, details });
        }
    }

    fn honest(&self, device: usize) -> bool {
        self.devices[device].lie.is_none()
    }

    fn all_honest(&self) -> Vec<usize> {
        let all = 0..self.devices.len();
        all.filter(|device| self.honest(*device)).collect()
    }

    // ---- running

    /// Runs until faults end and everything is everywhere, and a little longer.
    ///
    /// # Errors
    /// The first violation.
    pub fn run_to_the_end(&mut self) -> Verdict {
        if self.trace.is_some() {
            let weather = format!("{:?}", self.weather);
            self.say(|| weather);
        }
        while self.now < self.weather.calm_at {
            self.run_until(self.weather.calm_at)?;
        }
        self.heal()?;
        self.run_until_equal()?;
        self.stay_quiet()
    }

    /// Runs for a while.
    ///
    /// # Errors
    /// The first violation.
    pub fn run_for(&mut self, ms: u64) -> Verdict {
        self.run_until(self.now + ms)
    }

    fn run_until(&mut self, until: u64) -> Verdict {
        while self.queue.peek().is_some_and(|next| next.0.at <= until) {
            let Some(Reverse(next)) = self.queue.pop() else {
                break;
            };
            self.now = next.at;
            self.count += 1;
            self.happen(next.event);
            if let Some(violation) = self.violation.clone() {
                return Err(violation);
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { end, bytes } => self.deliver(end, bytes),
            Event::Ended { end, how } => self.input(end, Input::Ended(how)),
            Event::Tick { end } => self.tick(end),
            Event::Leased { end } => self.input(end, Input::Leased),
            Event::Grew { end } => self.input(end, Input::LogGrew),
            Event::Came { end } => self.input(end, Input::Came),
            Event::Settle {
                device,
                changed,
                role,
            } => self.settle(device, changed, role),
            Event::Answered { end, answer } => {
                if let Some(end) = &mut self.ends[end] {
                    end.asked -= 1;
                }
                self.input(end, Input::Answer(answer));
            }
            Event::Work { device, boot } if self.devices[device].boot == boot => self.work(device),
            Event::Plan { device, boot } if self.devices[device].boot == boot => {
                self.devices[device].plan_at = None;
                self.go_by_plan(device);
            }
            Event::Open {
                from,
                to,
                boot,
                planned,
            } if self.devices[from].boot == boot => self.open(from, to, planned),
            Event::Work { .. } | Event::Plan { .. } | Event::Open { .. } => {}
            Event::Type { device } => {
                let count = self.rng.within(1, self.weather.burst as u64);
                self.type_some(device, count as usize);
            }
            Event::Boot { device } => self.boot(device),
            Event::Pester { end } => self.pester(end),
            Event::Partition { a, b, until } if a != b => {
                self.say(|| format!("{a} and {b} can't reach each other until {until}"));
                self.partitions.push((a.min(b), a.max(b), until));
            }
            Event::Full { device, until } => {
                self.say(|| format!("disk of {device} is full until {until}"));
                self.devices[device].full_until = until;
            }
            Event::Months => self.months(),
            Event::Shift => self.next_shift(),
            damage => self.damage(damage),
        }
    }

    // ---- what happens to devices

    fn boot(&mut self, device: usize) {
        if self.devices[device].up {
            return;
        }
        if self.now < self.devices[device].asleep_until {
            return self.at(self.devices[device].asleep_until, Event::Boot { device });
        }
        self.say(|| format!("{device} starts"));
        let neighbours: Vec<usize> = (0..self.devices.len())
            .filter(|other| self.weather.neighbours(device, *other))
            .collect();
        let now = self.now;
        let it = &mut self.devices[device];
        it.up = true;
        it.boot += 1;
        it.plan = Plan::new(self.weather.interval);
        it.plan_at = None;
        it.lease = Lease::default();
        it.queue.clear();
        it.working = false;
        for peer in neighbours {
            let random = self.rng.any();
            self.devices[device].plan.seen(peer, now, random);
        }
        self.plan_on(device);
    }

    /// A device ends at once, and starts again a while later.
    fn crash(&mut self, device: usize, back_in: u64) {
        if !self.devices[device].up {
            return;
        }
        self.say(|| format!("{device} crashes"));
        self.devices[device].up = false;
        self.devices[device].boot += 1;
        for end in 0..self.ends.len() {
            if self.ends[end]
                .as_ref()
                .is_some_and(|it| it.device == device)
            {
                self.drop_end(end, false);
            }
        }
        self.at(self.now + back_in, Event::Boot { device });
    }

    /// An end is gone; the other one hears of it at once or late.
    fn drop_end(&mut self, end: usize, in_order: bool) {
        let Some(gone) = self.ends[end].take() else {
            return;
        };
        let late = !in_order && self.rng.below(3) == 0;
        let at = match late {
            true => self.now + self.rng.within(KEEPALIVE_MS.0, KEEPALIVE_MS.1),
            false => gone.out_at.max(self.now) + self.rng.below(5),
        };
        let how = match in_order || self.rng.below(2) == 0 {
            true => StreamEnd::Closed,
            false => StreamEnd::Broken("reset".to_owned()),
        };
        if let Some(other) = &mut self.ends[gone.other] {
            other.silent = true;
        }
        self.at(
            at,
            Event::Ended {
                end: gone.other,
                how,
            },
        );
    }

    fn months(&mut self) {
        self.say(|| "everybody sleeps for months".to_owned());
        for device in 0..self.devices.len() {
            self.crash(device, 90 * 86_400_000);
            self.devices[device].asleep_until = self.now + 90 * 86_400_000;
        }
        let calm = self.weather.calm_at;
        self.weather.calm_at = calm + 90 * 86_400_000;
    }

    fn next_shift(&mut self) {
        let (mut a, mut b) = self.shift;
        b += 1;
        if b == self.devices.len() {
            a += 1;
            b = a + 1;
        }
        if b >= self.devices.len() {
            (a, b) = (0, 1);
        }
        self.shift = (a, b);
        self.say(|| format!("now {a} and {b} are awake"));
        for end in 0..self.ends.len() {
            let pair = self.ends[end].as_ref().map(|it| (it.device, it.peer));
            if pair.is_some_and(|(device, peer)| !self.reachable(device, peer)) {
                self.kill(end, self.now);
            }
        }
        for (device, peer) in [(a, b), (b, a)] {
            let random = self.rng.any();
            self.devices[device].plan.seen(peer, self.now, random);
            self.plan_on(device);
        }
        let asleep = self.devices[a]
            .asleep_until
            .max(self.devices[b].asleep_until);
        let long = (self.weather.interval * 4).max(asleep.saturating_sub(self.now));
        self.at(self.now + long, Event::Shift);
    }

    fn damage(&mut self, event: Event) {
        match event {
            Event::Snapshot { device } => self.take_snapshot(device),
            Event::SetBack { device } => {
                let more = match self.rng.below(2) {
                    0 => 0,
                    _ => self.rng.within(1, 10) as usize,
                };
                self.set_back(device, more);
            }
            Event::Clone { from, to } if from != to => self.copy_log(from, to),
            Event::Recreate { device } => {
                let keeps_its_id = self.rng.below(2) == 0;
                self.recreate(device, keeps_its_id);
            }
            Event::Lose { device, recounts } => {
                let rows = self.devices[device].log.len();
                let from = self.rng.index(rows);
                let until = match self.rng.below(2) {
                    0 => rows,
                    _ => rows.min(from + 1 + self.rng.index(5)),
                };
                self.lose(device, from..until, recounts);
            }
            Event::Rot { device } => {
                let row = self.rng.index(self.devices[device].log.len());
                self.rot(device, row);
            }
            _ => {}
        }
    }

    /// Keeps what the log of a device is now.
    pub fn take_snapshot(&mut self, device: usize) {
        let snapshot = self.devices[device].log.snapshot();
        self.devices[device].snapshots.push(snapshot);
    }

    /// Sets a log back to its last snapshot; then so many entries are typed before anybody sees it.
    pub fn set_back(&mut self, device: usize, more: usize) {
        let Some(snapshot) = self.devices[device].snapshots.pop() else {
            return;
        };
        self.say(|| format!("log of {device} is set back"));
        self.crash(device, 2_000);
        self.devices[device].log = L::restore(&snapshot, device as u64);
        self.changed_from_outside(device);
        self.type_some(device, more);
    }

    /// Copies a log to another device, which is taken for the first one then.
    pub fn copy_log(&mut self, from: usize, to: usize) {
        self.say(|| format!("log of {from} is copied to {to}"));
        self.crash(to, 2_000);
        let snapshot = self.devices[from].log.snapshot();
        self.devices[to].log = L::restore(&snapshot, to as u64);
        self.devices[to].suspect |= self.devices[from].suspect;
        self.devices[to].snapshots.clear();
        self.changed_from_outside(to);
    }

    /// Deletes a log; the device begins a new one.
    pub fn recreate(&mut self, device: usize, keeps_its_id: bool) {
        self.say(|| format!("log of {device} is recreated"));
        self.crash(device, 2_000);
        let mut identity = self.devices[device].log.identity();
        let mut bytes = [7; 16];
        bytes[..8].copy_from_slice(&self.rng.any().to_be_bytes());
        identity.log_id = LogId::from_bytes(bytes);
        if !keeps_its_id {
            identity.device_id = format!("{:032x}", self.rng.any());
        }
        self.devices[device].log = L::create(identity, device as u64);
        self.devices[device].snapshots.clear();
        self.changed_from_outside(device);
    }

    /// Removes the rows from one to another from a log, behind its back.
    pub fn lose(&mut self, device: usize, rows: std::ops::Range<usize>, recounts: bool) {
        let all = self.devices[device].log.rows();
        let ids: Vec<EntryId> = all[rows].iter().map(|row| row.id).collect();
        self.say(|| format!("{device} loses {} rows, recounts: {recounts}", ids.len()));
        self.crash(device, 2_000);
        self.devices[device].log.lose(&ids, recounts);
        self.devices[device].suspect |= !recounts;
        self.changed_from_outside(device);
    }

    /// Changes a row of a log, behind its back.
    pub fn rot(&mut self, device: usize, row: usize) {
        let rows = self.devices[device].log.rows();
        let Some(row) = rows.get(row) else { return };
        let Some(entry) = self.typed.iter().find(|entry| entry.id == row.id) else {
            return;
        };
        let mut entry = entry.clone();
        self.say(|| format!("{} rots on {device}", entry.id));
        match self.rng.below(3) {
            0 => entry.cmd.push(b'~'),
            1 => entry.device_seq = entry.device_seq.map(|seq| seq + 1),
            _ => entry.ts = Timestamp::default(),
        }
        self.crash(device, 2_000);
        self.devices[device].log.rot(&entry);
        self.devices[device].suspect = true;
        self.changed_from_outside(device);
    }

    /// Has a device compare entry by entry, from its rows, with everybody it can meet.
    pub fn verify(&mut self, device: usize) {
        let mut with: BTreeSet<usize> = self.all_honest().into_iter().collect();
        with.retain(|other| self.weather.neighbours(device, *other));
        self.devices[device].verify_with = with;
    }

    /// Turns a device off, until it is turned on.
    pub fn turn_off(&mut self, device: usize) {
        self.devices[device].asleep_until = u64::MAX;
        self.crash(device, u64::MAX - self.now);
    }

    /// Turns a device on.
    pub fn turn_on(&mut self, device: usize) {
        self.devices[device].asleep_until = 0;
        self.boot(device);
    }

    /// What a device has, by what is in its rows.
    pub fn rows(&mut self, device: usize) -> Vec<Row> {
        self.devices[device].log.rows()
    }

    /// What sessions reported at the end of their rounds.
    #[must_use]
    pub fn reports(&self) -> &[(usize, usize, Report)] {
        &self.reports
    }

    /// What the largest round with nothing new cost both ways, in bytes.
    #[must_use]
    pub fn quiet_round_bytes(&self) -> u64 {
        self.quiet_bytes
    }

    /// Two devices begin a session, besides any other.
    pub fn ask_now(&mut self, from: usize, to: usize) {
        self.open(from, to, false);
    }

    /// A device ends at the effect of this number, counted from now over all devices.
    pub fn crash_at(&mut self, effect: u64) {
        self.crash_at = Some(effect);
    }

    /// Whether [`World::crash_at`] is still to come.
    #[must_use]
    pub fn is_crash_ahead(&self) -> bool {
        self.crash_at.is_some()
    }

    /// Whether a device ends here.
    fn crashes_now(&mut self) -> bool {
        match &mut self.crash_at {
            Some(0) => {
                self.crash_at = None;
                return true;
            }
            Some(left) => *left -= 1,
            None => {}
        }
        !self.calm && self.rng.chance(self.weather.crash)
    }

    fn changed_from_outside(&mut self, device: usize) {
        let rows = self.devices[device].log.rows();
        let there: BTreeSet<EntryId> = rows.iter().map(|row| row.id).collect();
        let it = &mut self.devices[device];
        it.changes += 1;
        self.set_back = true;
        it.typed.retain(|id| there.contains(id));
        for it in &mut self.devices {
            it.identical_with.clear();
        }
    }

    // ---- typing

    /// So many entries are typed on a device.
    pub fn type_some(&mut self, device: usize, count: usize) {
        for _ in 0..count {
            self.type_one(device);
        }
    }

    /// Something is typed on a device.
    pub fn type_one(&mut self, device: usize) {
        let n = self.typed.len();
        let it = &self.devices[device];
        let ms = (EPOCH_MS + self.now).cast_signed() + it.skew_ms;
        let ts = Timestamp::from_micros(ms * 1_000 + (n as i64) % 1_000).unwrap_or_default();
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.rng.any().to_be_bytes());
        let mut cmd = format!("echo {n}");
        if self.rng.chance(self.weather.unsendable) {
            cmd.clear();
        } else if self.rng.chance(self.weather.large) {
            cmd.extend(std::iter::repeat_n('x', 90_000));
        }
        let entry = Entry {
            id: EntryId::from_time_and_random(ts, random),
            device_id: String::new(),
            user_id: String::new(),
            ts,
            cmd: cmd.into(),
            cwd: "/".into(),
            exit_code: Some(0),
            duration_ms: Some(1),
            shell: String::new(),
            hostname: String::new(),
            version: String::new(),
            device_seq: None,
            session: String::new(),
            extra: Extra::new(),
        };
        let numbered = !self.rng.chance(self.weather.unnumbered);
        let entry = self.devices[device].log.append(entry, numbered);
        self.devices[device].typed.insert(entry.id);
        self.typed.push(entry);
        for it in &mut self.devices {
            it.identical_with.clear();
        }
        self.tell_sessions(device, |end| Event::Grew { end });
    }

    /// Tells the sessions of a device that its log has changed, and later that it has not for a while.
    fn tell_sessions(&mut self, device: usize, what: impl Fn(usize) -> Event) {
        for end in 0..self.ends.len() {
            if self.ends[end]
                .as_ref()
                .is_some_and(|it| it.device == device)
            {
                let at = self.now + self.rng.below(3);
                self.at(at, what(end));
            }
        }
        self.devices[device].came += 1;
        self.settle_later(device, Role::Asker, SETTLE_MS.0);
    }

    fn settle_later(&mut self, device: usize, role: Role, after: u64) {
        let changed = self.devices[device].came;
        let settle = Event::Settle {
            device,
            changed,
            role,
        };
        self.at(self.now + after, settle);
    }

    fn settle(&mut self, device: usize, changed: u64, role: Role) {
        if self.devices[device].came != changed {
            return;
        }
        for id in 0..self.ends.len() {
            let Some(end) = self.ends[id].as_mut() else {
                continue;
            };
            if end.device == device && end.role == role {
                // Hints belong to the round that follows.
                if end.session.is_live() && role == Role::Asker {
                    end.bytes = 0;
                    end.round_began = self.now;
                    end.moved = false;
                }
                self.input(id, Input::Settle);
            }
        }
        if role == Role::Asker {
            self.settle_later(device, Role::Answerer, SETTLE_MS.1);
        }
    }

    // ---- meeting

    fn plan_on(&mut self, device: usize) {
        let it = &mut self.devices[device];
        let Some(due) = it.plan.next_due() else {
            return;
        };
        if it.plan_at.is_none_or(|at| due < at) {
            it.plan_at = Some(due);
            let boot = it.boot;
            self.at(due, Event::Plan { device, boot });
        }
    }

    fn go_by_plan(&mut self, device: usize) {
        if !self.devices[device].up {
            return;
        }
        for peer in self.devices[device].plan.due(self.now) {
            self.meet(device, peer);
            if self.rng.chance(self.weather.twice) {
                self.open_soon(device, peer, false);
            }
        }
        self.plan_on(device);
    }

    fn meet(&mut self, device: usize, peer: usize) {
        let between = |end: &Option<Box<End>>, device, peer| {
            end.as_ref()
                .is_some_and(|it| it.device == device && it.peer == peer)
        };
        let verifies = self.devices[device].verify_with.contains(&peer);
        let ours = (0..self.ends.len()).rfind(|end| between(&self.ends[*end], device, peer));
        match ours {
            Some(end) if !verifies => {
                let it = self.ends[end].as_mut().expect("found");
                if it.role == Role::Asker && it.live {
                    it.round_under_way = true;
                    it.planned = true;
                    it.bytes = 0;
                    it.round_began = self.now;
                    it.moved = false;
                    self.input(end, Input::Round);
                } else {
                    // The other one does the rounds.
                    self.met(device, peer, Ended::Well);
                }
            }
            _ => self.open_soon(device, peer, true),
        }
    }

    fn met(&mut self, device: usize, peer: usize, how: Ended) {
        let random = self.rng.any();
        self.devices[device]
            .plan
            .ended(&peer, how, self.now, random);
        self.plan_on(device);
    }

    fn open_soon(&mut self, from: usize, to: usize, planned: bool) {
        let at = self.now + self.rng.within(self.weather.delay.0, self.weather.delay.1);
        let boot = self.devices[from].boot;
        self.at(
            at,
            Event::Open {
                from,
                to,
                boot,
                planned,
            },
        );
    }

    fn reachable(&mut self, a: usize, b: usize) -> bool {
        let now = self.now;
        self.partitions.retain(|(_, _, until)| *until > now);
        let pair = (a.min(b), a.max(b));
        let awake = self.weather.topology != Topology::Shifts || self.shift == pair;
        awake && !self.partitions.iter().any(|(a, b, _)| (*a, *b) == pair)
    }

    fn open(&mut self, from: usize, to: usize, planned: bool) {
        if !self.devices[to].up || !self.reachable(from, to) {
            if planned {
                self.met(from, to, Ended::Badly);
            }
            return;
        }
        let (asker, answerer) = (self.ends.len(), self.ends.len() + 1);
        self.say(|| format!("session {asker}: {from} asks {to}"));
        let changes = self.devices[from].changes + self.devices[to].changes;
        for (device, peer, other, role) in [
            (from, to, answerer, Role::Asker),
            (to, from, asker, Role::Answerer),
        ] {
            let mut local = self.local(device, peer);
            local.verifies &= role == Role::Asker;
            let verifies = local.verifies;
            self.ends.push(Some(Box::new(End {
                device,
                peer,
                other,
                role,
                session: Session::new(role, local),
                reader: FrameReader::default(),
                writer: FrameWriter::default(),
                out_at: self.now,
                answer_at: self.now,
                silent: false,
                tick_at: None,
                began: self.now,
                live: false,
                verifies,
                planned: planned && role == Role::Asker,
                round_under_way: true,
                asked: 0,
                acquired: 0,
                sent: 0,
                bytes: 0,
                unread: 0,
                round_began: self.now,
                moved: false,
                changes,
            })));
        }
        for end in [asker, answerer] {
            let device = self.ends[end].as_ref().expect("just made").device;
            if matches!(
                self.devices[device].lie,
                Some(Lie::Waits(_) | Lie::Endless | Lie::Babbles)
            ) {
                self.at(self.now + 500, Event::Pester { end });
            }
            self.input(end, Input::Start);
        }
    }

    fn local(&self, device: usize, peer: usize) -> Local {
        let it = &self.devices[device];
        let identity = it.log.identity();
        Local {
            device_id: identity.device_id,
            device_name: format!("device {device}"),
            user_id: None,
            version: "0".to_owned(),
            log_id: identity.log_id,
            place: device as u64,
            stays: it.stays,
            verifies: it.verify_with.contains(&peer),
        }
    }

    // ---- the ways between

    fn send(&mut self, id: usize, message: Message) {
        let Some(end) = self.ends[id].as_mut() else {
            return;
        };
        let (device, peer, before) = (end.device, end.peer, end.sent);
        end.sent += 1;
        let other = end.other;
        let asker = match end.role {
            Role::Asker => id,
            Role::Answerer => other,
        };
        if let Some(trace) = self.trace {
            trace(&format!(
                "{:>9}  {device}>{peer} ({id}) {}",
                self.now,
                brief(&message)
            ));
        }
        if let Message::Close(close) = &message
            && close.reason == Reason::FAULT
            && self.honest(device)
            && self.honest(peer)
        {
            self.violated(
                "honest peers are never accused",
                format!(
                    "{device} of {peer}: {}",
                    close.text.as_deref().unwrap_or_default()
                ),
            );
        }
        self.count_entries(asker, peer, &message);
        let messages = match self.devices[device].lie {
            None => vec![message],
            Some(lie) => {
                let gossip = Gossip {
                    entries: &self.typed,
                    devices: &self.identities,
                };
                liar::lie(lie, before, message, &gossip, &mut self.rng)
            }
        };
        let trickles = self.devices[device].lie == Some(Lie::Trickles) && before > 0;
        let Some(end) = self.ends[id].as_mut() else {
            return;
        };
        let mut bytes = Vec::new();
        for message in &messages {
            if end.writer.write(message, &mut bytes).is_err() {
                let honest = self.devices[device].lie.is_none();
                if honest {
                    let name = message.name();
                    self.violated("messages fit the limit", format!("`{name}` of {device}"));
                }
                return;
            }
        }
        // What a slow log costs is not the round's.
        if messages != [Message::Wait]
            && let Some(asker) = &mut self.ends[asker]
        {
            asker.bytes += bytes.len() as u64;
        }
        match trickles {
            true => self.trickle(id, &bytes),
            false => self.transmit(id, bytes),
        }
    }

    fn count_entries(&mut self, asker: usize, to: usize, message: &Message) {
        let entries = match message {
            Message::Batch(batch) => &batch.entries.entries,
            Message::News(news) => &news.entries.entries,
            _ => return,
        };
        if entries.is_empty() {
            return;
        }
        if let Some(asker) = &mut self.ends[asker] {
            asker.moved = true;
        }
        if let Some(traffic) = &mut self.traffic {
            let (own, _) = &self.identities[to];
            for entry in entries {
                traffic.back += u64::from(entry.device_id == *own);
                *traffic.sent.entry((to, entry.id)).or_default() += 1;
            }
        }
    }

    /// A byte a second.
    fn trickle(&mut self, id: usize, bytes: &[u8]) {
        let Some(end) = self.ends[id].as_mut() else {
            return;
        };
        let other = end.other;
        let mut at = end.out_at.max(self.now);
        for byte in bytes.iter().take(200) {
            at += 1_000;
            let bytes = vec![*byte];
            self.at(at, Event::Deliver { end: other, bytes });
        }
        if let Some(end) = self.ends[id].as_mut() {
            end.out_at = at;
        }
    }

    fn transmit(&mut self, id: usize, bytes: Vec<u8>) {
        let (low, high) = self.weather.delay;
        let delay = self.rng.within(low, high);
        let Some(end) = self.ends[id].as_mut() else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        let at = end.out_at.max(self.now + delay);
        end.out_at = at;
        let other = end.other;
        if end.silent {
            return;
        }
        if self.calm {
            return self.at(at, Event::Deliver { end: other, bytes });
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut piece = rest;
            rest = Vec::new();
            if self.rng.chance(self.weather.split) {
                rest = piece.split_off(1 + self.rng.index(piece.len()));
            }
            if self.rng.chance(self.weather.cut) {
                piece.truncate(self.rng.index(piece.len()));
                self.at(
                    at,
                    Event::Deliver {
                        end: other,
                        bytes: piece,
                    },
                );
                self.say(|| format!("connection of {id} is cut"));
                self.kill(id, at);
                return;
            }
            if self.rng.chance(self.weather.lost) {
                self.say(|| format!("a piece of {id} is lost"));
                continue;
            }
            if self.rng.chance(self.weather.changed) {
                self.say(|| format!("a piece of {id} is changed"));
                let place = self.rng.index(piece.len());
                piece[place] ^= 1 << self.rng.below(8);
            }
            if self.rng.chance(self.weather.doubled) {
                self.say(|| format!("a piece of {id} comes twice"));
                let bytes = piece.clone();
                self.at(at, Event::Deliver { end: other, bytes });
            }
            let late = match self.rng.chance(self.weather.reordered) {
                true => at + self.rng.below(2_000),
                false => at,
            };
            let bytes = piece;
            self.at(late, Event::Deliver { end: other, bytes });
        }
    }

    /// A connection breaks: both ends hear of it, each when it likes.
    fn kill(&mut self, id: usize, at: u64) {
        let Some(end) = self.ends[id].as_mut() else {
            return;
        };
        end.silent = true;
        let other = end.other;
        if let Some(other) = self.ends[other].as_mut() {
            other.silent = true;
        }
        for end in [id, other] {
            let at = match self.rng.below(3) {
                0 => at + self.rng.within(KEEPALIVE_MS.0, KEEPALIVE_MS.1),
                _ => at + self.rng.below(100),
            };
            let how = match self.rng.below(2) {
                0 => StreamEnd::Closed,
                _ => StreamEnd::Broken("reset".to_owned()),
            };
            self.at(at, Event::Ended { end, how });
        }
    }

    fn deliver(&mut self, id: usize, bytes: Vec<u8>) {
        let Some(end) = self.ends[id].as_ref() else {
            return;
        };
        let (device, peer) = (end.device, end.peer);
        if !self.reachable(device, peer) {
            let pair = (device.min(peer), device.max(peer));
            let partition = self.partitions.iter().find(|(a, b, _)| (*a, *b) == pair);
            match partition {
                // Sent again until it gets through,
                Some((_, _, until)) if self.rng.below(2) == 0 => {
                    let until = *until;
                    self.at(until, Event::Deliver { end: id, bytes });
                }
                // or given up.
                _ => self.kill(id, self.now),
            }
            return;
        }
        if let Some(end) = self.ends[id].as_mut() {
            end.reader.push(&bytes);
            end.unread += bytes.len();
            if end.unread > MESSAGE_BYTES_MAX + bytes.len() {
                let held = format!("{} bytes in {id}", end.unread);
                return self.violated("bytes that are held are bounded", held);
            }
        }
        self.input(id, Input::Received(bytes.len()));
        loop {
            let Some(end) = self.ends[id].as_mut() else {
                return;
            };
            match end.reader.next_message() {
                Ok(Some(message)) => {
                    end.unread = 0;
                    self.input(id, Input::Message(message));
                }
                Ok(None) => return,
                Err(err) => {
                    let text = err.to_string();
                    let how = match err.is_the_peers_fault() {
                        true => StreamEnd::Fault(text),
                        false => StreamEnd::Broken(text),
                    };
                    return self.input(id, Input::Ended(how));
                }
            }
        }
    }

    /// A liar has more to say than its session.
    fn pester(&mut self, id: usize) {
        let Some(end) = self.ends[id].as_mut() else {
            return;
        };
        if end.silent {
            return;
        }
        let (device, sent) = (end.device, end.sent);
        let gossip = Gossip {
            entries: &self.typed,
            devices: &self.identities,
        };
        let (message, again) = match self.devices[device].lie {
            Some(Lie::Waits(after)) if sent >= after => (Message::Wait, 9_000),
            Some(Lie::Waits(_)) => return self.at(self.now + 9_000, Event::Pester { end: id }),
            Some(Lie::Endless) => (liar::babble(&gossip, &mut self.rng), 5_000),
            _ => (liar::babble(&gossip, &mut self.rng), 2_000),
        };
        let mut bytes = Vec::new();
        let written = end.writer.write(&message, &mut bytes);
        self.say(|| format!("{device} ({id}) pesters with {}", brief(&message)));
        if written.is_ok() {
            self.transmit(id, bytes);
        }
        self.at(self.now + again, Event::Pester { end: id });
    }

    // ---- sessions

    fn tick(&mut self, id: usize) {
        let Some(end) = self.ends[id].as_mut() else {
            return;
        };
        end.tick_at = None;
        if matches!(
            self.devices[end.device].lie,
            Some(Lie::FallsSilent(_) | Lie::Waits(_))
        ) {
            // It has all the time in the world.
            return;
        }
        match end.session.deadline() {
            Some(deadline) if deadline <= self.now => {
                self.input(id, Input::Tick);
                let deadline = self.ends[id].as_ref().and_then(|it| it.session.deadline());
                if deadline.is_some_and(|deadline| deadline <= self.now) {
                    self.violated("a tick moves the deadline", format!("session {id}"));
                }
            }
            Some(_) => self.watch_the_clock(id),
            None => {}
        }
    }

    fn watch_the_clock(&mut self, id: usize) {
        let Some(end) = self.ends[id].as_mut() else {
            return;
        };
        let Some(deadline) = end.session.deadline() else {
            return;
        };
        if end.tick_at.is_none_or(|at| deadline < at) {
            end.tick_at = Some(deadline);
            self.at(deadline, Event::Tick { end: id });
        }
    }

    fn input(&mut self, id: usize, input: Input) {
        let Some(end) = self.ends[id].as_mut() else {
            return;
        };
        let device = end.device;
        let effects = end.session.handle(self.now, input);
        for effect in effects {
            if self.crashes_now() {
                let back_in = self.rng.within(100, 20_000);
                return self.crash(device, back_in);
            }
            if self.ends[id].is_none() {
                // A violation, or the end of the device.
                return;
            }
            match effect {
                Effect::Send(message) => self.send(id, message),
                Effect::Ask(request) => self.ask(id, device, request),
                Effect::Acquire => self.acquire(id, device),
                Effect::Release => {
                    if let Some(end) = self.ends[id].as_mut() {
                        end.acquired = end.acquired.saturating_sub(1);
                    }
                    self.release(id, device);
                }
                Effect::Event(event) => self.observe(id, event),
                Effect::End(result) => return self.finished(id, result),
            }
        }
        self.check_bounds(id);
        self.watch_the_clock(id);
    }

    fn check_bounds(&mut self, id: usize) {
        let now = self.now;
        let Some(end) = self.ends[id].as_mut() else {
            return;
        };
        end.live |= end.session.is_live();
        let (asked, acquired, live, began) = (end.asked, end.acquired, end.live, end.began);
        if self.devices[end.device].lie.is_some() {
            return;
        }
        if asked > ASKED_MAX {
            self.violated("requests under way are bounded", format!("{asked} in {id}"));
        }
        if acquired > 2 {
            self.violated("a lease is asked for once", format!("session {id}"));
        }
        if !live && now > began + SESSION_MS_MAX {
            self.violated("a session ends or becomes live", format!("session {id}"));
        }
    }

    fn acquire(&mut self, id: usize, device: usize) {
        if let Some(end) = self.ends[id].as_mut() {
            end.acquired += 1;
        }
        if self.devices[device].lease.acquire(id) {
            self.at(self.now, Event::Leased { end: id });
        }
    }

    fn release(&mut self, id: usize, device: usize) {
        if let Some(next) = self.devices[device].lease.release(&id) {
            self.at(self.now, Event::Leased { end: next });
        }
    }

    fn observe(&mut self, id: usize, event: SessionEvent) {
        let Some(end) = self.ends[id].as_mut() else {
            return;
        };
        let (device, peer) = (end.device, end.peer);
        match event {
            SessionEvent::Round(report) => {
                let (under_way, bytes, moved) = (end.round_under_way, end.bytes, end.moved);
                let (planned, verifies) = (end.planned, end.verifies);
                let quiet = self
                    .quiet_since
                    .is_some_and(|since| end.round_began > since);
                end.round_under_way = false;
                self.say(|| format!("{device}-{peer} ({id}) round: {report:?}"));
                if planned && under_way {
                    self.met(device, peer, Ended::Well);
                }
                if verifies {
                    let it = &mut self.devices[device];
                    it.verify_with.remove(&peer);
                    it.suspect = !it.verify_with.is_empty();
                }
                if let Some(compared) = report.compared {
                    self.said(id, compared);
                }
                if self.traffic.is_some() {
                    self.reports.push((device, peer, report));
                }
                let honest = self.honest(device) && self.honest(peer);
                if quiet && honest && !verifies && !moved {
                    self.quiet_bytes = self.quiet_bytes.max(bytes);
                }
                let entries = self.devices[device].log.len() + self.devices[peer].log.len();
                let most = ROUND_BYTES_MAX + ENTRY_BYTES_MAX * entries as u64;
                if honest && self.weather.large == 0 && bytes > most {
                    let details = format!("{bytes} bytes for {entries} entries");
                    self.violated("a round costs what it brings", details);
                }
                if self.quiet_bytes > QUIET_ROUND_BYTES_MAX {
                    self.violated(
                        "a round with nothing new is small",
                        format!("{bytes} bytes"),
                    );
                }
            }
            SessionEvent::Met(hello) if hello.brief == Some(true) => end.writer.be_brief(),
            SessionEvent::Agreed(compared) => self.said(id, compared),
            SessionEvent::Started(start) => {
                self.say(|| format!("{device}-{peer} ({id}) starts: {start:?}"));
                let honest = self.honest(device) && self.honest(peer);
                if start == Start::OlderCopy
                    && honest
                    && self.weather.liars.is_empty()
                    && !self.set_back
                {
                    self.violated(
                        "no log is called an older copy that is none",
                        format!("{device} of {peer}"),
                    );
                }
            }
            other => self.say(|| format!("{device}-{peer} ({id}) {}", shortened(&other))),
        }
    }

    /// What a device says of itself and a peer has to be true.
    fn said(&mut self, id: usize, compared: Compared) {
        let Some(end) = self.ends[id].as_ref() else {
            return;
        };
        let (device, peer, changes) = (end.device, end.peer, end.changes);
        if !compared.identical() || !self.honest(device) || !self.honest(peer) {
            return;
        }
        // It may have been true, and be no more.
        if self.tally(device) == compared.ours && self.tally(peer) == compared.ours {
            self.devices[device].identical_with.insert(peer);
            self.devices[peer].identical_with.insert(device);
        }
        let suspect = self.devices[device].suspect || self.devices[peer].suspect;
        let changed = self.devices[device].changes + self.devices[peer].changes != changes;
        if suspect || changed {
            return;
        }
        let ours: BTreeMap<EntryId, u128> = self.devices[device]
            .log
            .rows()
            .into_iter()
            .map(|row| (row.id, row.hash))
            .collect();
        let theirs = self.devices[peer].log.rows();
        let told = theirs
            .iter()
            .filter(|row| row.at <= compared.their_head.get());
        // Of two under one id the smaller one stays.
        let missing = told
            .clone()
            .filter(|row| ours.get(&row.id).is_none_or(|hash| *hash > row.hash))
            .count();
        let count = told.count() as u64;
        if missing > 0 {
            self.violated(
                "identical is never said of sets that differ",
                format!("{device} lacks {missing} of {peer}"),
            );
        } else if !self.weather.conflicts()
            && self.weather.clones == 0
            && count != compared.theirs.count
        {
            self.violated(
                "identical is never said of sets that differ",
                format!("{peer} has {count}, not {}", compared.theirs.count),
            );
        }
    }

    /// Of the rows, not what was counted.
    fn tally(&mut self, device: usize) -> Tally {
        let rows = self.devices[device].log.rows();
        Tally::of(rows.into_iter().map(|row| row.hash))
    }

    fn finished(&mut self, id: usize, result: Result<(), SessionError>) {
        let Some(end) = self.ends[id].as_ref() else {
            return;
        };
        let (device, peer) = (end.device, end.peer);
        let (planned, under_way) = (end.planned, end.round_under_way);
        self.say(|| format!("{device}-{peer} ({id}) ends: {result:?}"));
        let honest = self.honest(device) && self.honest(peer);
        match &result {
            Err(SessionError::Fault(text)) if honest => self.violated(
                "honest peers are never accused",
                format!("{device} of {peer}: {text}"),
            ),
            Err(
                SessionError::OtherUser { .. }
                | SessionError::OtherProtocol { .. }
                | SessionError::Itself,
            ) if honest => self.violated(
                "honest peers are never accused",
                format!("{device} of {peer}: {result:?}"),
            ),
            _ => {}
        }
        if planned {
            let how = match result {
                Ok(()) => Ended::Well,
                Err(_) => Ended::Badly,
            };
            if under_way || how == Ended::Badly {
                self.met(device, peer, how);
            }
        }
        self.release(id, device);
        self.drop_end(id, true);
        if matches!(result, Err(SessionError::WasCopy)) {
            let identity = self.devices[device].log.identity();
            self.identities.push((identity.device_id, identity.log_id));
            self.devices[device].changes += 1;
            if self.rng.below(2) == 0 {
                self.crash(device, 100);
            }
        }
    }

    // ---- logs

    fn ask(&mut self, id: usize, device: usize, request: Request) {
        if let Some(end) = self.ends[id].as_mut() {
            end.asked += 1;
        }
        self.devices[device].queue.push_back((id, request));
        if !self.devices[device].working {
            self.devices[device].working = true;
            self.work_soon(device);
        }
    }

    fn work_soon(&mut self, device: usize) {
        let at = self.now + self.rng.within(0, self.weather.log_delay);
        let boot = self.devices[device].boot;
        self.at(at, Event::Work { device, boot });
    }

    fn work(&mut self, device: usize) {
        let Some((id, request)) = self.devices[device].queue.pop_front() else {
            self.devices[device].working = false;
            return;
        };
        let writes = !matches!(
            request,
            Request::Summary
                | Request::Known
                | Request::Read { .. }
                | Request::News { .. }
                | Request::ReadIds { .. }
                | Request::Items { .. }
        );
        let answer = if writes && self.now < self.devices[device].full_until {
            Answer::Failed(Failed {
                transient: false,
                text: "the disk is full".to_owned(),
            })
        } else if !self.calm && self.rng.chance(self.weather.busy) {
            Answer::Failed(Failed {
                transient: true,
                text: "the database is locked".to_owned(),
            })
        } else {
            self.perform(device, request)
        };
        if self.crashes_now() {
            let back_in = self.rng.within(100, 20_000);
            return self.crash(device, back_in);
        }
        if let Some(end) = self.ends[id].as_mut() {
            let at = self.now + self.rng.within(0, self.weather.log_delay / 4);
            end.answer_at = end.answer_at.max(at);
            let at = end.answer_at;
            self.at(at, Event::Answered { end: id, answer });
        }
        match self.devices[device].queue.is_empty() {
            true => self.devices[device].working = false,
            false => self.work_soon(device),
        }
    }

    fn perform(&mut self, device: usize, request: Request) -> Answer {
        let before = self.devices[device].log.len();
        let watched = match &request {
            Request::Store { peer, .. } | Request::Compared { peer, .. } => Some(peer.clone()),
            _ => None,
        };
        let cursor = watched.as_ref().map(|peer| self.cursor_of(device, peer));
        if let Some(trace) = self.trace {
            let text = shortened(&request);
            trace(&format!("{:>9}  {device} log: {text}", self.now));
        }
        if matches!(request, Request::ForgetCursor { .. })
            && self.honest(device)
            && self.weather.liars.is_empty()
            && !self.set_back
        {
            self.violated("cursors only rise", format!("{device} forgets {request:?}"));
        }
        let repairs = matches!(request, Request::Repair { .. });
        let piece = self.weather.piece;
        let answer = answer(&mut self.devices[device].log, request, piece);
        let after = self.devices[device].log.len();
        if after < before {
            self.violated(
                "nothing is removed",
                format!("{before} to {after} on {device}"),
            );
        }
        let stored = match &answer {
            Answer::Stored(stored) => stored.inserted,
            _ => 0,
        };
        if stored > 0 || repairs {
            for it in &mut self.devices {
                it.identical_with.clear();
            }
            self.tell_sessions(device, |end| Event::Came { end });
        }
        if repairs {
            self.devices[device].changes += 1;
        }
        if let Some(peer) = watched {
            self.check_cursor(device, &peer, cursor.flatten());
        }
        answer
    }

    /// A cursor only rises within a log, and never over what is not here.
    fn check_cursor(&mut self, device: usize, peer: &str, before: Option<(LogId, IngestSeq)>) {
        let Some((log, seq)) = self.cursor_of(device, peer) else {
            return;
        };
        if let Some((log_before, seq_before)) = before
            && log == log_before
            && seq < seq_before
        {
            let details = format!("{seq_before} to {seq} on {device}");
            self.violated("cursors only rise", details);
        }
        let can_tell = !self.set_back
            && self.weather.liars.is_empty()
            && self.weather.unsendable == 0
            && self.weather.rots == 0;
        if !can_tell || before == Some((log, seq)) {
            return;
        }
        let Some(other) = self.identities.iter().position(|(id, _)| id == peer) else {
            return;
        };
        let there = self.devices[other].log.rows();
        let ours: BTreeSet<EntryId> = self.devices[device]
            .log
            .rows()
            .iter()
            .map(|row| row.id)
            .collect();
        let mut covered = there.iter().filter(|row| row.at <= seq.get());
        let head = there.last().map_or(0, |row| row.at);
        if seq.get() > head || covered.any(|row| !ours.contains(&row.id)) {
            let details = format!("{seq} of {other} on {device}");
            self.violated("a cursor covers what is here", details);
        }
    }

    fn cursor_of(&mut self, device: usize, peer: &str) -> Option<(LogId, IngestSeq)> {
        let known = self.devices[device].log.known().unwrap_or_default();
        let found = known.iter().find(|known| known.peer == peer);
        found.map(|known| (known.cursor.log_id, known.cursor.seq))
    }

    // ---- the end

    /// No fault happens any more; everybody is there.
    fn heal(&mut self) -> Verdict {
        self.say(|| "faults end".to_owned());
        self.calm = true;
        self.partitions.clear();
        for device in 0..self.devices.len() {
            self.devices[device].full_until = 0;
            if self.devices[device].suspect {
                self.verify(device);
            }
            if self.rng.below(2) == 0 {
                for peer in 0..self.devices.len() {
                    if self.weather.neighbours(device, peer) {
                        let random = self.rng.any();
                        self.devices[device].plan.seen(peer, self.now, random);
                    }
                }
                self.plan_on(device);
            }
        }
        self.run_for(30_000)
    }

    /// What is to be everywhere in the end: what is somewhere now.
    fn everything(&mut self) -> BTreeSet<EntryId> {
        let mut all = BTreeSet::new();
        for device in self.all_honest() {
            let rows = self.devices[device].log.rows();
            all.extend(rows.iter().filter(|row| row.sendable).map(|row| row.id));
        }
        all
    }

    fn set(&mut self, device: usize) -> Vec<(EntryId, u128)> {
        let rows: Vec<Row> = self.devices[device].log.rows();
        let mut set: Vec<(EntryId, u128)> = rows
            .into_iter()
            .filter(|row| row.sendable)
            .map(|row| (row.id, row.hash))
            .collect();
        set.sort_unstable();
        set
    }

    /// Runs until all honest devices hold the same and say so.
    ///
    /// # Errors
    /// A violation, or that it takes too long.
    pub fn run_until_equal(&mut self) -> Verdict {
        let all = self.everything();
        let deadline = self.now + HEALING_MS_MAX;
        loop {
            if self.all_said_identical() || self.is_equal() && !self.can_say_identical() {
                break;
            }
            if self.now > deadline {
                let how = self.how_they_differ();
                self.violated("all devices come to hold the same", how);
            }
            self.run_for(5_000)?;
            if let Some(violation) = self.violation.clone() {
                return Err(violation);
            }
        }
        if !self.is_equal() {
            let how = self.how_they_differ();
            self.violated("all devices come to hold the same", how);
        }
        for device in self.all_honest() {
            let set: BTreeSet<EntryId> = self.set(device).into_iter().map(|(id, _)| id).collect();
            let lost = all.difference(&set).count();
            if lost > 0 {
                self.violated("nothing is lost", format!("{lost} entries on {device}"));
            }
            let rows: BTreeSet<EntryId> = self.devices[device]
                .log
                .rows()
                .into_iter()
                .map(|row| row.id)
                .collect();
            if !self.devices[device].typed.is_subset(&rows) {
                self.violated(
                    "nothing typed is lost on its origin",
                    format!("on {device}"),
                );
            }
        }
        self.violation.clone().map_or(Ok(()), Err)
    }

    /// Whether `rr status` on a device would say so of another one.
    pub fn says_identical(&mut self, device: usize, peer: usize) -> bool {
        let (peer, _) = self.identities[peer].clone();
        let ours = self.devices[device].log.summary().map(|it| it.tally());
        let known = self.devices[device].log.known().unwrap_or_default();
        let found = known.into_iter().find(|known| known.peer == peer);
        let compared = found.and_then(|known| known.compared);
        compared.is_some_and(|found| found.identical() && Some(found.ours) == ours.ok())
    }

    /// Whether every device says so of every other one that it meets.
    pub fn all_say_identical(&mut self) -> bool {
        let all = 0..self.devices.len();
        let pairs = all.clone().flat_map(|a| all.clone().map(move |b| (a, b)));
        let pairs: Vec<_> = pairs
            .filter(|(a, b)| a != b && self.weather.neighbours(*a, *b))
            .collect();
        pairs.into_iter().all(|(a, b)| self.says_identical(a, b))
    }

    /// Whether all honest devices hold the same, by what is in their rows.
    pub fn is_equal(&mut self) -> bool {
        let honest = self.all_honest();
        let first = self.set(honest[0]);
        honest[1..].iter().all(|device| self.set(*device) == first)
    }

    fn can_say_identical(&self) -> bool {
        self.weather.unsendable == 0
    }

    fn all_said_identical(&self) -> bool {
        let honest = self.all_honest();
        honest.iter().all(|a| {
            let it = &self.devices[*a];
            it.verify_with.is_empty()
                && honest
                    .iter()
                    .all(|b| !self.weather.neighbours(*a, *b) || it.identical_with.contains(b))
        })
    }

    fn how_they_differ(&mut self) -> String {
        let honest = self.all_honest();
        let mut text = String::new();
        for device in honest {
            let set = self.set(device);
            let digest = set
                .iter()
                .fold(0u128, |sum, (_, hash)| sum.wrapping_add(*hash));
            let it = &self.devices[device];
            text.push_str(&format!(
                "{device}: {} ({:x}), identical with {:?}, to verify with {:?}; ",
                set.len(),
                digest >> 112,
                it.identical_with,
                it.verify_with,
            ));
        }
        text
    }

    /// Two more rounds, in which nothing may happen.
    ///
    /// # Errors
    /// What happened.
    pub fn stay_quiet(&mut self) -> Verdict {
        let before: Vec<_> = (0..self.devices.len()).map(|d| self.set(d)).collect();
        // A liar may have something new at any time.
        let still = self.weather.liars.is_empty();
        self.quiet_since = (still && self.can_say_identical()).then_some(self.now);
        self.run_for(self.weather.interval * 5 / 2)?;
        for device in self.all_honest() {
            if still && self.set(device) != before[device] {
                self.violated("rest is rest", format!("{device} changed"));
            }
        }
        self.violation.clone().map_or(Ok(()), Err)
    }
}

/// [`rustory_core::sync::answer`] with pieces of another size.
fn answer<L: DeviceLog>(log: &mut L, request: Request, piece: usize) -> Answer {
    const BYTES: usize = rustory_core::limits::PIECE_BYTES_MAX;
    let done = match request {
        Request::Read { after, until, have } => log
            .read(after, until, &have, piece, BYTES)
            .map(Answer::Piece),
        Request::News { after, others } => log
            .news(after, &others, piece.min(100), BYTES)
            .map(Answer::Piece),
        Request::ReadIds { ids } => {
            let some = &ids[..ids.len().min(piece)];
            log.read_ids(some, BYTES)
                .map(|(entries, looked_up)| Answer::Found { entries, looked_up })
        }
        other => return rustory_core::sync::answer(log, other),
    };
    done.unwrap_or_else(|err| {
        Answer::Failed(Failed {
            transient: err.is_transient(),
            text: err.to_string(),
        })
    })
}

fn shortened(what: &impl fmt::Debug) -> String {
    let mut text = format!("{what:?}");
    if text.len() > 400 {
        let mut end = 400;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

fn brief(message: &Message) -> String {
    match message {
        Message::Batch(batch) => format!(
            "Batch of {}, {:?}, end: {}, mends: {:?}",
            batch.entries.entries.len(),
            batch.stretch.map(|s| (s.after.get(), s.last.get())),
            batch.end,
            batch.mends
        ),
        Message::News(news) => format!(
            "News of {}, {:?}",
            news.entries.entries.len(),
            news.stretch.map(|s| (s.after.get(), s.last.get()))
        ),
        other => shortened(other),
    }
}
