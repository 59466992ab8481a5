//! The finder as its user sees it: `rr search` in a pseudo-terminal.

#![allow(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

#[path = "finder/home.rs"]
mod home;
#[path = "finder/screens.rs"]
mod screens;

use std::fs;
use std::path::Path;

use home::{Home, Typed, typed};
use rustory_testkit::{Program, Terminal, key};

/// The list and the prompt are there, and everything is loaded.
fn opened(terminal: &Terminal) {
    terminal.wait_for("the finder", |screen| {
        let text = screen.contents();
        text.contains("> ") && text.contains("/") && !text.contains('…')
    });
}

fn shows(terminal: &Terminal, text: &str) {
    terminal.wait_for(text, |screen| screen.contents().contains(text));
}

fn hides(terminal: &Terminal, text: &str) {
    terminal.wait_for(&format!("the end of {text}"), |screen| {
        !screen.contents().contains(text)
    });
}

/// The commands of the list, as far as they are there, from the top.
fn listed(terminal: &Terminal, of: &[&str]) -> Vec<String> {
    let screen = terminal.screen();
    screen
        .lines()
        .take_while(|line| !line.contains("ctrl-o keys"))
        .filter_map(|line| of.iter().find(|cmd| line.contains(*cmd)))
        .map(|cmd| (*cmd).to_owned())
        .collect()
}

#[test]
fn the_newest_command_is_next_to_the_prompt_and_repeated_ones_are_listed_once() {
    let home = Home::with(&["alpha one", "beta two", "alpha one", "gamma three"]);
    let terminal = home.builtin("").start();
    shows(&terminal, "3/3 ");
    assert_eq!(
        listed(&terminal, &["alpha one", "beta two", "gamma three"]),
        ["beta two", "alpha one", "gamma three"]
    );
}

#[test]
fn typing_filters_and_enter_takes_the_best() {
    let home = Home::with(&["git push", "cargo test", "git pull"]);
    let mut terminal = home.builtin("").start();
    opened(&terminal);
    terminal.send("push");
    hides(&terminal, "cargo test");
    terminal.send(key::ENTER);
    assert_eq!(
        home.end(&terminal),
        ("0".to_owned(), b"git push\n".to_vec())
    );
}

#[test]
fn enter_takes_what_answers_the_query_however_fast_it_comes() {
    let home = Home::new();
    home.add((0..3_000).map(|i| typed(format!("command {i}"))));
    let mut terminal = home.builtin("").start();
    opened(&terminal);
    terminal.send("'command\\ 17$\r");
    assert_eq!(home.end(&terminal).1, b"command 17\n");
}

#[test]
fn enter_before_anything_is_painted_takes_the_newest() {
    let home = Home::new();
    home.add((0..20_000).map(|i| typed(format!("command {i}"))));
    let mut terminal = home.builtin("").start();
    terminal.send(key::ENTER);
    assert_eq!(home.end(&terminal).1, b"command 19999\n");
}

#[test]
fn what_is_typed_behind_enter_stays_for_the_shell() {
    let home = Home::with(&["ls"]);
    let mut terminal = home.builtin("").start();
    opened(&terminal);
    terminal.send("l\recho later\n");
    home.end(&terminal);
    let read = home.path().join("read");
    terminal.wait_for("the shell's read", |_| read.exists());
    terminal.exit_status();
    assert_eq!(fs::read_to_string(read).unwrap(), "read: echo later\n");
}

#[test]
fn cancelling_prints_nothing_and_leaves_the_screen_as_it_was() {
    for keys in [
        key::ESCAPE.to_owned(),
        key::ctrl('c'),
        key::ctrl('g'),
        key::ctrl('d'),
    ] {
        let home = Home::with(&["git push"]);
        let mut terminal = home.builtin("").size(10, 40).start();
        opened(&terminal);
        terminal.send(&keys);
        assert_eq!(home.end(&terminal), ("130".to_owned(), Vec::new()));
        shows(&terminal, "first line\nsecond line\n$");
        assert_eq!(terminal.cursor(), (2, 2));
        assert_eq!(home.stderr(), "");
    }
}

