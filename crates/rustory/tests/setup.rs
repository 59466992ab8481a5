//! `rr setup` on rc files of every kind: it changes what it says, and takes out what it put in.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Home, root_for};

fn run(home: &Home, args: &[&str]) -> (i32, String) {
    let output = home
        .rr(std::iter::once(&"setup").chain(args))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), said)
}

fn set_up(home: &Home) -> String {
    let (code, said) = run(home, &["--yes"]);
    assert_eq!(code, 0, "{said}");
    said
}

/// Every file below a directory with its bytes and mode.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            found.insert(path.clone(), (meta.mode(), Vec::new()));
            found.extend(tree(&path));
        } else {
            found.insert(
                path.clone(),
                (meta.mode(), fs::read(&path).unwrap_or_default()),
            );
        }
    }
    found
}

#[test]
fn a_fresh_home_gets_everything_and_a_second_run_changes_nothing() {
    let home = Home::new();
    let said = set_up(&home);
    assert!(said.contains("press ctrl+r"), "{said}");
    assert!(
        said.contains("+if [ -n \"${BASH_VERSION-}\" ]"),
        "the diff is shown: {said}"
    );
    let bashrc = fs::read_to_string(home.path().join(".bashrc")).unwrap();
    assert!(bashrc.contains("init bash"), "{bashrc}");
    assert!(
        fs::read_to_string(home.path().join(".zshrc"))
            .unwrap()
            .contains("init zsh")
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.data()), 0o700);
    assert_eq!(mode(&home.data().join("spool")), 0o700);
    let config = home.path().join(".config/rustory/config.toml");
    assert_eq!(mode(&config), 0o600);

    let before = tree(home.path());
    let said = set_up(&home);
    assert!(
        said.contains("the hook is there") && !said.contains("@@"),
        "{said}"
    );
    assert_eq!(tree(home.path()), before);
}

#[test]
fn the_history_that_is_there_is_taken_over_once() {
    let home = Home::new();
    fs::write(
        home.path().join(".bash_history"),
        "#1700000000\ngit status\n#1700000001\nmake\n",
    )
    .unwrap();
    let told = || String::from_utf8(home.rr(["setup", "--yes"]).output().unwrap().stdout).unwrap();
    let said = told();
    assert!(said.contains("2 new"), "{said}");
    let said = told();
    assert!(said.contains("0 new, 2 known"), "{said}");
    assert_eq!(home.cmds(), ["git status", "make"]);
}

#[test]
fn undo_leaves_the_home_as_it_was_but_for_the_history() {
    let home = Home::new();
    let bashrc = "alias ll='ls -l'\n# no end of line";
    fs::write(home.path().join(".bashrc"), bashrc).unwrap();
    fs::write(home.path().join(".profile"), ". ~/.bashrc\n").unwrap();
    fs::create_dir(home.path().join(".config")).unwrap();
    let before = tree(home.path());
    set_up(&home);
    let (code, said) = run(&home, &["--undo", "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Your history stays"), "{said}");
    let mut after = tree(home.path());
    after.retain(|path, _| !path.starts_with(home.data()));
    assert_eq!(after, before);
}

#[test]
fn a_configuration_that_the_user_changed_stays() {
    let home = Home::new();
    set_up(&home);
    let config = home.path().join(".config/rustory/config.toml");
    fs::write(&config, "finder = \"fzf\"\n").unwrap();
    let (_, said) = run(&home, &["--undo", "--yes"]);
    assert!(said.contains("stays"), "{said}");
    assert_eq!(fs::read_to_string(config).unwrap(), "finder = \"fzf\"\n");
}

