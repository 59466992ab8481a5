//! The spool directory: what hooks appended, on its way into the log.
//!
//! Entries and the offset that covers them are one transaction, so a crash anywhere neither loses
//! nor repeats one. A file goes only when its session is gone, all of it is ingested, and that is
//! on the disk for sure. What the log must not hold (secrets, commands that the rules keep out) is
//! blanked before that, since a shell may stay open for weeks.

use std::borrow::Cow;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustory_core::limits::CMD_BYTES_MAX;
use rustory_core::rules::{Rules, Skip};
use rustory_core::spool::{self, Header, Typed};
use rustory_core::{Entry, EntryId, Extra, Timestamp};

use crate::error::StoreError;
use crate::open::{Store, make_private_dir, random};
use crate::write::Appended;

/// The ending of a spool file's name.
pub const EXTENSION: &str = "spool";

/// The ending of a file beside it that some shells need for themselves; never holds a command.
const SCRATCH_EXTENSION: &str = "spool~";

/// What an entry gets that the shell does not know.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// Whose history it is.
    pub user_id: String,
    /// This host's name, for records whose header is lost.
    pub hostname: String,
    /// Of this rr.
    pub version: String,
    /// Now, for commands of shells without a clock.
    pub now: Timestamp,
}

/// What a drain did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries ingested.
    pub ingested: u64,
    /// Commands that the rules kept out.
    pub skipped: u64,
    /// Of those: longer than [`CMD_BYTES_MAX`].
    pub too_long: u64,
    /// Records that could not be read; their bytes are kept in [`DAMAGED`].
    pub damaged: u64,
}

/// Where the bytes of unreadable records are kept, within the spool directory.
pub const DAMAGED: &str = "damaged";

/// Read at most this much of a file in one transaction, so that a huge spool costs bounded memory.
/// It must hold more than one largest record.
const CHUNK_BYTES: u64 = 8 << 20;
const _: () = assert!(CHUNK_BYTES > 2 * CMD_BYTES_MAX as u64);

/// A spool file as it lies there.
#[derive(Debug)]
struct SpoolFile {
    path: PathBuf,
    name: String,
    /// Tells it from an earlier file of the same name: inode and time of birth, folded into one
    /// number, since file systems give inodes out again.
    inode: u64,
    len: u64,
    mtime: i64,
}

impl SpoolFile {
    /// Whether its path still leads to this very file.
    fn is_there(&self) -> bool {
        spool_file(self.path.clone()).is_some_and(|now| now.inode == self.inode)
    }
}

/// Tells whether a session still runs. The operating system's side of it is the caller's.
pub trait Sessions {
    /// Whether the shell of this header, whose spool was last written at `mtime` (seconds since
    /// 1970), is certain to write no more.
    fn is_over(&self, header: &Header, mtime: i64) -> bool;
}

/// Makes the spool directory, 0700.
///
/// # Errors
/// [`StoreError::Io`].
pub fn create(dir: &Path) -> Result<(), StoreError> {
    make_private_dir(dir).map_err(|err| StoreError::io(dir, err))
}

/// Bytes that wait in the spool, as far as the log does not hold them yet. Reads the log only.
///
/// # Errors
/// [`StoreError`].
pub fn pending_bytes(store: &Store, dir: &Path) -> Result<u64, StoreError> {
    let mut pending = 0;
    for file in files(dir)? {
        pending += file.len.saturating_sub(store.spool_consumed(&file)?);
    }
    Ok(pending)
}

/// Commands that wait in the spool, newest last, without touching the log: what a search shows
/// when the log is locked or can't be written.
///
/// # Errors
/// [`StoreError`].
pub fn peek(
    store: &Store,
    dir: &Path,
    rules: &Rules,
    sessions: &impl Sessions,
) -> Result<Vec<Typed>, StoreError> {
    let mut waiting = Vec::new();
    for file in files(dir)? {
        let consumed = store.spool_consumed(&file)?;
        if consumed >= file.len {
            continue;
        }
        let Some(chunk) = Chunk::read(&file, consumed, sessions)? else {
            continue;
        };
        for mut typed in chunk.drained.typed {
            if let Ok(cmd) = rules.recorded(&typed.cmd, &typed.cwd) {
                typed.cmd = cmd.into_owned().into();
                waiting.push(typed);
            }
        }
    }
    waiting.sort_by_key(|typed| typed.start);
    Ok(waiting)
}

