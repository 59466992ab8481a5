//! What was in the shell before is still there, and still works.

use crate::session::{ALL, Home, Rc, SHELLS, Session, Shell, check, check_in, cmds, exits};

/// What later entries of PROMPT_COMMAND and the prompt see of the command.
#[test]
fn later_hooks_still_see_the_commands_status() {
    let show = "show() { echo \"$? \" >>~/seen; }";
    let zsh =
        "show() { seen=\"$? $pipestatus\"; echo \"$seen\" >>~/seen; }; precmd_functions=(show)";
    let array = "PROMPT_COMMAND=(show)";
    let string = "PROMPT_COMMAND=show";
    for (shell, before, after, line, expect) in [
        (
            Shell::Bash,
            [show, string].join("; "),
            "",
            "true | (exit 3)",
            "3 ",
        ),
        (Shell::Bash, show.to_owned(), string_after(), "false", "1 "),
        (Shell::Bash, [show, array].join("; "), "", "false", "1 "),
        (
            Shell::Bash,
            show.to_owned(),
            "PROMPT_COMMAND+=(show)",
            "(exit 4)",
            "4 ",
        ),
        (
            Shell::Zsh,
            zsh.to_owned(),
            "",
            "(exit 7) | (exit 3)",
            "3 7 3",
        ),
    ] {
        if after.contains('(') && shell.version() < 501 {
            continue;
        }
        let home = Home::new(Rc {
            before: &before,
            after,
        });
        let mut session = Session::start(shell, &home);
        session.run(line);
        let seen = home.read("seen");
        let last = seen.lines().last().unwrap_or_default();
        assert!(last.starts_with(expect), "{before} {after}: {seen}");
        assert_eq!(
            exits(&home)[0].1,
            expect[..1].parse().ok(),
            "{before} {after}"
        );
    }
}

fn string_after() -> &'static str {
    "PROMPT_COMMAND=\"$PROMPT_COMMAND; show\""
}

#[test]
fn later_hooks_still_see_the_last_argument() {
    for pc in [
        "PROMPT_COMMAND='echo $_ >>~/seen'",
        "PROMPT_COMMAND=('echo $_ >>~/seen')",
    ] {
        let home = Home::new(Rc {
            before: pc,
            after: "",
        });
        let mut session = Session::start(Shell::Bash, &home);
        session.run("true a lastarg");
        assert_eq!(home.read("seen").lines().last(), Some("lastarg"), "{pc}");
    }
}

#[test]
fn later_hooks_still_see_the_status_of_every_part_of_a_pipe() {
    if Shell::Bash.version() < 501 {
        // All entries share one string there, and nothing can set PIPESTATUS.
        return;
    }
    for pc in [
        "PROMPT_COMMAND='echo ${PIPESTATUS[*]} >>~/seen'",
        "PROMPT_COMMAND=(: 'echo ${PIPESTATUS[*]} >>~/seen')",
    ] {
        let home = Home::new(Rc {
            before: pc,
            after: "",
        });
        let mut session = Session::start(Shell::Bash, &home);
        session.run("(exit 3) | (exit 4) | true");
        assert_eq!(home.read("seen").lines().last(), Some("3 4 0"), "{pc}");
    }
}

#[test]
fn the_prompt_itself_still_sees_the_status() {
    let home = Home::new(Rc {
        before: "",
        after: "PS1=\"$PS1\"'<$?>'; [[ -n ${ZSH_VERSION-} ]] && PS1=\"$PS1<%?>\"",
    });
    for shell in SHELLS {
        let mut session = Session::start(shell, &home);
        session.run("(exit 5)");
        session
            .terminal
            .wait_for("the status in the prompt", |screen| {
                screen.contents().contains("$ <5>") || screen.contents().contains("<5>")
            });
    }
}

