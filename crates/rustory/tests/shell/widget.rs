//! ctrl+r: the query comes from the line, the choice goes to the line, cancelling changes nothing.
//!
//! `rr search` is played by a script here, since what matters is what the shell does with it.

use rustory_testkit::key;

use crate::session::{ALL, Home, PROMPT, Rc, SHELLS, Session, Shell, cmds, current_line};

/// A shell whose ctrl+r runs `script` in place of `rr search --widget`.
fn start(shell: Shell, home: &Home, script: &str) -> Session {
    let session = Session::start(shell, home);
    with_finder(session, home, script)
}

fn with_finder(mut session: Session, home: &Home, script: &str) -> Session {
    use std::os::unix::fs::PermissionsExt;
    home.write("finder", &format!("#!/bin/sh\n{script}\n"));
    let finder = home.path().join("finder");
    std::fs::set_permissions(&finder, PermissionsExt::from_mode(0o755)).unwrap();
    let set = session.shell().assign("__rr_bin", "~/finder");
    session.run(&format!("{set}; clear"));
    session.wait_for_line("");
    session
}

fn widgets() -> impl Iterator<Item = Shell> {
    // bash before 4.0 gives a widget no way to change the line; ctrl+r stays the built-in one.
    ALL.into_iter().filter(|shell| shell.version() >= 400)
}

fn keymaps(shell: Shell) -> [(&'static str, &'static str); 3] {
    match shell {
        Shell::Bash => [
            ("set -o emacs", ""),
            ("set -o vi", ""),
            ("set -o vi", key::ESCAPE),
        ],
        Shell::Fish => [
            ("fish_default_key_bindings", ""),
            ("fish_vi_key_bindings", ""),
            ("fish_vi_key_bindings", key::ESCAPE),
        ],
        Shell::Zsh => [
            ("bindkey -e", ""),
            ("bindkey -v", ""),
            ("bindkey -v", key::ESCAPE),
        ],
    }
}

#[test]
fn the_choice_is_put_on_the_line_and_not_run() {
    for shell in widgets() {
        for (keymap, keys) in keymaps(shell) {
            let home = Home::new(Rc {
                before: if shell == Shell::Fish { "" } else { keymap },
                after: "",
            });
            if shell == Shell::Fish {
                home.write_fish(keymap, "");
            }
            let mut session = start(shell, &home, "printf 'echo chosen >~/ran.'");
            session.terminal.send("typed");
            session.wait_for_line("typed");
            session.terminal.send(keys);
            session.terminal.send(key::ctrl('r'));
            session.wait_for_line("echo chosen >~/ran");
            assert_eq!(home.read("ran"), "", "{shell:?} {keymap}");
            session.run("");
            assert_eq!(home.read("ran"), "chosen\n", "{shell:?} {keymap}");
            assert_eq!(cmds(&home).last().unwrap(), "echo chosen >~/ran");
        }
    }
}

#[test]
fn the_cursor_stands_behind_the_choice() {
    for shell in widgets() {
        let home = Home::new(Rc::default());
        let mut session = start(shell, &home, "printf 'echo 한글 chosen.'");
        session.terminal.send(key::ctrl('r'));
        session.wait_for_line("echo 한글 chosen");
        session.terminal.send("!");
        session.wait_for_line("echo 한글 chosen!");
    }
}

#[test]
fn what_was_typed_is_the_query_and_never_an_argument() {
    for shell in widgets() {
        let home = Home::new(Rc::default());
        let script = "printf '%s\\n' \"$@\" >~/args; printf %s \"$RUSTORY_QUERY\" >~/query
            printf %s \"$RUSTORY_SESSION\" >~/session; exit 130";
        let mut session = start(shell, &home, script);
        session.terminal.send("--x 'a  한글 $HOME");
        session.wait_for_line("--x 'a  한글 $HOME");
        session.terminal.send(key::ctrl('r'));
        crate::session::eventually("the session id", || !home.read("session").is_empty());
        assert_eq!(home.read("query"), "--x 'a  한글 $HOME", "{shell:?}");
        assert_eq!(home.read("args"), "search\n--widget\n", "{shell:?}");
        assert_eq!(home.read("session"), home.headers()[0].session, "{shell:?}");
    }
}