#[test]
fn a_resize_during_the_search_neither_hurts_it_nor_the_screen_below() {
    let home = Home::with(&["git push", "git pull"]);
    let mut terminal = home.builtin("").size(10, 60).start();
    opened(&terminal);
    terminal.resize(30, 100);
    terminal.wait_for("the larger frame", |screen| {
        screen
            .rows(0, 100)
            .any(|row| row.contains("ctrl-v preview"))
    });
    terminal.resize(10, 60);
    shows(&terminal, "git push");
    terminal.send(key::ESCAPE);
    home.end(&terminal);
    shows(&terminal, "first line\nsecond line\n$");
}

#[test]
fn the_widget_gets_the_query_from_the_environment_and_a_dot_behind_the_choice() {
    let home = Home::with(&["git push", "cargo test"]);
    let mut terminal = home
        .builtin("--widget")
        .env("RUSTORY_QUERY", "git\npu")
        .start();
    shows(&terminal, "> git pu");
    hides(&terminal, "cargo test");
    terminal.send(key::ENTER);
    assert_eq!(home.end(&terminal).1, b"git push.");
}

#[test]
fn exact_bytes_are_printed_whatever_is_shown() {
    for cmd in [
        b"for x in 1 2\n\tdo echo $x  \ndone\n\n".to_vec(),
        b"echo \xff\xfe bad".to_vec(),
        "vi \u{1112}\u{1161}\u{11ab} e\u{301}".into(),
        b"printf '\x1b]0;pwn\x07 \x7f'".to_vec(),
        "echo \u{202e}desrever".into(),
    ] {
        let home = Home::new();
        home.add([typed(&cmd)]);
        let mut terminal = home.builtin("--widget").start();
        opened(&terminal);
        terminal.send(key::ENTER);
        let mut expect = cmd;
        expect.push(b'.');
        assert_eq!(home.end(&terminal).1, expect);
    }
}

#[test]
fn nothing_from_the_history_is_run_by_the_terminal() {
    let home = Home::new();
    let hostile = "printf '\x1b]0;pwned\x07\u{9b}31m\u{202e}\u{200b}x\r\x08'";
    home.add([Typed {
        cwd: "/tmp/\x1b]0;pwned\x07",
        device: Some("h\x1b]0;pwned\x07"),
        ..typed(hostile)
    }]);
    let mut terminal = home.builtin("").start();
    opened(&terminal);
    shows(&terminal, "^[]0;pwned^G\\x9b31m\\u{202e}\\u{200b}x^M^H");
    terminal.send("pwned");
    shows(&terminal, "> pwned");
    let output = String::from_utf8(terminal.output()).unwrap();
    for bad in ["\x1b]", "\x07", "\u{9b}", "\u{202e}", "\u{200b}", "\x08"] {
        assert!(!output.contains(bad), "{bad:?} in {output:?}");
    }
}

#[test]
fn composed_letters_find_decomposed_ones() {
    let home = Home::with(&[
        "vi \u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}.txt",
        "ls",
    ]);
    let mut terminal = home.builtin("").start();
    opened(&terminal);
    terminal.send("한글");
    shows(&terminal, "1/2 ");
}

#[test]
fn every_size_of_terminal_is_survived() {
    let home = Home::new();
    home.add(
        [
            "echo 한글 이모지 👨‍👩‍👧‍👦 and a rather long tail of text that never fits",
            "e\u{301}\u{200b}\u{202e}\x1b[31m",
            "for i in 1\ndo\n\techo\ndone",
            "\u{301}",
        ]
        .map(typed),
    );
    let mut terminal = home.builtin("").size(1, 1).start();
    terminal.wait_for_output("the alternate screen", |bytes| {
        bytes.windows(8).any(|bytes| bytes == b"\x1b[?1049h")
    });
    terminal.send("e");
    for cols in 1..=80 {
        terminal.resize(1 + cols % 27, cols);
        terminal.send(if cols % 2 == 0 { "한" } else { "\x7f" });
    }
    terminal.resize(24, 80);
    opened(&terminal);
    terminal.send(key::ESCAPE);
    assert_eq!(home.end(&terminal).0, "130");
    assert_eq!(home.stderr(), "");
}

