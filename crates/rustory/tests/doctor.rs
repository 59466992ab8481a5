//! `rr doctor` in fresh homes with real shells: every finding is provoked, seen, and gone after the
//! command that it prints. The hub and the daemon are in `daemon/doctor.rs`.

#![allow(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::Home;
use rustory_testkit::Program;
use serde_json::Value;

/// A device with the hook in the rc files of bash and zsh, and one command in its history.
struct Device {
    home: Home,
    /// The login shell.
    shell: &'static str,
}

impl Device {
    fn new(shell: &'static str) -> Device {
        let home = Home::new();
        home.ok(&["setup", "--yes", "--no-import", "--shell", shell]);
        home.spool("before", ["echo before".to_owned()]);
        home.cmds();
        fs::create_dir(home.path().join("tmp")).unwrap();
        Device { home, shell }
    }

    fn in_home(&self, command: &mut Command) {
        command
            .env("SHELL", format!("/bin/{}", self.shell))
            .env("TMPDIR", self.home.path().join("tmp"))
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8");
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = self.home.rr(["doctor"]);
        self.in_home(command.args(args));
        command.output().unwrap()
    }

    /// What is said as JSON, and the exit code.
    fn asks(&self, args: &[&str]) -> (Report, i32) {
        let output = self.run(&[&["--json"], args].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        let said = serde_json::from_str(&text).unwrap_or_else(|err| {
            panic!("{err}: {text}{}", String::from_utf8_lossy(&output.stderr))
        });
        (Report(said), output.status.code().unwrap())
    }

    fn report(&self, args: &[&str]) -> Report {
        self.asks(args).0
    }

    fn rc(&self) -> PathBuf {
        let home = self.home.path();
        match self.shell {
            "fish" => home.join(".config/fish/config.fish"),
            shell => home.join(format!(".{shell}rc")),
        }
    }

    fn append(&self, lines: &str) {
        let before = fs::read_to_string(self.rc()).unwrap_or_default();
        fs::write(self.rc(), format!("{before}{lines}\n")).unwrap();
    }

    /// Runs a command as a user would who copies it.
    fn types(&self, command: &str) {
        // Without a terminal `rr setup` only shows what it would do.
        let command = command.replace(" setup", " setup --yes --no-import");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &command])
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .env("USER", "tester")
            .current_dir(self.home.path());
        self.in_home(&mut shell);
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {said}");
    }

    /// Sees a finding, does what it says, and sees it gone.
    #[track_caller]
    fn mends(&self, id: &str, says: &str, args: &[&str]) {
        let (report, code) = self.asks(args);
        let found = report
            .found(id)
            .unwrap_or_else(|| panic!("no {id}: {report:?}"));
        let what = format!("{} {}", found["what"], found["why"]);
        assert!(what.contains(says), "{what}");
        assert_eq!(code, i32::from(found["level"] == "problem"), "{report:?}");
        self.types(found["mend"].as_str().unwrap());
        let (report, code) = self.asks(args);
        assert!(report.found(id).is_none(), "{report:?}");
        assert_eq!(code, 0, "{report:?}");
    }

    /// Every file but those that SQLite needs even to read, with what tells that it was touched.
    fn files(&self) -> BTreeMap<PathBuf, (u64, i64, Vec<u8>)> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![self.home.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for path in fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()) {
                let meta = fs::symlink_metadata(&path).unwrap();
                let name = path.to_string_lossy();
                if name.ends_with("-shm") || name.ends_with("-wal") {
                    continue;
                }
                if meta.is_dir() {
                    dirs.push(path);
                } else if meta.is_file() {
                    let time = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
                    files.insert(path.clone(), (meta.ino(), time, fs::read(&path).unwrap()));
                }
            }
        }
        files
    }
}

#[derive(Debug)]
struct Report(Value);

impl Report {
    fn checks(&self) -> impl Iterator<Item = &Value> {
        self.0["checks"].as_array().unwrap().iter()
    }

    /// What is not well.
    fn found(&self, id: &str) -> Option<&Value> {
        self.checks()
            .find(|it| it["id"] == id && it["level"] != "ok")
    }

