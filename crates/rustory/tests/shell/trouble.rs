//! Recording is silent, private and never in the way, whatever is broken around it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;

use crate::session::{ALL, Home, Rc, SHELLS, Session, Shell, cmds, exits};

#[test]
fn the_spool_is_the_owners_alone() {
    for shell in SHELLS {
        let home = Home::new(Rc {
            before: "umask 000",
            after: "",
        });
        let mut session = Session::start(shell, &home);
        session.run(": a");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&home.path().join(".rustory")), 0o700, "{shell:?}");
        assert_eq!(mode(&home.spool_dir()), 0o700, "{shell:?}");
        assert_eq!(mode(&home.spool_files()[0]), 0o600, "{shell:?}");
        fs::remove_file(&home.spool_files()[0]).unwrap();
        session.run(": b");
        assert_eq!(mode(&home.spool_files()[0]), 0o600, "{shell:?}");
        assert_eq!(
            session.ask(&home, "umask"),
            session.ask(&home, "umask 000; umask")
        );
    }
}

#[test]
fn the_spool_is_the_owners_alone_in_fish() {
    let home = Home::new(Rc::default());
    home.write_fish("umask 000", "");
    let mut session = Session::start(Shell::Fish, &home);
    for _ in 0..2 {
        session.run(": a");
        let file = &home.spool_files()[0];
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
        fs::remove_file(file).unwrap();
    }
    assert_eq!(session.ask(&home, "umask"), "0000\n");
}

#[test]
fn the_header_tells_who_writes() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        let told = session.ask(
            &home,
            match shell {
                Shell::Fish => "echo $fish_pid $hostname $FISH_VERSION",
                _ => "echo $$ $HOSTNAME$HOST $BASH_VERSION$ZSH_VERSION",
            },
        );
        let header = &home.headers()[0];
        let pid = header.pid.unwrap();
        let expect = format!("{pid} {} {}\n", header.hostname, header.shell_version);
        assert_eq!(told, expect);
        assert_eq!(header.shell, shell.name());
        let file = home.spool_files()[0].file_stem().unwrap().to_owned();
        assert_eq!(file.to_str(), Some(header.session.as_str()));
    }
}

#[test]
fn a_spool_file_that_vanished_comes_back() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.run(": a");
        fs::remove_file(&home.spool_files()[0]).unwrap();
        session.run(": b");
        assert_eq!(cmds(&home), [": b"], "{shell:?}");
        assert_eq!(home.headers().len(), 1, "{shell:?}");
    }
}

/// Nothing is shown, and the shell goes on, where the spool cannot be written.
#[test]
fn a_spool_that_cannot_be_written_is_not_felt() {
    type Break = fn(&Home);
    let ways: [(&str, Break); 4] = [
        ("the data directory is gone", |home| {
            fs::remove_dir_all(home.path().join(".rustory")).unwrap();
        }),
        ("a directory lies in the file's place", |home| {
            let file = &home.spool_files()[0];
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
        ("the disk is full", |home| {
            let file = &home.spool_files()[0];
            fs::remove_file(file).unwrap();
            symlink("/dev/full", file).unwrap();
        }),
        ("the file is read-only", |home| {
            let file = &home.spool_files()[0];
            fs::set_permissions(file, PermissionsExt::from_mode(0o400)).unwrap();
        }),
    ];
    for (way, broken) in ways {
        for shell in ALL {
            let home = Home::new(Rc::default());
            let mut session = Session::start(shell, &home);
            session.run("clear");
            broken(&home);
            let status = match shell {
                Shell::Fish => "echo $status",
                _ => "echo $?",
            };
            session.run_all(&["sh -c 'exit 3'", status]);
            session.wait_for_line("");
            let screen = session.terminal.screen();
            assert_eq!(
                screen.trim_end(),
                format!("$ sh -c 'exit 3'\n$ {status}\n3\n$"),
                "{way}, {shell:?}"
            );
        }
    }
}

/// A full disk in the middle of a record: what comes after it is still read.
#[test]
fn a_torn_record_costs_itself_alone() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.run_all(&[": a", ": torn"]);
        let file = &home.spool_files()[0];
        let len = fs::metadata(file).unwrap().len();
        fs::OpenOptions::new()
            .write(true)
            .open(file)
            .unwrap()
            .set_len(len - 5)
            .unwrap();
        session.run(": b");
        let bytes = fs::read(file).unwrap();
        let drained = rustory_core::spool::drain(&bytes, 0, &home.headers()[0], true);
        let kept: Vec<_> = drained.typed.iter().map(|t| t.cmd.to_string()).collect();
        assert_eq!(kept.first().unwrap(), ": a", "{shell:?}");
        assert_eq!(kept.last().unwrap(), ": b", "{shell:?}");
        assert_eq!(drained.damaged.len(), 1, "{shell:?}");
    }
}

/// The kernel counts the page faults of children that were waited for: no child, no faults.
#[test]
fn recording_starts_no_process() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.run(": warm up");
        let faults = children_faults(&session);
        for _ in 0..20 {
            session.run_all(&[": a", "cd /", "", "false"]);
        }
        assert_eq!(children_faults(&session), faults, "{shell:?}");
        session.run("sh -c true");
        assert!(children_faults(&session) > faults, "a fork is seen");
        assert_eq!(cmds(&home).len(), 62, "{shell:?}");
        let pid = session.terminal.pid().unwrap();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        assert_eq!(children, "", "{shell:?}");
    }
}

/// Minor faults of the shell's waited-for children: field 11 of `/proc/PID/stat`.
fn children_faults(session: &Session) -> u64 {
    let pid = session.terminal.pid().unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(8).unwrap().parse().unwrap()
}

/// Nothing of the tool is needed at the prompt once the hook is loaded.
#[test]
fn rr_gone_or_the_database_broken_is_not_felt() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        home.write("rr", "#!/bin/sh\nsleep 1000\n");
        let mut session = Session::start(shell, &home);
        fs::write(home.path().join(".rustory/history.db"), "no database").unwrap();
        session.run(&shell.assign("__rr_bin", "~/rr"));
        session.run_all(&["clear", ": a", "sh -c 'exit 4'"]);
        session.run(&shell.assign("__rr_bin", "/nonexistent/rr"));
        let kept = exits(&home);
        assert_eq!(kept[3], ("sh -c 'exit 4'".to_owned(), Some(4)), "{shell:?}");
        assert_eq!(kept.len(), 5, "{shell:?}");
    }
}

#[test]
fn when_rr_init_fails_the_shell_still_starts() {
    for shell in SHELLS {
        let home = Home::new(Rc::default());
        for rc in ["bashrc", ".zshrc"] {
            let text = home.read(rc).replace("/rr init", "/no-such-rr init");
            home.write(rc, &text);
        }
        let mut session = Session::start(shell, &home);
        session.run("echo alive");
        assert!(session.terminal.screen().contains("\nalive"));
    }
}

#[test]
fn many_shells_at_once_keep_to_themselves() {
    let home = Home::new(Rc::default());
    let mut sessions: Vec<Session> = (0..8)
        .map(|i| Session::start(SHELLS[i % 2], &home))
        .collect();
    for round in 0..5 {
        for session in &mut sessions {
            session.terminal.send(format!(": round {round}\r"));
        }
    }
    for session in &sessions {
        session.wait_for_prompts(6);
    }
    assert_eq!(home.spool_files().len(), 8);
    let typed = home.spooled();
    assert_eq!(typed.len(), 40);
    for header in home.headers() {
        let of_one = typed.iter().filter(|t| t.session == header.session);
        assert_eq!(of_one.count(), 5);
    }
}
