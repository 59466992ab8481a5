//! What broke in other tools, one test each.

use rustory_core::sync::session::Start;
use rustory_sim::{Lie, MemLog, Topology, Traffic, Weather, World};

type Sim = World<MemLog>;

fn world(weather: Weather) -> Sim {
    let mut world = Sim::new(weather, 1);
    world.traffic = Some(Traffic::default());
    world
}

fn fair(devices: usize, at_start: &[usize]) -> Sim {
    world(weather(devices, at_start))
}

fn weather(devices: usize, at_start: &[usize]) -> Weather {
    let mut weather = Weather::fair(devices);
    weather.at_start[..at_start.len()].copy_from_slice(at_start);
    weather
}

/// Runs until all hold the same, and says how many entries that is.
fn settle(world: &mut Sim) -> usize {
    if let Err(violation) = world.run_until_equal() {
        panic!("{violation}");
    }
    world.rows(0).len()
}

fn run(world: &mut Sim, ms: u64) {
    if let Err(violation) = world.run_for(ms) {
        panic!("{violation}");
    }
}

/// Why `device` began to read `peer`'s log where it did, in its last session with it.
fn start(world: &Sim, device: usize, peer: usize) -> Option<Start> {
    let mut reports = world.reports().iter();
    let last = reports.rfind(|(a, b, _)| (*a, *b) == (device, peer))?;
    Some(last.2.start)
}

fn times(world: &Sim) -> f64 {
    world.traffic.as_ref().unwrap().times()
}

// ---- nothing is lost, whatever ends when

#[test]
fn killed_at_every_effect_and_commit_of_an_exchange_both_are_equal_in_the_end() {
    for effect in 0.. {
        let mut weather = weather(2, &[7, 5]);
        weather.piece = 2;
        let mut world = world(weather);
        world.crash_at(effect);
        assert_eq!(settle(&mut world), 12, "killed at {effect}");
        if world.is_crash_ahead() {
            assert!(effect > 30, "{effect}");
            return;
        }
    }
}

#[test]
fn a_page_boundary_hides_nothing_in_either_direction() {
    const PAGE: usize = 4;
    let sizes = [
        0,
        1,
        PAGE - 1,
        PAGE,
        PAGE + 1,
        3 * PAGE - 1,
        3 * PAGE,
        3 * PAGE + 1,
    ];
    for ours in sizes {
        for theirs in sizes {
            let mut weather = weather(2, &[ours, theirs]);
            weather.piece = PAGE;
            let mut world = world(weather);
            assert_eq!(settle(&mut world), ours + theirs, "{ours}, {theirs}");
        }
    }
}

#[test]
fn a_full_disk_in_the_middle_is_made_up_for() {
    let mut weather = weather(2, &[50, 50]);
    weather.piece = 3;
    weather.full = 5;
    weather.busy = 300;
    weather.calm_at = 60_000;
    let mut world = world(weather);
    world.run_to_the_end().unwrap();
    assert_eq!(world.rows(0).len(), 100);
}

#[test]
fn two_sessions_at_once_skip_nothing() {
    let mut weather = weather(2, &[40, 40]);
    weather.piece = 3;
    weather.stays = vec![true; 2];
    let mut world = world(weather);
    run(&mut world, 4_000);
    for _ in 0..10 {
        world.ask_now(0, 1);
        world.ask_now(1, 0);
        world.type_some(0, 2);
        world.type_some(1, 1);
        run(&mut world, 7);
    }
    assert_eq!(settle(&mut world), 110);
}

#[test]
fn an_interrupted_first_exchange_goes_on_where_it_was() {
    // Several windows of batches.
    let mut weather = weather(2, &[900, 0]);
    weather.piece = 10;
    weather.cut = 500;
    weather.calm_at = 600_000;
    let mut world = world(weather);
    world.run_to_the_end().unwrap();
    assert_eq!(world.rows(1).len(), 900);
    // What was under way when it was cut is sent again, and not all of it.
    assert!(times(&world) < 2.5, "{}", times(&world));
}

// ---- who has which log

#[test]
fn a_recreated_database_is_noticed_and_everything_arrives() {
    for keeps_its_id in [true, false] {
        let mut world = fair(2, &[5, 3]);
        settle(&mut world);
        run(&mut world, 60_000);
        assert_eq!(start(&world, 1, 0), Some(Start::Resume));
        world.recreate(0, keeps_its_id);
        world.type_some(0, 3);
        world.turn_off(0);
        world.turn_on(0);
        world.ask_now(1, 0);
        assert_eq!(settle(&mut world), 11, "it gets its own back as well");
        let expected = match keeps_its_id {
            true => Start::NewLog,
            false => Start::First,
        };
        let starts = world
            .reports()
            .iter()
            .filter(|(a, b, _)| (*a, *b) == (1, 0));
        assert!(
            starts
                .skip(1)
                .any(|(_, _, report)| report.start == expected)
        );
    }
}

