//! The log: what is written is what is read, and what can't be read is left alone.

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use common::{Home, all, entry};
use proptest::prelude::*;
use rustory_core::limits::BATCH_BYTES_MAX;
use rustory_core::{IngestSeq, Timestamp};
use rustory_store::{Access, Appended, ExitFilter, Failure, Filter, Store, StoreError};

#[test]
fn every_field_comes_back_as_it_went_in() {
    let home = Home::new();
    let mut store = home.store();
    let mut full = entry("a", 1);
    full.cmd = b"echo \xff\n\tz".into();
    full.cwd = b"/caf\xe9".into();
    full.extra
        .insert("note".into(), serde_json::json!({"deep": [1, null]}));
    let mut bare = entry("b", 2);
    bare.exit_code = None;
    bare.duration_ms = None;
    bare.device_seq = None;
    bare.cwd = "".into();
    store.insert(&[full.clone(), bare.clone()]).unwrap();
    assert_eq!(all(&store), [full, bare]);
}

#[test]
fn an_id_that_is_there_is_ignored_and_two_equal_commands_are_two_entries() {
    let home = Home::new();
    let mut store = home.store();
    let first = entry("a", 1);
    let mut twin = entry("a", 2);
    twin.ts = first.ts;
    twin.cmd = first.cmd.clone();
    let count = store.insert(&[first.clone(), twin, first]).unwrap();
    assert_eq!((count.inserted, count.ignored), (2, 1));
}

#[test]
fn of_two_entries_under_one_id_the_same_one_stays_in_either_order_and_travels_on() {
    let honest = entry("a", 1);
    let mut other = honest.clone();
    other.cmd = "something else".into();
    let [mut one, mut two] = [Home::new(), Home::new()].map(|home| (home.store(), home));
    one.0
        .insert(&[honest.clone(), other.clone(), honest.clone()])
        .unwrap();
    two.0
        .insert(&[other.clone(), honest.clone(), other.clone()])
        .unwrap();
    let stays = if honest.content_hash() < other.content_hash() {
        honest
    } else {
        other
    };
    for (store, _) in [&one, &two] {
        assert_eq!(all(store), std::slice::from_ref(&stays));
        assert!(store.conflicts().unwrap() > 0);
        let news = store.read_after(IngestSeq::ZERO, 10).unwrap();
        assert_eq!(news.last, Some(store.head().unwrap()));
    }
    let head = one.0.head().unwrap();
    assert_eq!(one.0.insert(&[stays]).unwrap().ignored, 1);
    assert_eq!(one.0.head().unwrap(), head, "what is known moves nothing");
}

#[test]
fn own_entries_are_numbered_from_one_without_gaps_even_over_known_ones() {
    let home = Home::new();
    let numbers = |from: u64| -> Vec<Appended> {
        home.store()
            .write(|writer| {
                (from..from + 3)
                    .map(|n| writer.append(&entry("x", n)))
                    .collect()
            })
            .map_err(|err: StoreError| err)
            .unwrap()
    };
    let seq = |appended: &Appended| match appended {
        Appended::New(_, seq) => Some(*seq),
        Appended::Known => None,
    };
    let first: Vec<_> = numbers(1).iter().map(seq).collect();
    let second: Vec<_> = numbers(3).iter().map(seq).collect();
    assert_eq!(first, [Some(1), Some(2), Some(3)]);
    assert_eq!(second, [None, Some(4), Some(5)]);
    let own = home.store().identity().device_id.clone();
    assert!(
        all(&home.store())
            .iter()
            .all(|entry| entry.device_id == own)
    );
}

#[test]
fn own_entries_that_come_back_from_a_peer_move_the_own_count_on() {
    let home = Home::new();
    let mut store = home.store();
    let own = store.identity().device_id.clone();
    let mut back = entry("x", 41);
    back.device_id = own;
    store.insert(&[back]).unwrap();
    let appended = store.write(|writer| writer.append(&entry("x", 1))).unwrap();
    assert!(matches!(appended, Appended::New(_, 42)), "{appended:?}");
}

#[test]
fn a_failed_transaction_leaves_nothing() {
    let home = Home::new();
    let mut store = home.store();
    let failed: Result<(), StoreError> = store.write(|writer| {
        writer.insert(&entry("a", 1))?;
        writer.append(&entry("a", 2))?;
        Err(StoreError::Busy)
    });
    assert!(failed.is_err());
    assert_eq!(store.count().unwrap(), 0);
    let appended = store.write(|writer| writer.append(&entry("a", 3))).unwrap();
    assert!(matches!(appended, Appended::New(_, 1)), "{appended:?}");
}

