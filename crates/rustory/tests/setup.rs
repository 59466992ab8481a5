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
