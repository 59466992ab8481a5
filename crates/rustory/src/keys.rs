//! Key files, a device's and a hub's, with what to do about each that can't be used.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustory_net::p2p::{IdentityKey, KeyFileError, Readers, SwarmKey, exposed_mode};
use rustory_store::Store;

use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::settings::Settings;

/// What a device needs to take part in a swarm.
pub(crate) struct Keys {
    pub(crate) identity: IdentityKey,
    pub(crate) swarm: SwarmKey,
}

/// Reads both. The identity key is the device's own and is made when it is not there; the swarm key
/// is shared, so a new one would only keep this device apart.
pub(crate) fn load(ctx: &Ctx, store: &mut Store) -> Result<Keys, CommandError> {
    let settings = &ctx.settings;
    for (path, setting) in [
        (&settings.swarm_key_path, "swarm_key_path"),
        (&settings.identity_key_path, "identity_key_path"),
    ] {
        match readers(settings, setting) {
            Readers::Group => warn_if_exposed(path),
            Readers::Owner => refuse_if_exposed(path)?,
        }
    }
    let swarm = swarm(&settings.swarm_key_path)?;
    let identity = own_identity(ctx, store)?;
    enter_swarm(store, &swarm)?;
    Ok(Keys { identity, swarm })
}

/// Who may read the key file that `setting` names: beside the database its owner alone, but a place
/// that somebody chose may be a mounted secret, which a group reads, and whose mode is not up to us.
pub(crate) fn readers(settings: &Settings, setting: &str) -> Readers {
    match settings.origins.contains_key(setting) {
        true => Readers::Group,
        false => Readers::Owner,
    }
}

/// Has the log know in which swarm this device is: peers of another one are forgotten.
pub(crate) fn enter_swarm(store: &mut Store, key: &SwarmKey) -> Result<(), CommandError> {
    store.enter_swarm(key.fingerprint().to_string().as_bytes())?;
    Ok(())
}

/// The swarm key that is here, if there is one.
pub(crate) fn swarm_if_any(path: &Path) -> Result<Option<SwarmKey>, CommandError> {
    match SwarmKey::load(path) {
        Err(KeyFileError::Missing { .. }) => Ok(None),
        _ => swarm(path).map(Some),
    }
}

/// Makes `key` the swarm key, in one step and readable by its owner alone. One that was there before
/// stays beside it as `swarm.key.left`.
pub(crate) fn put_swarm(path: &Path, key: &SwarmKey) -> Result<(), CommandError> {
    make_private_dir(path)?;
    let (new, left) = (
        path.with_extension("key.new"),
        path.with_extension("key.left"),
    );
    let io = |err| CommandError::failed(format!("`{}`: {err}", path.display()));
    let _ = std::fs::remove_file(&new);
    key.create(&new).map_err(explained)?;
    if path.exists() {
        let _ = std::fs::remove_file(&left);
        std::fs::hard_link(path, &left)
            .or_else(|_| std::fs::rename(path, &left))
            .map_err(io)?;
    }
    std::fs::rename(new, path).map_err(io)
}

/// The directory of a key file, for its owner alone where it has to be made.
pub(crate) fn make_private_dir(file: &Path) -> Result<(), CommandError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.map_err(|err| CommandError::failed(format!("`{}`: {err}", dir.display())))
}

/// This device's identity key, unless the one that is here is a copy of another device's.
///
/// Two peers with one id can't even meet each other, to find out that their databases are copies. So
/// the log remembers which file the key is in: the same key in another file, or on another machine,
/// was copied together with the log. A key in a place of the user's own choice is theirs to look
/// after.
fn own_identity(ctx: &Ctx, store: &mut Store) -> Result<IdentityKey, CommandError> {
    let path = &ctx.settings.identity_key_path;
    let key = IdentityKey::load_or_create(path).map_err(|err| match &err {
        KeyFileError::Malformed { .. } => CommandError::from(err)
            .hint("move it away: a new one is made, and the others see this device as a new peer"),
        _ => explained(err),
    })?;
    if ctx.settings.origins.contains_key("identity_key_path") {
        return Ok(key);
    }
    let mark = mark(path, &key);
    let before = store.key_mark()?;
    let same_key = |before: &[u8]| before.get(PLACE_BYTES..) == mark.get(PLACE_BYTES..);
    let key = match before {
        Some(before) if before == mark => return Ok(key),
        Some(before) if same_key(&before) => {
            ctx.note("this device's identity key was copied from another device together with the database: it gets a new one");
            replace(path)?
        }
        _ => key,
    };
    store.set_key_mark(&self::mark(path, &key))?;
    Ok(key)
}

