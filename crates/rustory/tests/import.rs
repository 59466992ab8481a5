//! Taking over existing history: what real shells wrote comes back as it was typed, and again
//! brings nothing twice.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Home, succeeded};
use serde_json::Value;

/// What the shells are given: everything that one of them writes in a way of its own.
const TYPED: [&str; 9] = [
    "echo 한글 ムード 🎉",
    "for i in 1 2; do\n  echo $i\n\n  echo \\$i\ndone",
    "echo trailing\\",
    "echo 'a\\\nb'",
    "cat <<EOF\n: not a header\n#123\nEOF",
    "printf '%s' \"$(tr a b <<< a)\" | grep -v '^x' ; : done",
    "tab\there  two blanks",
    ": colon first",
    "x=\u{e3}\u{83}\u{a2}",
];

struct Log<'a>(&'a Home);

impl Log<'_> {
    fn entries(&self) -> Vec<Value> {
        self.0
            .ok(&["export"])
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn cmds(&self) -> Vec<String> {
        self.entries()
            .iter()
            .map(|entry| entry["cmd"].as_str().unwrap().to_owned())
            .collect()
    }

    fn counts(&self) -> BTreeMap<String, usize> {
        counts(self.cmds())
    }
}

fn counts(cmds: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for cmd in cmds {
        *counts.entry(cmd).or_insert(0) += 1;
    }
    counts
}

fn import(home: &Home, format: &str, path: &Path) -> Value {
    let out = home.ok(&["import", format, "--json", "--path", path.to_str().unwrap()]);
    serde_json::from_str(&out).unwrap()
}

/// New and known.
fn new_known(report: &Value) -> (u64, u64) {
    (
        report["new"].as_u64().unwrap(),
        report["known"].as_u64().unwrap(),
    )
}

/// Runs a script in a shell without any start files; fails the test when the shell fails.
fn shell(home: &Home, shell: &[&str], script: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .args(["-c", script, shell[0]])
        .args(args)
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir(home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn real_zsh_reads_the_same(options: &str) {
    let home = Home::new();
    let file = home.path().join("zsh-written");
    let path = file.to_str().unwrap();
    let mut args = vec![path];
    args.extend(TYPED);
    // The newest event is the one that `$history` leaves out.
    args.push("last");
    let write = format!(
        "{options}; HISTSIZE=1000 SAVEHIST=1000; file=$1; shift
         for cmd in \"$@\"; do print -rs -- \"$cmd\"; done; fc -W $file"
    );
    shell(&home, &["zsh", "-f", "-i"], &write, &args);
    let read = "zmodload zsh/parameter; HISTSIZE=1000; fc -R $1
                for at in ${(onk)history}; do print -rn -- \"$history[$at]\"; printf '\\0'; done";
    let of_zsh = String::from_utf8(shell(&home, &["zsh", "-f", "-i"], read, &[path])).unwrap();
    let of_zsh: Vec<&str> = of_zsh.split_terminator('\0').collect();
    assert_eq!(of_zsh, TYPED, "zsh itself");
    let all = TYPED.len() as u64 + 1;
    assert_eq!(new_known(&import(&home, "zsh", &file)), (all, 0));
    assert_eq!(Log(&home).cmds(), args[1..]);
    assert_eq!(new_known(&import(&home, "zsh", &file)), (0, all));
}

#[test]
fn an_extended_file_of_real_zsh_comes_back_as_zsh_itself_reads_it() {
    real_zsh_reads_the_same("setopt extended_history");
}

#[test]
fn a_plain_file_of_real_zsh_comes_back_as_zsh_itself_reads_it() {
    real_zsh_reads_the_same("unsetopt extended_history");
}

#[test]
fn a_file_of_real_bash_with_timestamps_keeps_multi_line_commands() {
    let home = Home::new();
    let file = home.path().join("bash-written");
    let mut args = vec![file.to_str().unwrap()];
    args.extend(TYPED);
    let script = "set -o history; HISTTIMEFORMAT=%s; file=$1; shift; history -c
                  for cmd in \"$@\"; do history -s -- \"$cmd\"; done; history -w \"$file\"";
    shell(&home, &["bash", "--norc"], script, &args);
    import(&home, "bash", &file);
    assert_eq!(Log(&home).cmds(), TYPED);
    assert!(
        Log(&home)
            .entries()
            .iter()
            .all(|entry| !entry["ts"].as_str().unwrap().starts_with("1970"))
    );
}

#[test]
fn a_file_of_fish_comes_back_as_fish_itself_reads_it() {
    let home = Home::new();
    let file = home.path().join(".local/share/fish/fish_history");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(
        &file,
        "- cmd: echo 한글\\nsecond\n  when: 1700000000\n  paths:\n    - x\n- cmd: echo a\\\\b\n  when: 1700000005\n",
    )
    .unwrap();
    let read = "history search --null --reverse";
    let of_fish = String::from_utf8(shell(&home, &["fish"], read, &[])).unwrap();
    import(&home, "fish", &file);
    let of_fish: Vec<&str> = of_fish.split_terminator('\0').collect();
    assert_eq!(of_fish, ["echo 한글\nsecond", "echo a\\b"]);
    assert_eq!(Log(&home).cmds(), of_fish);
    assert_eq!(Log(&home).entries()[0]["shell"], "fish");
    assert_eq!(new_known(&import(&home, "fish", &file)), (0, 2));
}

#[test]
fn fields_of_an_imported_entry_say_only_what_the_file_knew() {
    let home = Home::new();
    let file = home.path().join(".zsh_history");
    fs::write(&file, ": 1700000000:3;make\n: 1700000004:0;ls\n").unwrap();
    let out = home.ok(&["import", "zsh"]);
    assert_eq!(out, "zsh: 2 new, 0 known from ~/.zsh_history\n");
    let entry = &Log(&home).entries()[0];
    assert_eq!(entry["ts"], "2023-11-14T22:13:20.000000Z");
    assert_eq!(entry["duration_ms"], 3_000);
    assert_eq!(entry["exit_code"], Value::Null);
    assert_eq!(entry["cwd"], "");
    assert_eq!(entry["session"], "import:zsh");
    assert_eq!(entry["device_seq"], 1);
    assert_eq!(entry["user_id"], "tester");
    assert_eq!(Log(&home).entries()[1]["duration_ms"], Value::Null);
}

#[test]
fn two_devices_do_not_share_ids() {
    let (one, two) = (Home::new(), Home::new());
    let file = one.path().join("h");
    fs::write(&file, "#1700000000\nls\n").unwrap();
    import(&one, "bash", &file);
    import(&two, "bash", &file);
    assert_ne!(
        Log(&one).entries()[0]["entry_id"],
        Log(&two).entries()[0]["entry_id"]
    );
}

/// A small generator, so that a failure is its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % end
    }
}

