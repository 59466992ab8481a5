//! The test kit's own promises.

use std::time::Duration;

use rustory_testkit::{Program, key};

fn shell(script: &str) -> Program {
    Program::new("/bin/sh").args(["-c", script])
}

#[test]
fn what_a_program_draws_is_on_the_screen() {
    let terminal = shell("printf 'one\\r\\n\\033[31mtwo\\033[0m'; read x").start();
    terminal.wait_for("both lines", |screen| screen.contents() == "one\ntwo");
    assert_eq!(terminal.cursor(), (1, 3));
    assert!(terminal.output().starts_with(b"one"));
}

#[test]
fn the_environment_is_empty_but_for_what_a_terminal_gives() {
    let mut terminal = shell("env | sort; read x").env("MORE", "1").start();
    terminal.send("x\r");
    terminal.exit_status();
    let names: Vec<String> = terminal
        .screen()
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0.to_owned()))
        .filter(|name| name != "_")
        .collect();
    assert_eq!(
        names,
        ["HOME", "LANG", "MORE", "PATH", "PWD", "SHELL", "TERM"]
    );
}

#[test]
fn keys_arrive_and_the_exit_status_is_told() {
    let mut terminal = shell("read line; exit \"$line\"").start();
    terminal.send("7");
    terminal.send(key::ENTER);
    assert_eq!(terminal.exit_status().exit_code(), 7);
}

#[test]
fn a_new_size_reaches_the_program() {
    let mut terminal = shell("trap 'stty size' WINCH; echo go; while :; do sleep 0.05; done")
        .size(10, 40)
        .start();
    terminal.wait_for("the start", |screen| screen.contents().contains("go"));
    terminal.resize(33, 99);
    terminal.wait_for("the size", |screen| screen.contents().contains("33 99"));
}

#[test]
fn the_cursor_is_told_to_whoever_asks() {
    let script = r#"stty raw -echo; printf 'ab\033[6n'; x=$(dd bs=1 count=6 2>/dev/null | tr '\033' E)
        stty sane; echo; echo "$x""#;
    let terminal = shell(script).start();
    terminal.wait_for("the answer", |screen| screen.contents().contains("E[1;3R"));
}

#[test]
fn more_than_the_terminal_buffers_can_be_typed() {
    let mut terminal = shell("stty raw -echo; echo go; sleep 0.2; head -c 300000 | wc -c").start();
    terminal.wait_for("the start", |screen| screen.contents().contains("go"));
    terminal.send("x".repeat(300_000));
    terminal.wait_for("the count", |screen| screen.contents().contains("300000"));
}

#[test]
#[should_panic(expected = "waiting for a miracle")]
fn a_wait_that_fails_says_what_for() {
    let terminal = shell("echo nothing; read x").start();
    terminal.wait_for_within(Duration::from_millis(50), "a miracle", |_| false);
}

#[test]
#[should_panic(expected = "the program has ended")]
fn a_wait_ends_with_the_program() {
    shell("true").start().wait_for("more", |_| false);
}
