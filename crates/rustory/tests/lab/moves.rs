//! Networks that change under devices, come apart, and are joined by many at once.

use std::time::Duration;

use crate::device::{Device, Swarm, all_identical, gets_path, noise, start_all};
use crate::namespace::possible;
use crate::topology::{Lab, Nat, SiteSpec, Weather};
use crate::wait::{LONG, until_true};

#[test]
fn a_device_that_moves_to_another_network_goes_on_by_itself() {
    if !possible("a device that moves") {
        return;
    }
    let mut lab = Lab::new();
    let office = lab.site(SiteSpec {
        subnet: 7,
        ..Nat::Shift.into()
    });
    let mut at_laptop = lab.host_behind(Nat::Home);
    let (at_server, at_home) = (lab.host_behind(Nat::None), lab.host_behind(Nat::Home));
    let swarm = Swarm::with_hub(&lab);
    let mut server = swarm.device(&at_server, "server");
    let mut laptop = swarm.device(&at_laptop, "laptop");
    let mut desktop = swarm.device(&at_home, "desktop");
    start_all([&mut server, &mut laptop, &mut desktop]);
    laptop.types(noise("home", 20));
    all_identical(&[&server, &laptop, &desktop], 20, LONG);

    lab.move_to(&mut at_laptop, office);
    laptop.types(noise("office", 20));
    desktop.types(noise("meanwhile", 20));
    let took = all_identical(&[&server, &laptop, &desktop], 60, LONG);
    println!("moved to another network: identical after {took:.1?}");
}

/// Both sides of a partition type on; after it, nothing is missing.
fn check_partition(lasts: Duration) {
    let mut lab = Lab::new();
    let home = lab.site(Nat::Home);
    let hosts = [lab.host(home), lab.host(home), lab.host_behind(Nat::Home)];
    let swarm = Swarm::with_hub(&lab);
    let mut devices = [0, 1, 2].map(|n| swarm.device(&hosts[n], ["a1", "a2", "b"][n]));
    start_all(&mut devices);
    let [a1, a2, b] = &devices;
    all_identical(&[a1, a2, b], 0, LONG);
    gets_path(a1, a2, "lan", LONG);
    until_true("b meets the others", LONG, || {
        [a1, a2]
            .iter()
            .all(|other| b.path_to(other).is_some() || other.path_to(b).is_some())
    });
    lab.cut(&hosts[2]);
    for device in [a1, a2, b] {
        device.types(noise("apart", 200));
    }
    std::thread::sleep(lasts);
    // The two that are still together went on.
    all_identical(&[a1, a2], 400, LONG);
    assert_eq!(b.count(), 200);
    lab.restore(&hosts[2]);
    let took = all_identical(&[a1, a2, b], 600, LONG);
    println!("partition of {lasts:?}: identical {took:.1?} after it");
}

#[test]
fn what_was_typed_on_both_sides_of_a_partition_meets_after_it() {
    if possible("a partition") {
        check_partition(Duration::from_secs(6));
    }
}

#[test]
#[ignore = "takes minutes: scripts/lab"]
fn a_partition_longer_than_any_connection_lasts_heals() {
    if possible("a long partition") {
        check_partition(Duration::from_secs(150));
    }
}

#[test]
#[ignore = "takes a minute: scripts/lab"]
fn a_hole_that_could_not_be_punched_is_punched_later() {
    if !possible("punching a hole again") {
        return;
    }
    let mut lab = Lab::new();
    let hosts = [Nat::Home, Nat::Shift].map(|nat| lab.host_behind(nat));
    // Holes are punched by packets that cross each other, which takes a way between them.
    lab.weather(Weather::round_trip(Duration::from_millis(25)));
    lab.block(&hosts[0], &hosts[1]);
    let swarm = Swarm::with_hub(&lab);
    let mut devices = [0, 1].map(|n| swarm.device(&hosts[n], ["a", "b"][n]));
    start_all(&mut devices);
    let [a, b] = &devices;
    gets_path(a, b, "relay", LONG);
    // The attempts of the first meeting end in vain.
    std::thread::sleep(Duration::from_secs(12));
    lab.unblock(&hosts[0], &hosts[1]);
    let took = gets_path(a, b, "direct", LONG);
    println!("a hole punched later: after {took:.1?}");
    a.types(noise("direct", 20));
    all_identical(&[a, b], 20, LONG);
}

#[test]
fn what_two_devices_that_cannot_reach_each_other_type_goes_through_a_third() {
    if !possible("news by way of a third device") {
        return;
    }
    let mut lab = Lab::new();
    let hosts = [Nat::None, Nat::Home, Nat::Home].map(|nat| lab.host_behind(nat));
    lab.block(&hosts[1], &hosts[2]);
    let mut swarm = Swarm::with_hub(&lab);
    let mut devices = [0, 1, 2].map(|n| swarm.device(&hosts[n], ["server", "b", "c"][n]));
    devices.iter().for_each(Device::does_rounds_often);
    start_all(&mut devices);
    let [server, b, c] = &devices;
    gets_path(server, b, "direct", LONG);
    gets_path(server, c, "direct", LONG);
    swarm.stop_hub();
    b.types(noise("before", 1));
    all_identical(&[server, b, c], 1, LONG * 2);
    b.types(noise("news", 1));
    // Not at once: a round after the one that brought it to the server.
    let took = c.holds(2, LONG);
    println!("news by way of a third device: {took:.1?}");
}

/// Devices that join at once, and what each has typed before.
const MANY: usize = 10;
const EACH: u64 = 100;

#[test]
fn ten_devices_that_join_at_once_are_all_identical() {
    if !possible("ten devices") {
        return;
    }
    let mut lab = Lab::new();
    let homes = [Nat::Home, Nat::Shift, Nat::Symmetric].map(|nat| lab.site(nat));
    let hosts: Vec<_> = (0..MANY)
        .map(|n| match n {
            0 => lab.host_behind(Nat::None),
            _ => lab.host(homes[n % homes.len()]),
        })
        .collect();
    let mut swarm = Swarm::with_hub(&lab);
    let mut devices: Vec<Device> = hosts
        .iter()
        .enumerate()
        .map(|(n, host)| swarm.device(host, &format!("d{n}")))
        .collect();
    for device in &devices {
        device.types(noise("mine", EACH as usize));
    }
    start_all(&mut devices);
    let all: Vec<&Device> = devices.iter().collect();
    let took = all_identical(&all, EACH * MANY as u64, LONG * 2);
    let usage = swarm.hub_process().usage();
    let dials: u64 = [0, 1, 2, 3]
        .map(|n| lab.dials(&hosts[n], lab.hub()))
        .iter()
        .sum();
    let announced = swarm.metric("announced_total");
    let circuits = swarm.metric("circuits_total");
    println!(
        "{MANY} devices at once: identical after {took:.1?}; hub: {dials} dials, {announced} announcements, \
         {circuits} circuits, {:.1?} of processor time, {} KiB",
        usage.cpu, usage.peak_kib
    );
    let many = MANY as u64;
    assert!(dials <= 4 * many, "{dials} dials");
    assert!(announced <= 20 * many, "{announced} announcements");
    assert!(circuits <= 4 * many * many, "{circuits} circuits");
}
