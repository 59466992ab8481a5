//! What the shell itself keeps out of its history stays out; what it cannot tell is not guessed.

use crate::session::{ALL, Home, Rc, SHELLS, Session, Shell, check_in, cmds};

fn bash(before: &str, lines: &[&str], expect: &[&str]) {
    check_in(Shell::Bash, Rc { before, after: "" }, lines, expect);
}

#[test]
fn repetitions_are_kept_whatever_histcontrol_says() {
    for control in ["", "ignoredups", "erasedups", "ignoredups:erasedups"] {
        if !control.is_empty() && Shell::Bash.version() < 404 {
            // Without PS0 nothing tells a repetition from an empty line.
            continue;
        }
        bash(
            &format!("HISTCONTROL={control}"),
            &[": a", ": b", ": a", ": a"],
            &[": a", ": b", ": a", ": a"],
        );
    }
}

#[test]
fn what_histcontrol_hides_never_reaches_the_spool() {
    for control in [
        "ignorespace",
        "ignoreboth",
        "ignorespace:erasedups",
        "ignoreboth:erasedups",
    ] {
        let home = Home::new(Rc {
            before: &format!("HISTCONTROL={control}"),
            after: "",
        });
        let mut session = Session::start(Shell::Bash, &home);
        session.run_all(&[": a", " : hidden", ": b", " : hidden", " : hidden"]);
        assert_eq!(cmds(&home), [": a", ": b"], "{control}");
        let raw = std::fs::read(&home.spool_files()[0]).unwrap();
        assert!(
            !raw.escape_ascii().to_string().contains("hidden"),
            "{control}"
        );
    }
}

#[test]
fn histignore_and_history_ignore_are_respected() {
    let lines = [": a", "ls -d /", ": b", "pwd", ": b"];
    bash("HISTIGNORE='ls*:pwd'", &lines, &[": a", ": b", ": b"]);
    let zsh = Rc {
        before: "HISTORY_IGNORE='(ls*|pwd)'",
        after: "",
    };
    check_in(Shell::Zsh, zsh, &lines, &[": a", ": b", ": b"]);
}

/// Under ignorespace and ignoredups an unchanged number may be a repetition or a hidden line.
#[test]
fn what_may_have_been_hidden_is_not_kept_twice() {
    bash(
        "HISTCONTROL=ignoreboth",
        &[": a", ": a", " : h", ": b"],
        &[": a", ": b"],
    );
}

/// With erasedups a repeated line moves up and the number stays; its time tells that it is new.
#[test]
fn a_line_that_moves_up_is_kept_when_its_time_is_new() {
    let home = Home::new(Rc {
        before: "HISTCONTROL=ignoreboth:erasedups",
        after: "",
    });
    let mut session = Session::start(Shell::Bash, &home);
    session.run_all(&[": a", ": b"]);
    let prompt = std::time::Instant::now();
    while prompt.elapsed() < std::time::Duration::from_millis(1100) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    session.run_all(&[": a", " : hidden"]);
    assert_eq!(cmds(&home), [": a", ": b", ": a"]);
}

#[test]
fn nothing_is_kept_while_the_history_is_off() {
    for control in ["", "ignoredups", "ignoreboth"] {
        let home = Home::new(Rc {
            before: &format!("HISTCONTROL={control}"),
            after: "",
        });
        let mut session = Session::start(Shell::Bash, &home);
        session.run_all(&[
            ": a",
            "set +o history",
            ": off",
            ": off",
            "set -o history",
            ": on",
        ]);
        let mut kept = cmds(&home);
        // Whether this one still counts depends on the version.
        if kept.get(1).is_some_and(|cmd| cmd == "set +o history") {
            kept.remove(1);
        }
        assert_eq!(kept, [": a", ": on"], "{control}");
    }
}

#[test]
fn shells_without_a_history_neither_break_nor_repeat() {
    for before in [
        "unset HISTFILE",
        "HISTFILE=/dev/null",
        "HISTFILESIZE=0; SAVEHIST=0",
    ] {
        let rc = Rc { before, after: "" };
        for shell in SHELLS {
            check_in(shell, rc, &[": a", "", ": b"], &[": a", ": b"]);
        }
    }
    bash("HISTSIZE=0", &[": a", "", ": b"], &[]);
    bash(
        "HISTSIZE=1",
        &[": a", "", ": b", ": b"],
        &[": a", ": b", ": b"],
    );
    bash(
        "HISTSIZE=2",
        &[": a", ": b", ": c", ": d"],
        &[": a", ": b", ": c", ": d"],
    );
}

#[test]
fn the_users_time_format_does_not_show() {
    for format in ["%F %T ", "", "a\nb ", "%s", "$'\\036'%s$'\\036'"] {
        let before = format!("HISTTIMEFORMAT={format:?}").replace("\\n", "\n");
        bash(&before, &[": a", ": b 1  2"], &[": a", ": b 1  2"]);
    }
    let home = Home::new(Rc {
        before: "HISTTIMEFORMAT='%F '",
        after: "",
    });
    let mut session = Session::start(Shell::Bash, &home);
    assert_eq!(session.ask(&home, "echo \"$HISTTIMEFORMAT\""), "%F \n");
}

