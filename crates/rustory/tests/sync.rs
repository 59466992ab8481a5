//! Two homes, real processes: `rr serve` in one, `rr sync` in the other.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Home, numbered, succeeded};
use rustory_core::sync::{
    Batch, Close, Hello, Message, Origin, PROTOCOL, Reason, Stretch, Summary,
};
use rustory_core::wire::{FrameReader, FrameWriter};
use rustory_core::{Digest, IngestSeq, LogId, Tally};
use serde_json::Value;

/// `rr serve` on a port of its own, killed at the end.
struct Server {
    child: Child,
    /// Kept open: it is the server's stdout.
    _stdout: BufReader<ChildStdout>,
    addr: String,
}

impl Server {
    fn start(home: &Home) -> Server {
        Server::start_with(home, &[])
    }

    fn start_with(home: &Home, env: &[(&str, &str)]) -> Server {
        Server::start_at(home, "127.0.0.1:0", env)
    }

    fn start_at(home: &Home, addr: &str, env: &[(&str, &str)]) -> Server {
        let mut command = home.rr(["serve", "--http", addr]);
        command.envs(env.iter().copied());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let addr = line
            .trim()
            .strip_prefix("serving on http://")
            .expect("it says where")
            .to_owned();
        Server {
            child,
            _stdout: stdout,
            addr,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Sends bytes as they are; returns the status, and the whole answer.
    fn raw(&self, request: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // A server that refuses early does not read the rest.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        (status, answer)
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.with(path, "")
    }

    fn with(&self, path: &str, headers: &str) -> (u16, String) {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        self.raw(request.as_bytes())
    }

    fn post(&self, body: &[u8]) -> (u16, String) {
        let head = format!(
            "POST /api/v1/entries HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat())
    }

    /// Most memory it ever held, in KiB.
    fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sync(home: &Home, server: &Server) -> Output {
    home.rr(["sync", "--json", &server.url()]).output().unwrap()
}

fn synced(home: &Home, server: &Server) -> Value {
    serde_json::from_str(&succeeded(sync(home, server))).unwrap()
}

/// Every entry with every field, as a set.
fn entries(home: &Home) -> BTreeSet<String> {
    home.ok(&["list", "--json", "--limit", "all"])
        .lines()
        .map(str::to_owned)
        .collect()
}

fn assert_equal(a: &Home, b: &Home, count: usize) {
    let (a, b) = (entries(a), entries(b));
    assert_eq!((a.len(), b.len()), (count, count));
    assert!(a == b, "differ: {:?}", a.symmetric_difference(&b).next());
}

#[test]
fn one_sync_carries_both_ways_and_the_next_one_moves_nothing() {
    let (a, b) = (Home::new(), Home::new());
    a.spool("a", ["typed on a".into(), "줄 하나\n둘 🎉".into()]);
    b.spool("b", ["typed on b".into()]);
    let server = Server::start(&a);
    let first = synced(&b, &server);
    assert_eq!(
        (&first["pulled"], &first["pushed"]),
        (&2.into(), &1.into()),
        "{first}"
    );
    assert_equal(&a, &b, 3);

    let second = synced(&b, &server);
    for what in ["received", "sent"] {
        assert_eq!(second[what], 0, "{what}: {second}");
    }
    a.spool("a2", ["typed while a serves".into()]);
    b.spool("b2", ["typed later on b".into()]);
    // What was just typed on the serving side travels with the next look at its spool.
    let deadline = Instant::now() + Duration::from_secs(20);
    while synced(&b, &server)["entries"] != 5 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_equal(&a, &b, 5);
}

#[test]
fn whatever_the_number_of_entries_both_sides_end_equal_and_each_crosses_once() {
    for count in [0, 1, 999, 1_000, 1_001, 2_000] {
        let (a, b) = (Home::new(), Home::new());
        a.spool("a", numbered("a", count));
        b.spool("b", numbered("b", count));
        let server = Server::start(&a);
        let done = synced(&b, &server);
        assert_eq!(
            (&done["received"], &done["sent"]),
            (&count.into(), &count.into()),
            "{done}"
        );
        assert_equal(&a, &b, 2 * count);
    }
}

#[test]
fn what_came_through_a_third_device_crosses_once_as_well() {
    let homes = [Home::new(), Home::new(), Home::new()];
    for (n, home) in homes.iter().enumerate() {
        home.spool("s", numbered(&format!("{n}-"), 10));
    }
    let [a, b, c] = &homes;
    let (at_a, at_b) = (Server::start(a), Server::start(b));
    synced(c, &at_a);
    let through = synced(c, &at_b);
    assert_eq!(
        (&through["received"], &through["sent"]),
        (&10.into(), &20.into()),
        "{through}"
    );
    assert_equal(b, c, 30);
    synced(c, &at_a);
    assert_equal(a, c, 30);
    let quiet = synced(c, &at_b);
    assert_eq!(
        (&quiet["received"], &quiet["sent"]),
        (&0.into(), &0.into()),
        "{quiet}"
    );
}

#[test]
fn killed_at_any_point_a_sync_goes_on_where_it_was() {
    let (a, b) = (Home::new(), Home::new());
    a.spool("a", numbered("a", 12_000));
    b.spool("b", numbered("b", 3_000));
    let mut kills = 0;
    let mut delay = Duration::from_millis(5);
    let mut server = Server::start(&a);
    loop {
        let mut child = b
            .rr(["sync", &server.url()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while started.elapsed() < delay && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
        if kills % 2 == 0 {
            child.kill().unwrap();
        } else {
            server.kill();
            server = Server::start(&a);
        }
        child.wait().unwrap();
        kills += 1;
        delay += Duration::from_millis(15);
    }
    assert!(kills > 3, "it was over before it could be killed");
    synced(&b, &server);
    assert_equal(&a, &b, 15_000);
}

#[test]
fn a_recreated_database_is_read_from_its_start_and_gets_its_own_entries_back() {
    let (a, b) = (Home::new(), Home::new());
    let env = [("RUSTORY_DEVICE_ID", "device-a")];
    a.spool("a", numbered("old", 20));
    let server = Server::start_with(&a, &env);
    synced(&b, &server);
    server.kill();
    fs::remove_dir_all(a.data()).unwrap();
    a.spool("a", numbered("new", 3));
    let server = Server::start_with(&a, &env);
    let done = synced(&b, &server);
    assert_eq!(done["start"], "new_log", "{done}");
    assert_equal(&a, &b, 23);
}

#[test]
fn a_device_that_lost_its_database_gets_everything_back_even_if_interrupted() {
    let (a, b) = (Home::new(), Home::new());
    let mine = |home: &Home, server: &Server| {
        let mut command = home.rr(["sync", "--json", &server.url()]);
        command.env("RUSTORY_DEVICE_ID", "device-b");
        command
    };
    b.spool("b", numbered("b", 2_500));
    let server = Server::start(&a);
    succeeded(mine(&b, &server).output().unwrap());
    fs::remove_dir_all(b.data()).unwrap();
    // Interrupted after the first page was stored.
    let mut child = mine(&b, &server).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() && entries(&b).is_empty() {
        assert!(Instant::now() < deadline);
    }
    let _ = child.kill();
    child.wait().unwrap();
    succeeded(mine(&b, &server).output().unwrap());
    assert_equal(&a, &b, 2_500);
}

#[test]
fn two_devices_with_one_id_still_get_each_others_entries_and_are_told() {
    let (a, b) = (Home::new(), Home::new());
    for home in [&a, &b] {
        let dir = home.path().join(".config/rustory");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.toml"), "device_id = \"shared\"\n").unwrap();
    }
    let server = Server::start(&a);
    for round in 0..3 {
        a.spool(&format!("a{round}"), [format!("a{round}")]);
        b.spool(&format!("b{round}"), [format!("b{round}")]);
        a.cmds();
        let output = sync(&b, &server);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        succeeded(output);
        assert!(
            said.contains("`shared`") && said.contains("remove `device_id`"),
            "{said}"
        );
        assert_equal(&a, &b, 2 * (round + 1));
    }
}

#[test]
fn a_device_restored_from_its_own_backup_gets_its_later_entries_back() {
    let (a, b) = (Home::new(), Home::new());
    let server = Server::start(&a);
    b.spool("b", numbered("early", 5));
    synced(&b, &server);
    let backup = fs::read(b.db()).unwrap();
    b.spool("b2", numbered("late", 5));
    synced(&b, &server);
    for name in ["history.db-wal", "history.db-shm"] {
        let _ = fs::remove_file(b.data().join(name));
    }
    fs::write(b.db(), backup).unwrap();
    synced(&b, &server);
    assert_equal(&a, &b, 10);
}

#[test]
fn a_restored_older_copy_is_noticed_and_both_sides_end_equal() {
    let (a, b) = (Home::new(), Home::new());
    a.spool("a", numbered("first", 10));
    a.cmds();
    let backup = fs::read(a.db()).unwrap();
    a.spool("a2", numbered("second", 10));
    let server = Server::start(&a);
    synced(&b, &server);
    server.kill();
    for name in ["history.db-wal", "history.db-shm"] {
        let _ = fs::remove_file(a.data().join(name));
    }
    fs::write(a.db(), backup).unwrap();
    a.spool("a3", numbered("third", 2));
    let server = Server::start(&a);
    let done = synced(&b, &server);
    assert_eq!(done["start"], "older_copy", "{done}");
    assert_equal(&a, &b, 22);
    a.spool("a4", numbered("fourth", 15));
    server.kill();
    let server = Server::start(&a);
    synced(&b, &server);
    assert_equal(&a, &b, 37);
}

#[test]
fn syncs_at_the_same_time_leave_nothing_out() {
    let (a, b) = (Home::new(), Home::new());
    a.spool("a", numbered("a", 4_000));
    b.spool("b", numbered("b", 4_000));
    let server = Server::start(&a);
    let children: Vec<_> = (0..3)
        .map(|_| {
            b.rr(["sync", &server.url()])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        succeeded(child.wait_with_output().unwrap());
    }
    assert_equal(&a, &b, 8_000);
    let quiet = synced(&b, &server);
    assert_eq!(
        (&quiet["received"], &quiet["pushed"]),
        (&0.into(), &0.into()),
        "{quiet}"
    );
}

#[test]
fn a_database_locked_for_seconds_on_either_side_ends_no_sync_wrongly() {
    let (a, b) = (Home::new(), Home::new());
    a.spool("a", numbered("a", 500));
    b.spool("b", numbered("b", 500));
    let server = Server::start(&a);
    succeeded(b.rr(["list"]).output().unwrap());
    for home in [&a, &b] {
        let lock = rusqlite::Connection::open(home.db()).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut child = b
            .rr(["sync", &server.url()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(2_500));
        lock.execute_batch("ROLLBACK").unwrap();
        // Locked for longer than the server waits, it says so; either way nothing is wrong after.
        child.wait().unwrap();
    }
    synced(&b, &server);
    assert_equal(&a, &b, 1_000);
}

#[test]
fn with_oneself_there_is_nothing_to_exchange() {
    let a = Home::new();
    let server = Server::start(&a);
    let output = sync(&a, &server);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("this very database"));
}

#[test]
fn what_can_not_be_reached_or_is_something_else_is_told_with_what_to_do() {
    let home = Home::new();
    let check = |args: &[&str], code: i32, says: &[&str]| {
        let output = home
            .rr(std::iter::once(&"sync").chain(args))
            .output()
            .unwrap();
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{talk}");
        for word in says {
            assert!(talk.contains(word), "{word}: {talk}");
        }
    };
    check(
        &["http://127.0.0.1:1"],
        1,
        &["can't be reached", "rr serve"],
    );
    check(&["https://x"], 2, &["https", "`ssh:HOST`"]);
    check(&["desk"], 2, &["`rr sync ssh:desk`"]);
    check(&[], 2, &["no other device was met yet"]);
    check(&["http://x", "--timeout", "0"], 2, &["--timeout"]);
    // A server of something else, and one that never answers.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", other.local_addr().unwrap());
    let answers = std::thread::spawn(move || {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "SSH-2.0-x\r\n",
        ] {
            let (mut stream, _) = other.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
        other
    });
    check(&[&url], 1, &["is no rustory"]);
    check(&[&url], 1, &["is no rustory"]);
    let _silent = answers.join().unwrap();
    check(
        &[&url, "--timeout", "1"],
        1,
        &["did not answer within 1 s", "--timeout"],
    );
}

#[test]
fn beyond_the_loopback_a_token_is_needed_and_asked_for() {
    let (a, b) = (Home::new(), Home::new());
    let open = a.rr(["serve", "--http", "0.0.0.0:0"]).output().unwrap();
    let talk = String::from_utf8_lossy(&open.stderr).into_owned();
    assert_eq!(open.status.code(), Some(2));
    assert!(
        talk.contains("no token") && talk.contains("RUSTORY_HTTP_TOKEN"),
        "{talk}"
    );

    let server = Server::start_with(&a, &[("RUSTORY_HTTP_TOKEN", "s3cret")]);
    assert_eq!(server.get("/api/v1/ping").0, 401);
    for wrong in [
        "Bearer s3cre",
        "Bearer s3crett",
        "Basic s3cret",
        "s3cret",
        "Bearer ",
    ] {
        let (status, answer) = server.with("/api/v1/ping", &format!("Authorization: {wrong}\r\n"));
        assert_eq!(status, 401, "{wrong}: {answer}");
    }
    assert_eq!(
        server
            .with("/api/v1/ping", "Authorization: Bearer s3cret\r\n")
            .0,
        200
    );
    let refused = sync(&b, &server);
    let talk = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        talk.contains("another token") && talk.contains("http_token"),
        "{talk}"
    );
    let admitted = b
        .rr(["sync", &server.url()])
        .env("RUSTORY_HTTP_TOKEN", "s3cret")
        .output()
        .unwrap();
    succeeded(admitted);
}

#[test]
fn browsers_and_names_that_are_not_ours_are_not_served_without_a_token() {
    let home = Home::new();
    let server = Server::start(&home);
    assert_eq!(
        server
            .with("/api/v1/ping", "Origin: http://evil.example\r\n")
            .0,
        403
    );
    let rebound = b"GET /api/v1/ping HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(server.raw(rebound).0, 403);
}

fn entry(id: u32, cmd: &str) -> Value {
    serde_json::json!({
        "entry_id": format!("00000000-0000-4000-8000-{id:012}"), "device_id": "other",
        "ts": "2026-01-01T00:00:00Z", "cmd": cmd,
    })
}

#[test]
fn pages_follow_the_cursor_to_the_end() {
    let home = Home::new();
    home.spool("a", numbered("x", 5));
    let server = Server::start(&home);
    let page = |query: &str| -> Value {
        let (status, answer) = server.get(&format!("/api/v1/entries?{query}"));
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    // The spool is looked at by ping, with which every exchange begins.
    assert_eq!(server.get("/api/v1/ping").0, 200);
    let first = page("cursor=0&limit=2");
    assert_eq!(first["entries"].as_array().unwrap().len(), 2);
    assert_eq!(first["entries"][0]["cmd"], "x000000");
    let rest = page(&format!(
        "cursor={}&limit=9223372036854775807",
        first["next_cursor"]
    ));
    assert_eq!(rest["entries"].as_array().unwrap().len(), 3);
    assert_eq!(rest["next_cursor"], Value::Null);
    assert_eq!(rest["last"], rest["head"]);
    let end = page(&format!("cursor={}", rest["last"]));
    assert_eq!(
        (&end["entries"], &end["next_cursor"]),
        (&Value::Array(vec![]), &Value::Null)
    );
    assert_eq!(
        page("cursor=9223372036854775807")["entries"],
        Value::Array(vec![])
    );
}

#[test]
fn pages_of_large_entries_fit_into_a_body_both_ways() {
    let (a, b) = (Home::new(), Home::new());
    // Everything but the command is as large as it may be, in the worst of characters.
    let fill = |home: &Home, device: &str| {
        let mut store =
            rustory_store::Store::open(&home.db(), rustory_store::Access::PATIENT, None).unwrap();
        let entries: Vec<rustory_core::Entry> = (0..1_000u128)
            .map(|n| {
                let json = serde_json::json!({
                    "entry_id": format!("{:08}-0000-4000-8000-{:012}", device.len(), n), "device_id": device,
                    "ts": "2026-01-01T00:00:00Z", "cmd": "c", "cwd": "\u{1}".repeat(4_000), "new": "x".repeat(16_000),
                });
                serde_json::from_str::<rustory_core::json::PartialEntry>(&json.to_string()).unwrap().into_entry().unwrap()
            })
            .collect();
        store.insert(&entries).unwrap();
    };
    fill(&a, "d");
    fill(&b, "dd");
    let server = Server::start(&a);
    synced(&b, &server);
    assert_equal(&a, &b, 2_000);
}

#[test]
fn posted_entries_are_stored_once_and_all_or_none() {
    let home = Home::new();
    let server = Server::start(&home);
    let (one, two) = (entry(1, "one"), entry(2, "two"));
    let answer = |body: &Value| server.post(body.to_string().as_bytes());
    assert!(
        answer(&serde_json::json!([one]))
            .1
            .contains(r#"{"inserted":1,"ignored":0}"#)
    );
    let both = serde_json::json!({"entries": [one, two]});
    assert!(answer(&both).1.contains(r#"{"inserted":1,"ignored":1}"#));
    assert!(
        answer(&serde_json::json!([]))
            .1
            .contains(r#"{"inserted":0,"ignored":0}"#)
    );

    let (status, said) = answer(&serde_json::json!([entry(3, "three"), entry(4, "")]));
    assert_eq!(status, 400);
    assert!(
        said.contains("entry 1") && said.contains("`cmd` is empty"),
        "{said}"
    );
    assert_eq!(home.cmds(), ["one", "two"]);
}

#[test]
fn bad_requests_get_a_clear_answer_and_the_server_stays_up_and_small() {
    let home = Home::new();
    let server = Server::start(&home);
    for (path, status, says) in [
        (
            "/api/v1/entries?limit=-1",
            400,
            "`limit=-1`: expected a whole number",
        ),
        (
            "/api/v1/entries?limit=9223372036854775808",
            400,
            "9223372036854775807",
        ),
        ("/api/v1/entries?limit=abc", 400, "`limit=abc`"),
        ("/api/v1/entries?cursor=abc", 400, "`cursor=abc`"),
        ("/api/v1/entries?cursor=-1", 400, "`cursor=-1`"),
        (
            "/api/v1/entries?cursor=99999999999999999999",
            400,
            "`cursor",
        ),
        ("/api/v1/entries?cursor=", 400, "`cursor=`"),
        ("/api/v1/entries?cursor=%00%ff", 400, "`cursor"),
        ("/api/v1/nothing", 404, "/api/v1/ping"),
        ("/", 404, "there is no"),
        ("/api/v1/entries?limit=0", 200, "entries"),
        ("/api/v1/entries?newer=option", 200, "entries"),
    ] {
        let (got, answer) = server.get(path);
        assert_eq!(got, status, "{path}: {answer}");
        assert!(answer.contains(says), "{path}: {answer}");
    }
    let request = |line: &str| format!("{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(
        server
            .raw(request("DELETE /api/v1/entries HTTP/1.1").as_bytes())
            .0,
        405
    );
    assert_eq!(
        server
            .raw(request("HEAD /api/v1/ping HTTP/1.1").as_bytes())
            .0,
        200
    );
    assert_eq!(server.raw(b"\x16\x03\x01 not http\r\n\r\n").0, 400);
    let long = format!("GET /{} HTTP/1.1", "x".repeat(200_000));
    let (status, _) = server.raw(request(&long).as_bytes());
    assert!([400, 414, 431].contains(&status), "{status}");

    let large = format!(
        "[{{\"new\":{}{}}}]",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let deep = format!("[{{\"new\":{}{}}}]", "[".repeat(8_000), "]".repeat(8_000));
    for (body, says) in [
        (&b"{\"entries\":[{\"entry_id\""[..], "no JSON"),
        (b"", "no JSON"),
        (b"5", "no list of entries"),
        (b"{\"entry\":[]}", "no list of entries"),
        (b"[5]", "entry 0"),
        (b"[{}]", "`entry_id` is missing"),
        (b"\xff\xfe", "no JSON"),
        (deep.as_bytes(), "recursion"),
        (large.as_bytes(), "200000 bytes"),
    ] {
        let (status, answer) = server.post(body);
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains(says), "{says}: {answer}");
    }

    let announced =
        b"POST /api/v1/entries HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n";
    assert_eq!(server.raw(announced).0, 413);
    let mut chunked =
        b"POST /api/v1/entries HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..100 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.resize(chunked.len() + (1 << 20), b' ');
        chunked.extend_from_slice(b"\r\n");
    }
    let (status, answer) = server.raw(&chunked);
    // Refused while it is still being sent: the answer may be lost with the connection.
    assert!(status == 413 || answer.is_empty(), "{answer}");
    let cut = b"POST /api/v1/entries HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n[{";
    let mut stream = TcpStream::connect(&server.addr).unwrap();
    stream.write_all(cut).unwrap();
    drop(stream);

    // Two bytes of JSON an element must not become sixteen and more of memory.
    let many = format!("[{}0]", "0,".repeat(8 << 20)[..(16 << 20) - 10].to_owned());
    let nested = format!("[{{\"new\":{many}}}]");
    for body in [&many, &nested[..nested.len().min(16 << 20)].to_owned()] {
        let threads: Vec<_> = std::thread::scope(|scope| {
            let posts: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| server.post(body.as_bytes())))
                .collect();
            posts.into_iter().map(|post| post.join().unwrap()).collect()
        });
        for (status, answer) in threads {
            assert_eq!(status, 400, "{answer}");
        }
    }
    let _idle: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(&server.addr).unwrap())
        .collect();
    assert_eq!(server.get("/api/v1/ping").0, 200);
    let peak = server.peak_kib();
    assert!(peak < 150_000, "{peak} KiB");
}

#[test]
fn a_server_that_is_told_to_stop_ends_well() {
    let home = Home::new();
    let mut server = Server::start(&home);
    let pid = rustix::process::Pid::from_child(&server.child);
    let _idle = TcpStream::connect(&server.addr).unwrap();
    assert_eq!(server.get("/api/v1/ping").0, 200);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn clients_that_read_no_answer_cost_little_and_are_let_go() {
    let home = Home::new();
    let server = Server::start(&home);
    // As large as a page gets: a megabyte of what JSON writes with six bytes each.
    for n in 0..3 {
        let body = serde_json::json!([entry(n, &"\u{1}".repeat(1 << 20))]);
        assert_eq!(server.post(body.to_string().as_bytes()).0, 200);
    }
    let stalled: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.addr).unwrap();
            let request = b"GET /api/v1/entries?limit=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(request).unwrap();
            stream
        })
        .collect();
    // Every place for a connection is taken; it is answered once they are let go.
    let deadline = Instant::now() + Duration::from_secs(90);
    while server.get("/api/v1/ping").0 != 200 {
        assert!(Instant::now() < deadline, "nobody is served any more");
    }
    let peak = server.peak_kib();
    assert!(peak < 150_000, "{peak} KiB");
    drop(stalled);
}

#[test]
fn uploads_that_stand_still_keep_nobody_waiting_for_long() {
    let (a, b) = (Home::new(), Home::new());
    b.spool("b", ["typed on b".into()]);
    let server = Server::start(&a);
    let _stalled: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.addr).unwrap();
            let begun = b"POST /api/v1/entries HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n[";
            stream.write_all(begun).unwrap();
            stream
        })
        .collect();
    // Within the time-out that it has by default.
    synced(&b, &server);
    assert_equal(&a, &b, 1);
}

#[test]
fn any_address_of_the_loopback_is_served_under_its_number() {
    let (a, b) = (Home::new(), Home::new());
    let server = Server::start_at(&a, "127.0.0.2:0", &[]);
    synced(&b, &server);
}

#[test]
fn a_taken_port_is_told() {
    let home = Home::new();
    let server = Server::start(&home);
    let second = home.rr(["serve", "--http", &server.addr]).output().unwrap();
    let talk = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        talk.contains("can't listen") && talk.contains("another program has that port"),
        "{talk}"
    );
}

