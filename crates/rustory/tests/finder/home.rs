//! A home with a history, and `rr search` in it.

use std::fs;
use std::path::{Path, PathBuf};

use rustory_core::{Entry, EntryId, Extra, Timestamp};
use rustory_store::{Access, Exchange, PeerPath, PeerSeen, Store, StoreError};
use rustory_testkit::{Program, Terminal};
use tempfile::TempDir;

/// A home with a history in it.
pub(crate) struct Home(TempDir);

/// One entry of it; times follow the order in which they are added.
#[derive(Clone)]
pub(crate) struct Typed {
    pub(crate) cmd: Vec<u8>,
    pub(crate) cwd: &'static str,
    pub(crate) session: &'static str,
    pub(crate) device: Option<&'static str>,
    pub(crate) exit_code: Option<i64>,
}

pub(crate) fn typed(cmd: impl AsRef<[u8]>) -> Typed {
    Typed {
        cmd: cmd.as_ref().to_vec(),
        cwd: "/somewhere",
        session: "s1",
        device: None,
        exit_code: Some(0),
    }
}

impl Home {
    pub(crate) fn new() -> Home {
        Home(rustory_testkit::home())
    }

    pub(crate) fn with(cmds: &[&str]) -> Home {
        let home = Home::new();
        home.add(cmds.iter().map(typed));
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.path().join(".rustory/history.db")
    }

    pub(crate) fn add(&self, all: impl IntoIterator<Item = Typed>) {
        let head = self.open().head().unwrap().get();
        self.store((head + 1..).zip(all).map(|(at, typed)| entry(at, typed)));
    }

    /// Entries without a device are our own.
    pub(crate) fn store(&self, all: impl IntoIterator<Item = Entry>) {
        self.open()
            .write(|writer| -> Result<(), StoreError> {
                for entry in all {
                    match entry.device_id.is_empty() {
                        true => writer.append(&entry).map(drop)?,
                        false => writer.insert(&entry).map(drop)?,
                    }
                }
                Ok(())
            })
            .unwrap();
    }

    fn open(&self) -> Store {
        Store::open(&self.db(), Access::PATIENT, Some("own")).unwrap()
    }

    /// As the daemon and `rr sync` note it: a device of that name, and when it was last synced with.
    pub(crate) fn meet(&self, device_id: &str, name: &str, secs_ago: u64) {
        let at = Timestamp::from_jiff(jiff::Timestamp::now()).unwrap();
        let at = Timestamp::from_secs(at.as_micros() / 1_000_000 - secs_ago as i64).unwrap();
        let mut store = self.open();
        let seen = PeerSeen {
            name: name.to_owned(),
            path: PeerPath::Lan,
            head: None,
            at,
        };
        store.note_peer_seen(device_id, &seen).unwrap();
        let exchange = Exchange {
            unreadable: 0,
            unsendable: 0,
            at,
        };
        store.note_exchange(device_id, &exchange).unwrap();
    }

    /// Puts a command into a spool file of a session that still runs.
    pub(crate) fn spool(&self, cmd: &str) {
        let dir = self.path().join(".rustory/spool");
        fs::create_dir_all(&dir).unwrap();
        let pid = std::process::id().to_string();
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let mut bytes = record(&["H1", "s9", "bash", "5.2", &pid, &host]);
        bytes.extend(record(&[
            "C1",
            "s9",
            "1900000000000000",
            "5",
            "0",
            "/",
            &format!("={cmd}"),
        ]));
        fs::write(dir.join("s9.spool"), bytes).unwrap();
    }

    /// `rr search ARGS` with what it prints in the file `out` and its exit status in `rc`.
    pub(crate) fn search(&self, args: &str) -> Program {
        let script = format!(
            "printf 'first line\\nsecond line\\n$ '; stty -g >before; \
             \"$RR\" search {args} >out 2>err; echo $? >rc.new; stty -g >after; \
             mv rc.new rc; read line; echo \"read: $line\" >read"
        );
        Program::new("/bin/sh")
            .args(["-c", &script])
            .env(
                "RR",
                rustory_testkit::rr_binary(option_env!("CARGO_BIN_EXE_rr")),
            )
            .home(self.path())
            .cwd(self.path())
    }

    pub(crate) fn builtin(&self, args: &str) -> Program {
        self.search(&format!("--finder builtin {args}"))
    }

    /// Waits for the finder's end. Returns its exit status and what it printed.
    pub(crate) fn end(&self, terminal: &Terminal) -> (String, Vec<u8>) {
        terminal.wait_for("the finder's end", |_| self.path().join("rc").exists());
        let before = fs::read(self.path().join("before")).unwrap();
        let after = fs::read(self.path().join("after")).unwrap();
        assert_eq!(before, after, "the terminal's modes are as before");
        let rc = fs::read_to_string(self.path().join("rc")).unwrap();
        (
            rc.trim().to_owned(),
            fs::read(self.path().join("out")).unwrap(),
        )
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.path().join("err")).unwrap()
    }
}

fn record(fields: &[&str]) -> Vec<u8> {
    let mut bytes = b"\0\x1e".to_vec();
    bytes.extend(fields.join("\0").bytes());
    bytes.extend(b"\0\x1f");
    bytes
}

pub(crate) fn entry(at: u64, typed: Typed) -> Entry {
    let ts = Timestamp::from_secs(1_700_000_000 + at as i64).unwrap();
    Entry {
        id: EntryId::from_time_and_hash(ts, u128::from(at) << 64),
        device_id: typed.device.unwrap_or_default().to_owned(),
        user_id: "me".to_owned(),
        ts,
        cmd: typed.cmd.into(),
        cwd: typed.cwd.into(),
        exit_code: typed.exit_code,
        duration_ms: Some(12),
        shell: "bash".to_owned(),
        hostname: typed.device.unwrap_or("own-host").to_owned(),
        version: "0".to_owned(),
        device_seq: Some(at),
        session: typed.session.to_owned(),
        extra: Extra::new(),
    }
}