/// A history file that a shell appends to and trims, and all that was ever in it.
struct Typist {
    random: Random,
    format: &'static str,
    timed: bool,
    clock: u64,
    all: Vec<String>,
    file: Vec<String>,
}

impl Typist {
    fn new(seed: u64, format: &'static str, timed: bool) -> Typist {
        Typist {
            random: Random(seed),
            format,
            timed,
            clock: 1_700_000_000,
            all: Vec::new(),
            file: Vec::new(),
        }
    }

    fn types(&mut self, count: usize) {
        for _ in 0..count {
            // Few enough commands that most occur often, and seconds with several of them.
            let cmd = format!("cmd {}", self.random.below(30));
            self.clock += self.random.below(3) as u64 / 2;
            self.file.push(match (self.format, self.timed) {
                (_, false) => format!("{cmd}\n"),
                ("zsh", true) => format!(": {}:0;{cmd}\n", self.clock),
                _ => format!("#{}\n{cmd}\n", self.clock),
            });
            self.all.push(cmd);
        }
    }

    fn imports(&self, home: &Home) -> u64 {
        let file = home.path().join("history");
        fs::write(&file, self.file.concat()).unwrap();
        import(home, self.format, &file)["new"].as_u64().unwrap()
    }
}

fn grown_and_trimmed_files_bring_every_line_once(format: &'static str, timed: bool) {
    for seed in 1..=6 {
        let home = Home::new();
        let mut typist = Typist::new(seed, format, timed);
        for step in 0..6 {
            let grown = typist.random.below(120);
            let trimmed = typist.random.below(100);
            typist.types(grown);
            if step % 2 == 1 {
                // What goes was imported before: that is the least a shell's HISTSIZE leaves.
                let imported = typist.file.len() - grown;
                typist
                    .file
                    .drain(..trimmed.min(imported.saturating_sub(64)));
            }
            let new = typist.imports(&home);
            assert_eq!(new, grown as u64, "seed {seed}, step {step}");
            assert_eq!(typist.imports(&home), 0, "seed {seed}, step {step}");
        }
        assert_eq!(Log(&home).counts(), counts(typist.all), "seed {seed}");
    }
}