/// Ingests everything that is complete in `dir`, then removes the files that are done for.
///
/// # Errors
/// [`StoreError`]; whatever was not ingested stays in the spool for the next drain.
pub fn drain(
    store: &mut Store,
    dir: &Path,
    rules: &Rules,
    stamp: &Stamp,
    sessions: &impl Sessions,
) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let mut over = Vec::new();
    for file in files(dir)? {
        if drain_file(store, dir, &file, rules, stamp, sessions, &mut report)? {
            over.push(file);
        }
    }
    if !over.is_empty() {
        remove(store, &over)?;
    }
    Ok(report)
}

/// Ingests one file. Returns whether it is done for: its session over, all of it in the log.
fn drain_file(
    store: &mut Store,
    dir: &Path,
    file: &SpoolFile,
    rules: &Rules,
    stamp: &Stamp,
    sessions: &impl Sessions,
    report: &mut Report,
) -> Result<bool, StoreError> {
    let mut consumed = store.spool_consumed(file)?;
    loop {
        let Some(chunk) = Chunk::read(file, consumed, sessions)? else {
            return Ok(false);
        };
        if chunk.drained.consumed > 0 {
            // Before the commit: a crash in between keeps them twice rather than never.
            keep_damaged(dir, &chunk)?;
            let start = consumed;
            let committed = commit(store, file, start, &chunk, rules, stamp, report)?;
            consumed = committed.consumed;
            // A session that is over loses its file in a moment.
            if committed.withheld && !chunk.over {
                // Tried once: a busy log or a file that can't be written is no reason to fail.
                let _ = blank(store, file, start..consumed);
            }
        }
        if chunk.reached_end || chunk.drained.consumed == 0 {
            return Ok(chunk.over && consumed >= file.len);
        }
    }
}

/// A header is at most this long: five short fields.
const HEADER_BYTES: u64 = 4096;

/// A piece of a spool file, read and parsed.
struct Chunk {
    bytes: Vec<u8>,
    drained: spool::Drained,
    /// The session writes no more.
    over: bool,
    /// The piece reaches the end of the file.
    reached_end: bool,
}

impl Chunk {
    /// Reads what lies behind `consumed`; `None` when there is nothing that we can read.
    fn read(
        file: &SpoolFile,
        consumed: u64,
        sessions: &impl Sessions,
    ) -> Result<Option<Chunk>, StoreError> {
        let read = || -> io::Result<(Vec<u8>, Vec<u8>)> {
            let head = read_range(&file.path, 0, HEADER_BYTES)?;
            Ok((head, read_range(&file.path, consumed, CHUNK_BYTES)?))
        };
        let (head, bytes) = match read() {
            Ok(read) => read,
            // Gone, or of another user (`sudo -s` with HOME kept): that one's own drain takes it.
            Err(err)
                if matches!(
                    err.kind(),
                    ErrorKind::NotFound | ErrorKind::PermissionDenied
                ) =>
            {
                return Ok(None);
            }
            Err(err) => return Err(StoreError::io(&file.path, err)),
        };
        let header = spool::header(&head).unwrap_or_default();
        let reached_end = (bytes.len() as u64) < CHUNK_BYTES;
        let over = reached_end && sessions.is_over(&header, file.mtime);
        let mut drained = spool::drain(&bytes, 0, &header, over);
        if !reached_end && drained.consumed == 0 {
            // More than a chunk without one readable record: garbage, not a command.
            drained.consumed = bytes.len();
            drained.damaged = std::iter::once(0..bytes.len()).collect();
        }
        Ok(Some(Chunk {
            bytes,
            drained,
            over,
            reached_end,
        }))
    }
}

/// What a commit came to.
struct Committed {
    /// How far the file is ingested now.
    consumed: u64,
    /// The file holds something there that the log does not.
    withheld: bool,
}