/// A peer that says whatever it is told to, and tells in the end what it was asked.
struct Liar {
    url: String,
    thread: std::thread::JoinHandle<Vec<Message>>,
}

/// What a liar's log has.
const LIARS_LOG: LogId = LogId::from_bytes([0xab; 16]);

impl Liar {
    /// Answers each message with those that `says` has for it; hangs up when it has `None`.
    fn start(mut says: impl FnMut(&Message) -> Option<Vec<Message>> + Send + 'static) -> Liar {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream
                .write_all(
                    b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: rustory-sync-2\r\n\r\n",
                )
                .unwrap();
            let (mut reader, mut writer) = (FrameReader::default(), FrameWriter::default());
            let mut asked = Vec::new();
            let mut chunk = [0; 65_536];
            loop {
                while let Some(message) = reader.next_message().unwrap() {
                    let answers = says(&message);
                    asked.push(message);
                    let Some(answers) = answers else { return asked };
                    let mut bytes = Vec::new();
                    for answer in &answers {
                        writer.write(answer, &mut bytes).unwrap();
                    }
                    if stream.write_all(&bytes).is_err() {
                        return asked;
                    }
                }
                match stream.read(&mut chunk) {
                    Ok(0) | Err(_) => return asked,
                    Ok(count) => reader.push(&chunk[..count]),
                }
            }
        });
        Liar { url, thread }
    }

    /// One that has entries 1 to `head`, of the device `other`, and sends these batches when it
    /// is asked to.
    fn with(head: u64, batches: Vec<Message>) -> Liar {
        let mut batches = Some(batches);
        Liar::start(move |message| match message {
            Message::Hello(_) => Some(vec![liars_hello(head, |_| {})]),
            Message::Pull(_) => Some(batches.take().unwrap_or_default()),
            Message::Close(_) => None,
            _ => Some(Vec::new()),
        })
    }

    fn asked(self) -> Vec<Message> {
        self.thread.join().unwrap()
    }
}

