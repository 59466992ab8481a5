//! The two key files: the swarm key that all devices share, and the identity key of one device.
//!
//! Apart because they alone decide who is who, and because their parsers read what people copy
//! around by hand: strict here, so that nothing malformed reaches libp2p (its own parser of swarm
//! keys panics on some input).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libp2p::PeerId;
use libp2p::identity::{KeyType, Keypair};
use libp2p::pnet::PreSharedKey;

/// Largest key file that is read, in bytes; both kinds take about 100.
const KEY_FILE_BYTES_MAX: u64 = 4 * 1024;

const SWARM_KEY_TYPE: &str = "/key/swarm/psk/1.0.0/";
const SWARM_KEY_ENCODING: &str = "/base16/";
const SWARM_KEY_BYTES: usize = 32;

/// Why a key file could not be used or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no such file.
    #[error("there is no key file `{}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is there but the system does not let us read it.
    #[error("the key file `{}` can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds no key of this kind.
    #[error("the key file `{}` is malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: MalformedKey,
    },
    /// It is there already and is never overwritten.
    #[error("the key file `{}` exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It could not be written.
    #[error("the key file `{}` can't be written", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no random bytes for a new key.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// What is wrong with the text of a key. Never tells the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedKey {
    /// The first line of a swarm key.
    #[error("its first line is not `{SWARM_KEY_TYPE}`")]
    Type,
    /// The second line of a swarm key.
    #[error("its second line is not `{SWARM_KEY_ENCODING}`, the only encoding that is read")]
    Encoding,
    /// The third line of a swarm key.
    #[error("its third line is not 64 hexadecimal digits")]
    Digits,
    /// Something behind a swarm key.
    #[error("something follows the key")]
    Trailing,
    /// An identity key is base64.
    #[error("it is not base64 on one line")]
    Base64,
    /// An identity key holds a libp2p private key.
    #[error("it holds no ed25519 private key")]
    NotEd25519,
    /// A key file is a short text.
    #[error("it is not a short text")]
    NotText,
}

/// The key that all devices of one swarm share, and nobody else has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SwarmKey([u8; SWARM_KEY_BYTES]);

/// Redacted: shows the fingerprint.
impl fmt::Debug for SwarmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SwarmKey({})", self.fingerprint())
    }
}

/// Tells swarm keys apart without giving them away; the same as go-libp2p's. 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The first four bytes, as eight digits: what messages show.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SwarmKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`KeyFileError::NoRandomness`].
    pub fn generate() -> Result<SwarmKey, KeyFileError> {
        let mut bytes = [0; SWARM_KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| KeyFileError::NoRandomness)?;
        Ok(SwarmKey(bytes))
    }

    /// Reads the form that kubo and go-ipfs write: the lines `/key/swarm/psk/1.0.0/`, `/base16/` and
    /// 64 hexadecimal digits. Either line ending, and blank space behind the key, are fine.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<SwarmKey, MalformedKey> {
        let mut lines = text.lines();
        if lines.next().map(str::trim_end) != Some(SWARM_KEY_TYPE) {
            return Err(MalformedKey::Type);
        }
        if lines.next().map(str::trim_end) != Some(SWARM_KEY_ENCODING) {
            return Err(MalformedKey::Encoding);
        }
        let digits = lines.next().unwrap_or_default().trim_end();
        let bytes = from_hex(digits).ok_or(MalformedKey::Digits)?;
        if lines.any(|line| !line.trim_end().is_empty()) {
            return Err(MalformedKey::Trailing);
        }
        Ok(SwarmKey(bytes))
    }

    /// The text of its file. Secret.
    #[must_use]
    pub fn to_text(&self) -> String {
        PreSharedKey::new(self.0).to_key_file()
    }

    /// The key alone, as a pairing code carries it. Secret.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SWARM_KEY_BYTES] {
        self.0
    }

    /// The opposite of [`SwarmKey::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; SWARM_KEY_BYTES]) -> SwarmKey {
        SwarmKey(bytes)
    }

    /// What may be shown of it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(PreSharedKey::new(self.0).fingerprint().to_string())
    }

    /// Reads the key file; never makes one.
    ///
    /// # Errors
    /// [`KeyFileError::Missing`], [`KeyFileError::Unreadable`] or [`KeyFileError::Malformed`].
    pub fn load(path: &Path) -> Result<SwarmKey, KeyFileError> {
        read_key(path, SwarmKey::parse)
    }

    /// Writes the key to a new file that only its owner may read, from its first byte on.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] or [`KeyFileError::Unwritable`].
    pub fn create(&self, path: &Path) -> Result<(), KeyFileError> {
        write_key(path, &self.to_text())
    }
}

/// A device's, or a hub's, own key. Its [`PeerId`] is the public half.
#[derive(Clone)]
pub struct IdentityKey(Keypair);

/// Redacted: shows the peer id.
impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({})", self.peer_id())
    }
}