fn commit(
    store: &mut Store,
    file: &SpoolFile,
    consumed: u64,
    chunk: &Chunk,
    rules: &Rules,
    stamp: &Stamp,
    report: &mut Report,
) -> Result<Committed, StoreError> {
    let drained = &chunk.drained;
    let mut withheld = false;
    let mut done = Report {
        damaged: drained.damaged.len() as u64,
        ..Report::default()
    };
    let end = consumed + drained.consumed as u64;
    let committed = store.write(|writer| -> Result<bool, StoreError> {
        // Another drain may have been faster: under the lock, its offset counts. It may even be
        // done with the file; a file is removed before its offset is, so one whose offset is not
        // there must itself be there still.
        if writer.spool_consumed(&file.name, file.inode)? != consumed || !file.is_there() {
            return Ok(false);
        }
        for typed in &drained.typed {
            match rules.recorded(&typed.cmd, &typed.cwd) {
                Ok(cmd) => {
                    withheld |= matches!(cmd, Cow::Owned(_));
                    let appended = writer.append(&entry(typed, cmd.into_owned(), stamp))?;
                    done.ingested += u64::from(appended != Appended::Known);
                }
                Err(skip) => {
                    withheld = true;
                    done.skipped += 1;
                    done.too_long += u64::from(skip == Skip::TooLong);
                }
            }
        }
        writer.set_spool_consumed(&file.name, file.inode, end)?;
        Ok(true)
    })?;
    if !committed {
        // What was faster goes on from there; this drain is done with the file.
        return Ok(Committed {
            consumed: file.len,
            withheld: false,
        });
    }
    report.ingested += done.ingested;
    report.skipped += done.skipped;
    report.too_long += done.too_long;
    report.damaged += done.damaged;
    Ok(Committed {
        consumed: end,
        withheld,
    })
}

/// Overwrites what is ingested of a file, but for its header, once that is on the disk for sure.
/// Nobody reads it again, and what its shell appends lies behind it.
fn blank(store: &mut Store, file: &SpoolFile, range: Range<u64>) -> Result<(), StoreError> {
    store.set_synchronous("full")?;
    let synced = store.write(|writer| {
        writer.set_spool_consumed(&file.name, file.inode, range.end)?;
        Ok::<(), StoreError>(())
    });
    store.set_synchronous("normal")?;
    synced?;
    let overwrite = || -> io::Result<()> {
        let head = read_range(&file.path, 0, HEADER_BYTES)?;
        let start = range.start.max(spool::header_len(&head) as u64);
        let mut open = fs::OpenOptions::new().write(true).open(&file.path)?;
        open.seek(io::SeekFrom::Start(start))?;
        io::copy(
            &mut io::repeat(b'\n').take(range.end.saturating_sub(start)),
            &mut open,
        )?;
        open.sync_data()
    };
    overwrite().map_err(|err| StoreError::io(&file.path, err))
}

/// The entry that a typed command becomes, with what of it is recorded as `cmd`. Its device and
/// number are set when it is appended.
#[must_use]
pub fn entry(typed: &Typed, cmd: Vec<u8>, stamp: &Stamp) -> Entry {
    let ts = typed.start.unwrap_or(stamp.now);
    let hostname = match typed.hostname.as_str() {
        "" => &stamp.hostname,
        name => name,
    };
    Entry {
        id: EntryId::from_time_and_random(ts, random()),
        device_id: String::new(),
        user_id: stamp.user_id.clone(),
        ts,
        cmd: cmd.into(),
        cwd: typed.cwd.clone(),
        exit_code: typed.exit_code,
        duration_ms: typed.duration_ms,
        shell: typed.shell.clone(),
        hostname: hostname.to_owned(),
        version: stamp.version.clone(),
        device_seq: None,
        session: typed.session.clone(),
        extra: Extra::new(),
    }
}

fn keep_damaged(dir: &Path, chunk: &Chunk) -> Result<(), StoreError> {
    if chunk.drained.damaged.is_empty() {
        return Ok(());
    }
    let path = dir.join(DAMAGED);
    let keep = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)?;
        for range in &chunk.drained.damaged {
            file.write_all(&chunk.bytes[range.clone()])?;
        }
        Ok(())
    };
    keep().map_err(|err| StoreError::io(&path, err))
}