    fn what(&self, id: &str) -> String {
        let found = self.checks().find(|it| it["id"] == id);
        found.map_or(String::new(), |it| it["what"].as_str().unwrap().to_owned())
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Settings that have a shell write its history as soon as it can, hidden lines included.
const PRIVATE_BASH: &str =
    "HISTFILE=~/.history HISTCONTROL=ignoreboth:erasedups\nshopt -s histappend";
const EAGER_BASH: &str = "HISTFILE=~/.history HISTCONTROL= HISTIGNORE=\nshopt -s histappend\nPROMPT_COMMAND='history -a'";
const EAGER_ZSH: &str = "HISTFILE=~/.history SAVEHIST=1000 HISTSIZE=1000\nsetopt share_history";

#[test]
fn all_is_well_and_nothing_is_recorded_or_written() {
    for (shell, settings) in [
        ("bash", EAGER_BASH),
        ("bash", PRIVATE_BASH),
        ("zsh", EAGER_ZSH),
    ] {
        let device = Device::new(shell);
        device.append(settings);
        fs::write(device.home.path().join(".history"), "").unwrap();
        let (before, entries) = (device.files(), device.home.cmds());
        let (report, code) = device.asks(&[]);
        assert_eq!(code, 0, "{report:?}");
        assert!(
            report.0["ok"] == true && report.0["problems"] == 0,
            "{report:?}"
        );
        let after = device.files();
        let names = |files: &BTreeMap<PathBuf, _>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&before), names(&after));
        for (path, was) in &before {
            assert!(after[path] == *was, "{} was written", path.display());
        }
        assert_eq!(device.home.cmds(), entries);
        let asked = &report.0["shells"][0];
        assert_eq!(
            (&asked["shell"], &asked["loaded"]),
            (&shell.into(), &true.into())
        );
        // In each shell's own clock; what it is on this machine now is nobody's promise.
        assert!(asked["prompt_us"]["median"].is_i64(), "{report:?}");
        assert_eq!(asked["prompt_us"]["samples"], 101);
        assert!(report.what("shell.records").is_empty(), "{report:?}");
        assert!(report.what("shell.latency").contains("µs to each prompt"));
    }
}

#[test]
fn what_displaces_the_hook_of_bash_is_named_and_mended() {
    let device = Device::new("bash");
    let only = ["--shell", "bash"];
    device.append("unset PROMPT_COMMAND\nPROMPT_COMMAND='history -a'");
    let line = fs::read_to_string(device.rc()).unwrap().lines().count();
    device.mends(
        "shell.hook",
        &format!("overwritten (~/.bashrc:{line})"),
        &only,
    );
    device.append("__fzf_history__() { :; }\nbind -x '\"\\C-r\": __fzf_history__'");
    device.mends("shell.ctrl_r", "fzf", &only);
    device.append("bind '\"\\C-r\": reverse-search-history'");
    device.mends("shell.ctrl_r", "the shell's own", &only);
    device.append("HISTSIZE=0");
    device.mends("shell.history", "HISTSIZE is 0", &only);
    device.append("set +o history");
    device.mends("shell.history", "set +o history", &only);
    device.append("trap 'true mine' DEBUG");
    let report = device.report(&only);
    assert!(
        report.what("shell.debug_trap").contains("true mine"),
        "{report:?}"
    );
    device.append("alias rr='rm -r'");
    assert!(device.report(&only).what("shell.name").contains("alias"));
}

#[test]
fn a_line_that_a_zsh_keeps_all_the_same_is_told_and_taken_out() {
    let device = Device::new("zsh");
    device.append(EAGER_ZSH);
    device.append("unsetopt hist_ignore_space");
    let history = device.home.path().join(".history");
    fs::write(&history, "old command\n").unwrap();
    let report = device.report(&["--shell", "zsh"]);
    let found = report.found("shell.kept").unwrap();
    assert!(fs::read_to_string(&history).unwrap().contains("rr-doctor-"));
    device.types(found["mend"].as_str().unwrap());
    assert_eq!(fs::read_to_string(&history).unwrap(), "old command\n");
}

#[test]
fn what_displaces_the_hook_of_zsh_is_named_and_mended() {
    let device = Device::new("zsh");
    let only = ["--shell", "zsh"];
    device.append("preexec_functions=()");
    device.mends(
        "shell.hook",
        "preexec_functions was overwritten (~/.zshrc:",
        &only,
    );
    device.append("precmd_functions=(true)");
    device.mends("shell.hook", "exit codes", &only);
    device.append(
        "fzf-history-widget() { : }; zle -N fzf-history-widget; bindkey '^R' fzf-history-widget",
    );
    device.mends("shell.ctrl_r", "fzf", &only);
    device.append("bindkey -r '^R'");
    device.mends("shell.ctrl_r", "nothing", &only);
}

