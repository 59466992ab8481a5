//! From the keyboard to `rr list`, with nothing played by a script.

use rustory_testkit::key;

use crate::session::{ALL, Home, Rc, Session};

#[test]
fn what_was_typed_is_listed_with_its_context() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.paste("echo 'a\nb' 한글");
        session.run_all(&["sh -c 'exit 7'", " : hidden"]);
        let listed = home.rr(&["list", "--json"]);
        let entries: Vec<serde_json::Value> = listed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(entries.len(), 2, "{listed}");
        assert_eq!(entries[0]["cmd"], "echo 'a\nb' 한글");
        assert_eq!(entries[1]["cmd"], "sh -c 'exit 7'");
        assert_eq!(entries[1]["exit_code"], 7);
        assert_eq!(entries[1]["shell"], shell.name());
        assert_eq!(entries[1]["cwd"], home.path().to_str().unwrap());
        assert_eq!(entries[1]["session"], home.headers()[0].session);
    }
}

/// A prompt that is shown means that the command is listed, also from within the same shell.
#[test]
fn the_command_before_is_listed_at_once() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        for n in 0..5 {
            session.run(&format!(": number {n}"));
            let list = format!("{} list --limit 3", crate::session::rr().display());
            let listed = session.ask(&home, &list);
            assert!(
                listed.contains(&format!(": number {n}")),
                "{shell:?} {listed}"
            );
        }
    }
}

#[test]
fn a_session_that_ended_is_drained_once_and_its_file_goes() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.run(": only once");
        home.rr(&["list"]);
        session.exit();
        for _ in 0..3 {
            let listed = home.rr(&["list"]);
            assert_eq!(
                listed.matches(": only once").count(),
                1,
                "{shell:?} {listed}"
            );
        }
        assert!(home.spool_files().is_empty(), "{shell:?}");
    }
}

#[test]
fn enter_after_the_hook_was_drained_away_is_recorded_anew() {
    for shell in ALL {
        let home = Home::new(Rc::default());
        let mut session = Session::start(shell, &home);
        session.run(": first");
        std::fs::remove_file(&home.spool_files()[0]).unwrap();
        session.terminal.send(": second");
        session.terminal.send(key::ENTER);
        session.wait_for_prompts(3);
        assert!(home.rr(&["list"]).contains(": second"), "{shell:?}");
    }
}
