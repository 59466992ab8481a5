//! `rr status` as a person sees it: ten devices on a screen of 24 lines.

mod common;

use std::path::Path;
use std::time::UNIX_EPOCH;

use common::Home;
use rustory_testkit::Program;

/// A device that was met, as the database remembers it: `compared` is SQL for the tally of ours
/// and of theirs at the last comparison.
struct Met {
    name: &'static str,
    path: &'static str,
    seconds_ago: i64,
    unread: i64,
    compared: Option<(i64, i64)>,
    error: Option<&'static str>,
}

impl Met {
    fn insert(&self, db: &rusqlite::Connection, digest: &[u8], n: usize) {
        let now = UNIX_EPOCH.elapsed().unwrap().as_micros();
        let ago = format!("{now} - {} * 1000000", self.seconds_ago);
        let sql = format!(
            "INSERT INTO peer_state (peer, device_id, name, path, last_seen, last_sync, log_id, cursor,
               head_log, head, compared_at, compared_head, ours_count, ours_digest, theirs_count,
               theirs_digest, error, error_at)
             VALUES (?1, ?1, ?2, ?3, {ago}, {ago}, zeroblob(16), 100, zeroblob(16), 100 + ?4,
               {ago}, 100, ?5, ?6, ?7, ?8, ?9, {ago})"
        );
        let id = format!("0190c0de-0000-7000-8000-0000000000{n:02}");
        let (ours, theirs) = self.compared.unwrap_or_default();
        let theirs_digest = if ours == theirs { digest } else { &[0; 16] };
        db.execute(
            &sql,
            rusqlite::params![
                id,
                self.name,
                self.path,
                self.unread,
                ours,
                digest,
                theirs,
                theirs_digest,
                self.error
            ],
        )
        .unwrap();
        if self.compared.is_none() {
            let sql = "UPDATE peer_state SET compared_at = NULL, head = NULL WHERE peer = ?1";
            db.execute(sql, [id]).unwrap();
        }
    }
}

/// Three entries here and nine other devices, each in another state.
fn ten_devices(home: &Home) {
    home.spool("a", ["one", "two", "three"].map(str::to_owned));
    home.cmds();
    let status: serde_json::Value = serde_json::from_str(&home.ok(&["status", "--json"])).unwrap();
    let hex = status["db"]["digest"].as_str().unwrap().to_owned();
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let digest: Vec<u8> = (0..32).step_by(2).map(byte).collect();
    let met = |name, path, seconds_ago| Met {
        name,
        path,
        seconds_ago,
        unread: 0,
        compared: Some((3, 3)),
        error: None,
    };
    let devices = [
        met("desk", "lan", 2),
        met("laptop", "direct", 130),
        met("서재 맥미니", "lan", 3_700),
        met("nas", "ssh", 90_000),
        Met {
            unread: 412_003,
            compared: Some((3, 1)),
            ..met("노트북", "relay", 7_200)
        },
        Met {
            error: Some(
                "not reachable: 192.168.0.17:4747: no answer within 5 s; 10.1.2.3:4747: connection refused",
            ),
            compared: Some((3, 2)),
            ..met("pi", "direct", 40 * 86_400)
        },
        Met {
            compared: None,
            ..met("a-server-with-a-very-long-name.example.org", "http", 60)
        },
        met("work", "direct", 600),
        met("old 🎉 box", "relay", 400 * 86_400),
    ];
    let db = rusqlite::Connection::open(home.db()).unwrap();
    for (n, device) in devices.iter().enumerate() {
        device.insert(&db, &digest, n);
    }
}

fn screen(home: &Path, args: &[&str], env: &[(&str, &str)]) -> vt100::Screen {
    let mut program = Program::new(env!("CARGO_BIN_EXE_rr")).args(args).home(home);
    for (name, value) in env {
        program = program.env(name, value);
    }
    let mut terminal = program.env("USER", "tester").start();
    assert_eq!(terminal.exit_status().exit_code(), 0, "{}", terminal.dump());
    terminal.snapshot()
}

#[test]
fn ten_devices_fit_a_screen_in_columns_that_stay() {
    let home = Home::new();
    ten_devices(&home);
    let screen = screen(home.path(), &["status"], &[]);
    let text = screen.contents();
    println!("{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("device "),
        "nothing scrolled away: {text}"
    );
    assert!(lines.len() <= 22, "{text}");
    let title = lines.iter().find(|line| line.contains("DEVICE")).unwrap();
    let column = u16::try_from(title.find("STATE").unwrap()).unwrap();
    let state_of = |name: &str| {
        let row = lines.iter().position(|line| line.contains(name)).unwrap();
        let row = u16::try_from(row).unwrap();
        screen.contents_between(row, column, row, 80)
    };
    for name in ["desk", "laptop", "서재 맥미니", "nas", "work", "old 🎉 box"] {
        assert_eq!(state_of(name).trim_end(), "identical", "{text}");
    }
    assert!(state_of("pi ").starts_with("not reachable"), "{text}");
    assert!(state_of("pi ").trim_end().ends_with('…'), "{text}");
    assert_eq!(state_of("노트북").trim_end(), "behind");
    assert!(text.contains("2h  412,003        2  relay"), "{text}");
    assert!(text.contains("6 of 9 other devices hold the same as this one"));
}

#[test]
fn a_reason_is_whole_where_it_is_asked_for_or_goes_into_a_pipe() {
    let home = Home::new();
    ten_devices(&home);
    assert!(
        home.ok(&["status"])
            .contains("10.1.2.3:4747: connection refused")
    );
    let text = screen(home.path(), &["status", "-v"], &[]).contents();
    assert!(
        text.replace('\n', "")
            .contains("10.1.2.3:4747: connection refused"),
        "{text}"
    );
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let home = Home::new();
    ten_devices(&home);
    assert!(!home.ok(&["status"]).contains('\x1b'));
    let coloured = |screen: &vt100::Screen| {
        let cells = (0..24).flat_map(|row| (0..80).map(move |col| (row, col)));
        let mut cells = cells.filter_map(|(row, col)| screen.cell(row, col));
        cells.any(|cell| cell.fgcolor() != vt100::Color::Default || cell.dim())
    };
    assert!(coloured(&screen(home.path(), &["status"], &[])));
    assert!(!coloured(&screen(
        home.path(),
        &["status"],
        &[("NO_COLOR", "1")]
    )));
}
