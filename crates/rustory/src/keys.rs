//! This device's key files, with what to do about each that can't be used.

use std::path::Path;

use rustory_net::p2p::{IdentityKey, KeyFileError, SwarmKey, exposed_mode};

use crate::ctx::Ctx;
use crate::error::CommandError;

/// What a device needs to take part in a swarm.
pub(crate) struct Keys {
    pub(crate) identity: IdentityKey,
    pub(crate) swarm: SwarmKey,
}

/// Reads both. The identity key is the device's own and is made when it is not there; the swarm key
/// is shared, so a new one would only keep this device apart.
pub(crate) fn load(ctx: &Ctx) -> Result<Keys, CommandError> {
    let settings = &ctx.settings;
    let swarm = swarm(&settings.swarm_key_path)?;
    let identity = IdentityKey::load_or_create(&settings.identity_key_path)?;
    Ok(Keys { identity, swarm })
}

/// Reads a swarm key.
pub(crate) fn swarm(path: &Path) -> Result<SwarmKey, CommandError> {
    warn_if_exposed(path);
    SwarmKey::load(path).map_err(|err| {
        let missing = matches!(err, KeyFileError::Missing { .. });
        let told = CommandError::from(err);
        match missing {
            true => told.hint(
                "the devices of one person share one swarm key: copy `swarm.key` from a device that has one, \
                 or make the first with `rr key swarm`",
            ),
            false => told,
        }
    })
}

/// Reads an identity key that has to be there.
pub(crate) fn identity(path: &Path) -> Result<IdentityKey, CommandError> {
    warn_if_exposed(path);
    IdentityKey::load(path).map_err(|err| {
        let missing = matches!(err, KeyFileError::Missing { .. });
        let told = CommandError::from(err);
        match missing {
            true => told.hint(format!(
                "devices remember a hub by its key, so none is made in silence: `rr key identity {}` makes one",
                path.display()
            )),
            false => told,
        }
    })
}

/// Who reads the swarm key reads the history.
fn warn_if_exposed(path: &Path) {
    if let Ok(Some(mode)) = exposed_mode(path) {
        crate::ui::warn(format_args!(
            "`{}` can be read by others (mode {mode:04o}): chmod 600 {0}",
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
