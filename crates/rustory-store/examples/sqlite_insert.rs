//! `sqlite_insert SOURCE NEW`: how long SQLite alone needs to insert the rows of a log, in seconds.
//!
//! All rows are in memory before the clock starts; then they go into a new database with the same
//! schema and settings, in one transaction. What is left out is everything that a sync does beside
//! that. For `bench/sync.py`.
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

/// Every table that grows with a log, and its columns.
const TABLES: &[(&str, usize)] = &[
    ("devices", 4),
    ("contexts", 5),
    ("dirs", 2),
    ("sessions", 2),
    ("entries", 12),
];

fn main() -> rusqlite::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(source), Some(new)) = (args.next(), args.next()) else {
        eprintln!("usage: sqlite_insert SOURCE NEW");
        std::process::exit(2);
    };
    let source = Connection::open(source)?;
    let tables: Vec<Vec<Vec<Value>>> = TABLES
        .iter()
        .map(|(table, columns)| rows(&source, table, *columns))
        .collect::<rusqlite::Result<_>>()?;

    let mut db = Connection::open(new)?;
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "normal")?;
    db.pragma_update(None, "cache_size", -32 * 1024)?;
    db.execute_batch(include_str!("../src/sql/0001_log.sql"))?;
    let began = Instant::now();
    let tx = db.transaction()?;
    for ((table, columns), rows) in TABLES.iter().zip(&tables) {
        let marks = vec!["?"; *columns].join(", ");
        let mut insert = tx.prepare(&format!("INSERT INTO {table} VALUES ({marks})"))?;
        for row in rows {
            insert.execute(params_from_iter(row))?;
        }
    }
    tx.commit()?;
    println!("{:.3}", began.elapsed().as_secs_f64());
    Ok(())
}

fn rows(db: &Connection, table: &str, columns: usize) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut query = db.prepare(&format!("SELECT * FROM {table} ORDER BY rowid"))?;
    let read = query.query_map([], |row| (0..columns).map(|n| row.get(n)).collect())?;
    read.collect()
}
