//! The log under fire, with the real binary: kill -9, full disks, directories that can't be
//! written, damaged files, many at once. Nothing is lost, and what is wrong is said.

mod common;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Disk, Home, numbered, root_for, spool_into, succeeded};

#[test]
fn killed_at_any_point_of_a_drain_nothing_is_lost_and_nothing_is_twice() {
    let home = Home::new();
    let sessions = ["a", "b", "c"];
    for session in sessions {
        home.spool(session, numbered(session, 3_000));
    }
    // Kills spread over the whole drain, from before the database is there to after the files
    // are removed: each later than the last, until one drain gets through.
    let mut delay = Duration::ZERO;
    let mut kills = 0;
    loop {
        let mut child = home
            .rr(["list", "--limit", "1"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while started.elapsed() < delay && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        delay += Duration::from_millis(2);
    }
    assert!(kills > 3, "the drain was over before it could be killed");
    let mut cmds = home.cmds();
    cmds.sort();
    let expected: Vec<_> = sessions.iter().flat_map(|s| numbered(s, 3_000)).collect();
    assert_eq!(cmds.len(), expected.len());
    assert!(cmds == expected);
    let left = fs::read_dir(home.data().join("spool")).unwrap().count();
    assert_eq!(left, 0, "drained files of dead sessions are removed");
}

#[test]
fn fifty_shells_and_many_readers_at_once_see_every_command_once() {
    let home = Home::new();
    for n in 0..50 {
        home.spool(&format!("s{n:02}"), numbered(&format!("{n:02}-"), 20));
    }
    // 32 start together on a database that does not exist yet.
    let children: Vec<_> = (0..32)
        .map(|_| {
            home.rr(["list", "--limit", "1"])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        succeeded(child.wait_with_output().unwrap());
    }
    let mut cmds = home.cmds();
    cmds.sort();
    let expected: Vec<_> = (0..50)
        .flat_map(|n| numbered(&format!("{n:02}-"), 20))
        .collect();
    assert!(cmds == expected, "{} of {}", cmds.len(), expected.len());
}

#[test]
fn a_locked_database_delays_no_search_and_hides_no_command() {
    let home = Home::new();
    home.spool("a", ["in the log".into()]);
    home.cmds();
    let other = rusqlite::Connection::open(home.db()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    home.spool("b", ["still in the spool".into(), " hidden".into()]);
    assert_eq!(home.cmds(), ["in the log", "still in the spool"]);
    assert_eq!(home.ok(&["list", "--json", "nothing like it"]), "");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(home.cmds(), ["in the log", "still in the spool"]);
}

#[test]
fn a_full_disk_is_named_keeps_the_spool_and_heals_when_there_is_space() {
    if !root_for("a full disk") {
        return;
    }
    let home = Home::new();
    let data = home.data();
    let _disk = Disk::mount(&data, "3m");
    home.spool("before", ["typed before".into()]);
    assert_eq!(home.cmds(), ["typed before"]);

    spool_into(
        &data.join("spool"),
        "during",
        numbered("typed during, at some length ", 5_000),
    );
    let filler = data.join("filler");
    fill(&filler);
    let listed = home.rr(["list", "--limit", "2"]).output().unwrap();
    let talk = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(listed.status.success(), "{talk}");
    let shown = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(shown.contains("during, at some length 004999"), "{shown}");
    assert!(talk.contains("wait in the spool"), "{talk}");
    let recorded = home.feed(&["record"], b"by hand");
    assert_eq!(recorded.status.code(), Some(1));
    let talk = String::from_utf8_lossy(&recorded.stderr).into_owned();
    assert!(talk.contains("full") && talk.contains("hint"), "{talk}");

    fs::remove_file(filler).unwrap();
    assert_eq!(home.cmds().len(), 5_001);
    assert_eq!(fs::read_dir(data.join("spool")).unwrap().count(), 0);
}

fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = fs::File::create(path).unwrap();
    for size in [65_536, 4_096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
fn a_directory_that_cannot_be_written_can_still_be_searched() {
    if !root_for("becoming another user") {
        return;
    }
    let home = Home::new();
    home.spool("a", ["findable".into()]);
    home.cmds();
    // The log of one user, read by another: neither -wal nor -shm can be made.
    for (path, mode) in [
        (home.path().to_owned(), 0o755),
        (home.data(), 0o755),
        (home.db(), 0o644),
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let listed = home
        .rr(["list", "--json"])
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    assert!(succeeded(listed).contains("findable"));
    let recorded = home
        .rr(["record"])
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let talk = String::from_utf8_lossy(&recorded.stderr).into_owned();
    assert!(
        talk.contains("can't be written") && talk.contains("permissions"),
        "{talk}"
    );
}

#[test]
fn a_spool_file_of_another_user_keeps_nobody_from_searching() {
    if !root_for("becoming another user") {
        return;
    }
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let home = Home::new();
    home.spool("mine", ["mine".into()]);
    home.spool("roots", ["of root".into()]);
    let spool = home.data().join("spool");
    for path in [home.path(), &home.data(), &spool, &spool.join("mine.spool")] {
        chown(path, Some(65_534), Some(65_534)).unwrap();
    }
    let roots = fs::Permissions::from_mode(0o600);
    fs::set_permissions(spool.join("roots.spool"), roots).unwrap();
    let listed = home
        .rr(["list", "--json"])
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let shown = succeeded(listed);
    assert!(
        shown.contains("mine") && !shown.contains("of root"),
        "{shown}"
    );
    assert!(spool.join("roots.spool").exists());
}

#[test]
fn a_damaged_or_newer_database_is_named_with_what_to_do_and_the_spool_is_kept() {
    let check = |break_it: &dyn Fn(&Path), says: &[&str]| {
        let home = Home::new();
        home.spool("a", numbered("old", 500));
        home.cmds();
        break_it(&home.db());
        home.spool("b", ["typed meanwhile".into()]);
        let before = fs::read(home.db()).unwrap();
        let listed = home.rr(["list"]).output().unwrap();
        assert_eq!(listed.status.code(), Some(1));
        let talk = String::from_utf8_lossy(&listed.stderr).into_owned();
        for word in says {
            assert!(talk.contains(word), "{word}: {talk}");
        }
        assert_eq!(fs::read(home.db()).unwrap(), before, "left as it was");
        for name in ["history.db", "history.db-wal", "history.db-shm"] {
            let _ = fs::remove_file(home.data().join(name));
        }
        assert_eq!(home.cmds(), ["typed meanwhile"]);
    };
    check(
        &|db| fs::write(db, "not a database\n".repeat(1_000)).unwrap(),
        &["damaged", "hint"],
    );
    let cut = |db: &Path| {
        let bytes = fs::read(db).unwrap();
        fs::write(db, &bytes[..bytes.len() / 2]).unwrap();
    };
    check(&cut, &["damaged", ".recover"]);
    let newer = |db: &Path| {
        let conn = rusqlite::Connection::open(db).unwrap();
        conn.pragma_update(None, "user_version", 77).unwrap();
    };
    check(&newer, &["schema 77", "newer"]);
}
