//! A stopped daemon, a locked database, a full disk.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::{Disk, root_for};
use crate::device::{DEADLINE, Device, eventually, met};
use crate::session::{self, Rc, SHELLS, Session};

fn problem(device: &Device) -> String {
    device.status()["daemon"]["problem"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Recording and searching never ask a daemon for anything.
#[test]
fn a_stopped_daemon_is_not_felt_at_the_prompt_nor_in_a_search() {
    for locked in [false, true] {
        let device = Device::new("alpha");
        let daemon = device.start();
        eventually("the daemon runs", || {
            device.status()["device"]["peer_id"] != serde_json::Value::Null
        });
        daemon.signal("STOP");
        // As if it had been stopped in the middle of a transaction.
        let lock = rusqlite::Connection::open(device.home.db()).unwrap();
        if locked {
            lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        }
        let rc = session::Home::new(Rc::default());
        for file in ["bashrc", ".zshrc"] {
            fs::copy(rc.path().join(file), device.home.path().join(file)).unwrap();
        }
        for shell in SHELLS {
            let mut session =
                Session::start_with(shell, &rc, |program| program.home(device.home.path()));
            for n in 0..5 {
                session.run(&format!(": {} {n}", shell.name()));
            }
            let started = Instant::now();
            let listed = device.home.ok(&["list"]);
            for n in 0..5 {
                assert!(
                    listed.contains(&format!(": {} {n}", shell.name())),
                    "{listed}"
                );
            }
            device.home.ok(&["search", "--help"]);
            let status = device.status();
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{:?}",
                started.elapsed()
            );
            assert_eq!(status["daemon"]["pid"], daemon.pid());
        }
        drop(lock);
        daemon.signal("CONT");
        eventually("it goes on", || device.status()["spool"]["pending"] == 0);
        let (status, _) = daemon.stop("TERM");
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn a_database_locked_for_seconds_on_either_side_is_told_and_heals_by_itself() {
    let (a, b, _of_a, _of_b) = met(&["sync_interval = 1"]);
    for (locked, other, number) in [(&a, &b, 1), (&b, &a, 2)] {
        let lock = rusqlite::Connection::open(locked.home.db()).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        let since = Instant::now();
        let (came, typed) = (format!("comes {number}"), format!("typed {number}"));
        other.shell(&format!("o{number}")).types(&came);
        locked.shell(&format!("l{number}")).types(&typed);
        eventually("the lock is told", || problem(locked).contains("locked"));
        let line = locked.home.ok(&["status"]);
        assert!(line.contains("locked"), "{line}");
        std::thread::sleep(Duration::from_secs(5).saturating_sub(since.elapsed()));
        drop(lock);
        let healed = eventually("it heals", || {
            locked.has(&came) && other.has(&typed) && problem(locked).is_empty()
        });
        println!("healed after {healed:?}");
        eventually("both know it", || {
            a.identical("beta") && b.identical("alpha")
        });
        eventually("no error is left", || {
            locked.peer(if number == 1 { "beta" } else { "alpha" })["error"].is_null()
                && other.peer(if number == 1 { "alpha" } else { "beta" })["error"].is_null()
        });
    }
}

#[test]
fn a_full_disk_on_either_side_is_told_and_heals_by_itself() {
    if !root_for("a full disk under a daemon") {
        return;
    }
    for full_is_asker in [true, false] {
        let (full, other) = (
            Device::with("full", &["sync_interval = 1"]),
            Device::with("other", &["sync_interval = 1"]),
        );
        let data = full.home.data();
        let kept = full.home.path().join("kept");
        fs::rename(&data, &kept).unwrap();
        let _disk = Disk::mount(&data, "4m");
        for file in fs::read_dir(&kept).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                fs::copy(file.path(), data.join(file.file_name())).unwrap();
            }
        }
        match full_is_asker {
            true => full.knows(&other),
            false => other.knows(&full),
        }
        let (of_full, _of_other) = (full.start(), other.start());
        eventually("they meet", || {
            full.identical("other") && other.identical("full")
        });
        // Until nothing fits any more.
        let filler = data.join("filler");
        let mut file = fs::File::create(&filler).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        let mut shell = other.shell("s");
        for n in 0..20 {
            shell.types(&format!("large {n} {}", "x".repeat(50_000)));
        }
        eventually("the full disk is told", || problem(&full).contains("full"));
        let line = full.home.ok(&["status"]);
        assert!(line.contains("full"), "{line}");
        // It stays told, and is not tried in a hurry.
        std::thread::sleep(Duration::from_secs(3));
        assert!(problem(&full).contains("full"));
        drop(file);
        fs::remove_file(filler).unwrap();
        let healed = eventually("it heals", || {
            full.home.cmds().len() == 20 && problem(&full).is_empty()
        });
        println!("healed after {healed:?}");
        eventually("both know it", || {
            full.identical("other") && other.identical("full")
        });
        drop(of_full);
    }
    let _ = DEADLINE;
}
