//! `rr pair` and `rr join`: two homes that know nothing of each other become two devices of one
//! swarm, and what is wrong on the way is told by name.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;

use rustory_core::pairing::Invitation;
use rustory_testkit::{Program, Terminal};
use serde_json::Value;

use crate::common::{Home, numbered, succeeded};
use crate::device::{eventually, free_port, swarm_key, write_private};
use crate::hub::Hub;

/// A home with nothing in it but where to listen, so that tests on one machine don't meet.
struct Fresh {
    home: Home,
}

impl Fresh {
    fn new(name: &str) -> Fresh {
        Fresh::with(name, &[])
    }

    fn with(name: &str, more: &[&str]) -> Fresh {
        let home = Home::new();
        let config = home.path().join(".config/rustory/config.toml");
        fs::create_dir_all(config.parent().unwrap()).unwrap();
        let mut lines = vec![
            format!("device_name = \"{name}\""),
            format!("listen = [\"/ip4/127.0.0.1/tcp/{}\"]", free_port()),
            "mdns = false # other tests run here".to_owned(),
        ];
        lines.extend(more.iter().map(ToString::to_string));
        fs::write(config, lines.join("\n") + "\n").unwrap();
        Fresh { home }
    }

    fn config(&self) -> String {
        fs::read_to_string(self.home.path().join(".config/rustory/config.toml")).unwrap()
    }

    /// The code, and nothing else, is on stdout.
    fn pair(&self) -> String {
        let code = self.home.ok(&["pair"]);
        assert_eq!(code.lines().count(), 1, "{code}");
        code.trim().to_owned()
    }

    fn join(&self, code: &str, args: &[&str]) -> Output {
        let args: Vec<&str> = ["join"].iter().chain(args).copied().collect();
        self.home.feed(&args, code.as_bytes())
    }

    #[track_caller]
    fn joined(&self, code: &str) -> String {
        let output = self.join(code, &[]);
        let said = stderr(&output);
        succeeded(output);
        said
    }

    /// How it was refused, with what exit code.
    #[track_caller]
    fn refused(&self, code: &str, args: &[&str], exit: i32) -> String {
        let output = self.join(code, args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(exit), "{said}");
        assert!(
            said.contains("error: ") && said.contains("hint: "),
            "{said}"
        );
        said
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.home.ok(&["status", "--json"])).unwrap()
    }

    fn key(&self) -> PathBuf {
        self.home.data().join("swarm.key")
    }

    fn mode(&self, name: &str) -> u32 {
        let meta = fs::metadata(self.home.data().join(name)).unwrap();
        meta.permissions().mode() & 0o777
    }
}

