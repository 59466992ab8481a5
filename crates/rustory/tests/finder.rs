//! The finder as its user sees it: `rr search` in a pseudo-terminal.

use std::fs;
use std::path::{Path, PathBuf};

use rustory_core::{Entry, EntryId, Extra, Timestamp};
use rustory_store::{Access, Store, StoreError};
use rustory_testkit::{Program, Terminal, key};
use tempfile::TempDir;

/// A home with a history in it.
struct Home(TempDir);

/// One entry of it; times follow the order in which they are added.
#[derive(Clone)]
struct Typed {
    cmd: Vec<u8>,
    cwd: &'static str,
    session: &'static str,
    device: Option<&'static str>,
    exit_code: Option<i64>,
}

fn typed(cmd: impl AsRef<[u8]>) -> Typed {
    Typed {
        cmd: cmd.as_ref().to_vec(),
        cwd: "/somewhere",
        session: "s1",
        device: None,
        exit_code: Some(0),
    }
}

impl Home {
    fn new() -> Home {
        Home(rustory_testkit::home())
    }

    fn with(cmds: &[&str]) -> Home {
        let home = Home::new();
        home.add(cmds.iter().map(typed));
        home
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn db(&self) -> PathBuf {
        self.path().join(".rustory/history.db")
    }

    fn add(&self, all: impl IntoIterator<Item = Typed>) {
        let mut store = Store::open(&self.db(), Access::PATIENT, Some("own")).unwrap();
        store
            .write(|writer| -> Result<(), StoreError> {
                let head = writer.head()?.get();
                for (at, typed) in (head + 1..).zip(all) {
                    let entry = entry(at, typed);
                    match entry.device_id.is_empty() {
                        true => writer.append(&entry).map(drop)?,
                        false => writer.insert(&entry).map(drop)?,
                    }
                }
                Ok(())
            })
            .unwrap();
    }

    /// Puts a command into a spool file of a session that still runs.
    fn spool(&self, cmd: &str) {
        let dir = self.path().join(".rustory/spool");
        fs::create_dir_all(&dir).unwrap();
        let pid = std::process::id().to_string();
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let mut bytes = record(&["H1", "s9", "bash", "5.2", &pid, &host]);
        bytes.extend(record(&[
            "C1",
            "s9",
            "1900000000000000",
            "5",
            "0",
            "/",
            &format!("={cmd}"),
        ]));
        fs::write(dir.join("s9.spool"), bytes).unwrap();
    }

    /// `rr search ARGS` with what it prints in the file `out` and its exit status in `rc`.
    fn search(&self, args: &str) -> Program {
        let script = format!(
            "printf 'first line\\nsecond line\\n$ '; stty -g >before; \
             \"$RR\" search {args} >out 2>err; echo $? >rc.new; stty -g >after; \
             mv rc.new rc; read line; echo \"read: $line\" >read"
        );
        Program::new("/bin/sh")
            .args(["-c", &script])
            .env(
                "RR",
                rustory_testkit::rr_binary(option_env!("CARGO_BIN_EXE_rr")),
            )
            .home(self.path())
            .cwd(self.path())
    }

    fn builtin(&self, args: &str) -> Program {
        self.search(&format!("--finder builtin {args}"))
    }

    /// Waits for the finder's end. Returns its exit status and what it printed.
    fn end(&self, terminal: &Terminal) -> (String, Vec<u8>) {
        terminal.wait_for("the finder's end", |_| self.path().join("rc").exists());
        let before = fs::read(self.path().join("before")).unwrap();
        let after = fs::read(self.path().join("after")).unwrap();
        assert_eq!(before, after, "the terminal's modes are as before");
        let rc = fs::read_to_string(self.path().join("rc")).unwrap();
        (
            rc.trim().to_owned(),
            fs::read(self.path().join("out")).unwrap(),
        )
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.path().join("err")).unwrap()
    }
}

fn record(fields: &[&str]) -> Vec<u8> {
    let mut bytes = b"\0\x1e".to_vec();
    bytes.extend(fields.join("\0").bytes());
    bytes.extend(b"\0\x1f");
    bytes
}

fn entry(at: u64, typed: Typed) -> Entry {
    let ts = Timestamp::from_secs(1_700_000_000 + at as i64).unwrap();
    Entry {
        id: EntryId::from_time_and_hash(ts, u128::from(at) << 64),
        device_id: typed.device.unwrap_or_default().to_owned(),
        user_id: "me".to_owned(),
        ts,
        cmd: typed.cmd.into(),
        cwd: typed.cwd.into(),
        exit_code: typed.exit_code,
        duration_ms: Some(12),
        shell: "bash".to_owned(),
        hostname: typed.device.unwrap_or("own-host").to_owned(),
        version: "0".to_owned(),
        device_seq: Some(at),
        session: typed.session.to_owned(),
        extra: Extra::new(),
    }
}

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
        .take_while(|line| !line.contains("ctrl-r scope"))
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
            .any(|row| row.contains("enter take · esc leave"))
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
        ("3/3  all", &all[..]),
        ("2/2  this device", &["in here", "my own"]),
        ("1/1  this directory", &["in here"]),
        ("1/1  this session", &["my own"]),
        ("3/3  all", &all[..]),
    ] {
        shows(&terminal, scope);
        assert_eq!(listed(&terminal, &all), expect, "{scope}");
        terminal.send(key::ctrl('r'));
    }
}

#[test]
fn other_devices_are_told_with_how_far_they_are_known() {
    let home = Home::new();
    let on = |device| Typed {
        device: Some(device),
        ..typed(device)
    };
    home.add([on("nas"), on("desk"), typed("own")]);
    let terminal = home.builtin("").start();
    terminal.wait_for("the devices", |screen| {
        let text = screen.contents();
        let line = text.lines().find(|line| line.contains(" · nas "));
        line.is_some_and(|line| line.starts_with("  desk ") && !line.contains("own"))
    });
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

#[test]
fn no_color_means_no_colour() {
    let home = Home::with(&["git push"]);
    let mut terminal = home.builtin("").env("NO_COLOR", "1").start();
    opened(&terminal);
    terminal.send("git");
    shows(&terminal, "> git");
    let output = String::from_utf8(terminal.output()).unwrap();
    assert!(!output.contains("38;5;"), "{output:?}");
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
    assert!(arguments.contains("--with-nth=2.."), "fzf runs");
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