const PLACE_BYTES: usize = 16;

/// Where a key is, and which one it is.
fn mark(path: &Path, key: &IdentityKey) -> Vec<u8> {
    let machine = crate::host::machine(path.parent().unwrap_or(Path::new(".")));
    // No device number: those change from boot to boot.
    let file = std::fs::metadata(path).map_or(0, |meta| meta.ino());
    let place = format!("{machine:?} {file}");
    let mut mark = xxhash_rust::xxh3::xxh3_128(place.as_bytes())
        .to_be_bytes()
        .to_vec();
    mark.extend(key.peer_id().to_string().into_bytes());
    mark
}

/// Puts a new key in the place of one that is not ours, which stays beside it.
fn replace(path: &Path) -> Result<IdentityKey, CommandError> {
    let (new, old) = (
        path.with_extension("key.new"),
        path.with_extension("key.copied"),
    );
    let io = |err| CommandError::failed(format!("`{}`: {err}", path.display()));
    let _ = std::fs::remove_file(&new);
    let key = IdentityKey::generate()?;
    key.create(&new)?;
    std::fs::rename(path, old).map_err(io)?;
    std::fs::rename(new, path).map_err(io)?;
    Ok(key)
}

/// Reads a swarm key.
pub(crate) fn swarm(path: &Path) -> Result<SwarmKey, CommandError> {
    SwarmKey::load(path).map_err(|err| match &err {
        KeyFileError::Missing { .. } => CommandError::from(err).hint(
            "`rr join` gets it from another device, and `rr pair` makes the first; for a hub, copy `swarm.key` from a device",
        ),
        KeyFileError::Malformed { .. } => {
            CommandError::from(err).hint("copy `swarm.key` once more from a device that syncs")
        }
        _ => explained(err),
    })
}

/// Reads what a hub needs. Both have to be there: a hub with a new key would be a stranger to all
/// devices.
pub(crate) fn of_hub(identity_path: &Path, swarm_path: &Path) -> Result<Keys, CommandError> {
    warn_if_exposed(identity_path);
    warn_if_exposed(swarm_path);
    Ok(Keys {
        identity: identity(identity_path)?,
        swarm: swarm(swarm_path)?,
    })
}

/// Reads an identity key that has to be there.
fn identity(path: &Path) -> Result<IdentityKey, CommandError> {
    IdentityKey::load(path).map_err(|err| match &err {
        KeyFileError::Missing { .. } => CommandError::from(err).hint(format!(
            "devices remember a hub by its key, so none is made in silence: `rr key identity {}` makes one",
            path.display()
        )),
        KeyFileError::Malformed { .. } => CommandError::from(err)
            .hint("it is what `rr key identity FILE` writes: bring it back from where it is kept"),
        _ => explained(err),
    })
}

/// With what to do about a file that can't be read or written.
fn explained(err: KeyFileError) -> CommandError {
    let hint = match &err {
        KeyFileError::Unreadable { path, .. } | KeyFileError::Unwritable { path, .. } => format!(
            "check the owner and the permissions of `{}` and of its directory; who runs this is `{}`",
            path.display(),
            rustix::process::geteuid().as_raw()
        ),
        _ => return err.into(),
    };
    CommandError::from(err).hint(hint)
}

/// A key beside the database is its owner's alone: who reads the swarm key reads the history, and who
/// has the identity key is taken for this device.
fn refuse_if_exposed(path: &Path) -> Result<(), CommandError> {
    // A file that is not there, or can't be looked at, is told of where it is read.
    let Ok(Some(mode)) = exposed_mode(path, Readers::Owner) else {
        return Ok(());
    };
    let told = format!(
        "`{}` is open to others than its owner (mode {mode:04o})",
        path.display()
    );
    Err(CommandError::failed(told).hint(format!(
        "`chmod 600 {}`; and if somebody else may have read it, replace it by a new one",
        path.display()
    )))
}

/// A mounted secret may be read by others in ways that its user can't change: it is used all the same.
fn warn_if_exposed(path: &Path) {
    if let Ok(Some(mode)) = exposed_mode(path, Readers::Group) {
        crate::ui::warn(format_args!(
            "`{}` is open to others (mode {mode:04o}): chmod 600 {0}",
            path.display()
        ));
    }
}

impl From<KeyFileError> for CommandError {
    fn from(err: KeyFileError) -> Self {
        let source =
            std::error::Error::source(&err).map_or(String::new(), |err| format!(": {err}"));
        CommandError::failed(format!("{err}{source}"))
    }
}
