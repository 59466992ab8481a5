//! Where the history lies: the database, its file system, and the spool in front of it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustory_core::spool;
use rustory_store::{Access, Store, spool_dir};

use super::report::Group;
use super::{Doctor, in_shell};
use crate::ctx::now;
use crate::drain;
use crate::error::CommandError;
use crate::ui::{Progress, grouped};

/// Less room than this is soon none.
const FREE_BYTES_MIN: u64 = 100 << 20;

/// A spool file that nobody has read for so long is told of.
const STALE_SECS: i64 = 7 * 86_400;

impl Doctor<'_> {
    /// The database, and a way to read it if there is one.
    pub(super) fn database(&self, progress: &mut Progress) -> (Group, Option<Store>) {
        let path = &self.ctx.settings.db_path;
        let mut group = Group::new(format!("history {}", self.short(path)));
        if !path.exists() {
            group
                .problem("database.missing", "there is no history database yet")
                .why("Commands wait in the spool until there is one.")
                .mend(format!("{} setup", self.rr()));
            return (group, None);
        }
        let dir = self.ctx.settings.data_dir().to_owned();
        self.private(&mut group, "database.private", &[dir]);
        self.database_files(&mut group);
        self.disk(&mut group);
        let opened = Store::open(path, Access::Read, None);
        let store = match opened {
            Ok(store) => store,
            Err(err) => {
                let err = CommandError::from(err);
                let finding = group.problem("database.open", err.message());
                finding.why(err.hinted().unwrap_or_default());
                return (group, None);
            }
        };
        self.content(&mut group, &store, progress);
        (group, Some(store))
    }

    /// SQLite gives the files beside a database its mode, so they are opened and closed together.
    fn database_files(&self, group: &mut Group) {
        let path = &self.ctx.settings.db_path;
        let beside = ["-wal", "-shm"].map(|end| {
            let mut name = path.clone().into_os_string();
            name.push(end);
            PathBuf::from(name)
        });
        for file in std::iter::once(path).chain(&beside) {
            let mut found = Group::new("");
            self.private(&mut found, "database.private", std::slice::from_ref(file));
            if !found.is_well() {
                return group.take_over(found, &in_shell(file), &format!("{}*", in_shell(path)));
            }
        }
    }

    /// That nobody else can read these, and that they are ours.
    fn private(&self, group: &mut Group, id: &'static str, files: &[PathBuf]) {
        let own = rustix::process::geteuid().as_raw();
        for path in files {
            let Ok(meta) = fs::metadata(path) else {
                continue;
            };
            let (name, quoted) = (self.short(path), in_shell(path));
            let mode = meta.permissions().mode() & 0o777;
            if meta.uid() != own {
                group
                    .problem(id, format!("{name} belongs to another user ({})", meta.uid()))
                    .why("A shell of that user made it, perhaps one of `sudo`; this one can't write it.")
                    .mend(format!("sudo chown \"$(id -u)\" {quoted}"));
            } else if mode & 0o077 != 0 {
                let wanted = if meta.is_dir() { "700" } else { "600" };
                group
                    .problem(id, format!("{name} is open to others (mode {mode:04o})"))
                    .why("What you type is in there, passwords by accident included.")
                    .mend(format!("chmod {wanted} {quoted}"));
            }
        }
    }

    /// The file system below: its kind, and how much room it has.
    fn disk(&self, group: &mut Group) {
        let dir = self.ctx.settings.data_dir();
        if let Some(kind) = network_kind(dir) {
            group
                .problem("database.network_fs", format!("{} lies on a network file system ({kind})", self.short(dir)))
                .why(
                    "SQLite's locks can't be relied on there, and two machines that write at once damage the \
                     database. Give each machine a database of its own; they exchange what is in them.",
                )
                .mend("mkdir -p ~/.config/rustory && echo \"db_path = '/var/tmp/$USER-rustory/history.db'\" >> ~/.config/rustory/config.toml");
        }
        let Ok(space) = rustix::fs::statvfs(dir) else {
            return;
        };
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let shown = format!("{} MB free on its disk", grouped(free >> 20));
        if free < FREE_BYTES_MIN {
            group
                .problem("database.space", shown)
                .why("When the disk is full commands can't be recorded any more.")
                .mend(format!("df -h {}", in_shell(dir)));
        } else {
            group.well("database.space", shown);
        }
    }

    fn content(&self, group: &mut Group, store: &Store, progress: &mut Progress) {
        let entries = store.count().map_or("?".to_owned(), grouped);
        let id = "database.sound";
        if self.scope.full {
            let read = store.verify(|rows, of| {
                progress.update(|| format!("read {} of {} entries", grouped(rows), grouped(of)));
            });
            match read {
                Ok(report) if report.is_sound() => {
                    group.well(
                        id,
                        format!("{entries} entries, every one is what was stored"),
                    );
                }
                Ok(report) => {
                    let damaged = report.damaged().len() + report.unreadable.len();
                    let problems = report.problems.first().cloned().unwrap_or_default();
                    group
                        .problem(
                            id,
                            format!("entries are damaged or lost ({damaged} places) {problems}"),
                        )
                        .why(
                            "The disk changed what was stored. Devices that have it send it again.",
                        )
                        .mend(format!("{0} verify; {0} sync", self.rr()));
                }
                Err(err) => {
                    group.problem(id, err.to_string());
                }
            }
        } else {
            match store.quick_check().map(|found| found.into_iter().next()) {
                Ok(None) => group.well(id, format!("{entries} entries, structure is sound")),
                Ok(Some(problem)) => self.damaged(group, &problem),
                Err(err) => self.damaged(group, &err.to_string()),
            }
        }
        if let Ok(conflicts) = store.conflicts()
            && conflicts > 0
        {
            let what = format!(
                "{conflicts} times two entries claimed one id; the same one stayed everywhere"
            );
            group.note("database.conflicts", what);
        }
    }

    fn damaged(&self, group: &mut Group, problem: &str) {
        let path = in_shell(&self.ctx.settings.db_path);
        group
            .problem("database.sound", format!("the database file is damaged: {problem}"))
            .why(
                "Move it away: other devices send what they have, and new commands wait in the spool. What is \
                 readable of the old one comes back by `sqlite3 OLD .recover | sqlite3 NEW`.",
            )
            .mend(format!("mv {path} {path}.damaged && rm -f {path}-wal {path}-shm && {} setup", self.rr()));
    }

    pub(super) fn spool(&self, store: Option<&Store>) -> Group {
        let dir = self.ctx.spool_dir();
        let mut group = Group::new(format!("spool {}", self.short(&dir)));
        let listed = match fs::read_dir(&dir) {
            Ok(listed) => listed,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                group
                    .problem("spool.missing", "the spool directory is not there")
                    .why("Shells have nowhere to put what is typed, and say nothing about it.")
                    .mend(format!("mkdir -m 700 -p {}", in_shell(&dir)));
                return group;
            }
            Err(err) => {
                group
                    .problem(
                        "spool.missing",
                        format!("the spool directory can't be read: {err}"),
                    )
                    .why("Nothing that is typed gets into the history.")
                    .mend(format!(
                        "sudo chown \"$(id -u)\" {0} && chmod 700 {0}",
                        in_shell(&dir)
                    ));
                return group;
            }
        };
        let mut files: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let mut checked = vec![dir.clone()];
        checked.extend(files.iter().cloned());
        self.private(&mut group, "spool.private", &checked);
        if rustix::fs::access(
            &dir,
            rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
        )
        .is_err()
        {
            group
                .problem("spool.unwritable", "the spool directory can't be written")
                .why("Shells have nowhere to put what is typed, and say nothing about it.")
                .mend(format!("chmod 700 {}", in_shell(&dir)));
        }
        let spools = files.iter().filter(|path| {
            path.extension()
                .is_some_and(|it| it == spool_dir::EXTENSION)
        });
        for path in spools {
            self.spool_file(&mut group, path, store);
        }
        self.set_aside(&mut group, &dir);
        if group.is_well() {
            group.well("spool.files", self.waiting(store));
        }
        group
    }

    fn spool_file(&self, group: &mut Group, path: &Path, store: Option<&Store>) {
        let name = self.short(path);
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return,
            Err(err) => {
                group
                    .problem("spool.unreadable", format!("{name} can't be read: {err}"))
                    .why("The commands in it do not get into the history.")
                    .mend(format!(
                        "sudo chown \"$(id -u)\" {0} && chmod 600 {0}",
                        in_shell(path)
                    ));
                return;
            }
        };
        let header = spool::header(&bytes).unwrap_or_default();
        let drained = spool::drain(&bytes, 0, &header, false);
        if !drained.damaged.is_empty() {
            let what = format!(
                "{name} has {} records that can't be read",
                drained.damaged.len()
            );
            group
                .note("spool.damaged", what)
                .why("Torn by a full disk or a power cut, or of a newer hook. The next search takes in the others and sets these aside.")
                .mend(format!("{} list --limit 1", self.rr()));
        }
        let Some(age) = fs::metadata(path)
            .ok()
            .map(|meta| now().as_micros() / 1_000_000 - meta.mtime())
        else {
            return;
        };
        let foreign = !header.hostname.is_empty() && header.hostname != drain::hostname();
        let unread = store.is_some() && !drained.typed.is_empty();
        if age > STALE_SECS && (foreign || unread) {
            let days = age / 86_400;
            let host = visible_host(&header.hostname, foreign);
            group
                .note("spool.stale", format!("{name}{host} was last written {days} days ago"))
                .why("The shell that wrote it may still run; the next search takes in what is complete.")
                .mend(format!("{} list --limit 1", self.rr()));
        }
    }

    /// Records that earlier drains could not read.
    fn set_aside(&self, group: &mut Group, dir: &Path) {
        let path = dir.join(spool_dir::DAMAGED);
        let bytes = fs::metadata(&path).map_or(0, |meta| meta.len());
        if bytes > 0 {
            group
                .note("spool.set_aside", format!("{bytes} unreadable bytes were set aside in {}", self.short(&path)))
                .why("Torn by a full disk or a power cut, or of a newer hook. Nothing else depends on them; look, then remove the file.")
                .mend(format!("cat -v {0} && rm -i {0}", in_shell(&path)));
        }
    }

    fn waiting(&self, store: Option<&Store>) -> String {
        let waiting = store
            .and_then(|store| drain::peek(self.ctx, store).ok())
            .map_or(0, |it| it.len());
        match waiting {
            0 => "nothing waits".to_owned(),
            1 => "1 command waits for the next search or the daemon".to_owned(),
            n => format!("{n} commands wait for the next search or the daemon"),
        }
    }
}