#[test]
fn a_dry_run_shows_the_diff_and_writes_nothing() {
    let home = Home::new();
    fs::write(home.path().join(".bashrc"), "x=1\n").unwrap();
    let before = tree(home.path());
    let (code, said) = run(&home, &["--dry-run"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("@@") && said.contains("Nothing was changed"),
        "{said}"
    );
    assert_eq!(tree(home.path()), before);
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_changed() {
    let home = Home::new();
    let (code, said) = run(&home, &[]);
    assert_eq!(code, 2);
    assert!(
        said.contains("--yes") && said.contains("--dry-run"),
        "{said}"
    );
    assert!(
        said.contains("init bash"),
        "what it would do is shown: {said}"
    );
    assert_eq!(tree(home.path()), BTreeMap::new());
}

#[test]
fn a_linked_rc_file_stays_a_link_and_its_target_keeps_mode_and_bytes() {
    let home = Home::new();
    let dotfiles = home.path().join("dotfiles");
    fs::create_dir(&dotfiles).unwrap();
    let target = dotfiles.join("bashrc");
    fs::write(&target, b"caf\xe9=1\r\nx=2").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("dotfiles/bashrc", home.path().join(".bashrc")).unwrap();
    set_up(&home);
    assert!(
        fs::symlink_metadata(home.path().join(".bashrc"))
            .unwrap()
            .is_symlink()
    );
    assert!(
        fs::read(&target)
            .unwrap()
            .starts_with(b"caf\xe9=1\r\nx=2\n# >>> rustory")
    );
    assert_eq!(
        fs::metadata(&target).unwrap().permissions().mode() & 0o777,
        0o640
    );
    run(&home, &["--undo", "--yes"]);
    assert_eq!(fs::read(&target).unwrap(), b"caf\xe9=1\r\nx=2");
}

/// The rest is set up, the one file is not, and the lines to add by hand are shown.
fn refused(home: &Home, says: &str) {
    let before = tree(home.path());
    let (code, said) = run(home, &["--yes"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(says), "{said}");
    assert!(said.contains("add these lines"), "{said}");
    let after = tree(home.path());
    for (path, was) in before.iter().filter(|(path, _)| !path.ends_with("home")) {
        assert_eq!(after.get(path), Some(was), "{}", path.display());
    }
    assert!(
        fs::read_to_string(home.path().join(".zshrc"))
            .unwrap()
            .contains("init zsh")
    );
}

#[test]
fn a_read_only_rc_file_is_left_alone_and_said_so() {
    let home = Home::new();
    let bashrc = home.path().join(".bashrc");
    fs::write(&bashrc, "x=1\n").unwrap();
    fs::write(home.path().join(".profile"), ". ~/.bashrc\n").unwrap();
    fs::set_permissions(&bashrc, fs::Permissions::from_mode(0o444)).unwrap();
    refused(&home, "read-only");
}

#[test]
fn a_link_that_leads_nowhere_is_told() {
    let home = Home::new();
    symlink("gone/bashrc", home.path().join(".bashrc")).unwrap();
    fs::write(home.path().join(".profile"), ". ~/.bashrc\n").unwrap();
    refused(&home, "which is not there");
}

#[test]
fn an_rc_file_that_leads_to_a_pipe_or_a_directory_is_told_and_stays() {
    let home = Home::new();
    let made = Command::new("mkfifo")
        .arg(home.path().join("pipe"))
        .status();
    assert!(made.unwrap().success());
    symlink("pipe", home.path().join(".bashrc")).unwrap();
    fs::create_dir(home.path().join(".profile")).unwrap();
    let (code, said) = run(&home, &["--yes"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is a device or a pipe, no file"), "{said}");
    assert!(said.contains("is a directory, no file"), "{said}");
    let kind = fs::metadata(home.path().join("pipe")).unwrap().file_type();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&kind));
}

#[test]
fn an_rc_file_that_leads_to_a_device_leaves_the_device() {
    if !root_for("making a device") {
        return;
    }
    let home = Home::new();
    let null = home.path().join("null");
    let made = Command::new("mknod")
        .arg(&null)
        .args(["c", "1", "3"])
        .status();
    if !made.unwrap().success() {
        // In a container without the right to make devices there is none to lose.
        return;
    }
    symlink("null", home.path().join(".bashrc")).unwrap();
    fs::write(home.path().join(".profile"), ". ~/.bashrc\n").unwrap();
    let (code, said) = run(&home, &["--yes"]);
    assert_eq!(code, 1, "{said}");
    let kind = fs::metadata(&null).unwrap().file_type();
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(&kind));
}

#[test]
fn setups_at_the_same_time_leave_one_whole_block() {
    let home = Home::new();
    let before: &[u8] = b"x=1\r\n\xff no end";
    fs::write(home.path().join(".bashrc"), before).unwrap();
    let running: Vec<_> = (0..8)
        .map(|_| {
            home.rr(["setup", "--yes"])
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in running {
        // One that saw another's change says so and changes nothing.
        child.wait().unwrap();
    }
    let text = fs::read(home.path().join(".bashrc")).unwrap();
    let starts = text.windows(17).filter(|w| w == b"# >>> rustory >>>");
    assert_eq!(starts.count(), 1);
    run(&home, &["--undo", "--yes"]);
    assert_eq!(fs::read(home.path().join(".bashrc")).unwrap(), before);
}

#[test]
fn half_a_block_is_told_with_its_line() {
    let home = Home::new();
    fs::write(home.path().join(".bashrc"), "x=1\n# >>> rustory >>>\ny=2\n").unwrap();
    fs::write(home.path().join(".profile"), ". ~/.bashrc\n").unwrap();
    refused(&home, "line 2 begins a block of rustory that has no end");
}

#[test]
fn a_home_that_cannot_be_written_is_told_by_name() {
    if !root_for("becoming another user") {
        return;
    }
    use std::os::unix::process::CommandExt as _;
    let home = Home::new();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let output = home
        .rr(["setup", "--yes"])
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(".rustory") && said.contains("ermission"),
        "{said}"
    );
}

#[test]
fn a_line_of_the_users_own_is_enough() {
    let home = Home::new();
    fs::write(home.path().join(".bashrc"), "eval \"$(rr init bash)\"\n").unwrap();
    fs::write(home.path().join(".profile"), ". ~/.bashrc\n").unwrap();
    let said = set_up(&home);
    assert!(said.contains(".bashrc: line 1, your own"), "{said}");
    let text = fs::read_to_string(home.path().join(".bashrc")).unwrap();
    assert_eq!(text, "eval \"$(rr init bash)\"\n");
}

#[test]
fn another_program_of_the_same_name_is_told() {
    let home = Home::new();
    let bin = home.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("rr"), "#!/bin/sh\n").unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let output = home
        .rr(["setup", "--yes"])
        .env("PATH", path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("another program here") && said.contains("rustory"),
        "{said}"
    );
}

#[test]
fn only_the_shell_that_was_asked_for_is_changed() {
    let home = Home::new();
    let (code, said) = run(&home, &["--yes", "--shell", "zsh"]);
    assert_eq!(code, 0, "{said}");
    assert!(!home.path().join(".bashrc").exists());
    assert!(home.path().join(".zshrc").exists());
}

#[test]
fn a_bad_configuration_is_told_and_stops_nothing() {
    let home = Home::new();
    let dir = home.path().join(".config/rustory");
    fs::create_dir_all(&dir).unwrap();
    fs::write(
        dir.join("config.toml"),
        "fnder = \"fzf\"\nsearch_limit_default = \"x\"\n",
    )
    .unwrap();
    home.spool("a", ["typed".into()]);
    let output = home.rr(["list"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && output.stdout.ends_with(b"typed\n"),
        "{said}"
    );
    assert!(
        said.contains("config.toml:1: unknown key `fnder`; did you mean `finder`?"),
        "{said}"
    );
    assert!(
        said.contains("config.toml:2: `search_limit_default`: expected a whole number"),
        "{said}"
    );
    let output = home.rr(["init", "bash"]).output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty());
}

/// In the place of systemd's program: writes down what it was asked, and answers as if all went well.
/// What it is told to start it starts, so that the daemon is really there.
fn with_systemd(home: &Home) {
    let bin = home.path().join("fake");
    fs::create_dir(&bin).unwrap();
    let script = "#!/bin/sh\n\
        echo \"$*\" >> \"$HOME/systemctl.log\"\n\
        unit=\"$HOME/.config/systemd/user/rustory.service\"\n\
        program=$(sed -n 's/^ExecStart=\"\\(.*\\)\" daemon$/\\1/p' \"$unit\" 2>/dev/null)\n\
        pid() { cat \"$HOME/fake/pid\" 2>/dev/null || echo none; }\n\
        runs() { \"$program\" status --json | grep -q \"\\\"pid\\\":$(pid),\"; }\n\
        start() {\n\
            runs && return\n\
            \"$program\" daemon </dev/null >/dev/null 2>&1 &\n\
            echo $! > \"$HOME/fake/pid\"\n\
        }\n\
        stop() { runs && kill \"$(pid)\"; while runs; do sleep 0.05; done; }\n\
        case \"$2\" in\n\
            is-enabled) test -e \"$HOME/fake/enabled\";;\n\
            is-active) runs;;\n\
            enable) touch \"$HOME/fake/enabled\";;\n\
            start) start;;\n\
            restart) stop; start;;\n\
            disable) rm -f \"$HOME/fake/enabled\"; stop;;\n\
            *) true;;\n\
        esac\n";
    for (name, text) in [("systemctl", script), ("loginctl", "#!/bin/sh\necho no\n")] {
        let path = bin.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Runs `rr` where systemd seems to be.
fn managed(home: &Home, args: &[&str]) -> (i32, String) {
    let path = format!("{}:/usr/bin:/bin", home.path().join("fake").display());
    let output = home
        .rr(args)
        .env("PATH", path)
        .env("XDG_RUNTIME_DIR", home.path())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// Without meeting whatever else runs on this machine.
fn alone(home: &Home) {
    let config = home.path().join(".config/rustory/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(
        config,
        "listen = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\n",
    )
    .unwrap();
}

#[test]
fn a_swarm_gets_a_service_which_a_second_run_leaves_alone_and_undo_takes_away() {
    let home = Home::new();
    alone(&home);
    with_systemd(&home);
    let unit = home.path().join(".config/systemd/user/rustory.service");
    let (code, said) = managed(&home, &["setup", "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("no other devices yet: `rr pair`"), "{said}");
    assert!(!unit.exists(), "nothing to do for a daemon: {said}");
    let (code, said) = managed(&home, &["setup", "--dry-run", "--new-swarm"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("+ a new swarm would be made"), "{said}");
    assert!(
        said.contains("rustory.service would be installed and started"),
        "{said}"
    );
    assert!(!unit.exists() && !home.data().join("swarm.key").exists());

    let (code, said) = managed(&home, &["setup", "--yes", "--new-swarm"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("✓ new swarm") && said.contains("rustory.service: installed and started"),
        "{said}"
    );
    assert!(said.contains("enable-linger"), "{said}");
    let written = fs::read_to_string(&unit).unwrap();
    assert!(written.contains(env!("CARGO_BIN_EXE_rr")), "{written}");
    let (_, said) = managed(&home, &["service", "status", "--json"]);
    assert!(
        said.contains("\"active\":true") && said.contains("\"enabled\":true"),
        "{said}"
    );

    let before = tree(&home.path().join(".config"));
    let (code, said) = managed(&home, &["setup", "--yes", "--new-swarm"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("this device is in it") && said.contains("nothing was changed"),
        "{said}"
    );
    assert_eq!(tree(&home.path().join(".config")), before);
    let log = fs::read_to_string(home.path().join("systemctl.log")).unwrap();
    assert_eq!(log.matches("--user restart").count(), 1, "{log}");
    let (_, said) = managed(&home, &["service", "install"]);
    assert!(said.contains("nothing was changed"), "{said}");

    let (code, said) = managed(&home, &["setup", "--undo", "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("rustory.service: stopped and removed"),
        "{said}"
    );
    assert!(!unit.exists() && home.data().join("swarm.key").exists());
    let (_, said) = managed(&home, &["status", "--json"]);
    assert!(said.contains("\"running\":false"), "{said}");
    let (code, said) = managed(&home, &["service", "uninstall"]);
    assert_eq!(
        (code, said.contains("there is no service")),
        (0, true),
        "{said}"
    );
}

#[test]
fn a_daemon_that_was_started_by_hand_makes_room_for_the_service() {
    let home = Home::new();
    alone(&home);
    with_systemd(&home);
    let paired = home.rr(["pair"]).output().unwrap();
    let said = String::from_utf8_lossy(&paired.stderr).into_owned();
    assert!(said.contains("started in the background"), "{said}");
    let pid = |home: &Home| {
        let status: serde_json::Value =
            serde_json::from_str(&home.ok(&["status", "--json"])).unwrap();
        status["daemon"]["pid"].as_u64()
    };
    let by_hand = pid(&home).unwrap();
    let (code, said) = managed(&home, &["service", "install"]);
    assert_eq!(code, 0, "{said}");
    assert!(pid(&home).is_some_and(|now| now != by_hand), "{said}");
    let (code, said) = managed(&home, &["service", "restart"]);
    assert_eq!(code, 0, "{said}");
    // Pairing finds it there, and has no reason to start another.
    let (_, said) = managed(&home, &["pair"]);
    assert!(said.starts_with("RR") || !said.contains("daemon"), "{said}");
    let (code, said) = managed(&home, &["service", "uninstall"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(pid(&home), None);
    let (code, said) = managed(&home, &["service", "restart"]);
    assert_eq!(
        (code, said.contains("`rr service install`")),
        (1, true),
        "{said}"
    );
}

#[test]
fn where_nobody_starts_services_it_is_said_why_and_what_to_do_instead() {
    let home = Home::new();
    alone(&home);
    let (code, said) = run(&home, &["--yes", "--new-swarm"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("- no service: ") && said.contains("`rr daemon --detach`"),
        "{said}"
    );
    let output = home.rr(["service", "install"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("nobody starts services for you here") && said.contains("~/.profile"),
        "{said}"
    );
    let output = home
        .rr(["--db-path", "x.db", "service", "install"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    // A service without a key would fail again and again.
    let keyless = Home::new();
    with_systemd(&keyless);
    let (code, said) = managed(&keyless, &["service", "install"]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("there is no key file") && said.contains("`rr pair`"),
        "{said}"
    );
}

#[test]
fn every_step_can_be_left_out() {
    let home = Home::new();
    fs::write(home.path().join(".bash_history"), "ls\n").unwrap();
    let args = [
        "--yes",
        "--no-hook",
        "--no-import",
        "--no-swarm",
        "--no-service",
    ];
    let (code, said) = run(&home, &args);
    assert_eq!(code, 0, "{said}");
    assert!(!home.path().join(".bashrc").exists(), "{said}");
    assert_eq!(home.cmds(), Vec::<String>::new());
    assert!(!said.contains("other devices"), "{said}");
}

#[test]
fn setup_takes_part_in_another_devices_swarm_and_says_what_went_wrong_at_the_end() {
    let (first, second) = (Home::new(), Home::new());
    for home in [&first, &second] {
        alone(home);
    }
    first.spool("f", (0..3).map(|n| format!("first {n}")));
    let code = first.ok(&["pair", "--expires", "1h"]);
    let args = ["setup", "--yes", "--join", "--shell", "bash"];
    let output = second.feed(&args, b"RRnonsense");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("pairing code") && said.contains("hook added"),
        "{said}"
    );
    let output = second.feed(&args, code.as_bytes());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("2 devices, 3 entries, identical"), "{said}");
    for home in [&first, &second] {
        let (code, said) = run(home, &["--undo", "--yes"]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("stopped"), "{said}");
    }
}

#[test]
fn on_a_terminal_each_step_can_be_declined_and_a_bad_code_is_asked_for_again() {
    let home = Home::new();
    alone(&home);
    let mut setup = rustory_testkit::Program::new(env!("CARGO_BIN_EXE_rr"))
        .args(["setup", "--shell", "bash"])
        .home(home.path())
        .size(50, 100)
        .start();
    let mut answer = |question: &str, answer: &str| {
        setup.wait_for(question, |screen| screen.contents().contains(question));
        setup.send(answer);
    };
    answer("Change ~/.bashrc?", "n\r");
    answer("Change ~/.profile?", "\r");
    answer("paste its code here", "hello\r");
    answer("this is no pairing code", "\r");
    answer("no other devices yet", "");
    assert!(setup.exit_status().success(), "{}", setup.dump());
    let screen = setup.screen();
    assert!(screen.contains("- ~/.bashrc: left as it is"), "{screen}");
    assert!(!home.path().join(".bashrc").exists());
    let profile = fs::read_to_string(home.path().join(".profile")).unwrap();
    assert!(profile.contains("init bash"), "{profile}");
}

#[test]
fn fish_gets_the_hook_in_its_own_language_and_loses_it_again() {
    let home = Home::new();
    let (code, said) = run(&home, &["--yes", "--shell", "fish"]);
    assert_eq!(code, 0, "{said}");
    let config = home.path().join(".config/fish/config.fish");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("init fish | source"), "{text}");
    let check = Command::new("fish")
        .arg("--no-execute")
        .arg(&config)
        .status();
    assert!(check.unwrap().success(), "{text}");
    let (code, said) = run(&home, &["--undo", "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        !config.exists() && !config.parent().unwrap().exists(),
        "{said}"
    );
}