#[test]
fn cancelling_restores_line_and_cursor() {
    for shell in widgets() {
        for (keymap, keys) in keymaps(shell) {
            let home = Home::new(Rc {
                before: if shell == Shell::Fish { "" } else { keymap },
                after: "",
            });
            if shell == Shell::Fish {
                home.write_fish(keymap, "");
            }
            let script = "echo x >>~/called; printf '\\033[?1049hFINDER' >/dev/tty
                printf '\\033[?1049l' >/dev/tty; exit 130";
            let mut session = start(shell, &home, script);
            session.terminal.send("echo one 둘");
            session.wait_for_line("echo one 둘");
            session
                .terminal
                .send(if keys.is_empty() { key::LEFT } else { keys });
            session.terminal.wait_for("the cursor to move", |screen| {
                screen.cursor_position() == (0, 11)
            });
            for called in 1..=3 {
                session.terminal.send(key::ctrl('r'));
                crate::session::eventually("the finder", || {
                    home.read("called").lines().count() == called
                });
            }
            session
                .terminal
                .send(if keys.is_empty() { "X" } else { "iX" });
            session.wait_for_line("echo one X둘");
            session.terminal.wait_for("a clean screen", |screen| {
                screen.contents().trim_end() == "$ echo one X둘"
            });
        }
    }
}

#[test]
fn a_choice_of_several_lines_arrives_with_its_newlines() {
    let choices = [
        "for i in 1 2; do\n  echo $i\ndone",
        "cat <<X >~/out\na  b\n\tc\nX",
        ": ends with a newline\n",
        ": 한글 👩\u{200d}💻 'quotes' \"$HOME\" \\ !x * ~  ",
        ": .",
    ];
    for shell in widgets() {
        let home = Home::new(Rc {
            before: "set +H 2>/dev/null; unsetopt bang_hist 2>/dev/null",
            after: "",
        });
        let mut session = start(shell, &home, "cat ~/choice; printf .");
        let report = match shell {
            Shell::Bash => {
                "show() { printf %s \"$READLINE_LINE\" >~/line; READLINE_LINE=; }; bind -x '\"\\C-g\": show'"
            }
            Shell::Fish => {
                "function show; commandline -b >~/line; commandline -r ''; end; bind \\cg show"
            }
            Shell::Zsh => {
                "show() { print -rn -- \"$BUFFER\" >~/line; BUFFER=; }; zle -N show; bindkey '^G' show"
            }
        };
        session.run(report);
        for choice in choices {
            home.write("choice", choice);
            home.write("line", "");
            session.run("clear");
            session.terminal.wait_for("a clear screen", |screen| {
                screen.contents().trim_end() == "$" && screen.cursor_position() == (0, 2)
            });
            session.terminal.send(key::ctrl('r'));
            session
                .terminal
                .wait_for("the choice", |screen| screen.cursor_position() != (0, 2));
            session.terminal.send(key::ctrl('g'));
            crate::session::eventually(&format!("the line {choice:?}"), || {
                // fish ends what it prints with a newline of its own.
                let end = ["", "\n"][usize::from(shell == Shell::Fish)];
                home.read("line") == format!("{choice}{end}")
            });
            session.settle();
        }
    }
}

/// The message is shown once, and the line is kept.
#[test]
fn a_finder_that_fails_says_so_and_keeps_the_line() {
    for shell in widgets() {
        for (script, message) in [
            ("echo 'rr: no such thing' >&2; exit 1", "rr: no such thing"),
            ("echo broken >&2; kill -9 $$", "broken"),
        ] {
            let home = Home::new(Rc::default());
            let mut session = start(shell, &home, script);
            session.terminal.send("kept");
            session.wait_for_line("kept");
            session.terminal.send(key::ctrl('r'));
            session
                .terminal
                .wait_for("the message and the line", |screen| {
                    screen.contents().matches(message).count() == 1
                        && current_line(screen) == "$ kept"
                });
            session.terminal.send("!");
            session.wait_for_line("kept!");
        }
    }
}

#[test]
fn an_rr_that_cannot_run_is_told_and_keeps_the_line() {
    for shell in widgets() {
        for bin in ["/nonexistent/rr", "/etc/passwd"] {
            let home = Home::new(Rc::default());
            let mut session = Session::start(shell, &home);
            let set = shell.assign("__rr_bin", bin);
            session.run(&format!("{set}; clear"));
            session.terminal.send("kept");
            session.wait_for_line("kept");
            session.terminal.send(key::ctrl('r'));
            session
                .terminal
                .wait_for("the message and the line", |screen| {
                    screen.contents().matches("cannot run").count() == 1
                        && current_line(screen) == "$ kept"
                });
            session.terminal.send("!");
            session.wait_for_line("kept!");
        }
    }
}