#[test]
fn a_history_reloaded_at_every_prompt_is_no_new_command() {
    for before in [
        "PROMPT_COMMAND='history -a; history -c; history -r'",
        "PROMPT_COMMAND='history -n; history -w; history -c; history -r'",
        "HISTCONTROL=ignoreboth; PROMPT_COMMAND='history -a; history -c; history -r'",
        "HISTCONTROL=ignoreboth:erasedups; PROMPT_COMMAND='history -a; history -c; history -r'",
    ] {
        let home = Home::new(Rc { before, after: "" });
        home.write(".bash_history", ": old 1\n: old 2\n: old 3\n");
        let mut session = Session::start(Shell::Bash, &home);
        session.run_all(&["", ": a", "", ": b", ""]);
        assert_eq!(cmds(&home), [": a", ": b"], "{before}");
    }
}

#[test]
fn a_hidden_line_behind_a_reloaded_history_adds_nothing() {
    for control in ["ignorespace", "ignoreboth", "ignoreboth:erasedups"] {
        let home = Home::new(Rc {
            before: &format!(
                "HISTCONTROL={control}; PROMPT_COMMAND='history -a; history -c; history -r'"
            ),
            after: "",
        });
        home.write(".bash_history", ": old 1\n: old 2\n");
        let mut session = Session::start(Shell::Bash, &home);
        session.run_all(&[": a", " : hidden", ": b", " : hidden"]);
        assert_eq!(cmds(&home), [": a", ": b"], "{control}");
    }
}

#[test]
fn commands_that_rewrite_the_history_add_no_ghosts() {
    let home = Home::new(Rc::default());
    home.write(".bash_history", ": old 1\n: old 2\n: old 3\n");
    let mut session = Session::start(Shell::Bash, &home);
    for line in [
        "history -c; history -r",
        "history -c",
        "history -d 1",
        "history -s ': forged'",
    ] {
        session.run_all(&[": a", line, ": b"]);
    }
    let kept = cmds(&home);
    // `history -s` puts its argument in its own place, which is what the user asked for.
    let known = |cmd: &String| [": a", ": b", ": forged"].contains(&cmd.as_str());
    assert!(kept.iter().all(known), "{kept:?}");
    for cmd in [": a", ": b"] {
        assert_eq!(
            kept.iter().filter(|kept| *kept == cmd).count(),
            4,
            "{kept:?}"
        );
    }
}

#[test]
fn the_hook_leaves_the_history_alone() {
    let home = Home::new(Rc {
        before: "HISTCONTROL=ignorespace; HISTSIZE=50; HISTFILESIZE=60; HISTIGNORE=x",
        after: "",
    });
    let mut session = Session::start(Shell::Bash, &home);
    let settings = "echo $HISTCONTROL $HISTSIZE $HISTFILESIZE $HISTIGNORE ${HISTTIMEFORMAT-unset}";
    assert_eq!(session.ask(&home, settings), "ignorespace 50 60 x unset\n");
    session.run(": a");
    let history = session.ask(&home, "history");
    let lines: Vec<&str> = history.lines().map(|line| &line[7..]).collect();
    assert_eq!(lines.len(), 3, "{history}");
    assert_eq!(lines[1], ": a");
}

#[test]
fn without_cmdhist_the_last_line_does_not_hide_the_others() {
    let home = Home::new(Rc {
        before: "shopt -u cmdhist",
        after: "",
    });
    let mut session = Session::start(Shell::Bash, &home);
    session.terminal.send("for i in 1; do\r");
    session.run(":; done");
    assert_eq!(cmds(&home), ["for i in 1; do", ":; done"]);
}

#[test]
fn lithist_keeps_newlines() {
    let home = Home::new(Rc {
        before: "shopt -s lithist cmdhist",
        after: "",
    });
    let mut session = Session::start(Shell::Bash, &home);
    session.terminal.send("for i in 1; do\r");
    session.run(":; done");
    assert_eq!(cmds(&home), ["for i in 1; do\n:; done"]);
}

#[test]
fn what_history_expansion_made_of_a_line_is_kept() {
    for shell in SHELLS {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.run_all(&[": a", "!! b"]);
        assert_eq!(cmds(&home), [": a", ": a b"], "{shell:?}");
    }
}

#[test]
fn the_session_switch_keeps_everything_out_until_it_is_taken_back() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        let inner = shell.command();
        session.run(": before");
        for line in [
            "export RUSTORY_RECORD=0",
            ": hidden",
            &inner,
            ": hidden inside",
            "exit",
        ] {
            session.run(line);
        }
        let unset = match shell {
            Shell::Fish => "set -e RUSTORY_RECORD",
            _ => "unset RUSTORY_RECORD",
        };
        session.run_all(&[unset, ": after"]);
        let mut kept = cmds(&home);
        // zsh and fish tell of a line before it runs.
        kept.retain(|cmd| cmd != "export RUSTORY_RECORD=0");
        assert_eq!(kept, [": before", ": after"], "{shell:?}");
        for path in home.spool_files() {
            let raw = std::fs::read(path).unwrap().escape_ascii().to_string();
            assert!(!raw.contains("hidden"), "{shell:?}");
        }
    }
}