#[test]
fn bash_with_timestamps_grown_and_trimmed_brings_every_line_once() {
    grown_and_trimmed_files_bring_every_line_once("bash", true);
}

#[test]
fn bash_without_timestamps_grown_and_trimmed_brings_every_line_once() {
    grown_and_trimmed_files_bring_every_line_once("bash", false);
}

#[test]
fn zsh_extended_grown_and_trimmed_brings_every_line_once() {
    grown_and_trimmed_files_bring_every_line_once("zsh", true);
}

#[test]
fn zsh_plain_grown_and_trimmed_brings_every_line_once() {
    grown_and_trimmed_files_bring_every_line_once("zsh", false);
}

#[test]
fn a_rewritten_file_without_times_brings_only_what_it_has_more_of() {
    let home = Home::new();
    let file = home.path().join("h");
    let lines = |range: std::ops::Range<u32>| -> Vec<String> {
        range.map(|n| format!("cmd {n}\n")).collect()
    };
    fs::write(&file, lines(0..200).concat()).unwrap();
    assert_eq!(new_known(&import(&home, "bash", &file)), (200, 0));
    // `erasedups` takes lines out of the middle; two lines are added.
    let mut rewritten: Vec<String> = lines(0..200);
    rewritten.retain(|line| !line.ends_with("7\n"));
    rewritten.extend(["cmd 187\n".to_owned(), "new\n".to_owned()]);
    fs::write(&file, rewritten.concat()).unwrap();
    assert_eq!(import(&home, "bash", &file)["new"], 1);
    assert_eq!(import(&home, "bash", &file)["new"], 0);
    assert_eq!(Log(&home).counts()["new"], 1);
    // From here on it grows again.
    rewritten.push("cmd 5\n".to_owned());
    fs::write(&file, rewritten.concat()).unwrap();
    assert_eq!(import(&home, "bash", &file)["new"], 1);
    assert_eq!(Log(&home).counts()["cmd 5"], 2);
}

#[test]
fn a_file_without_times_that_moved_is_the_same_file() {
    let home = Home::new();
    let lines: String = (0..100).map(|n| format!("cmd {n}\n")).collect();
    let (old, new) = (home.path().join("old"), home.path().join("new"));
    fs::write(&old, &lines).unwrap();
    import(&home, "bash", &old);
    fs::rename(&old, &new).unwrap();
    fs::write(&new, lines + "one more\n").unwrap();
    assert_eq!(new_known(&import(&home, "bash", &new)), (1, 100));
}

#[test]
fn lines_without_times_keep_their_order_and_sort_below_everything_timed() {
    let home = Home::new();
    let file = home.path().join("h");
    fs::write(&file, "first\nsecond\n#1700000000\ntimed\n").unwrap();
    import(&home, "bash", &file);
    fs::write(
        &file,
        "first\nsecond\n#1700000000\ntimed\n#1700000001\nlater\n",
    )
    .unwrap();
    assert_eq!(import(&home, "bash", &file)["new"], 1);
    assert_eq!(home.cmds(), ["first", "second", "timed", "later"]);
    assert!(
        Log(&home).entries()[0]["ts"]
            .as_str()
            .unwrap()
            .starts_with("1970-01-")
    );
}

#[test]
fn what_the_hook_recorded_is_not_imported_again() {
    let home = Home::new();
    home.spool("s1", ["git status".to_owned(), "ls".to_owned()]);
    home.ok(&["list"]);
    let start = Log(&home).entries()[0]["ts"].as_str().unwrap().to_owned();
    assert!(start.starts_with("2023-11-14T22:13:2"), "{start}");
    let timed = home.path().join("timed");
    // Twice `ls` within the second: the hook saw one of them.
    fs::write(
        &timed,
        "#1600000000\nls\n#1700000000\ngit  status\n#1700000000\nls\n#1700000000\nls\n",
    )
    .unwrap();
    assert_eq!(new_known(&import(&home, "bash", &timed)), (2, 2));
    assert_eq!(new_known(&import(&home, "bash", &timed)), (0, 4));
    let untimed = home.path().join("untimed");
    fs::write(&untimed, "ls\ngit status\nold\nls\n").unwrap();
    assert_eq!(new_known(&import(&home, "bash", &untimed)), (2, 2));
    assert_eq!(new_known(&import(&home, "bash", &untimed)), (0, 4));
    assert_eq!(Log(&home).counts()["old"], 1);
}

