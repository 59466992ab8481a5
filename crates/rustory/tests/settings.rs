//! A configuration with mistakes, as the commands see it: told on stderr, and nothing stops.

mod common;

use std::fs;
use std::process::Output;

use common::Home;

fn configured(text: &[u8]) -> Home {
    let home = Home::new();
    let dir = home.path().join(".config/rustory");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.toml"), text).unwrap();
    home
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the rules keep out stays out, and the integration is the same as without a mistake.
fn check(config: &[u8], says: &str) {
    let home = configured(config);
    let init = home.rr(["init", "bash"]).output().unwrap();
    assert!(init.status.success(), "{}", said(&init));
    assert!(said(&init).contains(says), "{}", said(&init));
    assert_eq!(said(&init).lines().count(), 1, "{}", said(&init));
    fs::remove_dir_all(home.path().join(".config")).unwrap();
    let without = home.rr(["init", "bash"]).output().unwrap();
    assert_eq!(init.stdout, without.stdout);
    assert_eq!(said(&without), "");
}

#[test]
fn each_mistake_is_one_line_and_the_integration_is_whole() {
    check(b"finder = 3\n", "config.toml:1: `finder`: expected `auto`");
    check(b"\nfindr = \"fzf\"\n", "config.toml:2: unknown key `findr`");
    check(b"x\n", "config.toml:1: no TOML");
    check(b"ignore = [\"a\", \"(\"]\n", "`(` is no regular expression");
    check(b"user_id = \"\xff\"\n", "config.toml: can't be read");
}

#[test]
fn a_slip_elsewhere_does_not_let_out_what_a_rule_keeps_back() {
    for slip in ["finder = = 3\n", "findr = 1\n", "mdns = 5\n"] {
        let home = configured(format!("{slip}ignore = [\"^secret\"]\n").as_bytes());
        home.spool("a", ["secret thing".into(), "plain".into()]);
        assert_eq!(home.cmds(), ["plain"], "{slip}");
    }
}

#[test]
fn a_good_pattern_keeps_back_beside_a_bad_one() {
    let home = configured(b"ignore = [\"(\", \"^secret\"]\n");
    home.spool("a", ["secret thing".into(), "plain".into()]);
    assert_eq!(home.cmds(), ["plain"]);
}

#[test]
fn a_bad_variable_is_told_by_name() {
    let home = Home::new();
    let mut command = home.rr(["init", "zsh"]);
    let output = command.env("RUSTORY_FINDER", "skim").output().unwrap();
    assert!(output.status.success());
    assert!(said(&output).contains("RUSTORY_FINDER: `finder`: expected"));
}

#[test]
fn a_relative_database_path_is_made_absolute() {
    let home = Home::new();
    let run = |args: &[&str]| {
        let mut command = home.rr(args);
        command.env("RUSTORY_DB_PATH", "d/h.db").output().unwrap()
    };
    assert!(run(&["list"]).status.success());
    let status: serde_json::Value =
        serde_json::from_slice(&run(&["status", "--json"]).stdout).unwrap();
    let path = std::path::Path::new(status["db"]["path"].as_str().unwrap());
    assert!(
        path.is_absolute() && path.ends_with("d/h.db"),
        "{}",
        path.display()
    );
    assert!(home.path().join("d/h.db").exists());
}

#[test]
fn xdg_config_home_is_respected_unless_it_is_relative() {
    let home = configured(b"user_id = \"default\"\n");
    let other = home.path().join("xdg/rustory");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("config.toml"), "user_id = \"xdg\"\n").unwrap();
    home.ok(&["list"]);
    let user = |dir: &str| {
        let mut command = home.rr(["status", "--json"]);
        let output = command.env("XDG_CONFIG_HOME", dir).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        status["user_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(user(home.path().join("xdg").to_str().unwrap()), "xdg");
    assert_eq!(user("xdg"), "default");
}

#[test]
fn status_says_in_one_line_why_there_is_none() {
    let home = Home::new();
    let none = home.rr(["status"]).output().unwrap();
    assert_eq!(none.status.code(), Some(1));
    assert!(said(&none).contains("there is no history database"));
    fs::create_dir(home.data()).unwrap();
    fs::write(home.db(), [b'x'; 9000]).unwrap();
    let corrupt = home.rr(["status"]).output().unwrap();
    assert_eq!(corrupt.status.code(), Some(1));
    assert!(said(&corrupt).contains("is damaged"), "{}", said(&corrupt));
    assert_eq!(fs::read(home.db()).unwrap(), [b'x'; 9000]);
}
