//! The hub and the devices of a swarm, as a person has them: `rr`, a home, a configuration.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustory_net::p2p::{IdentityKey, PeerId, SwarmKey};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{self, Home};
use crate::namespace::Namespace;
use crate::process::Process;
use crate::topology::{HUB, Host, Lab, PORT};
use crate::wait::{LONG, until, until_true};

const RR: &str = env!("CARGO_BIN_EXE_rr");

/// Where the hub answers about its health, on its own loopback.
const HEALTH: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 9_464);

/// One person's keys, and the hub.
#[derive(Debug)]
pub(crate) struct Swarm {
    dir: TempDir,
    key: SwarmKey,
    hub_id: PeerId,
    hub_namespace: Namespace,
    hub: Option<Process>,
}

impl Swarm {
    /// New keys. The hub is not there yet.
    pub(crate) fn new(lab: &Lab) -> Swarm {
        let dir = tempfile::tempdir().unwrap();
        let key = SwarmKey::generate().unwrap();
        key.create(&dir.path().join("swarm.key")).unwrap();
        let hub = IdentityKey::generate().unwrap();
        hub.create(&dir.path().join("hub.key")).unwrap();
        Swarm {
            dir,
            key,
            hub_id: hub.peer_id(),
            hub_namespace: lab.hub().namespace.clone(),
            hub: None,
        }
    }

    /// New keys and a hub that serves.
    pub(crate) fn with_hub(lab: &Lab) -> Swarm {
        let mut swarm = Swarm::new(lab);
        swarm.start_hub();
        swarm
    }

    pub(crate) fn key(&self) -> &SwarmKey {
        &self.key
    }

    /// The hub as it stands in a configuration.
    pub(crate) fn tracker(&self) -> String {
        format!("/ip4/{HUB}/tcp/{PORT}/p2p/{}", self.hub_id)
    }

    pub(crate) fn start_hub(&mut self) {
        assert!(self.hub.is_none());
        let mut command = self.hub_namespace.command(Path::new(RR));
        let file = |name: &str| self.dir.path().join(name);
        command
            .env("HOME", self.dir.path())
            .env("USER", "hub")
            .current_dir(self.dir.path())
            .args(["hub", "--listen", &format!("/ip4/0.0.0.0/tcp/{PORT}")])
            .args(["--external", &format!("/ip4/{HUB}/tcp/{PORT}")])
            .args(["--health", &format!("{}:{}", HEALTH.0, HEALTH.1)])
            .arg("--identity-key")
            .arg(file("hub.key"))
            .arg("--swarm-key")
            .arg(file("swarm.key"));
        self.hub = Some(Process::start("hub", command, file("hub.log")));
        until_true("the hub is ready", LONG, || {
            self.hub_process().assert_runs();
            self.asked("/readyz")
                .is_some_and(|answer| answer.contains(" 200 "))
        });
    }

    pub(crate) fn hub_process(&mut self) -> &mut Process {
        self.hub.as_mut().expect("the hub was started")
    }

    /// Ends the hub as a power cut does.
    pub(crate) fn kill_hub(&mut self) {
        self.hub.take().expect("the hub was started").kill();
    }

    /// Ends the hub as an administrator does.
    pub(crate) fn stop_hub(&mut self) {
        self.hub.take().expect("the hub was started").stop();
    }

    /// One of the hub's numbers.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.asked("/metrics").expect("the hub answers");
        let prefix = format!("rustory_hub_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        value.and_then(|value| value.trim().parse().ok()).unwrap()
    }

    fn asked(&self, path: &str) -> Option<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n");
        self.hub_namespace.run(move || {
            let mut stream = TcpStream::connect(HEALTH).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            stream.write_all(request.as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        })
    }

    /// A device of the swarm that knows the hub; its daemon does not run yet.
    pub(crate) fn device(&self, host: &Host, name: &str) -> Device {
        let device = Device::new(host, name);
        device.configure(&self.key, &[self.tracker()], false);
        device
    }
}