#[test]
fn a_restored_database_is_noticed_and_everything_arrives() {
    for more in [0, 1, 9, 10, 11, 30] {
        let mut world = fair(3, &[20, 5, 5]);
        settle(&mut world);
        world.take_snapshot(0);
        world.type_some(0, 10);
        assert_eq!(settle(&mut world), 40);
        run(&mut world, 60_000);
        world.set_back(0, more);
        world.turn_off(0);
        world.turn_on(0);
        world.ask_now(1, 0);
        assert_eq!(
            settle(&mut world),
            40 + more,
            "numbers given out twice: {more}"
        );
        let noticed = world
            .reports()
            .iter()
            .any(|(_, _, report)| report.start == Start::OlderCopy);
        assert_eq!(noticed, more < 10, "{more}");
    }
}

#[test]
fn a_copied_database_becomes_a_device_of_its_own() {
    let mut world = fair(3, &[10, 0, 4]);
    settle(&mut world);
    world.copy_log(0, 1);
    world.type_some(0, 3);
    world.type_some(1, 2);
    assert_eq!(settle(&mut world), 19);
    world.type_some(0, 1);
    world.type_some(1, 1);
    assert_eq!(settle(&mut world), 21);
}

#[test]
fn a_copy_that_never_meets_its_original_loses_nothing() {
    let mut weather = weather(3, &[10, 5, 0]);
    weather.topology = Topology::Chain;
    let mut world = world(weather);
    settle(&mut world);
    world.copy_log(0, 2);
    for _ in 0..3 {
        world.type_some(0, 3);
        world.type_some(2, 2);
        run(&mut world, 30_000);
    }
    assert_eq!(settle(&mut world), 30);
}

#[test]
fn two_devices_with_one_id_exchange_everything() {
    let mut world = fair(3, &[4, 4, 4]);
    world.recreate(1, true);
    settle(&mut world);
    world.copy_log(0, 1);
    world.recreate(1, true);
    world.type_some(1, 6);
    world.type_some(0, 2);
    assert_eq!(settle(&mut world), 16);
}

#[test]
fn a_device_that_lost_rows_gets_them_back() {
    for lost in [0..3, 4..9, 27..30, 0..30] {
        let mut world = fair(2, &[20, 10]);
        settle(&mut world);
        world.lose(0, lost.clone(), true);
        assert_eq!(settle(&mut world), 30, "{lost:?}");
    }
}

#[test]
fn a_rotten_row_is_found_and_healed_by_verifying() {
    for row in 0..10 {
        let mut world = fair(2, &[6, 4]);
        settle(&mut world);
        let before = world.rows(1);
        world.rot(0, row);
        assert!(!world.is_equal());
        world.verify(0);
        run(&mut world, 60_000);
        assert!(world.is_equal(), "row {row}");
        assert_eq!(world.rows(1), before, "the good one stays");
    }
}

#[test]
fn rows_that_vanished_unnoticed_are_found_by_verifying() {
    let mut world = fair(2, &[6, 4]);
    settle(&mut world);
    world.lose(1, 2..5, false);
    run(&mut world, 60_000);
    assert!(!world.is_equal(), "nobody looked");
    world.verify(0);
    run(&mut world, 60_000);
    assert!(world.is_equal());
}

// ---- who meets whom

#[test]
fn a_device_meets_another_only_through_a_third() {
    let mut weather = weather(3, &[5, 0, 5]);
    weather.topology = Topology::Chain;
    let mut world = world(weather);
    world.turn_off(2);
    run(&mut world, 60_000);
    world.turn_off(0);
    world.turn_on(2);
    run(&mut world, 60_000);
    assert_eq!(world.rows(2).len(), 10);
    world.turn_on(0);
    assert_eq!(settle(&mut world), 10);
}

#[test]
fn a_device_that_was_away_for_months_catches_up() {
    let mut world = fair(4, &[5; 4]);
    settle(&mut world);
    world.turn_off(3);
    for _ in 0..30 {
        world.type_some(0, 1);
        run(&mut world, 86_400_000 / 30);
    }
    world.turn_on(3);
    world.type_some(3, 3);
    assert_eq!(settle(&mut world), 53);
}

#[test]
fn clocks_that_are_wrong_by_days_lose_and_repeat_nothing() {
    let mut weather = weather(4, &[20; 4]);
    weather.skew_days = 400;
    let mut world = world(weather);
    settle(&mut world);
    for device in 0..4 {
        world.type_some(device, 5);
    }
    assert_eq!(settle(&mut world), 100);
    assert!(times(&world) <= 1.3, "{}", times(&world));
}

