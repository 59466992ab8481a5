//! Bad lines, and how fresh things are on good ones.

use std::time::{Duration, Instant};

use crate::device::{Swarm, all_identical, gets_path, noise, start_all};
use crate::namespace::possible;
use crate::topology::{Lab, Nat, Weather};
use crate::wait::{LONG, until_true};

#[test]
fn packet_loss_and_long_ways_only_take_longer() {
    if !possible("bad lines") {
        return;
    }
    let mut lab = Lab::new();
    let (at_a, at_b) = (lab.host_behind(Nat::Home), lab.host_behind(Nat::Home));
    let swarm = Swarm::with_hub(&lab);
    let (mut a, mut b) = (swarm.device(&at_a, "a"), swarm.device(&at_b, "b"));
    lab.weather(Weather::round_trip(Duration::from_millis(100)));
    start_all([&mut a, &mut b]);
    gets_path(&a, &b, "direct", LONG);
    let lossy = Weather {
        loss_percent: 5,
        ..Weather::round_trip(Duration::from_millis(25))
    };
    let lines = [
        ("100 ms", Weather::round_trip(Duration::from_millis(100))),
        ("25 ms", Weather::round_trip(Duration::from_millis(25))),
        ("25 ms, 5 % lost", lossy),
    ];
    let each = 2_000;
    for (n, (name, weather)) in lines.into_iter().enumerate() {
        lab.weather(weather);
        a.types(noise("there", each / 2));
        b.types(noise("back", each / 2));
        let took = all_identical(&[&a, &b], (each * (n + 1)) as u64, LONG);
        println!("round trip {name}: {each} entries, both ways, after {took:.1?}");
    }
}

/// What a slow machine may take; a second is the aim, and what is printed.
const FRESH_MAX: Duration = Duration::from_secs(5);

#[test]
fn a_command_is_on_the_other_device_within_seconds() {
    if !possible("freshness") {
        return;
    }
    let mut lab = Lab::new();
    let (at_a, at_b) = (lab.host_behind(Nat::Home), lab.host_behind(Nat::Home));
    let swarm = Swarm::with_hub(&lab);
    let (mut a, mut b) = (swarm.device(&at_a, "a"), swarm.device(&at_b, "b"));
    lab.weather(Weather::round_trip(Duration::from_millis(25)));
    start_all([&mut a, &mut b]);
    gets_path(&a, &b, "direct", LONG);
    a.types(["settle".to_owned()]);
    b.holds(1, LONG);
    let mut times = Vec::new();
    for n in 0..5 {
        let (from, to) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let cmd = format!("echo fresh-{n}");
        let typed = Instant::now();
        if n < 3 {
            from.types([cmd.clone()]);
        } else {
            assert!(from.home.feed(&["record"], cmd.as_bytes()).status.success());
        }
        until_true("it is listed there", LONG, || {
            to.home.ok(&["list", "fresh"]).contains(&cmd)
        });
        times.push(typed.elapsed());
    }
    println!("from one device to the other: {times:.2?}");
    assert!(times.iter().all(|time| *time < FRESH_MAX), "{times:?}");
}