/// The forms in which others leave PROMPT_COMMAND, before or after this hook.
#[test]
fn every_form_of_prompt_command_goes_on_working() {
    for (before, after) in [
        ("PROMPT_COMMAND=other", ""),
        ("PROMPT_COMMAND='other;'", ""),
        ("PROMPT_COMMAND='other ; '", ""),
        ("PROMPT_COMMAND=$'other\\n'", ""),
        ("PROMPT_COMMAND=$'\\nother\\n\\n'", ""),
        ("PROMPT_COMMAND='other # a comment'", ""),
        ("PROMPT_COMMAND='other; other2'", ""),
        ("PROMPT_COMMAND=(other)", ""),
        ("PROMPT_COMMAND=('other;' '' other2)", ""),
        ("export PROMPT_COMMAND=other", ""),
        ("declare -a PROMPT_COMMAND=(other)", ""),
        ("", "PROMPT_COMMAND=\"other;$PROMPT_COMMAND\""),
        ("", "PROMPT_COMMAND=\"other; $PROMPT_COMMAND\""),
        ("", "PROMPT_COMMAND=\"$PROMPT_COMMAND;other\""),
        ("", "PROMPT_COMMAND+=';other'"),
        ("", "PROMPT_COMMAND+=$'\\nother'"),
        (
            "PROMPT_COMMAND=other2",
            "PROMPT_COMMAND=\"other && $PROMPT_COMMAND\"",
        ),
        (
            "PROMPT_COMMAND=other2",
            "PROMPT_COMMAND=\"other;${PROMPT_COMMAND:+$PROMPT_COMMAND;}\"",
        ),
    ] {
        let rc = Rc {
            before: &[
                "other() { echo other >>~/seen; }; other2() { :; }\n",
                before,
            ]
            .concat(),
            after,
        };
        let home = Home::new(rc);
        let mut session = Session::start(Shell::Bash, &home);
        session.run_all(&["false", "true"]);
        let expect = [("false", Some(1)), ("true", Some(0))];
        let expect = expect.map(|(cmd, exit)| (cmd.to_owned(), exit));
        assert_eq!(exits(&home), expect, "{before} | {after}");
        assert_eq!(home.read("seen").lines().count(), 3, "{before} | {after}");
    }
}

#[test]
fn an_array_that_others_add_to_goes_on_working() {
    if Shell::Bash.version() < 501 {
        return;
    }
    for after in [
        "PROMPT_COMMAND+=(other)",
        "PROMPT_COMMAND=(other \"${PROMPT_COMMAND[@]}\")",
        // Overwritten, not added to: the last entry puts the first one back.
        "PROMPT_COMMAND=other",
    ] {
        let home = Home::new(Rc {
            before: "other() { echo \"$?\" >>~/seen; return 9; }",
            after,
        });
        let mut session = Session::start(Shell::Bash, &home);
        session.run_all(&["false", "true"]);
        let codes: Vec<_> = exits(&home).into_iter().map(|(_, exit)| exit).collect();
        assert_eq!(codes, [Some(1), Some(0)], "{after}");
        let seen: Vec<String> = home.read("seen").lines().map(str::to_owned).collect();
        assert_eq!(seen[seen.len() - 2..], ["1", "0"], "{after}");
    }
}

/// Set at the prompt, in front of the hook: for that one prompt the status is gone, then the hook
/// is in front again.
#[test]
fn the_hook_goes_back_to_the_front() {
    let home = Home::new(Rc {
        before: "other() { return 9; }",
        after: "",
    });
    let mut session = Session::start(Shell::Bash, &home);
    session.run("PROMPT_COMMAND=\"other;$PROMPT_COMMAND\"");
    session.run_all(&["(exit 3)", "true"]);
    let codes: Vec<_> = exits(&home).into_iter().map(|(_, exit)| exit).collect();
    assert_eq!(codes, [None, Some(3), Some(0)]);
    let first = session.ask(&home, "echo \"$PROMPT_COMMAND\"");
    assert!(!first.starts_with("other"), "{first}");
}

#[test]
fn a_readonly_prompt_command_is_told_once_and_breaks_nothing() {
    let home = Home::new(Rc {
        before: "other() { echo other >>~/seen; }; readonly PROMPT_COMMAND=other",
        after: "",
    });
    let mut session = Session::start(Shell::Bash, &home);
    session.run_all(&[": a", ": b"]);
    let screen = session.terminal.screen();
    assert_eq!(
        screen.matches("PROMPT_COMMAND is readonly").count(),
        1,
        "{screen}"
    );
    assert_eq!(screen.matches("readonly variable").count(), 0, "{screen}");
    assert_eq!(home.read("seen").lines().count(), 3);
}