fn seq(n: u64) -> IngestSeq {
    IngestSeq::new(n).unwrap()
}

fn liars_hello(head: u64, change: impl FnOnce(&mut Hello)) -> Message {
    let tally = Tally {
        count: head,
        digest: Digest(u128::from(head)),
    };
    let mut hello = Hello {
        protocol: PROTOCOL,
        device_id: "liar".into(),
        device_name: "liar".into(),
        user_id: None,
        version: "9".into(),
        log_id: LIARS_LOG,
        place: 7,
        head: seq(head),
        tally,
        stays: false,
        origins: Some(Summary {
            head: seq(head),
            origins: vec![Origin {
                device_id: "other".into(),
                through: 0,
                tally,
            }],
        }),
        admission: None,
        read: None,
        brief: None,
    };
    change(&mut hello);
    Message::Hello(hello)
}

fn made(n: u32) -> rustory_core::Entry {
    let json = entry(n, &format!("c{n}")).to_string();
    let read = serde_json::from_str::<rustory_core::json::PartialEntry>(&json).unwrap();
    read.into_entry().unwrap()
}

/// A batch of entries with these numbers, said to cover a stretch.
fn batch(numbers: &[u32], (after, last): (u64, u64), end: bool) -> Message {
    Message::Batch(Batch {
        entries: numbers.iter().copied().map(made).collect::<Vec<_>>().into(),
        stretch: Some(Stretch {
            after: seq(after),
            last: seq(last),
        }),
        end,
        mends: None,
    })
}