/// A machine with `rr` on it.
pub(crate) struct Device {
    pub(crate) host: Host,
    pub(crate) name: String,
    pub(crate) peer_id: PeerId,
    pub(crate) home: Home,
    daemon: Option<Process>,
}

/// Spool files need names of their own.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

impl Device {
    fn new(host: &Host, name: &str) -> Device {
        let home = Home::new();
        let identity = IdentityKey::generate().unwrap();
        let device = Device {
            host: host.clone(),
            name: name.to_owned(),
            peer_id: identity.peer_id(),
            home,
            daemon: None,
        };
        fs::create_dir_all(device.config_dir()).unwrap();
        identity
            .create(&device.config_dir().join("identity.key"))
            .unwrap();
        device
    }

    fn config_dir(&self) -> PathBuf {
        self.home.path().join(".config/rustory")
    }

    /// Writes the configuration, in place of the one that was there.
    pub(crate) fn configure(&self, key: &SwarmKey, trackers: &[String], mdns: bool) {
        let dir = self.config_dir();
        let swarm_key = dir.join("swarm.key");
        let _ = fs::remove_file(&swarm_key);
        key.create(&swarm_key).unwrap();
        let config = format!(
            "device_name = {:?}\ntrackers = {trackers:?}\nlisten = [\"/ip4/0.0.0.0/tcp/{PORT}\"]\n\
             swarm_key_path = {swarm_key:?}\nidentity_key_path = {:?}\nmdns = {mdns}\n\
             sync_interval = \"60s\"\n",
            self.name,
            dir.join("identity.key"),
        );
        fs::write(dir.join("config.toml"), config).unwrap();
    }

    /// Makes the rounds of its sessions so frequent that a test need not wait for them.
    pub(crate) fn does_rounds_often(&self) {
        let path = self.config_dir().join("config.toml");
        let config = fs::read_to_string(&path).unwrap();
        fs::write(&path, config.replace("\"60s\"", "\"8s\"")).unwrap();
    }

    pub(crate) fn start(&mut self) {
        assert!(self.daemon.is_none());
        let mut command = self.host.namespace.command(Path::new(RR));
        command
            .arg("daemon")
            .arg("--verbose")
            .env("HOME", self.home.path())
            .env("USER", "tester")
            .env("TZ", "UTC")
            .current_dir(self.home.path());
        let log = self.home.path().join("daemon.log");
        self.daemon = Some(Process::start(&self.name, command, log));
    }

    /// Waits until the daemon says that it runs, and where it listens.
    pub(crate) fn is_up(&mut self) {
        let what = format!("the daemon of {} is up", self.name);
        until_true(&what, LONG, || {
            self.daemon().assert_runs();
            // Before the first start there is not even a database.
            let output = self.home.rr(["status", "--json"]).output().unwrap();
            let status: Result<Value, _> = serde_json::from_slice(&output.stdout);
            status.is_ok_and(|status| status["daemon"]["running"] == true)
        });
    }

    pub(crate) fn daemon(&mut self) -> &mut Process {
        self.daemon.as_mut().expect("the daemon was started")
    }

    pub(crate) fn stop(&mut self) {
        self.daemon.take().expect("the daemon was started").stop();
    }