#[test]
fn an_rc_file_read_again_changes_nothing() {
    for (shell, before) in [
        (Shell::Bash, "PROMPT_COMMAND=other"),
        (Shell::Bash, "PROMPT_COMMAND=\"other; ${PROMPT_COMMAND-}\""),
        (Shell::Bash, ""),
        (Shell::Zsh, "precmd_functions=(other)"),
    ] {
        if before.contains("${") && shell.version() < 501 {
            // Read again, that line adds to PROMPT_COMMAND by itself.
            continue;
        }
        let home = Home::new(Rc {
            before: &format!("other() {{ :; }}; {before}"),
            after: "",
        });
        let mut session = Session::start(shell, &home);
        let rc = match shell {
            Shell::Bash => ". ~/bashrc",
            _ => ". ~/.zshrc",
        };
        let state = "echo \"$PS0\"; typeset -p PROMPT_COMMAND precmd_functions preexec_functions";
        session.run(rc);
        let once = session.ask(&home, state);
        session.run_all(&[rc, rc]);
        assert_eq!(session.ask(&home, state), once, "{shell:?} {before}");
        session.run(": a");
        let kept = cmds(&home);
        assert_eq!(
            kept.iter().filter(|cmd| *cmd == ": a").count(),
            1,
            "{kept:?}"
        );
        assert_eq!(home.spool_files().len(), 1, "{shell:?} {before}");
    }
}

/// All that loading may change: names of its own, and the hooks that the README lists.
#[test]
fn loading_changes_only_what_is_documented() {
    let bash = "shopt; set -o; trap; bind -v; for map in emacs vi-insert vi-command; do bind -m $map -X; done 2>/dev/null; \
        alias; (set -o posix; set) | grep -v 'BASH\\|RANDOM\\|SECONDS\\|EPOCH\\|LINENO\\|FUNCNAME\\|PIPESTATUS\\|OPTIND\\| _='; declare -F";
    let zsh = "setopt; trap; alias; bindkey -M emacs; bindkey -M viins; bindkey -M vicmd; zle -l; \
        functions +; typeset -p | grep -v 'RANDOM\\|SECONDS\\|EPOCH\\|LINENO\\|TTYIDLE\\| _=\\|pipestatus\\|status'";
    for (shell, state) in [(Shell::Bash, bash), (Shell::Zsh, zsh)] {
        let home = Home::new(Rc {
            before: &format!("state() {{ {state}; }}; state >~/before 2>&1"),
            after: "state >~/after 2>&1",
        });
        Session::start(shell, &home);
        let (before, after) = (home.read("before"), home.read("after"));
        let changed = changed_lines(&before, &after);
        let documented: &[&str] = match shell {
            Shell::Bash => &["__rr_", "PROMPT_COMMAND", "PS0"],
            _ => &[
                "__rr_",
                "precmd_functions",
                "preexec_functions",
                "^R",
                "rustory-search",
                "epochtime",
            ],
        };
        let surprises: Vec<_> = changed
            .iter()
            .filter(|line| !documented.iter().any(|known| line.contains(known)))
            .collect();
        assert!(surprises.is_empty(), "{shell:?} {surprises:#?}");
        assert!(
            changed.iter().any(|line| line.contains("__rr_")),
            "{shell:?}: {after}"
        );
    }
}

fn changed_lines<'a>(before: &'a str, after: &'a str) -> Vec<&'a str> {
    let known: std::collections::HashSet<&str> = before.lines().collect();
    let now: std::collections::HashSet<&str> = after.lines().collect();
    let gone = before.lines().filter(|line| !now.contains(line));
    let new = after.lines().filter(|line| !known.contains(line));
    gone.chain(new).collect()
}

#[test]
fn the_debug_trap_stays_and_fires() {
    let home = Home::new(Rc {
        before: "trap 'echo \"$BASH_COMMAND\" >>~/seen' DEBUG",
        after: "trap -p DEBUG >~/trap",
    });
    let mut session = Session::start(Shell::Bash, &home);
    session.run_all(&["(exit 3)", ": b"]);
    assert_eq!(
        home.read("trap"),
        "trap -- 'echo \"$BASH_COMMAND\" >>~/seen' DEBUG\n"
    );
    assert!(home.read("seen").contains("\n: b\n"));
    let expect = [("(exit 3)", Some(3)), (": b", Some(0))];
    assert_eq!(
        exits(&home),
        expect.map(|(cmd, exit)| (cmd.to_owned(), exit))
    );
}

/// Once for the command; not again for the status that a hook hands on.
#[test]
fn an_err_trap_fires_once() {
    for (shell, signal) in [(Shell::Bash, "ERR"), (Shell::Zsh, "ZERR")] {
        if shell.version() < 501 {
            // There the hook has to hand on the status itself.
            continue;
        }
        let home = Home::new(Rc {
            before: "",
            after: &format!(
                "[[ -n ${{ZSH_VERSION-}} ]] && set -- ZERR || set -- ERR
                set -E 2>/dev/null; trap 'echo {signal} >>~/seen' $1"
            ),
        });
        let mut session = Session::start(shell, &home);
        session.run_all(&["false", ": a", ""]);
        assert_eq!(home.read("seen"), format!("{signal}\n"));
    }
}