#[test]
fn one_key_goes_through_the_scopes() {
    let home = Home::new();
    let here = Box::leak(home.path().to_str().unwrap().to_owned().into_boxed_str());
    home.add([
        Typed {
            device: Some("desk"),
            exit_code: Some(2),
            ..typed("on desk")
        },
        Typed {
            cwd: here,
            ..typed("in here")
        },
        Typed {
            session: "mine",
            ..typed("my own")
        },
    ]);
    let all = ["on desk", "in here", "my own"];
    let mut terminal = home.builtin("").env("RUSTORY_SESSION", "mine").start();
    for (scope, expect) in [
        (
            "3/3  ctrl-r [all] device  directory  session  failed ",
            &all[..],
        ),
        (
            "2/2  ctrl-r  all [device] directory  session  failed ",
            &["in here", "my own"],
        ),
        ("1/1  ctrl-r  all  device [directory] session", &["in here"]),
        ("1/1  ctrl-r  all  device  directory [session]", &["my own"]),
        (
            "1/1  ctrl-r  all  device  directory  session [failed]",
            &["on desk"],
        ),
        (
            "3/3  ctrl-r [all] device  directory  session  failed ",
            &all[..],
        ),
    ] {
        shows(&terminal, scope);
        assert_eq!(listed(&terminal, &all), expect, "{scope}");
        terminal.send(key::ctrl('r'));
    }
}

#[test]
fn outside_a_recording_shell_there_is_no_scope_of_a_session() {
    let home = Home::with(&["git push"]);
    let mut terminal = home.builtin("").start();
    shows(&terminal, " [all] device  directory  failed ");
    for scope in ["[device]", "[directory]", "[failed]", "[all]"] {
        terminal.send(key::ctrl('r'));
        shows(&terminal, scope);
    }
}

#[test]
fn an_empty_scope_says_so_and_names_the_way_out() {
    let home = Home::with(&["git push"]);
    let mut terminal = home.builtin("--scope failed").start();
    shows(
        &terminal,
        "there is nothing of what failed yet · ctrl-r: next scope",
    );
    terminal.send(key::ctrl('r'));
    shows(&terminal, "[all]");
    terminal.send("zzz");
    shows(
        &terminal,
        "nothing in the history matches · ctrl-r: next scope",
    );
}

fn on(device: &'static str, cmd: &str) -> Typed {
    Typed {
        device: Some(device),
        ..typed(cmd)
    }
}

#[test]
fn other_devices_are_told_with_how_far_they_are_known() {
    let home = Home::new();
    home.add([
        on("nas", "a"),
        on("desk", "b"),
        on("old", "c"),
        typed("own"),
    ]);
    home.meet("nas", "nas", 3 * 3_600 + 60);
    home.meet("desk", "workstation", 2 * 60 + 5);
    home.meet("new", "phone", 9 * 86_400);
    let mut terminal = home.builtin("").start();
    // Of `old` only its entries are known, and they are of 2023.
    let line = "  workstation 2m · nas 3h · phone 9d · old ";
    terminal.wait_for("the devices", |screen| {
        let text = screen.contents();
        text.lines().any(|shown| shown.starts_with(line))
    });
    terminal.resize(10, 40);
    shows(&terminal, "  workstation 2m · nas 3h · +2\n");
    terminal.resize(9, 40);
    hides(&terminal, "workstation 2m");
    terminal.send(key::ESCAPE);
    home.end(&terminal);
}