fn visible_host(host: &str, foreign: bool) -> String {
    match foreign {
        true => format!(" (of {host})"),
        false => String::new(),
    }
}

/// What kind of network file system a directory is on, if it is on one.
#[cfg(target_os = "linux")]
fn network_kind(dir: &Path) -> Option<&'static str> {
    let found = rustix::fs::statfs(dir).ok()?;
    // The same numbers have other widths and signs on other machines.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::unnecessary_cast
    )]
    kind_of(found.f_type as u32)
}

#[cfg(not(target_os = "linux"))]
fn network_kind(_: &Path) -> Option<&'static str> {
    None
}

/// By the kernel's numbers (`linux/magic.h`). FUSE may be anything; sshfs is likely.
#[cfg(target_os = "linux")]
fn kind_of(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => "SMB",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x00c3_6400 => "Ceph",
        0x0102_1997 => "9p",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        _ => return None,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_the_kernels_numbers() {
        assert_eq!(kind_of(0x6969), Some("NFS"));
        assert_eq!(kind_of(0xfe53_4d42), Some("SMB"));
        // ext4, tmpfs
        assert_eq!(kind_of(0xef53), None);
        assert_eq!(kind_of(0x0102_1994), None);
        assert_eq!(network_kind(Path::new("/proc")), None);
    }
}
