//! What is kept of a command: its text, status, directory and time.

use rustory_testkit::key;

use crate::session::{
    ALL, Home, Rc, SHELLS, Session, Shell, check, check_in, cmds, current_line, eventually, exits,
};

#[test]
fn what_was_typed_is_what_is_stored() {
    let long = format!(": {}", "x".repeat(64 * 1024));
    let texts = [
        ": plain",
        ": 'single  quoted' \"double\" $'\\t'",
        ":  two  blanks  ",
        ": a\tb",
        ": 한글 e\u{301} 👩\u{200d}💻",
        ": --- -x --help",
        ": \\\\ \\' %s %% \\0 !$ ~",
        long.as_str(),
    ];
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.run("set +H 2>/dev/null; unsetopt bang_hist 2>/dev/null");
        // Very long lines take bash 3.2's line editor minutes.
        let texts = &texts[..texts.len() - usize::from(shell.version() < 400)];
        // In fish a `$` needs a name, and tabs of a paste are dropped.
        let texts = texts
            .iter()
            .filter(|text| shell != Shell::Fish || !text.contains(['$', '\t']));
        let texts: Vec<&str> = texts.copied().collect();
        for text in &texts {
            session.paste(text);
        }
        // A line longer than the screen is drawn more than once, and its prompt with it.
        eventually("all of them", || cmds(&home).len() > texts.len());
        assert_eq!(&cmds(&home)[1..], texts, "{shell:?}");
    }
}

#[test]
fn lines_of_one_command_stay_together() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        for lines in [
            ["cat <<X >/dev/null", "a  b", "X"],
            [": 'one", "two", "three'"],
            [": \"", "", "\""],
        ] {
            if shell == Shell::Fish && lines[0].contains("<<") {
                continue;
            }
            session.terminal.send(lines[..2].join("\r") + "\r");
            session.run(lines[2]);
        }
        let expect = [
            match shell.version() {
                // bash 3.2 itself keeps no more of it.
                ..400 => "cat <<X >/dev/null",
                _ => "cat <<X >/dev/null\na  b\nX",
            },
            ": 'one\ntwo\nthree'",
            ": \"\n\n\"",
        ];
        let expect = &expect[usize::from(shell == Shell::Fish)..];
        assert_eq!(cmds(&home), expect, "{shell:?}");
    }
}

#[test]
fn every_line_of_a_paste_is_kept() {
    for shell in SHELLS {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.paste(": one\n(exit 3)");
        session.run(": after");
        eventually("the last", || cmds(&home).contains(&": after".to_owned()));
        let kept = exits(&home);
        let all: Vec<&str> = kept.iter().map(|(cmd, _)| cmd.as_str()).collect();
        assert_eq!(all.join("\n"), ": one\n(exit 3)\n: after", "{shell:?}");
        assert_eq!(kept[kept.len() - 2].1, Some(3), "{shell:?}");
        let starts: Vec<_> = home.spooled().iter().map(|t| t.start).collect();
        assert!(starts.is_sorted(), "{shell:?} {starts:?}");
    }
}

#[test]
fn the_exit_status_is_kept() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.run_all(&[
            "true",
            "false",
            "sh -c 'exit 7'",
            "no-such-command",
            "true | false",
        ]);
        let prompts = session.prompts();
        session
            .terminal
            .send("sh -c 'echo waiting; exec sleep 100'\r");
        session.terminal.wait_for("the sleep", |screen| {
            screen.contents().contains("\nwaiting")
        });
        session.terminal.send(key::ctrl('c'));
        session.wait_for_prompts(prompts + 1);
        let codes: Vec<_> = exits(&home).into_iter().map(|(_, exit)| exit).collect();
        let expect = [0, 1, 7, 127, 1, 130].map(Some);
        assert_eq!(codes, expect, "{shell:?}");
    }
}