#[test]
fn what_is_typed_between_two_imports_with_the_hook_on_is_not_imported_again() {
    let home = Home::new();
    let file = home.path().join("h");
    fs::write(&file, "a\nb\n").unwrap();
    import(&home, "bash", &file);
    home.spool("s1", ["c".to_owned(), "a".to_owned()]);
    fs::write(&file, "a\nb\nc\na\nwithout the hook\n").unwrap();
    assert_eq!(new_known(&import(&home, "bash", &file)), (1, 4));
    assert_eq!(Log(&home).counts()["a"], 2);
}

#[test]
fn a_session_that_still_runs_may_write_its_lines_after_an_import() {
    let home = Home::new();
    let file = home.path().join("h");
    let spool = home.data().join("spool");
    fs::create_dir_all(&spool).unwrap();
    // This test is the shell: it runs, so its spool file stays.
    let head = common::header("live", std::process::id());
    let record = common::command("live", "typed before the import");
    fs::write(spool.join("live.spool"), [head, record].concat()).unwrap();
    fs::write(&file, "old\n").unwrap();
    assert_eq!(import(&home, "bash", &file)["new"], 1);
    assert!(spool.join("live.spool").exists());
    // bash writes its history when it exits.
    fs::write(&file, "old\ntyped before the import\n").unwrap();
    assert_eq!(import(&home, "bash", &file)["new"], 0);
}

#[test]
fn a_command_that_still_runs_is_not_imported_beside_its_record() {
    let home = Home::new();
    let file = home.path().join("h");
    let spool = home.data().join("spool");
    fs::create_dir_all(&spool).unwrap();
    let head = common::header("live", std::process::id());
    let start: [&[u8]; 5] = [b"S1", b"live", b"1700000000400000", b"/tmp", b"=rr import"];
    let started = [head, rustory_core::spool::record(&start)].concat();
    fs::write(spool.join("live.spool"), &started).unwrap();
    // A shell that writes each line before it runs it.
    fs::write(&file, "#1700000000\nrr import\n").unwrap();
    assert_eq!(import(&home, "bash", &file)["new"], 0);
    let end: [&[u8]; 4] = [b"E1", b"live", b"5", b"0"];
    let ended = [started, rustory_core::spool::record(&end)].concat();
    fs::write(spool.join("live.spool"), ended).unwrap();
    assert_eq!(import(&home, "bash", &file)["new"], 0);
    assert_eq!(Log(&home).cmds(), ["rr import"]);
    assert_eq!(Log(&home).entries()[0]["exit_code"], 0);
}

