//! What a world is like: who is there, who meets whom, and what goes wrong how often.

use crate::liar::Lie;
use crate::rng::Rng;

/// Who can reach whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Everybody everybody.
    Mesh,
    /// Everybody the first one only.
    Star,
    /// Everybody the ones before and behind.
    Chain,
    /// One pair at a time; the others sleep.
    Shifts,
}

/// All that a world is made of. Chances are in ten thousand.
#[derive(Clone, Debug)]
pub struct Weather {
    /// How many devices.
    pub devices: usize,
    /// Who can reach whom.
    pub topology: Topology,
    /// Devices stay connected.
    pub stays: Vec<bool>,
    /// Milliseconds between two rounds.
    pub interval: u64,
    /// Faults end then, in milliseconds.
    pub calm_at: u64,
    /// Milliseconds on the way.
    pub delay: (u64, u64),
    /// Milliseconds that a log takes at most.
    pub log_delay: u64,
    /// Entries in one piece, and in one announcement.
    pub piece: usize,
    /// Entries at the start, by device.
    pub at_start: Vec<usize>,
    /// Times at which something is typed.
    pub bursts: usize,
    /// Entries typed at once, at most.
    pub burst: usize,
    /// A message is cut into pieces.
    pub split: u64,
    /// A piece is lost,
    pub lost: u64,
    /// comes twice,
    pub doubled: u64,
    /// overtakes,
    pub reordered: u64,
    /// is changed,
    pub changed: u64,
    /// or the last of its connection.
    pub cut: u64,
    /// A device ends at an effect or between a commit and its acknowledgement.
    pub crash: u64,
    /// A request to a log fails.
    pub busy: u64,
    /// A second session is begun beside the first.
    pub twice: u64,
    /// An entry has no number of its own,
    pub unnumbered: u64,
    /// is beyond the limits,
    pub unsendable: u64,
    /// or large.
    pub large: u64,
    /// Clocks are wrong by so many days at most.
    pub skew_days: u64,
    /// So many times two devices can't reach each other for a while.
    pub partitions: usize,
    /// So many times a disk is full for a while,
    pub full: usize,
    /// a log is set back to an older snapshot,
    pub set_backs: usize,
    /// copied to another device,
    pub clones: usize,
    /// loses rows, with its counts put right,
    pub losses: usize,
    /// or not,
    pub silent_losses: usize,
    /// has rows changed by the disk,
    pub rots: usize,
    /// or is recreated empty.
    pub recreated: usize,
    /// All devices sleep for months once.
    pub months: bool,
    /// The last devices lie.
    pub liars: Vec<Lie>,
}

impl Weather {
    /// Nothing goes wrong.
    #[must_use]
    pub fn fair(devices: usize) -> Weather {
        Weather {
            devices,
            topology: Topology::Mesh,
            stays: vec![false; devices],
            interval: 20_000,
            calm_at: 0,
            delay: (1, 30),
            log_delay: 5,
            piece: 2_000,
            at_start: vec![0; devices],
            bursts: 0,
            burst: 1,
            split: 0,
            lost: 0,
            doubled: 0,
            reordered: 0,
            changed: 0,
            cut: 0,
            crash: 0,
            busy: 0,
            twice: 0,
            unnumbered: 0,
            unsendable: 0,
            large: 0,
            skew_days: 0,
            partitions: 0,
            full: 0,
            set_backs: 0,
            clones: 0,
            losses: 0,
            silent_losses: 0,
            rots: 0,
            recreated: 0,
            months: false,
            liars: Vec::new(),
        }
    }

    /// Any.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Weather {
        let devices = match rng.below(100) {
            0..=44 => 2,
            45..=74 => 3,
            75..=89 => 4,
            90..=96 => rng.within(5, 6),
            _ => rng.within(7, 10),
        } as usize;
        let topology = match rng.below(10) {
            0..=4 => Topology::Mesh,
            5 | 6 => Topology::Star,
            7 | 8 => Topology::Chain,
            _ if devices <= 5 => Topology::Shifts,
            _ => Topology::Mesh,
        };
        let all_stay = rng.pick(&[0, 5_000, 10_000]);
        let mut weather = Weather {
            topology,
            stays: (0..devices).map(|_| rng.chance(all_stay)).collect(),
            calm_at: rng.within(20_000, 150_000),
            delay: rng.pick(&[(0, 0), (1, 30), (5, 200), (50, 2_000)]),
            log_delay: rng.pick(&[0, 5, 50, 3_000]),
            piece: rng.pick(&[1, 2, 3, 7, 2_000]),
            bursts: rng.within(0, 12) as usize,
            burst: rng.pick(&[1, 3, 12]),
            split: rng.pick(&[0, 500, 5_000]),
            skew_days: rng.pick(&[0, 0, 1, 400]),
            unnumbered: rng.pick(&[0, 0, 1_000, 10_000]),
            twice: rng.pick(&[0, 0, 3_000]),
            ..Weather::fair(devices)
        };
        for start in &mut weather.at_start {
            *start = rng.pick(&[0, 1, 5, 20]);
        }
        // Each kind of fault in a fifth of the worlds, so that some have none and few have all.
        let rate = |rng: &mut Rng, rates: &[u64]| match rng.below(5) {
            0 => rng.pick(rates),
            _ => 0,
        };
        if devices > 4 {
            // Many sessions wait for one log.
            weather.log_delay = weather.log_delay.min(500);
        }
        if weather.log_delay > 1_000 {
            weather.piece = weather.piece.max(7);
        }
        weather.lost = rate(rng, &[20, 200]);
        weather.doubled = rate(rng, &[20, 200]);
        weather.reordered = rate(rng, &[20, 200]);
        weather.changed = rate(rng, &[20, 200]);
        weather.cut = rate(rng, &[50, 500]);
        weather.crash = rate(rng, &[20, 200]);
        weather.busy = rate(rng, &[50, 500]);
        weather.large = rate(rng, &[300]);
        weather.partitions = rate(rng, &[1, 3]) as usize;
        weather.full = rate(rng, &[1]) as usize;
        weather.set_backs = rate(rng, &[1, 2]) as usize;
        weather.losses = rate(rng, &[1, 2]) as usize;
        weather.recreated = rate(rng, &[1]) as usize;
        let rare = |rng: &mut Rng| usize::from(rng.below(10) == 0);
        weather.clones = rare(rng);
        weather.silent_losses = rare(rng);
        weather.rots = rare(rng);
        weather.months = rng.below(10) == 0;
        weather.unsendable = rng.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 500]);
        if devices > 2 && topology != Topology::Shifts && rng.below(5) == 0 {
            weather.liars = vec![Lie::draw(rng)];
        }
        weather
    }

    /// Whether two entries may come under one id.
    #[must_use]
    pub fn conflicts(&self) -> bool {
        self.rots > 0 || !self.liars.is_empty()
    }

    /// Whether `device` lies.
    #[must_use]
    pub fn lie(&self, device: usize) -> Option<Lie> {
        let honest = self.devices - self.liars.len();
        device
            .checked_sub(honest)
            .and_then(|n| self.liars.get(n).copied())
    }

    /// Whether these two can ever meet.
    #[must_use]
    pub fn neighbours(&self, a: usize, b: usize) -> bool {
        match self.topology {
            Topology::Mesh | Topology::Shifts => a != b,
            Topology::Star => a != b && (a == 0 || b == 0),
            Topology::Chain => a.abs_diff(b) == 1,
        }
    }
}