#[test]
fn a_command_belongs_to_the_directory_it_was_typed_in() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.run_all(&[
            "mkdir 'a b'",
            "cd 'a b'",
            ": there",
            "cd ..; cd /",
            ": root",
        ]);
        let there = home.path().join("a b");
        let dirs: Vec<_> = home.spooled().into_iter().map(|t| t.cwd).collect();
        let (home, there) = (home.path().to_str().unwrap(), there.to_str().unwrap());
        assert_eq!(dirs, [home, home, there, there, "/"], "{shell:?}");
    }
}

#[test]
fn nothing_is_kept_of_what_did_not_run() {
    for shell in SHELLS {
        let home = Home::new(Rc::default());
        home.write(".bash_history", ": last week\n");
        home.write(".zsh_history", ": last week\n");
        let mut session = Session::start(shell, &home);
        session.run("");
        // Keys, and what the cursor's line shows then: only when it does, is the line editor there
        // to get the signal.
        for (keys, shown) in [
            (&["x", key::BACKSPACE][..], "$"),
            (&[": half a line"], "$ : half a line"),
            (&["for i in 1 2\r"], ">"),
        ] {
            if shown == ">" && shell.version() < 404 {
                // The line is in the history, and no PS0 tells that it did not run.
                continue;
            }
            for typed in keys {
                let before = session.terminal.output_len();
                session.terminal.send(typed);
                session
                    .terminal
                    .wait_for_output("an echo", |output| output.len() > before);
            }
            session
                .terminal
                .wait_for(shown, |screen| current_line(screen) == shown);
            session.interrupt();
        }
        session.run("");
        assert_eq!(cmds(&home), [""; 0], "{shell:?}");
        session.run(": ran");
        session.run("");
        assert_eq!(exits(&home), [(": ran".to_owned(), Some(0))], "{shell:?}");
    }
}

#[test]
fn a_directory_that_a_prompt_hook_changed_to_is_the_one_typed_in() {
    let home = Home::new(Rc {
        before: "go() { cd /usr; }; PROMPT_COMMAND=go; precmd_functions=(go)",
        after: "",
    });
    for shell in SHELLS {
        let mut session = Session::start(shell, &home);
        session.run_all(&[": a", "cd /"]);
    }
    assert!(home.spooled().iter().all(|t| t.cwd == "/usr"));
    assert_eq!(cmds(&home).len(), 4);
}

/// bash keeps them in its own history too, and people use comments to put a line aside.
#[test]
fn bash_keeps_comments_and_lines_that_do_not_parse() {
    let home = Home::new(Rc::default());
    let mut session = Session::start(Shell::Bash, &home);
    session.run_all(&["# put aside", "echo (", "# and again", ": ran"]);
    let expect = [
        ("# put aside", None),
        ("echo (", Some(2)),
        ("# and again", None),
        (": ran", Some(0)),
    ];
    let expect = expect.map(|(cmd, exit)| (cmd.to_owned(), exit));
    if Shell::Bash.version() >= 404 {
        assert_eq!(exits(&home), expect);
    }
    assert_eq!(cmds(&home), expect.map(|(cmd, _)| cmd));
}

#[test]
fn a_leading_space_keeps_a_command_out() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.run_all(&[" : hidden", ": shown"]);
        let raw = std::fs::read(&home.spool_files()[0]).unwrap();
        let spooled = raw.escape_ascii().to_string().contains("hidden");
        // bash shows hooks no text, so what it keeps in its history is left out later.
        assert_eq!(spooled, shell == Shell::Bash);
        let listed = home.rr(&["list", "--json"]);
        assert!(listed.contains(": shown"), "{shell:?} {listed}");
        assert!(!listed.contains("hidden"), "{shell:?} {listed}");
    }
}

