//! A hub that is away: from the start, for a moment, for good.

use std::time::Duration;

use crate::device::{Swarm, all_identical, gets_path, noise, noise_of, start_all};
use crate::namespace::possible;
use crate::topology::{Lab, Nat, Weather};
use crate::wait::{LONG, until};

#[test]
fn devices_that_met_before_meet_again_without_the_hub() {
    if !possible("a hub that is down from the start") {
        return;
    }
    let mut lab = Lab::new();
    let home = lab.site(Nat::Home);
    let hosts = [lab.host_behind(Nat::None), lab.host(home), lab.host(home)];
    let mut swarm = Swarm::with_hub(&lab);
    let mut devices =
        [0, 1, 2].map(|n| swarm.device(&hosts[n], ["server", "laptop", "desktop"][n]));
    for device in &devices {
        device.types(noise("before", 10));
    }
    start_all(&mut devices);
    for device in &devices {
        device.holds(30, LONG);
    }
    for device in &mut devices {
        device.stop();
    }
    swarm.stop_hub();

    for device in &devices {
        device.types(noise("after", 10));
    }
    start_all(&mut devices);
    let [a, b, c] = &devices;
    let took = all_identical(&[a, b, c], 60, LONG);
    println!("hub down, warm book: identical after {took:.1?}");
}

#[test]
fn devices_of_one_home_find_each_other_without_any_hub() {
    if !possible("finding each other on the local network") {
        return;
    }
    let mut lab = Lab::new();
    let home = lab.site(Nat::Home);
    let hosts = [lab.host(home), lab.host(home)];
    let swarm = Swarm::new(&lab);
    let mut devices = [0, 1].map(|n| swarm.device(&hosts[n], ["a", "b"][n]));
    for device in &devices {
        device.configure(swarm.key(), &[], true);
        device.types(noise("x", 10));
    }
    start_all(&mut devices);
    let [a, b] = &devices;
    let took = all_identical(&[a, b], 20, LONG);
    println!("mDNS alone: identical after {took:.1?}");
}

/// Entries of the first sync.
const FIRST_SYNC: u64 = 100_000;

#[test]
fn a_first_sync_through_the_relay_survives_two_restarts_of_the_hub() {
    if !possible("restarts of the hub") {
        return;
    }
    let mut lab = Lab::new();
    let (at_a, at_b) = (lab.host_behind(Nat::Home), lab.host_behind(Nat::Home));
    lab.block(&at_a, &at_b);
    // Slow enough that a restart hits the middle.
    lab.weather(Weather {
        bytes_per_second: 1_000_000,
        ..Weather::default()
    });
    let mut swarm = Swarm::with_hub(&lab);
    let (mut a, mut b) = (swarm.device(&at_a, "a"), swarm.device(&at_b, "b"));
    a.types(noise_of("first", FIRST_SYNC as usize, 4));
    start_all([&mut a]);
    a.holds(FIRST_SYNC, LONG);
    let begun = std::time::Instant::now();
    start_all([&mut b]);
    for part in [FIRST_SYNC / 10, FIRST_SYNC / 2] {
        let what = format!("b holds {part} entries");
        let (held, _) = until(&what, LONG, || Some(b.count()).filter(|held| *held >= part));
        assert!(held < FIRST_SYNC, "too fast to be interrupted");
        swarm.kill_hub();
        std::thread::sleep(Duration::from_millis(500));
        swarm.start_hub();
    }
    all_identical(&[&a, &b], FIRST_SYNC, LONG * 2);
    let took = begun.elapsed();
    let between = lab.traffic(&at_a, &at_b).bytes;
    println!("{FIRST_SYNC} entries, 2 restarts of the hub: {took:.1?}; direct bytes: {between}");
    assert!(between < 1_000);
}

#[test]
fn a_hub_that_is_gone_for_good_takes_nothing_with_it() {
    if !possible("a hub that goes for good") {
        return;
    }
    let mut lab = Lab::new();
    let hosts = [Nat::None, Nat::Home, Nat::Home].map(|nat| lab.host_behind(nat));
    let mut swarm = Swarm::with_hub(&lab);
    let mut devices = [0, 1, 2].map(|n| swarm.device(&hosts[n], ["server", "b", "c"][n]));
    start_all(&mut devices);
    let [server, b, c] = &devices;
    gets_path(b, c, "direct", LONG);
    gets_path(server, b, "direct", LONG);
    gets_path(server, c, "direct", LONG);
    swarm.kill_hub();
    for device in &devices {
        device.types(noise("on", 50));
    }
    let took = all_identical(&[server, b, c], 150, LONG);
    println!("hub gone: identical after {took:.1?}");

    // A server at a known address is enough to come back to.
    let [server, b, c] = &mut devices;
    b.stop();
    b.types(noise("off", 50));
    start_all([&mut *b]);
    all_identical(&[server, b, c], 200, LONG);
}

#[test]
#[ignore = "takes a minute: scripts/lab"]
fn devices_are_back_soon_after_their_hub_is() {
    if !possible("the return of a hub") {
        return;
    }
    let mut lab = Lab::new();
    let hosts = [Nat::Home, Nat::Symmetric].map(|nat| lab.host_behind(nat));
    let mut swarm = Swarm::with_hub(&lab);
    let mut devices = [0, 1].map(|n| swarm.device(&hosts[n], ["a", "b"][n]));
    start_all(&mut devices);
    let [a, b] = &devices;
    gets_path(a, b, "relay", LONG);
    swarm.kill_hub();
    a.types(noise("away", 20));
    // Longer than the first few attempts.
    std::thread::sleep(Duration::from_secs(25));
    swarm.start_hub();
    let took = all_identical(&[a, b], 20, LONG);
    println!("the hub was away for 25 s: identical {took:.1?} after its return");
}
