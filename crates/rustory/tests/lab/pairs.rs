//! Which way two devices reach each other, for each pair of NATs. Believed is only what the router
//! counted.

use std::time::Duration;

use crate::device::{
    NOISE_BYTES_MIN, Swarm, all_identical, both_say_identical, gets_path, noise, start_all,
};
use crate::namespace::possible;
use crate::topology::{Lab, NATS, Nat, SiteSpec, Unsolicited, Weather};
use crate::wait::LONG;

/// Entries that are sent once the path is settled.
const BULK: u64 = 3_000;

/// What else passes in that time: pings, the tracker, attempts to punch a hole.
const CHATTER_BYTES_MAX: u64 = 60_000;

/// How long hole punching may take, with everything slowed down by other work.
const PUNCH_MAX: Duration = Duration::from_secs(40);

/// How two devices behind such NATs reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Relay,
    /// As chance has it, and changing: the symmetric side has to dial the open one at the right moment.
    Either,
}

/// A symmetric NAT takes a new port for each destination, so nobody can send to it first; it can
/// only reach somebody who lets anybody in.
fn way(a: Nat, b: Nat) -> Way {
    match (a, b) {
        (Nat::None, _) | (_, Nat::None) => Way::Direct,
        (Nat::FullCone, Nat::Symmetric) | (Nat::Symmetric, Nat::FullCone) => Way::Either,
        (Nat::Symmetric, _) | (_, Nat::Symmetric) => Way::Relay,
        _ => Way::Direct,
    }
}

fn check_pair(a: impl Into<SiteSpec>, b: impl Into<SiteSpec>) {
    let (spec_a, spec_b) = (a.into(), b.into());
    let way = way(spec_a.nat, spec_b.nat);
    let title = format!("{:?} / {:?}", spec_a.nat, spec_b.nat);
    let mut lab = Lab::new();
    let (at_a, at_b) = (lab.host_behind(spec_a), lab.host_behind(spec_b));
    // Holes are punched by packets that cross each other, which takes a way between them.
    lab.weather(Weather::round_trip(Duration::from_millis(25)));
    let swarm = Swarm::with_hub(&lab);
    let (mut a, mut b) = (swarm.device(&at_a, "a"), swarm.device(&at_b, "b"));
    a.types(noise("a", 20));
    b.types(noise("b", 30));
    let begun = std::time::Instant::now();
    start_all([&mut a, &mut b]);
    a.holds(50, LONG);
    b.holds(50, LONG);
    let first = begun.elapsed();
    match way {
        Way::Direct => _ = gets_path(&a, &b, "direct", PUNCH_MAX),
        Way::Relay => _ = gets_path(&a, &b, "relay", PUNCH_MAX),
        Way::Either => {}
    }
    let settled = begun.elapsed();

    let hub = lab.hub();
    let counted = || [(&at_a, &at_b), (&at_a, hub), (&at_b, hub)].map(|(x, y)| lab.traffic(x, y));
    let before = counted();
    a.types(noise("bulk", BULK as usize));
    let took = all_identical(&[&a, &b], 50 + BULK, LONG);
    let after = counted();
    let [between, hub_a, hub_b] = [0, 1, 2].map(|n| (after[n] - before[n]).bytes);
    println!(
        "{title:24} {way:?}: first sync {first:4.1?}, settled {settled:4.1?}, {BULK} entries {took:4.1?}; \
         bytes: direct {between}, hub {hub_a} + {hub_b}"
    );
    let bulk = BULK * NOISE_BYTES_MIN;
    let relayed = hub_a.min(hub_b);
    match way {
        Way::Direct => assert!(between > bulk && relayed < CHATTER_BYTES_MAX, "{title}"),
        Way::Relay => assert!(relayed > bulk && between < CHATTER_BYTES_MAX, "{title}"),
        Way::Either => assert!(between + relayed > bulk, "{title}"),
    }
}

#[test]
fn two_home_routers_are_punched_through() {
    if possible("hole punching between home routers") {
        check_pair(Nat::Home, Nat::Home);
    }
}

#[test]
fn two_routers_that_shift_ports_are_punched_through() {
    if possible("hole punching with shifted ports") {
        check_pair(Nat::Shift, Nat::Shift);
    }
}

#[test]
fn two_symmetric_routers_sync_through_the_relay() {
    if possible("sync through the relay") {
        check_pair(Nat::Symmetric, Nat::Symmetric);
    }
}

#[test]
fn two_devices_of_one_home_sync_within_it() {
    if !possible("sync within a home") {
        return;
    }
    let mut lab = Lab::new();
    let home = lab.site(Nat::Home);
    let (at_a, at_b) = (lab.host(home), lab.host(home));
    let swarm = Swarm::with_hub(&lab);
    let (mut a, mut b) = (swarm.device(&at_a, "a"), swarm.device(&at_b, "b"));
    start_all([&mut a, &mut b]);
    gets_path(&a, &b, "lan", LONG);
    let (lan, hub) = (lab.lan_traffic(&at_a, &at_b), lab.traffic(&at_a, lab.hub()));
    a.types(noise("bulk", BULK as usize));
    all_identical(&[&a, &b], BULK, LONG);
    let lan = (lab.lan_traffic(&at_a, &at_b) - lan).bytes;
    let hub = (lab.traffic(&at_a, lab.hub()) - hub).bytes;
    println!("one home: bytes: lan {lan}, hub {hub}");
    assert!(
        lan > BULK * NOISE_BYTES_MIN && hub < CHATTER_BYTES_MAX,
        "{lan}, {hub}"
    );
}

#[test]
fn both_sides_say_how_they_are_connected_and_that_they_are_identical() {
    if !possible("what status says") {
        return;
    }
    let mut lab = Lab::new();
    let (at_a, at_b) = (lab.host_behind(Nat::Home), lab.host_behind(Nat::None));
    let swarm = Swarm::with_hub(&lab);
    let (mut a, mut b) = (swarm.device(&at_a, "a"), swarm.device(&at_b, "b"));
    a.does_rounds_often();
    b.does_rounds_often();
    start_all([&mut a, &mut b]);
    for (n, device) in [&a, &b].into_iter().enumerate() {
        device.types(noise("now", 200));
        all_identical(&[&a, &b], 200 * (n as u64 + 1), LONG);
        both_say_identical(&a, &b, LONG);
    }
    let said = [a.path_to(&b), b.path_to(&a)];
    assert_eq!(said, [Some("direct".to_owned()), Some("direct".to_owned())]);
}

#[test]
#[ignore = "takes minutes: scripts/lab"]
fn every_pair_of_routers_takes_the_way_of_the_table() {
    if !possible("all pairs") {
        return;
    }
    let pairs = NATS.into_iter().flat_map(|a| NATS.map(|b| (a, b)));
    // All of the table is worth knowing, whatever is wrong with one pair.
    let failed: Vec<_> = pairs
        .filter(|(a, b)| std::panic::catch_unwind(|| check_pair(*a, *b)).is_err())
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
#[ignore = "takes minutes: scripts/lab"]
fn routers_that_reject_what_nobody_asked_for_are_punched_through() {
    if !possible("routers that reject") {
        return;
    }
    let rejects = |nat: Nat| SiteSpec {
        unsolicited: Unsolicited::Reject,
        ..nat.into()
    };
    check_pair(rejects(Nat::Symmetric), rejects(Nat::Symmetric));
    check_pair(rejects(Nat::Home), Nat::Home);
}
