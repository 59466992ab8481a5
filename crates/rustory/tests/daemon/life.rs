//! How a daemon begins and ends.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::common::numbered;
use crate::device::{Device, eventually, met, refused};

#[test]
fn the_second_daemon_says_who_runs_and_a_killed_one_is_in_nobodys_way() {
    let device = Device::new("alpha");
    let first = device.start();
    eventually("the daemon runs", || device.runs(&first));
    let (code, said) = device.fails();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!("as process {}", first.pid())),
        "{said}"
    );
    assert!(device.runs(&first));
    first.kill();
    let status = device.status();
    assert_eq!(status["daemon"]["running"], false);
    // What the dead one left is not believed.
    assert_eq!(
        status["device"]["peer_id"],
        serde_json::Value::Null,
        "{status}"
    );
    assert!(device.home.data().join("daemon.json").exists());
    let second = device.start();
    eventually("a new daemon runs", || device.runs(&second));
}

#[test]
fn looking_at_the_status_all_the_time_keeps_no_daemon_from_starting() {
    let device = Device::new("alpha");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    device.status();
                }
            });
        }
        for _ in 0..5 {
            let daemon = device.start();
            eventually("the daemon runs", || device.runs(&daemon));
            let (status, _) = daemon.stop("TERM");
            assert_eq!(status.code(), Some(0));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn what_a_daemon_writes_is_the_owners_alone() {
    let device = Device::new("alpha");
    let daemon = device.start();
    eventually("the daemon runs", || device.runs(&daemon));
    let mode = |name: &str| {
        fs::metadata(device.home.data().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!((mode(""), mode("spool")), (0o700, 0o700));
    for name in ["daemon.lock", "daemon.json", "identity.key", "history.db"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}

#[test]
fn told_to_end_it_tells_its_peers_and_ends_within_seconds() {
    let (a, beta, mut of_a, of_b) = met(&[]);
    for signal in ["TERM", "INT"] {
        let (status, took) = of_a.stop(signal);
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(took < Duration::from_secs(5), "{signal} took {took:?}");
        assert!(!a.home.data().join("daemon.json").exists());
        eventually("beta sees the end", || beta.peer("alpha")["path"].is_null());
        assert!(
            beta.peer("alpha")["error"].is_null(),
            "a polite end is no error"
        );
        of_a = a.start();
        eventually("they meet again", || {
            a.runs(&of_a) && a.peer("beta")["path"].is_string() && beta.identical("alpha")
        });
    }
    let said = of_b.said();
    assert!(!said.contains("warning") && !said.contains("bug"), "{said}");
}

#[test]
fn a_daemon_with_nobody_to_talk_to_and_a_stopped_peer_ends_as_fast() {
    let (a, _b, of_a, of_b) = met(&[]);
    of_b.signal("STOP");
    let (status, took) = of_a.stop("TERM");
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(6), "{took:?}");
    drop(a);
}

#[test]
fn a_daemon_that_panics_says_so_and_begins_again_as_the_same_process() {
    let (a, beta, _of_a, mut of_b) = met(&[]);
    let mut shell = a.shell("s1");
    for round in ["first", "second"] {
        let told = of_b.said().matches("begins again").count();
        of_b.signal("USR2");
        eventually("it says what happened", || {
            let said = of_b.said();
            said.contains("asked for by SIGUSR2") && said.matches("begins again").count() > told
        });
        shell.types(round);
        eventually("what was typed meanwhile comes", || beta.has(round));
        assert!(!of_b.is_over() && beta.runs(&of_b), "{}", of_b.said());
    }
}

/// Every command once on both sides, whatever is killed when.
#[test]
fn kill_9_at_any_time_loses_nothing_and_repeats_nothing() {
    let (a, b) = (
        Device::with("alpha", &["sync_interval = 1"]),
        Device::with("beta", &["sync_interval = 1"]),
    );
    a.knows(&b);
    b.knows(&a);
    let rounds = 14;
    let (mut of_a, mut of_b) = (a.start(), b.start());
    for round in 0..rounds {
        let (mut at_a, mut at_b) = (
            a.shell(&format!("sa{round}")),
            b.shell(&format!("sb{round}")),
        );
        for n in 0..60 {
            at_a.types(&format!("a {round} {n}"));
            at_b.types(&format!("b {round} {n}"));
            // At other places of what they do each time.
            std::thread::sleep(Duration::from_micros(37 * (round * 7 % 23)));
            if n == 20 + round {
                of_a.kill();
                of_a = a.start();
            }
            if n == 55 - round {
                of_b.kill();
                of_b = b.start();
            }
        }
        a.home.spool(
            &format!("ga{round}"),
            numbered(&format!("gone a {round} "), 20),
        );
        b.home.spool(
            &format!("gb{round}"),
            numbered(&format!("gone b {round} "), 20),
        );
        std::thread::sleep(Duration::from_millis(40 * (round % 4)));
    }
    let count = rounds as usize * 160;
    eventually("both have everything", || {
        let entries = |device: &Device| device.status()["db"]["entries"].as_u64().unwrap() as usize;
        (entries(&a), entries(&b)) == (count, count)
    });
    eventually("both know it", || {
        a.identical("beta") && b.identical("alpha")
    });
    let (mut of_both, of_the_other) = (a.sorted(), b.sorted());
    assert!(of_both == of_the_other);
    of_both.dedup();
    assert_eq!(of_both.len(), count, "none twice");
    for device in [&a, &b] {
        device.home.ok(&["verify"]);
        assert_eq!(device.status()["spool"]["pending"], 0);
    }
}

#[test]
fn a_device_that_is_gone_for_good_is_forgotten_and_comes_back_when_it_is_met() {
    let (a, b, of_a, of_b) = met(&[]);
    b.shell("s").types("typed on beta");
    eventually("alpha has it", || a.has("typed on beta"));
    eventually("the daemon tells of it", || {
        let beta = a.peer("beta");
        beta["peer_id"].is_string() && beta["path"].is_string()
    });
    let said = refused(&a.home, &["peers", "forget", "beta"]);
    assert!(said.contains("is connected now"), "{said}");
    let said = refused(&a.home, &["peers", "forget", "gamma"]);
    assert!(said.contains("no device `gamma`"), "{said}");
    of_b.stop("TERM");
    let known = |of: &Device| of.status()["peers"].as_array().unwrap().len();
    eventually("it is not connected any more", || {
        let forget = a.home.rr(["peers", "forget", "beta"]).output();
        forget.unwrap().status.success()
    });
    eventually("alpha knows nobody", || known(&a) == 0);
    assert!(a.has("typed on beta"));
    // Nor after a restart.
    of_a.stop("TERM");
    let of_a = a.start();
    eventually("the daemon works again", || a.runs(&of_a));
    assert_eq!(known(&a), 0);
    let _of_b = b.start();
    eventually("it is met again", || a.identical("beta"));
}
