//! Whom to meet next, and who may receive: what one device decides about all of its sessions.

use std::collections::{BTreeMap, VecDeque};

/// A peer that can't be reached is tried again after this long, in milliseconds, then after twice
/// as long each time,
const BACKOFF_MS_MIN: u64 = 5_000;

/// and at least this often.
const BACKOFF_MS_MAX: u64 = 15 * 60_000;

/// While rounds find nothing to exchange, each waits twice as long as the one before, up to so many
/// intervals.
const QUIET_INTERVALS_MAX: u64 = 4;

/// A peer that was seen is met within this long, in milliseconds: so that devices that see one at once do not
/// all call it at once, and short beside what calling it takes.
const SOON_MS: u64 = 100;

/// A peer that was seen again is not tried more often than this, in milliseconds, however often it
/// is seen: a peer that comes and goes may not keep a device busy.
const SEEN_MS_MIN: u64 = 1_000;

/// When to meet which peer.
///
/// Times are milliseconds of any clock that does not go back. Randomness is an argument: a number
/// that is spread evenly over all of `u64`.
#[derive(Debug)]
pub struct Plan<P: Ord> {
    interval_ms: u64,
    peers: BTreeMap<P, PeerPlan>,
}

#[derive(Clone, Copy, Debug)]
struct PeerPlan {
    /// `None`: a session with it is under way.
    next: Option<u64>,
    failures: u32,
    /// How many rounds in a row have found nothing to exchange.
    quiet: u32,
    tried: Option<u64>,
}

/// How a session with a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// In order, whatever it brought.
    Well,
    /// In order, and both had the same before it.
    Quietly,
    /// It could not be reached, or broke off.
    Badly,
}

impl<P: Ord + Clone> Plan<P> {
    /// A plan that meets every peer once in `interval_ms`.
    #[must_use]
    pub fn new(interval_ms: u64) -> Plan<P> {
        Plan {
            interval_ms: interval_ms.max(1),
            peers: BTreeMap::new(),
        }
    }

    /// A peer is known now, or was seen again: it is met soon, at a time that differs from device
    /// to device.
    pub fn seen(&mut self, peer: P, now: u64, random: u64) {
        let soon = now + within(random, SOON_MS);
        let plan = self.peers.entry(peer).or_insert(PeerPlan {
            next: Some(soon),
            failures: 0,
            quiet: 0,
            tried: None,
        });
        let allowed = plan.tried.map_or(0, |tried| tried + SEEN_MS_MIN);
        plan.failures = 0;
        if let Some(next) = &mut plan.next {
            *next = (*next).min(soon.max(allowed));
        }
    }

    /// The log holds something new: whoever has not heard of it yet does within an interval.
    pub fn stirred(&mut self, now: u64) {
        for plan in self.peers.values_mut() {
            if std::mem::take(&mut plan.quiet) > 0 {
                let within = now + self.interval_ms;
                plan.next = plan.next.map(|next| next.min(within));
            }
        }
    }

    /// A peer is of no interest any more.
    pub fn forget(&mut self, peer: &P) {
        self.peers.remove(peer);
    }

    /// The peers to meet now; sessions with them count as under way.
    pub fn due(&mut self, now: u64) -> Vec<P> {
        let mut due = Vec::new();
        for (peer, plan) in &mut self.peers {
            if plan.next.is_some_and(|next| next <= now) {
                plan.next = None;
                plan.tried = Some(now);
                due.push(peer.clone());
            }
        }
        due
    }

    /// When the next one is due; `None`: when something else happens first.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.peers.values().filter_map(|plan| plan.next).min()
    }

    /// A session with a peer, planned or not, has ended.
    pub fn ended(&mut self, peer: &P, how: Ended, now: u64, random: u64) {
        let Some(plan) = self.peers.get_mut(peer) else {
            return;
        };
        let wait = match how {
            Ended::Well | Ended::Quietly => {
                plan.failures = 0;
                plan.quiet = match how {
                    Ended::Quietly => plan.quiet + 1,
                    _ => 0,
                };
                let times = (1 << plan.quiet.saturating_sub(1).min(20)).min(QUIET_INTERVALS_MAX);
                let wait = self.interval_ms.saturating_mul(times);
                // A fifth earlier or later, so that devices that started together drift apart.
                let fifth = wait / 5;
                wait - fifth + within(random, 2 * fifth + 1)
            }
            Ended::Badly => {
                let doubled = BACKOFF_MS_MIN << plan.failures.min(20);
                plan.failures += 1;
                let longest = doubled.min(BACKOFF_MS_MAX);
                longest / 2 + within(random, longest / 2 + 1)
            }
        };
        plan.next = Some(now + wait);
    }
}

/// A number below `bound`, for a bound above 0.
fn within(random: u64, bound: u64) -> u64 {
    random % bound.max(1)
}

/// Which of a device's sessions may receive in bulk: one at a time, so that an entry that several
/// peers hold crosses once.
#[derive(Debug)]
pub struct Lease<S> {
    holder: Option<S>,
    waiting: VecDeque<S>,
}