#[test]
fn start_and_duration_are_those_of_the_command() {
    for shell in SHELLS {
        let home = Home::new(Rc {
            before: "prompt_hook() { sleep 0.2; }; PROMPT_COMMAND=prompt_hook; precmd_functions=(prompt_hook)",
            after: "",
        });
        let mut session = Session::start(shell, &home);
        let before = now();
        session.run("sleep 0.3");
        let after = now();
        let typed = &home.spooled()[0];
        let start = typed.start.unwrap().as_micros();
        assert!(before - 1_000_000 <= start && start <= after, "{shell:?}");
        if shell.version() < 500 {
            assert_eq!(typed.duration_ms, None);
            continue;
        }
        let duration = i64::try_from(typed.duration_ms.unwrap()).unwrap();
        assert!(duration >= 300, "{shell:?}: {duration}");
        // What the command did not take, the prompt hook and the terminal took.
        assert!(
            duration <= (after - before) / 1_000 - 200,
            "{shell:?}: {duration}"
        );
    }
}

/// The locale's decimal comma shows in `EPOCHREALTIME`.
#[test]
fn a_decimal_comma_in_the_clock_does_no_harm() {
    if Shell::Bash.version() < 500 {
        return;
    }
    let home = Home::new(Rc {
        before: "unset EPOCHREALTIME; EPOCHREALTIME=1700000000,123456",
        after: "",
    });
    let mut session = Session::start(Shell::Bash, &home);
    session.run(": x");
    let typed = &home.spooled()[0];
    assert_eq!(typed.start.unwrap().as_micros(), 1_700_000_000_123_456);
    assert_eq!(typed.duration_ms, Some(0));
}

#[test]
fn a_command_whose_terminal_dies_is_kept_by_zsh_and_fish() {
    for shell in [Shell::Zsh, Shell::Fish] {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.terminal.send("echo waiting; sleep 100\r");
        session.terminal.wait_for("the sleep", |screen| {
            screen.contents().contains("\nwaiting")
        });
        session.terminal.kill();
        let typed = home.spooled().pop().unwrap();
        assert_eq!(typed.cmd, "echo waiting; sleep 100", "{shell:?}");
        // fish may see its terminal go, and the command with it.
        assert!(typed.exit_code.is_none() || shell == Shell::Fish);
    }
}

#[test]
fn start_and_duration_are_those_of_the_command_in_fish() {
    let home = Home::new(Rc::default());
    home.write_fish("function slow --on-event fish_prompt; sleep 0.2; end", "");
    let mut session = Session::start(Shell::Fish, &home);
    let before = now();
    session.run("sleep 0.3");
    let after = now();
    let typed = &home.spooled()[0];
    // Without `path mtime`, before fish 3.6, there is no clock.
    if let Some(start) = typed.start {
        // Whole seconds.
        let start = start.as_micros();
        assert!(before - 2_000_000 <= start && start <= after, "{start}");
    }
    let duration = i64::try_from(typed.duration_ms.unwrap()).unwrap();
    assert!(
        (300..=(after - before) / 1_000 - 200).contains(&duration),
        "{duration}"
    );
}

/// fish keeps these out of its own history.
#[test]
fn nothing_of_a_private_fish_is_kept() {
    for before in [
        "set -g fish_private_mode 1",
        "set -g fish_history ''",
        "function fish_should_add_to_history; return 1; end",
    ] {
        let home = Home::new(Rc::default());
        home.write_fish(before, "");
        let mut session = Session::start(Shell::Fish, &home);
        session.run_all(&[": hidden", "echo alive"]);
        assert_eq!(cmds(&home), [""; 0], "{before}");
    }
}

#[test]
fn prompt_shown_means_it_is_in_the_spool() {
    check(
        Rc::default(),
        &[": 1", ": 2", ": 2", ": 3"],
        &[": 1", ": 2", ": 2", ": 3"],
    );
    let lines = [": 1", ": 2", ": 2", ": 3"];
    check_in(Shell::Fish, Rc::default(), &lines, &lines);
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.unwrap().as_micros()).unwrap()
}
