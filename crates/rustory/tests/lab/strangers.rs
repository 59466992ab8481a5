//! Whoever connects without a right to, and members that do not behave.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use rustory_net::p2p::SwarmKey;

use crate::device::{Swarm, all_identical, both_say_identical, noise, start_all};
use crate::member::{Manners, Member};
use crate::namespace::possible;
use crate::topology::{HUB, Host, Lab, Nat, PORT};
use crate::wait::{LONG, until_true};

#[test]
fn a_device_with_another_swarm_key_is_told_so_and_disturbs_nobody() {
    if !possible("a wrong swarm key") {
        return;
    }
    let mut lab = Lab::new();
    let hosts = [Nat::Home, Nat::None, Nat::Home].map(|nat| lab.host_behind(nat));
    let swarm = Swarm::with_hub(&lab);
    let (mut a, mut b) = (swarm.device(&hosts[0], "a"), swarm.device(&hosts[1], "b"));
    let mut stranger = swarm.device(&hosts[2], "stranger");
    stranger.configure(&SwarmKey::generate().unwrap(), &[swarm.tracker()], false);
    stranger.types(["not yours".to_owned()]);
    start_all([&mut a, &mut b, &mut stranger]);
    let took = until_true("it names the swarm key", Duration::from_secs(10), || {
        let hubs = stranger.status()["hubs"].to_string();
        let log = stranger.daemon().log();
        [hubs, log].iter().any(|text| text.contains("swarm key"))
    });
    println!("a wrong swarm key is named after {took:.1?}");
    a.types(noise("ours", 100));
    all_identical(&[&a, &b], 100, LONG);
    assert_eq!(stranger.count(), 1);
}

/// How many connect at once.
const CROWD: usize = 500;

/// Connections that say nothing, or nothing sensible, for as long as they are held.
fn crowd(from: &Host, to: Ipv4Addr) -> Vec<TcpStream> {
    from.namespace.run(move || {
        let junk = [
            b"GET / HTTP/1.1\r\n\r\n".as_slice(),
            &[0; 24],
            &[0xff; 4_096],
        ];
        let connect = |n: usize| {
            let addr = (to, PORT).into();
            let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2)).ok()?;
            if n.is_multiple_of(2) {
                // It may be refused by now.
                let _ = stream.write_all(junk[n / 2 % junk.len()]);
            }
            Some(stream)
        };
        (0..CROWD).filter_map(connect).collect()
    })
}

#[test]
fn a_crowd_of_silent_and_senseless_connections_stops_nobody() {
    if !possible("a crowd of strangers") {
        return;
    }
    let mut lab = Lab::new();
    let hosts = [Nat::Home, Nat::None, Nat::None].map(|nat| lab.host_behind(nat));
    let mut swarm = Swarm::with_hub(&lab);
    let (mut a, mut b) = (swarm.device(&hosts[0], "a"), swarm.device(&hosts[1], "b"));
    start_all([&mut b]);
    let before = (swarm.hub_process().usage(), b.daemon().usage());
    let held = (crowd(&hosts[2], HUB), crowd(&hosts[2], hosts[1].addr));
    assert!(held.0.len() > CROWD / 2 && held.1.len() > CROWD / 2);
    // Now of all times a device comes.
    b.types(noise("b", 500));
    a.types(noise("a", 500));
    start_all([&mut a]);
    let took = all_identical(&[&a, &b], 1_000, LONG);
    let after = (swarm.hub_process().usage(), b.daemon().usage());
    let grown = [
        after.0.peak_kib.saturating_sub(before.0.rss_kib),
        after.1.peak_kib.saturating_sub(before.1.rss_kib),
    ];
    println!(
        "{CROWD} strangers at the hub and at a device: two devices identical after {took:.1?}; \
         memory grew by {} KiB and {} KiB",
        grown[0], grown[1]
    );
    assert!(grown[0] < 40_000 && grown[1] < 80_000, "{grown:?}");
}

#[test]
fn members_that_flood_stall_or_exaggerate_stop_nobody() {
    if !possible("members with bad manners") {
        return;
    }
    let mut lab = Lab::new();
    let (at_a, at_b) = (lab.host_behind(Nat::None), lab.host_behind(Nat::Home));
    let swarm = Swarm::with_hub(&lab);
    let (mut a, mut b) = (swarm.device(&at_a, "a"), swarm.device(&at_b, "b"));
    a.does_rounds_often();
    b.does_rounds_often();
    start_all([&mut a, &mut b]);
    a.types(noise("before", 100));
    all_identical(&[&a, &b], 100, LONG);
    let before = [a.daemon().usage(), b.daemon().usage()];
    let members: Vec<Member> = [Manners::Floods, Manners::Stalls, Manners::Oversized]
        .into_iter()
        .map(|manners| {
            let host = lab.host_behind(Nat::None);
            let victims = vec![a.peer_id, b.peer_id];
            Member::start(&host, swarm.key(), &swarm.tracker(), victims, manners)
        })
        .collect();
    until_true("all of them are there", LONG, || {
        members.iter().all(|member| member.streams() > 8)
    });
    a.types(noise("a", 500));
    b.types(noise("b", 500));
    let took = all_identical(&[&a, &b], 1_100, LONG);
    // The rest of what they can do.
    std::thread::sleep(Duration::from_secs(5));
    a.types(noise("later", 10));
    let fresh = b.holds(1_110, LONG);
    let after = [a.daemon().usage(), b.daemon().usage()];
    let grown = [0, 1].map(|n| after[n].peak_kib.saturating_sub(before[n].rss_kib));
    let streams: Vec<u64> = members.iter().map(Member::streams).collect();
    println!(
        "bad manners: {streams:?} streams; identical after {took:.1?}, later news after {fresh:.1?}; \
         memory grew by {grown:?} KiB"
    );
    assert!(grown.iter().all(|kib| *kib < 150_000), "{grown:?}");
    drop(members);
    both_say_identical(&a, &b, LONG);
}