/// The daemons that pairing starts run on their own.
impl Drop for Fresh {
    fn drop(&mut self) {
        let status = self.home.rr(["status", "--json"]).output().unwrap();
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        if let Some(pid) = status["daemon"]["pid"].as_u64() {
            let _ = std::process::Command::new("kill")
                .args(["-9", &pid.to_string()])
                .status();
        }
        if std::thread::panicking() {
            let log = self.home.data().join("daemon.log");
            eprintln!("{}", fs::read_to_string(log).unwrap_or_default());
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn sorted(home: &Home) -> Vec<String> {
    let mut cmds = home.cmds();
    cmds.sort();
    cmds
}

#[test]
fn two_fresh_homes_without_a_hub_pair_in_one_line_each_and_hold_the_same() {
    let (a, b) = (Fresh::new("alpha"), Fresh::new("beta"));
    a.home.spool("a", numbered("of alpha ", 30));
    b.home.spool("b", numbered("of beta ", 20));
    let code = a.pair();
    let said = b.joined(&code);
    assert!(
        said.contains("of `alpha`")
            && said.contains("2 devices, 50 entries, identical with `alpha`"),
        "{said}"
    );
    assert_eq!(sorted(&b.home).len(), 50);
    eventually("alpha has them too", || sorted(&a.home) == sorted(&b.home));
    assert_eq!(fs::read(a.key()).unwrap(), fs::read(b.key()).unwrap());
    for device in [&a, &b] {
        for name in ["swarm.key", "identity.key", "daemon.log"] {
            assert_eq!(device.mode(name), 0o600, "{name}");
        }
    }
    assert!(!b.config().contains("trackers"), "{}", b.config());
    // Again changes nothing.
    let (key, config) = (fs::read(b.key()).unwrap(), b.config());
    let said = b.joined(&a.pair());
    assert!(
        said.contains("already") && said.contains("identical"),
        "{said}"
    );
    assert_eq!((fs::read(b.key()).unwrap(), b.config()), (key, config));
    assert!(!b.home.data().join("swarm.key.left").exists());
}

#[test]
fn through_a_hub_alone_and_the_configuration_keeps_what_its_user_wrote() {
    let hub = Hub::new();
    let _hub = hub.start(&[]);
    // Nobody can be reached but through the hub.
    let a = Fresh::with(
        "alpha",
        &[
            "listen = []".replace("listen", "relays").as_str(),
            &hub.tracker(),
        ],
    );
    fs::create_dir_all(a.home.data()).unwrap();
    write_private(a.key(), &crate::device::SWARM_KEY);
    a.home.spool("a", numbered("of alpha ", 5));
    let b = Fresh::new("beta");
    let mut invitation = Invitation::from_code(&a.pair()).unwrap();
    assert_eq!((invitation.addrs.len(), invitation.hubs.len()), (1, 1));
    invitation.addrs.clear();
    let output = b.join(&invitation.to_code(), &["--json"]);
    let told: Value = serde_json::from_str(&succeeded(output)).unwrap();
    assert_eq!(
        (
            &told["devices"],
            &told["entries"],
            &told["identical"],
            &told["met"]["name"]
        ),
        (&2.into(), &5.into(), &true.into(), &"alpha".into()),
        "{told}"
    );
    let config = b.config();
    assert!(
        config.contains("mdns = false # other tests run here"),
        "{config}"
    );
    assert!(config.contains(&hub.tracker()), "{config}");
    assert!(sorted(&b.home).len() == 5);
}

#[test]
fn what_is_wrong_with_a_code_is_told_by_name_and_changes_nothing() {
    let (a, b) = (Fresh::new("alpha"), Fresh::new("beta"));
    let code = a.pair();
    let flipped = if code.as_bytes()[60] == b'7' {
        "8"
    } else {
        "7"
    };
    let one_wrong = format!("{}{flipped}{}", &code[..60], &code[61..]);
    let mut old = Invitation::from_code(&code).unwrap();
    old.expires = 1_700_000_000;
    // A whole code of version 2 without anything in it.
    let newer = "RR0800000000".to_owned();
    let config = b.config();
    for (text, says, does) in [
        ("hello there", "no pairing code", "begins with RR"),
        ("", "no pairing code", "begins with RR"),
        (
            &code[..code.len() - 9],
            "is cut off: 9 of its",
            "copy all of it",
        ),
        (&one_wrong, "at place 61 should be", "copy it once more"),
        (
            &format!("{code}{code}"),
            "characters too many",
            "copy the code alone",
        ),
        (
            &code.replace('0', "U"),
            "it never has a `U`",
            "copy it once more",
        ),
        (&old.to_code(), "has expired", "run `rr pair` again"),
        (&newer, "mistyped", "copy it once more"),
    ] {
        let said = b.refused(text, &[], 1);
        assert!(said.contains(says) && said.contains(does), "{says}: {said}");
    }
    let said = a.refused(&code, &[], 2);
    assert!(said.contains("from this very device"), "{said}");
    assert!(!b.key().exists());
    assert_eq!(b.config(), config);
    // However it was copied: in lines, in groups, as an argument in small letters.
    let (first, second) = code.split_at(70);
    let in_lines = format!("\n {first}\r\n {second}\n");
    assert!(b.joined(&in_lines).contains("2 devices"));
    let small = code.to_lowercase();
    let (first, second) = small.split_at(50);
    let said = succeeded(
        b.home
            .rr(["join", "--json", first, second])
            .output()
            .unwrap(),
    );
    assert!(said.contains("\"devices\":2"), "{said}");
}

#[test]
fn a_device_of_another_swarm_is_asked_and_its_entries_come_along() {
    let (a, b, other) = (Fresh::new("alpha"), Fresh::new("beta"), Fresh::new("other"));
    b.home.spool("b", numbered("of beta ", 7));
    other.joined(&b.pair());
    let before = fs::read(b.key()).unwrap();
    let code = a.pair();
    let said = b.refused(&code, &[], 2);
    assert!(
        said.contains("in another swarm already, with other") && said.contains("`rr join --yes`"),
        "{said}"
    );
    assert_eq!(fs::read(b.key()).unwrap(), before);
    let output = b.join(&code, &["--yes"]);
    let said = stderr(&output);
    succeeded(output);
    assert!(
        said.contains("left the swarm") && said.contains("7 entries, identical"),
        "{said}"
    );
    assert_eq!(fs::read(b.key()).unwrap(), fs::read(a.key()).unwrap());
    assert_eq!(
        fs::read(b.home.data().join("swarm.key.left")).unwrap(),
        before
    );
    assert_eq!(b.mode("swarm.key.left"), 0o600);
    assert_eq!(sorted(&a.home), sorted(&b.home));
    let peers = b.status()["peers"].clone();
    let names: Vec<_> = peers
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| &peer["name"])
        .collect();
    assert_eq!(
        names,
        ["alpha"],
        "the other swarm's devices are no concern any more"
    );
}

#[test]
fn nobody_there_is_told_with_what_was_tried_and_the_device_is_a_member() {
    let a = Fresh::new("alpha");
    let mut invitation = Invitation::from_code(&a.pair()).unwrap();
    let gone = format!("/ip4/127.0.0.1/tcp/{}", free_port());
    let addr: rustory_net::p2p::Multiaddr = gone.parse().unwrap();
    invitation.addrs = vec![addr.to_vec().into()];
    let b = Fresh::new("beta");
    let said = b.refused(&invitation.to_code(), &["--timeout", "3"], 1);
    assert!(
        said.contains("member now, but no other one was met (`alpha`: the peer is not reachable"),
        "{said}"
    );
    assert!(said.contains("in one network"), "{said}");
    // The same through a hub that is down.
    let hub: rustory_net::p2p::HubAddr = gone.parse().unwrap();
    invitation.hubs = vec![hub.to_multiaddr(None).to_vec().into()];
    invitation.addrs.clear();
    let said = b.refused(&invitation.to_code(), &["--timeout", "3"], 1);
    assert!(
        said.contains(&format!("hub `{gone}`: connection refused"))
            && said.contains("does the hub run?"),
        "{said}"
    );
    assert!(b.key().exists());
    // It is a member and goes on trying: once there is a way it is used.
    let said = b.joined(&a.pair());
    assert!(
        said.contains("already") && said.contains("2 devices"),
        "{said}"
    );
    assert!(
        said.contains("can't be used now: connection refused"),
        "{said}"
    );
}

#[test]
fn a_label_that_somebody_chose_goes_along_and_a_login_name_replaces_none() {
    let (a, b) = (
        Fresh::with("alpha", &["user_id = \"mina\""]),
        Fresh::new("beta"),
    );
    let said = b.joined(&a.pair());
    assert!(said.contains("`mina`'s from now on"), "{said}");
    assert!(b.config().contains("user_id = \"mina\""), "{}", b.config());
    let c = Fresh::with("gamma", &["user_id = \"jun\""]);
    let d = Fresh::new("delta");
    let said = c.joined(&d.pair());
    assert!(!said.contains("from now on"), "{said}");
    assert!(c.config().contains("user_id = \"jun\""), "{}", c.config());
}

#[test]
fn a_configuration_that_cannot_be_changed_is_told_before_anything_is() {
    let (a, b) = (Fresh::new("alpha"), Fresh::new("beta"));
    let code = a.pair();
    let config = b.home.path().join(".config/rustory/config.toml");
    fs::write(&config, "mdns = false\nfinder = = 3\n").unwrap();
    let said = b.refused(&code, &[], 1);
    assert!(said.contains("config.toml:2` has a slip"), "{said}");
    assert!(!b.key().exists());
}

#[test]
fn a_swarm_key_that_cannot_be_used_stops_pairing_with_what_to_do() {
    let a = Fresh::new("alpha");
    fs::create_dir_all(a.home.data()).unwrap();
    write_private(a.key(), "no key");
    for command in ["pair", "join"] {
        let fine = Fresh::new("other").pair();
        let output = a.home.feed(&[command], fine.as_bytes());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("is malformed") && said.contains("hint: "),
            "{said}"
        );
    }
    write_private(a.key(), &swarm_key('c'));
    a.pair();
}

#[test]
fn a_daemon_that_runs_takes_part_in_the_new_swarm_as_the_same_process() {
    let (a, b) = (Fresh::new("alpha"), Fresh::new("beta"));
    b.pair();
    let pid = b.status()["daemon"]["pid"].clone();
    let output = b.join(&a.pair(), &["--yes"]);
    let said = stderr(&output);
    succeeded(output);
    assert!(said.contains("2 devices"), "{said}");
    assert_eq!(b.status()["daemon"]["pid"], pid);
    // The other way to start one in the background finds it there.
    let told = b.home.rr(["daemon", "--detach"]).output().unwrap();
    assert!(
        stderr(&told).contains("runs already, as process"),
        "{}",
        stderr(&told)
    );
    succeeded(told);
}

#[test]
fn the_code_is_told_to_programs_with_what_is_in_it() {
    let a = Fresh::new("alpha");
    let told: Value =
        serde_json::from_str(&a.home.ok(&["pair", "--json", "--expires", "1h"])).unwrap();
    let invitation = Invitation::from_code(told["code"].as_str().unwrap()).unwrap();
    assert_eq!(invitation.device_name.as_deref(), Some("alpha"));
    let expires: jiff::Timestamp = told["expires"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        expires.as_second(),
        i64::try_from(invitation.expires).unwrap()
    );
    let lasts = expires.as_second() - jiff::Timestamp::now().as_second();
    assert!((3_500..=3_600).contains(&lasts), "{lasts}");
    assert_eq!(told["peer_id"], a.status()["device"]["peer_id"]);
    for (args, says) in [
        (&["pair", "--expires", "1s"][..], "from 10s to 168h"),
        (&["pair", "--expires", "soon"], "from 10s to 168h"),
        (&["pair", "--ssh=-oProxyCommand=evil"], "no host for ssh"),
        (&["pair", "--yes"], "--ssh"),
    ] {
        let output = a.home.rr(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[test]
fn a_device_that_listens_nowhere_and_has_no_hub_says_that_nobody_can_reach_it() {
    let a = Fresh::new("alpha");
    let config = a.home.path().join(".config/rustory/config.toml");
    fs::write(config, "listen = []\nmdns = false\n").unwrap();
    let output = a.home.rr(["pair"]).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("listens nowhere") && said.contains("`trackers`"),
        "{said}"
    );
}

// ---- over ssh

/// In the place of ssh: runs the command with another home.
fn fake_ssh(far: &Home, before: &str) -> PathBuf {
    let bin = far.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rr"), bin.join("rustory"));
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\n\
         [ \"$2\" = far ] || exit 99\nshift 2\n\
         export HOME='{home}' PATH='{bin}:/usr/bin:/bin'\n{before}\nexec sh -c \"exec $1\"\n",
        home = far.path().display(),
        bin = bin.display(),
    );
    let path = far.path().join("fake-ssh");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn pair_by_ssh(near: &Fresh, ssh: &PathBuf, args: &[&str]) -> Output {
    let mut command = near.home.rr(["pair", "--ssh", "far"].iter().chain(args));
    command.env("RUSTORY_SSH", ssh).output().unwrap()
}

#[test]
fn a_machine_behind_ssh_is_set_up_without_anything_to_copy() {
    let (near, far) = (Fresh::new("near"), Fresh::new("far"));
    near.home.spool("n", numbered("of near ", 3));
    far.home.spool("f", numbered("of far ", 4));
    // The code is in nobody's list of arguments.
    let ssh = fake_ssh(&far.home, "printf '%s\\n' \"$@\" > \"$HOME/args\"");
    let output = pair_by_ssh(&near, &ssh, &[]);
    let said = stderr(&output);
    succeeded(output);
    assert!(said.contains("7 entries, identical with `near`"), "{said}");
    assert!(said.contains("`far` is in the swarm"), "{said}");
    assert_eq!(sorted(&far.home).len(), 7);
    let args = fs::read_to_string(far.home.path().join("args")).unwrap();
    assert!(args.contains("join -") && !args.contains("RR"), "{args}");
    // One that is in another swarm is not taken out of it in passing.
    let (other, third) = (Fresh::new("other"), Fresh::new("third"));
    third.joined(&other.pair());
    let ssh = fake_ssh(&third.home, "");
    let output = pair_by_ssh(&near, &ssh, &[]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("in another swarm already") && said.contains("did not join, see above"),
        "{said}"
    );
    let output = pair_by_ssh(&near, &ssh, &["--yes"]);
    succeeded(output);
    assert_eq!(
        fs::read(third.key()).unwrap(),
        fs::read(near.key()).unwrap()
    );
}

#[test]
fn what_is_wrong_with_the_way_to_the_machine_is_told() {
    for (before, says, does) in [
        (
            "exit 255",
            "ssh could not connect to `far`",
            "does `ssh HOST true` work?",
        ),
        (
            "rm -f \"$HOME/bin/rustory\"",
            "there is no rr at `far`",
            "install it there",
        ),
        ("exit 2", "`far` did not join", "too old"),
    ] {
        let (near, far) = (Fresh::new("near"), Home::new());
        let ssh = fake_ssh(&far, before);
        let output = pair_by_ssh(&near, &ssh, &[]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(says) && said.contains(does), "{says}: {said}");
    }
    let near = Fresh::new("near");
    let said = stderr(&pair_by_ssh(&near, &PathBuf::from("/nowhere/ssh"), &[]));
    assert!(
        said.contains("can't be started") && said.contains("OpenSSH"),
        "{said}"
    );
}

// ---- on a terminal

fn on_terminal(device: &Fresh, args: &[&str], rows: u16) -> Terminal {
    Program::new(env!("CARGO_BIN_EXE_rr"))
        .args(args)
        .home(device.home.path())
        .size(rows, 80)
        .start()
}

/// Lines of a QR code on the screen.
fn qr_lines(screen: &str) -> usize {
    let inked = |line: &&str| line.contains(['█', '▀', '▄']);
    screen.lines().filter(inked).count()
}

#[test]
fn on_a_terminal_the_code_can_be_scanned_where_it_fits_and_the_new_device_is_greeted() {
    let (a, b) = (Fresh::new("alpha"), Fresh::new("beta"));
    b.home.spool("b", numbered("of beta ", 2));
    let mut small = on_terminal(&a, &["pair", "--no-wait"], 20);
    assert!(small.exit_status().success(), "{}", small.dump());
    assert_eq!(qr_lines(&small.screen()), 0);
    assert!(
        small.screen().contains("the QR code needs 3"),
        "{}",
        small.dump()
    );
    let mut large = on_terminal(&a, &["pair"], 50);
    large.wait_for("the waiting", |screen| {
        screen.contents().contains("Waiting for it")
    });
    let lines = qr_lines(&large.screen());
    assert!(lines > 20, "{}", large.dump());
    let said = String::from_utf8(large.output()).unwrap();
    let code = said
        .lines()
        .find(|line| line.starts_with("RR04"))
        .unwrap()
        .to_owned();
    // On the smallest screen that takes it, all of it is there, with what follows below it.
    let needs = small
        .screen()
        .split("needs ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse();
    let exact = on_terminal(&a, &["pair"], needs.unwrap());
    exact.wait_for("the waiting", |screen| {
        screen.contents().contains("Waiting for it")
    });
    assert_eq!(qr_lines(&exact.screen()), lines, "{}", exact.dump());
    assert!(exact.screen().contains("RR04"), "{}", exact.dump());
    b.joined(&code);
    large.wait_for("the new device", |screen| {
        screen.contents().contains("✓ beta is here, with 2 entries")
    });
    assert!(large.exit_status().success());
}

#[test]
fn asked_on_a_terminal_a_code_may_come_in_lines_and_a_swarm_is_left_only_with_a_yes() {
    let (a, b) = (Fresh::new("alpha"), Fresh::new("beta"));
    b.pair();
    let (code, before) = (a.pair(), fs::read(b.key()).unwrap());
    for (answer, exit) in [("\r", 130), ("n\r", 130), ("y\r", 0)] {
        assert_eq!(fs::read(b.key()).unwrap(), before);
        let mut join = on_terminal(&b, &["join"], 30);
        join.wait_for("the prompt", |screen| screen.contents().contains("Code:"));
        join.send(format!("{}\r", &code[..79]));
        join.wait_for("what is missing", |screen| {
            screen.contents().contains("are still missing")
        });
        join.send(format!("{}\r", &code[79..]));
        join.wait_for("the question", |screen| screen.contents().contains("[y/N]"));
        join.send(answer);
        assert_eq!(join.exit_status().exit_code(), exit, "{}", join.dump());
    }
    assert_eq!(fs::read(b.key()).unwrap(), fs::read(a.key()).unwrap());
    let mut nothing = on_terminal(&b, &["join", "-"], 30);
    nothing.wait_for("the prompt", |screen| screen.contents().contains("Code:"));
    nothing.send("\r");
    assert_eq!(nothing.exit_status().exit_code(), 130);
}
