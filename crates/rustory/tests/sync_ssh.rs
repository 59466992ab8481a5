//! `rr sync ssh:HOST` and `rr serve --stdio`, with real processes and everything that can happen to
//! them: kills, full disks, locked databases, noise. In the place of ssh is a script that runs the
//! command of the far end with another home.

mod common;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Disk, Home, numbered, root_for, succeeded};
use serde_json::Value;

/// What stands in for ssh in a test: it drops its own options and runs the command.
fn ssh(far: &Home, before: &str) -> PathBuf {
    let bin = far.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rr"), bin.join("rustory"));
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\n\
         shift 2\nexport HOME='{home}' PATH='{bin}:/usr/bin:/bin'\n{before}\nexec sh -c \"exec $1\"\n",
        home = far.path().display(),
        bin = bin.display(),
    );
    let path = far.path().join("fake-ssh");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn sync_command(near: &Home, ssh: &Path, args: &[&str]) -> Command {
    let mut command = near.rr(["sync", "ssh:far"].iter().chain(args));
    command.env("RUSTORY_SSH", ssh);
    command
}

fn synced(near: &Home, ssh: &Path) -> Value {
    let output = sync_command(near, ssh, &["--json"]).output().unwrap();
    serde_json::from_str(&succeeded(output)).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_equal(near: &Home, far: &Home, count: usize) {
    let sorted = |home: &Home| {
        let mut cmds = home.cmds();
        cmds.sort();
        cmds
    };
    let (near, far) = (sorted(near), sorted(far));
    assert_eq!((near.len(), far.len()), (count, count));
    assert!(near == far);
}

#[test]
fn two_devices_become_identical_over_ssh_and_say_so() {
    let (near, far) = (Home::new(), Home::new());
    near.spool("n", numbered("near", 5));
    far.spool("f", numbered("far", 7));
    let ssh = ssh(&far, "");
    let first = synced(&near, &ssh);
    assert_eq!(
        (
            &first["pulled"],
            &first["pushed"],
            &first["identical"],
            &first["path"]
        ),
        (&7.into(), &5.into(), &true.into(), &"ssh".into()),
        "{first}"
    );
    assert_equal(&near, &far, 12);
    // By its name, and without any: whoever was met.
    let name = first["peer"]["name"].as_str().unwrap().to_owned();
    for args in [vec!["sync", &name], vec!["sync"]] {
        let output = near.rr(args).env("RUSTORY_SSH", &ssh).output().unwrap();
        assert!(stderr(&output).contains("identical"), "{}", stderr(&output));
        succeeded(output);
    }
}

#[test]
fn what_a_login_shell_prints_first_is_skipped() {
    let (near, far) = (Home::new(), Home::new());
    far.spool("f", numbered("far", 3));
    let ssh = ssh(
        &far,
        "echo 'Welcome to far!'; printf 'last login: \\033[1mtoday\\033[0m'",
    );
    assert_eq!(synced(&near, &ssh)["pulled"], 3);
}

#[test]
fn what_is_wrong_with_the_way_is_said_with_what_to_do() {
    for (before, says, does) in [
        (
            "exit 255",
            "ssh could not connect",
            "does `ssh HOST true` work?",
        ),
        (
            "rm -f \"$HOME/bin/rustory\"",
            "there is no rr at `ssh:far`",
            "install it there",
        ),
        (
            "echo 'This account is disabled.'; exit 1",
            "This account is disabled.",
            "",
        ),
    ] {
        let (near, far) = (Home::new(), Home::new());
        let ssh = ssh(&far, before);
        let output = sync_command(&near, &ssh, &[]).output().unwrap();
        let talk = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{talk}");
        assert!(talk.contains(says) && talk.contains(does), "{says}: {talk}");
    }
    let near = Home::new();
    let output = sync_command(&near, Path::new("/nowhere/ssh"), &[])
        .output()
        .unwrap();
    let talk = stderr(&output);
    assert!(
        talk.contains("can't be started") && talk.contains("OpenSSH"),
        "{talk}"
    );
}

#[test]
fn who_was_not_met_is_said_with_what_to_do() {
    let near = Home::new();
    for (args, says) in [
        (vec!["sync"], "no other device was met yet"),
        (vec!["sync", "desk"], "`rr sync ssh:desk`"),
        (vec!["sync", "ssh:-oProxyCommand=evil"], "no host for ssh"),
        (vec!["sync", "ftp://x"], "no address such as"),
    ] {
        let output = near.rr(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[test]
fn killed_on_either_side_at_any_point_of_a_pull_of_100_000_it_goes_on_and_ends_equal() {
    let (near, far) = (Home::new(), Home::new());
    far.spool("f", numbered("far", 100_000));
    far.cmds();
    let ssh = ssh(&far, "echo $$ > \"$HOME/pid\"");
    let mut kills = 0;
    let mut delay = Duration::from_millis(10);
    let pid_file = far.path().join("pid");
    loop {
        let _ = fs::remove_file(&pid_file);
        let mut child = sync_command(&near, &ssh, &[])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while started.elapsed() < delay || !pid_file.exists() {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if child.try_wait().unwrap().is_some() {
            succeeded(child.wait_with_output().unwrap());
            break;
        }
        match kills % 2 {
            0 => child.kill().unwrap(),
            _ => {
                let pid = fs::read_to_string(&pid_file).unwrap();
                // The script has become the far end by exec.
                let _ = Command::new("kill").args(["-9", pid.trim()]).status();
            }
        }
        child.wait().unwrap();
        kills += 1;
        delay += Duration::from_millis(20);
    }
    assert!(kills > 3, "it was over before it could be killed: {kills}");
    let last = synced(&near, &ssh);
    assert_eq!(last["identical"], true, "{last}");
    assert_equal(&near, &far, 100_000);
}

#[test]
fn interrupted_by_its_user_it_ends_at_once_keeps_what_came_and_goes_on_from_there() {
    let (near, far) = (Home::new(), Home::new());
    far.spool("f", numbered("far", 60_000));
    far.cmds();
    let ssh = ssh(&far, "");
    let child = sync_command(&near, &ssh, &[])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Once something is stored.
    let deadline = Instant::now() + Duration::from_secs(30);
    let stored = || {
        let db = rusqlite::Connection::open(near.db()).ok()?;
        let count = "SELECT count(*) FROM entries";
        db.query_row(count, [], |row| row.get::<_, i64>(0)).ok()
    };
    while !near.db().exists() || stored().unwrap_or(0) == 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
    let pid = child.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let before = near.cmds().len() as u64;
    assert!(before > 0 && before < 60_000, "{before}");
    let rest = synced(&near, &ssh);
    assert_eq!(rest["identical"], true, "{rest}");
    // At most what was under way comes twice.
    let received = rest["received"].as_u64().unwrap();
    assert!(received <= 60_000 - before + 48_000, "{rest}");
    assert_equal(&near, &far, 60_000);
}

#[test]
fn a_disk_that_fills_up_in_the_middle_is_told_and_the_next_sync_heals() {
    if !root_for("a full disk during a sync") {
        return;
    }
    let (near, far) = (Home::new(), Home::new());
    far.spool("f", numbered("far", 60_000));
    far.cmds();
    let ssh = ssh(&far, "");
    fs::create_dir_all(near.data()).unwrap();
    let data = near.data();
    let disk = Disk::mount(&data, "5m");
    let output = sync_command(&near, &ssh, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("is full"), "{}", stderr(&output));
    let before = near.cmds().len();
    assert!(before < 60_000);
    disk.grow("64m");
    let healed = synced(&near, &ssh);
    assert_eq!(healed["identical"], true, "{healed}");
    assert!(
        healed["received"].as_u64().unwrap() <= 60_000 - before as u64 + 40_000,
        "{healed}"
    );
    assert_equal(&near, &far, 60_000);
}

#[test]
fn two_syncs_at_once_with_a_drain_and_searches_leave_nothing_out() {
    let (near, far) = (Home::new(), Home::new());
    far.spool("f", numbered("far", 20_000));
    far.cmds();
    near.spool("n", numbered("near", 5_000));
    let ssh = ssh(&far, "");
    let start = |args: &[&str]| {
        let mut command = near.rr(args);
        command.env("RUSTORY_SSH", &ssh).stdout(Stdio::null());
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut running = vec![start(&["sync", "ssh:far"]), start(&["sync", "ssh:far"])];
    for n in 0..10 {
        near.spool(&format!("typed{n}"), [format!("typed {n}")]);
        running.push(start(&["list", "--limit", "5"]));
        std::thread::sleep(Duration::from_millis(30));
    }
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(!stderr(&output).contains("locked"), "{}", stderr(&output));
        succeeded(output);
    }
    let last = synced(&near, &ssh);
    assert_eq!(last["identical"], true, "{last}");
    assert_equal(&near, &far, 25_010);
    let quiet = synced(&near, &ssh);
    assert_eq!(
        (&quiet["received"], &quiet["sent"]),
        (&0.into(), &0.into()),
        "{quiet}"
    );
}

#[test]
fn a_database_locked_for_five_seconds_on_either_side_is_waited_for() {
    for locked_is_near in [true, false] {
        let (near, far) = (Home::new(), Home::new());
        far.spool("f", numbered("far", 500));
        near.spool("n", numbered("near", 500));
        far.cmds();
        near.cmds();
        let ssh = ssh(&far, "");
        let locked = if locked_is_near { &near } else { &far };
        let lock = rusqlite::Connection::open(locked.db()).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        let child = sync_command(&near, &ssh, &["--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_secs(5));
        lock.execute_batch("ROLLBACK").unwrap();
        let done: Value =
            serde_json::from_str(&succeeded(child.wait_with_output().unwrap())).unwrap();
        assert_eq!(done["identical"], true, "{done}");
        assert_equal(&near, &far, 1_000);
    }
}

#[test]
fn a_far_end_that_says_junk_or_nothing_ends_with_one_error() {
    let serve = |home: &Home, input: &[u8]| {
        let mut child = home
            .rr(["serve", "--stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    };
    let home = Home::new();
    for input in [
        b"".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
    ] {
        let output = serve(&home, &input);
        let talk = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{talk}");
        assert_eq!(talk.matches("error").count(), 1, "{talk}");
    }
}

#[test]
fn a_copy_of_a_database_becomes_a_device_of_its_own_and_nothing_is_lost() {
    let (near, far) = (Home::new(), Home::new());
    far.spool("f", numbered("before", 50));
    far.cmds();
    fs::create_dir_all(near.data()).unwrap();
    fs::copy(far.db(), near.db()).unwrap();
    // Both type on, as the same device.
    far.spool("f2", numbered("on-far", 5));
    near.spool("n2", numbered("on-near", 5));
    let ssh = ssh(&far, "");
    let output = sync_command(&near, &ssh, &[]).output().unwrap();
    let talk = stderr(&output);
    assert!(output.status.success(), "{talk}");
    assert!(talk.contains("has a copy of this database"), "{talk}");
    assert_equal(&near, &far, 60);
    let id = |home: &Home| -> Value {
        let status: Value = serde_json::from_str(&home.ok(&["status", "--json"])).unwrap();
        status["device"]["device_id"].clone()
    };
    assert_ne!(id(&near), id(&far));
    near.spool("n3", numbered("later", 3));
    assert_eq!(synced(&near, &ssh)["identical"], true);
    assert_equal(&near, &far, 63);
}

#[test]
fn a_row_that_the_disk_changed_is_named_and_mended_from_a_peer() {
    let (near, far) = (Home::new(), Home::new());
    far.spool("f", numbered("far", 200));
    let ssh = ssh(&far, "");
    synced(&near, &ssh);
    let db = rusqlite::Connection::open(near.db()).unwrap();
    let changed = db
        .execute(
            "UPDATE entries SET cmd = 'rotten' WHERE ingest_seq = 77",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    db.execute("DELETE FROM entries WHERE ingest_seq IN (5, 6)", [])
        .unwrap();
    drop(db);
    // The tallies that were kept are equal still; only the rows tell.
    assert_eq!(synced(&near, &ssh)["identical"], true);
    let found = near
        .rr(["verify", "ssh:far"])
        .env("RUSTORY_SSH", &ssh)
        .output()
        .unwrap();
    let talk = stderr(&found);
    assert!(found.status.success(), "{talk}");
    assert!(talk.contains("changed or lost"), "{talk}");
    assert_equal(&near, &far, 200);
    assert!(!near.cmds().contains(&"rotten".to_owned()));
    let quiet = near.rr(["verify"]).output().unwrap();
    assert!(quiet.status.success(), "{}", stderr(&quiet));
}