#[test]
fn an_entry_beyond_the_limits_holds_back_no_other_and_is_counted() {
    let mut weather = weather(2, &[200, 0]);
    weather.unsendable = 1_000;
    weather.piece = 7;
    let mut world = world(weather);
    settle(&mut world);
    let all = world.rows(0);
    let sendable = all.iter().filter(|row| row.sendable).count();
    assert!((150..200).contains(&sendable), "{sendable}");
    assert_eq!(world.rows(1).len(), sendable);
    run(&mut world, 60_000);
    assert!(
        world
            .reports()
            .iter()
            .any(|(_, _, report)| report.unsendable > 0)
    );
}

#[test]
fn entries_without_numbers_are_little_worse_off() {
    let mut weather = weather(5, &[10; 5]);
    weather.unnumbered = 10_000;
    let mut world = world(weather);
    assert_eq!(settle(&mut world), 50);
    for _ in 0..10 {
        for device in 0..5 {
            world.type_some(device, 2);
        }
        run(&mut world, 50_000);
    }
    assert_eq!(settle(&mut world), 150);
    assert!(times(&world) <= 1.3, "{}", times(&world));
}

#[test]
fn large_entries_pass_in_every_way() {
    for stays in [false, true] {
        let mut weather = weather(2, &[30, 30]);
        weather.large = 10_000;
        weather.stays = vec![stays; 2];
        let mut world = world(weather);
        settle(&mut world);
        // As news, if they stay connected: together they are larger than a message.
        world.type_some(0, 90);
        assert_eq!(settle(&mut world), 150);
    }
}

// ---- what it costs

#[test]
fn an_empty_device_gets_each_entry_about_once_though_nine_have_it() {
    let mut world = fair(10, &[30; 9]);
    world.turn_off(9);
    run(&mut world, 120_000);
    world.traffic = Some(Traffic::default());
    world.turn_on(9);
    assert_eq!(settle(&mut world), 270);
    assert!(times(&world) <= 1.3, "{}", times(&world));
    assert_eq!(world.traffic.as_ref().unwrap().back, 0);
}

#[test]
fn in_a_quiet_mesh_news_reaches_each_device_about_once() {
    let mut weather = weather(10, &[10; 10]);
    weather.stays = vec![true; 10];
    let mut world = world(weather);
    settle(&mut world);
    run(&mut world, 60_000);
    world.traffic = Some(Traffic::default());
    for n in 0..100 {
        world.type_some(n * 7 % 10, 1);
        run(&mut world, 1_700);
    }
    assert_eq!(settle(&mut world), 200);
    assert!(times(&world) <= 1.3, "{}", times(&world));
    assert_eq!(
        world.traffic.as_ref().unwrap().back,
        0,
        "never to its origin"
    );
    if let Err(violation) = world.stay_quiet() {
        panic!("{violation}");
    }
    let bytes = world.quiet_round_bytes();
    assert!((1..=200).contains(&bytes), "{bytes}");
}

#[test]
fn what_is_typed_while_two_greet_each_other_is_all_that_is_told() {
    let mut weather = weather(2, &[20, 20]);
    weather.stays = vec![true; 2];
    weather.log_delay = 20;
    let mut world = world(weather);
    settle(&mut world);
    run(&mut world, 60_000);
    world.traffic = Some(Traffic::default());
    for wait in 0..60 {
        world.ask_now(0, 1);
        run(&mut world, wait);
        world.type_some(1, 1);
        run(&mut world, 1_000);
    }
    settle(&mut world);
    assert_eq!(world.traffic.as_ref().unwrap().sent.len(), 60);
}

#[test]
fn without_staying_connected_each_entry_crosses_about_once_as_well() {
    let mut world = fair(10, &[10; 10]);
    assert_eq!(settle(&mut world), 100);
    assert!(times(&world) <= 1.3, "{}", times(&world));
    for n in 0..50 {
        world.type_some(n * 7 % 10, 1);
        run(&mut world, 3_000);
    }
    assert_eq!(settle(&mut world), 150);
    assert!(times(&world) <= 1.3, "{}", times(&world));
    assert_eq!(
        world.traffic.as_ref().unwrap().back,
        0,
        "never to its origin"
    );
}

// ---- between rounds

/// Devices that stay connected, and rounds so seldom that none takes part in what is looked at.
fn live(devices: usize, topology: Topology) -> Sim {
    let mut weather = weather(devices, &vec![10; devices]);
    weather.stays = vec![true; devices];
    weather.topology = topology;
    weather.interval = 24 * 3_600_000;
    let mut world = world(weather);
    run(&mut world, 60_000);
    assert!(world.is_equal());
    world.traffic = Some(Traffic::default());
    world
}

