//! What `rr doctor` says of the daemon, the hub and the other devices.

use std::fs;

use serde_json::{Value, json};

use crate::device::{Device, eventually, met, swarm_key, write_private};
use crate::hub::Hub;

/// What is not well with the device, of this kind.
fn found(device: &Device, id: &str) -> Option<Value> {
    let output = device
        .home
        .rr(["doctor", "--json", "--no-shell", "--timeout", "20"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap().clone();
    checks
        .into_iter()
        .find(|it| it["id"] == id && it["level"] != "ok")
}

fn what(device: &Device, id: &str) -> String {
    found(device, id).map_or(String::new(), |it| format!("{} {}", it["what"], it["mend"]))
}

#[test]
fn doctor_tells_of_a_hub_that_is_down_or_of_another_swarm() {
    let hub = Hub::new();
    let device = Device::with("alpha", &[&hub.tracker()]);
    assert!(what(&device, "network.hub").contains("connection refused"));
    let mend = what(&device, "daemon.runs");
    assert!(
        mend.contains("rr daemon --detach") || mend.contains("rr service install"),
        "{mend}"
    );
    let _hub = hub.start(&[]);
    assert_eq!(what(&device, "network.hub"), "");
    let metrics = hub.get("/metrics");
    assert!(
        metrics.contains("rustory_hub_devices 0\n"),
        "doctor is no device of it: {metrics}"
    );
    let key = device.home.data().join("swarm.key");
    write_private(key.clone(), &swarm_key('f'));
    assert!(what(&device, "network.hub").contains("another swarm key"));
    fs::remove_file(key).unwrap();
    assert!(what(&device, "keys.swarm").contains("join"));
}

#[test]
fn doctor_tells_of_a_daemon_that_was_left_behind_by_an_update() {
    let (a, _b, of_a, _of_b) = met(&[]);
    assert_eq!(what(&a, "daemon.version"), "");
    let path = a.home.data().join("daemon.json");
    let told = || -> Value { serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap() };
    eventually("it tells its version and beta's", || {
        let state = told();
        let peers = state["peers"].as_object().unwrap();
        let of_rr = |it: &Value| it["version"] == env!("CARGO_PKG_VERSION");
        of_rr(&state) && !peers.is_empty() && peers.values().all(of_rr)
    });
    // It writes the file anew when something changes, so it is made an older one at each look.
    let of_older = |id: &str| {
        let mut state = told();
        state["version"] = json!("0.0.1");
        fs::write(&path, state.to_string()).unwrap();
        what(&a, id)
    };
    eventually("an older one is seen", || {
        of_older("daemon.version").contains("0.0.1")
    });
    // With a service that starts something which is gone.
    let unit = a.home.path().join(".config/systemd/user/rustory.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    fs::write(&unit, "[Service]\nExecStart=/gone/rr daemon\n").unwrap();
    assert!(what(&a, "daemon.unit").contains("/gone/rr"));
    eventually("its manager is named", || {
        of_older("daemon.version").contains("systemctl --user")
    });
    fs::remove_file(unit).unwrap();
    let mend = format!("kill -USR1 {}", of_a.pid());
    eventually("the way to begin again is named", || {
        of_older("daemon.version").contains(&mend)
    });
    let mended = std::process::Command::new("sh")
        .args(["-c", &mend])
        .status();
    assert!(mended.unwrap().success());
    eventually("it has begun again as this version", || {
        found(&a, "daemon.version").is_none() && a.runs(&of_a)
    });
}
