//! From the spool into the log: exactly once, whatever happens in between.

mod common;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use common::{Home, all};
use rustory_core::Timestamp;
use rustory_core::rules::Rules;
use rustory_core::spool::{Header, record};
use rustory_store::spool_dir::{self, DAMAGED, Report, Sessions, Stamp};
use rustory_store::{Access, Store};

/// Sessions are over when their file says so: the test's own process table.
struct Over(bool);

impl Sessions for Over {
    fn is_over(&self, _: &Header, _: i64) -> bool {
        self.0
    }
}

/// One shell's spool file.
struct Shell {
    path: PathBuf,
}

impl Shell {
    fn new(home: &Home, session: &str) -> Shell {
        spool_dir::create(&home.spool()).unwrap();
        let shell = Shell {
            path: home.spool().join(format!("{session}.spool")),
        };
        shell.append(&record(&[
            b"H1",
            session.as_bytes(),
            b"zsh",
            b"5.9",
            b"1",
            b"box",
        ]));
        shell
    }

    fn append(&self, bytes: &[u8]) {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .unwrap();
        file.write_all(bytes).unwrap();
    }

    fn typed(&self, cmd: &str) {
        self.append(&typed(cmd));
    }
}

fn typed(cmd: &str) -> Vec<u8> {
    let cmd = format!("={cmd}");
    record(&[
        b"C1",
        b"s",
        b"1700000000000000",
        b"5",
        b"0",
        b"/tmp",
        cmd.as_bytes(),
    ])
}

fn drain_with(store: &mut Store, home: &Home, over: bool) -> Report {
    let stamp = Stamp {
        user_id: "me".into(),
        hostname: "fallback".into(),
        version: "1.2.3".into(),
        now: Timestamp::from_secs(1_800_000_000).unwrap(),
    };
    spool_dir::drain(store, &home.spool(), &Rules::default(), &stamp, &Over(over)).unwrap()
}

fn drain(home: &Home, over: bool) -> Report {
    drain_with(&mut home.store(), home, over)
}

fn cmds(home: &Home) -> Vec<String> {
    let mut cmds: Vec<_> = all(&home.store())
        .iter()
        .map(|e| e.cmd.to_string())
        .collect();
    cmds.sort();
    cmds
}

#[test]
fn what_was_typed_is_in_the_log_once_however_often_it_is_drained() {
    let home = Home::new();
    let shell = Shell::new(&home, "s1");
    shell.typed("one");
    assert_eq!(drain(&home, false).ingested, 1);
    assert_eq!(drain(&home, false).ingested, 0);
    shell.typed("two");
    shell.typed(" hidden");
    let report = drain(&home, false);
    assert_eq!((report.ingested, report.skipped), (1, 1));
    assert_eq!(cmds(&home), ["one", "two"]);

    let entries = all(&home.store());
    let entry = entries.iter().find(|entry| entry.cmd == "one").unwrap();
    assert_eq!(entry.shell, "zsh");
    assert_eq!(entry.hostname, "box");
    assert_eq!(
        (entry.version.as_str(), entry.user_id.as_str()),
        ("1.2.3", "me")
    );
    assert_eq!(entry.device_seq, Some(1));
}

#[test]
fn a_file_goes_only_when_its_session_is_over_and_all_of_it_is_ingested() {
    let home = Home::new();
    let shell = Shell::new(&home, "s1");
    shell.typed("one");
    drain(&home, false);
    assert!(shell.path.exists());
    shell.append(&record(&[b"S1", b"s", b"1700000000000000", b"/", b"=vim"]));
    assert_eq!(drain(&home, false).ingested, 0, "vim still runs");
    let scratch = shell.path.with_extension("spool~");
    fs::write(&scratch, "").unwrap();
    assert_eq!(drain(&home, true).ingested, 1, "the session died in vim");
    assert!(!shell.path.exists() && !scratch.exists());
    assert_eq!(cmds(&home), ["one", "vim"]);
    assert_eq!(drain(&home, true), Report::default());
}

#[test]
fn a_new_file_under_an_old_name_is_read_from_its_start() {
    let home = Home::new();
    let shell = Shell::new(&home, "s1");
    shell.typed("a longer command than the next");
    drain(&home, false);
    fs::remove_file(&shell.path).unwrap();
    let again = Shell::new(&home, "s1");
    again.typed("b");
    again.typed("c");
    again.typed("d, long enough to pass the place where the old file ended");
    assert_eq!(drain(&home, false).ingested, 3);
}

#[test]
fn torn_records_are_set_aside_and_those_behind_them_are_ingested() {
    let home = Home::new();
    let shell = Shell::new(&home, "s1");
    let torn = &typed("torn by a full disk")[..20];
    shell.append(torn);
    shell.typed("whole");
    let report = drain(&home, false);
    assert_eq!((report.ingested, report.damaged), (1, 1));
    assert_eq!(fs::read(home.spool().join(DAMAGED)).unwrap(), torn);
    assert_eq!(cmds(&home), ["whole"]);
}

