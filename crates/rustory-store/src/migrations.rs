//! The schema's versions. `user_version` counts them; a migration, once released, never changes.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::StoreError;
use crate::tally;

/// Brings one schema to the next.
struct Step {
    sql: &'static str,
    /// What SQL alone can't do, run behind it.
    code: fn(&Connection) -> rusqlite::Result<()>,
}

/// Step n brings schema n to schema n + 1.
const STEPS: &[Step] = &[
    Step {
        sql: include_str!("sql/0001_log.sql"),
        code: |_| Ok(()),
    },
    Step {
        sql: include_str!("sql/0002_sync.sql"),
        code: |conn| tally::recount(conn, None),
    },
];

/// The schema that this binary writes.
pub(crate) const KNOWN: i64 = STEPS.len() as i64;

/// The schema that the file has; 0 for an empty one.
pub(crate) fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the file to [`KNOWN`]. A current file is not written to.
///
/// An unreadable version is an error, never taken for an old one. All steps are one transaction
/// that looks at the version again under the write lock, so that of many processes that start at
/// once one migrates and the others find it done.
pub(crate) fn migrate(conn: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found = version(conn).map_err(|err| StoreError::sqlite(path, err))?;
    if found > KNOWN {
        return Err(StoreError::NewerSchema {
            found,
            known: KNOWN,
        });
    }
    if found == KNOWN {
        return Ok(());
    }
    steps(conn).map_err(|err| StoreError::sqlite(path, err))
}

fn steps(conn: &mut Connection) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = usize::try_from(version(&tx)?).unwrap_or(0);
    for step in STEPS.iter().skip(found) {
        tx.execute_batch(step.sql)?;
        (step.code)(&tx)?;
    }
    tx.pragma_update(None, "user_version", KNOWN)?;
    tx.commit()
}