#[test]
fn the_users_own_ps0_and_hooks_go_on_working() {
    let home = Home::new(Rc {
        before: "PS0='<ps0 \\#>'; preexec() { echo \"<preexec>\"; }; precmd() { : ; }",
        after: "",
    });
    for (shell, mark) in [(Shell::Bash, "<ps0 "), (Shell::Zsh, "<preexec>")] {
        let mut session = Session::start(shell, &home);
        session.run("echo out");
        let screen = session.terminal.screen();
        let marked = screen.contains(mark) || shell.version() < 404;
        assert!(marked && screen.contains("out\n"), "{screen}");
    }
    assert_eq!(cmds(&home), ["echo out", "echo out"]);
}

/// Options that change what a script means. Each is set before the hook and in use afterwards.
#[test]
fn shell_options_do_not_matter() {
    let lines = ["! true", ": b", "cd /; pwd", ": d"];
    for option in [
        "set -e",
        "set -u",
        "set -o pipefail",
        "set -euo pipefail",
        "set -f",
        "set -C",
        "set -a",
        "set -o posix",
        "set -euo posix",
        "set -T",
        "set -E; trap : ERR",
        "shopt -u promptvars",
        "shopt -s nocasematch",
        "shopt -s failglob nullglob extglob",
        "shopt -s compat31",
        "IFS=",
        "IFS=_r0123456789",
        "LC_ALL=C",
    ] {
        let rc = Rc {
            before: option,
            after: "",
        };
        check_in(Shell::Bash, rc, &lines, &lines);
    }
    for option in [
        "set -e",
        "set -u",
        "setopt err_return",
        "setopt pipe_fail",
        "setopt ksh_arrays",
        "setopt sh_glob",
        "setopt sh_word_split",
        "setopt no_clobber no_append_create",
        "setopt all_export",
        "setopt no_equals no_bare_glob_qual ksh_glob",
        "setopt null_glob no_nomatch extended_glob",
        "setopt warn_create_global",
        "setopt ignore_braces",
        "setopt posix_builtins posix_identifiers",
        "setopt prompt_subst prompt_bang",
        "IFS=",
        "IFS=_r0123456789",
        "LC_ALL=C",
        "emulate sh",
        "emulate ksh",
    ] {
        let rc = Rc {
            before: option,
            after: "",
        };
        check_in(Shell::Zsh, rc, &lines, &lines);
    }
}

#[test]
fn nothing_shows_on_the_screen() {
    for option in [
        "",
        "set -u",
        "shopt -u promptvars",
        "set -o posix",
        "set -C",
        "set -T",
    ] {
        let home = Home::new(Rc {
            before: option,
            after: "",
        });
        for shell in SHELLS {
            if shell == Shell::Zsh && option.starts_with("shopt") {
                continue;
            }
            let mut session = Session::start(shell, &home);
            session.run_all(&["clear", ": a", "echo out"]);
            let screen = session.terminal.screen();
            assert_eq!(
                screen.trim_end(),
                "$ : a\n$ echo out\nout\n$",
                "{shell:?} {option}"
            );
        }
    }
}

#[test]
fn tracing_does_not_show_the_insides() {
    for shell in SHELLS {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.run_all(&["set -x", "clear", "echo out"]);
        let screen = session.terminal.screen();
        assert!(!screen.contains("__rr_append"), "{screen}");
        assert!(
            !screen.contains("printf") && !screen.contains("print -rn"),
            "{screen}"
        );
    }
}

#[test]
fn aliases_and_functions_of_the_users_are_not_called() {
    let names = [
        "printf", "print", "local", "history", "return", "shopt", "bind", "umask", "setopt",
        "emulate", "zmodload", "typeset", "bindkey", "zle", "unset", "fc",
    ];
    for form in ["alias NAME='echo hijacked'", "NAME() { echo hijacked; }"] {
        let all: Vec<String> = names
            .iter()
            .map(|name| form.replace("NAME", name))
            .collect();
        let home = Home::new(Rc {
            before: &all.join("\n"),
            after: "",
        });
        for shell in SHELLS {
            let mut session = Session::start(shell, &home);
            session.run_all(&["clear", ": a"]);
            let screen = session.terminal.screen();
            assert!(!screen.contains("hijacked"), "{shell:?} {form}\n{screen}");
        }
        assert_eq!(
            cmds(&home).iter().filter(|cmd| *cmd == ": a").count(),
            2,
            "{form}"
        );
    }
}