#[test]
fn a_finder_that_hangs_can_be_interrupted() {
    for shell in widgets() {
        let home = Home::new(Rc::default());
        let script = "echo hanging >/dev/tty; exec sleep 1000";
        let mut session = start(shell, &home, script);
        session.terminal.send("kept");
        session.wait_for_line("kept");
        session.terminal.send(key::ctrl('r'));
        session
            .terminal
            .wait_for("the finder", |screen| screen.contents().contains("hanging"));
        session.terminal.send(key::ctrl('c'));
        if shell == Shell::Fish {
            // The line stays as it was, and is drawn again with the next key.
            session.run("");
            session.run("echo alive");
            assert!(session.terminal.screen().contains("\nalive"), "{session:?}");
            continue;
        }
        // bash gives up the line with the finder, as ctrl+c does at its prompt.
        session.terminal.wait_for("a prompt", |screen| {
            current_line(screen).starts_with(PROMPT.trim_end())
        });
        session.settle();
        // bash before 5.1 may lose the first key after this.
        session.run(":");
        session.run("echo alive");
        assert!(session.terminal.screen().contains("\nalive"), "{session:?}");
    }
}

#[test]
fn what_the_widget_does_is_not_recorded() {
    for shell in widgets() {
        let home = Home::new(Rc::default());
        let mut session = start(shell, &home, "echo x >>~/called; exit 130");
        let before = cmds(&home).len();
        for called in 1..=10 {
            session.terminal.send(key::ctrl('r'));
            crate::session::eventually("the finder", || {
                home.read("called").lines().count() == called
            });
        }
        session.settle();
        session.run("");
        assert_eq!(cmds(&home).len(), before, "{shell:?}");
        session.run("sh -c 'exit 6'");
        let last = home.spooled().pop().unwrap();
        assert_eq!(
            (last.cmd.to_string(), last.exit_code),
            ("sh -c 'exit 6'".to_owned(), Some(6))
        );
    }
}

/// A prompt of two lines, on the last lines of a small screen.
#[test]
fn the_prompt_is_whole_after_cancelling() {
    for shell in widgets().filter(|shell| *shell != Shell::Fish) {
        let home = Home::new(Rc {
            before: "PS1=$'above\\n'\"$PS1\"",
            after: "",
        });
        let session = Session::start_with(shell, &home, |program| program.size(6, 40));
        let script = "echo x >>~/called; printf '\\033[?1049hFINDER' >/dev/tty
            printf '\\033[?1049l' >/dev/tty; exit 130";
        let mut session = with_finder(session, &home, script);
        session.run_all(&["echo 1", "echo 2", "echo 3"]);
        session.terminal.send("kept");
        session.wait_for_line("kept");
        let before = session.terminal.screen();
        session.terminal.send(key::ctrl('r'));
        crate::session::eventually("the finder", || !home.read("called").is_empty());
        session.terminal.send("!");
        session.wait_for_line("kept!");
        session.terminal.wait_for("the screen as before", |screen| {
            screen.contents().trim_end() == format!("{}!", before.trim_end())
        });
    }
}

#[test]
fn options_that_end_scripts_do_not_end_the_shell() {
    for shell in widgets().filter(|shell| *shell != Shell::Fish) {
        let home = Home::new(Rc {
            before: "set -euo pipefail; set -C",
            after: "",
        });
        let mut session = start(shell, &home, "echo x >~/called; exit 130");
        session.terminal.send("echo kept");
        session.wait_for_line("echo kept");
        session.terminal.send(key::ctrl('r'));
        crate::session::eventually("the finder", || !home.read("called").is_empty());
        session.terminal.send("!");
        session.wait_for_line("echo kept!");
        session.run("");
        assert!(session.terminal.screen().contains("\nkept!"), "{session:?}");
    }
}

#[test]
fn ctrl_r_stays_the_shells_own_where_asked() {
    for shell in SHELLS {
        let home = Home::new(Rc {
            before: "RUSTORY_NO_BIND=1",
            after: "",
        });
        let mut session = start(shell, &home, "printf 'from rr.'");
        session.run("echo findable");
        session.terminal.send(key::ctrl('r'));
        session.terminal.send("finda");
        session
            .terminal
            .wait_for("the shell's own search", |screen| {
                screen.contents().contains("i-search")
            });
    }
}

#[test]
fn the_arrow_keys_are_the_shells_own() {
    for shell in SHELLS {
        let home = Home::new(Rc::default());
        let mut session = start(shell, &home, "printf 'from rr.'");
        session.run("echo before");
        session.terminal.send(key::UP);
        session.wait_for_line("echo before");
    }
}
