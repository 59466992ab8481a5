//! The log as sync sessions see it, against a model that keeps entries in a vector; and damage,
//! crashes, old databases and copied ones.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::{Home, all, entry};
use proptest::prelude::*;
use rustory_core::sync::{
    Batched, Claim, Compared, Have, HaveWhat, Item, ItemSet, Log, Origin, Piece, Reconciler, Stored,
};
use rustory_core::{Cursor, Entry, EntryId, IngestSeq, LogId, Tally, Timestamp};
use rustory_store::{
    Access, Exchange, Failure, Identity, Opening, PeerPath, PeerSeen, Store, StoreError,
};

const DEVICES: [&str; 4] = ["a", "b", "c", "d"];

fn seq(n: u64) -> IngestSeq {
    IngestSeq::new(n).unwrap()
}

fn log(n: u8) -> LogId {
    LogId::from_bytes([n; 16])
}

/// SQL behind the store's back, as a failing disk would write.
fn tamper(home: &Home, sql: &str) {
    let conn = rusqlite::Connection::open(home.db()).unwrap();
    conn.execute_batch(sql).unwrap();
}

fn store_all(store: &mut Store, entries: &[Entry]) -> Stored {
    Log::store(store, "p", entries, None).unwrap()
}

// --- the model

/// What a log is: entries in the order in which they came.
#[derive(Clone, Debug, Default)]
struct Model(Vec<Entry>);

impl Model {
    /// Of two entries under one id the one with the smaller hash stays; replacing is arriving.
    fn store(&mut self, entry: &Entry) -> bool {
        if let Some(at) = self.0.iter().position(|known| known.id == entry.id) {
            if self.0[at].content_hash() <= entry.content_hash() {
                return false;
            }
            self.0.remove(at);
        }
        self.0.push(entry.clone());
        true
    }

    fn of<'a>(&'a self, device: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.0.iter().filter(move |entry| entry.device_id == device)
    }

    fn origins(&self) -> Vec<Origin> {
        let devices: BTreeSet<&str> = self.0.iter().map(|e| e.device_id.as_str()).collect();
        devices
            .into_iter()
            .map(|device| self.origin(device))
            .collect()
    }

    fn origin(&self, device: &str) -> Origin {
        let numbers: BTreeSet<u64> = self.of(device).filter_map(|e| e.device_seq).collect();
        Origin {
            device_id: device.to_owned(),
            through: (1..)
                .take_while(|n| numbers.contains(n))
                .last()
                .unwrap_or(0),
            tally: self.of(device).collect(),
        }
    }

    fn lacking(&self, have: &[Have]) -> Vec<Entry> {
        let has = |entry: &Entry| {
            let have = have.iter().find(|have| have.device_id == entry.device_id);
            match have.map(|have| have.what) {
                None => false,
                Some(HaveWhat::Everything) => true,
                Some(HaveWhat::Through(n)) => entry.device_seq.is_some_and(|seq| seq <= n),
            }
        };
        self.0.iter().filter(|entry| !has(entry)).cloned().collect()
    }

    fn items(&self, origins: Option<&[String]>) -> ItemSet {
        let wanted = |entry: &&Entry| origins.is_none_or(|list| list.contains(&entry.device_id));
        let item = |entry: &Entry| Item {
            ts: entry.ts.as_micros(),
            id: entry.id,
            hash: entry.content_hash(),
        };
        self.0.iter().filter(wanted).map(item).collect()
    }
}

/// Asserts that two sets hold the same.
fn check_same(one: ItemSet, other: ItemSet) {
    let (mut asker, mut message) = Reconciler::ask(one);
    let mut answerer = Reconciler::answering(other);
    loop {
        let step = asker.learn(&answerer.answer(&message).unwrap()).unwrap();
        assert_eq!((step.have, step.need), (vec![], vec![]));
        match step.ask {
            Some(ask) => message = ask,
            None => return,
        }
    }
}

/// Asserts that everything that is told of the log is what the model holds.
fn check_against(store: &mut Store, model: &Model) {
    let summary = store.summary().unwrap();
    assert_eq!(summary.origins, model.origins());
    assert_eq!(summary.tally(), model.0.iter().collect());
    assert_eq!(summary.head, store.head().unwrap());
    let report = store.verify(|_, _| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.rows, model.0.len() as u64);
    for origins in [None, Some(&["a".to_owned(), "x".to_owned()][..]), Some(&[])] {
        let items = store.items(origins).unwrap();
        assert_eq!(items.damaged, Vec::<String>::new());
        check_same(items.set, model.items(origins));
    }
}

/// Reads page by page up to the head, as a session does.
fn read_pages(store: &mut Store, have: &[Have], page: usize, bytes: usize) -> Vec<Piece> {
    let (mut after, until) = (IngestSeq::ZERO, store.head().unwrap());
    let mut pieces = Vec::new();
    loop {
        let piece = store.read(after, until, have, page, bytes).unwrap();
        assert!(piece.last >= after && piece.last <= until);
        assert!(piece.at_end || piece.last > after, "it stands still");
        assert!(piece.at_end || !piece.entries.is_empty());
        assert!(piece.entries.len() <= page.max(1));
        after = piece.last;
        pieces.push(piece);
        if pieces.last().unwrap().at_end {
            assert_eq!(after, until);
            return pieces;
        }
    }
}

