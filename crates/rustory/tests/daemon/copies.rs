//! Devices that call themselves the same, by mistake or because one is a copy of the other.

use std::process::Command;

use crate::common::Home;
use crate::device::{Device, eventually, ok};
use crate::hub::Hub;

#[test]
fn one_device_id_set_on_both_still_gives_both_everything() {
    let (a, b) = (
        Device::with("alpha", &["device_id = \"same\""]),
        Device::with("beta", &["device_id = \"same\""]),
    );
    a.knows(&b);
    let (mut at_a, mut at_b) = (a.shell("sa"), b.shell("sb"));
    for n in 0..5 {
        at_a.types(&format!("a {n}"));
        at_b.types(&format!("b {n}"));
    }
    let (of_a, _of_b) = (a.start(), b.start());
    eventually("both have everything", || {
        a.sorted().len() == 10 && a.sorted() == b.sorted()
    });
    at_a.types("a later");
    at_b.types("b later");
    eventually("news travel too", || {
        a.sorted().len() == 12 && a.sorted() == b.sorted()
    });
    eventually("it is said", || of_a.said().contains("`same`"));
}

impl Device {
    /// The same home elsewhere, with a port of its own.
    fn copied(&self, name: &'static str) -> Device {
        let copy = Device::with(name, &["sync_interval = 1"]);
        ok(Command::new("rm").arg("-rf").arg(copy.home.data()));
        ok(Command::new("cp")
            .arg("-a")
            .arg(self.home.data())
            .arg(copy.home.data()));
        copy
    }

    fn ids(&self) -> (String, String, String) {
        let status = self.status();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        (
            text(&status["device"]["device_id"]),
            text(&status["db"]["log_id"]),
            text(&status["device"]["peer_id"]),
        )
    }
}

#[test]
fn a_copied_home_becomes_a_device_of_its_own_with_a_key_of_its_own() {
    let hub = Hub::new();
    let _hub = hub.start(&[]);
    let a = Device::with("alpha", &["sync_interval = 1"]);
    a.home.spool("before", ["typed before the copy".to_owned()]);
    a.configure(&[&hub.tracker()]);
    let of_a = a.start();
    eventually("alpha runs", || {
        !a.ids().2.is_empty() && a.has("typed before the copy")
    });
    let (_, _, old_peer) = a.ids();
    of_a.kill();
    let b = a.copied("beta");
    b.configure(&[&hub.tracker()]);
    let (of_a, of_b) = (a.start(), b.start());
    eventually("two devices, two logs, two keys", || {
        let (of_a, of_b) = (a.ids(), b.ids());
        of_a.0 != of_b.0 && of_a.1 != of_b.1 && of_a.2 != of_b.2 && !of_b.2.is_empty()
    });
    assert_eq!(a.ids().2, old_peer, "whose key it was keeps it");
    assert!(
        of_b.said()
            .contains("identity key was copied from another device"),
        "{}",
        of_b.said()
    );
    assert!(
        !of_a.said().contains("identity key was copied"),
        "{}",
        of_a.said()
    );
    a.shell("sa").types("typed on the original");
    b.shell("sb").types("typed on the copy");
    eventually("both have everything", || {
        a.sorted().len() == 3 && a.sorted() == b.sorted()
    });
    eventually("both know it", || {
        a.identical("beta") && b.identical("alpha")
    });
    let told = |said: String| {
        said.matches("this one counts as a new device from now on")
            .count()
    };
    assert_eq!(
        told(of_a.said()) + told(of_b.said()),
        1,
        "one of the two, once\n{}\n{}",
        of_a.said(),
        of_b.said()
    );
    // And it stays so.
    let (ids_a, ids_b) = (a.ids(), b.ids());
    of_a.kill();
    of_b.kill();
    let _daemons = [a.start(), b.start()];
    eventually("they meet again", || {
        a.peer("beta")["path"].is_string() && b.peer("alpha")["path"].is_string()
    });
    assert_eq!((a.ids(), b.ids()), (ids_a, ids_b));
}

/// Whoever chooses where the key lies, as in a mounted secret, looks after it.
#[test]
fn a_key_in_a_place_of_ones_own_is_left_alone() {
    let device = Device::new("alpha");
    let elsewhere = Home::new();
    let path = elsewhere.path().join("my.key");
    std::fs::rename(device.home.data().join("identity.key"), &path).unwrap();
    device.configure(&[&format!("identity_key_path = \"{}\"", path.display())]);
    for _ in 0..2 {
        let _daemon = device.start();
        eventually("it runs under the same id", || {
            device.ids().2 == device.peer_id
        });
        let moved = path.with_extension("moved");
        ok(Command::new("cp").arg("-p").arg(&path).arg(&moved));
        std::fs::rename(moved, &path).unwrap();
    }
}
