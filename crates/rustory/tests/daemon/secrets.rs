//! Keys: of another swarm, missing, malformed, exposed. And users.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::device::{Device, eventually, swarm_key, write_private};
use crate::hub::Hub;

#[test]
fn another_swarm_key_is_named_on_both_sides_and_hurts_nobody_else() {
    let hub = Hub::new();
    let _hub = hub.start(&[]);
    let tracker = hub.tracker();
    let (a, b) = (
        Device::with("alpha", &[&tracker]),
        Device::with("beta", &[&tracker]),
    );
    let other = Device::with("other", &[&tracker]);
    write_private(other.home.data().join("swarm.key"), &swarm_key('b'));
    other.knows(&a);
    let (of_a, _of_b, of_other) = (a.start(), b.start(), other.start());
    eventually("the hub's error names the key", || {
        let error = other.status()["hubs"][0]["error"].clone();
        error
            .as_str()
            .is_some_and(|error| error.contains("another swarm key (fingerprint of ours: `"))
    });
    eventually("alpha tells of it", || {
        let stranger = a.status()["daemon"]["stranger"].clone();
        stranger
            .as_str()
            .is_some_and(|told| told.contains("127.0.0.1") && told.contains("another swarm key"))
    });
    for daemon in [&of_a, &of_other] {
        eventually("its daemon says so too", || {
            daemon
                .said()
                .contains("another swarm key (fingerprint of ours: `")
        });
    }
    assert!(a.home.ok(&["status"]).contains("another swarm key"));
    eventually("the others are not affected", || {
        a.identical("beta") && b.identical("alpha")
    });
    a.shell("s").types("among friends");
    eventually("nor is what they type", || b.has("among friends"));
    assert!(!other.has("among friends"));
}

#[test]
fn a_key_that_cannot_be_used_says_what_to_do() {
    let device = Device::new("alpha");
    let (swarm, identity) = (
        device.home.data().join("swarm.key"),
        device.home.data().join("identity.key"),
    );
    let good = (
        fs::read_to_string(&swarm).unwrap(),
        fs::read_to_string(&identity).unwrap(),
    );
    let check = |says: &str, does: &str| {
        let (code, said) = device.fails();
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("error: ") && said.contains(says) && said.contains(does),
            "{said}"
        );
    };
    fs::remove_file(&swarm).unwrap();
    check("there is no key file", "`rr pair` makes the first");
    assert!(!swarm.exists());
    write_private(swarm.clone(), "/key/swarm/psk/1.0.0/\n/base16/\n1234\n");
    check(
        "its third line is not 64 hexadecimal digits",
        "copy `swarm.key` once more",
    );
    fs::remove_file(&swarm).unwrap();
    fs::create_dir(&swarm).unwrap();
    check("can't be read", "check the owner and the permissions");
    fs::remove_dir(&swarm).unwrap();
    write_private(swarm, &good.0);
    write_private(identity.clone(), "no key");
    check("it is not base64", "move it away: a new one is made");
    assert_eq!(fs::read_to_string(&identity).unwrap(), "no key");
    fs::remove_file(&identity).unwrap();
    let _daemon = device.start();
    eventually("a new identity key is made", || {
        let peer_id = device.status()["device"]["peer_id"].clone();
        peer_id != Value::Null && peer_id != device.peer_id.as_str()
    });
    assert_eq!(
        fs::metadata(&identity).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_devices_keys_are_its_owners_alone() {
    let device = Device::new("alpha");
    for name in ["swarm.key", "identity.key"] {
        let path = device.home.data().join(name);
        for mode in [0o644, 0o640, 0o440, 0o602] {
            set_mode(&path, mode);
            let (code, said) = device.fails();
            assert_eq!(code, Some(1), "{said}");
            let told = format!(
                "{name}` is open to others than its owner (mode {mode:04o})\nhint: `chmod 600 "
            );
            assert!(said.contains(&told), "{said}");
        }
        set_mode(&path, 0o600);
    }
    let daemon = device.start();
    eventually("the daemon runs", || device.runs(&daemon));
    assert!(!daemon.said().contains("warning"), "{}", daemon.said());
}

#[test]
fn a_device_may_be_given_keys_that_a_group_reads() {
    let device = Device::new("alpha");
    let secret = device.home.path().join("secret");
    fs::create_dir(&secret).unwrap();
    let mut settings = Vec::new();
    for name in ["swarm", "identity"] {
        let path = secret.join(format!("{name}.key"));
        fs::rename(device.home.data().join(format!("{name}.key")), &path).unwrap();
        set_mode(&path, 0o440);
        settings.push(format!("{name}_key_path = \"{}\"", path.display()));
    }
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    device.configure(&settings);
    let daemon = device.start();
    eventually("the daemon runs", || device.runs(&daemon));
    assert!(!daemon.said().contains("warning"), "{}", daemon.said());
}

#[test]
fn another_user_is_refused_by_name() {
    let (a, b) = (
        Device::with("alpha", &["user_id = \"mina\""]),
        Device::with("beta", &["user_id = \"jun\""]),
    );
    let hub = Hub::new();
    let _hub = hub.start(&[]);
    for device in [&a, &b] {
        device.configure(&[&hub.tracker()]);
    }
    a.shell("s").types("mina's own");
    let _daemons = [a.start(), b.start()];
    eventually("both say whose history the other's is", || {
        let error = |device: &Device, name: &str| {
            device.peer(name)["error"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let (at_a, at_b) = (error(&a, "beta"), error(&b, "alpha"));
        let says = |text: &str| text.contains("jun") || text.contains("mina");
        says(&at_a) && says(&at_b)
    });
    let line = a.home.ok(&["status"]);
    assert!(line.contains("! beta "), "{line}");
    assert!(!b.has("mina's own"));
    assert!(
        a.home
            .rr(["status", "--check"])
            .output()
            .unwrap()
            .status
            .code()
            == Some(1)
    );
}