#[test]
fn devices_of_one_name_are_told_apart_wherever_they_are_named() {
    let home = Home::new();
    home.add([
        on("id-1111", "one"),
        on("id-2222", "two"),
        on("id-3333", "three"),
    ]);
    home.meet("id-1111", "desk", 60);
    home.meet("id-2222", "desk", 60);
    home.meet("id-3333", "nas", 60);
    let mut terminal = home.builtin("").start();
    let on_the_row_of = |terminal: &Terminal, cmd: &str, device: &str| {
        terminal.wait_for(device, |screen| {
            let text = screen.contents();
            let mut rows = text
                .lines()
                .take_while(|line| !line.contains("ctrl-o keys"));
            rows.any(|row| row.contains(&format!("   {cmd} ")) && row.trim_end().ends_with(device))
        });
    };
    on_the_row_of(&terminal, "one", " desk#1111");
    on_the_row_of(&terminal, "two", " desk#2222");
    on_the_row_of(&terminal, "three", " nas");
    shows(&terminal, "desk#1111 1m");
    terminal.send("two");
    shows(&terminal, " · 12ms · desk#2222 ─");
}

#[test]
fn columns_hold_beside_hangul_and_emoji() {
    let home = Home::new();
    home.add([
        on("desk", "plain"),
        on("desk", "echo 한글과 가나다"),
        on("desk", "git commit -m '✨🎉 👨‍👩‍👧‍👦 ❤️ 🇰🇷'"),
        on("desk", "vi e\u{301}\u{1112}\u{1161}\u{11ab}.txt"),
    ]);
    let mut terminal = home.builtin("").size(24, 80).start();
    for (width, at) in [(80, 80 - 5), (120, 120 - 5)] {
        terminal.resize(24, width);
        terminal.wait_for("one column of devices", |screen| {
            let cell = |row, col| screen.cell(row, col).map(|cell| cell.contents().to_owned());
            let starts = (0..24).filter(|&row| {
                let name: Option<String> = (at..at + 4).map(|col| cell(row, col)).collect();
                name.as_deref() == Some("desk")
                    && cell(row, at - 1).is_some_and(|text| text.trim().is_empty())
            });
            starts.count() == 4
        });
    }
}

#[test]
fn nothing_stays_of_emoji_that_a_terminal_paints_wider() {
    let home = Home::with(&["echo 👨‍👩‍👧‍👦", "ls"]);
    let mut terminal = home.builtin("").start();
    opened(&terminal);
    shows(&terminal, "echo 👨");
    terminal.send("ls");
    shows(&terminal, "1/2");
    terminal.send(key::ctrl('v'));
    terminal.wait_for("a clean screen", |screen| {
        !screen
            .contents()
            .contains(['👨', '👩', '👧', '👦', '\u{200d}'])
    });
}

#[test]
fn the_selected_command_is_shown_with_when_where_how_and_on_which_device() {
    let home = Home::new();
    home.add([Typed {
        exit_code: Some(3),
        cwd: Box::leak(format!("{}/src", home.path().display()).into_boxed_str()),
        ..on("desk", "for i in 1 2\ndo echo $i\ndone")
    }]);
    let mut terminal = home.builtin("").env("TZ", "UTC").start();
    shows(&terminal, "─ 2023-11-14 22:13:21 (");
    shows(&terminal, " ago) · ~/src · exit 3 · 12ms · desk ─");
    shows(&terminal, "\nfor i in 1 2\ndo echo $i\ndone");
    terminal.send(key::ctrl('v'));
    terminal.wait_for("a larger preview", |screen| {
        screen.contents().starts_with('\n')
    });
    terminal.send(key::ctrl('v'));
    hides(&terminal, "exit 3");
    terminal.send(key::ctrl('v'));
    shows(&terminal, "exit 3");
    terminal.resize(10, 40);
    shows(&terminal, " · ~/src · exit 3 ");
    shows(&terminal, "· desk ─");
}

#[test]
fn a_key_shows_the_keys_and_any_other_goes_back() {
    for help in [key::ctrl('o'), "\x1bOP".to_owned()] {
        let home = Home::with(&["git push", "git pull"]);
        let mut terminal = home.builtin("").start();
        opened(&terminal);
        terminal.send(&help);
        shows(
            &terminal,
            "next scope: all, device, directory, session, failed",
        );
        shows(&terminal, "any key: back");
        terminal.resize(10, 40);
        shows(&terminal, "up, down");
        terminal.send(key::DOWN.repeat(50));
        shows(&terminal, "either");
        terminal.send(format!("{}x", key::UP));
        shows(&terminal, "2/2");
        terminal.send("pus");
        shows(&terminal, "> pus");
        terminal.send(key::ENTER);
        assert_eq!(home.end(&terminal).1, b"git push\n");
    }
}

