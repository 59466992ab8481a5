//! Opening a log: permissions, schema, identity. A current database is opened without a write.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};
use rustory_core::LogId;

use crate::error::StoreError;
use crate::migrations;

/// How a log is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and write; made when it is not there. Waits this long for another process's lock.
    Write {
        /// The busy budget of every statement.
        busy: Duration,
    },
    /// Read only: works on a read-only disk and beside any writer, and creates nothing.
    Read,
}

impl Access {
    /// The busy budget of commands that may take their time.
    pub const PATIENT: Access = Access::Write {
        busy: Duration::from_secs(10),
    };
    /// The busy budget of what a person waits for with a finger on the key.
    pub const HASTY: Access = Access::Write {
        busy: Duration::from_millis(50),
    };
}

/// Which log this is, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Names this database; a new database has a new one.
    pub log_id: LogId,
    /// The device that writes it.
    pub device_id: String,
}

/// One device's log.
#[derive(Debug)]
pub struct Store {
    pub(crate) conn: Connection,
    pub(crate) path: PathBuf,
    identity: Identity,
}

impl Store {
    /// Opens the log at `path`.
    ///
    /// With [`Access::Write`] the file and its directory are made when they are not there (0600
    /// in 0700) and an older schema is brought up to date. `device_id` overrides the random one
    /// that a new log gives itself.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::NewerSchema`] and [`StoreError::Corrupt`] leave the file as
    /// it was.
    pub fn open(path: &Path, access: Access, device_id: Option<&str>) -> Result<Store, StoreError> {
        let mut conn = match access {
            Access::Write { .. } => open_for_writing(path)?,
            Access::Read => open_for_reading(path)?,
        };
        if access == Access::Read {
            check_known(&conn, path)?;
        } else {
            migrations::migrate(&mut conn, path)?;
        }
        let identity =
            identity(&mut conn, access, device_id).map_err(|err| StoreError::sqlite(path, err))?;
        if let Access::Write { busy } = access {
            conn.busy_timeout(busy)
                .map_err(|err| StoreError::sqlite(path, err))?;
        }
        Ok(Store {
            conn,
            path: path.to_owned(),
            identity,
        })
    }

    /// Which log this is, and whose.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the database in use, without what waits in the WAL.
    ///
    /// # Errors
    /// [`StoreError`] when the file can't be read.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        self.conn
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map(|bytes| u64::try_from(bytes).unwrap_or(0))
            .map_err(|err| self.err(err))
    }

    pub(crate) fn err(&self, source: rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.path, source)
    }
}

fn open_for_writing(path: &Path) -> Result<Connection, StoreError> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        make_private_dir(dir).map_err(|err| StoreError::io(dir, err))?;
    }
    make_private_file(path).map_err(|err| match err.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly {
                path: path.to_owned(),
            }
        }
        io::ErrorKind::StorageFull => StoreError::Full {
            path: path.to_owned(),
        },
        _ => StoreError::io(path, err),
    })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(OPENING_BUSY)?;
        switch_to_wal(&conn)?;
        // In WAL mode a power cut can undo the last commits but never damage the file. What it
        // undoes is still in the spool, whose files go only after a full sync (`spool_dir`).
        conn.pragma_update(None, "synchronous", "normal")?;
        conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok(conn)
    };
    open().map_err(|err| StoreError::sqlite(path, err))
}

/// Puts a new file into WAL mode, which the file then remembers.
///
/// SQLite does not wait for others in this one statement, so the waiting is done here.
fn switch_to_wal(conn: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + OPENING_BUSY;
    while migrations::version(conn)? == 0 {
        match conn.pragma_update(None, "journal_mode", "wal") {
            Err(err)
                if err.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            switched => return switched,
        }
    }
    Ok(())
}

/// How long opening waits for another process that makes or migrates the database, which happens
/// once. A current database is opened without any lock.
const OPENING_BUSY: Duration = Duration::from_secs(10);

/// Page cache of a writer, in KiB: the hot ends of the indexes of 1,000,000 rows.
const CACHE_KIB: i64 = 32 * 1024;

fn open_for_reading(path: &Path) -> Result<Connection, StoreError> {
    if let Err(err) = fs::File::open(path) {
        return Err(StoreError::io(path, err));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(Duration::from_millis(50))?;
        migrations::version(&conn)?;
        Ok(conn)
    };
    open().or_else(|err| match StoreError::sqlite(path, err) {
        // A WAL database needs its `-wal` and `-shm` even to be read. Where they can't be made
        // nobody else has them open either: read the file as it lies.
        StoreError::ReadOnly { .. } | StoreError::Full { .. } => {
            let uri = format!("file:{}?immutable=1", uri_path(path));
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
                .map_err(|err| StoreError::sqlite(path, err))
        }
        other => Err(other),
    })
}

/// The path as it may stand in a `file:` URI.
fn uri_path(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::new();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            write!(uri, "%{byte:02X}").expect("writing to a String never fails");
        }
    }
    uri
}

fn check_known(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = migrations::version(conn).map_err(|err| StoreError::sqlite(path, err))?;
    match found {
        // Somebody is about to make it.
        0 => Err(StoreError::Busy),
        found if found > migrations::KNOWN => Err(StoreError::NewerSchema {
            found,
            known: migrations::KNOWN,
        }),
        _ => Ok(()),
    }
}

fn identity(
    conn: &mut Connection,
    access: Access,
    device_id: Option<&str>,
) -> rusqlite::Result<Identity> {
    let stored = read_identity(conn)?;
    let wanted = device_id.map(str::to_owned);
    if let Some(stored) = &stored
        && (access == Access::Read || wanted.as_ref().is_none_or(|id| *id == stored.device_id))
    {
        return Ok(stored.clone());
    }
    if access == Access::Read {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    }
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // Another process may have been first.
    let stored = read_identity(&tx)?;
    let identity = Identity {
        log_id: stored
            .as_ref()
            .map_or_else(|| LogId::from_bytes(random()), |stored| stored.log_id),
        device_id: wanted
            .or(stored.map(|stored| stored.device_id))
            .unwrap_or_else(|| LogId::from_bytes(random()).to_string()),
    };
    let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES ('log_id', ?1), ('device_id', ?2)";
    tx.execute(sql, (&identity.log_id.as_bytes()[..], &identity.device_id))?;
    tx.commit()?;
    Ok(identity)
}

fn read_identity(conn: &Connection) -> rusqlite::Result<Option<Identity>> {
    let sql = "SELECT l.value, CAST(d.value AS TEXT) FROM meta l, meta d
               WHERE l.key = 'log_id' AND d.key = 'device_id'";
    conn.query_row(sql, [], |row| {
        Ok(Identity {
            log_id: LogId::from_bytes(row.get(0)?),
            device_id: row.get(1)?,
        })
    })
    .optional()
}

/// Random bytes from the operating system, for ids.
///
/// # Panics
/// When the kernel has no random source, which only a broken machine lacks.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel's random source works once the machine is up");
    bytes
}

/// Makes a directory that only its owner can enter; one that is there is left as it is.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn make_private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// Makes the database file readable by its owner alone before SQLite puts anything in it (the
/// `-wal` and `-shm` files take its mode over), and tightens one that others can read.
fn make_private_file(path: &Path) -> io::Result<()> {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(mode & 0o700))?;
    }
    Ok(())
}
