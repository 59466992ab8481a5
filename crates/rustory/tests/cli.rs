//! The commands as a program sees them: what goes in, what comes out, which exit code.

mod common;

use std::fs;
use std::io::Read as _;
use std::process::Stdio;

use common::{Home, succeeded};
use serde_json::Value;

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

fn recorded(home: &Home, args: &[&str], stdin: &[u8]) -> String {
    let args: Vec<&str> = std::iter::once("record")
        .chain(args.iter().copied())
        .collect();
    let output = home.feed(&args, stdin);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    succeeded(output);
    said
}

fn refused(home: &Home, args: &[&str], stdin: &[u8], code: i32, says: &str) {
    let output = home.feed(args, stdin);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.contains(says), "{args:?}: {says}: {said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_recorded_command_comes_back_with_its_context() {
    let home = Home::new();
    recorded(
        &home,
        &[
            "--exit",
            "-1",
            "--duration-ms",
            "12",
            "--cwd",
            "/srv",
            "--shell",
            "fish",
            "--session",
            "s1",
        ],
        "git commit -m '첫 커밋'\n\tnext \n".as_bytes(),
    );
    let entry = json(&home.ok(&["list", "--json"]));
    assert_eq!(entry["cmd"], "git commit -m '첫 커밋'\n\tnext ");
    assert_eq!(entry["exit_code"], -1);
    assert_eq!(entry["duration_ms"], 12);
    assert_eq!(entry["cwd"], "/srv");
    assert_eq!(entry["shell"], "fish");
    assert_eq!(entry["session"], "s1");
    assert_eq!(entry["user_id"], "tester");
    assert_eq!(entry["device_seq"], 1);
}

#[test]
fn unknown_fields_and_bytes_that_are_no_text_pass_through_record_and_list() {
    let home = Home::new();
    recorded(
        &home,
        &["--json"],
        br#"{"cmd":"x","cmd_b64":"ZWNobyD/","note":{"deep":[1]}}"#,
    );
    let line = home.ok(&["list", "--json"]);
    let entry = json(&line);
    assert_eq!(
        (&entry["cmd_b64"], &entry["note"]["deep"][0]),
        (&"ZWNobyD/".into(), &1.into())
    );
    let said = recorded(&home, &["--json"], line.as_bytes());
    assert!(said.contains("there already"), "{said}");
    let plain = home.rr(["list"]).output().unwrap();
    assert!(
        plain.stdout.ends_with(b"echo \xff\n"),
        "pipes get the bytes"
    );
}

#[test]
fn what_is_not_recorded_is_said() {
    let home = Home::new();
    assert!(recorded(&home, &[], b" hidden").contains("begins with a blank"));
    assert!(recorded(&home, &["--quiet"], b" hidden").is_empty());
    refused(&home, &["record"], b"", 2, "`cmd` is empty");
    refused(
        &home,
        &["record"],
        &vec![b'x'; 7 << 20],
        2,
        "stdin has more than",
    );
    refused(
        &home,
        &["record"],
        &vec![b'x'; (1 << 20) + 1],
        2,
        "`cmd` has 1048577 bytes",
    );
    refused(&home, &["record", "--json"], b"{}", 2, "`cmd` is missing");
    refused(&home, &["record", "--json"], b"[", 2, "stdin is no entry");
    refused(
        &home,
        &["record", "--json"],
        br#"{"cmd":"x","exit_code":"0"}"#,
        2,
        "`exit_code`",
    );
    refused(
        &home,
        &["record", "--json"],
        br#"{"cmd":"x","ts":"now"}"#,
        2,
        "`ts`",
    );
    refused(
        &home,
        &["record", "--json", "--exit", "1"],
        b"",
        2,
        "cannot be used with",
    );
    assert_eq!(home.cmds(), Vec::<String>::new());
}

#[test]
fn secrets_are_masked_unless_the_user_wants_them() {
    let home = Home::new();
    let cmd = b"curl -u me:hunter2 x";
    recorded(&home, &[], cmd);
    home.spool("s", ["x --token hunter2".to_owned()]);
    assert_eq!(home.cmds(), ["x --token [masked]", "curl -u me:[masked] x"]);
    fs::create_dir_all(home.path().join(".config/rustory")).unwrap();
    let config = home.path().join(".config/rustory/config.toml");
    fs::write(config, "record_secrets = true\n").unwrap();
    recorded(&home, &[], cmd);
    assert_eq!(home.cmds().pop().unwrap().as_bytes(), cmd);
}

#[test]
fn the_session_switch_counts_for_scripts_too() {
    let home = Home::new();
    let output = home
        .rr(["record"])
        .env("RUSTORY_RECORD", "0")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("`RUSTORY_RECORD` is 0"),
        "{said}"
    );
}

#[test]
fn a_megabyte_is_kept_to_the_byte() {
    let home = Home::new();
    let big = "x".repeat(1 << 20);
    recorded(&home, &[], big.as_bytes());
    assert_eq!(home.cmds(), [big]);
}