impl<S> Default for Lease<S> {
    fn default() -> Lease<S> {
        Lease {
            holder: None,
            waiting: VecDeque::new(),
        }
    }
}

impl<S: PartialEq + Clone> Lease<S> {
    /// A session wants it. `true`: it has it.
    pub fn acquire(&mut self, session: S) -> bool {
        if self.holder.is_none() {
            self.holder = Some(session);
            return true;
        }
        self.waiting.push_back(session);
        false
    }

    /// A session does not need it any more, or does not wait for it any more. Returns who has it
    /// now, if that changed.
    pub fn release(&mut self, session: &S) -> Option<S> {
        self.waiting.retain(|waiting| waiting != session);
        if self.holder.as_ref() != Some(session) {
            return None;
        }
        self.holder = self.waiting.pop_front();
        self.holder.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_dead_peer_is_tried_ever_more_rarely_and_delays_no_other() {
        let mut plan = Plan::new(60_000);
        plan.seen("dead", 0, 7);
        plan.seen("alive", 0, 9);
        let (mut now, mut tries, mut met) = (0, Vec::new(), 0);
        while now < 24 * 3_600_000 {
            now = plan.next_due().unwrap();
            for peer in plan.due(now) {
                if peer == "dead" {
                    tries.push(now);
                    plan.ended(&peer, Ended::Badly, now, 0);
                } else {
                    met += 1;
                    plan.ended(&peer, Ended::Well, now, now * 7_919);
                }
            }
        }
        assert!((80..=200).contains(&tries.len()), "{}", tries.len());
        assert!(met > 1_200, "{met}");
    }

    #[test]
    fn a_peer_that_is_seen_again_is_met_at_once_but_not_every_time() {
        let mut plan = Plan::new(60_000);
        plan.seen(1, 0, 0);
        assert_eq!(plan.due(0), [1]);
        plan.seen(1, 0, 0);
        assert_eq!(plan.due(10_000), [0; 0], "a session is under way");
        plan.ended(&1, Ended::Badly, 10_000, 0);
        plan.seen(1, 10_001, 5);
        assert_eq!(plan.due(10_100), [1]);
        plan.ended(&1, Ended::Badly, 10_100, 0);
        plan.seen(1, 10_101, 5);
        assert_eq!(plan.due(10_200), [0; 0], "it was tried 100 ms ago");
        assert_eq!(plan.due(11_200), [1]);
    }

    #[test]
    fn rounds_that_find_nothing_become_rare_until_something_happens() {
        let mut plan = Plan::new(60_000);
        let (mut now, mut waits) = (0, Vec::new());
        plan.seen((), 0, 0);
        for _ in 0..6 {
            assert_eq!(plan.due(now), [()]);
            plan.ended(&(), Ended::Quietly, now, 0);
            let next = plan.next_due().unwrap();
            waits.push((next - now) / 1_000);
            now = next;
        }
        assert_eq!(waits, [48, 96, 192, 192, 192, 192]);
        let before = now - 190_000;
        plan.stirred(before);
        assert_eq!(plan.next_due(), Some(before + 60_000));
        plan.stirred(before + 1_000);
        assert_eq!(plan.next_due(), Some(before + 60_000), "it is not put off");
        plan.due(now);
        plan.ended(&(), Ended::Well, now, 0);
        assert_eq!(plan.next_due(), Some(now + 48_000));
    }

    proptest! {
        #[test]
        fn devices_that_start_together_do_not_meet_a_peer_together(seeds in prop::collection::vec(any::<u64>(), 50)) {
            let mut times: Vec<u64> = seeds
                .iter()
                .map(|seed| {
                    let mut plan = Plan::new(60_000);
                    plan.seen((), 0, 0);
                    plan.due(0);
                    plan.ended(&(), Ended::Badly, 0, *seed);
                    plan.next_due().unwrap()
                })
                .collect();
            times.sort_unstable();
            prop_assert!(times[0] >= BACKOFF_MS_MIN / 2);
            prop_assert!(times[49] <= BACKOFF_MS_MIN);
        }

        #[test]
        fn one_session_at_a_time_holds_the_lease_and_none_is_forgotten(ops in prop::collection::vec((0u8..6, any::<bool>()), 0..200)) {
            let mut lease = Lease::default();
            let (mut holder, mut waiting): (Option<u8>, VecDeque<u8>) = (None, VecDeque::new());
            for (session, wants) in ops {
                let involved = holder == Some(session) || waiting.contains(&session);
                if wants && !involved {
                    let granted = lease.acquire(session);
                    prop_assert_eq!(granted, holder.is_none());
                    match granted { true => holder = Some(session), false => waiting.push_back(session) }
                } else if !wants {
                    waiting.retain(|other| *other != session);
                    let mut expected = None;
                    if holder == Some(session) {
                        holder = waiting.pop_front();
                        expected = holder;
                    }
                    prop_assert_eq!(lease.release(&session), expected);
                }
            }
        }
    }
}