#[test]
fn the_matched_letters_stand_out_with_and_without_colour() {
    for no_color in ["", "1"] {
        let home = Home::with(&["git push"]);
        let mut terminal = home.builtin("").env("NO_COLOR", no_color).start();
        opened(&terminal);
        terminal.send("gp");
        terminal.wait_for("two letters", |screen| {
            let (rows, cols) = screen.size();
            let cells = (0..rows.get()).flat_map(|row| (0..cols.get()).map(move |col| (row, col)));
            let out = cells
                .filter_map(|(row, col)| screen.cell(row, col))
                .filter(|cell| {
                    cell.bold() && (cell.underline() || cell.fgcolor() == vt100::Color::Idx(28))
                });
            out.map(vt100::Cell::contents).collect::<String>() == "gp"
        });
    }
}

#[test]
fn one_key_leaves_only_what_failed() {
    let home = Home::new();
    home.add([
        Typed {
            exit_code: Some(1),
            ..typed("false")
        },
        Typed {
            exit_code: None,
            ..typed("unknown")
        },
        typed("true"),
    ]);
    let mut terminal = home.builtin("").start();
    shows(&terminal, "3/3 ");
    shows(&terminal, "✗ false");
    terminal.send(key::ctrl('t'));
    shows(&terminal, "1/1 ");
    assert_eq!(listed(&terminal, &["false", "unknown", "true"]), ["false"]);
    terminal.send(key::ctrl('t'));
    shows(&terminal, "3/3 ");
}

#[test]
fn a_command_that_was_just_typed_is_there() {
    let home = Home::with(&["older"]);
    home.spool("just typed");
    let mut terminal = home.builtin("").start();
    shows(&terminal, "2/2 ");
    shows(&terminal, "just typed");
    terminal.send(key::ENTER);
    assert_eq!(home.end(&terminal).1, b"just typed\n");
}

