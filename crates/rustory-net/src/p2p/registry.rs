//! What a tracker remembers: pure, with the time as an argument.
//!
//! Bounded however it is used: one record for each peer id, which a new announcement replaces, and
//! [`TRACKER_DEVICES_MAX`] records in all. When it is full, the device that has been offline
//! longest makes room; devices that are online never do.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use super::limits::{
    TRACKER_DEVICES_MAX, TRACKER_RATE_MAX, TRACKER_RATE_WINDOW, TRACKER_TTL_MAX, TRACKER_TTL_MIN,
};
use super::tracker::{Announce, Listed, Listing, RefusalReason, TRACKER_VERSION};

/// The devices that a tracker knows.
#[derive(Debug, Default)]
pub(super) struct Registry {
    records: HashMap<PeerId, Record>,
}

#[derive(Debug)]
struct Record {
    announced: Announce,
    seen: Instant,
    expires: Instant,
    online: bool,
    window: Instant,
    in_window: u32,
}

/// What a registry holds, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RegistryCounts {
    /// All devices that are remembered.
    pub known: usize,
    /// Those that are connected.
    pub online: usize,
}

impl Registry {
    /// Takes an announcement of the peer at the other end of a connection, and lists all others.
    ///
    /// `clock_secs` is the wall clock, which is only told; nothing is decided by it.
    ///
    /// # Errors
    /// The reason to refuse it with; nothing is changed then, except that it counts.
    pub(super) fn announce(
        &mut self,
        peer: PeerId,
        observed: &Multiaddr,
        announced: Announce,
        now: Instant,
        clock_secs: u64,
    ) -> Result<Listing, RefusalReason> {
        self.expire(now);
        if announced.protocol != TRACKER_VERSION {
            return Err(RefusalReason::Version);
        }
        if !announced.within_limits() {
            return Err(RefusalReason::TooLarge);
        }
        let (window, in_window) = self.counted(peer, now)?;
        if !self.records.contains_key(&peer) && !self.has_room() {
            return Err(RefusalReason::Full);
        }
        let asked = Duration::from_secs(announced.ttl_secs);
        let ttl = asked.clamp(TRACKER_TTL_MIN, TRACKER_TTL_MAX);
        let record = Record {
            announced,
            seen: now,
            expires: now + ttl,
            online: true,
            window,
            in_window,
        };
        self.records.insert(peer, record);
        Ok(Listing {
            you: peer.to_string(),
            observed: observed.to_string(),
            server_time_secs: clock_secs,
            ttl_secs: ttl.as_secs(),
            peers: self.others(peer, now),
        })
    }

    /// The last connection of a peer ended. It stays listed, as offline, until it expires.
    pub(super) fn disconnected(&mut self, peer: PeerId) {
        if let Some(record) = self.records.get_mut(&peer) {
            record.online = false;
        }
    }

    /// Forgets devices that have not announced themselves for their time to live.
    pub(super) fn expire(&mut self, now: Instant) {
        self.records.retain(|_, record| record.expires > now);
    }

    /// How many devices there are.
    #[must_use]
    pub(super) fn counts(&self) -> RegistryCounts {
        RegistryCounts {
            known: self.records.len(),
            online: self.records.values().filter(|it| it.online).count(),
        }
    }

    /// The window of time that this announcement counts in, and how many came in it.
    fn counted(&mut self, peer: PeerId, now: Instant) -> Result<(Instant, u32), RefusalReason> {
        let Some(record) = self.records.get_mut(&peer) else {
            return Ok((now, 1));
        };
        if now.saturating_duration_since(record.window) >= TRACKER_RATE_WINDOW {
            return Ok((now, 1));
        }
        if record.in_window >= TRACKER_RATE_MAX {
            return Err(RefusalReason::TooOften);
        }
        record.in_window += 1;
        Ok((record.window, record.in_window))
    }

    /// Makes room for one more record where there is none.
    fn has_room(&mut self) -> bool {
        if self.records.len() < TRACKER_DEVICES_MAX {
            return true;
        }
        let oldest = self
            .records
            .iter()
            .filter(|(_, record)| !record.online)
            .min_by_key(|(_, record)| record.seen)
            .map(|(peer, _)| *peer);
        match oldest {
            Some(peer) => self.records.remove(&peer).is_some(),
            None => false,
        }
    }

