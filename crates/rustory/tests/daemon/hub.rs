//! `rr hub`, and devices with and without it.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use serde_json::Value;

use crate::common::Home;
use crate::device::{Daemon, Device, SWARM_KEY, eventually, free_port, refused, write_private};

pub(crate) struct Hub {
    home: Home,
    port: u16,
    health: u16,
    peer_id: String,
}

impl Hub {
    pub(crate) fn new() -> Hub {
        let home = Home::new();
        write_private(home.path().join("swarm.key"), &SWARM_KEY);
        let peer_id = home.ok(&["key", "identity", "hub.key"]).trim().to_owned();
        Hub {
            home,
            port: free_port(),
            health: free_port(),
            peer_id,
        }
    }

    pub(crate) fn tracker(&self) -> String {
        format!(
            "trackers = [\"/ip4/127.0.0.1/tcp/{}/p2p/{}\"]",
            self.port, self.peer_id
        )
    }

    fn args(&self) -> Vec<String> {
        let addr = format!("/ip4/127.0.0.1/tcp/{}", self.port);
        let health = format!("127.0.0.1:{}", self.health);
        let args = [
            "hub",
            "--identity-key",
            "hub.key",
            "--swarm-key",
            "swarm.key",
            "--listen",
            &addr,
            "--external",
            &addr,
            "--health",
            &health,
        ];
        args.map(str::to_owned).to_vec()
    }