fn entries(pieces: Vec<Piece>) -> Vec<Entry> {
    pieces.into_iter().flat_map(|piece| piece.entries).collect()
}

// --- workloads

/// An entry as some peer may send it: out of order, without a number, with another one's id.
fn arrival() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![6 => Just(0u8), 1 => Just(1), 1 => Just(2), 1 => Just(3)];
    (
        0..DEVICES.len(),
        1u64..25,
        kind,
        0..DEVICES.len(),
        any::<u64>(),
    )
        .prop_map(|(device, n, kind, other, float)| {
            let mut made = entry(DEVICES[device], n);
            match kind {
                // Posted by another program.
                1 => {
                    made = entry(DEVICES[device], 1_000 + n);
                    made.device_seq = None;
                }
                // Two entries under one id, of one device or of two.
                2 => made.cmd = "a lie".into(),
                3 => made.id = entry(DEVICES[other], n).id,
                _ => {}
            }
            let float = f64::from_bits(float);
            if kind != 0 && float.is_finite() {
                made.extra
                    .insert("new".into(), serde_json::json!({ "x": float }));
            }
            made
        })
}

fn batches() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    prop::collection::vec(prop::collection::vec(arrival(), 0..20), 0..8)
}

fn haves() -> impl Strategy<Value = Vec<Have>> {
    let what = prop_oneof![
        3 => (0u64..30).prop_map(HaveWhat::Through),
        1 => Just(HaveWhat::Through(u64::MAX)),
        1 => Just(HaveWhat::Everything),
    ];
    let devices = prop::sample::subsequence(vec!["a", "b", "c", "d", "nobody"], 0..=5);
    (devices, prop::collection::vec(what, 5)).prop_map(|(devices, whats)| {
        let have = |(device, what): (&str, HaveWhat)| Have {
            device_id: device.to_owned(),
            what,
        };
        devices.into_iter().zip(whats).map(have).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_counted_and_read_is_what_came(
        batches in batches(),
        have in haves(),
        page in 1usize..9,
        many in any::<bool>(),
    ) {
        let home = Home::new();
        let mut store = home.store();
        let mut model = Model::default();
        if many {
            let deliveries: Vec<Batched> = batches.iter().map(|entries| Batched {
                peer: "p".into(), entries: entries.clone(), claim: None,
            }).collect();
            let stored = store.store_many(&deliveries).unwrap();
            for (entries, stored) in batches.iter().zip(stored) {
                let new = entries.iter().filter(|entry| model.store(entry)).count() as u64;
                prop_assert_eq!(stored, Stored { inserted: new, ignored: entries.len() as u64 - new });
            }
        } else {
            for entries in &batches {
                let new = entries.iter().filter(|entry| model.store(entry)).count() as u64;
                let stored = store_all(&mut store, entries);
                prop_assert_eq!(stored, Stored { inserted: new, ignored: entries.len() as u64 - new });
            }
        }
        check_against(&mut store, &model);
        for have in [&[][..], &have] {
            let read = entries(read_pages(&mut store, have, page, usize::MAX));
            prop_assert_eq!(read, model.lacking(have));
        }
        // Again, and all at once: nothing changes.
        let before = store.summary().unwrap();
        let stored = store_all(&mut store, &batches.concat());
        prop_assert_eq!(stored.inserted, 0);
        prop_assert_eq!(store.summary().unwrap(), before);
        // Written down, not only remembered.
        drop(store);
        check_against(&mut home.store(), &model);
    }

    #[test]
    fn pages_of_any_size_end_where_the_log_does(page in 1usize..7, pages in 0usize..4, off in -1i64..=1) {
        let total = (page * pages) as i64 + off;
        prop_assume!(total >= 0);
        let home = Home::new();
        let mut store = home.store();
        let sent: Vec<Entry> = (1..=total.cast_unsigned()).map(|n| entry("a", n)).collect();
        store_all(&mut store, &sent);
        let pieces = read_pages(&mut store, &[], page, usize::MAX);
        prop_assert_eq!(pieces.len(), (total as usize).div_ceil(page).max(1));
        prop_assert_eq!(entries(pieces), sent.clone());
        let bytes = sent.first().map_or(0, Entry::text_bytes) * page;
        for piece in read_pages(&mut store, &[], usize::MAX, bytes) {
            let sum: usize = piece.entries.iter().map(Entry::text_bytes).sum();
            prop_assert!(sum <= bytes || piece.entries.len() == 1);
        }
    }

    #[test]
    fn news_is_what_this_device_typed_and_says_whether_it_is_all(
        typed in prop::collection::vec(any::<bool>(), 0..24),
        from in 0usize..24,
        page in 1usize..6,
    ) {
        let home = Home::new();
        let mut store = home.store();
        let mut log = vec![(IngestSeq::ZERO, true, None)];
        for (own, n) in typed.iter().zip(1..) {
            if *own {
                store.write(|w| w.append(&entry("x", n))).map_err(|err: StoreError| err).unwrap();
            } else {
                store_all(&mut store, &[entry("b", n)]);
            }
            let at = store.head().unwrap();
            log.push((at, *own, store.entry(at).unwrap()));
        }
        let from = from.min(typed.len());
        let piece = store.news(log[from].0, &[], page, usize::MAX).unwrap();
        let own: Vec<_> = log[from + 1..].iter().filter(|(_, own, _)| *own).collect();
        let expected: Vec<Entry> = own.iter().take(page).filter_map(|(.., e)| e.clone()).collect();
        prop_assert_eq!(&piece.entries, &expected);
        let others = log[from + 1..].iter().any(|(_, own, _)| !own);
        prop_assert_eq!(piece.at_end, own.len() <= page && !others);
        let last = if own.len() <= page { log.last().unwrap().0 } else { own[page - 1].0 };
        prop_assert_eq!(piece.last, last);
    }

    #[test]
    fn a_cursor_moves_as_claims_say_and_within_a_log_only_up(
        claims in prop::collection::vec((1u8..3, 0u64..6, 0u64..6), 0..20),
    ) {
        let home = Home::new();
        let mut store = home.store();
        let mut cursor: Option<Cursor> = None;
        for (n, (log_id, after, more)) in claims.into_iter().enumerate() {
            let claim = Claim { log_id: log(log_id), after: seq(after), last: seq(after + more) };
            store.store("p", &[entry("a", n as u64 + 1)], Some(claim)).unwrap();
            let now = store.known().unwrap().first().map(|known| known.cursor);
            prop_assert_eq!(now, claim.cursor_after(cursor));
            if let (Some(before), Some(now)) = (cursor, now) {
                prop_assert!(before.log_id != now.log_id || before.seq <= now.seq);
            }
            cursor = now;
        }
    }
}

// --- reading

#[test]
fn an_oversized_entry_goes_alone() {
    let home = Home::new();
    let mut store = home.store();
    let mut sent: Vec<Entry> = (1..=4).map(|n| entry("a", n)).collect();
    sent[1].cmd = vec![b'x'; 5_000].into();
    store_all(&mut store, &sent);
    let sizes = |pieces: Vec<Piece>| -> Vec<usize> {
        pieces.iter().map(|piece| piece.entries.len()).collect()
    };
    assert_eq!(sizes(read_pages(&mut store, &[], 100, 1_000)), [1, 1, 2]);
}

#[test]
fn entries_are_found_by_their_ids_and_a_cut_says_how_far_it_looked() {
    let home = Home::new();
    let mut store = home.store();
    let sent: Vec<Entry> = (1..=5).map(|n| entry("a", n)).collect();
    store_all(&mut store, &sent);
    let mut ids: Vec<EntryId> = sent.iter().map(|entry| entry.id).collect();
    ids.insert(2, entry("nobody", 1).id);
    assert_eq!(store.read_ids(&ids, usize::MAX).unwrap(), (sent.clone(), 6));
    assert_eq!(store.read_ids(&[], 10).unwrap(), (vec![], 0));
    assert_eq!(store.read_ids(&ids, 0).unwrap(), (sent[..1].to_vec(), 1));
    let mut found = Vec::new();
    let mut looked_up = 0;
    while looked_up < ids.len() {
        let bytes = sent[0].text_bytes() * 2;
        let (more, looked) = store.read_ids(&ids[looked_up..], bytes).unwrap();
        assert!(looked > 0);
        found.extend(more);
        looked_up += looked;
    }
    assert_eq!(found, sent);
}

#[test]
fn a_thousand_origins_are_told_apart() {
    let home = Home::new();
    let mut store = home.store();
    let name = |d: u64| format!("device-{d:04}");
    let sent: Vec<Entry> = (0..1_000)
        .flat_map(|d| (1..=3).map(move |n| (d, n)))
        .map(|(d, n)| Entry {
            id: EntryId::from_bytes((u128::from(d) << 64 | u128::from(n)).to_be_bytes()),
            device_id: name(d),
            ..entry("x", n)
        })
        .collect();
    store_all(&mut store, &sent);
    let have: Vec<Have> = (0..1_000)
        .map(|d| Have {
            device_id: name(d),
            what: HaveWhat::Through(d % 4),
        })
        .collect();
    let expected = Model(sent).lacking(&have);
    assert_eq!(
        entries(read_pages(&mut store, &have, 2_000, usize::MAX)),
        expected
    );
    assert_eq!(store.summary().unwrap().origins.len(), 1_000);
}

#[test]
fn a_store_opened_for_reading_tells_its_summary() {
    let home = Home::new();
    let expected = {
        let mut store = home.store();
        store_all(&mut store, &[entry("a", 1), entry("b", 7)]);
        store.summary().unwrap()
    };
    let mut reading = Store::open(&home.db(), Access::Read, None).unwrap();
    assert_eq!(reading.summary().unwrap(), expected);
    assert!(store_fails_as_read_only(&mut reading));
}

fn store_fails_as_read_only(store: &mut Store) -> bool {
    let stored = Log::store(store, "p", &[entry("c", 1)], None);
    matches!(stored, Err(StoreError::ReadOnly { .. }))
}

// --- rows and cursor together

fn claim_to(last: u64) -> Claim {
    Claim {
        log_id: log(1),
        after: IngestSeq::ZERO,
        last: seq(last),
    }
}

#[test]
fn rows_without_their_cursor_or_the_other_way_round_are_not_kept() {
    let home = Home::new();
    let mut store = home.store();
    for refused in [
        "INSERT ON peer_state",
        "INSERT ON runs",
        "UPDATE OF count ON devices",
    ] {
        tamper(
            &home,
            &format!("CREATE TRIGGER refuse BEFORE {refused} BEGIN SELECT raise(ABORT, 'no'); END"),
        );
        let batch = [entry("a", 1), entry("b", 1)];
        assert!(
            store.store("p", &batch, Some(claim_to(9))).is_err(),
            "{refused}"
        );
        assert_eq!(store.count().unwrap(), 0, "{refused}");
        assert_eq!(store.summary().unwrap().origins, []);
        assert_eq!(store.known().unwrap(), []);
        tamper(&home, "DROP TRIGGER refuse");
    }
    store
        .store("p", &[entry("a", 1)], Some(claim_to(9)))
        .unwrap();
    check_against(&mut store, &Model(vec![entry("a", 1)]));
}

#[test]
fn of_several_deliveries_one_that_fails_leaves_none() {
    let home = Home::new();
    let mut store = home.store();
    let delivery = |peer: &str, n| Batched {
        peer: peer.into(),
        entries: vec![entry("a", n), entry("b", 1)],
        claim: Some(claim_to(n)),
    };
    let both = [delivery("p", 1), delivery("q", 2)];
    tamper(
        &home,
        "CREATE TRIGGER refuse BEFORE INSERT ON peer_state WHEN new.peer = 'q'
         BEGIN SELECT raise(ABORT, 'no'); END",
    );
    assert!(store.store_many(&both).is_err());
    assert_eq!(
        (store.count().unwrap(), store.known().unwrap()),
        (0, vec![])
    );
    tamper(&home, "DROP TRIGGER refuse");
    let stored = store.store_many(&both).unwrap();
    let counts: Vec<_> = stored.iter().map(|s| (s.inserted, s.ignored)).collect();
    assert_eq!(counts, [(2, 0), (1, 1)]);
    let cursors: Vec<_> = store
        .known()
        .unwrap()
        .iter()
        .map(|k| k.cursor.seq.get())
        .collect();
    assert_eq!(cursors, [1, 2]);
}

/// Not a test by itself: the process that
/// [`a_process_killed_while_it_stores_leaves_rows_and_cursor_that_agree`] kills.
#[test]
fn stores_until_it_is_killed() {
    let Some(db) = std::env::var_os("STORE_UNTIL_KILLED") else {
        return;
    };
    let mut store = Store::open(Path::new(&db), Access::PATIENT, None).unwrap();
    let from = store.count().unwrap();
    for n in (from / 10)..100_000 {
        let batch: Vec<Entry> = (n * 10 + 1..=n * 10 + 10).map(|n| entry("a", n)).collect();
        store
            .store("p", &batch, Some(claim_to(n * 10 + 10)))
            .unwrap();
    }
}

#[test]
fn a_process_killed_while_it_stores_leaves_rows_and_cursor_that_agree() {
    let home = Home::new();
    drop(home.store());
    let mut last = 0;
    for round in 0..8u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stores_until_it_is_killed", "--test-threads=1"])
            .env("STORE_UNTIL_KILLED", home.db())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let store = home.store();
        while store.count().unwrap() <= last {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::thread::sleep(std::time::Duration::from_micros(700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let summary = store.summary().unwrap();
        let cursor = store.known().unwrap()[0].cursor.seq.get();
        assert_eq!(summary.origins[0].tally.count, cursor);
        assert_eq!(summary.origins[0].through, cursor);
        assert!(store.verify(|_, _| {}).unwrap().is_sound());
        last = cursor;
    }
}

// --- damage

/// Three origins of ten entries each, and a way to damage one of them.
struct Damaged {
    home: Home,
    store: Store,
    sent: Vec<Entry>,
}

impl Damaged {
    fn by(sql: &str) -> Damaged {
        let home = Home::new();
        let mut store = home.store();
        let mut sent: Vec<Entry> = ["a", "b", "c"]
            .iter()
            .flat_map(|device| (1..=10).map(|n| entry(device, n)))
            .collect();
        sent[14].extra.insert("k".into(), 1.into());
        store_all(&mut store, &sent);
        tamper(&home, sql);
        Damaged { home, store, sent }
    }

    /// It is found, and mended by what a peer sends of it.
    fn check_found_and_mended(mut self, unreadable: usize) {
        let report = self.store.verify(|_, _| {}).unwrap();
        assert_eq!(report.damaged(), ["b"], "{report:?}");
        assert_eq!(report.unreadable.len(), unreadable);
        for origins in [None, Some(&["a".to_owned(), "b".to_owned()][..])] {
            assert_eq!(self.store.items(origins).unwrap().damaged, ["b"]);
        }
        assert!(
            self.store
                .items(Some(&["a".to_owned()]))
                .unwrap()
                .damaged
                .is_empty()
        );
        // Others are still read.
        let read = entries(read_pages(&mut self.store, &[], 7, usize::MAX));
        let others = |all: &[Entry]| -> Vec<Entry> {
            all.iter()
                .filter(|entry| entry.device_id != "b")
                .cloned()
                .collect()
        };
        assert_eq!(others(&read), others(&self.sent));

        let before = self.store.head().unwrap();
        let stored = self.store.repair(&self.sent, &["b".to_owned()]).unwrap();
        assert_eq!((stored.inserted, stored.ignored), (1, 29));
        let back = self.store.read_after(before, 10).unwrap().entries;
        assert_eq!(back, [self.sent[14].clone()], "what was mended travels on");
        let by_id = |entries: &[Entry]| -> BTreeMap<EntryId, Entry> {
            entries
                .iter()
                .map(|entry| (entry.id, entry.clone()))
                .collect()
        };
        assert_eq!(by_id(&all(&self.store)), by_id(&self.sent));
        check_against(&mut self.store, &Model(self.sent.clone()));
        let again = self.store.repair(&self.sent, &["b".to_owned()]).unwrap();
        assert_eq!(again.inserted, 0);
        drop(self.home);
    }
}

#[test]
fn a_command_that_rotted_is_found_and_mended() {
    Damaged::by("UPDATE entries SET cmd = 'rotted' WHERE ingest_seq = 15")
        .check_found_and_mended(0);
}

#[test]
fn a_row_that_the_disk_lost_is_found_and_mended() {
    Damaged::by("DELETE FROM entries WHERE ingest_seq = 15").check_found_and_mended(0);
}

#[test]
fn an_id_that_rotted_is_found_and_mended() {
    Damaged::by(
        "UPDATE entries SET entry_id = x'0123456789abcdef0123456789abcdef' WHERE ingest_seq = 15",
    )
    .check_found_and_mended(0);
}

#[test]
fn rows_that_do_not_decode_are_found_and_mended() {
    for rot in [
        "ts = 'x'",
        "ts = 9223372036854775807",
        "extra = '{'",
        "cmd = 7",
        "dir = 999",
        "session = 999",
        "context = 'x'",
        "duration_ms = 'x'",
        "exit_code = x'00'",
        "device_seq = 'x'",
    ] {
        Damaged::by(&format!("UPDATE entries SET {rot} WHERE ingest_seq = 15"))
            .check_found_and_mended(1);
    }
}

#[test]
fn an_unreadable_row_gives_way_to_the_entry_when_a_peer_sends_it() {
    let Damaged {
        mut store,
        sent,
        home,
    } = Damaged::by("UPDATE entries SET extra = '{' WHERE ingest_seq = 15");
    let stored = store_all(&mut store, &sent);
    assert_eq!((stored.inserted, stored.ignored), (1, 29));
    check_against(&mut store, &Model(sent));
    drop(home);
}

#[test]
fn numbers_that_are_claimed_and_not_there_are_found_and_counted_anew() {
    let Damaged {
        mut store,
        sent,
        home,
    } = Damaged::by(
        "UPDATE runs SET last = 11 WHERE device = 2; INSERT INTO runs VALUES (3, 40, 41)",
    );
    let report = store.verify(|_, _| {}).unwrap();
    assert_eq!(report.damaged(), ["b", "c"]);
    store
        .recount(&["b".into(), "c".into(), "nobody".into()])
        .unwrap();
    check_against(&mut store, &Model(sent));
    drop(home);
}

#[test]
fn what_is_counted_and_not_there_at_all_is_found() {
    let Damaged {
        mut store, home, ..
    } = Damaged::by("DELETE FROM entries WHERE device = 2");
    assert_eq!(store.items(None).unwrap().damaged, ["b"]);
    assert_eq!(store.verify(|_, _| {}).unwrap().damaged(), ["b"]);
    store.recount(&["b".into()]).unwrap();
    let left: Vec<String> = store
        .summary()
        .unwrap()
        .origins
        .into_iter()
        .map(|o| o.device_id)
        .collect();
    assert_eq!(left, ["a", "c"]);
    assert!(store.verify(|_, _| {}).unwrap().is_sound());
    drop(home);
}

#[test]
fn repair_takes_what_it_is_given_whatever_the_hash() {
    let home = Home::new();
    let mut store = home.store();
    let one = entry("a", 1);
    let mut two = one.clone();
    two.cmd = "the other".into();
    for entry in [&one, &two, &one] {
        store.repair(std::slice::from_ref(entry), &[]).unwrap();
        check_against(&mut store, &Model(vec![entry.clone()]));
    }
}

#[test]
fn what_repair_touches_is_counted_anew_though_nobody_asked() {
    for rot in [
        "DELETE FROM entries WHERE ingest_seq = 15",
        "UPDATE entries SET device = 3 WHERE ingest_seq = 15",
        "UPDATE entries SET device = 99 WHERE ingest_seq = 15",
    ] {
        let Damaged {
            mut store,
            sent,
            home,
        } = Damaged::by(rot);
        let stored = store.repair(&sent[14..15], &[]).unwrap();
        assert_eq!(stored.inserted, 1);
        check_against(&mut store, &Model(sent));
        drop(home);
    }
}

#[test]
fn verify_names_pages_that_rotted_and_tells_its_progress() {
    let home = Home::new();
    let mut store = home.store();
    let sent: Vec<Entry> = (1..=25_000).map(|n| entry("a", n)).collect();
    store_all(&mut store, &sent);
    let mut calls = Vec::new();
    let report = store
        .verify(|done, total| calls.push((done, total)))
        .unwrap();
    assert!(report.is_sound());
    assert_eq!(
        calls,
        [(10_000, 25_000), (20_000, 25_000), (25_000, 25_000)]
    );
    drop(store);
    let mut bytes = std::fs::read(home.db()).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 8192].fill(0xa5);
    std::fs::write(home.db(), bytes).unwrap();
    let report = home.store().verify(|_, _| {}).unwrap();
    assert!(!report.problems.is_empty() && !report.is_sound());
}

// --- peers

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs).unwrap()
}

fn tally(n: u128) -> Tally {
    Tally::of([n])
}

#[test]
fn a_comparison_moves_the_cursor_only_if_both_are_the_same_and_only_up() {
    let home = Home::new();
    let mut store = home.store();
    let mut compare = |log_id: u8, ours: u128, their_head: u64| {
        let compared = Compared {
            ours: tally(ours),
            theirs: tally(1),
            their_head: seq(their_head),
        };
        store.compared("p", log(log_id), compared).unwrap();
        let state = store.peer("p").unwrap().unwrap();
        assert_eq!(state.compared.unwrap().compared, compared);
        state.cursor.map(|cursor| (cursor.log_id, cursor.seq.get()))
    };
    assert_eq!(compare(1, 2, 9), None);
    assert_eq!(compare(1, 1, 5), Some((log(1), 5)));
    assert_eq!(compare(1, 1, 4), Some((log(1), 5)));
    assert_eq!(compare(1, 1, 7), Some((log(1), 7)));
    assert_eq!(compare(2, 2, 1), Some((log(1), 7)));
    assert_eq!(compare(2, 1, 1), Some((log(2), 1)));
}

#[test]
fn forgetting_begins_a_log_anew_and_keeps_the_name() {
    let home = Home::new();
    let mut store = home.store();
    let seen = PeerSeen {
        name: "desk".into(),
        path: PeerPath::Lan,
        head: None,
        at: at(5),
    };
    store.note_peer_seen("p", &seen).unwrap();
    assert_eq!(store.known().unwrap(), [], "it was seen and not read");
    let same = Compared {
        ours: tally(1),
        theirs: tally(1),
        their_head: seq(9),
    };
    store.compared("p", log(1), same).unwrap();
    store.forget_cursor("p", log(2)).unwrap();
    let known = store.known().unwrap();
    assert_eq!(
        (known[0].cursor.log_id, known[0].cursor.seq.get()),
        (log(2), 0)
    );
    assert_eq!(known[0].compared, None);
    assert_eq!(
        store.peer("p").unwrap().unwrap().name.as_deref(),
        Some("desk")
    );
    // The same where a stretch from the beginning brings the new log.
    store.compared("p", log(2), same).unwrap();
    let claim = Claim {
        log_id: log(3),
        ..claim_to(4)
    };
    store.store("p", &[], Some(claim)).unwrap();
    let known = store.known().unwrap();
    assert_eq!(
        (known[0].cursor.log_id, known[0].cursor.seq.get()),
        (log(3), 4)
    );
    assert_eq!(known[0].compared, None);
}

#[test]
fn identical_is_said_only_while_nothing_was_added() {
    let home = Home::new();
    let mut store = home.store();
    store_all(&mut store, &[entry("a", 1), entry("p", 1)]);
    let ours = store.summary().unwrap().tally();
    let mut compared = Compared {
        ours,
        theirs: tally(1),
        their_head: seq(5),
    };
    store.compared("p", log(1), compared).unwrap();
    let identical = |store: &Store| {
        let peer = store.peer("p").unwrap().unwrap();
        (
            peer.is_identical(store.summary().unwrap().tally()),
            peer.behind_theirs(),
        )
    };
    assert_eq!(identical(&store), (false, None));
    compared.theirs = ours;
    store.compared("p", log(1), compared).unwrap();
    assert_eq!(identical(&store), (true, Some(0)));
    store_all(&mut store, &[entry("a", 2), entry("a", 3), entry("p", 2)]);
    assert_eq!(identical(&store), (false, Some(0)));
    let seen = PeerSeen {
        name: String::new(),
        path: PeerPath::Relay,
        head: Some(Cursor {
            log_id: log(1),
            seq: seq(8),
        }),
        at: at(9),
    };
    store.note_peer_seen("p", &seen).unwrap();
    assert_eq!(identical(&store), (false, Some(3)));
}

#[test]
fn how_exchanges_went_is_remembered_per_peer() {
    let home = Home::new();
    let mut store = home.store();
    let seen = PeerSeen {
        name: "desk".into(),
        path: PeerPath::Direct,
        head: None,
        at: at(1),
    };
    store.note_peer_seen("p", &seen).unwrap();
    let exchange = Exchange {
        unreadable: 2,
        unsendable: 3,
        at: at(2),
    };
    store.note_exchange("p", &exchange).unwrap();
    let failure = Failure {
        text: "no answer".into(),
        at: at(3),
    };
    store.note_failure("p", &failure).unwrap();
    store.note_failure("q", &failure).unwrap();
    let peers = store.peers().unwrap();
    let [p, q] = &peers[..] else {
        panic!("{peers:?}")
    };
    assert_eq!(
        (p.name.as_deref(), p.path),
        (Some("desk"), Some(PeerPath::Direct))
    );
    assert_eq!((p.last_seen, p.last_sync), (Some(at(2)), Some(at(2))));
    assert_eq!((p.unreadable, p.unsendable), (2, 3));
    assert_eq!(p.failure.as_ref(), Some(&failure));
    assert_eq!(
        (q.last_seen, q.cursor, q.failure.as_ref()),
        (None, None, Some(&failure))
    );
    store.note_exchange("p", &exchange).unwrap();
    assert_eq!(store.peer("p").unwrap().unwrap().failure, None);
}

// --- identity

fn open_on(path: &Path, machine: Option<u8>, device_id: Option<&str>) -> Store {
    let opening = Opening {
        access: Access::PATIENT,
        device_id,
        machine: machine.map(|n| [n; 16]),
    };
    Store::open_as(path, &opening).unwrap()
}

/// A home with a history, and the same copied to another machine.
fn copied() -> (Home, Home, Identity) {
    let (home, copy) = (Home::new(), Home::new());
    let mut store = open_on(&home.db(), Some(1), None);
    store
        .write(|w| w.append(&entry("x", 1)))
        .map_err(|err: StoreError| err)
        .unwrap();
    let same = Compared {
        ours: tally(1),
        theirs: tally(1),
        their_head: seq(9),
    };
    store.compared("p", log(1), same).unwrap();
    let identity = store.identity().clone();
    drop(store);
    std::fs::create_dir(copy.db().parent().unwrap()).unwrap();
    std::fs::copy(home.db(), copy.db()).unwrap();
    (home, copy, identity)
}

#[test]
fn a_copied_database_gets_a_new_identity_once() {
    let (home, copy, before) = copied();
    // All of them see the other machine's name before one of them gets the lock.
    let lock = rusqlite::Connection::open(copy.db()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let opened: Vec<(Identity, bool)> = std::thread::scope(|scope| {
        let open = || {
            let store = open_on(&copy.db(), Some(2), None);
            if let Some(moved) = store.moved() {
                assert_eq!(moved.from, before);
            }
            (store.identity().clone(), store.moved().is_some())
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(open)).collect();
        std::thread::sleep(std::time::Duration::from_millis(200));
        lock.execute_batch("ROLLBACK").unwrap();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    drop(lock);
    assert!(opened.iter().all(|(identity, _)| *identity == opened[0].0));
    assert_eq!(opened.iter().filter(|(_, moved)| *moved).count(), 1);
    let now = &opened[0].0;
    assert!(now.log_id != before.log_id && now.device_id != before.device_id);

    let mut store = open_on(&copy.db(), Some(2), None);
    assert_eq!((store.moved(), store.identity()), (None, now));
    let known = store.known().unwrap();
    assert_eq!((known[0].cursor.seq.get(), known[0].compared), (9, None));
    store
        .write(|w| w.append(&entry("x", 2)))
        .map_err(|err: StoreError| err)
        .unwrap();
    let origins: Vec<(String, u64)> = all(&store)
        .into_iter()
        .map(|entry| (entry.device_id, entry.device_seq.unwrap()))
        .collect();
    assert_eq!(
        origins,
        [(before.device_id.clone(), 1), (now.device_id.clone(), 1)]
    );
    let original = open_on(&home.db(), Some(1), None);
    assert_eq!((original.moved(), original.identity()), (None, &before));
}

#[test]
fn an_unknown_machine_or_one_that_only_reads_changes_nothing() {
    let (_home, copy, before) = copied();
    let bytes = std::fs::read(copy.db()).unwrap();
    let reading = Opening {
        access: Access::Read,
        device_id: None,
        machine: Some([2; 16]),
    };
    for store in [
        open_on(&copy.db(), None, None),
        open_on(&copy.db(), Some(1), None),
        Store::open_as(&copy.db(), &reading).unwrap(),
    ] {
        assert_eq!((store.moved(), store.identity()), (None, &before));
    }
    assert!(std::fs::read(copy.db()).unwrap() == bytes);
    let renamed = open_on(&copy.db(), None, Some("mine"));
    assert_eq!(renamed.moved(), None);
    assert_eq!(renamed.identity().log_id, before.log_id);
}

#[test]
fn a_database_that_names_no_machine_belongs_to_the_first_that_opens_it() {
    let home = Home::new();
    let before = home.store().identity().clone();
    let store = open_on(&home.db(), Some(1), None);
    assert_eq!((store.moved(), store.identity()), (None, &before));
    drop(store);
    assert!(open_on(&home.db(), Some(2), None).moved().is_some());
}

#[test]
fn a_configured_device_id_stays_where_the_log_id_changes() {
    let (_home, copy, before) = copied();
    let mut store = open_on(&copy.db(), Some(2), Some("mine"));
    assert_eq!(store.identity().device_id, "mine");
    assert_ne!(store.identity().log_id, before.log_id);
    let first = store.identity().log_id;
    let taken = store.take_new_identity().unwrap();
    assert_eq!(
        (taken.device_id.as_str(), &taken),
        ("mine", store.identity())
    );
    assert_ne!(taken.log_id, first);
}

#[test]
fn two_sessions_that_ask_for_a_new_identity_get_the_same() {
    let home = Home::new();
    let (mut one, mut two) = (home.store(), home.store());
    let before = one.identity().clone();
    let taken = Log::take_new_identity(&mut one).unwrap();
    assert!(taken.log_id != before.log_id && taken.device_id != before.device_id);
    assert_eq!(Log::take_new_identity(&mut two).unwrap(), taken);
    assert_eq!(home.store().identity(), &taken);
}

// --- schema 1

fn schema_1(home: &Home) {
    std::fs::create_dir_all(home.db().parent().unwrap()).unwrap();
    let conn = rusqlite::Connection::open(home.db()).unwrap();
    conn.pragma_update(None, "journal_mode", "wal").unwrap();
    conn.execute_batch(include_str!("sql/schema_1.sql"))
        .unwrap();
}

#[test]
fn a_database_of_schema_1_is_counted_once_by_whoever_comes_first() {
    let home = Home::new();
    schema_1(&home);
    // Read as it is, where it can't be written.
    let reading = Store::open(&home.db(), Access::Read, None).unwrap();
    let (old_summary, old_peers) = (reading.summary().unwrap(), reading.peers().unwrap());
    let rows = Model(entries_in_order(&reading));
    drop(reading);
    assert_eq!(rows.0.len(), 10);
    assert_eq!(old_summary.origins, rows.origins());

    std::thread::scope(|scope| {
        let open = || assert_eq!(home.store().identity().device_id, "own");
        (0..16).for_each(|_| drop(scope.spawn(open)));
    });
    let mut store = home.store();
    assert_eq!(store.summary().unwrap(), old_summary);
    check_against(&mut store, &rows);
    let through: Vec<u64> = old_summary.origins.iter().map(|o| o.through).collect();
    assert_eq!(through, [0, 3, 2], "bare, gaps, own");
    assert_eq!(store.peers().unwrap(), old_peers);
    let known = store.known().unwrap();
    assert_eq!(
        (known[0].peer.as_str(), known[0].cursor.seq.get()),
        ("gaps", 41)
    );
    assert_eq!(known[1].peer, "http://x:1");
    assert_eq!(old_peers[0].last_sync, Some(at(1_700_000_000)));
    assert_eq!(store.conflicts().unwrap(), 2);
    let appended = store
        .write(|w| w.append(&entry("x", 1)))
        .map_err(|err: StoreError| err);
    assert!(
        matches!(appended, Ok(rustory_store::Appended::New(_, 5))),
        "{appended:?}"
    );
}

fn entries_in_order(store: &Store) -> Vec<Entry> {
    store.read_after(IngestSeq::ZERO, 1_000).unwrap().entries
}

#[test]
fn a_migration_that_fails_leaves_schema_1() {
    let home = Home::new();
    schema_1(&home);
    tamper(&home, "CREATE TABLE runs (taken)");
    assert!(Store::open(&home.db(), Access::PATIENT, None).is_err());
    tamper(&home, "DROP TABLE runs");
    let store = Store::open(&home.db(), Access::Read, None).unwrap();
    assert_eq!(store.peers().unwrap().len(), 2);
    drop(store);
    assert!(home.store().verify(|_, _| {}).unwrap().is_sound());
}
