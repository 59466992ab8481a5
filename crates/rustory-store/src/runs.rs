//! Which numbers of a device are there, as runs: nearly always one, from 1 to the last.
//!
//! In memory while a transaction runs and in the table `runs` between them. Whatever the numbers
//! are, a change costs a look-up in either and never a walk over all of them.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

/// Numbers from 1, as runs that neither overlap nor touch: first -> last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(BTreeMap<i64, i64>);

impl Runs {
    /// Adds a number. Those that no device gives out (0, or beyond SQLite's integers) are left
    /// out: nobody may claim to have everything up to them.
    pub(crate) fn insert(&mut self, seq: u64) {
        let Some(seq) = i64::try_from(seq).ok().filter(|seq| *seq > 0) else {
            return;
        };
        let first = match self.0.range_mut(..=seq).next_back() {
            Some((_, last)) if *last >= seq => return,
            Some((&first, last)) if *last + 1 == seq => {
                *last = seq;
                first
            }
            _ => {
                self.0.insert(seq, seq);
                seq
            }
        };
        if let Some(next) = seq.checked_add(1)
            && let Some(last) = self.0.remove(&next)
        {
            self.0.insert(first, last);
        }
    }

    /// The end of the run that begins at 1; 0 when there is none.
    pub(crate) fn through(&self) -> u64 {
        self.0.get(&1).map_or(0, |last| last.cast_unsigned())
    }

    /// The table's runs of a device.
    pub(crate) fn read(conn: &Connection, device: i64) -> rusqlite::Result<Runs> {
        conn.prepare_cached("SELECT first, last FROM runs WHERE device = ?1")?
            .query_map([device], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()
            .map(Runs)
    }

    /// Puts these in the place of what the table has of a device.
    pub(crate) fn replace(&self, conn: &Connection, device: i64) -> rusqlite::Result<()> {
        conn.execute("DELETE FROM runs WHERE device = ?1", [device])?;
        let mut insert =
            conn.prepare_cached("INSERT INTO runs (device, first, last) VALUES (?1, ?2, ?3)")?;
        for (first, last) in &self.0 {
            insert.execute(params![device, first, last])?;
        }
        Ok(())
    }

    /// Adds these to what the table has of a device.
    pub(crate) fn merge(&self, conn: &Connection, device: i64) -> rusqlite::Result<()> {
        for (&first, &last) in &self.0 {
            merge_run(conn, device, first, last)?;
        }
        Ok(())
    }
}

fn merge_run(conn: &Connection, device: i64, first: i64, last: i64) -> rusqlite::Result<()> {
    let run = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let before: Option<(i64, i64)> = conn
        .prepare_cached(
            "SELECT first, last FROM runs WHERE device = ?1 AND first <= ?2
             ORDER BY first DESC LIMIT 1",
        )?
        .query_row(params![device, first], run)
        .optional()?
        .filter(|(_, end)| *end >= first - 1);
    let start = before.map_or(first, |(start, _)| start);
    let mut end = before.map_or(last, |(_, end)| end.max(last));
    // Those that begin within the new run, or right behind it, become part of it.
    let beyond = last.saturating_add(1);
    let after: Option<i64> = conn
        .prepare_cached(
            "SELECT last FROM runs WHERE device = ?1 AND first > ?2 AND first <= ?3
             ORDER BY first DESC LIMIT 1",
        )?
        .query_row(params![device, first, beyond], |row| row.get(0))
        .optional()?;
    if let Some(after) = after {
        end = end.max(after);
        conn.prepare_cached("DELETE FROM runs WHERE device = ?1 AND first > ?2 AND first <= ?3")?
            .execute(params![device, first, beyond])?;
    }
    if before == Some((start, end)) {
        return Ok(());
    }
    conn.prepare_cached(
        "INSERT INTO runs (device, first, last) VALUES (?1, ?2, ?3)
         ON CONFLICT (device, first) DO UPDATE SET last = ?3",
    )?
    .execute(params![device, start, end])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn naive(numbers: &BTreeSet<u64>) -> Runs {
        let mut runs: Vec<(i64, i64)> = Vec::new();
        for n in numbers.iter().map(|n| n.cast_signed()) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == n => *last = n,
                _ => runs.push((n, n)),
            }
        }
        Runs(runs.into_iter().collect())
    }

    proptest! {
        #[test]
        fn in_memory_and_in_the_table_they_are_what_the_numbers_are(
            pieces in prop::collection::vec(prop::collection::vec(1u64..60, 0..12), 1..8),
        ) {
            let conn = Connection::open_in_memory().unwrap();
            conn.execute_batch(
                "CREATE TABLE runs (device INTEGER, first INTEGER, last INTEGER,
                   PRIMARY KEY (device, first)) WITHOUT ROWID;
                 INSERT INTO runs VALUES (1, 1, 100), (3, 1, 100)",
            ).unwrap();
            let mut all = BTreeSet::new();
            for piece in pieces {
                let mut runs = Runs::default();
                piece.iter().for_each(|n| runs.insert(*n));
                prop_assert_eq!(&runs, &naive(&piece.iter().copied().collect()));
                all.extend(piece);
                runs.merge(&conn, 2).unwrap();
                let stored = Runs::read(&conn, 2).unwrap();
                prop_assert_eq!(&stored, &naive(&all));
                let through = (1..).take_while(|n| all.contains(n)).last().unwrap_or(0);
                prop_assert_eq!(stored.through(), through);
            }
            for other in [1, 3] {
                prop_assert_eq!(Runs::read(&conn, other).unwrap().0, [(1, 100)].into());
            }
        }
    }

    #[test]
    fn numbers_that_nobody_gives_out_are_left_out() {
        let mut runs = Runs::default();
        for n in [0, u64::MAX, i64::MAX.cast_unsigned(), 1] {
            runs.insert(n);
        }
        assert_eq!(runs.0, [(1, 1), (i64::MAX, i64::MAX)].into());
    }
}