    pub(crate) fn start(&self, more: &[&str]) -> Daemon {
        let args = self
            .args()
            .into_iter()
            .chain(more.iter().map(ToString::to_string));
        let hub = Daemon::start(self.home.rr(args), self.home.path().join("hub.err"));
        eventually("the hub listens", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
        hub
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn hub_of(device: &Device) -> Value {
    device.status()["hubs"][0].clone()
}

fn is_up(device: &Device) -> bool {
    let hub = hub_of(device);
    hub["tracker"] == "up" && hub["relay"] == "up" && hub["error"] == Value::Null
}

#[test]
fn a_hub_that_dies_and_returns_is_seen_to_and_devices_that_met_go_on_without_it() {
    let hub = Hub::new();
    let running = hub.start(&[]);
    let tracker = hub.tracker();
    let (a, b) = (
        Device::with("alpha", &[&tracker]),
        Device::with("beta", &[&tracker]),
    );
    let (of_a, of_b) = (a.start(), b.start());
    eventually("the hub is up", || is_up(&a) && is_up(&b));
    eventually("they meet through the tracker", || {
        a.identical("beta") && b.identical("alpha")
    });
    running.kill();
    eventually("it is said to be down", || {
        hub_of(&a)["tracker"] == "down" && hub_of(&a)["error"] != Value::Null
    });
    let line = a.home.ok(&["status"]);
    assert!(line.contains("hub ") && line.contains("down: "), "{line}");
    a.shell("s").types("without a hub");
    eventually("what is typed still travels", || b.has("without a hub"));
    // Nor do they need it to meet again.
    of_a.kill();
    of_b.kill();
    let (_of_a, _of_b) = (a.start(), b.start());
    b.shell("t").types("from the peer book");
    eventually("they meet where they met before", || {
        a.has("from the peer book")
    });
    eventually("why it is down is said", || {
        hub_of(&a)["error"] == "connection refused"
    });
    let running = hub.start(&[]);
    eventually("the hub is up again", || is_up(&a) && is_up(&b));
    let (status, took) = running.stop("TERM");
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_hub_tells_how_it_is() {
    let hub = Hub::new();
    let running = hub.start(&[]);
    let device = Device::with("alpha", &[&hub.tracker()]);
    let _daemon = device.start();
    eventually("the hub is up", || is_up(&device));
    for path in ["/livez", "/readyz"] {
        assert!(
            hub.get(path).starts_with("HTTP/1.1 200"),
            "{}",
            hub.get(path)
        );
    }
    let metrics = hub.get("/metrics");
    assert!(metrics.contains("rustory_"), "{metrics}");
    assert!(hub.get("/other").starts_with("HTTP/1.1 404"));
    let (status, took) = running.stop("INT");
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// As the kubelet lays it out: files of a dated directory behind two links, which group and nobody
/// else may read.
#[test]
fn a_hub_takes_its_keys_from_a_mounted_secret() {
    let hub = Hub::new();
    let dir = hub.home.path();
    let dated = dir.join("secret/..2026_11_26");
    std::fs::create_dir_all(&dated).unwrap();
    symlink("..2026_11_26", dir.join("secret/..data")).unwrap();
    for key in ["hub.key", "swarm.key"] {
        std::fs::rename(dir.join(key), dated.join(key)).unwrap();
        std::fs::set_permissions(dated.join(key), Permissions::from_mode(0o440)).unwrap();
        symlink(format!("..data/{key}"), dir.join("secret").join(key)).unwrap();
        symlink(format!("secret/{key}"), dir.join(key)).unwrap();
    }
    let running = hub.start(&[]);
    eventually("the hub is ready", || {
        hub.get("/readyz").starts_with("HTTP/1.1 200")
    });
    assert_eq!(running.said(), "");
    running.stop("TERM");
    std::fs::set_permissions(dated.join("swarm.key"), Permissions::from_mode(0o444)).unwrap();
    let running = hub.start(&[]);
    let warning = "swarm.key` is open to others (mode 0444): chmod 600 ";
    assert!(running.said().contains(warning), "{}", running.said());
}

#[test]
fn a_hub_without_its_key_makes_none() {
    let hub = Hub::new();
    std::fs::remove_file(hub.home.path().join("hub.key")).unwrap();
    let args = hub.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let said = refused(&hub.home, &args);
    assert!(
        said.contains("there is no key file") && said.contains("`rr key identity hub.key`"),
        "{said}"
    );
    assert!(!hub.home.path().join("hub.key").exists());
}

#[test]
fn half_a_hub_is_shown_as_half() {
    for (flag, up, off) in [
        ("--no-relay", "tracker", "relay"),
        ("--no-tracker", "relay", "tracker"),
    ] {
        let hub = Hub::new();
        let _running = hub.start(&[flag]);
        let device = Device::with("alpha", &[&hub.tracker()]);
        let _daemon = device.start();
        eventually(flag, || {
            hub_of(&device)[up] == "up" && hub_of(&device)[off] == "not offered"
        });
        // As its owner wants it: nothing is wrong.
        assert!(hub_of(&device)["error"].is_null());
    }
    let hub = Hub::new();
    let said = refused(&hub.home, &["hub", "--no-relay", "--no-tracker"]);
    assert!(said.contains("cannot be used with"), "{said}");
}

#[test]
fn a_hub_without_its_key_says_what_to_do_and_makes_none() {
    let hub = Hub::new();
    let key = hub.home.path().join("hub.key");
    let good = std::fs::read_to_string(&key).unwrap();
    let args = hub.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    for (text, says, does) in [
        (
            None,
            "there is no key file `hub.key`",
            "`rr key identity hub.key` makes one",
        ),
        (
            Some("no key"),
            "`hub.key` is malformed: it is not base64",
            "bring it back",
        ),
        (
            Some(SWARM_KEY.as_str()),
            "`hub.key` is malformed",
            "bring it back",
        ),
    ] {
        std::fs::remove_file(&key).unwrap();
        if let Some(text) = text {
            write_private(key.clone(), text);
        }
        let said = refused(&hub.home, &args);
        assert!(said.contains(says) && said.contains(does), "{said}");
        assert_eq!(std::fs::read_to_string(&key).ok().as_deref(), text);
        write_private(key.clone(), &good);
    }
    std::fs::remove_file(hub.home.path().join("swarm.key")).unwrap();
    let said = refused(&hub.home, &args);
    assert!(
        said.contains("there is no key file `swarm.key`") && said.contains("copy `swarm.key`"),
        "{said}"
    );
}