impl IdentityKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`KeyFileError::NoRandomness`].
    pub fn generate() -> Result<IdentityKey, KeyFileError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| KeyFileError::NoRandomness)?;
        let pair =
            Keypair::ed25519_from_bytes(&mut seed).map_err(|_| KeyFileError::NoRandomness)?;
        Ok(IdentityKey(pair))
    }

    /// Reads base64 of libp2p's protobuf form, on one line: what survives a Kubernetes Secret and a
    /// terminal. kubo's `Identity.PrivKey` is the same.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<IdentityKey, MalformedKey> {
        let bytes = STANDARD
            .decode(text.trim())
            .map_err(|_| MalformedKey::Base64)?;
        let pair = Keypair::from_protobuf_encoding(&bytes).map_err(|_| MalformedKey::NotEd25519)?;
        match pair.key_type() {
            KeyType::Ed25519 => Ok(IdentityKey(pair)),
            _ => Err(MalformedKey::NotEd25519),
        }
    }

    /// The text of its file. Secret.
    #[must_use]
    pub fn to_text(&self) -> String {
        let bytes = self
            .0
            .to_protobuf_encoding()
            .expect("an ed25519 key has a protobuf form");
        STANDARD.encode(bytes) + "\n"
    }

    /// Who this is to others.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.0.public().to_peer_id()
    }

    /// The public half, 32 bytes, as a pairing code carries it; [`peer_of_public`] is the way back.
    #[must_use]
    pub fn public_bytes(&self) -> [u8; 32] {
        let public = self.0.public().try_into_ed25519();
        public.expect("no other kind is read or made").to_bytes()
    }

    /// Reads the key file; never makes one.
    ///
    /// # Errors
    /// [`KeyFileError::Missing`], [`KeyFileError::Unreadable`] or [`KeyFileError::Malformed`].
    pub fn load(path: &Path) -> Result<IdentityKey, KeyFileError> {
        read_key(path, IdentityKey::parse)
    }

    /// Writes the key to a new file that only its owner may read, from its first byte on.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] or [`KeyFileError::Unwritable`].
    pub fn create(&self, path: &Path) -> Result<(), KeyFileError> {
        write_key(path, &self.to_text())
    }

    /// Reads the key file, or makes one with a new key where there is none.
    ///
    /// # Errors
    /// Whatever [`IdentityKey::load`] and [`IdentityKey::create`] say.
    pub fn load_or_create(path: &Path) -> Result<IdentityKey, KeyFileError> {
        match IdentityKey::load(path) {
            Err(KeyFileError::Missing { .. }) => {}
            loaded => return loaded,
        }
        let key = IdentityKey::generate()?;
        match key.create(path) {
            // Another process was faster: its key is the one.
            Err(KeyFileError::Exists { .. }) => IdentityKey::load(path),
            created => created.map(|()| key),
        }
    }

    pub(super) fn pair(&self) -> &Keypair {
        &self.0
    }
}

/// The peer id that belongs to the public half of an identity key; `None`: it is none.
#[must_use]
pub fn peer_of_public(bytes: &[u8; 32]) -> Option<PeerId> {
    let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(bytes).ok()?;
    Some(libp2p::identity::PublicKey::from(key).to_peer_id())
}

/// Who may read a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Its owner, as for a key in somebody's home.
    Owner,
    /// Its group too, as for a key that a Kubernetes Secret mounts: root's, 0440, and read by the
    /// group of the pod.
    Group,
}

/// The permission bits of a key file when more than `readers` may read it, or others than its owner
/// may change it. What is no file is nothing to be told of here: it can't be read either.
///
/// # Errors
/// Whatever the system says.
pub fn exposed_mode(path: &Path, readers: Readers) -> io::Result<Option<u32>> {
    let too_much = match readers {
        Readers::Owner => 0o077,
        Readers::Group => 0o027,
    };
    let meta = std::fs::metadata(path)?;
    let mode = meta.permissions().mode() & 0o777;
    Ok((meta.is_file() && mode & too_much != 0).then_some(mode))
}

fn from_hex(digits: &str) -> Option<[u8; SWARM_KEY_BYTES]> {
    let digits = digits.as_bytes();
    if digits.len() != 2 * SWARM_KEY_BYTES {
        return None;
    }
    let mut bytes = [0; SWARM_KEY_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}

fn read_key<K>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<K, MalformedKey>,
) -> Result<K, KeyFileError> {
    let text = read_text(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing { path: path.into() },
        _ => KeyFileError::Unreadable {
            path: path.into(),
            source,
        },
    })?;
    text.ok_or(MalformedKey::NotText)
        .and_then(|text| parse(&text))
        .map_err(|source| KeyFileError::Malformed {
            path: path.into(),
            source,
        })
}

/// `None`: too long, or not UTF-8.
fn read_text(path: &Path) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(KEY_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    let short = bytes.len() as u64 <= KEY_FILE_BYTES_MAX;
    Ok(String::from_utf8(bytes).ok().filter(|_| short))
}