fn sync_with(home: &Home, url: &str) -> (Option<i32>, String) {
    let output = home.rr(["sync", url]).output().unwrap();
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), talk)
}

#[test]
fn what_came_from_a_peer_is_not_sent_back_to_it_even_after_an_exchange_that_broke() {
    let home = Home::new();
    let bad = batch(&[], (3, 3), false);
    let liar = Liar::with(5, vec![batch(&[1, 2, 3], (0, 3), false), bad]);
    assert_eq!(sync_with(&home, &liar.url).0, Some(1));
    liar.asked();
    assert_eq!(home.cmds().len(), 3);
    let liar = Liar::with(5, vec![batch(&[4, 5], (3, 5), true)]);
    sync_with(&home, &liar.url);
    let asked = liar.asked();
    let pulled = asked.iter().find_map(|message| match message {
        Message::Pull(wanted) => Some(wanted.cursor.unwrap().seq),
        _ => None,
    });
    assert_eq!(pulled, Some(seq(3)), "it goes on where it was: {asked:?}");
    let sent = asked
        .iter()
        .any(|message| matches!(message, Message::Batch(_)));
    assert!(!sent, "{asked:?}");
    assert_eq!(home.cmds().len(), 5);
}

#[test]
fn a_peer_that_lies_ends_the_round_with_one_error_and_what_came_before_stays() {
    let fetched = |numbers: &[u32]| {
        Message::Batch(Batch {
            entries: numbers.iter().copied().map(made).collect::<Vec<_>>().into(),
            stretch: None,
            end: false,
            mends: None,
        })
    };
    let good = || batch(&[1], (0, 1), false);
    for (bad, says) in [
        (batch(&[], (1, 2), false), "claims that more follows"),
        (batch(&[2], (1, 1), false), "does not move on"),
        (batch(&[2], (1, 0), true), "does not move on"),
        (batch(&[2, 3], (1, 2), true), "more entries than positions"),
        (batch(&[2], (1, 5_000), true), "beyond its log's head"),
        (batch(&[2], (2, 3), true), "does not go on where"),
        (batch(&[2], (0, 3), true), "does not go on where"),
        (fetched(&[2]), "by id"),
        (liars_hello(5, |_| {}), "`Hello` where it makes no sense"),
        (Message::Later, "`Later` where it makes no sense"),
    ] {
        let home = Home::new();
        let liar = Liar::with(5, vec![good(), bad.clone()]);
        let shown = format!("{bad:?}");
        let (code, talk) = sync_with(&home, &liar.url);
        assert_eq!(code, Some(1), "{shown}: {talk}");
        assert!(
            talk.contains(says) && talk.matches("error").count() == 1,
            "{says}: {talk}"
        );
        assert_eq!(home.cmds(), ["c1"]);
        let asked = liar.asked();
        let told = asked.iter().any(
            |message| matches!(message, Message::Close(close) if close.reason == Reason::FAULT),
        );
        assert!(told, "the liar is told why: {asked:?}");
    }
}