    fn others(&self, asker: PeerId, now: Instant) -> Vec<Listed> {
        self.records
            .iter()
            .filter(|(peer, _)| **peer != asker)
            .map(|(peer, record)| Listed {
                peer_id: peer.to_string(),
                device_id: record.announced.device_id.clone(),
                device_name: record.announced.device_name.clone(),
                user_id: record.announced.user_id.clone(),
                addrs: record.announced.addrs.clone(),
                last_seen_secs_ago: now.saturating_duration_since(record.seen).as_secs(),
                online: record.online,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p2p::limits::{ADDR_BYTES_MAX, ADDRS_PER_PEER_MAX, TRACKER_TTL};
    use proptest::prelude::*;

    fn peer(number: u8) -> PeerId {
        let digest = [number; 32];
        let hash = libp2p::core::multihash::Multihash::wrap(0x12, &digest).unwrap();
        PeerId::from_multihash(hash).unwrap()
    }

    fn announce(name: &str) -> Announce {
        Announce {
            protocol: TRACKER_VERSION,
            device_name: name.into(),
            ttl_secs: TRACKER_TTL.as_secs(),
            ..Announce::default()
        }
    }

    fn observed() -> Multiaddr {
        "/ip4/192.0.2.1/tcp/4001".parse().unwrap()
    }

    struct Tracker(Registry, Instant);

    impl Tracker {
        fn new() -> Tracker {
            Tracker(Registry::default(), Instant::now())
        }

        fn announce(&mut self, number: u8, what: Announce) -> Result<Listing, RefusalReason> {
            self.0.announce(peer(number), &observed(), what, self.1, 7)
        }

        fn wait(&mut self, secs: u64) {
            self.1 += Duration::from_secs(secs);
        }
    }

    #[test]
    fn each_sees_the_others_and_itself_as_the_tracker_does() {
        let mut tracker = Tracker::new();
        let alone = tracker.announce(1, announce("a")).unwrap();
        assert_eq!(alone.peers, []);
        assert_eq!(alone.you, peer(1).to_string());
        assert_eq!(alone.observed, observed().to_string());
        assert_eq!(alone.ttl_secs, TRACKER_TTL.as_secs());
        tracker.wait(10);
        let both = tracker.announce(2, announce("b")).unwrap();
        assert_eq!(both.peers.len(), 1);
        assert_eq!(both.peers[0].device_name, "a");
        assert_eq!(both.peers[0].last_seen_secs_ago, 10);
        assert!(both.peers[0].online);
    }

    #[test]
    fn a_device_that_left_is_offline_and_then_forgotten() {
        let mut tracker = Tracker::new();
        tracker.announce(1, announce("a")).unwrap();
        tracker.0.disconnected(peer(1));
        let listed = tracker.announce(2, announce("b")).unwrap().peers;
        assert!(!listed[0].online);
        tracker.wait(TRACKER_TTL.as_secs() - 1);
        assert_eq!(tracker.announce(2, announce("b")).unwrap().peers.len(), 1);
        tracker.wait(1);
        assert_eq!(tracker.announce(2, announce("b")).unwrap().peers.len(), 0);
    }

    #[test]
    fn announcing_again_replaces_what_was_known() {
        let mut tracker = Tracker::new();
        tracker.announce(1, announce("old")).unwrap();
        tracker.announce(1, announce("new")).unwrap();
        let listed = tracker.announce(2, announce("b")).unwrap().peers;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].device_name, "new");
    }

    #[test]
    fn a_full_tracker_lets_go_of_who_is_offline_longest_and_of_nobody_online() {
        let mut tracker = Tracker::new();
        for number in 0..64 {
            tracker.announce(number, announce("x")).unwrap();
            tracker.wait(1);
        }
        assert_eq!(
            tracker.announce(100, announce("y")),
            Err(RefusalReason::Full)
        );
        tracker.0.disconnected(peer(9));
        tracker.0.disconnected(peer(3));
        let listed = tracker.announce(100, announce("y")).unwrap().peers;
        assert!(listed.iter().all(|it| it.peer_id != peer(3).to_string()));
        assert!(listed.iter().any(|it| it.peer_id == peer(9).to_string()));
    }

    #[test]
    fn what_is_too_large_or_too_new_or_too_often_is_refused_by_name() {
        let mut tracker = Tracker::new();
        let check = |tracker: &mut Tracker, what: Announce, reason| {
            assert_eq!(tracker.announce(1, what), Err(reason));
            assert_eq!(tracker.0.counts().known, 0);
        };
        let mut newer = announce("a");
        newer.protocol = 2;
        check(&mut tracker, newer, RefusalReason::Version);
        check(
            &mut tracker,
            announce(&"x".repeat(257)),
            RefusalReason::TooLarge,
        );
        let mut many = announce("a");
        many.addrs = vec![String::new(); ADDRS_PER_PEER_MAX + 1];
        check(&mut tracker, many, RefusalReason::TooLarge);
        let mut long = announce("a");
        long.addrs = vec!["x".repeat(ADDR_BYTES_MAX + 1)];
        check(&mut tracker, long, RefusalReason::TooLarge);
        for _ in 0..TRACKER_RATE_MAX {
            tracker.announce(1, announce("a")).unwrap();
        }
        assert_eq!(
            tracker.announce(1, announce("a")),
            Err(RefusalReason::TooOften)
        );
        tracker.wait(TRACKER_RATE_WINDOW.as_secs());
        assert!(tracker.announce(1, announce("a")).is_ok());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Announce(u8, u64),
        Leave(u8),
        Wait(u64),
    }

    /// Mostly such that they pass within a test.
    fn ttl() -> impl Strategy<Value = u64> {
        prop_oneof![4 => 0u64..600, 1 => any::<u64>()]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (any::<u8>(), ttl()).prop_map(|(who, ttl)| Step::Announce(who, ttl)),
            1 => any::<u8>().prop_map(Step::Leave),
            1 => (0u64..200).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn it_never_grows_beyond_its_bound_and_never_lists_what_expired(
            steps in proptest::collection::vec(step(), 0..400)
        ) {
            let mut tracker = Tracker::new();
            let mut latest: HashMap<String, (Instant, Duration)> = HashMap::new();
            for step in steps {
                match step {
                    Step::Wait(secs) => tracker.wait(secs),
                    Step::Leave(who) => tracker.0.disconnected(peer(who)),
                    Step::Announce(who, ttl_secs) => {
                        let what = Announce { ttl_secs, ..announce("x") };
                        let Ok(listing) = tracker.announce(who, what) else { continue };
                        let ttl = Duration::from_secs(ttl_secs)
                            .clamp(TRACKER_TTL_MIN, TRACKER_TTL_MAX);
                        latest.insert(peer(who).to_string(), (tracker.1, ttl));
                        for listed in listing.peers {
                            let (seen, ttl) = latest
                                .get(&listed.peer_id)
                                .expect("only what was announced is listed");
                            prop_assert!(tracker.1 < *seen + *ttl);
                        }
                    }
                }
                prop_assert!(tracker.0.counts().known <= TRACKER_DEVICES_MAX);
                prop_assert!(tracker.0.counts().online <= tracker.0.counts().known);
            }
        }
    }
}