#[test]
fn a_spool_larger_than_one_transaction_is_drained_whole() {
    let home = Home::new();
    let shell = Shell::new(&home, "s1");
    let big = "x".repeat(700_000);
    for n in 0..30 {
        shell.typed(&format!("{n} {big}"));
    }
    assert_eq!(drain(&home, false).ingested, 30);
    assert_eq!(store_count(&home), 30);
}

#[test]
fn garbage_larger_than_one_transaction_never_stops_what_lies_behind_it() {
    let home = Home::new();
    let shell = Shell::new(&home, "s1");
    shell.append(&vec![b'x'; 20 << 20]);
    shell.typed("behind");
    drain(&home, false);
    assert_eq!(cmds(&home), ["behind"]);
}

#[test]
fn drains_at_the_same_time_ingest_each_command_once() {
    let home = Home::new();
    drop(home.store());
    let shells: Vec<_> = (0..8)
        .map(|n| Shell::new(&home, &format!("s{n}")))
        .collect();
    std::thread::scope(|scope| {
        for (n, shell) in shells.iter().enumerate() {
            scope.spawn(move || {
                for i in 0..100 {
                    shell.typed(&format!("{n:02}-{i:03}"));
                }
            });
        }
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    drain(&home, false);
                }
            });
        }
    });
    drain(&home, true);
    let expected: Vec<_> = (0..8)
        .flat_map(|n| (0..100).map(move |i| format!("{n:02}-{i:03}")))
        .collect();
    assert_eq!(cmds(&home), expected);
}

#[test]
fn a_failing_commit_leaves_the_spool_for_the_next_drain() {
    let home = Home::new();
    let shell = Shell::new(&home, "s1");
    shell.typed("kept");
    let mut store = home.store();
    let other = rusqlite::Connection::open(home.db()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    drop(store);
    store = Store::open(&home.db(), Access::HASTY, None).unwrap();
    let stamp = Stamp {
        user_id: String::new(),
        hostname: String::new(),
        version: String::new(),
        now: Timestamp::default(),
    };
    let err = spool_dir::drain(
        &mut store,
        &home.spool(),
        &Rules::default(),
        &stamp,
        &Over(false),
    );
    assert!(err.unwrap_err().is_about_writing());
    let waiting = spool_dir::peek(&store, &home.spool(), &Rules::default(), &Over(false)).unwrap();
    assert_eq!(waiting.len(), 1);
    assert!(spool_dir::pending_bytes(&store, &home.spool()).unwrap() > 0);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(drain(&home, false).ingested, 1);
    assert_eq!(
        spool_dir::pending_bytes(&home.store(), &home.spool()).unwrap(),
        0
    );
}

#[test]
fn what_waits_is_seen_by_the_same_rules_as_what_is_ingested() {
    let home = Home::new();
    let shell = Shell::new(&home, "s1");
    shell.typed("seen");
    shell.typed(" hidden");
    let store = home.store();
    let waiting = spool_dir::peek(&store, &home.spool(), &Rules::default(), &Over(false)).unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].cmd, "seen");
    drain(&home, false);
    assert!(
        spool_dir::peek(&store, &home.spool(), &Rules::default(), &Over(false))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn other_files_and_a_missing_directory_are_no_error() {
    let home = Home::new();
    assert_eq!(drain(&home, true), Report::default());
    Shell::new(&home, "s1");
    fs::write(home.spool().join("notes.txt"), "mine").unwrap();
    fs::create_dir(home.spool().join("dir.spool")).unwrap();
    drain(&home, true);
    assert!(home.spool().join("notes.txt").exists());
}

fn store_count(home: &Home) -> u64 {
    home.store().count().unwrap()
}

/// A shell may stay open for weeks; what its file holds is not to lie there for as long.
#[test]
fn what_the_log_must_not_hold_does_not_stay_in_the_spool_either() {
    let home = Home::new();
    let mut store = home.store();
    let shell = Shell::new(&home, "s");
    for cmd in ["export A_TOKEN=hunter2", " hidden", "plain"] {
        shell.typed(cmd);
    }
    let report = drain_with(&mut store, &home, false);
    assert_eq!((report.ingested, report.skipped), (2, 1));
    let left = fs::read(&shell.path).unwrap().escape_ascii().to_string();
    for gone in ["hunter2", "hidden"] {
        assert!(!left.contains(gone), "{left}");
    }
    shell.typed("later");
    let report = drain_with(&mut store, &home, false);
    assert_eq!((report.ingested, report.damaged), (1, 0));
    let all_of_them = all(&store);
    let last = all_of_them.iter().find(|e| e.cmd == "later").unwrap();
    assert_eq!(
        (last.shell.as_str(), last.hostname.as_str()),
        ("zsh", "box"),
        "the header is still there"
    );
    let masked = |e: &rustory_core::Entry| e.cmd == "export A_TOKEN=[masked]";
    assert!(all_of_them.iter().any(masked), "{all_of_them:?}");
    drain_with(&mut store, &home, true);
    assert!(!shell.path.exists());
}