#[test]
fn hidden_and_unreadable_lines_are_counted() {
    let home = Home::new();
    let file = home.path().join(".bash_history");
    fs::write(
        &file,
        b"ls\n secret\n\0\0after a crash\nnul\0within\n\xff\xfe bytes\n",
    )
    .unwrap();
    let output = home.rr(["import", "bash"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "bash: 3 new, 0 known, 2 skipped (1 hidden, 1 unreadable) from ~/.bash_history\n"
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 4: holds NUL bytes"));
    assert_eq!(Log(&home).counts()["after a crash"], 1);
    assert_eq!(Log(&home).entries()[2]["cmd_b64"], "//4gYnl0ZXM=");
}

#[test]
fn long_lines_are_kept_and_longer_ones_counted() {
    let home = Home::new();
    let file = home.path().join("h");
    let long = "x".repeat(64 * 1024);
    fs::write(&file, format!("{long}\n{}\n", "y".repeat((1 << 20) + 1))).unwrap();
    let report = import(&home, "bash", &file);
    assert_eq!(report["skipped"]["too_long"], 1);
    assert_eq!(Log(&home).cmds(), [long]);
}

fn refused(home: &Home, args: &[&str]) -> String {
    let output = home.rr(args).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_is_no_file_is_told_by_name() {
    let home = Home::new();
    let dir = home.path().to_str().unwrap();
    let fifo = home.path().join("fifo");
    succeeded(Command::new("mkfifo").arg(&fifo).output().unwrap());
    for (path, why) in [
        (dir, "is a directory"),
        ("missing", "No such file"),
        (fifo.to_str().unwrap(), "is not a regular file"),
    ] {
        for format in ["zsh", "atuin"] {
            let err = refused(&home, &["import", format, "--path", path]);
            assert!(err.contains(why) && err.contains(path), "{err}");
        }
    }
    assert!(refused(&home, &["import", "zsh"]).contains(".zsh_history"));
    assert!(refused(&home, &["import", "tcsh"]).contains("hishtory"));
    assert!(refused(&home, &["import", "auto", "--path", "x"]).contains("rr import zsh"));
}

#[test]
fn another_database_is_not_taken_for_atuins() {
    let home = Home::new();
    home.ok(&["list"]);
    let db = home.db();
    let err = refused(&home, &["import", "atuin", "--path", db.to_str().unwrap()]);
    assert!(err.contains("no history database of atuin"), "{err}");
    let text = home.path().join("text");
    fs::write(&text, "x".repeat(5_000)).unwrap();
    let err = refused(
        &home,
        &["import", "atuin", "--path", text.to_str().unwrap()],
    );
    assert!(err.contains("not a database"), "{err}");
}

#[test]
fn a_dry_run_counts_and_writes_nothing() {
    let home = Home::new();
    let file = home.path().join(".zsh_history");
    fs::write(&file, "plain\n: 1700000000:0;a\n").unwrap();
    let out = home.ok(&["import", "zsh", "--dry-run"]);
    assert_eq!(
        out,
        "zsh: 2 new (not written), 0 known from ~/.zsh_history\n"
    );
    assert!(Log(&home).cmds().is_empty());
    home.ok(&["import", "zsh"]);
    assert_eq!(Log(&home).cmds().len(), 2);
}

#[test]
fn auto_with_nothing_there_is_no_error() {
    let home = Home::new();
    let output = home.rr(["import", "auto"]).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing to import"));
}

/// A database as atuin makes it, with rows of this host and of another one.
fn atuin_db(home: &Home, rows: &[(&str, i64, &str, &str)]) -> rusqlite::Connection {
    let dir = home.path().join(".local/share/atuin");
    fs::create_dir_all(&dir).unwrap();
    let conn = rusqlite::Connection::open(dir.join("history.db")).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = wal;
         CREATE TABLE IF NOT EXISTS history (id text primary key, timestamp integer not null,
           duration integer not null, exit integer not null, command text not null,
           cwd text not null, session text not null, hostname text not null, deleted_at integer,
           unique(timestamp, cwd, command))",
    )
    .unwrap();
    for (id, millis, cmd, host) in rows {
        conn.execute(
            "INSERT INTO history VALUES (?1, ?2, 1500000000, 2, ?3, '/src', 'sess', ?4, NULL)",
            (id, millis * 1_000_000, cmd, format!("{host}:someone")),
        )
        .unwrap();
    }
    conn
}

fn this_host() -> String {
    rustix::system::uname()
        .nodename()
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn atuins_rows_are_the_same_entries_wherever_they_are_imported() {
    let homes = [Home::new(), Home::new()];
    let exports: Vec<String> = homes
        .iter()
        .map(|home| {
            let rows = [
                (
                    "018f3a5e7c1b70008000000000000001",
                    1_700_000_000_250,
                    "make",
                    "desk",
                ),
                ("old-style-id", 1_700_000_001_000, "ls", "desk"),
                (
                    "018f3a5e7c1b70008000000000000003",
                    1_700_000_002_000,
                    "gone",
                    "desk",
                ),
            ];
            // Open while rr reads, with everything still in the WAL.
            let conn = atuin_db(home, &rows);
            conn.execute(
                "UPDATE history SET deleted_at = 1 WHERE command = 'gone'",
                [],
            )
            .unwrap();
            let out = home.ok(&["import", "auto"]);
            let said = "atuin: 2 new, 0 known, 1 skipped (1 deleted) from";
            assert!(out.starts_with(said), "{out}");
            assert!(
                home.ok(&["import", "atuin"])
                    .starts_with("atuin: 0 new, 2 known")
            );
            home.ok(&["export"])
        })
        .collect();
    assert_eq!(exports[0], exports[1]);
    let entry: Value = serde_json::from_str(exports[0].lines().next().unwrap()).unwrap();
    assert_eq!(entry["entry_id"], "018f3a5e-7c1b-7000-8000-000000000001");
    assert_eq!(entry["device_id"], "atuin:desk");
    assert_eq!(entry["user_id"], "someone");
    assert_eq!(entry["exit_code"], 2);
    assert_eq!(entry["duration_ms"], 1_500);
    assert_eq!(entry["ts"], "2023-11-14T22:13:20.250000Z");
}

#[test]
fn what_atuin_and_the_shells_file_both_hold_comes_once() {
    let home = Home::new();
    let host = this_host();
    let _conn = atuin_db(
        &home,
        &[
            (
                "018f3a5e7c1b70008000000000000001",
                1_700_000_000_250,
                "make",
                &host,
            ),
            (
                "018f3a5e7c1b70008000000000000002",
                1_700_000_000_250,
                "make test",
                "desk",
            ),
        ],
    );
    fs::write(
        home.path().join(".zsh_history"),
        ": 1600000000:0;before atuin\n: 1700000000:0;make\n: 1700000000:0;make test\n",
    )
    .unwrap();
    fs::write(home.path().join(".bash_history"), "make\nls\n").unwrap();
    home.ok(&["import", "auto"]);
    let counts = Log(&home).counts();
    assert_eq!(counts["make"], 1);
    assert_eq!(counts["make test"], 2, "one was typed on another host");
    assert_eq!(counts["before atuin"], 1);
    let again = home.ok(&["import", "auto"]);
    assert!(
        again.lines().all(|line| line.contains(": 0 new")),
        "{again}"
    );
}

#[test]
fn hishtorys_rows_are_taken_over() {
    let home = Home::new();
    fs::create_dir_all(home.path().join(".hishtory")).unwrap();
    let path = home.path().join(".hishtory/.hishtory.db");
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch(
        "CREATE TABLE history_entries (local_username text, hostname text, command text,
           current_working_directory text, home_directory text, exit_code integer,
           start_time datetime, end_time datetime, device_id text, entry_id text, custom_columns text);
         INSERT INTO history_entries VALUES ('me', 'desk', 'make', '~/src', '/home/me', 1,
           '2023-11-14 22:13:20.5+00:00', '2023-11-14 22:13:22+00:00', 'd',
           '018f3a5e-7c1b-4000-8000-000000000001', NULL), ('me', 'desk', 'ls', '/', '', 0,
           'soon', 'later', 'd', '', NULL)",
    )
    .unwrap();
    let report: Value = serde_json::from_str(&home.ok(&["import", "hishtory", "--json"])).unwrap();
    assert_eq!(new_known(&report), (1, 0));
    assert_eq!(report["skipped"]["unreadable"], 1);
    assert_eq!(new_known(&import(&home, "hishtory", &path)), (0, 1));
    let entry = &Log(&home).entries()[0];
    assert_eq!(entry["cwd"], "/home/me/src");
    assert_eq!(entry["duration_ms"], 1_500);
    assert_eq!(entry["ts"], "2023-11-14T22:13:20.500000Z");
    assert_eq!(entry["device_id"], "hishtory:desk");
}

#[test]
fn an_export_comes_back_byte_for_byte() {
    let home = Home::new();
    let lines = concat!(
        r#"{"entry_id":"018f3a5e-7c1b-7000-8000-000000000001","device_id":"d1","device_seq":7,"#,
        r#""ts":"2026-01-01T00:00:00.123456Z","cmd":"a\nb","cwd":"/x","exit_code":-1,"duration_ms":0,"#,
        r#""shell":"zsh","hostname":"h","user_id":"u","version":"9","session":"s","repo":{"root":[1,null]}}"#,
        "\n",
        r#"{"entry_id":"018f3a5e-7c1b-7000-8000-000000000002","device_id":"d2","#,
        r#""ts":"2025-01-01T00:00:00Z","cmd":"","cmd_b64":"/wAg","cwd_b64":"/v8="}"#,
        "\n",
    );
    let output = home.feed(&["import", "jsonl"], lines.as_bytes());
    assert!(succeeded(output).starts_with("jsonl: 2 new, 0 known"));
    home.spool("s1", [" ".to_owned(), "own".to_owned()]);
    let exported = home.ok(&["export", "--json"]);
    assert_eq!(exported.lines().count(), 3);
    assert!(exported.contains(r#""repo":{"root":[1,null]}"#));
    let other = Home::new();
    let said = succeeded(other.feed(&["import", "jsonl"], exported.as_bytes()));
    assert!(said.starts_with("jsonl: 3 new, 0 known"), "{said}");
    assert_eq!(other.ok(&["export"]), exported);
    let said = succeeded(home.feed(&["import", "jsonl"], exported.as_bytes()));
    assert!(said.starts_with("jsonl: 0 new, 3 known"), "{said}");
}

#[test]
fn a_bad_json_line_never_blocks_the_others() {
    let home = Home::new();
    let lines = concat!(
        "{\"ts\":\"2026-01-01T00:00:00Z\",\"cmd\":\"one\"}\n",
        "{\"ts\":\"2026-01-01T00:00:00Z\",\"cmd\":\"one\"}\n",
        "\n",
        "{\"ts\":\"2026-01-01T00:00:00Z\"\n",
        "not json\n",
        "{\"cmd\":\"no time\"}\n",
        "{\"ts\":\"2026-01-01T00:00:00Z\",\"cmd\":\" hidden\"}\n",
        "[1]\n",
        "{\"ts\":\"2026-01-01T00:00:01Z\",\"cmd\":\"two\",\"exit_code\":\"x\"}\n",
        "{\"ts\":\"2026-01-01T00:00:02Z\",\"cmd\":\"three\"}",
    );
    let output = home.feed(&["import", "jsonl", "--json"], lines.as_bytes());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(new_known(&report), (3, 0), "{report}");
    assert_eq!(report["skipped"]["unreadable"], 5);
    assert_eq!(report["skipped"]["hidden"], 1);
    let told: Vec<(u64, &str)> = report["unreadable"]
        .as_array()
        .unwrap()
        .iter()
        .map(|told| {
            (
                told["line"].as_u64().unwrap(),
                told["why"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
        [4, 5, 6, 8, 9]
    );
    assert_eq!(told[2].1, "`ts` is missing");
    assert!(told[4].1.contains("`exit_code`"), "{}", told[4].1);
    let again = home.feed(&["import", "jsonl", "--json"], lines.as_bytes());
    let report: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(new_known(&report), (0, 3));
}

/// Commands that the log holds, looked at from beside rr.
fn stored(db: &Path) -> u64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    rusqlite::Connection::open_with_flags(db, flags)
        .and_then(|conn| {
            conn.query_row("SELECT count(*) FROM entries", [], |row| {
                row.get::<_, i64>(0)
            })
        })
        .map_or(0, i64::cast_unsigned)
}

fn killed_in_the_middle_and_run_again_is_complete(timed: bool) {
    let home = Home::new();
    let file = home.path().join("h");
    let total = 160_000;
    let lines: String = (0..total)
        .map(|n| {
            let cmd = format!("cmd {}\n", n % 50_000);
            if timed {
                format!("#{}\n{cmd}", 1_600_000_000 + n / 7)
            } else {
                cmd
            }
        })
        .collect();
    fs::write(&file, lines).unwrap();
    let mut child = home
        .rr(["import", "bash", "--path", file.to_str().unwrap()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while stored(&home.db()) == 0 {
        assert!(Instant::now() < deadline, "nothing was committed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let half = stored(&home.db());
    assert!(half < total, "killed too late to tell anything");
    let report = import(&home, "bash", &file);
    assert_eq!(new_known(&report), (total - half, half));
    assert_eq!(stored(&home.db()), total);
    assert_eq!(new_known(&import(&home, "bash", &file)), (0, total));
}

#[test]
fn an_import_with_times_that_was_killed_goes_on_where_it_was() {
    killed_in_the_middle_and_run_again_is_complete(true);
}

#[test]
fn an_import_without_times_that_was_killed_goes_on_where_it_was() {
    killed_in_the_middle_and_run_again_is_complete(false);
}

/// A zsh history as it was written for years: with a key in a here-document, and the same again.
const WITH_SECRETS: &str = ": 1700000000:0;export A_TOKEN=hunter2\n\
    : 1700000000:0;export A_TOKEN=hunter3\n\
    : 1700000001:0;cat >k <<X\\\n-----BEGIN PRIVATE KEY-----\\\nhunter2hunter2hunter2hunter2\\\n\
    -----END PRIVATE KEY-----\\\nX\n\
    : 1700000002:0;ls\n";

#[test]
fn secrets_of_a_history_are_masked_and_its_lines_are_known_again() {
    let home = Home::new();
    let file = home.path().join("h");
    fs::write(&file, WITH_SECRETS).unwrap();
    let report = import(&home, "zsh", &file);
    assert_eq!(
        (new_known(&report), &report["masked"]),
        ((4, 0), &Value::from(3))
    );
    let expect = [
        "export A_TOKEN=[masked]",
        "export A_TOKEN=[masked]",
        "cat >k <<X\n-----BEGIN PRIVATE KEY-----\n[masked]\n-----END PRIVATE KEY-----\nX",
        "ls",
    ];
    assert_eq!(Log(&home).cmds(), expect);
    assert_eq!(new_known(&import(&home, "zsh", &file)), (0, 4));
    for name in ["history.db", "history.db-wal"] {
        let bytes = fs::read(home.data().join(name)).unwrap_or_default();
        assert!(
            !bytes.windows(6).any(|window| window == b"hunter"),
            "{name}"
        );
    }
}

/// What was imported when secrets were stored (by the setting, or before they were masked at all)
/// stays as it is, and comes no second time.
#[test]
fn a_history_imported_with_its_secrets_is_not_imported_again_without_them() {
    for (first, second) in [("true", "false"), ("false", "true")] {
        let home = Home::new();
        let timed = home.path().join("timed");
        fs::write(&timed, WITH_SECRETS).unwrap();
        let untimed = home.path().join("untimed");
        let lines = (0..70).map(|n| format!("curl -u me:hunter{n} x\nls {n}\n"));
        fs::write(&untimed, lines.collect::<String>()).unwrap();
        let jsonl = home.path().join("jsonl");
        fs::write(
            &jsonl,
            "{\"ts\":\"2024-01-01T00:00:00Z\",\"cmd\":\"x --token hunter2\"}\n",
        )
        .unwrap();
        let atuin = home.path().join("atuin.db");
        let sql = rusqlite::Connection::open(&atuin).unwrap();
        sql.execute_batch(
            "CREATE TABLE history (id TEXT, timestamp INTEGER, duration INTEGER, exit INTEGER, command TEXT,
               cwd TEXT, session TEXT, hostname TEXT, deleted_at INTEGER);
             INSERT INTO history VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1700000000000000000, 1, 0,
               'PGPASSWORD=hunter2 psql', '/', 's', 'elsewhere:me', NULL);",
        )
        .unwrap();
        let run = |format: &str, path: &Path, secrets: &str| {
            let args = ["import", format, "--json", "--path", path.to_str().unwrap()];
            let output = home
                .rr(args)
                .env("RUSTORY_RECORD_SECRETS", secrets)
                .output();
            let report: Value = serde_json::from_str(&succeeded(output.unwrap())).unwrap();
            new_known(&report)
        };
        let sources = [
            ("zsh", &timed, 4),
            ("bash", &untimed, 140),
            ("jsonl", &jsonl, 1),
            ("atuin", &atuin, 1),
        ];
        for (format, path, all) in sources {
            assert_eq!(run(format, path, first), (all, 0), "{format}");
        }
        let before = Log(&home).cmds();
        assert_eq!(before.concat().contains("hunter"), first == "true");
        for (format, path, all) in sources {
            assert_eq!(run(format, path, second), (0, all), "{format} {first}");
        }
        assert_eq!(Log(&home).cmds(), before);
    }
}

/// The hook's entry is masked, the shell's own file is not.
#[test]
fn a_command_with_a_secret_that_a_hook_recorded_is_known() {
    let home = Home::new();
    home.spool("s", ["PGPASSWORD=hunter2 psql".to_owned()]);
    home.ok(&["list"]);
    let file = home.path().join("h");
    fs::write(&file, ": 1700000000:0;PGPASSWORD=hunter2 psql\n").unwrap();
    assert_eq!(new_known(&import(&home, "zsh", &file)), (0, 1));
    fs::write(&file, "PGPASSWORD=hunter2 psql\n").unwrap();
    assert_eq!(new_known(&import(&home, "bash", &file)), (0, 1));
}
