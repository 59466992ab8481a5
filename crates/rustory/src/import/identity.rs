//! Who an imported command is: the same line gives the same id, whenever and from whichever copy
//! of the file it is read.

use std::borrow::Cow;

use hashbrown::HashMap;
use rustory_core::{EntryId, Timestamp, secrets};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Gives ids to the commands of one file, in its order.
#[derive(Debug)]
pub(super) struct Ids {
    device_id: String,
    /// How often each (time, command) occurred so far.
    occurrences: HashMap<u64, u32, KeyIsHash>,
    buffer: Vec<u8>,
}

impl Ids {
    pub(super) fn new(device_id: &str) -> Ids {
        Ids {
            device_id: device_id.to_owned(),
            occurrences: HashMap::default(),
            buffer: Vec::new(),
        }
    }

    /// The id of a command with a time: made of both and of how many equal ones came before it,
    /// so that lines that go from the head of the file change no other line's id.
    pub(super) fn timed(&mut self, ts: Timestamp, cmd: &[u8]) -> EntryId {
        self.fill(ts, cmd);
        let seen = self.occurrences.entry(xxh3_64(&self.buffer)).or_insert(0);
        let occurrence = *seen;
        *seen += 1;
        self.buffer.extend(occurrence.to_le_bytes());
        EntryId::from_time_and_hash(ts, xxh3_128(&self.buffer))
    }

    /// The ids that a command with a time may have in the log, as what of it is stored.
    ///
    /// The id is made of the stored text alone: made of the secret, it would let whoever reads the
    /// entry try passwords until one fits.
    pub(super) fn timed_with_secrets(&mut self, ts: Timestamp, cmd: &[u8]) -> TimedIds {
        TimedIds {
            as_typed: self.timed(ts, cmd),
            masked: match secrets::mask(cmd) {
                Cow::Borrowed(_) => None,
                Cow::Owned(masked) => Some(self.timed(ts, &masked)),
            },
        }
    }

    /// The id of a command that was given a time of its own.
    pub(super) fn untimed(&mut self, ts: Timestamp, cmd: &[u8]) -> EntryId {
        self.fill(ts, cmd);
        EntryId::from_time_and_hash(ts, xxh3_128(&self.buffer))
    }

    fn fill(&mut self, ts: Timestamp, cmd: &[u8]) {
        self.buffer.clear();
        self.buffer.extend(self.device_id.bytes());
        self.buffer.extend(b"\0import\0");
        self.buffer.extend(ts.as_micros().to_le_bytes());
        self.buffer.extend(cmd);
        self.buffer.push(0);
    }
}

/// See [`Ids::timed_with_secrets`].
#[derive(Clone, Copy, Debug)]
pub(super) struct TimedIds {
    as_typed: EntryId,
    /// `None`: there is no secret in it.
    masked: Option<EntryId>,
}

impl TimedIds {
    /// The id of what is stored now, and the one under which an import that treated secrets
    /// otherwise has stored the same line.
    pub(super) fn stored_and_other(self, record_secrets: bool) -> (EntryId, Option<EntryId>) {
        match self.masked {
            None => (self.as_typed, None),
            Some(masked) if record_secrets => (self.as_typed, Some(masked)),
            Some(masked) => (masked, Some(self.as_typed)),
        }
    }
}

/// What makes two records of one command the same: its text, but for secrets, for blanks at its
/// end and for how many stand in a row. Secrets are masked in the log and not in a file, and shells
/// differ in blanks between what they run and what they write (`HIST_REDUCE_BLANKS`).
pub(super) fn key(cmd: &[u8]) -> u64 {
    let cmd = &*secrets::mask(cmd);
    let is_blank = |byte: u8| byte == b' ' || byte == b'\t';
    let end = cmd
        .iter()
        .rposition(|&byte| !is_blank(byte) && byte != b'\n')
        .map_or(0, |last| last + 1);
    let cmd = &cmd[..end];
    let plain = !cmd.contains(&b'\t') && memchr::memmem::find(cmd, b"  ").is_none();
    if plain {
        return xxh3_64(cmd);
    }
    let mut reduced = Vec::with_capacity(cmd.len());
    for &byte in cmd {
        if !is_blank(byte) {
            reduced.push(byte);
        } else if reduced.last() != Some(&b' ') {
            reduced.push(b' ');
        }
    }
    xxh3_64(&reduced)
}

/// For maps whose keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyIsHash;

impl std::hash::BuildHasher for KeyIsHash {
    type Hasher = Identity;

    fn build_hasher(&self) -> Identity {
        Identity(0)
    }
}

#[derive(Debug)]
pub(super) struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(lines: &[(i64, &str)]) -> Vec<EntryId> {
        let mut ids = Ids::new("dev");
        lines
            .iter()
            .map(|(secs, cmd)| ids.timed(Timestamp::from_secs(*secs).unwrap(), cmd.as_bytes()))
            .collect()
    }

    #[test]
    fn equal_lines_have_ids_of_their_own() {
        let ids = ids(&[(1, "a"), (1, "a"), (2, "a"), (1, "b")]);
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), 4);
    }

    #[test]
    fn ids_do_not_depend_on_what_stood_before() {
        let whole = ids(&[(1, "a"), (2, "b"), (3, "c")]);
        assert_eq!(whole[1..], ids(&[(2, "b"), (3, "c")]));
        let other = Ids::new("other").timed(Timestamp::from_secs(1).unwrap(), b"a");
        assert_ne!(whole[0], other);
    }

    #[test]
    fn blanks_do_not_make_another_command() {
        for same in [
            "git  commit",
            "git commit ",
            "git\tcommit",
            "git \t commit\n",
        ] {
            assert_eq!(key(same.as_bytes()), key(b"git commit"), "{same:?}");
        }
        assert_eq!(key(b"TOKEN=a x"), key(b"TOKEN=[masked] x"));
        assert_ne!(key(b"gitcommit"), key(b"git commit"));
        assert_ne!(key(b"a\nb"), key(b"a b"));
    }
}