    /// Puts commands into the log, as a shell that still runs writes them.
    pub(crate) fn types(&self, cmds: impl IntoIterator<Item = String>) {
        let session = format!("lab{}", SESSIONS.fetch_add(1, Ordering::Relaxed));
        let mut bytes = common::header(&session, std::process::id());
        for cmd in cmds {
            bytes.extend(common::command(&session, &cmd));
        }
        let spool = self.home.data().join("spool");
        fs::create_dir_all(&spool).unwrap();
        fs::write(spool.join(format!("{session}.spool")), bytes).unwrap();
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.home.ok(&["status", "--json"])).unwrap()
    }

    /// Entries in the log; what waits in the spool is none yet.
    pub(crate) fn count(&self) -> u64 {
        self.status()["db"]["entries"].as_u64().unwrap()
    }

    /// Waits until the log holds so many entries, and says how long that took.
    pub(crate) fn holds(&self, count: u64, most: Duration) -> Duration {
        let mut seen = 0;
        let what = format!("{} holds {count} entries", self.name);
        until(&what, most, || {
            seen = self.count();
            assert!(seen <= count, "{} holds {seen} of {count}", self.name);
            (seen == count).then_some(())
        })
        .1
    }

    /// What its status says of another device.
    pub(crate) fn peer(&self, other: &Device) -> Option<Value> {
        let status = self.status();
        let peers = status["peers"].as_array().unwrap();
        peers
            .iter()
            .find(|peer| peer["name"] == *other.name)
            .cloned()
    }

    /// How it is connected to another device.
    pub(crate) fn path_to(&self, other: &Device) -> Option<String> {
        Some(self.peer(other)?["path"].as_str()?.to_owned())
    }

    /// Every entry with every field.
    pub(crate) fn entries(&self) -> BTreeSet<String> {
        let listed = self.home.ok(&["list", "--json", "--limit", "all"]);
        listed.lines().map(str::to_owned).collect()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self.home.rr(["status"]).output().unwrap();
            let text = String::from_utf8_lossy(&status.stdout).into_owned();
            let state = fs::read_to_string(self.home.data().join("daemon.json"));
            eprintln!(
                "--- status of {}:\n{text}{}",
                self.name,
                state.unwrap_or_default()
            );
        }
    }
}

/// Starts several daemons at once.
pub(crate) fn start_all<'a>(devices: impl IntoIterator<Item = &'a mut Device>) {
    let mut devices: Vec<_> = devices.into_iter().collect();
    for device in &mut devices {
        device.start();
    }
    for device in devices {
        device.is_up();
    }
}

/// Commands that no compression makes much smaller, each another one.
pub(crate) fn noise(prefix: &str, count: usize) -> Vec<String> {
    noise_of(prefix, count, NOISE_BYTES_MIN / 8)
}

/// The same with so many words of 8 bytes of chance.
pub(crate) fn noise_of(prefix: &str, count: usize, words: u64) -> Vec<String> {
    static STATE: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    let word = || {
        let mut x = STATE.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        STATE.store(x, Ordering::Relaxed);
        format!("{x:016x}")
    };
    (0..count)
        .map(|n| {
            let chance: String = (0..words).map(|_| word()).collect();
            format!("{prefix}{n} {chance}")
        })
        .collect()
}

/// The least that [`noise`] takes on the wire: 80 bytes of chance in each.
pub(crate) const NOISE_BYTES_MIN: u64 = 80;

/// Waits until all hold so many entries and say that they are identical; then compares every field
/// of every entry.
pub(crate) fn all_identical(devices: &[&Device], count: u64, most: Duration) -> Duration {
    let begun = std::time::Instant::now();
    for device in devices {
        device.holds(count, most);
    }
    let entries = devices[0].entries();
    assert_eq!(entries.len() as u64, count);
    for device in &devices[1..] {
        let theirs = device.entries();
        assert!(
            theirs == entries,
            "{} differs: {:?}",
            device.name,
            theirs.symmetric_difference(&entries).next()
        );
    }
    begun.elapsed()
}

/// Waits until one of two says that their connection runs that way, and the other one does not say
/// otherwise. Which way bytes go is for the counters to tell.
pub(crate) fn gets_path(a: &Device, b: &Device, path: &str, most: Duration) -> Duration {
    let what = format!("{} and {} connect by `{path}`", a.name, b.name);
    until_true(&what, most, || {
        let said = [a.path_to(b), b.path_to(a)];
        let mut said = said.iter().flatten().peekable();
        said.peek().is_some() && said.all(|it| it == path)
    })
}

/// Waits until each of two says of the other one that they are identical.
pub(crate) fn both_say_identical(a: &Device, b: &Device, most: Duration) {
    for (one, other) in [(a, b), (b, a)] {
        let what = format!("{} says that {} is identical", one.name, other.name);
        until_true(&what, most, || {
            one.peer(other)
                .is_some_and(|peer| peer["identical"] == true)
        });
    }
}