/// Removes files whose sessions are over and whose every byte is in the log.
///
/// First the marks are committed with a full sync, which takes every earlier commit to the disk
/// with it; then the files go; then the marks. A crash in between leaves a mark without a file,
/// or a file whose mark says that it is ingested, and either is cleaned up next time.
fn remove(store: &mut Store, files: &[SpoolFile]) -> Result<(), StoreError> {
    store.set_synchronous("full")?;
    let marked = store.mark_done(files);
    store.set_synchronous("normal")?;
    marked?;
    for file in files {
        // Appended to after all? Then it stays, and its new bytes are found next time.
        let unchanged = fs::metadata(&file.path).is_ok_and(|meta| meta.len() == file.len);
        if unchanged {
            match fs::remove_file(&file.path) {
                // Another drain was faster.
                Err(err) if err.kind() == ErrorKind::NotFound => {}
                removed => removed.map_err(|err| StoreError::io(&file.path, err))?,
            }
            // Where bash before 5.1 reads its history number back; most shells have none.
            let _ = fs::remove_file(file.path.with_extension(SCRATCH_EXTENSION));
        }
    }
    store.forget_done(files)
}

impl Store {
    fn spool_consumed(&self, file: &SpoolFile) -> Result<u64, StoreError> {
        use rusqlite::OptionalExtension as _;
        let sql = "SELECT consumed FROM spool_files WHERE name = ?1 AND inode = ?2";
        self.conn
            .prepare_cached(sql)
            .and_then(|mut query| {
                query
                    .query_row((&file.name, file.inode.cast_signed()), |row| {
                        row.get::<_, i64>(0)
                    })
                    .optional()
            })
            .map(|consumed| consumed.map_or(0, i64::cast_unsigned))
            .map_err(|err| self.err(err))
    }

    fn set_synchronous(&self, level: &str) -> Result<(), StoreError> {
        self.conn
            .pragma_update(None, "synchronous", level)
            .map_err(|err| self.err(err))
    }

    fn mark_done(&mut self, files: &[SpoolFile]) -> Result<(), StoreError> {
        self.write(|writer| {
            for file in files {
                writer.run(|tx| {
                    tx.prepare_cached("UPDATE spool_files SET done = 1 WHERE name = ?1")?
                        .execute([&file.name])
                })?;
            }
            Ok(())
        })
    }

    fn forget_done(&mut self, files: &[SpoolFile]) -> Result<(), StoreError> {
        self.write(|writer| {
            for file in files.iter().filter(|file| !file.path.exists()) {
                writer.run(|tx| {
                    tx.prepare_cached("DELETE FROM spool_files WHERE name = ?1")?
                        .execute([&file.name])
                })?;
            }
            Ok(())
        })
    }
}

/// The spool files, oldest first. A missing directory has none.
fn files(dir: &Path) -> Result<Vec<SpoolFile>, StoreError> {
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(StoreError::io(dir, err)),
    };
    let mut files: Vec<SpoolFile> = listed
        .filter_map(Result::ok)
        .filter_map(|item| spool_file(item.path()))
        .collect();
    files.sort_by_key(|file| (file.mtime, file.inode));
    Ok(files)
}

/// `None` for what is no spool file, or went away in the meantime.
fn spool_file(path: PathBuf) -> Option<SpoolFile> {
    if path.extension()? != EXTENSION {
        return None;
    }
    let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    Some(SpoolFile {
        name: path.file_name()?.to_str()?.to_owned(),
        inode: meta.ino() ^ born_nanos(&meta).rotate_left(20),
        len: meta.len(),
        mtime: meta.mtime(),
        path,
    })
}

/// 0 where the file system keeps no time of birth.
fn born_nanos(meta: &fs::Metadata) -> u64 {
    meta.created()
        .ok()
        .and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |born| born.as_nanos() as u64)
}

fn read_range(path: &Path, from: u64, max: u64) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    file.seek(io::SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