#[test]
fn nested_shells_have_sessions_of_their_own() {
    let home = Home::new(Rc::default());
    for shell in ALL {
        let (inner, same) = match shell {
            Shell::Bash => (Shell::Zsh, Shell::Bash),
            Shell::Zsh => (Shell::Fish, Shell::Zsh),
            Shell::Fish => (Shell::Bash, Shell::Fish),
        };
        let mut session = Session::start(shell, &home);
        session.run(": outer");
        session.run(&inner.command());
        session.run(": inner");
        session.run(&same.command());
        session.run(": innermost");
        session.run_all(&["exit", "exit", ": outer again"]);
        session.run(&format!("exec {}", shell.command()));
        session.run(": another");
        session.exit();
    }
    let mut sessions: Vec<String> = home.headers().into_iter().map(|h| h.session).collect();
    sessions.dedup();
    assert_eq!(sessions.len(), 12);
    let typed = home.spooled();
    for (cmd, times) in [
        (": outer", 3),
        (": inner", 3),
        (": innermost", 3),
        (": another", 3),
    ] {
        assert_eq!(
            typed.iter().filter(|t| t.cmd == cmd).count(),
            times,
            "{cmd}"
        );
    }
    let of = |cmd: &str| -> Vec<&String> {
        let all = typed.iter().filter(|t| t.cmd == cmd);
        all.map(|t| &t.session).collect()
    };
    assert_ne!(of(": outer"), of(": inner"));
    assert_ne!(of(": outer"), of(": another"));
    let mut again = of(": outer again");
    again.sort();
    let mut outer = of(": outer");
    outer.sort();
    assert_eq!(outer, again);
}

#[test]
fn children_inherit_nothing() {
    for shell in SHELLS {
        for before in ["", "export PROMPT_COMMAND=:", "export PS0="] {
            let home = Home::new(Rc { before, after: "" });
            let mut session = Session::start(shell, &home);
            session.run(": a");
            let env = session.ask(&home, "env");
            assert!(!env.contains("__rr_session="), "{shell:?} {env}");
            let bare = "bash --norc --noprofile -i -c 'eval \"$PROMPT_COMMAND\"; echo ok'";
            let said = session.ask(&home, bare);
            assert_eq!(
                said.lines().last(),
                Some("ok"),
                "{shell:?} {before}: {said}"
            );
            assert!(!said.contains("__rr_"), "{shell:?} {before}: {said}");
        }
    }
}

#[test]
fn scripts_are_left_alone() {
    let home = Home::new(Rc::default());
    for shell in SHELLS {
        let hook = home.rr(&["init", shell.name()]);
        home.write("hook", &hook);
        let out = std::process::Command::new(shell.name())
            .args(["-c", ". ~/hook; echo \"<${__rr_session-none}>\""])
            .env("HOME", home.path())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "<none>\n");
        assert!(out.stderr.is_empty(), "{out:?}");
    }
    assert!(home.spool_files().is_empty());
}

#[test]
fn jobs_and_subshells_are_the_users_own() {
    check(
        Rc::default(),
        &["(exit 7)", "(cd /; pwd)", "true &", "wait", "jobs"],
        &["(exit 7)", "(cd /; pwd)", "true &", "wait", "jobs"],
    );
}

#[test]
fn other_hooks_of_fish_see_the_status_and_loading_again_changes_nothing() {
    let home = Home::new(Rc::default());
    let hook = "function seen --on-event fish_postexec; echo $status $pipestatus >>~/seen; end";
    home.write_fish("", hook);
    let mut session = Session::start(Shell::Fish, &home);
    let read_again = "source ~/.config/fish/config.fish";
    session.run_all(&[read_again, read_again, "sh -c 'exit 7' | true", "false"]);
    assert_eq!(
        home.read("seen").lines().skip(2).collect::<Vec<_>>(),
        ["0 7 0", "1 1"]
    );
    assert_eq!(session.ask(&home, "set -gx | string match '__rr*'"), "");
    assert_eq!(cmds(&home).len(), 5);
    assert_eq!(home.headers().len(), 1);
}

/// A function may carry a builtin's name.
#[test]
fn functions_of_the_users_are_not_called_in_fish() {
    let home = Home::new(Rc::default());
    let functions = "for name in printf random math path; function $name; echo CALLED; end; end";
    home.write_fish("", functions);
    let mut session = Session::start(Shell::Fish, &home);
    session.run_all(&[": a", "builtin false"]);
    let kept = exits(&home);
    assert_eq!(
        kept,
        [
            (": a".to_owned(), Some(0)),
            ("builtin false".to_owned(), Some(1))
        ]
    );
}