#[test]
fn a_locked_database_opens_and_what_waits_in_the_spool_is_there() {
    let home = Home::with(&["older"]);
    home.spool("just typed");
    let lock = rusqlite::Connection::open(home.db()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut terminal = home.builtin("").start();
    shows(&terminal, "2/2 ");
    terminal.send("typed");
    shows(&terminal, "1/2 ");
    terminal.send(key::ENTER);
    assert_eq!(home.end(&terminal).1, b"just typed\n");
    assert_eq!(home.stderr(), "");
}

#[test]
fn without_a_history_the_list_is_empty() {
    let home = Home::new();
    let mut terminal = home.builtin("").start();
    shows(&terminal, "0/0 ");
    terminal.send("x\r");
    assert_eq!(home.end(&terminal), ("130".to_owned(), Vec::new()));
    assert_eq!(home.stderr(), "");
}

#[test]
fn a_database_that_is_none_is_named() {
    let home = Home::with(&["x"]);
    fs::write(
        home.db(),
        "this is no database, and long enough to tell".repeat(99),
    )
    .unwrap();
    let terminal = home.builtin("").start();
    let (rc, out) = home.end(&terminal);
    assert_eq!((rc.as_str(), out.as_slice()), ("1", &b""[..]));
    assert!(home.stderr().contains("damaged"), "{}", home.stderr());
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let home = Home::with(&["git push"]);
    let mut terminal = Program::new(rustory_testkit::rr_binary(option_env!("CARGO_BIN_EXE_rr")))
        .args(["search", "--finder", "builtin"])
        .home(home.path())
        .start();
    opened(&terminal);
    let pid = rustix::process::Pid::from_raw(terminal.pid().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(!terminal.exit_status().success());
    let output = terminal.output();
    assert!(output.ends_with(b"\x1b[?1049l\x1b[?25h\x1b[m"));
}

#[test]
fn without_a_terminal_the_other_way_to_search_is_named() {
    let home = Home::with(&["git push"]);
    let output = std::process::Command::new("setsid")
        .arg("-w")
        .arg(rustory_testkit::rr_binary(option_env!("CARGO_BIN_EXE_rr")))
        .args(["search", "git"])
        .env_clear()
        .env("HOME", home.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("rr list"), "{stderr}");
}

/// Parameters of all sequences that set colours.
fn colours(output: &[u8]) -> Vec<String> {
    let output = String::from_utf8_lossy(output).into_owned();
    let sequences = output.split("\x1b[").skip(1);
    let styles = sequences.filter_map(|rest| {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != ';')?;
        rest[end..].starts_with('m').then(|| rest[..end].to_owned())
    });
    let is_colour = |style: &String| {
        let mut numbers = style
            .split(';')
            .filter_map(|number| number.parse::<u8>().ok());
        // 39 and 49 give the terminal's own colours back.
        numbers.any(|number| matches!(number, 30..=38 | 40..=48 | 90..=107))
    };
    styles.filter(is_colour).collect()
}

#[test]
fn no_color_means_no_colour() {
    for finder in ["builtin", "fzf"] {
        for no_color in ["1", ""] {
            let home = Home::new();
            home.add([
                on("desk", "git push"),
                Typed {
                    exit_code: Some(1),
                    ..typed("git pull")
                },
            ]);
            let args = format!("--finder {finder}");
            let mut terminal = home.search(&args).env("NO_COLOR", no_color).start();
            shows(&terminal, "2/2");
            terminal.send("git");
            shows(&terminal, "> git");
            shows(&terminal, "exit 1");
            let found = colours(&terminal.output());
            assert_eq!(found.is_empty(), no_color == "1", "{finder}: {found:?}");
        }
    }
}

#[test]
fn themes_differ_in_their_colours() {
    for (theme, pointer) in [
        ("auto", "38;5;164"),
        ("dark", "38;5;212"),
        ("light", "38;5;126"),
    ] {
        let home = Home::with(&["git push"]);
        let terminal = home.builtin("").env("RUSTORY_THEME", theme).start();
        opened(&terminal);
        let found = colours(&terminal.output());
        assert!(
            found.iter().any(|style| style.contains(pointer)),
            "{theme}: {found:?}"
        );
    }
}

/// `rr search --finder fzf`, with the fzf of the system.
fn fzf(home: &Home, args: &str) -> Program {
    home.search(&format!("--finder fzf {args}"))
}

#[test]
fn fzf_gets_everything_and_its_choice_is_printed() {
    let home = Home::with(&["git push", "cargo test", "git push", "git pull"]);
    let mut terminal = fzf(&home, "").start();
    shows(&terminal, "3/3");
    terminal.send("push");
    shows(&terminal, "1/3");
    terminal.send(key::ENTER);
    assert_eq!(
        home.end(&terminal),
        ("0".to_owned(), b"git push\n".to_vec())
    );
    assert_eq!(home.stderr(), "");
}

#[test]
fn fzf_cancelled_prints_nothing() {
    let home = Home::with(&["git push"]);
    let mut terminal = fzf(&home, "").start();
    shows(&terminal, "1/1");
    terminal.send(key::ESCAPE);
    assert_eq!(home.end(&terminal), ("130".to_owned(), Vec::new()));
    assert_eq!(home.stderr(), "");
}

#[test]
fn fzf_with_nothing_that_matches_is_cancelled() {
    let home = Home::with(&["git push"]);
    let mut terminal = fzf(&home, "").start();
    shows(&terminal, "1/1");
    terminal.send("zzz");
    shows(&terminal, "0/1");
    terminal.send(key::ENTER);
    assert_eq!(home.end(&terminal), ("130".to_owned(), Vec::new()));
}

#[test]
fn fzf_gives_back_exact_bytes_and_runs_none_of_them() {
    let cmd = b"printf '\x1b]0;pwned\x07'\n\t# \xff tail \n".to_vec();
    let home = Home::new();
    home.add([typed(&cmd), typed("older\tone")]);
    let mut terminal = fzf(&home, "--widget").start();
    shows(&terminal, "2/2");
    terminal.send("pwned");
    shows(&terminal, "1/2");
    assert!(!terminal.output().windows(2).any(|pair| pair == b"\x1b]"));
    terminal.send(key::ENTER);
    let mut expect = cmd;
    expect.push(b'.');
    assert_eq!(home.end(&terminal).1, expect);
}

#[test]
fn fzf_starts_with_the_query_and_nobody_reads_it_in_the_process_list() {
    let query = "it's \"x\" $HOME `y` \\ ; | git";
    let home = Home::with(&["git push"]);
    let terminal = fzf(&home, "--widget")
        .env("RUSTORY_QUERY", query)
        .env("FZF_DEFAULT_OPTS", "--prompt='mine: '")
        .start();
    shows(&terminal, &format!("mine: {query}"));
    let arguments: Vec<u8> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|process| fs::read(process.ok()?.path().join("cmdline")).ok())
        .flatten()
        .collect();
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    assert!(arguments.contains("--with-nth=3,2"), "fzf runs");
    assert!(!arguments.contains("$HOME `y`"));
}