#[test]
fn a_fish_is_asked_too_and_what_displaces_its_hook_is_named_and_mended() {
    let device = Device::new("fish");
    let only = ["--shell", "fish"];
    let entries = device.home.cmds();
    let (report, code) = device.asks(&only);
    assert_eq!(code, 0, "{report:?}");
    assert!(report.what("shell.hook").contains("fish_preexec"));
    assert!(report.what("shell.ctrl_r").contains("opens the finder"));
    assert!(report.what("shell.records").is_empty(), "{report:?}");
    assert_eq!(report.0["shells"][0]["prompt_us"]["samples"], 15);
    assert_eq!(device.home.cmds(), entries);
    for (path, (_, _, text)) in device.files() {
        let told = String::from_utf8_lossy(&text).contains("rr-doctor-");
        assert!(!told, "a trace in {}", path.display());
    }
    device.append("functions -e __rr_preexec");
    device.mends("shell.hook", "nothing is kept", &only);
    device.append("functions -e __rr_postexec");
    device.mends("shell.hook", "exit codes", &only);
    device.append("bind \\cr history-search-backward");
    device.mends("shell.ctrl_r", "history-search-backward", &only);
    device.append("function rr; end");
    assert!(device.report(&only).what("shell.name").contains("function"));
    device.append("set -g fish_history ''");
    let report = device.report(&only);
    assert!(report.what("shell.history").contains("no history"));
    assert!(report.what("shell.records").is_empty(), "{report:?}");
}

#[test]
fn a_hook_that_is_not_loaded_is_told_with_what_loads_it() {
    for shell in ["bash", "zsh", "fish"] {
        let device = Device::new(shell);
        fs::write(device.rc(), "alias l=ls\n").unwrap();
        device.mends("shell.hook", "does not load it", &["--shell", shell]);
        let loads = fs::read_to_string(device.rc()).unwrap();
        fs::write(device.rc(), format!("return\n{loads}")).unwrap();
        let report = device.report(&["--shell", shell]);
        let found = report.found("shell.hook").unwrap();
        assert!(
            found["why"]
                .as_str()
                .unwrap()
                .contains("earlier line returns"),
            "{report:?}"
        );
    }
    // Which of several files a login shell reads is a thing that people find out by accident.
    let device = Device::new("bash");
    fs::write(device.home.path().join(".bash_profile"), "alias l=ls\n").unwrap();
    device.mends("shell.login", "login shells", &["--shell", "bash"]);
}

#[test]
fn ctrl_r_that_is_left_alone_on_purpose_is_well() {
    let device = Device::new("bash");
    let rc = fs::read_to_string(device.rc()).unwrap();
    fs::write(device.rc(), format!("RUSTORY_NO_BIND=1\n{rc}")).unwrap();
    let (report, code) = device.asks(&["--shell", "bash"]);
    assert_eq!(code, 0, "{report:?}");
    assert!(report.what("shell.ctrl_r").contains("RUSTORY_NO_BIND"));
}