fn write_key(path: &Path, text: &str) -> Result<(), KeyFileError> {
    let unwritable = |source| KeyFileError::Unwritable {
        path: path.into(),
        source,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.into() },
            _ => unwritable(source),
        })?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(|source| {
        // Half a key is worse than none: it would be malformed for ever.
        let _ = std::fs::remove_file(path);
        unwritable(source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KUBO: &str = "/key/swarm/psk/1.0.0/\n/base16/\n\
        6189c5cf0b87fb800c1a9feeda73c6ab5e998db48fb9e6a978575c770ceef683\n";

    #[test]
    fn a_swarm_key_of_kubo_has_the_fingerprint_that_go_shows() {
        let key = SwarmKey::parse(KUBO).unwrap();
        assert_eq!(
            key.fingerprint().to_string(),
            "45fc986bbc9388a11d939df26f730f0c"
        );
        assert_eq!(key.fingerprint().short(), "45fc986b");
        assert_eq!(key.to_text(), KUBO);
        assert_eq!(SwarmKey::from_bytes(key.to_bytes()).to_text(), KUBO);
        assert!(!format!("{key:?}").contains("6189"));
    }

    #[test]
    fn swarm_keys_survive_editors_and_no_more() {
        let parse = |text: &str| SwarmKey::parse(text).map(|key| key.to_text());
        for text in [
            KUBO.replace('\n', "\r\n"),
            KUBO.trim_end().to_owned(),
            KUBO.to_owned() + "\n \n",
            KUBO.replace("6189c5cf", "6189C5CF"),
        ] {
            assert_eq!(parse(&text).as_deref(), Ok(KUBO), "{text:?}");
        }
        for (text, wrong) in [
            (String::new(), MalformedKey::Type),
            ("\u{feff}".to_owned() + KUBO, MalformedKey::Type),
            ("\n".to_owned() + KUBO, MalformedKey::Type),
            (KUBO.replace("16/", "64/"), MalformedKey::Encoding),
            (KUBO.replace("f683", "f68"), MalformedKey::Digits),
            (KUBO.replace("f683", "f68g"), MalformedKey::Digits),
            (KUBO.replace("61", "+b"), MalformedKey::Digits),
            // 64 bytes, but fewer characters: libp2p's own parser panics here.
            (KUBO.replace("6189c5", "6한c5"), MalformedKey::Digits),
            (KUBO.to_owned() + "more", MalformedKey::Trailing),
        ] {
            assert_eq!(parse(&text), Err(wrong), "{text:?}");
        }
    }

    #[test]
    fn a_peer_id_is_known_by_its_public_key() {
        let key = IdentityKey::generate().unwrap();
        assert_eq!(peer_of_public(&key.public_bytes()), Some(key.peer_id()));
    }

    #[test]
    fn an_identity_survives_its_file_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.key");
        assert!(matches!(
            IdentityKey::load(&path),
            Err(KeyFileError::Missing { .. })
        ));
        let made = IdentityKey::load_or_create(&path).unwrap();
        assert_eq!(IdentityKey::load(&path).unwrap().peer_id(), made.peer_id());
        let again = IdentityKey::load_or_create(&path).unwrap();
        assert_eq!(again.peer_id(), made.peer_id());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            made.create(&path),
            Err(KeyFileError::Exists { .. })
        ));
        assert_eq!(exposed_mode(&path, Readers::Owner).unwrap(), None);
    }

    #[test]
    fn a_mounted_secret_loads_and_an_open_file_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("swarm.key");
        std::fs::write(&path, KUBO).unwrap();
        let exposed = |mode, readers| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(SwarmKey::load(&path).is_ok());
            exposed_mode(&path, readers).unwrap()
        };
        assert_eq!(exposed(0o440, Readers::Group), None);
        assert_eq!(exposed(0o440, Readers::Owner), Some(0o440));
        assert_eq!(exposed(0o400, Readers::Owner), None);
        for readers in [Readers::Owner, Readers::Group] {
            assert_eq!(exposed(0o644, readers), Some(0o644));
            assert_eq!(exposed(0o620, readers), Some(0o620));
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let check = |bytes: &[u8], wrong: MalformedKey| {
            std::fs::write(&path, bytes).unwrap();
            match IdentityKey::load(&path) {
                Err(KeyFileError::Malformed { source, .. }) => assert_eq!(source, wrong),
                other => panic!("{other:?}"),
            }
        };
        check(b"not base64!", MalformedKey::Base64);
        check(b"aGVsbG8=", MalformedKey::NotEd25519);
        check(&[0xff; 10], MalformedKey::NotText);
        check(&[b'A'; 10_000], MalformedKey::NotText);
        assert!(matches!(
            IdentityKey::load(dir.path()),
            Err(KeyFileError::Unreadable { .. })
        ));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC*", digits in "\\PC{20,64}") {
            let _ = SwarmKey::parse(&text);
            let _ = IdentityKey::parse(&text);
            let _ = SwarmKey::parse(&format!("{SWARM_KEY_TYPE}\n{SWARM_KEY_ENCODING}\n{digits}"));
        }
    }
}