#[test]
fn fzf_may_be_left_while_rows_still_come() {
    let home = Home::new();
    home.add((0..20_000).map(|i| typed(format!("command {i}"))));
    let mut terminal = fzf(&home, "").start();
    shows(&terminal, "command 19999");
    terminal.send(key::ENTER);
    assert_eq!(home.end(&terminal).1, b"command 19999\n");
    assert_eq!(home.stderr(), "");
}

#[test]
fn fzf_that_is_missing_is_named_and_auto_does_without() {
    let home = Home::with(&["git push"]);
    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for tool in ["stty", "mv"] {
        let found = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool));
        let tool_path = found.iter().find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(tool_path, empty.join(tool)).unwrap();
    }
    let terminal = fzf(&home, "").env("PATH", &empty).start();
    assert_eq!(home.end(&terminal).0, "1");
    assert!(
        home.stderr().contains("fzf is not installed"),
        "{}",
        home.stderr()
    );

    fs::remove_file(home.path().join("rc")).unwrap();
    let mut terminal = home.search("--finder auto").env("PATH", &empty).start();
    opened(&terminal);
    terminal.send(key::ENTER);
    assert_eq!(home.end(&terminal).1, b"git push\n");
}

#[test]
fn in_fzf_one_key_goes_through_the_scopes_and_its_choice_is_exact() {
    let home = Home::new();
    let exact = b"printf '\\x1b\t\xff'\n\ttail \n".to_vec();
    home.add([
        on("desk", "on desk"),
        Typed {
            exit_code: Some(2),
            ..typed("it failed")
        },
        Typed {
            session: "mine",
            ..typed(&exact)
        },
    ]);
    let mut terminal = fzf(&home, "--widget")
        .env("RUSTORY_SESSION", "mine")
        .start();
    for (scope, count) in [
        ("ctrl-r [all] device  directory  session  failed ", "3/3"),
        (" all [device] directory ", "2/2"),
        (" device [directory] session ", "0/0"),
        (" directory [session] failed ", "1/1"),
        (" session [failed]", "1/1"),
        (" [all] device ", "3/3"),
        (" all [device] directory ", "2/2"),
        (" device [directory] session ", "0/0"),
        (" directory [session] failed ", "1/1"),
    ] {
        shows(&terminal, scope);
        shows(&terminal, count);
        terminal.send(key::ctrl('r'));
    }
    shows(&terminal, " session [failed]");
    terminal.send(key::ctrl('t'));
    shows(&terminal, " [all] device ");
    terminal.send(key::ctrl('t'));
    shows(&terminal, " [all] device  directory  session [failed]");
    shows(&terminal, "1/1");
    terminal.send(key::ctrl('t'));
    shows(&terminal, "3/3");
    terminal.send("'tail");
    shows(&terminal, "1/3");
    terminal.send(key::ENTER);
    let mut expect = exact;
    expect.push(b'.');
    assert_eq!(home.end(&terminal), ("0".to_owned(), expect));
    assert_eq!(home.stderr(), "");
}