#[test]
fn an_rc_file_that_records_elsewhere_is_named_and_leaves_nothing_there() {
    let device = Device::new("bash");
    let rc = fs::read_to_string(device.rc()).unwrap();
    fs::write(
        device.rc(),
        format!("export RUSTORY_DB_PATH=$HOME/other/history.db\n{rc}"),
    )
    .unwrap();
    let (report, code) = device.asks(&["--shell", "bash"]);
    let found = report.found("shell.spool").unwrap();
    assert!(
        found["what"].as_str().unwrap().contains("~/other/spool"),
        "{report:?}"
    );
    assert_eq!(code, 1);
    let left: Vec<_> = fs::read_dir(device.home.path().join("other/spool"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn doctor_ends_whatever_an_rc_file_does_and_says_what_that_is() {
    let cases = [
        ("bash", "sleep 98765", "shell.hangs", "`sleep`"),
        (
            "bash",
            "while :; do :; done",
            "shell.hangs",
            "no prompt after 1 s",
        ),
        ("bash", "while :; do echo yes; done", "shell.hangs", "yes"),
        (
            "bash",
            "read -p 'Delete all? [y/N] ' a; echo \"got:$a\" >~/answered",
            "shell.hangs",
            "Delete all? [y/N]",
        ),
        (
            "bash",
            "read -sn1 -p 'Any key ' a; echo \"got:$a\" >~/answered",
            "shell.hangs",
            "Any key",
        ),
        (
            "zsh",
            "read -sk '?Any key ' a; echo \"got:$a\" >~/answered",
            "shell.hangs",
            "Any key",
        ),
        (
            "zsh",
            "read -q '?Update? '; echo \"got:$REPLY\" >~/answered",
            "shell.hangs",
            "Update?",
        ),
        ("bash", "exit 3", "shell.ends", "before its first prompt"),
        ("zsh", "exec sleep 98765", "shell.replaced", "`sleep`"),
        ("bash", "exec zsh -f", "shell.replaced", "`zsh`"),
    ];
    for (shell, line, id, says) in cases {
        let device = Device::new(shell);
        device.append(line);
        let timeout = if id == "shell.replaced" { "20" } else { "1" };
        let report = device.report(&["--shell", shell, "--timeout", timeout]);
        let found = report
            .found(id)
            .unwrap_or_else(|| panic!("{line}: {report:?}"));
        let told = format!("{} {}", found["what"], found["why"]);
        assert!(told.contains(says), "{line}: {told}");
        assert!(
            !device.home.path().join("answered").exists(),
            "{line}: it was answered"
        );
        let home = device.home.path().to_string_lossy().into_owned();
        assert_eq!(left_of(&home), Vec::<String>::new(), "{line}");
    }
}

/// Command lines of processes that were started in this home.
fn left_of(home: &str) -> Vec<String> {
    let pids = fs::read_dir("/proc").unwrap().flatten().map(|it| it.path());
    let has_home = |path: &PathBuf| {
        let env = fs::read(path.join("environ")).unwrap_or_default();
        let ours = format!("HOME={home}");
        env.split(|&byte| byte == 0)
            .any(|var| var == ours.as_bytes())
    };
    let running = |path: &PathBuf| {
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        !stat.contains(") Z ") && !stat.is_empty()
    };
    let left = pids.filter(has_home).filter(running);
    left.map(|path| fs::read_to_string(path.join("cmdline")).unwrap_or_default())
        .collect()
}

#[test]
fn multiplexers_that_rc_files_start_get_no_session_of_the_users() {
    let device = Device::new("bash");
    device.append("[ -z \"$TMUX\" ] && exec tmux");
    let (report, code) = device.asks(&["--shell", "bash"]);
    assert_eq!(
        code, 0,
        "one that looks where it is does not start: {report:?}"
    );
    device.append("unset TMUX; exec tmux");
    let report = device.report(&["--shell", "bash", "--timeout", "20"]);
    assert!(report.found("shell.replaced").is_some(), "{report:?}");
    let home = device.home.path().to_string_lossy().into_owned();
    let gone = std::time::Instant::now();
    while !left_of(&home).is_empty() {
        // A server that was told to end takes a moment.
        assert!(gone.elapsed().as_secs() < 30, "{:?}", left_of(&home));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn what_others_could_read_is_told_and_closed() {
    let device = Device::new("bash");
    device.home.ok(&["key", "swarm"]);
    device.home.ok(&["key", "identity"]);
    let data = device.home.data();
    for (path, id, mode, says) in [
        (data.clone(), "database.private", 0o755, "mode 0755"),
        (device.home.db(), "database.private", 0o644, "mode 0644"),
        (data.join("spool"), "spool.private", 0o777, "mode 0777"),
        (
            data.join("swarm.key"),
            "keys.swarm",
            0o644,
            "all of your history",
        ),
        (
            data.join("identity.key"),
            "keys.identity",
            0o604,
            "taken for this device",
        ),
    ] {
        set_mode(&path, mode);
        device.mends(id, says, &["--no-shell"]);
    }
}

#[test]
fn keys_that_cannot_be_used_are_told() {
    let device = Device::new("bash");
    assert!(
        device
            .report(&["--no-shell"])
            .what("keys.swarm")
            .contains("no swarm key")
    );
    device.home.ok(&["key", "swarm"]);
    let path = device.home.data().join("swarm.key");
    assert!(device.report(&["--no-shell"]).found("keys.swarm").is_none());
    fs::write(&path, "/key/swarm/psk/1.0.0/\n/base16/\nabc\n").unwrap();
    let (report, code) = device.asks(&["--no-shell"]);
    assert!(
        report.found("keys.swarm").is_some() && code == 1,
        "{report:?}"
    );
}

#[test]
fn a_spool_that_is_missing_or_damaged_is_told() {
    let device = Device::new("bash");
    let spool = device.home.data().join("spool");
    fs::remove_dir_all(&spool).unwrap();
    device.mends("spool.missing", "not there", &["--no-shell"]);
    fs::write(spool.join("damaged"), "torn").unwrap();
    set_mode(&spool.join("damaged"), 0o600);
    let report = device.report(&["--no-shell"]);
    assert!(
        report
            .what("spool.set_aside")
            .contains("4 unreadable bytes"),
        "{report:?}"
    );
    fs::remove_file(spool.join("damaged")).unwrap();
    device.home.spool("old", ["waits".to_owned()]);
    let file = spool.join("old.spool");
    set_mode(&file, 0o600);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(20 * 86_400);
    fs::File::options()
        .append(true)
        .open(&file)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    device.mends("spool.stale", "20 days ago", &["--no-shell"]);
    assert!(device.home.cmds().contains(&"waits".to_owned()));
    let mut torn = common::header("torn", 4_194_305);
    torn.extend(b"\0\x1eC1\0torn");
    torn.extend(common::command("torn", "whole"));
    fs::write(spool.join("torn.spool"), torn).unwrap();
    set_mode(&spool.join("torn.spool"), 0o600);
    let report = device.report(&["--no-shell"]);
    assert!(
        report.what("spool.damaged").contains("1 records"),
        "{report:?}"
    );
}

#[test]
fn a_damaged_database_is_told_and_the_command_starts_anew() {
    let device = Device::new("bash");
    device.home.spool("more", common::numbered("echo ", 2_000));
    device.home.cmds();
    let db = device.home.db();
    rusqlite::Connection::open(&db)
        .unwrap()
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    let mut bytes = fs::read(&db).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&db, bytes).unwrap();
    device.mends("database.sound", "damaged", &["--no-shell"]);
}

#[test]
fn a_changed_entry_is_seen_when_every_entry_is_read() {
    let device = Device::new("bash");
    let sql = "UPDATE entries SET cmd = 'echo changed' WHERE cmd = 'echo before'";
    let changed = rusqlite::Connection::open(device.home.db())
        .unwrap()
        .execute(sql, []);
    assert_eq!(changed.unwrap(), 1);
    assert!(
        device
            .report(&["--no-shell"])
            .found("database.sound")
            .is_none()
    );
    let (report, code) = device.asks(&["--no-shell", "--full"]);
    assert!(
        report.found("database.sound").is_some() && code == 1,
        "{report:?}"
    );
}

#[test]
fn a_database_that_is_missing_or_newer_is_told() {
    let device = Device::new("bash");
    let db = rusqlite::Connection::open(device.home.db()).unwrap();
    db.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(db);
    let report = device.report(&["--no-shell"]);
    let found = report.found("database.open").unwrap();
    assert!(
        found["why"]
            .as_str()
            .unwrap()
            .contains("install the newer one"),
        "{report:?}"
    );
    fs::remove_dir_all(device.home.data()).unwrap();
    let report = device.report(&["--no-shell"]);
    assert!(report.found("database.missing").is_some(), "{report:?}");
}

#[test]
fn a_full_disk_is_told() {
    if !common::root_for("a disk of its own") {
        return;
    }
    let home = Home::new();
    let data = home.data();
    let _disk = common::Disk::mount(&data, "5m");
    home.ok(&["list"]);
    let device = Device {
        home,
        shell: "bash",
    };
    fs::create_dir(device.home.path().join("tmp")).unwrap();
    let report = device.report(&["--no-shell"]);
    assert!(report.found("database.space").is_some(), "{report:?}");
}

#[test]
fn another_program_of_the_name_is_told_and_a_second_name_is_made() {
    let device = Device::new("bash");
    let bin = device.home.path().join("bin");
    let debugger = device.home.path().join("debugger");
    for dir in [&bin, &debugger] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(debugger.join("rr"), "#!/bin/sh\necho recording\n").unwrap();
    set_mode(&debugger.join("rr"), 0o755);
    let path = format!("{}:{}:/usr/bin:/bin", debugger.display(), bin.display());
    let report = || {
        let mut command = device.home.rr(["doctor", "--json", "--no-shell"]);
        device.in_home(&mut command);
        let output = command.env("PATH", &path).output().unwrap();
        (
            Report(serde_json::from_slice(&output.stdout).unwrap()),
            output.status.code(),
        )
    };
    let (seen, code) = report();
    let found = seen.found("program.name").unwrap();
    assert!(
        found["what"].as_str().unwrap().contains("~/debugger/rr"),
        "{seen:?}"
    );
    assert_eq!(code, Some(1));
    // The link goes into the first directory of the user's in PATH.
    device.types(found["mend"].as_str().unwrap());
    let (seen, code) = report();
    assert_eq!(
        seen.found("program.name").unwrap()["level"],
        "note",
        "{seen:?}"
    );
    assert_eq!(code, Some(0));
}

#[test]
fn settings_that_cannot_be_read_are_told_with_their_line() {
    let device = Device::new("bash");
    let config = device.home.path().join(".config/rustory/config.toml");
    fs::write(&config, "user_id = \"me\"\nfindr = \"fzf\"\n").unwrap();
    let report = device.report(&["--no-shell"]);
    let found = report.found("program.config").unwrap();
    assert!(
        found["what"].as_str().unwrap().contains("config.toml:2: "),
        "{report:?}"
    );
    assert!(
        found["mend"].as_str().unwrap().contains("+2 "),
        "{report:?}"
    );
    assert!(
        report.0["settings"]["user_id"]
            .as_str()
            .unwrap()
            .contains("config.toml:1")
    );
}

#[test]
fn clocks_and_versions_of_other_devices_are_compared() {
    let device = Device::new("bash");
    let entry = r#"{"entry_id":"0190c0de-0000-7000-8000-000000000001","device_id":"d2","user_id":"u",
        "ts":"2199-01-01T00:00:00Z","cmd":"later","cwd":"/","exit_code":0,"duration_ms":1,"shell":"bash",
        "hostname":"desk","version":"99.0.0","device_seq":1,"session":"s"}"#;
    let file = device.home.path().join("one.jsonl");
    fs::write(&file, entry.replace('\n', " ")).unwrap();
    device
        .home
        .ok(&["import", "jsonl", "--path", file.to_str().unwrap()]);
    let db = rusqlite::Connection::open(device.home.db()).unwrap();
    let sql =
        "INSERT INTO peer_state (peer, device_id, name, unreadable) VALUES ('d2', 'd2', '책상', 3)";
    db.execute(sql, []).unwrap();
    let report = device.report(&["--no-shell"]);
    assert!(report.what("devices.clock").contains("책상"), "{report:?}");
    assert!(
        report
            .what("devices.version")
            .contains("책상 has rr 99.0.0"),
        "{report:?}"
    );
    assert!(
        report
            .what("devices.unreadable")
            .contains("3 entries of 책상"),
        "{report:?}"
    );
}

#[test]
fn it_fits_eighty_columns_and_colours_are_for_terminals_that_want_them() {
    let device = Device::new("zsh");
    fs::write(device.rc(), "bindkey '^R' undefined-key\n").unwrap();
    set_mode(&device.home.db(), 0o644);
    let plain = device.run(&[]);
    let text = String::from_utf8(plain.stdout).unwrap();
    println!("{text}");
    assert!(!text.contains('\x1b'));
    for line in text
        .lines()
        .filter(|line| !line.trim_start().starts_with("$ "))
    {
        assert!(unicode_width::UnicodeWidthStr::width(line) <= 80, "{line}");
    }
    let quiet = String::from_utf8(device.run(&["--no-shell", "-q"]).stdout).unwrap();
    assert!(quiet.contains('✗') && !quiet.contains('✓'), "{quiet}");
    for (value, coloured) in [("", true), ("1", false)] {
        let mut terminal = Program::new(env!("CARGO_BIN_EXE_rr"))
            .args(["doctor", "--no-shell"])
            .home(device.home.path())
            .env("NO_COLOR", value)
            .start();
        terminal.exit_status();
        let output = terminal.output();
        assert_eq!(
            output.windows(5).any(|it| it == b"\x1b[32m"),
            coloured,
            "{}",
            terminal.dump()
        );
    }
}
