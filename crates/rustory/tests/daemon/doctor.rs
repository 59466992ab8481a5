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
    assert!(what(&device, "daemon.runs").contains("rr daemon"));
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
    assert!(what(&device, "keys.swarm").contains("scp "));
}

#[test]
fn doctor_tells_of_a_daemon_that_was_left_behind_by_an_update() {
    let (a, _b, of_a, _of_b) = met(&[]);
    assert_eq!(what(&a, "daemon.version"), "");
    // A daemon writes this only when something changes.
    let path = a.home.data().join("daemon.json");
    eventually(
        "the daemon has told its version, and the doctor sees another one",
        || {
            let text = fs::read_to_string(&path).unwrap();
            let mut state: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(state["version"], env!("CARGO_PKG_VERSION"));
            let peers = state["peers"].as_object().unwrap();
            assert!(
                peers
                    .values()
                    .all(|peer| peer["version"] == env!("CARGO_PKG_VERSION"))
            );
            state["version"] = json!("0.0.1");
            fs::write(&path, state.to_string()).unwrap();
            what(&a, "daemon.version").contains("0.0.1")
        },
    );
    assert!(what(&a, "daemon.version").contains(&format!("kill {}", of_a.pid())));
    // With a service that starts something which is gone.
    let unit = a.home.path().join(".config/systemd/user/rustory.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    fs::write(&unit, "[Service]\nExecStart=/gone/rr daemon\n").unwrap();
    assert!(what(&a, "daemon.unit").contains("/gone/rr"));
    assert!(what(&a, "daemon.version").contains("systemctl --user"));
}
