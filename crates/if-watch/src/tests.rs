//! The real kernel, in a network of its own: needs root, as the lab does.

use std::process::Command;

use futures::StreamExt as _;

use super::{IfEvent, IfWatcher, timer};

/// Runs this very test once more in a new network namespace; true where that has happened.
fn alone(test: &str) -> bool {
    if std::env::var_os("RUSTORY_IF_WATCH_ALONE").is_some() {
        return true;
    }
    let done = Command::new("unshare")
        .args(["--net", "--map-root-user"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("RUSTORY_IF_WATCH_ALONE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    false
}

fn ip(args: &str) {
    let done = Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(done.success(), "ip {args}");
}

fn up(net: &str) -> IfEvent {
    IfEvent::Up(net.parse().unwrap())
}

fn down(net: &str) -> IfEvent {
    IfEvent::Down(net.parse().unwrap())
}

async fn next(watcher: &mut IfWatcher, count: usize) -> Vec<IfEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        events.push(watcher.next().await.unwrap().unwrap());
    }
    events.sort();
    events
}

#[tokio::test]
async fn addresses_are_told_of_when_they_come_and_when_they_go() {
    if !alone("tests::addresses_are_told_of_when_they_come_and_when_they_go") {
        return;
    }
    ip("link set lo up");
    let mut watcher = IfWatcher::new().unwrap();
    let loopback = vec![up("127.0.0.1/8"), up("::1/128")];
    assert_eq!(next(&mut watcher, 2).await, loopback);
    ip("addr add 10.1.2.3/24 dev lo");
    assert_eq!(next(&mut watcher, 1).await, [up("10.1.2.3/24")]);
    ip("addr add fd00::7/64 dev lo nodad");
    assert_eq!(next(&mut watcher, 1).await, [up("fd00::7/64")]);
    assert_eq!(watcher.iter().count(), 4);
    ip("addr del 10.1.2.3/24 dev lo");
    ip("addr del fd00::7/64 dev lo");
    let gone = vec![down("10.1.2.3/24"), down("fd00::7/64")];
    assert_eq!(next(&mut watcher, 2).await, gone);
}

#[tokio::test]
async fn a_change_between_the_first_look_and_the_first_question_is_not_missed() {
    if !alone("tests::a_change_between_the_first_look_and_the_first_question_is_not_missed") {
        return;
    }
    ip("link set lo up");
    let mut watcher = IfWatcher::new().unwrap();
    for last in 1..=200 {
        ip(&format!("addr add 10.1.2.{last}/32 dev lo"));
    }
    let events = next(&mut watcher, 202).await;
    assert!(events.contains(&up("10.1.2.200/32")));
}

#[tokio::test(start_paused = true)]
async fn without_the_kernels_help_it_looks_every_now_and_then() {
    let mut hints = timer::Hints::new().unwrap();
    for _ in 0..3 {
        std::future::poll_fn(|cx| hints.poll(cx)).await.unwrap();
    }
}
