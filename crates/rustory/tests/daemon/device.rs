//! A device of a test: a home of its own with keys and a configuration, and its daemon.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Home, command, header, succeeded};

/// Far more than anything takes here, for machines that do something else at the same time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(75);

/// Waits until something holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    started.elapsed()
}

/// A port that nobody listens on, below those that the system gives to outgoing connections.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let own = u16::try_from(std::process::id() % 180).unwrap();
        AtomicU16::new(10_000 + own * 100)
    });
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// One swarm key for all tests.
pub(crate) static SWARM_KEY: LazyLock<String> = LazyLock::new(|| swarm_key('a'));

pub(crate) fn swarm_key(digit: char) -> String {
    format!(
        "/key/swarm/psk/1.0.0/\n/base16/\n{}\n",
        digit.to_string().repeat(64)
    )
}

/// A home with keys, a database and a configuration, without mDNS.
pub(crate) struct Device {
    pub(crate) home: Home,
    pub(crate) port: u16,
    pub(crate) peer_id: String,
    name: &'static str,
    settings: Vec<String>,
}

impl Device {
    pub(crate) fn new(name: &'static str) -> Device {
        Device::with(name, &[])
    }

    /// With lines of its own in the configuration.
    pub(crate) fn with(name: &'static str, settings: &[&str]) -> Device {
        let home = Home::new();
        home.ok(&["list"]);
        write_private(home.data().join("swarm.key"), &SWARM_KEY);
        let peer_id = home.ok(&["key", "identity"]).trim().to_owned();
        let device = Device {
            home,
            port: free_port(),
            peer_id,
            name,
            settings: settings.iter().map(ToString::to_string).collect(),
        };
        device.configure(&[]);
        device
    }

    /// Writes the configuration, with more lines.
    pub(crate) fn configure(&self, more: &[&str]) {
        let dir = self.home.path().join(".config/rustory");
        fs::create_dir_all(&dir).unwrap();
        let mut lines = vec![
            format!("device_name = \"{}\"", self.name),
            format!("listen = [\"/ip4/127.0.0.1/tcp/{}\"]", self.port),
        ];
        let all = self
            .settings
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied());
        lines.extend(all.clone().map(str::to_owned));
        if !all.clone().any(|line| line.starts_with("mdns")) {
            lines.push("mdns = false".to_owned());
        }
        fs::write(dir.join("config.toml"), lines.join("\n") + "\n").unwrap();
    }

    /// Puts another device into the peer book, as if they had met before.
    pub(crate) fn knows(&self, other: &Device) {
        self.knows_at(other, other.port);
    }

    /// At another port, where something stands in between.
    pub(crate) fn knows_at(&self, other: &Device, port: u16) {
        let db = rusqlite::Connection::open(self.home.db()).unwrap();
        let addr = format!("/ip4/127.0.0.1/tcp/{port}");
        let sql = "INSERT OR REPLACE INTO peer_book (peer, addr, seen_at) VALUES (?1, ?2, 1)";
        db.execute(sql, (&other.peer_id, &addr)).unwrap();
    }

    pub(crate) fn start(&self) -> Daemon {
        Daemon::start(
            self.home.rr(["daemon"]),
            self.home.path().join("daemon.err"),
        )
    }

    /// Runs a daemon that is expected to give up by itself: its exit code and what it said.
    pub(crate) fn fails(&self) -> (Option<i32>, String) {
        let mut daemon = self.start();
        eventually("the daemon gives up", || daemon.is_over());
        let code = daemon.child.wait().unwrap().code();
        (code, daemon.said())
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.home.ok(&["status", "--json"])).unwrap()
    }

    /// Whether this daemon has begun its work.
    pub(crate) fn runs(&self, daemon: &Daemon) -> bool {
        let status = self.status();
        status["daemon"]["pid"] == daemon.pid() && status["device"]["peer_id"].is_string()
    }

    /// What status says of the device of a name.
    pub(crate) fn peer(&self, name: &str) -> Value {
        let status = self.status();
        let peers = status["peers"].as_array().unwrap().clone();
        let mut found = peers.into_iter().filter(|peer| peer["name"] == name);
        found.next().unwrap_or(Value::Null)
    }

    /// Whether both hold the same and know it.
    pub(crate) fn identical(&self, name: &str) -> bool {
        self.peer(name)["identical"] == true
    }

    /// All commands of the log, sorted.
    pub(crate) fn sorted(&self) -> Vec<String> {
        let mut cmds = self.home.cmds();
        cmds.sort();
        cmds
    }

    pub(crate) fn has(&self, cmd: &str) -> bool {
        self.home.cmds().iter().any(|it| it == cmd)
    }

    /// A shell of this very process, so that its session does not count as over.
    pub(crate) fn shell(&self, session: &str) -> Shell {
        let dir = self.home.data().join("spool");
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!("{session}.spool"));
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        use std::io::Write as _;
        file.write_all(&header(session, std::process::id()))
            .unwrap();
        Shell {
            session: session.to_owned(),
            file,
        }
    }
}