#[test]
fn filters_select_what_they_name() {
    let home = Home::new();
    let mut store = home.store();
    let entries: Vec<_> = (1..=20)
        .map(|n| entry(["a", "b"][n as usize % 2], n))
        .collect();
    store.insert(&entries).unwrap();
    let check = |filter: Filter, wanted: &dyn Fn(&rustory_core::Entry) -> bool| {
        let expected: Vec<_> = entries
            .iter()
            .rev()
            .filter(|e| wanted(e))
            .cloned()
            .collect();
        let mut found = Vec::new();
        store
            .newest_first(&filter, |_, entry| {
                found.push(entry);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(found, expected, "{filter:?}");
        assert!(
            entries
                .iter()
                .all(|entry| filter.matches(entry) == wanted(entry)),
            "{filter:?}"
        );
    };
    let base = Filter::default;
    check(base(), &|_| true);
    check(
        Filter {
            device_id: Some("a".into()),
            ..base()
        },
        &|e| e.device_id == "a",
    );
    check(
        Filter {
            hostname: Some("host-b".into()),
            ..base()
        },
        &|e| e.device_id == "b",
    );
    check(
        Filter {
            cwd: Some("/dir/3".into()),
            ..base()
        },
        &|e| e.cwd == "/dir/3",
    );
    check(
        Filter {
            session: Some("s1".into()),
            ..base()
        },
        &|e| e.session == "s1",
    );
    check(
        Filter {
            exit: Some(ExitFilter::Ok),
            ..base()
        },
        &|e| e.exit_code == Some(0),
    );
    check(
        Filter {
            exit: Some(ExitFilter::Fail),
            ..base()
        },
        &|e| e.exit_code != Some(0),
    );
    check(
        Filter {
            exit: Some(ExitFilter::Code(2)),
            ..base()
        },
        &|e| e.exit_code == Some(2),
    );
    let (since, until) = (entries[4].ts, entries[9].ts);
    check(
        Filter {
            since: Some(since),
            until: Some(until),
            ..base()
        },
        &|e| e.ts >= since && e.ts < until,
    );
    check(
        Filter {
            device_id: Some("nobody".into()),
            ..base()
        },
        &|_| false,
    );
}

#[test]
fn the_files_are_private_even_under_a_permissive_umask_and_are_made_so_when_they_were_not() {
    rustix::process::umask(rustix::fs::Mode::empty());
    let home = Home::new();
    let mut store = home.store();
    store.insert(&[entry("a", 1)]).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(home.db().parent().unwrap()), 0o700);
    for name in ["history.db", "history.db-wal", "history.db-shm"] {
        assert_eq!(mode(&home.db().with_file_name(name)) & 0o077, 0, "{name}");
    }
    drop(store);
    fs::set_permissions(home.db(), fs::Permissions::from_mode(0o644)).unwrap();
    drop(home.store());
    assert_eq!(mode(&home.db()), 0o600);
}

#[test]
fn opening_a_current_database_writes_nothing() {
    let home = Home::new();
    home.store().insert(&[entry("a", 1)]).unwrap();
    let before = (
        fs::read(home.db()).unwrap(),
        fs::metadata(home.db()).unwrap().modified().unwrap(),
    );
    {
        let store = home.store();
        assert_eq!(store.count().unwrap(), 1);
        let wal = home.db().with_file_name("history.db-wal");
        assert_eq!(fs::metadata(wal).map_or(0, |meta| meta.len()), 0);
    }
    let after = (
        fs::read(home.db()).unwrap(),
        fs::metadata(home.db()).unwrap().modified().unwrap(),
    );
    assert!(before == after);
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let home = Home::new();
    drop(home.store());
    let conn = rusqlite::Connection::open(home.db()).unwrap();
    conn.pragma_update(None, "user_version", 999).unwrap();
    conn.close().unwrap();
    let before = fs::read(home.db()).unwrap();
    for access in [Access::PATIENT, Access::Read] {
        let err = Store::open(&home.db(), access, None).unwrap_err();
        assert!(
            matches!(err, StoreError::NewerSchema { found: 999, .. }),
            "{err:?}"
        );
    }
    assert_eq!(fs::read(home.db()).unwrap(), before);
}

#[test]
fn what_is_no_database_or_only_a_piece_of_one_is_named_and_left_alone() {
    let home = Home::new();
    let mut store = home.store();
    let entries: Vec<_> = (1..2_000).map(|n| entry("a", n)).collect();
    store.insert(&entries).unwrap();
    drop(store);
    let whole = fs::read(home.db()).unwrap();
    let mut no_header = whole.clone();
    no_header[..16].fill(b'x');
    let mut rotten = whole.clone();
    rotten[4096..40960].fill(0xa5);
    for (what, bytes) in [
        (
            "text",
            b"this is no database at all, only text\n".repeat(100),
        ),
        ("cut in the middle", whole[..whole.len() / 2].to_vec()),
        ("a rotten header", no_header),
        ("rotten pages", rotten),
    ] {
        fs::write(home.db(), &bytes).unwrap();
        let read = Store::open(&home.db(), Access::PATIENT, None).and_then(|store| {
            let mut n = 0;
            store.oldest_first(&Filter::default(), |_, _| {
                n += 1;
                ControlFlow::Continue(())
            })?;
            Ok(n)
        });
        assert!(
            matches!(read, Err(StoreError::Corrupt { .. })),
            "{what}: {read:?}"
        );
        assert_eq!(fs::read(home.db()).unwrap(), bytes, "{what}");
    }
}

#[test]
fn a_lock_held_by_another_process_is_busy_and_reading_goes_on() {
    let home = Home::new();
    home.store().insert(&[entry("a", 1)]).unwrap();
    let other = rusqlite::Connection::open(home.db()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let hasty = Access::Write {
        busy: Duration::from_millis(10),
    };
    let mut store = Store::open(&home.db(), hasty, None).unwrap();
    let err = store.insert(&[entry("a", 2)]).unwrap_err();
    assert!(matches!(err, StoreError::Busy) && err.is_transient());
    assert_eq!(store.count().unwrap(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.insert(&[entry("a", 2)]).unwrap().inserted, 1);
}

#[test]
fn many_processes_that_start_on_a_cold_database_agree_on_one_log() {
    let home = Home::new();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let open = || home.store().identity().clone();
        let threads: Vec<_> = (0..32).map(|_| scope.spawn(open)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn a_database_on_a_read_only_disk_can_still_be_searched() {
    let home = Home::new();
    home.store().insert(&[entry("a", 1)]).unwrap();
    // What SQLite sees where neither -wal nor -shm can be made.
    let lone = home.dir.path().join("lone");
    fs::create_dir(&lone).unwrap();
    let copy = lone.join("100% history?.db");
    fs::copy(home.db(), &copy).unwrap();
    fs::create_dir(lone.join("100% history?.db-shm")).unwrap();
    fs::create_dir(lone.join("100% history?.db-wal")).unwrap();
    let store = Store::open(&copy, Access::Read, None).unwrap();
    assert_eq!(all(&store).len(), 1);
}

#[test]
fn one_oversized_entry_travels_alone_and_a_batch_ends_by_bytes() {
    let home = Home::new();
    let mut store = home.store();
    let mut entries: Vec<_> = (1..=4).map(|n| entry("a", n)).collect();
    entries[1].cmd = vec![b'x'; BATCH_BYTES_MAX].into();
    store.insert(&entries).unwrap();
    let first = store.read_after(IngestSeq::ZERO, 100).unwrap();
    assert_eq!((first.entries.len(), first.at_head), (2, false));
    let rest = store.read_after(first.last.unwrap(), 100).unwrap();
    assert_eq!((rest.entries.len(), rest.at_head), (2, true));
}

#[test]
fn the_newest_of_a_device_is_noted_with_its_place() {
    let home = Home::new();
    let entries: Vec<_> = (1..=192).map(|n| entry("a", n)).collect();
    home.store().insert(&entries).unwrap();
    let noted = rusqlite::Connection::open(home.db()).unwrap().query_row(
        "SELECT d.seq_max, e.device_seq FROM devices d JOIN entries e ON e.ingest_seq = d.newest
         WHERE d.device_id = 'a'",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    );
    assert_eq!(noted, Ok((192, 192)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Few ids and few contents, so that ids come again within a batch and in later ones, with the
    /// same and with other contents, and our own come back.
    #[test]
    fn many_at_once_and_one_at_a_time_come_to_the_same(
        picks in proptest::collection::vec((1..300_u64, 0..2_u8, 0..3_usize), 1..600),
        cut in 0..600_usize,
    ) {
        let entries: Vec<_> = picks
            .iter()
            .map(|&(n, content, device)| {
                let mut picked = entry(["own", "b", "c"][device], n);
                picked.id = entry("any", n).id;
                picked.cmd = format!("{n} {content}").into();
                picked
            })
            .collect();
        let homes = [Home::new(), Home::new()];
        let open = |home: &Home| Store::open(&home.db(), Access::PATIENT, Some("own")).unwrap();
        let [mut many, mut single] = homes.each_ref().map(open);
        let (early, late) = entries.split_at(cut.min(entries.len()));
        for batch in [early, late] {
            let at_once = many.insert(batch).unwrap();
            prop_assert_eq!(at_once.inserted + at_once.ignored, batch.len() as u64);
            for entry in batch {
                single.insert(std::slice::from_ref(entry)).unwrap();
            }
            let [stored, expected] = [&many, &single].map(|store| {
                let mut all = all(store);
                all.sort_by_key(|entry| entry.id);
                all
            });
            prop_assert_eq!(stored, expected);
            prop_assert_eq!(many.summary().unwrap().origins, single.summary().unwrap().origins);
            prop_assert!(many.verify(|_, _| ()).unwrap().is_sound());
        }
        let next = [&mut many, &mut single].map(|store| {
            let append = |writer: &mut rustory_store::Writer<'_>| writer.append(&entry("own", 1_000));
            match store.write::<_, StoreError>(append).unwrap() {
                Appended::New(_, seq) => seq,
                Appended::Known => 0,
            }
        });
        prop_assert_eq!(next[0], next[1], "the number that is given out next");
    }

    /// Whatever the page size, following the cursor reads every entry once, in order, and an
    /// empty page means the end.
    #[test]
    fn pages_cover_the_log_exactly(total in 0u64..70, page in 1usize..12) {
        let home = Home::new();
        let mut store = home.store();
        let entries: Vec<_> = (1..=total).map(|n| entry("a", n)).collect();
        store.insert(&entries).unwrap();
        let mut seen = Vec::new();
        let mut cursor = IngestSeq::ZERO;
        loop {
            let batch = store.read_after(cursor, page).unwrap();
            prop_assert!(batch.entries.len() <= page);
            prop_assert_eq!(batch.entries.is_empty(), batch.last.is_none());
            let Some(last) = batch.last else { break };
            prop_assert!(last > cursor);
            cursor = last;
            seen.extend(batch.entries);
            if batch.at_head {
                prop_assert_eq!(cursor, store.head().unwrap());
            }
        }
        prop_assert_eq!(seen, entries);
    }
}

fn at(day: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + day * 86_400).unwrap()
}

#[test]
fn what_is_remembered_of_a_device_is_forgotten_and_its_entries_stay() {
    let home = Home::new();
    let mut store = home.store();
    store.insert(&[entry("gone", 1)]).unwrap();
    for device in ["gone", "here"] {
        let failure = Failure {
            text: "not there".to_owned(),
            at: at(0),
        };
        store.note_failure(device, &failure).unwrap();
        let peer = format!("peer of {device}");
        store.note_addr(&peer, "/ip4/192.0.2.1", at(0)).unwrap();
        let addr = format!("device:{device}");
        store.note_addr(&peer, &addr, at(0)).unwrap();
    }
    assert_eq!(store.remembered().unwrap().len(), 2);
    let before = store.forgot().unwrap();
    store.forget_peer("gone").unwrap();
    assert_ne!(store.forgot().unwrap(), before, "others can tell");
    assert_eq!(store.peer("gone").unwrap(), None);
    assert_eq!(Vec::from_iter(store.remembered().unwrap()), ["here"]);
    let book = store.addr_book().unwrap();
    assert!(book.iter().all(|it| it.peer == "peer of here"), "{book:?}");
    assert_eq!(all(&store), [entry("gone", 1)]);
}

#[test]
fn a_peer_that_its_device_replaced_is_forgotten_after_a_month() {
    let home = Home::new();
    let mut store = home.store();
    for (peer, addr, day) in [
        ("old", "device:desk", 0),
        ("old", "/ip4/192.0.2.1", 0),
        ("new", "device:desk", 1),
        // Away for longer, and nobody has taken its place.
        ("other", "device:nas", 0),
        // Another device's now, and in use.
        ("kept", "device:phone", 0),
        ("kept", "device:tablet", 39),
        ("newer", "device:phone", 2),
    ] {
        store.note_addr(peer, addr, at(day)).unwrap();
    }
    assert_eq!(store.forget_replaced(at(29)).unwrap(), 0);
    assert_eq!(store.forget_replaced(at(40)).unwrap(), 2);
    let mut left: Vec<String> = store
        .addr_book()
        .unwrap()
        .into_iter()
        .map(|it| it.peer)
        .collect();
    left.sort();
    left.dedup();
    assert_eq!(left, ["kept", "new", "newer", "other"]);
}
