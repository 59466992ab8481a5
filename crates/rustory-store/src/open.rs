//! Opening a log: permissions, schema, identity. A current database is opened without a write.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior};
use rustory_core::LogId;
use rustory_core::sync::LogIdentity;

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

/// What is known about who opens a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening<'a> {
    /// For what.
    pub access: Access,
    /// Overrides the random device id that a new log gives itself.
    pub device_id: Option<&'a str>,
    /// A hash of what tells this machine from others; `None`: not known, which changes nothing.
    /// A log that was written on another machine is a copy and gets an identity of its own.
    pub machine: Option<[u8; 16]>,
}

/// Which log this is, and whose.
pub type Identity = LogIdentity;

/// The log was written on another machine before: it is a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// What the other machine goes on as.
    pub from: Identity,
}

/// One device's log.
#[derive(Debug)]
pub struct Store {
    pub(crate) conn: Connection,
    pub(crate) path: PathBuf,
    identity: Identity,
    moved: Option<Moved>,
    /// The device id that settings ask for.
    configured: Option<String>,
}

impl Store {
    /// Opens the log at `path`, on a machine that is not known.
    ///
    /// # Errors
    /// As [`Store::open_as`].
    pub fn open(path: &Path, access: Access, device_id: Option<&str>) -> Result<Store, StoreError> {
        let opening = Opening {
            access,
            device_id,
            machine: None,
        };
        Store::open_as(path, &opening)
    }

    /// Opens the log at `path`.
    ///
    /// With [`Access::Write`] the file and its directory are made when they are not there (0600
    /// in 0700), an older schema is brought up to date, and a log that another machine wrote gets
    /// a new identity ([`Store::moved`]).
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::NewerSchema`] and [`StoreError::Corrupt`] leave the file as
    /// it was.
    pub fn open_as(path: &Path, opening: &Opening<'_>) -> Result<Store, StoreError> {
        let access = opening.access;
        let mut conn = match access {
            Access::Write { .. } => open_for_writing(path)?,
            Access::Read => open_for_reading(path)?,
        };
        if access == Access::Read {
            check_known(&conn, path)?;
        } else {
            migrations::migrate(&mut conn, path)?;
        }
        let (identity, moved) =
            identity(&mut conn, opening).map_err(|err| StoreError::sqlite(path, err))?;
        if let Access::Write { busy } = access {
            conn.busy_timeout(busy)
                .map_err(|err| StoreError::sqlite(path, err))?;
        }
        Ok(Store {
            conn,
            path: path.to_owned(),
            identity,
            moved,
            configured: opening.device_id.map(str::to_owned),
        })
    }

    /// Set if this very opening found a copy of another machine's log and gave it a new identity.
    #[must_use]
    pub fn moved(&self) -> Option<&Moved> {
        self.moved.as_ref()
    }

    /// Takes a new device id (unless settings name one) and log id. What is stored stays what it
    /// is, and so does what was read of others; only that it was compared is no longer known.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing changed.
    pub fn take_new_identity(&mut self) -> Result<Identity, StoreError> {
        let (known, wanted) = (self.identity.log_id, self.configured.clone());
        let take = |conn: &mut Connection| -> rusqlite::Result<Identity> {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let identity = match read_identity(&tx)? {
                // Another process was first.
                Some(stored) if stored.log_id != known => stored,
                _ => new_identity(&tx, wanted.as_deref())?,
            };
            tx.commit()?;
            Ok(identity)
        };
        self.identity = take(&mut self.conn).map_err(|err| StoreError::sqlite(&self.path, err))?;
        Ok(self.identity.clone())
    }

    /// Looks again which log this is: another process may have given it a new identity.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn reload_identity(&mut self) -> Result<(), StoreError> {
        if let Some(stored) = read_identity(&self.conn).map_err(|err| self.err(err))? {
            self.identity = stored;
        }
        Ok(())
    }

    /// What [`Store::set_key_mark`] left here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn key_mark(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.meta("key_mark")
    }

    pub(crate) fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT value FROM meta WHERE key = ?1";
        self.conn
            .query_row(sql, [key], |row| row.get(0))
            .optional()
            .map_err(|err| self.err(err))
    }

    /// Leaves beside the log what tells this device's key from a copy of it; opaque here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_key_mark(&mut self, mark: &[u8]) -> Result<(), StoreError> {
        self.write(|writer| writer.run(|tx| set_meta(tx, "key_mark", &mark)))
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

    /// Gives back the memory that pages are kept in; they are read again when they are needed.
    pub fn rest(&self) {
        // Where it can't be given back it is kept, which is no reason to fail.
        let _ = self.conn.execute_batch("PRAGMA shrink_memory");
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
        conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        conn.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
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

/// The write-ahead log is moved into the database once it has this many pages (16 MB): each time
/// costs two full syncs, which a first sync would do for every few thousand entries by default.
const CHECKPOINT_PAGES: i64 = 4_000;

/// And what is kept of its file afterwards, in bytes.
const WAL_BYTES_KEPT: i64 = 4 << 20;

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
    opening: &Opening<'_>,
) -> rusqlite::Result<(Identity, Option<Moved>)> {
    let is_current = |stored: &Identity, machine: Option<[u8; 16]>| {
        let wants_device = opening.device_id.is_some_and(|id| id != stored.device_id);
        let wants_machine = opening.machine.is_some() && machine != opening.machine;
        !wants_device && !wants_machine
    };
    let is_reading = opening.access == Access::Read;
    if let Some(stored) = read_identity(conn)?
        && (is_reading || is_current(&stored, read_machine(conn)?))
    {
        return Ok((stored, None));
    }
    if is_reading {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been first.
    let (stored, machine) = (read_identity(&tx)?, read_machine(&tx)?);
    let is_copy = machine.is_some() && opening.machine.is_some() && machine != opening.machine;
    if let Some(machine) = opening.machine {
        set_meta(&tx, "machine", &machine)?;
    }
    let (identity, moved) = match stored {
        None => (new_identity(&tx, opening.device_id)?, None),
        Some(from) if is_copy => (new_identity(&tx, opening.device_id)?, Some(Moved { from })),
        Some(stored) => {
            let identity = Identity {
                device_id: opening.device_id.map_or(stored.device_id, str::to_owned),
                ..stored
            };
            write_identity(&tx, &identity)?;
            (identity, None)
        }
    };
    tx.commit()?;
    Ok((identity, moved))
}

/// Random ids, and the device id that settings name. Peers will compare themselves with this log
/// before they believe that it holds what they know.
fn new_identity(conn: &Connection, wanted: Option<&str>) -> rusqlite::Result<Identity> {
    let identity = Identity {
        log_id: LogId::from_bytes(random()),
        device_id: wanted.map_or_else(|| LogId::from_bytes(random()).to_string(), str::to_owned),
    };
    write_identity(conn, &identity)?;
    conn.execute("UPDATE peer_state SET compared_at = NULL", [])?;
    Ok(identity)
}

fn write_identity(conn: &Connection, identity: &Identity) -> rusqlite::Result<()> {
    set_meta(conn, "log_id", &&identity.log_id.as_bytes()[..])?;
    set_meta(conn, "device_id", &identity.device_id)
}

pub(crate) fn set_meta(
    conn: &Connection,
    key: &str,
    value: &dyn rusqlite::ToSql,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)";
    conn.execute(sql, rusqlite::params![key, value])?;
    Ok(())
}

fn read_machine(conn: &Connection) -> rusqlite::Result<Option<[u8; 16]>> {
    let sql = "SELECT value FROM meta WHERE key = 'machine'";
    conn.query_row(sql, [], |row| row.get(0)).optional()
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