/// Appends to a spool file as a shell's hook does.
pub(crate) struct Shell {
    session: String,
    file: File,
}

impl Shell {
    pub(crate) fn types(&mut self, cmd: &str) {
        use std::io::Write as _;
        self.file.write_all(&command(&self.session, cmd)).unwrap();
    }
}

pub(crate) fn write_private(path: PathBuf, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    options.create(true).truncate(true).write(true).mode(0o600);
    options
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

/// A daemon or a hub. Killed when dropped.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    stderr: PathBuf,
}

impl Daemon {
    pub(crate) fn start(mut command: Command, stderr: PathBuf) -> Daemon {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        Daemon { child, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Asks it to end. How it did, and how long that took.
    pub(crate) fn stop(mut self, signal: &str) -> (ExitStatus, Duration) {
        self.signal(signal);
        let took = eventually("the end of the process", || self.is_over());
        (self.child.wait().unwrap(), took)
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            if let Some(home) = self.stderr.parent() {
                let rr = env!("CARGO_BIN_EXE_rr");
                let status = Command::new(rr)
                    .arg("status")
                    .env_clear()
                    .env("HOME", home)
                    .output();
                eprintln!("{}", String::from_utf8_lossy(&status.unwrap().stdout));
            }
            let state = self.stderr.with_file_name(".rustory/daemon.json");
            let state = fs::read_to_string(state).unwrap_or_default();
            eprintln!("--- {}\n{}{state}", self.stderr.display(), self.said());
        }
    }
}

/// Two devices that know where the other is, with their daemons, met and equal.
pub(crate) fn met(settings: &[&str]) -> (Device, Device, Daemon, Daemon) {
    let (a, b) = (
        Device::with("alpha", settings),
        Device::with("beta", settings),
    );
    a.knows(&b);
    b.knows(&a);
    let (of_a, of_b) = (a.start(), b.start());
    eventually("alpha and beta meet", || {
        a.identical("beta") && b.identical("alpha")
    });
    (a, b, of_a, of_b)
}

/// What the kernel counted of a process.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Times that each of its threads went to sleep by itself.
    sleeps: HashMap<String, u64>,
    pub(crate) rss_kib: u64,
}

impl Cost {
    /// How often threads woke up since.
    pub(crate) fn wakes_since(&self, before: &Cost) -> u64 {
        let each = self.sleeps.iter();
        each.map(|(task, count)| count - before.sleeps.get(task).unwrap_or(&0))
            .sum()
    }
}

pub(crate) fn cost(pid: u32) -> Cost {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let field = |status: &str, name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let mut sleeps = HashMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap();
        // It may have ended meanwhile.
        if let Ok(status) = fs::read_to_string(task.path().join("status")) {
            let name = task.file_name().into_string().unwrap();
            sleeps.insert(name, field(&status, "voluntary_ctxt_switches"));
        }
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    Cost {
        cpu: Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()),
        sleeps,
        rss_kib: field(&status, "VmRSS"),
    }
}

/// Runs `rr` and gives what it said when it failed.
#[track_caller]
pub(crate) fn refused(home: &Home, args: &[&str]) -> String {
    let output = home.rr(args).output().unwrap();
    assert!(!output.status.success(), "{args:?} went well");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Established connections of a process to other devices.
pub(crate) fn ok(command: &mut Command) -> String {
    succeeded(command.output().unwrap())
}
