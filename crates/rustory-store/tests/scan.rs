//! What the finder reads.

mod common;

use std::ops::ControlFlow;

use common::{Home, entry};
use proptest::prelude::*;
use rustory_core::{Entry, Timestamp};
use rustory_store::{Scan, Store, Within};

/// `device` of the store is `own`.
fn check(store: &Store, entries: &[Entry], scan: &Scan, wanted: &dyn Fn(&Entry) -> bool) {
    let mut expect: Vec<_> = entries.iter().filter(|entry| wanted(entry)).collect();
    expect.sort_by_key(|entry| std::cmp::Reverse(entry.ts));
    let expect: Vec<_> = expect
        .into_iter()
        .map(|entry| (entry.ts, entry.cmd.clone()))
        .collect();

    let mut head = Vec::new();
    store
        .scan_head(scan, |row| {
            head.push((row.ts, row.cmd.to_owned()));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(head, expect, "{scan:?}");

    let mut all = Vec::new();
    let mut last = u64::MAX;
    store
        .scan(scan, |row| {
            assert!(row.seq.get() < last, "the last ingested comes first");
            last = row.seq.get();
            all.push((row.ts, row.cmd.to_owned()));
            ControlFlow::Continue(())
        })
        .unwrap();
    all.sort_by_key(|row| std::cmp::Reverse(row.0));
    assert_eq!(all, expect, "{scan:?}");
}

fn everything(limit: usize) -> Scan {
    Scan {
        within: Within::Everything,
        failed: false,
        limit,
    }
}

#[test]
fn scopes_select_what_they_name() {
    let home = Home::new();
    let mut store = home.store();
    let own = store.identity().device_id.clone();
    let entries: Vec<Entry> = (1..=24)
        .map(|n| Entry {
            device_seq: (n % 5 != 0).then_some(n),
            exit_code: [Some(0), Some(1), None][n as usize % 3],
            ..entry([own.as_str(), "other"][n as usize % 2], n)
        })
        .collect();
    store.insert(&entries).unwrap();
    let hostname = entries[0].hostname.clone();
    let mut scan = everything(1_000);
    check(&store, &entries, &scan, &|_| true);
    scan.within = Within::Device {
        hostname: hostname.clone(),
    };
    check(&store, &entries, &scan, &|e| {
        e.device_id == own || e.device_seq.is_none() && e.hostname == hostname
    });
    scan.within = Within::Directory(vec!["/dir/3".into(), "/not/there".into()]);
    check(&store, &entries, &scan, &|e| e.cwd == "/dir/3");
    let session = entries[4].session.clone();
    scan.within = Within::Session(session.clone());
    check(&store, &entries, &scan, &|e| e.session == session);
    scan.failed = true;
    check(&store, &entries, &scan, &|e| {
        e.session == session && e.exit_code == Some(1)
    });
    scan.within = Within::Everything;
    check(&store, &entries, &scan, &|e| e.exit_code == Some(1));
    scan.within = Within::Session("never seen".into());
    check(&store, &entries, &scan, &|_| false);
}

#[test]
fn the_last_entry_of_every_device_is_told() {
    let home = Home::new();
    let mut store = home.store();
    let entries = [entry("a", 3), entry("b", 9), entry("a", 5), entry("b", 2)];
    store.insert(&entries).unwrap();
    let last: Vec<_> = store
        .last_of_devices()
        .unwrap()
        .into_iter()
        .map(|last| (last.device_id, last.hostname, last.ts))
        .collect();
    let told = |entry: &Entry| (entry.device_id.clone(), entry.hostname.clone(), entry.ts);
    assert_eq!(last, [told(&entries[1]), told(&entries[2])]);
}

#[test]
fn a_scan_may_be_broken_off() {
    let home = Home::new();
    let mut store = home.store();
    let entries: Vec<Entry> = (1..=10).map(|n| entry("a", n)).collect();
    store.insert(&entries).unwrap();
    for whole in [true, false] {
        let mut rows = 0;
        let each = |_: rustory_store::ScanRow<'_>| {
            rows += 1;
            ControlFlow::Break(())
        };
        match whole {
            true => store.scan(&everything(100), each).unwrap(),
            false => store.scan_head(&everything(100), each).unwrap(),
        }
        assert_eq!(rows, 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However entries came in, the limit keeps the newest.
    #[test]
    fn a_limit_keeps_the_newest(
        times in prop::collection::hash_set(1i64..1_000, 1..30),
        limit in 1usize..40,
    ) {
        let home = Home::new();
        let mut store = home.store();
        let entries: Vec<Entry> = times
            .iter()
            .zip(1..)
            .map(|(&secs, n)| Entry { ts: Timestamp::from_secs(secs).unwrap(), ..entry("a", n) })
            .collect();
        store.insert(&entries).unwrap();
        let mut newest: Vec<_> = entries.iter().map(|entry| entry.ts).collect();
        newest.sort_unstable();
        newest.reverse();
        newest.truncate(limit);
        check(&store, &entries, &everything(limit), &|entry| newest.contains(&entry.ts));
    }
}
