//! What can go wrong with the log, told by SQLite's result codes and never by their texts.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;

/// Why the log could not be opened, read or written. Nothing of a failed write remains.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process held the write lock for longer than the busy budget. Safe to retry.
    #[error("the history database is locked by another process")]
    Busy,
    /// The file, its directory or its file system can't be written.
    #[error("the history database `{}` can't be written", path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("the disk that holds `{}` is full", path.display())]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// Written by a later version; nothing was changed.
    #[error("the history database has schema {found}, this version knows up to {known}")]
    NewerSchema {
        /// Its `user_version`.
        found: i64,
        /// The last one that this binary can read.
        known: i64,
    },
    /// The file is no database, or pages in it do not decode.
    #[error("the history database `{}` is damaged: {detail}", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What SQLite says about it.
        detail: String,
    },
    /// The data directory or a spool file can't be used.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// What was to be opened, read or written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Anything else that SQLite says; a bug, or a machine in trouble.
    #[error("the history database `{}`: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// The full error.
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// Whether the same call may succeed later with nothing changed by hand.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Busy | StoreError::Full { .. })
    }

    /// Whether reading may still work where this write did not.
    #[must_use]
    pub fn is_about_writing(&self) -> bool {
        matches!(
            self,
            StoreError::Busy | StoreError::Full { .. } | StoreError::ReadOnly { .. }
        )
    }

    pub(crate) fn sqlite(path: &std::path::Path, source: rusqlite::Error) -> StoreError {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy,
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                StoreError::ReadOnly { path }
            }
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            // The shared memory file that can't grow on a full disk is only an I/O error to SQLite.
            Some(ErrorCode::SystemIoFailure) if disk_is_full(&path) => StoreError::Full { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt {
                path,
                detail: source.to_string(),
            },
            _ => StoreError::Sqlite { path, source },
        }
    }

    pub(crate) fn io(path: &std::path::Path, source: io::Error) -> StoreError {
        StoreError::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Less free space than this counts as none: SQLite's shared memory file grows by 32 KiB.
const FREE_BYTES_MIN: u64 = 64 * 1024;

fn disk_is_full(path: &std::path::Path) -> bool {
    let dir = path.parent().unwrap_or(path);
    rustix::fs::statvfs(dir).is_ok_and(|disk| disk.f_bavail * disk.f_frsize < FREE_BYTES_MIN)
}