#[test]
fn what_is_typed_is_told_to_be_the_same_on_both_sides_at_once() {
    let mut world = live(2, Topology::Mesh);
    assert!(world.all_say_identical());
    for n in 0..20 {
        world.type_some(n % 2, 1 + n % 3);
        assert!(!world.says_identical(n % 2, 1 - n % 2));
        run(&mut world, 2_000);
        assert!(world.all_say_identical(), "{n}");
    }
    assert!((times(&world) - 1.0).abs() < f64::EPSILON);
}

#[test]
fn ten_devices_that_join_at_once_all_say_that_they_are_the_same_within_seconds() {
    let mut weather = weather(10, &[10; 10]);
    weather.stays = vec![true; 10];
    weather.interval = 24 * 3_600_000;
    let mut world = world(weather);
    let mut ms = 0;
    while !world.is_equal() {
        run(&mut world, 100);
        ms += 100;
        assert!(ms < 60_000);
    }
    run(&mut world, 10_000);
    assert!(world.all_say_identical());
    // And those who heard of it only from a third.
    world.type_some(3, 1);
    run(&mut world, 10_000);
    assert!(world.all_say_identical());
}

#[test]
fn a_device_in_the_middle_passes_on_what_is_typed_on_those_that_do_not_reach_each_other() {
    let mut world = live(4, Topology::Chain);
    world.type_some(0, 1);
    world.type_some(3, 1);
    // Nobody knows yet who gets what from whom.
    run(&mut world, 25_000);
    assert!(world.is_equal());
    for n in 0..20 {
        world.type_some([0, 3][n % 2], 1);
        run(&mut world, 1_000);
        assert!(world.is_equal(), "{n}");
    }
    run(&mut world, 30_000);
    assert!(world.all_say_identical());
    assert!(
        (times(&world) - 1.0).abs() < f64::EPSILON,
        "{}",
        times(&world)
    );
    let back = world.traffic.as_ref().unwrap().back;
    assert_eq!(back, 0, "never to its origin");
}

#[test]
fn what_a_peer_gets_by_itself_again_is_passed_on_once_more_and_then_no_more() {
    let mut world = live(3, Topology::Chain);
    world.type_some(0, 1);
    run(&mut world, 25_000);
    assert!(world.is_equal(), "the one in the middle knows now");
    world.ask_now(0, 2);
    run(&mut world, 1_000);
    world.traffic = Some(Traffic::default());
    for _ in 0..10 {
        world.type_some(0, 1);
        run(&mut world, 1_000);
    }
    let sent = &world.traffic.as_ref().unwrap().sent;
    let to_2 = sent.iter().filter(|((device, _), _)| *device == 2);
    let to_2: u32 = to_2.map(|(_, times)| times).sum();
    assert!((10..=11).contains(&to_2), "{to_2}");
}

#[test]
fn in_a_full_mesh_nobody_passes_on_what_everybody_hears() {
    let mut world = live(10, Topology::Mesh);
    for n in 0..100 {
        world.type_some(n * 7 % 10, 1);
        run(&mut world, 3_000);
        assert!(world.is_equal(), "{n}");
    }
    run(&mut world, 10_000);
    assert!(world.all_say_identical());
    // Devices that meet all at once take a few of what is on its way for missing, until they are told
    // that it was there.
    assert!(times(&world) < 1.05, "{}", times(&world));
}

// ---- who lies

#[test]
fn a_liar_of_any_kind_stops_nobody_else() {
    for lie in [
        Lie::Changes(1),
        Lie::Changes(3),
        Lie::Floods,
        Lie::Trickles,
        Lie::FallsSilent(0),
        Lie::FallsSilent(3),
        Lie::Waits(1),
        Lie::Waits(4),
        Lie::Endless,
        Lie::Babbles,
    ] {
        for stays in [false, true] {
            let mut weather = weather(4, &[20; 4]);
            weather.liars = vec![lie];
            weather.stays = vec![stays; 4];
            let mut world = world(weather);
            settle(&mut world);
            world.type_some(0, 5);
            world.type_some(1, 5);
            settle(&mut world);
            assert!(world.rows(2).len() >= 70, "{lie:?}");
        }
    }
}

#[test]
fn a_peer_that_only_says_that_it_is_at_work_is_given_up() {
    for after in 0..6 {
        let mut weather = weather(3, &[20; 3]);
        weather.liars = vec![Lie::Waits(after)];
        let mut world = world(weather);
        // A session that hangs for half an hour is a violation.
        run(&mut world, 45 * 60_000);
    }
}
