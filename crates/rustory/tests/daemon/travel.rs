//! What is typed on one device is on the others.

use std::time::{Duration, Instant};

use crate::common::{root_for, succeeded};
use crate::device::{Device, eventually, free_port, met};

/// The time until `b` lists it, once `record` has returned.
fn travels(b: &Device, cmd: &str, record: impl FnOnce()) -> Duration {
    record();
    let recorded = Instant::now();
    eventually(&format!("beta lists `{cmd}`"), || b.has(cmd));
    recorded.elapsed()
}

#[test]
fn whatever_way_it_was_recorded_it_is_there_at_once() {
    let (a, b, _of_a, _of_b) = met(&[]);
    let mut shell = a.shell("typing");
    let mut ways: [(&str, Vec<Duration>); 3] = [
        ("spool", vec![]),
        ("rr record", vec![]),
        ("rr list drains", vec![]),
    ];
    for n in 0..20 {
        let cmd = format!("typed {n}");
        ways[0].1.push(travels(&b, &cmd, || shell.types(&cmd)));
        let cmd = format!("recorded {n}");
        ways[1].1.push(travels(&b, &cmd, || {
            assert!(a.home.feed(&["record"], cmd.as_bytes()).status.success());
        }));
        let cmd = format!("drained {n}");
        ways[2].1.push(travels(&b, &cmd, || {
            shell.types(&cmd);
            a.home.ok(&["list", "--limit", "1"]);
        }));
    }
    for (way, times) in &mut ways {
        times.sort();
        let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{way}: median {median:?}, most {most:?}");
        assert!(most < Duration::from_secs(5), "{way}: {times:?}");
    }
    // The other way as well, over the same session.
    let mut back = b.shell("answer");
    travels(&a, "typed on beta", || back.types("typed on beta"));
}

/// The kernel watches a directory, not its name.
#[test]
fn a_spool_that_was_removed_and_made_again_is_watched_again() {
    let (a, b, _of_a, _of_b) = met(&[]);
    for n in 0..3 {
        std::fs::remove_dir_all(a.home.data().join("spool")).unwrap();
        // Until nothing else makes the daemon look.
        std::thread::sleep(Duration::from_millis(2_500));
        let mut shell = a.shell("again");
        let cmd = format!("typed {n}");
        travels(&b, &cmd, || shell.types(&cmd));
    }
}

#[test]
fn a_device_that_is_not_there_is_named_with_why_also_after_a_restart() {
    let (a, _b, of_a, of_b) = met(&[]);
    of_b.kill();
    of_a.kill();
    let _of_a = a.start();
    eventually("the new daemon knows whom it does not reach", || {
        let beta = a.peer("beta");
        beta["peer_id"].is_string() && beta["error"].is_string() && beta["path"].is_null()
    });
    let line = a.home.ok(&["status"]);
    assert!(line.contains("not reachable"), "{line}");
}

#[test]
fn three_devices_hand_on_what_two_that_never_meet_typed() {
    let (a, b, c) = (
        Device::with("alpha", &["sync_interval = 1"]),
        Device::with("beta", &["sync_interval = 1"]),
        Device::with("gamma", &["sync_interval = 1"]),
    );
    a.knows(&b);
    c.knows(&b);
    let _daemons = [a.start(), b.start(), c.start()];
    eventually("they meet", || a.identical("beta") && c.identical("beta"));
    let mut shell = a.shell("typing");
    travels(&c, "from a to c", || shell.types("from a to c"));
}

/// No round takes part in what is looked at.
const NO_ROUNDS: &str = "sync_interval = \"12h\"";

#[test]
fn both_say_that_they_are_identical_again_as_soon_as_what_was_typed_is_there() {
    let (a, b, _of_a, _of_b) = met(&[NO_ROUNDS]);
    let mut shells = [a.shell("one"), b.shell("two")];
    for n in 0..4 {
        let cmd = format!("typed {n}");
        shells[n % 2].types(&cmd);
        eventually("both have it and know that", || {
            a.has(&cmd) && b.has(&cmd) && a.identical("beta") && b.identical("alpha")
        });
    }
}