#[test]
fn list_selects_by_every_filter_and_is_newest_last() {
    let home = Home::new();
    for (n, (cmd, exit, cwd, host)) in [
        ("git push", 0, "/a", "desk"),
        ("git pull", 1, "/a/b", "desk"),
        ("make", 2, "/a", "nas"),
    ]
    .iter()
    .enumerate()
    {
        let entry = serde_json::json!({
            "cmd": cmd, "exit_code": exit, "cwd": cwd, "hostname": host, "session": format!("s{n}"),
            "ts": format!("2026-01-0{}T00:00:00Z", n + 1), "device_id": format!("d{n}"),
        });
        recorded(&home, &["--json"], entry.to_string().as_bytes());
    }
    let check = |args: &[&str], expect: &[&str]| {
        let args: Vec<&str> = ["list", "--json"].iter().chain(args).copied().collect();
        let found: Vec<Value> = home
            .ok(&args)
            .lines()
            .map(|line| json(line)["cmd"].clone())
            .collect();
        assert_eq!(found, expect, "{args:?}");
    };
    check(&[], &["git push", "git pull", "make"]);
    check(&["git"], &["git push", "git pull"]);
    check(&["pull", "git"], &["git pull"]);
    check(&["Git"], &[]);
    check(&["--cwd", "/a"], &["git push", "make"]);
    check(&["--cwd", "/a/b/../"], &["git push", "make"]);
    check(&["--host", "nas"], &["make"]);
    check(&["--device", "d1"], &["git pull"]);
    check(&["--device", "this"], &[]);
    check(&["--exit", "ok"], &["git push"]);
    check(&["--exit", "fail"], &["git pull", "make"]);
    check(&["--exit", "2"], &["make"]);
    check(&["--since", "2026-01-02"], &["git pull", "make"]);
    check(&["--until", "2026-01-02T00:00:00Z"], &["git push"]);
    check(&["--session", "s2"], &["make"]);
    check(&["--limit", "1"], &["make"]);
    check(&["--limit", "all", "--exit", "fail", "git"], &["git pull"]);
    check(&["--", "--exit"], &[]);
}

#[test]
fn values_that_make_no_sense_are_refused_with_what_is_accepted() {
    let home = Home::new();
    for (args, says) in [
        (&["list", "--limit", "0"][..], "from 1 on, or `all`"),
        (&["list", "--limit", "-1"], "from 1 on"),
        (&["list", "--limit", "99999999999999999999"], "from 1 on"),
        (&["list", "--exit", "maybe"], "`ok` or `fail`"),
        (&["list", "--since", "soon"], "3 days ago"),
        (&["lst"], "similar subcommand"),
        (&["init", "tcsh"], "bash"),
        (&["generate", "completions", "x"], "bash"),
        (&["--db-path"], "FILE"),
        (&[], "Usage"),
    ] {
        refused(&home, args, b"", 2, says);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    home.spool(
        "a",
        (0..5_000).map(|n| format!("command number {n} of many")),
    );
    let mut child = home
        .rr(["list", "--limit", "all"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn stats_count_what_is_there() {
    let home = Home::new();
    home.spool("a", ["git status", "git status", "make"].map(str::to_owned));
    let stats = json(&home.ok(&["stats", "--json"]));
    assert_eq!(
        (&stats["entries"], &stats["distinct_commands"]),
        (&3.into(), &2.into())
    );
    assert_eq!(
        stats["top_commands"][0],
        serde_json::json!({"cmd": "git status", "count": 2})
    );
    assert_eq!(stats["top_programs"][0]["cmd"], "git");
    assert_eq!(stats["devices"][0]["entries"], 3);
    assert_eq!(
        stats["days"][0],
        serde_json::json!({"day": "2023-11-14", "entries": 3})
    );
    assert!(
        home.ok(&["stats"])
            .contains("3 entries, 2 distinct commands")
    );
}

#[test]
fn status_tells_what_is_here_and_what_waits() {
    let home = Home::new();
    refused(&home, &["status"], b"", 1, "rr setup");
    home.spool("a", ["one".to_owned()]);
    home.cmds();
    home.spool("b", ["two".to_owned(), "three".to_owned()]);
    std::fs::write(home.data().join("spool/damaged"), "abc").unwrap();
    let status = json(&home.ok(&["status", "--json"]));
    assert_eq!(status["db"]["entries"], 1);
    assert_eq!(
        (
            &status["spool"]["pending"],
            &status["spool"]["damaged_bytes"]
        ),
        (&2.into(), &3.into())
    );
    assert_eq!(status["user_id"], "tester");
    assert!(home.ok(&["status"]).contains("2 commands wait"));
}

#[test]
fn every_command_says_what_it_is_for_and_completions_name_it() {
    let home = Home::new();
    let help = home.ok(&["--help"]);
    let completions = home.ok(&["generate", "completions", "bash"]);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let (name, about) = line
                .trim()
                .split_once(' ')
                .expect("a name and what it is for");
            assert!(!about.trim().is_empty());
            name
        })
        .collect();
    assert!(commands.len() > 10, "{help}");
    let for_both = |shell| {
        ["rr", "rustory"].map(|name| home.ok(&["generate", "completions", shell, "--name", name]))
    };
    assert_eq!(for_both("bash")[0], completions);
    for (shell, begins) in [
        ("bash", "_NAME()"),
        ("zsh", "#compdef NAME\n"),
        ("fish", "complete -c NAME "),
    ] {
        for (name, text) in ["rr", "rustory"].iter().zip(for_both(shell)) {
            assert!(
                text.contains(&begins.replace("NAME", name)),
                "{shell} {name}"
            );
        }
    }
    let man = home.ok(&["generate", "man"]);
    assert_eq!(home.ok(&["generate", "share", "share"]), "");
    let written = |path: &str| fs::read_to_string(home.path().join("share").join(path)).unwrap();
    assert_eq!(written("bash-completion/completions/rr"), completions);
    assert_eq!(written("zsh/site-functions/_rustory"), for_both("zsh")[1]);
    assert_eq!(
        written("fish/vendor_completions.d/rr.fish"),
        for_both("fish")[0]
    );
    assert_eq!(written("man/man1/rr.1"), man);
    for name in commands.into_iter().filter(|name| *name != "help") {
        assert!(home.ok(&[name, "--help"]).contains("Usage: rr"), "{name}");
        assert!(completions.contains(name), "{name}");
        assert!(
            man.contains(&format!("RR {}", name.to_uppercase())),
            "{name}"
        );
    }
}