#[test]
fn fzf_shows_how_long_ago_and_is_asked_about_commands_alone() {
    let home = Home::with(&["git push 3y", "legit"]);
    let mut terminal = fzf(&home, "").start();
    shows(&terminal, "2/2");
    let age = terminal.screen();
    let age = age.lines().find_map(|line| {
        let (before, _) = line.split_once("legit")?;
        before.split_whitespace().last()
    });
    let age = age.expect("an age before the command").to_owned();
    assert!(age.ends_with('y'), "{age}");
    for (typed, count) in [
        (format!("^{age}"), "0/2"),
        ("^git".to_owned(), "1/2"),
        ("3y$".to_owned(), "1/2"),
    ] {
        terminal.send(key::ctrl('u'));
        terminal.send(&typed);
        shows(&terminal, &format!("> {typed}"));
        shows(&terminal, count);
    }
}

#[test]
fn fzf_shows_the_facts_the_devices_and_the_keys_and_runs_nothing_of_them() {
    let home = Home::new();
    home.add([Typed {
        exit_code: Some(7),
        cwd: "/tmp/\x1b]0;pwned\x07",
        device: Some("h\x1b]0;pwned\x07"),
        ..typed("printf '\x1b]0;pwned\x07'\nsecond")
    }]);
    home.meet("h\x1b]0;pwned\x07", "desk\x1b]0;pwned\x07", 65);
    let mut terminal = fzf(&home, "").size(30, 100).env("TZ", "UTC").start();
    shows(&terminal, "  desk^[]0;pwned^G 1m");
    shows(&terminal, "─ 2023-11-14 22:13:21 (");
    shows(
        &terminal,
        " ago) · /tmp/^[]0;pwned^G · exit 7 · 12ms · desk^[]0;pwned^G ─",
    );
    terminal.wait_for("the command", |screen| {
        let text = screen.contents();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let command = ["printf '^[]0;pwned^G'", "second"];
        lines.windows(2).any(|lines| lines == command)
    });
    terminal.send(key::ctrl('o'));
    shows(&terminal, "any key: back");
    shows(
        &terminal,
        "next scope: all, device, directory, session, failed",
    );
    terminal.send("x");
    shows(&terminal, "1/1");
    terminal.send(key::ctrl('v'));
    hides(&terminal, "exit 7");
    assert!(!terminal.output().windows(2).any(|pair| pair == b"\x1b]"));
    terminal.send(key::ESCAPE);
    assert_eq!(home.end(&terminal).0, "130");
    assert_eq!(home.stderr(), "");
}

#[test]
fn fzf_on_ten_rows_is_for_the_list_and_names_the_scope() {
    let home = Home::with(&["one", "two", "three", "four", "five", "six"]);
    let mut terminal = fzf(&home, "").size(10, 40).start();
    shows(&terminal, "ctrl-r [all] · ctrl-o keys");
    for cmd in ["one", "six"] {
        shows(&terminal, cmd);
    }
    terminal.send(key::ctrl('r'));
    shows(&terminal, "ctrl-r [device] · ctrl-o keys");
    terminal.send(key::ESCAPE);
    home.end(&terminal);
}

#[test]
fn options_for_fzfs_own_ctrl_r_mean_here_what_they_mean_there() {
    let home = Home::with(&["git  push\t-f"]);
    let mut terminal = fzf(&home, "")
        .env(
            "FZF_CTRL_R_OPTS",
            "--prompt 'mine: ' --preview 'echo ={2..}='",
        )
        .start();
    shows(&terminal, "mine:");
    shows(&terminal, "=git  push    -f=");
    terminal.send(key::ENTER);
    assert_eq!(home.end(&terminal).1, b"git  push\t-f\n");
}