#[test]
fn a_device_in_the_middle_passes_on_what_two_type_that_do_not_reach_each_other() {
    let (a, b) = (
        Device::with("alpha", &[NO_ROUNDS]),
        Device::with("beta", &[NO_ROUNDS]),
    );
    let middle = Device::with("middle", &[NO_ROUNDS]);
    middle.knows(&a);
    middle.knows(&b);
    let _daemons = [a.start(), b.start(), middle.start()];
    eventually("the one in the middle has met both", || {
        middle.identical("alpha") && middle.identical("beta") && b.identical("middle")
    });
    let (mut on_a, mut on_b) = (a.shell("a"), b.shell("b"));
    for n in 0..3 {
        let (one, other) = (format!("on alpha {n}"), format!("on beta {n}"));
        on_a.types(&one);
        on_b.types(&other);
        let took = eventually("each has what the other typed", || {
            b.has(&one) && a.has(&other)
        });
        println!("{n}: {took:?}");
    }
    assert_eq!(a.peer("beta"), serde_json::Value::Null, "they never met");
    eventually("all say that they are identical", || {
        let of_middle = middle.identical("alpha") && middle.identical("beta");
        of_middle && a.identical("middle") && b.identical("middle")
    });
}

#[test]
fn rr_sync_works_beside_daemons() {
    let (a, b, _of_a, _of_b) = met(&["sync_interval = 1"]);
    let port = free_port();
    let addr = format!("127.0.0.1:{port}");
    let mut serve = b
        .home
        .rr(["serve", "--http", &addr])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the server answers", || {
        std::net::TcpStream::connect(&addr).is_ok()
    });
    a.shell("s").types("typed beside");
    let url = format!("http://{addr}");
    for args in [
        vec!["sync", &url, "--json"],
        vec!["sync", "beta", "--json"],
        vec!["sync", "--json"],
    ] {
        let told: serde_json::Value = serde_json::from_str(&a.home.ok(&args)).unwrap();
        assert_eq!(told["identical"], true, "{told}");
    }
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert!(b.has("typed beside"));
    eventually("both know it", || {
        a.identical("beta") && b.identical("alpha")
    });
    assert_eq!(a.peer("beta")["error"], serde_json::Value::Null);
}

/// In a network of its own: multicast on this machine's would call other programs.
#[test]
fn two_devices_on_one_lan_find_each_other() {
    if !root_for("mDNS in a network namespace") {
        return;
    }
    let (a, b) = (
        Device::with("alpha", &["mdns = true"]),
        Device::with("beta", &["mdns = true"]),
    );
    // Loopback is no LAN to mDNS.
    let script = "ip link set lo up && ip link add lan type veth peer name far && ip link set far up && ip link set lan up \
                  && ip addr add 10.9.8.7/24 dev lan && ip route add 224.0.0.0/4 dev lan";
    for (device, port) in [(&a, a.port), (&b, b.port)] {
        let listen = format!("listen = [\"/ip4/10.9.8.7/tcp/{port}\"]");
        let config = device.home.path().join(".config/rustory/config.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let kept: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("listen"))
            .collect();
        std::fs::write(&config, kept.join("\n") + "\n" + &listen + "\n").unwrap();
    }
    let daemons = format!(
        "{script} && (HOME='{}' \"$0\" daemon 2>'{0}/daemon.err' & HOME='{}' exec \"$0\" daemon 2>'{1}/daemon.err')",
        a.home.path().display(),
        b.home.path().display()
    );
    let mut unshare = std::process::Command::new("unshare")
        .args([
            "-n",
            "-p",
            "-f",
            "--kill-child",
            "sh",
            "-c",
            &daemons,
            env!("CARGO_BIN_EXE_rr"),
        ])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .spawn()
        .unwrap();
    let started = Instant::now();
    let mut found = false;
    while !found
        && started.elapsed() < Duration::from_secs(20)
        && unshare.try_wait().unwrap().is_none()
    {
        std::thread::sleep(Duration::from_millis(100));
        found = a.identical("beta") && b.identical("alpha");
    }
    let lan = a.peer("beta")["path"] == "lan";
    let _ = unshare.kill();
    let _ = unshare.wait();
    let said = |device: &Device| {
        std::fs::read_to_string(device.home.path().join("daemon.err")).unwrap_or_default()
    };
    assert!(
        found && lan,
        "found {found}, lan {lan}\n{}\n{}",
        said(&a),
        said(&b)
    );
    let _ = succeeded;
}