#[test]
fn a_peer_of_another_protocol_user_or_with_absurd_names_is_not_believed() {
    let config = "user_id = \"me\"\n";
    type Change = fn(&mut Hello);
    let cases: [(Change, &str); 3] = [
        (|hello| hello.protocol = 1, "version 1 of the protocol"),
        (
            |hello| hello.user_id = Some("you".into()),
            "is that of `you`",
        ),
        (
            |hello| hello.device_id = "x".repeat(20_000),
            "can't be true",
        ),
    ];
    for (change, says) in cases {
        let home = Home::new();
        let dir = home.path().join(".config/rustory");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.toml"), config).unwrap();
        let liar = Liar::start(move |message| match message {
            Message::Hello(_) => Some(vec![liars_hello(0, change)]),
            _ => None,
        });
        let (code, talk) = sync_with(&home, &liar.url);
        assert_eq!(code, Some(1), "{talk}");
        assert!(talk.contains(says), "{says}: {talk}");
        liar.asked();
    }
}

#[test]
fn what_a_peer_says_is_shown_and_never_run_by_the_terminal() {
    let home = Home::new();
    let liar = Liar::start(|message| match message {
        Message::Hello(_) => Some(vec![Message::Close(Close {
            reason: Reason::OTHER,
            text: Some("\u{1b}]0;owned\u{7}no\nerror: never".into()),
        })]),
        _ => None,
    });
    let (code, talk) = sync_with(&home, &liar.url);
    liar.asked();
    assert_eq!(code, Some(1), "{talk}");
    assert!(
        !talk.contains(['\u{1b}', '\u{7}']) && talk.lines().count() <= 2,
        "{talk:?}"
    );
}

#[test]
fn an_entry_beyond_the_limits_holds_back_no_other_and_is_counted() {
    let (a, b) = (Home::new(), Home::new());
    let mut store =
        rustory_store::Store::open(&b.db(), rustory_store::Access::PATIENT, None).unwrap();
    let made = |n: u32| {
        let json = entry(n, &format!("x{n:06}")).to_string();
        let read = serde_json::from_str::<rustory_core::json::PartialEntry>(&json).unwrap();
        read.into_entry().unwrap()
    };
    let mut entries: Vec<_> = (0..1_500).map(made).collect();
    // Typed in a very deep directory, for one.
    for n in [0, 700, 1_499] {
        entries[n].cwd = "/deep".repeat(1_000).into();
    }
    store.insert(&entries).unwrap();
    drop(store);
    let server = Server::start(&a);
    let done = synced(&b, &server);
    assert_eq!(
        (&done["pushed"], &done["unsendable"]),
        (&1_497.into(), &3.into()),
        "{done}"
    );
    assert_eq!(a.cmds().len(), 1_497);
    let quiet = synced(&b, &server);
    assert_eq!(
        (&quiet["sent"], &quiet["received"]),
        (&0.into(), &0.into()),
        "{quiet}"
    );
}
